//! Posting completions: of 16 bytes, of 32, and of both in a mixed queue.
//!
//! ```text
//!   mixed   │ 1 │ 2 │ 3 │ × │     a wide one does not fit before the wrap: a filler, and slot 0
//! ```
//!
//! A mixed queue does what Linux 6.18 to 7.2 do: the kernel remembers a run of free slots, and a
//! filler does not shorten that run. So when a filler was written and the wide completion behind it
//! found no room, the next small one is written over the filler, and the tail is one too far. It
//! also passes the wide one, which is held back. Later releases forget the run.
#![allow(unsafe_code, reason = "plays the kernel")]

use annulus_sys::abi::Cqe;
use annulus_sys::flags::CqeFlags;
use annulus_sys::index::Index;
use annulus_sys::shape::CqeShape;

use super::memory::Half;

/// A completion, with its second half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Posting {
    pub(super) cqe: Cqe,
    /// The second half; `None` if it says nothing.
    pub(super) big: Option<[u64; 2]>,
}

/// How a completion is posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct How {
    /// Whether others were held back before it. In a mixed queue it passes them if a slot is known
    /// to be free.
    pub(super) waits: bool,
    /// Whether a filler ends the run of free slots.
    pub(super) forgets: bool,
}

impl From<Cqe> for Posting {
    fn from(cqe: Cqe) -> Self {
        Self { cqe, big: None }
    }
}

impl Half {
    /// Whether a completion of one slot finds room, as far as that is known before.
    pub(super) fn has_room(&self) -> bool {
        self.ready() < self.cq_entries() || self.free.0 < self.free.1
    }

    /// Posts one completion, if there is room.
    pub(super) fn post(&mut self, posting: Posting, how: How) -> bool {
        let Posting { cqe, big } = posting;
        if self.shape == CqeShape::Mixed {
            return self.post_mixed(cqe, big, how);
        }
        if how.waits {
            return false;
        }
        let tail = self.cq_tail.last();
        if tail.distance_from(self.cq_head.observe()) >= self.cq_entries() {
            return false;
        }
        // SAFETY: ours to write: `head` has passed the slot (CQ4).
        unsafe { self.cqes.write(tail, cqe) };
        if self.cqes.is_double() {
            // SAFETY: ours to write: `head` has passed the slot (CQ4), which is double.
            unsafe { self.cqes.write_rest(tail, second_half(big.unwrap_or_default())) };
        }
        self.cq_tail.publish(tail.advance(1));
        true
    }

    fn post_mixed(&mut self, cqe: Cqe, big: Option<[u64; 2]>, how: How) -> bool {
        let need = if big.is_some() { 2 } else { 1 };
        let is_known = self.free.1 - self.free.0 >= need;
        if !is_known && (how.waits || !self.find_free(need, how.forgets)) {
            return false;
        }
        let at = Index::from_raw(self.free.0);
        let flags = if big.is_some() { cqe.flags | CqeFlags::CQE32 } else { cqe.flags };
        // SAFETY: ours to write: `head` had passed the slot when the run was found (CQ4), or it is
        // the filler of the last slot, which Linux overwrites.
        unsafe { self.cqes.write(at, Cqe { flags, ..cqe }) };
        if let Some(big) = big {
            // SAFETY: ours to write: the run has two slots (CQ4).
            unsafe { self.cqes.write(at.advance(1), second_half(big)) };
        }
        self.free.0 += need;
        self.cq_tail.publish(self.cq_tail.last().advance(need));
        true
    }

    /// A completion found no room, and no memory to be kept in.
    pub(super) fn count_lost(&mut self) {
        self.overflow.publish(self.overflow.last().advance(1));
    }

    /// Looks for a run of at least `need` free slots (`io_cqe_cache_refill`, v6.18).
    fn find_free(&mut self, need: u32, forgets: bool) -> bool {
        let (entries, count) = (self.cqes.entries(), self.cq_entries());
        let tail = self.cq_tail.last();
        let mut at = u32::try_from(tail.slot(entries)).expect("below the entries");
        if need == 2 && at + 1 == count {
            if self.ready() == count {
                return false;
            }
            let filler = Cqe { flags: CqeFlags::SKIP, ..Cqe::ZERO };
            // SAFETY: ours to write: `head` has passed the slot (CQ4), since one is free.
            unsafe { self.cqes.write(tail, filler) };
            self.cq_tail.publish(tail.advance(1));
            at = 0;
            if forgets {
                self.free = (0, 0);
            }
        }
        let len = (count - self.ready()).min(count - at);
        if len < need {
            return false;
        }
        self.free = (at, at + len);
        true
    }
}

/// The second half of a completion.
fn second_half(big: [u64; 2]) -> Cqe {
    let [a, b, c, d, e, f, g, h] = big[1].to_ne_bytes();
    let flags = CqeFlags::from_bits_retain(u32::from_ne_bytes([e, f, g, h]));
    Cqe { user_data: big[0], res: i32::from_ne_bytes([a, b, c, d]), flags }
}
