//! The kernel's half of a buffer ring.
//!
//! ```text
//!   offered ──selected──► with a request ──completed──► with the program ──offered again──►
//!   poisoned, watched
//! ```
//!
//! A buffer is noted when it is offered, and filled with poison. What was not with the program, or
//! is not poison any more when it is selected, breaks BR1: so a lease whose buffer went back too
//! early loses its bytes. A ring with `INC` gives buffers away in parts: what is left stays on
//! offer, and its entry names the rest.
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

use super::block::Block;
use super::region::{Region, Span, Use};

/// A registered buffer ring.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) id: u16,
    /// Whether a buffer is used in parts; and where the entries lie, which say what is left of it.
    is_incremental: bool,
    start: usize,
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
    pub(super) unsafe fn new(
        id: u16,
        start: NonNull<u8>,
        entries: Entries,
        is_incremental: bool,
    ) -> Self {
        let first = start.as_ptr().expose_provenance();
        let start = start.cast::<Slot<Buf>>();
        // SAFETY: inside entry 0, since the offset is below its size.
        let tail = unsafe { start.byte_add(BUF_RING_TAIL_OFFSET) }.cast::<AtomicU16>();
        // SAFETY: as promised to `new`.
        let tail = unsafe { ObservedHalf::new(tail) };
        // SAFETY: as promised to `new`.
        let slots = unsafe { Slots::new(start, entries, Width::Single) };
        let offered = std::collections::VecDeque::new();
        let (head, seen, block) = (0, 0, None);
        Self { id, is_incremental, start: first, tail, slots, head, seen, offered, block }
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

    /// How many bytes the next buffer holds; `None` if none is on offer.
    pub(super) fn room(&self) -> Option<usize> {
        self.offered.front().map(|offer| offer.region.len())
    }

    /// Whether a buffer is used in parts.
    pub(super) fn is_incremental(&self) -> bool {
        self.is_incremental
    }

    /// How many bytes each buffer on offer holds.
    pub(super) fn rooms(&self) -> Vec<usize> {
        self.offered.iter().map(|offer| offer.region.len()).collect()
    }

    /// The first `most` bytes that the program has put into the buffers on offer.
    pub(super) fn outgoing_bundle(&self, most: usize) -> Vec<u8> {
        let all = self.offered.iter().map(|offer| &offer.region);
        let mut bytes: Vec<u8> = all.flat_map(|region| region.original(region.len())).collect();
        bytes.truncate(most);
        bytes
    }

    /// The first `most` bytes that the program has put into the next buffer.
    pub(super) fn outgoing(&self, most: usize) -> Vec<u8> {
        self.offered[0].region.original(most)
    }

    /// Takes the first `count` bytes of the next buffer off the ring, and writes these parts to
    /// where they belong in it, unless the program broke a rule. One is on offer.
    pub(super) fn take(&mut self, count: usize, parts: &[(usize, &[u8])], is_sound: bool) -> Taken {
        let Offer { bid, region } = &mut self.offered[0];
        let is_untouched = !is_sound || region.is_untouched();
        let goes_on = self.is_incremental && count < region.len();
        let taken = Taken { bid: *bid, goes_on, is_untouched };
        if goes_on && count == 0 {
            return taken;
        }
        if is_sound {
            region.end_in_parts(parts);
        }
        if goes_on {
            // SAFETY: the rest of a buffer that stays on offer (BR1).
            *region = unsafe { region.behind(count) };
            self.note_rest(count);
        } else {
            self.head = self.head.wrapping_add(1);
            self.offered.pop_front();
        }
        taken
    }

    /// Lets the entry of the next buffer name what is left of it.
    fn note_rest(&self, used: usize) {
        let at = usize::from(self.head) % self.slots.entries().count() as usize;
        let entry = ptr::with_exposed_provenance_mut::<Buf>(self.start + at * size_of::<Buf>());
        // SAFETY: an entry of the ring, which is the kernel's while it is on offer (BR1).
        let Buf { addr, len, .. } = unsafe { entry.read() };
        // Its last two bytes may be the tail, so only the fields before them are written.
        // SAFETY: a field of the entry, which exists, as its read has shown.
        let address = unsafe { &raw mut (*entry).addr };
        // SAFETY: a field of the entry, which exists, as its read has shown.
        let length = unsafe { &raw mut (*entry).len };
        // SAFETY: nothing else uses the entry while it is on offer (BR1).
        unsafe { address.write(addr + used as u64) };
        // SAFETY: nothing else uses the entry while it is on offer (BR1).
        unsafe { length.write(len - u32::try_from(used).expect("a part of it")) };
    }
}

/// What was taken off a ring.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taken {
    pub(super) bid: u16,
    /// Whether it stays on offer, because a part of it is left.
    pub(super) goes_on: bool,
    /// Whether the memory was left alone.
    pub(super) is_untouched: bool,
}
