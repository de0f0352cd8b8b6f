//! CQ3 and CQ4: we read in a slot what the kernel wrote there, and it stays until we have copied
//! it. And both rings at once.

use annulus_sys::abi::Cqe32;
use annulus_sys::cq::{CompletionQueue, CqeShape};
use loom::thread;

use crate::model::{check, completion, entry, push, until};
use crate::support::fake_kernel::{FakeKernel, Shape};

/// The kernel posts one by one, as long as there is room; we take them with `take`.
fn posted(shape: Shape, count: u64, take: impl Fn(&mut CompletionQueue, &mut Vec<u64>)) {
    let (_sq, mut cq, mut kernel) = FakeKernel::new(shape);
    let peer = thread::spawn(move || {
        for number in 0..count {
            until(|| kernel.post(completion(number)).then_some(()));
        }
    });
    let mut seen = Vec::new();
    until(|| {
        take(&mut cq, &mut seen);
        (seen.len() as u64 == count).then_some(())
    });
    peer.join().expect("the kernel's thread");
    let expected: Vec<u64> = (0..count).map(|number| 100 + number).collect();
    assert_eq!(seen, expected);
}

fn pop(cq: &mut CompletionQueue, seen: &mut Vec<u64>) {
    seen.extend(cq.pop().map(|cqe| cqe.user_data));
}

fn drain(cq: &mut CompletionQueue, seen: &mut Vec<u64>) {
    cq.drain(|cqe| seen.push(cqe.user_data));
}

/// Completions of 32 bytes.
fn posted_wide(shape: Shape, count: u64) {
    let wide = |number| Cqe32 { first: completion(number), big: [number + 1, number + 2] };
    let (_sq, mut cq, mut kernel) = FakeKernel::new(shape);
    let peer = thread::spawn(move || {
        for number in 0..count {
            until(|| kernel.post_wide(wide(number)).then_some(()));
        }
    });
    for number in 0..count {
        let popped = until(|| cq.pop_wide());
        assert_eq!((popped.first.user_data, popped.big), (100 + number, wide(number).big));
    }
    peer.join().expect("the kernel's thread");
}

/// Entries that we push come back as completions; each ring takes more than it has slots.
fn round_trip(shape: Shape, count: u64) {
    let (mut sq, mut cq, mut kernel) = FakeKernel::new(shape);
    let peer = thread::spawn(move || {
        for number in 0..count {
            let sqe = until(|| kernel.consume());
            assert_eq!(sqe, entry(number));
            until(|| kernel.post(completion(sqe.user_data - 100)).then_some(()));
        }
    });
    let (mut pushed, mut popped) = (0, 0);
    until(|| {
        if pushed < count && push(&mut sq, entry(pushed)).is_ok() {
            pushed += 1;
            sq.flush();
        }
        while let Some(cqe) = cq.pop() {
            assert_eq!(cqe, completion(popped));
            popped += 1;
        }
        (popped == count).then_some(())
    });
    peer.join().expect("the kernel's thread");
}

#[test]
fn cq3_pop_sees_what_was_written_before_the_post() {
    check("2 completions, popped", || posted(Shape::plain(2), 2, pop));
}

#[test]
fn cq3_drain_sees_what_was_written_before_the_post() {
    check("2 completions, drained", || posted(Shape::plain(2), 2, drain));
}

#[test]
fn cq3_both_halves_of_a_double_slot_are_seen() {
    let shape = Shape { cqe: CqeShape::Double, ..Shape::plain(2) };
    check("2 double completions", move || posted_wide(shape, 2));
}

#[test]
fn cq3_both_slots_of_a_wide_completion_are_seen_behind_a_filler() {
    let shape = Shape { cqe: CqeShape::Mixed, start: u32::MAX, ..Shape::plain(4) };
    check("filler and 1 wide completion", move || posted_wide(shape, 1));
}

#[test]
fn cq4_a_popped_slot_is_reused_after_it_was_copied_out() {
    check("3 completions through 2 slots, popped", || posted(Shape::plain(2), 3, pop));
}

#[test]
fn cq4_a_drained_slot_is_reused_after_it_was_copied_out() {
    check("3 completions through 2 slots, drained", || posted(Shape::plain(2), 3, drain));
}

#[test]
fn cq4_a_double_slot_is_reused_after_both_halves_were_copied_out() {
    let shape = Shape { cqe: CqeShape::Double, start: u32::MAX, ..Shape::plain(1) };
    check("2 double completions through 1 slot", move || posted_wide(shape, 2));
}

#[test]
fn cq4_two_slots_are_reused_after_a_wide_completion_was_copied_out() {
    let shape = Shape { cqe: CqeShape::Mixed, start: 0, ..Shape::plain(2) };
    check("2 wide completions through 2 slots", move || posted_wide(shape, 2));
}

#[test]
fn sq4_and_cq4_hold_on_a_round_trip() {
    check("3 entries there and back through 2 slots", || round_trip(Shape::plain(2), 3));
    let shape = Shape { start: u32::MAX, ..Shape::plain(1) };
    check("3 entries there and back through 1 slot", move || round_trip(shape, 3));
}
