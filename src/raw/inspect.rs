//! What a ring is, where its queues stand, and what it has done: for diagrams, tests and tuning.
//!
//! | question | answer |
//! |---|---|
//! | how much did it cost? | [`RawRing::stats`]: enters per entry should be far below one |
//! | who owns which slot? | [`RawRing::positions`] |
//! | what did the kernel make of the setup? | [`RawRing::sq_entries`], [`RawRing::cq_entries`], [`RawRing::flags`] |
//! | what can it do? | [`RawRing::features`] |

use annulus_sys::flags::{Features, SetupFlags, SqRingFlags};
use annulus_sys::index::Index;

use crate::raw::RawRing;
use crate::setup::enter_error::{EnterCause, EnterError};

/// What a ring has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// System calls to `io_uring_enter(2)`.
    pub enters: u64,
    /// Entries that the kernel consumed (with `SQE_MIXED`, slots). On a ring with a polling thread
    /// (`SQPOLL`), entries that were published to it.
    pub sqes: u64,
    /// Completions taken.
    pub cqes: u64,
    /// How often we found the kernel holding completions back because the queue was full. We look
    /// when completions are taken, and before most enters: not before those of
    /// [`submit_and_wait`](RawRing::submit_and_wait) and [`turn`](RawRing::turn) that submit, on an
    /// ordinary ring. One overflow may be found more than once.
    pub overflows: u64,
}

/// Where both queues stand, for diagrams and tests.
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

/// # Sizes and counters
impl RawRing {
    /// What the ring has done so far.
    pub fn stats(&self) -> Stats {
        Stats {
            enters: self.driver().enters,
            sqes: self.driver().sqes(),
            cqes: self.rings().halves().1.popped(),
            overflows: self.driver().overflows + self.rings().halves().1.overflows(),
        }
    }

    /// Where both queues stand now. In a forked child, both are empty.
    pub fn positions(&self) -> Positions {
        let (sq, cq) = self.rings().halves();
        let (sq, cq) = (sq.indices(), cq.indices());
        Positions {
            sq_head: sq.head,
            sq_tail: sq.tail,
            sq_written: sq.written,
            cq_head: cq.head,
            cq_tail: cq.tail,
        }
    }

    /// How many submission entries the queue has: the number asked for, rounded up.
    pub fn sq_entries(&self) -> u32 {
        self.rings().halves().0.entries()
    }

    /// How many completion entries the queue has.
    pub fn cq_entries(&self) -> u32 {
        self.rings().halves().1.entries()
    }

    /// How many submission slots are free.
    pub fn room(&self) -> u32 {
        self.rings().halves().0.room()
    }

    /// Whether this is the process that made the ring, and not a forked child of it.
    #[inline]
    pub(crate) fn is_here(&self) -> bool {
        self.rings().halves().0.is_here()
    }

    #[inline]
    pub(crate) fn check_process(&self) -> Result<(), EnterError> {
        if self.is_here() { Ok(()) } else { Err(EnterError::new(0, EnterCause::OtherProcess)) }
    }

    /// The flags that the ring was set up with.
    pub fn flags(&self) -> SetupFlags {
        self.rings().base().params().flags
    }

    /// The flags that the kernel stores in the ring now: whether completions overflow, or task work
    /// is held back, or the polling thread sleeps. They are hints: loading them orders no other
    /// access. In a forked child, there are none. To learn whether the polling thread must be
    /// woken, ask [`needs_wakeup`](Self::needs_wakeup), which does order them.
    #[doc(alias("IORING_SQ_CQ_OVERFLOW", "IORING_SQ_TASKRUN", "IORING_SQ_NEED_WAKEUP"))]
    #[inline]
    pub fn sq_flags(&self) -> SqRingFlags {
        self.rings().halves().0.flags()
    }

    /// The features of this kernel's rings.
    pub fn features(&self) -> Features {
        self.rings().base().params().features
    }

    /// How many entries the kernel dropped because their number in the index array was out of range
    /// (the word at `sq_off.dropped`, `io_uring_setup(2)`). This loads the word, orders no other
    /// access, and makes no call. 0 in a forked child.
    ///
    /// The kernel adds modulo 2³² and does not saturate, so compare two readings by
    /// `wrapping_sub`. We fill the array once, with numbers that are in range: so it stays 0 on a
    /// ring that is made here, as with `NO_SQARRAY`, where there is no array. A ring that was
    /// [adopted](Self::adopt) keeps what it had.
    ///
    /// # Example
    ///
    /// ```
    /// let ring = annulus::Setup::plain(4).build_raw()?;
    /// assert_eq!(ring.dropped(), 0);
    /// # Ok::<(), annulus::SetupError>(())
    /// ```
    pub fn dropped(&self) -> u32 {
        self.rings().halves().0.dropped()
    }

    /// How many completions the kernel lost. Stays 0 on kernels that keep overflowing completions
    /// (`IORING_FEAT_NODROP`, since Linux 5.5), unless the kernel ran out of memory.
    pub fn lost(&self) -> u32 {
        self.rings().halves().1.overflow()
    }
}
