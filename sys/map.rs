//! Memory shared with the kernel: `mmap(2)` over the ring's descriptor, or pages of our own.
//!
//! | backing | made by | after drop |
//! |---|---|---|
//! | the ring's | the kernel, we map it | unmapped; the kernel keeps its pages as long as it needs |
//! | our own | us, the kernel pins it (`IORING_SETUP_NO_MMAP`, buffer rings) | leaked, unless idle: RG1 |
//!
//! A child that shared the rings would move our indices behind our back. So what is the ring's is
//! not inherited over fork (`MADV_DONTFORK`): at its addresses a child has nothing, or something
//! else that it has mapped since, and must ask before it looks ([`Map::is_here`]). Pages of our own
//! can be more: a child has zeroes of its own there (`MADV_WIPEONFORK`), so that what points into
//! them never points to anybody else's. Not huge ones, which the kernel does not wipe.
//!
//! Leaves to others: where in a mapping which word lies (`rings`).
//!
//! # Safety
//!
//! Every pointer handed out lies inside the mapping and is aligned.
#![allow(unsafe_code, reason = "hands out pointers into mappings")]

use core::mem::ManuallyDrop;
use core::ptr::NonNull;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::OnceLock;

use memmap2::{Advice, MmapOptions, MmapRaw};

use crate::errno::Errno;
use crate::process::Process;

/// The size of the pages that own memory is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pages {
    /// Ordinary ones. Before Linux 6.14 the kernel wants each region of a ring to be contiguous in
    /// physical memory, and so takes only a ring whose two regions fit a page each.
    Ordinary,
    /// Huge pages of 2 MiB, from the pool that `vm.nr_hugepages` sets aside.
    Huge,
}

/// The bytes in a huge page.
pub const HUGE_PAGE: usize = 2 << 20;

/// A mapping.
#[derive(Debug)]
pub struct Map {
    base: NonNull<u8>,
    len: usize,
    backing: Backing,
    /// The process that has it mapped: a forked child has not, or has zeroes there.
    process: Process,
}

#[derive(Debug)]
enum Backing {
    /// Unmapped when dropped.
    Ring(ManuallyDrop<MmapRaw>),
    /// Leaked when dropped, unless it was found idle (RG1).
    Own(ManuallyDrop<MmapRaw>, OnceLock<Idle>),
    /// Whatever a simulated kernel keeps alive.
    #[cfg(feature = "sim")]
    Foreign(#[expect(dead_code, reason = "owns the memory")] Box<dyn core::any::Any + Send + Sync>),
}

/// Memory that the kernel had is known to be ours alone again.
#[derive(Debug, Clone, Copy)]
struct Idle;

// SAFETY: a mapping is memory of the process, not of a thread, and `Map` itself never touches it.
unsafe impl Send for Map {}
// SAFETY: `Map` hands out pointers and never reads or writes through them, because the types of
// `shared` do.
unsafe impl Sync for Map {}

impl Map {
    /// Maps `len` bytes of `ring` from `offset`, which is one of `IORING_OFF_*`, all of them
    /// populated, since a fault later would be a fault on the fast path.
    ///
    /// # Errors
    ///
    /// What `mmap(2)` or `madvise(2)` refuses.
    pub fn of_ring(ring: BorrowedFd<'_>, offset: u64, len: usize) -> Result<Self, Errno> {
        let mut options = MmapOptions::new();
        options.offset(offset).len(len).populate();
        let map = options.map_raw(ring.as_raw_fd()).map_err(|error| Errno::of(&error))?;
        map.advise(Advice::DontFork).map_err(|error| Errno::of(&error))?;
        let base = NonNull::new(map.as_mut_ptr()).expect("mmap maps nothing at 0");
        let backing = Backing::Ring(ManuallyDrop::new(map));
        Ok(Self { base, len, backing, process: Process::this() })
    }

    /// Makes `len` zeroed bytes of our own for the kernel to use, rounded up to whole pages.
    ///
    /// # Errors
    ///
    /// What `mmap(2)` or `madvise(2)` refuses: `ENOMEM` when the huge page pool is empty.
    pub fn own(len: usize, pages: Pages) -> Result<Self, Errno> {
        let mut options = MmapOptions::new();
        let len = match pages {
            Pages::Ordinary => len.max(1).checked_next_multiple_of(page_size()),
            Pages::Huge => {
                options.huge(Some(21));
                len.checked_next_multiple_of(HUGE_PAGE)
            }
        };
        let len = len.ok_or(Errno::new(libc::ENOMEM))?; // More than there are addresses.
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

    /// Wraps memory that `keeper` keeps alive, for a kernel that is not Linux.
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

    /// Where the mapping starts, as the kernel wants to be told.
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

    /// Whether it is mapped in the process that calls. In one that this one forked it is not, or
    /// holds zeroes.
    #[inline]
    pub fn is_here(&self) -> bool {
        self.process.is_this()
    }

    /// A pointer to the first of `count` `T`s at `offset`.
    ///
    /// # Panics
    ///
    /// Unless they fit, aligned.
    pub fn at<T>(&self, offset: usize, count: usize) -> NonNull<T> {
        let end = size_of::<T>().checked_mul(count).and_then(|bytes| bytes.checked_add(offset));
        let fits = end.is_some_and(|end| end <= self.len);
        assert!(fits, "SQ2, CQ2: {count} × {} bytes at {offset} of {}", size_of::<T>(), self.len);
        // SAFETY: in bounds, because of the assertion.
        let at = unsafe { self.base.add(offset) }.cast::<T>();
        assert!(at.is_aligned(), "SQ2, CQ2: offset {offset} is not aligned");
        at
    }

    /// Lets own memory be unmapped on drop instead of leaked (RG1). No effect on the ring's.
    ///
    /// # Safety
    ///
    /// The kernel must be done with the memory for good.
    pub unsafe fn found_idle(&self) {
        // In a forked child nothing is unmapped; and somebody may have been just here.
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
            return; // What lies at these addresses now is not ours, or zeroes that nobody misses.
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

/// Has a child that this process forks find zeroes of its own in `map`, and no copy of what we have
/// there.
pub(crate) fn wipe_on_fork(map: &MmapRaw) -> io::Result<()> {
    let (start, len) = (map.as_mut_ptr().cast(), map.len());
    // SAFETY: all of a mapping, and advice that changes nothing in this process, because it says
    // what a child is to see.
    let advised = unsafe { libc::madvise(start, len, libc::MADV_WIPEONFORK) };
    if advised < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The bytes in an ordinary page.
pub fn page_size() -> usize {
    // SAFETY: `sysconf` has no preconditions, because it only looks a number up.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).expect("the page size is known and positive")
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
        assert_eq!(map.len(), page_size());
        let words = map.at::<u64>(0, page_size() / 8);
        // SAFETY: in bounds, because `at` checked; nobody else has the memory.
        let first = unsafe { words.read() };
        assert_eq!(first, 0);
        // SAFETY: no kernel was ever given this memory, because it never left the test.
        unsafe { map.found_idle() };
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
