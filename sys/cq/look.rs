//! Looking at completions without taking them.
//!
//! ```text
//!            popped │ a │ b │ × │ c, wide │ posted later
//!   ────────────────┴───┴───┴───┴─────────┴─────────────
//!                  next     skipped      known             head does not move
//! ```
//!
//! Keeps CQ3 and CQ4: reads only slots that `pop` may read, and publishes nothing. So the kernel
//! never writes to a slot that is looked at. Leaves to others: what is taken (`cq`), and which
//! slots hold no completion (`mixed`).
//!
//! # Safety
//!
//! Reads only slots in `head..tail`, which are ours.
#![allow(unsafe_code, reason = "decides which slots are ours to read")]

use super::{CompletionQueue, CqeShape};
use crate::abi::Cqe32;
use crate::flags::CqeFlags;
use crate::index::Index;

/// Copies of the completions that are ready, oldest first: see [`CompletionQueue::iter_ready`].
#[derive(Debug)]
pub struct ReadyCqes<'a> {
    ring: &'a CompletionQueue,
    at: Index,
    end: Index,
}

impl CompletionQueue {
    /// Copies of the completions that can be popped now, oldest first, with their second 16 bytes
    /// (0 for a completion of 16 bytes). Takes none of them: [`pop`](Self::pop) returns them again.
    /// Never enters the kernel. Empty in a forked child.
    ///
    /// # Panics
    ///
    /// When the kernel broke CQ2.
    pub fn iter_ready(&mut self) -> ReadyCqes<'_> {
        let here = self.is_here();
        if here {
            self.look_for_more();
        }
        // If the tail is one too far, the last slot it covers is the first slot again.
        let slots = if here { self.slots_ready().min(self.entries()) } else { 0 };
        ReadyCqes { at: self.next, end: self.next.advance(slots), ring: self }
    }
}

impl Iterator for ReadyCqes<'_> {
    type Item = Cqe32;

    fn next(&mut self) -> Option<Cqe32> {
        let Self { ring, at, end } = self;
        // The caller's code runs between two calls, and may have forked.
        while ring.is_here() && at != end {
            if ring.shape != CqeShape::Mixed {
                let this = *at;
                *at = at.advance(1);
                // SAFETY: ours: `tail` covers the slot (CQ3) and `head` has not passed it (CQ4).
                let first = unsafe { ring.slots.read(this) };
                if ring.shape == CqeShape::Single {
                    return Some(Cqe32 { first, big: [0; 2] });
                }
                // SAFETY: ours, as just said (CQ3, CQ4); double, because the shape is neither
                // of the others.
                let big = unsafe { ring.slots.read_rest(this) }.to_words();
                return Some(Cqe32 { first, big });
            }
            let first = ring.first_of_mixed(*at)?;
            let wide = first.flags.contains(CqeFlags::CQE32);
            let mut big = [0; 2];
            if wide {
                if end.distance_from(*at) < 2 {
                    return None; // `pop` names it.
                }
                // SAFETY: ours, as just seen (CQ3, CQ4).
                big = unsafe { ring.slots.read(at.advance(1)) }.to_words();
            }
            *at = at.advance(if wide { 2 } else { 1 });
            if !first.flags.contains(CqeFlags::SKIP) {
                return Some(Cqe32 { first, big });
            }
        }
        None
    }
}
