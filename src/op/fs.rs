//! Names: what they open, and what is known of what they name.
//!
//! ```text
//!   OpenAt { dir, path, how } ──► OPENAT ──► Outcome { OwnedFd, dir, path }
//!   Statx { dir, path, out } ───► STATX ───► Outcome { (), dir, (out, path) }
//! ```
//!
//! | operation | | since |
//! |---|---|---|
//! | [`OpenAt`] | opens what a path names, seen from a [`Dir`] | Linux 5.6 |
//! | [`OpenAt2`] | the same, within bounds that the path cannot leave | Linux 5.6 |
//! | [`Statx`] | finds out what is known of it, or of an open file | Linux 5.6 |
//!
//! A path is a C string, which its owner ([`CString`](std::ffi::CString), `&'static CStr`, or any
//! other that shows one) brings along and gets back. Every descriptor is closed on `execve`, and
//! opens files of any size.
//!
//! Keeps OP1: path, rules and box lie in the operation, or are borrowed from it. Keeps OP3: a new
//! descriptor is owned, also when nobody waits for it. Leaves to others: how to open (`how`), what
//! there is to know (`stat`), and the end of a descriptor (`close`).
#![allow(unsafe_code, reason = "writes entries that point to paths, rules and boxes")]

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use annulus_sys::abi::{OpenHow, Sqe};

use super::how::How;
use super::stat::{Stat, StatMask};
use super::{Brings, Done, Op, Outcome};
use crate::prep;

/// The current directory, as it is when the kernel begins.
#[doc(alias = "AT_FDCWD")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cwd;

mod sealed {
    pub trait Sealed {}
}

/// Where a path that is not absolute starts: [`Cwd`], or the owner of a directory's descriptor.
/// Implemented here only. No [`FixedFile`](crate::lease::FixedFile): the kernel looks directories up
/// among descriptors.
pub trait Dir: sealed::Sealed {
    /// What the kernel is told.
    #[doc(hidden)]
    fn number(&self) -> i32;
}

impl<F: AsFd> sealed::Sealed for F {}

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

/// The address of a path that stays where it is.
fn addr(path: &impl AsRef<CStr>) -> u64 {
    path.as_ref().as_ptr().expose_provenance() as u64
}

/// Opens what a path names. Since Linux 5.6.
///
/// # Completion
///
/// Once, with the descriptor. If the kernel had to read a directory, or a file is made, a worker
/// thread of the kernel does it.
///
/// # Cancellation
///
/// `ECANCELED` if it has not begun. One that waits, as for the other end of a FIFO, ends with
/// `EINTR`. It may have succeeded all the same: then the descriptor comes, or is closed if nobody
/// waits for it.
///
/// # Errors
///
/// Those of `open(2)`.
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
    /// Opens `path`, seen from `dir`.
    pub fn new(dir: D, path: P, how: How) -> Self {
        Self { dir, path, how }
    }
}

// SAFETY: OP1: the path is borrowed from its owner, which lies in place, and the descriptor of the
// directory is of `dir`. It completes once, with a descriptor that is told of (OP3).
unsafe impl<D: Dir, P: AsRef<CStr>> Op for OpenAt<D, P> {
    type Output = Outcome<OwnedFd, D, P>;
    const BRINGS: Brings = Brings::Fd;

    fn prep(&mut self) -> Sqe {
        prep::openat(self.dir.number(), addr(&self.path), self.how.flags, self.how.mode())
    }

    fn finish(self, mut done: Done) -> Self::Output {
        Outcome { result: done.fd(), fd: self.dir, buf: self.path }
    }
}

/// Opens what a path names, within bounds: for paths that come from others. Since Linux 5.6.
///
/// Unlike [`OpenAt`], refuses flags that it does not know, and those that mean nothing beside each
/// other.
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
/// Those of `openat2(2)`, among them `EXDEV` when the path leads out of its bounds, `ELOOP` when it
/// meets a link that it may not, and `EAGAIN` when a `..` in it raced with a rename: submit it anew.
#[doc(alias("IORING_OP_OPENAT2", "io_uring_prep_openat2", "open_how"))]
#[derive(Debug)]
pub struct OpenAt2<D, P> {
    dir: D,
    path: P,
    how: OpenHow,
}

impl<D, P> OpenAt2<D, P> {
    /// Opens `path`, seen from `dir`, with no bounds as yet.
    pub fn new(dir: D, path: P, how: How) -> Self {
        let (flags, mode) = (u64::from(how.flags), u64::from(how.mode()));
        Self { dir, path, how: OpenHow { flags, mode, resolve: 0 } }
    }

    fn bound(mut self, resolve: u64) -> Self {
        self.how.resolve |= resolve;
        self
    }

    /// The path stays below `dir`: neither `..`, nor links, nor absolute paths lead out.
    #[doc(alias = "RESOLVE_BENEATH")]
    pub fn beneath(self) -> Self {
        self.bound(libc::RESOLVE_BENEATH)
    }

    /// For the path `dir` is the root directory: `/` and `/..` name it.
    #[doc(alias = "RESOLVE_IN_ROOT")]
    pub fn in_root(self) -> Self {
        self.bound(libc::RESOLVE_IN_ROOT)
    }

    /// No symbolic links in the path, and none at its end.
    #[doc(alias = "RESOLVE_NO_SYMLINKS")]
    pub fn no_symlinks(self) -> Self {
        self.bound(libc::RESOLVE_NO_SYMLINKS)
    }

    /// No links of the kernel's own making, such as those in `/proc/self/fd`.
    #[doc(alias = "RESOLVE_NO_MAGICLINKS")]
    pub fn no_magic_links(self) -> Self {
        self.bound(libc::RESOLVE_NO_MAGICLINKS)
    }

    /// The path does not lead into another mount.
    #[doc(alias = "RESOLVE_NO_XDEV")]
    pub fn no_mounts(self) -> Self {
        self.bound(libc::RESOLVE_NO_XDEV)
    }

    /// Fails with `EAGAIN` where the kernel would have to read a directory. Since Linux 5.12.
    #[doc(alias = "RESOLVE_CACHED")]
    pub fn cached(self) -> Self {
        self.bound(libc::RESOLVE_CACHED)
    }
}

// SAFETY: OP1: the path is borrowed from its owner, which lies in place, `how` lies in place, and
// the descriptor of the directory is of `dir`. It completes once, with a descriptor that is told of
// (OP3).
unsafe impl<D: Dir, P: AsRef<CStr>> Op for OpenAt2<D, P> {
    type Output = Outcome<OwnedFd, D, P>;
    const BRINGS: Brings = Brings::Fd;

    fn prep(&mut self) -> Sqe {
        let how = (&raw const self.how).expose_provenance() as u64;
        prep::openat2(self.dir.number(), addr(&self.path), how)
    }

    fn finish(self, mut done: Done) -> Self::Output {
        Outcome { result: done.fd(), fd: self.dir, buf: self.path }
    }
}

/// How far a network file system goes for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Freshness {
    /// As far as `stat(2)` does, which depends on the file system.
    #[default]
    AsStat,
    /// To the server.
    #[doc(alias = "AT_STATX_FORCE_SYNC")]
    Forced,
    /// Not at all: what is known here, though it be old.
    #[doc(alias = "AT_STATX_DONT_SYNC")]
    Cached,
}

impl Freshness {
    fn bits(self) -> i32 {
        match self {
            Self::AsStat => libc::AT_STATX_SYNC_AS_STAT,
            Self::Forced => libc::AT_STATX_FORCE_SYNC,
            Self::Cached => libc::AT_STATX_DONT_SYNC,
        }
    }
}

/// Finds out what is known of a file. Since Linux 5.6.
///
/// # Completion
///
/// Once, with 0, when the [`Stat`] is filled in. A worker thread of the kernel does it.
///
/// # Cancellation
///
/// `ECANCELED` if it has not begun. Once begun, it cannot be stopped.
///
/// # Errors
///
/// Those of `statx(2)`. The [`Stat`] comes back all the same, and says what it did before.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::{Cwd, FileKind, Stat, Statx};
///
/// let mut ring = Setup::new(4).build()?;
/// let statx = ring.submit(Statx::at(Cwd, c"/proc", Stat::boxed()))?;
/// let ((), (stat, _)) = ring.wait(statx)?.ok()?;
/// assert_eq!(stat.kind(), FileKind::Directory);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias("IORING_OP_STATX", "io_uring_prep_statx"))]
#[derive(Debug)]
pub struct Statx<D, P> {
    dir: D,
    path: P,
    flags: i32,
    fresh: Freshness,
    mask: StatMask,
    out: Box<Stat>,
}

impl<F> Statx<F, &'static CStr> {
    /// Of an open file, whatever it was opened for.
    #[doc(alias = "AT_EMPTY_PATH")]
    pub fn of(fd: F, out: Box<Stat>) -> Self {
        let mut statx = Self::at(fd, c"", out);
        statx.flags |= libc::AT_EMPTY_PATH;
        statx
    }
}

impl<D, P> Statx<D, P> {
    /// Of what `path` names, seen from `dir`.
    pub fn at(dir: D, path: P, out: Box<Stat>) -> Self {
        let (mask, fresh) = (StatMask::default(), Freshness::default());
        Self { dir, path, flags: 0, fresh, mask, out }
    }

    /// Asks for this, and not for [`StatMask::BASIC`].
    pub fn want(self, mask: StatMask) -> Self {
        Self { mask, ..self }
    }

    /// If the path names a symbolic link, of the link.
    #[doc(alias = "AT_SYMLINK_NOFOLLOW")]
    pub fn no_follow(self) -> Self {
        Self { flags: self.flags | libc::AT_SYMLINK_NOFOLLOW, ..self }
    }

    /// If something would be mounted there on use, of the place as it is.
    #[doc(alias = "AT_NO_AUTOMOUNT")]
    pub fn no_automount(self) -> Self {
        Self { flags: self.flags | libc::AT_NO_AUTOMOUNT, ..self }
    }

    /// On a network file system, goes as far as `fresh` says.
    pub fn fresh(self, fresh: Freshness) -> Self {
        Self { fresh, ..self }
    }
}

// SAFETY: OP1: the path is borrowed from its owner, which lies in place, the address is of `out`,
// which has room for all that the kernel writes and takes any bytes, and the descriptor is of
// `dir`. It completes once.
unsafe impl<D: Dir, P: AsRef<CStr>> Op for Statx<D, P> {
    type Output = Outcome<(), D, (Box<Stat>, P)>;

    fn prep(&mut self) -> Sqe {
        let out = (&raw mut *self.out).expose_provenance() as u64;
        let flags = (self.flags | self.fresh.bits()).cast_unsigned();
        prep::statx(self.dir.number(), addr(&self.path), flags, self.mask.bits(), out)
    }

    fn finish(self, done: Done) -> Self::Output {
        let result = done.result().map(drop);
        Outcome { result, fd: self.dir, buf: (self.out, self.path) }
    }
}
