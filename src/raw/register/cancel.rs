//! Cancelling at once: without an entry, and with a wait until the cancelled requests have ended.
//!
//! ```text
//!   CancelNow::fd(socket).all().within(1 s) ─► the kernel finds and cancels ─┬─ Ended(n)
//!                                              waits for worker threads      ├─ NotFound
//!                                                                            └─ TimedOut
//! ```
//!
//! An entry that cancels waits in the submission queue for its turn, and behind a drained entry
//! (`IO_DRAIN`) it can wait very long. This call bypasses the queue. The requests that it finds
//! still complete, with `ECANCELED` or with their result: only that completion gives the memory
//! back.
//!
//! | constructor | finds requests by | since |
//! |---|---|---|
//! | [`CancelNow::user_data`] | `user_data` | Linux 6.0 |
//! | [`CancelNow::fd`], [`CancelNow::fixed`] | file | Linux 6.0 |
//! | [`CancelNow::any`] | nothing: finds all of them | Linux 6.0 |
//! | [`CancelNow::opcode`] | operation | Linux 6.6 |
//!
//! Leaves to others: cancelling by an entry ([`Cancel`](crate::op::Cancel)).
#![allow(unsafe_code, reason = "hands arguments to the kernel")]

use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use annulus_sys::abi::Timespec;
use annulus_sys::abi_register::SyncCancelReg;
use annulus_sys::flags::CancelFlags;
use annulus_sys::opcode::{Opcode, RegisterOp};

use super::call::Call;
use super::error::RegisterError;
use crate::raw::RawRing;

/// The timeout that means forever: -1 in both fields.
const FOR_EVER: Timespec = Timespec { tv_sec: -1, tv_nsec: -1 };

/// Which requests to cancel, and how long to wait for their end. Waits forever, unless
/// [`within`](Self::within) says otherwise.
#[doc(alias = "io_uring_sync_cancel_reg")]
#[derive(Debug, Clone, Copy)]
pub struct CancelNow<'f> {
    reg: SyncCancelReg,
    file: PhantomData<BorrowedFd<'f>>,
}

/// The result of a [`CancelNow`]. On a ring with a polling thread, only
/// [`Ring::cancel_now`](crate::Ring::cancel_now) also covers requests that run on that thread's
/// workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a request that did not end still uses its memory"]
pub enum EndedNow {
    /// This many requests were found, and are about to complete. With [`all`](CancelNow::all), 0
    /// may also mean that some were found and have ended in the meantime.
    Ended(u32),
    /// No request was found: it has ended, or was not submitted. Two kinds of requests are never
    /// found: those that wait because of a [drained](crate::op::Op::drained) operation, and those
    /// that are just being handed to a worker thread.
    NotFound,
    /// A request was found and interrupted, but did not end in time. Or it has ended, but its end
    /// is held back until the ring asks for it (`DEFER_TASKRUN`; not if
    /// [`Ring::cancel_now`](crate::Ring::cancel_now) reports it).
    TimedOut,
}

impl<'f> CancelNow<'f> {
    const fn new(flags: CancelFlags) -> Self {
        let reg = SyncCancelReg {
            addr: 0,
            fd: -1,
            flags,
            timeout: FOR_EVER,
            opcode: Opcode(0),
            pad: [0; 7],
            pad2: [0; 3],
        };
        Self { reg, file: PhantomData }
    }

    /// Cancels the first request found with this `user_data`.
    pub const fn user_data(user_data: u64) -> Self {
        let new = Self::new(CancelFlags::empty());
        Self { reg: SyncCancelReg { addr: user_data, ..new.reg }, ..new }
    }

    /// Cancels the first request found on the file behind `fd`, whether the request names the file
    /// by descriptor or by index.
    #[doc(alias = "IORING_ASYNC_CANCEL_FD")]
    pub fn fd(fd: BorrowedFd<'f>) -> Self {
        let new = Self::new(CancelFlags::FD);
        Self { reg: SyncCancelReg { fd: fd.as_raw_fd(), ..new.reg }, ..new }
    }

    /// Cancels the first request found on the file at this index of the table of registered files.
    #[doc(alias = "IORING_ASYNC_CANCEL_FD_FIXED")]
    pub const fn fixed(index: u32) -> Self {
        let new = Self::new(CancelFlags::FD.union(CancelFlags::FD_FIXED));
        Self { reg: SyncCancelReg { fd: index.cast_signed(), ..new.reg }, ..new }
    }

    /// Cancels the first request found with this opcode. Since Linux 6.6.
    #[doc(alias = "IORING_ASYNC_CANCEL_OP")]
    pub const fn opcode(opcode: Opcode) -> Self {
        let new = Self::new(CancelFlags::OP);
        Self { reg: SyncCancelReg { opcode, ..new.reg }, ..new }
    }

    /// Cancels all requests.
    #[doc(alias = "IORING_ASYNC_CANCEL_ANY")]
    pub const fn any() -> Self {
        Self::new(CancelFlags::ANY.union(CancelFlags::ALL))
    }

    /// Cancels all matching requests, not only the first.
    #[doc(alias = "IORING_ASYNC_CANCEL_ALL")]
    #[must_use]
    pub const fn all(self) -> Self {
        let flags = self.reg.flags.union(CancelFlags::ALL);
        Self { reg: SyncCancelReg { flags, ..self.reg }, ..self }
    }

    /// Sets how long to wait for requests that are already running. Zero does not wait.
    #[must_use]
    pub fn within(self, time: Duration) -> Self {
        // The kernel refuses a timeout that is already over, so use the shortest possible one.
        let timeout = Timespec::from(time.max(Duration::from_nanos(1)));
        Self { reg: SyncCancelReg { timeout, ..self.reg }, ..self }
    }
}

/// # Cancelling at once
impl RawRing {
    /// Cancels requests at once, whichever thread submitted them. Finds only requests that were
    /// submitted, and none that run on a worker of a polling thread. Since Linux 6.0.
    ///
    /// With `DEFER_TASKRUN`, this call does not notice that a worker's request ends: use short
    /// waits, with [`get_events`](Self::get_events) between them.
    ///
    /// # Errors
    ///
    /// `EINTR` if a signal ended the wait; `EBADF` for an index without a file.
    #[doc(alias = "IORING_REGISTER_SYNC_CANCEL")]
    #[doc(alias = "io_uring_register_sync_cancel")]
    pub fn cancel_now(&self, what: &CancelNow<'_>) -> Result<EndedNow, RegisterError> {
        let mut reg = what.reg;
        let reason = "this kernel cannot find requests this way: by opcode needs Linux 6.6";
        let call = Call::new(RegisterOp::SYNC_CANCEL, 1, reason);
        // SAFETY: a live `struct io_uring_sync_cancel_reg`, which the kernel copies, because it
        // says so.
        match unsafe { call.make(self.base(), &raw mut reg) } {
            Ok(count) if reg.flags.contains(CancelFlags::ALL) => Ok(EndedNow::Ended(count)),
            Ok(_) => Ok(EndedNow::Ended(1)),
            Err(RegisterError::Other(errno)) if errno.is(libc::ENOENT) => Ok(EndedNow::NotFound),
            Err(RegisterError::Other(errno)) if errno.is(libc::ETIME) => Ok(EndedNow::TimedOut),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_is_in_the_field_that_the_kernel_reads() {
        let said = |asked: CancelNow<'_>| {
            let reg = asked.reg;
            (reg.addr, reg.fd, reg.flags, reg.opcode)
        };
        let (none, all) = (CancelFlags::empty(), CancelFlags::ALL);
        let fixed = CancelFlags::FD.union(CancelFlags::FD_FIXED);
        assert_eq!(said(CancelNow::user_data(7)), (7, -1, none, Opcode(0)));
        assert_eq!(said(CancelNow::user_data(7).all()), (7, -1, all, Opcode(0)));
        assert_eq!(said(CancelNow::fixed(3)), (0, 3, fixed, Opcode(0)));
        assert_eq!(said(CancelNow::opcode(Opcode::READ)), (0, -1, CancelFlags::OP, Opcode::READ));
        assert_eq!(said(CancelNow::any()), (0, -1, CancelFlags::ANY.union(all), Opcode(0)));
    }
}
