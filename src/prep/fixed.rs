//! What is registered with the ring: its buffers, its rings of buffers, its table of files.

use annulus_sys::abi::Sqe;
use annulus_sys::flags::SqeFlags;
use annulus_sys::opcode::Opcode;

/// `IORING_OP_READ_FIXED`: reads up to `len` bytes at `offset` into `addr`, which lies in the
/// registered buffer `index`. Since Linux 5.1; from the file's own position, with an `offset` of
/// `u64::MAX`, since Linux 5.6.
#[doc(alias = "io_uring_prep_read_fixed")]
#[inline]
pub fn read_fixed(fd: i32, addr: u64, len: u32, offset: u64, index: u16) -> Sqe {
    let opcode = Opcode::READ_FIXED;
    Sqe { opcode, fd, addr, len, off: offset, buf_index: index, ..Sqe::ZERO }
}

/// `IORING_OP_WRITE_FIXED`: writes up to `len` bytes at `offset` from `addr`, which lies in the
/// registered buffer `index`. Since Linux 5.1; at the file's own position, with an `offset` of
/// `u64::MAX`, since Linux 5.6.
#[doc(alias = "io_uring_prep_write_fixed")]
#[inline]
pub fn write_fixed(fd: i32, addr: u64, len: u32, offset: u64, index: u16) -> Sqe {
    let opcode = Opcode::WRITE_FIXED;
    Sqe { opcode, fd, addr, len, off: offset, buf_index: index, ..Sqe::ZERO }
}

/// `IORING_OP_READV_FIXED`: reads into the `count` parts of the registered buffer `index` that the
/// table (`struct iovec`) at `table` names, with the `RWF_*` of `preadv2(2)`; from the file's own
/// position when `offset` is `u64::MAX`. Since Linux 6.15.
#[doc(alias = "io_uring_prep_readv_fixed")]
#[inline]
pub fn readv_fixed(fd: i32, table: u64, count: u32, offset: u64, flags: u32, index: u16) -> Sqe {
    Sqe {
        opcode: Opcode::READV_FIXED,
        fd,
        addr: table,
        len: count,
        off: offset,
        op_flags: flags,
        buf_index: index,
        ..Sqe::ZERO
    }
}

/// `IORING_OP_WRITEV_FIXED`: writes the `count` parts of the registered buffer `index` that the
/// table (`struct iovec`) at `table` names, with the `RWF_*` of `pwritev2(2)`; at the file's own
/// position when `offset` is `u64::MAX`. Since Linux 6.15.
#[doc(alias = "io_uring_prep_writev_fixed")]
#[inline]
pub fn writev_fixed(fd: i32, table: u64, count: u32, offset: u64, flags: u32, index: u16) -> Sqe {
    Sqe {
        opcode: Opcode::WRITEV_FIXED,
        fd,
        addr: table,
        len: count,
        off: offset,
        op_flags: flags,
        buf_index: index,
        ..Sqe::ZERO
    }
}

/// `IORING_OP_READ` with `BUFFER_SELECT`: reads up to `len` bytes at `offset` into a buffer of
/// `group` that the kernel picks; as much as that holds when `len` is 0. Since Linux 5.7, from a
/// ring of buffers since Linux 5.19. When it fails at once, Linux 6.16 and 6.17 may name a buffer
/// that is still on offer: `PBUF_STATUS` tells.
#[doc(alias = "IOSQE_BUFFER_SELECT")]
#[inline]
pub fn read_picked(fd: i32, len: u32, offset: u64, group: u16) -> Sqe {
    let (opcode, flags) = (Opcode::READ, SqeFlags::BUFFER_SELECT);
    Sqe { opcode, flags, fd, len, off: offset, buf_index: group, ..Sqe::ZERO }
}

/// `IORING_OP_READ_MULTISHOT`: reads into buffers of `group` that the kernel picks, as much as each
/// holds, whenever there is something to read at `offset`. Only from what can be polled: pipes,
/// sockets, terminals. Since Linux 6.7.
#[doc(alias = "io_uring_prep_read_multishot")]
#[inline]
pub fn read_multishot(fd: i32, offset: u64, group: u16) -> Sqe {
    let (opcode, flags) = (Opcode::READ_MULTISHOT, SqeFlags::BUFFER_SELECT);
    Sqe { opcode, flags, fd, off: offset, buf_index: group, ..Sqe::ZERO }
}

/// `IORING_OP_FILES_UPDATE`: puts the `count` descriptors at `addr` into the table of files, from
/// place `offset`; with `FILE_INDEX_ALLOC` into free places, whose numbers replace them at `addr`.
/// Since Linux 5.6; choosing places since Linux 5.19.
#[doc(alias = "io_uring_prep_files_update")]
#[inline]
pub fn files_update(addr: u64, count: u32, offset: u32) -> Sqe {
    let opcode = Opcode::FILES_UPDATE;
    Sqe { opcode, fd: -1, addr, len: count, off: offset.into(), ..Sqe::ZERO }
}

#[cfg(test)]
mod tests {
    use super::super::golden::golden;
    use super::*;

    #[test]
    fn registered_buffers_are_named_as_liburing_does() {
        const ADDR: u64 = 0x7f00_8020_4000;
        const OFFSET: u64 = 0x0102_0304_0000_2440;
        let read = read_fixed(0x3110, ADDR, 0x3330, OFFSET, 0x3550);
        assert_eq!(read, golden("io_uring_prep_read_fixed"));
        let write = write_fixed(0x3110, ADDR, 0x3330, OFFSET, 0x3550);
        assert_eq!(write, golden("io_uring_prep_write_fixed"));
    }

    #[test]
    fn buffers_are_picked_as_liburing_does() {
        const OFFSET: u64 = 0x0102_0304_0000_2330;
        // It lets one name a length, which the kernel refuses.
        let many = Sqe { len: 0x3220, ..read_multishot(0x3110, OFFSET, 0x3440) };
        assert_eq!(many, golden("io_uring_prep_read_multishot"));
        let once = read_picked(0x3110, 0x3220, OFFSET, 0x3440);
        assert_eq!(once, Sqe { opcode: Opcode::READ, ..many });
    }

    #[test]
    fn files_are_registered_as_liburing_does() {
        let update = files_update(0x7f00_4010_2000, 0x3220, 0x3330);
        assert_eq!(update, golden("io_uring_prep_files_update"));
    }
}
