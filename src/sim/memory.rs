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
//! Keeps SQ1 and CQ1 for the kernel's side. An entry is filled with [`POISON`] once it is consumed,
//! and a completion once its slot is released, so that whoever reads one too late, or writes one
//! only in part, finds that. (Not in a mixed completion queue, whose slots the ring fills itself.)
//!
//! Leaves to others: where everything lies (`layout`), posting completions (`post`), new sizes
//! (`resize`).
//!
//! # Safety
//!
//! Every pointer lies inside a block that the value holds; the layout decides where.
#![allow(unsafe_code, reason = "plays the kernel")]

use std::sync::Arc;

use annulus_sys::abi::{Cqe, Params, Sqe};
use annulus_sys::errno::Errno;
use annulus_sys::flags::{CqeFlags, OFF_CQ_RING, OFF_SQ_RING, OFF_SQES, SetupFlags, SqRingFlags};
use annulus_sys::index::{Entries, Index};
use annulus_sys::opcode::Opcode;
use annulus_sys::orderings::{Observed, Published, PublishedFlags};
use annulus_sys::shape::{CqeShape, SqeShape, Turn};
use annulus_sys::slots::{Slot, Slots, Width};

use super::block::{Block, POISON};
use super::layout::{WORDS, lengths};

/// The kernel's half of a ring.
#[derive(Debug)]
pub(super) struct Half {
    pub(super) sq_head: Published,
    pub(super) sq_tail: Observed,
    pub(super) flags: PublishedFlags,
    pub(super) dropped: Published,
    pub(super) cq_head: Observed,
    pub(super) cq_tail: Published,
    pub(super) overflow: Published,
    pub(super) sqes: Slots<Sqe>,
    pub(super) cqes: Slots<Cqe>,
    array: Option<Slots<u32>>,
    /// Which entry is consumed next.
    cursor: Index,
    turn: Turn,
    entry_shape: SqeShape,
    pub(super) shape: CqeShape,
    /// Of a mixed queue: the slots that the kernel found free when it last looked.
    pub(super) free: (u32, u32),
    /// Up to which index the program has taken completions, as far as we know.
    pub(super) taken: Index,
    /// Entries that were published and not consumed, as they were then.
    left: Vec<(Index, [u64; 8])>,
    rings: Arc<Block>,
    entries: Arc<Block>,
}

/// What was taken off the queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Consumed {
    /// `None` if its place does not exist.
    pub(super) sqe: Option<Sqe>,
    /// How many slots it took.
    pub(super) slots: u32,
    /// Whether it is an entry of 128 bytes that has no room.
    pub(super) is_cut: bool,
}

impl Half {
    /// A ring as `params` describe it, whose indices start at `start`.
    pub(super) fn new(params: &Params, start: u32) -> Result<Self, Errno> {
        let (of_rings, of_entries) = lengths(params);
        let (s, c) = (&params.sq_off, &params.cq_off);
        let (rings, entries) = if params.flags.contains(SetupFlags::NO_MMAP) {
            let rings = Block::of_program(c.user_addr, of_rings)?;
            (rings, Block::of_program(s.user_addr, of_entries)?)
        } else {
            (Block::new(of_rings), Block::new(of_entries))
        };
        // The kernel reads a queue that rewinds from slot 0 on.
        let rewinds = Turn::of(params.flags) == Turn::Rewind;
        let sq_start = if rewinds { 0 } else { start };
        for (offset, value) in [
            (s.head, sq_start),
            (s.tail, sq_start),
            (c.head, start),
            (c.tail, start),
            (s.ring_mask, params.sq_entries - 1),
            (s.ring_entries, params.sq_entries),
            (c.ring_mask, params.cq_entries - 1),
            (c.ring_entries, params.cq_entries),
        ] {
            rings.set(offset, value);
        }
        Ok(Self::over(params, rings, entries))
    }

    fn over(params: &Params, rings: Arc<Block>, entries: Arc<Block>) -> Self {
        let (s, c) = (&params.sq_off, &params.cq_off);
        let sized = |count| Entries::new(count).expect("a power of two");
        let (sq, cq) = (sized(params.sq_entries), sized(params.cq_entries));
        let double = |flag| {
            if params.flags.contains(flag) { Width::Double } else { Width::Single }
        };
        let has_array = !params.flags.contains(SetupFlags::NO_SQARRAY);
        // SAFETY: the slots lie in the block, as the layout has it; any bytes are a `u32`.
        let array = has_array
            .then(|| unsafe { Slots::new(rings.at::<Slot<u32>>(s.array), sq, Width::Single) });
        #[expect(clippy::multiple_unsafe_ops_per_block, reason = "one argument vouches for all")]
        // SAFETY: in the blocks, as the layout has it, which this value keeps; nothing else
        // publishes the kernel's atomics (SQ1, CQ1), since there is one half for each ring.
        unsafe {
            let (sq_head, cq_head) =
                (Published::new(rings.at(s.head)), Observed::new(rings.at(c.head)));
            Self {
                cursor: sq_head.last(),
                taken: cq_head.observe(),
                sq_head,
                sq_tail: Observed::new(rings.at(s.tail)),
                flags: PublishedFlags::new(rings.at(s.flags)),
                dropped: Published::new(rings.at(s.dropped)),
                cq_head,
                cq_tail: Published::new(rings.at(c.tail)),
                overflow: Published::new(rings.at(c.overflow)),
                sqes: Slots::new(entries.at(0), sq, double(SetupFlags::SQE128)),
                cqes: Slots::new(rings.at(c.cqes), cq, double(SetupFlags::CQE32)),
                array,
                turn: Turn::of(params.flags),
                entry_shape: SqeShape::of(params.flags),
                shape: CqeShape::of(params.flags),
                free: (0, 0),
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

    /// Whether it lies in memory of the program's.
    pub(super) fn is_theirs(&self) -> bool {
        self.rings.is_theirs()
    }

    /// Whether the program has unmapped the memory of the ring (RG1).
    pub(super) fn is_gone(&self) -> bool {
        self.rings.is_gone() || self.entries.is_gone()
    }

    /// How many slots the queues have.
    pub(super) fn sizes(&self) -> (u32, u32) {
        (self.sqes.entries().count(), self.cq_entries())
    }

    /// How many completions the queue holds at most.
    pub(super) fn cq_entries(&self) -> u32 {
        self.cqes.entries().count()
    }

    /// How many entries are published and not consumed, if that is possible (SQ2). Of a queue that
    /// rewinds, the enter says it.
    pub(super) fn visible(&self) -> Result<u32, String> {
        let entries = self.sqes.entries().count();
        if self.turn == Turn::Rewind {
            return Ok(entries);
        }
        let count = self.sq_tail.observe().distance_from(self.cursor);
        if count <= entries {
            return Ok(count);
        }
        Err(format!("SQ2: {count} entries are published, in a queue of {entries}"))
    }

    /// Begins a batch.
    pub(super) fn begin_batch(&mut self) {
        if self.turn == Turn::Rewind {
            self.cursor = Index::from_raw(0);
        }
    }

    /// Takes the next entry off the queue, of whose batch `left` slots are left.
    pub(super) fn consume(&mut self, left: u32) -> Consumed {
        let at = self.cursor;
        // SAFETY: ours to read: `tail` covers the slot (SQ3).
        let at = self.array.as_ref().map_or(at, |array| Index::from_raw(unsafe { array.read(at) }));
        let is_there = at == self.cursor || at.to_raw() < self.sqes.entries().count();
        // SAFETY: ours to read: `tail` covers the slot (SQ3).
        let sqe = is_there.then(|| unsafe { self.sqes.read(at) });
        if is_there {
            self.spoil(at);
        } else {
            let dropped = self.dropped.last();
            self.dropped.publish(dropped.advance(1));
        }
        let is_wide = sqe.is_some_and(|sqe| is_wide(sqe.opcode));
        let is_last = self.cursor.is_last_slot(self.sqes.entries());
        let (slots, is_cut) = match self.entry_shape {
            SqeShape::Double => (1, false),
            SqeShape::Mixed if is_wide && left >= 2 && !is_last => (2, false),
            _ => (1, is_wide),
        };
        if slots == 2 {
            self.spoil(at.advance(1));
        }
        self.cursor = self.cursor.advance(slots);
        if self.turn == Turn::Round {
            self.sq_head.publish(self.cursor);
        }
        Consumed { sqe, slots, is_cut }
    }

    /// Fills a slot that was consumed.
    fn spoil(&mut self, at: Index) {
        let blank = Sqe::from_words([u64::from_ne_bytes([POISON; 8]); 8]);
        // SAFETY: still ours: `head` has not passed the slot (SQ4).
        unsafe { self.sqes.write(at, blank) };
        if self.sqes.is_double() {
            // SAFETY: still ours: `head` has not passed the slot (SQ4), which is double.
            unsafe { self.sqes.write_rest(at, blank) };
        }
    }

    /// Notes the entries that stay in the queue.
    pub(super) fn note_left(&mut self, visible: u32) {
        self.left.clear();
        if self.turn == Turn::Rewind {
            return;
        }
        for index in (0..visible).map(|count| self.cursor.advance(count)) {
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

    /// How many slots of completions the program has taken since the last call, if that is possible
    /// (CQ2).
    pub(super) fn look(&mut self) -> Result<u32, String> {
        let (head, tail) = (self.cq_head.observe(), self.cq_tail.last());
        let (passed, there) = (head.distance_from(self.taken), tail.distance_from(self.taken));
        // One more than there are slots, in a mixed queue of an old kernel (`post`).
        if passed > there || passed > self.cq_entries() + 1 {
            return Err(format!("CQ2: {passed} completions were taken, and {there} were there"));
        }
        if self.shape == CqeShape::Mixed {
            self.taken = head;
            return Ok(passed);
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

    /// How many slots are posted and not taken.
    pub(super) fn ready(&self) -> u32 {
        self.cq_tail.last().distance_from(self.cq_head.observe()).min(self.cq_entries())
    }

    /// As [`ready`](Self::ready), when the memory may be gone: as far as we know.
    pub(super) fn untaken(&self) -> u32 {
        if self.is_gone() { 0 } else { self.ready() }
    }

    /// Stores the flags that say what is held back.
    pub(super) fn raise(&mut self, flags: SqRingFlags) {
        if self.flags.last() != flags.bits() {
            self.flags.store(flags.bits());
        }
    }

    /// Where the words of a ring lie that both sides share.
    pub(super) fn words(&self) -> [u32; 12] {
        WORDS
    }

    /// What a word holds.
    pub(super) fn word(&self, word: usize) -> u32 {
        // SAFETY: in the block, as the layout has it, which this value keeps.
        unsafe { Published::new(self.rings.at(WORDS[word])) }.last().to_raw()
    }

    /// The flags of the completion queue, which the program sets.
    pub(super) fn cq_flags(&self) -> u32 {
        self.word(10)
    }

    /// Stores something in a word, whosever it is.
    pub(super) fn lie(&mut self, word: usize, value: u32) {
        // SAFETY: in the block, as the layout has it; both sides access it as an atomic only. That
        // SQ1 and CQ1 do not hold is what a lie is for.
        let mut word = unsafe { Published::new(self.rings.at(WORDS[word])) };
        word.publish(Index::from_raw(value));
    }

    /// Whether a wide completion of a mixed queue would lie across the wrap of so many slots.
    pub(super) fn would_straddle(&self, entries: u32) -> bool {
        let entries = Entries::new(entries).expect("a power of two");
        let (mut at, mut left) = (self.cq_head.observe(), self.ready());
        while self.shape == CqeShape::Mixed && left > 0 {
            // SAFETY: only the kernel's half writes completions (CQ3), and that is this value.
            let is_wide = unsafe { self.cqes.read(at) }.flags.contains(CqeFlags::CQE32);
            if is_wide && at.is_last_slot(entries) {
                return true;
            }
            let slots = if is_wide { 2 } else { 1 };
            (at, left) = (at.advance(slots), left.saturating_sub(slots));
        }
        false
    }

    /// Moves to another memory, of which `params` tell: what is queued moves along, if there is
    /// room for it.
    pub(super) fn resize(&mut self, params: &Params) -> Result<(), Errno> {
        let (sq, cq) = (self.sq_tail.observe(), self.cq_tail.last());
        let ready = self.ready();
        let visible = if self.turn == Turn::Rewind { 0 } else { sq.distance_from(self.cursor) };
        if visible > params.sq_entries || cq.distance_from(self.taken) > params.cq_entries {
            return Err(Errno::new(libc::EOVERFLOW));
        }
        let mut new = Self::new(params, 0)?;
        for index in (0..visible).map(|count| self.cursor.advance(count)) {
            // SAFETY: `tail` covers the slot (SQ3).
            let first = unsafe { self.sqes.read(index) };
            // SAFETY: nobody else has the new slots yet.
            unsafe { new.sqes.write(index, first) };
            if self.sqes.is_double() {
                // SAFETY: `tail` covers the slot (SQ3), which is double.
                let rest = unsafe { self.sqes.read_rest(index) };
                // SAFETY: nobody else has the new slots yet, which are double, too.
                unsafe { new.sqes.write_rest(index, rest) };
            }
        }
        for index in (0..ready).map(|count| self.cq_head.observe().advance(count)) {
            // SAFETY: only the kernel's half writes completions (CQ3), and that is this value.
            let first = unsafe { self.cqes.read(index) };
            // SAFETY: nobody else has the new slots yet.
            unsafe { new.cqes.write(index, first) };
            if self.cqes.is_double() {
                // SAFETY: only this value writes completions (CQ3); the slot is double.
                let rest = unsafe { self.cqes.read_rest(index) };
                // SAFETY: nobody else has the new slots yet, which are double, too.
                unsafe { new.cqes.write_rest(index, rest) };
            }
        }
        let (s, c) = (&params.sq_off, &params.cq_off);
        for (offset, value) in [
            (s.head, self.sq_head.last().to_raw()),
            (s.tail, sq.to_raw()),
            (c.head, self.cq_head.observe().to_raw()),
            (c.tail, cq.to_raw()),
            (s.flags, self.flags.last()),
            (s.dropped, self.dropped.last().to_raw()),
            (c.overflow, self.overflow.last().to_raw()),
            (c.flags, self.cq_flags()),
        ] {
            new.rings.set(offset, value);
        }
        let (rings, entries) = (Arc::clone(&new.rings), Arc::clone(&new.entries));
        *self = Self::over(params, rings, entries);
        Ok(())
    }
}

/// Whether an operation has an entry of 128 bytes, whatever the ring.
fn is_wide(opcode: Opcode) -> bool {
    opcode == Opcode::NOP128 || opcode == Opcode::URING_CMD128
}
