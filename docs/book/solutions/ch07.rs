//! Solutions of chapter 7: what becomes of tickets, and of what is lent.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use annulus::Setup;
use annulus::op::{Nop, Read};

use crate::ring;

// ANCHOR: dropped
#[test]
fn a_dropped_ticket_costs_its_slot_until_the_ring_ends() {
    let Some(mut ring) = ring(Setup::new(8)) else { return };
    let (silent, _writer) = std::io::pipe().expect("a pipe");
    let silent = Rc::new(silent);
    let before = ring.vacant();
    let read = ring.submit(Read::new(Rc::clone(&silent), [0; 8])).expect("room");
    ring.submit_all().expect("it is taken");
    drop(read);
    // The operation goes on, with all that it owns.
    assert_eq!((ring.in_flight(), ring.vacant()), (1, before - 1));
    assert_eq!(Rc::strong_count(&silent), 2);
    drop(ring);
    assert_eq!(Rc::strong_count(&silent), 1, "the ring cancelled it, and gave everything back");
}
// ANCHOR_END: dropped

// ANCHOR: other
#[test]
fn a_ticket_is_of_one_ring() {
    let (Some(mut one), Some(mut other)) = (ring(Setup::new(8)), ring(Setup::new(8))) else {
        return;
    };
    let nop = one.submit(Nop).expect("room");
    let mixed_up = catch_unwind(AssertUnwindSafe(|| other.wait(nop).is_ok()));
    assert!(mixed_up.is_err());
}
// ANCHOR_END: other

// ANCHOR: scope
#[test]
fn a_scope_ends_what_it_lent_a_buffer_to() {
    let Some(mut ring) = ring(Setup::new(8)) else { return };
    let (silent, _writer) = std::io::pipe().expect("a pipe");
    let mut buf = [7; 8];
    ring.scope(|scope| {
        let _read = scope.submit(Read::new(&silent, &mut buf[..])).expect("room");
        scope.submit_all().expect("it is taken");
    });
    assert_eq!((ring.in_flight(), buf), (0, [7; 8]));
}
// ANCHOR_END: scope
