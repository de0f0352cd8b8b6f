//! Naming a ring for speed, and being told by it.
//!
//! | | saves or gives | lasts |
//! |---|---|---|
//! | [`RawRing::register_ring_fd`] | the look-up of the descriptor at each enter | until unregistered or dropped |
//! | [`RawRing::register_eventfd`] | a signal at each completion, for an event loop that exists already | until unregistered or dropped |
//!
//! The ring's descriptor itself can be polled too (`AsFd`): it is readable when completions are
//! ready. Both are hints: they may come late, together, or for nothing, so look into the ring. And
//! with `DEFER_TASKRUN` the completions behind a hint appear only once asked for: [`RawRing::peek`]
//! does.

use std::os::fd::{AsFd, BorrowedFd};

use annulus_sys::errno::Errno;
use annulus_sys::flags::CqRingFlags;

use crate::raw::RawRing;
use crate::register::{self, Signals};

impl RawRing {
    /// Registers the ring's descriptor with this thread, so that entering needs no look-up of it.
    /// There are 16 places per thread. Since Linux 5.18.
    ///
    /// # Errors
    ///
    /// `EEXIST` when it is registered already; and the kernel's: `EINVAL` before Linux 5.18,
    /// `EBUSY` when all places are taken.
    #[doc(alias = "IORING_REGISTER_RING_FDS")]
    pub fn register_ring_fd(&mut self) -> Result<(), Errno> {
        if self.gate().registered().is_some() {
            return Err(Errno::new(libc::EEXIST));
        }
        let index = register::name_ring(self.base())?;
        self.gate_mut().set_registered(Some(index));
        Ok(())
    }

    /// Undoes [`register_ring_fd`](Self::register_ring_fd), if it is registered. Dropping the ring
    /// does, too.
    ///
    /// # Errors
    ///
    /// The kernel's, and `ECHILD` in a forked child; the ring stays registered then.
    #[doc(alias = "IORING_UNREGISTER_RING_FDS")]
    pub fn unregister_ring_fd(&mut self) -> Result<(), Errno> {
        if let Some(index) = self.gate().registered() {
            register::forget_ring(self.base(), index)?;
            self.gate_mut().set_registered(None);
        }
        Ok(())
    }

    /// Signals `eventfd` at each completion. The kernel keeps the file open. One per ring.
    ///
    /// # Errors
    ///
    /// The kernel's: `EBUSY` when one is registered, `EINVAL` when it is no eventfd.
    #[doc(alias = "IORING_REGISTER_EVENTFD")]
    pub fn register_eventfd(&mut self, eventfd: impl AsFd) -> Result<(), Errno> {
        register::notify(self.base(), eventfd.as_fd(), Signals::All)
    }

    /// Signals `eventfd` only at completions that a worker thread of the kernel brought, not at
    /// those that came within a submit. Since Linux 5.6.
    ///
    /// # Errors
    ///
    /// As [`register_eventfd`](Self::register_eventfd).
    #[doc(alias = "IORING_REGISTER_EVENTFD_ASYNC")]
    pub fn register_eventfd_async(&mut self, eventfd: impl AsFd) -> Result<(), Errno> {
        register::notify(self.base(), eventfd.as_fd(), Signals::Async)
    }

    /// Unregisters the eventfd.
    ///
    /// # Errors
    ///
    /// The kernel's: `ENXIO` when none is registered.
    #[doc(alias = "IORING_UNREGISTER_EVENTFD")]
    pub fn unregister_eventfd(&mut self) -> Result<(), Errno> {
        register::silence(self.base())
    }

    /// Stops the signals for a while, without a system call: completions stay silent until
    /// [`resume_eventfd`](Self::resume_eventfd). Since Linux 5.8.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` before Linux 5.8, whose rings have no word for it; `ECHILD` in a forked child.
    #[doc(alias = "IORING_CQ_EVENTFD_DISABLED")]
    pub fn pause_eventfd(&mut self) -> Result<(), Errno> {
        self.set_cq_flags(CqRingFlags::EVENTFD_DISABLED)
    }

    /// Lets completions signal the eventfd again. What came in between signals nothing: look into
    /// the ring.
    ///
    /// # Errors
    ///
    /// As [`pause_eventfd`](Self::pause_eventfd).
    pub fn resume_eventfd(&mut self) -> Result<(), Errno> {
        self.set_cq_flags(CqRingFlags::empty())
    }

    fn set_cq_flags(&mut self, flags: CqRingFlags) -> Result<(), Errno> {
        if !self.is_here() {
            return Err(Errno::new(libc::ECHILD));
        }
        if self.rings_mut().cq().set_flags(flags) {
            Ok(())
        } else {
            Err(Errno::new(libc::EOPNOTSUPP))
        }
    }
}

impl AsFd for RawRing {
    /// The ring's descriptor, which is readable when completions are ready.
    ///
    /// # Panics
    ///
    /// With `REGISTERED_FD_ONLY`, where there is none. [`RawRing::fd`] does not panic.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd().expect("a ring with REGISTERED_FD_ONLY has no descriptor: see `RawRing::fd`")
    }
}
