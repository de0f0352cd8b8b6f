//! Mixed rings (`CQE_MIXED`): completions of one slot and of two, and fillers.
//!
//! ```text
//!   3 small ones         │ 1 │ 2 │ 3 │   │
//!   a wide one: no room  │ 1 │ 2 │ 3 │ × │ tail        a filler, and the wide one is kept back
//!   a small one          │ 1 │ 2 │ 3 │ 4 │   tail      over the filler; nothing is in slot 0
//! ```
//!
//! The last line is a fault of Linux 6.18 to 7.2. Two habits answer it, and lose and repeat
//! nothing: a slot that goes back holds a filler, so that one to which nothing was written is
//! passed over; and a filler in the last slot is not passed before something is known behind it,
//! since something may yet be written over it. Not in a ring of two: there the wide one would never
//! have room, and what is written over a filler that was passed is lost.
//!
//! Keeps CQ3 and CQ4, and checks CQ2. Leaves to others: rings of one width (`cq`).
//!
//! # Safety
//!
//! Reads and writes only slots in `head..tail`, which are ours; and free ones after a resize, while
//! the kernel posts nothing.
#![allow(unsafe_code, reason = "decides which slots are ours to read")]

use super::{CompletionRing, CqeShape};
use crate::abi::{Cqe, Cqe32};
use crate::flags::CqeFlags;

/// What stands for no completion.
const FILLER: Cqe = Cqe { flags: CqeFlags::SKIP, ..Cqe::ZERO };

impl CompletionRing {
    /// [`ready`](Self::ready), by a walk over what is there.
    pub(super) fn count_mixed(&self) -> u32 {
        // With a tail one too far, the last slot is the first once more.
        let slots = self.slots_ready().min(self.entries());
        let (mut at, mut count, end) = (self.next, 0, self.next.advance(slots));
        while at != end {
            // SAFETY: ours: `tail` covers the slot (CQ3) and `head` has not passed it (CQ4).
            let flags = unsafe { self.slots.read(at) }.flags;
            let wide = flags.contains(CqeFlags::CQE32);
            let left = end.distance_from(at);
            at = at.advance(if wide { left.min(2) } else { 1 });
            count += u32::from(!flags.contains(CqeFlags::SKIP));
        }
        count
    }

    /// Whether the kernel's tail is one too far, in a ring that is full: more than fits, of which
    /// the last is nothing.
    ///
    /// # Panics
    ///
    /// When the peer broke CQ2.
    pub fn is_overrun(&mut self) -> bool {
        self.ready(); // Looks.
        self.overruns(self.slots_ready())
    }

    /// Whether `ready` slots are one too many in the one way that kernels are known to count so.
    #[cold]
    pub(super) fn overruns(&self, ready: u32) -> bool {
        let starts = self.next.slot(self.slots.entries()) == 0;
        self.shape == CqeShape::Mixed && starts && ready == self.entries() + 1
    }

    /// Takes the next entry, one slot or two, and passes over fillers.
    pub(super) fn take_mixed(&mut self) -> Option<Cqe32> {
        while self.next != self.known {
            let first = self.first_of_mixed()?;
            let wide = first.flags.contains(CqeFlags::CQE32);
            let filler = first.flags.contains(CqeFlags::SKIP);
            let mut big = [0; 2];
            if wide {
                let covered = self.slots_ready() >= 2;
                assert!(covered, "CQ2: the kernel's tail cuts a 32-byte completion in two");
                // SAFETY: ours, as just asserted (CQ3, CQ4).
                big = unsafe { self.slots.read(self.next.advance(1)) }.to_words();
                // SAFETY: ours, as just asserted (CQ3, CQ4).
                unsafe { self.slots.write(self.next.advance(1), FILLER) };
            }
            // SAFETY: ours: `tail` covers the slot (CQ3) and `head` has not passed it (CQ4).
            unsafe { self.slots.write(self.next, FILLER) };
            self.next = self.next.advance(if wide { 2 } else { 1 });
            let ends = !filler && !first.flags.contains(CqeFlags::MORE);
            let slots = 1 + u32::from(wide);
            self.endless.add(slots - u32::from(ends));
            if !filler {
                self.seen += 1;
                return Some(Cqe32 { first, big });
            }
        }
        None
    }

    /// The first half of the entry at `next`, which the caller knows to be there; `None` for a
    /// filler over which something may yet be written.
    fn first_of_mixed(&self) -> Option<Cqe> {
        // SAFETY: ours: `tail` covers the slot (CQ3) and `head` has not passed it (CQ4).
        let first = unsafe { self.slots.read(self.next) };
        if !self.is_open() {
            return Some(first);
        }
        if first.flags.contains(CqeFlags::SKIP) {
            return None;
        }
        // It may have been written over the filler while we read. What is stored in order (x86) has
        // come whole once its end has, which we saw: so what we read now is all of it. Elsewhere it
        // may still have the filler's word, which is 0.
        let _ = self.tail.observe();
        // SAFETY: ours: `tail` covers the slot (CQ3) and `head` has not passed it (CQ4).
        Some(unsafe { self.slots.read(self.next) })
    }

    /// Whether the kernel may write to the slot at `next` although it has posted it: the last, and
    /// nothing is known behind it.
    fn is_open(&self) -> bool {
        let (at, entries) = (self.next, self.slots.entries());
        at.is_last_slot(entries) && at.advance(1) == self.known && entries.count() > 2
    }

    /// After a resize: what is free holds fillers, as if it had been taken.
    ///
    /// # Safety
    ///
    /// The kernel must post nothing meanwhile.
    pub(super) unsafe fn blank_free(&mut self) {
        for ahead in self.slots_ready()..self.entries() {
            // SAFETY: outside `head..tail`, and the kernel posts nothing, as promised to
            // `blank_free`.
            unsafe { self.slots.write(self.next.advance(ahead), FILLER) };
        }
    }
}
