//! The kernel's half of the rings, on heap memory: the crate's own types with roles exchanged.
//!
//! ```text
//!                 the test holds          the fake kernel holds
//!   sq.tail       Published          ──►  Observed
//!   sq.head       Observed           ◄──  Published
//!   cq.tail       Observed           ◄──  Published
//!   cq.head       Published          ──►  Observed
//!   sq.flags      ObservedFlags      ◄──  PublishedFlags
//! ```
//!
//! It keeps the kernel's side of the invariants, unless a test asks it to break one.
//!
//! # Safety
//!
//! The memory lives as long as a ring or the kernel holds it; each atomic gets one `Published`.
#![allow(unsafe_code, reason = "plays the kernel")]
#![allow(dead_code, reason = "not every test uses all of it")]

use std::ptr::NonNull;
use std::sync::Arc;

use annulus_sys::abi::{Cqe, Cqe32, Sqe, Sqe128};
use annulus_sys::cq::{CompletionQueue, CqParts, CqeShape};
use annulus_sys::flags::{CqeFlags, SqRingFlags};
use annulus_sys::index::{Entries, Index};
use annulus_sys::map::Map;
use annulus_sys::orderings::{
    AtomicU32, Counter, Observed, ObservedFlags, Published, PublishedFlags,
};
use annulus_sys::slots::{Slot, Slots, Width};
use annulus_sys::sq::{SqParts, SqeShape, SubmissionQueue, Turn};

#[allow(unused_imports, reason = "not every test has buffers")]
pub use super::fake_buffers::FakeBufferKernel;

/// The geometry of the fake rings.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Submission entries.
    pub sq_entries: u32,
    /// Completion entries.
    pub cq_entries: u32,
    /// Where all four indices start.
    pub start: u32,
    /// The contents of the submission slots at the start.
    pub sqe: SqeShape,
    /// The contents of the completion slots at the start.
    pub cqe: CqeShape,
    /// Whether there is a submission queue.
    pub turn: Turn,
}

impl Shape {
    /// Plain rings of `entries` each, whose indices are about to wrap.
    pub fn plain(entries: u32) -> Self {
        Self {
            sq_entries: entries,
            cq_entries: entries,
            start: u32::MAX - 1,
            sqe: SqeShape::Single,
            cqe: CqeShape::Single,
            turn: Turn::Round,
        }
    }

    /// How many slots both rings have.
    pub fn entries(&self) -> (Entries, Entries) {
        let entries = |count| Entries::new(count).expect("a power of two");
        (entries(self.sq_entries), entries(self.cq_entries))
    }

    /// Where the indices of the submission queue start. A ring that rewinds keeps no indices: it
    /// always starts at slot 0.
    fn sq_start(&self) -> u32 {
        if self.turn == Turn::Rewind { 0 } else { self.start }
    }

    /// The width of a submission slot.
    pub fn sqe_width(&self) -> Width {
        width(self.sqe == SqeShape::Double)
    }

    /// The width of a completion slot.
    pub fn cqe_width(&self) -> Width {
        width(self.cqe == CqeShape::Double)
    }
}

/// The kernel side of the rings, played by a test.
#[derive(Debug)]
pub struct FakeKernel {
    pub sq_head: Published,
    pub sq_tail: Observed,
    pub sq_flags: PublishedFlags,
    pub dropped: Published,
    pub cq_head: Observed,
    pub cq_tail: Published,
    pub overflow: Published,
    pub cq_flags: ObservedFlags,
    pub sqes: Slots<Sqe>,
    pub cqes: Slots<Cqe>,
    shape: Shape,
    memory: Arc<[Map]>,
}

/// Where the atomics and the slots of both rings are.
#[derive(Debug, Clone, Copy)]
pub struct Places {
    pub sq_head: NonNull<AtomicU32>,
    pub sq_tail: NonNull<AtomicU32>,
    pub sq_flags: NonNull<AtomicU32>,
    pub dropped: NonNull<AtomicU32>,
    pub sqes: NonNull<Slot<Sqe>>,
    pub cq_head: NonNull<AtomicU32>,
    pub cq_tail: NonNull<AtomicU32>,
    pub cq_flags: NonNull<AtomicU32>,
    pub overflow: NonNull<AtomicU32>,
    pub cqes: NonNull<Slot<Cqe>>,
}

/// Heap memory for rings of one shape; freed when dropped.
#[derive(Debug)]
struct Heap {
    shape: Shape,
    at: Places,
}

// SAFETY: plain memory, accessed only through the types of `orderings`, and those are `Send`.
unsafe impl Send for Heap {}
// SAFETY: as a `Heap` hands out pointers and never reads or writes through them.
unsafe impl Sync for Heap {}

impl Heap {
    fn new(shape: Shape) -> Self {
        let at = Places {
            sq_head: new_atomic(shape.sq_start()),
            sq_tail: new_atomic(shape.sq_start()),
            sq_flags: new_atomic(0),
            dropped: new_atomic(0),
            sqes: new_slots(Sqe::ZERO, shape.sq_entries, shape.sqe_width()),
            cq_head: new_atomic(shape.start),
            cq_tail: new_atomic(shape.start),
            cq_flags: new_atomic(0),
            overflow: new_atomic(0),
            cqes: new_slots(Cqe::ZERO, shape.cq_entries, shape.cqe_width()),
        };
        Self { shape, at }
    }

    /// The form in which the rings hold their memory.
    fn into_memory(self) -> Arc<[Map]> {
        let base = self.at.sq_head.cast();
        // SAFETY: the atomic at `base` stays valid until the keeper is dropped, since that frees
        // it.
        let map = unsafe { Map::foreign(base, size_of::<u32>(), Box::new(self)) };
        Arc::new([map])
    }
}

impl Drop for Heap {
    fn drop(&mut self) {
        let Places { sq_head, sq_tail, sq_flags, dropped, .. } = self.at;
        let Places { cq_head, cq_tail, cq_flags, overflow, .. } = self.at;
        let words = [sq_head, sq_tail, sq_flags, dropped, cq_head, cq_tail, cq_flags, overflow];
        for word in words {
            // SAFETY: made by `new_atomic`, freed once, here; no half that used it is left, since
            // the halves hold the memory.
            drop(unsafe { Box::from_raw(word.as_ptr()) });
        }
        // SAFETY: made by `new_slots` with these sizes; nothing uses them, since no half is left.
        unsafe { free_slots(self.at.sqes, self.shape.sq_entries, self.shape.sqe_width()) };
        // SAFETY: made by `new_slots` with these sizes; nothing uses them, since no half is left.
        unsafe { free_slots(self.at.cqes, self.shape.cq_entries, self.shape.cqe_width()) };
    }
}

impl FakeKernel {
    /// Both rings of `shape`, and the kernel side of them. Each of the three keeps the memory
    /// alive.
    pub fn new(shape: Shape) -> (SubmissionQueue, CompletionQueue, Self) {
        let heap = Heap::new(shape);
        let at = heap.at;
        // SAFETY: the pointers are to the heap, which is the memory; nothing else uses it.
        unsafe { Self::with_rings(shape, at, &heap.into_memory()) }
    }

    /// # Safety
    ///
    /// The pointers must be to rings of `shape` and stay valid as long as `memory` does; nothing
    /// else may use that memory as long as any of the three is used.
    unsafe fn with_rings(
        shape: Shape,
        at: Places,
        memory: &Arc<[Map]>,
    ) -> (SubmissionQueue, CompletionQueue, Self) {
        let (sq_entries, cq_entries) = shape.entries();
        #[expect(clippy::multiple_unsafe_ops_per_block, reason = "one argument vouches for all")]
        // SAFETY: valid, as promised to `with_rings`; each atomic gets one `Published` (SQ1, CQ1).
        unsafe {
            let sq = SubmissionQueue::over(SqParts {
                head: Observed::new(at.sq_head),
                tail: Published::new(at.sq_tail),
                flags: ObservedFlags::new(at.sq_flags),
                dropped: Counter::new(at.dropped),
                slots: Slots::new(at.sqes, sq_entries, shape.sqe_width()),
                shape: shape.sqe,
                turn: shape.turn,
                memory: Arc::clone(memory),
            });
            let cq = CompletionQueue::over(CqParts {
                head: Published::new(at.cq_head),
                tail: Observed::new(at.cq_tail),
                flags: Some(PublishedFlags::new(at.cq_flags)),
                overflow: Counter::new(at.overflow),
                hints: ObservedFlags::new(at.sq_flags),
                slots: Slots::new(at.cqes, cq_entries, shape.cqe_width()),
                shape: shape.cqe,
                memory: Arc::clone(memory),
            });
            (sq, cq, Self::over(shape, at, Arc::clone(memory)))
        }
    }

    /// The kernel's half of rings whose memory is elsewhere.
    ///
    /// # Safety
    ///
    /// The pointers must be to rings of `shape` and stay valid as long as `memory` does; nothing
    /// else may publish the kernel's atomics (SQ1, CQ1).
    pub unsafe fn over(shape: Shape, at: Places, memory: Arc<[Map]>) -> Self {
        let (sq_entries, cq_entries) = shape.entries();
        #[expect(clippy::multiple_unsafe_ops_per_block, reason = "one argument vouches for all")]
        // SAFETY: valid, and nothing else publishes the kernel's atomics, as promised to `over`.
        unsafe {
            Self {
                sq_head: Published::new(at.sq_head),
                sq_tail: Observed::new(at.sq_tail),
                sq_flags: PublishedFlags::new(at.sq_flags),
                dropped: Published::new(at.dropped),
                cq_head: Observed::new(at.cq_head),
                cq_tail: Published::new(at.cq_tail),
                overflow: Published::new(at.overflow),
                cq_flags: ObservedFlags::new(at.cq_flags),
                sqes: Slots::new(at.sqes, sq_entries, shape.sqe_width()),
                cqes: Slots::new(at.cqes, cq_entries, shape.cqe_width()),
                shape,
                memory,
            }
        }
    }

    /// The geometry of the rings.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// How many entries are published and not consumed.
    pub fn visible(&self) -> u32 {
        self.sq_tail.observe().distance_from(self.sq_head.last())
    }

    /// Takes one entry off the submission queue.
    pub fn consume(&mut self) -> Option<Sqe> {
        let head = self.sq_head.last();
        if self.sq_tail.observe() == head {
            return None;
        }
        // SAFETY: ours to read: `tail` covers the slot (SQ3).
        let sqe = unsafe { self.sqes.read(head) };
        self.sq_head.publish(head.advance(1));
        Some(sqe)
    }

    /// Takes a 128-byte entry off a ring of such entries, or off two slots of a mixed ring.
    pub fn consume_wide(&mut self) -> Option<Sqe128> {
        let head = self.sq_head.last();
        let slots = if self.shape.sqe == SqeShape::Mixed { 2 } else { 1 };
        if self.visible() < slots {
            return None;
        }
        // SAFETY: ours to read: `tail` covers the slot (SQ3).
        let first = unsafe { self.sqes.read(head) };
        let rest = if slots == 2 {
            // SAFETY: ours to read: `tail` covers two slots (SQ3).
            unsafe { self.sqes.read(head.advance(1)) }
        } else {
            // SAFETY: ours to read: `tail` covers the slot (SQ3), which is a wide one.
            unsafe { self.sqes.read_rest(head) }
        };
        self.sq_head.publish(head.advance(slots));
        Some(Sqe128 { first, rest: words(rest) })
    }

    /// Reads slot `slot` of a rewinding ring, as the kernel does inside enter.
    pub fn read_slot(&mut self, slot: u32) -> Sqe {
        // SAFETY: ours to read: the count that enter was given covers the slot (SQ3).
        unsafe { self.sqes.read(Index::from_raw(slot)) }
    }

    /// Slots posted and not given back: one more than the ring has after `overstep` on a full ring.
    pub fn cq_used(&self) -> u32 {
        self.cq_tail.last().distance_from(self.cq_head.observe())
    }

    /// Slots free for completions.
    pub fn cq_room(&self) -> u32 {
        self.shape.cq_entries.saturating_sub(self.cq_used())
    }

    /// Posts one completion, if there is room.
    pub fn post(&mut self, cqe: Cqe) -> bool {
        if self.cq_room() == 0 {
            return false;
        }
        let tail = self.cq_tail.last();
        // SAFETY: ours to write: `head` has passed the slot (CQ4).
        unsafe { self.cqes.write(tail, cqe) };
        self.cq_tail.publish(tail.advance(1));
        true
    }

    /// Posts a completion of 32 bytes, on a ring that takes them, if there is room; with a filler
    /// where it would straddle the wrap.
    pub fn post_wide(&mut self, wide: Cqe32) -> bool {
        let mut tail = self.cq_tail.last();
        if self.shape.cqe == CqeShape::Double {
            if self.cq_room() == 0 {
                return false;
            }
            // SAFETY: ours to write: `head` has passed the slot (CQ4).
            unsafe { self.cqes.write(tail, wide.first) };
            // SAFETY: ours to write (CQ4), and a wide one.
            unsafe { self.cqes.write_rest(tail, second_half(wide)) };
            self.cq_tail.publish(tail.advance(1));
            return true;
        }
        let straddles = tail.is_last_slot(self.cqes.entries());
        if self.cq_room() < if straddles { 3 } else { 2 } {
            return false;
        }
        if straddles {
            let filler = Cqe { flags: CqeFlags::SKIP, ..Cqe::ZERO };
            // SAFETY: ours to write: `head` has passed the slot (CQ4).
            unsafe { self.cqes.write(tail, filler) };
            tail = tail.advance(1);
        }
        let first = Cqe { flags: wide.first.flags | CqeFlags::CQE32, ..wide.first };
        // SAFETY: ours to write: `head` has passed the slot (CQ4).
        unsafe { self.cqes.write(tail, first) };
        // SAFETY: ours to write: `head` has passed the slot (CQ4).
        unsafe { self.cqes.write(tail.advance(1), second_half(wide)) };
        self.cq_tail.publish(tail.advance(2));
        true
    }

    /// Posts a filler in the last slot of a mixed ring, alone: the wide completion after it finds
    /// no room (Linux 6.18 to 7.2). Returns whether the tail was there and the slot was free.
    pub fn fill_last(&mut self) -> bool {
        let last = self.cq_tail.last().is_last_slot(self.cqes.entries());
        last && self.post(Cqe { flags: CqeFlags::SKIP, ..Cqe::ZERO })
    }

    /// Writes a completion over the filler of `fill_last`, and moves the tail past a slot that was
    /// not written, as those kernels do next. Does not check for room, because they do not.
    pub fn overstep(&mut self, cqe: Cqe) {
        let (tail, back) = (self.cq_tail.last(), self.shape.cq_entries - 1);
        // SAFETY: not ours to write, which is the purpose here. The lap before had a completion
        // there.
        unsafe { self.cqes.write(tail.advance(back), cqe) };
        self.cq_tail.publish(tail.advance(1));
    }

    /// How the polling thread goes to sleep: it raises NEED_WAKEUP, then looks once more (SQ5).
    /// Returns whether it may sleep.
    pub fn may_sleep(&mut self) -> bool {
        self.sq_flags.store_before_loads(SqRingFlags::NEED_WAKEUP.bits());
        if self.visible() == 0 {
            return true;
        }
        self.sq_flags.store(0);
        false
    }
}

/// Memory for rings of one shape, in which rings can start again and again: for millions of
/// histories.
///
/// The slots keep what the last history left in them.
#[derive(Debug)]
pub struct Arena {
    shape: Shape,
    at: Places,
    memory: Arc<[Map]>,
}

impl Arena {
    /// Memory for rings of `shape`.
    pub fn new(shape: Shape) -> Self {
        let heap = Heap::new(shape);
        Self { shape, at: heap.at, memory: heap.into_memory() }
    }

    /// Runs `history` on rings that are new except for the slots.
    pub fn run<R>(
        &mut self,
        history: impl FnOnce(&mut SubmissionQueue, &mut CompletionQueue, &mut FakeKernel) -> R,
    ) -> R {
        let (at, sq, cq) = (self.at, self.shape.sq_start(), self.shape.start);
        let indices = [(at.sq_head, sq), (at.sq_tail, sq), (at.cq_head, cq), (at.cq_tail, cq)];
        let others = [at.sq_flags, at.cq_flags, at.dropped, at.overflow].map(|word| (word, 0));
        for (word, value) in indices.into_iter().chain(others) {
            // SAFETY: ours, so valid; nothing else stores, since the last history is over.
            unsafe { Published::new(word) }.publish(Index::from_raw(value));
        }
        // SAFETY: the pointers are to the memory; the last history is over, so nothing else uses
        // them.
        let (mut sq, mut cq, mut kernel) =
            unsafe { FakeKernel::with_rings(self.shape, at, &self.memory) };
        history(&mut sq, &mut cq, &mut kernel)
    }
}

/// The 64 bytes of an entry as eight numbers.
pub fn words(sqe: Sqe) -> [u64; 8] {
    let pack = |bytes: [u8; 8]| u64::from_le_bytes(bytes);
    let two = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    let [p0, p1] = sqe.ioprio.to_le_bytes();
    let [f0, f1, f2, f3] = sqe.fd.to_le_bytes();
    let buf = u32::from(sqe.buf_index) | u32::from(sqe.personality) << 16;
    [
        pack([sqe.opcode.0, sqe.flags.bits(), p0, p1, f0, f1, f2, f3]),
        sqe.off,
        sqe.addr,
        two(sqe.len, sqe.op_flags),
        sqe.user_data,
        two(buf, sqe.file_index),
        sqe.addr3,
        sqe.pad2,
    ]
}

/// The second 16 bytes of a completion, as they are in a slot.
fn second_half(wide: Cqe32) -> Cqe {
    let [b0, b1, b2, b3, c0, c1, c2, c3] = wide.big[1].to_le_bytes();
    Cqe {
        user_data: wide.big[0],
        res: i32::from_le_bytes([b0, b1, b2, b3]),
        flags: CqeFlags::from_bits_retain(u32::from_le_bytes([c0, c1, c2, c3])),
    }
}

fn width(double: bool) -> Width {
    if double { Width::Double } else { Width::Single }
}

fn new_atomic(value: u32) -> NonNull<AtomicU32> {
    NonNull::from(Box::leak(Box::new(AtomicU32::new(value))))
}

fn units(entries: u32, width: Width) -> usize {
    entries as usize * if width == Width::Double { 2 } else { 1 }
}

/// Slots that hold `blank`, until they are freed.
pub(super) fn new_slots<T: Copy>(blank: T, entries: u32, width: Width) -> NonNull<Slot<T>> {
    let slots: Box<[Slot<T>]> = (0..units(entries, width)).map(|_| Slot::new(blank)).collect();
    NonNull::from(Box::leak(slots)).cast()
}

/// Frees slots.
///
/// # Safety
///
/// The slots must come from [`new_slots`] with this size, and nothing may use them any more.
pub(super) unsafe fn free_slots<T>(slots: NonNull<Slot<T>>, entries: u32, width: Width) {
    let slots = NonNull::slice_from_raw_parts(slots, units(entries, width));
    // SAFETY: made by `new_slots` from a box of this length, as promised to `free_slots`.
    drop(unsafe { Box::from_raw(slots.as_ptr()) });
}
