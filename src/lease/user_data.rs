//! The 64 bits of `user_data`, which say whose a completion is, and the slot keys that match them.
//!
//! ```text
//!   user_data   kind:2 │ generation:30 │ slot:32
//!   key                │ generation    │ slot, and DONE, SLOW or BY_TYPE
//! ```
//!
//! DONE, SLOW and BY_TYPE are bits of the slot number that no slot's number has. A `user_data` has
//! BY_TYPE if its operation has no ticket and is plain, and never one of the others. So a key
//! equals a `user_data` if and only if that very operation is in flight and needs no closer look
//! (OP2).
//!
//! A free slot has the key of a finished operation of its next generation. No such operation was
//! submitted yet, so no ticket asks for it. When the slot is taken, its key already matches the new
//! ticket. Only walks over all slots need to tell free slots from finished ones.
//!
//! Generations begin at 1. So `user_data` 0, as in blank memory and in the kernel's padding
//! entries, names no operation until the first slot has been used 2^30 times.

/// Whose a completion is: the upper two bits of its `user_data`.
pub(crate) mod kind {
    /// An internal request of the ring: a cancel, or the poll that wakes it.
    pub(crate) const INTERNAL: u64 = 1 << 62;
    /// A message from a `RingSender`.
    pub(crate) const MESSAGE: u64 = 2 << 62;
    /// An entry that was pushed through the raw API.
    pub(crate) const RAW: u64 = 3 << 62;
    /// Both bits. Both are zero for an operation.
    pub(crate) const MASK: u64 = 3 << 62;
}

/// One generation step, in a key.
pub(crate) const ONE_GENERATION: u64 = 1 << 32;
/// No slot: the end of the free list.
pub(crate) const NONE: u32 = u32::MAX;

/// The operation has ended and can be redeemed, or the slot is free.
pub(crate) const DONE: u64 = 1 << 29;
/// The operation is in flight, and its completions need a closer look. Their `user_data` lacks this
/// bit.
pub(crate) const SLOW: u64 = 1 << 28;

/// The operation has no ticket, completes once, and carries no resource: code that knows its type
/// takes its output. Its `user_data` has this bit, too.
pub(crate) const BY_TYPE: u64 = 1 << 27;

/// In the `user_data` of an internal request: a cancel of the operation that the other bits name.
pub(crate) const CANCEL: u64 = 1 << 31;

/// A `user_data` that names nothing: its slot number is beyond the last slot.
pub(crate) const NOBODY: u64 = (1 << 30) - 1;

#[inline]
pub(crate) fn low(user_data: u64) -> u32 {
    let [a, b, c, d, ..] = user_data.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// The number of the slot that an operation's `user_data` names.
#[inline]
pub(crate) fn slot_of(user_data: u64) -> u32 {
    low(user_data & !BY_TYPE)
}

/// All bits that say what state a slot is in.
pub(crate) const STATE: u64 = DONE | SLOW | BY_TYPE;
