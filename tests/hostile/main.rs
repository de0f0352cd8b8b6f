//! A kernel that stores anything: each call on our halves returns, or panics and names the
//! invariant that the kernel broke. After a caught panic the next call does so too.
//!
//! ```text
//!   kernel's: sq.head, cq.tail  any u32, also between two calls, also from another thread
//!             sq.flags          any u32
//!             completions       any bytes: res of i32::MIN, CQE32 in the last slot, SKIP anywhere
//! ```
//!
//! The memory is on the heap and no longer than the rings, so that an address sanitizer sees an
//! access outside. A watchdog sees a call that does not end.
#![allow(unsafe_code, reason = "plays the kernel, and pushes entries that point to nothing")]

#[path = "../support/mod.rs"]
mod support;

mod oversteps;
mod places;
mod reservations;
mod steps;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use annulus_sys::abi::{Cqe, Sqe};
use annulus_sys::cq::CqeShape;
use annulus_sys::flags::CqeFlags;
use annulus_sys::sq::{SqeShape, Turn};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use steps::{Aim, Ours, Theirs, checked, meddled, theirs};
use support::fake_buffers::BufferArena;
use support::fake_kernel::{FakeKernel, Shape};
use support::panics::{complaint, watched};

#[derive(Debug, Clone, Copy)]
enum Step {
    Theirs(Theirs),
    /// A reservation of so many entries, and pushes, while the head is elsewhere.
    Meddled((u32, u32), Aim),
    Ours(Ours),
}

fn shapes() -> impl Strategy<Value = Shape> {
    let sqe = prop_oneof![Just(SqeShape::Single), Just(SqeShape::Double), Just(SqeShape::Mixed)];
    let cqe = prop_oneof![Just(CqeShape::Single), Just(CqeShape::Double), Just(CqeShape::Mixed)];
    let turn = prop_oneof![3 => Just(Turn::Round), 1 => Just(Turn::Rewind)];
    let start = prop_oneof![Just(0), Just(u32::MAX - 1), any::<u32>()];
    (0..5_u32, 0..5_u32, start, sqe, cqe, turn).prop_map(|(sq, cq, start, sqe, cqe, turn)| Shape {
        sq_entries: 1 << sq,
        cq_entries: 1 << cq,
        start,
        sqe,
        cqe,
        turn,
    })
}

fn steps() -> impl Strategy<Value = Step> {
    let aim = || prop_oneof![any::<u32>().prop_map(Aim::Anywhere), nearby().prop_map(Aim::Near)];
    let theirs = prop_oneof![
        2 => aim().prop_map(Theirs::SqHead),
        2 => aim().prop_map(Theirs::CqTail),
        1 => any::<u32>().prop_map(Theirs::SqFlags),
        1 => any::<u32>().prop_map(Theirs::Counters),
        4 => (any::<u32>(), cqes()).prop_map(|(slot, cqe)| Theirs::Cqe(slot, cqe)),
        4 => (0..4_u32).prop_map(Theirs::Advance),
    ];
    let reserve = (0..20_u32, 0..4_u32, 0..4_u32, any::<bool>())
        .prop_map(|(count, pushes, wide, commit)| Ours::Reserve { count, pushes, wide, commit });
    let ours = prop_oneof![
        3 => Just(Ours::Push),
        1 => Just(Ours::PushWith),
        2 => Just(Ours::PushWide),
        2 => reserve,
        2 => Just(Ours::Flush),
        1 => prop_oneof![any::<u32>(), 0..8_u32].prop_map(Ours::Consumed),
        1 => Just(Ours::LookAtSq),
        2 => Just(Ours::Pop),
        2 => Just(Ours::PopWide),
        1 => Just(Ours::Drain),
        1 => Just(Ours::DrainWide),
        1 => (0..6_usize).prop_map(Ours::Runs),
        1 => Just(Ours::Alone),
        1 => (0..6_usize).prop_map(Ours::Each),
        1 => (0..4_u32).prop_map(Ours::DrainInto),
        1 => Just(Ours::Ready),
        1 => Just(Ours::IterReady),
        1 => Just(Ours::LookAtCq),
        1 => any::<u32>().prop_map(Ours::SetFlags),
    ];
    let meddled = ((0..20_u32, 0..4_u32), aim()).prop_map(|(many, aim)| Step::Meddled(many, aim));
    prop_oneof![
        8 => theirs.prop_map(Step::Theirs),
        8 => ours.prop_map(Step::Ours),
        1 => meddled,
    ]
}

/// Just inside and just outside a ring of up to 16.
fn nearby() -> impl Strategy<Value = u32> {
    (0..40_u32).prop_map(|distance| distance.wrapping_sub(20))
}

fn cqes() -> impl Strategy<Value = Cqe> {
    let flags = prop_oneof![
        any::<u32>(),
        Just(CqeFlags::CQE32.bits()),
        Just(CqeFlags::SKIP.bits()),
        Just((CqeFlags::CQE32 | CqeFlags::SKIP | CqeFlags::MORE).bits()),
    ];
    let res = prop_oneof![Just(i32::MIN), Just(i32::MAX), any::<i32>()];
    (any::<u64>(), res, flags).prop_map(|(user_data, res, flags)| Cqe {
        user_data,
        res,
        flags: CqeFlags::from_bits_retain(flags),
    })
}

fn config(cases: u32) -> Config {
    let rng_seed = RngSeed::Fixed(0x5142);
    Config { cases, rng_seed, failure_persistence: None, ..Config::default() }
}

#[test]
fn sq2_cq2_whatever_the_kernel_stores_each_call_ends() {
    watched(|| {
        let histories = (shapes(), vec(steps(), 1..200));
        let outcome = TestRunner::new(config(2000)).run(&histories, |(shape, steps)| {
            let (mut sq, mut cq, mut kernel) = FakeKernel::new(shape);
            for step in steps {
                match step {
                    Step::Theirs(what) => theirs(what, shape, &mut kernel),
                    Step::Meddled(many, aim) => meddled(many, aim, &mut sq, &mut kernel),
                    Step::Ours(what) => checked(what, &mut sq, &mut cq),
                }
            }
            Ok(())
        });
        outcome.unwrap_or_else(|failure| panic!("{failure}"));
    });
}

/// Two threads: the kernel's stores indices and flags without pause, ours makes every call.
#[test]
fn sq2_cq2_indices_that_change_at_any_moment_are_survived() {
    const CALLS: u32 = 20_000;
    watched(|| {
        for (sqe, cqe) in [
            (SqeShape::Single, CqeShape::Single),
            (SqeShape::Double, CqeShape::Double),
            (SqeShape::Mixed, CqeShape::Mixed),
        ] {
            let (mut sq, mut cq, mut kernel) =
                FakeKernel::new(Shape { sqe, cqe, ..Shape::plain(4) });
            // On a mixed ring: a filler, a wide one whose second half is a filler, a wide one in
            // the last slot.
            let flags = [CqeFlags::SKIP, CqeFlags::CQE32, CqeFlags::SKIP, CqeFlags::CQE32];
            for (slot, flags) in (0..).zip(flags) {
                let cqe = Cqe { flags, ..Cqe::ZERO };
                theirs(Theirs::Cqe(slot, cqe), kernel.shape(), &mut kernel);
            }
            let stop = AtomicBool::new(false);
            thread::scope(|scope| {
                scope.spawn(|| {
                    let mut raw = 1_u32;
                    while !stop.load(Ordering::Relaxed) {
                        raw = raw.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
                        let near = Aim::Near((raw >> 28).wrapping_sub(8));
                        theirs(Theirs::SqHead(near), kernel.shape(), &mut kernel);
                        theirs(Theirs::CqTail(near), kernel.shape(), &mut kernel);
                        theirs(Theirs::SqFlags(raw), kernel.shape(), &mut kernel);
                    }
                });
                let outcome = catch_unwind(AssertUnwindSafe(|| {
                    for _ in 0..CALLS {
                        each_call(|what| checked(what, &mut sq, &mut cq));
                    }
                }));
                stop.store(true, Ordering::Relaxed);
                outcome.unwrap_or_else(|failure| resume_unwind(failure));
            });
        }
    });
}

fn each_call(mut call: impl FnMut(Ours)) {
    for what in [
        Ours::Push,
        Ours::PushWith,
        Ours::PushWide,
        Ours::Reserve { count: 3, pushes: 2, wide: 1, commit: false },
        Ours::Reserve { count: 3, pushes: 1, wide: 1, commit: true },
        Ours::Flush,
        Ours::LookAtSq,
        Ours::Pop,
        Ours::PopWide,
        Ours::Drain,
        Ours::DrainWide,
        Ours::Runs(2),
        Ours::Alone,
        Ours::Each(2),
        Ours::Ready,
        Ours::IterReady,
        Ours::LookAtCq,
    ] {
        call(what);
    }
}

#[test]
fn sq2_a_head_outside_is_named_every_time_until_it_is_back() {
    let (mut sq, _cq, mut kernel) = FakeKernel::new(Shape::plain(2));
    let start = kernel.sq_head.last();
    // One ahead of what was written, and one further behind than the ring is long.
    for wrong in [start.advance(1), start.advance(u32::MAX - 2), start.advance(1 << 31)] {
        kernel.sq_head.publish(wrong);
        for _ in 0..2 {
            assert!(complaint(|| sq.flush()).contains("SQ2"));
            assert!(complaint(|| sq.room()).contains("SQ2"));
            assert!(complaint(|| sq.unconsumed()).contains("SQ2"));
        }
    }
    kernel.sq_head.publish(start);
    assert_eq!(sq.room(), 2);
}

#[test]
fn sq2_a_full_ring_names_a_head_outside_when_pushed_to() {
    let (mut sq, _cq, mut kernel) = FakeKernel::new(Shape::plain(2));
    // SAFETY: the entries are NOPs, which point to nothing (OP1).
    let mut push = || unsafe { sq.push(Sqe::ZERO) };
    assert_eq!([push(), push()], [Ok(()), Ok(())]);
    let head = kernel.sq_head.last();
    kernel.sq_head.publish(head.advance(3));
    assert!(complaint(&mut push).contains("SQ2"));
    kernel.sq_head.publish(head.advance(1));
    assert_eq!(push(), Ok(()), "the head is back, and one slot was passed");
}

#[test]
fn sq2_a_rewinding_ring_names_a_count_above_what_was_written() {
    let (mut sq, _cq, _kernel) = FakeKernel::new(Shape { turn: Turn::Rewind, ..Shape::plain(2) });
    // SAFETY: the entry is a NOP, which points to nothing (OP1).
    unsafe { sq.push(Sqe::ZERO) }.expect("room");
    for count in [2, 3, u32::MAX] {
        assert!(complaint(|| sq.consumed(count)).contains("SQ2"));
    }
    assert_eq!(sq.flush(), 1, "what was written is still there");
}

#[test]
fn cq2_a_tail_outside_is_named_every_time_until_it_is_back() {
    let (_sq, mut cq, mut kernel) = FakeKernel::new(Shape::plain(2));
    let start = kernel.cq_tail.last();
    for wrong in [start.advance(3), start.advance(u32::MAX), start.advance(1 << 31)] {
        kernel.cq_tail.publish(wrong);
        for _ in 0..2 {
            assert!(complaint(|| cq.pop()).contains("CQ2"));
            assert!(complaint(|| cq.pop_wide()).contains("CQ2"));
            assert!(complaint(|| cq.drain(|_| ())).contains("CQ2"));
            assert!(complaint(|| cq.drain_wide(|_| ())).contains("CQ2"));
            assert!(complaint(|| cq.next_run().map(drop)).contains("CQ2"));
            assert!(complaint(|| cq.completions().count()).contains("CQ2"));
            assert!(complaint(|| cq.ready()).contains("CQ2"));
        }
    }
    kernel.cq_tail.publish(start);
    assert_eq!((cq.pop(), cq.popped()), (None, 0));
}

#[test]
fn cq2_a_tail_that_goes_back_over_what_was_posted_is_named() {
    let (_sq, mut cq, mut kernel) = FakeKernel::new(Shape::plain(4));
    let start = kernel.cq_tail.last();
    kernel.cq_tail.publish(start.advance(3));
    assert_eq!(cq.ready(), 3);
    kernel.cq_tail.publish(start.advance(2));
    assert!(complaint(|| cq.ready()).contains("CQ2"));
    kernel.cq_tail.publish(start.advance(1));
    assert!(complaint(|| cq.next_alone()).contains("CQ2"), "one, where three were known");
    assert!(cq.pop().is_some(), "it was there when we looked");
}

#[test]
fn cq2_a_wide_completion_that_the_tail_cuts_is_named_and_not_passed() {
    let shape = Shape { cqe: CqeShape::Mixed, start: 0, ..Shape::plain(2) };
    let (_sq, mut cq, mut kernel) = FakeKernel::new(shape);
    let wide = Cqe { user_data: 1, flags: CqeFlags::CQE32, ..Cqe::ZERO };
    assert!(kernel.post(wide));
    for _ in 0..2 {
        assert!(complaint(|| cq.pop()).contains("CQ2"));
        assert!(complaint(|| cq.pop_wide()).contains("CQ2"));
        assert!(complaint(|| cq.drain(|_| ())).contains("CQ2"));
        assert!(cq.next_run().is_none(), "its completions are not all of 16 bytes");
    }
    assert_eq!((cq.popped(), cq.slots_ready()), (0, 1));
    assert!(kernel.post(Cqe { user_data: 2, ..Cqe::ZERO }), "the second half comes after all");
    assert_eq!(cq.ready(), 1, "we look again");
    let popped = cq.pop_wide().expect("both halves are there");
    assert_eq!((popped.first, popped.big), (wide, [2, 0]));
}

#[test]
fn cq2_a_wide_completion_in_the_last_slot_is_read_from_the_first() {
    let shape = Shape { cqe: CqeShape::Mixed, start: 1, ..Shape::plain(2) };
    let (_sq, mut cq, mut kernel) = FakeKernel::new(shape);
    assert!(kernel.post(Cqe { user_data: 1, flags: CqeFlags::CQE32, ..Cqe::ZERO }));
    assert!(kernel.post(Cqe { user_data: 2, ..Cqe::ZERO }));
    // Linux never does so; the index wraps, so both reads are inside the ring.
    assert_eq!(cq.pop_wide().map(|wide| wide.big), Some([2, 0]));
}

#[test]
fn cq2_a_mixed_ring_of_nothing_but_fillers_is_empty() {
    let shape = Shape { cqe: CqeShape::Mixed, ..Shape::plain(4) };
    let (_sq, mut cq, mut kernel) = FakeKernel::new(shape);
    let filler = Cqe { flags: CqeFlags::SKIP, ..Cqe::ZERO };
    for _ in 0..3 {
        while kernel.post(filler) {}
        assert_eq!((cq.ready(), cq.slots_ready()), (0, 4));
        assert_eq!(cq.pop(), None);
        assert_eq!((kernel.cq_room(), cq.popped()), (4, 0));
    }
}

#[test]
fn br1_taking_back_more_than_was_offered_is_named() {
    BufferArena::new(2).run(u16::MAX, |ring, kernel| {
        // SAFETY: the kernel is a fake, which never looks into the buffer.
        let mut push = |bid| unsafe { ring.push(0, 0, bid) };
        assert!([push(0), push(1)].iter().all(Result::is_ok));
        assert!(push(2).is_err());
        ring.flush();
        assert_eq!(kernel.visible(), 2);
        for count in [3, u32::MAX] {
            // SAFETY: not kept: what this test is for.
            assert!(complaint(|| unsafe { ring.taken(count) }).contains("BR1"));
        }
        assert_eq!(ring.offered(), 2);
    });
}
