//! A future that turns the reactor whenever its ring has completions: the task that another
//! executor runs for it.
//!
//! ```text
//!   polled ─► turn ─► is the descriptor readable? ── yes ──► turn ..
//!     ▲                   └─ no: pending
//!     └── woken by the descriptor, or by a task that pushed an entry
//! ```

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::reactor::Reactor;

/// Turns at one poll, after which other tasks of the executor come first.
const MOST: u32 = 16;

/// Turns a reactor: see [`Reactor::drive`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct Drive<F> {
    reactor: Reactor,
    readable: F,
}

impl<F> fmt::Debug for Drive<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drive").finish_non_exhaustive()
    }
}

impl Reactor {
    /// A future that turns the reactor, for a task of another executor on the same thread. It ends
    /// only with an error: of the ring, or of `readable`. While it does not run, no operation of
    /// the reactor goes on.
    ///
    /// `readable` says whether the [descriptor](Self::fd) has become readable since it last said
    /// so, and wakes the task when it does: what an executor offers for a descriptor of its user's.
    ///
    /// # Example
    ///
    /// With smol's async-io:
    ///
    /// ```
    /// use annulus::future::Reactor;
    /// use annulus::{Setup, op};
    /// use async_io::Async;
    /// use std::future::{Future, poll_fn};
    /// use std::pin::pin;
    ///
    /// let reactor = Reactor::new(Setup::plain(8).build_for()?);
    /// let fd = Async::new_nonblocking(reactor.fd()?)?;
    /// let mut driver = pin!(reactor.drive(move |context| fd.poll_readable(context)));
    /// let mut nop = pin!(reactor.run(op::Nop));
    /// // An executor would poll the driver as a task of its own.
    /// let both = poll_fn(|context| {
    ///     assert!(driver.as_mut().poll(context).is_pending());
    ///     nop.as_mut().poll(context)
    /// });
    /// async_io::block_on(both)??;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn drive<F>(&self, readable: F) -> Drive<F>
    where
        F: FnMut(&mut Context<'_>) -> Poll<io::Result<()>> + Unpin,
    {
        Drive { reactor: self.clone(), readable }
    }
}

impl<F> Future for Drive<F>
where
    F: FnMut(&mut Context<'_>) -> Poll<io::Result<()>> + Unpin,
{
    type Output = io::Error;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Error> {
        let this = &mut *self;
        let (reactor, readable) = (&this.reactor, &mut this.readable);
        // First, so that what a turn wakes, and whoever pushes then, calls for another one.
        reactor.driven_by(context.waker());
        for _ in 0..MOST {
            if let Err(error) = reactor.turn(0) {
                return Poll::Ready(error.into());
            }
            if reactor.has_pushed() || reactor.has_work() {
                continue;
            }
            match readable(context) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(error),
                Poll::Pending => return Poll::Pending,
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<F> Drop for Drive<F> {
    /// Another driver, if there is one, goes on.
    fn drop(&mut self) {
        self.reactor.call_drivers();
    }
}
