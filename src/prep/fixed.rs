//! What is registered with the ring: reads and writes of its buffers, and filling its table of
//! files.

use annulus_sys::abi::Sqe;
use annulus_sys::opcode::Opcode;

/// `IORING_OP_READ_FIXED`: reads up to `len` bytes at `offset` into `addr`, which lies in the
/// registered buffer `index`. Since Linux 5.1; from the file's own position since 5.6.
#[doc(alias = "io_uring_prep_read_fixed")]
#[inline]
pub fn read_fixed(fd: i32, addr: u64, len: u32, offset: u64, index: u16) -> Sqe {
    let opcode = Opcode::READ_FIXED;
    Sqe { opcode, fd, addr, len, off: offset, buf_index: index, ..Sqe::ZERO }
}

/// `IORING_OP_WRITE_FIXED`: writes up to `len` bytes at `offset` from `addr`, which lies in the
/// registered buffer `index`. Since Linux 5.1; at the file's own position since 5.6.
#[doc(alias = "io_uring_prep_write_fixed")]
#[inline]
pub fn write_fixed(fd: i32, addr: u64, len: u32, offset: u64, index: u16) -> Sqe {
    let opcode = Opcode::WRITE_FIXED;
    Sqe { opcode, fd, addr, len, off: offset, buf_index: index, ..Sqe::ZERO }
}

/// `IORING_OP_FILES_UPDATE`: puts the `count` descriptors at `addr` into the table of files, from
/// place `offset`; with `FILE_INDEX_ALLOC` into free places, whose numbers replace them at `addr`.
/// Since Linux 5.6; choosing places since 5.19.
#[doc(alias = "io_uring_prep_files_update")]
#[inline]
pub fn files_update(addr: u64, count: u32, offset: u32) -> Sqe {
    let opcode = Opcode::FILES_UPDATE;
    Sqe { opcode, fd: -1, addr, len: count, off: offset.into(), ..Sqe::ZERO }
}
