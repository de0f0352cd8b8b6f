//! A tail that goes one too far: Linux 6.18 to 7.2, on mixed rings.
//!
//! ```text
//!   3 narrow ones        │ 1 │ 2 │ 3 │   │
//!   a wide one: no room  │ 1 │ 2 │ 3 │ × │ tail        a filler, and the wide one is kept back
//!   a narrow one         │ 1 │ 2 │ 3 │ 4 │   tail      over the filler; nothing is in slot 0
//! ```

use annulus_sys::abi::{Cqe, Cqe32};
use annulus_sys::cq::{CompletionQueue, CqeShape};
use annulus_sys::flags::CqeFlags;

use crate::support::fake_kernel::{FakeKernel, Shape};
use crate::support::panics::complaint;

type Take = fn(&mut CompletionQueue) -> Vec<u64>;

/// Every way to take completions.
const WAYS: [Take; 4] = [
    |cq| std::iter::from_fn(|| cq.pop()).map(|cqe| cqe.user_data).collect(),
    |cq| std::iter::from_fn(|| cq.pop_wide()).map(|wide| wide.first.user_data).collect(),
    |cq| {
        let mut seen = Vec::new();
        cq.drain(|cqe| seen.push(cqe.user_data));
        seen
    },
    |cq| {
        let mut seen = Vec::new();
        cq.drain_wide(|wide| seen.push(wide.first.user_data));
        seen
    },
];

fn small(user_data: u64) -> Cqe {
    Cqe { user_data, ..Cqe::ZERO }
}

/// A mixed ring of four, on its second lap, with three narrow completions in it.
fn three_of_four() -> (CompletionQueue, FakeKernel) {
    // The indices wrap after the first lap.
    let shape = Shape { cqe: CqeShape::Mixed, start: u32::MAX - 3, ..Shape::plain(4) };
    let (_sq, mut cq, mut kernel) = FakeKernel::new(shape);
    assert!((91..95).all(|word| kernel.post(small(word))));
    assert_eq!(cq.drain(|_| ()).count, 4);
    assert!((1..4).all(|word| kernel.post(small(word))));
    (cq, kernel)
}

#[test]
fn cq2_a_tail_one_too_far_shows_no_completion_twice() {
    for take in WAYS {
        for popped in 0..2 {
            let (mut cq, mut kernel) = three_of_four();
            (0..popped).for_each(|_| assert!(cq.pop().is_some()));
            assert!(kernel.fill_last());
            kernel.overstep(small(4));
            let expected: Vec<u64> = (1 + popped..5).collect();
            for _ in 0..2 {
                assert_eq!(u64::from(cq.ready()), 4 - popped);
            }
            assert_eq!(take(&mut cq), expected);
            assert_eq!((kernel.cq_used(), cq.popped()), (0, 8));
            // From there on everything is as before.
            assert!((5..8).all(|word| kernel.post(small(word))));
            assert_eq!(take(&mut cq), [5, 6, 7]);
        }
    }
}

#[test]
fn cq2_what_was_wide_in_the_slot_before_is_not_read_again() {
    for take in WAYS {
        let (mut cq, mut kernel) = three_of_four();
        assert_eq!(take(&mut cq), [1, 2, 3]);
        assert!(kernel.fill_last());
        let wide = |word| Cqe32 { first: small(word), big: [word; 2] };
        assert!(kernel.post_wide(wide(4)));
        assert!(kernel.post(small(5)));
        assert_eq!(take(&mut cq), [4, 5]);
        assert!(kernel.fill_last());
        kernel.overstep(small(6));
        assert!(kernel.post(small(7)));
        assert_eq!(take(&mut cq), [6, 7]);
    }
}

#[test]
fn cq3_a_filler_that_may_be_written_over_is_not_passed() {
    for take in WAYS {
        let (mut cq, mut kernel) = three_of_four();
        assert!(kernel.fill_last());
        assert_eq!(take(&mut cq), [1, 2, 3]);
        assert_eq!((cq.ready(), cq.slots_ready(), kernel.cq_used()), (0, 1, 1));
        kernel.overstep(small(4));
        assert_eq!(cq.ready(), 1);
        assert_eq!(take(&mut cq), [4]);
        assert_eq!(kernel.cq_used(), 0);
    }
}

#[test]
fn cq2_a_filler_of_a_ring_of_two_is_passed_or_the_wide_one_finds_no_room() {
    let shape = Shape { cqe: CqeShape::Mixed, start: 1, ..Shape::plain(2) };
    let (_sq, mut cq, mut kernel) = FakeKernel::new(shape);
    assert!(kernel.fill_last());
    assert_eq!((cq.pop(), kernel.cq_room()), (None, 2));
    assert!(kernel.post_wide(Cqe32 { first: small(1), big: [0; 2] }));
    assert_eq!(cq.pop().map(|cqe| cqe.user_data), Some(1));
}

#[test]
fn cq2_a_tail_one_too_far_elsewhere_is_named() {
    let ring = |cqe, start| FakeKernel::new(Shape { cqe, start, ..Shape::plain(4) });
    // Not at the start of a mixed ring; or on another.
    for (cqe, start, far) in [
        (CqeShape::Mixed, 1, 5),
        (CqeShape::Mixed, 0, 6),
        (CqeShape::Single, 0, 5),
        (CqeShape::Double, 0, 5),
    ] {
        let (_sq, mut cq, mut kernel) = ring(cqe, start);
        let tail = kernel.cq_tail.last();
        kernel.cq_tail.publish(tail.advance(far));
        assert!(complaint(|| cq.ready()).contains("CQ2"), "{cqe:?} {start} {far}");
    }
}

#[test]
fn cq4_a_slot_is_blank_before_it_goes_back() {
    let (mut cq, mut kernel) = three_of_four();
    let wide = Cqe32 { first: small(4), big: [7; 2] };
    assert_eq!(cq.drain(|_| ()).count, 3);
    assert!(kernel.post_wide(wide), "behind a filler");
    assert_eq!(cq.pop_wide().map(|wide| wide.big), Some([7; 2]));
    for slot in 0..4 {
        let at = kernel.cq_tail.last().advance(slot);
        // SAFETY: free, so ours as the kernel (CQ4).
        let cqe = unsafe { kernel.cqes.read(at) };
        assert_eq!(cqe, Cqe { flags: CqeFlags::SKIP, ..Cqe::ZERO });
    }
}
