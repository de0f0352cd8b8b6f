//! Waits without a timeout: how many calls they make, and how they end.

use std::time::Duration;

use annulus::{EnterCause, EnterError, RawRing, WaitOptions, Woken};
use annulus_sys::abi::{Cqe, Cqe32, Sqe};
use annulus_sys::flags::{
    AcceptFlags, CqeFlags, PollFlags, RecvSendFlags, SetupFlags, SqeFlags, TimeoutFlags,
};
use annulus_sys::opcode::Opcode;

use crate::support::backend::Enter;
use crate::support::panics::complaint;
use crate::{GETEVENTS, NONE, consumed, plain, pop_all, push, push_as, ring};

fn interrupted(submitted: u32) -> EnterError {
    EnterError { submitted, cause: EnterCause::Interrupted }
}

#[test]
fn a_submit_and_its_wait_are_one_call() {
    let (mut ring, kernel) = plain();
    push(&mut ring, [1, 2]);
    assert_eq!(ring.submit_and_wait(2), Ok(2));
    assert_eq!(kernel.took(), [(2, 2, GETEVENTS)]);
}

#[test]
fn what_is_ready_counts_and_is_not_waited_for_again() {
    let (mut ring, kernel) = plain();
    push(&mut ring, [1, 2]);
    assert_eq!(ring.submit(), Ok(2));
    assert_eq!(ring.ready(), 2);
    kernel.took();
    assert_eq!((ring.wait(0), ring.wait(1), ring.wait(2)), (Ok(()), Ok(()), Ok(())));
    assert_eq!(ring.submit_and_wait(2), Ok(0));
    assert_eq!(kernel.took(), []);
    // One more: the kernel counts what lies in the ring, so three.
    push(&mut ring, [3]);
    assert_eq!(ring.submit_and_wait(3), Ok(1));
    assert_eq!(kernel.took(), [(1, 3, GETEVENTS)]);
    // When enough is ready, submitting asks for no more than that.
    push(&mut ring, [4]);
    assert_eq!(ring.submit_and_wait(3), Ok(1));
    assert_eq!(kernel.took(), [(1, 3, GETEVENTS)]);
    assert_eq!(pop_all(&mut ring), [1, 2, 3, 4]);
}

#[test]
fn the_wait_that_a_partial_submission_skipped_comes_after() {
    let (mut ring, kernel) = plain();
    kernel.enters(Enter::Complete(1));
    kernel.enters(Enter::Complete(1));
    push(&mut ring, [1, 2, 3]);
    assert_eq!(ring.submit_and_wait(3), Ok(3));
    assert_eq!(kernel.took(), [(3, 3, GETEVENTS), (2, 3, GETEVENTS), (1, 3, GETEVENTS)]);
    // Enough completions came with the first part: the rest is submitted, without a wait.
    kernel.enters(Enter::Complete(1));
    push(&mut ring, [4, 5]);
    assert_eq!(ring.submit_and_wait(4), Ok(2));
    assert_eq!(kernel.took(), [(2, 4, GETEVENTS), (1, 0, NONE)]);
}

#[test]
fn a_signal_before_anything_says_so() {
    let (mut ring, kernel) = plain();
    push(&mut ring, [1]);
    kernel.enters(Enter::Fail(libc::EINTR));
    assert_eq!(ring.submit_and_wait(1), Err(interrupted(0)));
    kernel.enters(Enter::Consume(1));
    assert_eq!(ring.submit(), Ok(1));
    kernel.enters(Enter::Fail(libc::EINTR));
    assert_eq!(ring.wait(1), Err(interrupted(0)));
    let seen = [(1, 1, GETEVENTS), (1, 0, NONE), (0, 1, GETEVENTS)];
    assert_eq!(kernel.took(), seen);
    assert_eq!(consumed(&kernel), [1]);
}

#[test]
fn a_signal_behind_a_count_is_told_and_nothing_is_submitted_twice() {
    let (mut ring, kernel) = plain();
    // Both were submitted, neither completed, and the kernel came back; also when asked for
    // held-back completions.
    kernel.enters(Enter::Consume(2));
    kernel.enters(Enter::Answer(0));
    push(&mut ring, [1, 2]);
    assert_eq!(ring.submit_and_wait(2), Err(interrupted(2)));
    // The next wait asks for as many, and submits nothing.
    kernel.enters(Enter::Run(Box::new(|kernel, to_submit| {
        assert!(kernel.post(Cqe { user_data: 1, ..Cqe::ZERO }));
        assert!(kernel.post(Cqe { user_data: 2, ..Cqe::ZERO }));
        Ok(to_submit)
    })));
    assert_eq!(ring.submit_and_wait(2), Ok(0));
    assert_eq!(kernel.took(), [(2, 2, GETEVENTS), (0, 0, GETEVENTS), (0, 2, GETEVENTS)]);
    assert_eq!(consumed(&kernel), [1, 2]);
    assert_eq!(ring.stats().sqes, 2);
}

#[test]
fn a_wait_that_comes_back_with_too_few_says_so_and_can_be_taken_up() {
    let (mut ring, kernel) = plain();
    kernel.enters(Enter::Consume(2));
    push(&mut ring, [1, 2]);
    assert_eq!(ring.submit(), Ok(2));
    kernel.enters(Enter::Run(Box::new(|kernel, _| {
        assert!(kernel.post(Cqe { user_data: 1, ..Cqe::ZERO }));
        Ok(0)
    })));
    kernel.enters(Enter::Answer(0));
    kernel.enters(Enter::Run(Box::new(|kernel, _| {
        assert!(kernel.post(Cqe { user_data: 2, ..Cqe::ZERO }));
        Ok(0)
    })));
    assert_eq!(ring.wait(2), Err(interrupted(0)));
    assert_eq!(ring.ready(), 1);
    assert_eq!(ring.wait(2), Ok(()));
    let entered = [(2, 0, NONE), (0, 2, GETEVENTS), (0, 0, GETEVENTS), (0, 2, GETEVENTS)];
    assert_eq!(kernel.took(), entered);
    assert_eq!(pop_all(&mut ring), [1, 2]);
}

/// The kernel counts the `TIMEOUT` as ended, and posts its completion later.
#[test]
fn a_kernel_that_comes_back_for_what_is_not_there_yet_is_asked_for_it() {
    let posts = || {
        Enter::Run(Box::new(|kernel, _| {
            assert!(kernel.post(Cqe { user_data: 1, ..Cqe::ZERO }));
            Ok(0)
        }))
    };
    let (mut ring, kernel) = plain();
    kernel.enters(Enter::Consume(1));
    kernel.enters(posts());
    push(&mut ring, [1]);
    assert_eq!(ring.submit_and_wait(1), Ok(1));
    assert_eq!(kernel.took(), [(1, 1, GETEVENTS), (0, 0, GETEVENTS)]);
    let (mut ring, kernel) = plain();
    kernel.enters(Enter::Consume(1));
    kernel.enters(Enter::Answer(0));
    kernel.enters(posts());
    push(&mut ring, [1]);
    assert_eq!((ring.submit(), ring.wait(1)), (Ok(1), Ok(())));
    assert_eq!(kernel.took(), [(1, 0, NONE), (0, 1, GETEVENTS), (0, 0, GETEVENTS)]);
    let (mut ring, kernel) = plain();
    kernel.enters(Enter::Consume(1));
    kernel.enters(posts());
    push(&mut ring, [1]);
    let options = WaitOptions::at_most(Duration::from_secs(3600));
    assert_eq!(ring.submit_and_wait_with(1, &options), Ok((1, Woken::Ready)));
    // What it then says goes on counts what went in.
    let (mut ring, kernel) = plain();
    kernel.enters(Enter::Consume(1));
    kernel.enters(Enter::Fail(libc::EBADR));
    push(&mut ring, [1]);
    let lost = ring.submit_and_wait(1).expect_err("lost");
    assert_eq!(lost, EnterError { submitted: 1, cause: EnterCause::CompletionsLost });
}

#[test]
fn a_kernel_that_comes_back_for_ever_is_not_asked_for_ever() {
    let (mut ring, kernel) = plain();
    kernel.enters(Enter::Consume(1));
    push(&mut ring, [1]);
    assert_eq!(ring.submit(), Ok(1));
    for _ in 0..1000 {
        kernel.enters(Enter::Answer(0));
    }
    kernel.took();
    assert_eq!(ring.wait(1), Err(interrupted(0)));
    assert_eq!(kernel.took(), [(0, 1, GETEVENTS), (0, 0, GETEVENTS)]);
}

#[test]
fn a_wait_that_could_never_end_makes_no_call() {
    let (mut ring, kernel) = plain();
    let refused = |want, coming| {
        Err(EnterError { submitted: 0, cause: EnterCause::NothingComing { want, coming } })
    };
    assert_eq!(ring.wait(1), refused(1, 0));
    assert_eq!(ring.submit_and_wait(1), refused(1, 0).map(|()| 0));
    push(&mut ring, [1, 2]);
    // An entry that was pushed and not submitted cannot complete.
    assert_eq!(ring.wait(1), refused(1, 0));
    assert_eq!(ring.submit_and_wait(3), refused(3, 2).map(|()| 0));
    assert_eq!(kernel.took(), []);
    assert_eq!(ring.submit_and_wait(1), Ok(2));
    assert_eq!(ring.wait(3), refused(3, 2));
    assert_eq!(pop_all(&mut ring), [1, 2]);
    assert_eq!(ring.wait(1), refused(1, 0));
    assert_eq!(kernel.took(), [(2, 1, GETEVENTS)]);
}

#[test]
fn a_wait_for_more_than_the_ring_holds_makes_no_call() {
    let (mut ring, kernel) = plain();
    ring.expect_others();
    push(&mut ring, [1]);
    let cause = EnterCause::WaitTooLarge { want: 9, entries: 8 };
    assert_eq!(ring.wait(9), Err(EnterError { submitted: 0, cause }));
    assert_eq!(ring.submit_and_wait(9), Err(EnterError { submitted: 0, cause }));
    assert_eq!(kernel.took(), []);
    assert_eq!(ring.room(), 3);
    kernel.enters(Enter::Fail(libc::EINTR));
    assert_eq!(ring.wait(8), Err(interrupted(0)));
    assert_eq!(kernel.took(), [(0, 8, GETEVENTS)]);
    // Nor where as many are in flight.
    for _ in 0..3 {
        kernel.enters(Enter::Consume(4));
        let room = u64::from(ring.room());
        push(&mut ring, 0..room);
        assert!(ring.submit().is_ok());
    }
    push(&mut ring, [1]);
    kernel.took();
    assert!(ring.in_flight() > 9);
    assert_eq!(ring.submit_and_wait(9), Err(EnterError { submitted: 0, cause }));
    assert_eq!(kernel.took(), []);
}

#[test]
fn an_entry_that_may_complete_more_than_once_opens_the_pending_count() {
    let of = |opcode| Sqe { opcode, ..Sqe::ZERO };
    let accepts = Sqe { ioprio: AcceptFlags::MULTISHOT.bits(), ..of(Opcode::ACCEPT) };
    let receives = RecvSendFlags::RECV_MULTISHOT.bits();
    let polls = Sqe { len: PollFlags::ADD_MULTI.bits(), ..of(Opcode::POLL_ADD) };
    let times = Sqe { op_flags: TimeoutFlags::MULTISHOT.bits(), ..of(Opcode::TIMEOUT) };
    let skips = Sqe { flags: SqeFlags::CQE_SKIP_SUCCESS, ..of(Opcode::NOP) };
    let open = [
        accepts,
        polls,
        times,
        skips,
        Sqe { ioprio: receives, ..of(Opcode::RECV) },
        Sqe { ioprio: receives, ..of(Opcode::RECVMSG) },
        of(Opcode::READ_MULTISHOT),
        of(Opcode::RECV_ZC),
        of(Opcode::SEND_ZC),
        of(Opcode::SENDMSG_ZC),
        of(Opcode::URING_CMD),
        of(Opcode::URING_CMD128),
        of(Opcode::MSG_RING),
    ];
    let counted = [
        of(Opcode::NOP),
        of(Opcode::ACCEPT),
        of(Opcode::RECV),
        of(Opcode::RECVMSG),
        of(Opcode::POLL_ADD),
        of(Opcode::TIMEOUT),
        of(Opcode::SEND),
        // The bit that means multishot elsewhere.
        Sqe { op_flags: 2, ioprio: 2, len: 1, ..of(Opcode::WRITE) },
    ];
    let all = open.iter().map(|sqe| (sqe, true)).chain(counted.iter().map(|sqe| (sqe, false)));
    for (sqe, is_open) in all {
        let (mut ring, kernel) = plain();
        kernel.enters(Enter::Consume(1));
        push_as(&mut ring, *sqe);
        assert_eq!(ring.submit(), Ok(1));
        let refused = matches!(
            ring.wait(2).map_err(|error| error.cause),
            Err(EnterCause::NothingComing { want: 2, coming: 1 })
        );
        assert_eq!(refused, !is_open, "{sqe:?}");
        assert_eq!(kernel.took().len(), if is_open { 3 } else { 1 }, "{sqe:?}");
    }
}

/// A multishot request may complete any number of times, but never after its last completion.
#[test]
fn a_multishot_request_is_pending_until_it_has_ended() {
    let more = CqeFlags::MORE;
    for opcode in [Opcode::READ_MULTISHOT, Opcode::SEND_ZC] {
        let (mut ring, kernel) = plain();
        kernel.enters(Enter::Consume(1));
        push_as(&mut ring, Sqe { opcode, ..Sqe::ZERO });
        assert_eq!(ring.submit(), Ok(1));
        kernel.kernel(|kernel| {
            assert!(kernel.post(Cqe { flags: more, ..Cqe::ZERO }));
            assert!(kernel.post(Cqe { flags: more, ..Cqe::ZERO }));
        });
        assert_eq!(ring.wait(2), Ok(()));
        kernel.enters(Enter::Fail(libc::EINTR));
        assert_eq!(ring.wait(3), Err(interrupted(0)), "{opcode:?}");
        assert_eq!(pop_all(&mut ring).len(), 2);
        kernel.kernel(|kernel| assert!(kernel.post(Cqe::ZERO)));
        assert_eq!(pop_all(&mut ring).len(), 1);
        let cause = EnterCause::NothingComing { want: 1, coming: 0 };
        assert_eq!(ring.wait(1), Err(EnterError { submitted: 0, cause }), "{opcode:?}");
    }
}

#[test]
fn what_is_ready_is_looked_at_before_a_wait_is_refused() {
    let message = Cqe { user_data: 7, ..Cqe::ZERO };
    let refused = Err(EnterCause::NothingComing { want: 1, coming: 0 });
    for (flags, asks) in [(SetupFlags::empty(), 0), (SetupFlags::COOP_TASKRUN, 1)] {
        let (mut ring, kernel) = ring(flags);
        kernel.enters(Enter::Answer(0));
        assert_eq!(ring.wait(1).map_err(|error| error.cause), refused);
        // Also completions that the kernel may hold back (CQ5).
        assert_eq!(kernel.took(), vec![(0, 0, GETEVENTS); asks]);
        kernel.kernel(|kernel| assert!(kernel.post(message)));
        assert_eq!((ring.wait(1), ring.submit_and_wait(1)), (Ok(()), Ok(0)));
        assert_eq!(kernel.took(), []);
        assert_eq!(pop_all(&mut ring), [7]);
        // Other rings send to this one: a completion without a push before it may come again.
        kernel.enters(Enter::Fail(libc::EINTR));
        assert_eq!(ring.wait(1), Err(interrupted(0)));
    }
}

/// However the completions are popped, and without a wait before.
#[test]
fn more_ended_than_pushed_opens_the_pending_count() {
    let pops: [fn(&mut RawRing); 4] = [
        |ring| assert!(ring.pop().is_some()),
        |ring| assert!(ring.peek().is_ok_and(|cqe| cqe.is_some())),
        |ring| assert_eq!(ring.drain(|_| ()), Ok(1)),
        |ring| assert_eq!(ring.drain_wide(|_| ()), Ok(1)),
    ];
    for pop in pops {
        let (mut ring, kernel) = plain();
        kernel.kernel(|kernel| assert!(kernel.post(Cqe::ZERO)));
        pop(&mut ring);
        push(&mut ring, [1]);
        assert_eq!(ring.submit_and_wait(1), Ok(1));
        kernel.enters(Enter::Fail(libc::EINTR));
        assert_eq!(ring.wait(2), Err(interrupted(0)));
    }
}

#[test]
fn an_entry_of_a_chain_opens_the_pending_count_too() {
    let (mut ring, kernel) = plain();
    let mut chain = ring.reserve(1).expect("room");
    // SAFETY: nothing is read or written through it, because the kernel is a script (OP1).
    unsafe { chain.push(Sqe { opcode: Opcode::SEND_ZC, ..Sqe::ZERO }) }.expect("reserved");
    chain.commit();
    kernel.enters(Enter::Consume(1));
    assert_eq!(ring.submit_and_wait(2), Err(interrupted(1)));
    assert_eq!(kernel.took(), [(1, 2, GETEVENTS), (0, 0, GETEVENTS)]);
}

#[test]
fn an_entry_filled_in_place_opens_the_pending_count_too() {
    let (mut ring, kernel) = plain();
    // SAFETY: nothing is read or written through it, because the kernel is a script (OP1).
    unsafe { ring.push_with(|sqe| sqe.opcode = Opcode::MSG_RING) }.expect("room");
    kernel.enters(Enter::Consume(1));
    assert_eq!(ring.submit_and_wait(2), Err(interrupted(1)));
    assert_eq!(kernel.took(), [(1, 2, GETEVENTS), (0, 0, GETEVENTS)]);
}

#[test]
fn completions_that_no_push_announced_can_be_waited_for() {
    let (mut ring, kernel) = plain();
    ring.expect_others();
    kernel.enters(Enter::Run(Box::new(|kernel, _| {
        assert!(kernel.post(Cqe { user_data: 7, ..Cqe::ZERO }));
        Ok(0)
    })));
    assert_eq!(ring.wait(1), Ok(()));
    assert_eq!(kernel.took(), [(0, 1, GETEVENTS)]);
    assert_eq!(pop_all(&mut ring), [7]);
    assert_eq!(ring.in_flight(), 0);
}

/// Posts completions of 32 bytes, each of which is two slots.
fn post_wide(count: u64) -> Enter {
    Enter::Run(Box::new(move |kernel, to_submit| {
        for _ in 0..to_submit {
            kernel.consume();
        }
        for user_data in 0..count {
            let first = Cqe { user_data, ..Cqe::ZERO };
            assert!(kernel.post_wide(Cqe32 { first, big: [1, 2] }));
        }
        Ok(to_submit)
    }))
}

#[test]
fn cq2_a_wide_completion_is_two_slots_to_the_kernel_and_one_to_us() {
    let (mut ring, kernel) = ring(SetupFlags::CQE_MIXED);
    push(&mut ring, [1, 2]);
    kernel.enters(post_wide(1));
    kernel.enters(post_wide(1));
    // Two slots were awaited, and two came: one completion. So one more is awaited, beyond those
    // two.
    assert_eq!(ring.submit_and_wait(2), Ok(2));
    assert_eq!(kernel.took(), [(2, 2, GETEVENTS), (0, 3, GETEVENTS)]);
    assert_eq!(ring.ready(), 2);
    assert_eq!(pop_all(&mut ring), [0, 0]);
    push(&mut ring, [3, 4]);
    kernel.enters(Enter::Consume(2));
    assert_eq!(ring.submit(), Ok(2));
    kernel.took();
    kernel.enters(post_wide(1));
    kernel.enters(post_wide(1));
    assert_eq!(ring.wait(2), Ok(()));
    assert_eq!(kernel.took(), [(0, 2, GETEVENTS), (0, 3, GETEVENTS)]);
}

#[test]
fn cq2_a_filler_is_a_slot_to_the_kernel_and_nothing_to_us() {
    let (mut ring, kernel) = ring(SetupFlags::CQE_MIXED);
    // From the last slot on a wide completion straddles.
    push(&mut ring, [1]);
    assert_eq!(ring.submit_and_wait(1), Ok(1));
    assert_eq!(pop_all(&mut ring), [1]);
    assert_eq!(ring.positions().cq_tail.to_raw(), u32::MAX);
    kernel.took();
    push(&mut ring, [1, 2]);
    kernel.enters(post_wide(1));
    kernel.enters(post_wide(1));
    assert_eq!(ring.submit_and_wait(2), Ok(2));
    assert_eq!(kernel.took(), [(2, 2, GETEVENTS), (0, 4, GETEVENTS)]);
}

#[test]
fn cq2_a_tail_that_runs_away_during_a_wait_is_named() {
    let (mut ring, kernel) = plain();
    push(&mut ring, [1, 2]);
    let run_away = || {
        Enter::Run(Box::new(|kernel, to_submit| {
            for _ in 0..to_submit {
                kernel.consume();
            }
            let ahead = kernel.cq_head.observe().advance(9);
            kernel.cq_tail.publish(ahead);
            Ok(to_submit)
        }))
    };
    kernel.enters(run_away());
    assert_eq!(ring.submit_and_wait(2).map_err(|error| error.cause), Ok(2), "not looked at yet");
    assert!(complaint(|| ring.wait(1)).contains("CQ2"));
    assert!(complaint(|| ring.peek()).contains("CQ2"));
    assert!(complaint(|| ring.drain(|_| ())).contains("CQ2"));
    assert_eq!(kernel.took(), [(2, 2, GETEVENTS)]);
}
