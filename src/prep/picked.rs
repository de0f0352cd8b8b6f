//! Reads into a buffer that the kernel picks from a group.

use annulus_sys::abi::Sqe;
use annulus_sys::flags::SqeFlags;
use annulus_sys::opcode::Opcode;

/// `IORING_OP_READ` with `BUFFER_SELECT`: reads up to `len` bytes at `offset` into a buffer of
/// `group`; as much as the buffer holds when `len` is 0. Since Linux 5.7, from a ring of buffers
/// since 5.19.
#[doc(alias = "IOSQE_BUFFER_SELECT")]
#[inline]
pub fn read_picked(fd: i32, len: u32, offset: u64, group: u16) -> Sqe {
    let (opcode, flags) = (Opcode::READ, SqeFlags::BUFFER_SELECT);
    Sqe { opcode, flags, fd, len, off: offset, buf_index: group, ..Sqe::ZERO }
}

/// `IORING_OP_READ_MULTISHOT`: reads into a buffer of `group` whenever there is something to read
/// at `offset`, again and again. Only from what can be polled: pipes, sockets, terminals. Since
/// Linux 6.7.
#[doc(alias = "io_uring_prep_read_multishot")]
#[inline]
pub fn read_multishot(fd: i32, offset: u64, group: u16) -> Sqe {
    let (opcode, flags) = (Opcode::READ_MULTISHOT, SqeFlags::BUFFER_SELECT);
    Sqe { opcode, flags, fd, off: offset, buf_index: group, ..Sqe::ZERO }
}
