//! Advice to the kernel: how a file or memory will be used, and when to write data back.

use annulus_sys::abi::Sqe;
use annulus_sys::opcode::Opcode;

/// `IORING_OP_FADVISE`: tells the kernel how `len` bytes at `offset` of a file will be used (a
/// `len` of 0 means up to the end of the file). `advice` is a `POSIX_FADV_*`. Since Linux 5.6.
#[doc(alias = "io_uring_prep_fadvise")]
#[inline]
pub fn fadvise(fd: i32, offset: u64, len: u32, advice: u32) -> Sqe {
    Sqe { opcode: Opcode::FADVISE, fd, off: offset, len, op_flags: advice, ..Sqe::ZERO }
}

/// `IORING_OP_FADVISE`: like [`fadvise`], for a length of any size. Since Linux 6.10; older kernels
/// refuse it.
#[doc(alias = "io_uring_prep_fadvise64")]
#[inline]
pub fn fadvise64(fd: i32, offset: u64, len: u64, advice: u32) -> Sqe {
    Sqe { opcode: Opcode::FADVISE, fd, off: offset, addr: len, op_flags: advice, ..Sqe::ZERO }
}

/// `IORING_OP_MADVISE`: tells the kernel how `len` bytes of memory at `addr` will be used, or
/// changes their contents. `advice` is a `MADV_*`. `addr` must be a multiple of the page size, and
/// the advice applies to every page that the range touches. Since Linux 5.6.
#[doc(alias = "io_uring_prep_madvise")]
#[inline]
pub fn madvise(addr: u64, len: u32, advice: u32) -> Sqe {
    Sqe { opcode: Opcode::MADVISE, fd: -1, addr, len, op_flags: advice, ..Sqe::ZERO }
}

/// `IORING_OP_MADVISE`: like [`madvise`], for a length of any size. Since Linux 6.10; older kernels
/// refuse it.
#[doc(alias = "io_uring_prep_madvise64")]
#[inline]
pub fn madvise64(addr: u64, len: u64, advice: u32) -> Sqe {
    Sqe { opcode: Opcode::MADVISE, fd: -1, off: len, addr, op_flags: advice, ..Sqe::ZERO }
}

/// `IORING_OP_SYNC_FILE_RANGE`: writes `len` bytes at `offset` of a file (a `len` of 0 means up to
/// the end of the file) back from the page cache, or waits until that is done. `flags` are the
/// `SYNC_FILE_RANGE_*` of `sync_file_range(2)`. Since Linux 5.2.
#[doc(alias = "io_uring_prep_sync_file_range")]
#[inline]
pub fn sync_file_range(fd: i32, len: u32, offset: u64, flags: u32) -> Sqe {
    Sqe { opcode: Opcode::SYNC_FILE_RANGE, fd, off: offset, len, op_flags: flags, ..Sqe::ZERO }
}
