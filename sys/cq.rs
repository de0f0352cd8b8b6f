//! The completion ring: the kernel produces, we consume.
//!
//! ```text
//!             free │ popped │ completions to pop │ posted │ free
//!   ──────────────┬┴───────┬┴───────────────────┬┴───────┬┴─────
//!                head     next                known     tail
//!               (ours)  (private)           (private) (theirs)
//! ```
//!
//! `pop` copies an entry out, moves `next` and publishes `head` behind it; `known` is the `tail` we
//! saw last. Keeps CQ3 and CQ4, and checks CQ2. CQ1 is kept by the types of `head` and `tail`.
//!
//! In a forked child no shared word is looked at: there the ring is empty. Also when the child was
//! forked by the code that a drain calls, and returns from it.
//!
//! Leaves to others: CQ5 (asking the kernel for what it holds back), and what a result means.
//!
//! # Safety
//!
//! Reads only slots in `head..tail`, which are ours.
#![allow(unsafe_code, reason = "decides which slots are ours to read")]

mod mixed;

use std::sync::Arc;

use crate::abi::{Cqe, Cqe32};
use crate::flags::{CqRingFlags, CqeFlags, SqRingFlags};
use crate::index::Index;
use crate::map::Map;
use crate::process::Process;
pub use crate::shape::CqeShape;
use crate::shared::{Counter, Observed, ObservedFlags, Published, PublishedFlags, Run, Slots};

/// Our half of the completion ring.
#[derive(Debug)]
pub struct CompletionRing {
    /// Up to here we have given slots back.
    head: Published,
    /// Up to here the kernel has posted.
    tail: Observed,
    /// Up to here we have popped. Runs ahead of `head` only inside [`drain`](Self::drain).
    next: Index,
    /// `tail` when it was last observed: from here on we must look again (CQ3).
    known: Index,
    slots: Slots<Cqe>,
    shape: CqeShape,
    /// Ours, and absent before Linux 5.8.
    flags: Option<PublishedFlags>,
    overflow: Counter,
    /// The kernel's flags, which it keeps beside the submission words.
    hints: ObservedFlags,
    endless: Endless,
    /// Completions popped, or known and yet to be popped, except on a mixed ring; see `popped`.
    seen: u64,
    /// What the words and slots lie in stays mapped as long as we do.
    memory: Arc<[Map]>,
    /// A process that this one forks has no such memory.
    process: Process,
}

/// The shared words and slots that a [`CompletionRing`] is made of.
#[derive(Debug)]
#[expect(missing_docs, reason = "the fields are the ring's words, described in `shared`")]
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

impl CompletionRing {
    /// A ring over shared memory.
    ///
    /// # Panics
    ///
    /// When the peer's `tail` and our `head` are further apart than the ring is long (CQ2).
    ///
    /// # Safety
    ///
    /// The peer must keep CQ1 and touch only the slots outside `head..tail`. The slots must be
    /// double when, and only when, the shape is [`CqeShape::Double`]. Words and slots must stay
    /// valid as long as `memory` does.
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

    /// Moves to where the kernel has put the ring, after a resize: same indices, other slots.
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
            // SAFETY: nothing is posted but in an enter of ours, since a ring that is resized
            // defers its task work.
            unsafe { self.blank_free() };
        }
    }

    /// Takes the oldest completion, if one is in the ring. Never enters the kernel.
    ///
    /// On a ring of 32-byte entries the second half is passed over: see
    /// [`pop_wide`](Self::pop_wide).
    ///
    /// # Panics
    ///
    /// When the peer broke CQ2.
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

    /// Takes the oldest completion with its second 16 bytes, which are 0 if it has none.
    ///
    /// # Panics
    ///
    /// When the peer broke CQ2.
    pub fn pop_wide(&mut self) -> Option<Cqe32> {
        if !self.is_here() || (self.next == self.known && !self.look_for_more()) {
            return None;
        }
        let mut wide = self.take_wide();
        if wide.is_none() && self.look_for_more() {
            // What we knew of was fillers: Linux posts one alone when the completion behind it
            // finds no room yet.
            wide = self.take_wide();
        }
        self.head.publish(self.next); // CQ4
        wide
    }

    /// Takes every completion that is in the ring now, oldest first, and returns how many.
    ///
    /// Each one counts as popped before `each` sees it, also when `each` unwinds. The slots go back
    /// to the kernel together, at the end, or in two goes where the ring starts again.
    ///
    /// # Panics
    ///
    /// When the peer broke CQ2.
    #[inline]
    pub fn drain(&mut self, mut each: impl FnMut(Cqe)) -> u32 {
        self.drain_counting(|cqe, endless| {
            endless.note(cqe.flags);
            each(cqe);
        })
    }

    /// [`drain`](Self::drain), for who looks at the flags anyway: `each` must note those of every
    /// completion in which `MORE` is set, or [`ended`](Self::ended) counts it as the last of its
    /// request.
    ///
    /// # Panics
    ///
    /// When the peer broke CQ2.
    #[inline]
    pub fn drain_counting(&mut self, mut each: impl FnMut(Cqe, &mut Endless)) -> u32 {
        if !self.is_here() || !self.look_for_more() {
            return 0;
        }
        if self.shape != CqeShape::Single {
            // Counted where they are taken.
            return self.drain_wide(|wide| each(wide.first, &mut Endless(0)));
        }
        let Self { head, next, known, slots, endless, process, .. } = self;
        let (count, process) = (known.distance_from(*next), *process);
        while *next != *known {
            let ready = known.distance_from(*next);
            // SAFETY: ours: `tail` covers the slots (CQ3) and `head` has passed none (CQ4). Single,
            // since the shape is `CqeShape::Single`, as promised to `over`.
            let run = unsafe { slots.run(*next, ready) };
            let mut taken = Taken { head, next, of: run.left, run, process };
            for cqe in taken.run.by_ref() {
                each(cqe, endless);
                if !process.is_this() {
                    drop(taken);
                    return count - known.distance_from(*next); // The rest is the parent's.
                }
            }
        }
        count
    }

    /// [`drain`](Self::drain), with the second 16 bytes of each completion.
    ///
    /// # Panics
    ///
    /// When the peer broke CQ2.
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
    /// When the peer broke CQ2.
    #[inline]
    pub fn ready(&mut self) -> u32 {
        if !self.is_here() {
            return 0;
        }
        self.look_for_more();
        if self.shape == CqeShape::Mixed { self.count_mixed() } else { self.slots_ready() }
    }

    /// How many slots hold something that can be popped, as the kernel counts them: on a mixed ring
    /// a completion of 32 bytes is two, and a filler one.
    #[inline]
    pub fn slots_ready(&self) -> u32 {
        self.known.distance_from(self.next)
    }

    /// Whether this is the process that made the ring, and not one that it forked.
    #[inline]
    pub fn is_here(&self) -> bool {
        self.process.is_this()
    }

    /// How many slots there are.
    #[inline]
    pub fn entries(&self) -> u32 {
        self.slots.entries().count()
    }

    /// What lies in the slots.
    pub fn shape(&self) -> CqeShape {
        self.shape
    }

    /// What the ring lies in.
    pub fn memory(&self) -> &Arc<[Map]> {
        &self.memory
    }

    /// Where we have given slots back up to, and where the kernel has posted up to.
    pub fn indices(&self) -> (Index, Index) {
        if self.is_here() {
            (self.head.last(), self.tail.observe())
        } else {
            (self.next, self.next)
        }
    }

    /// How many popped completions were the last of their request, modulo 2³².
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

    /// How many completions the kernel lost. Stays 0 where it keeps them back (`FEAT_NODROP`, since
    /// Linux 5.5).
    pub fn overflow(&self) -> u32 {
        if self.is_here() { self.overflow.now() } else { 0 }
    }

    /// The kernel's flags, of which `CQ_OVERFLOW` and `TASKRUN` say that it holds completions back
    /// (CQ5). They lie beside the submission words, and order nothing.
    #[inline]
    pub fn hints(&self) -> SqRingFlags {
        SqRingFlags::from_bits_retain(if self.is_here() { self.hints.now() } else { 0 })
    }

    /// Our flags; `None` before Linux 5.8, which has no word for them, and in a forked child.
    pub fn flags(&self) -> Option<CqRingFlags> {
        let flags = self.flags.as_ref().filter(|_| self.is_here());
        flags.map(|flags| CqRingFlags::from_bits_retain(flags.last()))
    }

    /// Stores our flags. `false` before Linux 5.8, which has no word for them, and in a child.
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

    /// Looks where the kernel has got to (CQ3), and says whether something can be popped.
    #[inline]
    fn look_for_more(&mut self) -> bool {
        let tail = self.tail.observe();
        let ready = tail.distance_from(self.next);
        assert!(
            ready <= self.entries() || self.overruns(ready), // CQ2: before it is used.
            "CQ2: the kernel's tail {tail:?} is outside our {:?}",
            self.next
        );
        // CQ2 both ways: a tail between `next` and `known` has gone back over what was posted.
        assert!(ready >= self.slots_ready(), "CQ2: the kernel's tail {tail:?} went back");
        if self.shape != CqeShape::Mixed {
            self.seen += u64::from(ready - self.slots_ready());
        }
        self.known = tail;
        ready != 0
    }

    /// Takes the entry at `next`, which the caller knows to be there, of a ring of single slots.
    #[inline]
    fn take_single(&mut self) -> Cqe {
        // SAFETY: ours: `tail` covers the slot (CQ3) and `head` has not passed it (CQ4). Single,
        // since the shape is `CqeShape::Single`, as promised to `over`.
        let cqe = unsafe { self.slots.read_single(self.next) };
        self.step(cqe)
    }

    /// Takes the entry at `next`, which the caller knows to be there.
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

/// How many slots were popped that ended no request, modulo 2³²: fillers, second halves, and
/// completions that more follow.
#[derive(Debug, Clone, Copy)]
pub struct Endless(u32);

impl Endless {
    /// Takes note of a completion, by its flags.
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

/// A run of slots being taken. When dropped, also because the caller's code unwinds, it moves
/// `next` past those that were, and publishes `head` behind it.
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

/// Publishes `head` when dropped: at the end of a drain, or because the caller's code unwinds.
struct PublishOnDrop<'a>(&'a mut CompletionRing);

impl Drop for PublishOnDrop<'_> {
    fn drop(&mut self) {
        if self.0.is_here() {
            self.0.head.publish(self.0.next); // CQ4
        }
    }
}
