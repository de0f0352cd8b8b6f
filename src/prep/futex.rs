//! Futexes: threads wait on a futex word in memory until another thread wakes them.

use annulus_sys::abi::Sqe;
use annulus_sys::flags_futex::FutexFlags;
use annulus_sys::opcode::Opcode;

/// `IORING_OP_FUTEX_WAIT`: if the futex word at `addr` equals `value`, waits for a wake whose mask
/// shares a bit with `mask`. Since Linux 6.7.
#[doc(alias = "io_uring_prep_futex_wait")]
#[inline]
pub fn futex_wait(addr: u64, value: u64, mask: u64, flags: FutexFlags) -> Sqe {
    let fd = flags.bits().cast_signed();
    Sqe { opcode: Opcode::FUTEX_WAIT, fd, off: value, addr, addr3: mask, ..Sqe::ZERO }
}

/// `IORING_OP_FUTEX_WAKE`: wakes up to `count` waiters on the futex word at `addr` whose mask
/// shares a bit with `mask`. Since Linux 6.7.
#[doc(alias = "io_uring_prep_futex_wake")]
#[inline]
pub fn futex_wake(addr: u64, count: u64, mask: u64, flags: FutexFlags) -> Sqe {
    let fd = flags.bits().cast_signed();
    Sqe { opcode: Opcode::FUTEX_WAKE, fd, off: count, addr, addr3: mask, ..Sqe::ZERO }
}

/// `IORING_OP_FUTEX_WAITV`: waits for a wake on any of the `count` futexes of the array of
/// [`annulus_sys::abi::FutexWaitv`] at `table`. Since Linux 6.7.
#[doc(alias = "io_uring_prep_futex_waitv")]
#[inline]
pub fn futex_waitv(table: u64, count: u32) -> Sqe {
    Sqe { opcode: Opcode::FUTEX_WAITV, addr: table, len: count, ..Sqe::ZERO }
}
