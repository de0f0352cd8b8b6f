//! The end of a lane: cancel, wait, and leak operations that do not end.
//!
//! ```text
//!   drop ─► cancel everything ─► wait for the last completions ─┬─ all came: free everything
//!                  ▲                        │                   └─ time is up: leak the rest
//!                  └──── every 10 ms ───────┘
//! ```
//!
//! Only a completion proves that the kernel is done with an operation's memory: see `ring::end`.
//! Every panic of the caller's code is caught until all is over, and then goes on.
//!
//! Keeps RG1.
#![allow(unsafe_code, reason = "hands the kernel entries")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use annulus_sys::flags::Features;
use annulus_sys::sq::Full;

use super::Lane;
use super::slots::CANCEL;
use crate::op::Op;
use crate::prep;
use crate::ring::end::ShutdownTimedOut;
use crate::ring::slab::{Thrown, contained, go_on_panicking, keep_first};
use crate::setup::enter_error::{EnterCause, EnterError};

/// How long to wait before the remaining operations are cancelled again: a cancel may miss.
const AGAIN: Duration = Duration::from_millis(10);

/// # Ending
impl<O: Op + 'static, U> Lane<O, U> {
    /// Sets how long dropping the lane waits for operations to complete once they are cancelled.
    /// The default is one second. Zero does not wait, and leaks.
    pub fn set_drop_timeout(&mut self, drop_timeout: Duration) {
        self.drop_timeout = drop_timeout;
    }

    /// Cancels everything, waits for it to complete, and ends the lane. Outputs that were not taken
    /// are dropped.
    ///
    /// # Errors
    ///
    /// [`ShutdownTimedOut`] when operations did not complete within `timeout`. Their memory and
    /// files are leaked.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::{Lane, Setup, op};
    /// use std::io::{PipeReader, pipe};
    /// use std::time::Duration;
    ///
    /// let mut lane: Lane<op::Read<PipeReader, Vec<u8>>> = Setup::new(8).build_lane()?;
    /// let (reader, _writer) = pipe()?; // Nothing is ever written.
    /// lane.submit(op::Read::new(reader, vec![0; 64]), ())?;
    /// lane.shutdown(Duration::from_secs(1))?; // Cancels the read, and drops its buffer.
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn shutdown(mut self, timeout: Duration) -> Result<(), ShutdownTimedOut> {
        self.drop_timeout = timeout;
        let panic = self.end_all();
        self.is_over = true; // The drop only leaks.
        let left = self.slots.in_flight().count();
        drop(self);
        go_on_panicking(panic);
        let in_flight = u32::try_from(left).unwrap_or(u32::MAX);
        if in_flight == 0 { Ok(()) } else { Err(ShutdownTimedOut { in_flight }) }
    }

    /// Cancels everything and waits for it, up to the drop timeout. Returns the first panic of the
    /// caller's code.
    fn end_all(&mut self) -> Option<Thrown> {
        let (mut panic, mut due) = (None, self.raw.now());
        let until = due.checked_add(self.drop_timeout);
        while self.in_flight() > 0 {
            let now = self.raw.now();
            let left = until.map_or(Duration::MAX, |until| until.saturating_duration_since(now));
            if due <= now {
                self.cancel_each(&mut panic);
                due = now + AGAIN;
            }
            let rest = due.saturating_duration_since(now).min(left);
            let waited = self.wait_a_little(rest);
            let dropped = self.drop_ready(&mut panic);
            if waited.and(dropped).is_err() || left.is_zero() {
                break;
            }
        }
        panic
    }

    /// Cancels each operation in flight, as far as there is room for cancels.
    fn cancel_each(&mut self, panic: &mut Option<Thrown>) {
        let all: Vec<u64> = self.slots.in_flight().collect();
        for word in all {
            if !self.raw.has_room() && self.drop_ready(panic).is_err() {
                break;
            }
            // Those that were not cancelled are so in the next round.
            if self.slots.is_in_flight(word) && self.push_cancel(word).is_err() {
                break;
            }
        }
    }

    /// Pushes a cancel of the operation with this `user_data`. On a ring with a polling thread,
    /// waits for room if necessary.
    pub(super) fn push_cancel(&mut self, word: u64) -> Result<(), EnterError> {
        if !self.raw.has_room() {
            self.raw.wait_for_room()?;
        }
        let mut sqe = prep::cancel_user_data(word);
        sqe.user_data = CANCEL;
        // SAFETY: the entry points to nothing (OP1).
        unsafe { self.raw.push_known(sqe) }
            .map_err(|Full| EnterError::new(0, EnterCause::OutOfRequests))?;
        self.aside.cancel_begins();
        Ok(())
    }

    /// Takes all outputs that are there, and drops them.
    fn drop_ready(&mut self, panic: &mut Option<Thrown>) -> Result<(), EnterError> {
        loop {
            let before = self.in_flight();
            // A panic in here may have interrupted the making of one output; then there are more.
            let bury = |user, output| {
                contained(|| drop(user)); // A second panic must not abort.
                drop(output);
            };
            match catch_unwind(AssertUnwindSafe(|| self.reap(bury))) {
                Ok(taken) => return self.ignore_passing(taken.map(drop)),
                Err(payload) => {
                    keep_first(panic, payload);
                    if self.in_flight() >= before {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Submits what is queued, and waits for a completion, for at most `time`.
    fn wait_a_little(&mut self, time: Duration) -> Result<(), EnterError> {
        let entered = if self.raw.features().contains(Features::EXT_ARG) {
            self.raw.submit_and_wait_timeout(1, time).map(drop)
        } else {
            // Before Linux 5.11 a wait cannot have a timeout.
            let submitted = self.raw.submit();
            if self.raw.ready() == 0 {
                self.raw.sleep(time.min(Duration::from_millis(1)));
            }
            submitted.map(drop)
        };
        if let Err(EnterError { cause: EnterCause::NothingComing { .. }, .. }) = entered {
            // The raw ring's count is wrong because of forged completions. The slots know better.
            self.raw.expect_others();
            return Ok(());
        }
        self.ignore_passing(entered)
    }

    /// Ignores an error after which the wait can still succeed.
    fn ignore_passing(&self, entered: Result<(), EnterError>) -> Result<(), EnterError> {
        let Err(error) = entered else { return Ok(()) };
        match error.cause {
            // A signal came, or completions must be taken first.
            EnterCause::Interrupted
            | EnterCause::CompletionsPending
            | EnterCause::ReadyFirst { .. } => Ok(()),
            // A completion is lost. If it was that of an operation, that looks like a slow one.
            EnterCause::CompletionsLost | EnterCause::OutOfRequests => {
                self.raw.sleep(Duration::from_millis(1));
                Ok(())
            }
            _ => Err(error),
        }
    }
}

impl<O: Op + 'static, U> Drop for Lane<O, U> {
    /// Cancels operations in flight, waits up to [a second](Lane::set_drop_timeout) for them, and
    /// leaks those that did not complete by then. In a forked child it does nothing, and leaks.
    fn drop(&mut self) {
        if !self.process.is_this() {
            return; // The slots leak what is in flight.
        }
        let mut panic = None;
        if !self.is_over {
            // A kernel that breaks a rule may panic here, too.
            match catch_unwind(AssertUnwindSafe(|| self.end_all())) {
                Ok(ended) => panic = ended,
                Err(thrown) => panic = Some(thrown),
            }
        }
        // SAFETY: nothing but dropping is done with them from here on.
        unsafe { self.slots.drop_users() };
        go_on_panicking(panic);
    }
}
