//! A turn: submit, wait and take in one call.
//!
//! ```text
//!   enter ─► drain ─► enough, and no overflow ─► done
//!     │         └──── too few: most likely a signal, so look once more, then say so
//!     └─ an error after which completions must be taken ─► drain ─► go on, or say so
//! ```
//!
//! The enter has just run the task work that was there. What comes up during the turn waits for the
//! next one: its enter takes it in for nothing, and a system call is saved.
//!
//! The enter of a busy ring is that of the fast path, without the look at what is ready: the drain
//! looks anyway. Leaves to others: the enter (`fast_path`), and the drain (`reap`).

use annulus_sys::abi::Cqe;
use annulus_sys::cq::Batch;
use annulus_sys::flags::SqRingFlags;

use crate::raw::enter::Driver;
use crate::raw::fast_path::{Coming, Unfinished};
use crate::raw::{RawRing, Rounds};
use crate::setup::enter_error::{EnterCause, EnterError};

/// How many entries a turn submitted, or [`FAILED`].
type Entered = u32;

/// A turn that takes more than one round.
#[derive(Debug)]
pub(crate) struct Turn {
    /// How many completions are waited for.
    want: u32,
    coming: Coming,
    /// How many must be taken before the turn may end.
    need: u32,
    entered: Entered,
    /// The hints after which there is another round.
    asked_about: SqRingFlags,
    rounds: Rounds,
    /// How many were taken when completions were in the way last.
    taken: u32,
}

impl Turn {
    pub(crate) const NONE: Self = Self {
        want: 0,
        coming: Coming::Unknown,
        need: 0,
        entered: 0,
        asked_about: SqRingFlags::empty(),
        rounds: Rounds::NONE,
        taken: NEVER,
    };
}

/// More than any batch has: another round looks at all of them.
const NEVER: u32 = u32::MAX;

/// The turn is to end with the error that the ring keeps, unless enough completions come.
const FAILED: Entered = u32::MAX;

/// More completions than ever come: the turn ends with its error in any case.
const MORE_THAN_COME: u32 = NEVER - 1;

/// # Submitting, waiting and taking at once
impl RawRing {
    /// Submits everything pushed, waits until `want` completions are ready, and takes all that are,
    /// oldest first: a whole turn of an event loop in one call. Returns how many it took, which is
    /// at least `want`.
    ///
    /// Like [`submit_and_wait`](Self::submit_and_wait) and then [`drain`](Self::drain), in one call
    /// that looks only once at what is ready. Unlike a drain, it does not enter again for
    /// completions that the kernel holds back as task work (`TASKRUN`), if it has taken any: the
    /// next turn or wait takes them in. To wait elsewhere between two turns, on an eventfd for
    /// example, call [`drain`](Self::drain) first, until it takes nothing.
    ///
    /// # Errors
    ///
    /// As for [`submit_and_wait`](Self::submit_and_wait) and [`drain`](Self::drain). If a signal
    /// ended the wait ([`EnterCause::Interrupted`]), or completions had to be taken first
    /// ([`EnterCause::CompletionsPending`], [`EnterCause::ReadyFirst`]), `each` has seen those that
    /// were ready.
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
        self.take_in(Some(want), Coming::Unknown, |raw| {
            let batch = raw.rings_mut().cq().drain(&mut each);
            raw.compare();
            batch
        })
    }

    /// Calls `take`, which takes what is ready, until it has taken something and the kernel holds
    /// nothing back. With `want`, submits and waits first, and task work that came up since may
    /// wait. Returns how many completions that were.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "keeps what `take` captures in registers")]
    pub(crate) fn take_in(
        &mut self,
        want: Option<u32>,
        coming: Coming,
        mut take: impl FnMut(&mut Self) -> Batch,
    ) -> Result<u32, EnterError> {
        let (mut enough, mut entered, mut asked_about) = (1, 0, Driver::HELD_BACK);
        if let Some(want) = want {
            asked_about = SqRingFlags::CQ_OVERFLOW;
            (entered, enough) = match self.enter_unseen(want, coming) {
                Ok(count) => (count, want),
                Err(unfinished) => self.turn_slowly(want, coming, unfinished)?,
            };
        }
        loop {
            let batch = take(self);
            // Nearly every call ends here. What other rounds need lies in the ring, so that this
            // one keeps nothing in registers for them.
            if (batch.count >= enough) & !batch.hints.intersects(asked_about) {
                return Ok(batch.count);
            }
            if enough != NEVER {
                let want = want.unwrap_or(0);
                // Nothing was waited for, or the turn is to end with an error.
                let need = if enough == 1 { want } else { enough };
                let rounds = Rounds::default();
                self.turn = Turn { want, coming, need, entered, asked_about, rounds, taken: NEVER };
                enough = NEVER;
            }
            if let Some(total) = self.turn_again(batch)? {
                return Ok(total);
            }
        }
    }

    /// Enters in any other way. An error after which completions must be taken is kept.
    #[cold]
    fn turn_slowly(
        &mut self,
        want: u32,
        coming: Coming,
        unfinished: Unfinished,
    ) -> Result<(Entered, u32), EnterError> {
        match self.finish(want, coming, unfinished) {
            Ok(count) => Ok((count, want.max(1))),
            Err(error) => {
                self.keep_error(error)?;
                Ok((FAILED, MORE_THAN_COME))
            }
        }
    }

    /// What follows a batch that was not enough: another, or the end, with how many there were.
    #[cold]
    fn turn_again(&mut self, batch: Batch) -> Result<Option<u32>, EnterError> {
        let Turn { need, asked_about, .. } = self.turn;
        let done = self.turn.rounds.are_done(batch, asked_about);
        let rounds = self.turn.rounds;
        if rounds.total < need {
            (self.turn.entered, self.turn.need) = self.wait_on(rounds.total)?;
            return Ok(None);
        }
        if done {
            return Ok(Some(rounds.total));
        }
        match self.ask_again(rounds, batch.count)? {
            Some(next) => {
                self.turn.rounds = next;
                Ok(None)
            }
            None => Ok(Some(rounds.total)),
        }
    }

    /// What follows a drain after which too few were `taken`: another drain, if there may be more.
    fn wait_on(&mut self, taken: u32) -> Result<(Entered, u32), EnterError> {
        let Turn { want, coming, entered, .. } = self.turn;
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
        // The completions that were in the way have been taken, unless there were none.
        if std::mem::replace(&mut self.turn.taken, taken) == taken {
            return Err(error);
        }
        let missing = want.saturating_sub(taken);
        match self.finish(missing, coming, Unfinished::NOT_ENTERED) {
            Ok(count) => Ok((error.submitted + count, want)),
            Err(later) => {
                let later = EnterError::new(error.submitted + later.submitted, later.cause);
                self.keep_error(later)?;
                Ok((FAILED, want))
            }
        }
    }

    /// Keeps an error after which completions are taken before it is returned.
    fn keep_error(&mut self, error: EnterError) -> Result<(), EnterError> {
        match error.cause {
            EnterCause::Interrupted
            | EnterCause::CompletionsPending
            | EnterCause::ReadyFirst { .. } => {
                self.turn_error = Some(error);
                Ok(())
            }
            _ => Err(error),
        }
    }
}
