//! Completions on their way to the caller: more than the ring holds, popped one by one or drained.
//!
//! ```text
//!   40 requests ─► ring of 8 ─► pop, peek, drain, wait ─► the same 40, in order
//!                  └► 32 held back by the kernel until it is asked (CQ5)
//! ```
use std::io::{Write as _, pipe};
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use annulus::sys::abi::{Cqe, Sqe};
use annulus::sys::flags::{CqeFlags, MsgRingFlags, NopFlags, SetupFlags};
use annulus::sys::opcode::Opcode;
use annulus::{EnterCause, RawRing, Setup};
use libtest_mimic::{Failed, Trial};

use crate::harness::{
    DEFERRING, Need, drain, drain_user_data, in_each_mode, nop, push, ring, test,
};

const CQE32: Need = Need::Setup(SetupFlags::CQE32);
const MIXED: Need = Need::Setup(SetupFlags::CQE_MIXED);

/// The tests.
pub fn tests() -> Vec<Trial> {
    let mut trials = in_each_mode("cq5_an_overflow_loses_nothing_in_a_drain", &[], |flags| {
        overflow(flags, |ring| Ok(drain_user_data(ring)))
    });
    trials.extend(in_each_mode("cq5_an_overflow_loses_nothing_in_peeks", &[], |flags| {
        overflow(flags, peek_all)
    }));
    trials.extend(in_each_mode("cq5_an_overflow_loses_nothing_in_waits", &[], |flags| {
        overflow(flags, wait_all)
    }));
    trials.extend(in_each_mode("cq5_an_overflow_loses_nothing_between_submits", &[], interleaved));
    trials.extend([
        test("cq5_an_overflow_of_wide_completions_loses_nothing", &[CQE32], || {
            overflow(SetupFlags::CQE32, peek_all)
        }),
        test("cq5_an_overflow_of_a_mixed_ring_loses_nothing", &[MIXED], || {
            overflow(SetupFlags::CQE_MIXED, wait_all)
        }),
        test("cq5_wide_completions_of_a_mixed_ring_overflow_and_come_back", &[MIXED], mixed),
        test("cq2_what_is_written_over_a_filler_comes_once", &[MIXED], written_over),
        test("cq5_a_pop_alone_asks_for_nothing", &[], pop_asks_not),
        test("cq4_a_pop_gives_its_slot_back_at_once", &[], pop_by_pop),
        test("cq4_a_drain_gives_its_slots_back_together", &[], drained_together),
        test("an_unwinding_drain_has_taken_what_it_saw", &[], || unwinding(SetupFlags::empty())),
        test("an_unwinding_wide_drain_has_taken_what_it_saw", &[CQE32], || {
            unwinding(SetupFlags::CQE32)
        }),
        test("an_unwinding_drain_leaves_what_is_held_back", &[], unwinding_overflow),
        test("every_result_comes_through", &[Need::Other(injects_nothing)], results),
        test("flags_that_nobody_knows_come_through", &[Need::Other(passes_no_flags)], flags),
        test(
            "a_message_that_was_announced_hides_no_request",
            &[Need::Other(passes_no_flags)],
            announced,
        ),
        test("a_wait_for_more_than_the_ring_holds_is_refused", &[], too_large),
    ]);
    trials
}

/// As many as overflow the ring five times over.
const COUNT: u32 = 40;

fn words() -> Vec<u64> {
    (0..u64::from(COUNT)).collect()
}

/// A ring whose eight slots are full, while the kernel holds the rest of [`COUNT`] back.
fn overflowing(flags: SetupFlags) -> Result<RawRing, Failed> {
    let mut ring = ring(Setup::plain(4).with(flags));
    for (at, user_data) in words().into_iter().enumerate() {
        push(&mut ring, nop(user_data));
        if at % 4 == 3 {
            assert_eq!(ring.submit(), Ok(4));
        }
    }
    assert_eq!((ring.ready(), ring.in_flight()), (8, COUNT));
    Ok(ring)
}

fn overflow(
    flags: SetupFlags,
    take_all: fn(&mut RawRing) -> Result<Vec<u64>, Failed>,
) -> Result<(), Failed> {
    let mut ring = overflowing(flags)?;
    assert_eq!(take_all(&mut ring)?, words());
    assert_eq!((ring.ready(), ring.in_flight(), ring.lost()), (0, 0, 0));
    let stats = ring.stats();
    assert_eq!((stats.sqes, stats.cqes), (u64::from(COUNT), u64::from(COUNT)));
    assert!(stats.overflows > 0, "{stats:?}");
    // And the ring is as good as new.
    let before = stats.overflows;
    for user_data in 0..20 {
        push(&mut ring, nop(user_data));
        assert_eq!(ring.submit_and_wait(1), Ok(1));
        assert_eq!(drain_user_data(&mut ring), [user_data]);
    }
    assert_eq!((ring.stats().overflows, ring.lost()), (before, 0));
    Ok(())
}

fn peek_all(ring: &mut RawRing) -> Result<Vec<u64>, Failed> {
    let mut words = Vec::new();
    while let Some(cqe) = ring.peek()? {
        words.push(cqe.user_data);
        assert_eq!(ring.in_flight() as usize, COUNT as usize - words.len());
    }
    Ok(words)
}

/// Waits for a full ring, takes some, and waits for a full ring again.
fn wait_all(ring: &mut RawRing) -> Result<Vec<u64>, Failed> {
    let mut words = Vec::new();
    // A mixed ring is not awaited to the brim: a large completion might not fit.
    let most = if ring.flags().contains(SetupFlags::CQE_MIXED) { 6 } else { 8 };
    while ring.in_flight() > 0 {
        let want = ring.in_flight().min(most);
        ring.wait(want)?;
        let ready = ring.ready();
        assert!(ready == want || (most == 6 && ready > want), "{ready} of {want}");
        let take = 1 + words.len() % 5;
        words.extend((0..take).filter_map(|_| ring.pop()).map(|cqe| cqe.user_data));
    }
    Ok(words)
}

/// Three completions come for every two that are taken.
fn interleaved(flags: SetupFlags) -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4).with(flags));
    let (mut seen, mut next) = (Vec::new(), 0);
    for _ in 0..20 {
        (next..next + 3).for_each(|user_data| push(&mut ring, nop(user_data)));
        next += 3;
        assert_eq!(ring.submit_and_wait(2), Ok(3));
        for _ in 0..2 {
            seen.push(ring.pop().ok_or("two are ready")?.user_data);
        }
        assert_eq!(u64::from(ring.in_flight()), next - seen.len() as u64);
    }
    assert!(ring.stats().overflows > 0);
    seen.extend(drain_user_data(&mut ring));
    // On older kernels a new completion may overtake those that are held back.
    seen.sort_unstable();
    assert_eq!(seen, (0..next).collect::<Vec<_>>());
    assert_eq!((ring.in_flight(), ring.lost()), (0, 0));
    Ok(())
}

/// Sixteen slots' worth of completions for a ring of eight.
fn mixed() -> Result<(), Failed> {
    // From every position in the ring, so that one of them would straddle its end.
    let mut ring = ring(Setup::plain(8).cq_entries(8).with(SetupFlags::CQE_MIXED));
    for lap in 0..9 {
        let wide =
            |user_data| Sqe { op_flags: NopFlags::CQE32.bits(), off: user_data, ..nop(user_data) };
        (0..8).for_each(|user_data| push(&mut ring, wide(user_data)));
        assert_eq!(ring.submit(), Ok(8));
        let mut seen = Vec::new();
        while ring.in_flight() > 0 {
            ring.wait(1)?;
            while let Some(wide) = ring.pop_wide() {
                assert_eq!(wide.big, [wide.first.user_data, 0]);
                seen.push(wide.first.user_data);
            }
        }
        assert_eq!(seen, [0, 1, 2, 3, 4, 5, 6, 7]);
        push(&mut ring, nop(lap));
        ring.submit_and_wait(1)?;
        assert_eq!(drain_user_data(&mut ring), [lap]);
    }
    assert_eq!((ring.lost(), ring.stats().cqes), (0, 9 * 9));
    Ok(())
}

/// A wide completion that finds no room leaves a filler in the last slot. Linux 6.18 to 7.2 write
/// the narrow completion after it over that filler, and then count one too many.
fn written_over() -> Result<(), Failed> {
    let setup = Setup::plain(8).cq_entries(8).with(SetupFlags::CQE_MIXED);
    for (before, between) in (0..2).flat_map(|before| (0..9).map(move |between| (before, between)))
    {
        let mut ring = ring(setup.clone());
        let mut seen = Vec::new();
        for user_data in 1..=9 {
            let pops = [(8, before), (9, between)].into_iter().find(|(at, _)| *at == user_data);
            for _ in 0..pops.map_or(0, |(_, pops)| pops) {
                seen.extend(ring.pop().map(|cqe| cqe.user_data));
            }
            let small = nop(user_data);
            let wide = Sqe { op_flags: NopFlags::CQE32.bits(), ..small };
            push(&mut ring, if user_data == 8 { wide } else { small });
            assert_eq!(ring.submit(), Ok(1));
        }
        seen.append(&mut drain_user_data(&mut ring));
        seen.sort_unstable();
        assert_eq!(seen, [1, 2, 3, 4, 5, 6, 7, 8, 9], "{before} {between}");
        assert_eq!((ring.in_flight(), ring.pop(), ring.ready()), (0, None, 0));
    }
    Ok(())
}

fn pop_asks_not() -> Result<(), Failed> {
    let mut ring = overflowing(SetupFlags::empty())?;
    let enters = ring.stats().enters;
    let popped: Vec<u64> = std::iter::from_fn(|| ring.pop()).map(|cqe| cqe.user_data).collect();
    assert_eq!(popped, words()[..8]);
    assert_eq!((ring.stats().enters, ring.in_flight()), (enters, COUNT - 8));
    ring.get_events()?;
    assert_eq!((ring.ready(), ring.stats().enters), (8, enters + 1));
    Ok(())
}

fn pop_by_pop() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4));
    (0..4).for_each(|user_data| push(&mut ring, nop(user_data)));
    ring.submit_and_wait(4)?;
    for taken in 1..=4 {
        ring.pop().ok_or("four are ready")?;
        assert_eq!(ring.positions().cq_head.to_raw(), taken);
    }
    assert_eq!((ring.pop(), ring.positions().cq_head.to_raw()), (None, 4));
    Ok(())
}

fn drained_together() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(8));
    (0..8).for_each(|user_data| push(&mut ring, nop(user_data)));
    ring.submit_and_wait(8)?;
    assert_eq!(drain(&mut ring).len(), 8);
    assert_eq!(ring.positions().cq_head.to_raw(), 8);
    assert_eq!(ring.positions().cq_tail.to_raw(), 8);
    Ok(())
}

/// Takes completions until the one with this `user_data`, and unwinds there.
fn unwind_at(ring: &mut RawRing, user_data: u64) -> Vec<u64> {
    let mut seen = Vec::new();
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        ring.drain(|cqe| {
            seen.push(cqe.user_data);
            if cqe.user_data == user_data {
                resume_unwind(Box::new("unwinds without printing"));
            }
        })
    }));
    assert!(unwound.is_err());
    seen
}

fn unwinding(flags: SetupFlags) -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(8).with(flags));
    for _ in 0..5 {
        (0..7).for_each(|user_data| push(&mut ring, nop(user_data)));
        ring.submit_and_wait(7)?;
        assert_eq!(unwind_at(&mut ring, 2), [0, 1, 2]);
        assert_eq!((ring.in_flight(), ring.ready()), (4, 4));
        assert_eq!(ring.pop().map(|cqe| cqe.user_data), Some(3));
        assert_eq!(unwind_at(&mut ring, 6), [4, 5, 6]);
        assert_eq!((ring.in_flight(), ring.ready()), (0, 0));
        assert_eq!(ring.positions().cq_head, ring.positions().cq_tail);
    }
    assert_eq!(ring.stats().cqes, 35);
    Ok(())
}

fn unwinding_overflow() -> Result<(), Failed> {
    let mut ring = overflowing(SetupFlags::empty())?;
    let mut seen = unwind_at(&mut ring, 4);
    seen.extend(unwind_at(&mut ring, 19));
    assert_eq!(ring.in_flight(), 20);
    seen.extend(drain_user_data(&mut ring));
    assert_eq!(seen, words());
    Ok(())
}

fn injecting(result: i32, user_data: u64) -> Sqe {
    let op_flags = NopFlags::INJECT_RESULT.bits();
    Sqe { op_flags, len: result.cast_unsigned(), ..nop(user_data) }
}

/// Submits one request, and takes its completion.
fn one(ring: &mut RawRing, sqe: Sqe) -> Result<Cqe, Failed> {
    push(ring, sqe);
    ring.submit_and_wait(1)?;
    Ok(ring.pop().ok_or("a completion")?)
}

fn injects_nothing() -> Option<String> {
    let mut ring = ring(Setup::plain(1));
    let injected = one(&mut ring, injecting(7, 0)).is_ok_and(|cqe| cqe.res == 7);
    (!injected).then(|| "needs Linux 6.10: NOP_INJECT_RESULT".to_owned())
}

fn results() -> Result<(), Failed> {
    for setup in [Setup::plain(8), Setup::new(8)] {
        let mut ring = ring(setup);
        let results = [0, 1, -1, -libc::EINTR, -4095, -4096, i32::MAX, i32::MIN];
        for (user_data, result) in (0..).zip(results) {
            push(&mut ring, injecting(result, user_data));
        }
        ring.submit_and_wait(8)?;
        let seen: Vec<i32> = drain(&mut ring).into_iter().map(|cqe| cqe.res).collect();
        assert_eq!(seen, results);
    }
    Ok(())
}

/// A message to `to`, whose completion there has these flags.
fn message(to: &RawRing, user_data: u64, flags: CqeFlags) -> Sqe {
    Sqe {
        opcode: Opcode::MSG_RING,
        fd: to.fd().expect("a descriptor").as_raw_fd(),
        len: 5,
        off: user_data,
        op_flags: MsgRingFlags::FLAGS_PASS.bits(),
        file_index: flags.bits(),
        ..Sqe::ZERO
    }
}

fn passes_no_flags() -> Option<String> {
    let (target, mut sender) = (ring(Setup::plain(1)), ring(Setup::plain(1)));
    let sent = one(&mut sender, message(&target, 1, CqeFlags::empty()));
    let passed = sent.is_ok_and(|cqe| cqe.res == 0);
    (!passed).then(|| "needs Linux 6.3: MSG_RING_FLAGS_PASS".to_owned())
}

fn flags() -> Result<(), Failed> {
    for deferring in [SetupFlags::empty(), DEFERRING] {
        let (mut target, mut sender) =
            (ring(Setup::plain(4).with(deferring)), ring(Setup::plain(4)));
        target.expect_others();
        for bits in [1 << 13, 1 << 14, 0xffff_6000, 0x1234_0000] {
            let flags = CqeFlags::from_bits_retain(bits);
            let user_data = u64::MAX - u64::from(bits);
            assert_eq!(one(&mut sender, message(&target, user_data, flags))?.res, 0);
            target.wait(1)?;
            let cqe = target.pop().ok_or("a message")?;
            assert_eq!(cqe, Cqe { user_data, res: 5, flags });
        }
    }
    Ok(())
}

fn announced() -> Result<(), Failed> {
    for deferring in [SetupFlags::empty(), DEFERRING] {
        let (mut target, mut sender) =
            (ring(Setup::plain(4).with(deferring)), ring(Setup::plain(4)));
        target.expect_others();
        for waits in [true, false] {
            let (reader, mut writer) = pipe()?;
            let readable = u32::from(libc::POLLIN.cast_unsigned());
            let fd = reader.as_raw_fd();
            let poll = Sqe { opcode: Opcode::POLL_ADD, fd, op_flags: readable, ..nop(7) };
            push(&mut target, poll);
            target.submit()?;
            assert_eq!(one(&mut sender, message(&target, 9, CqeFlags::empty()))?.res, 0);
            target.wait(1)?;
            assert_eq!(target.pop().map(|cqe| cqe.user_data), Some(9));
            writer.write_all(b"x")?;
            if waits {
                target.wait(1)?;
            }
            assert_eq!(target.peek()?.map(|cqe| cqe.user_data), Some(7), "{deferring:?}");
        }
    }
    Ok(())
}

fn too_large() -> Result<(), Failed> {
    let mut ring = overflowing(SetupFlags::empty())?;
    let enters = ring.stats().enters;
    let error = ring.wait(9).expect_err("the ring holds eight");
    assert_eq!(error.cause, EnterCause::WaitTooLarge { want: 9, entries: 8 });
    push(&mut ring, nop(u64::from(COUNT)));
    let error = ring.submit_and_wait(9).expect_err("the ring holds eight");
    assert_eq!(error.cause, EnterCause::WaitTooLarge { want: 9, entries: 8 });
    assert_eq!((ring.stats().enters, error.submitted), (enters, 0));
    ring.wait(8)?;
    assert_eq!(ring.stats().enters, enters, "they are ready");
    ring.submit()?;
    let expected: Vec<u64> = (0..=u64::from(COUNT)).collect();
    assert_eq!(drain_user_data(&mut ring), expected);
    Ok(())
}
