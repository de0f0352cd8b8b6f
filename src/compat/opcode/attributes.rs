//! What the file system knows of a file.

use annulus_sys::abi::Sqe;
use annulus_sys::opcode::Opcode;

use super::super::types::{UseFd, statx};
use super::{Entry, UseFixed, address, at, on};

/// Asks about a file, as `statx(2)`. Since Linux 5.6.
#[derive(Debug)]
pub struct Statx(Sqe);

impl Statx {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::STATX.0;

    /// About the file at `pathname`; the answer goes to `statxbuf`, cast from `*mut libc::statx`.
    #[inline]
    pub fn new(dirfd: impl UseFd, pathname: *const libc::c_char, statxbuf: *mut statx) -> Self {
        Self(Sqe {
            addr: address(pathname),
            off: address(statxbuf),
            ..at(Opcode::STATX, dirfd.number())
        })
    }

    /// `AT_*`.
    #[inline]
    pub const fn flags(mut self, flags: i32) -> Self {
        self.0.op_flags = flags.cast_unsigned();
        self
    }

    /// `STATX_*`: what to ask for.
    #[inline]
    pub const fn mask(mut self, mask: u32) -> Self {
        self.0.len = mask;
        self
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

/// Reads an extended attribute, as `getxattr(2)`. Since Linux 5.19.
#[derive(Debug)]
pub struct GetXattr(Sqe);

impl GetXattr {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::GETXATTR.0;

    /// The attribute `name` of the file at `path`, into up to `len` bytes at `value`.
    #[inline]
    pub fn new(
        name: *const libc::c_char,
        value: *mut libc::c_void,
        path: *const libc::c_char,
        len: u32,
    ) -> Self {
        Self(Sqe {
            addr: address(name),
            off: address(value),
            addr3: address(path),
            len,
            ..at(Opcode::GETXATTR, 0)
        })
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

/// Sets an extended attribute, as `setxattr(2)`. Since Linux 5.19.
#[derive(Debug)]
pub struct SetXattr(Sqe);

impl SetXattr {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::SETXATTR.0;

    /// The attribute `name` of the file at `path`, to the `len` bytes at `value`.
    #[inline]
    pub fn new(
        name: *const libc::c_char,
        value: *const libc::c_void,
        path: *const libc::c_char,
        len: u32,
    ) -> Self {
        Self(Sqe {
            addr: address(name),
            off: address(value),
            addr3: address(path),
            len,
            ..at(Opcode::SETXATTR, 0)
        })
    }

    /// `XATTR_*`.
    #[inline]
    pub const fn flags(mut self, flags: i32) -> Self {
        self.0.op_flags = flags.cast_unsigned();
        self
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

/// Reads an extended attribute, as `fgetxattr(2)`. Since Linux 5.19.
#[derive(Debug)]
pub struct FGetXattr(Sqe);

impl FGetXattr {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::FGETXATTR.0;

    /// The attribute `name`, into up to `len` bytes at `value`.
    #[inline]
    pub fn new(
        fd: impl UseFixed,
        name: *const libc::c_char,
        value: *mut libc::c_void,
        len: u32,
    ) -> Self {
        Self(Sqe { addr: address(name), off: address(value), len, ..on(Opcode::FGETXATTR, fd) })
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

/// Sets an extended attribute, as `fsetxattr(2)`. Since Linux 5.19.
#[derive(Debug)]
pub struct FSetXattr(Sqe);

impl FSetXattr {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::FSETXATTR.0;

    /// The attribute `name`, to the `len` bytes at `value`.
    #[inline]
    pub fn new(
        fd: impl UseFixed,
        name: *const libc::c_char,
        value: *const libc::c_void,
        len: u32,
    ) -> Self {
        Self(Sqe { addr: address(name), off: address(value), len, ..on(Opcode::FSETXATTR, fd) })
    }

    /// `XATTR_*`.
    #[inline]
    pub const fn flags(mut self, flags: i32) -> Self {
        self.0.op_flags = flags.cast_unsigned();
        self
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}
