//! Advice on memory, safe API: what changes, what stays, and that no other memory is affected.
#![allow(unsafe_code, reason = "maps files, and asks the C library what is in memory")]

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;

use annulus::Ring;
use annulus::buf::AlignedBuf;
use annulus::op::{Madvise, MapChange, MemoryAdvice};
use annulus::sys::map::page_size;
use annulus::sys::opcode::Opcode;
use libtest_mimic::{Failed, Trial};
use memmap2::{MmapMut, MmapOptions};

use crate::harness::{Need, here, test};
use crate::safe_files::{errno, memory, run, small};

const ADVISE: Need = Need::Op(Opcode::MADVISE);

pub fn tests() -> Vec<Trial> {
    vec![
        test("memory_that_is_discarded_is_zero", &[ADVISE], discard),
        test("a_part_that_is_discarded_leaves_the_rest", &[ADVISE], part),
        test("advice_on_more_memory_than_4_gib_is_not_cut", &[ADVISE], long),
        test("a_hole_in_a_shared_map_is_one_in_its_file", &[ADVISE], punch),
        test("a_borrowed_map_is_discarded_in_a_scope", &[ADVISE], borrowed),
        test("a_map_is_marked_for_forks_and_dumps", &[ADVISE], marks),
        test("advice_never_changes_what_is_there", &[ADVISE], advice),
        test("memory_is_faulted_in_before_it_is_touched", &[ADVISE], populate),
        test("a_range_that_is_not_in_the_memory_gives_it_back", &[ADVISE], outside),
        test("a_change_that_does_not_fit_gives_the_map_back", &[ADVISE], unfit),
    ]
}

/// A map of so many pages, all of them written to.
fn map(pages: usize) -> std::io::Result<MmapMut> {
    let mut map = MmapMut::map_anon(pages * page_size())?;
    map.fill(7);
    Ok(map)
}

fn change(ring: &mut Ring, map: MmapMut, change: MapChange) -> std::io::Result<MmapMut> {
    let changed = run(ring, Madvise::change(map, change));
    changed.result.map(|()| changed.buf)
}

fn discard() -> Result<(), Failed> {
    let mut ring = small();
    let map = change(&mut ring, map(3)?, MapChange::Discard)?;
    assert!(map.iter().all(|&byte| byte == 0));
    assert_eq!(map.len(), 3 * page_size());
    Ok(())
}

fn part() -> Result<(), Failed> {
    let (mut ring, page) = (small(), page_size());
    // From the middle of a page to the middle of another: two whole pages are between.
    let middle = page / 2..3 * page + page / 2;
    let discard = Madvise::change(map(4)?, MapChange::Discard).range(middle);
    let discarded = run(&mut ring, discard);
    discarded.result?;
    let sums: Vec<_> =
        discarded.buf.chunks(page).map(|page| (page[0], page[page.len() - 1])).collect();
    assert_eq!(sums, [(7, 7), (0, 0), (0, 0), (7, 7)]);
    let discard = Madvise::change(discarded.buf, MapChange::Discard).range(3 * page + 1..);
    let discarded = run(&mut ring, discard);
    discarded.result?;
    assert_eq!(discarded.buf[3 * page], 7, "less than a page");
    Ok(())
}

/// Cut to 32 bits, the length would be of one page.
fn long() -> Result<(), Failed> {
    let mut ring = small();
    let len = (4 << 30) + page_size();
    // Only two of its pages are ever touched.
    let mut map = MmapOptions::new().len(len).no_reserve_swap().map_anon()?;
    map[0] = 7;
    map[len - 1] = 7;
    let changed = run(&mut ring, Madvise::change(map, MapChange::Discard));
    // The kernel is asked, and not the bytes: emulated (aarch64, 6.12), the last of them was still
    // seen, twice, for a reason that is not known.
    let ends = (is_there(&changed.buf, 0)?, is_there(&changed.buf, len - 1)?);
    match changed.result {
        Ok(()) => assert_eq!(ends, (false, false), "the last byte is {}", changed.buf[len - 1]),
        Err(error) => {
            assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
            assert!(!here().has_op(Opcode::BIND), "Linux 6.11 can");
            assert_eq!(ends, (true, true));
        }
    }
    Ok(())
}

/// Whether the page of this byte is in memory (`mincore(2)`).
fn is_there(map: &MmapMut, at: usize) -> std::io::Result<bool> {
    let start = map.as_ptr().wrapping_add(at / page_size() * page_size());
    let mut page = 0_u8;
    // SAFETY: a page of a live map, of which the call reads nothing, and a byte for the answer.
    let status = unsafe { libc::mincore(start.cast_mut().cast(), 1, &raw mut page) };
    if status < 0 { Err(std::io::Error::last_os_error()) } else { Ok(page & 1 == 1) }
}

fn punch() -> Result<(), Failed> {
    let (mut ring, page) = (small(), page_size());
    let file = memory(&vec![7; 2 * page]);
    // SAFETY: nothing truncates the file, because no other process has it.
    let map = unsafe { MmapMut::map_mut(&file) }?;
    let punched = run(&mut ring, Madvise::change(map, MapChange::Punch).range(..page));
    punched.result?;
    assert_eq!((punched.buf[0], punched.buf[page]), (0, 7));
    let mut byte = [1];
    file.read_exact_at(&mut byte, 0)?;
    assert_eq!((byte[0], file.metadata()?.len()), (0, 2 * page as u64));
    Ok(())
}

fn borrowed() -> Result<(), Failed> {
    let mut ring = small();
    let mut map = map(1)?;
    ring.scope(|scope| {
        let ticket = scope.submit(Madvise::change(&mut map, MapChange::Discard));
        scope.wait(ticket.map_err(|rejected| rejected.why)?)?.result?;
        Ok::<_, Failed>(())
    })?;
    assert_eq!(map[0], 0);
    Ok(())
}

/// The two letters each that the kernel has for a map.
fn flags(map: &MmapMut) -> Option<Vec<String>> {
    let text = fs::read_to_string("/proc/self/smaps").ok()?;
    let address = map.as_ptr().addr();
    let holds = |line: &str| {
        let range = line.split_once(' ').map(|(range, _)| range);
        let (start, end) = range.and_then(|range| range.split_once('-'))?;
        let number = |text| usize::from_str_radix(text, 16).ok();
        Some(number(start)? <= address && address < number(end)?)
    };
    let lines = text.lines().skip_while(|line| holds(line) != Some(true));
    let line = lines.into_iter().find_map(|line| line.strip_prefix("VmFlags: "))?;
    Some(line.split_whitespace().map(str::to_owned).collect())
}

fn has(map: &MmapMut, name: &str) -> Option<bool> {
    flags(map).map(|flags| flags.iter().any(|flag| flag == name))
}

fn marks() -> Result<(), Failed> {
    let (mut ring, mut map) = (small(), map(1)?);
    let pairs = [
        (MapChange::WipeOnFork, MapChange::KeepOnFork, "wf"),
        (MapChange::DontDump, MapChange::DoDump, "dd"),
    ];
    for (mark, unmark, name) in pairs {
        assert_ne!(has(&map, name), Some(true), "{name}");
        map = change(&mut ring, map, mark)?;
        assert_ne!(has(&map, name), Some(false), "{name}");
        map = change(&mut ring, map, unmark)?;
        assert_ne!(has(&map, name), Some(true), "{name}");
    }
    // SAFETY: this test forks nothing, and what others fork has no use for the map.
    let forks = unsafe { Madvise::dont_fork(map) };
    let done = run(&mut ring, forks);
    done.result?;
    assert_ne!(has(&done.buf, "dc"), Some(false));
    map = change(&mut ring, done.buf, MapChange::DoFork)?;
    assert_ne!(has(&map, "dc"), Some(true));
    assert!(map.iter().all(|&byte| byte == 7));
    Ok(())
}

fn advice() -> Result<(), Failed> {
    let mut ring = small();
    let kinds = [
        MemoryAdvice::Normal,
        MemoryAdvice::Random,
        MemoryAdvice::Sequential,
        MemoryAdvice::WillNeed,
        MemoryAdvice::Cold,
        MemoryAdvice::PageOut,
        MemoryAdvice::PopulateRead,
        MemoryAdvice::PopulateWrite,
        MemoryAdvice::HugePage,
        MemoryAdvice::NoHugePage,
        MemoryAdvice::Collapse,
        MemoryAdvice::Mergeable,
        MemoryAdvice::Unmergeable,
    ];
    // On memory from the allocator, next to other memory of the allocator.
    let mut buf = AlignedBuf::new(10 * page_size() + 100, 64);
    buf.set_len(10 * page_size() + 100);
    buf.fill(7);
    for kind in kinds {
        let advised = run(&mut ring, Madvise::new(buf, kind));
        // A kernel need not know, nor have, each of them.
        let code = errno(&advised);
        assert!(matches!(code, None | Some(libc::EINVAL | libc::EAGAIN)), "{kind:?}: {code:?}");
        buf = advised.buf;
        assert!(buf.iter().all(|&byte| byte == 7), "{kind:?}");
    }
    run(&mut ring, Madvise::new(buf, MemoryAdvice::Normal).range(5..=6)).result?;
    Ok(())
}

/// How many bytes of a map are in memory.
fn resident(map: &MmapMut) -> usize {
    let mut pages = vec![0_u8; map.len() / page_size()];
    let (start, len) = (map.as_ptr().cast_mut().cast(), map.len());
    // SAFETY: writes a byte for each page, because `mincore(2)` says so.
    let done = unsafe { libc::mincore(start, len, pages.as_mut_ptr()) };
    assert_eq!(done, 0);
    pages.iter().filter(|&&page| page & 1 == 1).count() * page_size()
}

fn populate() -> Result<(), Failed> {
    let (mut ring, page) = (small(), page_size());
    let map = MmapMut::map_anon(4 * page)?;
    assert_eq!(resident(&map), 0);
    let advised = run(&mut ring, Madvise::new(map, MemoryAdvice::PopulateWrite).range(page..));
    match errno(&advised) {
        None => assert_eq!(resident(&advised.buf), 3 * page),
        // Before Linux 5.14.
        code => assert_eq!((code, resident(&advised.buf)), (Some(libc::EINVAL), 0)),
    }
    Ok(())
}

fn outside() -> Result<(), Failed> {
    let (mut ring, page) = (small(), page_size());
    let mut map = map(2)?;
    for range in [0..2 * page + 1, 2 * page + 1..3 * page] {
        let changed = run(&mut ring, Madvise::change(map, MapChange::Discard).range(range));
        let error = changed.result.expect_err("outside");
        assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::InvalidInput, None));
        assert!(error.to_string().contains("not in the memory"), "{error}");
        map = changed.buf;
    }
    assert!(map.iter().all(|&byte| byte == 7));
    Ok(())
}

fn unfit() -> Result<(), Failed> {
    let mut ring = small();
    // A private map has no file to punch a hole into.
    let punched = run(&mut ring, Madvise::change(map(1)?, MapChange::Punch));
    assert_eq!(errno(&punched), Some(libc::EINVAL));
    assert_eq!(punched.buf[0], 7);
    Ok(())
}
