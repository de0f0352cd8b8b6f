//! The kernel's half of a buffer ring.
//!
//! ```text
//!   offered ──selected──► with a request ──completed──► with the program ──offered again──►
//!   poisoned, watched
//! ```
//!
//! A buffer is noted when it is offered, and filled with poison. What was not with the program, or
//! is not poison any more when it is selected, breaks BR1: so a lease whose buffer went back too
//! early loses its bytes.
//!
//! # Safety
//!
//! Touches only buffers that are on offer, which nothing else may touch (BR1), and entries that the
//! tail covers (BR2).
#![allow(unsafe_code, reason = "plays the kernel")]

use std::ptr::{self, NonNull};
use std::sync::Arc;

use annulus_sys::abi::{BUF_RING_TAIL_OFFSET, Buf};
use annulus_sys::index::{Entries, Index};
use annulus_sys::orderings::{AtomicU16, ObservedHalf};
use annulus_sys::slots::{Slot, Slots, Width};

use super::memory::Block;
use super::region::{Region, Span, Use};

/// A registered buffer ring.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) id: u16,
    tail: ObservedHalf,
    slots: Slots<Buf>,
    /// Up to which index buffers were selected, and up to which index the entries were read.
    head: u16,
    seen: u16,
    /// The buffers on offer, oldest first.
    offered: std::collections::VecDeque<Offer>,
    /// The memory, if the kernel has allocated it.
    pub(super) block: Option<Arc<Block>>,
}

#[derive(Debug)]
struct Offer {
    bid: u16,
    region: Region,
}

impl Group {
    /// The ring of `entries` at `start`.
    ///
    /// # Safety
    ///
    /// The ring that was registered, whose memory stays until it is unregistered and idle (RG1).
    pub(super) unsafe fn new(id: u16, start: NonNull<u8>, entries: Entries) -> Self {
        let start = start.cast::<Slot<Buf>>();
        // SAFETY: inside entry 0, since the offset is below its size.
        let tail = unsafe { start.byte_add(BUF_RING_TAIL_OFFSET) }.cast::<AtomicU16>();
        // SAFETY: as promised to `new`.
        let tail = unsafe { ObservedHalf::new(tail) };
        // SAFETY: as promised to `new`.
        let slots = unsafe { Slots::new(start, entries, Width::Single) };
        let offered = std::collections::VecDeque::new();
        Self { id, tail, slots, head: 0, seen: 0, offered, block: None }
    }

    /// Where a ring lies that the program has registered; `None` if it lies at 0.
    pub(super) fn place(address: u64) -> Option<NonNull<u8>> {
        NonNull::new(ptr::with_exposed_provenance_mut(usize::try_from(address).ok()?))
    }

    /// The index up to which buffers were selected.
    pub(super) fn head(&self) -> u16 {
        self.head
    }

    /// Reads newly offered entries. Returns their ids, or what is wrong with one.
    pub(super) fn look(&mut self) -> Result<Vec<u16>, String> {
        let (tail, mut new) = (self.tail.observe(), Vec::new());
        let entries = self.slots.entries().count();
        let count = u32::from(tail.wrapping_sub(self.head));
        if count > entries {
            return Err(format!("BR1: {count} buffers are on offer, in a ring of {entries}"));
        }
        while self.seen != tail {
            // SAFETY: ours to read: `tail` covers the slot (BR2).
            let buf = unsafe { self.slots.read(Index::from_raw(u32::from(self.seen))) };
            self.seen = self.seen.wrapping_add(1);
            if self.offered.iter().any(|other| other.bid == buf.bid) {
                return Err(format!("BR1: buffer {} is offered twice", buf.bid));
            }
            let (address, len) = (buf.addr, buf.len as usize);
            let span = Span { address, len, use_: Use::Writes };
            // SAFETY: so many bytes that are on offer (BR1), as promised to `BufferRing::push`.
            let region = unsafe { Region::new(span) };
            self.offered.push_back(Offer { bid: buf.bid, region });
            new.push(buf.bid);
        }
        Ok(new)
    }

    /// Takes the next buffer off the ring: its id, its memory, and whether that was left alone.
    pub(super) fn select(&mut self) -> Option<(u16, Region, bool)> {
        let Offer { bid, region } = self.offered.pop_front()?;
        self.head = self.head.wrapping_add(1);
        let is_untouched = region.is_untouched();
        Some((bid, region, is_untouched))
    }

    /// How long the next buffer is.
    pub(super) fn next_len(&self) -> Option<usize> {
        self.offered.front().map(|offer| offer.region.len())
    }
}
