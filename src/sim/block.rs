//! Memory that a simulated ring lies in: the kernel's, or the program's (`NO_MMAP`).
//!
//! # Safety
//!
//! Every pointer that a block hands out lies inside it.
#![allow(unsafe_code, reason = "plays the kernel")]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::{self, NonNull};
use std::sync::Arc;

use annulus_sys::errno::Errno;
use annulus_sys::map::{Map, page_size};

/// What fills memory that holds nothing.
pub(super) const POISON: u8 = 0xDD;

const PAGE: usize = 4096;

/// A block of memory.
#[derive(Debug)]
pub(super) struct Block {
    base: NonNull<u8>,
    len: usize,
    /// How it was allocated; `None` for memory of the program's.
    layout: Option<Layout>,
}

/// A registered region.
#[derive(Debug)]
pub(super) struct Region {
    pub(super) block: Arc<Block>,
    /// How many bytes have arguments of waits.
    pub(super) waits: u64,
}

// SAFETY: plain memory, whose users keep the rules for sharing it; the block only frees it.
unsafe impl Send for Block {}
// SAFETY: as a `Block` hands out pointers and never reads or writes through them.
unsafe impl Sync for Block {}

impl Block {
    /// Whole pages, zeroed, at least `len` bytes.
    pub(super) fn new(len: usize) -> Arc<Self> {
        let len = len.max(1).next_multiple_of(PAGE);
        let layout = Layout::from_size_align(len, PAGE).expect("a size that fits");
        // SAFETY: the layout is never empty, since it is whole pages.
        let base = unsafe { alloc_zeroed(layout) };
        let base = NonNull::new(base).unwrap_or_else(|| handle_alloc_error(layout));
        Arc::new(Self { base, len, layout: Some(layout) })
    }

    /// Memory of the program's, which it keeps until the ring is gone and nothing is in flight
    /// (RG1). Refused as Linux refuses it, where that can be seen.
    pub(super) fn of_program(address: u64, len: usize) -> Result<Arc<Self>, Errno> {
        let at = usize::try_from(address).expect("64 bits");
        let base = NonNull::new(ptr::with_exposed_provenance_mut(at));
        let base = base.ok_or(Errno::new(libc::EFAULT))?;
        if !at.is_multiple_of(page_size()) {
            return Err(Errno::new(libc::EINVAL));
        }
        if !is_mapped(address, len as u64) {
            return Err(Errno::new(libc::EFAULT));
        }
        Ok(Arc::new(Self { base, len, layout: None }))
    }

    /// Whether it is memory of the program's that is not mapped any more (RG1).
    pub(super) fn is_gone(&self) -> bool {
        let address = self.base.as_ptr().expose_provenance() as u64;
        self.layout.is_none() && !is_mapped(address, self.len as u64)
    }

    /// Whether it is memory of the program's.
    pub(super) fn is_theirs(&self) -> bool {
        self.layout.is_none()
    }

    /// A map of the first `len` bytes, which keeps the block alive; `None` if there are not so
    /// many.
    pub(super) fn map(self: &Arc<Self>, len: usize) -> Option<Map> {
        let keeper = Box::new(Arc::clone(self));
        // SAFETY: so many bytes as the condition says, which live until the keeper is dropped.
        (len <= self.len && !self.is_theirs())
            .then(|| unsafe { Map::foreign(self.base, len, keeper) })
    }

    /// The first byte.
    pub(super) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// A place in it.
    pub(super) fn at<T>(&self, offset: u32) -> NonNull<T> {
        assert!(offset as usize + size_of::<T>() <= self.len);
        // SAFETY: in bounds, because of the assertion.
        unsafe { self.base.add(offset as usize) }.cast()
    }

    /// Stores a word of a ring that is not in use yet.
    pub(super) fn set(&self, offset: u32, value: u32) {
        // SAFETY: in bounds and aligned, as the layout has it; nothing else has the block yet.
        unsafe { self.at::<u32>(offset).write(value) };
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let Some(layout) = self.layout else { return };
        // SAFETY: allocated by `new` with this layout; nothing uses it, since no owner is left.
        unsafe { dealloc(self.base.as_ptr(), layout) };
    }
}

/// Whether the pages of so many bytes are mapped, as far as the first and the last one show.
pub(super) fn is_mapped(address: u64, len: u64) -> bool {
    let last = address.saturating_add(len.max(1) - 1);
    [address, last].into_iter().all(|byte| {
        let page = usize::try_from(byte & !(page_size() as u64 - 1)).expect("64 bits");
        let at = ptr::with_exposed_provenance_mut::<libc::c_void>(page);
        let mut resident = 0_u8;
        // SAFETY: one live byte for one page, which need not be mapped: the call says whether.
        unsafe { libc::mincore(at, 1, &raw mut resident) == 0 }
    })
}
