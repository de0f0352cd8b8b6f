//! Files: reading, writing, flushing, and changing their size.

use annulus_sys::abi::Sqe;
use annulus_sys::flags::{FsyncFlags, RwAttrFlags};
use annulus_sys::opcode::Opcode;

// ANCHOR: read
/// `IORING_OP_READ`: reads up to `len` bytes at `offset` into `addr`. An `offset` of `u64::MAX`
/// reads at the file's own position and moves it. Since Linux 5.6.
#[doc(alias = "io_uring_prep_read")]
#[inline]
pub fn read(fd: i32, addr: u64, len: u32, offset: u64) -> Sqe {
    Sqe { opcode: Opcode::READ, fd, addr, len, off: offset, ..Sqe::ZERO }
}
// ANCHOR_END: read

/// `IORING_OP_WRITE`: writes up to `len` bytes from `addr` at `offset`. An `offset` of `u64::MAX`
/// writes at the file's own position and moves it. Since Linux 5.6.
#[doc(alias = "io_uring_prep_write")]
#[inline]
pub fn write(fd: i32, addr: u64, len: u32, offset: u64) -> Sqe {
    Sqe { opcode: Opcode::WRITE, fd, addr, len, off: offset, ..Sqe::ZERO }
}

/// `IORING_OP_READV`: reads into the `count` buffers of the `struct iovec` array at `table`.
/// `flags` are the `RWF_*` of `preadv2(2)`. Since Linux 5.1; an `offset` of `u64::MAX` (the file's
/// own position) since Linux 5.6.
#[doc(alias("io_uring_prep_readv", "io_uring_prep_readv2"))]
#[inline]
pub fn readv(fd: i32, table: u64, count: u32, offset: u64, flags: u32) -> Sqe {
    Sqe {
        opcode: Opcode::READV,
        fd,
        addr: table,
        len: count,
        off: offset,
        op_flags: flags,
        ..Sqe::ZERO
    }
}

/// `IORING_OP_WRITEV`: writes the `count` buffers of the `struct iovec` array at `table`. `flags`
/// are the `RWF_*` of `pwritev2(2)`. Since Linux 5.1; an `offset` of `u64::MAX` (the file's own
/// position) since Linux 5.6.
#[doc(alias("io_uring_prep_writev", "io_uring_prep_writev2"))]
#[inline]
pub fn writev(fd: i32, table: u64, count: u32, offset: u64, flags: u32) -> Sqe {
    Sqe {
        opcode: Opcode::WRITEV,
        fd,
        addr: table,
        len: count,
        off: offset,
        op_flags: flags,
        ..Sqe::ZERO
    }
}

/// Adds attributes to `sqe`, a read or a write. `kinds` says which attributes lie at `attributes`:
/// for [`RwAttrFlags::PI`] an [`annulus_sys::abi::AttrPi`], which says where the protection
/// information lies. The attributes and everything they point to must live as long as the request.
///
/// The file must be opened with `O_DIRECT`, on a device that supports protection information. Since
/// Linux 6.14, with [`annulus_sys::flags::Features::RW_ATTR`]. Older kernels
/// ignore the attributes and transfer the data without them.
#[doc(alias("attr_ptr", "attr_type_mask", "io_uring_attr_pi"))]
#[inline]
pub fn with_attributes(sqe: Sqe, kinds: RwAttrFlags, attributes: u64) -> Sqe {
    Sqe { addr3: attributes, pad2: kinds.bits(), ..sqe }
}

/// `IORING_OP_FSYNC`: waits until the data written to the file is on the device. Since Linux 5.1.
#[doc(alias = "io_uring_prep_fsync")]
#[inline]
pub fn fsync(fd: i32, flags: FsyncFlags) -> Sqe {
    Sqe { opcode: Opcode::FSYNC, fd, op_flags: flags.bits(), ..Sqe::ZERO }
}

/// `IORING_OP_FALLOCATE`: allocates, frees or zeroes `len` bytes at `offset`, as `mode`, a
/// combination of `FALLOC_FL_*`, says. Since Linux 5.6.
#[doc(alias = "io_uring_prep_fallocate")]
#[inline]
pub fn fallocate(fd: i32, mode: u32, offset: u64, len: u64) -> Sqe {
    Sqe { opcode: Opcode::FALLOCATE, fd, off: offset, addr: len, len: mode, ..Sqe::ZERO }
}

/// `IORING_OP_FTRUNCATE`: sets the size of the file to `len` bytes. Since Linux 6.9.
#[doc(alias = "io_uring_prep_ftruncate")]
#[inline]
pub fn ftruncate(fd: i32, len: u64) -> Sqe {
    Sqe { opcode: Opcode::FTRUNCATE, fd, off: len, ..Sqe::ZERO }
}
