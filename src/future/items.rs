//! A stream of the items of a multishot operation, and then its end.
//!
//! ```text
//!   Idle(op) ── submit ──► Flying(ticket) ── item ── item ── ended ──► End(output)
//! ```

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;

use super::reactor::{Reactor, Refused};
use super::room::Place;
use crate::lease::ticket::{Rejected, Ticket};
use crate::op::Multishot;

/// The items of an operation as a stream: see [`Reactor::items`].
#[must_use = "a stream does nothing unless it is polled"]
pub struct Items<O: Multishot + 'static> {
    reactor: Reactor,
    state: State<O>,
}

enum State<O: Multishot> {
    /// Not submitted. The task may have a place in the line for a slot.
    Idle(O, Option<Place>),
    Flying(Ticket<O>),
    End(Result<O::Output, Rejected<O>>),
    Over,
}

/// The operation lies in the ring while it runs, so the stream may move.
impl<O: Multishot + 'static> Unpin for Items<O> {}

impl<O: Multishot + 'static> fmt::Debug for Items<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Idle(..) => "idle",
            State::Flying(_) => "in flight",
            State::End(_) => "ended",
            State::Over => "over",
        };
        f.debug_struct("Items").field("state", &state).finish()
    }
}

impl Reactor {
    /// The items of `op` as a stream. It is submitted when the stream is first polled.
    ///
    /// The kernel ends a multishot operation when it likes: a full completion queue, no buffer
    /// left, an error. The stream is over then, and [`end`](Items::end) says why.
    ///
    /// # Cancellation
    ///
    /// Dropping the stream cancels the operation, and drops the items that came and were not taken.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::future::Reactor;
    /// use annulus::{Setup, op};
    /// use std::net::{TcpListener, TcpStream};
    ///
    /// let reactor = Reactor::new(Setup::new(8).build_for()?);
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let _client = TcpStream::connect(listener.local_addr()?)?;
    /// let mut accepted = reactor.items(op::AcceptMulti::new(listener));
    /// let connection = reactor.block_on(accepted.next())?.expect("an item")?;
    /// let _stream = TcpStream::from(connection);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn items<O: Multishot + 'static>(&self, op: O) -> Items<O> {
        Items { reactor: self.clone(), state: State::Idle(op, None) }
    }
}

impl<O: Multishot + 'static> Items<O> {
    /// The next item, or `None` when the operation has ended.
    pub async fn next(&mut self) -> Option<O::Item> {
        poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    /// Asks the kernel to cancel the operation. What came before still comes, and then the end.
    pub fn cancel(&mut self) {
        if let State::Flying(ticket) = &self.state {
            self.reactor.cancel(ticket);
        }
    }

    /// How the operation ended, with all that it owned; or the operation itself, if the ring
    /// refused it for good. `None` before the stream is over: that cancels the operation.
    pub fn end(mut self) -> Option<Result<O::Output, Rejected<O>>> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::End(end) => Some(end),
            before => {
                self.state = before;
                None
            }
        }
    }
}

impl<O: Multishot + 'static> Stream for Items<O> {
    type Item = O::Item;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<O::Item>> {
        let this = &mut *self;
        this.reactor.check_free();
        this.state = match std::mem::replace(&mut this.state, State::Over) {
            State::Idle(op, place) => match this.reactor.submit(op, place, context) {
                Ok(ticket) => State::Flying(ticket),
                Err(Refused::Later(op, place)) => State::Idle(op, place),
                Err(Refused::Never(rejected)) => State::End(Err(rejected)),
            },
            State::Flying(ticket) => {
                if let Some(completion) = this.reactor.next_item(&ticket) {
                    this.state = State::Flying(ticket);
                    return Poll::Ready(Some(O::item(completion)));
                }
                match this.reactor.output(ticket, context) {
                    Ok(end) => State::End(Ok(end)),
                    Err(ticket) => State::Flying(ticket),
                }
            }
            over => over,
        };
        match this.state {
            State::End(_) | State::Over => Poll::Ready(None),
            State::Idle(..) | State::Flying(_) => Poll::Pending,
        }
    }
}

impl<O: Multishot + 'static> Drop for Items<O> {
    fn drop(&mut self) {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Flying(ticket) => self.reactor.give_up(ticket),
            State::Idle(_, Some(place)) => self.reactor.leave(place),
            _ => {}
        }
    }
}
