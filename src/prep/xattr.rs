//! Extended attributes: named values that are attached to a file.

use annulus_sys::abi::Sqe;
use annulus_sys::opcode::Opcode;

/// `IORING_OP_SETXATTR`: sets an extended attribute of the file at the NUL-terminated path `path`,
/// relative to the current directory. The attribute's NUL-terminated name is at `name`, and its
/// value is the `len` bytes at `value`. `flags` are the `XATTR_*` of `setxattr(2)`. Since Linux
/// 5.19.
#[doc(alias = "io_uring_prep_setxattr")]
#[inline]
pub fn setxattr(path: u64, name: u64, value: u64, len: u32, flags: u32) -> Sqe {
    Sqe {
        opcode: Opcode::SETXATTR,
        off: value,
        addr: name,
        len,
        op_flags: flags,
        addr3: path,
        ..Sqe::ZERO
    }
}

/// `IORING_OP_FSETXATTR`: like [`setxattr`], for an open file. Since Linux 5.19.
#[doc(alias = "io_uring_prep_fsetxattr")]
#[inline]
pub fn fsetxattr(fd: i32, name: u64, value: u64, len: u32, flags: u32) -> Sqe {
    Sqe { opcode: Opcode::FSETXATTR, fd, off: value, addr: name, len, op_flags: flags, ..Sqe::ZERO }
}

/// `IORING_OP_GETXATTR`: writes the value of an extended attribute of the file at the
/// NUL-terminated path `path`, relative to the current directory, to the `len` bytes at `value`.
/// The attribute's NUL-terminated name is at `name`. A `len` of 0 only returns the length of the
/// value. Since Linux 5.19.
#[doc(alias = "io_uring_prep_getxattr")]
#[inline]
pub fn getxattr(path: u64, name: u64, value: u64, len: u32) -> Sqe {
    Sqe { opcode: Opcode::GETXATTR, off: value, addr: name, len, addr3: path, ..Sqe::ZERO }
}

/// `IORING_OP_FGETXATTR`: like [`getxattr`], for an open file. Since Linux 5.19.
#[doc(alias = "io_uring_prep_fgetxattr")]
#[inline]
pub fn fgetxattr(fd: i32, name: u64, value: u64, len: u32) -> Sqe {
    Sqe { opcode: Opcode::FGETXATTR, fd, off: value, addr: name, len, ..Sqe::ZERO }
}
