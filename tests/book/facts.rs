//! Facts of single pages, for which no other test stands.
#![allow(unsafe_code, reason = "pushes entries whose memory lives forever")]

use std::fs::{self, File, OpenOptions};
use std::io::{PipeReader, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::thread;
use std::time::{Duration, Instant};

use annulus::buf::AlignedBuf;
use annulus::op::{Nop, Op as _, Read, Stat, StatMask, Statx};
use annulus::sys::abi::{Cqe, Sqe};
use annulus::sys::flags::{EnterFlags, Features, SetupFlags};
use annulus::sys::syscall::EnterArg;
use annulus::{Capabilities, RawRing, Setup, prep};

use crate::ch19::workers;
use crate::{raw, ring};

// ANCHOR: push
/// Pushes a read of one byte from a pipe, into memory that lives forever.
fn push_read(ring: &mut RawRing, from: &PipeReader, user_data: u64) {
    let byte = Box::leak(Box::new(0_u8));
    let addr = std::ptr::from_mut(byte).expose_provenance() as u64;
    let read = prep::read(from.as_raw_fd(), addr, 1, u64::MAX);
    // SAFETY: the byte lives forever, and nothing else uses it (OP1).
    unsafe { ring.push(Sqe { user_data, ..read }) }.expect("room");
}
// ANCHOR_END: push

// ANCHOR: order
#[test]
fn completions_come_in_the_order_of_what_happens_and_not_of_the_entries() {
    let Some(mut ring) = raw(Setup::plain(8)) else { return };
    let (first, mut to_first) = std::io::pipe().expect("a pipe");
    let (second, mut to_second) = std::io::pipe().expect("a pipe");
    push_read(&mut ring, &first, 1);
    push_read(&mut ring, &second, 2);
    ring.submit().expect("both are taken");
    to_second.write_all(b"x").expect("room in the pipe");
    ring.wait(1).expect("one has come");
    to_first.write_all(b"x").expect("room in the pipe");
    ring.wait(2).expect("both have come");
    let words: Vec<u64> = std::iter::from_fn(|| ring.pop()).map(|cqe: Cqe| cqe.user_data).collect();
    assert_eq!(words, [2, 1]);
}
// ANCHOR_END: order

// ANCHOR: slots
#[test]
fn a_slot_is_free_when_the_kernel_took_its_entry_and_not_when_that_is_complete() {
    let Some(mut ring) = raw(Setup::plain(2)) else { return };
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    for number in 0..3 {
        push_read(&mut ring, &reader, number);
        push_read(&mut ring, &reader, number);
        assert_eq!(ring.room(), 0);
        ring.submit().expect("both are taken");
        assert_eq!(ring.room(), 2);
    }
    // Six are in flight, with a queue of two.
    assert_eq!((ring.in_flight(), ring.ready()), (6, 0));
    writer.write_all(b"123456").expect("room in the pipe");
    ring.wait(4).expect("the completion queue has four entries");
    ring.drain(|_| ()).expect("and gives out all six");
    assert_eq!(ring.in_flight(), 0);
}
// ANCHOR_END: slots

// ANCHOR: seen
/// Submits a read of a pipe and has another thread write to it; returns whether the completion can
/// be seen before the kernel is entered again, and whether afterwards.
fn seen(flags: SetupFlags) -> Option<(bool, bool)> {
    let mut ring = raw(Setup::plain(4).with(flags))?;
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    push_read(&mut ring, &reader, 7);
    ring.submit().expect("it is taken");
    thread::spawn(move || writer.write_all(b"x")).join().expect("no panic").expect("a write");
    let (mut before, start) = (ring.pop(), Instant::now());
    while before.is_none() && start.elapsed() < Duration::from_millis(50) {
        before = ring.pop();
    }
    let asked = if before.is_none() { ring.peek().expect("it is asked") } else { None };
    Some((before.is_some(), before.is_some() || asked.is_some()))
}
// ANCHOR_END: seen

// ANCHOR: modes
#[test]
fn a_pop_never_sees_what_is_deferred_and_a_peek_does() {
    let here = match Capabilities::detect() {
        Ok(here) => here,
        Err(error) => return eprintln!("skipped: {error}"),
    };
    let deferring = SetupFlags::SINGLE_ISSUER | SetupFlags::DEFER_TASKRUN;
    if !here.setup_flags().contains(deferring) {
        return eprintln!("skipped: needs Linux 6.1: DEFER_TASKRUN");
    }
    // The kernel posts at once: the tail moves by itself.
    assert_eq!(seen(SetupFlags::empty()), Some((true, true)));
    // At our next way into the kernel, here to join a thread.
    assert_eq!(seen(SetupFlags::COOP_TASKRUN), Some((true, true)));
    // The kernel waits for us to ask: the tail stands still.
    assert_eq!(seen(deferring), Some((false, true)));
}
// ANCHOR_END: modes

// ANCHOR: workers
#[test]
fn a_read_that_waits_takes_a_worker_only_if_it_is_forced_to() {
    let Some(mut ring) = ring(Setup::new(8)) else { return };
    let (silent, mut writer) = std::io::pipe().expect("a pipe");
    let read = ring.submit(Read::new(silent, [0; 1])).expect("room");
    ring.submit_all().expect("it is taken");
    assert_eq!((ring.in_flight(), workers()), (1, 0), "the kernel waits, and no thread does");
    writer.write_all(b"x").expect("room in the pipe");
    let outcome = ring.wait(read).expect("it goes on");
    // The same read, by a thread that the kernel makes for it.
    let forced = ring.submit(Read::new(outcome.fd, [0; 1]).forced()).expect("room");
    ring.submit_all().expect("it is taken");
    let start = Instant::now();
    while workers() == 0 {
        assert!(start.elapsed() < Duration::from_secs(60), "no worker");
        thread::yield_now();
    }
    writer.write_all(b"x").expect("room in the pipe");
    assert_eq!(ring.wait(forced).expect("it goes on").result.expect("a byte"), 1);
}
// ANCHOR_END: workers

#[test]
fn a_file_opened_so_that_it_does_not_wait_is_read_inline_though_it_may_wait() {
    const PATH: &str = "/proc/self/status";
    let Some(mut ring) = ring(Setup::new(8)) else { return };
    let open = |flags| OpenOptions::new().read(true).custom_flags(flags).open(PATH);
    let (Ok(promised), Ok(plain)) = (open(libc::O_NONBLOCK), open(0)) else {
        return eprintln!("skipped: {PATH} is not there");
    };
    // Its file system cannot try, so a worker reads it; unless its flag is taken for a promise.
    for (file, expected) in [(promised, 0), (plain, 1)] {
        let read = ring.submit(Read::new(file, vec![0; 32])).expect("room");
        assert!(ring.wait(read).expect("it ends").result.expect("a line") > 0);
        let has_threads = ring.features().contains(Features::NATIVE_WORKERS);
        assert_eq!(workers(), if has_threads { expected } else { 0 });
    }
}

// ANCHOR: enters
#[test]
fn a_turn_of_many_operations_is_one_enter() {
    let Some(mut ring) = ring(Setup::new(64)) else { return };
    let tickets: Vec<_> = (0..64).map(|_| ring.submit(Nop).expect("room")).collect();
    assert_eq!(ring.stats().enters, 0, "nothing was handed over yet");
    ring.submit_and_wait(64).expect("all complete");
    assert_eq!(ring.stats().enters, 1);
    for ticket in tickets {
        ring.wait(ticket).expect("it is there").expect("a NOP does not fail");
    }
    assert_eq!(ring.stats().enters, 1);
}
// ANCHOR_END: enters

// ANCHOR: head
#[test]
fn the_next_completion_is_at_the_head() {
    let Some(mut ring) = raw(Setup::plain(4)) else { return };
    for user_data in 10..13 {
        // SAFETY: a NOP points to nothing (OP1).
        unsafe { ring.push(Sqe { user_data, ..prep::nop() }) }.expect("room");
    }
    ring.submit_and_wait(3).expect("three complete");
    let it = ring.positions();
    assert_eq!((it.cq_head.to_raw(), it.cq_tail.to_raw()), (0, 3));
    // The first one lies where the head points; where the tail points lies nothing yet.
    assert_eq!(ring.pop().map(|cqe| cqe.user_data), Some(10));
    assert_eq!(ring.positions().cq_head.to_raw(), 1);
}
// ANCHOR_END: head

// ANCHOR: pieces
#[test]
fn a_vectored_read_of_more_than_1024_pieces_is_refused() {
    let Some(mut ring) = raw(Setup::plain(4)) else { return };
    let file = File::open("/dev/zero").expect("it is there");
    let bytes = Box::leak(vec![7_u8; 1025].into_boxed_slice());
    let pieces: Vec<libc::iovec> = bytes
        .iter_mut()
        .map(|byte| libc::iovec { iov_base: std::ptr::from_mut(byte).cast(), iov_len: 1 })
        .collect();
    let pieces: &'static [libc::iovec] = pieces.leak();
    for (count, expected) in [(1024, 1024), (1025, -libc::EINVAL)] {
        let table = pieces.as_ptr().expose_provenance() as u64;
        // SAFETY: the table and the bytes live forever, and nothing else uses them (OP1).
        unsafe { ring.push(prep::readv(file.as_raw_fd(), table, count, u64::MAX, 0)) }
            .expect("room");
        ring.submit_and_wait(1).expect("it completes");
        assert_eq!(ring.pop().map(|cqe| cqe.res), Some(expected));
    }
}
// ANCHOR_END: pieces

// ANCHOR: idle
#[test]
fn a_polling_thread_without_an_idle_time_sleeps_after_a_second() {
    let Some(mut ring) = raw(Setup::plain(4).sqpoll(Duration::ZERO)) else { return };
    // It may sleep until the first entry.
    // SAFETY: a NOP points to nothing (OP1).
    unsafe { ring.push(prep::nop()) }.expect("room");
    ring.submit_and_wait(1).expect("it completes");
    let start = Instant::now();
    while !ring.needs_wakeup() {
        assert!(start.elapsed() < Duration::from_secs(30), "it does not sleep");
        thread::sleep(Duration::from_millis(10));
    }
    assert!(start.elapsed() > Duration::from_millis(500), "nor at once");
}
// ANCHOR_END: idle

/// The polling thread of a ring, as `/proc` names it; before it has run, that is who made the ring.
fn polling_thread(ring: &mut RawRing) -> Option<String> {
    // SAFETY: a NOP points to nothing (OP1).
    unsafe { ring.push(prep::nop()) }.expect("room");
    ring.submit_and_wait(1).expect("it completes");
    let fd = ring.fd().expect("a descriptor").as_raw_fd();
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).expect("it is open");
    let line = info.lines().find_map(|line| line.strip_prefix("SqThread:"));
    line.map(|thread| thread.trim().to_owned()).filter(|thread| thread != "-1")
}

#[test]
fn a_ring_that_is_attached_to_a_polled_ring_has_the_same_thread() {
    let polled = || Setup::plain(4).sqpoll(Duration::from_secs(10));
    let (Some(mut first), Some(mut alone)) = (raw(polled()), raw(polled())) else { return };
    // SAFETY: both rings are made here, and none is anybody else's.
    let setup = unsafe { polled().attach(first.fd().expect("a descriptor")) };
    let Some(mut second) = raw(setup) else { return };
    let Some(thread) = polling_thread(&mut first) else {
        return eprintln!("skipped: this kernel does not name the thread");
    };
    assert_eq!(polling_thread(&mut second).as_ref(), Some(&thread));
    assert_ne!(polling_thread(&mut alone), Some(thread));
}

// ANCHOR: no_getevents
#[test]
fn without_getevents_an_enter_does_not_wait() {
    let Some(mut ring) = raw(Setup::plain(4)) else { return };
    let (silent, mut writer) = std::io::pipe().expect("a pipe");
    push_read(&mut ring, &silent, 1);
    let count = ring.flush();
    let consumed = ring.enter(count, 1, EnterFlags::empty(), EnterArg::None);
    assert_eq!((consumed, ring.ready()), (Ok(1), 0), "it came back, and nothing is complete");
    writer.write_all(b"x").expect("room in the pipe");
    let consumed = ring.enter(0, 1, EnterFlags::GETEVENTS, EnterArg::None);
    assert_eq!((consumed, ring.ready()), (Ok(0), 1), "this one has waited");
}
// ANCHOR_END: no_getevents

// ANCHOR: direct
#[test]
fn a_direct_read_that_is_not_aligned_is_refused() {
    let Some(mut ring) = ring(Setup::new(4)) else { return };
    let path = std::env::temp_dir().join(format!("annulus-book-direct-{}", std::process::id()));
    fs::write(&path, vec![5; 16_384]).expect("it can be written");
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(&path);
    let file = OwnedFd::from(File::open(&path).expect("it is there"));
    fs::remove_file(path).expect("it is there");
    let Ok(direct) = opened else { return eprintln!("skipped: no O_DIRECT in this folder") };
    let statx = Statx::of(file, Stat::boxed()).want(StatMask::DIOALIGN);
    let statx = ring.submit(statx).expect("room");
    let dio = ring.wait(statx).expect("it goes on").buf.0.dio();
    let Some(align) = dio.filter(|align| align.offset_align > 1) else {
        return eprintln!("skipped: this file system does not say how to align, or takes anything");
    };
    let mut buf = AlignedBuf::new(4096, 4096);
    for (at, is_refused) in [(0, false), (1, true), (u64::from(align.offset_align), false)] {
        let read = Read::new(direct.try_clone().expect("a descriptor"), buf).at(at);
        let read = ring.submit(read).expect("room");
        let outcome = ring.wait(read).expect("it goes on");
        let error = outcome.result.err().and_then(|error| error.raw_os_error());
        assert_eq!(error, is_refused.then_some(libc::EINVAL), "at {at}");
        buf = outcome.buf;
    }
}
// ANCHOR_END: direct
