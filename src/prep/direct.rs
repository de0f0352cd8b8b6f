//! Fixed files: opening files into the ring's table of registered files, closing them; pipes.

use annulus_sys::abi::Sqe;
use annulus_sys::flags::{FILE_INDEX_ALLOC, FixedFdFlags, SqeFlags};
use annulus_sys::opcode::Opcode;

/// The largest index that an entry can name. No table is as long.
const LAST: u32 = FILE_INDEX_ALLOC - 2;

/// Encodes `index` for an entry's `file_index`: one more than the index, since 0 means an ordinary
/// descriptor.
fn place(index: u32) -> u32 {
    // Clamped, so that the result is neither 0 nor `FILE_INDEX_ALLOC` ("any free slot"). The kernel
    // refuses the clamped index, just as it would have refused the original one.
    index.min(LAST) + 1
}

/// Changes `sqe`, which opens, accepts or creates a file, to put the file at `index` of the table
/// of registered files instead of returning a descriptor. A file that was in that slot is closed.
/// The result is 0. A pipe also takes the next slot. The entry must not ask for "close on exec",
/// which the kernel refuses here. Since Linux 5.15.
#[doc(alias("io_uring_prep_open_direct", "io_uring_prep_openat_direct"))]
#[doc(alias("io_uring_prep_openat2_direct", "io_uring_prep_accept_direct"))]
#[doc(alias("io_uring_prep_socket_direct", "io_uring_prep_pipe_direct"))]
#[inline]
pub fn direct(sqe: Sqe, index: u32) -> Sqe {
    Sqe { file_index: place(index), ..sqe }
}

/// Like [`direct`], but the kernel chooses a free slot, and the result is its index. Fails with
/// `ENFILE` if no slot is free. A multishot operation can use registered files only in this way.
/// Since Linux 5.19.
#[doc(alias("IORING_FILE_INDEX_ALLOC", "io_uring_prep_multishot_accept_direct"))]
#[doc(alias = "io_uring_prep_socket_direct_alloc")]
#[inline]
pub fn direct_alloc(sqe: Sqe) -> Sqe {
    Sqe { file_index: FILE_INDEX_ALLOC, ..sqe }
}

/// `IORING_OP_CLOSE`: closes the registered file at `index` of the table. Since Linux 5.15.
#[doc(alias = "io_uring_prep_close_direct")]
#[inline]
pub fn close_direct(index: u32) -> Sqe {
    Sqe { opcode: Opcode::CLOSE, file_index: place(index), ..Sqe::ZERO }
}

/// `IORING_OP_FIXED_FD_INSTALL`: creates a descriptor for the registered file at `index` of the
/// table. The file also stays registered. The descriptor is closed on exec, unless `flags` say
/// otherwise. Since Linux 6.8.
#[doc(alias = "io_uring_prep_fixed_fd_install")]
#[inline]
pub fn fixed_fd_install(index: i32, flags: FixedFdFlags) -> Sqe {
    Sqe {
        opcode: Opcode::FIXED_FD_INSTALL,
        flags: SqeFlags::FIXED_FILE,
        fd: index,
        op_flags: flags.bits(),
        ..Sqe::ZERO
    }
}

/// `IORING_OP_PIPE`: creates a pipe and writes its two descriptors to the two `int` at `ends`, the
/// read end first. `flags` are the `O_*` of `pipe2(2)`. Since Linux 6.16.
#[doc(alias = "io_uring_prep_pipe")]
#[inline]
pub fn pipe(ends: u64, flags: u32) -> Sqe {
    Sqe { opcode: Opcode::PIPE, addr: ends, op_flags: flags, ..Sqe::ZERO }
}
