//! Leases in a child: bytes of its own, where its parent has the kernel's.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use annulus::lease::{FileSender, FileTable, FixedFile, RegisterError};
use annulus::op::{Nop, PassFile, ReadFixed, RecvMulti, RecvProvided, WriteFixed};
use annulus::raw::register::{ClonePart, Consumption, RingMemory};
use annulus::sys::flags::EnterFlags;
use annulus::{Rejection, Ring, SendError, Setup};

use super::{in_a_child, map_at};
use crate::harness::{patient, ring, safe_ring};
use crate::processes::{Side, end_with, fork, outcome, pipe};

/// Whether nothing else can come to lie where `bytes` do.
fn is_taken(bytes: &[u8]) -> bool {
    let page = 4096; // Or a part of one.
    map_at(bytes.as_ptr().addr() & !(page - 1), page).is_none()
}

/// The bytes that a child finds in a lease, and what it does to them.
fn look_at(bytes: &mut [u8]) {
    assert!(is_taken(bytes), "nothing else lies there");
    assert!(bytes.iter().all(|&byte| byte == 0), "zeroes: {bytes:?}");
    bytes.fill(9);
}

pub fn registered() {
    let mut ring = safe_ring(Setup::new(8));
    let pool = patient_pool(&mut ring);
    let mut buf = pool.get().expect("it is free");
    buf.set_len(64);
    buf.fill(7);
    in_a_child("a registered buffer", || {
        look_at(&mut buf);
        let mut other = pool.get().expect("it is free, here");
        other.set_len(64);
        look_at(&mut other);
    });
    assert_eq!(*buf, [7; 64]);
    // The pages are those that the kernel knows, even after they were written to again.
    buf.fill(8);
    let (from, to) = pipe();
    let write = ring.submit(WriteFixed::new(to, buf)).expect("submit");
    let read = ring.submit(ReadFixed::new(from, pool.get().expect("free"))).expect("submit");
    ring.wait(write).expect("wait").result.expect("it writes");
    let (count, read) = ring.wait(read).expect("wait").ok().expect("it reads");
    assert_eq!((count, &read[..]), (64, &[8; 64][..]));
}

fn patient_pool(ring: &mut Ring) -> annulus::lease::FixedPool {
    for _ in 0..200 {
        if let Ok(pool) = ring.fixed_pool(2, 64) {
            return pool;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    ring.fixed_pool(2, 64).expect("it can be registered")
}

pub fn selected() {
    let mut ring = safe_ring(Setup::new(8));
    let buffers = ring.buf_ring(2, 64).expect("a ring of buffers");
    let (mut ours, theirs) = UnixStream::pair().expect("sockets");
    for text in [b"one", b"two"] {
        ours.write_all(text).expect("write");
        let theirs = theirs.try_clone().expect("a descriptor");
        let receive = ring.submit(RecvProvided::new(theirs, &buffers)).expect("submit");
        let lease = ring.wait(receive).expect("wait").result.expect("data");
        let mut lease = lease.expect("a buffer");
        in_a_child("a provided buffer", || look_at(&mut lease));
        assert_eq!(&lease[..], text);
        let mut shared = Some(lease);
        in_a_child("a provided buffer that is dropped", || drop(shared.take()));
        assert_eq!(buffers.leased(), 1);
    }
}

/// An operation that would select from the parent's buffers is refused before the child reads them.
pub fn selecting() {
    let mut ring = safe_ring(Setup::new(8));
    let parts = |ring: &mut Ring| {
        ring.buf_ring_with(4, 64, RingMemory::Kernel, Consumption::Incremental { min_left: 0 })
    };
    let buffers = match parts(&mut ring) {
        // Linux before 6.12.
        Err(RegisterError::Unsupported { .. }) => ring.buf_ring(4, 64).expect("buffers"),
        buffers => buffers.expect("buffers"),
    };
    let (mut ours, theirs) = UnixStream::pair().expect("sockets");
    let receive = || RecvMulti::new(theirs.try_clone().expect("a descriptor"), &buffers);
    // Where nothing lies in the place of the parent's buffers, and where something does.
    match fork() {
        Side::Child => end_with(|| {
            let rejected = ring.submit(receive()).expect_err("a child");
            assert_eq!(rejected.why, Rejection::OtherProcess);
        }),
        Side::Parent(child) => assert_eq!(outcome(child), 0, "it touched what it does not have"),
    }
    in_a_child("submits a receive that selects", || {
        let rejected = ring.submit(receive()).expect_err("a child");
        assert_eq!(rejected.why, Rejection::OtherProcess);
        let rejected = ring.submit_chain((receive(), Nop)).expect_err("a child");
        assert_eq!(rejected.why, Rejection::OtherProcess);
        let single = RecvProvided::new(theirs.try_clone().expect("a descriptor"), &buffers);
        let rejected = ring.submit(single).expect_err("a child");
        assert_eq!(rejected.why, Rejection::OtherProcess);
    });
    let many = ring.submit(receive()).expect("submit");
    ours.write_all(b"whole").expect("write");
    let completion = ring.next(&many).expect("wait").expect("a completion").expect("data");
    assert_eq!(&completion[..], b"whole");
}

pub fn to_send() {
    let mut ring = safe_ring(Setup::new(8));
    let sends = ring.send_ring(2, 64).expect("a ring of buffers");
    let mut buf = sends.get().expect("it is free");
    buf.set_len(64);
    buf.fill(7);
    let mut shared = Some((sends, buf));
    in_a_child("a buffer to send", || {
        let (sends, mut buf) = shared.take().expect("the child's own");
        look_at(&mut buf);
        buf.queue();
        assert_eq!((sends.queue().bytes(), sends.queue().available()), (0, 2));
    });
    let (sends, buf) = shared.take().expect("the child took its own");
    assert_eq!(*buf, [7; 64]);
    buf.queue();
    assert_eq!((sends.queue().bytes(), sends.queue().available()), (64, 1));
}

/// In either memory: a child's `set` changes nothing, so its parent's timeout stays.
pub fn region() {
    for whose in [RingMemory::User, RingMemory::Kernel] {
        let mut disabled = patient(|| Setup::plain(4).build_disabled()).expect("a ring");
        let Ok(mut region) = disabled.register_wait_region(1, whose) else {
            assert_eq!(whose, RingMemory::Kernel);
            continue;
        };
        let slot = region.slot(0).expect("the first");
        region.set(slot, Some(Duration::from_millis(1)), None);
        in_a_child("a region", || region.set(slot, None, None));
        let mut ring = disabled.enable_raw().expect("it is new");
        let waited = ring.enter(0, 1, EnterFlags::GETEVENTS, region.arg(slot));
        assert!(waited.is_err_and(|errno| errno.is(libc::ETIME)));
    }
}

/// Shares the parent's registrations with a ring of the child's own.
pub fn clones() {
    let mut inherited = ring(Setup::plain(4));
    inherited.register_buffers_sparse(2).expect("a table");
    in_a_child("a table of buffers", || {
        let mut own = ring(Setup::plain(4));
        // SAFETY: there are no buffers in it, and nothing is submitted (OP1).
        let cloned = unsafe { own.clone_buffers(&inherited, &ClonePart::all()) };
        assert_eq!(cloned, Err(RegisterError::OtherProcess));
    });
}

/// A ring with a table, and a file in it.
fn with_file() -> (Ring, FileTable, FixedFile) {
    let mut ring = safe_ring(Setup::new(4));
    let table = ring.file_table(2).expect("a table");
    let file = table.insert(&mut ring, pipe().0).expect("room in the table");
    (ring, table, file)
}

/// Passes a file to `sender` again and again, and never submits it.
fn hammer(sender: &FileSender, stop: &AtomicBool) {
    let (_ring, _table, file) = with_file();
    while !stop.load(Ordering::Relaxed) {
        drop(PassFile::new(file.clone(), sender));
    }
}

/// Another thread has the lock half of the time, and is not there in a child.
pub fn drops_passages() {
    let (_ring, table, file) = with_file();
    let sender = table.sender().expect("the ring has a descriptor");
    let stop = Arc::new(AtomicBool::new(false));
    let thread = {
        let (sender, stop) = (sender.clone(), Arc::clone(&stop));
        std::thread::spawn(move || hammer(&sender, &stop))
    };
    for _ in 0..100 {
        let under_way = PassFile::new(file.clone(), &sender).expect("the ring is here");
        match fork() {
            Side::Child => end_with(|| {
                // SAFETY: takes a number only, because that is its signature.
                unsafe { libc::alarm(60) };
                drop(under_way);
                assert_eq!(PassFile::new(file, &sender).err(), Some(SendError::Closed));
                assert!(table.sender().is_err());
                drop(table);
            }),
            Side::Parent(child) => assert_eq!(outcome(child), 0, "it hung, or failed"),
        }
    }
    stop.store(true, Ordering::Relaxed);
    thread.join().expect("no panic");
}
