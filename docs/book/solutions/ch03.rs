//! Solutions of chapter 3: counters, overflow and sizes.
#![allow(unsafe_code, reason = "pushes NOPs, which point to nothing")]

use std::io::Write as _;
use std::rc::Rc;

use annulus::op::Read;
use annulus::{RawRing, Rejection, Setup, prep};

use crate::{raw, ring};

/// Pushes so many NOPs.
fn push(ring: &mut RawRing, count: u32) {
    for _ in 0..count {
        // SAFETY: a NOP points to nothing (OP1).
        unsafe { ring.push(prep::nop()) }.expect("room");
    }
}

// ANCHOR: by_hand
#[test]
fn counters_after_each_step() {
    let Some(mut ring) = raw(Setup::plain(4)) else { return };
    let at = |ring: &RawRing| {
        let it = ring.positions();
        [it.sq_head, it.sq_tail, it.sq_written, it.cq_head, it.cq_tail].map(|at| at.to_raw())
    };
    push(&mut ring, 3);
    assert_eq!(at(&ring), [0, 0, 3, 0, 0], "written, and not yet published");
    ring.submit_and_wait(3).expect("three complete");
    assert_eq!(at(&ring), [3, 3, 3, 0, 3], "consumed and posted");
    assert!(ring.pop().is_some() && ring.pop().is_some());
    assert_eq!(at(&ring), [3, 3, 3, 2, 3]);
    push(&mut ring, 3);
    assert_eq!(at(&ring), [3, 3, 6, 2, 3], "in slots 3, 0 and 1");
}
// ANCHOR_END: by_hand

// ANCHOR: overflow
#[test]
fn what_overflows_is_kept_by_the_kernel_and_comes_when_it_is_asked_for() {
    let Some(mut ring) = raw(Setup::plain(2).cq_entries(4)) else { return };
    for _ in 0..5 {
        push(&mut ring, 2);
        ring.submit().expect("they are taken");
    }
    let without_an_enter = std::iter::from_fn(|| ring.pop()).count();
    assert_eq!((without_an_enter, ring.in_flight()), (4, 6));
    // A drain asks for what is held back.
    assert_eq!(ring.drain(|_| ()).expect("it is asked for"), 6);
    assert_eq!((ring.in_flight(), ring.lost()), (0, 0));
}
// ANCHOR_END: overflow

// ANCHOR: sizes
#[test]
fn sixty_receives_are_in_flight_through_a_queue_of_four() {
    let Some(mut ring) = ring(Setup::new(4).cq_entries(60)) else { return };
    assert_eq!((ring.raw().sq_entries(), ring.raw().cq_entries(), ring.vacant()), (4, 64, 64));
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    let reader = Rc::new(reader);
    let read = || Read::new(Rc::clone(&reader), [0; 1]);
    let reads: Vec<_> = (0..64).map(|_| ring.submit(read()).expect("a slot")).collect();
    let rejected = ring.submit(read()).expect_err("every slot is taken");
    assert_eq!((rejected.why, ring.in_flight()), (Rejection::NoSlot, 64));
    writer.write_all(&[0; 64]).expect("room in the pipe");
    for read in reads {
        assert_eq!(ring.wait(read).expect("it goes on").result.expect("a byte"), 1);
    }
    assert!(ring.submit(rejected.op).is_ok(), "now there is room");
}
// ANCHOR_END: sizes

#[test]
fn sizes_are_rounded_up() {
    let Some(ring) = raw(Setup::plain(5)) else { return };
    assert_eq!((ring.sq_entries(), ring.cq_entries()), (8, 16));
}
