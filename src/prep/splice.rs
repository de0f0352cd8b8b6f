//! Splicing: moving bytes from file to file inside the kernel.

use annulus_sys::abi::Sqe;
use annulus_sys::opcode::Opcode;

/// `IORING_OP_SPLICE`: moves up to `len` bytes from the file `from` at `from_offset` to the file
/// `to` at `to_offset`. One of the two must be a pipe. `flags` are the `SPLICE_F_*` of `splice(2)`.
/// An offset of `u64::MAX` means the file's own position, and is the only offset allowed for a
/// pipe. With [`annulus_sys::flags::SpliceFlags::FD_IN_FIXED`], `from` is
/// an index into the registered files; with `FIXED_FILE` in the entry's flags, `to` is. Since Linux
/// 5.7.
#[doc(alias = "io_uring_prep_splice")]
#[inline]
pub fn splice(from: i32, from_offset: u64, to: i32, to_offset: u64, len: u32, flags: u32) -> Sqe {
    Sqe {
        opcode: Opcode::SPLICE,
        fd: to,
        off: to_offset,
        addr: from_offset,
        len,
        op_flags: flags,
        file_index: from.cast_unsigned(),
        ..Sqe::ZERO
    }
}

/// `IORING_OP_TEE`: copies up to `len` bytes from the pipe `from` to the pipe `to`, and leaves them
/// in `from` too. `flags` are the `SPLICE_F_*` of `tee(2)`. With
/// [`annulus_sys::flags::SpliceFlags::FD_IN_FIXED`], `from` is an index
/// into the registered files; with `FIXED_FILE` in the entry's flags, `to` is. Since Linux 5.8.
#[doc(alias = "io_uring_prep_tee")]
#[inline]
pub fn tee(from: i32, to: i32, len: u32, flags: u32) -> Sqe {
    Sqe {
        opcode: Opcode::TEE,
        fd: to,
        len,
        op_flags: flags,
        file_index: from.cast_unsigned(),
        ..Sqe::ZERO
    }
}
