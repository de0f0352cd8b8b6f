//! Names: how files get them, change them and lose them.
//!
//! ```text
//!   MkdirAt      ── ─► dir/          RenameAt   a ─► b          UnlinkAt   a ─► ──
//!   SymlinkAt    ── ─► b ─ ─► "a"    LinkAt     a ─► a, b
//! ```
//!
//! | operation | does | since |
//! |---|---|---|
//! | [`RenameAt`] | moves a name, also over another, or swaps two | Linux 5.11 |
//! | [`UnlinkAt`] | takes a name away, or an empty directory | Linux 5.11 |
//! | [`MkdirAt`] | makes a directory | Linux 5.15 |
//! | [`SymlinkAt`] | makes a link that holds a path | Linux 5.15 |
//! | [`LinkAt`] | gives a file one name more | Linux 5.15 |
//!
//! A path and the directory where it starts are as for [`OpenAt`](super::OpenAt): a [`Dir`], and
//! whatever shows a `CStr`. Both come back. A worker thread of the kernel does the work of each.
//!
//! Keeps OP1: paths lie in the operation, or are borrowed from it. Leaves to others: what is in the
//! files (`file`), and their other attributes (`stat`, `xattr`).
#![allow(unsafe_code, reason = "writes entries that point to paths")]

use std::ffi::CStr;

use annulus_sys::abi::Sqe;

use super::fs::{Dir, Mode, addr};
use super::{Done, Op, Outcome};
use crate::prep;

/// Gives a file another name: on the same file system, in another directory perhaps. Since Linux
/// 5.11.
///
/// A file that has the new name already loses it in the same instant, so that whoever looks finds
/// either the one or the other.
///
/// # Completion
///
/// Once, with 0.
///
/// # Cancellation
///
/// `ECANCELED` if it has not begun. Once begun, it cannot be stopped.
///
/// # Errors
///
/// Those of `renameat2(2)`, among them `EXDEV` when the names are of two file systems, and `EINVAL`
/// when this one knows no such option. Since Linux 6.0 an error does not break a chain.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::{Cwd, RenameAt};
///
/// let mut ring = Setup::new(4).build()?;
/// let rename = RenameAt::new(Cwd, c"/proc/no such file", Cwd, c"/proc/nor this");
/// let outcome = { let ticket = ring.submit(rename)?; ring.wait(ticket)? };
/// assert!(outcome.result.is_err());
/// assert_eq!(outcome.buf.0, c"/proc/no such file");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias("IORING_OP_RENAMEAT", "io_uring_prep_renameat", "io_uring_prep_rename"))]
#[derive(Debug)]
pub struct RenameAt<D, P, E, Q> {
    from: (D, P),
    to: (E, Q),
    flags: u32,
}

impl<D, P, E, Q> RenameAt<D, P, E, Q> {
    /// Renames `from`, seen from `from_dir`, to `to`, seen from `to_dir`.
    pub fn new(from_dir: D, from: P, to_dir: E, to: Q) -> Self {
        Self { from: (from_dir, from), to: (to_dir, to), flags: 0 }
    }

    /// Fails with `EEXIST` if a file has the new name already.
    #[doc(alias = "RENAME_NOREPLACE")]
    pub fn no_replace(self) -> Self {
        Self { flags: self.flags & !libc::RENAME_EXCHANGE | libc::RENAME_NOREPLACE, ..self }
    }

    /// Swaps the two names, both of which files must have. Not with
    /// [`leave_whiteout`](Self::leave_whiteout).
    #[doc(alias = "RENAME_EXCHANGE")]
    pub fn exchange(self) -> Self {
        Self { flags: self.flags & !libc::RENAME_NOREPLACE | libc::RENAME_EXCHANGE, ..self }
    }

    /// Leaves a whiteout under the old name, which hides the files of lower layers of an overlay.
    /// Before Linux 5.8 for root only.
    #[doc(alias = "RENAME_WHITEOUT")]
    pub fn leave_whiteout(self) -> Self {
        Self { flags: self.flags | libc::RENAME_WHITEOUT, ..self }
    }
}

// SAFETY: OP1: both paths are borrowed from their owners, which lie in place, and the descriptors
// are of the directories' owners. It completes once.
unsafe impl<D: Dir, P: AsRef<CStr>, E: Dir, Q: AsRef<CStr>> Op for RenameAt<D, P, E, Q> {
    type Output = Outcome<(), (D, E), (P, Q)>;

    fn prep(&mut self) -> Sqe {
        let (from, to) = (addr(&self.from.1), addr(&self.to.1));
        prep::renameat(self.from.0.number(), from, self.to.0.number(), to, self.flags)
    }

    fn finish(self, done: Done) -> Self::Output {
        let ((from_dir, from), (to_dir, to)) = (self.from, self.to);
        Outcome { result: done.result().map(drop), fd: (from_dir, to_dir), buf: (from, to) }
    }
}

/// Takes a name away: of a file, which lives on while it has other names or is open; or of an empty
/// directory. Since Linux 5.11.
///
/// # Completion
///
/// Once, with 0.
///
/// # Cancellation
///
/// `ECANCELED` if it has not begun. Once begun, it cannot be stopped.
///
/// # Errors
///
/// Those of `unlinkat(2)`: `EISDIR` for a directory that is not said to be one, `ENOTDIR` for a
/// file that is said to be a directory, `ENOTEMPTY`. Since Linux 6.0 an error does not break a
/// chain.
#[doc(alias("IORING_OP_UNLINKAT", "io_uring_prep_unlinkat", "io_uring_prep_unlink"))]
#[derive(Debug)]
pub struct UnlinkAt<D, P> {
    dir: D,
    path: P,
    flags: i32,
}

impl<D, P> UnlinkAt<D, P> {
    /// Takes the name `path`, seen from `dir`, away from a file that is no directory.
    pub fn new(dir: D, path: P) -> Self {
        Self { dir, path, flags: 0 }
    }

    /// Removes an empty directory instead.
    #[doc(alias("AT_REMOVEDIR", "rmdir"))]
    pub fn directory(self) -> Self {
        Self { flags: libc::AT_REMOVEDIR, ..self }
    }
}

// SAFETY: OP1: the path is borrowed from its owner, which lies in place, and the descriptor is of
// `dir`. It completes once.
unsafe impl<D: Dir, P: AsRef<CStr>> Op for UnlinkAt<D, P> {
    type Output = Outcome<(), D, P>;

    fn prep(&mut self) -> Sqe {
        prep::unlinkat(self.dir.number(), addr(&self.path), self.flags.cast_unsigned())
    }

    fn finish(self, done: Done) -> Self::Output {
        Outcome { result: done.result().map(drop), fd: self.dir, buf: self.path }
    }
}

/// Makes a directory. Since Linux 5.15.
///
/// # Completion
///
/// Once, with 0.
///
/// # Cancellation
///
/// `ECANCELED` if it has not begun. Once begun, it cannot be stopped.
///
/// # Errors
///
/// Those of `mkdirat(2)`: `EEXIST` when there is anything of that name. Since Linux 6.0 an error
/// does not break a chain.
#[doc(alias("IORING_OP_MKDIRAT", "io_uring_prep_mkdirat", "io_uring_prep_mkdir"))]
#[derive(Debug)]
pub struct MkdirAt<D, P> {
    dir: D,
    path: P,
    mode: Mode,
}

impl<D, P> MkdirAt<D, P> {
    /// Makes `path`, seen from `dir`, with these permissions.
    pub fn new(dir: D, path: P, mode: Mode) -> Self {
        Self { dir, path, mode }
    }
}

// SAFETY: OP1: the path is borrowed from its owner, which lies in place, and the descriptor is of
// `dir`. It completes once.
unsafe impl<D: Dir, P: AsRef<CStr>> Op for MkdirAt<D, P> {
    type Output = Outcome<(), D, P>;

    fn prep(&mut self) -> Sqe {
        prep::mkdirat(self.dir.number(), addr(&self.path), self.mode.bits())
    }

    fn finish(self, done: Done) -> Self::Output {
        Outcome { result: done.result().map(drop), fd: self.dir, buf: self.path }
    }
}

/// Makes a symbolic link: a name that stands for a path. Since Linux 5.15.
///
/// # Completion
///
/// Once, with 0.
///
/// # Cancellation
///
/// `ECANCELED` if it has not begun. Once begun, it cannot be stopped.
///
/// # Errors
///
/// Those of `symlinkat(2)`: `EEXIST` when there is anything of that name, `ENOENT` for an empty
/// path. Since Linux 6.0 an error does not break a chain.
#[doc(alias("IORING_OP_SYMLINKAT", "io_uring_prep_symlinkat", "io_uring_prep_symlink"))]
#[derive(Debug)]
pub struct SymlinkAt<T, D, P> {
    target: T,
    dir: D,
    path: P,
}

impl<T, D, P> SymlinkAt<T, D, P> {
    /// Makes the link `path`, seen from `dir`, which leads to `target`. Whether there is such a
    /// thing is not looked at; a relative one starts where the link lies.
    pub fn new(target: T, dir: D, path: P) -> Self {
        Self { target, dir, path }
    }
}

// SAFETY: OP1: both paths are borrowed from their owners, which lie in place, and the descriptor is
// of `dir`. It completes once.
unsafe impl<T: AsRef<CStr>, D: Dir, P: AsRef<CStr>> Op for SymlinkAt<T, D, P> {
    type Output = Outcome<(), D, (T, P)>;

    fn prep(&mut self) -> Sqe {
        prep::symlinkat(addr(&self.target), self.dir.number(), addr(&self.path))
    }

    fn finish(self, done: Done) -> Self::Output {
        let buf = (self.target, self.path);
        Outcome { result: done.result().map(drop), fd: self.dir, buf }
    }
}

/// Gives a file one name more, on the same file system. Since Linux 5.15.
///
/// # Completion
///
/// Once, with 0.
///
/// # Cancellation
///
/// `ECANCELED` if it has not begun. Once begun, it cannot be stopped.
///
/// # Errors
///
/// Those of `linkat(2)`: `EEXIST`, `EXDEV`, `EPERM` for a directory, and where the system protects
/// hard links, for files of others. Since Linux 6.0 an error does not break a chain.
#[doc(alias("IORING_OP_LINKAT", "io_uring_prep_linkat", "io_uring_prep_link"))]
#[derive(Debug)]
pub struct LinkAt<D, P, E, Q> {
    from: (D, P),
    to: (E, Q),
    flags: i32,
}

impl<D, P, E, Q> LinkAt<D, P, E, Q> {
    /// Gives `from`, seen from `from_dir`, the name `to` too, seen from `to_dir`. If `from` is a
    /// symbolic link, the link itself gets it.
    pub fn new(from_dir: D, from: P, to_dir: E, to: Q) -> Self {
        Self { from: (from_dir, from), to: (to_dir, to), flags: 0 }
    }

    /// If it is a symbolic link, the file that it leads to gets the name: also that of a
    /// [temporary](super::How::temporary) file, which is at `/proc/self/fd/..` until it has one.
    #[doc(alias = "AT_SYMLINK_FOLLOW")]
    pub fn follow(self) -> Self {
        Self { flags: self.flags | libc::AT_SYMLINK_FOLLOW, ..self }
    }
}

impl<F, E, Q> LinkAt<F, &'static CStr, E, Q> {
    /// Gives the open file itself the name `to`, seen from `to_dir`: also one that has none.
    ///
    /// `ENOENT` for who may not: whoever has `CAP_DAC_READ_SEARCH` may, and since Linux 6.10 the
    /// one who opened the file, with the credentials of then.
    #[doc(alias = "AT_EMPTY_PATH")]
    pub fn open_file(file: F, to_dir: E, to: Q) -> Self {
        Self { from: (file, c""), to: (to_dir, to), flags: libc::AT_EMPTY_PATH }
    }
}

// SAFETY: OP1: both paths are borrowed from their owners, which lie in place, and the descriptors
// are of the directories' owners. It completes once.
unsafe impl<D: Dir, P: AsRef<CStr>, E: Dir, Q: AsRef<CStr>> Op for LinkAt<D, P, E, Q> {
    type Output = Outcome<(), (D, E), (P, Q)>;

    fn prep(&mut self) -> Sqe {
        let (from, to) = (addr(&self.from.1), addr(&self.to.1));
        let flags = self.flags.cast_unsigned();
        prep::linkat(self.from.0.number(), from, self.to.0.number(), to, flags)
    }

    fn finish(self, done: Done) -> Self::Output {
        let ((from_dir, from), (to_dir, to)) = (self.from, self.to);
        Outcome { result: done.result().map(drop), fd: (from_dir, to_dir), buf: (from, to) }
    }
}
