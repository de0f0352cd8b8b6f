//! The buffer ring: we offer buffers, the kernel picks one when a request needs it.
//!
//! ```text
//!             free │ the kernel may pick │ written │ free        slot 0   addr  len  bid │tail│
//!   ──────────────┬┴────────────────────┬┴────────┬┴─────        slot 1   addr  len  bid │resv│
//!                head                  tail     written          slot 2   addr  len  bid │resv│
//!          (theirs, unseen)           (ours)   (private)         …
//! ```
//!
//! The tail is 16 bits wide and lies in the reserved half-word of entry 0, so an entry is written
//! field by field. The kernel's head is not in shared memory: a completion that carries a buffer id
//! says that it moved. Keeps BR2, and the counting half of BR1: never more buffers offered than
//! the ring has slots.
//!
//! Leaves to others: which buffer an id names, and the rest of BR1.
//!
//! # Safety
//!
//! Writes only slots in `tail..head + entries`, which are ours.
#![allow(unsafe_code, reason = "decides which slots are ours to write")]

use crate::abi::Buf;
use crate::index::{Entries, Index};
use crate::process::Process;
use crate::shared::{PublishedHalf, Slots};
use crate::sq::Full;

/// Our half of a buffer ring.
#[derive(Debug)]
pub struct BufferRing {
    /// Up to here the kernel may pick.
    tail: PublishedHalf,
    /// Up to here we have written. Runs ahead of `tail` until [`flush`](Self::flush).
    written: u16,
    /// Buffers written and not yet reported as picked.
    offered: u32,
    slots: Slots<Buf>,
    /// A process that this one forks has no such memory, or zeroes.
    process: Process,
}

impl BufferRing {
    /// The largest ring the kernel takes: 32768 entries.
    pub const MAX_ENTRIES: u32 = 1 << 15;

    /// A ring over shared memory, empty, whose tail is `start`.
    ///
    /// The kernel starts a new ring at 0.
    ///
    /// # Panics
    ///
    /// When the ring is longer than [`MAX_ENTRIES`](Self::MAX_ENTRIES): the 16-bit tail would not
    /// tell full from empty.
    ///
    /// # Safety
    ///
    /// The peer must not store the tail, and touch only the slots it may pick.
    pub unsafe fn over(tail: PublishedHalf, slots: Slots<Buf>, start: u16) -> Self {
        assert!(slots.entries().count() <= Self::MAX_ENTRIES);
        assert!(!slots.is_double());
        Self { tail, written: start, offered: 0, slots, process: Process::this() }
    }

    /// Writes a buffer of `len` bytes at `addr` into the next slot; a completion will name it by
    /// `bid`. The kernel sees it after [`flush`](Self::flush).
    ///
    /// # Errors
    ///
    /// [`Full`] when as many buffers are offered as the ring has slots; nothing was written.
    ///
    /// # Safety
    ///
    /// The buffer must stay valid, and untouched by us, until a completion brings `bid` back or the
    /// ring is unregistered and idle (RG1). `bid` must not be on offer already (BR1). The ring
    /// must be of this process, and not of one that forked it.
    #[inline]
    pub unsafe fn push(&mut self, addr: u64, len: u32, bid: u16) -> Result<(), Full> {
        if self.offered == self.entries().count() {
            return Err(Full);
        }
        let at = Index::from_raw(u32::from(self.written));
        // SAFETY: ours: fewer are offered than there are slots, so the kernel is done with this one
        // (BR1), and `tail` has not reached it (BR2).
        unsafe { self.slots.write_buffer(at, addr, len, bid) };
        self.written = self.written.wrapping_add(1);
        self.offered += 1;
        Ok(())
    }

    /// Hands every written buffer to the kernel. In a forked child it does nothing.
    #[inline]
    pub fn flush(&mut self) {
        if self.process.is_this() {
            self.tail.publish(self.written); // BR2
        }
    }

    /// Takes note that the kernel is done with the slots of `count` buffers, since completions have
    /// brought them back.
    ///
    /// # Panics
    ///
    /// When that is more than are on offer (BR1).
    ///
    /// # Safety
    ///
    /// Each must have been brought back by a completion without `F_BUF_MORE`, once.
    pub unsafe fn taken(&mut self, count: u32) {
        assert!(count <= self.offered, "BR1: {count} buffers taken, {} offered", self.offered);
        self.offered -= count;
    }

    /// Takes the last `count` buffers off the ring again.
    ///
    /// # Panics
    ///
    /// When that is more than are on offer.
    ///
    /// # Safety
    ///
    /// The kernel must not have picked one of them, nor may a request be in flight that could.
    pub unsafe fn rewind(&mut self, count: u32) {
        assert!(count <= self.offered, "BR1: {count} buffers taken off, {} offered", self.offered);
        self.offered -= count;
        let slots = u16::try_from(count).expect("BR1: a ring has at most 32768 entries");
        self.written = self.written.wrapping_sub(slots);
        self.flush();
    }

    /// The entry that the kernel picks from next, as the kernel has left it; `None` if nothing is
    /// on offer, and in a forked child. Of a buffer that is used in parts (`IOU_PBUF_RING_INC`) it
    /// is what is left.
    ///
    /// # Safety
    ///
    /// No request may be in flight that could pick from the ring.
    pub unsafe fn front(&self) -> Option<Buf> {
        // A forked child has nothing there, or what it has mapped itself.
        if self.offered == 0 || !self.process.is_this() {
            return None;
        }
        let at = u32::from(self.written).wrapping_sub(self.offered);
        // SAFETY: nobody writes to it, as promised to `front`: not the kernel, which picks nothing,
        // nor we (BR2).
        Some(unsafe { self.slots.read_single(Index::from_raw(at)) })
    }

    /// How many buffers are on offer, flushed or not.
    pub fn offered(&self) -> u32 {
        self.offered
    }

    /// How many slots there are.
    pub fn entries(&self) -> Entries {
        self.slots.entries()
    }
}
