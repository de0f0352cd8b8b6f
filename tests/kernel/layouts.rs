//! Every layout of ring memory that this kernel has: laps of entries and completions.
//!
//! ```text
//!   push 1 ─► push 2 wide ─► …          the user_data, results and second halves,
//!      laps of both rings ─────────►    in the same order
//! ```
//!
//! No ring here reaches the wrap of its 32-bit indices, since the kernel starts each at 0 and keeps
//! counts of its own. The example `02_nop` runs a real ring past 2³² when it is told to submit so
//! many NOPs, which takes some minutes; rings that start at the wrap are tested on a fake kernel,
//! in `tests/model/main.rs`.
#![allow(unsafe_code, reason = "pushes wide entries, maps rings by hand")]

use std::ptr::NonNull;

use annulus::sys::abi::{Cqe32, Sqe, Sqe128};
use annulus::sys::flags::{EnterFlags, Features, NopFlags, SetupFlags};
use annulus::sys::kernel::Kernel;
use annulus::sys::map::{Pages, page_size};
use annulus::sys::opcode::Opcode;
use annulus::sys::rings::Rings;
use annulus::sys::sq::PushWideError;
use annulus::sys::syscall::{EnterArg, RingFd};
use annulus::{RawRing, Setup, SetupError};
use libtest_mimic::{Failed, Trial};
use memmap2::MmapMut;

use crate::harness::{
    DEFERRING, Need, drain_user_data, here, nop, patient, push, read_byte, ring, test,
};

/// Every layout, with the flags that make it.
const LAYOUTS: [(&str, SetupFlags); 16] = [
    ("a_plain_ring", SetupFlags::empty()),
    ("wide_completions", SetupFlags::CQE32),
    ("wide_entries", SetupFlags::SQE128),
    ("both_wide", BOTH_WIDE),
    ("no_index_array", SetupFlags::NO_SQARRAY),
    ("mixed_completions", SetupFlags::CQE_MIXED),
    ("mixed_entries", SetupFlags::SQE_MIXED),
    ("both_mixed", SetupFlags::CQE_MIXED.union(SetupFlags::SQE_MIXED)),
    ("mixed_entries_and_wide_completions", SetupFlags::SQE_MIXED.union(SetupFlags::CQE32)),
    ("wide_entries_and_mixed_completions", SetupFlags::SQE128.union(SetupFlags::CQE_MIXED)),
    ("a_rewinding_ring", REWINDING),
    ("a_rewinding_ring_of_wide_entries", REWINDING.union(SetupFlags::SQE128)),
    ("a_rewinding_ring_of_mixed_entries", REWINDING.union(SetupFlags::SQE_MIXED)),
    ("own_memory", SetupFlags::NO_MMAP),
    ("own_memory_both_wide", SetupFlags::NO_MMAP.union(BOTH_WIDE)),
    ("no_descriptor", SetupFlags::NO_MMAP.union(SetupFlags::REGISTERED_FD_ONLY)),
];

const BOTH_WIDE: SetupFlags = SetupFlags::CQE32.union(SetupFlags::SQE128);
const REWINDING: SetupFlags = SetupFlags::SQ_REWIND.union(SetupFlags::NO_SQARRAY);
const OWN: [Need; 1] = [Need::Setup(SetupFlags::NO_MMAP)];

/// The tests.
pub fn tests() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (layout, flags) in LAYOUTS {
        for (mode, extra) in [("", SetupFlags::empty()), ("_deferring", DEFERRING)] {
            let (flags, name) =
                (flags | extra, format!("every_user_data_comes_back_from_{layout}{mode}"));
            let body = move || {
                let setup = Setup::plain(4).cq_entries(16).with(flags);
                let owns = flags.contains(SetupFlags::NO_MMAP);
                laps(&mut ring(if owns { setup.own_memory(Pages::Ordinary) } else { setup }))
            };
            trials.push(test(&name, &[Need::Setup(flags)], body));
        }
    }
    let deferring = Need::Setup(DEFERRING);
    let mixed = |flags| Need::Setup(flags);
    trials.extend([
        test("a_ring_lies_in_the_callers_memory_and_leaves_it_mapped", &OWN, at_the_callers),
        test("memory_that_is_too_small_for_a_ring_is_refused", &[], too_small),
        test("every_user_data_comes_back_from_a_ring_as_short_as_its_queue", &[], || {
            laps(&mut ring(Setup::plain(8).cq_entries(8)))
        }),
        test("every_user_data_comes_back_from_a_ring_of_one_entry", &[], || {
            laps(&mut ring(Setup::plain(1).cq_entries(1)))
        }),
        test("every_user_data_comes_back_from_the_recommended_ring", &[], || {
            laps(&mut ring(Setup::new(4)))
        }),
        test("every_user_data_comes_back_from_a_device_polling_ring", &[POLLED], || {
            laps(&mut ring(Setup::plain(4).with(SetupFlags::IOPOLL)))
        }),
        test(
            "every_user_data_comes_back_from_a_device_polling_ring_deferring",
            &[POLLED, deferring],
            || laps(&mut ring(Setup::plain(4).with(SetupFlags::IOPOLL | DEFERRING))),
        ),
        test("every_user_data_comes_back_from_a_hybrid_polling_ring", &[POLLED, HYBRID], || {
            laps(&mut ring(Setup::plain(4).with(SetupFlags::IOPOLL | SetupFlags::HYBRID_IOPOLL)))
        }),
        test("every_user_data_comes_back_from_a_ring_enabled_late", &[], || {
            enabled_late(Setup::plain(4))
        }),
        test("every_user_data_comes_back_from_a_ring_enabled_late_deferring", &[deferring], || {
            enabled_late(Setup::plain(4).with(DEFERRING))
        }),
        test("every_user_data_comes_back_from_huge_pages", &HUGE, huge_pages),
        test("two_maps_are_one_ring", &[], || two_maps(SetupFlags::empty())),
        test("two_maps_are_one_wide_ring", &[Need::Setup(BOTH_WIDE)], || two_maps(BOTH_WIDE)),
        test(
            "a_filler_before_a_wide_completion_is_skipped",
            &[mixed(SetupFlags::CQE_MIXED)],
            filler,
        ),
        test("sq3_padding_before_a_wide_entry_is_silent", &[mixed(SetupFlags::SQE_MIXED)], padding),
        test(
            "sq3_a_full_mixed_ring_refuses_whole_entries",
            &[mixed(SetupFlags::SQE_MIXED)],
            || full_of_wide(ring(Setup::plain(8).with(SetupFlags::SQE_MIXED))),
        ),
        test("a_narrow_ring_refuses_wide_entries", &[], narrow),
        test("rg1_own_memory_is_unmapped_when_idle", &OWN, || unmapped_when_idle(Pages::Ordinary)),
        test("rg1_own_huge_pages_are_unmapped_when_idle", &HUGE, || {
            unmapped_when_idle(Pages::Huge)
        }),
        test("rg1_own_memory_is_leaked_with_a_request_in_flight", &OWN, leaked_in_flight),
        test("rg1_own_memory_is_leaked_with_an_entry_never_submitted", &OWN, leaked_unsubmitted),
    ]);
    trials
}

const HYBRID: Need = Need::Setup(SetupFlags::IOPOLL.union(SetupFlags::HYBRID_IOPOLL));
const HUGE: [Need; 2] = [OWN[0], Need::Other(lacks_huge_pages)];

const POLLED: Need = Need::Other(polls_no_nop);

/// Older kernels take only reads and writes there.
fn polls_no_nop() -> Option<String> {
    let mut ring = ring(Setup::plain(1).with(SetupFlags::IOPOLL));
    push(&mut ring, nop(0));
    let result = ring.submit_and_wait(1).ok().and_then(|_| ring.pop()).map(|cqe| cqe.res);
    (result != Some(0)).then(|| "needs a kernel that takes a NOP with IOPOLL".to_owned())
}

fn lacks_huge_pages() -> Option<String> {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let free = info.lines().find_map(|line| line.strip_prefix("HugePages_Free:"));
    let free: u32 = free.and_then(|count| count.trim().parse().ok()).unwrap_or(0);
    (free < 2).then(|| format!("needs vm.nr_hugepages of 2 at least, of which {free} are free"))
}

/// A different `user_data` for each number, with all bits in use.
fn user_data_of(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x0123_4567_89ab_cdef
}

/// The completion of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Outcome {
    user_data: u64,
    big: [u64; 2],
}

/// Which kinds of NOP a ring takes.
struct Kinds {
    wide_entries: bool,
    wide_completions: bool,
}

impl Kinds {
    fn of(ring: &RawRing) -> Self {
        let flags = ring.flags();
        let wide_cqe = SetupFlags::CQE32 | SetupFlags::CQE_MIXED;
        let wide_sqe = SetupFlags::SQE128 | SetupFlags::SQE_MIXED;
        Self {
            wide_entries: flags.intersects(wide_sqe) && here().has_op(Opcode::NOP128),
            // A NOP learned to complete wide in the release that introduced mixed rings.
            wide_completions: flags.intersects(wide_cqe)
                && here().setup_flags().contains(SetupFlags::CQE_MIXED),
        }
    }

    /// Pushes the NOP of this number; `None` when there is no room for it.
    fn push(&self, ring: &mut RawRing, number: u64) -> Option<Outcome> {
        let mut expected = Outcome { user_data: user_data_of(number), big: [0; 2] };
        let mut sqe = nop(expected.user_data);
        if self.wide_completions && number % 3 == 1 {
            expected.big = [user_data_of(!number), !user_data_of(number)];
            [sqe.off, sqe.addr] = expected.big;
            sqe.op_flags = NopFlags::CQE32.bits();
        }
        let pushed = if self.wide_entries && number % 4 >= 2 {
            let first = Sqe { opcode: Opcode::NOP128, ..sqe };
            // SAFETY: a NOP points to nothing (OP1).
            unsafe { ring.push_wide(Sqe128 { first, rest: [user_data_of(number); 8] }) }.is_ok()
        } else {
            // SAFETY: a NOP points to nothing (OP1).
            unsafe { ring.push(sqe) }.is_ok()
        };
        pushed.then_some(expected)
    }
}

/// Takes the completions that are there.
fn take(ring: &mut RawRing) -> Vec<Outcome> {
    let popped = std::iter::from_fn(|| ring.pop_wide());
    let outcome = |Cqe32 { first, big }: Cqe32| {
        assert_eq!(first.res, 0);
        Outcome { user_data: first.user_data, big }
    };
    popped.map(outcome).collect()
}

/// More than three laps of both rings, in batches of every length; each `user_data` comes back
/// unchanged.
fn laps(ring: &mut RawRing) -> Result<(), Failed> {
    let kinds = Kinds::of(ring);
    let entries = ring.sq_entries();
    let (mut number, mut batch) = (0, 0);
    let end = u64::from(4 * ring.cq_entries().max(entries));
    while number < end {
        batch = batch % entries + 1;
        let mut expected = Vec::new();
        while expected.len() < batch as usize {
            let Some(outcome) = kinds.push(ring, number) else { break };
            expected.push(outcome);
            number += 1;
        }
        let count = u32::try_from(expected.len())?;
        assert!(count > 0, "no room in an empty ring");
        assert_eq!(ring.in_flight(), count);
        ring.submit_and_wait(count)?;
        assert_eq!(ring.ready(), count);
        assert_eq!(take(ring), expected);
    }
    assert_eq!((ring.in_flight(), ring.room(), ring.lost()), (0, entries, 0));
    let stats = ring.stats();
    assert_eq!((stats.cqes, stats.overflows), (number, 0));
    if !kinds.wide_entries {
        assert_eq!(stats.sqes, number);
    }
    Ok(())
}

fn enabled_late(setup: Setup<'_>) -> Result<(), Failed> {
    let disabled = patient(|| setup.build_disabled())?;
    let mut ring = disabled.enable_raw().map_err(|(_, errno)| format!("enable: {errno}"))?;
    laps(&mut ring)
}

/// Waits for the pages of dropped rings, which the kernel lets go a little late.
fn await_huge_pages() {
    for _ in 0..1000 {
        if lacks_huge_pages().is_none() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

fn huge_pages() -> Result<(), Failed> {
    await_huge_pages();
    // Far more than one ordinary page, so that the memory after it is used.
    let mut ring = ring(Setup::plain(64).cq_entries(512).own_memory(Pages::Huge));
    laps(&mut ring)
}

/// The layout of kernels before 5.4, which every later kernel still offers on request.
fn two_maps(flags: SetupFlags) -> Result<(), Failed> {
    let whole = ring(Setup::plain(4).with(flags));
    let mut params = *whole.base().params();
    assert!(params.features.contains(Features::SINGLE_MMAP));
    params.features -= Features::SINGLE_MMAP;
    let fd = RingFd::Owned(whole.fd().ok_or("a descriptor")?.try_clone_to_owned()?);
    drop(whole);
    // SAFETY: `params` is what its set-up returned, but for the withheld feature; the other mapping
    // is gone, because the ring that had it was dropped.
    let mut rings = unsafe { Rings::adopt(&Kernel::LINUX, fd, params) }?;
    assert_eq!(rings.halves().0.memory().len(), 3);
    laps_by_hand(&mut rings)
}

fn laps_by_hand(rings: &mut Rings) -> Result<(), Failed> {
    for lap in 0..5 {
        for at in 0..4 {
            // SAFETY: a NOP points to nothing (OP1).
            unsafe { rings.sq().push(nop(user_data_of(4 * lap + at))) }?;
        }
        assert_eq!(rings.sq().flush(), 4);
        let (ring, flags) = (rings.base().fd().by_ref(), EnterFlags::GETEVENTS);
        // SAFETY: the requests in the ring are NOPs (OP1).
        let count = unsafe { rings.base().kernel().enter(ring, 4, 4, flags, EnterArg::None) };
        assert_eq!(count, Ok(4));
        for at in 0..4 {
            let popped = rings.cq().pop().map(|cqe| cqe.user_data);
            assert_eq!(popped, Some(user_data_of(4 * lap + at)));
        }
    }
    Ok(())
}

/// A wide completion that would straddle the end of the ring comes after a filler, at every
/// position where that can happen.
fn filler() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4).with(SetupFlags::CQE_MIXED));
    let kinds = Kinds { wide_entries: false, wide_completions: true };
    let mut fillers = 0;
    for _ in 0..40 {
        let before = ring.positions().cq_tail;
        // Numbers 0 and 1: a narrow one, a wide one.
        let expected: Vec<_> = (0..2).filter_map(|number| kinds.push(&mut ring, number)).collect();
        ring.submit_and_wait(2)?;
        assert_eq!(ring.ready(), 2);
        let slots = ring.positions().cq_tail.distance_from(before);
        assert!(slots == 3 || slots == 4, "{slots} slots for 1 + 2");
        fillers += slots - 3;
        assert_eq!(take(&mut ring), expected);
        assert_eq!((ring.ready(), ring.in_flight()), (0, 0));
        assert_eq!(ring.positions().cq_head, ring.positions().cq_tail);
    }
    assert!(fillers > 3, "the wrap was met {fillers} times");
    assert_eq!(ring.stats().cqes, 80);
    Ok(())
}

/// Seven narrow entries, then a wide one: the eighth slot is padding, and completes nothing.
fn padding() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(8).with(SetupFlags::SQE_MIXED));
    for lap in 0..4 {
        (0..7).for_each(|user_data| push(&mut ring, nop(user_data)));
        ring.submit_and_wait(7)?;
        assert_eq!(drain_user_data(&mut ring), [0, 1, 2, 3, 4, 5, 6]);
        let before = ring.positions().sq_written;
        let first = Sqe { opcode: Opcode::NOP128, ..nop(7 + lap) };
        // SAFETY: a NOP points to nothing (OP1).
        unsafe { ring.push_wide(Sqe128 { first, rest: [u64::MAX; 8] }) }?;
        assert_eq!(ring.positions().sq_written.distance_from(before), 3);
        assert_eq!(ring.in_flight(), 1);
        ring.submit_and_wait(1)?;
        assert_eq!(drain_user_data(&mut ring), [7 + lap]);
        assert_eq!((ring.room(), ring.in_flight()), (8, 0));
        // On to where the next lap begins.
        (0..6).for_each(|user_data| push(&mut ring, nop(user_data)));
        ring.submit_and_wait(6)?;
        assert_eq!(drain_user_data(&mut ring), [0, 1, 2, 3, 4, 5]);
    }
    assert_eq!((ring.lost(), ring.stats().cqes), (0, 4 * (7 + 1 + 6)));
    Ok(())
}

fn full_of_wide(mut ring: RawRing) -> Result<(), Failed> {
    let wide = |user_data| {
        let first = Sqe { opcode: Opcode::NOP128, ..nop(user_data) };
        Sqe128 { first, rest: [0; 8] }
    };
    push(&mut ring, nop(0));
    for user_data in 1..=3 {
        // SAFETY: a NOP points to nothing (OP1).
        unsafe { ring.push_wide(wide(user_data)) }?;
    }
    assert_eq!(ring.room(), 1);
    // SAFETY: a NOP points to nothing (OP1).
    let refused = unsafe { ring.push_wide(wide(4)) };
    assert_eq!(refused, Err(PushWideError::Full));
    assert_eq!((ring.room(), ring.in_flight()), (1, 4));
    push(&mut ring, nop(4));
    ring.submit_and_wait(5)?;
    assert_eq!(drain_user_data(&mut ring), [0, 1, 2, 3, 4]);
    Ok(())
}

fn narrow() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4));
    // SAFETY: a NOP points to nothing (OP1).
    let refused = unsafe { ring.push_wide(Sqe128::ZERO) };
    assert_eq!(refused, Err(PushWideError::Narrow));
    assert_eq!((ring.room(), ring.in_flight()), (4, 0));
    laps(&mut ring)
}

/// Where the ring of `setup` lies in own memory: the rings, the entries.
pub fn own_places(ring: &RawRing) -> [usize; 2] {
    let params = ring.base().params();
    [params.cq_off.user_addr, params.sq_off.user_addr]
        .map(|at| usize::try_from(at).expect("an address"))
}

/// Whether something is mapped at `address`.
pub fn is_mapped(address: usize) -> bool {
    let page = std::ptr::without_provenance_mut(address - address % page_size());
    let mut residency = 0_u8;
    // SAFETY: one live byte for one page, because `residency` is a local.
    let answer = unsafe { libc::mincore(page, page_size(), &raw mut residency) };
    answer == 0
}

fn unmapped_when_idle(pages: Pages) -> Result<(), Failed> {
    // Another thread may map something there meanwhile, but not every time.
    let mut unmapped = 0;
    for _ in 0..10 {
        if pages == Pages::Huge {
            await_huge_pages();
        }
        let mut ring = ring(Setup::plain(4).own_memory(pages));
        push(&mut ring, nop(1));
        ring.submit_and_wait(1)?;
        assert_eq!(drain_user_data(&mut ring), [1]);
        let places = own_places(&ring);
        assert!(places.into_iter().all(is_mapped));
        drop(ring);
        unmapped += u32::from(!places.into_iter().any(is_mapped));
    }
    assert!(unmapped > 0, "an idle ring's memory is leaked");
    Ok(())
}

fn leaked_in_flight() -> Result<(), Failed> {
    let (from, to) = std::io::pipe()?;
    let mut ring = ring(Setup::plain(4).own_memory(Pages::Ordinary));
    push(&mut ring, read_byte(&from, 1));
    ring.submit()?;
    let places = own_places(&ring);
    drop(ring);
    assert!(places.into_iter().all(is_mapped), "the kernel still has the memory");
    drop(to); // Only now does the read end.
    Ok(())
}

/// An entry that was pushed and whose completion was not popped is in flight, submitted or not.
fn leaked_unsubmitted() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4).own_memory(Pages::Ordinary));
    push(&mut ring, nop(1));
    ring.submit()?;
    push(&mut ring, nop(2));
    let places = own_places(&ring);
    drop(ring);
    assert!(places.into_iter().all(is_mapped));
    Ok(())
}

fn memory(bytes: usize) -> Result<MmapMut, Failed> {
    let mut memory = MmapMut::map_anon(bytes)?;
    memory.fill(0xaa);
    Ok(memory)
}

fn at_the_callers() -> Result<(), Failed> {
    for flags in [SetupFlags::empty(), BOTH_WIDE] {
        let setup = Setup::plain(4).cq_entries(16).with(flags);
        let (size, more) = (setup.memory_size(), page_size());
        assert!(size.is_multiple_of(page_size()));
        let mut memory = memory(size + more)?;
        let place = NonNull::from(&mut memory[..]);
        let range = place.cast::<u8>().addr().get()..place.cast::<u8>().addr().get() + size;
        for _ in 0..3 {
            // SAFETY: a private mapping, which nothing uses until the ring is gone, idle (RG1).
            let mut ring = ring(unsafe { setup.clone().memory_at(place) });
            assert!(own_places(&ring).into_iter().all(|at| range.contains(&at)), "{flags:?}");
            laps(&mut ring)?;
        }
        assert!(own_is_used(&memory[..size]), "the kernel wrote nothing there");
        assert!(memory[size..].iter().all(|&byte| byte == 0xaa), "beyond what was asked for");
        memory.fill(0x55); // It is still mapped.
    }
    Ok(())
}

/// Cleared, and then written.
fn own_is_used(memory: &[u8]) -> bool {
    memory.contains(&0) && memory.iter().any(|&byte| byte != 0 && byte != 0xaa)
}

fn too_small() -> Result<(), Failed> {
    let setup = Setup::plain(64).cq_entries(1024);
    let mut memory = memory(setup.memory_size())?;
    let short = NonNull::from(&mut memory[..setup.memory_size() - 1]);
    // SAFETY: a private mapping, which nothing else uses; no ring is made (RG1).
    let refused = unsafe { setup.clone().memory_at(short) }.build_raw().map(drop);
    assert!(matches!(refused, Err(SetupError::Invalid { .. })), "{refused:?}");
    let setup = Setup::plain(4);
    let crooked = NonNull::from(&mut memory[8..]);
    // SAFETY: a private mapping, which nothing else uses; no ring is made (RG1).
    let refused = unsafe { setup.clone().memory_at(crooked) }.build_raw().map(drop);
    assert!(matches!(refused, Err(SetupError::Invalid { .. })), "{refused:?}");
    Ok(())
}
