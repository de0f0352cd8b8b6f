//! A turn: submit, wait and take in one call of ours, and one of the kernel.

use annulus::op::Nop;
use annulus::{EnterCause, Lane, RawRing, Setup, prep};
use annulus_sys::abi::{Cqe, Cqe32, Sqe};
use annulus_sys::errno::Errno;
use annulus_sys::flags::{CqeFlags, SetupFlags, SqRingFlags};
use annulus_sys::rings::ResizeFailure;

use crate::driver_kernel::DriverKernel;
use crate::support::backend::Enter;
use crate::support::fake_kernel::FakeKernel;
use crate::support::panics::complaint;
use crate::{GETEVENTS, NONE, plain, pop_all, push, ring};

/// What a turn took, and what it returned.
fn turn(ring: &mut RawRing, want: u32) -> (Vec<u64>, Result<u32, EnterCause>) {
    let mut taken = Vec::new();
    let ended = ring.turn(want, |cqe| taken.push(cqe.user_data));
    (taken, ended.map_err(|error| error.cause))
}

#[test]
fn a_turn_is_one_call() {
    let (mut ring, kernel) = plain();
    for first in [1, 3, 5, 7] {
        push(&mut ring, [first, first + 1]);
        assert_eq!(turn(&mut ring, 2), (vec![first, first + 1], Ok(2)));
        assert_eq!(kernel.took(), [(2, 2, GETEVENTS)]);
    }
    assert_eq!((ring.in_flight(), ring.stats().sqes, ring.stats().cqes), (0, 8, 8));
}

#[test]
fn a_turn_takes_more_than_it_waited_for_and_what_was_ready() {
    let (mut ring, kernel) = plain();
    push(&mut ring, [1]);
    assert_eq!(ring.submit(), Ok(1));
    push(&mut ring, [2, 3]);
    kernel.took();
    assert_eq!(turn(&mut ring, 1), (vec![1, 2, 3], Ok(3)));
    assert_eq!(kernel.took(), [(2, 1, GETEVENTS)]);
}

#[test]
fn cq5_a_turn_leaves_task_work_to_the_next_and_overflown_completions_never() {
    for (flags, calls) in [(SqRingFlags::TASKRUN, 1), (SqRingFlags::CQ_OVERFLOW, 2)] {
        let (mut ring, kernel) = plain();
        push(&mut ring, [1]);
        let answer = move |kernel: &mut FakeKernel, to_submit| {
            kernel.consume();
            assert!(kernel.post(Cqe { user_data: 1, ..Cqe::ZERO }));
            kernel.sq_flags.store(flags.bits());
            Ok(to_submit)
        };
        kernel.enters(Enter::Run(Box::new(answer)));
        kernel.enters(Enter::Answer(0));
        assert_eq!(turn(&mut ring, 1), (vec![1], Ok(1)));
        assert_eq!(kernel.took().len(), calls, "{flags:?}");
        // A turn that takes nothing asks for either, and a drain does in any case.
        kernel.enters_no_more();
        kernel.kernel(|kernel| kernel.sq_flags.store(flags.bits()));
        kernel.enters(Enter::Answer(0));
        assert_eq!(turn(&mut ring, 0), (vec![], Ok(0)));
        assert_eq!(kernel.took(), [(0, 0, GETEVENTS)]);
    }
}

#[test]
fn a_turn_without_a_wait_takes_what_there_is() {
    let (mut ring, kernel) = plain();
    assert_eq!(turn(&mut ring, 0), (vec![], Ok(0)));
    assert_eq!(kernel.took(), []);
    push(&mut ring, [1, 2]);
    assert_eq!(turn(&mut ring, 0), (vec![1, 2], Ok(2)));
    assert_eq!(kernel.took(), [(2, 0, NONE)]);
}

#[test]
fn a_turn_that_could_never_end_is_refused() {
    let (mut ring, kernel) = plain();
    let nothing = EnterCause::NothingComing { want: 1, coming: 0 };
    assert_eq!(turn(&mut ring, 1), (vec![], Err(nothing)));
    push(&mut ring, [1]);
    let nothing = EnterCause::NothingComing { want: 2, coming: 1 };
    assert_eq!(turn(&mut ring, 2), (vec![], Err(nothing)));
    assert_eq!(kernel.took(), []);
    assert_eq!(turn(&mut ring, 1), (vec![1], Ok(1)), "nothing was lost by that");
}

#[test]
fn a_turn_waits_for_what_is_in_flight_already() {
    let (mut ring, kernel) = plain();
    kernel.enters(Enter::Consume(1));
    push(&mut ring, [1]);
    assert_eq!(ring.submit(), Ok(1));
    push(&mut ring, [2]);
    kernel.enters(Enter::Run(Box::new(|kernel, to_submit| {
        for _ in 0..to_submit {
            kernel.consume();
        }
        for user_data in [2, 1] {
            assert!(kernel.post(Cqe { user_data, ..Cqe::ZERO }));
        }
        Ok(to_submit)
    })));
    assert_eq!(turn(&mut ring, 2), (vec![2, 1], Ok(2)));
    assert_eq!(kernel.took(), [(1, 0, NONE), (1, 2, GETEVENTS)]);
    // With nothing to submit, what is ready is taken without a call.
    kernel.enters(Enter::Consume(1));
    push(&mut ring, [3]);
    assert_eq!(ring.submit(), Ok(1));
    assert!(kernel.post(3, 0));
    kernel.took();
    assert_eq!(turn(&mut ring, 1), (vec![3], Ok(1)));
    assert_eq!(kernel.took(), []);
}

#[test]
fn a_turn_that_a_signal_interrupts_has_shown_what_came() {
    let (mut ring, kernel) = plain();
    push(&mut ring, [1, 2]);
    let one = || {
        Enter::Run(Box::new(|kernel: &mut _, to_submit| {
            for _ in 0..to_submit {
                kernel.consume();
            }
            assert!(kernel.post(Cqe { user_data: 1, ..Cqe::ZERO }));
            Ok(to_submit)
        }))
    };
    kernel.enters(one());
    // It is not waited again: the signal would be lost.
    assert_eq!(turn(&mut ring, 2), (vec![1], Err(EnterCause::Interrupted)));
    assert_eq!(kernel.took(), [(2, 2, GETEVENTS), (0, 0, GETEVENTS)]);
    assert_eq!(ring.in_flight(), 1);
    // With nothing to submit, the kernel says so itself, and what is ready is shown.
    kernel.enters(Enter::Fail(libc::EINTR));
    assert_eq!(turn(&mut ring, 1), (vec![], Err(EnterCause::Interrupted)));
    assert!(kernel.post(2, 0));
    assert_eq!(turn(&mut ring, 1), (vec![2], Ok(1)));
}

#[test]
fn a_turn_that_comes_back_early_looks_once_more() {
    let (mut ring, kernel) = plain();
    push(&mut ring, [1]);
    kernel.enters(Enter::Consume(1));
    kernel.enters(Enter::Run(Box::new(|kernel, _| {
        assert!(kernel.post(Cqe { user_data: 1, ..Cqe::ZERO }));
        Ok(0)
    })));
    assert_eq!(turn(&mut ring, 1), (vec![1], Ok(1)));
    assert_eq!(kernel.took(), [(1, 1, GETEVENTS), (0, 0, GETEVENTS)]);
}

#[test]
fn what_must_be_taken_first_is_taken() {
    // Three wide completions fill a mixed ring of eight so that a fourth may not fit.
    let kernel = DriverKernel::new();
    let mut ring = kernel.ring(Setup::plain(8).cq_entries(8).with(SetupFlags::CQE_MIXED));
    push(&mut ring, 0..5);
    kernel.enters(Enter::Consume(5));
    assert_eq!(ring.submit(), Ok(5));
    for user_data in 0..3 {
        let first = Cqe { user_data, res: 0, flags: CqeFlags::CQE32 };
        assert!(kernel.kernel(|kernel| kernel.post_wide(Cqe32 { first, big: [1, 2] })));
    }
    push(&mut ring, [5]);
    kernel.enters(Enter::Complete(1));
    assert_eq!(turn(&mut ring, 4), (vec![0, 1, 2, 5], Ok(4)));
    // Linux 5.8 to 5.12 accepts no entries while completions overflow.
    let (mut ring, kernel) = plain();
    push(&mut ring, [1]);
    assert_eq!(ring.submit(), Ok(1));
    push(&mut ring, [2]);
    kernel.enters(Enter::Fail(libc::EBUSY));
    assert_eq!(turn(&mut ring, 1), (vec![1], Err(EnterCause::CompletionsPending)));
    assert_eq!(turn(&mut ring, 1), (vec![2], Ok(1)));
}

#[test]
fn what_was_entered_by_hand_is_not_waited_for() {
    let nothing = |coming| EnterCause::NothingComing { want: 1, coming };
    for turns in [false, true] {
        let (mut ring, kernel) = plain();
        push(&mut ring, [1]);
        assert_eq!(ring.flush(), 1);
        kernel.kernel(|kernel| {
            assert!(kernel.consume().is_some());
            assert!(kernel.post(Cqe { user_data: 1, ..Cqe::ZERO }));
        });
        assert_eq!(pop_all(&mut ring), [1]);
        let ended = match turns {
            true => turn(&mut ring, 1).1,
            false => ring.submit_and_wait(1).map_err(|error| error.cause),
        };
        assert_eq!(ended, Err(nothing(0)));
    }
}

#[test]
fn an_overflow_is_found_by_a_pop_of_any_width() {
    for flags in [SetupFlags::empty(), SetupFlags::CQE32] {
        let (mut ring, kernel) = ring(flags);
        push(&mut ring, [1]);
        assert_eq!(ring.submit_and_wait(1), Ok(1));
        kernel.kernel(|kernel| kernel.sq_flags.store(SqRingFlags::CQ_OVERFLOW.bits()));
        assert_eq!(pop_all(&mut ring), [1]);
        assert_eq!(ring.stats().overflows, 1, "{flags:?}");
    }
}

#[test]
fn a_turn_goes_on_after_a_partial_submission() {
    let (mut ring, kernel) = plain();
    kernel.enters(Enter::Complete(1));
    push(&mut ring, [1, 2, 3]);
    assert_eq!(turn(&mut ring, 3), (vec![1, 2, 3], Ok(3)));
    assert_eq!(kernel.took(), [(3, 3, GETEVENTS), (2, 3, GETEVENTS)]);
}

#[test]
fn what_fails_a_turn_leaves_its_entries_queued() {
    let (mut ring, kernel) = plain();
    for errno in [libc::EINTR, libc::EBUSY, libc::EAGAIN, libc::EBADR] {
        push(&mut ring, [7]);
        kernel.enters(Enter::Fail(errno));
        let (taken, ended) = turn(&mut ring, 1);
        assert_eq!(taken, [], "{errno}");
        assert_eq!(ended, Err(Errno::new(errno).into()), "{errno}");
        assert_eq!(turn(&mut ring, 1), (vec![7], Ok(1)), "{errno}");
    }
}

#[test]
fn cq5_a_turn_asks_for_what_is_held_back() {
    let (mut ring, kernel) = plain();
    push(&mut ring, [1]);
    kernel.kernel(|kernel| kernel.sq_flags.store(SqRingFlags::CQ_OVERFLOW.bits()));
    kernel.enters(Enter::Complete(1));
    kernel.enters(Enter::Run(Box::new(|kernel, _| {
        assert!(kernel.post(Cqe { user_data: 9, ..Cqe::ZERO }));
        kernel.sq_flags.store(0);
        Ok(0)
    })));
    assert_eq!(turn(&mut ring, 1), (vec![1, 9], Ok(2)));
    assert_eq!(kernel.took(), [(1, 1, GETEVENTS), (0, 0, GETEVENTS)]);
    assert_eq!(ring.stats().overflows, 1);
}

#[test]
fn a_turn_of_any_ring_does_the_same() {
    let rare = [
        SetupFlags::SQE128,
        SetupFlags::CQE32,
        SetupFlags::SQ_REWIND | SetupFlags::NO_SQARRAY,
        SetupFlags::SINGLE_ISSUER | SetupFlags::DEFER_TASKRUN,
        SetupFlags::SQE_MIXED,
    ];
    for flags in rare {
        let (mut ring, _kernel) = ring(flags);
        for first in [1, 3, 5, 7] {
            push(&mut ring, [first, first + 1]);
            assert_eq!(turn(&mut ring, 2), (vec![first, first + 1], Ok(2)), "{flags:?}");
        }
        assert_eq!(
            (ring.in_flight(), ring.stats().sqes, ring.stats().cqes),
            (0, 8, 8),
            "{flags:?}"
        );
    }
}

#[test]
fn sq2_a_turn_names_a_count_that_is_too_large() {
    let (mut ring, kernel) = plain();
    push(&mut ring, [1]);
    kernel.enters(Enter::Answer(2));
    assert!(complaint(|| ring.turn(1, |_| ())).contains("SQ2"));
    assert_eq!(kernel.took(), [(1, 1, GETEVENTS)]);
}

#[test]
fn what_a_pusher_wrote_is_submitted_once() {
    let (mut ring, kernel) = plain();
    // A ring of four that starts just before the wrap.
    for round in 0..3_u64 {
        let mut pusher = ring.pusher();
        for number in 0..4 {
            let sqe = Sqe { user_data: 4 * round + number, ..prep::nop() };
            // SAFETY: a NOP points to nothing (OP1).
            assert!(unsafe { pusher.push(sqe) }.is_ok());
        }
        // SAFETY: a NOP points to nothing (OP1).
        assert!(unsafe { pusher.push(prep::nop()) }.is_err(), "it is full");
        drop(pusher);
        assert_eq!(ring.in_flight(), 4);
        assert_eq!(ring.submit_and_wait(4), Ok(4));
        assert!(pop_all(&mut ring).into_iter().eq(4 * round..4 * round + 4));
    }
    // One that found room to the end.
    let mut pusher = ring.pusher();
    // SAFETY: a NOP points to nothing (OP1).
    assert!(unsafe { pusher.push(Sqe { user_data: 7, ..prep::nop() }) }.is_ok());
    drop(pusher);
    assert_eq!(ring.in_flight(), 1);
    assert_eq!(ring.submit_and_wait(1), Ok(1));
    assert_eq!(pop_all(&mut ring), [7]);
    std::mem::forget(ring.pusher());
    assert_eq!((ring.submit(), ring.in_flight()), (Ok(0), 0));
    assert_eq!(kernel.took().len(), 4);
}

#[test]
fn a_ring_that_was_not_mapped_again_is_not_entered() {
    let (mut ring, kernel) = ring(SetupFlags::NO_SQARRAY);
    push(&mut ring, [1]);
    assert_eq!(ring.submit_and_wait(1), Ok(1));
    kernel.fail_map(0, libc::ENOMEM);
    assert!(matches!(ring.resize(16, None), Err(ResizeFailure::Map(_))));
    push(&mut ring, [2]);
    kernel.took();
    let submitted = ring.submit_and_wait(1).map_err(|error| error.cause);
    assert_eq!(submitted, Err(EnterCause::Unmapped));
    assert_eq!(ring.turn(1, |_| ()).map_err(|error| error.cause), Err(EnterCause::Unmapped));
    assert_eq!(kernel.took(), []);
}

#[test]
fn a_turn_of_a_polled_ring_waits_for_all() {
    let (mut ring, kernel) = ring(SetupFlags::IOPOLL);
    push(&mut ring, [1, 2, 3]);
    // A device whose completions come one at a time.
    kernel.enters(Enter::Run(Box::new(|kernel: &mut FakeKernel, to_submit| {
        (0..to_submit).for_each(|_| assert!(kernel.consume().is_some()));
        assert!(kernel.post(Cqe { user_data: 1, ..Cqe::ZERO }));
        Ok(to_submit)
    })));
    for user_data in [2, 3] {
        kernel.enters(Enter::Run(Box::new(move |kernel, _| {
            assert!(kernel.post(Cqe { user_data, ..Cqe::ZERO }));
            Ok(0)
        })));
    }
    assert_eq!(turn(&mut ring, 3), (vec![1, 2, 3], Ok(3)));
}

#[test]
fn a_signal_in_the_second_wait_of_a_turn_hides_nothing() {
    let kernel = DriverKernel::new();
    let mut ring = kernel.ring(Setup::plain(8).cq_entries(8).with(SetupFlags::CQE_MIXED));
    ring.expect_others();
    let wide = |user_data| Cqe32 { first: Cqe { user_data, ..Cqe::ZERO }, big: [0; 2] };
    kernel.kernel(|kernel| assert!((0..3).all(|user_data| kernel.post_wide(wide(user_data)))));
    kernel.enters(Enter::Run(Box::new(move |kernel, _| {
        assert!(kernel.post_wide(wide(7)));
        Err(Errno::new(libc::EINTR))
    })));
    assert_eq!(turn(&mut ring, 6), (vec![0, 1, 2, 7], Err(EnterCause::Interrupted)));
    assert_eq!(ring.ready(), 0);
}

#[test]
fn a_lane_of_long_completions_that_a_signal_interrupts_has_shown_what_came() {
    let kernel = DriverKernel::new();
    let setup = Setup::plain(8).with(SetupFlags::CQE32).kernel(kernel.backend());
    let mut lane: Lane<Nop, u32> = setup.build_lane().expect("a lane");
    for user in [1, 2] {
        lane.submit(Nop, user).expect("room");
    }
    kernel.enters(Enter::Run(Box::new(|kernel: &mut FakeKernel, to_submit| {
        let first = kernel.consume().expect("it was pushed");
        assert!(kernel.consume().is_some());
        let first = Cqe { user_data: first.user_data, ..Cqe::ZERO };
        assert!(kernel.post_wide(Cqe32 { first, big: [0; 2] }));
        Ok(to_submit)
    })));
    let mut seen = Vec::new();
    let ended = lane.turn(2, |user, _| seen.push(user));
    assert_eq!(ended.map_err(|error| error.cause), Err(EnterCause::Interrupted));
    assert_eq!((seen, lane.in_flight()), (vec![1], 1));
    lane.set_drop_timeout(std::time::Duration::ZERO);
}
