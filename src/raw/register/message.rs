//! Sending a message to a ring, from a thread that has no ring, with any `user_data`.
//!
//! A completion appears in the other ring, with the `user_data` and the result that we choose. If a
//! request that the kernel still has uses that `user_data`, its owner would conclude that the
//! request has ended. So this function is `unsafe`, and the safe API only sends messages that end
//! no request ([`RingSender`](crate::RingSender)).
#![allow(unsafe_code, reason = "writes another ring's completions")]

use std::os::fd::{AsRawFd, BorrowedFd};

use annulus_sys::opcode::RegisterOp;

use super::call::Call;
use super::error::RegisterError;
use crate::prep;

/// Posts a completion with `user_data` and `result` to the ring behind `ring`. Since Linux 6.13;
/// before, only another ring can send ([`prep::msg_ring`]).
///
/// # Errors
///
/// [`RegisterError::Missing`] if `ring` is not a ring, or is still disabled; `EOVERFLOW` if its
/// completion queue is full.
///
/// # Safety
///
/// Whoever reaps that ring must recognize the completion: no request of theirs may have this
/// `user_data` (OP2).
#[doc(alias = "IORING_REGISTER_SEND_MSG_RING")]
#[doc(alias = "io_uring_register_sync_msg")]
pub unsafe fn send_message(
    ring: BorrowedFd<'_>,
    user_data: u64,
    result: u32,
) -> Result<(), RegisterError> {
    let mut sqe = prep::msg_ring(ring.as_raw_fd(), result, user_data);
    let call = Call::new(RegisterOp::SEND_MSG_RING, 1, "a message is a `user_data` and a result");
    // SAFETY: one live entry, which points to nothing, and which the kernel copies; the receiver
    // takes its `user_data` as promised to `send_message`.
    let made = unsafe { call.make_for_task(&raw mut sqe) };
    made.map(drop).map_err(|error| match error {
        // The kernel uses one errno for a file that is not a ring and for a ring in the wrong
        // state.
        RegisterError::Enabled => RegisterError::Missing { what: "enabled ring to send to" },
        error => error,
    })
}
