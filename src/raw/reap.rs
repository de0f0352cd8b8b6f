//! Taking completions, and asking for those that the kernel holds back.
//!
//! ```text
//!   pop     the ring ──► one                      never enters
//!   look    the ring ──► all, none taken          never enters (`iter_ready`)
//!   peek    the ring, else the kernel ──► one     enters if the ring is empty and more may be held
//!   drain   the ring, and the kernel ──► all      enters while the kernel says that it holds more
//! ```
//!
//! The kernel holds completions back when the completion queue overflows, and when it defers task
//! work; with `TASKRUN_FLAG` it says so in the shared flags. CQ5: we never assume that there is
//! nothing without asking the kernel. Each completion is out of the queue before the caller's code
//! sees it, so that code may push, panic, or drop the ring. New completions can arrive as fast as
//! we take them. So a drain stops after four times as many completions as the queue holds, but not
//! before 1024.

use annulus_sys::abi::{Cqe, Cqe32};
use annulus_sys::cq::{Batch, CompletionQueue, ReadyCqes};
use annulus_sys::flags::SqRingFlags;

use crate::raw::RawRing;
use crate::raw::enter::Driver;
use crate::raw::fast_path::Coming;
use crate::setup::enter_error::EnterError;

/// # Taking completions
impl RawRing {
    /// Takes the oldest completion in the queue. Never enters the kernel, so it can miss a
    /// completion that the kernel holds back: see [`peek`](Self::peek).
    #[inline]
    pub fn pop(&mut self) -> Option<Cqe> {
        let cqe = self.rings_mut().cq().pop();
        self.compare();
        cqe
    }

    /// Like [`pop`](Self::pop), with the second 16 bytes of the completion, on a ring with `CQE32`
    /// or `CQE_MIXED`.
    pub fn pop_wide(&mut self) -> Option<Cqe32> {
        let cqe = self.rings_mut().cq().pop_wide();
        self.compare();
        cqe
    }

    /// Takes the oldest completion. If the queue is empty and the kernel may hold completions back,
    /// asks the kernel for them first (CQ5). So `None` really means that nothing had completed. If
    /// others send to this ring, that holds only after [`expect_others`](Self::expect_others),
    /// since a message looks like the end of a request.
    ///
    /// # Errors
    ///
    /// [`EnterError`] from asking the kernel.
    #[inline]
    pub fn peek(&mut self) -> Result<Option<Cqe>, EnterError> {
        if let Some(cqe) = self.pop() {
            return Ok(Some(cqe));
        }
        self.fetch()?;
        Ok(self.pop())
    }

    /// Takes every completion there is, oldest first, and returns how many it took. Each completion
    /// counts as taken before `each` sees it, even if `each` unwinds.
    ///
    /// Also takes the completions that the kernel says it holds back. If the queue was empty, that
    /// includes those that it holds back without a sign (`DEFER_TASKRUN` or `COOP_TASKRUN` without
    /// `TASKRUN_FLAG`, `IOPOLL`); see CQ5, and [`peek`](Self::peek) for rings that others send to.
    /// If completions arrive as fast as they are taken, it stops after four times as many as the
    /// queue holds, but not before 1024. The rest stays for the next call.
    ///
    /// # Errors
    ///
    /// [`EnterError`] from asking the kernel; `each` has seen the completions taken before.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::{Setup, prep};
    ///
    /// let mut ring = Setup::new(8).build_raw()?;
    /// for number in 0..3 {
    ///     let sqe = annulus::sys::abi::Sqe { user_data: number, ..prep::nop() };
    ///     // SAFETY: a NOP points to nothing (OP1).
    ///     unsafe { ring.push(sqe)? };
    /// }
    /// ring.submit_and_wait(3)?;
    /// let mut numbers = Vec::new();
    /// ring.drain(|cqe| numbers.push(cqe.user_data))?;
    /// assert_eq!(numbers, [0, 1, 2]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn drain(&mut self, mut each: impl FnMut(Cqe)) -> Result<u32, EnterError> {
        self.in_rounds(|raw| {
            let batch = raw.rings_mut().cq().drain(&mut each);
            raw.compare();
            batch
        })
    }

    /// Like [`drain`](Self::drain), with the second 16 bytes of each completion.
    ///
    /// # Errors
    ///
    /// As [`drain`](Self::drain).
    pub fn drain_wide(&mut self, mut each: impl FnMut(Cqe32)) -> Result<u32, EnterError> {
        self.take_in(None, Coming::Known, |raw| {
            let batch = raw.rings_mut().cq().drain_wide(&mut each);
            raw.compare();
            batch
        })
    }

    /// [`take_in`](Self::take_in) without a wait, in three instructions less.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "keeps what `take` captures in registers")]
    fn in_rounds(&mut self, mut take: impl FnMut(&mut Self) -> Batch) -> Result<u32, EnterError> {
        let mut rounds = Rounds::default();
        loop {
            let batch = take(self);
            if rounds.are_done(batch, Driver::HELD_BACK) {
                return Ok(rounds.total);
            }
            match self.ask_again(rounds, batch.count)? {
                Some(next) => rounds = next,
                None => return Ok(rounds.total),
            }
        }
    }

    /// Makes one system call to ask the kernel for every completion that it holds back (CQ5).
    ///
    /// # Errors
    ///
    /// [`EnterError`] from asking the kernel.
    pub fn get_events(&mut self) -> Result<(), EnterError> {
        self.check_mapped()?;
        let (rings, driver) = self.parts();
        driver.get_events(rings.halves().1)
    }

    /// Copies of the completions in the queue, oldest first, with their second 16 bytes. Takes none
    /// of them: [`pop`](Self::pop) or [`drain`](Self::drain) returns them again. Never enters the
    /// kernel, so it can miss completions that the kernel holds back: see
    /// [`get_events`](Self::get_events).
    ///
    /// ```
    /// use annulus::sys::abi::Sqe;
    /// use annulus::{Setup, prep};
    ///
    /// let mut ring = Setup::new(4).build_raw()?;
    /// // SAFETY: a NOP points to nothing (OP1).
    /// unsafe { ring.push(Sqe { user_data: 7, ..prep::nop() })? };
    /// ring.submit_and_wait(1)?;
    /// assert!(ring.iter_ready().any(|cqe| cqe.first.user_data == 7));
    /// assert_eq!(ring.pop().map(|cqe| cqe.user_data), Some(7));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias("io_uring_for_each_cqe", "io_uring_peek_batch_cqe"))]
    pub fn iter_ready(&mut self) -> ReadyCqes<'_> {
        self.rings_mut().cq().iter_ready()
    }

    /// How many completions are ready to pop.
    pub fn ready(&mut self) -> u32 {
        self.rings_mut().cq().ready()
    }

    /// Asks the kernel for more completions, after a round that took `count`, if there may be more.
    /// Returns the rounds that follow.
    #[cold]
    pub(crate) fn ask_again(
        &mut self,
        rounds: Rounds,
        count: u32,
    ) -> Result<Option<Rounds>, EnterError> {
        let total = rounds.total;
        // We asked, and nothing came: there is nothing.
        if (rounds.asked && count == 0) || is_flood(self.rings().halves().1, total) {
            return Ok(None);
        }
        let asked = self.fetch()?;
        Ok(asked.then_some(Rounds { total, asked }))
    }

    /// Asks for what the kernel may hold back. Returns whether it asked.
    #[cold]
    fn fetch(&mut self) -> Result<bool, EnterError> {
        self.check_mapped()?;
        let in_flight = self.pending().upper_bound(self.in_flight());
        let (rings, driver) = self.parts();
        let cq = rings.halves().1;
        if !driver.may_hold_back(cq, in_flight) {
            return Ok(false);
        }
        driver.get_events(cq).map(|()| true)
    }
}

/// The rounds of one call that takes completions, asks for more, and takes those too.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rounds {
    /// How many completions all rounds took.
    pub(crate) total: u32,
    /// The kernel was asked for more.
    asked: bool,
}

impl Rounds {
    pub(crate) const NONE: Self = Self { total: 0, asked: false };

    /// Adds what a round took. Returns whether that is all: it took something, and the kernel's
    /// hints say nothing of what is `asked_about`.
    #[inline]
    pub(crate) fn are_done(&mut self, batch: Batch, asked_about: SqRingFlags) -> bool {
        self.total += batch.count;
        (batch.count != 0) & !batch.hints.intersects(asked_about)
    }
}

/// Whether `total` completions are enough for one call. Completions can arrive as fast as we take
/// them, and must not keep us here forever; the rest stays for the next call. The minimum is 1024,
/// since small queues overflow by more than they hold.
pub(crate) fn is_flood(cq: &CompletionQueue, total: u32) -> bool {
    total >= cq.entries().saturating_mul(4).max(1024)
}
