//! Submit: how many calls it makes, and what is left when one call does not submit everything.

#![allow(unsafe_code, reason = "pushes entries that point to nothing")]

use annulus::{EnterCause, EnterError, Setup, prep};
use annulus_sys::errno::Errno;
use annulus_sys::flags::{SetupFlags, SqRingFlags};
use annulus_sys::sq::Full;

use crate::driver_kernel::DriverKernel;
use crate::support::backend::Enter;
use crate::support::panics::complaint;
use crate::{GETEVENTS, NONE, consumed, plain, pop_all, push, ring};

/// Each errno of an enter, and what it means.
const CAUSES: &[(i32, EnterCause)] = &[
    (libc::EINTR, EnterCause::Interrupted),
    (libc::EAGAIN, EnterCause::OutOfRequests),
    (libc::EBUSY, EnterCause::CompletionsPending),
    (libc::EBADR, EnterCause::CompletionsLost),
    (libc::EEXIST, EnterCause::WrongThread),
    (libc::EBADFD, EnterCause::Disabled),
    (libc::EOWNERDEAD, EnterCause::PollerDied),
    (libc::EFAULT, EnterCause::Other(Errno::new(libc::EFAULT))),
    (libc::EINVAL, EnterCause::Other(Errno::new(libc::EINVAL))),
    (libc::ENXIO, EnterCause::Other(Errno::new(libc::ENXIO))),
];

#[test]
fn an_empty_submit_makes_no_call() {
    let (mut ring, kernel) = plain();
    assert_eq!(ring.submit(), Ok(0));
    kernel.kernel(|kernel| kernel.sq_flags.store(SqRingFlags::CQ_OVERFLOW.bits()));
    assert_eq!(ring.submit(), Ok(0));
    assert_eq!(ring.submit_and_wait(0), Ok(0));
    assert_eq!(kernel.took(), []);
}

#[test]
fn a_submit_makes_one_call() {
    let (mut ring, kernel) = plain();
    push(&mut ring, [1, 2, 3]);
    assert_eq!(kernel.took(), []);
    assert_eq!(ring.submit(), Ok(3));
    assert_eq!(ring.submit(), Ok(0));
    assert_eq!(kernel.took(), [(3, 0, NONE)]);
    assert_eq!(consumed(&kernel), [1, 2, 3]);
    assert_eq!(pop_all(&mut ring), [1, 2, 3]);
    assert_eq!(kernel.took(), []);
}

#[test]
fn cq5_a_submit_takes_along_what_the_kernel_says_it_holds_back() {
    for (flags, asked) in [
        (SqRingFlags::CQ_OVERFLOW, GETEVENTS),
        (SqRingFlags::TASKRUN, GETEVENTS),
        (SqRingFlags::NEED_WAKEUP, NONE),
    ] {
        let (mut ring, kernel) = plain();
        kernel.kernel(|kernel| kernel.sq_flags.store(flags.bits()));
        push(&mut ring, [1]);
        assert_eq!(ring.submit(), Ok(1));
        push(&mut ring, [2]);
        assert_eq!(ring.submit_and_wait(0), Ok(1));
        assert_eq!(kernel.took(), [(1, 0, asked), (1, 0, asked)], "{flags:?}");
    }
}

#[test]
fn sq2_a_partial_submission_goes_on_with_the_rest() {
    for flags in [SetupFlags::empty(), SetupFlags::NO_SQARRAY | SetupFlags::SQ_REWIND] {
        let kernel = DriverKernel::new();
        // A ring that rewinds starts at 0, on both sides.
        kernel.start_at(if flags.is_empty() { u32::MAX - 1 } else { 0 });
        let mut ring = kernel.ring(Setup::plain(4).with(flags));
        kernel.enters(Enter::Complete(1));
        kernel.enters(Enter::Complete(2));
        push(&mut ring, [1, 2, 3, 4]);
        assert_eq!(ring.submit(), Ok(4));
        assert_eq!(kernel.took(), [(4, 0, NONE), (3, 0, NONE), (1, 0, NONE)]);
        assert_eq!(consumed(&kernel), [1, 2, 3, 4]);
        assert_eq!((ring.room(), ring.in_flight(), ring.stats().sqes), (4, 4, 4));
    }
}

#[test]
fn sq2_entries_are_pushed_all_or_none() {
    let (mut ring, kernel) = plain();
    let entries = [1, 2, 3].map(|number| prep::nop().with_user_data(number));
    // SAFETY: NOPs point to nothing (OP1).
    unsafe { ring.push_all(&entries) }.expect("four slots are free");
    // SAFETY: likewise (OP1).
    assert_eq!(unsafe { ring.push_all(&entries[..2]) }, Err(Full));
    // SAFETY: likewise (OP1).
    unsafe { ring.push_all(&[]) }.expect("nothing");
    // SAFETY: likewise (OP1).
    unsafe { ring.push_all(&entries[..1]) }.expect("one slot is free");
    assert_eq!(ring.submit(), Ok(4));
    assert_eq!(consumed(&kernel), [1, 2, 3, 1]);
}

#[test]
fn the_kernels_flags_are_shown_as_they_are() {
    let (ring, kernel) = plain();
    assert_eq!(ring.sq_flags(), SqRingFlags::empty());
    for flags in [SqRingFlags::CQ_OVERFLOW, SqRingFlags::TASKRUN | SqRingFlags::NEED_WAKEUP] {
        kernel.kernel(|kernel| kernel.sq_flags.store(flags.bits()));
        assert_eq!(ring.sq_flags(), flags);
    }
    assert_eq!(kernel.took(), []);
}

#[test]
fn what_an_error_leaves_over_goes_with_the_next_submit() {
    let (mut ring, kernel) = plain();
    kernel.enters(Enter::Complete(1));
    kernel.enters(Enter::Fail(libc::EBUSY));
    push(&mut ring, [1, 2, 3]);
    let error = EnterError { submitted: 1, cause: EnterCause::CompletionsPending };
    assert_eq!(ring.submit(), Err(error));
    assert_eq!((ring.room(), ring.stats().sqes), (2, 1));
    push(&mut ring, [4]);
    assert_eq!(ring.submit(), Ok(3));
    assert_eq!(kernel.took(), [(3, 0, NONE), (2, 0, NONE), (3, 0, NONE)]);
    assert_eq!(consumed(&kernel), [1, 2, 3, 4]);
}

#[test]
fn what_an_error_leaves_over_goes_with_the_next_wait() {
    let (mut ring, kernel) = plain();
    kernel.enters(Enter::Complete(1));
    kernel.enters(Enter::Fail(libc::EAGAIN));
    push(&mut ring, [1, 2, 3]);
    let error = EnterError { submitted: 1, cause: EnterCause::OutOfRequests };
    assert_eq!(ring.submit_and_wait(3), Err(error));
    assert_eq!(ring.submit_and_wait(3), Ok(2));
    assert_eq!(kernel.took(), [(3, 3, GETEVENTS), (2, 3, GETEVENTS), (2, 3, GETEVENTS)]);
    assert_eq!(pop_all(&mut ring), [1, 2, 3]);
}

#[test]
fn a_kernel_that_consumes_nothing_is_not_asked_for_ever() {
    let (mut ring, kernel) = plain();
    push(&mut ring, [1, 2]);
    let stuck = |submitted| EnterError { submitted, cause: EnterCause::OutOfRequests };
    kernel.enters(Enter::Answer(0));
    assert_eq!(ring.submit(), Err(stuck(0)));
    assert_eq!(kernel.took(), [(2, 0, NONE)]);
    for _ in 0..10 {
        kernel.enters(Enter::Answer(0));
    }
    assert_eq!(ring.submit_and_wait(2), Err(stuck(0)));
    let took = kernel.took();
    assert!(took.len() <= 2 && took.iter().all(|call| *call == (2, 2, GETEVENTS)), "{took:?}");
}

#[test]
fn a_kernel_that_stops_consuming_is_not_asked_for_ever() {
    let (mut ring, kernel) = plain();
    push(&mut ring, [1, 2]);
    kernel.enters(Enter::Complete(1));
    kernel.enters(Enter::Answer(0));
    let stuck = EnterError { submitted: 1, cause: EnterCause::OutOfRequests };
    assert_eq!(ring.submit(), Err(stuck));
    assert_eq!(kernel.took(), [(2, 0, NONE), (1, 0, NONE)]);
    assert_eq!(ring.submit(), Ok(1));
}

#[test]
fn an_entry_that_is_consumed_and_not_counted_does_not_stop_the_others() {
    let (mut ring, kernel) = plain();
    kernel.enters(Enter::Run(Box::new(|kernel, _| {
        kernel.consume();
        Ok(0)
    })));
    push(&mut ring, [1, 2]);
    assert_eq!(ring.submit(), Ok(1));
    assert_eq!(kernel.took(), [(2, 0, NONE), (1, 0, NONE)]);
}

#[test]
fn sq2_more_than_was_given_is_named() {
    for flags in [SetupFlags::empty(), SetupFlags::NO_SQARRAY | SetupFlags::SQ_REWIND] {
        for count in [3, u32::MAX] {
            let (mut ring, kernel) = ring(flags);
            push(&mut ring, [1, 2]);
            kernel.enters(Enter::Answer(count));
            assert!(complaint(|| ring.submit()).contains("SQ2"));
            kernel.enters(Enter::Answer(count));
            assert!(complaint(|| ring.submit_and_wait(1)).contains("SQ2"));
            assert_eq!(kernel.took(), [(2, 0, NONE), (2, 1, GETEVENTS)]);
        }
    }
}

#[test]
fn sq2_a_head_that_runs_away_during_a_submit_is_named() {
    let (mut ring, kernel) = plain();
    push(&mut ring, [1, 2]);
    kernel.enters(Enter::Run(Box::new(|kernel, _| {
        let ahead = kernel.sq_tail.observe().advance(1);
        kernel.sq_head.publish(ahead);
        Ok(1)
    })));
    assert!(complaint(|| ring.submit()).contains("SQ2"));
    assert_eq!(kernel.took(), [(2, 0, NONE)]);
}

#[test]
fn each_errno_has_its_cause() {
    for &(errno, cause) in CAUSES {
        let (mut ring, kernel) = plain();
        let error = EnterError { submitted: 0, cause };
        push(&mut ring, [1]);
        kernel.enters(Enter::Fail(errno));
        assert_eq!(ring.submit(), Err(error));
        kernel.enters(Enter::Fail(errno));
        assert_eq!(ring.submit_and_wait(1), Err(error));
        kernel.enters(Enter::Consume(1));
        assert_eq!(ring.submit(), Ok(1));
        kernel.enters(Enter::Fail(errno));
        assert_eq!(ring.wait(1), Err(error));
        kernel.enters(Enter::Fail(errno));
        assert_eq!(ring.get_events(), Err(error));
        kernel.kernel(|kernel| kernel.sq_flags.store(SqRingFlags::TASKRUN.bits()));
        kernel.enters(Enter::Fail(errno));
        assert_eq!(ring.peek(), Err(error));
        kernel.enters(Enter::Fail(errno));
        assert_eq!(ring.drain(|_| ()), Err(error));
        assert_eq!(kernel.took().len(), 7);
    }
}

#[test]
fn a_reservation_submits_to_make_room() {
    let (mut ring, kernel) = plain();
    push(&mut ring, [1, 2]);
    assert_eq!(ring.reserve(2).map(|chain| chain.left()), Ok(2));
    assert_eq!(kernel.took(), []);
    assert_eq!(ring.reserve(3).map(|chain| chain.left()), Ok(3));
    assert_eq!(kernel.took(), [(2, 0, NONE)]);
    push(&mut ring, [3]);
    let error = ring.reserve(5).map(drop).unwrap_err();
    let cause = EnterCause::TooFewSlots { count: 5, entries: 4 };
    assert_eq!(error, EnterError { submitted: 0, cause });
    assert_eq!(kernel.took(), []);
}

#[test]
fn waiting_for_room_submits_only_from_a_full_ring() {
    let (mut ring, kernel) = plain();
    push(&mut ring, [1, 2, 3]);
    assert_eq!(ring.wait_for_room(), Ok(()));
    assert_eq!(kernel.took(), []);
    push(&mut ring, [4]);
    assert_eq!(ring.wait_for_room(), Ok(()));
    assert_eq!(kernel.took(), [(4, 0, NONE)]);
}
