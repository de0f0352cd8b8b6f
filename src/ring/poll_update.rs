//! Changing the events of a poll that completes once, where the kernel does not forget it.
//!
//! | Linux | an update to events that are there already |
//! |---|---|
//! | 5.13 to 5.19 | completes the poll |
//! | 6.0 to 6.18 | the poll never completes, and nothing finds it any more; mended in later releases of these series, which do not say so |
//! | since 6.19 | completes the poll |
//!
//! A poll that the kernel has forgotten would keep its slot, and the end of its ring would wait for
//! it. So on kernels of the second row, mended or not, the update is refused.

use crate::lease::ticket::{Rejection, Ticket};
use crate::op::{Poll, PollEvents, PollUpdate};
use crate::raw::capabilities;
use crate::ring::Ring;

/// Why a kernel of 6.0 to 6.18 gets no such update.
const FORGETS: Rejection = Rejection::Invalid {
    reason: "Linux 6.0 to 6.18 may forget a single-shot poll that is updated: use a `PollMulti`, \
             or remove the poll and submit another",
};

/// # Changing what is in flight
impl<U: Default> Ring<U> {
    /// Makes the operation that changes the events of a [`Poll`], to be submitted like any other.
    /// If one of the new events is there already, the poll completes at once. For a
    /// [`PollMulti`](crate::op::PollMulti), which every kernel since 5.13 can change, use
    /// [`PollUpdate::new`].
    ///
    /// The first call asks the kernel what it knows, with up to two system calls.
    ///
    /// # Errors
    ///
    /// [`Rejection::Invalid`] on Linux 6.0 to 6.18, and where the kernel cannot be asked: there the
    /// poll might never complete.
    ///
    /// # Panics
    ///
    /// When the ticket belongs to another ring.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::Setup;
    /// use annulus::op::{Poll, PollEvents, UpdateOutcome};
    /// use std::os::unix::net::UnixStream;
    ///
    /// let mut ring = Setup::new(4).build()?;
    /// let (ours, _theirs) = UnixStream::pair()?;
    /// let poll = ring.submit(Poll::new(ours, PollEvents::IN))?; // Nothing comes.
    /// if let Ok(update) = ring.poll_update(&poll, PollEvents::OUT) {
    ///     let update = ring.submit(update)?;
    ///     if let UpdateOutcome::Updated = ring.wait(update)? { // Linux 5.13
    ///         assert!(ring.wait(poll)?.result?.contains(PollEvents::OUT));
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "io_uring_prep_poll_update")]
    pub fn poll_update<F>(
        &mut self,
        poll: &Ticket<Poll<F>>,
        events: PollEvents,
    ) -> Result<PollUpdate, Rejection> {
        self.check(poll);
        let Self { raw, internal, .. } = self;
        let ask = || capabilities::keeps_updated_polls(raw.base());
        if *internal.keeps_polls.get_or_insert_with(ask) {
            Ok(PollUpdate::single(poll, events))
        } else {
            Err(FORGETS)
        }
    }
}
