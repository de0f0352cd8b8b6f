//! Registered resources: registered buffers, buffer groups, and the table of registered files.

use annulus_sys::abi::Sqe;
use annulus_sys::flags::SqeFlags;
use annulus_sys::opcode::Opcode;

/// `IORING_OP_READ_FIXED`: reads up to `len` bytes at `offset` into `addr`, which must lie in the
/// registered buffer `index`. Since Linux 5.1; an `offset` of `u64::MAX` (the file's own position)
/// since Linux 5.6.
#[doc(alias = "io_uring_prep_read_fixed")]
#[inline]
pub fn read_fixed(fd: i32, addr: u64, len: u32, offset: u64, index: u16) -> Sqe {
    let opcode = Opcode::READ_FIXED;
    Sqe { opcode, fd, addr, len, off: offset, buf_index: index, ..Sqe::ZERO }
}

/// `IORING_OP_WRITE_FIXED`: writes up to `len` bytes at `offset` from `addr`, which must lie in the
/// registered buffer `index`. Since Linux 5.1; an `offset` of `u64::MAX` (the file's own position)
/// since Linux 5.6.
#[doc(alias = "io_uring_prep_write_fixed")]
#[inline]
pub fn write_fixed(fd: i32, addr: u64, len: u32, offset: u64, index: u16) -> Sqe {
    let opcode = Opcode::WRITE_FIXED;
    Sqe { opcode, fd, addr, len, off: offset, buf_index: index, ..Sqe::ZERO }
}

/// `IORING_OP_READV_FIXED`: reads into the `count` buffers of the `struct iovec` array at `table`,
/// all of which must lie in the registered buffer `index`. `flags` are the `RWF_*` of `preadv2(2)`.
/// An `offset` of `u64::MAX` means the file's own position. Since Linux 6.15.
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

/// `IORING_OP_WRITEV_FIXED`: writes the `count` buffers of the `struct iovec` array at `table`, all
/// of which must lie in the registered buffer `index`. `flags` are the `RWF_*` of `pwritev2(2)`. An
/// `offset` of `u64::MAX` means the file's own position. Since Linux 6.15.
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

/// `IORING_OP_READ` with `BUFFER_SELECT`: reads up to `len` bytes at `offset` into a buffer that
/// the kernel selects from `group`. A `len` of 0 reads as much as the buffer holds. Since Linux
/// 5.7; with a buffer ring since Linux 5.19. If the read fails at once, Linux 6.16 and 6.17 may
/// name a buffer that is still available to the kernel: `PBUF_STATUS` tells.
#[doc(alias = "IOSQE_BUFFER_SELECT")]
#[inline]
pub fn read_provided(fd: i32, len: u32, offset: u64, group: u16) -> Sqe {
    let (opcode, flags) = (Opcode::READ, SqeFlags::BUFFER_SELECT);
    Sqe { opcode, flags, fd, len, off: offset, buf_index: group, ..Sqe::ZERO }
}

/// `IORING_OP_READ_MULTISHOT`: each time there is something to read at `offset`, reads it into a
/// buffer that the kernel selects from `group`, as much as the buffer holds. Works only for files
/// that can be polled: pipes, sockets, terminals. Since Linux 6.7.
#[doc(alias = "io_uring_prep_read_multishot")]
#[inline]
pub fn read_multishot(fd: i32, offset: u64, group: u16) -> Sqe {
    let (opcode, flags) = (Opcode::READ_MULTISHOT, SqeFlags::BUFFER_SELECT);
    Sqe { opcode, flags, fd, off: offset, buf_index: group, ..Sqe::ZERO }
}

/// `IORING_OP_FILES_UPDATE`: puts the `count` descriptors at `addr` into the table of registered
/// files, starting at slot `offset`. With an `offset` of `FILE_INDEX_ALLOC`, the kernel chooses
/// free slots and writes their indices to `addr`. Since Linux 5.6; `FILE_INDEX_ALLOC` since Linux
/// 5.19.
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
        // liburing lets the caller pass a length, which the kernel refuses.
        let many = Sqe { len: 0x3220, ..read_multishot(0x3110, OFFSET, 0x3440) };
        assert_eq!(many, golden("io_uring_prep_read_multishot"));
        let once = read_provided(0x3110, 0x3220, OFFSET, 0x3440);
        assert_eq!(once, Sqe { opcode: Opcode::READ, ..many });
    }

    #[test]
    fn files_are_registered_as_liburing_does() {
        let update = files_update(0x7f00_4010_2000, 0x3220, 0x3330);
        assert_eq!(update, golden("io_uring_prep_files_update"));
    }
}
