//! Bounded waits: which arguments the kernel gets, and how the waits end.

use std::thread::sleep;
use std::time::Duration;

use annulus::{EnterCause, EnterError, Setup, Woken};
use annulus_sys::abi::{Cqe, Timespec};
use annulus_sys::errno::Errno;
use annulus_sys::flags::{Features, SetupFlags};

use crate::driver_kernel::{DriverKernel, Seen};
use crate::support::backend::{Bound, Enter};
use crate::support::fake_kernel::FakeKernel;
use crate::{GETEVENTS, NONE, plain, pop_all, push, ring};

const LONG: Duration = Duration::from_secs(1000);
const SHORT: Duration = Duration::from_millis(20);

/// Consumes all entries, posts so many completions, and takes its time.
fn post_after(
    time: Duration,
    count: u32,
    answer: impl FnOnce(u32) -> Result<u32, Errno> + Send + 'static,
) -> Enter {
    Enter::Run(Box::new(move |kernel: &mut FakeKernel, to_submit| {
        for _ in 0..to_submit {
            kernel.consume();
        }
        for _ in 0..count {
            assert!(kernel.post(Cqe { user_data: 9, ..Cqe::ZERO }));
        }
        sleep(time);
        answer(to_submit)
    }))
}

/// The timeout that was passed to the kernel, and the minimum wait.
fn told(seen: Seen) -> (Option<Duration>, Option<Duration>) {
    let Bound::Ext { timeout, min_wait, sigmask: false } = seen.bound else {
        panic!("not bounded, or with a signal mask: {seen:?}");
    };
    let span = |time: Timespec| {
        let whole = Duration::from_secs(time.tv_sec.cast_unsigned());
        whole + Duration::from_nanos(time.tv_nsec.cast_unsigned())
    };
    (timeout.map(span), min_wait)
}

/// Whether the kernel was passed `most`, less the moment that passed before the call.
fn is_just_below(told: Option<Duration>, most: Duration) -> bool {
    told.is_some_and(|told| told <= most && told > most.mul_f64(0.5))
}

fn interrupted(submitted: u32) -> EnterError {
    EnterError { submitted, cause: EnterCause::Interrupted }
}

#[test]
fn only_a_bounded_wait_has_an_argument() {
    let (mut ring, kernel) = plain();
    push(&mut ring, [1]);
    assert_eq!(ring.submit_and_wait(1), Ok(1));
    assert_eq!(kernel.seen()[0].bound, Bound::None);
    push(&mut ring, [2]);
    assert_eq!(ring.submit_and_wait_timeout(2, LONG), Ok((1, Woken::Ready)));
    let seen = kernel.seen();
    assert_eq!((seen.len(), seen[0].to_submit, seen[0].min_complete), (1, 1, 2));
    assert_eq!(seen[0].flags, GETEVENTS);
    let (timeout, min_wait) = told(seen[0]);
    assert!(is_just_below(timeout, LONG));
    assert_eq!(min_wait, None);
    // A call that waits for nothing needs no bound.
    push(&mut ring, [3]);
    assert_eq!(ring.submit_and_wait_timeout(2, LONG), Ok((1, Woken::Ready)));
    let seen = kernel.seen();
    assert_eq!((seen[0].bound, seen[0].flags), (Bound::None, NONE));
    assert_eq!(ring.wait_timeout(3, LONG), Ok(Woken::Ready));
    assert_eq!(kernel.seen(), []);
}

#[test]
fn etime_is_no_error() {
    let (mut ring, kernel) = plain();
    kernel.enters(Enter::Consume(1));
    push(&mut ring, [1]);
    assert_eq!(ring.submit(), Ok(1));
    kernel.enters(post_after(SHORT, 0, |_| Err(Errno::new(libc::ETIME))));
    assert_eq!(ring.wait_timeout(1, SHORT), Ok(Woken::TimedOut));
    kernel.enters(post_after(SHORT, 0, |_| Err(Errno::new(libc::ETIME))));
    assert_eq!(ring.submit_and_wait_timeout(1, SHORT), Ok((0, Woken::TimedOut)));
    assert_eq!(kernel.took(), [(1, 0, NONE), (0, 1, GETEVENTS), (0, 1, GETEVENTS)]);
    // A completion came at the last moment.
    kernel.enters(post_after(SHORT, 1, |_| Err(Errno::new(libc::ETIME))));
    assert_eq!(ring.wait_timeout(1, SHORT), Ok(Woken::Ready));
}

#[test]
fn a_timeout_behind_a_count_is_told() {
    let (mut ring, kernel) = plain();
    kernel.enters(post_after(SHORT, 1, Ok));
    push(&mut ring, [1, 2]);
    assert_eq!(ring.submit_and_wait_timeout(2, SHORT), Ok((2, Woken::TimedOut)));
    assert_eq!(kernel.took(), [(2, 2, GETEVENTS)]);
    // With a completion in the ring the kernel answers 0 and not ETIME.
    kernel.enters(post_after(SHORT, 0, Ok));
    assert_eq!(ring.wait_timeout(2, SHORT), Ok(Woken::TimedOut));
    assert_eq!(kernel.took(), [(0, 2, GETEVENTS)]);
    assert_eq!(pop_all(&mut ring), [9]);
}

#[test]
fn an_empty_answer_before_the_time_is_up_is_no_news() {
    let (mut ring, kernel) = plain();
    kernel.enters(Enter::Consume(1));
    push(&mut ring, [1]);
    assert_eq!(ring.submit(), Ok(1));
    kernel.took();
    kernel.enters(Enter::Answer(0));
    kernel.enters(Enter::Answer(0));
    kernel.enters(post_after(SHORT, 1, Ok));
    assert_eq!(ring.wait_timeout(1, LONG), Ok(Woken::Ready));
    assert_eq!(kernel.took(), [(0, 1, GETEVENTS); 3]);
    assert_eq!(pop_all(&mut ring), [9]);
    kernel.enters(Enter::Answer(0));
    kernel.enters(post_after(SHORT, 0, |_| Err(Errno::new(libc::ETIME))));
    assert_eq!(ring.submit_and_wait_timeout(2, SHORT), Ok((0, Woken::TimedOut)));
    // With something in the ring, a signal may hide behind it.
    kernel.enters(post_after(Duration::ZERO, 1, Ok));
    assert_eq!(ring.wait_timeout(2, LONG), Err(interrupted(0)));
}

#[test]
fn a_signal_during_a_bounded_wait_is_not_taken_for_its_end() {
    let (mut ring, kernel) = plain();
    kernel.enters(Enter::Consume(1));
    push(&mut ring, [1]);
    assert_eq!(ring.submit_and_wait_timeout(1, LONG), Err(interrupted(1)));
    kernel.enters(Enter::Fail(libc::EINTR));
    assert_eq!(ring.wait_timeout(1, LONG), Err(interrupted(0)));
    let asked = (0, 0, GETEVENTS);
    assert_eq!(kernel.took(), [(1, 1, GETEVENTS), asked, (0, 1, GETEVENTS)]);
}

#[test]
fn a_wait_that_comes_back_early_goes_on_with_the_time_that_is_left() {
    for submits in [true, false] {
        let (mut ring, kernel) = ring(SetupFlags::IOPOLL);
        push(&mut ring, [1]);
        if !submits {
            kernel.enters(Enter::Consume(1));
            assert_eq!(ring.submit(), Ok(1));
            kernel.seen();
        }
        kernel.enters(post_after(SHORT, 0, Ok));
        kernel.enters(post_after(SHORT, 0, Ok));
        kernel.enters(post_after(Duration::ZERO, 1, Ok));
        let woken = if submits {
            ring.submit_and_wait_timeout(1, LONG).map(|(_, woken)| woken)
        } else {
            ring.wait_timeout(1, LONG)
        };
        assert_eq!(woken, Ok(Woken::Ready));
        let left: Vec<_> = kernel.seen().into_iter().filter_map(|seen| told(seen).0).collect();
        let [first, second, third] = left[..] else { panic!("{left:?}") };
        assert!(first <= LONG);
        assert!(second <= first - SHORT);
        assert!(third <= second - SHORT);
    }
}

#[test]
fn a_wait_that_keeps_coming_back_early_ends_in_time() {
    let (mut ring, kernel) = ring(SetupFlags::IOPOLL);
    push(&mut ring, [1]);
    kernel.enters(Enter::Consume(1));
    assert_eq!(ring.submit(), Ok(1));
    for _ in 0..3 {
        kernel.enters(post_after(SHORT, 0, Ok));
    }
    assert_eq!(ring.wait_timeout(1, SHORT * 2), Ok(Woken::TimedOut));
    assert!(kernel.took().len() <= 3);
}

#[test]
fn the_longest_time_does_not_panic() {
    let (mut ring, kernel) = plain();
    push(&mut ring, [1, 2]);
    assert_eq!(ring.submit_and_wait_timeout(2, Duration::MAX), Ok((2, Woken::Ready)));
    ring.expect_others();
    kernel.enters(post_after(Duration::ZERO, 1, Ok));
    assert_eq!(ring.wait_timeout(3, Duration::MAX), Ok(Woken::Ready));
    kernel.enters(post_after(Duration::ZERO, 1, Ok));
    assert_eq!(ring.wait_min(4, Duration::MAX, Duration::MAX), Ok(Woken::Ready));
    let seen = kernel.seen();
    assert_eq!(seen.len(), 3);
    for seen in seen {
        let (timeout, _) = told(seen);
        assert!(timeout > Some(Duration::from_secs(1 << 62)));
    }
}

#[test]
fn no_time_is_told_as_none_and_ends_at_once() {
    let (mut ring, kernel) = plain();
    push(&mut ring, [1]);
    kernel.enters(Enter::Consume(1));
    assert_eq!(ring.submit_and_wait_timeout(1, Duration::ZERO), Ok((1, Woken::TimedOut)));
    kernel.enters(Enter::Fail(libc::ETIME));
    assert_eq!(ring.wait_timeout(1, Duration::ZERO), Ok(Woken::TimedOut));
    let timeouts: Vec<_> = kernel.seen().into_iter().map(|seen| told(seen).0).collect();
    assert_eq!(timeouts, [Some(Duration::ZERO); 2]);
}

#[test]
fn a_minimum_wait_is_passed_with_the_timeout() {
    let (mut ring, kernel) = plain();
    push(&mut ring, [1, 2]);
    kernel.enters(Enter::Consume(2));
    assert_eq!(ring.submit(), Ok(2));
    kernel.seen();
    kernel.enters(post_after(Duration::ZERO, 2, Ok));
    assert_eq!(ring.wait_min(2, LONG / 10, LONG), Ok(Woken::Ready));
    let seen = kernel.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!((seen[0].min_complete, seen[0].flags), (2, GETEVENTS));
    let (timeout, min_wait) = told(seen[0]);
    assert!(is_just_below(timeout, LONG));
    assert!(is_just_below(min_wait, LONG / 10));
}

#[test]
fn after_the_minimum_wait_one_completion_is_enough() {
    let one_of_two = |min_wait, posted, timeout| {
        let (mut ring, kernel) = plain();
        push(&mut ring, [1, 2]);
        kernel.enters(Enter::Consume(2));
        assert_eq!(ring.submit(), Ok(2));
        kernel.enters(post_after(SHORT, posted, Ok));
        let woken = ring.wait_min(2, min_wait, timeout);
        assert_eq!(kernel.took()[..2], [(2, 0, NONE), (0, 2, GETEVENTS)]);
        woken
    };
    assert_eq!(one_of_two(SHORT, 1, LONG), Ok(Woken::Ready));
    // Not before the minimum wait, and not without any completion.
    assert_eq!(one_of_two(LONG, 1, LONG), Err(interrupted(0)));
    assert_eq!(one_of_two(LONG, 1, SHORT), Ok(Woken::TimedOut));
    assert_eq!(one_of_two(SHORT, 0, SHORT), Ok(Woken::TimedOut));
}

#[test]
fn a_kernel_that_cannot_bound_a_wait_is_not_asked() {
    let refused = |features: Features,
                   act: fn(&mut annulus::RawRing) -> Result<Woken, EnterError>| {
        let kernel = DriverKernel::new();
        kernel.set_features(features);
        let mut ring = kernel.ring(Setup::plain(4));
        push(&mut ring, [1]);
        kernel.enters(Enter::Consume(1));
        assert_eq!(ring.submit(), Ok(1));
        kernel.seen();
        let error = act(&mut ring).unwrap_err();
        assert_eq!(kernel.seen(), []);
        error.to_string()
    };
    let timed = |ring: &mut annulus::RawRing| ring.wait_timeout(1, LONG);
    let submitting =
        |ring: &mut annulus::RawRing| ring.submit_and_wait_timeout(1, LONG).map(|(_, woken)| woken);
    let least = |ring: &mut annulus::RawRing| ring.wait_min(1, SHORT, LONG);
    let old = Features::SINGLE_MMAP | Features::NODROP;
    assert!(refused(old, timed).contains("needs Linux 5.11"));
    assert!(refused(old, submitting).contains("needs Linux 5.11"));
    assert!(refused(old, least).contains("needs Linux 5.11"));
    assert!(refused(old | Features::EXT_ARG, least).contains("needs Linux 6.12"));
}
