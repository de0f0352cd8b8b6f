//! Operations on names: rename, unlink, link, make directories.
//!
//! ```text
//!   MkdirAt      ── ─► dir/          RenameAt   a ─► b          UnlinkAt   a ─► ──
//!   SymlinkAt    ── ─► b ─ ─► "a"    LinkAt     a ─► a, b
//! ```
//!
//! | operation | does | since |
//! |---|---|---|
//! | [`RenameAt`] | renames a file, also over another, or swaps two names | Linux 5.11 |
//! | [`UnlinkAt`] | removes a name, or an empty directory | Linux 5.11 |
//! | [`MkdirAt`] | creates a directory | Linux 5.15 |
//! | [`SymlinkAt`] | creates a symbolic link | Linux 5.15 |
//! | [`LinkAt`] | adds a name to a file (hard link) | Linux 5.15 |
//!
//! Paths and directories are those of [`OpenAt`](crate::op::OpenAt): an `AsRef<CStr>`, relative to
//! a [`Dir`]. Both come back. Each operation runs in a worker thread of the kernel.
//!
//! Keeps OP1: paths lie in the operation, or are borrowed from it. Leaves to others: what is in the
//! files (`file`), and their other attributes (`stat`, `xattr`).
#![allow(unsafe_code, reason = "writes entries that point to paths")]

use std::ffi::CStr;

use annulus_sys::abi::Sqe;

use super::fs::{Dir, Mode, addr};
use crate::op::{Done, Op, Outcome};
use crate::prep;

/// Renames a file, also into another directory of the same file system: `renameat2(2)`. Since Linux
/// 5.11.
///
/// If another file has the new name already, it loses it atomically: a lookup finds either the old
/// file or the new one.
///
/// If both names are of one file already, nothing happens: both stay, and that is a success.
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
/// Those of `renameat2(2)`, among them `EXDEV` when the names are on two file systems, and `EINVAL`
/// when the file system does not support the option. Since Linux 6.0 an error does not break a
/// chain.
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
    /// Renames `from`, relative to `from_dir`, to `to`, relative to `to_dir`.
    pub fn new(from_dir: D, from: P, to_dir: E, to: Q) -> Self {
        Self { from: (from_dir, from), to: (to_dir, to), flags: 0 }
    }

    /// Fails with `EEXIST` if the new name exists.
    #[doc(alias = "RENAME_NOREPLACE")]
    pub fn no_replace(self) -> Self {
        Self { flags: self.flags & !libc::RENAME_EXCHANGE | libc::RENAME_NOREPLACE, ..self }
    }

    /// Swaps the two names, which must both exist. Not together with
    /// [`leave_whiteout`](Self::leave_whiteout).
    #[doc(alias = "RENAME_EXCHANGE")]
    pub fn exchange(self) -> Self {
        Self { flags: self.flags & !libc::RENAME_NOREPLACE | libc::RENAME_EXCHANGE, ..self }
    }

    /// Leaves a whiteout under the old name, which hides files in lower layers of an overlay.
    /// Before Linux 5.8 for root only.
    #[doc(alias = "RENAME_WHITEOUT")]
    pub fn leave_whiteout(self) -> Self {
        Self { flags: self.flags | libc::RENAME_WHITEOUT, ..self }
    }
}

// SAFETY: OP1: both paths are borrowed in place from their owners, and the descriptors are of the
// directories' owners. It completes once.
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

/// Removes the name of a file, which lives on while it has other names or is open; or removes an
/// empty directory. As `unlinkat(2)`. Since Linux 5.11.
///
/// A symbolic link is removed itself, and never what it leads to. The space of a file is free only
/// when nobody has it open, operations in flight among them.
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
/// Those of `unlinkat(2)`: `ENOENT`, `EISDIR` for a directory without
/// [`directory`](Self::directory), `ENOTDIR` for a file with it, `ENOTEMPTY`, `EINVAL` for a path
/// that ends in `.`. Since Linux 6.0 an error does not break a chain.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::{Cwd, LinkAt, MkdirAt, Mode, SymlinkAt, UnlinkAt};
/// use std::ffi::CString;
/// use std::fs::File;
/// use std::rc::Rc;
///
/// let mut ring = Setup::new(4).build()?;
/// let path = std::env::temp_dir().join(format!("annulus-names-{}", std::process::id()));
/// let name = CString::new(path.to_str().expect("plain"))?;
/// let make = ring.submit(MkdirAt::new(Cwd, name, Mode::new(0o700)))?;
/// let outcome = ring.wait(make)?;
/// let Ok(()) = outcome.result else { return Ok(()) }; // Linux 5.15
///
/// let dir = Rc::new(File::open(&path)?); // The names that follow are relative to it.
/// let soft = SymlinkAt::new(c"no such file", Rc::clone(&dir), c"soft"); // Nobody looks for it.
/// let soft = ring.submit(soft)?;
/// ring.wait(soft)?.result?;
/// let second = LinkAt::new(Rc::clone(&dir), c"soft", Rc::clone(&dir), c"second");
/// let second = ring.submit(second)?;
/// ring.wait(second)?.result?;
/// assert!(path.join("second").is_symlink());
/// for name in [c"soft", c"second"] {
///     let unlink = ring.submit(UnlinkAt::new(Rc::clone(&dir), name))?;
///     ring.wait(unlink)?.result?;
/// }
/// let remove = ring.submit(UnlinkAt::new(Cwd, outcome.buf).directory())?;
/// ring.wait(remove)?.result?;
/// assert!(!path.exists());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias("IORING_OP_UNLINKAT", "io_uring_prep_unlinkat", "io_uring_prep_unlink"))]
#[derive(Debug)]
pub struct UnlinkAt<D, P> {
    dir: D,
    path: P,
    flags: i32,
}

impl<D, P> UnlinkAt<D, P> {
    /// Removes the name `path`, relative to `dir`, of a file that is not a directory.
    pub fn new(dir: D, path: P) -> Self {
        Self { dir, path, flags: 0 }
    }

    /// Removes an empty directory instead.
    #[doc(alias("AT_REMOVEDIR", "rmdir"))]
    pub fn directory(self) -> Self {
        Self { flags: libc::AT_REMOVEDIR, ..self }
    }
}

// SAFETY: OP1: the path is borrowed in place from its owner, and the descriptor is of `dir`. It
// completes once.
unsafe impl<D: Dir, P: AsRef<CStr>> Op for UnlinkAt<D, P> {
    type Output = Outcome<(), D, P>;

    fn prep(&mut self) -> Sqe {
        prep::unlinkat(self.dir.number(), addr(&self.path), self.flags.cast_unsigned())
    }

    fn finish(self, done: Done) -> Self::Output {
        Outcome { result: done.result().map(drop), fd: self.dir, buf: self.path }
    }
}

/// Creates a directory: `mkdirat(2)`. Since Linux 5.15.
///
/// The process's `umask(2)` takes permissions away from `mode`. Parents are not made: `ENOENT` when
/// one is missing. The operation returns no descriptor of the new directory.
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
/// Those of `mkdirat(2)`: `EEXIST` when the name exists, also as a symbolic link that leads
/// nowhere; `ENOENT`; `EACCES`. Since Linux 6.0 an error does not break a chain.
#[doc(alias("IORING_OP_MKDIRAT", "io_uring_prep_mkdirat", "io_uring_prep_mkdir"))]
#[derive(Debug)]
pub struct MkdirAt<D, P> {
    dir: D,
    path: P,
    mode: Mode,
}

impl<D, P> MkdirAt<D, P> {
    /// Creates `path`, relative to `dir`, with these permissions.
    pub fn new(dir: D, path: P, mode: Mode) -> Self {
        Self { dir, path, mode }
    }
}

// SAFETY: OP1: the path is borrowed in place from its owner, and the descriptor is of `dir`. It
// completes once.
unsafe impl<D: Dir, P: AsRef<CStr>> Op for MkdirAt<D, P> {
    type Output = Outcome<(), D, P>;

    fn prep(&mut self) -> Sqe {
        prep::mkdirat(self.dir.number(), addr(&self.path), self.mode.bits())
    }

    fn finish(self, done: Done) -> Self::Output {
        Outcome { result: done.result().map(drop), fd: self.dir, buf: self.path }
    }
}

/// Creates a symbolic link: `symlinkat(2)`. Since Linux 5.15.
///
/// The target is only text: nobody checks whether it exists, and a relative one is later looked up
/// from the directory of the link, not from `dir` or the working directory.
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
/// Those of `symlinkat(2)`: `EEXIST` when the name exists, `ENOENT` for an empty path. Since Linux
/// 6.0 an error does not break a chain.
#[doc(alias("IORING_OP_SYMLINKAT", "io_uring_prep_symlinkat", "io_uring_prep_symlink"))]
#[derive(Debug)]
pub struct SymlinkAt<T, D, P> {
    target: T,
    dir: D,
    path: P,
}

impl<T, D, P> SymlinkAt<T, D, P> {
    /// Creates the link `path`, relative to `dir`, which leads to `target`. The target need not
    /// exist; a relative one starts in the directory of the link.
    pub fn new(target: T, dir: D, path: P) -> Self {
        Self { target, dir, path }
    }
}

// SAFETY: OP1: both paths are borrowed in place from their owners, and the descriptor is of `dir`.
// It completes once.
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

/// Adds a name to a file, on the same file system (a hard link): `linkat(2)`. Since Linux 5.15.
///
/// If the old name is a symbolic link, the new one is a name of that link, and not of what it leads
/// to: [`follow`](Self::follow) changes that.
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
/// Those of `linkat(2)`: `EEXIST`, `EXDEV`, `EPERM` for a directory, and for files of other users
/// where the system protects hard links. Since Linux 6.0 an error does not break a chain.
#[doc(alias("IORING_OP_LINKAT", "io_uring_prep_linkat", "io_uring_prep_link"))]
#[derive(Debug)]
pub struct LinkAt<D, P, E, Q> {
    from: (D, P),
    to: (E, Q),
    flags: i32,
}

impl<D, P, E, Q> LinkAt<D, P, E, Q> {
    /// Adds the name `to`, relative to `to_dir`, to `from`, relative to `from_dir`. If `from` is a
    /// symbolic link, the link itself gets the name.
    pub fn new(from_dir: D, from: P, to_dir: E, to: Q) -> Self {
        Self { from: (from_dir, from), to: (to_dir, to), flags: 0 }
    }

    /// If `from` is a symbolic link, the file that it leads to gets the name. This can also name a
    /// [temporary](crate::op::How::temporary) file, which is at `/proc/self/fd/..` until then.
    #[doc(alias = "AT_SYMLINK_FOLLOW")]
    pub fn follow(self) -> Self {
        Self { flags: self.flags | libc::AT_SYMLINK_FOLLOW, ..self }
    }
}

impl<F, E, Q> LinkAt<F, &'static CStr, E, Q> {
    /// Gives the open file itself the name `to`, relative to `to_dir`, even if the file has no
    /// name.
    ///
    /// `ENOENT` for a caller without permission. A caller with `CAP_DAC_READ_SEARCH` has it; since
    /// Linux 6.10 so does the caller who opened the file, if it still has the credentials of that
    /// time.
    #[doc(alias = "AT_EMPTY_PATH")]
    pub fn open_file(file: F, to_dir: E, to: Q) -> Self {
        Self { from: (file, c""), to: (to_dir, to), flags: libc::AT_EMPTY_PATH }
    }
}

// SAFETY: OP1: both paths are borrowed in place from their owners, and the descriptors are of the
// directories' owners. It completes once.
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
