//! One ring, two threads: one submits, one reaps.
//!
//! ```text
//!                    ┌─► Submitter: Send   push, reserve, submit      on one thread
//!   RawRing::split ─────┤
//!                    └─► Reaper: Send      pop, peek, drain, wait     on another
//!   RawRing ◄── Submitter::join(reaper)
//! ```
//!
//! Each half has its own words of the shared memory, so neither waits for the other. Not for a ring
//! of one issuer (`SINGLE_ISSUER`, and so `DEFER_TASKRUN`): there the kernel refuses the second
//! thread.
//!
//! [`Setup::new`](crate::Setup::new) makes a ring of one issuer where the kernel can; start from
//! [`Setup::plain`](crate::Setup::plain) instead. With `COOP_TASKRUN`, completions wait until the
//! submitter enters the kernel, whatever the reaper asks.
//!
//! A request runs on behalf of the thread that submitted it. When that thread exits, the kernel
//! does not look for what is still in flight: a poll or a read does nothing more, and completes
//! with `ECANCELED` at the latest when what it waits for has come, which may be never. Cancel it
//! before the thread exits. What a worker thread of the kernel runs is interrupted, and completes
//! with `EINTR`, `ECANCELED`, or a bare 512 (`ERESTARTSYS`, seen in 6.18).
//!
//! The reaper cannot know what the submitter is about to submit, so none of its waits is refused
//! as hopeless.
#![allow(unsafe_code, reason = "its entries point to memory")]

use std::sync::Arc;
use std::time::Duration;

use annulus_sys::abi::{Cqe, Cqe32, Sqe, Sqe128};
use annulus_sys::cq::CompletionRing;
use annulus_sys::rings::Rings;
use annulus_sys::sq::{Full, PushWideError, SubmissionRing};

use crate::chain::{Chain, check_size};
use crate::enter::Gate;
use crate::error::{EnterCause, EnterError, Woken};
use crate::forecast::Forecast;
use crate::inspect::Stats;
use crate::patience::Patience;
use crate::raw::RawRing;
use crate::reap::is_flood;

/// The half that submits.
#[derive(Debug)]
pub struct Submitter {
    sq: SubmissionRing,
    gate: Gate,
    forecast: Forecast,
}

/// The half that reaps.
#[derive(Debug)]
pub struct Reaper {
    cq: CompletionRing,
    gate: Gate,
}

/// Takes the parts of a ring apart.
pub(crate) fn split(rings: Rings, gate: Gate, forecast: Forecast) -> (Submitter, Reaper) {
    let (sq, cq, base) = rings.split();
    (Submitter { sq, gate, forecast }, Reaper { cq, gate: Gate::new(base) })
}

impl Submitter {
    /// As [`RawRing::push`].
    ///
    /// # Errors
    ///
    /// As [`RawRing::push`].
    ///
    /// # Safety
    ///
    /// As [`RawRing::push`]; and the memory must be fit to be used from the reaper's thread.
    #[inline]
    pub unsafe fn push(&mut self, sqe: Sqe) -> Result<(), Full> {
        self.forecast.note(&sqe);
        // SAFETY: as promised to `Submitter::push`.
        unsafe { self.sq.push(sqe) }
    }

    /// As [`RawRing::push_with`].
    ///
    /// # Errors
    ///
    /// As [`RawRing::push_with`].
    ///
    /// # Safety
    ///
    /// As [`push`](Self::push).
    #[inline]
    pub unsafe fn push_with(&mut self, fill: impl FnOnce(&mut Sqe)) -> Result<(), Full> {
        let forecast = &mut self.forecast;
        let fill = |sqe: &mut Sqe| {
            fill(sqe);
            forecast.note(sqe);
        };
        // SAFETY: as promised to `Submitter::push_with`.
        unsafe { self.sq.push_with(fill) }
    }

    /// As [`RawRing::push_wide`].
    ///
    /// # Errors
    ///
    /// As [`RawRing::push_wide`].
    ///
    /// # Safety
    ///
    /// As [`push`](Self::push).
    pub unsafe fn push_wide(&mut self, sqe: Sqe128) -> Result<(), PushWideError> {
        self.forecast.note(&sqe.first);
        // SAFETY: as promised to `Submitter::push_wide`.
        unsafe { self.sq.push_wide(sqe) }
    }

    /// As [`RawRing::reserve`].
    ///
    /// # Errors
    ///
    /// As [`RawRing::reserve`].
    pub fn reserve(&mut self, count: u32) -> Result<Chain<'_>, EnterError> {
        check_process(self.sq.is_here())?;
        check_size(count, self.sq.entries())?;
        let mut submitted = 0;
        if self.sq.room() < count {
            submitted = self.submit()?;
            if self.gate.polls() {
                self.gate.wait_for_room(&mut self.sq, count)?;
            }
        }
        match self.sq.reserve(count) {
            Ok(slots) => Ok(Chain::new(slots, &mut self.forecast)),
            Err(Full) => Err(EnterError::new(submitted, EnterCause::OutOfRequests)),
        }
    }

    /// As [`RawRing::submit`].
    ///
    /// # Errors
    ///
    /// As [`RawRing::submit`].
    #[inline]
    pub fn submit(&mut self) -> Result<u32, EnterError> {
        check_process(self.sq.is_here())?;
        self.gate.submit(&mut self.sq, None)
    }

    /// As [`RawRing::wait_for_room`].
    ///
    /// # Errors
    ///
    /// As [`RawRing::wait_for_room`].
    pub fn wait_for_room(&mut self) -> Result<(), EnterError> {
        check_process(self.sq.is_here())?;
        if self.gate.polls() {
            self.gate.wait_for_room(&mut self.sq, 1)
        } else if self.sq.room() == 0 {
            self.submit().map(drop)
        } else {
            Ok(())
        }
    }

    /// How many submission slots are free.
    pub fn room(&self) -> u32 {
        self.sq.room()
    }

    /// Puts the ring together again.
    ///
    /// # Errors
    ///
    /// Gives both back when they are not of one ring, and in a forked child.
    #[expect(clippy::result_large_err, reason = "the error is both halves, given back")]
    pub fn join(self, reaper: Reaper) -> Result<RawRing, (Self, Reaper)> {
        let Self { sq, gate, forecast } = self;
        let base = Arc::clone(gate.base());
        match Rings::join(sq, reaper.cq, base) {
            Ok(rings) => {
                let mut ring = RawRing::assemble(rings, gate.joined(&reaper.gate), forecast);
                ring.compare();
                Ok(ring)
            }
            Err((sq, cq, _)) => {
                Err((Self { sq, gate, forecast }, Reaper { cq, gate: reaper.gate }))
            }
        }
    }
}

impl Reaper {
    /// As [`RawRing::pop`].
    #[inline]
    pub fn pop(&mut self) -> Option<Cqe> {
        self.cq.pop()
    }

    /// As [`RawRing::pop_wide`].
    pub fn pop_wide(&mut self) -> Option<Cqe32> {
        self.cq.pop_wide()
    }

    /// As [`RawRing::peek`].
    ///
    /// # Errors
    ///
    /// As [`RawRing::peek`].
    pub fn peek(&mut self) -> Result<Option<Cqe>, EnterError> {
        if let Some(cqe) = self.cq.pop() {
            return Ok(Some(cqe));
        }
        self.fetch()?;
        Ok(self.cq.pop())
    }

    /// As [`RawRing::drain`].
    ///
    /// # Errors
    ///
    /// As [`RawRing::drain`].
    pub fn drain(&mut self, mut each: impl FnMut(Cqe)) -> Result<u32, EnterError> {
        let (mut total, mut asked) = (0, false);
        loop {
            let count = self.cq.drain(&mut each);
            total += count;
            let maybe_more = Gate::flagged(&self.cq) || total == 0;
            // Asking brought nothing: there is nothing.
            if (asked && count == 0) || !maybe_more || is_flood(&self.cq, total) {
                return Ok(total);
            }
            if !self.fetch()? {
                return Ok(total);
            }
            asked = true;
        }
    }

    /// As [`RawRing::wait`], but no wait is refused as hopeless.
    ///
    /// # Errors
    ///
    /// As [`RawRing::wait`].
    pub fn wait(&mut self, want: u32) -> Result<(), EnterError> {
        self.bounded_wait(want, &Patience::FOREVER).map(drop)
    }

    /// As [`RawRing::wait_timeout`], but no wait is refused as hopeless.
    ///
    /// # Errors
    ///
    /// As [`RawRing::wait_timeout`].
    pub fn wait_timeout(&mut self, want: u32, timeout: Duration) -> Result<Woken, EnterError> {
        self.bounded_wait(want, &Patience::at_most(timeout))
    }

    /// As [`RawRing::wait_min`], but no wait is refused as hopeless.
    ///
    /// # Errors
    ///
    /// As [`RawRing::wait_min`].
    pub fn wait_min(
        &mut self,
        want: u32,
        min_wait: Duration,
        timeout: Duration,
    ) -> Result<Woken, EnterError> {
        self.bounded_wait(want, &Patience::at_most(timeout).min_wait(min_wait))
    }

    pub(crate) fn bounded_wait(
        &mut self,
        want: u32,
        patience: &Patience,
    ) -> Result<Woken, EnterError> {
        check_process(self.cq.is_here())?;
        self.gate.wait(&mut self.cq, want, patience)
    }

    /// How many completions are ready to pop.
    pub fn ready(&mut self) -> u32 {
        self.cq.ready()
    }

    /// What this half has done so far. The submitter's half of the figures is in the ring's, after
    /// [`Submitter::join`].
    pub fn stats(&self) -> Stats {
        Stats {
            enters: self.gate.enters,
            sqes: 0,
            cqes: self.cq.popped(),
            overflows: self.gate.overflows,
        }
    }

    /// Asks for what the kernel may hold back (CQ5), and says whether it was asked.
    fn fetch(&mut self) -> Result<bool, EnterError> {
        check_process(self.cq.is_here())?;
        // We cannot know whether something is in flight, so reckon with one request.
        if !self.gate.may_hold_back(&self.cq, 1) {
            return Ok(false);
        }
        self.gate.get_events(&self.cq).map(|()| true)
    }
}

/// Refuses what a forked child cannot do with its parent's half.
#[inline]
fn check_process(here: bool) -> Result<(), EnterError> {
    if here { Ok(()) } else { Err(EnterError::new(0, EnterCause::OtherProcess)) }
}
