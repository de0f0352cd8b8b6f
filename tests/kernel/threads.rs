//! One ring and several threads: who owns it, how it moves, how its halves share it.
#![allow(unsafe_code, reason = "pushes entries on several threads")]

use std::io::{Read, Write};
use std::os::fd::AsRawFd as _;
use std::ptr;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use annulus::sys::abi::{Sqe, Sqe128};
use annulus::sys::flags::{EnterFlags, Features, SetupFlags};
use annulus::sys::kernel::Kernel;
use annulus::sys::map::Pages;
use annulus::sys::opcode::RegisterOp;
use annulus::sys::rings::{Request, Rings};
use annulus::sys::syscall::EnterArg;
use annulus::{EnterCause, RawRing, Setup, Woken, prep};
use libtest_mimic::{Failed, Trial};

use crate::harness::{
    DEFERRING, Need, Part, begin_child, drain_user_data, nop, patient, push, read_byte, ring, test,
};

const ONE_ISSUER: Need = Need::Setup(SetupFlags::SINGLE_ISSUER);
const DEFER: Need = Need::Setup(DEFERRING);
/// Before, worker threads are no threads of the process, and outlive the ones that they work for.
const WORKERS: Need = Need::Feature(Features::NATIVE_WORKERS);
const FD_ONLY: Need = Need::Setup(SetupFlags::REGISTERED_FD_ONLY);

/// The tests.
pub fn tests() -> Vec<Trial> {
    vec![
        test("a_ring_of_one_issuer_refuses_another_thread", &[ONE_ISSUER], || {
            wrong_thread(SetupFlags::SINGLE_ISSUER, 1, EnterFlags::empty())
        }),
        test("a_deferring_ring_refuses_another_threads_wait", &[DEFER], || {
            wrong_thread(DEFERRING, 0, EnterFlags::GETEVENTS)
        }),
        test("a_disabled_ring_is_enabled_where_it_will_live", &[], || {
            enabled_elsewhere(SetupFlags::empty())
        }),
        test("a_disabled_ring_of_one_issuer_is_enabled_where_it_will_live", &[DEFER], || {
            enabled_elsewhere(DEFERRING)
        }),
        test("two_threads_share_a_ring_by_its_halves", &[], || halves(SetupFlags::empty())),
        test(
            "two_threads_share_a_cooperating_ring_by_its_halves",
            &[Need::Setup(SetupFlags::COOP_TASKRUN)],
            || halves(SetupFlags::COOP_TASKRUN),
        ),
        test("two_threads_share_a_wide_ring_by_its_halves", &[Need::Setup(WIDE)], || halves(WIDE)),
        test("halves_push_and_pop_entries_of_two_slots", &[Need::Setup(WIDE)], wide_halves),
        test(
            "a_reaper_waits_for_many_and_then_for_a_few",
            &[Need::Feature(Features::MIN_TIMEOUT)],
            least,
        ),
        test("halves_keep_what_was_pushed_before", &[], pushed_before),
        test("a_reaper_waits_for_what_comes_later", &[], comes_later),
        test("a_ring_of_one_issuer_does_not_split", &[ONE_ISSUER], || {
            no_split(Setup::plain(4).with(SetupFlags::SINGLE_ISSUER))
        }),
        test("a_ring_without_descriptor_does_not_split", &[FD_ONLY], || {
            let setup = Setup::plain(4).own_memory(Pages::Ordinary);
            no_split(setup.with(SetupFlags::REGISTERED_FD_ONLY))
        }),
        test("another_thread_lets_go_of_no_ring_but_its_own", &[FD_ONLY], elsewhere),
        test("halves_of_two_rings_do_not_join", &[], strangers),
        test("what_a_thread_that_exited_submitted_does_nothing_more", &[], thread_ends),
        test("what_a_worker_ran_for_a_thread_that_exited_is_interrupted", &[WORKERS], worker_ends),
    ]
}

/// The index of a ring without a descriptor names another ring on another thread: dropping the rest
/// of the one must not touch the other.
fn elsewhere() -> Result<(), Failed> {
    let without_descriptor = || {
        let setup = Setup::plain(4).own_memory(Pages::Ordinary);
        ring(setup.with(SetupFlags::REGISTERED_FD_ONLY))
    };
    let here = without_descriptor();
    let base = Arc::clone(here.base());
    drop(here);
    let ended = thread::spawn(move || {
        let mut theirs = without_descriptor();
        // Both have the first index of their thread, unless another test holds it.
        // SAFETY: takes no argument, because `io_uring_register(2)` says so.
        let refused = unsafe { base.register(RegisterOp::ENABLE_RINGS, ptr::null_mut(), 0) };
        assert!(refused.is_err_and(|errno| errno.is(libc::EBADF)));
        drop(base);
        push(&mut theirs, nop(7));
        assert_eq!(theirs.submit_and_wait(1), Ok(1));
        drain_user_data(&mut theirs)
    });
    assert_eq!(ended.join().map_err(|_| "the other thread's ring is gone")?, [7]);
    Ok(())
}

const WIDE: SetupFlags = SetupFlags::CQE32.union(SetupFlags::SQE128);

/// Enters `rings`, in which there are only NOPs.
fn enter(rings: &Rings, to_submit: u32, flags: EnterFlags) -> Result<u32, EnterCause> {
    let ring = rings.base().fd().by_ref();
    // SAFETY: a NOP points to nothing (OP1).
    unsafe { rings.base().kernel().enter(ring, to_submit, 0, flags, EnterArg::None) }
        .map_err(EnterCause::from)
}

/// A `RawRing` cannot move to another thread, so this uses the layer below it.
fn wrong_thread(setup: SetupFlags, to_submit: u32, flags: EnterFlags) -> Result<(), Failed> {
    let request = Request { flags: setup, ..Request::new(4) };
    let mut rings = Rings::setup(&Kernel::LINUX, &request).map_err(|error| format!("{error:?}"))?;
    // SAFETY: a NOP points to nothing (OP1).
    unsafe { rings.sq().push(nop(1)) }?;
    assert_eq!(rings.sq().flush(), 1);
    let elsewhere = thread::spawn(move || {
        let entered = enter(&rings, to_submit, flags);
        (entered, rings)
    });
    let (entered, mut rings) = elsewhere.join().expect("no panic");
    assert_eq!(entered, Err(EnterCause::WrongThread));
    assert_eq!(rings.sq().unconsumed(), 1, "nothing was consumed");
    assert_eq!(enter(&rings, 1, EnterFlags::GETEVENTS), Ok(1));
    assert_eq!(rings.cq().pop().map(|cqe| cqe.user_data), Some(1));
    Ok(())
}

fn enabled_elsewhere(flags: SetupFlags) -> Result<(), Failed> {
    let disabled = patient(|| Setup::plain(4).with(flags).build_disabled())?;
    let elsewhere = thread::spawn(move || {
        let mut ring = disabled.enable_raw().expect("the ring is new");
        for user_data in 0..20 {
            push(&mut ring, nop(user_data));
            assert_eq!(ring.submit_and_wait(1), Ok(1));
            assert_eq!(drain_user_data(&mut ring), [user_data]);
        }
    });
    elsewhere.join().expect("no panic");
    Ok(())
}

fn split(
    ring: RawRing,
) -> Result<(annulus::raw::split::Submitter, annulus::raw::split::Reaper), Failed> {
    ring.split().map_err(|ring| format!("{ring:?} does not split").into())
}

/// The reaper is slow, so that completions overflow; the submitter never waits for it.
fn halves(flags: SetupFlags) -> Result<(), Failed> {
    const COUNT: u64 = 10_000;
    let (mut submitter, mut reaper) = split(ring(Setup::plain(16).with(flags)))?;
    let submitting = thread::spawn(move || {
        for user_data in 0..COUNT {
            // SAFETY: a NOP points to nothing (OP1).
            while unsafe { submitter.push(nop(user_data)) }.is_err() {
                submitter.submit().expect("submit");
            }
            if user_data % 7 == 0 {
                submitter.submit().expect("submit");
            }
        }
        submitter.submit().expect("submit");
        submitter
    });
    let reaping = thread::spawn(move || {
        let mut words = Vec::new();
        for round in 0.. {
            if words.len() == 10_000 {
                break;
            }
            match reaper.wait(1) {
                // Linux 5.10 returns once the other thread has begun to post a completion.
                Err(error) if error.cause == EnterCause::Interrupted => continue,
                waited => waited.expect("wait"),
            }
            match round % 3 {
                0 => words.extend(reaper.pop().map(|cqe| cqe.user_data)),
                1 => words.extend(reaper.peek().expect("peek").map(|cqe| cqe.user_data)),
                _ => assert!(reaper.drain(|cqe| words.push(cqe.user_data)).is_ok()),
            }
        }
        (reaper, words)
    });
    let submitter = submitting.join().expect("no panic");
    let (reaper, mut words) = reaping.join().expect("no panic");
    // On older kernels a new completion may overtake those that are held back.
    words.sort_unstable();
    assert_eq!(words, (0..COUNT).collect::<Vec<_>>());
    let mut ring = submitter.join(reaper).map_err(|_| "the halves of one ring")?;
    assert_eq!((ring.in_flight(), ring.lost(), ring.room()), (0, 0, 16));
    assert_eq!((ring.stats().sqes, ring.stats().cqes), (COUNT, COUNT));
    push(&mut ring, nop(1));
    assert_eq!(ring.submit_and_wait(1), Ok(1));
    assert_eq!(drain_user_data(&mut ring), [1]);
    Ok(())
}

fn wide_halves() -> Result<(), Failed> {
    let (mut submitter, mut reaper) = split(ring(Setup::plain(4).with(WIDE)))?;
    // SAFETY: a NOP points to nothing (OP1).
    unsafe { submitter.push_wide(Sqe128 { first: nop(1), ..Sqe128::ZERO }) }?;
    // SAFETY: a NOP points to nothing (OP1).
    unsafe { submitter.push_with(|sqe| *sqe = nop(2)) }?;
    assert_eq!(submitter.submit(), Ok(2));
    let mut words = Vec::new();
    while words.len() < 2 {
        match reaper.wait(1) {
            Err(error) if error.cause == EnterCause::Interrupted => continue,
            waited => waited?,
        }
        words.extend(reaper.pop_wide().map(|cqe| (cqe.first.user_data, cqe.big)));
    }
    assert_eq!(words, [(1, [0, 0]), (2, [0, 0])]);
    let ring = submitter.join(reaper).map_err(|_| "the halves of one ring")?;
    assert_eq!((ring.in_flight(), ring.lost()), (0, 0));
    Ok(())
}

fn least() -> Result<(), Failed> {
    let (mut submitter, mut reaper) = split(ring(Setup::plain(4)))?;
    let (min_wait, hour) = (Duration::from_millis(5), Duration::from_secs(3600));
    assert_eq!(reaper.wait_min(1, min_wait, min_wait), Ok(Woken::TimedOut));
    // SAFETY: a NOP points to nothing (OP1).
    unsafe { submitter.push(nop(1)) }?;
    submitter.submit()?;
    let started = Instant::now();
    assert_eq!(reaper.wait_min(2, min_wait, hour), Ok(Woken::Ready));
    assert!(started.elapsed() >= min_wait);
    assert_eq!(reaper.pop().map(|cqe| cqe.user_data), Some(1));
    Ok(())
}

fn pushed_before() -> Result<(), Failed> {
    let mut whole = ring(Setup::plain(4));
    (0..3).for_each(|user_data| push(&mut whole, nop(user_data)));
    whole.submit()?;
    assert_eq!(whole.pop().map(|cqe| cqe.user_data), Some(0));
    push(&mut whole, nop(3));
    let (mut submitter, mut reaper) = split(whole)?;
    assert_eq!(submitter.room(), 3);
    assert_eq!(reaper.ready(), 2);
    assert_eq!(submitter.submit(), Ok(1));
    let mut whole = submitter.join(reaper).map_err(|_| "the halves of one ring")?;
    assert_eq!((whole.in_flight(), whole.ready()), (3, 3));
    assert_eq!(drain_user_data(&mut whole), [1, 2, 3]);
    Ok(())
}

/// Nothing is in flight when the reaper begins to wait, and the wait is not refused.
fn comes_later() -> Result<(), Failed> {
    let (mut submitter, mut reaper) = split(ring(Setup::plain(4)))?;
    let (begins, begun) = mpsc::channel();
    let reaping = thread::spawn(move || {
        begins.send(()).expect("somebody listens");
        reaper.wait(2).expect("wait");
        [reaper.pop(), reaper.pop()].map(|cqe| cqe.map(|cqe| cqe.user_data))
    });
    begun.recv()?;
    let mut chain = submitter.reserve(2)?;
    for user_data in [1, 2] {
        // SAFETY: a NOP points to nothing (OP1).
        unsafe { chain.push(nop(user_data)) }?;
    }
    chain.commit();
    assert_eq!(submitter.submit(), Ok(2));
    assert_eq!(reaping.join().expect("no panic"), [Some(1), Some(2)]);
    Ok(())
}

fn no_split(setup: Setup<'_>) -> Result<(), Failed> {
    let mut whole = ring(setup);
    push(&mut whole, nop(1));
    let mut whole = whole.split().map(drop).expect_err("it belongs to a thread");
    assert_eq!(whole.submit_and_wait(1), Ok(1));
    assert_eq!(drain_user_data(&mut whole), [1]);
    Ok(())
}

fn strangers() -> Result<(), Failed> {
    let (mut one, one_reaper) = split(ring(Setup::plain(4)))?;
    let (other, other_reaper) = split(ring(Setup::plain(4)))?;
    // SAFETY: a NOP points to nothing (OP1).
    unsafe { one.push(nop(1)) }?;
    let (one, other_reaper) = one.join(other_reaper).map(drop).expect_err("of two rings");
    let (other, one_reaper) = other.join(one_reaper).map(drop).expect_err("of two rings");
    // Each is given back unchanged.
    let mut whole = one.join(one_reaper).map_err(|_| "the halves of one ring")?;
    assert_eq!(whole.submit_and_wait(1), Ok(1));
    assert_eq!(drain_user_data(&mut whole), [1]);
    let whole = other.join(other_reaper).map_err(|_| "the halves of one ring")?;
    assert_eq!((whole.in_flight(), whole.room()), (0, 4));
    Ok(())
}

/// They complete as cancelled, at the latest when some event would have completed them; and the
/// read reads nothing.
fn thread_ends() -> Result<(), Failed> {
    let (mut submitter, mut reaper) = split(ring(Setup::plain(4)))?;
    let (mut from, mut to) = std::io::pipe()?;
    let read = read_byte(&from, 1);
    let poll = prep::poll_add(from.as_raw_fd(), libc::POLLIN.cast_unsigned().into());
    let poll = Sqe { user_data: 2, ..poll };
    let submitting = thread::spawn(move || {
        // SAFETY: the read is into memory that lives forever (OP1).
        unsafe { submitter.push(read) }.expect("room for an entry");
        // SAFETY: a poll points to nothing (OP1).
        unsafe { submitter.push(poll) }.expect("room for an entry");
        assert_eq!(submitter.submit(), Ok(2));
        submitter
    });
    let submitter = submitting.join().expect("no panic");
    to.write_all(b"x")?;
    reaper.wait(2)?;
    let mut ends = [reaper.pop(), reaper.pop()].map(|cqe| cqe.map(|cqe| (cqe.user_data, cqe.res)));
    ends.sort_unstable();
    assert_eq!(ends, [1, 2].map(|user_data| Some((user_data, -libc::ECANCELED))));
    let mut byte = [0];
    assert_eq!((from.read(&mut byte)?, byte), (1, *b"x"), "the byte is still in the pipe");
    let ring = submitter.join(reaper).map_err(|_| "the halves of one ring")?;
    assert_eq!(ring.in_flight(), 0);
    Ok(())
}

/// The part that plays in a child process.
pub const PARTS: &[Part] = &[("a thread exits while its worker waits", || {
    let interrupted = (0..20).any(|_| is_interrupted().expect("no failure"));
    assert!(interrupted, "it was never interrupted");
})];

/// It moves no bytes, and completes though no thread writes. But now and then the kernel misses a
/// request that a worker thread is just beginning (6.16). It plays in a process of its own, because
/// Linux 6.16 and 6.17 may never let the exiting thread go, nor the process, not even when the
/// worker has what it waits for.
fn worker_ends() -> Result<(), Failed> {
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut child = begin_child(PARTS[0].0);
    loop {
        match child.try_wait()? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(format!("the child ended with {status}").into()),
            None if Instant::now() < deadline => thread::sleep(Duration::from_millis(5)),
            None => {
                child.kill()?;
                println!("the kernel holds the thread that exits: nothing is known of its worker");
                return Ok(());
            }
        }
    }
}

/// Whether a worker thread of this thread waits. It is made for a request, so it waits inside that
/// request.
fn a_worker_sleeps() -> bool {
    // SAFETY: takes nothing, and returns a number, because it only tells which thread this is.
    let thread = unsafe { libc::gettid() };
    let worker = format!("iou-wrk-{thread}");
    let threads = std::fs::read_dir("/proc/self/task").expect("the threads of this process");
    threads.flatten().any(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // The name is in brackets, and the state follows it.
        stat.contains(&format!("({worker})")) && stat.contains(") S ")
    })
}

/// Whether a splice that waits in a worker thread ends with the thread that submitted it.
fn is_interrupted() -> Result<bool, Failed> {
    let (mut submitter, mut reaper) = split(ring(Setup::plain(4)))?;
    let ((from, writer), (_reader, to)) = (std::io::pipe()?, std::io::pipe()?);
    let splice = prep::splice(from.as_raw_fd(), u64::MAX, to.as_raw_fd(), u64::MAX, 8, 0);
    let submitting = thread::spawn(move || {
        // SAFETY: a splice points to nothing (OP1).
        unsafe { submitter.push(Sqe { user_data: 1, ..splice }) }.expect("room for an entry");
        assert_eq!(submitter.submit(), Ok(1));
        // The kernel may miss a request that is just beginning; then the exit waits for it, forever
        // (Linux 6.16).
        let deadline = Instant::now() + Duration::from_secs(2);
        while !a_worker_sleeps() && Instant::now() < deadline {
            thread::yield_now();
        }
        submitter
    });
    let deadline = Instant::now() + Duration::from_secs(2);
    let mut writer = Some(writer);
    while !submitting.is_finished() {
        thread::yield_now();
        if Instant::now() > deadline {
            writer = None;
        }
    }
    let submitter = submitting.join().expect("no panic");
    let woken = reaper.wait_timeout(1, Duration::from_secs(2))?;
    drop(writer); // The splice's pipe ends.
    if reaper.wait_timeout(1, Duration::from_secs(2))? == Woken::TimedOut {
        return Ok(false); // 6.16 now and then: it never completes.
    }
    let (user_data, result) =
        reaper.pop().map(|cqe| (cqe.user_data, cqe.res)).ok_or("it has ended")?;
    // The last errno is internal to the kernel, seen in 6.18.
    let ends = [-libc::ECANCELED, -libc::EINTR, -512];
    let interrupted = woken == Woken::Ready && ends.contains(&result);
    assert!(user_data == 1 && (interrupted || result == 0), "{result}");
    let ring = submitter.join(reaper).map_err(|_| "the halves of one ring")?;
    assert_eq!(ring.in_flight(), 0);
    Ok(interrupted)
}
