//! Opening files by their paths.
//!
//! ```text
//!   OpenAt { dir, path, how } ──► OPENAT ──► Outcome { OwnedFd, dir, path }
//!                        └ How::read_write().create(Mode::new(0o640)).append()
//!                               O_RDWR     | O_CREAT, and the mode   | O_APPEND
//!                               | O_CLOEXEC | O_LARGEFILE, always
//! ```
//!
//! | operation | opens | since |
//! |---|---|---|
//! | [`OpenAt`] | a path, relative to a [`Dir`] | Linux 5.6 |
//! | [`OpenAt2`] | the same, within bounds that the path cannot leave | Linux 5.6 |
//!
//! A path is a C string. The operation owns it (as a [`CString`](std::ffi::CString), `&'static
//! CStr`, or any other `AsRef<CStr>`) and returns it. Methods that create a file take its
//! permissions too, so neither can be given without the other.
//!
//! Keeps OP1: path and `open_how` lie in the operation, or are borrowed from it. Keeps OP3: a new
//! descriptor is owned, even when nothing waits for it. Leaves to others: metadata of files
//! (`stat`), and closing descriptors (`close`).
#![allow(unsafe_code, reason = "writes entries that point to paths and to `open_how`")]

use std::ffi::CStr;
use std::fmt;
use std::fs::Permissions;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;

use annulus_sys::abi::{OpenHow, Sqe};

use crate::op::{Done, Op, Outcome, ResultKind};
use crate::prep;

/// The current directory at the time when the kernel begins the operation.
#[doc(alias = "AT_FDCWD")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cwd;

mod sealed {
    pub trait Sealed {}
}

/// Where a relative path starts: [`Cwd`], or the owner of a directory's descriptor (anything that
/// is [`AsFd`]). Sealed: only this crate implements it. A [`FixedFile`](crate::lease::FixedFile) is
/// not one, because the kernel looks directories up among descriptors.
pub trait Dir: sealed::Sealed {
    /// The descriptor number that the kernel sees.
    #[doc(hidden)]
    fn number(&self) -> i32;
}

impl<F: AsFd> sealed::Sealed for F {}

#[doc(hidden)] // Otherwise rustdoc repeats its hidden items on the page of every such type.
impl<F: AsFd> Dir for F {
    fn number(&self) -> i32 {
        self.as_fd().as_raw_fd()
    }
}

impl sealed::Sealed for Cwd {}

impl Dir for Cwd {
    fn number(&self) -> i32 {
        libc::AT_FDCWD
    }
}

/// The address of a path at its final place.
pub(in crate::op) fn addr(path: &impl AsRef<CStr>) -> u64 {
    path.as_ref().as_ptr().expose_provenance() as u64
}

/// The permissions of a file, as `chmod(2)` takes them: `Mode::new(0o640)`. A new file gets the
/// permissions that the process's `umask` does not remove.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Mode(u32);

impl Mode {
    /// The permissions in `bits`; other bits are ignored.
    pub const fn new(bits: u32) -> Self {
        Self(bits & 0o7777)
    }

    /// The permissions as a number, at most `0o7777`.
    pub const fn bits(self) -> u32 {
        self.0
    }
}

impl fmt::Debug for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mode({:#o})", self.0)
    }
}

impl From<Permissions> for Mode {
    fn from(permissions: Permissions) -> Self {
        Self::new(permissions.mode())
    }
}

impl From<Mode> for Permissions {
    fn from(mode: Mode) -> Self {
        Self::from_mode(mode.0)
    }
}

/// How to open a file: the access, and whether to create it.
///
/// # Example
///
/// ```
/// use annulus::op::{How, Mode};
///
/// const LOG: How = How::write().create(Mode::new(0o640)).append();
/// ```
#[doc(alias("OpenOptions", "O_CLOEXEC", "O_LARGEFILE"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "pass it to an operation that opens a file"]
pub struct How {
    flags: u32,
    mode: Mode,
}

/// The kernel's `O_LARGEFILE`; the C library defines it as 0 on 64-bit machines, where it is
/// implied.
const LARGEFILE: u32 = if cfg!(target_arch = "aarch64") { 0o400_000 } else { 0o100_000 };

impl How {
    const fn with(flags: i32) -> Self {
        let always = libc::O_CLOEXEC.cast_unsigned();
        Self { flags: flags.cast_unsigned() | always, mode: Mode(0) }
    }

    /// Opens for reading.
    #[doc(alias = "O_RDONLY")]
    pub const fn read() -> Self {
        Self::with(libc::O_RDONLY).and(LARGEFILE)
    }

    /// Opens for writing.
    #[doc(alias = "O_WRONLY")]
    pub const fn write() -> Self {
        Self::with(libc::O_WRONLY).and(LARGEFILE)
    }

    /// Opens for reading and writing.
    #[doc(alias = "O_RDWR")]
    pub const fn read_write() -> Self {
        Self::with(libc::O_RDWR).and(LARGEFILE)
    }

    /// Opens only a reference to the file, to use as a [`Dir`] or for a
    /// [`Statx`](crate::op::Statx). Nothing can be read or written, so the only permission needed
    /// is to find the file.
    #[doc(alias = "O_PATH")]
    pub const fn path() -> Self {
        // Without `LARGEFILE`: `OPENAT2` refuses flags that have no meaning here.
        Self::with(libc::O_PATH)
    }

    const fn and(self, flags: u32) -> Self {
        Self { flags: self.flags | flags, ..self }
    }

    /// Creates the file with these permissions if it does not exist.
    #[doc(alias = "O_CREAT")]
    pub const fn create(self, mode: Mode) -> Self {
        Self { mode, ..self.custom_flags(libc::O_CREAT) }
    }

    /// Creates the file with these permissions, and fails with `EEXIST` if it exists.
    #[doc(alias = "O_EXCL")]
    pub const fn create_new(self, mode: Mode) -> Self {
        self.create(mode).custom_flags(libc::O_EXCL)
    }

    /// Creates a file without a name, with these permissions, on the file system of the directory
    /// at the path. Needs write access.
    #[doc(alias = "O_TMPFILE")]
    pub const fn temporary(self, mode: Mode) -> Self {
        Self { mode, ..self.custom_flags(libc::O_TMPFILE) }
    }

    /// Truncates the file to length 0.
    #[doc(alias = "O_TRUNC")]
    pub const fn truncate(self) -> Self {
        self.custom_flags(libc::O_TRUNC)
    }

    /// Every write goes to the end of the file.
    #[doc(alias = "O_APPEND")]
    pub const fn append(self) -> Self {
        self.custom_flags(libc::O_APPEND)
    }

    /// Transfers bypass the page cache, and must be aligned: [`Stat::dio`](crate::op::Stat::dio)
    /// says how.
    #[doc(alias = "O_DIRECT")]
    pub const fn direct(self) -> Self {
        self.custom_flags(libc::O_DIRECT)
    }

    /// Each write is durable when it completes, with the metadata that is needed to read it back.
    #[doc(alias = "O_DSYNC")]
    pub const fn data_sync(self) -> Self {
        self.custom_flags(libc::O_DSYNC)
    }

    /// Each write is durable when it completes, with all metadata.
    #[doc(alias = "O_SYNC")]
    pub const fn sync(self) -> Self {
        self.custom_flags(libc::O_SYNC)
    }

    /// Fails with `ENOTDIR` unless the file is a directory.
    #[doc(alias = "O_DIRECTORY")]
    pub const fn directory(self) -> Self {
        self.custom_flags(libc::O_DIRECTORY)
    }

    /// Fails with `ELOOP` if the file is a symbolic link; with [`path`](Self::path), opens the link
    /// itself.
    #[doc(alias = "O_NOFOLLOW")]
    pub const fn no_follow(self) -> Self {
        self.custom_flags(libc::O_NOFOLLOW)
    }

    /// Does not wait for the other end of a FIFO. Reads of a regular file that was opened with it
    /// are not given to worker threads: they are done within the submit, however long they take.
    #[doc(alias = "O_NONBLOCK")]
    pub const fn non_block(self) -> Self {
        self.custom_flags(libc::O_NONBLOCK)
    }

    /// Adds other `O_*` flags of `open(2)`. The access mode does not change.
    pub const fn custom_flags(self, flags: i32) -> Self {
        self.and((flags & !libc::O_ACCMODE).cast_unsigned())
    }

    /// The permissions, if a file may be created; without that, `OPENAT2` refuses them.
    const fn mode(self) -> u32 {
        let tmpfile = libc::O_TMPFILE & !libc::O_DIRECTORY;
        let makes = self.flags & (libc::O_CREAT | tmpfile).cast_unsigned() != 0;
        if makes { self.mode.0 } else { 0 }
    }
}

/// Opens the file at a path: `openat(2)`. Since Linux 5.6.
///
/// The new descriptor is [`result`](Outcome::result); [`fd`](Outcome::fd) is the directory that the
/// path was relative to. An absolute path does not look at it. The descriptor is closed on `exec`,
/// whatever [`How`] says.
///
/// To use and close the file in the chain that opens it, open it in the ring's file table:
/// [`direct_to`](Self::direct_to).
///
/// # Completion
///
/// Once, with the descriptor. It runs in a worker thread of the kernel if a directory must be read
/// from the device, or a file is created.
///
/// # Cancellation
///
/// `ECANCELED` if it has not begun. An open that waits, for example for the other end of a FIFO,
/// ends with `EINTR`. It may still succeed: then the descriptor is returned, or closed if nothing
/// waits for it.
///
/// # Errors
///
/// Those of `open(2)`: `ENOENT`, `EACCES`, `ENOTDIR` (also when `dir` is no directory), `ELOOP`,
/// `EMFILE` when the process has no descriptor left. A failure breaks a chain.
///
/// Since Linux 5.12 an open is tried as with [`non_block`](How::non_block) first, so that it mostly
/// does not wait for a FIFO: opening it for reading succeeds at once, and opening it for writing
/// fails with `ENXIO` unless it has a reader. But where the path itself takes a wait (seen on 6.18:
/// the first walk through a symbolic link, whose time of access is noted), a worker thread opens
/// it, and waits. So with a FIFO that nobody may wait for, ask for `non_block`. And use
/// [`forced`](Op::forced) to wait for the other end; up to Linux 6.12 that wait may hold up other
/// operations that need a worker thread.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::{Cwd, How, OpenAt, Read};
///
/// let mut ring = Setup::new(4).build()?;
/// let open = ring.submit(OpenAt::new(Cwd, c"/proc/self/comm", How::read()))?;
/// let file = ring.wait(open)?.result?;
/// let read = ring.submit(Read::new(file, Vec::with_capacity(16)))?;
/// let (_, name) = ring.wait(read)?.ok()?;
/// assert!(!name.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias("IORING_OP_OPENAT", "io_uring_prep_openat", "io_uring_prep_open"))]
#[derive(Debug)]
pub struct OpenAt<D, P> {
    dir: D,
    path: P,
    how: How,
}

impl<D, P> OpenAt<D, P> {
    /// Opens `path`, relative to `dir`.
    pub fn new(dir: D, path: P, how: How) -> Self {
        Self { dir, path, how }
    }
}

// SAFETY: OP1: the path is borrowed in place from its owner, and the directory's descriptor is of
// `dir`. It completes once, with a descriptor, as `RESULT_KIND` says (OP3).
unsafe impl<D: Dir, P: AsRef<CStr>> Op for OpenAt<D, P> {
    type Output = Outcome<OwnedFd, D, P>;
    const RESULT_KIND: ResultKind = ResultKind::Fd;

    fn prep(&mut self) -> Sqe {
        prep::openat(self.dir.number(), addr(&self.path), self.how.flags, self.how.mode())
    }

    fn finish(self, mut done: Done) -> Self::Output {
        Outcome { result: done.fd(), fd: self.dir, buf: self.path }
    }
}

/// Opens the file at a path within bounds, for untrusted paths: `openat2(2)`. Since Linux 5.6.
///
/// Unlike [`OpenAt`], it refuses unknown flags, and combinations of flags that have no meaning.
///
/// The bounds hold for the path, and not for what is done with the descriptor: one of a directory
/// leads out again by `..`, unless each path from there is bound, too.
///
/// # Completion
///
/// As [`OpenAt`].
///
/// # Cancellation
///
/// As [`OpenAt`].
///
/// # Errors
///
/// Those of `openat2(2)`, among them `EXDEV` when the path leaves its bounds, `ELOOP` when it
/// contains a forbidden link, `EINVAL` for flags that do not fit each other, and `EAGAIN` when a
/// `..` in it raced with a rename: submit it again.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::{How, OpenAt2};
/// use std::fs::File;
///
/// let mut ring = Setup::new(4).build()?;
/// let dir = File::open("/proc/self")?;
/// let inside = OpenAt2::new(dir, c"comm", How::read()).beneath();
/// let inside = ring.submit(inside)?;
/// let outcome = ring.wait(inside)?;
/// outcome.result?;
/// let outside = OpenAt2::new(outcome.fd, c"../1/comm", How::read()).beneath();
/// let outside = ring.submit(outside)?;
/// let error = ring.wait(outside)?.result.unwrap_err();
/// assert_eq!(error.raw_os_error(), Some(18)); // EXDEV
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias("IORING_OP_OPENAT2", "io_uring_prep_openat2", "open_how"))]
#[derive(Debug)]
pub struct OpenAt2<D, P> {
    dir: D,
    path: P,
    how: OpenHow,
}

impl<D, P> OpenAt2<D, P> {
    /// Opens `path`, relative to `dir`, without bounds yet.
    pub fn new(dir: D, path: P, how: How) -> Self {
        let (flags, mode) = (u64::from(how.flags), u64::from(how.mode()));
        Self { dir, path, how: OpenHow { flags, mode, resolve: 0 } }
    }

    /// The operation without "close on exec".
    pub(in crate::op) fn lasting(mut self) -> Self {
        self.how.flags &= !u64::from(libc::O_CLOEXEC.cast_unsigned());
        self
    }

    fn bound(mut self, resolve: u64) -> Self {
        self.how.resolve |= resolve;
        self
    }

    /// The path must stay below `dir`: `..`, links and absolute paths must not lead out.
    #[doc(alias = "RESOLVE_BENEATH")]
    pub fn beneath(self) -> Self {
        self.bound(libc::RESOLVE_BENEATH)
    }

    /// Treats `dir` as the root directory of the path: `/` and `/..` name it.
    #[doc(alias = "RESOLVE_IN_ROOT")]
    pub fn in_root(self) -> Self {
        self.bound(libc::RESOLVE_IN_ROOT)
    }

    /// Forbids symbolic links, in the path and at its end.
    #[doc(alias = "RESOLVE_NO_SYMLINKS")]
    pub fn no_symlinks(self) -> Self {
        self.bound(libc::RESOLVE_NO_SYMLINKS)
    }

    /// Forbids magic links, such as those in `/proc/self/fd`.
    #[doc(alias = "RESOLVE_NO_MAGICLINKS")]
    pub fn no_magic_links(self) -> Self {
        self.bound(libc::RESOLVE_NO_MAGICLINKS)
    }

    /// Forbids paths that lead into another mount.
    #[doc(alias = "RESOLVE_NO_XDEV")]
    pub fn no_mounts(self) -> Self {
        self.bound(libc::RESOLVE_NO_XDEV)
    }

    /// Fails with `EAGAIN` if a directory would have to be read from the device. Since Linux 5.12.
    #[doc(alias = "RESOLVE_CACHED")]
    pub fn cached(self) -> Self {
        self.bound(libc::RESOLVE_CACHED)
    }
}

// SAFETY: OP1: the path is borrowed in place from its owner, `how` lies in place, and the
// directory's descriptor is of `dir`. It completes once, with a descriptor, as `RESULT_KIND` says
// (OP3).
unsafe impl<D: Dir, P: AsRef<CStr>> Op for OpenAt2<D, P> {
    type Output = Outcome<OwnedFd, D, P>;
    const RESULT_KIND: ResultKind = ResultKind::Fd;

    fn prep(&mut self) -> Sqe {
        let how = (&raw const self.how).expose_provenance() as u64;
        prep::openat2(self.dir.number(), addr(&self.path), how)
    }

    fn finish(self, mut done: Done) -> Self::Output {
        Outcome { result: done.fd(), fd: self.dir, buf: self.path }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_descriptor_is_closed_on_exec_and_large() {
        for how in [How::read(), How::write().truncate(), How::read_write().append()] {
            let flags = how.flags.cast_signed();
            assert_eq!(flags & libc::O_CLOEXEC, libc::O_CLOEXEC);
            assert_eq!(how.flags & LARGEFILE, linux_raw_sys::general::O_LARGEFILE);
        }
        let path = (libc::O_PATH | libc::O_CLOEXEC).cast_unsigned();
        assert_eq!(How::path().flags, path);
    }

    #[test]
    fn permissions_go_with_what_may_make_a_file() {
        let mode = Mode::new(0o100_640);
        assert_eq!(How::write().create(mode).mode(), 0o640);
        assert_eq!(How::write().temporary(mode).mode(), 0o640);
        assert_eq!(How { mode, ..How::read().directory() }.mode(), 0);
        assert_eq!(format!("{mode:?}"), "Mode(0o640)");
        assert_eq!(Mode::from(Permissions::from(mode)), mode);
    }

    #[test]
    fn what_a_file_is_opened_for_is_not_custom() {
        let how = How::read().custom_flags(libc::O_RDWR | libc::O_NOATIME);
        assert_eq!(how.flags.cast_signed() & libc::O_ACCMODE, libc::O_RDONLY);
        assert_eq!(how.flags.cast_signed() & libc::O_NOATIME, libc::O_NOATIME);
    }
}
