//! The buffer ring: we provide buffers, the kernel selects one when a request needs it.
//!
//! ```text
//!             free │ the kernel may select │ written │ free      slot 0   addr  len  bid │tail│
//!   ──────────────┬┴──────────────────────┬┴────────┬┴─────      slot 1   addr  len  bid │resv│
//!                head                    tail     written        slot 2   addr  len  bid │resv│
//!         (kernel's, unseen)            (ours)   (private)       …
//! ```
//!
//! The tail is 16 bits wide and lies in the reserved field of entry 0, so an entry is written field
//! by field. The kernel's head is not in shared memory: we know that it moved when a completion
//! carries a buffer id. Keeps BR2, and a part of BR1: it never provides more buffers than the ring
//! has slots.
//!
//! Leaves to others: which buffer an id names, and the rest of BR1.
//!
//! # Safety
//!
//! Writes only slots in `tail..head + entries`, which are ours.
#![allow(unsafe_code, reason = "decides which slots are ours to write")]

use crate::abi::Buf;
use crate::index::{Entries, Index};
use crate::orderings::PublishedHalf;
use crate::process::Process;
use crate::slots::Slots;
use crate::sq::Full;

/// Our half of a buffer ring.
#[derive(Debug)]
pub struct BufferRing {
    /// The kernel may select the buffers before this index.
    tail: PublishedHalf,
    /// We have written the entries before this index. It runs ahead of `tail` until
    /// [`flush`](Self::flush).
    written: u16,
    /// How many buffers were written and not yet reported by a completion.
    offered: u32,
    slots: Slots<Buf>,
    /// The process that mapped the memory. A forked child does not have it, or finds zeroes.
    process: Process,
}

impl BufferRing {
    /// The largest ring that the kernel accepts: 32768 entries.
    pub const MAX_ENTRIES: u32 = 1 << 15;

    /// Makes an empty ring over shared memory, whose tail is `start`.
    ///
    /// The kernel starts a new ring at 0.
    ///
    /// # Panics
    ///
    /// When the ring has more than [`MAX_ENTRIES`](Self::MAX_ENTRIES): a 16-bit tail could not tell
    /// a full ring from an empty one.
    ///
    /// # Safety
    ///
    /// The kernel side must not store the tail, and may touch only the slots that it may select.
    pub unsafe fn over(tail: PublishedHalf, slots: Slots<Buf>, start: u16) -> Self {
        assert!(slots.entries().count() <= Self::MAX_ENTRIES);
        assert!(!slots.is_double());
        Self { tail, written: start, offered: 0, slots, process: Process::this() }
    }

    /// Writes a buffer of `len` bytes at `addr` into the next slot. A completion will name it by
    /// its id, `bid`. The kernel sees it after [`flush`](Self::flush).
    ///
    /// # Errors
    ///
    /// [`Full`] when as many buffers are provided as the ring has slots; nothing was written.
    ///
    /// # Safety
    ///
    /// The buffer must stay valid, and untouched by us, until a completion returns `bid` or the
    /// ring is unregistered and idle (RG1). `bid` must not be provided already (BR1). The ring must
    /// belong to this process, and not to one that forked it.
    #[inline]
    pub unsafe fn push(&mut self, addr: u64, len: u32, bid: u16) -> Result<(), Full> {
        if self.offered == self.entries().count() {
            return Err(Full);
        }
        let at = Index::from_raw(u32::from(self.written));
        // SAFETY: ours: fewer buffers are provided than there are slots, so the kernel is done with
        // this slot (BR1), and `tail` has not reached it (BR2).
        unsafe { self.slots.write_buffer(at, addr, len, bid) };
        self.written = self.written.wrapping_add(1);
        self.offered += 1;
        Ok(())
    }

    /// Publishes every written buffer to the kernel. In a forked child it does nothing.
    #[inline]
    pub fn flush(&mut self) {
        if self.process.is_this() {
            self.tail.publish(self.written); // BR2
        }
    }

    /// Records that completions returned `count` buffers, so the kernel is done with their slots.
    ///
    /// # Panics
    ///
    /// When that is more buffers than are provided (BR1).
    ///
    /// # Safety
    ///
    /// Each of them must have been returned, once, by a completion without `F_BUF_MORE`.
    pub unsafe fn taken(&mut self, count: u32) {
        assert!(count <= self.offered, "BR1: {count} buffers taken, {} offered", self.offered);
        self.offered -= count;
    }

    /// Removes the `count` buffers that were written last.
    ///
    /// # Panics
    ///
    /// When that is more buffers than are provided.
    ///
    /// # Safety
    ///
    /// The kernel must not have selected any of them, and no request that could select one may be
    /// in flight.
    pub unsafe fn rewind(&mut self, count: u32) {
        assert!(count <= self.offered, "BR1: {count} buffers taken off, {} offered", self.offered);
        self.offered -= count;
        let slots = u16::try_from(count).expect("BR1: a ring has at most 32768 entries");
        self.written = self.written.wrapping_sub(slots);
        self.flush();
    }

    /// The entry that the kernel selects next, as the kernel left it. With incremental consumption
    /// (`IOU_PBUF_RING_INC`) it describes the unused rest of the buffer. `None` if no buffer is
    /// provided, and in a forked child.
    ///
    /// # Safety
    ///
    /// No request that could select from the ring may be in flight.
    pub unsafe fn front(&self) -> Option<Buf> {
        // At these addresses a forked child has nothing, or something that it has mapped itself.
        if self.offered == 0 || !self.process.is_this() {
            return None;
        }
        let at = u32::from(self.written).wrapping_sub(self.offered);
        // SAFETY: not written during the read, as promised to `front`: the kernel selects nothing,
        // and we write only in `push` (BR2).
        Some(unsafe { self.slots.read_single(Index::from_raw(at)) })
    }

    /// How many buffers are provided, flushed or not.
    pub fn offered(&self) -> u32 {
        self.offered
    }

    /// How many slots there are.
    pub fn entries(&self) -> Entries {
        self.slots.entries()
    }
}
