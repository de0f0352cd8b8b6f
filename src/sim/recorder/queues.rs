//! The queues of a real ring, read by a third party.
//!
//! ```text
//!   SQ   … │ consumed since the last look │ …    cursor `sq`, up to the kernel's head
//!   CQ   … │ taken │ … │ posted           │ …    cursors `taken`, `posted`, up to head, tail
//! ```
//!
//! The entry of a consumed slot is still there: only the thread that has just entered writes to it.
//! A completion that was posted is there until the ring takes it. If another thread takes it in
//! this moment (`RawRing::split`), what is read may be that of the next one.
//!
//! # Safety
//!
//! Reads slots by single words, because another thread or the kernel may write to them.
#![allow(unsafe_code, reason = "reads memory that is shared with the kernel")]

use std::ptr::NonNull;

use annulus_sys::abi::{Cqe, Params, Sqe};
use annulus_sys::flags::{CqeFlags, OFF_CQ_RING, OFF_SQ_RING, OFF_SQES, SetupFlags};
use annulus_sys::index::{Entries, Index};
use annulus_sys::map::Map;
use annulus_sys::opcode::Opcode;
use annulus_sys::orderings::Observed;

/// The queues of one ring, and how far they were seen.
#[derive(Debug)]
pub(super) struct Queues {
    params: Params,
    sq_ring: Option<Map>,
    /// `None` where it lies in the map of the submission queue.
    cq_ring: Option<Map>,
    entries: Option<Map>,
    sq: Index,
    taken: Index,
    posted: Index,
}

impl Queues {
    pub(super) fn new(params: Params) -> Self {
        let start = Index::from_raw(0);
        let (sq_ring, cq_ring, entries) = (None, None, None);
        Self { params, sq_ring, cq_ring, entries, sq: start, taken: start, posted: start }
    }

    /// A region of the ring was mapped.
    pub(super) fn mapped(&mut self, offset: u64, map: Map) {
        match offset {
            OFF_SQ_RING => self.sq_ring = Some(map),
            OFF_CQ_RING => self.cq_ring = Some(map),
            OFF_SQES => self.entries = Some(map),
            _ => {}
        }
    }

    /// The kernel has made new memory, which is not mapped yet. The indices go on.
    pub(super) fn resized(&mut self, params: &Params) {
        // The kernel returns sizes and offsets only.
        let flags = self.params.flags;
        self.params = Params { flags, ..*params };
        (self.sq_ring, self.cq_ring, self.entries) = (None, None, None);
    }

    fn has(&self, flag: SetupFlags) -> bool {
        self.params.flags.contains(flag)
    }

    /// An index in one of the maps.
    fn index(map: Option<&Map>, offset: u32) -> Option<Index> {
        // A forked child does not have the maps.
        let word = map.filter(|map| map.is_here())?.at(offset as usize, 1);
        // SAFETY: the word lies in the map, and both sides access it as an atomic only (SQ1, CQ1).
        Some(unsafe { Observed::new(word) }.observe())
    }

    fn cq_map(&self) -> Option<&Map> {
        self.cq_ring.as_ref().or(self.sq_ring.as_ref())
    }

    /// The entries that the kernel has consumed since the last look, in an enter that says that it
    /// consumed `count`.
    pub(super) fn consumed(&mut self, count: u32) -> Vec<Sqe> {
        let rewinds = self.has(SetupFlags::SQ_REWIND);
        let from = if rewinds { Index::from_raw(0) } else { self.sq };
        let head = if rewinds {
            Some(from.advance(count))
        } else {
            Self::index(self.sq_ring.as_ref(), self.params.sq_off.head)
        };
        let map = self.entries.as_ref().filter(|map| map.is_here());
        let (Some(head), Some(map)) = (head, map) else { return Vec::new() };
        let Some(entries) = Entries::new(self.params.sq_entries) else { return Vec::new() };
        let mut found = Vec::new();
        let mut at = from;
        for _ in 0..head.distance_from(from).min(entries.count()) {
            if at == head {
                break;
            }
            let wide = if self.has(SetupFlags::SQE128) { 2 } else { 1 };
            let sqe = sqe_at(map, wide * at.slot(entries));
            let is_double = matches!(sqe.opcode, Opcode::NOP128 | Opcode::URING_CMD128)
                && self.has(SetupFlags::SQE_MIXED);
            found.push(sqe);
            at = at.advance(if is_double { 2 } else { 1 });
        }
        if !rewinds {
            self.sq = head;
        }
        found
    }

    /// How many completions were taken since the last look.
    pub(super) fn taken(&mut self) -> u32 {
        let Some(head) = Self::index(self.cq_map(), self.params.cq_off.head) else { return 0 };
        head.distance_from(std::mem::replace(&mut self.taken, head))
    }

    /// The completions that were posted since the last look.
    pub(super) fn posted(&mut self) -> Vec<Cqe> {
        let tail = Self::index(self.cq_map(), self.params.cq_off.tail);
        let (Some(tail), Some(map)) = (tail, self.cq_map()) else { return Vec::new() };
        let Some(entries) = Entries::new(self.params.cq_entries) else { return Vec::new() };
        let wide = if self.has(SetupFlags::CQE32) { 2 } else { 1 };
        let first = self.params.cq_off.cqes as usize / size_of::<Cqe>();
        // If more were posted than there are slots, the oldest are gone.
        let count = tail.distance_from(self.posted);
        let mut at = tail.back(count.min(entries.count()));
        let mut found = Vec::new();
        while tail.distance_from(at) != 0 && tail.distance_from(at) <= entries.count() {
            let cqe = cqe_at(map, first + wide * at.slot(entries));
            let is_double = self.has(SetupFlags::CQE_MIXED) && cqe.flags.contains(CqeFlags::CQE32);
            if !cqe.flags.contains(CqeFlags::SKIP) {
                found.push(cqe);
            }
            at = at.advance(if is_double { 2 } else { 1 });
        }
        self.posted = tail;
        found
    }
}

/// The submission entry of 64 bytes that is the `number`th in the map.
fn sqe_at(map: &Map, number: usize) -> Sqe {
    let words: [u64; 8] = words_at(map, number * size_of::<Sqe>());
    // SAFETY: as many bytes, as aligned; and any bytes are an entry, since it has only numbers.
    unsafe { words.as_ptr().cast::<Sqe>().read() }
}

/// The completion of 16 bytes that is the `number`th in the map.
fn cqe_at(map: &Map, number: usize) -> Cqe {
    let words: [u64; 2] = words_at(map, number * size_of::<Cqe>());
    // SAFETY: as many bytes, as aligned; and any bytes are a completion, as it has only numbers.
    unsafe { words.as_ptr().cast::<Cqe>().read() }
}

/// Reads so many words at `offset`.
fn words_at<const N: usize>(map: &Map, offset: usize) -> [u64; N] {
    let start: NonNull<u64> = map.at(offset, N);
    std::array::from_fn(|at| {
        // SAFETY: the map has so many words there, as `at` checked.
        let place = unsafe { start.add(at) };
        // SAFETY: in the map, and aligned, likewise; volatile, since others may write meanwhile.
        unsafe { place.as_ptr().read_volatile() }
    })
}
