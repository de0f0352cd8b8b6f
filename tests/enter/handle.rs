//! Handles of a ring: which calls they make, and that they make none for nothing.
//!
//! | the ring | a submit of nothing |
//! |---|---|
//! | says that nothing is held back | no call |
//! | says that something is (CQ5), or cannot say | one call, which takes it |
//! | has a polling thread | one call if that sleeps (SQ5), else none |

use std::sync::Arc;
use std::time::Duration;

use annulus::raw::handle::RingHandle;
use annulus::{EnterCause, RawRing, Setup, WaitOptions};
use annulus_sys::abi::Cqe;
use annulus_sys::errno::Errno;
use annulus_sys::flags::{EnterFlags, SetupFlags, SqRingFlags};
use annulus_sys::opcode::RegisterOp;
use annulus_sys::syscall::EnterArg;

use crate::driver_kernel::DriverKernel;
use crate::support::backend::Enter;
use crate::{GETEVENTS, NONE, plain, push, ring};

fn handle_of(ring: &mut RawRing) -> RingHandle {
    ring.handle().expect("it has a descriptor")
}

fn raise(kernel: &DriverKernel, flags: SqRingFlags) {
    kernel.kernel(|kernel| kernel.sq_flags.store(flags.bits()));
}

#[test]
fn cq5_a_submit_of_nothing_is_a_call_only_where_something_may_be_held_back() {
    let (mut ring, kernel) = plain();
    let handle = handle_of(&mut ring);
    assert_eq!((handle.submit(), handle.submit_and_wait(0)), (Ok(0), Ok(0)));
    assert_eq!(kernel.took(), []);
    for held in [SqRingFlags::CQ_OVERFLOW, SqRingFlags::TASKRUN] {
        raise(&kernel, held);
        assert_eq!(handle.submit(), Ok(0));
        assert_eq!(kernel.took(), [(0, 0, GETEVENTS)], "{held:?}");
    }
    raise(&kernel, SqRingFlags::empty());
    push(&mut ring, [1, 2]);
    ring.flush();
    assert_eq!((handle.to_submit(), handle.submit()), (2, Ok(2)));
    assert_eq!(kernel.took(), [(2, 0, NONE)]);
}

#[test]
fn cq5_a_handle_of_a_ring_that_cannot_say_asks_each_time() {
    let deferring = SetupFlags::SINGLE_ISSUER | SetupFlags::DEFER_TASKRUN;
    for (flags, asks) in [
        (deferring, true),
        (deferring | SetupFlags::TASKRUN_FLAG, false),
        (SetupFlags::IOPOLL, true),
    ] {
        let (mut ring, kernel) = ring(flags);
        assert_eq!(handle_of(&mut ring).submit(), Ok(0));
        let calls = if asks { vec![(0, 0, GETEVENTS)] } else { vec![] };
        assert_eq!(kernel.took(), calls, "{flags:?}");
    }
}

#[test]
fn sq5_a_handle_wakes_a_thread_that_sleeps_and_no_other() {
    let kernel = DriverKernel::new();
    let mut ring = kernel.ring(Setup::plain(4).sqpoll(Duration::ZERO));
    let handle = handle_of(&mut ring);
    push(&mut ring, [1]);
    ring.flush();
    kernel.took();
    assert!(!ring.needs_wakeup() && !handle.needs_wakeup());
    assert_eq!((handle.submit(), kernel.took()), (Ok(1), vec![]));
    raise(&kernel, SqRingFlags::NEED_WAKEUP);
    assert!(ring.needs_wakeup() && handle.needs_wakeup());
    kernel.enters(Enter::Answer(1));
    assert_eq!(handle.submit(), Ok(1));
    assert_eq!(kernel.took(), [(1, 0, EnterFlags::SQ_WAKEUP)]);
    // Where there is no such thread, the flag means nothing.
    let (mut ring, kernel) = plain();
    raise(&kernel, SqRingFlags::NEED_WAKEUP);
    assert!(!ring.needs_wakeup() && !handle_of(&mut ring).needs_wakeup());
}

#[test]
fn sq4_a_handle_submits_no_entry_of_a_ring_that_rewinds() {
    let (mut ring, kernel) = ring(SetupFlags::SQ_REWIND | SetupFlags::NO_SQARRAY);
    let handle = handle_of(&mut ring);
    let refused = handle.enter(1, 0, NONE, EnterArg::None);
    assert_eq!(refused, Err(Errno::new(libc::EINVAL)));
    // A wait is for as many as the queue has room for.
    assert_eq!(handle.enter(0, 9, GETEVENTS, EnterArg::None), Ok(0));
    assert_eq!(kernel.took(), [(0, 8, GETEVENTS)]);
}

/// Whether a wait for so many is made, or refused since nothing comes.
fn is_made(ring: &mut RawRing, kernel: &DriverKernel, want: u32) -> bool {
    kernel.enters(Enter::Fail(libc::EINTR));
    let cause = ring.wait(want).map_err(|error| error.cause);
    kernel.enters_no_more();
    cause == Err(EnterCause::Interrupted)
}

#[test]
fn a_ring_that_got_more_than_it_asked_for_refuses_no_wait() {
    let post = |kernel: &DriverKernel, user_data| {
        assert!(kernel.kernel(|kernel| kernel.post(Cqe { user_data, ..Cqe::ZERO })));
    };
    let (mut ring, kernel) = plain();
    assert!(!is_made(&mut ring, &kernel, 1));
    (1..3).for_each(|user_data| post(&kernel, user_data));
    assert_eq!(ring.wait(2), Ok(()), "the ring learns of it here");
    assert!(is_made(&mut ring, &kernel, 3));
    // Or when they are taken.
    let (mut ring, kernel) = plain();
    post(&kernel, 1);
    assert_eq!(ring.completions().map(|cqe| cqe.user_data).collect::<Vec<_>>(), [1]);
    assert_eq!(ring.ready(), 0);
    assert!(is_made(&mut ring, &kernel, 1));
}

#[test]
fn a_wait_with_options_but_without_a_limit_is_refused_as_any() {
    let (mut ring, kernel) = plain();
    let refused = ring.submit_and_wait_with(1, &WaitOptions::FOREVER);
    let never = EnterCause::NothingComing { want: 1, coming: 0 };
    assert_eq!(refused.map_err(|error| error.cause), Err(never));
    assert_eq!(kernel.took(), []);
}

#[test]
fn the_half_that_submits_makes_no_call_where_there_is_room() {
    let (ring, kernel) = plain();
    let (mut submitter, mut reaper) = ring.split().expect("any thread may use it");
    // SAFETY: a NOP points to nothing (OP1).
    unsafe { submitter.push(annulus::prep::nop()) }.expect("room");
    assert!(submitter.reserve(3).is_ok(), "just as many are free");
    assert_eq!(kernel.took(), []);
    assert_eq!((submitter.flush(), reaper.ready()), (1, 0));
    // SAFETY: a NOP points to nothing (OP1).
    unsafe { submitter.push(annulus::prep::nop()) }.expect("room");
    assert_eq!(submitter.flush(), 2);
}

#[test]
fn each_processor_has_its_bit() {
    let (ring, kernel) = plain();
    let noted = Arc::new(std::sync::Mutex::new(Vec::new()));
    let notes = Arc::clone(&noted);
    kernel.on_register(move |op, arg, count| {
        assert_eq!(op, RegisterOp::IOWQ_AFF);
        // SAFETY: `count` live bytes, since the call is made with them.
        let bytes = unsafe { std::slice::from_raw_parts(arg.cast::<u8>(), count as usize) };
        notes.lock().expect("nobody panicked").extend_from_slice(bytes);
        Some(Ok(0))
    });
    ring.set_worker_cpus([131, 1, 64, 130]).expect("it is taken");
    let words = [1_u64 << 1, 1, 1 << 2 | 1 << 3].map(u64::to_ne_bytes).concat();
    assert_eq!(*noted.lock().expect("nobody panicked"), words);
}
