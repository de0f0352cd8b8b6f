//! Solutions of chapter 17: a thread that polls, on the simulated kernel, whose time stands still.
#![allow(unsafe_code, reason = "pushes entries that point to nothing")]

use std::time::Duration;

use annulus::op::Nop;
use annulus::sim::Sim;
use annulus::sys::flags::EnterFlags;
use annulus::sys::syscall::EnterArg;
use annulus::{RawRing, Ring, Setup, prep};

/// The thread sleeps when nothing has come for so long.
const IDLE: Duration = Duration::from_millis(10);

/// A polled ring of four entries.
fn polled(sim: &Sim) -> RawRing {
    Setup::plain(4).sqpoll(IDLE).kernel(sim.kernel()).build_raw().expect("a simulated ring")
}

/// Pushes a NOP.
fn push(ring: &mut RawRing) {
    // SAFETY: a NOP points to nothing (OP1).
    unsafe { ring.push(prep::nop()) }.expect("room");
}

// ANCHOR: enters
/// How many enters ten requests take, with a pause after each.
fn enters(pause: Duration) -> u64 {
    let sim = Sim::new(1);
    let setup = Setup::plain(4).sqpoll(IDLE).kernel(sim.kernel());
    let mut ring = setup.build().expect("a simulated ring");
    for _ in 0..10 {
        let nop = ring.submit(Nop).expect("room");
        ring.submit_all().expect("it is handed over");
        ring.detach(nop);
        sim.advance(pause);
        ring.reap(|_| ()).expect("a look");
    }
    ring.stats().enters
}

#[test]
fn a_request_that_is_waited_for_is_an_enter_also_while_the_thread_is_awake() {
    let sim = Sim::new(1);
    let setup = Setup::plain(4).sqpoll(IDLE).kernel(sim.kernel());
    let mut ring: Ring = setup.build().expect("a simulated ring");
    for _ in 0..10 {
        let nop = ring.submit(Nop).expect("room");
        ring.wait(nop).expect("it goes on").expect("a NOP does not fail");
    }
    assert_eq!(ring.stats().enters, 10);
}

#[test]
fn a_request_now_and_then_is_an_enter_each_and_many_are_none() {
    assert_eq!(enters(IDLE / 2), 0);
    // The first finds the thread awake.
    assert_eq!(enters(IDLE * 2), 9);
}
// ANCHOR_END: enters

// ANCHOR: slots
#[test]
fn a_submit_that_returned_has_not_freed_the_slots() {
    let sim = Sim::new(1);
    let mut ring = polled(&sim);
    for _ in 0..4 {
        push(&mut ring);
    }
    ring.submit().expect("it is published");
    // Whatever an entry points to may be read from now on, until its slot is free at the earliest.
    assert_eq!((ring.room(), ring.ready()), (0, 0));
    sim.advance(Duration::from_millis(1));
    assert_eq!((ring.room(), ring.ready()), (4, 4));
}
// ANCHOR_END: slots

// ANCHOR: lost
#[test]
fn who_does_not_look_at_the_flag_waits_for_ever() {
    let sim = Sim::new(1);
    let mut ring = polled(&sim);
    sim.advance(IDLE * 2);
    assert!(ring.needs_wakeup());
    // Publishes, and forgets to look.
    push(&mut ring);
    ring.flush();
    let lost = ring.enter(0, 1, EnterFlags::GETEVENTS, EnterArg::None);
    // Linux would sleep. The simulation knows that nothing can happen any more.
    assert_eq!(lost.map_err(|errno| errno.raw()), Err(libc::EDEADLK));
    let wake = EnterFlags::GETEVENTS | EnterFlags::SQ_WAKEUP;
    let woken = ring.enter(0, 1, wake, EnterArg::None);
    assert!(woken.is_ok());
    assert_eq!(ring.ready(), 1);
}
// ANCHOR_END: lost
