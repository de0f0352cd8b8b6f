//! A handle to a ring: what any thread may do beside whoever pushes and takes.
#![allow(unsafe_code, reason = "pushes entries that point to nothing")]

use std::os::fd::{AsFd, AsRawFd as _, FromRawFd, OwnedFd};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use annulus::sys::abi::Timespec;
use annulus::sys::errno::Errno;
use annulus::sys::flags::{EnterFlags, Features, SetupFlags, SqRingFlags};
use annulus::sys::syscall::{EnterArg, ExtArg};
use annulus::{RawRing, Setup};
use libtest_mimic::{Failed, Trial};

use crate::harness::{DEFERRING, Need, nop, ring, test};

const GETEVENTS: EnterFlags = EnterFlags::GETEVENTS;
const NONE: EnterFlags = EnterFlags::empty();

/// The tests.
pub fn tests() -> Vec<Trial> {
    let deferring = Need::Setup(DEFERRING);
    vec![
        test("a_handle_submits_and_waits_by_a_shared_reference", &[], || {
            submits(SetupFlags::empty())
        }),
        test("cq5_a_handle_asks_a_deferring_ring", &[deferring], || submits(DEFERRING)),
        test("threads_submit_beside_a_queue_under_a_lock", &[], beside_a_lock),
        test("a_handle_of_one_issuer_is_refused_elsewhere", &[deferring], elsewhere),
        test("a_handle_enters_exactly_once", &[Need::Feature(Features::EXT_ARG)], exactly_once),
        test(
            "sq5_a_handle_wakes_the_polling_thread",
            &[Need::Feature(Features::SQPOLL_NONFIXED)],
            wakes,
        ),
        test(
            "op1_a_handle_submits_nothing_of_a_ring_that_rewinds",
            &[Need::Setup(SetupFlags::SQ_REWIND.union(SetupFlags::NO_SQARRAY))],
            rewinds,
        ),
        test("a_handle_switches_the_eventfd_of_a_ring", &[], registers),
        test(
            "a_ring_without_descriptor_has_no_handle",
            &[Need::Setup(SetupFlags::REGISTERED_FD_ONLY.union(SetupFlags::NO_MMAP))],
            nameless,
        ),
    ]
}

fn errno<T>(result: Result<T, Errno>) -> Option<i32> {
    result.err().map(Errno::raw)
}

/// Pushes NOPs with these `user_data`.
fn push(ring: &mut RawRing, user_data: impl IntoIterator<Item = u64>) {
    user_data.into_iter().for_each(|user_data| crate::harness::push(ring, nop(user_data)));
}

/// Waits until something is so, which another thread makes so.
fn until(mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(60), "it never comes");
        thread::sleep(Duration::from_millis(1));
    }
}

fn submits(flags: SetupFlags) -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4).with(flags));
    let handle = ring.handle().expect("it has a descriptor");
    assert_eq!((handle.submit(), handle.to_submit(), handle.ready()), (Ok(0), 0, 0));
    push(&mut ring, [1, 2, 3]);
    assert_eq!(handle.to_submit(), 0, "what is not published is not seen");
    assert_eq!(ring.flush(), 3);
    assert_eq!(handle.to_submit(), 3);
    assert_eq!(handle.submit_and_wait(3), Ok(3));
    assert_eq!((handle.to_submit(), handle.ready()), (0, 3));
    assert_eq!(std::iter::from_fn(|| ring.pop()).count(), 3);
    assert_eq!(handle.ready(), 0);
    // What it submitted is no longer the ring's to submit.
    assert_eq!(ring.submit(), Ok(0));
    push(&mut ring, [4]);
    assert_eq!(ring.submit_and_wait(1), Ok(1));
    assert_eq!(ring.pop().map(|cqe| cqe.user_data), Some(4));
    Ok(())
}

/// A thread pushes under a lock, and two others submit; each entry completes once.
fn beside_a_lock() -> Result<(), Failed> {
    const ALL: usize = 3_000;
    let mut ring = ring(Setup::plain(4));
    let handle = ring.handle().expect("it has a descriptor");
    let (submissions, mut completions) = ring.split().expect("any thread may use it");
    let (submissions, is_over) = (Mutex::new(submissions), Mutex::new(false));
    let submit = || {
        while !*is_over.lock().expect("nobody panicked") {
            if let Err(errno) = handle.submit() {
                assert!(errno.is(libc::EBUSY) || errno.is(libc::EAGAIN), "{errno}");
            }
            thread::yield_now();
        }
    };
    let mut times = vec![0; ALL];
    thread::scope(|scope| {
        scope.spawn(submit);
        scope.spawn(submit);
        let (mut next, mut taken) = (0, 0);
        while taken < ALL {
            let mut queue = submissions.lock().expect("nobody panicked");
            // SAFETY: a NOP points to nothing (OP1).
            while next < ALL && unsafe { queue.push(nop(next as u64)) }.is_ok() {
                next += 1;
            }
            queue.flush();
            drop(queue);
            while let Some(cqe) = completions.pop() {
                times[usize::try_from(cqe.user_data).expect("a number")] += 1;
                taken += 1;
            }
            thread::yield_now();
        }
        *is_over.lock().expect("nobody panicked") = true;
    });
    assert!(times.iter().all(|&times| times == 1), "each completes once");
    Ok(())
}

fn elsewhere() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4).with(DEFERRING));
    let handle = ring.handle().expect("it has a descriptor");
    push(&mut ring, [1]);
    ring.flush();
    let refused = thread::scope(|scope| scope.spawn(|| handle.submit()).join());
    assert_eq!(errno(refused.expect("no panic")), Some(libc::EEXIST));
    assert_eq!(handle.submit_and_wait(1), Ok(1), "on the thread that it belongs to");
    assert!(ring.pop().is_some());
    Ok(())
}

fn exactly_once() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4));
    let handle = ring.handle().expect("it has a descriptor");
    let moment = Some(Timespec { tv_sec: 0, tv_nsec: 1_000_000 });
    let arg = EnterArg::Ext(ExtArg { timeout: moment, ..ExtArg::default() });
    // Nothing can come, and it waits still.
    assert_eq!(errno(handle.enter(0, 1, GETEVENTS, arg)), Some(libc::ETIME));
    push(&mut ring, [1, 2]);
    ring.flush();
    assert_eq!(handle.enter(1, 0, NONE, EnterArg::None), Ok(1), "as many as it is told");
    assert_eq!(handle.to_submit(), 1);
    assert_eq!(handle.enter(9, 2, GETEVENTS, EnterArg::None), Ok(1), "no more than there are");
    assert_eq!(handle.ready(), 2);
    let refused = handle.enter(0, 0, EnterFlags::REGISTERED_RING, EnterArg::None);
    assert_eq!(errno(refused), Some(libc::EINVAL), "it says itself how the ring is named");
    let refused = handle.enter(0, 0, GETEVENTS, EnterArg::Registered(8));
    assert_eq!(errno(refused), Some(libc::EINVAL), "no slot of a region");
    Ok(())
}

fn wakes() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4).sqpoll(Duration::from_millis(1)));
    let handle = ring.handle().expect("it has a descriptor");
    until(|| handle.sq_flags().contains(SqRingFlags::NEED_WAKEUP));
    push(&mut ring, [1]);
    ring.flush();
    assert!(handle.needs_wakeup());
    handle.submit()?;
    until(|| handle.ready() == 1);
    assert!(ring.pop().is_some());
    Ok(())
}

fn rewinds() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4).with(SetupFlags::SQ_REWIND | SetupFlags::NO_SQARRAY));
    let handle = ring.handle().expect("it has a descriptor");
    push(&mut ring, [1]);
    ring.flush();
    assert_eq!(errno(handle.enter(1, 0, NONE, EnterArg::None)), Some(libc::EINVAL));
    assert_eq!(handle.enter(0, 0, GETEVENTS, EnterArg::None), Ok(0));
    assert_eq!(ring.submit_and_wait(1), Ok(1));
    assert!(ring.pop().is_some());
    Ok(())
}

fn registers() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4));
    let handle = ring.handle().expect("it has a descriptor");
    push(&mut ring, [1]);
    ring.flush();
    // SAFETY: takes two numbers, and no memory.
    let eventfd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    assert!(eventfd >= 0);
    // SAFETY: a new descriptor, which nothing else owns (OP3).
    let eventfd = unsafe { OwnedFd::from_raw_fd(eventfd) };
    handle.register_eventfd(&eventfd)?;
    assert_eq!(errno(handle.register_eventfd_async(&eventfd)), Some(libc::EBUSY));
    assert_eq!(handle.submit_and_wait(1), Ok(1));
    let signals = || {
        let mut count = [0; 8];
        // SAFETY: 8 bytes of ours, which live as long as the call.
        let read = unsafe { libc::read(eventfd.as_raw_fd(), count.as_mut_ptr().cast(), 8) };
        if read == 8 { u64::from_ne_bytes(count) } else { 0 }
    };
    assert_eq!(signals(), 1);
    handle.pause_eventfd()?;
    push(&mut ring, [2]);
    assert_eq!(ring.submit_and_wait(2), Ok(1));
    assert_eq!(signals(), 0, "it is silent");
    ring.pause_eventfd()?; // They are the ring's own flags.
    handle.resume_eventfd()?;
    push(&mut ring, [3]);
    assert_eq!(ring.submit_and_wait(3), Ok(1));
    assert_eq!(signals(), 1);
    handle.unregister_eventfd()?;
    assert_eq!(errno(handle.unregister_eventfd()), Some(libc::ENXIO));
    assert_eq!(handle.as_fd().as_raw_fd(), ring.as_fd().as_raw_fd());
    Ok(())
}

fn nameless() -> Result<(), Failed> {
    let setup = Setup::plain(4).own_memory(annulus::sys::map::Pages::Ordinary);
    let mut ring = ring(setup.with(SetupFlags::REGISTERED_FD_ONLY));
    assert!(ring.handle().is_none());
    Ok(())
}
