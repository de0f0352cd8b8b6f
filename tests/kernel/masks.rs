//! Signals that end a wait, and signals that are held back during it.
//!
//! ```text
//!   sent, and held back ─► a wait that lets it in ─► its handler runs ─► Interrupted
//! ```
//!
//! A signal that is to end a wait is pending before it begins, or is sent again until it has ended.
#![allow(unsafe_code, reason = "sends signals")]

use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};

use annulus::sys::flags::{Features, SetupFlags};
use annulus::{EnterCause, EnterError, Setup, SignalMask, WaitOptions, Woken};
use libtest_mimic::{Failed, Trial};

use super::{A_MINUTE, A_WHILE, BOUNDED, cause, endless, plain, reading, small};
use crate::harness::{Need, drain_user_data, nop, push, safe_ring, test};

/// A ring that polls devices.
const POLLED: Need = Need::Setup(SetupFlags::IOPOLL);

/// The tests.
pub fn tests() -> Vec<Trial> {
    vec![
        test("a_signal_that_the_mask_lets_in_ends_a_wait", &[], signal_raw),
        test("a_signal_that_the_mask_holds_back_ends_no_wait", &[BOUNDED], signal_held),
        test("a_signal_ends_a_wait_for_one_operation_if_let_in", &[], signal_safe),
        test("a_signal_ends_a_wait_after_other_completions", &[], signal_completes),
        test(
            "a_signal_ends_a_wait_of_a_ring_that_polls_devices",
            &[POLLED, BOUNDED],
            signal_polled,
        ),
    ]
}

static HANDLED: AtomicU32 = AtomicU32::new(0);

/// Where the handler writes a byte, if anywhere.
static TO: AtomicI32 = AtomicI32::new(-1);

extern "C" fn handle(_: libc::c_int) {
    HANDLED.fetch_add(1, Ordering::Relaxed);
    let to = TO.load(Ordering::Relaxed);
    if to >= 0 {
        // SAFETY: one live byte, because it is static; `write` may be called in a handler.
        unsafe { libc::write(to, b"x".as_ptr().cast(), 1) };
    }
}

/// Has `handle` handle `signal`.
fn install(signal: libc::c_int) {
    let handler: extern "C" fn(libc::c_int) = handle;
    let empty = std::mem::MaybeUninit::zeroed();
    let action = libc::sigaction {
        sa_sigaction: handler as usize,
        // SAFETY: all zeros are an empty set, because it is an array of integers.
        sa_mask: unsafe { empty.assume_init() },
        sa_flags: 0,
        sa_restorer: None,
    };
    // SAFETY: one live action, whose handler adds to a number and writes a byte, because that is
    // `handle`.
    let installed = unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
    assert_eq!(installed, 0);
}

fn here_thread() -> libc::pthread_t {
    // SAFETY: has no preconditions, because it only names the thread.
    unsafe { libc::pthread_self() }
}

/// Sends this thread a signal that it holds back, and returns the mask that lets it in.
fn pending() -> SignalMask {
    install(libc::SIGUSR2);
    let mut held = std::mem::MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: one live set, because it is a local.
    unsafe { libc::sigaddset(held.as_mut_ptr(), libc::SIGUSR2) };
    // SAFETY: one live set, likewise, and no other is asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, held.as_ptr(), std::ptr::null_mut()) };
    let thread = here_thread();
    // SAFETY: the thread lives, because it is the one that calls.
    unsafe { libc::pthread_kill(thread, libc::SIGUSR2) };
    let current = SignalMask::current();
    assert!(current.contains(libc::SIGUSR2), "{current:?}");
    current.without(libc::SIGUSR2).expect("there is such a signal")
}

/// Runs `body` on a thread of its own, which gets no signals but its own.
fn alone(body: fn() -> Result<(), Failed>) -> Result<(), Failed> {
    std::thread::spawn(move || body().map_err(|failed| format!("{failed:?}")))
        .join()
        .map_err(|_| "it panicked")?
        .map_err(Failed::from)
}

fn signal_raw() -> Result<(), Failed> {
    alone(|| {
        let (mut ring, _to) = endless(plain(SetupFlags::empty()))?;
        let mask = pending();
        let bounded = ring.features().contains(Features::EXT_ARG);
        let options = WaitOptions::FOREVER.signals(mask);
        assert_eq!(cause(ring.wait_with(1, &options)), Some(EnterCause::Interrupted));
        if bounded {
            pending();
            let options = WaitOptions::at_most(A_MINUTE).signals(mask);
            assert_eq!(cause(ring.wait_with(1, &options)), Some(EnterCause::Interrupted));
        }
        // Even where the kernel answers with a count, and does not report the signal.
        pending();
        push(&mut ring, nop(2));
        let interrupted = EnterError { submitted: 1, cause: EnterCause::Interrupted };
        assert_eq!(ring.submit_and_wait_with(2, &options), Err(interrupted));
        assert_eq!(drain_user_data(&mut ring), [2]);
        assert!(HANDLED.load(Ordering::Relaxed) > 0);
        assert!(SignalMask::current().contains(libc::SIGUSR2), "it is held back again");
        Ok(())
    })
}

fn signal_held() -> Result<(), Failed> {
    alone(|| {
        let (mut ring, _to) = endless(plain(SetupFlags::empty()))?;
        let _ = pending();
        for mask in [SignalMask::current(), SignalMask::all()] {
            let options = WaitOptions::at_most(A_WHILE).signals(mask);
            assert_eq!(ring.wait_with(1, &options), Ok(Woken::TimedOut));
        }
        Ok(())
    })
}

fn signal_safe() -> Result<(), Failed> {
    alone(|| {
        let mut ring = small();
        let (read, mut to) = reading(&mut ring)?;
        let mask = pending();
        let Err(unfinished) = ring.wait_with(read, &WaitOptions::FOREVER.signals(mask)) else {
            return Err("nothing was written".into());
        };
        assert_eq!(unfinished.why.cause, EnterCause::Interrupted);
        to.write_all(b"x")?;
        let read = ring.wait_with(unfinished.ticket, &WaitOptions::FOREVER)?;
        assert_eq!((read.result?, read.buf), (1, *b"x"));
        Ok(())
    })
}

/// The handler completes another operation: that is no reason to keep silent about the signal.
fn signal_completes() -> Result<(), Failed> {
    alone(|| {
        for setup in [Setup::new(8), Setup::plain(8)] {
            let mut ring = safe_ring(setup);
            let (other, told) = reading(&mut ring)?;
            ring.submit_all()?;
            // It is submitted with the wait.
            let (read, mut to) = reading(&mut ring)?;
            TO.store(told.as_raw_fd(), Ordering::Relaxed);
            let mask = pending();
            let waited = ring.wait_with(read, &WaitOptions::FOREVER.signals(mask));
            TO.store(-1, Ordering::Relaxed);
            let Err(unfinished) = waited else { return Err("nothing was written".into()) };
            assert_eq!(unfinished.why.cause, EnterCause::Interrupted);
            assert_eq!(ring.wait(other)?.buf, *b"x");
            to.write_all(b"y")?;
            assert_eq!(ring.wait(unfinished.ticket)?.buf, *b"y");
        }
        Ok(())
    })
}

/// No device has anything to do: the kernel itself waits for nothing.
fn signal_polled() -> Result<(), Failed> {
    alone(|| {
        let mut ring = plain(SetupFlags::IOPOLL);
        ring.expect_others();
        let mask = pending();
        let options = WaitOptions::FOREVER.signals(mask);
        assert_eq!(cause(ring.wait_with(1, &options)), Some(EnterCause::Interrupted));
        assert!(!SignalMask::current().contains(libc::SIGUSR1));
        // A signal that needs no mask.
        let (thread, done) = (here_thread(), Arc::new(AtomicBool::new(false)));
        install(libc::SIGUSR1);
        let told = Arc::clone(&done);
        let sends = std::thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                // SAFETY: the thread lives: it waits for this one.
                unsafe { libc::pthread_kill(thread, libc::SIGUSR1) };
                std::thread::sleep(A_WHILE);
            }
        });
        let waited = ring.wait(1);
        done.store(true, Ordering::Relaxed);
        sends.join().map_err(|_| "it panicked")?;
        assert_eq!(waited.map_err(|error| error.cause), Err(EnterCause::Interrupted));
        // And a limit is kept to.
        assert_eq!(ring.wait_with(1, &WaitOptions::at_most(A_WHILE)), Ok(Woken::TimedOut));
        Ok(())
    })
}
