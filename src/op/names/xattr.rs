//! Extended attributes: names with values that a file has in addition to its bytes.
//!
//! ```text
//!   a file ─┬─ its bytes                        Read, Write
//!           ├─ "user.origin"    = "a camera"    Getxattr, Setxattr         by path
//!           └─ "user.checksum"  = 5f 3a …       Fgetxattr, Fsetxattr       of an open file
//! ```
//!
//! A name begins with its namespace (`user.`, `trusted.`, `security.`, `system.`), which determines
//! the permissions: `xattr(7)`. A name has at most 255 bytes, a value at most 64 KiB, and file
//! systems may allow less. Each operation runs in a worker thread of the kernel.
//!
//! Paths start in the current directory, and links are followed. For any other file, open it first.
//!
//! Keeps OP1: names, paths and values lie in the operation, or are borrowed from it. Leaves to
//! others: paths (`fs`), and buffers (`buf`).
#![allow(unsafe_code, reason = "writes entries that point to names and values")]

use std::ffi::{CStr, c_int};
use std::io;

use annulus_sys::abi::Sqe;

use super::fs::addr;
use crate::buf::{IoBuf, IoBufMut};
use crate::op::target::Target;
use crate::op::{Done, Op, Outcome, RingId};
use crate::prep;

/// Gets an attribute of the file at a path: `getxattr(2)`. Since Linux 5.19.
///
/// With a buffer without room (`Vec::new()`) it returns the length of the value, and writes
/// nothing.
///
/// # Completion
///
/// Once, with the length of the value in bytes.
///
/// # Cancellation
///
/// `ECANCELED` if it has not begun. Once begun, it cannot be stopped.
///
/// # Errors
///
/// Those of `getxattr(2)`: `ENODATA` when the file has no such attribute, `ERANGE` when the value
/// is longer than the buffer (nothing is written then), `EOPNOTSUPP` when the file system does not
/// support the namespace. Since Linux 6.0 an error does not break a chain.
#[doc(alias("IORING_OP_GETXATTR", "io_uring_prep_getxattr"))]
#[derive(Debug)]
pub struct Getxattr<P, N, B> {
    path: P,
    name: N,
    value: B,
    offered: u32,
}

impl<P, N, B> Getxattr<P, N, B> {
    /// Gets the attribute `name` of the file at `path` into `value`.
    pub fn new(path: P, name: N, value: B) -> Self {
        Self { path, name, value, offered: 0 }
    }
}

// SAFETY: OP1: the addresses are of the path, the name and the value's buffer, borrowed in place.
// It completes once, and `take` bounds how many bytes count as written.
unsafe impl<P: AsRef<CStr>, N: AsRef<CStr>, B: IoBufMut> Op for Getxattr<P, N, B> {
    type Output = Outcome<usize, P, (N, B)>;

    fn prep(&mut self) -> Sqe {
        let region = self.value.region_mut();
        self.offered = region.transfer();
        prep::getxattr(addr(&self.path), addr(&self.name), region.addr(), self.offered)
    }

    fn finish(mut self, done: Done) -> Self::Output {
        // SAFETY: the region of `prep` offered `offered` bytes, and the kernel no longer uses it
        // (OP1).
        let result = unsafe { take(&mut self.value, &done, self.offered) };
        Outcome { result, fd: self.path, buf: (self.name, self.value) }
    }
}

/// Records a value that the kernel wrote, and returns its length.
///
/// # Safety
///
/// `done` is of an operation that offered the kernel the first `offered` bytes of the region that
/// `value` last gave.
unsafe fn take(value: &mut impl IoBufMut, done: &Done, offered: u32) -> io::Result<usize> {
    if offered == 0 {
        // Asked for the length only, the kernel returns it and writes nothing.
        return done.count(u32::MAX);
    }
    let count = done.count(offered)?;
    // SAFETY: the kernel has written `count` bytes of the region, as the caller of `take`
    // guarantees.
    unsafe { value.set_filled(count) };
    Ok(count)
}

/// Gets an attribute of an open file: `fgetxattr(2)`. Since Linux 5.19; of a
/// [`FixedFile`](crate::lease::FixedFile) since Linux 6.12 and in some kernels before, `EBADF` in
/// others.
///
/// With a buffer without room (`Vec::new()`) it returns the length of the value, and writes
/// nothing.
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
/// As [`Getxattr`]; and `EBADF` for a descriptor that was opened with
/// [`path`](crate::op::How::path).
#[doc(alias("IORING_OP_FGETXATTR", "io_uring_prep_fgetxattr"))]
#[derive(Debug)]
pub struct Fgetxattr<F, N, B> {
    fd: F,
    name: N,
    value: B,
    offered: u32,
}

impl<F, N, B> Fgetxattr<F, N, B> {
    /// Gets the attribute `name` of `fd` into `value`.
    pub fn new(fd: F, name: N, value: B) -> Self {
        Self { fd, name, value, offered: 0 }
    }
}

// SAFETY: OP1: the addresses are of the name and the value's buffer, borrowed in place, and the
// descriptor is of `fd`. It completes once, and `take` bounds how many bytes count as written.
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
        // SAFETY: the region of `prep` offered `offered` bytes, and the kernel no longer uses it
        // (OP1).
        let result = unsafe { take(&mut self.value, &done, self.offered) };
        Outcome { result, fd: self.fd, buf: (self.name, self.value) }
    }
}

/// Whether the attribute may exist already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Presence {
    /// It may exist: then its value is replaced.
    #[default]
    Any,
    /// It must not exist: `EEXIST` otherwise.
    #[doc(alias = "XATTR_CREATE")]
    Absent,
    /// It must exist: `ENODATA` otherwise.
    #[doc(alias = "XATTR_REPLACE")]
    Present,
}

impl Presence {
    /// The flags that the kernel sees.
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

/// Sets an attribute of the file at a path: `setxattr(2)`. Since Linux 5.19.
///
/// The name must begin with a namespace, such as `user.`. A value has no zero at its end, and is
/// replaced as a whole. A symbolic link is followed.
///
/// # Completion
///
/// Once, with 0: the value is the whole buffer. On an error nothing has changed.
///
/// # Cancellation
///
/// `ECANCELED` if it has not begun. Once begun, it cannot be stopped.
///
/// # Errors
///
/// Those of `setxattr(2)`: `E2BIG` for more than 64 KiB, `ERANGE` for an empty name or one of more
/// than 255 bytes, `EOPNOTSUPP` when the file system does not support the namespace, `EPERM` when
/// the user lacks permission, or when this type of file has no such attributes (`user.` on a link
/// or a device). Since Linux 6.0 an error does not break a chain. `ENODATA` and `EEXIST` as
/// [`Presence`] says.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::{Fgetxattr, Fsetxattr, Getxattr, Setxattr};
/// use std::ffi::CString;
/// use std::fs::File;
///
/// let mut ring = Setup::new(4).build()?;
/// let path = std::env::temp_dir().join(format!("annulus-xattr-{}", std::process::id()));
/// let file = File::create_new(&path)?;
/// let name = CString::new(path.to_str().expect("plain"))?;
/// let set = ring.submit(Setxattr::new(name, c"user.colour", "blue"))?;
/// let set = ring.wait(set)?;
/// if let Err(error) = set.result {
///     println!("needs Linux 5.19, and a file system with attributes: {error}");
/// } else {
///     let get = ring.submit(Getxattr::new(set.fd, c"user.colour", [0; 16]))?;
///     let get = ring.wait(get)?;
///     assert_eq!((get.result?, &get.buf.1[..4]), (4, &b"blue"[..]));
///
///     let set = ring.submit(Fsetxattr::new(file, c"user.colour", "red"))?;
///     let set = ring.wait(set)?;
///     set.result?;
///     let get = ring.submit(Fgetxattr::new(set.fd, c"user.colour", Vec::new()))?;
///     assert_eq!(ring.wait(get)?.result?, 3); // Only its length: there is no room.
/// }
/// std::fs::remove_file(path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias("IORING_OP_SETXATTR", "io_uring_prep_setxattr"))]
#[derive(Debug)]
pub struct Setxattr<P, N, B> {
    path: P,
    name: N,
    value: B,
    presence: Presence,
}

impl<P, N, B> Setxattr<P, N, B> {
    /// Sets the attribute `name` of the file at `path` to `value`.
    pub fn new(path: P, name: N, value: B) -> Self {
        Self { path, name, value, presence: Presence::Any }
    }

    /// Requires that the attribute exists, or that it does not.
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

/// Sets an attribute of an open file: `fsetxattr(2)`. Since Linux 5.19; of a
/// [`FixedFile`](crate::lease::FixedFile) since Linux 6.12 and in some kernels before, `EBADF` in
/// others.
///
/// A descriptor that was opened only for reading will do: permissions of the file decide.
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
/// As [`Setxattr`]; and `EBADF` for a descriptor that was opened with
/// [`path`](crate::op::How::path).
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

    /// Requires that the attribute exists, or that it does not.
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
