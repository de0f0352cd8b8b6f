//! Advice on memory: how it will be used, and which parts are no longer needed.
//!
//! ```text
//!   MmapMut     │ page │ page │ page │     owns all of its pages, the last one too
//!   AlignedBuf  ..│ page │ page │..        pages that it shares with other memory are left out
//! ```
//!
//! | operation | for | changes the contents |
//! |---|---|---|
//! | [`Madvise::new`] with a [`MemoryAdvice`] | any [`Pages`] | never: only the speed |
//! | [`Madvise::change`] with a [`MapChange`] | a writable map | as the change says |
//!
//! The kernel works on whole pages, so a change could affect other owners' bytes. Changes are
//! therefore only for owners of whole pages, and there is no way to pass an address.
//!
//! `MADV_FREE` is left out: it lets bytes change later by themselves, while Rust may load a byte
//! twice where the program reads it once. Advice that poisons pages, or makes reading them fault,
//! is left out too. Raw entries have all of these ([`prep::madvise`]).
//!
//! Keeps OP1: the owner of the memory lies in the operation. Leaves to others: advice on files
//! (`advice`).
#![allow(unsafe_code, reason = "writes entries that point to memory")]

use std::io;
use std::ops::{Bound, Range, RangeBounds};

use annulus_sys::abi::Sqe;
use annulus_sys::map::page_size;
use memmap2::{Mmap, MmapMut};

use crate::buf::{AlignedBuf, IoBuf, IoBufMut};
use crate::op::{Done, Op, Outcome};
use crate::prep;

/// How memory will be used: the advice of `madvise(2)` that never changes its contents.
#[doc(alias = "MADV")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MemoryAdvice {
    /// No special pattern.
    #[doc(alias = "MADV_NORMAL")]
    Normal,
    /// Random access: little is read ahead.
    #[doc(alias = "MADV_RANDOM")]
    Random,
    /// Sequential access: more is read ahead.
    #[doc(alias = "MADV_SEQUENTIAL")]
    Sequential,
    /// Needed soon: reading it from the file, or from swap, begins.
    #[doc(alias = "MADV_WILLNEED")]
    WillNeed,
    /// Not needed soon: reclaimed first when memory is short. Since Linux 5.4.
    #[doc(alias = "MADV_COLD")]
    Cold,
    /// Not needed soon: written to the file or to swap now. Since Linux 5.4.
    #[doc(alias = "MADV_PAGEOUT")]
    PageOut,
    /// Loads the pages now, for reading. Since Linux 5.14.
    #[doc(alias = "MADV_POPULATE_READ")]
    PopulateRead,
    /// Loads the pages now, for writing. Since Linux 5.14.
    #[doc(alias = "MADV_POPULATE_WRITE")]
    PopulateWrite,
    /// Allows huge pages.
    #[doc(alias = "MADV_HUGEPAGE")]
    HugePage,
    /// Forbids huge pages.
    #[doc(alias = "MADV_NOHUGEPAGE")]
    NoHugePage,
    /// Merges the pages into huge pages now, where possible. Since Linux 6.1.
    #[doc(alias = "MADV_COLLAPSE")]
    Collapse,
    /// Lets the kernel share pages with equal contents (KSM).
    #[doc(alias = "MADV_MERGEABLE")]
    Mergeable,
    /// Stops that sharing.
    #[doc(alias = "MADV_UNMERGEABLE")]
    Unmergeable,
}

impl MemoryAdvice {
    /// The number that the kernel sees.
    fn bits(self) -> u32 {
        match self {
            Self::Normal => 0,
            Self::Random => 1,
            Self::Sequential => 2,
            Self::WillNeed => 3,
            Self::Cold => 20,
            Self::PageOut => 21,
            Self::PopulateRead => 22,
            Self::PopulateWrite => 23,
            Self::HugePage => 14,
            Self::NoHugePage => 15,
            Self::Collapse => 25,
            Self::Mergeable => 12,
            Self::Unmergeable => 13,
        }
    }
}

/// What happens to a map: the advice of `madvise(2)` that changes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MapChange {
    /// Returns its memory to the system. Later reads return zeroes; in a map of a file, the file's
    /// bytes, without changes to a private copy.
    #[doc(alias = "MADV_DONTNEED")]
    Discard,
    /// In a shared map: makes a hole in the file or the shared memory, which reads as zeroes.
    #[doc(alias = "MADV_REMOVE")]
    Punch,
    /// Lets a forked child inherit the map, as usual: undoes [`Madvise::dont_fork`].
    #[doc(alias = "MADV_DOFORK")]
    DoFork,
    /// A forked child finds zeroes there. For private anonymous maps only.
    #[doc(alias = "MADV_WIPEONFORK")]
    WipeOnFork,
    /// A forked child finds the contents, as usual: undoes `WipeOnFork`.
    #[doc(alias = "MADV_KEEPONFORK")]
    KeepOnFork,
    /// Leaves the map out of core dumps.
    #[doc(alias = "MADV_DONTDUMP")]
    DontDump,
    /// Includes the map in core dumps, as usual.
    #[doc(alias = "MADV_DODUMP")]
    DoDump,
}

impl MapChange {
    /// The number that the kernel sees.
    fn bits(self) -> u32 {
        match self {
            Self::Discard => 4,
            Self::Punch => 9,
            Self::DoFork => 11,
            Self::DontDump => 16,
            Self::DoDump => 17,
            Self::WipeOnFork => 18,
            Self::KeepOnFork => 19,
        }
    }
}

mod sealed {
    use super::Place;

    pub trait Owner {
        /// Where the memory is, and whether it owns the pages at its ends.
        fn place(&mut self) -> Place;
    }
}

/// Where memory is.
#[derive(Debug, Clone, Copy)]
#[doc(hidden)]
pub struct Place {
    addr: u64,
    len: usize,
    ends: Ends,
}

/// Whether the memory owns its first and last page entirely.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ends {
    Ours,
    Shared,
}

/// An owner of memory with whole pages: a map, or an [`AlignedBuf`]. Sealed: only this crate
/// implements it.
pub trait Pages: sealed::Owner {}

/// An owner of memory that may be changed page by page: a writable map. Sealed: only this crate
/// implements it.
pub trait PagesMut: Pages {}

impl sealed::Owner for Mmap {
    fn place(&mut self) -> Place {
        let region = self.region();
        Place { addr: region.addr(), len: region.len(), ends: Ends::Ours }
    }
}

impl sealed::Owner for &Mmap {
    fn place(&mut self) -> Place {
        let region = self.region();
        Place { addr: region.addr(), len: region.len(), ends: Ends::Ours }
    }
}

impl sealed::Owner for MmapMut {
    fn place(&mut self) -> Place {
        let region = self.region_mut();
        Place { addr: region.addr(), len: region.len(), ends: Ends::Ours }
    }
}

impl sealed::Owner for &mut MmapMut {
    fn place(&mut self) -> Place {
        (**self).place()
    }
}

impl sealed::Owner for AlignedBuf {
    fn place(&mut self) -> Place {
        let region = self.region_mut();
        Place { addr: region.addr(), len: region.len(), ends: Ends::Shared }
    }
}

impl Pages for Mmap {}
impl Pages for &Mmap {}
impl Pages for MmapMut {}
impl Pages for &mut MmapMut {}
impl Pages for AlignedBuf {}
impl PagesMut for MmapMut {}
impl PagesMut for &mut MmapMut {}

/// Tells the kernel how memory will be used, or changes it: `madvise(2)`. Since Linux 5.6.
///
/// Success says that the kernel has taken the advice, and not that it follows it. What
/// [`MapChange`] does is no advice: it has happened.
///
/// # Completion
///
/// Once, with 0. It runs in a worker thread of the kernel.
///
/// # Cancellation
///
/// `ECANCELED` if it has not begun; once begun, long advice (populate) ends with `EINTR`, and a
/// part is done.
///
/// # Errors
///
/// Those of `madvise(2)`: `EINVAL` for advice that the kernel does not know, or that does not fit
/// the memory; `EFAULT` where there is nothing to load. `EINVAL` for 4 GiB or more before Linux
/// 6.10. An error with a message for a range outside the memory. Since Linux 6.0 no error breaks a
/// chain.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::{Madvise, MapChange};
/// use memmap2::MmapMut;
///
/// let mut ring = Setup::new(4).build()?;
/// let mut map = MmapMut::map_anon(8192)?;
/// map[0] = 1;
/// let discard = ring.submit(Madvise::change(map, MapChange::Discard))?;
/// let outcome = ring.wait(discard)?;
/// outcome.result?;
/// assert_eq!(outcome.buf[0], 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias("IORING_OP_MADVISE", "io_uring_prep_madvise", "io_uring_prep_madvise64"))]
#[derive(Debug)]
pub struct Madvise<M> {
    memory: M,
    advice: u32,
    effect: Effect,
    range: (Bound<usize>, Bound<usize>),
    /// Whether the range was inside the memory when the entry was written.
    found: Found,
}

/// Whether the kernel's work changes contents, and so must not touch bytes outside the range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    None,
    Some,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Inside,
    Outside,
}

impl<M: Pages> Madvise<M> {
    /// Tells the kernel how `memory` will be used.
    pub fn new(memory: M, advice: MemoryAdvice) -> Self {
        Self::made(memory, advice.bits(), Effect::None)
    }

    fn made(memory: M, advice: u32, effect: Effect) -> Self {
        let range = (Bound::Unbounded, Bound::Unbounded);
        Self { memory, advice, effect, range, found: Found::Inside }
    }

    /// Restricts it to these bytes, counted from the start of the memory. Advice applies to all
    /// pages that they touch; a change applies only to pages without other bytes of the memory.
    pub fn range(self, bytes: impl RangeBounds<usize>) -> Self {
        let range = (bytes.start_bound().cloned(), bytes.end_bound().cloned());
        Self { range, ..self }
    }
}

impl<M: PagesMut> Madvise<M> {
    /// Changes `map`.
    pub fn change(map: M, change: MapChange) -> Self {
        Self::made(map, change.bits(), Effect::Some)
    }

    /// Keeps a forked child from inheriting `map`. If only its contents must be hidden from the
    /// child, [`MapChange::WipeOnFork`] is enough.
    ///
    /// # Safety
    ///
    /// A child that this process forks must neither use its copy of `map`, nor drop it: other
    /// memory may lie at that address.
    #[doc(alias = "MADV_DONTFORK")]
    pub unsafe fn dont_fork(map: M) -> Self {
        Self::made(map, DONT_FORK, Effect::Some)
    }
}

/// `MADV_DONTFORK`: unsafe, so it is not a variant of [`MapChange`].
const DONT_FORK: u32 = 10;

impl Place {
    /// The pages of `range`; `None` if it is not inside the memory.
    fn pages(self, range: (Bound<usize>, Bound<usize>), effect: Effect) -> Option<Range<u64>> {
        let bytes = self.bytes(range)?;
        let page = page_size() as u64;
        let (down, up) = (|at: u64| at / page * page, |at: u64| at.next_multiple_of(page));
        let (first, last) = (self.addr, self.addr + self.len as u64);
        let ours = match self.ends {
            Ends::Ours => down(first)..up(last),
            Ends::Shared => up(first)..down(last),
        };
        let (start, end) = (first + bytes.start as u64, first + bytes.end as u64);
        let meant = match effect {
            Effect::None => down(start)..up(end),
            // At its ends, the memory owns the rest of the page too; if not, `ours` excludes that
            // page.
            Effect::Some => {
                let start = if start == first { down(start) } else { up(start) };
                start..if end == last { up(end) } else { down(end) }
            }
        };
        let start = meant.start.max(ours.start);
        Some(start..meant.end.min(ours.end).max(start))
    }

    fn bytes(self, (start, end): (Bound<usize>, Bound<usize>)) -> Option<Range<usize>> {
        let start = match start {
            Bound::Unbounded => 0,
            Bound::Included(start) => start,
            Bound::Excluded(before) => before.checked_add(1)?,
        };
        let end = match end {
            Bound::Unbounded => self.len,
            Bound::Included(last) => last.checked_add(1)?,
            Bound::Excluded(end) => end,
        };
        (start <= end && end <= self.len).then_some(start..end)
    }
}

// SAFETY: OP1: either all of the pages are of `memory`, borrowed in place, or the advice changes
// nothing that other code could observe; advice that changes pages is only for owners of whole
// pages that may write them. It completes once.
unsafe impl<M: Pages> Op for Madvise<M> {
    type Output = Outcome<(), (), M>;

    fn prep(&mut self) -> Sqe {
        let pages = self.memory.place().pages(self.range, self.effect);
        self.found = if pages.is_some() { Found::Inside } else { Found::Outside };
        // For a range outside, an address inside a page, which the kernel refuses.
        let pages = pages.unwrap_or(1..1);
        let len = pages.end - pages.start;
        match u32::try_from(len) {
            // In the form that every kernel understands.
            Ok(len) => prep::madvise(pages.start, len, self.advice),
            Err(_) => prep::madvise64(pages.start, len, self.advice),
        }
    }

    fn finish(self, done: Done) -> Self::Output {
        let result = match self.found {
            Found::Inside => done.result().map(drop),
            Found::Outside => {
                let text = "the range is not in the memory: count from its front, up to its length";
                Err(io::Error::new(io::ErrorKind::InvalidInput, text))
            }
        };
        Outcome { result, fd: (), buf: self.memory }
    }
}

#[cfg(test)]
mod tests {
    use linux_raw_sys::general as raw;

    use super::*;

    const ALL: (Bound<usize>, Bound<usize>) = (Bound::Unbounded, Bound::Unbounded);

    fn part(range: Range<usize>) -> (Bound<usize>, Bound<usize>) {
        (Bound::Included(range.start), Bound::Excluded(range.end))
    }

    /// A range in pages of this machine; the first page is at the address of 16 pages.
    fn in_pages(pages: Range<u64>) -> Option<Range<u64>> {
        let page = page_size() as u64;
        Some(pages.start * page..pages.end * page)
    }

    #[test]
    fn pages_that_are_shared_with_others_are_left_out() {
        let page = page_size();
        let addr = 16 * page as u64 + 8;
        let shared = Place { addr, len: 3 * page, ends: Ends::Shared };
        assert_eq!(shared.pages(ALL, Effect::None), in_pages(17..19));
        let inside_one = Place { addr, len: 100, ends: Ends::Shared };
        let pages = inside_one.pages(ALL, Effect::None).expect("the range is all of it");
        assert_eq!(pages.start, pages.end);
    }

    #[test]
    fn the_ends_of_a_map_are_its_own() {
        let page = page_size();
        let map = Place { addr: 16 * page as u64 + 8, len: 3 * page, ends: Ends::Ours };
        assert_eq!(map.pages(ALL, Effect::Some), in_pages(16..20));
        assert_eq!(map.pages(ALL, Effect::None), in_pages(16..20));
    }

    #[test]
    fn a_change_of_a_part_leaves_the_rest() {
        let page = page_size();
        let map = Place { addr: 16 * page as u64, len: 4 * page, ends: Ends::Ours };
        let pages = |range, effect| map.pages(part(range), effect);
        assert_eq!(pages(1..3 * page - 1, Effect::Some), in_pages(17..18));
        assert_eq!(pages(1..3 * page - 1, Effect::None), in_pages(16..19));
        assert_eq!(pages(page..2 * page, Effect::Some), in_pages(17..18));
        assert_eq!(pages(1..2, Effect::Some), in_pages(17..17));
        assert_eq!(pages(0..4 * page + 1, Effect::None), None);
        assert_eq!(pages(Range { start: 2, end: 1 }, Effect::None), None);
    }

    #[test]
    fn no_length_is_cut() {
        let page = page_size() as u64;
        let len = (4 << 30) + page_size();
        let map = Place { addr: 16 * page, len, ends: Ends::Ours };
        assert_eq!(map.pages(ALL, Effect::Some), Some(16 * page..16 * page + len as u64));
    }

    #[test]
    fn advice_is_the_number_of_that_name() {
        let pairs = [
            (MemoryAdvice::Normal, raw::MADV_NORMAL),
            (MemoryAdvice::Random, raw::MADV_RANDOM),
            (MemoryAdvice::Sequential, raw::MADV_SEQUENTIAL),
            (MemoryAdvice::WillNeed, raw::MADV_WILLNEED),
            (MemoryAdvice::Cold, raw::MADV_COLD),
            (MemoryAdvice::PageOut, raw::MADV_PAGEOUT),
            (MemoryAdvice::PopulateRead, raw::MADV_POPULATE_READ),
            (MemoryAdvice::PopulateWrite, raw::MADV_POPULATE_WRITE),
            (MemoryAdvice::HugePage, raw::MADV_HUGEPAGE),
            (MemoryAdvice::NoHugePage, raw::MADV_NOHUGEPAGE),
            (MemoryAdvice::Collapse, raw::MADV_COLLAPSE),
            (MemoryAdvice::Mergeable, raw::MADV_MERGEABLE),
            (MemoryAdvice::Unmergeable, raw::MADV_UNMERGEABLE),
        ];
        for (advice, number) in pairs {
            assert_eq!(advice.bits(), number, "{advice:?}");
        }
        let pairs = [
            (MapChange::Discard, raw::MADV_DONTNEED),
            (MapChange::Punch, raw::MADV_REMOVE),
            (MapChange::DoFork, raw::MADV_DOFORK),
            (MapChange::WipeOnFork, raw::MADV_WIPEONFORK),
            (MapChange::KeepOnFork, raw::MADV_KEEPONFORK),
            (MapChange::DontDump, raw::MADV_DONTDUMP),
            (MapChange::DoDump, raw::MADV_DODUMP),
        ];
        for (change, number) in pairs {
            assert_eq!(change.bits(), number, "{change:?}");
        }
        assert_eq!(DONT_FORK, raw::MADV_DONTFORK);
    }
}
