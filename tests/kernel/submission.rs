//! Entries on their way to the kernel: refused, filled in place, reserved, chained, or consumed in
//! part.
//!
//! Indices near the wrap cannot be reached here: see `layouts`.
#![allow(unsafe_code, reason = "pushes entries, and tampers with the index array")]

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use annulus::sys::abi::{Cqe, Sqe};
use annulus::sys::flags::{EnterFlags, Features, OFF_SQ_RING, SetupFlags, SqeFlags};
use annulus::sys::map::Map;
use annulus::sys::opcode::Opcode;
use annulus::sys::sq::Full;
use annulus::sys::syscall::EnterArg;
use annulus::{EnterCause, RawRing, Setup};
use libtest_mimic::{Failed, Trial};

use crate::harness::{
    DEFERRING, Need, drain, drain_user_data, in_each_mode, nop, patient, push, ring, test,
};

const SUBMIT_ALL: Need = Need::Setup(SetupFlags::SUBMIT_ALL);
const REWINDING: SetupFlags = SetupFlags::SQ_REWIND.union(SetupFlags::NO_SQARRAY);
const REWIND: Need = Need::Setup(REWINDING);
const WIDE: Need = Need::Setup(SetupFlags::SQE128);

/// The tests.
pub fn tests() -> Vec<Trial> {
    let mut trials = in_each_mode("sq2_a_full_ring_refuses_then_recovers", &[], full_ring);
    trials.extend(in_each_mode("links_end_with_the_first_failure", &[], links));
    trials.extend([
        test("sq2_a_full_rewinding_ring_refuses_then_recovers", &[REWIND], || full_ring(REWINDING)),
        test("sq3_an_entry_filled_in_place_is_whole", &[], || filled_in_place(Setup::plain(2))),
        test("sq3_a_wide_entry_filled_in_place_is_whole", &[WIDE], || {
            filled_in_place(Setup::plain(2).with(SetupFlags::SQE128))
        }),
        test("sq3_an_unwinding_fill_pushes_nothing", &[], unwinding_fill),
        test("sq3_what_is_pushed_is_unseen_until_flushed", &[], unseen),
        test("fewer_can_be_submitted_than_were_flushed", &[], fewer),
        test("a_dropped_chain_was_never_pushed", &[], dropped_chain),
        test("a_committed_chain_gives_back_what_is_left", &[], committed_chain),
        test("an_unwinding_chain_was_never_pushed", &[], unwinding_chain),
        test("a_chain_makes_itself_room", &[], chain_makes_room),
        test("a_chain_longer_than_the_ring_has_no_room", &[], chain_too_long),
        test("no_flush_cuts_a_chain", &[], uncut_chain),
        test("a_flush_would_cut_links_pushed_one_by_one", &[], cut_links),
        test("a_bad_entry_in_the_middle_takes_another_enter", &[], bad_middle),
        test("a_bad_entry_in_the_middle_takes_one_enter_with_submit_all", &[SUBMIT_ALL], || {
            bad_entries(SetupFlags::SUBMIT_ALL, &[2], 1)
        }),
        test("a_bad_entry_in_a_rewinding_ring_moves_the_rest_down", &[REWIND], bad_rewound),
        test("a_bad_entry_in_a_wide_rewinding_ring_moves_the_rest_down", &[REWIND, WIDE], || {
            bad_entries(REWINDING | SetupFlags::SQE128, &[1, 2], 3)
        }),
        test("a_batch_of_bad_entries_is_submitted", &[], || {
            bad_entries(SetupFlags::empty(), &[1, 2, 3, 4], 4)
        }),
        test("a_bad_batch_is_submitted_deferring", &[Need::Setup(DEFERRING)], || {
            bad_entries(DEFERRING, &[1, 3], 3)
        }),
        test("a_worker_thread_runs_what_asks_for_one", &[], on_a_worker),
        test("a_skipped_completion_is_none", &[Need::Feature(Features::CQE_SKIP)], skipped),
        test("a_disabled_ring_refuses_to_be_entered", &[], disabled),
        test("an_index_out_of_range_drops_its_entry", &[], dropped_index),
        test("stats_count_what_was_consumed", &[], stats),
    ]);
    trials
}

/// An entry that no kernel takes.
fn bad(user_data: u64) -> Sqe {
    Sqe { opcode: Opcode(u8::MAX), ..nop(user_data) }
}

/// Closes no file, and fails when it runs.
fn failing(user_data: u64) -> Sqe {
    Sqe { opcode: Opcode::CLOSE, ..nop(user_data) }
}

fn linked(sqe: Sqe) -> Sqe {
    Sqe { flags: SqeFlags::IO_LINK, ..sqe }
}

/// The `user_data` and the result of every completion there is.
fn outcomes(ring: &mut RawRing) -> Vec<(u64, i32)> {
    drain(ring).into_iter().map(|Cqe { user_data, res, .. }| (user_data, res)).collect()
}

/// [`outcomes`] in the order of their `user_data`: failed entries may complete later.
fn sorted(ring: &mut RawRing) -> Vec<(u64, i32)> {
    let mut outcomes = outcomes(ring);
    outcomes.sort_unstable();
    outcomes
}

fn full_ring(flags: SetupFlags) -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4).with(flags));
    for _ in 0..5 {
        for user_data in 0..4 {
            push(&mut ring, nop(user_data));
        }
        for _ in 0..2 {
            // SAFETY: a NOP points to nothing (OP1).
            assert_eq!(unsafe { ring.push(nop(9)) }, Err(Full));
            // SAFETY: nothing is filled in (OP1).
            assert_eq!(unsafe { ring.push_with(|_| panic!("there is no slot")) }, Err(Full));
        }
        assert_eq!((ring.room(), ring.in_flight()), (0, 4));
        assert_eq!(ring.submit(), Ok(4));
        assert_eq!((ring.room(), ring.in_flight()), (4, 4));
        assert_eq!(outcomes(&mut ring), [(0, 0), (1, 0), (2, 0), (3, 0)]);
        assert_eq!(ring.in_flight(), 0);
    }
    Ok(())
}

fn filled_in_place(setup: Setup<'_>) -> Result<(), Failed> {
    let mut ring = ring(setup);
    // Each slot holds an entry with every field set: none of it may be left.
    for user_data in 0..2 {
        push(&mut ring, Sqe { ioprio: 7, len: 7, op_flags: !0, addr3: !0, ..bad(user_data) });
    }
    ring.submit_and_wait(2)?;
    assert_eq!(outcomes(&mut ring), [(0, -libc::EINVAL), (1, -libc::EINVAL)]);
    for user_data in 2..8 {
        // SAFETY: a NOP points to nothing (OP1).
        unsafe {
            ring.push_with(|sqe| {
                assert_eq!(*sqe, Sqe::ZERO);
                sqe.user_data = user_data;
            })
        }?;
        ring.submit_and_wait(1)?;
        assert_eq!(outcomes(&mut ring), [(user_data, 0)]);
    }
    Ok(())
}

fn unwinding_fill() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4));
    push(&mut ring, nop(1));
    let before = ring.positions();
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: nothing is pushed (OP1).
        unsafe {
            ring.push_with(|sqe| {
                *sqe = bad(2);
                resume_unwind(Box::new("unwinds without printing"));
            })
        }
    }));
    assert!(unwound.is_err());
    assert_eq!(ring.positions(), before);
    assert_eq!(ring.in_flight(), 1);
    push(&mut ring, nop(3));
    assert_eq!(ring.submit_and_wait(2), Ok(2));
    assert_eq!(outcomes(&mut ring), [(1, 0), (3, 0)]);
    Ok(())
}

fn unseen() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4));
    push(&mut ring, nop(1));
    let positions = ring.positions();
    assert_eq!((positions.sq_written.to_raw(), positions.sq_tail.to_raw()), (1, 0));
    // The kernel is told of four entries, and sees none.
    assert_eq!(ring.enter(4, 0, EnterFlags::GETEVENTS, EnterArg::None), Ok(0));
    assert_eq!((ring.ready(), ring.in_flight()), (0, 1));
    assert_eq!(ring.flush(), 1);
    assert_eq!(ring.positions().sq_tail.to_raw(), 1);
    assert_eq!(ring.enter(4, 0, EnterFlags::GETEVENTS, EnterArg::None), Ok(1));
    assert_eq!(outcomes(&mut ring), [(1, 0)]);
    assert_eq!(ring.flush(), 0);
    Ok(())
}

fn fewer() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4));
    (0..4).for_each(|user_data| push(&mut ring, nop(user_data)));
    assert_eq!(ring.flush(), 4);
    assert_eq!(ring.enter(1, 0, EnterFlags::empty(), EnterArg::None), Ok(1));
    assert_eq!((ring.room(), ring.flush()), (1, 3));
    assert_eq!(ring.submit(), Ok(3));
    assert_eq!(drain_user_data(&mut ring), [0, 1, 2, 3]);
    assert_eq!(ring.stats().sqes, 4);
    Ok(())
}

fn dropped_chain() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4));
    push(&mut ring, nop(1));
    let before = ring.positions();
    for _ in 0..3 {
        let mut chain = ring.reserve(3)?;
        for _ in 0..3 {
            // SAFETY: it is never committed, and points to nothing (OP1).
            unsafe { chain.push(bad(2)) }?;
        }
        // SAFETY: it is not pushed (OP1).
        assert_eq!(unsafe { chain.push(bad(3)) }, Err(Full));
        drop(chain);
        assert_eq!(ring.positions(), before);
        assert_eq!((ring.in_flight(), ring.room()), (1, 3));
    }
    assert_eq!(ring.submit_and_wait(1), Ok(1));
    assert_eq!(outcomes(&mut ring), [(1, 0)]);
    Ok(())
}

fn committed_chain() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4));
    let mut chain = ring.reserve(4)?;
    // SAFETY: a NOP points to nothing (OP1).
    unsafe { chain.push(nop(1)) }?;
    assert_eq!(chain.left(), 3);
    chain.commit();
    assert_eq!((ring.in_flight(), ring.room()), (1, 3));
    (2..5).for_each(|user_data| push(&mut ring, nop(user_data)));
    assert_eq!(ring.submit_and_wait(4), Ok(4));
    assert_eq!(drain_user_data(&mut ring), [1, 2, 3, 4]);
    Ok(())
}

fn unwinding_chain() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4));
    let before = ring.positions();
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        let mut chain = ring.reserve(2).expect("an empty ring");
        // SAFETY: it is never committed, and points to nothing (OP1).
        unsafe { chain.push(bad(1)) }.expect("it is reserved");
        resume_unwind(Box::new("unwinds without printing"));
    }));
    assert!(unwound.is_err());
    assert_eq!(ring.positions(), before);
    assert_eq!((ring.submit(), ring.stats().enters), (Ok(0), 0));
    Ok(())
}

fn chain_makes_room() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4));
    (1..4).for_each(|user_data| push(&mut ring, nop(user_data)));
    let mut chain = ring.reserve(3)?;
    // SAFETY: a NOP points to nothing (OP1).
    unsafe { chain.push(nop(4)) }?;
    chain.commit();
    assert_eq!((ring.stats().enters, ring.stats().sqes), (1, 3));
    assert_eq!(ring.submit_and_wait(4), Ok(1));
    assert_eq!(drain_user_data(&mut ring), [1, 2, 3, 4]);
    Ok(())
}

fn chain_too_long() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4));
    push(&mut ring, nop(1));
    let error = ring.reserve(5).map(drop).expect_err("there are four slots");
    assert_eq!(error.cause, EnterCause::TooFewSlots { count: 5, entries: 4 });
    assert_eq!((error.submitted, ring.stats().enters), (0, 0));
    assert_eq!(ring.submit_and_wait(1), Ok(1));
    assert_eq!(drain_user_data(&mut ring), [1]);
    Ok(())
}

fn links(flags: SetupFlags) -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(8).with(flags));
    let mut chain = ring.reserve(4)?;
    for sqe in [linked(nop(1)), linked(failing(2)), linked(nop(3)), nop(4)] {
        // SAFETY: a NOP points to nothing, nor does closing (OP1).
        unsafe { chain.push(sqe) }?;
    }
    chain.commit();
    push(&mut ring, nop(5));
    assert_eq!(ring.submit_and_wait(5), Ok(5));
    let (failed, cancelled) = (-libc::EBADF, -libc::ECANCELED);
    assert_eq!(sorted(&mut ring), [(1, 0), (2, failed), (3, cancelled), (4, cancelled), (5, 0)]);
    Ok(())
}

/// The head of the chain meets a full ring.
fn uncut_chain() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4));
    (1..4).for_each(|user_data| push(&mut ring, nop(user_data)));
    let mut chain = ring.reserve(2)?;
    for sqe in [linked(failing(4)), nop(5)] {
        // SAFETY: a NOP points to nothing, nor does closing (OP1).
        unsafe { chain.push(sqe) }?;
    }
    chain.commit();
    ring.submit_and_wait(5)?;
    assert_eq!(sorted(&mut ring)[3..], [(4, -libc::EBADF), (5, -libc::ECANCELED)]);
    Ok(())
}

/// Why chains exist: with a submission in between, the second entry is not linked to the first.
fn cut_links() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4));
    (1..4).for_each(|user_data| push(&mut ring, nop(user_data)));
    push(&mut ring, linked(failing(4)));
    ring.submit()?;
    push(&mut ring, nop(5));
    ring.submit_and_wait(5)?;
    assert_eq!(sorted(&mut ring)[3..], [(4, -libc::EBADF), (5, 0)]);
    Ok(())
}

/// Four entries, those in `bad_ones` bad: all are submitted, in so many enters, and all complete.
fn bad_entries(flags: SetupFlags, bad_ones: &[u64], enters: u64) -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4).with(flags));
    for lap in 1..=5 {
        let is_bad = |user_data| bad_ones.contains(&user_data);
        let expected =
            (1..=4).map(|user_data| (user_data, if is_bad(user_data) { -libc::EINVAL } else { 0 }));
        (1..=4).for_each(|user_data| {
            push(&mut ring, if is_bad(user_data) { bad(user_data) } else { nop(user_data) })
        });
        assert_eq!(ring.submit(), Ok(4));
        assert_eq!((ring.room(), ring.in_flight()), (4, 4));
        let stats = ring.stats();
        assert_eq!((stats.sqes, stats.enters), (4 * lap, enters * lap));
        assert_eq!(sorted(&mut ring), expected.collect::<Vec<_>>());
    }
    Ok(())
}

fn bad_middle() -> Result<(), Failed> {
    bad_entries(SetupFlags::empty(), &[2], 2)?;
    // After the last one there is nothing left to enter for.
    bad_entries(SetupFlags::empty(), &[4], 1)
}

fn bad_rewound() -> Result<(), Failed> {
    bad_entries(REWINDING, &[1], 2)?;
    bad_entries(REWINDING, &[2], 2)?;
    bad_entries(REWINDING, &[1, 2, 3], 4)
}

fn on_a_worker() -> Result<(), Failed> {
    let mut ring = ring(Setup::new(4));
    for user_data in 0..8 {
        push(&mut ring, Sqe { flags: SqeFlags::ASYNC, ..nop(user_data) });
        assert_eq!(ring.submit_and_wait(1), Ok(1));
        assert_eq!(outcomes(&mut ring), [(user_data, 0)]);
    }
    Ok(())
}

fn skipped() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4));
    for user_data in 0..8 {
        push(&mut ring, Sqe { flags: SqeFlags::CQE_SKIP_SUCCESS, ..nop(user_data) });
        push(&mut ring, Sqe { flags: SqeFlags::CQE_SKIP_SUCCESS, ..failing(10 + user_data) });
        assert_eq!(ring.submit_and_wait(1), Ok(2));
        assert_eq!(outcomes(&mut ring), [(10 + user_data, -libc::EBADF)]);
    }
    assert_eq!(ring.stats().cqes, 8);
    Ok(())
}

fn disabled() -> Result<(), Failed> {
    let disabled = patient(|| Setup::plain(4).build_disabled())?;
    let base = disabled.rings().base();
    let ring = base.fd().by_ref();
    for (to_submit, flags) in [(0, EnterFlags::empty()), (1, EnterFlags::GETEVENTS)] {
        // SAFETY: nothing was pushed (OP1).
        let entered = unsafe { base.kernel().enter(ring, to_submit, 0, flags, EnterArg::None) };
        let errno = entered.expect_err("the ring is disabled");
        assert_eq!(EnterCause::from(errno), EnterCause::Disabled);
    }
    let mut ring = disabled.enable_raw().map_err(|(_, errno)| format!("enable: {errno}"))?;
    push(&mut ring, nop(1));
    assert_eq!(ring.submit_and_wait(1), Ok(1));
    assert_eq!(drain_user_data(&mut ring), [1]);
    Ok(())
}

/// A second view of the atomics of a ring.
struct Tampering {
    map: Map,
}

impl Tampering {
    fn with(ring: &RawRing) -> Result<Self, Failed> {
        let array = ring.base().params().sq_off.array as usize;
        let len = array + 4 * ring.sq_entries() as usize;
        let map = Map::of_ring(ring.fd().ok_or("a descriptor")?, OFF_SQ_RING, len)?;
        Ok(Self { map })
    }

    fn word(&self, offset: u32, index: usize) -> &AtomicU32 {
        let words: NonNull<AtomicU32> = self.map.at(offset as usize, index + 1);
        // SAFETY: in bounds, because `at` checked.
        let word = unsafe { words.add(index) };
        // SAFETY: mapped as long as `self`; no access to it races with ours, because the kernel
        // reads the array only in an enter of ours.
        unsafe { word.as_ref() }
    }
}

/// The entry is lost, and so is its completion; those around it are not, and `in_flight` still
/// counts it.
fn dropped_index() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4));
    let offsets = ring.base().params().sq_off;
    let words = Tampering::with(&ring)?;
    let slots: Vec<u32> =
        (0..4).map(|index| words.word(offsets.array, index).load(Ordering::Relaxed)).collect();
    assert_eq!(slots, [0, 1, 2, 3], "filled once, and never written to again");
    for lap in 1..=3 {
        words.word(offsets.array, 1).store(99, Ordering::Relaxed);
        (0..4).for_each(|user_data| push(&mut ring, nop(user_data)));
        assert_eq!(ring.submit(), Ok(3), "the entry dropped is not counted");
        assert_eq!(ring.room(), 4);
        assert_eq!(outcomes(&mut ring), [(0, 0), (2, 0), (3, 0)]);
        assert_eq!(words.word(offsets.dropped, 0).load(Ordering::Relaxed), lap);
        assert_eq!(ring.in_flight(), lap);
        words.word(offsets.array, 1).store(1, Ordering::Relaxed);
        (0..4).for_each(|user_data| push(&mut ring, nop(user_data)));
        assert_eq!(ring.submit(), Ok(4));
        assert_eq!(drain_user_data(&mut ring), [0, 1, 2, 3]);
    }
    // Alone in its batch, nothing is consumed, and yet nothing is stuck.
    words.word(offsets.array, 0).store(u32::MAX, Ordering::Relaxed);
    push(&mut ring, nop(0));
    assert_eq!((ring.submit(), ring.room()), (Ok(0), 4));
    Ok(())
}

fn stats() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4));
    assert_eq!(ring.stats(), annulus::Stats::default());
    for batch in 1..=4 {
        (0..batch).for_each(|user_data| push(&mut ring, nop(user_data)));
        ring.submit()?;
        drain(&mut ring);
    }
    let stats = ring.stats();
    assert_eq!((stats.enters, stats.sqes, stats.cqes, stats.overflows), (4, 10, 10, 0));
    Ok(())
}
