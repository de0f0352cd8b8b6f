//! Waiting: for events, for one operation, or for the next completion of a multishot.
//!
//! | wait for | call | does a signal end it? |
//! |---|---|---|
//! | a number of events | [`Ring::submit_and_wait`] | yes: [`EnterCause::Interrupted`] |
//! | one operation's end | [`Ring::wait`], [`Ring::wait_timeout`] | no |
//! | the next completion of an operation | [`Ring::next`] | no |
//!
//! So a program whose `SIGINT` handler sets a flag can check it when a wait for events ends. A
//! signal ends that wait even when entries were submitted.
//!
//! Each call first submits the queued entries. For other limits on a wait, see `wait_options`. A
//! wait for one operation takes all other completions too, and keeps them (`undelivered`).
//!
//! Leaves to others: why the kernel returned from a wait (`raw::wait`).

use std::time::{Duration, Instant};

use crate::lease::ticket::{Ticket, Unfinished};
use crate::op::Multishot;
use crate::raw::wait_options::WaitOptions;
use crate::ring::{Redeem, Ring};
use crate::setup::enter_error::{EnterCause, EnterError, Woken};

/// What [`Ring::try_next`] found.
#[derive(Debug)]
pub enum Next<T> {
    /// The next item.
    Item(T),
    /// No item yet.
    Pending,
    /// The operation has ended; redeem its ticket for the outcome.
    Ended,
}

/// # Waiting
impl<U: Default> Ring<U> {
    /// Submits all queued entries, and waits until at least `want` events can be reaped. The end of
    /// a [detached](Self::detach) operation counts too, though it shows no event; its other
    /// completions do not.
    ///
    /// # Errors
    ///
    /// [`EnterError`]: [`EnterCause::NothingComing`] when that many events can never come, and
    /// [`EnterCause::Interrupted`] when a signal ended the wait: wait again, or stop. The error
    /// says how many entries were submitted.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::Setup;
    /// use annulus::op::Nop;
    ///
    /// let mut ring = Setup::new(8).build()?;
    /// let (_first, _second) = (ring.submit(Nop)?, ring.submit(Nop)?);
    /// assert_eq!(ring.submit_and_wait(2)?, 2); // One system call submits both, and waits.
    /// assert_eq!(ring.reap(|event| println!("{event:?}"))?, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn submit_and_wait(&mut self, want: u32) -> Result<u32, EnterError> {
        if self.is_plain() && (want <= self.slab.in_flight() || self.check_can_come(want)?) {
            return self.raw.submit_and_wait_unasked(want);
        }
        self.wait_for_events(want, &WaitOptions::FOREVER).map(|(submitted, _)| submitted)
    }

    /// As [`submit_and_wait`](Self::submit_and_wait), for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`submit_and_wait`](Self::submit_and_wait), but never [`EnterCause::NothingComing`]: a
    /// wait with a timeout ends even if nothing comes. Needs Linux 5.11.
    pub fn submit_and_wait_timeout(
        &mut self,
        want: u32,
        timeout: Duration,
    ) -> Result<(u32, Woken), EnterError> {
        self.submit_and_wait_with(want, &WaitOptions::at_most(timeout))
    }

    /// Whether no event is kept, every completion to come is an event or the end of a detached
    /// operation, and nothing is held back by a drain.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        self.undelivered.is_empty() && self.internal.is_quiet() && self.slab.is_plain()
    }

    /// Waits until the operation has completed, however long that takes, and returns its output.
    /// Other completions that come meanwhile are kept for [`reap`](Self::reap). A signal does not
    /// end the wait.
    ///
    /// For a multishot operation, this waits for its end. Its earlier completions come with the
    /// output, unless [`next`](Self::next) or [`reap`](Self::reap) took them: see
    /// [`Ended::remaining`](crate::op::Ended::remaining). So [`cancel`](Self::cancel) followed by a
    /// wait loses nothing.
    ///
    /// [Detached](Self::detach) operations that end meanwhile are dropped in here. If such a drop
    /// panics, the wait goes on.
    ///
    /// # Errors
    ///
    /// [`Unfinished`] gives the ticket back when the kernel cannot go on.
    ///
    /// # Panics
    ///
    /// When the ticket belongs to another ring.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::{Setup, op};
    ///
    /// let mut ring = Setup::new(8).build()?;
    /// let (reader, writer) = std::io::pipe()?;
    /// let read = ring.submit(op::Read::new(reader, [0; 5]))?;
    /// let write = ring.submit(op::Write::new(writer, "hello"))?;
    /// let outcome = ring.wait(read)?; // If the write ends first, its output is kept.
    /// assert_eq!((outcome.result?, outcome.buf), (5, *b"hello"));
    /// assert_eq!(ring.wait(write)?.result?, 5);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    #[track_caller]
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
    /// When the ticket belongs to another ring.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::{EnterCause, Setup, op};
    /// use std::time::Duration;
    ///
    /// let mut ring = Setup::new(8).build()?;
    /// # if !ring.raw().features().contains(annulus::sys::flags::Features::EXT_ARG) {
    /// #     return Ok(());
    /// # }
    /// let (reader, _writer) = std::io::pipe()?; // Nothing is ever written.
    /// let read = ring.submit(op::Read::new(reader, [0; 5]))?;
    /// match ring.wait_timeout(read, Duration::from_millis(1)) {
    ///     Ok(outcome) => println!("{} bytes", outcome.result?),
    ///     Err(late) if late.why.cause == EnterCause::TimedOut => {
    ///         ring.cancel(&late.ticket)?; // Or wait again.
    ///         ring.wait(late.ticket)?.result.expect_err("there was nothing to read");
    ///     }
    ///     Err(failed) => return Err(failed.into()),
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn wait_timeout<T: Redeem>(
        &mut self,
        ticket: T,
        timeout: Duration,
    ) -> Result<T::Output, Unfinished<T>> {
        self.wait_until(ticket, self.raw.now().checked_add(timeout))
    }

    #[track_caller]
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
            if let Err(why) = self.wait_turn(ticket.quiet(), until) {
                return match self.try_take(ticket) {
                    Ok(output) => Ok(output),
                    Err(ticket) => Err(Unfinished { ticket, why }),
                };
            }
            // Others may complete so fast that the kernel's timeout never starts.
            if until.is_some_and(|until| until <= self.raw.now()) {
                return self.try_take(ticket).map_err(|ticket| {
                    let why = EnterError::new(0, EnterCause::TimedOut);
                    Unfinished { ticket, why }
                });
            }
        }
    }

    /// One turn of a wait: enters the kernel if no completion is ready, then takes all that are.
    /// The end of the operation in slot `quiet` is not kept, because its ticket is about to be
    /// redeemed.
    pub(crate) fn wait_turn(
        &mut self,
        quiet: Option<u32>,
        until: Option<Instant>,
    ) -> Result<(), EnterError> {
        self.wait_turn_for(1, quiet, until)
    }

    /// As [`wait_turn`](Self::wait_turn), but waits for `want` completions, which must be able to
    /// come.
    pub(crate) fn wait_turn_for(
        &mut self,
        want: u32,
        quiet: Option<u32>,
        until: Option<Instant>,
    ) -> Result<(), EnterError> {
        self.serve();
        if self.raw.ready() == 0 {
            let left = until.map(|until| until.saturating_duration_since(self.raw.now()));
            let entered = match left {
                None if !self.slab.may_wait() => {
                    self.raw.submit_and_wait_unasked(want).map(|_| Woken::Ready)
                }
                None => self.enter_to_wait(want, &WaitOptions::FOREVER).map(|(_, woken)| woken),
                Some(left) => {
                    let options = WaitOptions::at_most(left);
                    self.enter_to_wait(want, &options).map(|(_, woken)| woken)
                }
            };
            match entered {
                // The kernel was asked just now for all that it holds back. After a drained
                // operation we ask once more, so that a worker thread has time to let go of it: see
                // `drained`.
                Ok(Woken::Ready) if !self.slab.may_wait() => {
                    self.take_ready(quiet);
                    return Ok(());
                }
                Ok(Woken::Ready) => {}
                Ok(Woken::TimedOut) => {
                    self.pull(quiet)?;
                    return Err(EnterError::new(0, EnterCause::TimedOut));
                }
                Err(error) => self.ignore_refusal(error)?,
            }
        } else if let Err(error) = self.raw.submit() {
            // Queued entries must start too, even if completions are ready.
            self.ignore_refusal(error)?;
        }
        self.pull(quiet)
    }

    /// Ignores an error after which entering again can help.
    pub(crate) fn ignore_refusal(&mut self, error: EnterError) -> Result<(), EnterError> {
        match error.cause {
            // A signal came, or completions must be taken first.
            EnterCause::Interrupted
            | EnterCause::CompletionsPending
            | EnterCause::ReadyFirst { .. } => Ok(()),
            // The pending count is wrong because of forged completions. The slots know better.
            EnterCause::NothingComing { .. } if self.slab.in_flight() > 0 => {
                self.raw.expect_others();
                Ok(())
            }
            _ => Err(error),
        }
    }
}

/// # Waiting for the next item
impl<U: Default> Ring<U> {
    /// Takes the next completion of a multishot operation, and waits for it if necessary. `None`:
    /// the operation has ended; redeem its ticket for the outcome.
    ///
    /// # Errors
    ///
    /// [`EnterError`] from waiting; nothing is lost.
    ///
    /// # Panics
    ///
    /// When the ticket belongs to another ring.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::Setup;
    /// use annulus::op::AcceptMulti;
    /// use std::net::{TcpListener, TcpStream};
    ///
    /// let mut ring = Setup::new(8).build()?;
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let _client = TcpStream::connect(listener.local_addr()?)?;
    /// let accept = ring.submit(AcceptMulti::new(listener))?;
    /// match ring.next(&accept)? {
    ///     Some(connection) => drop(TcpStream::from(connection?)),
    ///     None => println!("{:?}", ring.wait(accept)?.how), // It has ended: before Linux 5.19.
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn next<O: Multishot>(
        &mut self,
        ticket: &Ticket<O>,
    ) -> Result<Option<O::Item>, EnterError> {
        loop {
            match self.try_next(ticket)? {
                Next::Item(item) => return Ok(Some(item)),
                Next::Ended => return Ok(None),
                // Its end is kept, because an item that comes with it is taken first.
                Next::Pending => self.wait_turn(None, None)?,
            }
        }
    }

    /// As [`next`](Self::next), for at most `timeout`.
    ///
    /// # Errors
    ///
    /// [`EnterCause::TimedOut`] when the time is up, and [`EnterError`] from waiting; nothing is
    /// lost, and the operation continues.
    ///
    /// # Panics
    ///
    /// When the ticket belongs to another ring.
    #[track_caller]
    pub fn next_timeout<O: Multishot>(
        &mut self,
        ticket: &Ticket<O>,
        timeout: Duration,
    ) -> Result<Option<O::Item>, EnterError> {
        let until = self.raw.now().checked_add(timeout);
        loop {
            match self.try_next(ticket)? {
                Next::Item(item) => return Ok(Some(item)),
                Next::Ended => return Ok(None),
                // Other operations may complete so fast that the kernel's clock never ends a wait.
                Next::Pending if until.is_some_and(|until| until <= self.raw.now()) => {
                    return Err(EnterError::new(0, EnterCause::TimedOut));
                }
                Next::Pending => match self.wait_turn(None, until) {
                    Err(error) if error.cause == EnterCause::TimedOut => {}
                    turn => turn?,
                },
            }
        }
    }

    /// Takes the next completion of a multishot operation, if it has come. Never waits.
    ///
    /// # Errors
    ///
    /// [`EnterError`] from asking for completions that the kernel holds back; nothing is lost.
    ///
    /// # Panics
    ///
    /// When the ticket belongs to another ring.
    #[track_caller]
    pub fn try_next<O: Multishot>(
        &mut self,
        ticket: &Ticket<O>,
    ) -> Result<Next<O::Item>, EnterError> {
        self.check(ticket);
        if let Some(completion) = self.undelivered.next_of(&mut self.slab, ticket.slot()) {
            return Ok(Next::Item(O::item(completion)));
        }
        if self.slab.is_done(ticket) {
            return Ok(Next::Ended);
        }
        self.pull(None)?;
        Ok(match self.undelivered.next_of(&mut self.slab, ticket.slot()) {
            Some(completion) => Next::Item(O::item(completion)),
            None if self.slab.is_done(ticket) => Next::Ended,
            None => Next::Pending,
        })
    }
}
