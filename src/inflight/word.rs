//! Words: what a completion says whose it is, and a slot says what state it is in.
//!
//! ```text
//!   user_data   kind:2 │ generation:30 │ slot:32
//!   key                │ generation    │ slot, and DONE or SPECIAL
//! ```
//!
//! No completion reaches a slot by a word with one of the two bits, since that number lies beyond
//! the last slot. So a key equals a word if and only if that very operation is in flight, and needs
//! no closer look (OP2).
//!
//! A free slot is done with an operation of its next generation, which nobody has submitted: no
//! ticket asks for it. So a slot that is taken has the ticket's key already, and what is free need
//! be told from what is done only where slots are walked.
//!
//! Generations begin at 1: 0, which blank memory and the kernel's fillers say, is the word of no
//! operation until the first slot has been used 2^30 times.

/// Whose a `user_data` word is: its upper two bits.
pub(crate) mod kind {
    /// Of the ring itself: cancels and wake-ups.
    pub(crate) const OWN: u64 = 1 << 62;
    /// A message from a `RingSender`.
    pub(crate) const MESSAGE: u64 = 2 << 62;
    /// Of an entry that was pushed raw.
    pub(crate) const RAW: u64 = 3 << 62;
    /// All of these bits. Those of an operation are zero.
    pub(crate) const MASK: u64 = 3 << 62;
}

/// One generation, in a key.
pub(super) const LAP: u64 = 1 << 32;
/// No slot, at the end of the free list.
pub(super) const NONE: u32 = u32::MAX;

/// Its operation has ended, and is to be redeemed; or it is free.
pub(crate) const DONE: u64 = 1 << 29;
/// In flight, and its completions need a closer look. They name the slot without this bit.
pub(super) const SPECIAL: u64 = 1 << 28;

/// In a word of the ring's own: its cancel of the operation that the rest of the word names.
pub(crate) const CANCEL: u64 = 1 << 31;

/// The word of no operation, nor of anything else: that slot is beyond the last one.
pub(crate) const NOBODY: u64 = (1 << 30) - 1;

#[inline]
pub(crate) fn low(word: u64) -> u32 {
    let [a, b, c, d, ..] = word.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// All that says what state a slot is in.
pub(super) const STATE: u64 = DONE | SPECIAL;
