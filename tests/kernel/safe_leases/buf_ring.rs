//! Buffers that the kernel selects.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use annulus::lease::{BufLease, BufRing, RegisterError};
use annulus::op::Op as _;
use annulus::op::{Domain, Read, RecvBundle, RecvMulti, RecvProvided, Socket, SocketKind, Write};
use annulus::raw::register::{Consumption, RingMemory};
use annulus::sys::opcode::RegisterOp;
use annulus::{Ring, Setup};
use libtest_mimic::{Failed, Trial};

use super::{in_a_forked_child, is_mapped, of_another_ring, patient, pipe, ring};
use crate::harness::{Need, child_succeeds, safe_ring, test};

pub const PROVIDED: [Need; 1] = [Need::Register(RegisterOp::PBUF_RING)];

const MAPPED: [Need; 2] = [PROVIDED[0], Need::Other(maps_none)];
pub const PARTS: [Need; 2] = [PROVIDED[0], Need::Other(uses_no_part)];
pub const SOME: Consumption = Consumption::Incremental { min_left: 0 };

/// Which buffer rings a kernel has can only be tried.
fn tried(whose: RingMemory, used: Consumption) -> Option<String> {
    match safe_ring(Setup::plain(1)).buf_ring_with(1, 16, whose, used) {
        Err(error @ RegisterError::Unsupported { .. }) => Some(error.to_string()),
        _ => None,
    }
}

fn maps_none() -> Option<String> {
    tried(RingMemory::Kernel, Consumption::Whole)
}

fn uses_no_part() -> Option<String> {
    tried(RingMemory::User, SOME)
}

const LONG: [Need; 2] = [PROVIDED[0], Need::Other(no_room_for_long)];

/// More bytes than the kernel takes for the length of anything.
const BEYOND: u32 = 1 << 31;

fn no_room_for_long() -> Option<String> {
    let made = safe_ring(Setup::plain(1)).buf_ring(1, BEYOND);
    matches!(made, Err(RegisterError::OutOfMemory { .. })).then(|| "needs 2 GiB to map".to_owned())
}

pub fn tests() -> Vec<Trial> {
    vec![
        test("provided_buffers_carry_data", &PROVIDED, carry_data),
        test("provided_buffers_longer_than_one_transfer_are_filled", &LONG, long),
        test("provided_buffers_come_back_from_failures", &PROVIDED, back_from_failures),
        test("provided_buffers_come_back_from_cancelled_receives", &PROVIDED, back_from_cancelled),
        test("provided_buffers_are_sent_on", &PROVIDED, sent_on),
        test("provided_buffers_outlive_their_ring", &PROVIDED, outlive_their_ring),
        test("provided_buffers_are_refused_on_another_ring", &PROVIDED, another_ring),
        test("provided_buffers_are_of_a_ring_in_the_kernels_memory", &MAPPED, mapped),
        test("parts_of_buffers_are_selected_and_come_back", &PARTS, parts),
        test("a_stream_goes_through_parts_of_buffers_whole", &PARTS, stream_of_parts),
        test("bundles_go_through_parts_of_buffers_whole", &PARTS, bundles_of_parts),
        test("buffer_rings_are_apart_and_no_number_is_used_twice", &PROVIDED, numbers),
        test("a_number_of_a_raw_group_is_passed_over", &PROVIDED, raw_numbers),
        test("rg1_provided_buffers_that_may_be_in_use_are_leaked", &PROVIDED, || {
            child_succeeds("provided buffers are leaked")
        }),
        test("a_buffer_ring_of_no_size_is_refused_with_a_message", &[], no_size),
        test("a_forked_child_that_drops_provided_buffers_harms_nothing", &PROVIDED, || {
            child_succeeds("a forked child drops provided buffers")
        }),
    ]
}

pub fn buffers(ring: &mut Ring, count: u32, size: u32) -> BufRing {
    patient(|| ring.buf_ring(count, size))
}

pub fn sockets() -> (UnixStream, UnixStream) {
    UnixStream::pair().expect("two sockets")
}

/// The output of one receive of `from`: a buffer, or `None` at the end.
pub fn receive(ring: &mut Ring, from: &UnixStream, buffers: &BufRing) -> Option<BufLease> {
    try_receive(ring, from, buffers).expect("a receive")
}

pub fn try_receive(
    ring: &mut Ring,
    from: &UnixStream,
    buffers: &BufRing,
) -> std::io::Result<Option<BufLease>> {
    let from = from.try_clone().expect("a descriptor");
    let receive = ring.submit(RecvProvided::new(from, buffers)).expect("submit");
    ring.wait(receive).expect("wait").result
}

/// BR1: every buffer is on offer. Leases them all at once, each a different one, and checks that
/// there are no more.
pub fn all_are_back(ring: &mut Ring, buffers: &BufRing) {
    assert_eq!(buffers.leased(), 0, "BR1");
    let (from, mut to) = sockets();
    let count = buffers.count();
    to.write_all(&vec![b'.'; (count + 1) * bytes(buffers)]).expect("write");
    let leases: Vec<BufLease> =
        (0..count).map(|_| receive(ring, &from, buffers).expect("data")).collect();
    let places: BTreeSet<usize> = leases.iter().map(|lease| lease.as_ptr().addr()).collect();
    assert_eq!((places.len(), buffers.leased()), (count, count), "BR1");
    let none = try_receive(ring, &from, buffers).expect_err("BR1: one more than there are");
    assert_eq!(none.raw_os_error(), Some(libc::ENOBUFS));
}

fn bytes(buffers: &BufRing) -> usize {
    usize::try_from(buffers.buffer_size()).expect("64 bits")
}

/// Waits until nothing is in flight, without waiting for any ticket.
pub fn record(ring: &mut Ring) {
    while ring.in_flight() > 0 {
        ring.submit_and_wait(0).expect("submit");
        ring.reap(|event| panic!("no ticket is for {event:?}")).expect("reap");
    }
}

fn carry_data() -> Result<(), Failed> {
    let mut ring = ring();
    let buffers = buffers(&mut ring, 4, 16);
    assert_eq!((buffers.count(), buffers.buffer_size(), buffers.leased()), (4, 16, 0));
    let (from, mut to) = sockets();
    // Long enough to go round the ring of buffers, whose length is 4, many times.
    for lap in 0..1000_u16 {
        to.write_all(&lap.to_le_bytes())?;
        let mut lease = receive(&mut ring, &from, &buffers).ok_or("data")?;
        assert_eq!(*lease, lap.to_le_bytes());
        lease[0] = 0; // It is ours to write.
        assert_eq!(buffers.leased(), 1);
    }
    to.write_all(&[7; 20])?;
    let long = receive(&mut ring, &from, &buffers).ok_or("data")?;
    assert_eq!(*long, [7; 16], "no more than a buffer holds");
    let rest = receive(&mut ring, &from, &buffers).ok_or("data")?;
    assert_eq!(*rest, [7; 4]);
    drop((long, rest));
    all_are_back(&mut ring, &buffers);
    Ok(())
}

/// A socket that is connected to nothing.
fn unconnected(ring: &mut Ring) -> OwnedFd {
    let socket = ring.submit(Socket::new(Domain::V4, SocketKind::STREAM)).expect("submit");
    ring.wait(socket).expect("wait").expect("a socket")
}

fn back_from_failures() -> Result<(), Failed> {
    let mut ring = ring();
    let buffers = buffers(&mut ring, 2, 16);
    let mut socket = unconnected(&mut ring);
    for _ in 0..5 {
        let receive = ring.submit(RecvProvided::new(socket, &buffers))?;
        let failed = ring.wait(receive)?;
        let error = failed.result.expect_err("it is connected to nothing");
        assert_eq!(error.raw_os_error(), Some(libc::ENOTCONN));
        // On a worker thread, which selects a buffer first.
        let receive = ring.submit(RecvProvided::new(failed.fd, &buffers).forced())?;
        let failed = ring.wait(receive)?;
        let error = failed.result.expect_err("it is connected to nothing");
        assert_eq!(error.raw_os_error(), Some(libc::ENOTCONN));
        let many = ring.submit(RecvMulti::new(failed.fd, &buffers))?;
        assert!(ring.next(&many)?.is_none());
        socket = ring.wait(many)?.fd;
    }
    all_are_back(&mut ring, &buffers);
    Ok(())
}

fn back_from_cancelled() -> Result<(), Failed> {
    let mut ring = ring();
    let buffers = buffers(&mut ring, 2, 16);
    for _ in 0..5 {
        let (from, _to) = sockets();
        let receive = ring.submit(RecvProvided::new(from.try_clone()?, &buffers))?;
        ring.submit_all()?;
        ring.cancel(&receive)?;
        let failed = ring.wait(receive)?.result.expect_err("it was cancelled");
        assert_eq!(failed.raw_os_error(), Some(libc::ECANCELED));
        // On a thread of the kernel's, where a cancel may come between two tries and find nothing.
        let mut receive = ring.submit(RecvProvided::new(from, &buffers).forced())?;
        let ended = loop {
            ring.cancel(&receive)?;
            match ring.wait_timeout(receive, Duration::from_millis(10)) {
                Ok(ended) => break ended,
                Err(unfinished) => receive = unfinished.ticket,
            }
        };
        assert!(ended.result.is_err());
    }
    all_are_back(&mut ring, &buffers);
    Ok(())
}

fn sent_on() -> Result<(), Failed> {
    let mut ring = ring();
    let buffers = buffers(&mut ring, 2, 16);
    let ((from, mut to), (mut end, on)) = (sockets(), pipe());
    to.write_all(b"pass it on")?;
    let lease = receive(&mut ring, &from, &buffers).ok_or("data")?;
    let write = ring.submit(Write::new(on, lease))?;
    assert_eq!(buffers.leased(), 1, "the operation has it");
    let (count, lease) = ring.wait(write)?.ok()?;
    assert_eq!((count, &lease[..]), (10, &b"pass it on"[..]));
    drop(lease);
    let mut text = Vec::new();
    end.read_to_end(&mut text)?;
    assert_eq!(text, b"pass it on");
    all_are_back(&mut ring, &buffers);
    Ok(())
}

fn outlive_their_ring() -> Result<(), Failed> {
    let mut ring = ring();
    let buffers = buffers(&mut ring, 4, 16);
    let (from, mut to) = sockets();
    to.write_all(b"still here")?;
    let lease = receive(&mut ring, &from, &buffers).ok_or("data")?;
    // One in an output that was not taken, one in flight.
    to.write_all(b"unread")?;
    let unread = ring.submit(RecvProvided::new(from.try_clone()?, &buffers))?;
    ring.submit_and_wait(1)?;
    ring.reap(|_| ())?;
    let pending = ring.submit(RecvProvided::new(from, &buffers))?;
    ring.submit_all()?;
    drop((unread, pending));
    drop(ring);
    assert_eq!((buffers.leased(), &lease[..]), (1, &b"still here"[..]));
    drop(buffers);
    assert_eq!(*lease, *b"still here");
    drop(lease);
    Ok(())
}

fn another_ring() -> Result<(), Failed> {
    let (mut ring, mut other) = (ring(), safe_ring(Setup::new(4)));
    let buffers = buffers(&mut ring, 2, 16);
    let (from, mut to) = sockets();
    to.write_all(b"mine")?;
    let op = of_another_ring(other.submit(RecvProvided::new(from, &buffers)));
    let read = ring.submit(op)?;
    let outcome = ring.wait(read)?;
    assert_eq!(outcome.result?.as_deref(), Some(&b"mine"[..]));
    of_another_ring(other.submit(RecvMulti::new(outcome.fd, &buffers)));
    all_are_back(&mut ring, &buffers);
    Ok(())
}

fn long() -> Result<(), Failed> {
    let mut ring = ring();
    for size in [BEYOND - 1, BEYOND] {
        let buffers = buffers(&mut ring, 1, size);
        let (from, mut to) = sockets();
        to.write_all(b"data")?;
        assert_eq!(receive(&mut ring, &from, &buffers).as_deref(), Some(&b"data"[..]));
        assert_eq!(buffers.leased(), 0, "BR1"); // Nobody fills so much.
    }
    Ok(())
}

fn raw_numbers() -> Result<(), Failed> {
    let mut ring = ring();
    let group =
        |ring: &Ring, id| ring.raw().buffer_group(id, 2, RingMemory::User, Consumption::Whole);
    let raw = [patient(|| group(&ring, 0)), patient(|| group(&ring, 2))];
    let ours = [(); 3].map(|()| patient(|| ring.buf_ring(2, 8)));
    assert_eq!(ours.map(|buffers| buffers.group()), [1, 3, 4]);
    drop(raw);
    Ok(())
}

fn numbers() -> Result<(), Failed> {
    let mut ring = ring();
    let (small, large) = (buffers(&mut ring, 1, 1), buffers(&mut ring, 8, 32));
    let (from, mut to) = sockets();
    to.write_all(b"abcdef")?;
    let first = receive(&mut ring, &from, &small).ok_or("data")?;
    let rest = receive(&mut ring, &from, &large).ok_or("data")?;
    assert_eq!((&first[..], &rest[..]), (&b"a"[..], &b"bcdef"[..]));
    assert_eq!((small.group(), large.group()), (0, 1));
    drop(small);
    // Each with buffers of its own only, however often the kernel selected one before it came.
    for number in 2..100 {
        let next = buffers(&mut ring, 4, 16);
        assert_eq!(next.group(), number);
        for _ in 0..usize::from(number) % 8 {
            to.write_all(b"x")?;
            assert_eq!(receive(&mut ring, &from, &next).as_deref(), Some(&b"x"[..]));
        }
        all_are_back(&mut ring, &next);
    }
    assert_eq!(*first, *b"a");
    drop((first, rest));
    all_are_back(&mut ring, &large);
    Ok(())
}

/// A ring that may not wait for its end does not know what the kernel still uses.
pub fn leaked() -> Result<(), Failed> {
    let mut ring = ring();
    let buffers = buffers(&mut ring, 4, 4096);
    let (from, mut to) = sockets();
    to.write_all(b"data")?;
    let lease = receive(&mut ring, &from, &buffers).ok_or("data")?;
    let place = lease.as_ptr().addr();
    drop((lease, buffers));
    let pending = ring.submit(Read::new(from, [0; 1]))?;
    ring.submit_all()?;
    let drained = ring.shutdown(Duration::ZERO).is_ok();
    assert_eq!(is_mapped(place)?, !drained);
    drop(pending);
    Ok(())
}

fn no_size() -> Result<(), Failed> {
    let mut ring = ring();
    for (count, size) in [(0, 16), (3, 16), (1 << 16, 16), (u32::MAX, 16), (4, 0)] {
        let refused = ring.buf_ring(count, size).expect_err("no kernel takes it");
        assert!(refused.to_string().contains("1, 2, 4"), "{refused}");
    }
    let refused = ring.buf_ring(1 << 15, u32::MAX).expect_err("128 TiB");
    assert!(matches!(refused, RegisterError::OutOfMemory { .. }), "{refused}");
    match ring.buf_ring(4, 16) {
        Ok(buffers) => all_are_back(&mut ring, &buffers),
        Err(refused) => assert!(refused.to_string().ends_with("needs Linux 5.19")),
    }
    Ok(())
}

pub fn forked_child_drops() {
    let mut ring = ring();
    let buffers = buffers(&mut ring, 4, 16);
    let (from, mut to) = sockets();
    to.write_all(b"the parent's").expect("write");
    let lease = receive(&mut ring, &from, &buffers).expect("data");
    let read = ring.submit(RecvProvided::new(from, &buffers)).expect("submit");
    ring.submit_all().expect("submit");
    let mut shared = Some((ring, buffers, lease));
    in_a_forked_child(|| {
        let (ring, buffers, lease) = shared.take().expect("the child's own");
        assert_eq!(*lease, [0; 12], "it has zeroes of its own");
        drop((lease, buffers, ring));
    });
    let (mut ring, buffers, lease) = shared.take().expect("the child took its own");
    assert_eq!((buffers.leased(), &lease[..]), (1, &b"the parent's"[..]));
    to.write_all(b"data").expect("write");
    let next = ring.wait(read).expect("wait").result.expect("read").expect("data");
    assert_ne!(next.as_ptr().addr(), lease.as_ptr().addr());
    assert_eq!((&next[..], &lease[..]), (&b"data"[..], &b"the parent's"[..]));
    drop((next, lease));
    all_are_back(&mut ring, &buffers);
}

fn mapped() -> Result<(), Failed> {
    let mut ring = ring();
    let buffers = patient(|| ring.buf_ring_with(4, 16, RingMemory::Kernel, Consumption::Whole));
    let (from, mut to) = sockets();
    to.write_all(b"hello")?;
    let lease = receive(&mut ring, &from, &buffers).expect("data");
    assert_eq!(&lease[..], b"hello");
    drop(lease);
    all_are_back(&mut ring, &buffers);
    Ok(())
}

/// Sends `bytes`, and receives them.
fn pass(
    ring: &mut Ring,
    ends: &mut (UnixStream, UnixStream),
    buffers: &BufRing,
    bytes: &[u8],
) -> BufLease {
    ends.1.write_all(bytes).expect("write");
    let lease = receive(ring, &ends.0, buffers).expect("data");
    assert_eq!(&lease[..], bytes);
    lease
}

fn parts() -> Result<(), Failed> {
    let mut ring = ring();
    let buffers = patient(|| ring.buf_ring_with(2, 8, RingMemory::User, SOME));
    let mut ends = sockets();
    let first = pass(&mut ring, &mut ends, &buffers, b"12345");
    let second = pass(&mut ring, &mut ends, &buffers, b"678");
    assert_eq!(second.as_ptr(), first[5..].as_ptr(), "it follows");
    assert_eq!(buffers.leased(), 1);
    let other = pass(&mut ring, &mut ends, &buffers, b"abcdefgh");
    assert_eq!((buffers.leased(), &first[..], &second[..]), (2, &b"12345"[..], &b"678"[..]));
    let error = try_receive_after(&mut ring, &mut ends, &buffers).expect_err("none is left");
    assert_eq!(error.raw_os_error(), Some(libc::ENOBUFS));
    drop(first);
    let error = try_receive(&mut ring, &ends.0, &buffers).expect_err("half is held");
    assert_eq!(error.raw_os_error(), Some(libc::ENOBUFS));
    drop(second);
    let back = receive(&mut ring, &ends.0, &buffers).expect("the data that waited");
    assert_eq!((&back[..], &other[..]), (&b"x"[..], &b"abcdefgh"[..]));
    Ok(())
}

/// Sends a byte, and tries to receive it.
fn try_receive_after(
    ring: &mut Ring,
    ends: &mut (UnixStream, UnixStream),
    buffers: &BufRing,
) -> std::io::Result<Option<BufLease>> {
    ends.1.write_all(b"x").expect("write");
    try_receive(ring, &ends.0, buffers)
}

/// Pieces of all lengths, some of which are held for a while, and the end of the stream in between.
fn stream_of_parts() -> Result<(), Failed> {
    let mut ring = ring();
    let buffers = patient(|| ring.buf_ring_with(8, 64, RingMemory::User, SOME));
    let (mut held, mut number) = (std::collections::VecDeque::new(), 0_u8);
    for lap in 0..40 {
        let mut ends = sockets();
        for len in [1, 7, 31, 64, 3] {
            let bytes: Vec<u8> = (0..len).map(|i| number.wrapping_add(i)).collect();
            number = number.wrapping_add(len);
            ends.1.write_all(&bytes)?;
            let mut came = Vec::new();
            while came.len() < bytes.len() {
                let lease = receive(&mut ring, &ends.0, &buffers).expect("data");
                came.extend_from_slice(&lease);
                held.push_back((lease.to_vec(), lease));
                if held.len() > 4 {
                    let (was, lease) = held.pop_front().expect("one");
                    assert_eq!(was, lease[..], "BR1: nothing wrote to it");
                }
            }
            assert_eq!(came, bytes, "lap {lap}");
        }
        let (from, to) = ends;
        drop(to);
        assert!(receive(&mut ring, &from, &buffers).is_none(), "the end");
    }
    held.clear();
    assert_eq!(buffers.leased(), 0);
    Ok(())
}

/// Bundles begin and end anywhere in buffers, and held bytes are not written to.
fn bundles_of_parts() -> Result<(), Failed> {
    let mut ring = ring();
    let buffers = patient(|| ring.buf_ring_with(8, 16, RingMemory::User, SOME));
    let (from, mut to) = sockets();
    let mut number = 0_u8;
    let mut held = std::collections::VecDeque::new();
    for len in [5, 20, 1, 40, 16, 3, 61, 2].into_iter().cycle().take(80) {
        let bytes: Vec<u8> = (0..len).map(|i| number.wrapping_add(i)).collect();
        number = number.wrapping_add(len);
        to.write_all(&bytes)?;
        let mut came = Vec::new();
        while came.len() < bytes.len() {
            let receive = ring.submit(RecvBundle::new(from.try_clone()?, &buffers))?;
            for lease in ring.wait(receive)?.result?.expect("data") {
                came.extend_from_slice(&lease);
                held.push_back((lease.to_vec(), lease));
            }
            while held.len() > 2 {
                let (was, lease) = held.pop_front().expect("one");
                assert_eq!(was, lease[..], "BR1: nothing wrote to it");
            }
        }
        assert_eq!(came, bytes);
    }
    held.clear();
    assert_eq!(buffers.leased(), 0);
    Ok(())
}
