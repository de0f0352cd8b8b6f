//! Locates the indices and slots of a ring, from the parameters that `io_uring_setup(2)` returned.
//!
//! ```text
//!   one ring map   │ sq indices │ cq indices │ … │ completions │ … │ index array │
//!   entries map    │ submission entries                                          │
//! ```
//!
//! The offsets differ between kernel releases; only `params` has them. Each offset is checked
//! against the length of its map, with arithmetic that cannot overflow. Each size is checked
//! against the copy of it that the kernel stores in the ring.
//!
//! Leaves to others: making the ring, and the two halves that use these atomics (`rings`).
//!
//! # Safety
//!
//! Vouches to `orderings` and `slots` for pointers that `Map::at` has checked.
#![allow(unsafe_code, reason = "vouches for the atomics that the kernel located")]

use core::ptr::NonNull;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;

use crate::abi::{Cqe, Params, Sqe};
use crate::cq::{CqParts, CqeShape};
use crate::errno::Errno;
use crate::flags::{Features, OFF_CQ_RING, OFF_SQ_RING, OFF_SQES, SetupFlags};
use crate::index::{Entries, Index};
use crate::kernel::Kernel;
use crate::map::{Map, Pages, huge_page_size, page_size};
use crate::orderings::{AtomicU32, Counter, Observed, ObservedFlags, Published, PublishedFlags};
use crate::place::Place;
use crate::slots::{Slot, Slots, Width};
use crate::sq::{SqParts, SqeShape, Turn};
use crate::syscall::RingFd;

/// The ring to request from `io_uring_setup(2)`.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The number of submission entries; the kernel rounds up to a power of two.
    pub entries: u32,
    /// The number of completion entries (`CQSIZE`). With `None` it is twice `entries`.
    pub cq_entries: Option<u32>,
    /// All flags except `CQSIZE` and `ATTACH_WQ`, which follow from `cq_entries` and `attach`.
    pub flags: SetupFlags,
    /// The CPU of the polling thread, with `SQ_AFF`.
    pub sq_thread_cpu: u32,
    /// After how many idle milliseconds the polling thread sleeps; 0 is the kernel's default, 1 s.
    pub sq_thread_idle: u32,
    /// The ring whose worker and polling threads to share (`ATTACH_WQ`).
    pub attach: Option<Attached<'a>>,
    /// The pages of the memory that we allocate, with `NO_MMAP`.
    pub pages: Pages,
    /// Memory of the caller's instead, with `NO_MMAP`.
    pub place: Option<Place>,
}

/// An existing ring that shares its worker and polling threads with a new one.
#[derive(Debug, Clone, Copy)]
pub struct Attached<'a>(BorrowedFd<'a>);

impl<'a> Attached<'a> {
    /// Attaches to `ring`.
    ///
    /// # Safety
    ///
    /// The two rings depend on each other: if a shared polling thread dies, both rings lose it. The
    /// other ring must belong to code that expects this.
    pub const unsafe fn to(ring: BorrowedFd<'a>) -> Self {
        Self(ring)
    }
}

impl Request<'_> {
    /// A ring of `entries` submission entries, with the kernel's defaults.
    pub const fn new(entries: u32) -> Self {
        Self {
            entries,
            cq_entries: None,
            flags: SetupFlags::empty(),
            sq_thread_cpu: 0,
            sq_thread_idle: 0,
            attach: None,
            pages: Pages::Ordinary,
            place: None,
        }
    }

    /// How many bytes of own memory the ring needs at most, in whole pages.
    pub fn own_memory_size(&self) -> usize {
        let (rings, sqes) = OwnMemory::sizes(self);
        rings + sqes
    }

    /// How many huge pages of `size` bytes the ring needs at most, where it lies in such.
    pub fn huge_pages(&self, size: usize) -> usize {
        let (rings, sqes) = OwnMemory::sizes(self);
        (OwnMemory::start_of_entries(rings, sqes, size) + sqes).div_ceil(size)
    }

    /// The `struct io_uring_params` of the request, without the addresses of own memory.
    pub(crate) fn params(&self) -> Params {
        let (mut flags, cq_entries) = (self.flags, self.completions());
        flags.set(SetupFlags::CQSIZE, cq_entries.is_some());
        flags.set(SetupFlags::ATTACH_WQ, self.attach.is_some());
        Params {
            cq_entries: cq_entries.unwrap_or(0),
            flags,
            sq_thread_cpu: self.sq_thread_cpu,
            sq_thread_idle: self.sq_thread_idle,
            wq_fd: self.attach.map_or(0, |ring| ring.0.as_raw_fd().cast_unsigned()),
            ..Params::default()
        }
    }

    /// How many completion entries to request; `None` lets the kernel choose from `entries`. A
    /// mixed ring gets at least four: with one entry a wide completion has no room, and with two
    /// the ring may lose a completion (Linux 6.18 to 7.2; see `cq::mixed`).
    fn completions(&self) -> Option<u32> {
        let mixed = self.flags.contains(SetupFlags::CQE_MIXED);
        let few = matches!(self.cq_entries.unwrap_or(self.entries.saturating_mul(2)), 1 | 2);
        if mixed && few { Some(4) } else { self.cq_entries }
    }
}

/// The sizes of the rings and entries, computed from `params`.
pub(crate) struct Layout {
    sq_entries: Entries,
    cq_entries: Entries,
    sqe: Width,
    cqe: Width,
    /// For each ring, the bytes from the start of its map to the end of the ring.
    sq_len: usize,
    cq_len: usize,
    sqes_len: usize,
    /// Where the submission indices end.
    sq_words: usize,
}

/// The maps of a ring. `sq`, `cq` and `sqes` say in which map the submission indices, the
/// completion indices and the entries lie, and at which offset.
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
        let sq_words = words(&[s.head, s.tail, s.ring_mask, s.ring_entries, s.flags, s.dropped]);
        let cq_words = [c.head, c.tail, c.ring_mask, c.ring_entries, c.overflow, c.flags];
        Self {
            sq_entries: Entries::new(sq).expect("SQ2: the entries are a power of two"),
            cq_entries: Entries::new(cq).expect("CQ2: the entries are a power of two"),
            sqe,
            cqe,
            sq_len: sq_words.max(array),
            cq_len: words(&cq_words).max(c.cqes as usize + bytes::<Cqe>(cq, cqe)),
            sqes_len: bytes::<Sqe>(sq, sqe),
            sq_words,
        }
    }

    /// Maps the memory that the kernel allocated.
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

    /// Whether entries are published that the kernel has not consumed. Where the queue rewinds, the
    /// kernel reads no index, and our tail stays 0.
    pub(crate) fn has_published(&self, params: &Params, regions: &Regions) -> bool {
        let index = |offset| {
            let word = regions.at::<AtomicU32>(regions.sq, offset, 1);
            // SAFETY: in the maps, because `at` checked, and only loaded.
            unsafe { Observed::new(word) }.observe()
        };
        let tail = index(params.sq_off.tail);
        match Turn::of(params.flags) {
            Turn::Round => index(params.sq_off.head) != tail, // SQ4
            Turn::Rewind => tail.to_raw() != 0,
        }
    }

    /// Whether the index array, which is filled, lies apart from what the kernel has stored.
    pub(crate) fn array_is_apart(&self, params: &Params) -> bool {
        let array = params.sq_off.array as usize;
        let alone = params.flags.contains(SetupFlags::NO_SQARRAY);
        let one_map = params.features.contains(Features::SINGLE_MMAP);
        alone || (array >= self.sq_words && (!one_map || array >= self.cq_len))
    }

    /// Locates the indices, flags and slots, checks their sizes, and fills the index array.
    pub(crate) fn parts(&self, params: &Params, regions: &Regions) -> (SqParts, CqParts) {
        let (s, c) = (&params.sq_off, &params.cq_off);
        let sq = |offset| regions.at::<AtomicU32>(regions.sq, offset, 1);
        let cq = |offset| regions.at::<AtomicU32>(regions.cq, offset, 1);
        let sqe_units = units(self.sq_entries, self.sqe);
        let cqe_units = units(self.cq_entries, self.cqe);
        let sqes = regions.at::<Slot<Sqe>>(regions.sqes, 0, sqe_units);
        let cqes = regions.at::<Slot<Cqe>>(regions.cq, c.cqes, cqe_units);
        let array = (!params.flags.contains(SetupFlags::NO_SQARRAY)).then(|| {
            regions.at::<Slot<u32>>(regions.sq, s.array, units(self.sq_entries, Width::Single))
        });
        // SAFETY: each pointer lies in the maps, because `at` checked, and the parts keep the maps;
        // the kernel accesses the indices and flags atomically and keeps SQ1 and CQ1.
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

/// Makes entry `i` of the index array name slot `i`. It is never changed again.
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

/// Memory that we allocate for a ring with `NO_MMAP`: first the rings, then the entries.
pub(crate) struct OwnMemory {
    /// With huge pages, one map for the rings and the entries; otherwise `sqes` is a second map.
    rings: Map,
    sqes: Option<Map>,
    sqes_start: usize,
}

impl OwnMemory {
    /// At least as much as the kernel will use, in whole pages: for the rings, and for the entries.
    fn sizes(request: &Request<'_>) -> (usize, usize) {
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
        (rings.next_multiple_of(page_size()), sqes.next_multiple_of(page_size()))
    }

    /// Allocates it, or takes the caller's.
    pub(crate) fn new(request: &Request<'_>) -> Result<Self, Errno> {
        let (rings, sqes) = Self::sizes(request);
        if let Some(place) = request.place {
            let [rings, sqes] = place.split(rings, sqes);
            return Ok(Self { rings, sqes: Some(sqes), sqes_start: 0 });
        }
        Ok(match request.pages {
            Pages::Ordinary => Self {
                rings: Map::own(rings, Pages::Ordinary)?,
                sqes: Some(Map::own(sqes, Pages::Ordinary)?),
                sqes_start: 0,
            },
            Pages::Huge => {
                let start = Self::start_of_entries(rings, sqes, huge_page_size());
                Self { rings: Map::own(start + sqes, Pages::Huge)?, sqes: None, sqes_start: start }
            }
        })
    }

    /// Where in huge pages of `page` bytes the entries begin: after the rings if they end in the
    /// same page, and in the next page otherwise. So what can lie in one page does, as kernels
    /// before Linux 6.14 require.
    fn start_of_entries(rings: usize, sqes: usize, page: usize) -> usize {
        let next = rings.next_multiple_of(page);
        if rings + sqes <= next { rings } else { next }
    }

    /// # Safety
    ///
    /// The kernel must never use the memory again.
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

/// The largest submission queue that the kernel allows.
pub const MAX_SQ_ENTRIES: u32 = 32768;
/// The largest completion queue that the kernel allows.
pub const MAX_CQ_ENTRIES: u32 = 2 * MAX_SQ_ENTRIES;
/// Room for the indices and flags before the first completion, and for the padding after the last.
/// They take 64 to 384 bytes on the kernels that we know, so a page is far more than enough. A
/// kernel that used more would write past the end.
const OWN_HEADER: usize = 4096;

fn units(entries: Entries, width: Width) -> usize {
    let count = entries.count() as usize;
    match width {
        Width::Single => count,
        Width::Double => 2 * count,
    }
}

/// The size of `count` entries. It cannot overflow: 2³² times 128 bytes fits a 64-bit `usize`.
fn bytes<T>(count: u32, width: Width) -> usize {
    let bytes = count as usize * size_of::<T>();
    match width {
        Width::Single => bytes,
        Width::Double => 2 * bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    /// How many huge pages each of these rings needs: small ones, and the largest of all.
    fn huge_pages(size: usize) -> [usize; 4] {
        let plain = |entries, cq_entries| Request { cq_entries, ..Request::new(entries) };
        let wide = SetupFlags::SQE128 | SetupFlags::CQE32;
        let largest = Request { flags: wide, ..plain(MAX_SQ_ENTRIES, Some(MAX_CQ_ENTRIES)) };
        [
            plain(1, None),
            plain(4096, None),
            plain(MAX_SQ_ENTRIES / 2, Some(MAX_CQ_ENTRIES)),
            largest,
        ]
        .map(|request| request.huge_pages(size))
    }

    #[test]
    fn a_ring_takes_no_more_huge_pages_than_it_needs() {
        assert_eq!(huge_pages(64 << 10), [1, 7, 34, 99]);
        assert_eq!(huge_pages(2 * MIB), [1, 1, 2, 4]);
        assert_eq!(huge_pages(32 * MIB), [1; 4]);
        assert_eq!(huge_pages(1 << 30), [1; 4]);
    }

    #[test]
    fn what_can_lie_in_one_huge_page_does() {
        let start = |rings, sqes| OwnMemory::start_of_entries(rings, sqes, 2 * MIB);
        assert_eq!(start(4096, 4096), 4096);
        assert_eq!(start(MIB, MIB), MIB);
        // They would lie in two pages, where one has room for them.
        assert_eq!(start(MIB + 4096, MIB), 2 * MIB);
        assert_eq!(start(2 * MIB, 4096), 2 * MIB);
        assert_eq!(start(3 * MIB, MIB), 3 * MIB);
    }
}
