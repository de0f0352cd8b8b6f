//! What the setup flags mean for entering the kernel.
//!
//! | question | decided by |
//! |---|---|
//! | who submits | `SQPOLL` |
//! | who reaps from the device | `IOPOLL`, without `SQPOLL` |
//! | are completions held back, and with a sign (CQ5) | `DEFER_TASKRUN`, `COOP_TASKRUN`, `TASKRUN_FLAG` |
//! | may a busy ring take the fast path | no `SQPOLL`, `IOPOLL`, `SQE_MIXED`, `CQE_MIXED`, `SQ_REWIND` |
//!
//! Leaves to others: entering (`enter`, `fast_path`).

use annulus_sys::flags::SetupFlags;

/// What the setup flags mean for entering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mode {
    pub(super) submits: By,
    pub(super) reaps: By,
    pub(super) defers: Defers,
    pub(super) enters: Enters,
    /// Whether an entry may take more than one slot.
    pub(super) mixes: bool,
}

/// Whether the enters of a busy ring may take the fast path (`fast_path`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Enters {
    Usual,
    /// No: the kernel submits on its own, or polls devices, or an entry or completion may take
    /// several slots, or the queue rewinds.
    Rare,
}

/// Who does the work between us and the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// We do, by entering.
    Us,
    /// The kernel, on its own.
    Kernel,
}

/// Whether the kernel holds completions back until we enter (CQ5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Defers {
    /// No: an interrupt posts them.
    Never,
    /// Yes, and it raises TASKRUN when it does.
    Flagged,
    /// Yes, without a sign.
    Silently,
}

impl Mode {
    /// The mode of a ring that is set up with `flags`.
    pub(super) fn of(flags: SetupFlags) -> Self {
        let sqpoll = flags.contains(SetupFlags::SQPOLL);
        let rare = SetupFlags::SQPOLL
            | SetupFlags::IOPOLL
            | SetupFlags::CQE_MIXED
            | SetupFlags::SQE_MIXED
            | SetupFlags::SQ_REWIND;
        let deferring = SetupFlags::DEFER_TASKRUN | SetupFlags::COOP_TASKRUN;
        Self {
            enters: if flags.intersects(rare) { Enters::Rare } else { Enters::Usual },
            mixes: flags.contains(SetupFlags::SQE_MIXED),
            submits: if sqpoll { By::Kernel } else { By::Us },
            reaps: if flags.contains(SetupFlags::IOPOLL) && !sqpoll { By::Us } else { By::Kernel },
            defers: if !flags.intersects(deferring) {
                Defers::Never
            } else if flags.contains(SetupFlags::TASKRUN_FLAG) {
                Defers::Flagged
            } else {
                Defers::Silently
            },
        }
    }
}
