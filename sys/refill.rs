//! The refill ring of zero-copy receive: we give memory back, the network card fills it again.
//!
//! ```text
//!             free │ the card may take │ written │ free
//!   ──────────────┬┴──────────────────┬┴────────┬┴─────
//!                head                tail     written
//!               (theirs)            (ours)   (private)
//! ```
//!
//! It goes as the submission ring does (SQ2, SQ3, SQ4), with entries of 16 bytes and no wake-up.
//!
//! Leaves to others: which memory an entry names, and when it is not used any more.
//!
//! # Safety
//!
//! Writes only slots in `tail..head + entries`, which are ours.
#![allow(unsafe_code, reason = "decides which slots are ours to write")]

use crate::abi_zcrx::ZcrxRqe;
use crate::index::Index;
use crate::process::Process;
use crate::shared::{Observed, Published, Slots};
use crate::sq::Full;

/// Our half of a refill ring.
#[derive(Debug)]
pub struct RefillRing {
    /// Up to here the kernel has taken.
    head: Observed,
    /// Up to here it may take.
    tail: Published,
    /// Up to here we have written. Runs ahead of `tail` until [`flush`](Self::flush).
    written: Index,
    slots: Slots<ZcrxRqe>,
    /// A process that this one forks has no such memory.
    process: Process,
}

impl RefillRing {
    /// A ring over shared memory.
    ///
    /// # Safety
    ///
    /// The peer must not store the tail, and take only what lies between `head` and `tail`.
    pub unsafe fn over(head: Observed, tail: Published, slots: Slots<ZcrxRqe>) -> Self {
        assert!(!slots.is_double(), "SQ2: an entry of a refill ring is one unit");
        let written = tail.last();
        Self { head, tail, written, slots, process: Process::this() }
    }

    /// Writes `entry` into the next slot. The kernel sees it after [`flush`](Self::flush).
    ///
    /// # Errors
    ///
    /// [`Full`] when no slot is free: flush, and have the kernel take them.
    ///
    /// # Safety
    ///
    /// What the entry names must be nobody's from now on, until a completion names it again. The
    /// ring must be of this process, and not of one that forked it.
    pub unsafe fn push(&mut self, entry: ZcrxRqe) -> Result<(), Full> {
        let used = self.written.distance_from(self.head.observe());
        // More than all of them is what no kernel leaves: then nothing is free (SQ2).
        if used >= self.slots.entries().count() {
            return Err(Full);
        }
        // SAFETY: ours: `head` has passed the slot (SQ4), and `tail` has not reached it (SQ3).
        unsafe { self.slots.write_single(self.written, entry) };
        self.written = self.written.advance(1);
        Ok(())
    }

    /// Hands every written entry to the kernel (SQ3). In a forked child it does nothing.
    pub fn flush(&mut self) {
        if self.process.is_this() {
            self.tail.publish(self.written);
        }
    }

    /// How many entries the kernel has yet to take, flushed or not. In a forked child 0.
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
    use crate::shared::{Slot, Width};

    #[test]
    fn sq2_sq3_sq4_a_refill_ring_is_filled_and_taken_across_the_wrap() {
        let start = u32::MAX - 1;
        let (head, tail) = (AtomicU32::new(start), AtomicU32::new(start));
        let slots = [const { ZcrxRqe { off: 0, len: 0, pad: 0 } }; 2].map(Slot::new);
        // SAFETY: alive and atomic to the end of the test, because it owns the word.
        let observed = unsafe { Observed::new(NonNull::from(&head)) };
        // SAFETY: alive and atomic to the end of the test, because it owns the word.
        let published = unsafe { Published::new(NonNull::from(&tail)) };
        let base = NonNull::from(&slots).cast();
        let entries = Entries::new(2).unwrap();
        // SAFETY: two slots that are alive to the end of the test, because it owns them.
        let view = unsafe { Slots::new(base, entries, Width::Single) };
        // SAFETY: the test is the peer, and keeps to it, because it moves only `head`.
        let mut ring = unsafe { RefillRing::over(observed, published, view) };
        for lap in 0..3_u32 {
            let from = start.wrapping_add(2 * lap);
            for off in [1, 2] {
                let entry = ZcrxRqe { off, len: lap, pad: 0 };
                // SAFETY: it names no memory, because nobody reads it.
                assert_eq!(unsafe { ring.push(entry) }, Ok(()));
            }
            // SAFETY: it names no memory, because nobody reads it.
            assert_eq!(unsafe { ring.push(ZcrxRqe::default()) }, Err(Full));
            assert_eq!((tail.load(Acquire), ring.pending()), (from, 2), "nothing is flushed");
            ring.flush();
            assert_eq!(tail.load(Acquire), from.wrapping_add(2));
            head.store(from.wrapping_add(2), Release);
            assert_eq!(ring.pending(), 0);
        }
    }
}
