//! Whether this is still the process that registered something, at the price of a load.
//!
//! ```text
//!   parent │ page: 1 │          fork          child │ page: 0 │     MADV_WIPEONFORK
//! ```
//!
//! What is registered belongs to the parent's ring, which a child shares by descriptor and must not
//! touch; the ring's own memory it does not even have (`MADV_DONTFORK`).
#![allow(unsafe_code, reason = "reads a page that fork changes")]

use std::ptr::NonNull;

use annulus_sys::errno::Errno;
use annulus_sys::map::page_size;
use memmap2::{MmapOptions, MmapRaw};

/// A page that reads 1 in the process that made it, and 0 in its children.
#[derive(Debug)]
pub(crate) struct Mark(MmapRaw);

impl Mark {
    pub(crate) fn new() -> Result<Self, Errno> {
        let map = MmapOptions::new().len(page_size()).map_anon();
        let mut page = map.map_err(|error| Errno::of(&error))?;
        page[0] = 1;
        let (start, len) = (page.as_mut_ptr().cast(), page.len());
        // SAFETY: the page just mapped, and advice that changes nothing in this process, because it
        // says what a child is to see.
        if unsafe { libc::madvise(start, len, libc::MADV_WIPEONFORK) } < 0 {
            return Err(Errno::last());
        }
        Ok(Self(MmapRaw::from(page)))
    }

    /// Whether this is the process that made it.
    pub(crate) fn is_ours(&self) -> bool {
        let at = NonNull::new(self.0.as_mut_ptr()).expect("mmap maps nothing at 0");
        // SAFETY: the page is mapped as long as `self`, because it owns it; volatile, because fork
        // changes it behind the compiler's back.
        unsafe { at.read_volatile() == 1 }
    }
}
