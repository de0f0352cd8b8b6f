//! The completion queue: the kernel posts completions, we consume them.
//!
//! ```text
//!             free │ popped │ completions to pop │ posted │ free
//!   ──────────────┬┴───────┬┴───────────────────┬┴───────┬┴─────
//!                head     next                known     tail
//!               (ours)  (private)           (private) (kernel's)
//! ```
//!
//! `pop` copies a completion out, moves `next` past it, and publishes it as `head`. `known` is the
//! last `tail` that we loaded and checked. Keeps CQ3 and CQ4, and checks CQ2. The types of `head`
//! and `tail` keep CQ1.
//!
//! A forked child never reads the shared memory. There, the queue is empty. This holds even if the
//! callback of a drain forks and the child returns from that callback.
//!
//! Leaves to others: CQ5 (asking the kernel for completions that it holds back), and the meaning of
//! a result.
//!
//! # Safety
//!
//! Reads only slots in `head..tail`, which are ours.
#![allow(unsafe_code, reason = "decides which slots are ours to read")]

mod drain;
mod iter;
mod look;
mod mixed;
mod run;
mod watch;

use std::sync::Arc;

use crate::abi::{Cqe, Cqe32};
use crate::flags::{CqRingFlags, CqeFlags, SqRingFlags};
pub use crate::index::CqIndices;
use crate::index::Index;
use crate::map::Map;
use crate::orderings::{Counter, Observed, ObservedFlags, Published, PublishedFlags};
use crate::process::Process;
pub use crate::shape::CqeShape;
use crate::slots::Slots;
pub use drain::Batch;
pub use iter::TakenCqes;
pub use look::ReadyCqes;
pub use run::TakenRun;
pub use watch::CqWatch;

/// Our half of the completion queue.
#[derive(Debug)]
pub struct CompletionQueue {
    /// We have given back the slots before this index.
    head: Published,
    /// The kernel has posted completions before this index.
    tail: Observed,
    /// We have popped the completions before this index. It runs ahead of `head` only inside
    /// [`drain`](Self::drain).
    next: Index,
    /// `tail` when it was last loaded. To read from this index on, we must load `tail` again (CQ3).
    known: Index,
    slots: Slots<Cqe>,
    shape: CqeShape,
    /// The flags that we store; absent before Linux 5.8.
    flags: Option<PublishedFlags>,
    overflow: Counter,
    /// The kernel's flags, which lie next to the submission indices.
    hints: ObservedFlags,
    /// How many completions were popped, and how many of them had the flag `MORE`.
    popped: u64,
    more: u64,
    /// How often a pop looked for completions, found some, and saw `CQ_OVERFLOW`.
    overflows: u64,
    /// Keeps the memory of the indices and slots mapped as long as this value exists.
    memory: Arc<[Map]>,
    /// The process that mapped the memory. A forked child does not have it.
    process: Process,
    /// The same if the shape is `Single`, and otherwise none: one load answers both questions.
    usual: Process,
}

/// The shared indices, flags and slots that make up a [`CompletionQueue`].
#[derive(Debug)]
#[expect(missing_docs, reason = "the fields are the ring's atomics, described in `orderings`")]
pub struct CqParts {
    pub head: Published,
    pub tail: Observed,
    pub flags: Option<PublishedFlags>,
    pub overflow: Counter,
    pub hints: ObservedFlags,
    pub slots: Slots<Cqe>,
    pub shape: CqeShape,
    pub memory: Arc<[Map]>,
}

impl CompletionQueue {
    /// Makes a queue over shared memory.
    ///
    /// # Panics
    ///
    /// When the kernel's `tail` and our `head` are further apart than the queue has slots (CQ2).
    ///
    /// # Safety
    ///
    /// The kernel side must keep CQ1 and touch only the slots outside `head..tail`. The slots must
    /// be double if, and only if, the shape is [`CqeShape::Double`]. The indices, flags and slots
    /// must stay valid as long as `memory` exists.
    pub unsafe fn over(parts: CqParts) -> Self {
        let CqParts { head, tail, flags, overflow, hints, slots, shape, memory } = parts;
        assert_eq!(slots.is_double(), shape == CqeShape::Double);
        let (next, process) = (head.last(), Process::this());
        let usual = if shape == CqeShape::Single { process } else { Process::none() };
        let mut ring = Self {
            head,
            tail,
            next,
            known: next,
            slots,
            shape,
            flags,
            overflow,
            hints,
            more: 0,
            overflows: 0,
            popped: 0,
            memory,
            process,
            usual,
        };
        ring.look_for_more();
        ring
    }

    /// The shared indices, flags and slots of the queue, for a queue of another kind. What was
    /// popped is published. In a forked child they must not be used.
    pub fn into_parts(self) -> CqParts {
        let Self { head, tail, flags, overflow, hints, slots, shape, memory, .. } = self;
        CqParts { head, tail, flags, overflow, hints, slots, shape, memory }
    }

    /// Moves to the memory that the kernel made for a resized ring: the indices keep their values,
    /// the slots are new.
    ///
    /// # Panics
    ///
    /// When the kernel did not carry our head over, or broke CQ2.
    ///
    /// # Safety
    ///
    /// As for [`over`](Self::over).
    pub unsafe fn move_to(&mut self, parts: CqParts) {
        let (next, overflows) = (self.next, self.overflows);
        let (more, popped) = (self.more, self.popped);
        // SAFETY: as promised to `move_to`.
        let moved = unsafe { Self::over(parts) };
        assert_eq!(moved.next, next, "CQ1: the resize lost our head");
        *self = Self { more, popped, overflows, ..moved };
        if self.shape == CqeShape::Mixed {
            // SAFETY: the kernel posts completions only in an enter of ours, since a ring that can
            // be resized defers its task work.
            unsafe { self.blank_free() };
        }
    }

    /// Takes the oldest completion, if there is one in the queue. Never enters the kernel.
    ///
    /// The second half of a 32-byte completion is discarded; [`pop_wide`](Self::pop_wide) returns
    /// it.
    ///
    /// # Panics
    ///
    /// When the kernel broke CQ2.
    #[inline]
    pub fn pop(&mut self) -> Option<Cqe> {
        // One load answers two questions: is the shape `Single`, and is this our process?
        if !self.usual.is_this() {
            return self.pop_wide().map(|wide| wide.first);
        }
        if self.next == self.known && !self.look_to_pop() {
            return None;
        }
        let cqe = self.take_single();
        self.head.publish(self.next); // CQ4
        Some(cqe)
    }

    /// Takes the oldest completion with its second 16 bytes, which are 0 for a 16-byte completion.
    ///
    /// # Panics
    ///
    /// When the kernel broke CQ2.
    pub fn pop_wide(&mut self) -> Option<Cqe32> {
        if !self.is_here() || (self.next == self.known && !self.look_to_pop()) {
            return None;
        }
        let mut wide = self.take_wide();
        if wide.is_none() && self.look_for_more() {
            // All known slots were fillers. Linux posts a filler alone when the completion after it
            // finds no room yet.
            wide = self.take_wide();
        }
        self.head.publish(self.next); // CQ4
        wide
    }

    /// How many completions can be popped now.
    ///
    /// # Panics
    ///
    /// When the kernel broke CQ2.
    #[inline]
    pub fn ready(&mut self) -> u32 {
        if !self.is_here() {
            return 0;
        }
        self.look_for_more();
        if self.shape == CqeShape::Mixed { self.count_mixed() } else { self.slots_ready() }
    }

    /// How many slots are ready, counted as the kernel does: on a mixed ring a completion of 32
    /// bytes counts as two slots, and a filler as one.
    #[inline]
    pub fn slots_ready(&self) -> u32 {
        self.known.distance_from(self.next)
    }

    /// Whether `want` slots are ready, by a fresh look at the kernel's `tail`, which changes
    /// nothing. Whoever then takes completions checks that `tail` (CQ2).
    ///
    /// # Safety
    ///
    /// The ring must be [of this process](Self::is_here).
    #[inline]
    pub unsafe fn has(&self, want: u32) -> bool {
        let ready = self.tail.observe().distance_from(self.next);
        ready.cast_signed() >= want.cast_signed()
    }

    /// Whether the calling process made the ring, and is not a forked child of that process.
    #[inline]
    pub fn is_here(&self) -> bool {
        self.process.is_this()
    }

    /// How many slots there are.
    #[inline]
    pub fn entries(&self) -> u32 {
        self.slots.entries().count()
    }

    /// The size of the completions.
    pub fn shape(&self) -> CqeShape {
        self.shape
    }

    /// The mappings that hold the ring.
    pub fn memory(&self) -> &Arc<[Map]> {
        &self.memory
    }

    /// Where the queue stands. In a forked child, it is empty.
    pub fn indices(&self) -> CqIndices {
        if self.is_here() {
            CqIndices { head: self.head.last(), tail: self.tail.observe() }
        } else {
            CqIndices { head: self.next, tail: self.next }
        }
    }

    /// How many popped completions were the last of their requests.
    #[inline]
    pub fn ended(&self) -> u64 {
        self.popped - self.more
    }

    /// How many completions were popped.
    pub fn popped(&self) -> u64 {
        self.popped
    }

    /// How often a pop that looked at the queue found the kernel holding completions back because
    /// the queue was full.
    pub fn overflows(&self) -> u64 {
        self.overflows
    }

    /// How many completions the kernel lost. Stays 0 if the kernel has `FEAT_NODROP` (since Linux
    /// 5.5), with which it keeps completions that find the queue full.
    pub fn overflow(&self) -> u32 {
        if self.is_here() { self.overflow.now() } else { 0 }
    }

    /// The kernel's flags. `CQ_OVERFLOW` and `TASKRUN` say that it holds completions back (CQ5).
    /// The flags lie next to the submission indices; loading them orders no other memory access.
    #[inline]
    pub fn hints(&self) -> SqRingFlags {
        SqRingFlags::from_bits_retain(if self.is_here() { self.hints.now() } else { 0 })
    }

    /// The flags that we store. `None` before Linux 5.8, which has no such flags, and in a forked
    /// child.
    pub fn flags(&self) -> Option<CqRingFlags> {
        let flags = self.flags.as_ref().filter(|_| self.is_here());
        flags.map(|flags| CqRingFlags::from_bits_retain(flags.last()))
    }

    /// Stores our flags, before whatever is loaded next: a completion that did not signal the
    /// eventfd is seen by who looks after it was resumed. `false` before Linux 5.8, which has no
    /// such flags, and in a forked child.
    #[must_use]
    pub fn set_flags(&self, to: CqRingFlags) -> bool {
        if !self.is_here() {
            return false;
        }
        if let Some(flags) = &self.flags {
            flags.store_before_loads(to.bits());
        }
        self.flags.is_some()
    }

    /// [`look_for_more`](Self::look_for_more), and counts an overflow.
    #[inline]
    fn look_to_pop(&mut self) -> bool {
        let more = self.look_for_more();
        if more && self.hints.now() & SqRingFlags::CQ_OVERFLOW.bits() != 0 {
            self.overflows += 1;
        }
        more
    }

    /// Loads the kernel's `tail` (CQ3), and says whether there is something to pop.
    #[inline]
    fn look_for_more(&mut self) -> bool {
        let tail = self.tail.observe();
        let ready = tail.distance_from(self.next);
        if ready > self.entries() {
            self.check(tail, ready); // CQ2, before the tail is used.
        }
        if self.next != self.known {
            self.check(tail, ready);
        }
        self.known = tail;
        ready != 0
    }

    /// Checks CQ2 on the `tail` that the kernel stored, `ready` after `next`.
    #[cold]
    #[inline(never)]
    fn check(&self, tail: Index, ready: u32) {
        assert!(
            ready <= self.entries() || self.overruns(ready),
            "CQ2: the kernel's tail {tail:?} is out of range of our {:?}",
            self.next
        );
        // In the other direction: a tail between `next` and `known` has taken back completions.
        assert!(ready >= self.slots_ready(), "CQ2: the kernel's tail {tail:?} went back");
    }

    /// Takes the completion at `next`, which the caller knows to be there, from single slots.
    #[inline]
    fn take_single(&mut self) -> Cqe {
        // SAFETY: ours: `tail` covers the slot (CQ3) and `head` has not passed it (CQ4). It is
        // single, since the shape is `CqeShape::Single`, as promised to `over`.
        let cqe = unsafe { self.slots.read_single(self.next) };
        self.step(cqe)
    }

    /// Takes the completion at `next`, which the caller knows to be there.
    fn take(&mut self) -> Cqe {
        // SAFETY: ours: `tail` covers the slot (CQ3) and `head` has not passed it (CQ4).
        let cqe = unsafe { self.slots.read(self.next) };
        self.step(cqe)
    }

    #[inline]
    fn step(&mut self, cqe: Cqe) -> Cqe {
        self.next = self.next.advance(1);
        self.popped += 1;
        if cqe.flags.contains(CqeFlags::MORE) {
            self.more += 1;
        }
        cqe
    }

    fn take_wide(&mut self) -> Option<Cqe32> {
        if self.shape == CqeShape::Mixed {
            return self.take_mixed();
        }
        if self.next == self.known {
            return None;
        }
        let at = self.next;
        let big = if self.slots.is_double() {
            // SAFETY: ours: `tail` covers the slot (CQ3), `head` has not passed it (CQ4); double.
            unsafe { self.slots.read_rest(at) }.to_words()
        } else {
            [0; 2]
        };
        Some(Cqe32 { first: self.take(), big })
    }
}
