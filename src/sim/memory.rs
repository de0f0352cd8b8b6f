//! The memory of a simulated ring, and the kernel's half of it: the types of `sys` with the roles
//! exchanged.
//!
//! ```text
//!                 the ring holds          the simulated kernel holds
//!   sq.tail       Published          ──►  Observed
//!   sq.head       Observed           ◄──  Published
//!   cq.tail       Observed           ◄──  Published
//!   cq.head       Published          ──►  Observed
//!   sq.flags      ObservedFlags      ◄──  PublishedFlags
//! ```
//!
//! Laid out as Linux 6.x does it: one block holds the indices, the completions and the index array,
//! another one the entries. Keeps SQ1 and CQ1 for the kernel's side. An entry is filled with
//! [`POISON`] once it is consumed, and a completion once its slot is released, so that whoever
//! reads one too late, or writes one only in part, finds that.
//!
//! # Safety
//!
//! Every pointer lies inside a block that the value holds; the layout decides where.
#![allow(unsafe_code, reason = "plays the kernel")]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::Arc;

use annulus_sys::abi::{Cqe, CqringOffsets, Params, Sqe, SqringOffsets};
use annulus_sys::flags::{OFF_CQ_RING, OFF_SQ_RING, OFF_SQES, SetupFlags, SqRingFlags};
use annulus_sys::index::{Entries, Index};
use annulus_sys::map::Map;
use annulus_sys::orderings::{Observed, Published, PublishedFlags};
use annulus_sys::slots::{Slot, Slots, Width};

/// What fills memory that holds nothing.
pub(super) const POISON: u8 = 0xDD;

const PAGE: usize = 4096;
/// Where the completions begin; before them are the indices.
const CQES: u32 = 320;

/// A block of zeroed memory.
#[derive(Debug)]
pub(super) struct Block {
    base: NonNull<u8>,
    layout: Layout,
}

// SAFETY: plain memory, whose users keep the rules for sharing it; the block only frees it.
unsafe impl Send for Block {}
// SAFETY: as a `Block` hands out pointers and never reads or writes through them.
unsafe impl Sync for Block {}

impl Block {
    /// Whole pages, at least `len` bytes.
    pub(super) fn new(len: usize) -> Arc<Self> {
        let len = len.max(1).next_multiple_of(PAGE);
        let layout = Layout::from_size_align(len, PAGE).expect("a size that fits");
        // SAFETY: the layout is never empty, since it is whole pages.
        let base = unsafe { alloc_zeroed(layout) };
        let base = NonNull::new(base).unwrap_or_else(|| handle_alloc_error(layout));
        Arc::new(Self { base, layout })
    }

    /// A map of the first `len` bytes, which keeps the block alive; `None` if there are not so
    /// many.
    pub(super) fn map(self: &Arc<Self>, len: usize) -> Option<Map> {
        let keeper = Box::new(Arc::clone(self));
        // SAFETY: so many bytes as the condition says, which live until the keeper is dropped.
        (len <= self.layout.size()).then(|| unsafe { Map::foreign(self.base, len, keeper) })
    }

    /// The first byte.
    pub(super) fn base(&self) -> NonNull<u8> {
        self.base
    }

    fn at<T>(&self, offset: u32) -> NonNull<T> {
        assert!(offset as usize + size_of::<T>() <= self.layout.size());
        // SAFETY: in bounds, because of the assertion.
        unsafe { self.base.add(offset as usize) }.cast()
    }

    /// Stores a word of a ring that is not in use yet.
    fn set(&self, offset: u32, value: u32) {
        // SAFETY: in bounds and aligned, as the layout has it; nothing else has the block yet.
        unsafe { self.at::<u32>(offset).write(value) };
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated by `new` with this layout; nothing uses it, since no owner is left.
        unsafe { dealloc(self.base.as_ptr(), self.layout) };
    }
}

/// The kernel's half of a ring.
#[derive(Debug)]
pub(super) struct Half {
    sq_head: Published,
    sq_tail: Observed,
    flags: PublishedFlags,
    dropped: Published,
    cq_head: Observed,
    cq_tail: Published,
    sqes: Slots<Sqe>,
    cqes: Slots<Cqe>,
    array: Option<Slots<u32>>,
    /// Up to which index the program has taken completions, as far as we know.
    taken: Index,
    /// Entries that were published and not consumed, as they were then.
    left: Vec<(Index, [u64; 8])>,
    rings: Arc<Block>,
    entries: Arc<Block>,
}

impl Half {
    /// A ring of the sizes in `params`, whose indices start at `start`; writes the offsets.
    pub(super) fn new(params: &mut Params, start: u32) -> Self {
        let (sq, cq) = (params.sq_entries, params.cq_entries);
        let array = CQES + 16 * cq;
        let has_array = !params.flags.contains(SetupFlags::NO_SQARRAY);
        let rings = Block::new((array + if has_array { 4 * sq } else { 0 }) as usize);
        let entries = Block::new(64 * sq as usize);
        let s = SqringOffsets {
            head: 0,
            tail: 64,
            ring_mask: 256,
            ring_entries: 264,
            flags: 276,
            dropped: 272,
            array: if has_array { array } else { 0 },
            ..SqringOffsets::default()
        };
        let c = CqringOffsets {
            head: 128,
            tail: 192,
            ring_mask: 260,
            ring_entries: 268,
            overflow: 284,
            cqes: CQES,
            flags: 280,
            ..CqringOffsets::default()
        };
        for index in [s.head, s.tail, c.head, c.tail] {
            rings.set(index, start);
        }
        for (offset, value) in [
            (s.ring_mask, sq - 1),
            (s.ring_entries, sq),
            (c.ring_mask, cq - 1),
            (c.ring_entries, cq),
        ] {
            rings.set(offset, value);
        }
        (params.sq_off, params.cq_off) = (s, c);
        Self::over(params, Index::from_raw(start), rings, entries)
    }

    fn over(params: &Params, start: Index, rings: Arc<Block>, entries: Arc<Block>) -> Self {
        let (s, c) = (&params.sq_off, &params.cq_off);
        let sized = |count| Entries::new(count).expect("a power of two");
        let (sq, cq) = (sized(params.sq_entries), sized(params.cq_entries));
        let has_array = !params.flags.contains(SetupFlags::NO_SQARRAY);
        // SAFETY: the slots lie in the block, as the layout has it; any bytes are a `u32`.
        let array = has_array
            .then(|| unsafe { Slots::new(rings.at::<Slot<u32>>(s.array), sq, Width::Single) });
        #[expect(clippy::multiple_unsafe_ops_per_block, reason = "one argument vouches for all")]
        // SAFETY: in the blocks, as the layout has it, which this value keeps; nothing else
        // publishes the kernel's atomics (SQ1, CQ1), since there is one half for each ring.
        unsafe {
            Self {
                sq_head: Published::new(rings.at(s.head)),
                sq_tail: Observed::new(rings.at(s.tail)),
                flags: PublishedFlags::new(rings.at(s.flags)),
                dropped: Published::new(rings.at(s.dropped)),
                cq_head: Observed::new(rings.at(c.head)),
                cq_tail: Published::new(rings.at(c.tail)),
                sqes: Slots::new(entries.at(0), sq, Width::Single),
                cqes: Slots::new(rings.at(c.cqes), cq, Width::Single),
                array,
                taken: start,
                left: Vec::new(),
                rings,
                entries,
            }
        }
    }

    /// The memory that a map at `offset` shows.
    pub(super) fn block(&self, offset: u64) -> Option<&Arc<Block>> {
        match offset {
            OFF_SQ_RING | OFF_CQ_RING => Some(&self.rings),
            OFF_SQES => Some(&self.entries),
            _ => None,
        }
    }

    /// How many completions the queue holds at most.
    pub(super) fn cq_entries(&self) -> u32 {
        self.cqes.entries().count()
    }

    /// How many entries are published and not consumed, if that is possible (SQ2).
    pub(super) fn visible(&self) -> Result<u32, String> {
        let count = self.sq_tail.observe().distance_from(self.sq_head.last());
        let entries = self.sqes.entries().count();
        if count <= entries {
            return Ok(count);
        }
        Err(format!("SQ2: {count} entries are published, in a queue of {entries}"))
    }

    /// Takes the next entry off the queue: `None` for one whose place does not exist.
    pub(super) fn consume(&mut self) -> Option<Sqe> {
        let head = self.sq_head.last();
        // SAFETY: ours to read: `tail` covers the slot (SQ3).
        let at =
            self.array.as_ref().map_or(head, |array| Index::from_raw(unsafe { array.read(head) }));
        let is_there = at == head || at.to_raw() < self.sqes.entries().count();
        // SAFETY: ours to read: `tail` covers the slot (SQ3).
        let sqe = is_there.then(|| unsafe { self.sqes.read(at) });
        if is_there {
            let blank = Sqe::from_words([u64::from_ne_bytes([POISON; 8]); 8]);
            // SAFETY: still ours: `head` has not passed the slot (SQ4).
            unsafe { self.sqes.write(at, blank) };
        } else {
            let dropped = self.dropped.last();
            self.dropped.publish(dropped.advance(1));
        }
        self.sq_head.publish(head.advance(1));
        sqe
    }

    /// Notes the entries that stay in the queue.
    pub(super) fn note_left(&mut self, visible: u32) {
        let from = self.sq_head.last();
        self.left.clear();
        for index in (0..visible).map(|count| from.advance(count)) {
            // SAFETY: ours to read: `tail` covers the slot (SQ3).
            self.left.push((index, unsafe { self.sqes.read(index) }.to_words()));
        }
    }

    /// Whether an entry was written over that was not consumed (SQ4).
    pub(super) fn is_overwritten(&mut self) -> bool {
        // SAFETY: ours to read: `tail` covers the slot (SQ3).
        let read = |index| unsafe { self.sqes.read(index) }.to_words();
        self.left.iter().any(|&(index, before)| read(index) != before)
    }

    /// How many completions the program has taken since the last call, if that is possible (CQ2).
    pub(super) fn look(&mut self) -> Result<u32, String> {
        let (head, tail) = (self.cq_head.observe(), self.cq_tail.last());
        let (passed, there) = (head.distance_from(self.taken), tail.distance_from(self.taken));
        if passed > there {
            return Err(format!("CQ2: {passed} completions were taken, and {there} were there"));
        }
        let word = u64::from_ne_bytes([POISON; 8]);
        let [.., a, b, c, d] = word.to_ne_bytes();
        let blank = Cqe { user_data: word, res: i32::from_ne_bytes([a, b, c, d]), ..Cqe::ZERO };
        for _ in 0..passed {
            // SAFETY: ours to write: `head` has passed the slot (CQ4).
            unsafe { self.cqes.write(self.taken, blank) };
            self.taken = self.taken.advance(1);
        }
        Ok(passed)
    }

    /// How many completions are posted and not taken.
    pub(super) fn ready(&self) -> u32 {
        self.cq_tail.last().distance_from(self.cq_head.observe()).min(self.cq_entries())
    }

    /// Posts one completion, if there is room.
    pub(super) fn post(&mut self, cqe: Cqe) -> bool {
        let tail = self.cq_tail.last();
        if tail.distance_from(self.cq_head.observe()) >= self.cq_entries() {
            return false;
        }
        // SAFETY: ours to write: `head` has passed the slot (CQ4).
        unsafe { self.cqes.write(tail, cqe) };
        self.cq_tail.publish(tail.advance(1));
        true
    }

    /// Stores the flags that say what is held back.
    pub(super) fn raise(&mut self, flags: SqRingFlags) {
        if self.flags.last() != flags.bits() {
            self.flags.store(flags.bits());
        }
    }
}
