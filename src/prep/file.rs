//! Files: bytes in, bytes out, and what keeps them.

use annulus_sys::abi::Sqe;
use annulus_sys::opcode::Opcode;

/// `IORING_OP_READ`: reads up to `len` bytes at `offset` into `addr`; from the file's own position,
/// and moving it, when `offset` is `u64::MAX`. Since Linux 5.6.
#[doc(alias = "io_uring_prep_read")]
#[inline]
pub fn read(fd: i32, addr: u64, len: u32, offset: u64) -> Sqe {
    Sqe { opcode: Opcode::READ, fd, addr, len, off: offset, ..Sqe::ZERO }
}

/// `IORING_OP_WRITE`: writes up to `len` bytes from `addr` at `offset`; at the file's own position,
/// and moving it, when `offset` is `u64::MAX`. Since Linux 5.6.
#[doc(alias = "io_uring_prep_write")]
#[inline]
pub fn write(fd: i32, addr: u64, len: u32, offset: u64) -> Sqe {
    Sqe { opcode: Opcode::WRITE, fd, addr, len, off: offset, ..Sqe::ZERO }
}
