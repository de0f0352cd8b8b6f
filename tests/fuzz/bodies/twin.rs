//! A template: a ring implementation of your own beside ours, each over memory of its own, between
//! one caller and one kernel. After each step both have done the same.
//!
//! ```text
//!                      ┌─► memory A ◄─► annulus_sys: SubmissionQueue, CompletionQueue
//!   kernel ── a step ──┤                  the same answers? the same words? the same entries?
//!                      └─► memory B ◄─► `Theirs`: yours
//! ```
//!
//! To use it: copy this file, and replace `Simple` by a `Theirs` over your own ring. It needs
//! `annulus-sys` with the feature `sim`, and nothing else of this tree: see `docs/FUZZING.md`.
//!
//! # Safety
//!
//! The memory of a side outlives its rings, and each word has one writer.
#![allow(unsafe_code, reason = "plays the kernel")]

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use annulus_sys::abi::{Cqe, Sqe};
use annulus_sys::cq::{CompletionQueue, CqParts, CqeShape};
use annulus_sys::flags::CqeFlags;
use annulus_sys::index::Entries;
use annulus_sys::map::Map;
use annulus_sys::orderings::{
    AtomicU32, Counter, Observed, ObservedFlags, Published, PublishedFlags,
};
use annulus_sys::slots::{Slot, Slots, Width};
use annulus_sys::sq::{SqParts, SqeShape, SubmissionQueue, Turn};

// ANCHOR: theirs
/// What a ring of yours must be able to do, to be compared. All four calls are of one thread.
pub trait Theirs {
    /// Writes an entry to the next free slot; false if there is none.
    fn push(&mut self, sqe: Sqe) -> bool;
    /// Shows what was pushed to the kernel; returns how many entries it has not consumed.
    fn flush(&mut self) -> u32;
    /// Takes the oldest completion.
    fn pop(&mut self) -> Option<Cqe>;
    /// How many completions can be taken.
    fn ready(&mut self) -> u32;
}
// ANCHOR_END: theirs

/// The memory of two rings, as a kernel lays it out: eight words, and the slots.
#[derive(Debug)]
pub struct Memory {
    /// `head`, `tail` of the submission queue; `head`, `tail` of the completion queue; then flags,
    /// `dropped`, flags, `overflow`.
    pub words: [AtomicU32; 8],
    pub sqes: Box<[Slot<Sqe>]>,
    pub cqes: Box<[Slot<Cqe>]>,
}

// SAFETY: the slots are used by one thread, since no side leaves the one that made it.
unsafe impl Sync for Memory {}

const SQ_HEAD: usize = 0;
const SQ_TAIL: usize = 1;
const CQ_HEAD: usize = 2;
const CQ_TAIL: usize = 3;

impl Memory {
    fn new(sq: u32, cq: u32, start: u32) -> Arc<Self> {
        let word = |at| AtomicU32::new(if at < 4 { start } else { 0 });
        Arc::new(Self {
            words: std::array::from_fn(word),
            sqes: (0..sq).map(|_| Slot::new(Sqe::ZERO)).collect(),
            cqes: (0..cq).map(|_| Slot::new(Cqe::ZERO)).collect(),
        })
    }

    fn slot<T>(slots: &[Slot<T>], index: u32) -> *mut T {
        let at = index as usize & (slots.len() - 1);
        std::ptr::from_ref(&slots[at]).cast::<T>().cast_mut()
    }

    /// The kernel takes an entry.
    fn consume(&self) -> Option<Sqe> {
        let head = self.words[SQ_HEAD].load(Relaxed);
        if head == self.words[SQ_TAIL].load(Acquire) {
            return None;
        }
        // SAFETY: an entry between `head` and `tail` is the kernel's (SQ3).
        let sqe = unsafe { Self::slot(&self.sqes, head).read() };
        self.words[SQ_HEAD].store(head.wrapping_add(1), Release);
        Some(sqe)
    }

    /// The kernel posts a completion; false if there is no room.
    fn post(&self, cqe: Cqe) -> bool {
        let tail = self.words[CQ_TAIL].load(Relaxed);
        let used = tail.wrapping_sub(self.words[CQ_HEAD].load(Acquire));
        if used as usize >= self.cqes.len() {
            return false;
        }
        // SAFETY: a slot that `head` has passed is the kernel's (CQ4).
        unsafe { Self::slot(&self.cqes, tail).write(cqe) };
        self.words[CQ_TAIL].store(tail.wrapping_add(1), Release);
        true
    }
}

/// Our rings over a memory.
struct Ours {
    sq: SubmissionQueue,
    cq: CompletionQueue,
}

impl Ours {
    fn over(memory: &Arc<Memory>) -> Self {
        let word = |at: usize| NonNull::from(&memory.words[at]);
        let count = |slots: usize| u32::try_from(slots).ok().and_then(Entries::new);
        let (sq, cq) = (count(memory.sqes.len()), count(memory.cqes.len()));
        let (sq, cq) = (sq.expect("a power of two"), cq.expect("a power of two"));
        let sqes = NonNull::from(&memory.sqes[..]).cast::<Slot<Sqe>>();
        let cqes = NonNull::from(&memory.cqes[..]).cast::<Slot<Cqe>>();
        let keeper = Box::new(Arc::clone(memory));
        // SAFETY: as long as the word, which the keeper keeps.
        let map = unsafe { Map::foreign(word(0).cast(), size_of::<u32>(), keeper) };
        let memory: Arc<[Map]> = Arc::new([map]);
        #[expect(clippy::multiple_unsafe_ops_per_block, reason = "one argument vouches for all")]
        // SAFETY: the map keeps them; each word gets one `Published`, since a memory has one side.
        unsafe {
            let sq = SubmissionQueue::over(SqParts {
                head: Observed::new(word(SQ_HEAD)),
                tail: Published::new(word(SQ_TAIL)),
                flags: ObservedFlags::new(word(4)),
                dropped: Counter::new(word(5)),
                slots: Slots::new(sqes, sq, Width::Single),
                shape: SqeShape::Single,
                turn: Turn::Round,
                memory: Arc::clone(&memory),
            });
            let cq = CompletionQueue::over(CqParts {
                head: Published::new(word(CQ_HEAD)),
                tail: Observed::new(word(CQ_TAIL)),
                flags: Some(PublishedFlags::new(word(6))),
                overflow: Counter::new(word(7)),
                hints: ObservedFlags::new(word(4)),
                slots: Slots::new(cqes, cq, Width::Single),
                shape: CqeShape::Single,
                memory,
            });
            Self { sq, cq }
        }
    }
}

impl Theirs for Ours {
    fn push(&mut self, sqe: Sqe) -> bool {
        // SAFETY: the entry is a NOP, which points to nothing (OP1).
        unsafe { self.sq.push(sqe) }.is_ok()
    }

    fn flush(&mut self) -> u32 {
        self.sq.flush()
    }

    fn pop(&mut self) -> Option<Cqe> {
        self.cq.pop()
    }

    fn ready(&mut self) -> u32 {
        self.cq.ready()
    }
}

/// The ring of somebody else: the simplest there is, which loads and stores each word each time.
struct Simple {
    memory: Arc<Memory>,
    /// The tail with what was pushed and not flushed.
    tail: u32,
}

impl Theirs for Simple {
    fn push(&mut self, sqe: Sqe) -> bool {
        let used = self.tail.wrapping_sub(self.memory.words[SQ_HEAD].load(Acquire));
        if used as usize >= self.memory.sqes.len() {
            return false;
        }
        // SAFETY: a slot that `head` has passed and `tail` has not reached is ours (SQ3, SQ4).
        unsafe { Memory::slot(&self.memory.sqes, self.tail).write(sqe) };
        self.tail = self.tail.wrapping_add(1);
        true
    }

    fn flush(&mut self) -> u32 {
        self.memory.words[SQ_TAIL].store(self.tail, Release);
        self.tail.wrapping_sub(self.memory.words[SQ_HEAD].load(Acquire))
    }

    fn pop(&mut self) -> Option<Cqe> {
        let head = self.memory.words[CQ_HEAD].load(Relaxed);
        if self.ready() == 0 {
            return None;
        }
        // SAFETY: a completion between `head` and `tail` is ours (CQ3).
        let cqe = unsafe { Memory::slot(&self.memory.cqes, head).read() };
        self.memory.words[CQ_HEAD].store(head.wrapping_add(1), Release);
        Some(cqe)
    }

    fn ready(&mut self) -> u32 {
        let tail = self.memory.words[CQ_TAIL].load(Acquire);
        tail.wrapping_sub(self.memory.words[CQ_HEAD].load(Relaxed))
    }
}

// ANCHOR: run
/// One history: the first three bytes are the geometry, each other byte is a step.
pub fn run(data: &[u8]) {
    let [sq, cq, start, steps @ ..] = data else { return };
    let (sq, cq) = (1 << (sq % 4), 1 << (cq % 4));
    // The indices wrap after a few steps, or far from here.
    let start = u32::from(*start).wrapping_sub(16);
    let memories = [Memory::new(sq, cq, start), Memory::new(sq, cq, start)];
    let mut ours = Ours::over(&memories[0]);
    let mut theirs = Simple { memory: Arc::clone(&memories[1]), tail: start };
    for (number, &step) in (0..).zip(steps.iter().take(1000)) {
        compare(step, number, &mut ours, &mut theirs, &memories);
    }
}
// ANCHOR_END: run

/// One step on both sides.
fn compare(
    step: u8,
    number: u64,
    ours: &mut impl Theirs,
    theirs: &mut impl Theirs,
    memories: &[Arc<Memory>; 2],
) {
    let [a, b] = memories;
    match step % 8 {
        0 | 1 => {
            let sqe = Sqe { user_data: number, ..Sqe::ZERO };
            assert_eq!(ours.push(sqe), theirs.push(sqe), "push");
        }
        2 => assert_eq!(ours.flush(), theirs.flush(), "flush"),
        3 | 4 => assert_eq!(ours.pop(), theirs.pop(), "pop"),
        5 => assert_eq!(ours.ready(), theirs.ready(), "ready"),
        6 => {
            let [a, b] = [a, b].map(|memory| memory.consume().map(|sqe| sqe.user_data));
            assert_eq!(a, b, "the kernel consumes");
        }
        _ => {
            let flags = CqeFlags::from_bits_retain(u32::from(step));
            let cqe = Cqe { user_data: number, res: i32::from(step), flags };
            assert_eq!(a.post(cqe), b.post(cqe), "the kernel posts");
        }
    }
    let words = [a, b].map(|memory| [0, 1, 2, 3].map(|at| memory.words[at].load(Acquire)));
    assert_eq!(words[0], words[1], "SQ head, SQ tail, CQ head, CQ tail");
}
