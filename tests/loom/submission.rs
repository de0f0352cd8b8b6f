//! SQ3 and SQ4: the kernel reads in a slot what we wrote there, all of it, in this lap.

use annulus_sys::abi::Sqe128;
use annulus_sys::sq::SqeShape;
use loom::thread;

use crate::model::{check, entry, push, until};
use crate::support::fake_kernel::{FakeKernel, Shape};

/// We push and flush one by one; the kernel takes each as soon as it sees it.
fn one_by_one(shape: Shape, count: u64) {
    let (mut sq, _cq, mut kernel) = FakeKernel::new(shape);
    let peer = thread::spawn(move || {
        for number in 0..count {
            assert_eq!(until(|| kernel.consume()), entry(number));
        }
    });
    for number in 0..count {
        until(|| push(&mut sq, entry(number)).ok());
        sq.flush();
    }
    peer.join().expect("the kernel's thread");
    assert_eq!(sq.unconsumed(), 0, "SQ2");
}

/// We push all, then flush once; the kernel sees all or none.
fn at_once(count: u32) {
    let (mut sq, _cq, mut kernel) = FakeKernel::new(Shape::plain(count));
    let peer = thread::spawn(move || {
        let visible = until(|| Some(kernel.visible()).filter(|&visible| visible != 0));
        assert_eq!(visible, count, "a batch was cut");
        for number in 0..u64::from(count) {
            assert_eq!(kernel.consume(), Some(entry(number)));
        }
    });
    for number in 0..u64::from(count) {
        push(&mut sq, entry(number)).expect("room");
    }
    sq.flush();
    peer.join().expect("the kernel's thread");
}

/// Two entries of 128 bytes.
fn wide(shape: Shape) {
    let big = |number| Sqe128 { first: entry(number), rest: [number + 1; 8] };
    let (mut sq, _cq, mut kernel) = FakeKernel::new(shape);
    let peer = thread::spawn(move || {
        for number in 0..2 {
            assert_eq!(until(|| kernel.consume_wide()), big(number));
        }
    });
    for number in 0..2 {
        // SAFETY: nothing follows the entry's addresses (OP1): the kernel here is a test.
        until(|| unsafe { sq.push_wide(big(number)) }.ok());
        sq.flush();
    }
    peer.join().expect("the kernel's thread");
}

#[test]
fn sq3_the_kernel_sees_what_was_written_before_the_flush() {
    check("2 entries, one by one", || one_by_one(Shape::plain(2), 2));
}

#[test]
fn sq3_the_kernel_sees_all_of_a_batch_or_nothing() {
    check("3 entries at once", || at_once(4));
}

#[test]
fn sq3_both_halves_of_a_double_slot_are_visible() {
    let shape = Shape { sqe: SqeShape::Double, ..Shape::plain(2) };
    check("2 double entries", move || wide(shape));
}

#[test]
fn sq3_both_slots_of_a_wide_entry_are_visible() {
    let shape = Shape { sqe: SqeShape::Mixed, start: 0, ..Shape::plain(2) };
    check("2 wide entries through 2 slots", move || wide(shape));
}

#[test]
fn sq4_a_slot_is_reused_after_the_kernel_has_read_it() {
    // The indices pass 2³² between the first entry and the last.
    check("3 entries through 2 slots", || one_by_one(Shape::plain(2), 3));
}

#[test]
fn sq4_the_only_slot_is_reused_after_the_kernel_has_read_it() {
    let shape = Shape { start: u32::MAX, ..Shape::plain(1) };
    check("3 entries through 1 slot", move || one_by_one(shape, 3));
}

#[test]
fn sq4_a_double_slot_is_reused_after_both_halves_were_read() {
    let shape = Shape { sqe: SqeShape::Double, start: u32::MAX, ..Shape::plain(1) };
    check("2 double entries through 1 slot", move || wide(shape));
}
