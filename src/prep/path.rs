//! Paths: renaming, linking and removing files, and creating directories.

use annulus_sys::abi::Sqe;
use annulus_sys::opcode::Opcode;

/// `IORING_OP_RENAMEAT`: renames the file at the NUL-terminated path `from`, relative to the
/// directory `from_dir` (`AT_FDCWD`: the current directory), to the path at `to`, relative to
/// `to_dir`. `flags` are the `RENAME_*` of `renameat2(2)`. Since Linux 5.11.
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

/// `IORING_OP_UNLINKAT`: removes the NUL-terminated path at `path`, relative to the directory `dir`
/// (`AT_FDCWD`: the current directory). With `AT_REMOVEDIR`, removes an empty directory. Since
/// Linux 5.11.
#[doc(alias("io_uring_prep_unlinkat", "io_uring_prep_unlink"))]
#[inline]
pub fn unlinkat(dir: i32, path: u64, flags: u32) -> Sqe {
    Sqe { opcode: Opcode::UNLINKAT, fd: dir, addr: path, op_flags: flags, ..Sqe::ZERO }
}

/// `IORING_OP_MKDIRAT`: creates a directory at the NUL-terminated path `path`, relative to the
/// directory `dir` (`AT_FDCWD`: the current directory). Since Linux 5.15.
#[doc(alias("io_uring_prep_mkdirat", "io_uring_prep_mkdir"))]
#[inline]
pub fn mkdirat(dir: i32, path: u64, mode: u32) -> Sqe {
    Sqe { opcode: Opcode::MKDIRAT, fd: dir, addr: path, len: mode, ..Sqe::ZERO }
}

/// `IORING_OP_SYMLINKAT`: creates a symbolic link at the NUL-terminated path `path`, relative to
/// the directory `dir` (`AT_FDCWD`: the current directory). The link contains the NUL-terminated
/// text at `target`. Since Linux 5.15.
#[doc(alias("io_uring_prep_symlinkat", "io_uring_prep_symlink"))]
#[inline]
pub fn symlinkat(target: u64, dir: i32, path: u64) -> Sqe {
    Sqe { opcode: Opcode::SYMLINKAT, fd: dir, off: path, addr: target, ..Sqe::ZERO }
}

/// `IORING_OP_LINKAT`: gives the file at the NUL-terminated path `from`, relative to the directory
/// `from_dir` (`AT_FDCWD`: the current directory), a second name: the path at `to`, relative to
/// `to_dir`. `flags` are the `AT_*` of `linkat(2)`. Since Linux 5.15.
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
