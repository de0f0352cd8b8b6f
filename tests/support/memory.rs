//! The memory of a ring without a kernel, laid out as Linux does it.
//!
//! ```text
//!        0  sq.head      256  sq.ring_mask     cq.ring_mask      320  cqes
//!       64  sq.tail      264  sq.ring_entries  cq.ring_entries     .. index array
//!      128  cq.head      272  sq.dropped       sq.flags
//!      192  cq.tail      280  cq.flags         cq.overflow
//! ```
//!
//! One block holds both rings with `SINGLE_MMAP` and with `NO_MMAP`, two blocks without; another
//! block holds the entries. In the blocks of two maps each ring uses only its own atomics.
//!
//! # Safety
//!
//! Every pointer lies inside a block that the value holds, which the layout decides.
#![allow(unsafe_code, reason = "plays the kernel")]
#![allow(dead_code, reason = "not every test uses all of it")]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use annulus_sys::abi::{CqringOffsets, Params, SqringOffsets};
use annulus_sys::cq::CqeShape;
use annulus_sys::errno::Errno;
use annulus_sys::flags::{Features, OFF_CQ_RING, OFF_SQ_RING, OFF_SQES, SetupFlags};
use annulus_sys::index::Index;
use annulus_sys::map::Map;
use annulus_sys::orderings::AtomicU32;
use annulus_sys::sq::{SqeShape, Turn};

use super::fake_kernel::{FakeKernel, Places, Shape};

/// Accesses to the atomics of a ring at rest need no ordering.
const RELAXED: Ordering = Ordering::Relaxed;
const PAGE: usize = 4096;
const CQES: u32 = 320;
/// The contents of the index array, and around it, until they are written.
pub const UNTOUCHED: u32 = 0xAAAA_AAAA;

/// A piece of memory that can be mapped.
#[derive(Debug)]
pub struct Region {
    base: NonNull<u8>,
    len: usize,
    /// With `NO_MMAP` the memory is ours, and the kernel must not free it.
    owned: bool,
}

// SAFETY: plain memory, accessed only through the types of `orderings`, and those are `Send`.
unsafe impl Send for Region {}
// SAFETY: as a `Region` hands out pointers and never reads or writes through them.
unsafe impl Sync for Region {}

impl Region {
    fn new(len: usize) -> Arc<Self> {
        let layout = Self::layout(len);
        // SAFETY: the layout is never empty, since it is whole pages.
        let base = unsafe { alloc_zeroed(layout) };
        let base = NonNull::new(base).unwrap_or_else(|| handle_alloc_error(layout));
        Arc::new(Self { base, len: layout.size(), owned: true })
    }

    fn borrowed(address: u64, len: usize) -> Arc<Self> {
        let address = usize::try_from(address).expect("64 bits");
        let base = NonNull::new(std::ptr::with_exposed_provenance_mut(address));
        Arc::new(Self { base: base.expect("NO_MMAP comes with memory"), len, owned: false })
    }

    fn layout(len: usize) -> Layout {
        let len = len.max(1).next_multiple_of(PAGE);
        Layout::from_size_align(len, PAGE).expect("a size that fits")
    }

    /// Its start.
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    fn at<T>(&self, offset: u32) -> NonNull<T> {
        assert!(offset as usize + size_of::<T>() <= self.len);
        // SAFETY: in bounds, because of the assertion.
        unsafe { self.base.add(offset as usize) }.cast()
    }

    fn word(&self, offset: u32) -> &AtomicU32 {
        // SAFETY: in bounds and aligned, as the layout has it; only ever accessed atomically.
        unsafe { self.at::<AtomicU32>(offset).as_ref() }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        if self.owned {
            // SAFETY: allocated by `new` with this layout, since the length is that of whole pages.
            unsafe { dealloc(self.base.as_ptr(), Self::layout(self.len)) };
        }
    }
}

/// Which piece of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Block {
    /// The block with the submission queue's atomics and the index array.
    Sq,
    /// The block with the completion queue's atomics and the completions; the first one with
    /// `SINGLE_MMAP`.
    Cq,
    /// The block with the submission entries.
    Sqes,
}

/// The memory of one ring.
#[derive(Debug)]
pub struct RingMemory {
    sq: Arc<Region>,
    cq: Arc<Region>,
    sqes: Arc<Region>,
    shape: Shape,
    params: Params,
}

/// The sizes that Linux makes of a request: rounded up, or `EINVAL`.
pub fn sane(entries: u32, asked: Params, known: SetupFlags) -> Result<Params, Errno> {
    let flags = asked.flags;
    let clamps = flags.contains(SetupFlags::CLAMP);
    let sized = |count: u32, most: u32| match count {
        0 => Err(Errno::new(libc::EINVAL)),
        _ if count <= most => Ok(count.next_power_of_two()),
        _ if clamps => Ok(most),
        _ => Err(Errno::new(libc::EINVAL)),
    };
    let sq_entries = sized(entries, 1 << 15)?;
    let cq_entries = if flags.contains(SetupFlags::CQSIZE) {
        sized(asked.cq_entries, 1 << 16)?
    } else {
        2 * sq_entries
    };
    if cq_entries < sq_entries || !known.contains(flags) {
        return Err(Errno::new(libc::EINVAL));
    }
    Ok(Params { sq_entries, cq_entries, ..asked })
}

impl RingMemory {
    /// Lays out rings of the sizes in `params`, whose indices start at `start`, and writes the
    /// offsets.
    pub fn new(params: &mut Params, start: u32) -> Self {
        let shape = Shape {
            sq_entries: params.sq_entries,
            cq_entries: params.cq_entries,
            start,
            sqe: SqeShape::of(params.flags),
            cqe: CqeShape::of(params.flags),
            turn: Turn::of(params.flags),
        };
        let units = |double| if double { 2 } else { 1 };
        let cqe_units = params.cq_entries * units(shape.cqe == CqeShape::Double);
        let array = CQES + 16 * cqe_units;
        let rings = (array + 4 * params.sq_entries) as usize;
        let sqes = (64 * params.sq_entries * units(shape.sqe == SqeShape::Double)) as usize;
        let has_array = !params.flags.contains(SetupFlags::NO_SQARRAY);
        let given = (params.cq_off.user_addr, params.sq_off.user_addr);
        params.sq_off = SqringOffsets {
            head: 0,
            tail: 64,
            ring_mask: 256,
            ring_entries: 264,
            flags: 276,
            dropped: 272,
            array: if has_array { array } else { 0 },
            resv1: 0,
            user_addr: given.1,
        };
        params.cq_off = CqringOffsets {
            head: 128,
            tail: 192,
            ring_mask: 260,
            ring_entries: 268,
            overflow: 284,
            cqes: CQES,
            flags: 280,
            resv1: 0,
            user_addr: given.0,
        };
        let (sq, sqes) = if params.flags.contains(SetupFlags::NO_MMAP) {
            (Region::borrowed(given.0, rings), Region::borrowed(given.1, sqes))
        } else {
            (Region::new(rings), Region::new(sqes))
        };
        let is_single = params.features.contains(Features::SINGLE_MMAP)
            || params.flags.contains(SetupFlags::NO_MMAP);
        let cq = if is_single { Arc::clone(&sq) } else { Region::new(rings) };
        let memory = Self { sq, cq, sqes, shape, params: *params };
        memory.fill(start, array);
        memory
    }

    /// The rings of `old` in new memory: with the old indices, and the entries in the slots of the
    /// new mask.
    pub fn moved(params: &mut Params, old: &Self, kernel: &mut FakeKernel) -> Self {
        // The features decide the layout; Linux does not repeat them in its answer.
        let features = std::mem::replace(&mut params.features, old.params.features);
        let memory = Self::new(params, 0);
        params.features = features;
        let s = &memory.params.sq_off;
        let c = &memory.params.cq_off;
        for offset in [s.head, s.tail] {
            memory.store(Block::Sq, offset, old.load(Block::Sq, offset));
        }
        for offset in [c.head, c.tail] {
            memory.store(Block::Cq, offset, old.load(Block::Cq, offset));
        }
        let mut moved = memory.kernel();
        let (head, tail) = (kernel.sq_head.last(), kernel.sq_tail.observe());
        for index in indices(head, tail) {
            // SAFETY: ours to read: `tail` covers the slot (SQ3).
            let sqe = unsafe { kernel.sqes.read(index) };
            // SAFETY: ours, since no ring has mapped the new memory.
            unsafe { moved.sqes.write(index, sqe) };
            if moved.sqes.is_double() {
                // SAFETY: ours to read (SQ3), and wide, as both rings have one shape.
                let rest = unsafe { kernel.sqes.read_rest(index) };
                // SAFETY: ours, since no ring has mapped the new memory, and wide.
                unsafe { moved.sqes.write_rest(index, rest) };
            }
        }
        let (head, tail) = (kernel.cq_head.observe(), kernel.cq_tail.last());
        for index in indices(head, tail) {
            // SAFETY: no other thread writes it, since only the kernel writes completions.
            let cqe = unsafe { kernel.cqes.read(index) };
            // SAFETY: ours, since no ring has mapped the new memory.
            unsafe { moved.cqes.write(index, cqe) };
            if moved.cqes.is_double() {
                // SAFETY: no other thread writes it, since only the kernel writes completions; a
                // wide one.
                let rest = unsafe { kernel.cqes.read_rest(index) };
                // SAFETY: ours, since no ring has mapped the new memory, and wide.
                unsafe { moved.cqes.write_rest(index, rest) };
            }
        }
        memory
    }

    fn fill(&self, start: u32, array: u32) {
        let (s, c) = (&self.params.sq_off, &self.params.cq_off);
        // A ring that rewinds keeps no index: it always starts at slot 0.
        let sq_start = if self.shape.turn == Turn::Rewind { 0 } else { start };
        let (sq, cq) = (self.shape.sq_entries, self.shape.cq_entries);
        for (offset, value) in
            [(s.head, sq_start), (s.tail, sq_start), (s.ring_mask, sq - 1), (s.ring_entries, sq)]
        {
            self.store(Block::Sq, offset, value);
        }
        for (offset, value) in
            [(c.head, start), (c.tail, start), (c.ring_mask, cq - 1), (c.ring_entries, cq)]
        {
            self.store(Block::Cq, offset, value);
        }
        for slot in 0..sq {
            self.store(Block::Sq, array + 4 * slot, UNTOUCHED);
        }
    }

    /// The parameters that the ring was made with.
    pub fn flags(&self) -> SetupFlags {
        self.params.flags
    }

    /// The kernel's half.
    pub fn kernel(&self) -> FakeKernel {
        let (s, c) = (&self.params.sq_off, &self.params.cq_off);
        let places = Places {
            sq_head: self.sq.at(s.head),
            sq_tail: self.sq.at(s.tail),
            sq_flags: self.sq.at(s.flags),
            dropped: self.sq.at(s.dropped),
            sqes: self.sqes.at(0),
            cq_head: self.cq.at(c.head),
            cq_tail: self.cq.at(c.tail),
            cq_flags: self.cq.at(c.flags),
            overflow: self.cq.at(c.overflow),
            cqes: self.cq.at(c.cqes),
        };
        let keeper = [&self.sq, &self.cq, &self.sqes].map(Arc::clone);
        let (base, len) = (self.sq.base, self.sq.len);
        // SAFETY: the region is that long, and lives until the keeper is dropped.
        let map = unsafe { Map::foreign(base, len, Box::new(keeper)) };
        // SAFETY: of that shape and kept by the map; nothing else publishes the kernel's atomics,
        // as one such kernel is used at a time.
        unsafe { FakeKernel::over(self.shape, places, Arc::new([map])) }
    }

    /// The memory that a map at `offset` shows.
    pub fn region(&self, offset: u64) -> Option<Arc<Region>> {
        match offset {
            OFF_SQ_RING => Some(Arc::clone(&self.sq)),
            OFF_CQ_RING => Some(Arc::clone(&self.cq)),
            OFF_SQES => Some(Arc::clone(&self.sqes)),
            _ => None,
        }
    }

    /// The atomic at `offset` of a block.
    pub fn load(&self, block: Block, offset: u32) -> u32 {
        self.block(block).word(offset).load(RELAXED)
    }

    /// Stores to the atomic at `offset` of a block, even one of our side.
    pub fn store(&self, block: Block, offset: u32, value: u32) {
        self.block(block).word(offset).store(value, RELAXED);
    }

    /// The contents of the index array, or of its place if there is none.
    pub fn array(&self) -> Vec<u32> {
        let units = if self.shape.cqe == CqeShape::Double { 2 } else { 1 };
        let array = CQES + 16 * self.shape.cq_entries * units;
        (0..self.shape.sq_entries).map(|slot| self.load(Block::Sq, array + 4 * slot)).collect()
    }

    fn block(&self, block: Block) -> &Region {
        match block {
            Block::Sq => &self.sq,
            Block::Cq => &self.cq,
            Block::Sqes => &self.sqes,
        }
    }
}

/// The indices from `head` up to `tail`.
fn indices(head: Index, tail: Index) -> impl Iterator<Item = Index> {
    (0..tail.distance_from(head)).map(move |count| head.advance(count))
}
