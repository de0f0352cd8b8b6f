//! Advice: what will be needed, what will not, and what may be written back.

use annulus_sys::abi::Sqe;
use annulus_sys::opcode::Opcode;

/// `IORING_OP_FADVISE`: tells how the `len` bytes at `offset` of a file (0: all from there on) will
/// be used, by a `POSIX_FADV_*`. Since Linux 5.6.
#[doc(alias = "io_uring_prep_fadvise")]
#[inline]
pub fn fadvise(fd: i32, offset: u64, len: u32, advice: u32) -> Sqe {
    Sqe { opcode: Opcode::FADVISE, fd, off: offset, len, op_flags: advice, ..Sqe::ZERO }
}

/// `IORING_OP_FADVISE`: as [`fadvise`], for any length. Since Linux 6.10; kernels before refuse it.
#[doc(alias = "io_uring_prep_fadvise64")]
#[inline]
pub fn fadvise64(fd: i32, offset: u64, len: u64, advice: u32) -> Sqe {
    Sqe { opcode: Opcode::FADVISE, fd, off: offset, addr: len, op_flags: advice, ..Sqe::ZERO }
}

/// `IORING_OP_MADVISE`: tells how the `len` bytes of memory at `addr` will be used, or changes what
/// is there, by a `MADV_*`. The address is a multiple of a page, and all pages are meant of which
/// the length covers a byte. Since Linux 5.6.
#[doc(alias = "io_uring_prep_madvise")]
#[inline]
pub fn madvise(addr: u64, len: u32, advice: u32) -> Sqe {
    Sqe { opcode: Opcode::MADVISE, fd: -1, addr, len, op_flags: advice, ..Sqe::ZERO }
}

/// `IORING_OP_MADVISE`: as [`madvise`], for any length. Since Linux 6.10; kernels before refuse it.
#[doc(alias = "io_uring_prep_madvise64")]
#[inline]
pub fn madvise64(addr: u64, len: u64, advice: u32) -> Sqe {
    Sqe { opcode: Opcode::MADVISE, fd: -1, off: len, addr, op_flags: advice, ..Sqe::ZERO }
}

/// `IORING_OP_SYNC_FILE_RANGE`: writes the `len` bytes at `offset` of a file (0: all from there on)
/// back from the page cache, or waits for that, as the `SYNC_FILE_RANGE_*` of `sync_file_range(2)`
/// say. Since Linux 5.2.
#[doc(alias = "io_uring_prep_sync_file_range")]
#[inline]
pub fn sync_file_range(fd: i32, len: u32, offset: u64, flags: u32) -> Sqe {
    Sqe { opcode: Opcode::SYNC_FILE_RANGE, fd, off: offset, len, op_flags: flags, ..Sqe::ZERO }
}
