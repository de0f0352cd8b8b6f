//! Lanes and chains beside what is not theirs: cancels, strangers' completions, signals, a full
//! queue, steps that have ended already.
//!
//! ```text
//!   completion ─┬─ of an operation that is waited for ──► ends the wait
//!               ├─ of another, or of a cancel ──────────► the wait goes on
//!               └─ of nobody ───────────────────────────► counted, and expected from now on
//! ```

use std::fs::File;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use annulus::op::{ChainFd, Close, Nop, Op, Read, SendV};
use annulus::sim::{Release, Sim};
use annulus::{EnterCause, Event, Lane, Rejection, Ring, Setup, Step, StepExt as _};
use annulus_sys::abi::Cqe;
use annulus_sys::errno::Errno;
use annulus_sys::flags::{Features, SetupFlags};
use annulus_sys::opcode::Opcode;

use crate::driver_kernel::DriverKernel;
use crate::support::backend::Enter;

const HOUR: Duration = Duration::from_secs(3600);

/// A lane on a script that completes every entry.
fn lane<O: Op + 'static, U>(setup: Setup<'_>) -> (Lane<O, U>, Arc<DriverKernel>) {
    let kernel = DriverKernel::new();
    (setup.kernel(kernel.backend()).build_lane().expect("a lane"), kernel)
}

/// The set-up of a lane that asks for what the kernel holds back whenever something is coming.
fn deferred() -> Setup<'static> {
    Setup::plain(4).with(SetupFlags::SINGLE_ISSUER | SetupFlags::DEFER_TASKRUN)
}

/// A ring on such a script, with eight entries.
fn safe() -> (Ring, Arc<DriverKernel>) {
    let kernel = DriverKernel::new();
    (Setup::plain(8).kernel(kernel.backend()).build().expect("a ring"), kernel)
}

fn null() -> File {
    File::open("/dev/null").expect("there is one")
}

/// How many enters a reap makes that finds nothing.
fn asks(lane: &mut Lane<Nop, ()>) -> u64 {
    let before = lane.raw().stats().enters;
    assert_eq!(lane.reap(|(), _| ()), Ok(0));
    lane.raw().stats().enters - before
}

/// For how many completions each enter waited.
fn waits(kernel: &DriverKernel) -> Vec<u32> {
    kernel.took().into_iter().map(|(_, min_complete, _)| min_complete).collect()
}

#[test]
fn a_lane_refuses_what_needs_a_feature_that_the_kernel_lacks() {
    let all = Features::from_bits_retain((1 << 18) - 1);
    for (features, expected) in [(all, true), (all - Features::RECVSEND_BUNDLE, false)] {
        let kernel = DriverKernel::new();
        kernel.set_features(features);
        let setup = Setup::plain(4).kernel(kernel.backend());
        let mut lane = setup.build_lane::<_, u32>().expect("a lane");
        let send = || SendV::new(Rc::new(null()), (vec![1_u8, 2], "three"));
        assert_eq!(lane.submit(send(), 1).is_ok(), expected);
        assert_eq!(lane.submit_each([(send(), 2)]).is_ok(), expected);
    }
}

#[test]
fn a_cancel_of_what_has_ended_queues_nothing() {
    let (mut lane, _kernel) = lane::<Nop, ()>(Setup::plain(4));
    let key = lane.submit(Nop, ()).expect("room");
    assert_eq!(lane.turn(1, |(), _| ()), Ok(1));
    lane.cancel(&key).expect("it has ended");
    assert_eq!(lane.submit_all(), Ok(0));
}

#[test]
fn a_cancel_makes_room_for_itself() {
    let (mut lane, _kernel) = lane::<Nop, ()>(Setup::plain(2));
    let keys = [(); 2].map(|()| lane.submit(Nop, ()).expect("room"));
    assert_eq!(lane.cancel(&keys[0]), Ok(()));
    assert_eq!(lane.turn(2, |(), _| ()), Ok(2));
}

#[test]
fn a_lane_refuses_a_read_into_no_room() {
    let (mut lane, _kernel) = lane::<Read<File, Vec<u8>>, ()>(Setup::plain(2));
    let read = Read::new(null(), Vec::new());
    let why = lane.submit(read, ()).map_err(|no| no.why).expect_err("no room to read into");
    assert!(matches!(why, Rejection::Invalid { .. }), "{why}");
}

#[test]
fn once_a_cancel_has_completed_a_lane_is_at_rest_again() {
    let (mut lane, kernel) = lane::<Nop, ()>(deferred());
    kernel.enters(Enter::Consume(1));
    let key = lane.submit(Nop, ()).expect("room");
    assert_eq!(lane.submit_all(), Ok(1));
    lane.cancel(&key).expect("room");
    assert_eq!(lane.submit_all(), Ok(1));
    assert!(kernel.post(kernel.consumed()[0].user_data, -libc::ECANCELED));
    assert_eq!(lane.reap(|(), _| ()), Ok(1));
    assert_eq!((asks(&mut lane), lane.stale()), (0, 0), "the cancel was its own");
    lane.submit(Nop, ()).expect("room");
    let before = lane.raw().stats().enters;
    assert_eq!(lane.turn(1, |(), _| ()), Ok(1));
    assert_eq!(lane.raw().stats().enters, before + 1);
}

#[test]
fn a_lane_that_saw_a_completion_of_nobody_asks_for_more() {
    let (mut lane, kernel) = lane::<Nop, ()>(deferred());
    lane.submit(Nop, ()).expect("room");
    assert_eq!(lane.turn(1, |(), _| ()), Ok(1));
    assert_eq!((asks(&mut lane), lane.stale()), (0, 0), "nothing is in flight");
    assert!(kernel.post(12_345, 0));
    asks(&mut lane);
    assert_eq!((asks(&mut lane), lane.stale()), (1, 1), "others may come now");
}

#[test]
fn a_signal_does_not_end_a_shutdown() {
    let (mut lane, kernel) = lane::<Nop, ()>(Setup::plain(4));
    kernel.enters(Enter::Consume(1));
    lane.submit(Nop, ()).expect("room");
    assert_eq!(lane.submit_all(), Ok(1));
    let user_data = kernel.consumed()[0].user_data;
    kernel.enters(Enter::Fail(libc::EINTR));
    kernel.enters(Enter::Run(Box::new(move |kernel, count| {
        (0..count).for_each(|_| assert!(kernel.consume().is_some()));
        assert!(kernel.post(Cqe { user_data, res: -libc::ECANCELED, ..Cqe::ZERO }));
        Ok(count)
    })));
    assert_eq!(lane.shutdown(Duration::from_secs(5)), Ok(()));
}

/// Else the cancels would have to wait for the next round, ten milliseconds later.
#[test]
fn a_shutdown_makes_room_for_its_cancels() {
    let sim = Sim::new(1);
    let setup = Setup::plain(2).cq_entries(8).kernel(sim.kernel());
    let mut lane: Lane<Read<Rc<OwnedFd>, Vec<u8>>> = setup.build_lane().expect("a lane");
    let (reader, _writer) = sim.pipe().expect("a pipe");
    let reader = Rc::new(reader);
    for _ in 0..8 {
        let read = Read::new(Rc::clone(&reader), vec![0; 8]);
        lane.submit(read, ()).map_err(|no| no.why).expect("room");
    }
    assert_eq!(lane.shutdown(Duration::from_millis(5)), Ok(()), "the queue was full");
}

#[test]
fn a_wait_past_a_cancel_counts_what_all_its_calls_submitted() {
    for (last, expected) in [(0, Ok(1)), (libc::EINTR, Err(1))] {
        let (mut lane, kernel) = lane::<Nop, ()>(Setup::plain(4));
        kernel.enters(Enter::Consume(1));
        let key = lane.submit(Nop, ()).expect("room");
        assert_eq!(lane.submit_all(), Ok(1));
        lane.cancel(&key).expect("room");
        let user_data = kernel.consumed()[0].user_data;
        kernel.enters(Enter::Complete(1)); // The cancel, which is not what is waited for.
        kernel.enters(Enter::Run(Box::new(move |kernel, _| {
            if last != 0 {
                return Err(Errno::new(last));
            }
            assert!(kernel.post(Cqe { user_data, ..Cqe::ZERO }));
            Ok(0)
        })));
        let waited = lane.submit_and_wait(1);
        assert_eq!(waited.map_err(|error| error.submitted), expected);
        lane.set_drop_timeout(Duration::ZERO);
    }
}

#[test]
fn a_signal_during_a_cancel_ends_a_turn_that_shows_what_came() {
    let (mut lane, kernel) = lane::<Nop, u32>(Setup::plain(4));
    kernel.enters(Enter::Consume(2));
    let keys = [1, 2].map(|user| lane.submit(Nop, user).expect("room"));
    assert_eq!(lane.submit_all(), Ok(2));
    lane.cancel(&keys[1]).expect("room");
    assert!(kernel.post(kernel.consumed()[0].user_data, 0));
    kernel.enters(Enter::Fail(libc::EINTR));
    let mut seen = Vec::new();
    let ended = lane.turn(2, |user, _| seen.push(user)).map_err(|error| error.cause);
    assert_eq!((ended, seen), (Err(EnterCause::Interrupted), vec![1]));
    lane.set_drop_timeout(Duration::ZERO);
}

/// For how many completions a wait asks, when the first of two steps has ended, with these results.
fn waits_for_rest(step: impl Step + 'static, results: &[i32]) -> Vec<u32> {
    let (mut ring, kernel) = safe();
    let chain = ring.submit_chain((step, Nop)).map_err(|no| no.why).expect("room");
    kernel.enters(Enter::Consume(u32::MAX));
    ring.submit_all().expect("it submits");
    let entries = kernel.consumed();
    for (entry, &res) in entries.iter().zip(results) {
        assert!(kernel.post(entry.user_data, res));
    }
    ring.reap(|_| {}).expect("they are there");
    kernel.took();
    let user_data = entries.last().expect("the second step").user_data;
    kernel.enters(Enter::Run(Box::new(move |kernel, _| {
        assert!(kernel.post(Cqe { user_data, ..Cqe::ZERO }));
        Ok(0)
    })));
    assert!(ring.wait_chain(chain).is_ok());
    waits(&kernel)
}

#[test]
fn a_chain_does_not_wait_for_a_step_that_has_ended() {
    assert_eq!(waits_for_rest(Nop, &[0]), [1]);
    assert_eq!(waits_for_rest(Nop.within(HOUR), &[0, -libc::ECANCELED]), [1]);
    assert_eq!(waits_for_rest(Nop.hard(), &[0]), [1]);
}

/// Before Linux 5.11 a wait could have no limit.
#[test]
fn a_chain_with_a_clock_is_waited_for_on_an_old_kernel() {
    let sim = Sim::new(1).like(Release::V5_10);
    let mut ring: Ring = Setup::new(8).kernel(sim.kernel()).build().expect("a ring");
    let (reader, writer) = sim.pipe().expect("a pipe");
    sim.after(Duration::from_secs(1), move |sim| {
        sim.write(&writer, b"late").expect("room");
    });
    let step = Read::new(reader, [0; 4]).within(Duration::from_secs(10));
    let chain = ring.submit_chain((step,)).map_err(|no| no.why).expect("room");
    assert!(ring.wait_chain(chain).is_ok(), "{}", sim.report());
}

#[test]
fn a_chain_waits_once_for_all_of_its_steps() {
    let (mut ring, kernel) = safe();
    let chain = ring.submit_chain((Nop, Nop.hard(), Nop)).map_err(|no| no.why).expect("room");
    assert!(ring.wait_chain(chain).is_ok());
    assert_eq!(waits(&kernel), [3]);
    let close = Close::after(OwnedFd::from(null()), |fd: ChainFd| (Read::new(fd, [0; 4]), Nop));
    let chain = ring.submit_chain(close).map_err(|no| no.why).expect("room");
    kernel.enters(Enter::Run(Box::new(|kernel, count| {
        for sqe in std::iter::from_fn(|| kernel.consume()).collect::<Vec<_>>() {
            // The number stays open, and so comes back.
            let res = if sqe.opcode == Opcode::CLOSE { -libc::ECANCELED } else { 4 };
            assert!(kernel.post(Cqe { user_data: sqe.user_data, res, ..Cqe::ZERO }));
        }
        Ok(count)
    })));
    assert!(ring.wait_chain(chain).is_ok());
    assert_eq!(waits(&kernel), [3], "with the close");
    let nop = ring.submit(Nop).expect("room");
    ring.detach(nop);
    let chain = ring.submit_chain((Nop, Nop)).map_err(|no| no.why).expect("room");
    assert!(ring.wait_chain(chain).is_ok());
    assert_eq!(waits(&kernel), [1], "what is detached is dropped between two turns");
}

#[test]
fn a_clock_does_not_hide_an_error_of_the_kernel() {
    let (mut ring, kernel) = safe();
    kernel.enters(Enter::Consume(2));
    let chain = ring.submit_chain((Nop.within(HOUR),)).map_err(|no| no.why).expect("room");
    assert_eq!(ring.submit_all(), Ok(2));
    kernel.enters(Enter::Fail(libc::ENXIO));
    assert!(ring.wait_chain(chain).is_err(), "the kernel cannot go on");
    ring.set_drop_timeout(Duration::ZERO);
}

#[test]
fn a_chain_may_be_as_long_as_the_queue() {
    let (mut ring, _kernel) = safe();
    let chain = ring.submit_chain([Nop; 8]).map_err(|no| no.why).expect("it fits");
    assert!(ring.wait_chain(chain).is_ok());
}

#[test]
fn a_wait_for_an_operation_with_a_clock_shows_the_ends_of_others() {
    let (mut ring, _kernel) = safe();
    let nops = [(); 2].map(|()| ring.submit(Nop).expect("room"));
    let chain = ring.submit_chain((Nop.within(HOUR),)).map_err(|no| no.why).expect("room");
    let (timed,) = chain.into_tickets();
    assert!(ring.wait(timed).is_ok());
    let mut ended = Vec::new();
    let reaped = ring.reap(|event| {
        if let Event::Ended { slot, .. } = event {
            ended.push(slot);
        }
    });
    reaped.expect("they are there");
    assert_eq!(ended, nops.each_ref().map(|nop| nop.slot()));
}
