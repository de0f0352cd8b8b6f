//! Extended attributes: names with values that a file has, beside its bytes.
//!
//! ```text
//!   a file ─┬─ its bytes                        Read, Write
//!           ├─ "user.origin"    = "a camera"    Getxattr, Setxattr         by path
//!           └─ "user.checksum"  = 5f 3a …       Fgetxattr, Fsetxattr       of an open file
//! ```
//!
//! A name begins with its namespace (`user.`, `trusted.`, `security.`, `system.`), which says who
//! may do what: `xattr(7)`. A name has 255 bytes at most, a value 64 KiB, and file systems allow
//! less. A worker thread of the kernel does the work of each operation.
//!
//! Paths start in the current directory, and links are followed. For an attribute of something
//! else, open it first.
//!
//! Keeps OP1: names, paths and values lie in the operation, or are borrowed from it. Leaves to
//! others: paths (`fs`), and what a buffer is (`buf`).
#![allow(unsafe_code, reason = "writes entries that point to names and values")]

use std::ffi::{CStr, c_int};
use std::io;

use annulus_sys::abi::Sqe;

use super::fs::addr;
use super::target::Target;
use super::{Done, Op, Outcome, RingId};
use crate::buf::{IoBuf, IoBufMut};
use crate::prep;

/// Gets an attribute of the file that a path names. Since Linux 5.19.
///
/// With a buffer that has no room (`Vec::new()`) it asks how long the value is, and nothing is
/// written.
///
/// # Completion
///
/// Once, with how many bytes the value has.
///
/// # Cancellation
///
/// `ECANCELED` if it has not begun. Once begun, it cannot be stopped.
///
/// # Errors
///
/// Those of `getxattr(2)`: `ENODATA` when the file has no such attribute, `ERANGE` when the value
/// is longer than the buffer, of which nothing is written then, `EOPNOTSUPP` when the file system
/// knows no such namespace. Since Linux 6.0 an error does not break a chain.
#[doc(alias("IORING_OP_GETXATTR", "io_uring_prep_getxattr"))]
#[derive(Debug)]
pub struct Getxattr<P, N, B> {
    path: P,
    name: N,
    value: B,
    offered: u32,
}

impl<P, N, B> Getxattr<P, N, B> {
    /// Gets the attribute `name` of the file that `path` names.
    pub fn new(path: P, name: N, value: B) -> Self {
        Self { path, name, value, offered: 0 }
    }
}

// SAFETY: OP1: the addresses are of the path, the name and the value's buffer, borrowed in place.
// It completes once, and `take` bounds what counts as written.
unsafe impl<P: AsRef<CStr>, N: AsRef<CStr>, B: IoBufMut> Op for Getxattr<P, N, B> {
    type Output = Outcome<usize, P, (N, B)>;

    fn prep(&mut self) -> Sqe {
        let region = self.value.region_mut();
        self.offered = region.transfer();
        prep::getxattr(addr(&self.path), addr(&self.name), region.addr(), self.offered)
    }

    fn finish(mut self, done: Done) -> Self::Output {
        // SAFETY: the region of `prep` offered so many bytes, and the kernel is done with it (OP1).
        let result = unsafe { take(&mut self.value, &done, self.offered) };
        Outcome { result, fd: self.path, buf: (self.name, self.value) }
    }
}

/// Takes note of a value that came; how long it is.
///
/// # Safety
///
/// `done` is of an operation that offered the kernel the first `offered` bytes of the region that
/// `value` last gave.
unsafe fn take(value: &mut impl IoBufMut, done: &Done, offered: u32) -> io::Result<usize> {
    if offered == 0 {
        // Asked how long it is, the kernel tells, and writes nothing.
        return done.count(u32::MAX);
    }
    let count = done.count(offered)?;
    // SAFETY: the kernel has written so many bytes of the region, as promised to `take`.
    unsafe { value.set_filled(count) };
    Ok(count)
}

/// Gets an attribute of an open file. Since Linux 5.19; of a
/// [`FixedFile`](crate::lease::FixedFile) since Linux 6.12 and in some before, `EBADF` in others.
///
/// With a buffer that has no room (`Vec::new()`) it asks how long the value is, and nothing is
/// written.
///
/// # Completion
///
/// As [`Getxattr`].
///
/// # Cancellation
///
/// As [`Getxattr`].
///
/// # Errors
///
/// As [`Getxattr`]; and `EBADF` for what was opened as a [`path`](super::How::path).
#[doc(alias("IORING_OP_FGETXATTR", "io_uring_prep_fgetxattr"))]
#[derive(Debug)]
pub struct Fgetxattr<F, N, B> {
    fd: F,
    name: N,
    value: B,
    offered: u32,
}

impl<F, N, B> Fgetxattr<F, N, B> {
    /// Gets the attribute `name` of `fd`.
    pub fn new(fd: F, name: N, value: B) -> Self {
        Self { fd, name, value, offered: 0 }
    }
}

// SAFETY: OP1: the addresses are of the name and the value's buffer, borrowed in place, and the
// descriptor is of `fd`. It completes once, and `take` bounds what counts as written.
unsafe impl<F: Target, N: AsRef<CStr>, B: IoBufMut> Op for Fgetxattr<F, N, B> {
    type Output = Outcome<usize, F, (N, B)>;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    fn prep(&mut self) -> Sqe {
        let region = self.value.region_mut();
        self.offered = region.transfer();
        self.fd.aim(prep::fgetxattr(-1, addr(&self.name), region.addr(), self.offered))
    }

    fn finish(mut self, done: Done) -> Self::Output {
        // SAFETY: the region of `prep` offered so many bytes, and the kernel is done with it (OP1).
        let result = unsafe { take(&mut self.value, &done, self.offered) };
        Outcome { result, fd: self.fd, buf: (self.name, self.value) }
    }
}

/// Whether the attribute may be there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Presence {
    /// It may: then it gets a new value.
    #[default]
    Any,
    /// It may not: `EEXIST`.
    #[doc(alias = "XATTR_CREATE")]
    Absent,
    /// It must: `ENODATA` otherwise.
    #[doc(alias = "XATTR_REPLACE")]
    Present,
}

impl Presence {
    /// As the kernel is told.
    fn bits(self) -> u32 {
        const CREATE: c_int = libc::XATTR_CREATE;
        const REPLACE: c_int = libc::XATTR_REPLACE;
        let bits = match self {
            Self::Any => 0,
            Self::Absent => CREATE,
            Self::Present => REPLACE,
        };
        bits.cast_unsigned()
    }
}

/// Sets an attribute of the file that a path names. Since Linux 5.19.
///
/// # Completion
///
/// Once, with 0: the value is the whole buffer, or nothing has changed.
///
/// # Cancellation
///
/// `ECANCELED` if it has not begun. Once begun, it cannot be stopped.
///
/// # Errors
///
/// Those of `setxattr(2)`: `E2BIG` for more than 64 KiB, `ERANGE` for an empty name or one of more
/// than 255 bytes, `EOPNOTSUPP` when the file system knows no such namespace, `EPERM` when this
/// user may not, or when such a file has none (`user.` of a link or a device). Since Linux 6.0 an
/// error does not break a chain.
#[doc(alias("IORING_OP_SETXATTR", "io_uring_prep_setxattr"))]
#[derive(Debug)]
pub struct Setxattr<P, N, B> {
    path: P,
    name: N,
    value: B,
    presence: Presence,
}

impl<P, N, B> Setxattr<P, N, B> {
    /// Sets the attribute `name` of the file that `path` names to `value`.
    pub fn new(path: P, name: N, value: B) -> Self {
        Self { path, name, value, presence: Presence::Any }
    }

    /// Only if the attribute is there already, or only if it is not.
    pub fn presence(self, presence: Presence) -> Self {
        Self { presence, ..self }
    }
}

// SAFETY: OP1: the addresses are of the path, the name and the value's buffer, borrowed in place.
// It completes once.
unsafe impl<P: AsRef<CStr>, N: AsRef<CStr>, B: IoBuf> Op for Setxattr<P, N, B> {
    type Output = Outcome<(), P, (N, B)>;

    fn prep(&mut self) -> Sqe {
        let (path, name, region) = (addr(&self.path), addr(&self.name), self.value.region());
        prep::setxattr(path, name, region.addr(), region.transfer(), self.presence.bits())
    }

    fn finish(self, done: Done) -> Self::Output {
        let buf = (self.name, self.value);
        Outcome { result: done.result().map(drop), fd: self.path, buf }
    }
}

/// Sets an attribute of an open file. Since Linux 5.19; of a
/// [`FixedFile`](crate::lease::FixedFile) since Linux 6.12 and in some before, `EBADF` in others.
///
/// # Completion
///
/// As [`Setxattr`].
///
/// # Cancellation
///
/// As [`Setxattr`].
///
/// # Errors
///
/// As [`Setxattr`]; and `EBADF` for what was opened as a [`path`](super::How::path).
#[doc(alias("IORING_OP_FSETXATTR", "io_uring_prep_fsetxattr"))]
#[derive(Debug)]
pub struct Fsetxattr<F, N, B> {
    fd: F,
    name: N,
    value: B,
    presence: Presence,
}

impl<F, N, B> Fsetxattr<F, N, B> {
    /// Sets the attribute `name` of `fd` to `value`.
    pub fn new(fd: F, name: N, value: B) -> Self {
        Self { fd, name, value, presence: Presence::Any }
    }

    /// Only if the attribute is there already, or only if it is not.
    pub fn presence(self, presence: Presence) -> Self {
        Self { presence, ..self }
    }
}

// SAFETY: OP1: the addresses are of the name and the value's buffer, borrowed in place, and the
// descriptor is of `fd`. It completes once.
unsafe impl<F: Target, N: AsRef<CStr>, B: IoBuf> Op for Fsetxattr<F, N, B> {
    type Output = Outcome<(), F, (N, B)>;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    fn prep(&mut self) -> Sqe {
        let (name, region) = (addr(&self.name), self.value.region());
        let flags = self.presence.bits();
        self.fd.aim(prep::fsetxattr(-1, name, region.addr(), region.transfer(), flags))
    }

    fn finish(self, done: Done) -> Self::Output {
        let buf = (self.name, self.value);
        Outcome { result: done.result().map(drop), fd: self.fd, buf }
    }
}
