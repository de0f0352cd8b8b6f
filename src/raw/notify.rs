//! Registering the ring's descriptor for speed, and an eventfd that completions signal.
//!
//! | call | saves or gives | lasts |
//! |---|---|---|
//! | [`RawRing::register_ring_fd`] | saves the look-up of the descriptor at each enter | until unregistered or dropped |
//! | [`RawRing::register_eventfd`] | a signal at each completion, for an existing event loop | until unregistered or dropped |
//!
//! The ring's descriptor itself can be polled too (`AsFd`): it is readable when completions are
//! ready. Both signals are hints: they may come late, several at once, or without a completion, so
//! always look into the ring. With `DEFER_TASKRUN`, the completions behind a hint appear only after
//! the kernel is asked for them, as [`RawRing::peek`] does.

use std::os::fd::{AsFd, BorrowedFd};

use annulus_sys::errno::Errno;
use annulus_sys::flags::CqRingFlags;

use crate::raw::RawRing;
use crate::raw::register;
use crate::raw::register::Signals;

/// # How it is named, and how it notifies
impl RawRing {
    /// Registers the ring's descriptor with this thread, so that entering the kernel does not have
    /// to look it up. A thread has 16 slots for this. Since Linux 5.18.
    ///
    /// # Errors
    ///
    /// `EEXIST` if the ring is registered already; `EPERM` inside a
    /// [`SendRawRing`](crate::SendRawRing), whose next thread would not know the index, and of a
    /// ring that was swapped out of one. From the kernel: `EINVAL` before Linux 5.18, and `EBUSY`
    /// if all slots are taken.
    #[doc(alias = "IORING_REGISTER_RING_FDS")]
    pub fn register_ring_fd(&mut self) -> Result<(), Errno> {
        if self.driver().registered().is_some() {
            return Err(Errno::new(libc::EEXIST));
        }
        if self.driver().moves() {
            return Err(Errno::new(libc::EPERM));
        }
        let index = register::name_ring(self.base())?;
        self.driver_mut().set_registered(Some(index));
        Ok(())
    }

    /// Undoes [`register_ring_fd`](Self::register_ring_fd), if the ring is registered. Dropping the
    /// ring does that too.
    ///
    /// # Errors
    ///
    /// The kernel's error, or `ECHILD` in a forked child; then the ring stays registered.
    #[doc(alias = "IORING_UNREGISTER_RING_FDS")]
    pub fn unregister_ring_fd(&mut self) -> Result<(), Errno> {
        if let Some(index) = self.driver().registered() {
            register::forget_ring(self.base(), index)?;
            self.driver_mut().set_registered(None);
        }
        Ok(())
    }

    /// Signals `eventfd` at each completion. The kernel keeps the file open. A ring has at most one
    /// eventfd. Since Linux 5.2: `IORING_REGISTER_EVENTFD` in `io_uring_register(2)`.
    ///
    /// # Errors
    ///
    /// From the kernel: `EBUSY` if an eventfd is registered already, `EINVAL` if the file is not an
    /// eventfd.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::{Setup, prep};
    /// use std::fs::File;
    /// use std::io::Read;
    /// use std::os::fd::FromRawFd;
    ///
    /// // SAFETY: a new descriptor, which nothing else owns.
    /// let mut eventfd = unsafe { File::from_raw_fd(libc::eventfd(0, libc::EFD_CLOEXEC)) };
    /// let mut ring = Setup::plain(4).build_raw()?;
    /// let nop = |ring: &mut annulus::RawRing| {
    ///     // SAFETY: a NOP points to nothing (OP1).
    ///     unsafe { ring.push(prep::nop()) }.expect("room");
    ///     ring.submit_and_wait(1)
    /// };
    /// ring.register_eventfd(&eventfd)?;
    /// ring.pause_eventfd()?; // A shared reference is enough for each of the switches.
    /// nop(&mut ring)?;
    /// ring.resume_eventfd()?;
    /// nop(&mut ring)?;
    /// let mut count = [0; 8];
    /// eventfd.read_exact(&mut count)?;
    /// assert_eq!(u64::from_ne_bytes(count), 1);
    /// ring.unregister_eventfd()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "IORING_REGISTER_EVENTFD")]
    pub fn register_eventfd(&self, eventfd: impl AsFd) -> Result<(), Errno> {
        register::notify(self.base(), eventfd.as_fd(), Signals::All)
    }

    /// Signals `eventfd` only at completions that a worker thread posted, and not at those that
    /// were posted during a submit. Since Linux 5.6.
    ///
    /// # Errors
    ///
    /// As [`register_eventfd`](Self::register_eventfd).
    #[doc(alias = "IORING_REGISTER_EVENTFD_ASYNC")]
    pub fn register_eventfd_async(&self, eventfd: impl AsFd) -> Result<(), Errno> {
        register::notify(self.base(), eventfd.as_fd(), Signals::Async)
    }

    /// Unregisters the eventfd.
    ///
    /// # Errors
    ///
    /// From the kernel: `ENXIO` if no eventfd is registered.
    #[doc(alias = "IORING_UNREGISTER_EVENTFD")]
    pub fn unregister_eventfd(&self) -> Result<(), Errno> {
        register::silence(self.base())
    }

    /// Pauses the signals without a system call, until [`resume_eventfd`](Self::resume_eventfd).
    /// Since Linux 5.8.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` before Linux 5.8, whose rings have no flag for it; `ECHILD` in a forked child.
    #[doc(alias = "IORING_CQ_EVENTFD_DISABLED")]
    pub fn pause_eventfd(&self) -> Result<(), Errno> {
        self.set_cq_flags(CqRingFlags::EVENTFD_DISABLED)
    }

    /// Lets completions signal the eventfd again. Completions that came while it was paused do not
    /// signal it: look into the ring after this call. A completion that comes at that moment
    /// signals, or is seen.
    ///
    /// # Errors
    ///
    /// As [`pause_eventfd`](Self::pause_eventfd).
    pub fn resume_eventfd(&self) -> Result<(), Errno> {
        self.set_cq_flags(CqRingFlags::empty())
    }

    fn set_cq_flags(&self, flags: CqRingFlags) -> Result<(), Errno> {
        if !self.is_here() {
            return Err(Errno::new(libc::ECHILD));
        }
        if self.rings().halves().1.set_flags(flags) {
            Ok(())
        } else {
            Err(Errno::new(libc::EOPNOTSUPP))
        }
    }
}

impl AsFd for RawRing {
    /// The ring's descriptor, which polls as readable when completions are ready.
    ///
    /// # Panics
    ///
    /// If the ring was set up with `REGISTERED_FD_ONLY`, and so has no descriptor. [`RawRing::fd`]
    /// does not panic.
    #[track_caller]
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd().expect("a ring with REGISTERED_FD_ONLY has no descriptor: see `RawRing::fd`")
    }
}
