//! A ring with a registered index, and a ring that signals an eventfd.
//!
//! The indices belong to a thread, so a test that counts them runs on a thread of its own.
#![allow(unsafe_code, reason = "calls the kernel and the C library itself")]

use std::io::{PipeReader, PipeWriter, Write};
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use annulus::op::{Nop, Op};
use annulus::sys::abi::Sqe;
use annulus::sys::errno::Errno;
use annulus::sys::flags::{EnterFlags, Features, SetupFlags, SqeFlags};
use annulus::sys::map::Pages;
use annulus::sys::opcode::RegisterOp;
use annulus::sys::syscall::{self, EnterArg, RingRef};
use annulus::{RawRing, Setup};
use libtest_mimic::{Failed, Trial};

use crate::harness::{
    Need, Part, child_succeeds, drain_user_data, here, nop, patient, push, read_byte, ring,
    safe_ring, test,
};

/// The parts that play in a child process.
pub const PARTS: &[Part] = &[("rings are forgotten", rings_are_forgotten)];

const RING_FDS: [Need; 3] = [
    Need::Register(RegisterOp::RING_FDS),
    Need::Register(RegisterOp::UNREGISTER_RING_FDS),
    Need::Enter(EnterFlags::REGISTERED_RING),
];
const FD_ONLY: [Need; 1] = [Need::Setup(SetupFlags::REGISTERED_FD_ONLY)];
const BY_INDEX: [Need; 2] = [FD_ONLY[0], Need::Feature(Features::REG_REG_RING)];

/// The tests.
pub fn tests() -> Vec<Trial> {
    vec![
        test("a_registered_ring_is_entered_by_its_index", &RING_FDS, by_index),
        test("an_index_is_the_threads_own", &RING_FDS, index_is_the_threads),
        test("a_dropped_ring_gives_its_index_back", &RING_FDS, indices_come_back),
        test("a_forgotten_ring_keeps_its_index", &RING_FDS, || {
            child_succeeds("rings are forgotten")
        }),
        test("no_ring_is_registered_before_5_18", &[Need::Other(lacks_ring_fds)], no_ring_fds),
        test("a_ring_without_descriptor_works_and_gives_its_index_back", &FD_ONLY, without_fd),
        test("a_ring_without_descriptor_registers_by_its_index", &BY_INDEX, registers),
        test("a_ring_without_descriptor_cannot_be_polled", &FD_ONLY, no_fd_to_lend),
        test("completions_signal_the_eventfd", &[], signals),
        test("only_a_workers_completions_signal_the_async_eventfd", &[], signals_async),
        test("a_safe_ring_signals_an_eventfd_and_an_async_one", &[], signals_safe),
        test("a_paused_eventfd_is_silent", &[], pause),
        test("one_eventfd_a_ring", &[], one_eventfd),
        test("the_eventfd_outlives_its_descriptor", &[], eventfd_outlives),
        test("the_ring_polls_readable_when_completions_are_ready", &[], polls),
    ]
}

fn lacks_ring_fds() -> Option<String> {
    here().has_register(RegisterOp::RING_FDS).then(|| "needs a kernel without RING_FDS".to_owned())
}

/// Plays `body` on a thread that has not registered anything yet.
fn apart(body: impl FnOnce() + Send + 'static) {
    thread::spawn(body).join().expect("no panic");
}

/// Enters the ring behind this thread's `index`, and does nothing there.
fn enter(index: u32) -> Result<u32, Errno> {
    let ring = RingRef::registered(index);
    // SAFETY: nothing is submitted, because the count is 0 (OP1).
    unsafe { syscall::enter(ring, 0, 0, EnterFlags::empty(), EnterArg::None) }
}

fn works(ring: &mut RawRing) {
    push(ring, nop(7));
    assert_eq!(ring.submit_and_wait(1), Ok(1));
    assert_eq!(drain_user_data(ring), [7]);
}

fn by_index() -> Result<(), Failed> {
    apart(|| {
        let mut ring = ring(Setup::new(4));
        assert!(enter(0).is_err(), "nothing is registered");
        assert_eq!(ring.register_ring_fd(), Ok(()));
        assert_eq!(enter(0), Ok(0));
        // Registering again takes no second slot, and reports that.
        assert_eq!(ring.register_ring_fd(), Err(Errno::new(libc::EEXIST)));
        assert!(enter(1).is_err_and(|errno| errno.is(libc::EBADF)));
        works(&mut ring);
        assert_eq!(ring.unregister_ring_fd(), Ok(()));
        assert!(enter(0).is_err_and(|errno| errno.is(libc::EBADF)));
        works(&mut ring);
        assert_eq!(ring.unregister_ring_fd(), Ok(()), "twice is once");
        assert_eq!(ring.register_ring_fd(), Ok(()));
        assert_eq!(enter(0), Ok(0));
        works(&mut ring);
    });
    Ok(())
}

fn index_is_the_threads() -> Result<(), Failed> {
    apart(|| {
        let mut ring = ring(Setup::plain(4));
        ring.register_ring_fd().expect("a place");
        assert_eq!(enter(0), Ok(0));
        apart(|| {
            let errno = enter(0).expect_err("nothing is registered on this thread");
            assert!(errno.is(libc::EBADF) || errno.is(libc::EINVAL), "{errno}");
        });
        works(&mut ring);
    });
    Ok(())
}

fn indices_come_back() -> Result<(), Failed> {
    apart(|| {
        for _ in 0..100 {
            let mut ring = ring(Setup::new(1));
            ring.register_ring_fd().expect("a place");
            works(&mut ring);
        }
        assert!(enter(0).is_err_and(|errno| errno.is(libc::EBADF)));
        // A ring that is taken apart gives its slot back, too.
        for _ in 0..17 {
            let mut ring = ring(Setup::plain(1));
            ring.register_ring_fd().expect("a place");
            let halves = ring.split().expect("a ring without an owner");
            assert!(enter(0).is_err_and(|errno| errno.is(libc::EBADF)));
            drop(halves);
        }
    });
    Ok(())
}

fn rings_are_forgotten() {
    for _ in 0..16 {
        let mut ring = ring(Setup::plain(1));
        ring.register_ring_fd().expect("a place");
        mem::forget(ring);
    }
    let mut ring = ring(Setup::plain(1));
    assert_eq!(ring.register_ring_fd(), Err(Errno::new(libc::EBUSY)));
    // It works anyway, by its descriptor.
    works(&mut ring);
    assert_eq!(ring.unregister_ring_fd(), Ok(()));
    // Another thread has slots of its own.
    apart(|| {
        let mut ring = crate::harness::ring(Setup::plain(1));
        assert_eq!(ring.register_ring_fd(), Ok(()));
        works(&mut ring);
    });
}

fn no_ring_fds() -> Result<(), Failed> {
    let mut ring = ring(Setup::new(4));
    assert_eq!(ring.register_ring_fd(), Err(Errno::new(libc::EINVAL)));
    assert_eq!(ring.unregister_ring_fd(), Ok(()));
    works(&mut ring);
    Ok(())
}

fn fd_only() -> RawRing {
    let flags = SetupFlags::REGISTERED_FD_ONLY;
    ring(Setup::new(1).own_memory(Pages::Ordinary).with(flags))
}

fn without_fd() -> Result<(), Failed> {
    apart(|| {
        for _ in 0..40 {
            let mut ring = fd_only();
            assert!(ring.fd().is_none());
            works(&mut ring);
            assert_eq!(enter(0), Ok(0));
            // It has its slot already.
            assert_eq!(ring.unregister_ring_fd(), Ok(()));
            assert_eq!(ring.register_ring_fd(), Err(Errno::new(libc::EBADF)));
            works(&mut ring);
        }
        assert!(enter(0).is_err_and(|errno| errno.is(libc::EBADF)));
    });
    Ok(())
}

fn registers() -> Result<(), Failed> {
    apart(|| {
        let mut ring = fd_only();
        ring.register_files_sparse(4).expect("an empty table");
        ring.unregister_files().expect("it is there");
        assert!(ring.unregister_files().is_err());
        works(&mut ring);
    });
    Ok(())
}

fn no_fd_to_lend() -> Result<(), Failed> {
    let ring = fd_only();
    let lent = catch_unwind(AssertUnwindSafe(|| ring.as_fd().as_raw_fd()));
    let words = lent.expect_err("there is none");
    let words = words
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| words.downcast_ref::<&str>().copied());
    assert!(words.is_some_and(|words| words.contains("see `RawRing::fd`")), "{words:?}");
    Ok(())
}

/// A counter to be signalled, and read without waiting.
struct EventFd(OwnedFd);

impl EventFd {
    fn new() -> Self {
        // SAFETY: takes numbers only, because that is its signature.
        let number = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        assert!(number >= 0, "eventfd: {}", std::io::Error::last_os_error());
        // SAFETY: a new descriptor that nothing else owns, because that is what success means.
        Self(unsafe { OwnedFd::from_raw_fd(number) })
    }

    /// The signals since the last time.
    fn count(&self) -> u64 {
        let mut count = 0_u64;
        // SAFETY: eight live bytes, because `count` is a local.
        let got = unsafe { libc::read(self.0.as_raw_fd(), (&raw mut count).cast(), 8) };
        if got == 8 { count } else { 0 }
    }

    /// The signals since the last call, at least one of which must come.
    fn wait(&self) -> u64 {
        assert!(readable(self.0.as_fd(), A_MINUTE), "a signal within a minute");
        self.count()
    }
}

/// Far longer than anything here takes.
const A_MINUTE: i32 = 60_000;

/// Whether `fd` is readable within `millis`.
fn readable(fd: BorrowedFd<'_>, millis: i32) -> bool {
    let mut asked = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one live `struct pollfd`, because `asked` is a local.
    let ready = unsafe { libc::poll(&raw mut asked, 1, millis) };
    assert!(ready >= 0, "poll: {}", std::io::Error::last_os_error());
    ready == 1 && asked.revents & libc::POLLIN != 0
}

fn pipe() -> (PipeReader, PipeWriter) {
    std::io::pipe().expect("a pipe")
}

fn signals() -> Result<(), Failed> {
    for setup in [Setup::plain(8), Setup::new(8)] {
        let mut ring = ring(setup);
        let eventfd = EventFd::new();
        ring.register_eventfd(&eventfd.0)?;
        assert_eq!(eventfd.count(), 0);
        for word in 0..3 {
            push(&mut ring, nop(word));
            ring.submit_and_wait(1)?;
            assert_eq!(drain_user_data(&mut ring), [word]);
            assert_eq!(eventfd.wait(), 1);
        }
        // The completions of one submit may signal together.
        (0..3).for_each(|word| push(&mut ring, nop(word)));
        ring.submit_and_wait(3)?;
        assert_eq!(drain_user_data(&mut ring), [0, 1, 2]);
        assert!((1..=3).contains(&eventfd.wait()));
        // A completion without a call.
        let (from, mut to) = pipe();
        push(&mut ring, read_byte(&from, 9));
        ring.submit()?;
        assert_eq!(eventfd.count(), 0);
        to.write_all(b"x")?;
        assert_eq!(eventfd.wait(), 1);
        ring.wait(1)?;
        assert_eq!(drain_user_data(&mut ring), [9]);
        // With DEFER_TASKRUN the work signals when it arrives, and again when it is done.
        assert!(eventfd.count() <= 1);
        ring.unregister_eventfd()?;
        works(&mut ring);
        assert_eq!(eventfd.count(), 0);
    }
    Ok(())
}

fn signals_async() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(8));
    let eventfd = EventFd::new();
    ring.register_eventfd_async(&eventfd.0)?;
    works(&mut ring);
    assert_eq!(eventfd.count(), 0, "it completed within the submit");
    push(&mut ring, Sqe { flags: SqeFlags::ASYNC, ..nop(1) });
    ring.submit_and_wait(1)?;
    assert_eq!(drain_user_data(&mut ring), [1]);
    assert_eq!(eventfd.wait(), 1, "a worker thread completed it");
    Ok(())
}

fn signals_safe() -> Result<(), Failed> {
    let mut ring = safe_ring(Setup::plain(8));
    let eventfd = EventFd::new();
    ring.register_eventfd(&eventfd.0)?;
    let here = ring.submit(Nop)?;
    ring.wait(here)??;
    assert_eq!(eventfd.wait(), 1);
    assert_eq!(ring.register_eventfd_async(&eventfd.0), Err(Errno::new(libc::EBUSY)));
    ring.unregister_eventfd()?;

    ring.register_eventfd_async(&eventfd.0)?;
    let here = ring.submit(Nop)?;
    ring.wait(here)??;
    assert_eq!(eventfd.count(), 0, "it completed within the submit");
    let forced = ring.submit(Nop.forced())?;
    ring.wait(forced)??;
    assert_eq!(eventfd.wait(), 1, "a worker thread completed it");
    ring.unregister_eventfd()?;
    assert_eq!(ring.unregister_eventfd(), Err(Errno::new(libc::ENXIO)));
    Ok(())
}

fn pause() -> Result<(), Failed> {
    let mut ring = ring(Setup::new(8));
    let eventfd = EventFd::new();
    let shared = &ring; // A shared reference is enough.
    shared.register_eventfd(&eventfd.0)?;
    shared.pause_eventfd()?;
    for word in 0..3 {
        push(&mut ring, nop(word));
        ring.submit_and_wait(1)?;
    }
    assert_eq!(eventfd.count(), 0);
    let shared = &ring;
    shared.resume_eventfd()?;
    assert_eq!(eventfd.count(), 0, "what came in between signals nothing");
    assert_eq!(drain_user_data(&mut ring), [0, 1, 2]);
    works(&mut ring);
    assert_eq!(eventfd.wait(), 1);
    Ok(())
}

fn one_eventfd() -> Result<(), Failed> {
    let refused = |errno| Err(Errno::new(errno));
    let ring = ring(Setup::new(4));
    let (eventfd, other) = (EventFd::new(), EventFd::new());
    assert_eq!(ring.unregister_eventfd(), refused(libc::ENXIO));
    assert_eq!(ring.register_eventfd(&pipe().0), refused(libc::EINVAL));
    assert_eq!(ring.register_eventfd(&eventfd.0), Ok(()));
    assert_eq!(ring.register_eventfd(&other.0), refused(libc::EBUSY));
    assert_eq!(ring.register_eventfd_async(&other.0), refused(libc::EBUSY));
    assert_eq!(ring.unregister_eventfd(), Ok(()));
    assert_eq!(ring.unregister_eventfd(), refused(libc::ENXIO));
    assert_eq!(ring.register_eventfd_async(&other.0), Ok(()));
    assert_eq!(ring.unregister_eventfd(), Ok(()));
    Ok(())
}

fn eventfd_outlives() -> Result<(), Failed> {
    let mut ring = ring(Setup::new(4));
    let eventfd = EventFd::new();
    let copy = EventFd(eventfd.0.try_clone()?);
    ring.register_eventfd(&eventfd.0)?;
    drop(eventfd);
    works(&mut ring);
    assert_eq!(copy.wait(), 1);
    drop(ring);
    assert_eq!(copy.count(), 0);
    Ok(())
}

fn polls() -> Result<(), Failed> {
    for setup in [Setup::plain(8), Setup::new(8)] {
        let mut ring = patient(|| setup.build_raw())?;
        let (from, mut to) = pipe();
        push(&mut ring, read_byte(&from, 5));
        ring.submit()?;
        assert!(!readable(ring.as_fd(), 0));
        to.write_all(b"x")?;
        assert!(readable(ring.as_fd(), A_MINUTE));
        // Linux 6.1 signals a moment before it publishes the completion of a worker thread.
        ring.wait(1)?;
        let cqe = ring.pop().ok_or("a completion")?;
        assert_eq!((cqe.user_data, cqe.res), (5, 1));
        assert!(!readable(ring.as_fd(), 0));
        push(&mut ring, nop(6));
        ring.submit()?;
        assert!(readable(ring.as_fd(), 0));
        assert_eq!(drain_user_data(&mut ring), [6]);
        assert!(!readable(ring.as_fd(), 0));
    }
    Ok(())
}
