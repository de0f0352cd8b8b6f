//! A message to a ring, from a thread that has none, with any word.
//!
//! A completion appears in the other ring, with the word and the result that we say. It may name a
//! request that the kernel still has, and then its owner takes that for ended: so this is `unsafe`,
//! and the safe face sends only what ends nothing ([`RingSender`](crate::RingSender)).
#![allow(unsafe_code, reason = "writes another ring's completions")]

use std::os::fd::{AsRawFd, BorrowedFd};

use annulus_sys::opcode::RegisterOp;

use super::call::Call;
use crate::lease::RegisterError;
use crate::prep;

/// Posts a completion with `user_data` and `result` to the ring behind `ring`. Since Linux 6.13;
/// before, another ring must send ([`prep::msg_ring`]).
///
/// # Errors
///
/// [`RegisterError::Missing`] for what is no ring, or one that is still disabled; `EOVERFLOW` when
/// its completion ring is full.
///
/// # Safety
///
/// Whoever reaps that ring must take the completion for what it is: its word must not be one that
/// they have given to a request (OP2).
#[doc(alias = "IORING_REGISTER_SEND_MSG_RING")]
#[doc(alias = "io_uring_register_sync_msg")]
pub unsafe fn send_message(
    ring: BorrowedFd<'_>,
    user_data: u64,
    result: u32,
) -> Result<(), RegisterError> {
    let mut sqe = prep::msg_ring(ring.as_raw_fd(), result, user_data);
    let call = Call::new(RegisterOp::SEND_MSG_RING, 1, "a message is a word and a result");
    // SAFETY: one live entry, which points to nothing, and which the kernel copies; what the word
    // means over there is as promised to `send_message`.
    let made = unsafe { call.make_for_task(&raw mut sqe) };
    made.map(drop).map_err(|error| match error {
        // The kernel has one number for a file that is no ring and for a ring in a wrong state.
        RegisterError::Enabled => RegisterError::Missing { what: "enabled ring to send to" },
        error => error,
    })
}
