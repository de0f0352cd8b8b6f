//! The ring's index among the registered rings of a thread.
//!
//! ```text
//!   Submitter { index: 3 } ─┐
//!   Submitter { index: 3 } ─┴─► RingFds: thread 1 has index 3, twice      its drop gives it back
//! ```
//!
//! A thread has 16 such places, and a place keeps the ring open. So the ring remembers them: it
//! takes one for a thread, however many submitters ask, and gives it back when the last of them
//! does, or when the ring is dropped. The kernel gives those of other threads back when they end.
#![allow(unsafe_code, reason = "registers the ring's descriptor")]

use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use annulus_sys::abi_register::RsrcUpdate;
use annulus_sys::errno::Errno;
use annulus_sys::opcode::RegisterOp;
use annulus_sys::rings::Base;
use annulus_sys::syscall::{RingFd, Thread, this_thread};

use super::Submitter;

/// The indices of a ring.
#[derive(Debug)]
pub(super) struct RingFds {
    taken: Mutex<Vec<Taken>>,
    base: Arc<Base>,
}

/// An index on one thread, and how many submitters use it.
#[derive(Debug)]
struct Taken {
    thread: Thread,
    index: u32,
    users: u32,
}

impl RingFds {
    pub(super) fn new(base: Arc<Base>) -> Self {
        Self { taken: Mutex::new(Vec::new()), base }
    }

    /// The index on this thread, which is registered if it has none.
    fn take(&self) -> Result<u32, Errno> {
        let (mut taken, thread) = (self.lock(), this_thread());
        if let Some(ours) = taken.iter_mut().find(|taken| taken.thread == thread) {
            ours.users += 1;
            return Ok(ours.index);
        }
        let RingFd::Owned(fd) = self.base.fd() else { return Err(Errno::new(libc::EBADF)) };
        let data = u64::from(fd.as_raw_fd().cast_unsigned());
        let mut update = RsrcUpdate { offset: u32::MAX, resv: 0, data };
        self.call(RegisterOp::RING_FDS, &mut update)?;
        taken.push(Taken { thread, index: update.offset, users: 1 });
        Ok(update.offset)
    }

    /// Gives back one use of the index on this thread.
    fn give(&self) -> Result<(), Errno> {
        let (mut taken, thread) = (self.lock(), this_thread());
        let Some(at) = taken.iter().position(|taken| taken.thread == thread) else {
            return Err(Errno::new(libc::EINVAL));
        };
        if taken[at].users == 1 {
            let mut update = RsrcUpdate { offset: taken[at].index, resv: 0, data: 0 };
            self.call(RegisterOp::UNREGISTER_RING_FDS, &mut update)?;
            taken.swap_remove(at);
        } else {
            taken[at].users -= 1;
        }
        Ok(())
    }

    fn call(&self, op: RegisterOp, update: &mut RsrcUpdate) -> Result<u32, Errno> {
        // SAFETY: one live `struct io_uring_rsrc_update`, which the kernel does not keep, since it
        // copies.
        unsafe { self.base.register(op, (&raw mut *update).cast(), 1) }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Taken>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for RingFds {
    fn drop(&mut self) {
        let taken = self.taken.get_mut().unwrap_or_else(PoisonError::into_inner);
        let Some(at) = taken.iter().position(|taken| taken.thread == this_thread()) else {
            return;
        };
        let mut update = RsrcUpdate { offset: taken[at].index, resv: 0, data: 0 };
        let _ = self.call(RegisterOp::UNREGISTER_RING_FDS, &mut update);
    }
}

impl Submitter<'_> {
    /// Registers the ring's descriptor with this thread: this submitter then enters by its index,
    /// which saves the kernel a look-up. Since Linux 5.18.
    ///
    /// # Errors
    ///
    /// `EEXIST` if this submitter has an index, `EBUSY` if the thread has no place left; else the
    /// kernel's.
    pub fn register_ring_fd(&mut self) -> io::Result<()> {
        if self.index.is_some() {
            return Err(io::Error::from_raw_os_error(libc::EEXIST));
        }
        self.of_this_process()?;
        self.index = Some(self.shared.ring_fds.take()?);
        Ok(())
    }

    /// Goes back to the descriptor.
    ///
    /// # Errors
    ///
    /// `EINVAL` if this submitter has no index; else the kernel's.
    pub fn unregister_ring_fd(&mut self) -> io::Result<()> {
        if self.index.is_none() {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        self.of_this_process()?;
        self.shared.ring_fds.give()?;
        self.index = None;
        Ok(())
    }

    /// A forked child may find the lock held forever, by a thread that only its parent has.
    fn of_this_process(&self) -> io::Result<()> {
        if self.shared.watch.is_here() { Ok(()) } else { Err(super::other_process()) }
    }
}
