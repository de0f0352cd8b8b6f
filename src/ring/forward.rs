//! Counters, and methods that the safe ring passes on to the raw ring.
//!
//! | call | for |
//! |---|---|
//! | [`Ring::in_flight`], [`Ring::vacant`], [`Ring::stats`] | counters |
//! | [`Ring::flags`], [`Ring::features`] | what the ring is, and what the kernel can do |
//! | [`Ring::register_ring_fd`] | cheaper enters |
//! | [`Ring::register_eventfd`], `AsFd` | use inside another event loop |
//!
//! The raw ring itself is lent for reading only: a caller who swapped it for another would mix up
//! their completions (OP2).

use std::os::fd::{AsFd, BorrowedFd};

use annulus_sys::errno::Errno;
use annulus_sys::flags::{Features, SetupFlags};

use crate::raw::inspect::Stats;
use crate::ring::Ring;

/// # Counters, and what this ring is
impl<U: Default> Ring<U> {
    /// How many operations are in flight.
    pub fn in_flight(&self) -> u32 {
        self.slab.in_flight()
    }

    /// How many more operations can be submitted before one must be redeemed.
    pub fn vacant(&self) -> u32 {
        self.slab.vacant()
    }

    /// The operations that have ended and whose output was not taken: the number of each slot, and
    /// the user value. A dropped [`Ticket`](crate::Ticket) keeps its slot, and its operation stays
    /// in this list: so it shows which tickets were lost. Looks at every slot.
    ///
    /// ```
    /// use annulus::op::Nop;
    /// use annulus::{Ring, Setup};
    ///
    /// let mut ring: Ring<&str> = Setup::new(8).build_for()?;
    /// let lost = ring.submit_for(Nop, "the first")?;
    /// let kept = ring.submit_for(Nop, "the second")?;
    /// ring.submit_and_wait(2)?;
    /// drop(lost);
    /// ring.reap(|_| ())?;
    /// ring.wait(kept)??;
    /// assert_eq!(ring.unredeemed().map(|(_, user)| *user).collect::<Vec<_>>(), ["the first"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn unredeemed(&mut self) -> impl Iterator<Item = (u32, &U)> {
        self.slab.unredeemed()
    }

    /// How many completions named no operation in flight: 0, unless completions are forged.
    pub fn stale(&self) -> u64 {
        self.slab.stale()
    }

    /// Counters of what the ring has done so far. Enters per entry should be far below one.
    pub fn stats(&self) -> Stats {
        self.raw.stats()
    }

    /// How the ring was set up.
    pub fn flags(&self) -> SetupFlags {
        self.raw.flags()
    }

    /// The io_uring features of this kernel.
    pub fn features(&self) -> Features {
        self.raw.features()
    }
}

/// # Its descriptor
impl<U: Default> Ring<U> {
    /// As [`RawRing::register_ring_fd`](crate::RawRing::register_ring_fd): entering no longer looks
    /// up the descriptor. Since Linux 5.18.
    ///
    /// # Errors
    ///
    /// `EEXIST` when it is already registered; and the kernel's errors: `EINVAL` before Linux 5.18,
    /// `EBUSY` when this thread has registered 16 rings.
    #[doc(alias = "IORING_REGISTER_RING_FDS")]
    pub fn register_ring_fd(&mut self) -> Result<(), Errno> {
        self.raw.register_ring_fd()
    }

    /// Signals `eventfd` at each completion. The kernel keeps the file open. One per ring.
    ///
    /// # Errors
    ///
    /// The kernel's: `EBUSY` when one is already registered, `EINVAL` when `eventfd` is not an
    /// eventfd.
    #[doc(alias = "IORING_REGISTER_EVENTFD")]
    pub fn register_eventfd(&mut self, eventfd: impl AsFd) -> Result<(), Errno> {
        self.raw.register_eventfd(eventfd)
    }

    /// As [`register_eventfd`](Self::register_eventfd), but only for operations that did not
    /// complete during submission: those that a worker thread or task work completes. Since Linux
    /// 5.6.
    ///
    /// # Errors
    ///
    /// The kernel's: `EBUSY` when one is already registered, `EINVAL` when `eventfd` is not an
    /// eventfd.
    #[doc(alias = "IORING_REGISTER_EVENTFD_ASYNC")]
    pub fn register_eventfd_async(&mut self, eventfd: impl AsFd) -> Result<(), Errno> {
        self.raw.register_eventfd_async(eventfd)
    }

    /// Stops signalling the eventfd.
    ///
    /// # Errors
    ///
    /// The kernel's: `ENXIO` when no eventfd was registered.
    #[doc(alias = "IORING_UNREGISTER_EVENTFD")]
    pub fn unregister_eventfd(&mut self) -> Result<(), Errno> {
        self.raw.unregister_eventfd()
    }
}

impl<U: Default> AsFd for Ring<U> {
    /// The ring's descriptor, readable when completions are ready. With `DEFER_TASKRUN`,
    /// completions appear only when asked for; [`Ring::reap`] asks.
    ///
    /// # Panics
    ///
    /// With `REGISTERED_FD_ONLY`, because such a ring has no descriptor.
    #[track_caller]
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.raw.as_fd()
    }
}
