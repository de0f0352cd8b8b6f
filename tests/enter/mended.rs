//! Mistakes that the driver once made: each was found by a test here before it was fixed.

use std::thread::sleep;
use std::time::Duration;

use annulus::{EnterCause, EnterError, RawRing, Setup, Woken};
use annulus_sys::abi::{Cqe, Cqe32, Sqe, Sqe128};
use annulus_sys::flags::{EnterFlags, SetupFlags, SqRingFlags};
use annulus_sys::opcode::{Opcode, RegisterOp};

use crate::driver_kernel::DriverKernel;
use crate::support::backend::Enter;
use crate::support::panics::{complaint, watched};
use crate::{GETEVENTS, NONE, plain, push, ring};

const LONG: Duration = Duration::from_secs(1000);
const SHORT: Duration = Duration::from_millis(20);

fn error(submitted: u32, cause: EnterCause) -> EnterError {
    EnterError { submitted, cause }
}

/// A ring with one request in flight.
fn one_in_flight(flags: SetupFlags) -> (RawRing, std::sync::Arc<DriverKernel>) {
    let (mut ring, kernel) = ring(flags);
    push(&mut ring, [1]);
    kernel.enters(Enter::Consume(1));
    assert_eq!(ring.submit(), Ok(1));
    kernel.took();
    (ring, kernel)
}

#[test]
fn the_kernel_decides_when_the_time_is_up() {
    // Its clock may be another one (REGISTER_CLOCK), which goes on while the machine sleeps.
    let (mut ring, kernel) = one_in_flight(SetupFlags::empty());
    kernel.enters(Enter::Fail(libc::ETIME));
    assert_eq!(ring.wait_timeout(1, LONG), Ok(Woken::TimedOut));
    kernel.enters(Enter::Fail(libc::ETIME));
    assert_eq!(ring.submit_and_wait_timeout(1, LONG), Ok((0, Woken::TimedOut)));
}

#[test]
fn after_the_minimum_wait_one_completion_is_asked_for() {
    let (mut ring, kernel) = ring(SetupFlags::IOPOLL);
    push(&mut ring, [1, 2]);
    kernel.enters(Enter::Consume(2));
    assert_eq!(ring.submit(), Ok(2));
    kernel.took();
    kernel.enters(Enter::Run(Box::new(|_, _| {
        sleep(SHORT);
        Ok(0)
    })));
    kernel.enters(Enter::Run(Box::new(|kernel, _| {
        assert!(kernel.post(Cqe::ZERO));
        Ok(0)
    })));
    assert_eq!(ring.wait_min(2, SHORT, LONG), Ok(Woken::Ready));
    assert_eq!(kernel.took(), [(0, 2, GETEVENTS), (0, 1, GETEVENTS)]);
}

#[test]
fn wide_completions_that_fill_the_ring_are_told() {
    let (mut ring, kernel) = ring(SetupFlags::CQE_MIXED);
    ring.expect_others();
    kernel.kernel(|kernel| {
        // The first does not straddle: it is in the last two slots.
        for user_data in 0..4 {
            let first = Cqe { user_data, ..Cqe::ZERO };
            assert!(kernel.post_wide(Cqe32 { first, big: [0; 2] }));
        }
    });
    assert_eq!(ring.ready(), 4);
    for _ in 0..3 {
        kernel.enters(Enter::Answer(0));
    }
    let cause = EnterCause::ReadyFirst { ready: 4, want: 5 };
    assert_eq!(ring.wait(5), Err(error(0, cause)));
    assert_eq!(kernel.took(), []);
}

fn polled() -> (RawRing, std::sync::Arc<DriverKernel>) {
    let kernel = DriverKernel::new();
    let ring = kernel.ring(Setup::plain(4).sqpoll(Duration::ZERO));
    (ring, kernel)
}

fn raise(kernel: &DriverKernel, flags: SqRingFlags) {
    kernel.kernel(|kernel| kernel.sq_flags.store(flags.bits()));
}

#[test]
fn what_was_not_published_to_the_thread_does_not_come() {
    let (mut ring, kernel) = polled();
    push(&mut ring, [1]);
    kernel.enters(Enter::Fail(libc::EINTR));
    let cause = EnterCause::NothingComing { want: 1, coming: 0 };
    assert_eq!(ring.wait(1), Err(error(0, cause)));
    assert_eq!(kernel.took(), []);
}

#[test]
fn a_reservation_does_not_wait_for_a_dead_thread() {
    watched(|| {
        let (mut ring, kernel) = polled();
        push(&mut ring, [1, 2]);
        assert_eq!(ring.submit(), Ok(2));
        raise(&kernel, SqRingFlags::NEED_WAKEUP);
        kernel.enters(Enter::Fail(libc::EOWNERDEAD));
        assert_eq!(ring.reserve(3).map(drop), Err(error(0, EnterCause::PollerDied)));
        assert_eq!(kernel.took(), [(0, 0, EnterFlags::SQ_WAKEUP)]);
    });
}

#[test]
fn sq5_what_was_flushed_by_hand_wakes_the_thread_too() {
    let (mut ring, kernel) = polled();
    raise(&kernel, SqRingFlags::NEED_WAKEUP);
    push(&mut ring, [1]);
    assert_eq!(ring.flush(), 1);
    assert_eq!(ring.submit(), Ok(0));
    assert_eq!(kernel.took(), [(0, 0, EnterFlags::SQ_WAKEUP)]);
}

#[test]
fn the_second_half_of_an_entry_is_not_taken_for_one_that_was_not_submitted() {
    let (mut ring, kernel) = one_in_flight(SetupFlags::SQE_MIXED);
    let first = Sqe { opcode: Opcode::NOP128, ..Sqe::ZERO };
    // SAFETY: a NOP, which points to nothing (OP1).
    unsafe { ring.push_wide(Sqe128 { first, rest: [0; 8] }) }.expect("room");
    kernel.enters(Enter::Run(Box::new(|kernel, _| {
        assert!(kernel.post(Cqe::ZERO));
        Ok(0)
    })));
    assert_eq!(ring.wait(1), Ok(()));
    assert_eq!(kernel.took(), [(0, 1, GETEVENTS)]);
}

#[test]
fn a_size_that_the_kernel_does_not_know_is_named() {
    let kernel = DriverKernel::new();
    kernel.know(SetupFlags::empty());
    let setup = Setup::plain(4).cq_entries(32).kernel(kernel.backend());
    let text = setup.build_raw().map(drop).unwrap_err().to_string();
    assert!(text.contains("IORING_SETUP_CQSIZE, which needs Linux 5.5"), "{text}");
}

#[test]
fn sq2_a_count_that_the_head_contradicts_is_named() {
    let (mut ring, kernel) = plain();
    push(&mut ring, [1, 2]);
    for _ in 0..100 {
        kernel.enters(Enter::Answer(1));
    }
    assert!(complaint(|| assert_eq!(ring.submit(), Ok(0))).contains("SQ2"));
    assert_eq!(kernel.took(), [(2, 0, NONE)]);
}

#[test]
fn sq2_a_count_where_nothing_was_given_is_named() {
    let (mut ring, kernel) = one_in_flight(SetupFlags::empty());
    kernel.enters(Enter::Answer(1));
    assert!(complaint(|| assert_eq!(ring.wait(1), Ok(()))).contains("SQ2"));
    kernel.enters(Enter::Answer(u32::MAX));
    assert!(
        complaint(|| assert_eq!(ring.get_events(), Err(error(0, EnterCause::Unmapped))))
            .contains("SQ2")
    );
}

#[test]
fn a_ring_that_was_registered_nowhere_is_not_entered_there() {
    let (mut ring, kernel) = plain();
    kernel.on_register(|op, _, _| (op == RegisterOp::RING_FDS).then_some(Ok(0)));
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| ring.register_ring_fd()));
    assert_eq!(ring.get_events(), Ok(()));
    assert_eq!(kernel.seen()[0].index, None);
}

#[test]
fn cq5_a_reaper_drains_as_long_as_more_comes() {
    let (ring, kernel) = plain();
    let (_submitter, mut reaper) = ring.split().expect("fit for two threads");
    let full = SqRingFlags::CQ_OVERFLOW;
    let let_go = |count, then: SqRingFlags| {
        Enter::Run(Box::new(move |kernel, _| {
            for user_data in 0..count {
                assert!(kernel.post(Cqe { user_data, ..Cqe::ZERO }));
            }
            kernel.sq_flags.store(then.bits());
            Ok(0)
        }))
    };
    raise(&kernel, full);
    kernel.enters(let_go(8, full));
    kernel.enters(let_go(3, SqRingFlags::empty()));
    assert_eq!(reaper.drain(|_| ()), Ok(11));
    assert_eq!(kernel.took(), [(0, 0, GETEVENTS); 2]);
}

#[test]
fn a_submitter_waits_for_room_as_a_ring_does() {
    let (ring, kernel) = polled();
    let (mut submitter, _reaper) = ring.split().expect("fit for two threads");
    for _ in 0..4 {
        // SAFETY: a NOP, which points to nothing (OP1).
        unsafe { submitter.push(Sqe::ZERO) }.expect("room");
    }
    kernel.enters(Enter::Run(Box::new(|kernel, _| {
        while kernel.consume().is_some() {}
        Ok(0)
    })));
    assert_eq!(submitter.reserve(3).map(|chain| chain.left()), Ok(3));
}

#[test]
#[expect(clippy::forget_non_drop, reason = "it has no drop so that forgetting it changes nothing")]
fn sq3_a_chain_that_is_forgotten_never_was() {
    let (mut ring, kernel) = plain();
    push(&mut ring, [1]);
    let mut chain = ring.reserve(2).expect("room");
    // SAFETY: a NOP, which points to nothing (OP1).
    unsafe { chain.push(Sqe { user_data: 2, ..Sqe::ZERO }) }.expect("reserved");
    std::mem::forget(chain);
    push(&mut ring, [3]);
    assert_eq!(ring.submit(), Ok(2));
    assert_eq!(kernel.took(), [(2, 0, NONE)]);
    assert_eq!(
        [ring.pop(), ring.pop()].map(|cqe| cqe.map(|cqe| cqe.user_data)),
        [Some(1), Some(3)]
    );
}

#[test]
fn op1_an_enter_of_ones_own_submits_no_more_than_was_pushed() {
    // A kernel that rewinds reads as many slots as it is told, even those of the lap before.
    let flags = SetupFlags::SQ_REWIND | SetupFlags::NO_SQARRAY;
    let (mut ring, kernel) = ring(flags);
    push(&mut ring, [1]);
    assert_eq!(ring.submit(), Ok(1));
    kernel.took();
    assert_eq!(ring.enter(4, 0, NONE, annulus_sys::syscall::EnterArg::None).ok(), Some(0));
    assert_eq!(kernel.took(), [(0, 0, NONE)]);
}

#[test]
fn an_enter_of_ones_own_names_no_other_ring() {
    let (mut ring, kernel) = plain();
    let forms = [EnterFlags::REGISTERED_RING, EnterFlags::EXT_ARG, EnterFlags::EXT_ARG_REG];
    let unknown = EnterFlags::from_bits_retain(1 << 20);
    for flags in forms.into_iter().chain([unknown]) {
        let refused = ring.enter(0, 0, flags, annulus_sys::syscall::EnterArg::None);
        assert!(refused.is_err_and(|errno| errno.is(libc::EINVAL)), "{flags:?}");
    }
    assert_eq!(kernel.took(), []);
}

#[test]
fn a_device_is_polled_only_while_nothing_is_ready_and_that_is_told() {
    let (mut ring, kernel) = ring(SetupFlags::IOPOLL);
    push(&mut ring, [1, 2]);
    kernel.enters(Enter::Consume(2));
    assert_eq!(ring.submit(), Ok(2));
    kernel.took();
    kernel.enters(Enter::Run(Box::new(|kernel, _| {
        assert!(kernel.post(Cqe::ZERO));
        Ok(0)
    })));
    let cause = EnterCause::ReadyFirst { ready: 1, want: 2 };
    assert_eq!(ring.wait(2), Err(error(0, cause)));
    assert_eq!(kernel.took(), [(0, 2, GETEVENTS)]);
}

#[test]
fn a_flag_that_nobody_knows_is_not_asked_for() {
    let kernel = DriverKernel::new();
    let flag = SetupFlags::from_bits_retain(1 << 30);
    assert!(Setup::plain(4).with(flag).kernel(kernel.backend()).build_raw().is_err());
    assert_eq!(kernel.setups(), []);
}

#[test]
fn a_mixed_ring_is_never_awaited_to_the_brim() {
    // Three wide completions and one narrow one, seven slots of eight: the kernel has no room for a
    // wide one, and told to wait for eight slots it would retry forever.
    let wide = |user_data| Cqe32 { first: Cqe { user_data, ..Cqe::ZERO }, big: [0; 2] };
    let (mut ring, kernel) = ring(SetupFlags::CQE_MIXED);
    ring.expect_others();
    kernel.kernel(|kernel| assert!((0..3).all(|user_data| kernel.post_wide(wide(user_data)))));
    assert_eq!(ring.ready(), 3);
    let cause = EnterCause::ReadyFirst { ready: 3, want: 8 };
    assert_eq!(ring.wait(8), Err(error(0, cause)));
    assert_eq!(ring.submit_and_wait(8), Err(error(0, cause)));
    assert_eq!(kernel.took(), []);
    assert_eq!(ring.drain(|_| ()), Ok(3));
    // With room, the wait asks for fewer slots than all.
    kernel.enters(Enter::Fail(libc::EINTR));
    assert_eq!(ring.wait(8), Err(error(0, EnterCause::Interrupted)));
    assert_eq!(kernel.took(), [(0, 6, GETEVENTS)]);
    kernel.enters(Enter::Answer(0));
    let own = annulus_sys::syscall::EnterArg::None;
    assert_eq!(ring.enter(0, 8, GETEVENTS, own).ok(), Some(0));
    assert_eq!(kernel.took(), [(0, 6, GETEVENTS)]);
}

#[test]
fn a_polled_device_is_asked_as_long_as_it_takes() {
    let (mut ring, kernel) = ring(SetupFlags::IOPOLL);
    push(&mut ring, [1]);
    kernel.enters(Enter::Consume(1));
    assert_eq!(ring.submit(), Ok(1));
    kernel.took();
    for _ in 0..500 {
        kernel.enters(Enter::Answer(0));
    }
    kernel.enters(Enter::Run(Box::new(|kernel, _| {
        assert!(kernel.post(Cqe::ZERO));
        Ok(0)
    })));
    assert_eq!(ring.wait(1), Ok(()));
    assert_eq!(kernel.took().len(), 501);
}

#[test]
fn a_reservation_that_needs_more_than_one_slot_asks_whether_the_thread_lives() {
    watched(|| {
        let (mut ring, kernel) = polled();
        push(&mut ring, [1, 2, 3, 4]);
        assert_eq!(ring.submit(), Ok(4));
        // One slot is free, and the thread that should free more slots has died.
        kernel.kernel(|kernel| assert!(kernel.consume().is_some()));
        raise(&kernel, SqRingFlags::NEED_WAKEUP);
        kernel.enters(Enter::Answer(0));
        kernel.enters(Enter::Answer(0));
        kernel.enters(Enter::Fail(libc::EOWNERDEAD));
        assert_eq!(ring.reserve(3).map(drop), Err(error(0, EnterCause::PollerDied)));
        assert_eq!(kernel.took(), [(0, 0, EnterFlags::SQ_WAKEUP); 3]);
    });
}
