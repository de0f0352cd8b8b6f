//! The refill ring of zero-copy receive: we give memory back, and the network card fills it again.
//!
//! ```text
//!             free │ the card may take │ written │ free
//!   ──────────────┬┴──────────────────┬┴────────┬┴─────
//!                head                tail     written
//!              (kernel's)           (ours)   (private)
//! ```
//!
//! It works like the submission queue (SQ2, SQ3, SQ4), with entries of 16 bytes and without a
//! wake-up.
//!
//! Leaves to others: which memory an entry names, and when that memory is no longer in use.
//!
//! # Safety
//!
//! Writes only slots in `tail..head + entries`, which are ours.
#![allow(unsafe_code, reason = "decides which slots are ours to write")]

use crate::abi_zcrx::ZcrxRqe;
use crate::index::Index;
use crate::orderings::{Observed, Published};
use crate::process::Process;
use crate::slots::Slots;
use crate::sq::Full;

/// Our half of a refill ring.
#[derive(Debug)]
pub struct RefillRing {
    /// The kernel has taken the entries before this index.
    head: Observed,
    /// The kernel may take the entries before this index.
    tail: Published,
    /// We have written the entries before this index. It runs ahead of `tail` until
    /// [`flush`](Self::flush).
    written: Index,
    slots: Slots<ZcrxRqe>,
    /// The process that mapped the memory. A forked child does not have it.
    process: Process,
}

impl RefillRing {
    /// Makes a ring over shared memory.
    ///
    /// # Safety
    ///
    /// The kernel side must not store the tail, and may take only the entries in `head..tail`.
    pub unsafe fn over(head: Observed, tail: Published, slots: Slots<ZcrxRqe>) -> Self {
        assert!(!slots.is_double(), "SQ2: an entry of a refill ring is one unit");
        let written = tail.last();
        Self { head, tail, written, slots, process: Process::this() }
    }

    /// Writes `entry` into the next slot. The kernel sees it after [`flush`](Self::flush).
    ///
    /// # Errors
    ///
    /// [`Full`] when no slot is free: flush, and let the kernel take the entries.
    ///
    /// # Safety
    ///
    /// From now on, no code may use the memory that the entry names, until a completion names it
    /// again. The ring must belong to this process, and not to one that forked it.
    pub unsafe fn push(&mut self, entry: ZcrxRqe) -> Result<(), Full> {
        let used = self.written.distance_from(self.head.observe());
        // A correct kernel never makes `used` larger than the ring; if it does, no slot is free
        // (SQ2).
        if used >= self.slots.entries().count() {
            return Err(Full);
        }
        // SAFETY: ours: `head` has passed the slot (SQ4), and `tail` has not reached it (SQ3).
        unsafe { self.slots.write_single(self.written, entry) };
        self.written = self.written.advance(1);
        Ok(())
    }

    /// Publishes every written entry to the kernel (SQ3). In a forked child it does nothing.
    pub fn flush(&mut self) {
        if self.process.is_this() {
            self.tail.publish(self.written);
        }
    }

    /// How many entries, flushed or not, the kernel has yet to take. 0 in a forked child.
    pub fn pending(&self) -> u32 {
        let pending = || self.written.distance_from(self.head.observe());
        if self.process.is_this() { pending() } else { 0 }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use core::ptr::NonNull;
    use core::sync::atomic::AtomicU32;
    use core::sync::atomic::Ordering::{Acquire, Release};

    use super::*;
    use crate::index::Entries;
    use crate::slots::{Slot, Width};

    #[test]
    fn sq2_sq3_sq4_a_refill_ring_is_filled_and_taken_across_the_wrap() {
        let start = u32::MAX - 1;
        let (head, tail) = (AtomicU32::new(start), AtomicU32::new(start));
        let slots = [const { ZcrxRqe { off: 0, len: 0, pad: 0 } }; 2].map(Slot::new);
        // SAFETY: alive and atomic to the end of the test, because the test owns the atomic.
        let observed = unsafe { Observed::new(NonNull::from(&head)) };
        // SAFETY: alive and atomic to the end of the test, because the test owns the atomic.
        let published = unsafe { Published::new(NonNull::from(&tail)) };
        let base = NonNull::from(&slots).cast();
        let entries = Entries::new(2).unwrap();
        // SAFETY: two slots that live to the end of the test, because the test owns them.
        let view = unsafe { Slots::new(base, entries, Width::Single) };
        // SAFETY: the test plays the kernel side and moves only `head`.
        let mut ring = unsafe { RefillRing::over(observed, published, view) };
        for lap in 0..3_u32 {
            let from = start.wrapping_add(2 * lap);
            for off in [1, 2] {
                let entry = ZcrxRqe { off, len: lap, pad: 0 };
                // SAFETY: the entry names no memory that any code uses.
                assert_eq!(unsafe { ring.push(entry) }, Ok(()));
            }
            // SAFETY: the entry names no memory that any code uses.
            assert_eq!(unsafe { ring.push(ZcrxRqe::default()) }, Err(Full));
            assert_eq!((tail.load(Acquire), ring.pending()), (from, 2), "nothing is flushed");
            ring.flush();
            assert_eq!(tail.load(Acquire), from.wrapping_add(2));
            head.store(from.wrapping_add(2), Release);
            assert_eq!(ring.pending(), 0);
        }
    }
}
