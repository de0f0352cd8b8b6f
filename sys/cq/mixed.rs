//! Mixed completion queues (`CQE_MIXED`): completions of one slot, completions of two, and fillers.
//!
//! ```text
//!   3 small ones         │ 1 │ 2 │ 3 │   │
//!   a wide one: no room  │ 1 │ 2 │ 3 │ × │ tail        a filler; the wide one is held back
//!   a small one          │ 1 │ 2 │ 3 │ 4 │   tail      overwrites the filler; slot 0 is empty
//! ```
//!
//! The last line is a bug of Linux 6.18 to 7.2: the tail covers a slot that was never written. Two
//! rules work around it, so that no completion is lost or seen twice:
//!
//! - Every slot that we give back holds a filler. If the kernel never writes it, we skip it.
//! - A filler in the last slot is skipped only once we know of a slot after it, since the kernel
//!   may still overwrite that filler. A queue of two slots is an exception: there the wide
//!   completion would never have room, so the filler is skipped, and a completion written over it
//!   later is lost.
//!
//! Keeps CQ3 and CQ4, and checks CQ2. Leaves to others: queues of one width (`cq`).
//!
//! # Safety
//!
//! Reads and writes only slots in `head..tail`, which are ours, and, after a resize, free slots
//! while the kernel posts nothing.
#![allow(unsafe_code, reason = "decides which slots are ours to read")]

use super::{CompletionQueue, CqeShape};
use crate::abi::{Cqe, Cqe32};
use crate::flags::CqeFlags;
use crate::index::Index;

/// An entry that is no completion: it is skipped.
const FILLER: Cqe = Cqe { flags: CqeFlags::SKIP, ..Cqe::ZERO };

/// How often we reload a completion whose flags we have seen but whose `user_data` or result is
/// still the filler's 0. CPUs other than x86 may show stores out of order, so such a 0 may still be
/// overwritten. The kernel has already executed those stores, and they leave its store buffer
/// within a microsecond, which 99 reloads are meant to outlast. x86 needs no reload.
const LATE_STORES: usize =
    if cfg!(any(target_arch = "x86_64", target_arch = "x86")) { 0 } else { 99 };

impl CompletionQueue {
    /// [`ready`](Self::ready), by a walk over the known slots.
    pub(super) fn count_mixed(&self) -> u32 {
        // If the tail is one too far, the last slot it covers is the first slot again.
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

    /// Whether the queue is full and the kernel's tail is one too far. The slot that this adds
    /// holds no completion.
    ///
    /// # Panics
    ///
    /// When the kernel broke CQ2.
    pub fn is_overrun(&mut self) -> bool {
        self.ready(); // Loads the tail.
        self.overruns(self.slots_ready())
    }

    /// Whether `ready` is one too many in the one way that a known kernel bug causes.
    #[cold]
    pub(super) fn overruns(&self, ready: u32) -> bool {
        let starts = self.next.slot(self.slots.entries()) == 0;
        self.shape == CqeShape::Mixed && starts && ready == self.entries() + 1
    }

    /// Takes the next completion, of one slot or two, and skips fillers.
    pub(super) fn take_mixed(&mut self) -> Option<Cqe32> {
        while self.next != self.known {
            let first = self.first_of_mixed(self.next)?;
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
            if !filler {
                self.popped += 1;
                self.more += u64::from(first.flags.contains(CqeFlags::MORE));
                return Some(Cqe32 { first, big });
            }
        }
        None
    }

    /// The first half of the entry at `at`, which the caller knows to be there. `None` for a
    /// filler that the kernel may still overwrite.
    pub(super) fn first_of_mixed(&self, at: Index) -> Option<Cqe> {
        // SAFETY: ours: `tail` covers the slot (CQ3) and `head` has not passed it (CQ4).
        let first = unsafe { self.slots.read(at) };
        if !self.is_open(at) {
            return Some(first);
        }
        if first.flags.contains(CqeFlags::SKIP) {
            return None;
        }
        // The kernel may have overwritten the filler while we read. On x86 stores arrive in order,
        // and we saw the last one (the flags), so the next read returns the whole completion.
        for () in std::iter::repeat_n((), LATE_STORES) {
            let _ = self.tail.observe();
            // SAFETY: ours: `tail` covers the slot (CQ3) and `head` has not passed it (CQ4).
            let first = unsafe { self.slots.read(at) };
            if first.user_data != FILLER.user_data && first.res != FILLER.res {
                return Some(first);
            }
            std::hint::spin_loop();
        }
        let _ = self.tail.observe();
        // SAFETY: ours: `tail` covers the slot (CQ3) and `head` has not passed it (CQ4).
        Some(unsafe { self.slots.read(at) })
    }

    /// Whether the kernel may still write to the slot at `at` although its tail covers it: the
    /// slot is the last one before the wrap, and no slot after it is known.
    fn is_open(&self, at: Index) -> bool {
        let entries = self.slots.entries();
        at.is_last_slot(entries) && at.advance(1) == self.known && entries.count() > 2
    }

    /// Writes fillers to the free slots after a resize, as if completions had been taken from them.
    ///
    /// # Safety
    ///
    /// The kernel must post nothing during the call.
    pub(super) unsafe fn blank_free(&mut self) {
        for ahead in self.slots_ready()..self.entries() {
            // SAFETY: outside `head..tail`, and the kernel posts nothing, as promised to
            // `blank_free`.
            unsafe { self.slots.write(self.next.advance(ahead), FILLER) };
        }
    }
}
