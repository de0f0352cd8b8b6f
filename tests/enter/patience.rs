//! Waits with patience: what the kernel is told of a point in time, of signals, of a stored
//! argument; and what is made of its answers.

use std::time::Duration;

use annulus::op::Clock;
use annulus::{EnterCause, EnterError, Patience, SignalMask, Woken};
use annulus_sys::abi::Timespec;
use annulus_sys::flags::{EnterFlags, Features};

use crate::gate_kernel::Seen;
use crate::support::doors::{Bound, Enter};
use crate::{GETEVENTS, NONE, plain, push};

const HOUR: Duration = Duration::from_secs(3600);
const ABSOLUTE: EnterFlags = GETEVENTS.union(EnterFlags::ABS_TIMER);
const UNCOUNTED: EnterFlags = GETEVENTS.union(EnterFlags::NO_IOWAIT);

/// What a timeout was, if there was one, beside the flags.
fn timeout(seen: Seen) -> (EnterFlags, Option<Timespec>) {
    let Bound::Ext { timeout, .. } = seen.bound else { panic!("not bounded: {seen:?}") };
    (seen.flags, timeout)
}

/// Whether the kernel was told a span of about an hour.
fn is_an_hour(told: Option<Timespec>) -> bool {
    told.is_some_and(|told| (1..=3600).contains(&told.tv_sec))
}

#[test]
fn a_time_of_the_rings_clock_is_told_as_it_is() {
    let (mut ring, kernel) = plain();
    let time = Clock::Monotonic.now() + HOUR;
    push(&mut ring, [1]);
    let patience = Patience::until(Clock::Monotonic, time);
    assert_eq!(ring.submit_and_wait_with(1, &patience), Ok((1, Woken::Ready)));
    let seen = kernel.seen();
    assert_eq!((seen.len(), timeout(seen[0])), (1, (ABSOLUTE, Some(time.into()))));
}

/// In a time namespace; or by a clock that is ahead of ours.
#[test]
fn a_time_that_comes_too_early_is_told_by_what_is_left() {
    let (mut ring, kernel) = plain();
    kernel.enters(Enter::Fail(libc::ETIME));
    kernel.enters(Enter::Fail(libc::ETIME));
    push(&mut ring, [1]);
    let patience = Patience::until(Clock::Monotonic, Clock::Monotonic.now() + HOUR);
    assert_eq!(ring.submit_and_wait_with(1, &patience), Ok((1, Woken::Ready)));
    let told: Vec<_> = kernel.seen().into_iter().map(timeout).collect();
    assert_eq!([told[0].0, told[1].0, told[2].0], [ABSOLUTE, GETEVENTS, GETEVENTS]);
    assert!(is_an_hour(told[1].1) && is_an_hour(told[2].1), "{told:?}");
}

#[test]
fn a_time_of_another_clock_is_told_by_what_is_left() {
    for clock in [Clock::Boottime, Clock::Realtime] {
        let (mut ring, kernel) = plain();
        push(&mut ring, [1]);
        let patience = Patience::until(clock, clock.now() + HOUR);
        assert_eq!(ring.submit_and_wait_with(1, &patience), Ok((1, Woken::Ready)));
        let (flags, told) = timeout(kernel.seen()[0]);
        assert!(flags == GETEVENTS && is_an_hour(told), "{clock:?}");
    }
    // Before Linux 6.12 one of the ring's clock, too.
    let (_, kernel) = plain();
    kernel.set_features(Features::EXT_ARG);
    let mut ring = kernel.ring(annulus::Setup::plain(4));
    push(&mut ring, [1]);
    let patience = Patience::until(Clock::Monotonic, Clock::Monotonic.now() + HOUR);
    assert_eq!(ring.submit_and_wait_with(1, &patience), Ok((1, Woken::Ready)));
    let (flags, told) = timeout(kernel.seen()[0]);
    assert!(flags == GETEVENTS && is_an_hour(told));
}

#[test]
fn a_wait_that_is_not_counted_says_so_and_nothing_else_does() {
    let (mut ring, kernel) = plain();
    let patience = Patience::FOREVER.without_iowait();
    push(&mut ring, [1]);
    assert_eq!(ring.submit_and_wait_with(1, &patience), Ok((1, Woken::Ready)));
    push(&mut ring, [2]);
    assert_eq!(ring.submit_and_wait_with(1, &patience), Ok((1, Woken::Ready)), "it is ready");
    assert_eq!(kernel.took(), [(1, 1, UNCOUNTED), (1, 0, NONE)]);
    kernel.enters(Enter::Consume(1));
    push(&mut ring, [3]);
    assert_eq!(ring.submit(), Ok(1));
    kernel.enters(Enter::Fail(libc::EINTR));
    assert!(ring.wait_with(3, &patience).is_err());
    assert_eq!(kernel.took(), [(1, 0, NONE), (0, 3, UNCOUNTED)]);
}

#[test]
fn signals_need_no_other_argument() {
    let (mut ring, kernel) = plain();
    let patience = Patience::FOREVER.signals(SignalMask::none());
    push(&mut ring, [1]);
    assert_eq!(ring.submit_and_wait_with(1, &patience), Ok((1, Woken::Ready)));
    assert_eq!(kernel.seen()[0].bound, Bound::SigMask);
    push(&mut ring, [2]);
    let patience = Patience::at_most(HOUR).signals(SignalMask::none());
    assert_eq!(ring.submit_and_wait_with(2, &patience), Ok((1, Woken::Ready)));
    assert!(matches!(kernel.seen()[0].bound, Bound::Ext { sigmask: true, .. }));
}

/// The kernel answers with a count, and says nothing of a signal.
#[test]
fn who_lets_signals_in_hears_of_each_return() {
    let interrupted = |submitted| EnterError { submitted, cause: EnterCause::Interrupted };
    let (mut ring, kernel) = plain();
    let patience = Patience::FOREVER.signals(SignalMask::none());
    kernel.enters(Enter::Consume(1));
    push(&mut ring, [1]);
    assert_eq!(ring.submit_and_wait_with(1, &patience), Err(interrupted(1)));
    assert!(kernel.post(1, 0));
    kernel.enters(Enter::Consume(1));
    push(&mut ring, [2]);
    assert_eq!(ring.submit_and_wait_with(2, &patience), Err(interrupted(1)));
    kernel.enters(Enter::Answer(0));
    assert_eq!(ring.wait_with(2, &patience), Err(interrupted(0)));
}

#[test]
fn a_stored_argument_is_used_again_only_where_nothing_else_bounds_the_wait() {
    let bounds = |patience: &Patience| {
        let (mut ring, kernel) = plain();
        // Comes back without a reason, and then with what was waited for.
        kernel.enters(Enter::Consume(1));
        kernel.enters(Enter::Answer(0));
        kernel.enters(Enter::Fail(libc::EINTR));
        push(&mut ring, [1]);
        assert!(ring.submit_and_wait_with(1, patience).is_err());
        let seen = kernel.seen();
        seen.into_iter().map(|seen| seen.bound).collect::<Vec<_>>()
    };
    assert_eq!(bounds(&Patience::FOREVER.stored_at(64)), [Bound::Registered(64); 3]);
    let bounded = bounds(&Patience::at_most(HOUR).stored_at(128));
    assert_eq!(bounded[0], Bound::Registered(128));
    assert!(bounded[1..].iter().all(|bound| matches!(bound, Bound::Ext { .. })), "{bounded:?}");
}
