//! The shapes of rings: how large their entries are, and where the next entry goes.
//!
//! ```text
//!   single │ 0 │ 1 │ 2 │ 3 │     double │ 0     │ 1     │     mixed │ 0 │ 1     │ 2 │
//! ```
//!
//! Leaves to others: reading and writing the slots (`sq`, `cq`).

use crate::flags::SetupFlags;

/// The size of the entries of a submission queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SqeShape {
    /// 64 bytes each.
    Single,
    /// 128 bytes each (`IORING_SETUP_SQE128`).
    Double,
    /// 64 bytes each; a 128-byte entry takes two adjacent slots (`IORING_SETUP_SQE_MIXED`).
    Mixed,
}

/// Where the next entry goes after a submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// To the next slot: a ring.
    Round,
    /// To slot 0 (`IORING_SETUP_SQ_REWIND`): the kernel uses neither index, only the count that is
    /// passed to enter.
    Rewind,
}

impl SqeShape {
    /// The shape of a ring that is set up with `flags`.
    pub const fn of(flags: SetupFlags) -> Self {
        if flags.contains(SetupFlags::SQE128) {
            Self::Double
        } else if flags.contains(SetupFlags::SQE_MIXED) {
            Self::Mixed
        } else {
            Self::Single
        }
    }
}

impl Turn {
    /// Where the next entry goes in a ring that is set up with `flags`.
    pub const fn of(flags: SetupFlags) -> Self {
        if flags.contains(SetupFlags::SQ_REWIND) { Self::Rewind } else { Self::Round }
    }
}

/// The size of the entries of a completion queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CqeShape {
    /// 16 bytes each.
    Single,
    /// 32 bytes each (`IORING_SETUP_CQE32`).
    Double,
    /// 16 bytes each; a 32-byte entry takes two adjacent slots (`IORING_SETUP_CQE_MIXED`). If it
    /// would straddle the wrap, the kernel writes a filler first, which we skip.
    Mixed,
}

impl CqeShape {
    /// The shape of a ring that is set up with `flags`.
    pub const fn of(flags: SetupFlags) -> Self {
        if flags.contains(SetupFlags::CQE32) {
            Self::Double
        } else if flags.contains(SetupFlags::CQE_MIXED) {
            Self::Mixed
        } else {
            Self::Single
        }
    }
}
