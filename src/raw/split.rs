//! One ring, two threads: one submits, one reaps.
//!
//! ```text
//!                    ┌─► Submitter: Send   push, reserve, submit      on one thread
//!   RawRing::split ──┤
//!                    └─► Reaper: Send      pop, peek, drain, wait     on another
//!   RawRing ◄── Submitter::join(reaper)
//! ```
//!
//! Each half uses its own indices in the shared memory, so neither half waits for the other. A ring
//! with `SINGLE_ISSUER` (and so any ring with `DEFER_TASKRUN`) cannot be split: the kernel would
//! refuse the second thread.
//!
//! [`Setup::new`](crate::Setup::new) makes a ring with `SINGLE_ISSUER` where the kernel can, so
//! start from [`Setup::plain`](crate::Setup::plain) instead. With `COOP_TASKRUN`, completions wait
//! until the submitter enters the kernel, whatever the reaper asks.
//!
//! A request belongs to the thread that submitted it. When that thread exits, the kernel does not
//! cancel what is still in flight. A poll or a read does nothing more. It completes with
//! `ECANCELED` at the latest when the event it waits for happens, which may be never. So cancel
//! requests before the thread exits. A request that runs on a worker thread is interrupted, and
//! completes with `EINTR`, `ECANCELED`, or a bare 512 (`ERESTARTSYS`, seen in 6.18).
//!
//! The reaper cannot know what the submitter is about to submit. So its waits are never refused
//! because nothing is coming.
#![allow(unsafe_code, reason = "its entries point to memory")]

use std::sync::Arc;
use std::time::Duration;

use annulus_sys::abi::{Cqe, Cqe32, Sqe, Sqe128};
use annulus_sys::cq::{Batch, CompletionQueue};
use annulus_sys::rings::Rings;
use annulus_sys::sq::{Full, PushWideError, SubmissionQueue};

use crate::raw::RawRing;
use crate::raw::chain::{Chain, check_size};
use crate::raw::enter::Driver;
use crate::raw::inspect::Stats;
use crate::raw::pending::Pending;
use crate::raw::reap::is_flood;
use crate::raw::wait_options::WaitOptions;
use crate::setup::enter_error::{EnterCause, EnterError, Woken};

/// The half that submits.
#[derive(Debug)]
pub struct Submitter {
    sq: SubmissionQueue,
    driver: Driver,
    pending: Pending,
}

/// The half that reaps.
#[derive(Debug)]
pub struct Reaper {
    cq: CompletionQueue,
    driver: Driver,
}

/// Splits the parts of a ring.
pub(crate) fn split(rings: Rings, driver: Driver, pending: Pending) -> (Submitter, Reaper) {
    let (sq, cq, base) = rings.split();
    (Submitter { sq, driver, pending }, Reaper { cq, driver: Driver::new(base) })
}

impl Submitter {
    /// Like [`RawRing::push`].
    ///
    /// # Errors
    ///
    /// As [`RawRing::push`].
    ///
    /// # Safety
    ///
    /// As for [`RawRing::push`]; and it must be sound to use the memory from the reaper's thread.
    #[inline]
    pub unsafe fn push(&mut self, sqe: Sqe) -> Result<(), Full> {
        self.pending.note(&sqe);
        // SAFETY: as promised to `Submitter::push`.
        unsafe { self.sq.push(sqe) }
    }

    /// Like [`RawRing::push_with`].
    ///
    /// # Errors
    ///
    /// As [`RawRing::push_with`].
    ///
    /// # Safety
    ///
    /// As for [`push`](Self::push).
    #[inline]
    pub unsafe fn push_with(&mut self, fill: impl FnOnce(&mut Sqe)) -> Result<(), Full> {
        let pending = &mut self.pending;
        let fill = |sqe: &mut Sqe| {
            fill(sqe);
            pending.note(sqe);
        };
        // SAFETY: as promised to `Submitter::push_with`.
        unsafe { self.sq.push_with(fill) }
    }

    /// Like [`RawRing::push_wide`].
    ///
    /// # Errors
    ///
    /// As [`RawRing::push_wide`].
    ///
    /// # Safety
    ///
    /// As for [`push`](Self::push).
    pub unsafe fn push_wide(&mut self, sqe: Sqe128) -> Result<(), PushWideError> {
        self.pending.note(&sqe.first);
        // SAFETY: as promised to `Submitter::push_wide`.
        unsafe { self.sq.push_wide(sqe) }
    }

    /// Like [`RawRing::reserve`].
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
            if self.driver.polls() {
                self.driver.wait_for_room(&mut self.sq, count)?;
            }
        }
        match self.sq.reserve(count) {
            Ok(slots) => Ok(Chain::new(slots, &mut self.pending)),
            Err(Full) => Err(EnterError::new(submitted, EnterCause::OutOfRequests)),
        }
    }

    /// Like [`RawRing::submit`].
    ///
    /// # Errors
    ///
    /// As [`RawRing::submit`].
    #[inline]
    pub fn submit(&mut self) -> Result<u32, EnterError> {
        check_process(self.sq.is_here())?;
        self.driver.submit(&mut self.sq, None)
    }

    /// Like [`RawRing::flush`].
    pub fn flush(&mut self) -> u32 {
        self.sq.flush()
    }

    /// Like [`RawRing::wait_for_room`].
    ///
    /// # Errors
    ///
    /// As [`RawRing::wait_for_room`].
    pub fn wait_for_room(&mut self) -> Result<(), EnterError> {
        check_process(self.sq.is_here())?;
        if self.driver.polls() {
            self.driver.wait_for_room(&mut self.sq, 1)
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

    /// Joins the two halves of a ring.
    ///
    /// # Errors
    ///
    /// Returns both halves if they are not halves of one ring, and in a forked child.
    #[expect(clippy::result_large_err, reason = "the error is both halves, given back")]
    pub fn join(self, reaper: Reaper) -> Result<RawRing, (Self, Reaper)> {
        let Self { sq, driver, pending } = self;
        let base = Arc::clone(driver.base());
        match Rings::join(sq, reaper.cq, base) {
            Ok(rings) => {
                let mut ring = RawRing::assemble(rings, driver.joined(&reaper.driver), pending);
                ring.compare();
                Ok(ring)
            }
            Err((sq, cq, _)) => {
                Err((Self { sq, driver, pending }, Reaper { cq, driver: reaper.driver }))
            }
        }
    }
}

impl Reaper {
    /// Like [`RawRing::pop`].
    #[inline]
    pub fn pop(&mut self) -> Option<Cqe> {
        self.cq.pop()
    }

    /// Like [`RawRing::pop_wide`].
    pub fn pop_wide(&mut self) -> Option<Cqe32> {
        self.cq.pop_wide()
    }

    /// Like [`RawRing::peek`].
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

    /// Like [`RawRing::drain`].
    ///
    /// # Errors
    ///
    /// As [`RawRing::drain`].
    pub fn drain(&mut self, mut each: impl FnMut(Cqe)) -> Result<u32, EnterError> {
        let (mut total, mut asked) = (0, false);
        loop {
            let Batch { count, hints } = self.cq.drain(&mut each);
            total += count;
            let maybe_more = Driver::holds_back(hints) || total == 0;
            // We asked, and nothing came: there is nothing.
            if (asked && count == 0) || !maybe_more || is_flood(&self.cq, total) {
                return Ok(total);
            }
            if !self.fetch()? {
                return Ok(total);
            }
            asked = true;
        }
    }

    /// Like [`RawRing::wait`], but never refused because nothing is coming.
    ///
    /// # Errors
    ///
    /// As [`RawRing::wait`].
    pub fn wait(&mut self, want: u32) -> Result<(), EnterError> {
        self.bounded_wait(want, &WaitOptions::FOREVER).map(drop)
    }

    /// Like [`RawRing::wait_timeout`].
    ///
    /// # Errors
    ///
    /// As [`RawRing::wait_timeout`].
    pub fn wait_timeout(&mut self, want: u32, timeout: Duration) -> Result<Woken, EnterError> {
        self.bounded_wait(want, &WaitOptions::at_most(timeout))
    }

    /// Like [`RawRing::wait_min`].
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
        self.bounded_wait(want, &WaitOptions::at_most(timeout).min_wait(min_wait))
    }

    /// Like [`RawRing::wait_with`], but never refused because nothing is coming.
    ///
    /// # Errors
    ///
    /// As [`RawRing::wait_with`].
    pub fn wait_with(&mut self, want: u32, options: &WaitOptions) -> Result<Woken, EnterError> {
        self.bounded_wait(want, options)
    }

    pub(crate) fn bounded_wait(
        &mut self,
        want: u32,
        options: &WaitOptions,
    ) -> Result<Woken, EnterError> {
        check_process(self.cq.is_here())?;
        self.driver.wait(&mut self.cq, want, options)
    }

    /// How many completions are ready to pop.
    pub fn ready(&mut self) -> u32 {
        self.cq.ready()
    }

    /// What this half has done so far. After [`Submitter::join`], the ring's stats include those of
    /// the submitter.
    pub fn stats(&self) -> Stats {
        Stats {
            enters: self.driver.enters,
            sqes: 0,
            cqes: self.cq.popped(),
            overflows: self.driver.overflows + self.cq.overflows(),
        }
    }

    /// Asks for what the kernel may hold back (CQ5), and says whether it asked.
    fn fetch(&mut self) -> Result<bool, EnterError> {
        check_process(self.cq.is_here())?;
        // We cannot know whether something is in flight, so assume one request.
        if !self.driver.may_hold_back(&self.cq, 1) {
            return Ok(false);
        }
        self.driver.get_events(&self.cq).map(|()| true)
    }
}

/// Refuses a call on half of a parent's ring in a forked child.
#[inline]
fn check_process(here: bool) -> Result<(), EnterError> {
    if here { Ok(()) } else { Err(EnterError::new(0, EnterCause::OtherProcess)) }
}
