//! Extended attributes: names with values that a file has.

use annulus_sys::abi::Sqe;
use annulus_sys::opcode::Opcode;

/// `IORING_OP_SETXATTR`: gives the file that the zero-ended path at `path` names, seen from the
/// current directory, the attribute whose zero-ended name is at `name`, with the `len` bytes at
/// `value`, and the `XATTR_*` of `setxattr(2)`. Since Linux 5.19.
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

/// `IORING_OP_FSETXATTR`: as [`setxattr`], for an open file. Since Linux 5.19.
#[doc(alias = "io_uring_prep_fsetxattr")]
#[inline]
pub fn fsetxattr(fd: i32, name: u64, value: u64, len: u32, flags: u32) -> Sqe {
    Sqe { opcode: Opcode::FSETXATTR, fd, off: value, addr: name, len, op_flags: flags, ..Sqe::ZERO }
}

/// `IORING_OP_GETXATTR`: writes the value of an attribute of the file that the zero-ended path at
/// `path` names, seen from the current directory, to the `len` bytes at `value`. The attribute's
/// zero-ended name is at `name`. With a `len` of 0, only tells how long the value is. Since Linux
/// 5.19.
#[doc(alias = "io_uring_prep_getxattr")]
#[inline]
pub fn getxattr(path: u64, name: u64, value: u64, len: u32) -> Sqe {
    Sqe { opcode: Opcode::GETXATTR, off: value, addr: name, len, addr3: path, ..Sqe::ZERO }
}

/// `IORING_OP_FGETXATTR`: as [`getxattr`], for an open file. Since Linux 5.19.
#[doc(alias = "io_uring_prep_fgetxattr")]
#[inline]
pub fn fgetxattr(fd: i32, name: u64, value: u64, len: u32) -> Sqe {
    Sqe { opcode: Opcode::FGETXATTR, fd, off: value, addr: name, len, ..Sqe::ZERO }
}
