//! Synchronous cancellation: cancels an operation by a system call, and waits for its end.
//!
//! Leaves to others: the call (`raw::register::cancel`), and cancels by an entry
//! ([`Ring::cancel`](crate::Ring::cancel)).

use std::time::Duration;

use annulus_sys::errno::Errno;

use crate::lease::RegisterError;
use crate::raw::register::{CancelNow, EndedNow};
use crate::ring::{Ring, Submitted};
use crate::setup::enter_error::{EnterCause, EnterError};

/// How long the kernel waits before we look ourselves: it does not notice every operation that
/// ends.
const LOOK: Duration = Duration::from_millis(1);

/// # Stopping at once
impl<U: Default> Ring<U> {
    /// Cancels an operation by a system call, ahead of all queued entries, and waits for its end
    /// for at most `time`. The operation still completes: keep its ticket. Other completions that
    /// come meanwhile are kept for [`reap`](Self::reap). Since Linux 6.0.
    ///
    /// On a ring with a polling thread, an operation may run in a worker of that thread, where the
    /// call does not find it. Then a cancel is also queued as an entry. So on such a ring the
    /// result for an operation in flight is [`EndedNow::TimedOut`], never [`EndedNow::NotFound`].
    ///
    /// # Errors
    ///
    /// As [`RawRing::cancel_now`](crate::RawRing::cancel_now), which can also find operations by
    /// other keys than tickets; and the errors of entering the kernel.
    ///
    /// # Panics
    ///
    /// When the ticket belongs to another ring.
    #[track_caller]
    pub fn cancel_now<T: Submitted>(
        &mut self,
        ticket: &T,
        time: Duration,
    ) -> Result<EndedNow, RegisterError> {
        let user_data = ticket.on(self);
        let until = self.raw.now().checked_add(time);
        let what = CancelNow::user_data(user_data);
        let (mut interrupted, mut asked) = (false, false);
        loop {
            let now = self.raw.now();
            let left = until.map_or(LOOK, |until| until.saturating_duration_since(now));
            match self.raw.cancel_now(&what.within(left.min(LOOK)))? {
                EndedNow::Ended(count) => return Ok(EndedNow::Ended(count)),
                EndedNow::TimedOut => interrupted = true,
                EndedNow::NotFound if interrupted => return Ok(EndedNow::Ended(1)),
                EndedNow::NotFound => {
                    self.look_now()?;
                    if !self.raw.driver().polls() || !self.slab.is_in_flight(user_data) {
                        let asked = !self.slab.is_in_flight(user_data) && asked;
                        return Ok(if asked { EndedNow::Ended(1) } else { EndedNow::NotFound });
                    }
                    asked = true;
                    let cancelled = self.cancel(ticket);
                    self.go_on(cancelled)?;
                    let waited = self.wait_a_little(left.min(LOOK));
                    self.go_on(waited)?;
                }
            }
            self.look_now()?;
            if !self.slab.is_in_flight(user_data) {
                return Ok(EndedNow::Ended(1));
            }
            if left.is_zero() {
                return Ok(EndedNow::TimedOut);
            }
        }
    }

    /// Takes all completions, including those that the kernel holds back until asked.
    fn look_now(&mut self) -> Result<(), RegisterError> {
        let looked = self.raw.get_events().and_then(|()| self.pull(None));
        self.go_on(looked)
    }

    /// Ignores an error after which entering again can help.
    fn go_on(&mut self, entered: Result<(), EnterError>) -> Result<(), RegisterError> {
        let Err(error) = entered.or_else(|error| self.ignore_refusal(error)) else { return Ok(()) };
        let errno = match error.cause {
            EnterCause::Refused(errno) | EnterCause::Other(errno) => errno,
            EnterCause::OutOfRequests => Errno::new(libc::EAGAIN),
            EnterCause::CompletionsLost => Errno::new(libc::EBADR),
            EnterCause::PollerDied => Errno::new(libc::EOWNERDEAD),
            EnterCause::OtherProcess => Errno::new(libc::ECHILD),
            _ => Errno::new(libc::EIO),
        };
        Err(RegisterError::other(errno))
    }
}
