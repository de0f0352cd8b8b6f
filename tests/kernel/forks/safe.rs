//! The safe API's ring, which owns the memory of its operations, in a child that has a copy of it.

use std::cell::Cell;
use std::io::Write as _;
use std::time::Duration;

use annulus::StepExt as _;
use annulus::lease::RegisterError;
use annulus::op::{Message, Nop, Op, PollEvents, PollMulti, Read};
use annulus::{Event, EventLoop, Io, Rejection, Ring, SendError, Setup, Ticket, WaitOptions};

use super::{FORKED, MOMENT, end_if_forked, fork_here, in_a_child, refused};
use crate::harness::{patient, safe_ring};
use crate::processes::{pipe, ring_maps};

/// The error of a child that submits, and what it submitted.
fn submits(ring: &mut Ring<u32>) {
    let rejected = ring.submit(Read::new(pipe().0, [7; 4])).expect_err("a child");
    assert_eq!(rejected.why, Rejection::OtherProcess);
    assert!(rejected.to_string().contains("make a ring here"), "{rejected}");
    let rejected = ring.submit_for(Nop, 9).expect_err("a child");
    assert_eq!((rejected.why, rejected.user), (Rejection::OtherProcess, 9));
    let rejected = ring.submit_chain((Nop, Nop.within(MOMENT))).expect_err("a child");
    assert_eq!(rejected.why, Rejection::OtherProcess);
    ring.scope(|scope| {
        let rejected = scope.submit(Nop).expect_err("a child");
        assert_eq!(rejected.why, Rejection::OtherProcess);
        assert!(refused(scope.submit_all()));
    });
    let rejected = ring.submit_unticketed(Nop, 9).expect_err("a child");
    assert_eq!((rejected.why, rejected.user), (Rejection::OtherProcess, 9));
    assert!(refused(ring.turn(0, |_| ())) && refused(ring.turn(1, |_| ())));
    assert!(refused(ring.turn_outputs::<Nop>(0, |_, _| ())));
    assert!(refused(ring.turn_outputs::<Nop>(1, |_, _| ())));
    assert!(refused(ring.reap_outputs::<Nop>(|_, _| ())));
    assert!(refused(ring.submit_all()));
    assert!(refused(ring.submit_and_wait(0)) && refused(ring.submit_and_wait(1)));
    assert!(refused(ring.submit_and_wait_timeout(1, MOMENT)));
}

/// The error of a child that waits for an operation in flight, and how many events it is shown.
fn waits<O: Op>(ring: &mut Ring<u32>, flying: Ticket<O>, kept: usize) {
    let Err(flying) = ring.try_take(flying) else { panic!("it completes in the parent alone") };
    assert!(refused(ring.cancel(&flying)));
    let Err(unfinished) = ring.wait(flying) else { panic!("it completes in the parent alone") };
    assert!(refused::<()>(Err(unfinished.why)));
    let Err(unfinished) = ring.wait_timeout(unfinished.ticket, MOMENT) else {
        panic!("it completes in the parent alone")
    };
    assert!(refused::<()>(Err(unfinished.why)));
    assert_eq!(*ring.user(&unfinished.ticket), 5);
    ring.detach(unfinished.ticket);
    // What had been taken out of the queue before the fork is the child's as well.
    let mut shown = 0;
    assert!(refused(ring.reap(|_| shown += 1)));
    assert_eq!(shown, kept);
}

fn registers(ring: &mut Ring<u32>) {
    assert_eq!(ring.buf_ring(4, 64).map(drop), Err(RegisterError::OtherProcess));
    assert_eq!(ring.file_table(4).map(drop), Err(RegisterError::OtherProcess));
    assert_eq!(ring.fixed_pool(4, 64).map(drop), Err(RegisterError::OtherProcess));
    assert!(ring.register_ring_fd().is_err_and(|errno| errno.is(libc::ECHILD)));
    assert_eq!(ring.raw().add_napi_id(1), Err(RegisterError::OtherProcess));
    assert_eq!(ring.raw().remove_napi_id(1), Err(RegisterError::OtherProcess));
    assert!(ring.sender().is_err());
    assert_eq!((ring.raw().room(), ring.raw().lost(), ring.stale()), (0, 0, 0));
}

pub fn calls_everything() {
    let setups = [false, true].map(|drains| [Setup::plain(8), Setup::new(8)].map(|s| (s, drains)));
    for (setup, drains) in setups.into_iter().flatten() {
        let mut ring: Ring<u32> = patient(|| setup.build_for()).expect("a ring");
        let (from, mut to) = pipe();
        let (silent, _open) = pipe();
        if drains {
            let drained = ring.submit(Nop.drained()).expect("submit");
            ring.wait(drained).expect("wait").expect("it does nothing");
        }
        let done = ring.submit(Nop).expect("submit");
        ring.submit_and_wait(1).expect("wait");
        ring.reap(|_| ()).expect("reap");
        let flying = ring.submit_for(Read::new(from, [0; 4]), 5).expect("submit");
        let many = ring.submit(PollMulti::new(silent, PollEvents::IN)).expect("submit");
        let left = ring.submit(Nop).expect("submit");
        ring.submit_and_wait(1).expect("wait");
        let queued = ring.submit(Nop).expect("submit");
        // Before Linux 6.13 there is no sender while a drained entry may hold up messages.
        let sender = ring.sender();
        assert!(drains || sender.is_ok());
        let mut shared = Some((ring, flying, many, done));
        in_a_child("all calls", || {
            let (mut ring, flying, many, done) = shared.take().expect("the child's own");
            submits(&mut ring);
            assert!(refused(ring.next(&many)) && refused(ring.try_next(&many)));
            // While a drain may hold entries back, a wait takes out of the queue whatever comes.
            waits(&mut ring, flying, usize::from(drains));
            registers(&mut ring);
            if let Ok(sender) = &sender {
                assert_eq!(sender.send(7), Err(SendError::Closed));
            }
            // Operations that had ended before are the child's as well.
            assert!(ring.try_take(done).is_ok_and(|output| output.is_ok()));
            // A ring of the child's own works meanwhile.
            assert!(safe_ring(Setup::plain(4)).submit_and_wait(0).is_ok());
            assert!(ring.shutdown(MOMENT).is_err(), "what is in flight is the parent's");
        });
        let (mut ring, flying, many, done) = shared.take().expect("the child took its own");
        to.write_all(b"data").expect("room in the pipe");
        assert_eq!(ring.wait(flying).expect("wait").ok().expect("it reads").1, *b"data");
        if drains {
            // What follows a drained entry may be held back as long as anything is in flight
            // (Linux 7.1 now and then). Before Linux 6.0 the poll cannot be ended like this.
            let _ = ring.cancel_now(&many, Duration::from_secs(1));
        }
        for nop in [done, left, queued] {
            ring.wait(nop).expect("wait").expect("it does nothing");
        }
        ring.detach(many);
        assert_eq!(ring.stale(), 0);
    }
}

/// Takes events until the second; there it forks, and both processes go on.
pub fn comes_out_of_reaping() {
    for setup in [Setup::plain(8), Setup::new(8)] {
        let mut ring = safe_ring(setup);
        let tickets: Vec<_> = (0..4).map(|_| ring.submit(Nop).expect("submit")).collect();
        ring.submit_and_wait(4).expect("wait");
        let maps = ring_maps();
        let (mut seen, mut occupied) = (0, None);
        let count = ring.reap(|_| {
            seen += 1;
            if seen == 2 {
                occupied = fork_here(&maps);
            }
        });
        end_if_forked("reap", || {
            (seen, count) == (2, Ok(2)) && occupied.is_some_and(|holes| holes.is_unchanged())
        });
        assert_eq!((seen, count), (4, Ok(4)));
        for ticket in tickets {
            assert!(ring.try_take(ticket).is_ok_and(|output| output.is_ok()));
        }
    }
}

/// Waits for one more operation, so that the outputs of four are kept.
fn keep_four(setup: Setup<'_>) -> Ring {
    let mut ring = safe_ring(setup);
    for _ in 0..4 {
        ring.submit_unticketed(Nop, ()).expect("submit");
    }
    let nop = ring.submit(Nop).expect("submit");
    ring.submit_and_wait(5).expect("wait");
    ring.wait(nop).expect("wait").expect("it does nothing");
    ring
}

/// What was kept before is the parent's, too, if it was not shown before the fork.
fn comes_out_of_kept() {
    for by_type in [false, true] {
        let mut ring = keep_four(Setup::new(8));
        let maps = ring_maps();
        let (mut seen, mut occupied) = (0, None);
        let mut each = || {
            seen += 1;
            if seen == 2 {
                occupied = fork_here(&maps);
            }
        };
        let count = match by_type {
            true => ring.reap_outputs::<Nop>(|(), _| each()),
            false => ring.reap(|_| each()),
        };
        end_if_forked("kept", || {
            seen == 2 && occupied.is_some_and(|holes| holes.is_unchanged()) && count != Ok(4)
        });
        assert_eq!((seen, count, ring.vacant()), (4, Ok(4), ring.raw().cq_entries()));
    }
}

/// The same with outputs by type, which are taken in a loop of their own.
pub fn comes_out_of_outputs() {
    comes_out_of_kept();
    for setup in [Setup::plain(8), Setup::new(8)] {
        let mut ring = safe_ring(setup);
        for _ in 0..4 {
            ring.submit_unticketed(Nop, ()).expect("submit");
        }
        ring.submit_and_wait(4).expect("wait");
        let maps = ring_maps();
        let (mut seen, mut occupied) = (0, None);
        let count = ring.reap_outputs::<Nop>(|(), _| {
            seen += 1;
            if seen == 2 {
                occupied = fork_here(&maps);
            }
        });
        end_if_forked("outputs", || {
            (seen, count) == (2, Ok(2)) && occupied.is_some_and(|holes| holes.is_unchanged())
        });
        assert_eq!((seen, count, ring.vacant()), (4, Ok(4), ring.raw().cq_entries()));
    }
}

thread_local! {
    /// Whether the next user value forks.
    static FORKS: Cell<bool> = const { Cell::new(false) };
}

/// A user value, whose making is the caller's code.
struct Forks;

impl Default for Forks {
    fn default() -> Self {
        if FORKS.take() {
            drop(fork_here(&ring_maps()));
        }
        Self
    }
}

pub fn comes_out_of_submitting() {
    let mut ring: Ring<Forks> = patient(|| Setup::new(8).build_for()).expect("a ring");
    FORKS.set(true);
    let submitted = ring.submit(Nop);
    let why = submitted.as_ref().err().map(|rejected| rejected.why);
    end_if_forked("submit", || why == Some(Rejection::OtherProcess));
    ring.wait(submitted.expect("submit")).expect("wait").expect("it does nothing");
    // Between the steps of a chain there is nothing left but to unwind.
    FORKS.set(true);
    let chain = std::panic::AssertUnwindSafe(|| ring.submit_chain((Nop, Nop)));
    let chain = std::panic::catch_unwind(chain);
    let unwound = chain.is_err();
    end_if_forked("submit_chain", || unwound);
    let chain = chain.expect("no panic in the parent").map_err(|rejected| rejected.why);
    ring.wait_chain(chain.expect("submit")).expect("wait");
    assert_eq!(FORKED.get(), None);
}

/// No closure is called in the child, neither by running nor while it is being stopped.
pub fn runs_a_loop() {
    let ring = patient(|| Setup::new(8).build_for()).expect("a ring");
    let mut events = EventLoop::new(ring, 0_u32);
    let (from, mut to) = pipe();
    let count = |io: &mut Io<'_, u32>| {
        *io.state += 1;
        Ok(())
    };
    let read = Read::new(from, [0; 4]);
    events.io().submit(read, move |io, _| count(io)).expect("submit");
    events.io().submit(Nop, move |io, _| count(io)).expect("submit");
    let mut shared = Some(events);
    in_a_child("an event loop", || {
        let mut events = shared.take().expect("the child's own");
        let rejected = events.io().submit(Nop, |_, _| Ok(())).expect_err("a child");
        assert_eq!(rejected.why, Rejection::OtherProcess);
        assert!(refused(events.run(|_, error| panic!("{error}"))));
        assert!(refused(events.turn(&WaitOptions::at_most(MOMENT), |_, _| ())));
        events.io().stop();
        assert!(refused(events.run(|_, error| panic!("{error}"))));
        assert_eq!(events.state, 0);
        assert!(events.shutdown(MOMENT).is_err(), "what is in flight is the parent's");
    });
    let mut events = shared.take().expect("the child took its own");
    to.write_all(b"data").expect("room in the pipe");
    events.run(|_, error| panic!("{error}")).expect("it runs");
    assert_eq!(events.state, 2);
}

/// The operations in flight are the parent's, and the buffer is lent to the parent's kernel.
pub fn ends_a_scope() {
    let mut ring = safe_ring(Setup::new(8));
    let (from, mut to) = pipe();
    let mut buf = [0; 4];
    let result = ring.scope(|scope| {
        let read = scope.submit(Read::new(&from, &mut buf[..])).expect("submit");
        scope.submit_all().expect("submit");
        drop(fork_here(&ring_maps()));
        if FORKED.get() == Some(0) {
            return 0;
        }
        to.write_all(b"data").expect("room in the pipe");
        scope.wait(read).expect("wait").result.expect("it reads")
    });
    end_if_forked("scope", || (result, buf) == (0, [0; 4]));
    assert_eq!((result, &buf), (4, b"data"));
}

/// A message is made for a ring of the process that made it, whichever process submits it.
pub fn sends() {
    let mut ring = safe_ring(Setup::new(4));
    let sender = ring.sender().expect("a sender");
    let mut inherited = Message::new(&sender, 7).ok();
    in_a_child("a message", || {
        let mut own = safe_ring(Setup::new(4));
        let message = own.submit(inherited.take().expect("the child's own")).expect("room");
        let sent = own.wait(message).expect("it completes");
        assert!(sent.is_err_and(|error| error.raw_os_error() == Some(libc::EBADF)));
    });
    sender.send(8).expect("the ring is here");
    ring.submit_and_wait(1).expect("it comes");
    let mut messages = Vec::new();
    ring.reap(|event| {
        if let Event::Message(number) = event {
            messages.push(number);
        }
    })
    .expect("reap");
    assert_eq!(messages, [8], "what the child sent came to its parent's ring");
}
