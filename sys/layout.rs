//! Where the words and slots of a ring lie, from what `io_uring_setup(2)` was asked and returned.
//!
//! ```text
//!   one ring map   │ sq words │ cq words │ … │ completions │ … │ index array │
//!   entries map    │ submission entries                                      │
//! ```
//!
//! The offsets are the kernel's and differ from release to release; only `params` knows them. Each
//! is checked against the length of its map with arithmetic that cannot overflow, each size against
//! the word in the ring that repeats it.
//!
//! Leaves to others: making the ring, and the halves that use the words (`rings`).
//!
//! # Safety
//!
//! Vouches to `shared` for pointers that `Map::at` has checked.
#![allow(unsafe_code, reason = "vouches for the words that the kernel located")]

use core::ptr::NonNull;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;

use crate::abi::{Cqe, Params, Sqe};
use crate::cq::{CqParts, CqeShape};
use crate::errno::Errno;
use crate::flags::{Features, OFF_CQ_RING, OFF_SQ_RING, OFF_SQES, SetupFlags};
use crate::index::{Entries, Index};
use crate::kernel::Kernel;
use crate::map::{Map, Pages, page_size};
use crate::shared::{
    Counter, Observed, ObservedFlags, Published, PublishedFlags, Slot, Slots, Width, Word,
};
use crate::sq::{SqParts, SqeShape, Turn};
use crate::syscall::RingFd;

/// What to ask of `io_uring_setup(2)`.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Submission entries; the kernel rounds up to a power of two.
    pub entries: u32,
    /// Completion entries, if not twice as many (`CQSIZE`).
    pub cq_entries: Option<u32>,
    /// Everything but `CQSIZE` and `ATTACH_WQ`, which follow from the fields beside.
    pub flags: SetupFlags,
    /// The CPU of the polling thread, with `SQ_AFF`.
    pub sq_thread_cpu: u32,
    /// Milliseconds after which an idle polling thread sleeps; 0 is the kernel's default, 1 s.
    pub sq_thread_idle: u32,
    /// The ring whose worker and polling threads to share (`ATTACH_WQ`).
    pub attach: Option<Attached<'a>>,
    /// What own memory is made of, with `NO_MMAP`.
    pub pages: Pages,
}

/// A ring that shares its worker and polling threads with another.
#[derive(Debug, Clone, Copy)]
pub struct Attached<'a>(BorrowedFd<'a>);

impl<'a> Attached<'a> {
    /// To `ring`.
    ///
    /// # Safety
    ///
    /// The two rings share their fate: a polling thread that dies, dies for both. The other ring
    /// must belong to code that reckons with that.
    pub const unsafe fn to(ring: BorrowedFd<'a>) -> Self {
        Self(ring)
    }
}

impl Request<'_> {
    /// A ring of `entries` and nothing special.
    pub const fn new(entries: u32) -> Self {
        Self {
            entries,
            cq_entries: None,
            flags: SetupFlags::empty(),
            sq_thread_cpu: 0,
            sq_thread_idle: 0,
            attach: None,
            pages: Pages::Ordinary,
        }
    }

    /// The `struct io_uring_params` that asks for it, but for the addresses of own memory.
    pub(crate) fn params(&self) -> Params {
        let mut flags = self.flags;
        flags.set(SetupFlags::CQSIZE, self.cq_entries.is_some());
        flags.set(SetupFlags::ATTACH_WQ, self.attach.is_some());
        Params {
            cq_entries: self.cq_entries.unwrap_or(0),
            flags,
            sq_thread_cpu: self.sq_thread_cpu,
            sq_thread_idle: self.sq_thread_idle,
            wq_fd: self.attach.map_or(0, |ring| ring.0.as_raw_fd().cast_unsigned()),
            ..Params::default()
        }
    }
}

/// The sizes that follow from `params`.
pub(crate) struct Layout {
    sq_entries: Entries,
    cq_entries: Entries,
    sqe: Width,
    cqe: Width,
    /// Bytes from the start of its map to the end of each ring.
    sq_len: usize,
    cq_len: usize,
    sqes_len: usize,
}

/// The maps of a ring, and where in them the submission words, the completion words and the
/// entries lie.
pub(crate) struct Regions {
    maps: Arc<[Map]>,
    sq: (usize, usize),
    cq: (usize, usize),
    sqes: (usize, usize),
}

impl Layout {
    pub(crate) fn of(params: &Params) -> Self {
        let (sq, cq) = (params.sq_entries, params.cq_entries);
        assert!(sq <= cq, "CQ2: the kernel made {sq} submission and {cq} completion entries");
        let double = |flag| {
            if params.flags.contains(flag) { Width::Double } else { Width::Single }
        };
        let (sqe, cqe) = (double(SetupFlags::SQE128), double(SetupFlags::CQE32));
        let array = if params.flags.contains(SetupFlags::NO_SQARRAY) {
            0
        } else {
            params.sq_off.array as usize + bytes::<u32>(sq, Width::Single)
        };
        let words = |offsets: &[u32]| {
            offsets.iter().map(|&offset| offset as usize + size_of::<u32>()).max().unwrap_or(0)
        };
        let (s, c) = (&params.sq_off, &params.cq_off);
        let sq_words = [s.head, s.tail, s.ring_mask, s.ring_entries, s.flags, s.dropped];
        let cq_words = [c.head, c.tail, c.ring_mask, c.ring_entries, c.overflow, c.flags];
        Self {
            sq_entries: Entries::new(sq).expect("SQ2: the entries are a power of two"),
            cq_entries: Entries::new(cq).expect("CQ2: the entries are a power of two"),
            sqe,
            cqe,
            sq_len: words(&sq_words).max(array),
            cq_len: words(&cq_words).max(c.cqes as usize + bytes::<Cqe>(cq, cqe)),
            sqes_len: bytes::<Sqe>(sq, sqe),
        }
    }

    /// Maps what the kernel allocated.
    pub(crate) fn map(
        &self,
        kernel: &Kernel,
        fd: &RingFd,
        features: Features,
    ) -> Result<Regions, Errno> {
        let map = |offset, len| kernel.map(fd, offset, len);
        let sqes = map(OFF_SQES, self.sqes_len)?;
        if features.contains(Features::SINGLE_MMAP) {
            let rings = map(OFF_SQ_RING, self.sq_len.max(self.cq_len))?;
            Ok(Regions { maps: [sqes, rings].into(), sq: (1, 0), cq: (1, 0), sqes: (0, 0) })
        } else {
            let sq = map(OFF_SQ_RING, self.sq_len)?;
            let cq = map(OFF_CQ_RING, self.cq_len)?;
            Ok(Regions { maps: [sqes, sq, cq].into(), sq: (1, 0), cq: (2, 0), sqes: (0, 0) })
        }
    }

    /// Locates every word and slot, checks what can be checked, and fills the index array.
    pub(crate) fn parts(&self, params: &Params, regions: &Regions) -> (SqParts, CqParts) {
        let (s, c) = (&params.sq_off, &params.cq_off);
        let sq = |offset| regions.at::<Word>(regions.sq, offset, 1);
        let cq = |offset| regions.at::<Word>(regions.cq, offset, 1);
        let sqe_units = units(self.sq_entries, self.sqe);
        let cqe_units = units(self.cq_entries, self.cqe);
        let sqes = regions.at::<Slot<Sqe>>(regions.sqes, 0, sqe_units);
        let cqes = regions.at::<Slot<Cqe>>(regions.cq, c.cqes, cqe_units);
        let array = (!params.flags.contains(SetupFlags::NO_SQARRAY)).then(|| {
            regions.at::<Slot<u32>>(regions.sq, s.array, units(self.sq_entries, Width::Single))
        });
        // SAFETY: each pointer lies in the maps, because `at` checked, and the parts keep the maps;
        // the kernel accesses the words atomically and keeps SQ1 and CQ1.
        #[expect(clippy::multiple_unsafe_ops_per_block, reason = "one argument vouches for all")]
        unsafe {
            let mask = |word, entries: Entries| Counter::new(word).now() == entries.mask();
            let count = |word, entries: Entries| Counter::new(word).now() == entries.count();
            assert!(mask(sq(s.ring_mask), self.sq_entries), "SQ2: the mask does not fit");
            assert!(mask(cq(c.ring_mask), self.cq_entries), "CQ2: the mask does not fit");
            assert!(count(sq(s.ring_entries), self.sq_entries), "SQ2: the sizes disagree");
            assert!(count(cq(c.ring_entries), self.cq_entries), "CQ2: the sizes disagree");
            if let Some(array) = array {
                fill(Slots::new(array, self.sq_entries, Width::Single));
            }
            let sq_parts = SqParts {
                head: Observed::new(sq(s.head)),
                tail: Published::new(sq(s.tail)),
                flags: ObservedFlags::new(sq(s.flags)),
                dropped: Counter::new(sq(s.dropped)),
                slots: Slots::new(sqes, self.sq_entries, self.sqe),
                shape: SqeShape::of(params.flags),
                turn: Turn::of(params.flags),
                memory: Arc::clone(&regions.maps),
            };
            let cq_parts = CqParts {
                head: Published::new(cq(c.head)),
                tail: Observed::new(cq(c.tail)),
                flags: (c.flags != 0).then(|| PublishedFlags::new(cq(c.flags))),
                overflow: Counter::new(cq(c.overflow)),
                hints: ObservedFlags::new(sq(s.flags)),
                slots: Slots::new(cqes, self.cq_entries, self.cqe),
                shape: CqeShape::of(params.flags),
                memory: Arc::clone(&regions.maps),
            };
            (sq_parts, cq_parts)
        }
    }
}

/// Makes entry `i` of the index array name slot `i`, once and for ever.
fn fill(mut array: Slots<u32>) {
    for slot in 0..array.entries().count() {
        // SAFETY: ours: no tail was published yet (SQ3), and slots are single.
        unsafe { array.write_single(Index::from_raw(slot), slot) };
    }
}

impl Regions {
    fn at<T>(&self, (map, start): (usize, usize), offset: u32, count: usize) -> NonNull<T> {
        self.maps[map].at(start + offset as usize, count)
    }
}

/// Ring memory of our own, for `NO_MMAP`: the rings, then the entries.
pub(crate) struct OwnMemory {
    /// One map for both, when huge; else one each.
    rings: Map,
    sqes: Option<Map>,
    sqes_start: usize,
}

impl OwnMemory {
    /// Allocates at least as much as the kernel will ask for.
    pub(crate) fn new(request: &Request<'_>) -> Result<Self, Errno> {
        let double = |flag| {
            if request.flags.contains(flag) { Width::Double } else { Width::Single }
        };
        let sq = request.entries.clamp(1, MAX_SQ_ENTRIES).next_power_of_two();
        let cq = request.cq_entries.unwrap_or(2 * sq).clamp(sq, MAX_CQ_ENTRIES);
        let cq = cq.next_power_of_two();
        let rings = OWN_HEADER
            + bytes::<Cqe>(cq, double(SetupFlags::CQE32))
            + bytes::<u32>(sq, Width::Single);
        let sqes = bytes::<Sqe>(sq, double(SetupFlags::SQE128));
        let rings = rings.next_multiple_of(page_size());
        Ok(match request.pages {
            Pages::Ordinary => Self {
                rings: Map::own(rings, Pages::Ordinary)?,
                sqes: Some(Map::own(sqes, Pages::Ordinary)?),
                sqes_start: 0,
            },
            Pages::Huge => {
                Self { rings: Map::own(rings + sqes, Pages::Huge)?, sqes: None, sqes_start: rings }
            }
        })
    }

    /// # Safety
    ///
    /// The kernel must be done with the memory for good.
    pub(crate) unsafe fn found_idle(self) {
        for map in [Some(self.rings), self.sqes].into_iter().flatten() {
            // SAFETY: as promised to `OwnMemory::found_idle`.
            unsafe { map.found_idle() };
        }
    }

    pub(crate) fn rings_address(&self) -> u64 {
        self.rings.address()
    }

    pub(crate) fn sqes_address(&self) -> u64 {
        self.sqes.as_ref().unwrap_or(&self.rings).address() + self.sqes_start as u64
    }

    pub(crate) fn into_regions(self) -> Regions {
        let (sqes, start) = (usize::from(self.sqes.is_some()), self.sqes_start);
        let maps = [self.rings].into_iter().chain(self.sqes).collect();
        Regions { maps, sq: (0, 0), cq: (0, 0), sqes: (sqes, start) }
    }
}

/// The most submission entries that the kernel gives.
pub const MAX_SQ_ENTRIES: u32 = 32768;
/// The most completion entries that the kernel gives.
pub const MAX_CQ_ENTRIES: u32 = 2 * MAX_SQ_ENTRIES;
/// Far more than the words before the first completion take, and the padding behind the last: 64 to
/// 384 bytes on the kernels that we know. A kernel that wanted more would reach past the end.
const OWN_HEADER: usize = 4096;

fn units(entries: Entries, width: Width) -> usize {
    let count = entries.count() as usize;
    match width {
        Width::Single => count,
        Width::Double => 2 * count,
    }
}

/// No overflow: 2³² times 128 bytes fits a 64-bit `usize`.
fn bytes<T>(count: u32, width: Width) -> usize {
    let bytes = count as usize * size_of::<T>();
    match width {
        Width::Single => bytes,
        Width::Double => 2 * bytes,
    }
}
