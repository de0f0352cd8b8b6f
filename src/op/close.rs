//! Descriptors end.
//!
//! ```text
//!   Close { fd } ──► CLOSE ──► 0, EIO, EINTR, ..     the number is free: forget it     None
//!        │                └──► ECANCELED, ..         it never began: the fd is ours    Some(fd)
//!        └ dropped before it is submitted            closed as any other
//! ```
//!
//! A number must not be closed twice, since somebody else may have it by the second time. Linux
//! frees it before it asks the file to flush; so when that fails, the number is free all the same.
#![allow(unsafe_code, reason = "writes entries, and asks whether a number is open")]

use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};

use annulus_sys::abi::Sqe;

use super::{Done, Op, Outcome};
use crate::prep;

/// Closes a descriptor. Since Linux 5.6.
///
/// The outcome has the descriptor if it is still open, because the close never began. Dropping that
/// closes it, as dropping the operation before it is submitted does.
///
/// Closing a descriptor stops nothing that is in flight on its file: requests hold the file, not
/// the number.
///
/// # Completion
///
/// Once, with 0. Where a close flushes what was written (on a network file system), a worker thread
/// of the kernel does it.
///
/// # Cancellation
///
/// `ECANCELED` if it has not begun, and the descriptor comes back.
///
/// # Errors
///
/// Those of `close(2)`: `EIO`, `ENOSPC`, `EINTR` and others tell of earlier writes, or of the wait
/// for them. The descriptor is closed then, as it is after `close(2)` on Linux. `EBADF` for the
/// descriptor of a ring, which no ring closes: it comes back.
#[doc(alias("IORING_OP_CLOSE", "io_uring_prep_close"))]
#[derive(Debug)]
pub struct Close {
    fd: OwnedFd,
}

impl Close {
    /// Closes `fd`.
    pub fn new(fd: impl Into<OwnedFd>) -> Self {
        Self { fd: fd.into() }
    }
}

// SAFETY: OP1: it points to nothing, and the descriptor is the one that it owns; nobody else uses
// the number. It completes once.
unsafe impl Op for Close {
    type Output = Outcome<(), Option<OwnedFd>>;

    fn prep(&mut self) -> Sqe {
        prep::close(self.fd.as_raw_fd())
    }

    fn finish(self, done: Done) -> Self::Output {
        let fd = if never_began(done.raw()) && is_open(&self.fd) {
            Some(self.fd)
        } else {
            // The kernel took it, so from now on the number may be anybody's.
            let _ = self.fd.into_raw_fd();
            None
        };
        Outcome { result: done.result().map(drop), fd, buf: () }
    }
}

/// Whether a close may have ended before it took the descriptor.
fn never_began(result: i32) -> bool {
    match result.wrapping_neg() {
        // Cancelled while it waited for its turn.
        libc::ECANCELED => true,
        // A ring that polls devices closes nothing; nor does Linux before 5.6.
        libc::EINVAL => true,
        // The descriptor of a ring.
        libc::EBADF => true,
        // What the file's own flush said, after the number was freed. A file system of a user
        // (FUSE) may say any of the above there too, which is why the caller looks again. If by
        // then another thread has got that very number, we are wrong; the kernel leaves no way to
        // tell.
        _ => false,
    }
}

/// Whether the number is a descriptor at all.
fn is_open(fd: &OwnedFd) -> bool {
    // SAFETY: it takes numbers and gives one, and so touches no memory.
    let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFD) };
    flags >= 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_close_that_never_began_leaves_the_descriptor() {
        for errno in [libc::EIO, libc::EINTR, libc::ENOSPC, libc::EDQUOT, libc::EAGAIN] {
            assert!(!never_began(-errno), "the number is free, and may be somebody else's");
        }
        assert!(!never_began(0));
        assert!(!never_began(i32::MIN));
        assert!(never_began(-libc::ECANCELED));
    }
}
