//! Items that come faster than closures run: the rest of the loop goes on.
#![allow(unsafe_code, reason = "polls the ring's descriptor")]

use std::io;
use std::os::fd::AsRawFd;
use std::thread;
use std::time::Duration;

use annulus::op::{Timeout, TimeoutMulti};
use annulus::{Arrival, EventLoop, Io, Setup, WaitOptions};
use libtest_mimic::{Failed, Trial};

use super::run;
use crate::harness::{Need, patient, test};
use crate::safe_time::timeouts;

const REPEATED: [Need; 1] = [timeouts::REPEATED];
const INTERVAL: Duration = Duration::from_millis(1);
/// Longer than that.
const BUSY: Duration = Duration::from_millis(2);

pub fn tests() -> Vec<Trial> {
    vec![
        test("a_closure_slower_than_its_items_holds_up_nothing", &REPEATED, slow_closure),
        test("what_a_turn_leaves_shows_at_the_rings_descriptor", &REPEATED, shows),
        test("a_turn_delivers_no_more_than_the_queue_has_room_for", &REPEATED, turns_are_bounded),
    ]
}

/// Each item comes before the closure of the one before it has returned.
fn slow_closure() -> Result<(), Failed> {
    let ring = patient(|| Setup::new(8).build_for()).expect("a ring");
    let mut events = EventLoop::new(ring, (0, 0));
    events.io().submit_multishot(TimeoutMulti::new(INTERVAL), move |io, arrival| {
        let (items, others) = io.state;
        *items += 1;
        assert!(*items < 5000, "{others} others came, and no end");
        // It may end because the queue is full.
        let ended = matches!(arrival, Arrival::End(_));
        if ended || (*items >= 10 && *others >= 3) {
            io.stop();
        }
        thread::sleep(BUSY);
        Ok(())
    })?;
    fn other(io: &mut Io<'_, (u32, u32)>) -> io::Result<()> {
        io.submit(Timeout::new(INTERVAL), |io, end| {
            io.state.1 += 1;
            if end.is_ok() && !io.is_stopping() { other(io) } else { Ok(()) }
        })?;
        Ok(())
    }
    other(&mut events.io())?;
    run(&mut events);
    Ok(())
}

fn turns_are_bounded() -> Result<(), Failed> {
    let ring = patient(|| Setup::new(2).cq_entries(4).build_for()).expect("a ring");
    let mut events = EventLoop::new(ring, 0_u32);
    let most = events.ring().raw().cq_entries();
    let ticks = TimeoutMulti::new(INTERVAL);
    events.io().submit_multishot(ticks, |io, arrival| {
        *io.state += 1;
        thread::sleep(BUSY);
        // It may end because the queue is full.
        if let Arrival::End(_) = arrival { Err(io::Error::other("it ended")) } else { Ok(()) }
    })?;
    for _ in 0..5 {
        let before = events.state;
        let more = events.turn(&WaitOptions::at_most(Duration::from_secs(20)), |_, _| ())?;
        assert!(events.state - before <= most, "{} of {most} in a turn", events.state - before);
        if !more {
            break;
        }
    }
    Ok(())
}

/// The last item fills the turn, and the end that comes with it is left.
fn shows() -> Result<(), Failed> {
    let ring = patient(|| Setup::new(2).cq_entries(4).build_for()).expect("a ring");
    let mut events = EventLoop::new(ring, 0_u32);
    let ticks = TimeoutMulti::new(INTERVAL).times(4);
    events.io().submit_multishot(ticks, |io, _| {
        *io.state += 1;
        Ok(())
    })?;
    let zero = WaitOptions::at_most(Duration::ZERO);
    while events.turn(&zero, |_, error| panic!("{error}"))? {
        thread::sleep(4 * BUSY); // So that more is ready than a turn takes.
        let fd = events.ring().raw().fd().expect("a ring with a descriptor");
        let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one live `struct pollfd`, as `poll(2)` asks.
        let ready = unsafe { libc::poll(&raw mut poll, 1, 20_000) };
        assert_ne!(ready, 0, "something is left, and nothing says so");
    }
    assert!(events.state >= 1, "its end, at least");
    Ok(())
}
