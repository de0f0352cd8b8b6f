//! Waits that a signal ends, and the masks that decide which signals do.
//!
//! The kernel answers `EINTR` only where nothing was submitted and nothing is ready; otherwise it
//! answers with the count. The crate reports both, after a single signal.
#![allow(unsafe_code, reason = "sends signals, and says which")]

use std::io::{PipeWriter, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use annulus::op::{Read, Timeout};
use annulus::sys::errno::Errno;
use annulus::sys::flags::{EnterFlags, Features, SetupFlags};
use annulus::sys::syscall::{EnterArg, ExtArg};
use annulus::{EnterCause, EnterError, Ring, Setup};
use libtest_mimic::{Failed, Trial};

use super::{A_MINUTE, A_WHILE, EXT_ARG, endless, plain};
use crate::harness::{drain_user_data, in_each_mode, nop, push, read_byte, safe_ring, test};

/// The tests.
pub fn tests() -> Vec<Trial> {
    let mut trials = in_each_mode("a_signal_interrupts_a_wait", &[], interrupted);
    trials.extend(in_each_mode(
        "a_signal_interrupts_a_submit_which_stays_done",
        &[],
        submit_interrupted,
    ));
    trials.extend(in_each_mode("a_signal_interrupts_a_turn", &[], turn_interrupted));
    trials.extend(in_each_mode("one_signal_ends_a_wait_that_nothing_else_ends", &[], one_signal));
    trials.extend([
        test("a_signal_ends_a_wait_for_events", &[], events_interrupted),
        test("a_signal_that_the_mask_blocks_interrupts_nothing", &[EXT_ARG], masked),
        test("a_signal_that_the_mask_lets_in_interrupts", &[], unmasked),
        test("a_signal_mask_is_eight_bytes", &[], mask_size),
    ]);
    trials
}

/// How often the handler ran, on any thread.
static HANDLED: AtomicU32 = AtomicU32::new(0);

extern "C" fn handle(_: libc::c_int) {
    HANDLED.fetch_add(1, Ordering::Relaxed);
}

/// Has `signal` handled, its system calls not restarted.
fn install(signal: libc::c_int) {
    let handler: extern "C" fn(libc::c_int) = handle;
    let action = libc::sigaction {
        sa_sigaction: handler as usize,
        sa_mask: signals(&[]),
        sa_flags: 0,
        sa_restorer: None,
    };
    // SAFETY: one live action, whose handler only adds to a number, because that is `handle`.
    let installed = unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
    assert_eq!(installed, 0);
}

/// Sends this thread a signal every few milliseconds, until dropped.
struct Alarm {
    stop: Arc<AtomicBool>,
    sender: Option<thread::JoinHandle<()>>,
}

impl Alarm {
    fn new() -> Self {
        install(libc::SIGUSR1);
        let stop = Arc::new(AtomicBool::new(false));
        // SAFETY: has no preconditions, because it only names the thread.
        let thread = unsafe { libc::pthread_self() };
        let stopped = Arc::clone(&stop);
        let sender = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(2));
                // SAFETY: the thread lives, because it joins this one before it ends.
                unsafe { libc::pthread_kill(thread, libc::SIGUSR1) };
            }
        });
        Self { stop, sender: Some(sender) }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.sender.take().map(thread::JoinHandle::join);
    }
}

fn interrupted(flags: SetupFlags) -> Result<(), Failed> {
    let mut ring = plain(flags);
    let (from, mut to) = std::io::pipe()?;
    push(&mut ring, nop(1));
    push(&mut ring, read_byte(&from, 2));
    ring.submit_and_wait(1)?;
    let alarm = Alarm::new();
    // With one completion ready, and with none.
    for ready in [1, 0] {
        let error = ring.wait(ready + 1).expect_err("the read does not end");
        assert_eq!(error, EnterError { submitted: 0, cause: EnterCause::Interrupted });
        assert_eq!(ring.ready(), ready);
        ring.pop();
    }
    drop(alarm);
    assert_eq!(ring.in_flight(), 1);
    to.write_all(b"x")?;
    ring.wait(1)?;
    assert_eq!(drain_user_data(&mut ring), [2]);
    Ok(())
}

fn turn_interrupted(flags: SetupFlags) -> Result<(), Failed> {
    let mut ring = plain(flags);
    let (from, mut to) = std::io::pipe()?;
    push(&mut ring, nop(1));
    push(&mut ring, read_byte(&from, 2));
    let alarm = Alarm::new();
    let mut words = Vec::new();
    let mut submitted = 0;
    // A turn that submitted, and one that had nothing to submit.
    for _ in 0..2 {
        let want = ring.in_flight();
        let error = ring.turn(want, |cqe| words.push(cqe.user_data)).expect_err("the read waits");
        assert_eq!(error.cause, EnterCause::Interrupted);
        submitted += error.submitted;
        assert_eq!((submitted, &words[..]), (2, &[1][..]));
    }
    drop(alarm);
    to.write_all(b"x")?;
    assert_eq!(ring.turn(1, |cqe| words.push(cqe.user_data)), Ok(1));
    assert_eq!(words, [1, 2]);
    Ok(())
}

fn submit_interrupted(flags: SetupFlags) -> Result<(), Failed> {
    let mut ring = plain(flags);
    let (from, mut to) = std::io::pipe()?;
    push(&mut ring, read_byte(&from, 1));
    ring.submit()?;
    let alarm = Alarm::new();
    for word in [2, 3] {
        push(&mut ring, nop(word));
        let want = ring.in_flight();
        let error = ring.submit_and_wait(want).expect_err("the read does not end");
        assert_eq!(error, EnterError { submitted: 1, cause: EnterCause::Interrupted });
    }
    if ring.features().contains(Features::EXT_ARG) {
        push(&mut ring, nop(4));
        let error = ring.submit_and_wait_timeout(4, A_MINUTE).expect_err("the read does not end");
        assert_eq!(error, EnterError { submitted: 1, cause: EnterCause::Interrupted });
        assert_eq!(ring.pop().map(|cqe| cqe.user_data), Some(2));
    }
    drop(alarm);
    let left = ring.in_flight();
    to.write_all(b"x")?;
    assert_eq!(ring.submit_and_wait(left), Ok(0), "nothing is submitted twice");
    let mut words = drain_user_data(&mut ring);
    words.sort_unstable();
    assert_eq!(words.first(), Some(&1));
    assert_eq!(ring.stats().sqes, ring.stats().cqes);
    assert_eq!(ring.in_flight(), 0);
    Ok(())
}

/// Sends this thread one signal, and no other, once it sleeps in the kernel; after a minute it ends
/// a wait that no signal ended.
struct OneSignal {
    ended: Arc<AtomicBool>,
    sender: Option<thread::JoinHandle<()>>,
}

impl OneSignal {
    fn new(to: &PipeWriter) -> Result<Self, Failed> {
        install(libc::SIGUSR1);
        let (ended, mut to) = (Arc::new(AtomicBool::new(false)), to.try_clone()?);
        // SAFETY: has no preconditions, because it only names the thread.
        let (thread, stat) = (unsafe { libc::pthread_self() }, own_stat()?);
        let seen = Arc::clone(&ended);
        let sender = thread::spawn(move || {
            let began = Instant::now();
            while !sleeps(&stat) && began.elapsed() < A_MINUTE {
                thread::sleep(Duration::from_millis(1));
            }
            // SAFETY: the thread lives, because it joins this one before it ends.
            unsafe { libc::pthread_kill(thread, libc::SIGUSR1) };
            while !seen.load(Ordering::Relaxed) && began.elapsed() < A_MINUTE {
                thread::sleep(Duration::from_millis(1));
            }
            if !seen.load(Ordering::Relaxed) {
                to.write_all(b"too late").expect("room in the pipe, and a reader");
            }
        });
        Ok(Self { ended, sender: Some(sender) })
    }
}

impl Drop for OneSignal {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        self.sender.take().map(thread::JoinHandle::join);
    }
}

/// Where the state of this thread can be read.
fn own_stat() -> Result<PathBuf, Failed> {
    Ok(Path::new("/proc").join(std::fs::read_link("/proc/thread-self")?).join("stat"))
}

/// Whether the thread sleeps: in these tests, in its wait.
fn sleeps(stat: &Path) -> bool {
    let stat = std::fs::read_to_string(stat).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('S'))
}

/// Even when entries were submitted, and when completions are ready.
fn one_signal(flags: SetupFlags) -> Result<(), Failed> {
    let (from, to) = std::io::pipe()?;
    for (submits, ready) in [(false, 0), (true, 0), (false, 1), (true, 1)] {
        let mut ring = plain(flags);
        push(&mut ring, read_byte(&from, 1));
        for _ in 0..ready {
            push(&mut ring, nop(2));
        }
        if !submits {
            ring.submit_and_wait(ready)?;
        }
        let signal = OneSignal::new(&to)?;
        let ended = ring.submit_and_wait(ready + 1);
        drop(signal);
        let submitted = if submits { ready + 1 } else { 0 };
        assert_eq!(ended, Err(EnterError { submitted, cause: EnterCause::Interrupted }));
        assert_eq!(ring.ready(), ready);
        // The entries stay submitted, and the next wait is for them.
        assert_eq!(ring.flush(), 0);
    }
    Ok(())
}

/// A server that waits for events is told of it, whatever internal requests its ring has meanwhile.
fn events_interrupted() -> Result<(), Failed> {
    let (from, to) = std::io::pipe()?;
    for cancels in [false, true] {
        let mut ring: Ring = safe_ring(Setup::new(8));
        let read = ring.submit(Read::new(from.try_clone()?, [0; 1])).map_err(|no| no.why)?;
        if cancels {
            let other = ring.submit(Timeout::new(A_MINUTE)).map_err(|no| no.why)?;
            ring.cancel(&other)?;
            ring.detach(other);
        }
        let signal = OneSignal::new(&to)?;
        // A detached operation counts when it ends.
        let ended = ring.submit_and_wait(if cancels { 2 } else { 1 });
        drop(signal);
        let error = ended.expect_err("the read does not end");
        assert_eq!(error.cause, EnterCause::Interrupted);
        assert_eq!(error.submitted, if cancels { 3 } else { 1 });
        // A wait for one operation goes on.
        let signal = OneSignal::new(&to)?;
        let unfinished = ring.wait_timeout(read, A_WHILE * 20);
        drop(signal);
        assert_eq!(unfinished.expect_err("it goes on").why.cause, EnterCause::TimedOut);
    }
    Ok(())
}

/// The signals of a set.
fn signals(members: &[libc::c_int]) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: one live set, because it is a local.
    let emptied = unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    assert_eq!(emptied, 0);
    // SAFETY: every bit is decided, because that is what success means.
    let mut set = unsafe { set.assume_init() };
    for &signal in members {
        // SAFETY: one live set, because it is a local.
        unsafe { libc::sigaddset(&raw mut set, signal) };
    }
    set
}

/// A signal that is handled, blocked on this thread, and pending.
struct Pending;

impl Pending {
    fn new() -> Self {
        install(libc::SIGUSR2);
        Self::change(libc::SIG_BLOCK);
        // SAFETY: has no preconditions, because it only names the thread.
        let this = unsafe { libc::pthread_self() };
        // SAFETY: this thread lives, because it runs.
        let sent = unsafe { libc::pthread_kill(this, libc::SIGUSR2) };
        assert_eq!(sent, 0);
        Self
    }

    fn change(how: libc::c_int) {
        let set = signals(&[libc::SIGUSR2]);
        // SAFETY: one live set, because it is a local.
        let changed = unsafe { libc::pthread_sigmask(how, &raw const set, std::ptr::null_mut()) };
        assert_eq!(changed, 0);
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        Self::change(libc::SIG_UNBLOCK);
    }
}

fn masked() -> Result<(), Failed> {
    let (mut ring, _pipe) = endless()?;
    let pending = Pending::new();
    let (blocked, open) = (signals(&[libc::SIGUSR2]), signals(&[]));
    let arg = |timeout: Duration, sigmask| {
        EnterArg::Ext(ExtArg { timeout: Some(timeout.into()), min_wait: None, sigmask })
    };
    let brief = Duration::from_millis(5);
    for sigmask in [None, Some(&blocked)] {
        let entered = ring.enter(0, 1, EnterFlags::GETEVENTS, arg(brief, sigmask));
        assert_eq!(entered, Err(Errno::new(libc::ETIME)));
    }
    let handled = HANDLED.load(Ordering::Relaxed);
    let entered = ring.enter(0, 1, EnterFlags::GETEVENTS, arg(A_MINUTE, Some(&open)));
    assert_eq!(entered, Err(Errno::new(libc::EINTR)));
    assert!(HANDLED.load(Ordering::Relaxed) > handled);
    drop(pending);
    Ok(())
}

fn unmasked() -> Result<(), Failed> {
    let (mut ring, _pipe) = endless()?;
    let pending = Pending::new();
    let (handled, open) = (HANDLED.load(Ordering::Relaxed), signals(&[]));
    let entered = ring.enter(0, 1, EnterFlags::GETEVENTS, EnterArg::SigMask(&open));
    assert_eq!(entered, Err(Errno::new(libc::EINTR)));
    assert!(HANDLED.load(Ordering::Relaxed) > handled);
    drop(pending);
    Ok(())
}

/// The kernel's set of signals is smaller than the C library's, and the kernel insists on its size.
fn mask_size() -> Result<(), Failed> {
    let (ring, _pipe) = endless()?;
    let number = ring.fd().ok_or("a descriptor")?.as_raw_fd();
    let open = signals(&[]);
    let flags = EnterFlags::GETEVENTS.bits();
    let size = size_of::<libc::sigset_t>();
    let call = libc::SYS_io_uring_enter;
    // SAFETY: one live set of that size, because it is a local; nothing is submitted (OP1).
    let entered = unsafe { libc::syscall(call, number, 0, 1, flags, &raw const open, size) };
    let errno = Errno::last();
    assert_eq!((size, entered), (128, -1));
    assert!(errno.is(libc::EINVAL));
    Ok(())
}
