//! The descriptors of the simulated world: real ones, behind which nothing is.
//!
//! ```text
//!   the program: OwnedFd ──► read end of an empty pipe │ write end ◄── the simulated kernel
//! ```
//!
//! So a descriptor has an owner, is closed once, and can be duplicated, as any other. By the inode
//! of the pipe the kernel knows which end of the simulated world an entry names. When the last
//! descriptor is closed, a poll of the other end of the pipe says so. A read by the standard
//! library fails with `EAGAIN`, a write with `EBADF`.
#![allow(unsafe_code, reason = "makes and looks at descriptors")]

use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use annulus_sys::errno::Errno;

/// The kernel's side of a descriptor.
#[derive(Debug)]
pub(super) struct Placeholder {
    watch: OwnedFd,
    inode: Inode,
}

/// What names a pipe: its file system, and its number in it.
pub(super) type Inode = (u64, u64);

impl Placeholder {
    /// A descriptor, and the kernel's side of it.
    pub(super) fn new() -> Result<(OwnedFd, Self), Errno> {
        let mut ends = [-1; 2];
        let flags = libc::O_CLOEXEC | libc::O_NONBLOCK;
        // SAFETY: two live numbers, which the call fills in.
        if unsafe { libc::pipe2(ends.as_mut_ptr(), flags) } < 0 {
            return Err(Errno::last());
        }
        // SAFETY: a new descriptor, which nothing else owns.
        let theirs = unsafe { OwnedFd::from_raw_fd(ends[0]) };
        // SAFETY: a new descriptor, which nothing else owns.
        let watch = unsafe { OwnedFd::from_raw_fd(ends[1]) };
        let inode = inode(theirs.as_raw_fd()).ok_or(Errno::new(libc::EBADF))?;
        Ok((theirs, Self { watch, inode }))
    }

    /// The number by which [`inode`] names it.
    pub(super) fn inode(&self) -> Inode {
        self.inode
    }

    /// What [`find_closed`] looks at.
    pub(super) fn watched(&self) -> libc::pollfd {
        libc::pollfd { fd: self.watch.as_raw_fd(), events: 0, revents: 0 }
    }
}

/// Sets the events of those whose last descriptor is closed.
pub(super) fn find_closed(watched: &mut [libc::pollfd]) -> bool {
    let count = libc::nfds_t::try_from(watched.len()).expect("64 bits");
    // SAFETY: so many live `struct pollfd`, as the count says.
    count > 0 && unsafe { libc::poll(watched.as_mut_ptr(), count, 0) } > 0
}

/// The inode behind a descriptor of this process, if it is that of a pipe.
pub(super) fn inode(fd: RawFd) -> Option<Inode> {
    let stat = stat(fd)?;
    (stat.st_mode & libc::S_IFMT == libc::S_IFIFO).then_some((stat.st_dev, stat.st_ino))
}

/// What the machine says of a descriptor of this process, if it is open.
pub(super) fn stat(fd: RawFd) -> Option<libc::stat> {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: one live `struct stat`, which the call fills in.
    if unsafe { libc::fstat(fd, stat.as_mut_ptr()) } < 0 {
        return None;
    }
    // SAFETY: filled in, since the call succeeded.
    Some(unsafe { stat.assume_init() })
}

/// Closes a descriptor that the program has given up with a `CLOSE`.
///
/// # Safety
///
/// Nothing else may own it.
pub(super) unsafe fn close(fd: RawFd) {
    // SAFETY: as promised to `close`.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
}
