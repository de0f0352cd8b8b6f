//! Waits with options: how a point in time, signals and a stored argument are passed to the kernel,
//! and how its answers are understood.

use std::time::Duration;

use annulus::op::Clock;
use annulus::raw::register::{RingMemory, WaitSlot};
use annulus::{EnterCause, EnterError, Setup, SignalMask, WaitOptions, Woken};
use annulus_sys::abi::Timespec;
use annulus_sys::errno::Errno;
use annulus_sys::flags::{EnterFlags, SetupFlags};
use annulus_sys::opcode::RegisterOp;
use annulus_sys::syscall::EnterArg;

use crate::driver_kernel::{DriverKernel, Seen};
use crate::support::backend::{Bound, Enter};
use crate::{GETEVENTS, NONE, plain, push, ring};

const HOUR: Duration = Duration::from_secs(3600);
const UNCOUNTED: EnterFlags = GETEVENTS.union(EnterFlags::NO_IOWAIT);

/// The timeout that was passed, if there was one, and the flags.
fn timeout(seen: Seen) -> (EnterFlags, Option<Timespec>) {
    let Bound::Ext { timeout, .. } = seen.bound else { panic!("not bounded: {seen:?}") };
    (seen.flags, timeout)
}

/// Whether the kernel was passed a span of about an hour.
fn is_an_hour(told: Option<Timespec>) -> bool {
    told.is_some_and(|told| (1..=3600).contains(&told.tv_sec))
}

/// The kernel's clock may be ahead of ours.
#[test]
fn a_time_that_comes_too_early_is_waited_for_again() {
    let (mut ring, kernel) = plain();
    kernel.enters(Enter::Fail(libc::ETIME));
    kernel.enters(Enter::Fail(libc::ETIME));
    push(&mut ring, [1]);
    let options = WaitOptions::until(Clock::Monotonic, Clock::Monotonic.now() + HOUR);
    assert_eq!(ring.submit_and_wait_with(1, &options), Ok((1, Woken::Ready)));
    let told: Vec<_> = kernel.seen().into_iter().map(timeout).collect();
    assert_eq!(told.len(), 3);
    assert!(told.iter().all(|told| told.0 == GETEVENTS && is_an_hour(told.1)), "{told:?}");
}

#[test]
fn a_time_of_any_clock_is_told_by_what_is_left() {
    for clock in [Clock::Monotonic, Clock::Boottime, Clock::Realtime] {
        let (mut ring, kernel) = plain();
        push(&mut ring, [1]);
        let options = WaitOptions::until(clock, clock.now() + HOUR);
        assert_eq!(ring.submit_and_wait_with(1, &options), Ok((1, Woken::Ready)));
        // Not as a point in time: in a time namespace the kernel would take it for the system's
        // clock.
        let (flags, told) = timeout(kernel.seen()[0]);
        assert!(flags == GETEVENTS && is_an_hour(told), "{clock:?}");
    }
}

#[test]
fn a_wait_that_is_not_counted_says_so_and_nothing_else_does() {
    let (mut ring, kernel) = plain();
    let options = WaitOptions::FOREVER.without_iowait();
    push(&mut ring, [1]);
    assert_eq!(ring.submit_and_wait_with(1, &options), Ok((1, Woken::Ready)));
    push(&mut ring, [2]);
    assert_eq!(ring.submit_and_wait_with(1, &options), Ok((1, Woken::Ready)), "it is ready");
    assert_eq!(kernel.took(), [(1, 1, UNCOUNTED), (1, 0, NONE)]);
    kernel.enters(Enter::Consume(1));
    push(&mut ring, [3]);
    assert_eq!(ring.submit(), Ok(1));
    kernel.enters(Enter::Fail(libc::EINTR));
    assert!(ring.wait_with(3, &options).is_err());
    assert_eq!(kernel.took(), [(1, 0, NONE), (0, 3, UNCOUNTED)]);
}

#[test]
fn signals_need_no_other_argument() {
    let (mut ring, kernel) = plain();
    let options = WaitOptions::FOREVER.signals(SignalMask::none());
    push(&mut ring, [1]);
    assert_eq!(ring.submit_and_wait_with(1, &options), Ok((1, Woken::Ready)));
    assert_eq!(kernel.seen()[0].bound, Bound::SigMask);
    push(&mut ring, [2]);
    let options = WaitOptions::at_most(HOUR).signals(SignalMask::none());
    assert_eq!(ring.submit_and_wait_with(2, &options), Ok((1, Woken::Ready)));
    assert!(matches!(kernel.seen()[0].bound, Bound::Ext { sigmask: true, .. }));
}

/// The kernel answers with a count, and does not report the signal.
#[test]
fn who_lets_signals_in_hears_of_each_return() {
    let interrupted = |submitted| EnterError { submitted, cause: EnterCause::Interrupted };
    let (mut ring, kernel) = plain();
    let options = WaitOptions::FOREVER.signals(SignalMask::none());
    kernel.enters(Enter::Consume(1));
    push(&mut ring, [1]);
    assert_eq!(ring.submit_and_wait_with(1, &options), Err(interrupted(1)));
    assert!(kernel.post(1, 0));
    kernel.enters(Enter::Consume(1));
    push(&mut ring, [2]);
    assert_eq!(ring.submit_and_wait_with(2, &options), Err(interrupted(1)));
    kernel.enters(Enter::Answer(0));
    assert_eq!(ring.wait_with(2, &options), Err(interrupted(0)));
}

#[test]
fn a_stored_argument_is_used_again_only_where_nothing_else_bounds_the_wait() {
    let bounds = |options: &WaitOptions| {
        let (mut ring, kernel) = ring(SetupFlags::IOPOLL);
        // A device is polled, and the kernel comes back early.
        kernel.enters(Enter::Consume(1));
        kernel.enters(Enter::Answer(0));
        kernel.enters(Enter::Fail(libc::EINTR));
        push(&mut ring, [1]);
        assert!(ring.submit_and_wait_with(1, options).is_err());
        let seen = kernel.seen();
        seen.into_iter().map(|seen| seen.bound).collect::<Vec<_>>()
    };
    let [_, second, third] = slots();
    assert_eq!(bounds(&WaitOptions::FOREVER.in_slot(second)), [Bound::Registered(64); 3]);
    let bounded = bounds(&WaitOptions::at_most(HOUR).in_slot(third));
    assert_eq!(bounded[0], Bound::Registered(128));
    assert!(bounded[1..].iter().all(|bound| matches!(bound, Bound::Ext { .. })), "{bounded:?}");
}

/// The slots of a region of three.
fn slots() -> [WaitSlot; 3] {
    let kernel = DriverKernel::new();
    kernel.on_register(|op, _, _| (op == RegisterOp::MEM_REGION).then_some(Ok(0)));
    let disabled = Setup::plain(4).kernel(kernel.backend()).build_disabled();
    let region =
        disabled.expect("a ring").register_wait_region(3, RingMemory::User).expect("a region");
    [0, 1, 2].map(|index| region.slot(index).expect("one of three"))
}

#[test]
fn an_offset_that_is_no_slots_makes_no_call() {
    let (mut ring, kernel) = plain();
    for offset in [1, 8, 40, 63, 65, usize::MAX, usize::MAX - 23] {
        let entered = ring.enter(0, 1, GETEVENTS, EnterArg::Registered(offset));
        assert_eq!(entered, Err(Errno::new(libc::EINVAL)), "{offset}");
    }
    assert_eq!(kernel.took(), []);
    kernel.enters(Enter::Answer(0));
    kernel.enters(Enter::Answer(0));
    for slot in slots().into_iter().take(2) {
        let arg = EnterArg::Registered(slot.offset());
        assert_eq!(ring.enter(0, 1, GETEVENTS, arg), Ok(0));
    }
    let seen = kernel.seen().into_iter().map(|seen| seen.bound);
    assert!(seen.eq([Bound::Registered(0), Bound::Registered(64)]));
}

/// Nothing is in flight, and each wait ends anyway.
#[test]
fn a_wait_with_a_limit_is_never_refused() {
    let until = WaitOptions::until(Clock::Monotonic, Clock::Monotonic.now() + HOUR);
    let [slot, ..] = slots();
    let limited = [WaitOptions::at_most(HOUR), until, WaitOptions::FOREVER.in_slot(slot)];
    for options in limited {
        let (mut ring, kernel) = plain();
        for _ in 0..2 {
            kernel.enters(Enter::Fail(libc::EINTR));
        }
        let interrupted = EnterError { submitted: 0, cause: EnterCause::Interrupted };
        assert_eq!(ring.wait_with(3, &options), Err(interrupted));
        assert_eq!(ring.submit_and_wait_with(3, &options), Err(interrupted));
        assert_eq!(kernel.took(), [(0, 3, GETEVENTS), (0, 3, GETEVENTS)]);
    }
    // A minimum wait is no bound: with one completion it is over, and without one it is not.
    let (mut ring, kernel) = plain();
    let options = WaitOptions::FOREVER.min_wait(HOUR);
    let cause = EnterCause::NothingComing { want: 1, coming: 0 };
    assert_eq!(ring.wait_with(3, &options), Err(EnterError { submitted: 0, cause }));
    assert_eq!(kernel.took(), []);
    push(&mut ring, [1]);
    kernel.enters(Enter::Consume(1));
    let interrupted = EnterError { submitted: 1, cause: EnterCause::Interrupted };
    assert_eq!(ring.submit_and_wait_with(3, &options), Err(interrupted));
}

#[test]
fn a_minimum_wait_that_is_not_shorter_than_the_limit_means_nothing() {
    let told = |options: &WaitOptions| {
        let (mut ring, kernel) = plain();
        push(&mut ring, [1]);
        assert_eq!(ring.submit_and_wait_with(1, options), Ok((1, Woken::Ready)));
        let Bound::Ext { min_wait, .. } = kernel.seen()[0].bound else { panic!("not bounded") };
        min_wait
    };
    assert!(told(&WaitOptions::at_most(HOUR).min_wait(HOUR / 2)).is_some());
    assert_eq!(told(&WaitOptions::at_most(HOUR).min_wait(HOUR)), None);
    assert_eq!(told(&WaitOptions::at_most(HOUR).min_wait(HOUR * 2)), None);
    let until = WaitOptions::until(Clock::Realtime, Clock::Realtime.now() + HOUR);
    assert_eq!(told(&until.min_wait(HOUR)), None);
}
