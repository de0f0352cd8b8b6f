//! Memory shared with the kernel: mappings of the ring's descriptor, or pages of our own.
//!
//! | backing | allocated by | on drop |
//! |---|---|---|
//! | ring memory | the kernel, and we map it | unmapped; the kernel keeps the pages as long as it needs |
//! | own memory | us, and the kernel pins it (`IORING_SETUP_NO_MMAP`, buffer rings) | leaked, unless idle: RG1 |
//! | the caller's memory | the caller, and the kernel pins it (`IORING_SETUP_NO_MMAP`) | left to the caller |
//!
//! A forked child that shared the rings could move our indices. So a child does not inherit ring
//! memory (`MADV_DONTFORK`). At those addresses it has nothing, or something that it has mapped
//! since, so it must check [`Map::is_here`] before it reads. In own memory of ordinary pages a
//! child finds zeroes of its own (`MADV_WIPEONFORK`), so pointers into that memory stay valid
//! there. The kernel does not wipe huge pages; those are not inherited either.
//!
//! Leaves to others: where in a mapping each index and slot lies (`layout`).
//!
//! # Safety
//!
//! Every pointer handed out lies inside the mapping and is aligned.
#![allow(unsafe_code, reason = "hands out pointers into mappings")]

use core::mem::ManuallyDrop;
use core::ptr::NonNull;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::OnceLock;

use memmap2::{Advice, MmapOptions, MmapRaw};

use crate::errno::Errno;
use crate::page::wipe_on_fork;
pub use crate::page::{huge_page_size, page_size};
use crate::process::Process;

/// The kind of pages for memory of our own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pages {
    /// Ordinary pages. Before Linux 6.14 the kernel requires each region of a ring to be contiguous
    /// in physical memory, so it accepts only a ring whose two regions fit in one page each.
    Ordinary,
    /// Huge pages of the [default size](huge_page_size), mostly 2 MiB, from the pool that
    /// `vm.nr_hugepages` reserves. Before Linux 6.14 each region of a ring must lie in one of them.
    Huge,
}

/// A mapping of memory that we share with the kernel.
#[derive(Debug)]
pub struct Map {
    base: NonNull<u8>,
    len: usize,
    backing: Backing,
    /// The process that mapped it. A forked child does not have the mapping, or finds zeroes in it.
    process: Process,
}

#[derive(Debug)]
enum Backing {
    /// Unmapped when dropped.
    Ring(ManuallyDrop<MmapRaw>),
    /// Leaked when dropped, unless it was found idle (RG1).
    Own(ManuallyDrop<MmapRaw>, OnceLock<Idle>),
    /// Memory of the caller's, who unmaps it.
    Callers,
    /// Memory that a simulated kernel keeps alive.
    #[cfg(feature = "sim")]
    Foreign(#[expect(dead_code, reason = "owns the memory")] Box<dyn core::any::Any + Send + Sync>),
}

/// Marks memory that the kernel is known not to use any more.
#[derive(Debug, Clone, Copy)]
struct Idle;

// SAFETY: a mapping is memory of the process, not of a thread, and `Map` itself never touches it.
unsafe impl Send for Map {}
// SAFETY: `Map` hands out pointers and never reads or writes through them, because the types of
// `orderings` and `slots` do.
unsafe impl Sync for Map {}

impl Map {
    /// Maps `len` bytes of `ring` from `offset`, which is one of `IORING_OFF_*`. The pages are
    /// populated at once, to avoid page faults on the fast path.
    ///
    /// # Errors
    ///
    /// Those of `mmap(2)` and `madvise(2)`.
    pub fn of_ring(ring: BorrowedFd<'_>, offset: u64, len: usize) -> Result<Self, Errno> {
        let mut options = MmapOptions::new();
        options.offset(offset).len(len).populate();
        let map = options.map_raw(ring.as_raw_fd()).map_err(|error| Errno::of(&error))?;
        map.advise(Advice::DontFork).map_err(|error| Errno::of(&error))?;
        let base = NonNull::new(map.as_mut_ptr()).expect("mmap maps nothing at 0");
        let backing = Backing::Ring(ManuallyDrop::new(map));
        Ok(Self { base, len, backing, process: Process::this() })
    }

    /// Allocates `len` zeroed bytes for the kernel to use, rounded up to whole pages.
    ///
    /// # Errors
    ///
    /// Those of `mmap(2)` and `madvise(2)`: `ENOMEM` when the huge page pool is empty.
    pub fn own(len: usize, pages: Pages) -> Result<Self, Errno> {
        let mut options = MmapOptions::new();
        let len = match pages {
            Pages::Ordinary => len.max(1).checked_next_multiple_of(page_size()),
            Pages::Huge => {
                // Of the default size: it is that pool which `vm.nr_hugepages` fills. The kernel
                // unmaps whole huge pages only, so we must know the size.
                options.huge(None);
                len.max(1).checked_next_multiple_of(huge_page_size())
            }
        };
        let len = len.ok_or(Errno::new(libc::ENOMEM))?; // Larger than the address space.
        options.len(len).populate();
        let map = options.map_anon().map_err(|error| Errno::of(&error))?;
        let map = MmapRaw::from(map);
        let advised = match pages {
            Pages::Ordinary => wipe_on_fork(&map),
            Pages::Huge => map.advise(Advice::DontFork),
        };
        advised.map_err(|error| Errno::of(&error))?;
        let base = NonNull::new(map.as_mut_ptr()).expect("mmap maps nothing at 0");
        let backing = Backing::Own(ManuallyDrop::new(map), OnceLock::new());
        Ok(Self { base, len, backing, process: Process::this() })
    }

    /// Wraps memory of the caller's, which is never unmapped here.
    ///
    /// # Safety
    ///
    /// The `len` bytes at `base` must stay valid for reads and writes, and be used by nothing else,
    /// until the ring is gone and everything that was in flight has completed.
    pub(crate) unsafe fn of_caller(base: NonNull<u8>, len: usize) -> Self {
        Self { base, len, backing: Backing::Callers, process: Process::this() }
    }

    /// Wraps memory that `keeper` keeps alive, for a simulated kernel.
    ///
    /// # Safety
    ///
    /// The `len` bytes at `base` must stay valid for reads and writes until `keeper` is dropped.
    #[cfg(feature = "sim")]
    pub unsafe fn foreign(
        base: NonNull<u8>,
        len: usize,
        keeper: Box<dyn core::any::Any + Send + Sync>,
    ) -> Self {
        Self { base, len, backing: Backing::Foreign(keeper), process: Process::this() }
    }

    /// The address of the mapping, in the form that the kernel takes.
    pub fn address(&self) -> u64 {
        self.base.as_ptr().expose_provenance() as u64
    }

    /// How many bytes are mapped.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is mapped.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the calling process made the mapping. A forked child does not have it, or finds
    /// zeroes in it.
    #[inline]
    pub fn is_here(&self) -> bool {
        self.process.is_this()
    }

    /// A pointer to the first of `count` values of type `T` at `offset`.
    ///
    /// # Panics
    ///
    /// When they do not fit in the mapping, or are not aligned.
    pub fn at<T>(&self, offset: usize, count: usize) -> NonNull<T> {
        let end = size_of::<T>().checked_mul(count).and_then(|bytes| bytes.checked_add(offset));
        let fits = end.is_some_and(|end| end <= self.len);
        assert!(fits, "SQ2, CQ2: {count} × {} bytes at {offset} of {}", size_of::<T>(), self.len);
        // SAFETY: in bounds, because of the assertion.
        let at = unsafe { self.base.add(offset) }.cast::<T>();
        assert!(at.is_aligned(), "SQ2, CQ2: offset {offset} is not aligned");
        at
    }

    /// Makes the drop unmap own memory instead of leaking it (RG1). No effect on ring memory.
    ///
    /// # Safety
    ///
    /// The kernel must never use the memory again.
    pub unsafe fn found_idle(&self) {
        // A forked child unmaps nothing. And a thread of the parent may have been inside the
        // `OnceLock` at the fork, so the child must not touch it.
        if !self.is_here() {
            return;
        }
        if let Backing::Own(_, idle) = &self.backing {
            idle.get_or_init(|| Idle);
        }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        if !self.is_here() {
            return; // What a forked child has at these addresses is not ours, or only zeroes.
        }
        match &mut self.backing {
            // SAFETY: dropped once, because the map is not used again.
            Backing::Ring(map) => unsafe { ManuallyDrop::drop(map) },
            // SAFETY: dropped once, because the map is not used again; idle, as promised to
            // `found_idle` (RG1).
            Backing::Own(map, idle) if idle.get().is_some() => unsafe { ManuallyDrop::drop(map) },
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_there_are_addresses_is_refused() {
        for pages in [Pages::Ordinary, Pages::Huge] {
            let refused = Map::own(usize::MAX, pages).map(|map| map.len());
            assert_eq!(refused, Err(Errno::new(libc::ENOMEM)));
        }
    }

    #[test]
    fn own_memory_is_whole_pages_zeroed_and_writable() {
        let map = Map::own(100, Pages::Ordinary).unwrap();
        assert_eq!((map.len(), map.is_empty()), (page_size(), false));
        let words = map.at::<u64>(0, page_size() / 8);
        // SAFETY: in bounds, because `at` checked; no other code has the memory.
        let first = unsafe { words.read() };
        assert_eq!(first, 0);
        // SAFETY: no kernel was ever given this memory, because it never left the test.
        unsafe { map.found_idle() };
    }

    /// The pool of the default size, which `vm.nr_hugepages` fills, is the one that is asked.
    #[test]
    fn huge_pages_are_had_where_the_default_pool_has_one() {
        let info = std::fs::read_to_string("/proc/meminfo").unwrap();
        let count = |name| {
            let line = info.lines().find_map(|line| line.strip_prefix(name));
            line.map_or(0, |count| count.trim().parse::<u64>().unwrap())
        };
        let free = count("HugePages_Free:") > count("HugePages_Rsvd:");
        let map = Map::own(100, Pages::Huge);
        assert_eq!(map.is_ok(), free, "{map:?}");
        if let Ok(map) = map {
            assert_eq!(map.len(), huge_page_size());
            // SAFETY: no kernel was ever given this memory, because it never left the test.
            unsafe { map.found_idle() };
        }
    }

    #[test]
    #[should_panic(expected = "SQ2, CQ2")]
    fn a_view_past_the_end_is_refused() {
        let _ = Map::own(1, Pages::Ordinary).unwrap().at::<u32>(page_size() - 2, 1);
    }

    #[test]
    #[should_panic(expected = "SQ2, CQ2")]
    fn a_length_that_overflows_is_refused() {
        let _ = Map::own(1, Pages::Ordinary).unwrap().at::<u64>(8, usize::MAX / 8);
    }

    #[test]
    #[should_panic(expected = "not aligned")]
    fn a_misaligned_view_is_refused() {
        let _ = Map::own(1, Pages::Ordinary).unwrap().at::<u32>(2, 1);
    }
}
