//! Time: a sleep, and a limit on another future.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use super::reactor::Reactor;
use super::run::Run;
use crate::op::Timeout;

impl Reactor {
    /// A future that ends after `span`, counted from its first poll, or from when it got a slot.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::Setup;
    /// use annulus::future::Reactor;
    /// use std::time::Duration;
    ///
    /// let reactor = Reactor::new(Setup::new(8).build_for()?);
    /// reactor.block_on(reactor.sleep(Duration::from_millis(1)))???;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn sleep(&self, span: Duration) -> Run<Timeout> {
        self.run(Timeout::new(span))
    }

    /// The output of `future`; or `None` if it takes longer than `span`, and is dropped. The time
    /// takes a slot of the ring, before `future` can take any.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::future::Reactor;
    /// use annulus::{Setup, op};
    /// use std::time::Duration;
    ///
    /// let reactor = Reactor::new(Setup::new(8).build_for()?);
    /// let (reader, _writer) = std::io::pipe()?; // Nothing is ever written.
    /// let read = reactor.run(op::Read::new(reader, [0; 8]));
    /// let timed = reactor.block_on(reactor.timeout(Duration::from_millis(1), read))?;
    /// assert!(timed.is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn timeout<F: Future>(&self, span: Duration, future: F) -> Option<F::Output> {
        let (mut future, mut sleep) = (pin!(future), self.sleep(span));
        let mut begun = false;
        let mut over = false;
        poll_fn(|context| {
            // First only once: so that what it limits cannot keep it from a slot.
            if !begun {
                begun = true;
                over = pin!(&mut sleep).poll(context).is_ready();
            }
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                return Poll::Ready(Some(output));
            }
            over = over || pin!(&mut sleep).poll(context).is_ready();
            if over { Poll::Ready(None) } else { Poll::Pending }
        })
        .await
    }
}
