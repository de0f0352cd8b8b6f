//! The path of a busy ring: one enter that submits everything, and brings enough.
//!
//! ```text
//!   written ─► published ─► enter ─► all consumed ─► enough ready ─► done
//!                             └──── anything else ────────────────► `enter`
//! ```
//!
//! A usual ring does this over and over: no thread polls for it and no device is polled, entries
//! and completions take one slot, and the queue does not rewind. So this path asks little: whether
//! this is the process that made the ring, and whether so many completions can come. Before the
//! enter, it loads no index and no flag that the kernel stores: the answer says how many entries
//! the kernel consumed (SQ2).
//!
//! Leaves to others: every other ring, and every other answer of the kernel (`enter`).
#![allow(unsafe_code, reason = "enters the kernel")]

use annulus_sys::errno::Errno;
use annulus_sys::flags::EnterFlags;

use crate::raw::RawRing;
use crate::raw::enter::stuck;
use crate::raw::wait_options::WaitOptions;
use crate::setup::enter_error::{EnterCause, EnterError};

/// What an enter of the fast path left to do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unfinished {
    /// How many entries it was given; 0 if there was no enter.
    pending: u32,
    /// The kernel's answer.
    answer: i32,
}

impl Unfinished {
    /// There was no enter.
    pub(super) const NOT_ENTERED: Self = Self { pending: 0, answer: 0 };

    /// All entries were consumed, and too few completions are ready. Not inlined, so that the usual
    /// path makes nothing ready for it.
    #[cold]
    #[inline(never)]
    fn too_few(entered: u32) -> Self {
        Self { pending: entered, answer: entered.cast_signed() }
    }
}

/// Whether so many completions can come as are waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coming {
    /// The caller knows that they can.
    Known,
    /// To be found out.
    Unknown,
}

impl RawRing {
    /// Submits everything written and waits until `want` completions are ready, if the ring is a
    /// usual one, something is written, and so many completions can come.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "saves the 20 instructions of a call")]
    pub(crate) fn enter_once(&mut self, want: u32, coming: Coming) -> Result<u32, Unfinished> {
        let entered = self.enter_unseen(want, coming)?;
        // SAFETY: of this process, as `enter_unseen` found, and it forks nothing.
        if unsafe { self.rings.halves().1.has(want) } {
            return Ok(entered);
        }
        Err(Unfinished::too_few(entered))
    }

    /// Like [`enter_once`](Self::enter_once), without a look at whether enough completions are
    /// ready. The kernel returns before that only for a signal, or when a `TIMEOUT` expires: see
    /// `wait_end`.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "saves the 20 instructions of a call")]
    pub(super) fn enter_unseen(&mut self, want: u32, coming: Coming) -> Result<u32, Unfinished> {
        let pending = self.rings.halves().0.unsubmitted();
        // Each entry counts as one completion to come. This also asks whether `want` is 0.
        let enough = want.wrapping_sub(1) < pending;
        if !self.driver.is_usual() || !(enough || self.may_come(want, pending, coming)) {
            return Err(Unfinished::NOT_ENTERED);
        }
        let sq = self.rings.sq();
        // SAFETY: of this process, as a usual ring was just found to be.
        let published = unsafe { sq.publish() }; // SQ3
        let driver = &mut self.driver;
        driver.enters += 1;
        let (kernel, ring, flags) = (driver.kernel(), driver.ring(), EnterFlags::GETEVENTS);
        // SAFETY: OP1 holds for every entry in the ring, as promised to `RawRing::push`.
        let answer = unsafe { kernel.enter_plain(ring, pending, want, flags) };
        if answer != pending.cast_signed() {
            return Err(Unfinished { pending, answer });
        }
        sq.consumed_up_to(published);
        driver.submitted += u64::from(pending);
        Ok(pending)
    }

    /// Whether so many completions can come although fewer entries are written.
    #[cold]
    fn may_come(&self, want: u32, pending: u32, coming: Coming) -> bool {
        let known = coming == Coming::Known || want <= self.in_flight();
        want > 0 && pending > 0 && known && want <= self.cq_entries()
    }

    /// Does what an enter of the fast path left to do.
    #[cold]
    #[inline(never)]
    pub(crate) fn finish(
        &mut self,
        want: u32,
        coming: Coming,
        unfinished: Unfinished,
    ) -> Result<u32, EnterError> {
        let Unfinished { pending, answer } = unfinished;
        if pending == 0 {
            if coming == Coming::Unknown && want > self.in_flight() {
                self.check_pending(want, 0)?;
            }
            let ended = self.submit_and_wait_with_unasked(want, &WaitOptions::FOREVER);
            return ended.map(|(count, _)| count);
        }
        let Ok(count) = u32::try_from(answer) else {
            return Err(EnterError::new(0, Errno::new(answer.wrapping_neg())));
        };
        assert!(count <= pending, "SQ2: {count} of {pending} entries consumed");
        if count < pending {
            return self.go_on(want, coming, pending, count);
        }
        let (_, cq) = self.rings.both();
        if cq.ready() < want {
            self.driver.look_again(cq, count)?;
        }
        if cq.ready() >= want {
            return Ok(count);
        }
        // The kernel waited and returned early, nearly always for a signal: see `wait_end`.
        Err(EnterError::new(count, EnterCause::Interrupted))
    }

    /// Goes on after the kernel consumed `count` of `pending` entries, and skipped the wait.
    fn go_on(
        &mut self,
        want: u32,
        coming: Coming,
        pending: u32,
        count: u32,
    ) -> Result<u32, EnterError> {
        let (sq, _) = self.rings.both();
        self.driver.took(sq, count);
        if stuck(sq, pending, count) {
            return Err(EnterError::new(0, EnterCause::OutOfRequests));
        }
        let failed = |error: EnterError| EnterError::new(count, error.cause);
        // Fewer entries were there than we knew of, if somebody entered by hand.
        if coming == Coming::Unknown && want > self.in_flight() {
            self.check_pending(want, 0).map_err(failed)?;
        }
        let (sq, cq) = self.rings.both();
        let (driver, forever) = (&mut self.driver, &WaitOptions::FOREVER);
        let ended = driver.submit_and_wait_bounded(sq, cq, want, forever, count);
        ended.map(|(count, _)| count)
    }
}
