//! An SQ head that is wrong once, while a reservation is filled.

use annulus_sys::abi::{Sqe, Sqe128};
use annulus_sys::sq::SqeShape;

use crate::support::fake_kernel::{FakeKernel, Shape};
use crate::support::panics::complaint;

#[test]
fn sq2_sq3_a_reservation_that_unwinds_never_was() {
    for sqe in [SqeShape::Single, SqeShape::Double, SqeShape::Mixed] {
        for wide in [false, true] {
            let (mut sq, _cq, mut kernel) = FakeKernel::new(Shape { sqe, ..Shape::plain(8) });
            let (head, before) = (kernel.sq_head.last(), sq.indices().written);
            let mut slots = sq.reserve(6).expect("room");
            // SAFETY: the entry is a NOP, which points to nothing (OP1).
            unsafe { slots.push(Sqe::ZERO) }.expect("within what is reserved");
            kernel.sq_head.publish(head.advance(77));
            let complaint = complaint(|| {
                if wide && sqe != SqeShape::Single {
                    // SAFETY: the entry is a NOP, which points to nothing (OP1).
                    let _ = unsafe { slots.push_wide(Sqe128::ZERO) };
                } else {
                    // SAFETY: the entry is a NOP, which points to nothing (OP1).
                    let _ = unsafe { slots.push(Sqe::ZERO) };
                }
            });
            assert!(complaint.contains("SQ2"), "{complaint}");
            kernel.sq_head.publish(head);
            drop(slots);
            assert_eq!(
                (sq.indices().written, sq.flush(), kernel.visible()),
                (before, 0, 0),
                "{sqe:?}"
            );
        }
    }
}

#[test]
fn sq2_sq3_a_reservation_goes_on_after_a_head_that_was_wrong_once() {
    let (mut sq, _cq, mut kernel) = FakeKernel::new(Shape::plain(4));
    let head = kernel.sq_head.last();
    let mut slots = sq.reserve(2).expect("room");
    // SAFETY: the entries are NOPs, which point to nothing (OP1).
    let mut push = |word| unsafe { slots.push(Sqe { user_data: word, ..Sqe::ZERO }) };
    push(1).expect("room");
    kernel.sq_head.publish(head.advance(77));
    assert!(complaint(|| push(2)).contains("SQ2"));
    kernel.sq_head.publish(head);
    push(3).expect("room");
    slots.commit();
    assert_eq!(sq.flush(), 2);
    let words = [(); 2].map(|()| kernel.consume().map(|sqe| sqe.user_data));
    assert_eq!(words, [Some(1), Some(3)], "the entry that unwound is not among them");
}
