//! Advice on memory: how it will be used, and what is no longer needed in it.
//!
//! ```text
//!   MmapMut     │ page │ page │ page │     all of its pages are its own, the last one too
//!   AlignedBuf  ..│ page │ page │..        those that it shares with others are left out
//! ```
//!
//! | | of | changes what is there |
//! |---|---|---|
//! | [`Madvise::new`] with a [`MemoryAdvice`] | any [`Pages`] | never: it is faster or slower |
//! | [`Madvise::change`] with a [`MapChange`] | a map that we may write | it says how |
//!
//! The kernel means whole pages, and so could change bytes of others. So what changes memory is
//! for owners of whole pages only, and there is no way to name an address.
//!
//! `MADV_FREE` is left out: bytes change later, by themselves, and Rust may read twice what is
//! read once. So are those that poison pages, or make reading them fault. Entries of one's own
//! have them ([`prep::madvise`]).
//!
//! Keeps OP1: the memory's owner lies in the operation. Leaves to others: advice on files
//! (`advice`).
#![allow(unsafe_code, reason = "writes entries that point to memory")]

use std::io;
use std::ops::{Bound, Range, RangeBounds};

use annulus_sys::abi::Sqe;
use annulus_sys::map::page_size;
use memmap2::{Mmap, MmapMut};

use super::{Done, Op, Outcome};
use crate::buf::{AlignedBuf, IoBuf, IoBufMut};
use crate::prep;

/// How memory will be used: those of `madvise(2)` that never change what is in it.
#[doc(alias = "MADV")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MemoryAdvice {
    /// As any other.
    #[doc(alias = "MADV_NORMAL")]
    Normal,
    /// Here and there: little is read ahead.
    #[doc(alias = "MADV_RANDOM")]
    Random,
    /// From the front to the back: more is read ahead.
    #[doc(alias = "MADV_SEQUENTIAL")]
    Sequential,
    /// Soon: reading it from the file, or from swap, begins.
    #[doc(alias = "MADV_WILLNEED")]
    WillNeed,
    /// Not soon: it is among the first to go when memory is short. Since Linux 5.4.
    #[doc(alias = "MADV_COLD")]
    Cold,
    /// Not soon: it goes now, to the file or to swap. Since Linux 5.4.
    #[doc(alias = "MADV_PAGEOUT")]
    PageOut,
    /// It is brought in now, to be read. Since Linux 5.14.
    #[doc(alias = "MADV_POPULATE_READ")]
    PopulateRead,
    /// It is brought in now, to be written. Since Linux 5.14.
    #[doc(alias = "MADV_POPULATE_WRITE")]
    PopulateWrite,
    /// Huge pages are welcome.
    #[doc(alias = "MADV_HUGEPAGE")]
    HugePage,
    /// Huge pages are not.
    #[doc(alias = "MADV_NOHUGEPAGE")]
    NoHugePage,
    /// Becomes huge pages now, where it can. Since Linux 6.1.
    #[doc(alias = "MADV_COLLAPSE")]
    Collapse,
    /// Pages that are alike may be kept once.
    #[doc(alias = "MADV_MERGEABLE")]
    Mergeable,
    /// They may not.
    #[doc(alias = "MADV_UNMERGEABLE")]
    Unmergeable,
}

impl MemoryAdvice {
    /// As the kernel is told.
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

/// What becomes of a map: those of `madvise(2)` that change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MapChange {
    /// Its memory goes back to the system. What is read there afterwards are zeroes; in a map of a
    /// file, the file's bytes, without what was written to a private copy.
    #[doc(alias = "MADV_DONTNEED")]
    Discard,
    /// In a shared map: the file, or the shared memory, has a hole there, and zeroes are read.
    #[doc(alias = "MADV_REMOVE")]
    Punch,
    /// A forked child has it, as usual: undoes [`Madvise::dont_fork`].
    #[doc(alias = "MADV_DOFORK")]
    DoFork,
    /// A forked child finds zeroes there. Private maps of no file only.
    #[doc(alias = "MADV_WIPEONFORK")]
    WipeOnFork,
    /// It finds what is there, as usual.
    #[doc(alias = "MADV_KEEPONFORK")]
    KeepOnFork,
    /// A core dump leaves it out.
    #[doc(alias = "MADV_DONTDUMP")]
    DontDump,
    /// It does not, as usual.
    #[doc(alias = "MADV_DODUMP")]
    DoDump,
}

impl MapChange {
    /// As the kernel is told.
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
        /// Where it is, and whether the pages at its ends are its own.
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

/// Whose the first and the last page are, of which memory may have a part only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ends {
    Ours,
    Shared,
}

/// An owner of memory that has whole pages: a map, or an [`AlignedBuf`]. Implemented here only.
pub trait Pages: sealed::Owner {}

/// An owner of memory that may be changed page by page: a map that may be written. Implemented here
/// only.
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

/// Tells the kernel how memory will be used, or changes what is there. Since Linux 5.6.
///
/// # Completion
///
/// Once, with 0. A worker thread of the kernel does it.
///
/// # Cancellation
///
/// `ECANCELED` if it has not begun; of those that take long (populate), `EINTR` later, and a part
/// is done.
///
/// # Errors
///
/// Those of `madvise(2)`: `EINVAL` for advice that the kernel does not know, or that does not fit
/// the memory; `EFAULT` where there is none to bring in. `EINVAL` for 4 GiB and more before Linux
/// 6.10. A range that is not in the memory is an error in words. Since Linux 6.0 no error breaks a
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
    /// Whether the range was in the memory, when that was last looked at.
    found: Found,
}

/// Whether bytes next to those that were named may be meant too.
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
    /// Tells how `memory` will be used.
    pub fn new(memory: M, advice: MemoryAdvice) -> Self {
        Self::made(memory, advice.bits(), Effect::None)
    }

    fn made(memory: M, advice: u32, effect: Effect) -> Self {
        let range = (Bound::Unbounded, Bound::Unbounded);
        Self { memory, advice, effect, range, found: Found::Inside }
    }

    /// About these bytes of it, counted from its front. Advice is about all pages that they touch;
    /// a change, about those that have no others of the memory.
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

    /// A forked child does not have `map`. For a map that must not be seen there,
    /// [`MapChange::WipeOnFork`] is enough.
    ///
    /// # Safety
    ///
    /// A child that this process forks must neither use what it inherited of `map`, nor drop it:
    /// something else may lie there.
    #[doc(alias = "MADV_DONTFORK")]
    pub unsafe fn dont_fork(map: M) -> Self {
        Self::made(map, DONT_FORK, Effect::Some)
    }
}

/// `MADV_DONTFORK`.
const DONT_FORK: u32 = 10;

impl Place {
    /// The pages that `range` means; none if it is not inside.
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
            // At its ends, the memory has the rest of the page too, or that is not ours anyway.
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

// SAFETY: OP1: the pages are all of `memory`, borrowed in place, or what is done to them changes
// nothing that anybody could see; what changes them is for owners of whole pages, who may write
// them. It completes once.
unsafe impl<M: Pages> Op for Madvise<M> {
    type Output = Outcome<(), (), M>;

    fn prep(&mut self) -> Sqe {
        let pages = self.memory.place().pages(self.range, self.effect);
        self.found = if pages.is_some() { Found::Inside } else { Found::Outside };
        // No pages are where no page begins, so that the kernel refuses them.
        let pages = pages.unwrap_or(1..1);
        let len = pages.end - pages.start;
        match u32::try_from(len) {
            // As every kernel understands it.
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

    /// In pages of the machine's, the first at the address 16 pages.
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
