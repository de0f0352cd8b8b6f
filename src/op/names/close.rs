//! Closing a descriptor through the ring.
//!
//! ```text
//!   Close { fd } ──► CLOSE ──► 0, EIO, EINTR, ..     the number is free: forget it     None
//!        │                └──► ECANCELED, ..         it never began: still open        Some(fd)
//!        │                                           unless the file itself said it
//!        └ dropped before it is submitted,           closed like any other
//!          or taken back with its chain
//! ```
//!
//! A descriptor number must not be closed twice, because it may already belong to another file by
//! the second time. Linux frees the number before it asks the file to flush, so the number is free
//! even when the flush fails.
#![allow(unsafe_code, reason = "writes entries, and asks for the type of a file")]

use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};

use annulus_sys::abi::Sqe;

use crate::op::{Done, Fate, Op, Outcome};
use crate::prep;

/// Closes a descriptor: `close(2)`. Since Linux 5.6.
///
/// The outcome contains the descriptor if it is still open because the close never began. Dropping
/// that descriptor closes it, and so does dropping the operation before it is submitted. If the
/// file itself may have produced the error (a file on a FUSE or network file system, or a device),
/// it is unknown whether the number is free; then the descriptor is given up, and stays open if it
/// was open.
///
/// Submitting it asks the system what kind of file this is (`fstat`, `fstatfs`). A file on a FUSE
/// or network file system asks its server, so there the submission may block: close such files on
/// another thread, and never on the one that serves the file system.
///
/// Closing a descriptor does not stop operations in flight on its file: requests hold the file, not
/// the number. To stop them, use [`Cancel::fd`](crate::op::Cancel::fd) first.
///
/// To close a file in the ring's table, drop its last [`FixedFile`](crate::lease::FixedFile).
///
/// # Completion
///
/// Once, with 0. Where a close flushes written data (on a network file system), it runs in a worker
/// thread of the kernel.
///
/// # Cancellation
///
/// `ECANCELED` if it has not begun, and the descriptor comes back.
///
/// # Errors
///
/// Those of `close(2)`: `EIO`, `ENOSPC`, `EINTR` and others are about earlier writes, or about the
/// wait for them. The descriptor is closed then, as after `close(2)` on Linux. `EBADF` for the
/// descriptor of a ring, which no ring closes: it comes back. `EACCES` where restrictions forbid
/// it: it comes back, too.
///
/// # Example
///
/// ```
/// use annulus::{Setup, op};
///
/// let mut ring = Setup::new(8).build()?;
/// let (reader, _writer) = std::io::pipe()?;
/// let close = ring.submit(op::Close::new(reader))?;
/// let outcome = ring.wait(close)?;
/// outcome.result?;
/// assert!(outcome.fd.is_none()); // It is closed.
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias("IORING_OP_CLOSE", "io_uring_prep_close", "io_uring_prep_close_direct"))]
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

    /// A step before it in its chain kept it from beginning, so no file said `ECANCELED`.
    pub(crate) fn was_cut_off(&mut self) {
        self.flush = Flush::Never;
    }
}

// SAFETY: OP1: the entry points to nothing, and the descriptor is the one that the operation owns;
// nothing else uses the number. It completes once.
unsafe impl Op for Close {
    type Output = Outcome<(), Option<OwnedFd>>;

    fn prep(&mut self) -> Sqe {
        // Asked while the number certainly still belongs to this file.
        self.flush = Flush::of(&self.fd);
        prep::close(self.fd.as_raw_fd())
    }

    fn finish(self, done: Done) -> Self::Output {
        let ours =
            done.fate == Fate::TakenBack || (never_began(done.raw()) && self.flush == Flush::Never);
        let fd = if ours {
            Some(self.fd)
        } else {
            // The kernel has freed the number, so from now on it may belong to another file.
            let _ = self.fd.into_raw_fd();
            None
        };
        Outcome { result: done.result().map(drop), fd, buf: () }
    }
}

/// Whether a close may have ended before it took the descriptor.
fn never_began(result: i32) -> bool {
    match result.wrapping_neg() {
        // Cancelled before it began.
        libc::ECANCELED => true,
        // A ring with `IOPOLL` closes nothing, nor does Linux before 5.6.
        libc::EINVAL => true,
        // The descriptor of a ring.
        libc::EBADF => true,
        // The ring, or the task, is restricted from closing.
        libc::EACCES => true,
        // An error of the file's own flush, after the number was freed.
        _ => false,
    }
}

/// Whether a file is asked to flush when a descriptor of it is closed, and so may return any error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flush {
    Never,
    Perhaps,
}

/// File systems inside the kernel that flush nothing when a file is closed, by their magic numbers.
const NEVER_FLUSH: [i64; 6] = [
    0xEF53,      // ext2, ext3, ext4
    0x5846_5342, // xfs
    0x9123_683E, // btrfs
    0x0102_1994, // tmpfs
    0x9FA0,      // proc
    0x0904_1934, // eventfd, timerfd and others that lie nowhere; rings
];

impl Flush {
    /// The answer for an open descriptor.
    fn of(fd: &OwnedFd) -> Self {
        let (mut stat, mut system) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        // SAFETY: the kernel writes one `struct stat`, as `fstat(2)` says.
        let known = unsafe { libc::fstat(fd.as_raw_fd(), stat.as_mut_ptr()) } == 0;
        // SAFETY: the kernel writes one `struct statfs`, as `fstatfs(2)` says.
        let placed = unsafe { libc::fstatfs(fd.as_raw_fd(), system.as_mut_ptr()) } == 0;
        if !known || !placed {
            return Self::Perhaps;
        }
        // SAFETY: initialised, because the call succeeded.
        let stat: libc::stat = unsafe { stat.assume_init() };
        // SAFETY: initialised, because the call succeeded.
        let system: libc::statfs = unsafe { system.assume_init() };
        match stat.st_mode & libc::S_IFMT {
            libc::S_IFIFO | libc::S_IFSOCK => Self::Never,
            // For a device, that is up to its driver.
            libc::S_IFCHR | libc::S_IFBLK => Self::Perhaps,
            _ if NEVER_FLUSH.contains(&system.f_type) => Self::Never,
            _ => Self::Perhaps,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::Resource;
    use annulus_sys::flags::CqeFlags;

    #[test]
    fn only_a_close_that_never_began_leaves_the_descriptor() {
        for errno in [libc::EIO, libc::EINTR, libc::ENOSPC, libc::EDQUOT, libc::EAGAIN] {
            assert!(!never_began(-errno), "the number is free, and may belong to another file");
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
            let done = Done::new(-libc::ECANCELED, CqeFlags::empty(), None, Resource::Nothing);
            let fd = close.finish(done.with(fate)).fd;
            fd.is_some()
        };
        assert!(fd(Fate::TakenBack));
        assert!(!fd(Fate::Usual), "a number that may belong to another file leaks");
    }
}
