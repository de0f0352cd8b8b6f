//! Memory of the caller's, at an address of its choice, for a ring with `NO_MMAP`.
//!
//! ```text
//!   the caller's pages │ rings: indices, completions │ entries │ unused …
//!                      └ a page begins               └ a page begins
//! ```
//!
//! Leaves to others: where in a region each index and slot lies (`layout`).
//!
//! # Safety
//!
//! What a place promises stands at [`Place::at`]; the ring never unmaps it.
#![allow(unsafe_code, reason = "clears the memory")]

use core::ptr::{NonNull, with_exposed_provenance_mut};

use crate::map::{Map, page_size};

/// Memory for the rings and the entries of one ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Exposed, so that a request can move to another thread.
    address: usize,
    len: usize,
}

impl Place {
    /// This memory.
    ///
    /// # Safety
    ///
    /// The memory must be valid for reads and writes, and nothing else may use it, until the ring
    /// is gone and everything that was in flight has completed. No second ring may be made there
    /// before that. A forked child must not find it shared with this process.
    pub unsafe fn at(memory: NonNull<[u8]>) -> Self {
        let (address, len) = (memory.cast::<u8>().as_ptr().expose_provenance(), memory.len());
        Self { address, len }
    }

    /// Whether it begins at the start of a page, and has room for so many bytes.
    pub fn fits(&self, bytes: usize) -> bool {
        self.address.is_multiple_of(page_size()) && bytes <= self.len
    }

    /// The first `rings` bytes, and the `entries` bytes after them, all zero.
    ///
    /// # Panics
    ///
    /// When the memory does not [fit](Self::fits) them.
    pub(crate) fn split(self, rings: usize, entries: usize) -> [Map; 2] {
        assert!(self.fits(rings + entries), "SQ2, CQ2: the caller's memory is too small");
        let base = with_exposed_provenance_mut::<u8>(self.address);
        let base = NonNull::new(base).expect("it was no null pointer in `at`");
        // SAFETY: valid for writes, and used by nothing else, as promised to `Place::at`.
        unsafe { base.write_bytes(0, rings + entries) };
        // SAFETY: within the memory, because of the assertion.
        let second = unsafe { base.add(rings) };
        // SAFETY: as promised to `Place::at`.
        let rings = unsafe { Map::of_caller(base, rings) };
        // SAFETY: as promised to `Place::at`.
        [rings, unsafe { Map::of_caller(second, entries) }]
    }
}
