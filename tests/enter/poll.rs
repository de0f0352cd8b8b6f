//! SQPOLL: entries are published, the thread is woken when it sleeps, and no entry goes in twice.

use std::sync::Arc;
use std::time::Duration;

use annulus::{EnterCause, EnterError, RawRing, Setup};
use annulus_sys::abi::Cqe;
use annulus_sys::flags::{EnterFlags, SqRingFlags};

use crate::driver_kernel::DriverKernel;
use crate::support::backend::Enter;
use crate::support::panics::complaint;
use crate::{GETEVENTS, pop_all, push};

const WAKEUP: EnterFlags = EnterFlags::SQ_WAKEUP;
const ROOM: EnterFlags = EnterFlags::SQ_WAIT.union(EnterFlags::SQ_WAKEUP);

fn polled() -> (RawRing, Arc<DriverKernel>) {
    let kernel = DriverKernel::new();
    let ring = kernel.ring(Setup::plain(4).sqpoll(Duration::ZERO));
    (ring, kernel)
}

fn fall_asleep(kernel: &DriverKernel) {
    assert!(kernel.kernel(|kernel| kernel.may_sleep()));
}

/// The polling thread wakes up and consumes all entries, which must be `visible` in number.
fn wake_to(visible: u32) -> Enter {
    Enter::Run(Box::new(move |kernel, _| {
        assert_eq!(kernel.visible(), visible, "woken before the tail was published");
        kernel.sq_flags.store(SqRingFlags::empty().bits());
        while let Some(sqe) = kernel.consume() {
            assert!(kernel.post(Cqe { user_data: sqe.user_data, ..Cqe::ZERO }));
        }
        Ok(0)
    }))
}

fn visible(kernel: &DriverKernel) -> u32 {
    kernel.kernel(|kernel| kernel.visible())
}

#[test]
fn a_thread_that_is_awake_needs_no_call() {
    let (mut ring, kernel) = polled();
    push(&mut ring, [1, 2]);
    assert_eq!(visible(&kernel), 0);
    assert_eq!(ring.submit(), Ok(2));
    assert_eq!(visible(&kernel), 2);
    // They are published once, taken or not.
    assert_eq!(ring.submit(), Ok(0));
    push(&mut ring, [3]);
    assert_eq!(ring.submit(), Ok(1));
    assert_eq!(kernel.took(), []);
    assert_eq!(ring.stats().sqes, 3);
}

#[test]
fn sq5_a_thread_that_sleeps_is_woken_once_after_the_tail_was_published() {
    let (mut ring, kernel) = polled();
    fall_asleep(&kernel);
    push(&mut ring, [1, 2]);
    kernel.enters(wake_to(2));
    assert_eq!(ring.submit(), Ok(2));
    assert_eq!(kernel.took(), [(0, 0, WAKEUP)]);
    push(&mut ring, [3]);
    assert_eq!(ring.submit(), Ok(1));
    assert_eq!(kernel.took(), []);
    assert_eq!(pop_all(&mut ring), [1, 2]);
}

#[test]
fn nothing_to_publish_wakes_no_thread() {
    let (mut ring, kernel) = polled();
    fall_asleep(&kernel);
    assert_eq!(ring.submit(), Ok(0));
    assert_eq!(ring.submit_and_wait(0), Ok(0));
    assert_eq!(kernel.took(), []);
}

#[test]
fn sq5_a_wait_submits_nothing_by_itself() {
    let (mut ring, kernel) = polled();
    push(&mut ring, [1, 2]);
    kernel.enters(wake_to(2));
    assert_eq!(ring.submit_and_wait(2), Ok(2));
    assert_eq!(kernel.took(), [(0, 2, GETEVENTS)]);
    assert_eq!(pop_all(&mut ring), [1, 2]);
    // The thread sleeps: it is woken first, and completions that are then ready end the wait at
    // once.
    fall_asleep(&kernel);
    push(&mut ring, [3]);
    kernel.enters(wake_to(1));
    assert_eq!(ring.submit_and_wait(1), Ok(1));
    assert_eq!(kernel.took(), [(0, 0, WAKEUP)]);
    assert_eq!(pop_all(&mut ring), [3]);
    fall_asleep(&kernel);
    push(&mut ring, [4]);
    kernel.enters(Enter::Answer(0));
    kernel.enters(wake_to(1));
    assert_eq!(ring.submit_and_wait(1), Ok(1));
    assert_eq!(kernel.took(), [(0, 0, WAKEUP), (0, 1, GETEVENTS)]);
    assert_eq!(ring.stats().sqes, 4);
}

#[test]
fn what_was_published_counts_once_across_an_interrupted_wait() {
    let (mut ring, kernel) = polled();
    push(&mut ring, [1, 2]);
    kernel.enters(Enter::Fail(libc::EINTR));
    let interrupted = |submitted| EnterError { submitted, cause: EnterCause::Interrupted };
    assert_eq!(ring.submit_and_wait(2), Err(interrupted(2)));
    kernel.enters(Enter::Fail(libc::EINTR));
    assert_eq!(ring.submit_and_wait(2), Err(interrupted(0)));
    kernel.enters(wake_to(2));
    assert_eq!(ring.submit_and_wait(2), Ok(0));
    assert_eq!(kernel.took(), [(0, 2, GETEVENTS); 3]);
    assert_eq!(ring.stats().sqes, 2);
}

#[test]
fn an_interrupted_wait_of_a_polled_ring_says_what_was_published() {
    let (mut ring, kernel) = polled();
    push(&mut ring, [1]);
    kernel.enters(Enter::Fail(libc::EINTR));
    let error = EnterError { submitted: 1, cause: EnterCause::Interrupted };
    assert_eq!(ring.submit_and_wait(1), Err(error));
    assert_eq!(kernel.took(), [(0, 1, GETEVENTS)]);
}

#[test]
fn a_full_ring_is_waited_for_with_sq_wait() {
    let (mut ring, kernel) = polled();
    push(&mut ring, [1, 2, 3]);
    assert_eq!(ring.wait_for_room(), Ok(()));
    assert_eq!(kernel.took(), []);
    assert_eq!(visible(&kernel), 3);
    push(&mut ring, [4]);
    kernel.enters(Enter::Answer(0));
    kernel.enters(wake_to(4));
    assert_eq!(ring.wait_for_room(), Ok(()));
    assert_eq!(kernel.took(), [(0, 0, ROOM); 2]);
    assert_eq!((ring.room(), ring.stats().sqes), (4, 4));
}

#[test]
fn sq5_a_full_ring_wakes_who_sleeps_and_then_has_room() {
    let (mut ring, kernel) = polled();
    fall_asleep(&kernel);
    push(&mut ring, [1, 2, 3, 4]);
    kernel.enters(wake_to(4));
    assert_eq!(ring.wait_for_room(), Ok(()));
    assert_eq!(kernel.took(), [(0, 0, WAKEUP)]);
}

#[test]
fn a_reservation_waits_until_the_thread_has_made_room() {
    let (mut ring, kernel) = polled();
    push(&mut ring, [1, 2, 3, 4]);
    kernel.enters(wake_to(4));
    assert_eq!(ring.reserve(3).map(|chain| chain.left()), Ok(3));
    assert_eq!(kernel.took(), [(0, 0, ROOM)]);
    // Waiting cannot make a ring longer.
    push(&mut ring, [5]);
    let error = ring.reserve(5).map(drop).unwrap_err();
    let cause = EnterCause::TooFewSlots { count: 5, entries: 4 };
    assert_eq!(error, EnterError { submitted: 0, cause });
    assert_eq!(kernel.took(), []);
}

#[test]
fn a_dead_thread_is_named() {
    let dead = |submitted| EnterError { submitted, cause: EnterCause::PollerDied };
    let (mut ring, kernel) = polled();
    fall_asleep(&kernel);
    push(&mut ring, [1, 2]);
    kernel.enters(Enter::Fail(libc::EOWNERDEAD));
    assert_eq!(ring.submit(), Err(dead(2)));
    kernel.enters(Enter::Fail(libc::EOWNERDEAD));
    push(&mut ring, [3]);
    assert_eq!(ring.submit_and_wait(1), Err(dead(1)));
    kernel.enters(Enter::Fail(libc::EOWNERDEAD));
    assert_eq!(ring.wait(1), Err(dead(0)));
    kernel.enters(Enter::Fail(libc::EOWNERDEAD));
    push(&mut ring, [4]);
    assert_eq!(ring.wait_for_room(), Err(dead(1)));
    kernel.enters(Enter::Fail(libc::EOWNERDEAD));
    let error = ring.wait_for_room().unwrap_err();
    assert_eq!(error.cause, EnterCause::PollerDied);
    assert_eq!(ring.stats().sqes, 4);
}

#[test]
fn sq2_a_kernel_that_counts_what_the_thread_took_is_named() {
    let (mut ring, kernel) = polled();
    push(&mut ring, [1]);
    kernel.enters(Enter::Answer(1));
    assert!(complaint(|| ring.submit_and_wait(1)).contains("SQ2"));
}

#[test]
fn sq5_a_submitter_wakes_the_thread_too() {
    let (ring, kernel) = polled();
    let (mut submitter, mut reaper) = ring.split().expect("fit for two threads");
    fall_asleep(&kernel);
    // SAFETY: a NOP, which points to nothing (OP1).
    unsafe { submitter.push(annulus_sys::abi::Sqe::ZERO) }.expect("room");
    kernel.enters(wake_to(1));
    assert_eq!(submitter.submit(), Ok(1));
    assert_eq!(submitter.submit(), Ok(0));
    assert_eq!(kernel.took(), [(0, 0, WAKEUP)]);
    assert_eq!(reaper.wait(1), Ok(()));
    assert!(reaper.pop().is_some());
    assert_eq!(kernel.took(), []);
}
