//! The operation that gets metadata: [`Statx`].
//!
//! ```text
//!   Statx { dir, path, out: Box<Stat> }     STATX: addr ─► path, off ─► the box
//! ```
//!
//! Keeps OP1: the box and the path lie in the operation. Leaves to others: paths (`fs`).
#![allow(unsafe_code, reason = "writes entries that point to a path and to a box")]

use std::ffi::CStr;

use annulus_sys::abi::Sqe;

use super::{Stat, StatMask};
use crate::op::names::fs::{Dir, addr};
use crate::op::{Done, Op, Outcome};
use crate::prep;

/// Whether a network file system asks its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Freshness {
    /// As `stat(2)` does, which depends on the file system.
    #[default]
    AsStat,
    /// Asks the server.
    #[doc(alias = "AT_STATX_FORCE_SYNC")]
    Forced,
    /// Does not ask: returns the cached values, even if they are old.
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

/// Gets the metadata of a file: `statx(2)`. Since Linux 5.6.
///
/// What the kernel found is in [`buf`](Outcome::buf), and the result says only that it did. Fields
/// that a file system does not have stay 0: [`Stat::mask`] tells them from a 0 that was found. A
/// symbolic link is followed, unless [`no_follow`](Self::no_follow) is set.
///
/// # Completion
///
/// Once, with 0, when the [`Stat`] is filled in. It runs in a worker thread of the kernel.
///
/// # Cancellation
///
/// `ECANCELED` if it has not begun. Once begun, it cannot be stopped.
///
/// # Errors
///
/// Those of `statx(2)`: `ENOENT` also for a link that leads nowhere, `EACCES`. The [`Stat`] still
/// comes back, unchanged. Since Linux 6.0 an error does not break a chain.
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
    /// Asks about an open file, whatever it was opened for.
    #[doc(alias = "AT_EMPTY_PATH")]
    pub fn of(fd: F, out: Box<Stat>) -> Self {
        let mut statx = Self::at(fd, c"", out);
        statx.flags |= libc::AT_EMPTY_PATH;
        statx
    }
}

impl<D, P> Statx<D, P> {
    /// Asks about the file at `path`, relative to `dir`.
    pub fn at(dir: D, path: P, out: Box<Stat>) -> Self {
        let (mask, fresh) = (StatMask::default(), Freshness::default());
        Self { dir, path, flags: 0, fresh, mask, out }
    }

    /// Asks for these fields instead of [`StatMask::BASIC`].
    pub fn want(self, mask: StatMask) -> Self {
        Self { mask, ..self }
    }

    /// If the path names a symbolic link, asks about the link itself.
    #[doc(alias = "AT_SYMLINK_NOFOLLOW")]
    pub fn no_follow(self) -> Self {
        Self { flags: self.flags | libc::AT_SYMLINK_NOFOLLOW, ..self }
    }

    /// Does not trigger an automount at the end of the path.
    #[doc(alias = "AT_NO_AUTOMOUNT")]
    pub fn no_automount(self) -> Self {
        Self { flags: self.flags | libc::AT_NO_AUTOMOUNT, ..self }
    }

    /// Sets whether a network file system asks its server.
    pub fn fresh(self, fresh: Freshness) -> Self {
        Self { fresh, ..self }
    }
}

// SAFETY: OP1: the path is borrowed in place from its owner, the address is of `out`, which has
// room for everything that the kernel writes and allows any bytes, and the descriptor is of `dir`.
// It completes once.
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
