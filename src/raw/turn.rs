//! A turn: submit, wait and take in one call.
//!
//! ```text
//!   enter ─► drain ─► enough, and nothing held back ─► done
//!     │         └──── too few: most likely a signal, so look once more, then say so
//!     └─ an error after which completions must be taken ─► drain ─► go on, or say so
//! ```
//!
//! The enter of a busy ring is that of the fast path, without the look at what is ready: the drain
//! looks anyway. Leaves to others: the enter (`fast_path`), and the drain (`reap`).

use annulus_sys::abi::Cqe;

use crate::raw::fast_path::{Coming, Unfinished};
use crate::raw::{RawRing, Rounds};
use crate::setup::enter_error::{EnterCause, EnterError};

/// How many entries a turn submitted, or [`FAILED`].
type Entered = u32;

/// The turn is to end with the error that the ring keeps, unless enough completions come.
const FAILED: Entered = u32::MAX;

/// More completions than ever come: the turn ends with its error in any case.
const MORE_THAN_COME: u32 = u32::MAX;

/// # Submitting, waiting and taking at once
impl RawRing {
    /// Submits everything pushed, waits until `want` completions are ready, and takes every
    /// completion there is, oldest first: a whole turn of an event loop in one call. Returns how
    /// many it took, which is at least `want`.
    ///
    /// Like [`submit_and_wait`](Self::submit_and_wait) and then [`drain`](Self::drain), in one call
    /// that looks only once at what is ready.
    ///
    /// # Errors
    ///
    /// As for [`submit_and_wait`](Self::submit_and_wait) and [`drain`](Self::drain). If a signal
    /// ended the wait ([`EnterCause::Interrupted`]), or completions had to be taken first
    /// ([`EnterCause::CompletionsPending`]), `each` has seen those that were ready.
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
        let (mut entered, mut need) = match self.enter_unseen(want, Coming::Unknown) {
            Ok(count) => (count, want),
            Err(unfinished) => self.turn_slowly(want, unfinished)?,
        };
        let mut rounds = Rounds::default();
        loop {
            let batch = self.rings_mut().cq().drain(&mut each);
            self.compare();
            let done = rounds.are_done(batch);
            if rounds.total < need {
                (entered, need) = self.turn_again(want, rounds.total, entered)?;
                continue;
            }
            if done {
                return Ok(rounds.total);
            }
            match self.ask_again(rounds, batch.count)? {
                Some(next) => rounds = next,
                None => return Ok(rounds.total),
            }
        }
    }

    /// Enters in any other way. An error after which completions must be taken is kept.
    #[cold]
    fn turn_slowly(
        &mut self,
        want: u32,
        unfinished: Unfinished,
    ) -> Result<(Entered, u32), EnterError> {
        match self.finish(want, Coming::Unknown, unfinished) {
            Ok(count) => Ok((count, want)),
            Err(error) => match error.cause {
                EnterCause::Interrupted
                | EnterCause::CompletionsPending
                | EnterCause::ReadyFirst { .. } => {
                    self.turn_error = Some(error);
                    Ok((FAILED, MORE_THAN_COME))
                }
                _ => Err(error),
            },
        }
    }

    /// What follows a drain after which too few were `taken`: another drain, if there may be more.
    #[cold]
    fn turn_again(
        &mut self,
        want: u32,
        taken: u32,
        entered: Entered,
    ) -> Result<(Entered, u32), EnterError> {
        if entered != FAILED {
            // The kernel waited and returned early, nearly always for a signal: see `wait_end`.
            let (rings, driver) = self.parts();
            driver.look_again(rings.halves().1, entered)?;
            self.turn_error = Some(EnterError::new(entered, EnterCause::Interrupted));
            return Ok((FAILED, want));
        }
        let error = self.turn_error.take().expect("a turn that failed keeps its error");
        if !matches!(error.cause, EnterCause::ReadyFirst { .. }) {
            return Err(error);
        }
        // The completions that were in the way have been taken.
        let missing = want.saturating_sub(taken);
        let more = self.finish(missing, Coming::Unknown, Unfinished::NOT_ENTERED);
        let failed =
            |later: EnterError| EnterError::new(error.submitted + later.submitted, later.cause);
        Ok((error.submitted + more.map_err(failed)?, want))
    }
}
