//! The shapes that rings have: what lies in their slots, and where the next entry goes.
//!
//! ```text
//!   single │ 0 │ 1 │ 2 │ 3 │     double │ 0     │ 1     │     mixed │ 0 │ 1     │ 2 │
//! ```
//!
//! Leaves to others: reading and writing them (`sq`, `cq`).

use crate::flags::SetupFlags;

/// What lies in the slots of a submission ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SqeShape {
    /// 64 bytes each.
    Single,
    /// 128 bytes each (`IORING_SETUP_SQE128`).
    Double,
    /// 64 bytes each; an entry of 128 takes two slots, side by side (`IORING_SETUP_SQE_MIXED`).
    Mixed,
}

/// Where the next entry after a submission goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// To the next slot: a ring.
    Round,
    /// To slot 0 (`IORING_SETUP_SQ_REWIND`): the kernel reads neither index, only a count.
    Rewind,
}

impl SqeShape {
    /// The shape that a ring set up with `flags` has.
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
    /// How a ring set up with `flags` turns.
    pub const fn of(flags: SetupFlags) -> Self {
        if flags.contains(SetupFlags::SQ_REWIND) { Self::Rewind } else { Self::Round }
    }
}

/// What lies in the slots of a completion ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CqeShape {
    /// 16 bytes each.
    Single,
    /// 32 bytes each (`IORING_SETUP_CQE32`).
    Double,
    /// 16 bytes each; an entry of 32 takes two slots, side by side (`IORING_SETUP_CQE_MIXED`). One
    /// that would straddle the wrap is preceded by a filler, which we skip.
    Mixed,
}

impl CqeShape {
    /// The shape that a ring set up with `flags` has.
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
