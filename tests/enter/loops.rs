//! Event loops whose kernel fails for a while, is full, or refuses: nothing is lost, and no
//! operation that can never begin waits for its turn.
//!
//! ```text
//!   submit ──┬─ a slot is free ─────────► kernel ──► closure
//!            ├─ it can begin later ─────► waits ───────┘     whatever fails for a while
//!            └─ it can never begin ─────► comes back, with the reason
//! ```

use std::collections::HashSet;
use std::fs::File;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use annulus::op::{
    Cancel, Nop, Op, PollEvents, PollMulti, Read, RecvBundle, RecvProvided, SendZc, WriteV,
};
use annulus::sim::Sim;
use annulus::{Arrival, EnterCause, EventLoop, Rejection, Ring, Setup, WaitOptions};
use annulus_sys::abi::Cqe;
use annulus_sys::flags::CqeFlags;

use crate::driver_kernel::DriverKernel;
use crate::support::backend::Enter;

/// An event loop on a script that completes every entry.
fn events<S: 'static>(setup: Setup<'_>, state: S) -> (EventLoop<S>, Arc<DriverKernel>) {
    let kernel = DriverKernel::new();
    let ring = setup.kernel(kernel.backend()).build_for().expect("a ring");
    (EventLoop::new(ring, state), kernel)
}

fn null() -> File {
    File::open("/dev/null").expect("there is one")
}

/// Runs until nothing is left, and no closure may fail.
fn run<S: 'static>(events: &mut EventLoop<S>) {
    events.run(|_, error| panic!("{error}")).expect("it runs");
}

/// One turn, in which no closure may fail.
fn turn<S: 'static>(events: &mut EventLoop<S>) -> Result<bool, EnterCause> {
    let turned = events.turn(&WaitOptions::FOREVER, |_, error| panic!("{error}"));
    turned.map_err(|error| error.cause)
}

/// Submits an operation whose end is counted.
fn submit_counted(events: &mut EventLoop<u32>) {
    let submitted = events.io().submit(Nop, |io, done| {
        *io.state += 1;
        done
    });
    submitted.expect("there is a slot, or it waits for one");
}

#[test]
fn neither_a_signal_nor_a_full_queue_ends_a_run() {
    for errno in [libc::EINTR, libc::EBUSY] {
        let (mut events, kernel) = events(Setup::plain(4), 0);
        kernel.enters(Enter::Fail(errno));
        submit_counted(&mut events);
        run(&mut events);
        assert_eq!(events.state, 1);
    }
}

#[test]
fn a_signal_ends_a_turn_and_is_told() {
    let (mut events, kernel) = events(Setup::plain(4), ());
    events.io().submit(Nop, |_, done| done).expect("room");
    kernel.enters(Enter::Fail(libc::EINTR));
    assert_eq!(turn(&mut events), Err(EnterCause::Interrupted));
    run(&mut events);
}

/// A loop whose poll completes with these, in one call of the kernel.
fn polled(completions: &[(i32, CqeFlags)]) -> (EventLoop<Vec<&'static str>>, Arc<DriverKernel>) {
    let (mut events, kernel) = events(Setup::plain(2).cq_entries(2), Vec::new());
    let poll = PollMulti::new(null(), PollEvents::IN);
    let submitted = events.io().submit_multishot(poll, |io, arrival| {
        io.state.push(if matches!(arrival, Arrival::Item(_)) { "item" } else { "end" });
        Ok(())
    });
    submitted.map_err(|no| no.why).expect("room");
    let completions = completions.to_vec();
    kernel.enters(Enter::Run(Box::new(move |kernel, _| {
        let user_data = kernel.consume().expect("the poll").user_data;
        let mut cqes = completions.into_iter().map(|(res, flags)| Cqe { user_data, res, flags });
        assert!(cqes.all(|cqe| kernel.post(cqe)));
        Ok(1)
    })));
    (events, kernel)
}

/// The end lies in no queue of the kernel, so only an entry of ours makes the descriptor readable.
#[test]
fn an_end_that_a_turn_leaves_wakes_the_poller_of_the_ring() {
    let (mut events, _kernel) = polled(&[(1, CqeFlags::MORE), (1, CqeFlags::empty())]);
    assert_eq!(turn(&mut events), Ok(true), "its end is left");
    assert_eq!(events.state, ["item", "item"]);
    assert_eq!(events.ring().stats().sqes, 2, "the poll, and an entry that completes at once");
    run(&mut events);
    assert_eq!(events.state, ["item", "item", "end"]);
}

#[test]
fn an_error_that_ends_a_multishot_is_no_item() {
    let (mut events, _kernel) = polled(&[(-libc::ECANCELED, CqeFlags::empty())]);
    assert_eq!(turn(&mut events), Ok(false));
    assert_eq!(events.state, ["end"]);
}

#[test]
fn the_hand_over_at_the_end_of_a_turn_may_fail_for_a_while_only() {
    let broken = EnterCause::Other(annulus_sys::errno::Errno::new(libc::ENXIO));
    for (errno, expected) in [(libc::EBUSY, Ok(true)), (libc::ENXIO, Err(broken))] {
        let (mut events, kernel) = events(Setup::plain(4), 0);
        let submitted = events.io().submit(Nop, |io, _| {
            let submitted = io.submit(Nop, |io, done| {
                *io.state += 1;
                done
            });
            Ok(submitted.map(drop)?)
        });
        submitted.expect("room");
        kernel.enters(Enter::Complete(1));
        kernel.enters(Enter::Fail(errno));
        assert_eq!(turn(&mut events), expected);
        run(&mut events);
        assert_eq!(events.state, 1, "the entry is still queued");
    }
}

#[test]
fn an_operation_waits_while_the_queue_is_full_and_cannot_be_emptied() {
    let (mut events, kernel) = events(Setup::plain(1).cq_entries(4), 0);
    kernel.enters(Enter::Fail(libc::EBUSY));
    (0..2).for_each(|_| submit_counted(&mut events));
    assert_eq!(events.io().waiting(), 1, "the second waits");
    run(&mut events);
    assert_eq!(events.state, 2);
}

#[test]
fn what_a_drained_operation_forbids_comes_back() {
    let (mut events, _kernel) = events(Setup::plain(8), ());
    let mut io = events.io();
    io.submit(Nop.drained(), |_, done| done).map_err(|no| no.why).expect("room");
    let send = || SendZc::new(null(), vec![1_u8]);
    let refused = io.submit(send(), |_, _| Ok(())).map_err(|no| no.why);
    assert_eq!(refused.map(drop), Err(Rejection::Drained));
    let chain = io.chain().then(send(), |_, _| Ok(()));
    let refused = io.submit_chain(chain).map_err(|no| no.why);
    assert_eq!(refused.map(drop), Err(Rejection::Drained));
    assert_eq!(io.waiting(), 0);
}

/// A cancel finds its operation by it.
#[test]
fn no_two_operations_have_one_number() {
    let (mut events, _kernel) = events(Setup::plain(4).cq_entries(4), ());
    let mut io = events.io();
    let mut ids = Vec::new();
    for _ in 0..2 {
        let chain = io.chain().then(Nop, |_, done| done).then(Nop, |_, done| done);
        ids.push(io.submit_chain(chain).map_err(|no| no.why).expect("room"));
    }
    assert_eq!(io.vacant(), 0);
    for _ in 0..3 {
        ids.push(io.submit(Nop, |_, done| done).expect("it waits"));
    }
    let distinct: HashSet<_> = ids.iter().collect();
    assert_eq!(distinct.len(), ids.len());
    run(&mut events);
}

#[test]
fn a_chain_waits_if_it_can_ever_begin() {
    let (mut events, _kernel) = events(Setup::plain(4).cq_entries(4), 0);
    let mut io = events.io();
    io.submit(Nop, |_, done| done).expect("room");
    let chain = io.chain().then(Nop, |_, done| done).then(Nop, |_, done| done);
    let chain = chain.then(Nop, |_, done| done).then(Nop, |io, done| {
        *io.state += 1;
        done
    });
    io.submit_chain(chain).map_err(|no| no.why).expect("as many steps as slots: it waits");
    assert_eq!(io.waiting(), 1);
    let read = Read::new(null(), Vec::<u8>::new());
    let chain = io.chain().then(read, |_, _| Ok(()));
    let why = io.submit_chain(chain).map_err(|no| no.why).expect_err("no room to read into");
    assert!(matches!(why, Rejection::Invalid { .. }), "{why}");
    assert_eq!(io.waiting(), 1);
    run(&mut events);
    assert_eq!(events.state, 1);
}

#[test]
fn each_step_of_a_chain_calls_its_own_closure() {
    let (mut events, _kernel) = events(Setup::plain(4), Vec::new());
    let mut io = events.io();
    let chain = io.chain().then(Nop, |io, done| {
        io.state.push(1);
        done
    });
    let chain = chain.then_hard(Nop, |io, done| {
        io.state.push(2);
        done
    });
    io.submit_chain(chain).map_err(|no| no.why).expect("room");
    run(&mut events);
    assert_eq!(events.state, [1, 2]);
}

#[test]
fn an_operation_is_asked_for_its_refusals_through_its_closure() {
    let (mut events, _kernel) = events(Setup::plain(8), ());
    let mut other: Ring =
        Setup::plain(2).kernel(DriverKernel::new().backend()).build().expect("two");
    let foreign = other.submit(Nop).expect("room");
    let mut io = events.io();
    let refused = io.submit(Cancel::ticket(&foreign), |_, _| Ok(())).map_err(|no| no.why);
    assert_eq!(refused.map(drop), Err(Rejection::OtherRing));
    let long = WriteV::new(Rc::new(null()), vec![[7_u8; 8]; 1025]);
    let chain = io.chain().then(long, |_, _| Ok(())).then(Nop, |_, done| done);
    let why = io.submit_chain(chain).map_err(|no| no.why).expect_err("it would be cut");
    assert!(matches!(why, Rejection::Invalid { .. }), "{why}");
}

#[test]
fn a_closure_can_read_the_counters_of_the_ring() {
    let (mut events, _kernel) = events(Setup::plain(8), 0);
    let submitted = events.io().submit(Nop, |io, done| {
        *io.state = io.stats().enters;
        done
    });
    submitted.expect("room");
    run(&mut events);
    assert_eq!(events.state, 1);
}

#[test]
fn an_event_loop_gets_the_buffers_that_the_kernel_chose() {
    let sim = Sim::new(1);
    let mut ring = Setup::new(8).kernel(sim.kernel()).build_for().expect("a ring");
    let buffers = ring.buf_ring(4, 64).expect("buffers");
    let (ours, theirs) = sim.socket_pair().expect("sockets");
    sim.write(&theirs, b"hello").expect("room");
    let mut events = EventLoop::new(ring, 0);
    let submitted = events.io().submit(RecvProvided::new(ours, &buffers), |io, got| {
        *io.state = got.result?.expect("data").len();
        Ok(())
    });
    submitted.map_err(|no| no.why).expect("its own buffers");
    run(&mut events);
    assert_eq!(events.state, 5);
}

/// What waits for the buffers keeps its place, and whatever is behind it goes on.
#[test]
fn a_bundle_that_waits_for_another_holds_nobody_up() {
    let sim = Sim::new(1);
    let mut ring = Setup::new(8).kernel(sim.kernel()).build_for().expect("a ring");
    let buffers = ring.buf_ring(4, 64).expect("buffers");
    let (ours, theirs) = sim.socket_pair().expect("sockets");
    let theirs = Rc::new(theirs);
    let ours = Rc::new(ours);
    let mut events = EventLoop::new(ring, Vec::new());
    let mut io = events.io();
    for _ in 0..2 {
        let bundle = RecvBundle::new(Rc::clone(&ours), &buffers);
        let theirs = Rc::clone(&theirs);
        let submitted = io.submit(bundle, move |io, _| {
            io.state.push("bundle");
            drop(theirs);
            Ok(())
        });
        submitted.map_err(|no| no.why).expect("it may wait");
    }
    assert_eq!(io.waiting(), 1);
    let late = theirs.try_clone().expect("a descriptor");
    for seconds in [1, 2] {
        let late = late.try_clone().expect("a descriptor");
        sim.after(Duration::from_secs(seconds), move |sim| {
            sim.write(&late, b"late").expect("room");
        });
    }
    let submitted = io.submit(Nop, |io, done| {
        io.state.push("nop");
        done
    });
    submitted.expect("it waits behind the bundle");
    run(&mut events);
    assert_eq!(events.state, ["nop", "bundle", "bundle"]);
}
