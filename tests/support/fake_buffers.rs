//! The kernel's half of a buffer ring, on heap memory: the crate's own types with roles exchanged.
//!
//! # Safety
//!
//! The memory is leaked, or lives as long as its arena; each tail gets one `PublishedHalf`.
#![allow(unsafe_code, reason = "plays the kernel")]
#![allow(dead_code, reason = "not every test uses all of it")]

use std::ptr::NonNull;

#[cfg(not(loom))]
use annulus_sys::abi::BUF_RING_TAIL_OFFSET;
use annulus_sys::abi::Buf;
use annulus_sys::buf_ring::BufferRing;
use annulus_sys::index::{Entries, Index};
use annulus_sys::orderings::{AtomicU16, ObservedHalf, PublishedHalf};
use annulus_sys::slots::{Slot, Slots, Width};

#[cfg(not(loom))]
use super::fake_kernel::free_slots;
use super::fake_kernel::new_slots;

/// The kernel's half of a buffer ring.
#[derive(Debug)]
pub struct FakeBufferKernel {
    tail: ObservedHalf,
    head: u16,
    slots: Slots<Buf>,
}

impl FakeBufferKernel {
    /// A buffer ring of `entries` whose tail starts at `start`, and the kernel side of it. The tail
    /// is apart from the slots, so that two threads may use the two.
    pub fn new(entries: u32, start: u16) -> (BufferRing, Self) {
        let tail = NonNull::from(Box::leak(Box::new(AtomicU16::new(start))));
        // SAFETY: the memory is leaked, so it stays valid; nothing else uses it.
        unsafe { Self::with_ring(new_slots(Buf::default(), entries, Width::Single), tail, entries) }
    }

    /// # Safety
    ///
    /// The pointers must be to a buffer ring of `entries`, and stay valid as long as either half is
    /// used; nothing else may use that memory meanwhile.
    unsafe fn with_ring(
        slots: NonNull<Slot<Buf>>,
        tail: NonNull<AtomicU16>,
        entries: u32,
    ) -> (BufferRing, Self) {
        let entries = Entries::new(entries).expect("a power of two");
        #[expect(clippy::multiple_unsafe_ops_per_block, reason = "one argument vouches for all")]
        // SAFETY: as promised to `with_ring`; the tail gets one `PublishedHalf`.
        unsafe {
            let start = ObservedHalf::new(tail).observe();
            let slots_of = || Slots::new(slots, entries, Width::Single);
            let ring = BufferRing::over(PublishedHalf::new(tail), slots_of(), start);
            (ring, Self { tail: ObservedHalf::new(tail), head: start, slots: slots_of() })
        }
    }

    /// How many buffers are on offer and visible to the kernel.
    pub fn visible(&self) -> u16 {
        self.tail.observe().wrapping_sub(self.head)
    }

    /// Selects the next buffer.
    pub fn select(&mut self) -> Option<Buf> {
        if self.visible() == 0 {
            return None;
        }
        // SAFETY: ours to read: `tail` covers the slot (BR2).
        let buf = unsafe { self.slots.read(Index::from_raw(u32::from(self.head))) };
        self.head = self.head.wrapping_add(1);
        Some(buf)
    }
}

/// Memory for a buffer ring, in which a ring can start again and again.
///
/// It is laid out as Linux does it, the tail over `resv` of entry 0 (BR2); so both halves are for
/// one thread.
#[cfg(not(loom))]
#[derive(Debug)]
pub struct BufferArena {
    entries: u32,
    slots: NonNull<Slot<Buf>>,
}

#[cfg(not(loom))]
impl BufferArena {
    /// Memory for `entries`.
    pub fn new(entries: u32) -> Self {
        Self { entries, slots: new_slots(Buf::default(), entries, Width::Single) }
    }

    /// Runs `history` on a ring that is new except for the slots, and whose tail starts at `start`.
    pub fn run<R>(
        &mut self,
        start: u16,
        history: impl FnOnce(&mut BufferRing, &mut FakeBufferKernel) -> R,
    ) -> R {
        // SAFETY: inside entry 0, since the offset is below its size.
        let tail = unsafe { self.slots.byte_add(BUF_RING_TAIL_OFFSET) }.cast::<AtomicU16>();
        // SAFETY: ours, so valid; the halves of the last history are gone, so nothing else stores.
        unsafe { PublishedHalf::new(tail) }.publish(start);
        // SAFETY: ours, so valid; the last history is over, so nothing else uses them.
        let (mut ring, mut kernel) =
            unsafe { FakeBufferKernel::with_ring(self.slots, tail, self.entries) };
        history(&mut ring, &mut kernel)
    }
}

#[cfg(not(loom))]
impl Drop for BufferArena {
    fn drop(&mut self) {
        // SAFETY: made by `new_slots` with this size; nothing uses them, since the history is over.
        unsafe { free_slots(self.slots, self.entries, Width::Single) };
    }
}
