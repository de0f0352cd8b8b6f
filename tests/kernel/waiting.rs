//! Waits: for enough, for a while, in vain; and no system call where none is needed.
//!
//! The clock decides no test. A wait must not be too short.
#![allow(unsafe_code, reason = "reads clocks, and registers memory")]

use std::io::{PipeReader, Write};
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

use annulus::sys::abi::{RegWait, Sqe, Timespec};
use annulus::sys::errno::Errno;
use annulus::sys::flags::{EnterFlags, Features, SetupFlags};
use annulus::sys::opcode::{Opcode, RegisterOp};
use annulus::sys::syscall::{EnterArg, ExtArg};
use annulus::{EnterCause, EnterError, RawRing, Setup, Woken};
use libtest_mimic::{Failed, Trial};

use crate::harness::{Need, drain_user_data, in_each_mode, nop, push, read_byte, ring, test};
use crate::options::{A_WHILE, disabled_with_region};

#[path = "signals.rs"]
mod signals;

const EXT_ARG: Need = Need::Feature(Features::EXT_ARG);
const MIN_WAIT: Need = Need::Feature(Features::MIN_TIMEOUT);
const MSG_RING: Need = Need::Op(Opcode::MSG_RING);
const REGION: Need = Need::Register(RegisterOp::MEM_REGION);
const IOWAIT: Need = Need::Feature(Features::NO_IOWAIT);

/// The tests.
pub fn tests() -> Vec<Trial> {
    [
        in_each_mode("cq5_a_peek_finds_what_completed_meanwhile", &[], peek_finds),
        in_each_mode("cq5_a_drain_finds_what_completed_meanwhile", &[], drain_finds),
        in_each_mode("an_idle_ring_makes_no_system_call", &[], idle),
        in_each_mode("a_wait_takes_as_many_completions_as_it_says", &[], carries_enough),
        in_each_mode("a_wait_in_vain_is_refused", &[], in_vain),
        in_each_mode("a_wait_with_a_limit_is_never_in_vain", &[EXT_ARG], limited),
        in_each_mode("a_message_that_is_there_is_waited_for", &[MSG_RING], arrived),
        in_each_mode("a_batch_cut_short_is_waited_for_all_the_same", &[], cut_short),
        in_each_mode("a_wait_that_a_timeout_request_ends_can_go_on", &[], timeout_request),
        in_each_mode("a_timeout_ends_a_wait", &[EXT_ARG], times_out),
        in_each_mode("a_timeout_ends_a_submit", &[EXT_ARG], submit_times_out),
        in_each_mode("a_minimum_wait_is_content_with_one", &[MIN_WAIT], min_wait),
        in_each_mode("a_message_wakes_a_ring_that_expects_it", &[MSG_RING], message),
        signals::tests(),
        vec![
            test("a_wait_ends_at_a_point_in_time", &[MIN_WAIT], until),
            test("a_wait_reads_its_argument_from_a_registered_region", &[REGION], region),
            test("a_wait_need_not_count_as_one_for_io", &[IOWAIT], no_iowait),
            test("no_bounded_wait_before_5_11", &[Need::Other(bounds)], unbounded),
            test("no_minimum_wait_before_6_12", &[Need::Other(min_waits)], no_min_wait),
        ],
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Longer than anything here takes.
const A_MINUTE: Duration = Duration::from_secs(60);

fn bounds() -> Option<String> {
    let has = crate::harness::here().features().contains(Features::EXT_ARG);
    has.then(|| "needs a kernel without EXT_ARG".to_owned())
}

fn min_waits() -> Option<String> {
    let has = crate::harness::here().features().contains(Features::MIN_TIMEOUT);
    has.then(|| "needs a kernel without MIN_TIMEOUT".to_owned())
}

fn plain(flags: SetupFlags) -> RawRing {
    ring(Setup::plain(4).with(flags))
}

fn cause<T>(result: Result<T, EnterError>) -> Option<EnterCause> {
    result.err().map(|error| error.cause)
}

/// Submits a read, completes it from another thread, and takes its `user_data` with `take`, which
/// must not miss it.
fn finds(flags: SetupFlags, take: fn(&mut RawRing) -> Option<u64>) -> Result<(), Failed> {
    let mut ring = plain(flags);
    for user_data in 1..4 {
        let (from, mut to) = std::io::pipe()?;
        push(&mut ring, read_byte(&from, user_data));
        ring.submit()?;
        assert_eq!(take(&mut ring), None);
        thread::spawn(move || to.write_all(b"x")).join().expect("no panic")?;
        // A worker thread may still be busy with it, but not forever.
        let started = Instant::now();
        let found = loop {
            match take(&mut ring) {
                None if started.elapsed() < A_MINUTE => std::hint::spin_loop(),
                found => break found,
            }
        };
        assert_eq!(found, Some(user_data));
        assert_eq!((take(&mut ring), ring.in_flight()), (None, 0));
    }
    Ok(())
}

fn peek_finds(flags: SetupFlags) -> Result<(), Failed> {
    finds(flags, |ring| ring.peek().expect("peek").map(|cqe| cqe.user_data))
}

fn drain_finds(flags: SetupFlags) -> Result<(), Failed> {
    finds(flags, |ring| drain_user_data(ring).first().copied())
}

fn idle(flags: SetupFlags) -> Result<(), Failed> {
    let mut ring = plain(flags);
    for lap in 0..3 {
        let enters = ring.stats().enters;
        assert_eq!(enters, lap);
        assert_eq!(ring.submit(), Ok(0));
        assert_eq!(ring.submit_and_wait(0), Ok(0));
        assert_eq!(ring.wait(0), Ok(()));
        assert_eq!(ring.peek(), Ok(None));
        assert_eq!(ring.drain(|_| ()), Ok(0));
        assert_eq!((ring.pop(), ring.ready(), ring.room()), (None, 0, 4));
        assert_eq!(ring.wait_for_room(), Ok(()));
        assert_eq!(ring.stats().enters, enters);
        push(&mut ring, nop(1));
        ring.submit_and_wait(1)?;
        assert_eq!(ring.wait(1), Ok(()), "it is ready");
        assert_eq!(ring.peek().map(|cqe| cqe.map(|cqe| cqe.user_data)), Ok(Some(1)));
        assert_eq!(ring.stats().enters, enters + 1);
    }
    Ok(())
}

/// Pushes a read that another thread completes a little later, while the returned value lives.
fn push_later(ring: &mut RawRing, user_data: u64) -> Result<PipeReader, Failed> {
    let (from, mut to) = std::io::pipe()?;
    push(ring, read_byte(&from, user_data));
    thread::spawn(move || {
        thread::sleep(Duration::from_millis(5));
        to.write_all(b"x").expect("room in the pipe, and a reader");
    });
    Ok(from)
}

fn carries_enough(flags: SetupFlags) -> Result<(), Failed> {
    let mut ring = plain(flags);
    let later = (0..3).map(|user_data| push_later(&mut ring, user_data));
    let mut pipes = later.collect::<Result<Vec<_>, _>>()?;
    assert_eq!(ring.submit_and_wait(1), Ok(3));
    assert!(ring.ready() >= 1);
    ring.wait(2)?;
    assert!(ring.ready() >= 2);
    ring.wait(3)?;
    assert_eq!(ring.ready(), 3);
    pipes.push(push_later(&mut ring, 3)?);
    assert_eq!(ring.submit_and_wait(4), Ok(1));
    let mut words = drain_user_data(&mut ring);
    words.sort_unstable();
    assert_eq!(words, [0, 1, 2, 3]);
    drop(pipes);
    Ok(())
}

fn in_vain(flags: SetupFlags) -> Result<(), Failed> {
    let nothing = |want, coming| Some(EnterCause::NothingComing { want, coming });
    let mut ring = plain(flags);
    assert_eq!(cause(ring.wait(1)), nothing(1, 0));
    assert_eq!(cause(ring.submit_and_wait(1)), nothing(1, 0));
    push(&mut ring, nop(1));
    assert_eq!(cause(ring.wait(1)), nothing(1, 0), "it was not submitted");
    assert_eq!(ring.flush(), 1);
    assert_eq!(cause(ring.wait(1)), nothing(1, 0), "nor is it by a flush");
    assert_eq!(cause(ring.submit_and_wait(2)), nothing(2, 1));
    // Where completions may be held back without a sign, the kernel was asked before each refusal.
    let silent = SetupFlags::DEFER_TASKRUN | SetupFlags::COOP_TASKRUN;
    let asked = flags.intersects(silent) && !flags.contains(SetupFlags::TASKRUN_FLAG);
    assert_eq!((ring.stats().enters, ring.room()), (if asked { 5 } else { 0 }, 3));
    let (from, mut to) = std::io::pipe()?;
    push(&mut ring, read_byte(&from, 2));
    assert_eq!(ring.submit_and_wait(1), Ok(2));
    assert_eq!(cause(ring.wait(3)), nothing(3, 2));
    assert_eq!(drain_user_data(&mut ring), [1]);
    assert_eq!(cause(ring.wait(2)), nothing(2, 1));
    to.write_all(b"x")?;
    ring.wait(1)?;
    assert_eq!(cause(ring.wait(2)), nothing(2, 1), "the one that is ready is counted");
    assert_eq!(drain_user_data(&mut ring), [2]);
    assert_eq!(cause(ring.wait(1)), nothing(1, 0));
    Ok(())
}

/// Nothing is in flight; or one operation is, and two completions are awaited.
fn limited(flags: SetupFlags) -> Result<(), Failed> {
    let mut ring = plain(flags);
    for in_flight in 0..2 {
        let (from, to) = std::io::pipe()?;
        if in_flight > 0 {
            push(&mut ring, read_byte(&from, 1));
        }
        let started = Instant::now();
        let timed_out = ring.submit_and_wait_timeout(1 + in_flight, A_WHILE);
        assert_eq!(timed_out, Ok((in_flight, Woken::TimedOut)));
        assert_eq!(ring.wait_timeout(1 + in_flight, A_WHILE), Ok(Woken::TimedOut));
        assert!(started.elapsed() >= 2 * A_WHILE);
        drop(to);
    }
    assert_eq!(ring.wait_timeout(2, A_WHILE), Ok(Woken::TimedOut));
    assert_eq!(drain_user_data(&mut ring), [1]);
    Ok(())
}

/// A ring that pushes nothing itself learns from the first message that others send to it.
fn arrived(flags: SetupFlags) -> Result<(), Failed> {
    let (mut target, mut sender) = (plain(flags), plain(SetupFlags::empty()));
    let fd = target.fd().ok_or("a descriptor")?.as_raw_fd();
    let message = Sqe { opcode: Opcode::MSG_RING, fd, len: 5, off: 7, ..Sqe::ZERO };
    for lap in 0..2 {
        push(&mut sender, message);
        sender.submit_and_wait(1)?;
        assert_eq!(sender.pop().map(|cqe| cqe.res), Some(0));
        assert_eq!(target.submit_and_wait(1), Ok(0), "{lap}");
        assert_eq!(target.pop().map(|cqe| cqe.user_data), Some(7));
    }
    // The counts of pushes and pops differ by two, which is no reason to refuse.
    push(&mut target, nop(1));
    assert_eq!(target.submit_and_wait(1), Ok(1));
    assert_eq!(drain_user_data(&mut target), [1]);
    Ok(())
}

/// The kernel skips the wait when it does not consume all entries; then the ring enters again.
fn cut_short(flags: SetupFlags) -> Result<(), Failed> {
    let mut ring = plain(flags);
    for _ in 0..3 {
        for user_data in [1, 2] {
            push(&mut ring, Sqe { opcode: Opcode(u8::MAX), ..nop(user_data) });
        }
        let pipe = push_later(&mut ring, 3)?;
        assert_eq!(ring.submit_and_wait(3), Ok(3));
        assert_eq!(ring.ready(), 3);
        let mut words = drain_user_data(&mut ring);
        words.sort_unstable();
        assert_eq!(words, [1, 2, 3]);
        drop(pipe);
    }
    assert_eq!(ring.stats().sqes, 9);
    Ok(())
}

/// A `TIMEOUT` that ends wakes every wait, however many completions it counts; the kernel then
/// answers as after a signal, and so does the ring. The remaining completions can be waited for.
fn timeout_request(flags: SetupFlags) -> Result<(), Failed> {
    let mut ring = plain(flags);
    let span = Box::leak(Box::new(Timespec { tv_sec: 0, tv_nsec: 1_000_000 }));
    let addr = std::ptr::from_mut(span).expose_provenance() as u64;
    push(&mut ring, Sqe { opcode: Opcode::TIMEOUT, addr, len: 1, ..nop(1) });
    let pipe = push_later(&mut ring, 2)?;
    match ring.submit_and_wait(2) {
        Ok(submitted) => assert_eq!(submitted, 2),
        Err(error) => {
            assert_eq!(error, EnterError { submitted: 2, cause: EnterCause::Interrupted });
        }
    }
    while ring.ready() < 2 {
        assert!(matches!(cause(ring.wait(2)), None | Some(EnterCause::Interrupted)));
    }
    let mut words = drain_user_data(&mut ring);
    words.sort_unstable();
    assert_eq!(words, [1, 2]);
    assert_eq!((ring.stats().sqes, ring.in_flight()), (2, 0));
    drop(pipe);
    Ok(())
}

fn times_out(flags: SetupFlags) -> Result<(), Failed> {
    let mut ring = plain(flags);
    let (from, mut to) = std::io::pipe()?;
    push(&mut ring, nop(1));
    push(&mut ring, read_byte(&from, 2));
    ring.submit_and_wait(1)?;
    for millis in [0, 1, 5, 20] {
        let (started, timeout) = (Instant::now(), Duration::from_millis(millis));
        assert_eq!(ring.wait_timeout(2, timeout), Ok(Woken::TimedOut));
        assert!(started.elapsed() >= timeout);
        assert_eq!(ring.ready(), 1);
    }
    assert_eq!(ring.wait_timeout(1, Duration::ZERO), Ok(Woken::Ready), "one is ready");
    // The same with an empty ring, where the kernel answers ETIME.
    assert_eq!(drain_user_data(&mut ring), [1]);
    let (started, timeout) = (Instant::now(), Duration::from_millis(5));
    assert_eq!(ring.wait_timeout(1, timeout), Ok(Woken::TimedOut));
    assert!(started.elapsed() >= timeout);
    to.write_all(b"x")?;
    assert_eq!(ring.wait_timeout(1, Duration::MAX), Ok(Woken::Ready));
    assert_eq!(drain_user_data(&mut ring), [2]);
    Ok(())
}

/// The kernel answers with the count, and does not report the timeout.
fn submit_times_out(flags: SetupFlags) -> Result<(), Failed> {
    let mut ring = plain(flags);
    let (from, mut to) = std::io::pipe()?;
    push(&mut ring, nop(1));
    push(&mut ring, read_byte(&from, 2));
    let (started, timeout) = (Instant::now(), Duration::from_millis(5));
    assert_eq!(ring.submit_and_wait_timeout(2, timeout), Ok((2, Woken::TimedOut)));
    assert!(started.elapsed() >= timeout);
    assert_eq!(drain_user_data(&mut ring), [1]);
    assert_eq!(ring.submit_and_wait_timeout(1, timeout), Ok((0, Woken::TimedOut)));
    push(&mut ring, nop(3));
    assert_eq!(ring.submit_and_wait_timeout(1, A_MINUTE), Ok((1, Woken::Ready)));
    to.write_all(b"x")?;
    assert_eq!(ring.submit_and_wait_timeout(2, A_MINUTE), Ok((0, Woken::Ready)));
    assert_eq!(drain_user_data(&mut ring), [3, 2]);
    assert_eq!(ring.stats().sqes, 3);
    Ok(())
}

fn min_wait(flags: SetupFlags) -> Result<(), Failed> {
    let mut ring = plain(flags);
    let (from, mut to) = std::io::pipe()?;
    push(&mut ring, nop(1));
    push(&mut ring, read_byte(&from, 2));
    ring.submit_and_wait(1)?;
    let (started, min_wait) = (Instant::now(), Duration::from_millis(5));
    assert_eq!(ring.wait_min(2, min_wait, A_MINUTE), Ok(Woken::Ready));
    assert!(started.elapsed() >= min_wait);
    assert_eq!(drain_user_data(&mut ring), [1]);
    // With no completion at all it waits on, until the time is up.
    let (started, timeout) = (Instant::now(), Duration::from_millis(20));
    assert_eq!(ring.wait_min(1, min_wait, timeout), Ok(Woken::TimedOut));
    assert!(started.elapsed() >= timeout);
    // With as many as wanted, it does not.
    to.write_all(b"x")?;
    assert_eq!(ring.wait_min(1, A_MINUTE, A_MINUTE), Ok(Woken::Ready));
    assert_eq!(drain_user_data(&mut ring), [2]);
    Ok(())
}

fn message(flags: SetupFlags) -> Result<(), Failed> {
    let (mut target, mut sender) = (plain(flags), plain(SetupFlags::empty()));
    let fd = target.fd().ok_or("a descriptor")?.as_raw_fd();
    let message =
        |user_data| Sqe { opcode: Opcode::MSG_RING, fd, len: 5, off: user_data, ..Sqe::ZERO };
    let nothing = EnterCause::NothingComing { want: 1, coming: 0 };
    assert_eq!(cause(target.wait(1)), Some(nothing));
    target.expect_others();
    for user_data in [1, u64::MAX] {
        push(&mut sender, message(user_data));
        sender.submit_and_wait(1)?;
        assert_eq!(sender.pop().map(|cqe| cqe.res), Some(0));
        target.wait(1)?;
        let cqe = target.pop().ok_or("a message")?;
        assert_eq!((cqe.user_data, cqe.res), (user_data, 5));
        assert_eq!((target.in_flight(), target.ready()), (0, 0));
    }
    // A peek finds it, too.
    push(&mut sender, message(3));
    sender.submit_and_wait(1)?;
    assert_eq!(target.peek().map(|cqe| cqe.map(|cqe| cqe.user_data)), Ok(Some(3)));
    Ok(())
}

/// A ring with a read in flight that does not end, and the write end that keeps it from ending.
fn endless() -> Result<(RawRing, (std::io::PipeReader, std::io::PipeWriter)), Failed> {
    let (from, to) = std::io::pipe()?;
    let mut ring = plain(SetupFlags::empty());
    push(&mut ring, read_byte(&from, 1));
    ring.submit()?;
    Ok((ring, (from, to)))
}

/// The time on the clock of the wait.
fn now() -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: one live `struct timespec`, because it is a local.
    let read = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    assert_eq!(read, 0);
    let part = |number: i64| u64::try_from(number).expect("time since the boot");
    Duration::from_secs(part(now.tv_sec)) + Duration::from_nanos(part(now.tv_nsec))
}

fn until() -> Result<(), Failed> {
    let (mut ring, _pipe) = endless()?;
    let flags = EnterFlags::GETEVENTS | EnterFlags::ABS_TIMER;
    for end in [Duration::from_nanos(1), now() + Duration::from_millis(5)] {
        let arg = EnterArg::Ext(ExtArg { timeout: Some(end.into()), ..ExtArg::default() });
        assert_eq!(ring.enter(0, 1, flags, arg), Err(Errno::new(libc::ETIME)));
        assert!(now() >= end);
    }
    Ok(())
}

/// A region of arguments, registered while the ring is disabled.
fn region() -> Result<(), Failed> {
    let disabled = disabled_with_region()?;
    let mut ring = disabled.enable_raw().map_err(|(_, errno)| format!("enable: {errno}"))?;
    let (from, mut to) = std::io::pipe()?;
    push(&mut ring, read_byte(&from, 1));
    ring.submit()?;
    let (flags, started) = (EnterFlags::GETEVENTS, Instant::now());
    let entered = ring.enter(0, 1, flags, EnterArg::Registered(size_of::<RegWait>()));
    assert_eq!(entered, Err(Errno::new(libc::ETIME)));
    assert!(started.elapsed() >= A_WHILE);
    to.write_all(b"x")?;
    // The first one has no timeout.
    assert_eq!(ring.enter(0, 1, flags, EnterArg::Registered(0)), Ok(0));
    assert_eq!(drain_user_data(&mut ring), [1]);
    Ok(())
}

fn no_iowait() -> Result<(), Failed> {
    let mut ring = plain(SetupFlags::empty());
    let pipe = push_later(&mut ring, 1)?;
    let count = ring.flush();
    let flags = EnterFlags::GETEVENTS | EnterFlags::NO_IOWAIT;
    assert_eq!(ring.enter(count, 1, flags, EnterArg::None), Ok(1));
    assert_eq!(drain_user_data(&mut ring), [1]);
    drop(pipe);
    Ok(())
}

fn unbounded() -> Result<(), Failed> {
    let mut ring = plain(SetupFlags::empty());
    push(&mut ring, nop(1));
    ring.submit()?;
    let unsupported = EnterCause::Unsupported { what: "a bounded wait", since: "5.11" };
    assert_eq!(cause(ring.wait_timeout(1, A_MINUTE)), Some(unsupported));
    Ok(())
}

fn no_min_wait() -> Result<(), Failed> {
    let mut ring = plain(SetupFlags::empty());
    push(&mut ring, nop(1));
    ring.submit()?;
    let cause = cause(ring.wait_min(1, A_MINUTE, A_MINUTE));
    let unsupported = EnterCause::Unsupported { what: "a minimum wait", since: "6.12" };
    // Where no wait can be bounded, that error comes first.
    let bounded = ring.features().contains(Features::EXT_ARG);
    assert!(!bounded || cause == Some(unsupported), "{cause:?}");
    assert!(matches!(cause, Some(EnterCause::Unsupported { .. })));
    Ok(())
}
