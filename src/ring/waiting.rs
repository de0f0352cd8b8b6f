//! Waiting: for events, for one operation, for the next of many.
//!
//! | wait for | call | a signal |
//! |---|---|---|
//! | so many events | [`Ring::submit_and_wait`] | ends it: [`EnterCause::Interrupted`], also where entries went in |
//! | one operation's end | [`Ring::wait`], [`Ring::wait_timeout`] | does not |
//! | the next that an operation brings | [`Ring::next`] | does not |
//!
//! So a program whose handler of `SIGINT` sets a flag looks at it when a wait for events ends.
//!
//! Each hands over first what was submitted. What else may bound a wait, see `patience`. A wait for
//! one operation takes whatever else completes, and keeps it (`backlog`).
//!
//! Leaves to others: what it means that the kernel came back (`wait`).

use std::time::{Duration, Instant};

use crate::error::{EnterCause, EnterError, Woken};
use crate::op::Multishot;
use crate::patience::Patience;
use crate::ring::{Redeem, Ring};
use crate::ticket::{Ticket, Unfinished};

/// What [`Ring::try_next`] found.
#[derive(Debug)]
pub enum Next<T> {
    /// The next item.
    Item(T),
    /// Nothing yet.
    Pending,
    /// The operation has ended; its ticket tells how.
    Ended,
}

impl<U: Default> Ring<U> {
    /// Hands everything over, and waits until at least `want` events can be reaped. The end of an
    /// operation that was [given up](Self::detach) counts too, though it shows none; what it brings
    /// until then does not.
    ///
    /// # Errors
    ///
    /// [`EnterError`]: [`EnterCause::NothingComing`] when that many can never come, and
    /// [`EnterCause::Interrupted`] when a signal ended the wait: then wait again, or do not. How
    /// many entries went in, the error says.
    #[inline]
    pub fn submit_and_wait(&mut self, want: u32) -> Result<u32, EnterError> {
        if self.is_plain() && (want <= self.slab.in_flight() || self.hope_for(want)?) {
            return self.raw.submit_and_wait_unasked(want);
        }
        self.wait_for_events(want, &Patience::FOREVER).map(|(submitted, _)| submitted)
    }

    /// As [`submit_and_wait`](Self::submit_and_wait), for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`submit_and_wait`](Self::submit_and_wait), but it is never refused: a wait with a limit
    /// ends also when nothing comes. Needs Linux 5.11.
    pub fn submit_and_wait_timeout(
        &mut self,
        want: u32,
        timeout: Duration,
    ) -> Result<(u32, Woken), EnterError> {
        self.submit_and_wait_with(want, &Patience::at_most(timeout))
    }

    /// Whether nothing is kept, and every completion to come is an event, or the end of what was
    /// given up.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        self.backlog.is_empty() && self.own.is_quiet() && !self.slab.has_murmurs()
    }

    /// Waits until the operation has completed, however long, and returns its output. What else
    /// completes in the meantime is kept for [`reap`](Self::reap). A signal does not end the wait.
    ///
    /// Of an operation that completes many times this waits for the end. What it brings until then,
    /// and had brought before, comes with the output, unless [`next`](Self::next) or
    /// [`reap`](Self::reap) took it: see [`Ended::left`](crate::op::Ended::left). So to
    /// [`cancel`](Self::cancel) and wait loses nothing.
    ///
    /// What others [gave up](Self::detach) is dropped when it ends, perhaps in here. Should that
    /// panic, the wait goes on.
    ///
    /// # Errors
    ///
    /// [`Unfinished`] gives the ticket back, when the kernel cannot go on.
    ///
    /// # Panics
    ///
    /// When the ticket is of another ring.
    #[inline]
    pub fn wait<T: Redeem>(&mut self, ticket: T) -> Result<T::Output, Unfinished<T>> {
        self.wait_until(ticket, None)
    }

    /// As [`wait`](Self::wait), for at most `timeout`. The operation goes on: wait again, or
    /// [`cancel`](Self::cancel) it.
    ///
    /// # Errors
    ///
    /// [`Unfinished`] gives the ticket back; [`EnterCause::TimedOut`] when the time is up.
    ///
    /// # Panics
    ///
    /// When the ticket is of another ring.
    pub fn wait_timeout<T: Redeem>(
        &mut self,
        ticket: T,
        timeout: Duration,
    ) -> Result<T::Output, Unfinished<T>> {
        self.wait_until(ticket, Instant::now().checked_add(timeout))
    }

    fn wait_until<T: Redeem>(
        &mut self,
        mut ticket: T,
        until: Option<Instant>,
    ) -> Result<T::Output, Unfinished<T>> {
        loop {
            ticket = match self.try_take(ticket) {
                Ok(output) => return Ok(output),
                Err(ticket) => ticket,
            };
            if let Err(why) = self.turn(ticket.quiet(), until) {
                return match self.try_take(ticket) {
                    Ok(output) => Ok(output),
                    Err(ticket) => Err(Unfinished { ticket, why }),
                };
            }
            // Others may complete as fast as they are taken, and the kernel's clock never run.
            if until.is_some_and(|until| until <= Instant::now()) {
                return self.try_take(ticket).map_err(|ticket| {
                    let why = EnterError::new(0, EnterCause::TimedOut);
                    Unfinished { ticket, why }
                });
            }
        }
    }

    /// One turn of a wait: enters if nothing is ready, then takes what is. The end of the operation
    /// in slot `quiet` is not kept, since its ticket is about to be redeemed.
    pub(crate) fn turn(
        &mut self,
        quiet: Option<u32>,
        until: Option<Instant>,
    ) -> Result<(), EnterError> {
        self.serve();
        if self.raw.ready() == 0 {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let entered = match left {
                None => self.raw.submit_and_wait_unasked(1).map(|_| Woken::Ready),
                Some(left) => self.raw.submit_and_wait_timeout(1, left).map(|(_, woken)| woken),
            };
            match entered {
                Ok(Woken::Ready) => {}
                Ok(Woken::TimedOut) => {
                    self.pull(quiet)?;
                    return Err(EnterError::new(0, EnterCause::TimedOut));
                }
                Err(error) => self.bear(error)?,
            }
        } else if let Err(error) = self.raw.submit() {
            self.bear(error)?; // Not only what is ready already is to go on.
        }
        self.pull(quiet)
    }

    /// Goes on after an error where entering again can help.
    pub(crate) fn bear(&mut self, error: EnterError) -> Result<(), EnterError> {
        match error.cause {
            // A signal came; or completions are to be taken first.
            EnterCause::Interrupted
            | EnterCause::CompletionsPending
            | EnterCause::ReadyFirst { .. } => Ok(()),
            // The forecast counts words, and somebody has forged some. The slots know better.
            EnterCause::NothingComing { .. } if self.slab.in_flight() > 0 => {
                self.raw.expect_others();
                Ok(())
            }
            _ => Err(error),
        }
    }

    /// Takes the next completion of an operation that completes many times, waiting for it if it
    /// must. `None`: it has ended, and its ticket tells how.
    ///
    /// # Errors
    ///
    /// [`EnterError`] from waiting; nothing is lost.
    ///
    /// # Panics
    ///
    /// When the ticket is of another ring.
    pub fn next<O: Multishot>(
        &mut self,
        ticket: &Ticket<O>,
    ) -> Result<Option<O::Item>, EnterError> {
        loop {
            match self.try_next(ticket)? {
                Next::Item(item) => return Ok(Some(item)),
                Next::Ended => return Ok(None),
                // Its end is kept, to be shown: what comes with it may be taken first.
                Next::Pending => self.turn(None, None)?,
            }
        }
    }

    /// Takes the next completion of an operation that completes many times, if it has come. Never
    /// waits.
    ///
    /// # Errors
    ///
    /// [`EnterError`] from asking for what the kernel holds back; nothing is lost.
    ///
    /// # Panics
    ///
    /// When the ticket is of another ring.
    pub fn try_next<O: Multishot>(
        &mut self,
        ticket: &Ticket<O>,
    ) -> Result<Next<O::Item>, EnterError> {
        self.check(ticket);
        if let Some(shot) = self.backlog.next_of(&mut self.slab, ticket.slot()) {
            return Ok(Next::Item(O::item(shot)));
        }
        if self.slab.is_done(ticket) {
            return Ok(Next::Ended);
        }
        self.pull(None)?;
        Ok(match self.backlog.next_of(&mut self.slab, ticket.slot()) {
            Some(shot) => Next::Item(O::item(shot)),
            None if self.slab.is_done(ticket) => Next::Ended,
            None => Next::Pending,
        })
    }
}
