//! Descriptors end.
//!
//! ```text
//!   Close { fd } ──► CLOSE ──► 0, EIO, EINTR, ..     the number is free: forget it     None
//!        │                └──► ECANCELED, ..         it never began: the fd is ours    Some(fd)
//!        │                                           if the file cannot have said it
//!        └ dropped before it is submitted,           closed as any other
//!          or taken back with its chain
//! ```
//!
//! A number must not be closed twice, since somebody else may have it by the second time. Linux
//! frees it before it asks the file to flush; so when that fails, the number is free all the same.
#![allow(unsafe_code, reason = "writes entries, and asks what a file is")]

use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};

use annulus_sys::abi::Sqe;

use super::{Done, Fate, Op, Outcome};
use crate::prep;

/// Closes a descriptor. Since Linux 5.6.
///
/// The outcome has the descriptor if it is still open, because the close never began. Dropping that
/// closes it, as dropping the operation before it is submitted does. Where the file itself may have
/// answered so (on a file system of a user, or of a network, or a device), nobody can tell whether
/// the number is free; then it is given up, and stays open if it was.
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
    flush: Flush,
}

impl Close {
    /// Closes `fd`.
    pub fn new(fd: impl Into<OwnedFd>) -> Self {
        Self { fd: fd.into(), flush: Flush::Perhaps }
    }
}

// SAFETY: OP1: it points to nothing, and the descriptor is the one that it owns; nobody else uses
// the number. It completes once.
unsafe impl Op for Close {
    type Output = Outcome<(), Option<OwnedFd>>;

    fn prep(&mut self) -> Sqe {
        // Asked while the number is surely ours.
        self.flush = Flush::of(&self.fd);
        prep::close(self.fd.as_raw_fd())
    }

    fn finish(self, done: Done) -> Self::Output {
        let ours =
            done.fate == Fate::TakenBack || (never_began(done.raw()) && self.flush == Flush::Never);
        let fd = if ours {
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
        // What the file's own flush said, after the number was freed.
        _ => false,
    }
}

/// Whether a file is asked to flush when a descriptor of it is closed, and so may answer anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flush {
    Never,
    Perhaps,
}

/// File systems of the kernel's own that flush nothing when a file is closed.
const NEVER_FLUSH: [i64; 6] = [
    0xEF53,      // ext2, ext3, ext4
    0x5846_5342, // xfs
    0x9123_683E, // btrfs
    0x0102_1994, // tmpfs
    0x9FA0,      // proc
    0x0904_1934, // eventfd, timerfd and others that lie nowhere; rings
];

impl Flush {
    /// Of a descriptor that is open.
    fn of(fd: &OwnedFd) -> Self {
        let (mut stat, mut system) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        // SAFETY: the kernel writes one `struct stat`, because `fstat(2)` says so.
        let known = unsafe { libc::fstat(fd.as_raw_fd(), stat.as_mut_ptr()) } == 0;
        // SAFETY: the kernel writes one `struct statfs`, because `fstatfs(2)` says so.
        let placed = unsafe { libc::fstatfs(fd.as_raw_fd(), system.as_mut_ptr()) } == 0;
        if !known || !placed {
            return Self::Perhaps;
        }
        // SAFETY: written, because the call succeeded.
        let stat: libc::stat = unsafe { stat.assume_init() };
        // SAFETY: written, because the call succeeded.
        let system: libc::statfs = unsafe { system.assume_init() };
        match stat.st_mode & libc::S_IFMT {
            libc::S_IFIFO | libc::S_IFSOCK => Self::Never,
            // What a device does is its driver's.
            libc::S_IFCHR | libc::S_IFBLK => Self::Perhaps,
            _ if NEVER_FLUSH.contains(&system.f_type) => Self::Never,
            _ => Self::Perhaps,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::Brought;
    use annulus_sys::flags::CqeFlags;

    #[test]
    fn only_a_close_that_never_began_leaves_the_descriptor() {
        for errno in [libc::EIO, libc::EINTR, libc::ENOSPC, libc::EDQUOT, libc::EAGAIN] {
            assert!(!never_began(-errno), "the number is free, and may be somebody else's");
        }
        assert!(!never_began(0));
        assert!(!never_began(i32::MIN));
        assert!(never_began(-libc::ECANCELED));
    }

    #[test]
    fn a_close_that_was_taken_back_still_has_its_descriptor() {
        let fd = |fate| {
            let file = std::fs::File::open("/dev/null").expect("it is there");
            let close = Close { fd: file.into(), flush: Flush::Perhaps };
            let done = Done::new(-libc::ECANCELED, CqeFlags::empty(), None, Brought::Nothing);
            let fd = close.finish(done.with(fate)).fd;
            fd.is_some()
        };
        assert!(fd(Fate::TakenBack));
        assert!(!fd(Fate::Usual), "a number that may be another's leaks rather than is closed");
    }
}
