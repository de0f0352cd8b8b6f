//! Futexes: words in memory that threads wait at.

use annulus_sys::abi::Sqe;
use annulus_sys::flags_futex::FutexFlags;
use annulus_sys::opcode::Opcode;

/// `IORING_OP_FUTEX_WAIT`: if the word at `addr` is `value`, waits for a wake whose mask meets
/// `mask`. Since Linux 6.7.
#[doc(alias = "io_uring_prep_futex_wait")]
#[inline]
pub fn futex_wait(addr: u64, value: u64, mask: u64, flags: FutexFlags) -> Sqe {
    let fd = flags.bits().cast_signed();
    Sqe { opcode: Opcode::FUTEX_WAIT, fd, off: value, addr, addr3: mask, ..Sqe::ZERO }
}

/// `IORING_OP_FUTEX_WAKE`: wakes up to `count` of those who wait at the word at `addr`, with a mask
/// that meets `mask`. Since Linux 6.7.
#[doc(alias = "io_uring_prep_futex_wake")]
#[inline]
pub fn futex_wake(addr: u64, count: u64, mask: u64, flags: FutexFlags) -> Sqe {
    let fd = flags.bits().cast_signed();
    Sqe { opcode: Opcode::FUTEX_WAKE, fd, off: count, addr, addr3: mask, ..Sqe::ZERO }
}

/// `IORING_OP_FUTEX_WAITV`: waits for a wake at one of the `count` futexes of the table
/// ([`FutexWaitv`](annulus_sys::abi::FutexWaitv)) at `table`. Since Linux 6.7.
#[doc(alias = "io_uring_prep_futex_waitv")]
#[inline]
pub fn futex_waitv(table: u64, count: u32) -> Sqe {
    Sqe { opcode: Opcode::FUTEX_WAITV, addr: table, len: count, ..Sqe::ZERO }
}
