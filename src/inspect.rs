//! What a ring is, where it stands, and what it has done: for pictures, for tests, for tuning.
//!
//! | question | answer |
//! |---|---|
//! | how much did it cost? | [`RawRing::stats`]: enters per entry should be far below one |
//! | who owns which slot? | [`RawRing::positions`] |
//! | what did the kernel make of the set-up? | [`RawRing::sq_entries`], [`RawRing::cq_entries`], [`RawRing::flags`] |
//! | what can it do? | [`RawRing::features`] |

use annulus_sys::flags::{Features, SetupFlags};
use annulus_sys::index::Index;

use crate::error::{EnterCause, EnterError};
use crate::raw::RawRing;

/// What a ring has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// System calls to `io_uring_enter(2)`.
    pub enters: u64,
    /// Entries that the kernel consumed (with `SQE_MIXED`, slots); on a polling ring (`SQPOLL`),
    /// that were published to it.
    pub sqes: u64,
    /// Completions taken.
    pub cqes: u64,
    /// Times that the kernel was found holding completions back because the ring was full.
    pub overflows: u64,
}

/// Where both rings stand: for pictures and for tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Positions {
    /// Up to where the kernel has consumed entries.
    pub sq_head: Index,
    /// Up to where we have published entries.
    pub sq_tail: Index,
    /// Up to where we have written entries.
    pub sq_written: Index,
    /// Up to where we have taken completions.
    pub cq_head: Index,
    /// Up to where the kernel has posted completions.
    pub cq_tail: Index,
}

impl RawRing {
    /// What the ring has done so far.
    pub fn stats(&self) -> Stats {
        Stats {
            enters: self.gate().enters,
            sqes: self.gate().submitted,
            cqes: self.rings().halves().1.popped(),
            overflows: self.gate().overflows,
        }
    }

    /// Where both rings stand now. In a forked child, where both are empty.
    pub fn positions(&self) -> Positions {
        let (sq, cq) = self.rings().halves();
        let (sq_head, sq_tail, sq_written) = sq.indices();
        let (cq_head, cq_tail) = cq.indices();
        Positions { sq_head, sq_tail, sq_written, cq_head, cq_tail }
    }

    /// How many submission entries the kernel made: what was asked for, rounded up.
    pub fn sq_entries(&self) -> u32 {
        self.rings().halves().0.entries()
    }

    /// How many completion entries the kernel made.
    pub fn cq_entries(&self) -> u32 {
        self.rings().halves().1.entries()
    }

    /// How many submission slots are free.
    pub fn room(&self) -> u32 {
        self.rings().halves().0.room()
    }

    /// Whether this is the process that made the ring, and not one that it forked.
    #[inline]
    pub(crate) fn is_here(&self) -> bool {
        self.rings().halves().0.is_here()
    }

    #[inline]
    pub(crate) fn check_process(&self) -> Result<(), EnterError> {
        if self.is_here() { Ok(()) } else { Err(EnterError::new(0, EnterCause::OtherProcess)) }
    }

    /// How the ring was set up.
    pub fn flags(&self) -> SetupFlags {
        self.rings().base().params().flags
    }

    /// What this kernel's rings can do.
    pub fn features(&self) -> Features {
        self.rings().base().params().features
    }

    /// Completions that the kernel lost. Stays 0 where it keeps them back (`IORING_FEAT_NODROP`,
    /// since Linux 5.5), unless it ran out of memory.
    pub fn lost(&self) -> u32 {
        self.rings().halves().1.overflow()
    }
}
