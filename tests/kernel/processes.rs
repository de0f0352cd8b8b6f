//! A ring's life among processes: across fork and exec, many times, and cut short.
//!
//! ```text
//!   parent  ───── ring ──┬── fork ───────────── waits ── ring goes on
//!                        └── child: drops it, or just ends
//! ```
//!
//! `forks` shows what happens to a child that does use the ring. Fork copies only one thread, so
//! tests that fork run in a process of their own.
#![allow(unsafe_code, reason = "forks, and maps memory itself")]

use std::io::{PipeReader, PipeWriter, Write};
use std::mem;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use annulus::raw::register::RegisterError;
use annulus::sys::errno::Errno;
use annulus::sys::flags::SetupFlags;
use annulus::sys::map::Pages;
use annulus::sys::opcode::RegisterOp;
use annulus::{RawRing, Setup};
use libtest_mimic::{Failed, Trial};

use crate::capabilities::descriptors;
use crate::harness::{
    Need, Part, child_succeeds, drain_user_data, here, nop, patient, push, read_byte, ring, test,
};

/// The parts that play in a child process.
pub const PARTS: &[Part] = &[
    ("a forked child drops the ring", forked_child_drops),
    ("a forked child uses the addresses again", forked_child_maps),
    ("a forked child registers with the ring", forked_child_registers),
    ("a forked child queues what its parent sends", forked_child_queues),
    ("no ring is here", no_ring_is_here),
    ("rings come and go", rings_come_and_go),
    ("rings are leaked", rings_are_leaked),
];

const QUEUE: [Need; 1] = [Need::Register(RegisterOp::PBUF_RING)];

/// The tests.
pub fn tests() -> Vec<Trial> {
    vec![
        test("a_forked_child_that_drops_the_ring_harms_nothing", &[], || {
            child_succeeds("a forked child drops the ring")
        }),
        test("a_forked_child_that_drops_the_ring_unmaps_nothing_else", &[], || {
            child_succeeds("a forked child uses the addresses again")
        }),
        test("a_forked_child_registers_nothing_with_its_parents_ring", &[], || {
            child_succeeds("a forked child registers with the ring")
        }),
        test("br1_a_forked_child_that_queues_a_buffer_harms_nothing", &QUEUE, || {
            child_succeeds("a forked child queues what its parent sends")
        }),
        test("a_ring_is_not_inherited_over_exec", &[], not_inherited),
        test("rings_come_and_go_without_a_trace", &[], || child_succeeds("rings come and go")),
        test("a_leaked_ring_harms_nothing", &[], || child_succeeds("rings are leaked")),
        test("a_ring_is_dropped_while_panicking", &[], dropped_while_panicking),
        test("a_ring_is_dropped_with_a_read_in_flight", &[], dropped_with_a_read),
    ]
}

/// Every kind of ring that this kernel makes and that differs in how it is mapped or unmapped.
pub fn modes() -> Vec<(&'static str, Setup<'static>)> {
    let flags = |flags| Setup::new(4).with(flags);
    let own = || Setup::new(4).own_memory(Pages::Ordinary);
    let mixed = SetupFlags::SQE_MIXED | SetupFlags::CQE_MIXED;
    let rewind = SetupFlags::SQ_REWIND | SetupFlags::NO_SQARRAY;
    let all = [
        ("plain", SetupFlags::empty(), Setup::plain(4)),
        ("recommended", SetupFlags::empty(), Setup::new(4)),
        ("wide", SetupFlags::CQE32 | SetupFlags::SQE128, {
            flags(SetupFlags::CQE32 | SetupFlags::SQE128)
        }),
        ("mixed", mixed, flags(mixed)),
        ("rewinding", rewind, flags(rewind)),
        ("own memory", SetupFlags::NO_MMAP, own()),
        ("no descriptor", SetupFlags::REGISTERED_FD_ONLY, {
            own().with(SetupFlags::REGISTERED_FD_ONLY)
        }),
        ("polling", SetupFlags::SQPOLL, Setup::new(4).sqpoll(Duration::from_millis(1))),
    ];
    let known = here().setup_flags();
    let possible = all.into_iter().filter(|(_, needed, _)| known.contains(*needed));
    possible.map(|(name, _, setup)| (name, setup)).collect()
}

/// Where fork returned.
pub enum Side {
    Child,
    /// With the child's number.
    Parent(libc::pid_t),
}

pub fn fork() -> Side {
    // SAFETY: this process has one thread, because it plays a part of a test.
    match unsafe { libc::fork() } {
        0 => Side::Child,
        child => {
            assert!(child > 0, "fork: {}", std::io::Error::last_os_error());
            Side::Parent(child)
        }
    }
}

/// Ends a forked child: with 0 when `body` returns, with 101 when it panics.
pub fn end_with(body: impl FnOnce()) -> ! {
    let status = if catch_unwind(AssertUnwindSafe(body)).is_ok() { 0 } else { 101 };
    // SAFETY: ends the process and nothing else, because the parent owns what it shares.
    unsafe { libc::_exit(status) }
}

/// How a child ended: its exit status, or the negative of the signal that killed it.
pub fn outcome(child: libc::pid_t) -> i32 {
    let mut status = 0;
    // SAFETY: one live integer, because `status` is a local.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(waited, child);
    if libc::WIFSIGNALED(status) { -libc::WTERMSIG(status) } else { libc::WEXITSTATUS(status) }
}

pub fn pipe() -> (PipeReader, PipeWriter) {
    std::io::pipe().expect("a pipe")
}

pub fn works(ring: &mut RawRing) {
    push(ring, nop(7));
    assert_eq!(ring.submit_and_wait(1), Ok(1));
    assert_eq!(drain_user_data(ring), [7]);
}

fn forked_child_drops() {
    for (name, setup) in modes() {
        for how in ["drops it", "exits", "is killed"] {
            let mut ring = ring(setup.clone());
            let named = ring.fd().is_some() && here().has_register(RegisterOp::RING_FDS);
            if named {
                ring.register_ring_fd().expect("a place");
            }
            let eventfd = eventfd();
            ring.register_eventfd(&eventfd).expect("an eventfd");
            let (from, mut to) = pipe();
            push(&mut ring, read_byte(&from, 1));
            ring.submit().expect("submit");
            push(&mut ring, nop(2));
            let child = match fork() {
                Side::Child if how == "drops it" => end_with(|| drop(ring)),
                Side::Child if how == "exits" => std::process::exit(0),
                Side::Child => loop {
                    // SAFETY: ends the process, because that is what it is for.
                    unsafe { libc::raise(libc::SIGKILL) };
                },
                Side::Parent(child) => child,
            };
            let wanted = if how == "is killed" { -libc::SIGKILL } else { 0 };
            assert_eq!(outcome(child), wanted, "{name}: {how}");
            to.write_all(b"x").expect("room in the pipe");
            assert_eq!(ring.submit_and_wait(2), Ok(1), "{name}: {how}");
            let mut words = drain_user_data(&mut ring);
            words.sort_unstable();
            assert_eq!(words, [1, 2], "{name}: {how}");
            assert_eq!(ring.unregister_eventfd(), Ok(()), "{name}: {how}");
            assert_eq!(ring.unregister_ring_fd(), Ok(()), "{name}: {how}");
            works(&mut ring);
        }
    }
}

/// The descriptor is inherited, and leads to the parent's tables.
fn forked_child_registers() {
    for (name, setup) in modes() {
        let mut ring = ring(setup);
        let eventfd = eventfd();
        ring.register_eventfd(&eventfd).expect("an eventfd");
        match fork() {
            Side::Child => end_with(|| {
                let refused = Err(Errno::new(libc::ECHILD));
                assert_eq!(ring.unregister_eventfd(), refused);
                assert_eq!(ring.register_eventfd(&eventfd), refused);
                assert_eq!(ring.register_personality().err(), Some(RegisterError::OtherProcess));
            }),
            Side::Parent(child) => assert_eq!(outcome(child), 0, "{name}"),
        }
        assert_eq!(ring.unregister_eventfd(), Ok(()), "{name}");
        works(&mut ring);
    }
    let mut ring = patient(|| Setup::plain(4).build()).expect("a ring");
    match fork() {
        Side::Child => end_with(|| {
            assert_eq!(ring.buf_ring(4, 64).map(drop), Err(RegisterError::OtherProcess));
            assert_eq!(ring.file_table(4).map(drop), Err(RegisterError::OtherProcess));
            assert_eq!(ring.fixed_pool(4, 64).map(drop), Err(RegisterError::OtherProcess));
        }),
        Side::Parent(child) => assert_eq!(outcome(child), 0),
    }
}

/// A buffer to send is as much the parent's as its ring.
fn forked_child_queues() {
    let mut ring = patient(|| Setup::new(4).build()).expect("a ring");
    let sends = ring.send_ring(2, 8).expect("a ring of buffers");
    let mut buf = sends.get().expect("it is free");
    buf.set_len(1);
    match fork() {
        Side::Child => end_with(|| buf.queue()),
        Side::Parent(child) => assert_eq!(outcome(child), 0),
    }
    let queue = sends.queue();
    assert_eq!((queue.available(), queue.bytes()), (1, 0));
    buf.queue();
    assert_eq!((queue.available(), queue.bytes()), (1, 1));
}

fn eventfd() -> OwnedFd {
    // SAFETY: takes numbers only, because that is its signature.
    let number = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
    assert!(number >= 0, "eventfd: {}", std::io::Error::last_os_error());
    // SAFETY: a new descriptor that nothing else owns, because that is what success means.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// Where this process has rings mapped, as start and length.
pub fn ring_maps() -> Vec<(usize, usize)> {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("/proc is mounted");
    let rings = maps.lines().filter(|line| line.contains("[io_uring]"));
    let bounds = rings.map(|line| {
        let (start, rest) = line.split_once('-').expect("a range");
        let end = rest.split(' ').next().expect("an end");
        let hex = |text| usize::from_str_radix(text, 16).expect("an address");
        (hex(start), hex(end) - hex(start))
    });
    bounds.collect()
}

/// The child has nothing where the rings were, so its own memory may come to lie there.
fn forked_child_maps() {
    let ring = ring(Setup::plain(4));
    let maps = ring_maps();
    assert!(!maps.is_empty());
    match fork() {
        Side::Child => end_with(|| {
            let words: Vec<_> = maps.iter().map(|&(start, len)| map_at(start, len)).collect();
            drop(ring);
            for word in words {
                // SAFETY: our own mapping, because nothing unmapped it; else this faults, which the
                // parent sees.
                unsafe { word.write_volatile(1) };
            }
        }),
        Side::Parent(child) => assert_eq!(outcome(child), 0, "what the child mapped is gone"),
    }
}

fn map_at(start: usize, len: usize) -> *mut u64 {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
    let (at, protection) = (std::ptr::without_provenance_mut(start), libc::PROT_WRITE);
    // SAFETY: replaces nothing, because of `MAP_FIXED_NOREPLACE`.
    let mapped = unsafe { libc::mmap(at, len, protection, flags, -1, 0) };
    assert_eq!(mapped.addr(), start, "nothing lies there: MADV_DONTFORK");
    mapped.cast()
}

fn not_inherited() -> Result<(), Failed> {
    let mut rings = Vec::new();
    for (name, setup) in modes() {
        let mut ring = ring(setup);
        works(&mut ring);
        if let Some(fd) = ring.fd() {
            // SAFETY: takes numbers only, because that is what this command is.
            let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFD) };
            assert_eq!(flags, libc::FD_CLOEXEC, "{name}");
        }
        rings.push(ring);
    }
    child_succeeds("no ring is here")?;
    rings.iter_mut().for_each(works);
    Ok(())
}

fn no_ring_is_here() {
    assert!(ring_maps().is_empty());
    for entry in std::fs::read_dir("/proc/self/fd").expect("/proc is mounted") {
        let path = entry.expect("an entry").path();
        let file = std::fs::read_link(&path).unwrap_or_default();
        assert!(!file.to_string_lossy().contains("io_uring"), "{} is a ring", path.display());
    }
}

/// The size of this process, in bytes.
fn size() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:")).expect("a size");
    let kib: usize = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib << 10
}

fn rings_come_and_go() {
    for (name, setup) in modes() {
        let polled = name == "polling";
        let cycle = || {
            let mut ring = ring(setup.clone());
            if !polled {
                works(&mut ring);
            }
        };
        (0..10).for_each(|_| cycle());
        let before = (descriptors(), size());
        let cycles = if polled { 20 } else { 200 };
        (0..cycles).for_each(|_| cycle());
        assert_eq!(descriptors(), before.0, "{name}");
        // Each has two mappings of a page at least.
        let grown = size().saturating_sub(before.1);
        assert!(grown < cycles * 2048, "{name}: {grown} bytes");
    }
    assert!(ring_maps().is_empty());
}

fn rings_are_leaked() {
    let before = descriptors();
    for _ in 0..10 {
        let mut ring = ring(Setup::new(4));
        works(&mut ring);
        let (from, _to) = pipe();
        push(&mut ring, read_byte(&from, 1));
        ring.submit().expect("submit");
        mem::forget(ring);
    }
    assert_eq!(descriptors(), before + 10);
    works(&mut ring(Setup::new(4)));
}

fn dropped_while_panicking() -> Result<(), Failed> {
    for (name, setup) in modes() {
        let (from, to) = pipe();
        let unwound = catch_unwind(AssertUnwindSafe(|| {
            let mut ring = ring(setup.clone());
            works(&mut ring);
            push(&mut ring, read_byte(&from, 1));
            ring.submit().expect("submit");
            push(&mut ring, nop(2));
            // Unwinds without printing.
            resume_unwind(Box::new(name));
        }));
        let payload = unwound.map(|()| name).expect_err("it unwound");
        assert_eq!(payload.downcast_ref::<&str>(), Some(&name));
        drop(from);
        wait_until_unread(&to, name);
        works(&mut ring(setup));
    }
    Ok(())
}

fn dropped_with_a_read() -> Result<(), Failed> {
    for (name, setup) in modes() {
        let (from, to) = pipe();
        let mut ring = ring(setup);
        push(&mut ring, read_byte(&from, 1));
        ring.submit()?;
        push(&mut ring, nop(2)); // never submitted
        drop(from);
        drop(ring);
        wait_until_unread(&to, name);
    }
    Ok(())
}

/// Waits until the pipe has no reader: a dropped ring drops its requests a little later.
fn wait_until_unread(to: &PipeWriter, name: &str) {
    let fd = to.as_fd().as_raw_fd();
    let mut asked = libc::pollfd { fd, events: 0, revents: 0 };
    // SAFETY: one live `struct pollfd`, because `asked` is a local.
    let ready = unsafe { libc::poll(&raw mut asked, 1, 60_000) };
    assert_eq!(ready, 1, "{name}: the read is still in flight after a minute");
    assert!(asked.revents & libc::POLLERR != 0, "{name}: {}", asked.revents);
}
