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
//! enter, it loads nothing that decides anything from memory that the kernel stores: how many
//! entries the kernel consumed, it says itself (SQ2).
//!
//! Leaves to others: every other ring, and every other answer of the kernel (`enter`).
#![allow(unsafe_code, reason = "enters the kernel")]

use annulus_sys::abi::Cqe;
use annulus_sys::errno::Errno;
use annulus_sys::flags::EnterFlags;

use crate::raw::enter::stuck;
use crate::raw::wait_options::WaitOptions;
use crate::raw::{RawRing, Rounds};
use crate::setup::enter_error::{EnterCause, EnterError};

/// What an enter of the fast path left to do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unfinished {
    /// How many entries it was given; 0 if there was no enter.
    pending: u32,
    /// The kernel's answer.
    answer: i64,
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
        if self.rings.halves().1.has(want) {
            return Ok(entered);
        }
        Err(Unfinished { pending: entered, answer: i64::from(entered) })
    }

    /// Like [`enter_once`](Self::enter_once), without a look at whether enough completions are
    /// ready: only a signal makes the kernel return before.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "saves the 20 instructions of a call")]
    fn enter_unseen(&mut self, want: u32, coming: Coming) -> Result<u32, Unfinished> {
        let pending = self.rings.halves().0.unsubmitted();
        // Each entry brings a completion. This also asks whether `want` is 0.
        let enough = want.wrapping_sub(1) < pending;
        if !self.driver.is_usual() || !(enough || self.may_come(want, pending, coming)) {
            return Err(Unfinished { pending: 0, answer: 0 });
        }
        let sq = self.rings.sq();
        let published = sq.publish(); // SQ3
        let driver = &mut self.driver;
        driver.enters += 1;
        let (kernel, ring, flags) = (driver.kernel(), driver.ring(), EnterFlags::GETEVENTS);
        // SAFETY: OP1 holds for every entry in the ring, as promised to `RawRing::push`.
        let answer = unsafe { kernel.enter_plain(ring, pending, want, flags) };
        if answer != i64::from(pending) {
            return Err(Unfinished { pending, answer });
        }
        sq.consumed_up_to(published);
        driver.submitted += u64::from(pending);
        Ok(pending)
    }

    /// Submits everything pushed, waits until `want` completions are ready, and takes every
    /// completion there is, oldest first: a whole turn of an event loop in one call. Returns how
    /// many it took, which is at least `want`.
    ///
    /// Like [`submit_and_wait`](Self::submit_and_wait) and then [`drain`](Self::drain), for fewer
    /// instructions.
    ///
    /// # Errors
    ///
    /// As for [`submit_and_wait`](Self::submit_and_wait) and [`drain`](Self::drain). `each` has
    /// seen the completions that were taken before, also those before a signal
    /// ([`EnterCause::Interrupted`]).
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::{Setup, prep};
    ///
    /// let mut ring = Setup::new(8).build_raw()?;
    /// // SAFETY: a NOP points to nothing (OP1).
    /// unsafe { ring.push(annulus::sys::abi::Sqe { user_data: 7, ..prep::nop() })? };
    /// let mut numbers = Vec::new();
    /// let taken = ring.turn(1, |cqe| numbers.push(cqe.user_data))?;
    /// assert_eq!((taken, numbers), (1, vec![7]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn turn(&mut self, want: u32, mut each: impl FnMut(Cqe)) -> Result<u32, EnterError> {
        if let Err(unfinished) = self.enter_unseen(want, Coming::Unknown) {
            self.finish(want, Coming::Unknown, unfinished)?;
        }
        let mut rounds = Rounds::default();
        loop {
            let batch = self.rings_mut().cq().drain_hinted(&mut each);
            self.compare();
            if rounds.are_done(batch) && rounds.total >= want {
                return Ok(rounds.total);
            }
            match self.turn_again(want, rounds, batch.count)? {
                Some(next) => rounds = next,
                None => return Ok(rounds.total),
            }
        }
    }

    /// Waits for what is missing in a turn, or asks for what is held back.
    #[cold]
    fn turn_again(
        &mut self,
        want: u32,
        rounds: Rounds,
        count: u32,
    ) -> Result<Option<Rounds>, EnterError> {
        match want.checked_sub(rounds.total) {
            None | Some(0) => self.ask_again(rounds, count),
            Some(missing) => self.wait(missing).map(|()| Some(rounds)),
        }
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
            let errno = i32::try_from(-answer).expect("an error number");
            return Err(EnterError::new(0, Errno::new(errno)));
        };
        assert!(count <= pending, "SQ2: {count} of {pending} entries consumed");
        let (sq, cq) = self.rings.both();
        if count < pending {
            // The kernel skipped the wait.
            self.driver.took(sq, count);
            if stuck(sq, pending, count) {
                return Err(EnterError::new(0, EnterCause::OutOfRequests));
            }
            let (driver, forever) = (&mut self.driver, &WaitOptions::FOREVER);
            let ended = driver.submit_and_wait_bounded(sq, cq, want, forever, count);
            return ended.map(|(count, _)| count);
        }
        if cq.ready() < want {
            self.driver.look_again(cq, count)?;
        }
        if cq.ready() >= want {
            return Ok(count);
        }
        // The kernel waited, and a signal made it return: see `wait_end`.
        Err(EnterError::new(count, EnterCause::Interrupted))
    }
}
