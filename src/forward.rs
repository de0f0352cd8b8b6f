//! What the safe face passes on to the raw one underneath.
//!
//! | call | |
//! |---|---|
//! | [`Ring::stats`], [`Ring::features`] | what it has done, what it can do |
//! | [`Ring::register_ring_fd`] | makes entering cheaper |
//! | [`Ring::register_eventfd`], `AsFd` | for an event loop that exists already |
//!
//! The raw ring itself is lent for reading only: whoever could swap it for another would mix up
//! whose completions are whose (OP2).

use std::os::fd::{AsFd, BorrowedFd};

use annulus_sys::errno::Errno;
use annulus_sys::flags::{Features, SetupFlags};

use crate::inspect::Stats;
use crate::ring::Ring;

impl<U: Default> Ring<U> {
    /// What the ring has done so far: enters per entry should be far below one.
    pub fn stats(&self) -> Stats {
        self.raw.stats()
    }

    /// How the ring was set up.
    pub fn flags(&self) -> SetupFlags {
        self.raw.flags()
    }

    /// What this kernel's rings can do.
    pub fn features(&self) -> Features {
        self.raw.features()
    }

    /// As [`RawRing::register_ring_fd`](crate::RawRing::register_ring_fd): entering needs no
    /// look-up of the descriptor. Since Linux 5.18.
    ///
    /// # Errors
    ///
    /// `EEXIST` when it is registered already; and the kernel's: `EINVAL` before Linux 5.18,
    /// `EBUSY` when this thread has 16 already.
    #[doc(alias = "IORING_REGISTER_RING_FDS")]
    pub fn register_ring_fd(&mut self) -> Result<(), Errno> {
        self.raw.register_ring_fd()
    }

    /// Signals `eventfd` at each completion. The kernel keeps the file open. One per ring.
    ///
    /// # Errors
    ///
    /// The kernel's: `EBUSY` when one is registered, `EINVAL` when it is no eventfd.
    #[doc(alias = "IORING_REGISTER_EVENTFD")]
    pub fn register_eventfd(&mut self, eventfd: impl AsFd) -> Result<(), Errno> {
        self.raw.register_eventfd(eventfd)
    }

    /// As [`register_eventfd`](Self::register_eventfd), but only for what did not complete within
    /// the submit: what a worker thread completes, or work that was done later. Since Linux 5.6.
    ///
    /// # Errors
    ///
    /// The kernel's: `EBUSY` when one is registered, `EINVAL` when it is no eventfd.
    #[doc(alias = "IORING_REGISTER_EVENTFD_ASYNC")]
    pub fn register_eventfd_async(&mut self, eventfd: impl AsFd) -> Result<(), Errno> {
        self.raw.register_eventfd_async(eventfd)
    }

    /// Signals nothing any more.
    ///
    /// # Errors
    ///
    /// The kernel's: `ENXIO` when nothing was registered.
    #[doc(alias = "IORING_UNREGISTER_EVENTFD")]
    pub fn unregister_eventfd(&mut self) -> Result<(), Errno> {
        self.raw.unregister_eventfd()
    }
}

impl<U: Default> AsFd for Ring<U> {
    /// The ring's descriptor, readable when completions are ready. With `DEFER_TASKRUN` they appear
    /// only once asked for: [`Ring::reap`] does.
    ///
    /// # Panics
    ///
    /// With `REGISTERED_FD_ONLY`, which has none.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.raw.as_fd()
    }
}
