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
    /// Its output is a result in a result. The outer one is the ring's: a
    /// [`Rejected`](crate::Rejected), if it takes no operation any more. The inner one is the
    /// time's own: [`Expired`](crate::op::TimeoutEnd::Expired), or `ECANCELED` where a cancel of
    /// everything has found it. So one that is awaited ends with `??`, and `block_on` puts an error
    /// of the wait around both.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::Setup;
    /// use annulus::future::Reactor;
    /// use annulus::op::TimeoutEnd;
    /// use std::time::Duration;
    ///
    /// let reactor = Reactor::new(Setup::new(8).build_for()?);
    /// let sleep = reactor.sleep(Duration::from_millis(1));
    /// let run = reactor.block_on(sleep)?; // The wait has not failed,
    /// let ended = run?; // nor has the ring refused the timeout,
    /// assert_eq!(ended?, TimeoutEnd::Expired); // nor was that cancelled.
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
