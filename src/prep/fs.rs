//! The file system: opening and closing files, and reading their metadata.

use annulus_sys::abi::{OpenHow, Sqe};
use annulus_sys::opcode::Opcode;

/// The size of an [`OpenHow`] in bytes. The kernel is told the size, so that the struct can grow.
const HOW: u32 = 24;

const _: () = assert!(size_of::<OpenHow>() == HOW as usize);

/// `IORING_OP_OPENAT`: opens the file named by the NUL-terminated path at `path`, relative to the
/// directory `dir` (`AT_FDCWD`: the current directory). `flags` are the `O_*` of `open(2)`. Since
/// Linux 5.6.
#[doc(alias("io_uring_prep_openat", "io_uring_prep_open"))]
#[inline]
pub fn openat(dir: i32, path: u64, flags: u32, mode: u32) -> Sqe {
    Sqe { opcode: Opcode::OPENAT, fd: dir, addr: path, len: mode, op_flags: flags, ..Sqe::ZERO }
}

/// `IORING_OP_OPENAT2`: opens a file like [`openat`], as the [`OpenHow`] at `how` says. Since Linux
/// 5.6.
#[doc(alias = "io_uring_prep_openat2")]
#[inline]
pub fn openat2(dir: i32, path: u64, how: u64) -> Sqe {
    Sqe { opcode: Opcode::OPENAT2, fd: dir, off: how, addr: path, len: HOW, ..Sqe::ZERO }
}

/// `IORING_OP_CLOSE`: closes a descriptor. Since Linux 5.6.
#[doc(alias = "io_uring_prep_close")]
#[inline]
pub fn close(fd: i32) -> Sqe {
    Sqe { opcode: Opcode::CLOSE, fd, ..Sqe::ZERO }
}

/// `IORING_OP_STATX`: writes a file's metadata to the `struct statx` at `out`. `mask` says which
/// fields are wanted (`STATX_*`), and `flags` are the `AT_*` of `statx(2)`. Since Linux 5.6.
#[doc(alias = "io_uring_prep_statx")]
#[inline]
pub fn statx(dir: i32, path: u64, flags: u32, mask: u32, out: u64) -> Sqe {
    Sqe {
        opcode: Opcode::STATX,
        fd: dir,
        off: out,
        addr: path,
        len: mask,
        op_flags: flags,
        ..Sqe::ZERO
    }
}
