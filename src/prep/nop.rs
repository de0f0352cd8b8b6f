//! NOP: does nothing, but goes through everything that the kernel does around an operation.

use annulus_sys::abi::{Sqe, Sqe128};
use annulus_sys::flags::NopFlags;
use annulus_sys::opcode::Opcode;

/// `IORING_OP_NOP`: does nothing. Since Linux 5.1.
#[doc(alias = "io_uring_prep_nop")]
#[inline]
pub fn nop() -> Sqe {
    Sqe { opcode: Opcode::NOP, fd: -1, ..Sqe::ZERO }
}

/// `IORING_OP_NOP` with flags: completes with `result` (`INJECT_RESULT`), looks up the file `fd`
/// (`FILE`, `FIXED_FILE`) and the registered buffer `index` (`FIXED_BUFFER`). Since Linux 6.10;
/// flags other than `INJECT_RESULT` since Linux 6.13, `TW` since Linux 6.17. If a lookup fails, a
/// chain breaks; the result reports the failure only in later releases (seen in 6.18.44).
#[doc(alias = "IORING_NOP_INJECT_RESULT")]
#[inline]
pub fn nop_with(flags: NopFlags, result: i32, fd: i32, index: u16) -> Sqe {
    Sqe { fd, len: result.cast_unsigned(), op_flags: flags.bits(), buf_index: index, ..nop() }
}

/// `IORING_OP_NOP` with `CQE32`: completes with 32 bytes, the last 16 of which are `extra`. Since
/// Linux 6.18, on a ring with `CQE32` or `CQE_MIXED`.
#[doc(alias = "IORING_NOP_CQE32")]
#[inline]
pub fn nop_cqe32(extra: [u64; 2]) -> Sqe {
    let [off, addr] = extra;
    Sqe { off, addr, op_flags: NopFlags::CQE32.bits(), ..nop() }
}

/// `IORING_OP_NOP128`: does nothing, in an entry of 128 bytes. Since Linux 6.19, on a ring with
/// `SQE128` or `SQE_MIXED`.
#[doc(alias = "io_uring_prep_nop128")]
#[inline]
pub fn nop128() -> Sqe128 {
    let first = Sqe { opcode: Opcode::NOP128, ..nop() };
    Sqe128 { first, ..Sqe128::ZERO }
}
