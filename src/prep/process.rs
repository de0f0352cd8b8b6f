//! Processes and epoll sets: waiting for children and for other files.

use annulus_sys::abi::Sqe;
use annulus_sys::opcode::Opcode;

/// `IORING_OP_EPOLL_CTL`: adds, changes or removes `fd` in the epoll instance `epoll`, like
/// `epoll_ctl(2)`. `op` is an `EPOLL_CTL_*`, and the `struct epoll_event` lies at `event`. Both
/// files are ordinary descriptors: the kernel ignores `FIXED_FILE` here. Since Linux 5.6.
#[doc(alias = "io_uring_prep_epoll_ctl")]
#[inline]
pub fn epoll_ctl(epoll: i32, fd: i32, op: u32, event: u64) -> Sqe {
    Sqe {
        opcode: Opcode::EPOLL_CTL,
        fd: epoll,
        off: fd.cast_unsigned().into(),
        addr: event,
        len: op,
        ..Sqe::ZERO
    }
}

/// `IORING_OP_EPOLL_WAIT`: waits until the epoll instance `fd` has events, and writes up to `count`
/// of them (`struct epoll_event`) to `events`. Since Linux 6.15.
#[doc(alias = "io_uring_prep_epoll_wait")]
#[inline]
pub fn epoll_wait(fd: i32, events: u64, count: u32) -> Sqe {
    Sqe { opcode: Opcode::EPOLL_WAIT, fd, addr: events, len: count, ..Sqe::ZERO }
}

/// `IORING_OP_WAITID`: waits until one of the children that `kind` (such as `P_PID`) and `id`
/// select changes state as `options` say (such as `WEXITED`), and writes the `siginfo_t` at `info`.
/// Since Linux 6.7.
#[doc(alias = "io_uring_prep_waitid")]
#[inline]
pub fn waitid(kind: u32, id: u32, info: u64, options: u32) -> Sqe {
    Sqe {
        opcode: Opcode::WAITID,
        fd: id.cast_signed(),
        off: info,
        len: kind,
        file_index: options,
        ..Sqe::ZERO
    }
}
