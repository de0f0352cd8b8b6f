//! What concerns requests and rings themselves: polls, cancels, messages.

use annulus_sys::abi::Sqe;
use annulus_sys::opcode::Opcode;

/// `IORING_OP_POLL_ADD`: completes when one of `events` (`POLLIN` and the others) is there. Since
/// Linux 5.1.
#[doc(alias = "io_uring_prep_poll_add")]
#[inline]
pub fn poll_add(fd: i32, events: u32) -> Sqe {
    Sqe { opcode: Opcode::POLL_ADD, fd, op_flags: events, ..Sqe::ZERO }
}

/// `IORING_OP_ASYNC_CANCEL`: cancels a request whose `user_data` is `word`. Since Linux 5.5.
#[doc(alias = "io_uring_prep_cancel64")]
#[inline]
pub fn cancel_word(word: u64) -> Sqe {
    Sqe { opcode: Opcode::ASYNC_CANCEL, fd: -1, addr: word, ..Sqe::ZERO }
}

/// `IORING_OP_MSG_RING`: posts a completion of `word` and `result` to the ring `fd`. Since Linux
/// 5.18.
#[doc(alias = "io_uring_prep_msg_ring")]
#[inline]
pub fn msg_ring(fd: i32, result: u32, word: u64) -> Sqe {
    Sqe { opcode: Opcode::MSG_RING, fd, len: result, off: word, ..Sqe::ZERO }
}
