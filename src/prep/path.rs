//! Names: how files get them, change them and lose them.

use annulus_sys::abi::Sqe;
use annulus_sys::opcode::Opcode;

/// `IORING_OP_RENAMEAT`: gives the file that the zero-ended name at `from` names, seen from the
/// directory `from_dir` (`AT_FDCWD`: the current one), the name at `to`, seen from `to_dir`, with
/// the `RENAME_*` of `renameat2(2)`. Since Linux 5.11.
#[doc(alias("io_uring_prep_renameat", "io_uring_prep_rename"))]
#[inline]
pub fn renameat(from_dir: i32, from: u64, to_dir: i32, to: u64, flags: u32) -> Sqe {
    Sqe {
        opcode: Opcode::RENAMEAT,
        fd: from_dir,
        off: to,
        addr: from,
        len: to_dir.cast_unsigned(),
        op_flags: flags,
        ..Sqe::ZERO
    }
}

/// `IORING_OP_UNLINKAT`: takes the zero-ended name at `path` away, seen from the directory `dir`
/// (`AT_FDCWD`: the current one); with `AT_REMOVEDIR` that of an empty directory. Since Linux 5.11.
#[doc(alias("io_uring_prep_unlinkat", "io_uring_prep_unlink"))]
#[inline]
pub fn unlinkat(dir: i32, path: u64, flags: u32) -> Sqe {
    Sqe { opcode: Opcode::UNLINKAT, fd: dir, addr: path, op_flags: flags, ..Sqe::ZERO }
}

/// `IORING_OP_MKDIRAT`: makes a directory with the zero-ended name at `path`, seen from the
/// directory `dir` (`AT_FDCWD`: the current one). Since Linux 5.15.
#[doc(alias("io_uring_prep_mkdirat", "io_uring_prep_mkdir"))]
#[inline]
pub fn mkdirat(dir: i32, path: u64, mode: u32) -> Sqe {
    Sqe { opcode: Opcode::MKDIRAT, fd: dir, addr: path, len: mode, ..Sqe::ZERO }
}

/// `IORING_OP_SYMLINKAT`: makes a symbolic link with the zero-ended name at `path`, seen from the
/// directory `dir` (`AT_FDCWD`: the current one), which holds the text at `target`. Since Linux
/// 5.15.
#[doc(alias("io_uring_prep_symlinkat", "io_uring_prep_symlink"))]
#[inline]
pub fn symlinkat(target: u64, dir: i32, path: u64) -> Sqe {
    Sqe { opcode: Opcode::SYMLINKAT, fd: dir, off: path, addr: target, ..Sqe::ZERO }
}

/// `IORING_OP_LINKAT`: gives the file that the zero-ended name at `from` names, seen from the
/// directory `from_dir` (`AT_FDCWD`: the current one), the name at `to` too, seen from `to_dir`,
/// with the `AT_*` of `linkat(2)`. Since Linux 5.15.
#[doc(alias("io_uring_prep_linkat", "io_uring_prep_link"))]
#[inline]
pub fn linkat(from_dir: i32, from: u64, to_dir: i32, to: u64, flags: u32) -> Sqe {
    Sqe {
        opcode: Opcode::LINKAT,
        fd: from_dir,
        off: to,
        addr: from,
        len: to_dir.cast_unsigned(),
        op_flags: flags,
        ..Sqe::ZERO
    }
}
