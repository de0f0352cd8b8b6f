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
//! last `tail` that we loaded. Keeps CQ3 and CQ4, and checks CQ2. The types of `head` and `tail`
//! keep CQ1.
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

mod look;
mod mixed;

use std::sync::Arc;

use crate::abi::{Cqe, Cqe32};
use crate::flags::{CqRingFlags, CqeFlags, SqRingFlags};
pub use crate::index::CqIndices;
use crate::index::Index;
use crate::map::Map;
use crate::orderings::{Counter, Observed, ObservedFlags, Published, PublishedFlags, Run, Slots};
use crate::process::Process;
pub use crate::shape::CqeShape;
pub use look::ReadyCqes;

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
    endless: Endless,
    /// Completions that were popped, or are known and can be popped. On a mixed ring only those
    /// that were popped; see `popped`.
    seen: u64,
    /// Keeps the memory of the indices and slots mapped as long as this value exists.
    memory: Arc<[Map]>,
    /// The process that mapped the memory. A forked child does not have it.
    process: Process,
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
        let next = head.last();
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
            endless: Endless(0),
            seen: 0,
            memory,
            process: Process::this(),
        };
        ring.look_for_more();
        ring
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
        let (next, endless, popped) = (self.next, self.endless, self.popped());
        // SAFETY: as promised to `move_to`.
        let moved = unsafe { Self::over(parts) };
        assert_eq!(moved.next, next, "CQ1: the resize lost our head");
        let seen = popped + moved.seen;
        *self = Self { endless, seen, ..moved };
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
        if !self.is_here() || (self.next == self.known && !self.look_for_more()) {
            return None;
        }
        if self.shape != CqeShape::Single {
            return self.pop_wide().map(|wide| wide.first);
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
        if !self.is_here() || (self.next == self.known && !self.look_for_more()) {
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

    /// Takes every completion that is in the queue now, oldest first, and returns their number.
    ///
    /// A completion counts as popped before `each` sees it, even if `each` panics. The kernel gets
    /// the slots back together at the end, or in two steps if the completions wrap around to slot
    /// 0.
    ///
    /// # Panics
    ///
    /// When the kernel broke CQ2.
    #[inline]
    pub fn drain(&mut self, mut each: impl FnMut(Cqe)) -> u32 {
        self.drain_counting(|cqe, endless| {
            endless.note(cqe.flags);
            each(cqe);
        })
    }

    /// [`drain`](Self::drain), for a caller that looks at the flags anyway. `each` must
    /// [`note`](Endless::note) the flags of every completion in which `MORE` is set; otherwise
    /// [`ended`](Self::ended) counts that completion as the last of its request.
    ///
    /// # Panics
    ///
    /// When the kernel broke CQ2.
    #[inline]
    pub fn drain_counting(&mut self, mut each: impl FnMut(Cqe, &mut Endless)) -> u32 {
        if !self.is_here() || !self.look_for_more() {
            return 0;
        }
        if self.shape != CqeShape::Single {
            // `take` and `take_mixed` already note the flags.
            return self.drain_wide(|wide| each(wide.first, &mut Endless(0)));
        }
        let Self { head, next, known, slots, endless, process, .. } = self;
        let (count, process) = (known.distance_from(*next), *process);
        while *next != *known {
            let ready = known.distance_from(*next);
            // SAFETY: ours: `tail` covers the slots (CQ3) and `head` has passed none (CQ4). They
            // are single, since the shape is `CqeShape::Single`, as promised to `over`.
            let run = unsafe { slots.run(*next, ready) };
            let mut taken = Taken { head, next, of: run.left, run, process };
            for cqe in taken.run.by_ref() {
                each(cqe, endless);
                if !process.is_this() {
                    drop(taken);
                    // We are in a forked child: the other completions belong to its parent.
                    return count - known.distance_from(*next);
                }
            }
        }
        count
    }

    /// [`drain`](Self::drain), with the second 16 bytes of each completion.
    ///
    /// # Panics
    ///
    /// When the kernel broke CQ2.
    pub fn drain_wide(&mut self, mut each: impl FnMut(Cqe32)) -> u32 {
        if !self.is_here() || !self.look_for_more() {
            return 0;
        }
        let ring = PublishOnDrop(self);
        let mut count = 0;
        while ring.0.is_here()
            && let Some(wide) = ring.0.take_wide()
        {
            count += 1;
            each(wide);
        }
        count
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

    /// How many popped completions were the last of their requests, modulo 2³².
    #[inline]
    pub fn ended(&self) -> u32 {
        self.next.to_raw().wrapping_sub(self.endless.0)
    }

    /// How many completions were popped.
    pub fn popped(&self) -> u64 {
        match self.shape {
            CqeShape::Mixed => self.seen,
            CqeShape::Single | CqeShape::Double => self.seen - u64::from(self.slots_ready()),
        }
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

    /// Stores our flags. `false` before Linux 5.8, which has no such flags, and in a forked child.
    #[must_use]
    pub fn set_flags(&mut self, to: CqRingFlags) -> bool {
        if !self.is_here() {
            return false;
        }
        if let Some(flags) = &mut self.flags {
            flags.store(to.bits());
        }
        self.flags.is_some()
    }

    /// Loads the kernel's `tail` (CQ3), and says whether there is something to pop.
    #[inline]
    fn look_for_more(&mut self) -> bool {
        let tail = self.tail.observe();
        let ready = tail.distance_from(self.next);
        assert!(
            ready <= self.entries() || self.overruns(ready), // CQ2, before the tail is used.
            "CQ2: the kernel's tail {tail:?} is out of range of our {:?}",
            self.next
        );
        // CQ2 in the other direction: a tail between `next` and `known` has taken back completions.
        assert!(ready >= self.slots_ready(), "CQ2: the kernel's tail {tail:?} went back");
        if self.shape != CqeShape::Mixed {
            self.seen += u64::from(ready - self.slots_ready());
        }
        self.known = tail;
        ready != 0
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
        self.endless.note(cqe.flags);
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

/// How many popped slots did not end a request, modulo 2³²: fillers, second halves, and completions
/// with the flag `MORE`.
#[derive(Debug, Clone, Copy)]
pub struct Endless(u32);

impl Endless {
    /// Counts a completion if it has the flag `MORE`.
    #[inline]
    pub fn note(&mut self, flags: CqeFlags) {
        if flags.contains(CqeFlags::MORE) {
            self.add(1);
        }
    }

    #[inline]
    fn add(&mut self, slots: u32) {
        self.0 = self.0.wrapping_add(slots);
    }
}

/// A run of slots being taken. Its drop, which also runs when the caller's code panics, moves
/// `next` past the slots that were taken, and publishes that index as `head`.
struct Taken<'a> {
    head: &'a mut Published,
    next: &'a mut Index,
    run: Run<'a, Cqe>,
    of: u32,
    process: Process,
}

impl Drop for Taken<'_> {
    #[inline]
    fn drop(&mut self) {
        *self.next = self.next.advance(self.of - self.run.left);
        if self.process.is_this() {
            self.head.publish(*self.next); // CQ4
        }
    }
}

/// Publishes `head` when dropped: at the end of a drain, or when the caller's code panics.
struct PublishOnDrop<'a>(&'a mut CompletionQueue);

impl Drop for PublishOnDrop<'_> {
    fn drop(&mut self) {
        if self.0.is_here() {
            self.0.head.publish(self.0.next); // CQ4
        }
    }
}
