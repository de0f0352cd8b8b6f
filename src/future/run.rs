//! A future of one operation: the first poll submits it, its end wakes the task, a drop cancels it.
//!
//! ```text
//!   Idle(op) ── submit ──► Flying(ticket) ── ended ──► the output
//!                               └── dropped ──► cancelled, and detached
//! ```

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::reactor::{Reactor, Refused};
use super::room::Place;
use crate::lease::ticket::{Rejected, Ticket};
use crate::op::Op;

/// An operation as a future: see [`Reactor::run`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct Run<O: Op + 'static> {
    reactor: Reactor,
    state: State<O>,
}

enum State<O> {
    /// Not submitted. The task may have a place in the line for a slot.
    Idle(O, Option<Place>),
    Flying(Ticket<O>),
    Over,
}

/// The operation lies in the ring while it runs, so the future may move.
impl<O: Op + 'static> Unpin for Run<O> {}

impl<O: Op + 'static> fmt::Debug for Run<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Idle(..) => "idle",
            State::Flying(_) => "in flight",
            State::Over => "over",
        };
        f.debug_struct("Run").field("state", &state).finish()
    }
}

impl Reactor {
    /// A future of `op`. It is submitted when the future is first polled, and waits for a free slot
    /// if there is none.
    ///
    /// The output is that of the operation, with everything that it owned. For a multishot
    /// operation that is its end, together with all items: see [`items`](Self::items) to have them
    /// one by one.
    ///
    /// # Errors
    ///
    /// [`Rejected`] gives the operation back, if the ring refuses it for good: see
    /// [`Rejection`](crate::Rejection).
    ///
    /// # Cancellation
    ///
    /// See the [module](super#cancellation).
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::future::Reactor;
    /// use annulus::{Setup, op};
    /// use std::fs::File;
    ///
    /// let reactor = Reactor::new(Setup::new(8).build_for()?);
    /// let file = File::open("/proc/self/exe")?;
    /// let read = op::Read::new(file, vec![0; 4]).at(0);
    /// let outcome = reactor.block_on(reactor.run(read))??;
    /// assert_eq!((outcome.result?, &outcome.buf[..]), (4, &b"\x7fELF"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn run<O: Op + 'static>(&self, op: O) -> Run<O> {
        Run { reactor: self.clone(), state: State::Idle(op, None) }
    }
}

impl<O: Op + 'static> Run<O> {
    /// Asks the kernel to cancel the operation. The future then ends soon, with the output: the
    /// operation may still have succeeded. Does nothing before the first poll, or after the end.
    pub fn cancel(&mut self) {
        if let State::Flying(ticket) = &self.state {
            self.reactor.cancel(ticket);
        }
    }
}

impl<O: Op + 'static> Future for Run<O> {
    type Output = Result<O::Output, Rejected<O>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        this.reactor.check_free();
        this.state = match std::mem::replace(&mut this.state, State::Over) {
            State::Idle(op, place) => match this.reactor.submit(op, place, context) {
                Ok(ticket) => State::Flying(ticket),
                Err(Refused::Later(op, place)) => State::Idle(op, place),
                Err(Refused::Never(rejected)) => return Poll::Ready(Err(rejected)),
            },
            State::Flying(ticket) => match this.reactor.output(ticket, context) {
                Ok(output) => return Poll::Ready(Ok(output)),
                Err(ticket) => State::Flying(ticket),
            },
            State::Over => panic!("polled after it was ready"),
        };
        Poll::Pending
    }
}

impl<O: Op + 'static> Drop for Run<O> {
    fn drop(&mut self) {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Flying(ticket) => self.reactor.give_up(ticket),
            State::Idle(_, Some(place)) => self.reactor.leave(place),
            _ => {}
        }
    }
}
