//! Files in the ring's own table, and how they get there and out of it; and pipes.

use annulus_sys::abi::Sqe;
use annulus_sys::flags::{FILE_INDEX_ALLOC, FixedFdFlags, SqeFlags};
use annulus_sys::opcode::Opcode;

/// The largest index that an entry can name. No table is as long.
const LAST: u32 = FILE_INDEX_ALLOC - 2;

/// How an entry names the place `index` of the table: one more, since 0 is a descriptor.
fn place(index: u32) -> u32 {
    // Neither 0 nor the number that means any place; the kernel refuses this one as it would have
    // the other.
    index.min(LAST) + 1
}

/// `sqe`, which opens, accepts or makes a file, with the place `index` of the table of registered
/// files in place of a descriptor. What was there is closed. The result is 0. A pipe takes the
/// place behind it too. Without "close on exec", which the kernel refuses here. Since Linux 5.15.
#[doc(alias("io_uring_prep_open_direct", "io_uring_prep_openat_direct"))]
#[doc(alias("io_uring_prep_openat2_direct", "io_uring_prep_accept_direct"))]
#[doc(alias("io_uring_prep_socket_direct", "io_uring_prep_pipe_direct"))]
#[inline]
pub fn direct(sqe: Sqe, index: u32) -> Sqe {
    Sqe { file_index: place(index), ..sqe }
}

/// `sqe`, as by [`direct`], with any place that is free; the result is its index. `ENFILE` if there
/// is none. The only way for what completes many times. Since Linux 5.19.
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

/// `IORING_OP_FIXED_FD_INSTALL`: makes a descriptor of the registered file at `index` of the table,
/// which stays there. It is closed on exec, unless `flags` say otherwise. Since Linux 6.8.
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

/// `IORING_OP_PIPE`: makes a pipe, and writes the descriptors of its ends to the two `int` at
/// `ends`, first that which is read from, with the `O_*` of `pipe2(2)`. Since Linux 6.16.
#[doc(alias = "io_uring_prep_pipe")]
#[inline]
pub fn pipe(ends: u64, flags: u32) -> Sqe {
    Sqe { opcode: Opcode::PIPE, addr: ends, op_flags: flags, ..Sqe::ZERO }
}
