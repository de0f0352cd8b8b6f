//! What a received message says of itself, apart from its bytes.
//!
//! ```text
//!   │◄──────────── length ────────────►│
//!   │◄──── bytes ────►│
//!   │ in the buffers  │ lost: is_truncated
//! ```
//!
//! Leaves to others: control data and descriptors, which lie in a `MsgHeader` (`msghdr`); when a
//! length may be asked for (`length`).

use super::Header;
use crate::buf::address::Address;

/// A received message, without its bytes.
#[derive(Debug, Clone, Copy)]
pub struct Received {
    /// The number of its bytes that are in the buffers.
    pub bytes: usize,
    /// The sender; `None` when the message came through a connection, when the sender has no
    /// address, when there was no room for its kind of address, and when the address [may name a
    /// descriptor](Address::from_bytes).
    pub from: Option<Address>,
    flags: u32,
    /// What the kernel said of its length in bytes.
    told: u32,
}

impl Received {
    pub(super) fn of(bytes: usize, from: Option<Address>, header: &Header) -> Self {
        Self { bytes, from, flags: header.flags, told: 0 }
    }

    /// Adds the length that the kernel returned.
    pub(super) fn with_length(self, told: u32) -> Self {
        Self { told, ..self }
    }

    fn has(&self, flag: i32) -> bool {
        self.flags & flag.cast_unsigned() != 0
    }

    /// The length of the whole datagram in bytes, with the part that was lost. `None` when a part
    /// was lost and the operation did not [ask](crate::op::RecvMsg::with_length) for the length.
    #[doc(alias = "MSG_TRUNC")]
    pub fn length(&self) -> Option<usize> {
        let told = self.told as usize;
        if told > self.bytes { Some(told) } else { (!self.is_truncated()).then_some(self.bytes) }
    }

    /// Whether the datagram was longer than the buffers, so that the rest is lost (`MSG_TRUNC`).
    pub fn is_truncated(&self) -> bool {
        self.has(libc::MSG_TRUNC)
    }

    /// Whether there was more control data than room for it (`MSG_CTRUNC`), such as descriptors
    /// without a [`MsgHeader`](crate::op::MsgHeader), or beyond the process's limit. The kernel has
    /// dropped the rest.
    pub fn is_control_truncated(&self) -> bool {
        self.has(libc::MSG_CTRUNC)
    }

    /// Whether the message ends a record (`MSG_EOR`).
    pub fn is_end_of_record(&self) -> bool {
        self.has(libc::MSG_EOR)
    }
}
