//! The safe API refuses a wait exactly when no completion can come: its slots know what is in
//! flight.

use annulus::op::{Nop, Read, SendZc, TimeoutMulti};
use annulus::{EnterCause, Ring, Setup, SignalMask, WaitOptions, Woken};
use annulus_sys::abi::Cqe;
use annulus_sys::flags::CqeFlags;
use annulus_sys::opcode::RegisterOp;
use std::sync::Arc;
use std::time::Duration;

use crate::driver_kernel::DriverKernel;
use crate::support::backend::Enter;
use crate::{GETEVENTS, NONE};

const HOUR: Duration = Duration::from_secs(3600);

/// A ring on a script that consumes every entry, and completes none.
fn safe() -> (Ring, Arc<DriverKernel>) {
    let kernel = DriverKernel::new();
    let ring = Setup::plain(4).kernel(kernel.backend()).build().expect("a ring");
    (ring, kernel)
}

/// How a wait for `want` events ends: by a signal, if it was not refused.
fn cause(ring: &mut Ring, kernel: &DriverKernel, want: u32) -> EnterCause {
    for _ in 0..3 {
        kernel.enters(Enter::Fail(libc::EINTR));
    }
    let error = ring.submit_and_wait(want).expect_err("nothing completes");
    kernel.enters_no_more();
    error.cause
}

fn nothing(want: u32, coming: u32) -> EnterCause {
    EnterCause::NothingComing { want, coming }
}

/// Submits what was pushed, which does not complete, and returns its `user_data`.
fn hand_over(ring: &mut Ring, kernel: &DriverKernel) -> u64 {
    kernel.enters(Enter::Consume(1));
    assert_eq!(ring.submit_all(), Ok(1));
    kernel.consumed().last().expect("one").user_data
}

fn post(kernel: &DriverKernel, user_data: u64, flags: CqeFlags) {
    kernel.kernel(|kernel| assert!(kernel.post(Cqe { user_data, res: 1, flags })));
}

#[test]
fn a_multishot_is_pending_while_it_is_in_flight_and_no_longer() {
    let (mut ring, kernel) = safe();
    assert_eq!(cause(&mut ring, &kernel, 1), nothing(1, 0));
    let ticks = ring.submit(TimeoutMulti::new(HOUR)).expect("room");
    let user_data = hand_over(&mut ring, &kernel);
    assert_eq!(cause(&mut ring, &kernel, 3), EnterCause::Interrupted);
    post(&kernel, user_data, CqeFlags::MORE);
    post(&kernel, user_data, CqeFlags::empty());
    assert_eq!(ring.submit_and_wait(1), Ok(0));
    ring.reap(|_| ()).expect("it is there");
    assert_eq!(cause(&mut ring, &kernel, 1), nothing(1, 0));
    // A single-shot operation is counted; the multishot has ended: two events can never come.
    let _nop = ring.submit(Nop).expect("room");
    let user_data = hand_over(&mut ring, &kernel);
    assert_eq!(cause(&mut ring, &kernel, 2), nothing(2, 1));
    assert_eq!(cause(&mut ring, &kernel, 1), EnterCause::Interrupted);
    post(&kernel, user_data, CqeFlags::empty());
    ring.reap(|_| ()).expect("it is there");
    drop(ticks);
}

#[test]
fn a_zero_copy_send_completes_with_a_result_and_a_notification_and_no_more() {
    let (mut ring, kernel) = safe();
    let (socket, _peer) = std::os::unix::net::UnixStream::pair().expect("a pair");
    let _sent = ring.submit(SendZc::new(socket, *b"x")).map_err(|no| no.why).expect("room");
    let user_data = hand_over(&mut ring, &kernel);
    assert_eq!(cause(&mut ring, &kernel, 3), nothing(3, 2));
    assert_eq!(cause(&mut ring, &kernel, 2), EnterCause::Interrupted);
    post(&kernel, user_data, CqeFlags::MORE);
    ring.reap(|_| ()).expect("it is there");
    assert_eq!(cause(&mut ring, &kernel, 2), nothing(2, 1));
    post(&kernel, user_data, CqeFlags::NOTIF);
    ring.reap(|_| ()).expect("it is there");
    assert_eq!(cause(&mut ring, &kernel, 1), nothing(1, 0));
}

#[test]
fn messages_can_come_as_long_as_there_is_a_sender() {
    let (mut ring, kernel) = safe();
    kernel.on_register(|op, _, _| (op == RegisterOp::SEND_MSG_RING).then_some(Ok(0)));
    let sender = ring.sender().expect("an eventfd at most");
    let other = sender.clone();
    drop(sender);
    ring.submit_all().expect("the watch, if there is one");
    assert_eq!(cause(&mut ring, &kernel, 3), EnterCause::Interrupted);
    drop(other);
    assert_eq!(cause(&mut ring, &kernel, 1), nothing(1, 0));
}

/// Kept events count like any others, and so do those that a refused wait took.
#[test]
fn what_is_kept_is_counted_once() {
    let (mut ring, kernel) = safe();
    let (from, _to) = std::io::pipe().expect("a pipe");
    let read = ring.submit(Read::new(from, [0; 1])).map_err(|no| no.why).expect("room");
    let first = hand_over(&mut ring, &kernel);
    let _nop = ring.submit(Nop).expect("room");
    let second = hand_over(&mut ring, &kernel);
    post(&kernel, second, CqeFlags::empty());
    assert_eq!(cause(&mut ring, &kernel, 3), nothing(3, 2));
    assert_eq!(ring.submit_and_wait(1), Ok(0), "the one that was kept");
    assert_eq!(cause(&mut ring, &kernel, 2), EnterCause::Interrupted);
    // With a timeout the ring waits, whatever can come.
    let options = WaitOptions::at_most(HOUR);
    kernel.enters(Enter::Fail(libc::EINTR));
    let interrupted = ring.submit_and_wait_with(7, &options).expect_err("a signal");
    assert_eq!(interrupted.cause, EnterCause::Interrupted);
    post(&kernel, first, CqeFlags::empty());
    assert_eq!(ring.submit_and_wait(2), Ok(0));
    assert!(ring.try_take(read).is_ok());
}

/// When it has entries to submit, the kernel would not report a signal.
#[test]
fn a_wait_that_lets_signals_in_submits_before_it() {
    let (mut ring, kernel) = safe();
    let nop = ring.submit(Nop).expect("room");
    kernel.enters(Enter::Consume(1));
    kernel.enters(Enter::Fail(libc::EINTR));
    let options = WaitOptions::FOREVER.signals(SignalMask::none());
    let unfinished = ring.wait_with(nop, &options).expect_err("a signal");
    assert_eq!(unfinished.why.cause, EnterCause::Interrupted);
    assert_eq!(kernel.took(), [(1, 0, NONE), (0, 1, GETEVENTS)]);
    let user_data = kernel.consumed().last().expect("one").user_data;
    post(&kernel, user_data, CqeFlags::empty());
    assert!(ring.try_take(unfinished.ticket).is_err(), "it is not taken yet");
    ring.reap(|_| ()).expect("it is there");
}

/// Its clock may be another one than ours, which goes slower.
#[test]
fn the_kernel_decides_when_the_time_of_a_ring_is_up() {
    let (mut ring, kernel) = safe();
    let nop = ring.submit(Nop).expect("room");
    hand_over(&mut ring, &kernel);
    kernel.enters(Enter::Fail(libc::ETIME));
    let options = WaitOptions::at_most(HOUR);
    let unfinished = ring.wait_with(nop, &options).expect_err("the time is up");
    assert_eq!(unfinished.why.cause, EnterCause::TimedOut);
    // A cancel is in flight: not every completion is the caller's.
    ring.cancel(&unfinished.ticket).expect("room");
    kernel.enters(Enter::Consume(1));
    kernel.enters(Enter::Fail(libc::ETIME));
    let waited = ring.submit_and_wait_timeout(1, HOUR);
    assert_eq!(waited, Ok((1, Woken::TimedOut)));
    for entry in kernel.consumed() {
        post(&kernel, entry.user_data, CqeFlags::empty());
    }
    ring.reap(|_| ()).expect("it is there");
}

/// After it, one completion is enough.
#[test]
fn the_end_of_a_minimum_wait_does_not_end_the_wait_of_a_ring() {
    const MOMENT: Duration = Duration::from_millis(1);
    let (mut ring, kernel) = safe();
    kernel.keep_time();
    let nop = ring.submit(Nop).expect("room");
    let user_data = hand_over(&mut ring, &kernel);
    ring.cancel(&nop).expect("room");
    kernel.enters(Enter::Consume(1));
    kernel.enters(Enter::Fail(libc::ETIME));
    kernel.enters(Enter::Run(Box::new(move |kernel, _| {
        assert!(kernel.post(Cqe { user_data, ..Cqe::ZERO }));
        Ok(0)
    })));
    let options = WaitOptions::FOREVER.min_wait(MOMENT);
    assert_eq!(ring.submit_and_wait_with(2, &options), Ok((1, Woken::Ready)));
    for cancel in kernel.consumed().iter().filter(|sqe| sqe.user_data != user_data) {
        post(&kernel, cancel.user_data, CqeFlags::empty());
    }
    ring.reap(|_| ()).expect("it is there");
}
