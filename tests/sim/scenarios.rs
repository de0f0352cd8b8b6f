//! The same short programs on both kernels, for what random programs do not do: connections,
//! multishots, provided buffers, drained entries, linked timeouts.
//!
//! A scenario returns what it saw, as lines; both kernels must show the same.

use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use annulus::Woken;
use annulus::prep;
use annulus::sys::abi::{Sqe, Timespec};
use annulus::sys::flags::{AcceptFlags, RecvSendFlags, SqeFlags, TimeoutFlags};
use annulus::sys::flags_register::PbufRingFlags;
use annulus::sys::groups::{Group, RingMemory};
use annulus::sys::index::Entries;

use super::scene::{at, both};

/// The bytes of an IPv4 address, as `connect(2)` takes them.
pub fn encoded(address: SocketAddr) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&2_u16.to_ne_bytes());
    bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
    bytes[4..8].copy_from_slice(&[127, 0, 0, 1]);
    bytes
}

#[test]
fn connections_are_accepted_again_and_again() {
    both("accept", |it| {
        let (listener, address) = it.world.listener();
        it.push(prep::accept(listener.as_raw_fd(), 0, 0, 0, AcceptFlags::MULTISHOT));
        it.take(0);
        let first = it.world.connect(address).expect("it listens");
        it.take_fds(1);
        let _second = it.world.connect(address).expect("it listens");
        it.take_fds(1);
        it.world.write(first.as_fd(), b"hello").expect("room");
        let bytes = it.world.read(it.fds[0].as_fd());
        it.say(format!("{bytes:?}"));
        it.cancel_all(1);
    });
}

#[test]
fn connects_succeed_are_refused_and_are_not_repeated() {
    both("connect", |it| {
        let (listener, address) = it.world.listener();
        let (socket, other) = (it.world.socket(), it.world.socket());
        let bytes = encoded(address);
        it.push(prep::connect(socket.as_raw_fd(), at(&bytes), 16));
        it.take(1);
        it.push(prep::connect(socket.as_raw_fd(), at(&bytes), 16));
        it.take(1);
        let (mut peer, mut len) = ([0_u8; 16], 16_u32);
        let (addr, room) =
            ((&raw mut peer).expose_provenance(), (&raw mut len).expose_provenance());
        let none = AcceptFlags::empty();
        it.push(prep::accept(listener.as_raw_fd(), addr as u64, room as u64, 0, none));
        it.take_fds(1);
        it.say(format!("{:?} {:?} {len}", &peer[..2], &peer[4..]));
        drop(listener);
        it.take(0);
        it.push(prep::connect(other.as_raw_fd(), at(&bytes), 16));
        it.take(1);
    });
}

#[test]
fn a_zero_copy_send_ends_with_its_notification() {
    both("send_zc", |it| {
        let (listener, address) = it.world.listener();
        let client = it.world.connect(address).expect("it listens");
        let (pair, _other) = it.world.socket_pair();
        let bytes = *b"zero copies";
        let none = RecvSendFlags::empty();
        it.push(prep::send_zc(client.as_raw_fd(), at(&bytes), 11, 0, none));
        it.push(prep::send_zc(pair.as_raw_fd(), at(&bytes), 11, 0, none));
        it.take(3);
        it.push(prep::accept(listener.as_raw_fd(), 0, 0, 0, AcceptFlags::empty()));
        it.take_fds(1);
        let received = it.world.read(it.fds[0].as_fd());
        it.say(format!("{received:?}"));
    });
}

#[test]
fn a_multishot_receive_fills_buffers_until_none_is_left_or_the_stream_ends() {
    both("recv multishot", |it| {
        let entries = Entries::new(4).expect("a power of two");
        let memory = [RingMemory::User, RingMemory::Kernel];
        for (id, memory) in (0..).zip(memory) {
            let none = PbufRingFlags::empty();
            let Ok(mut group) = Group::register(it.ring.base(), id, entries, memory, none) else {
                return it.say("no buffer rings");
            };
            let mut buffers = Box::new([[0_u8; 8]; 4]);
            for (bid, buffer) in (0..).zip(buffers.iter_mut()) {
                let addr = buffer.as_mut_ptr().expose_provenance() as u64;
                // SAFETY: the group lives to the end of the scenario, and no child is forked.
                let ring = unsafe { group.ring() };
                // SAFETY: the buffers live until the request has ended; each is offered once (BR1).
                unsafe { ring.push(addr, 8, bid) }.expect("room");
                ring.flush();
            }
            let (ours, theirs) = it.world.socket_pair();
            let many = RecvSendFlags::RECV_MULTISHOT;
            it.push(prep::recv_provided(ours.as_raw_fd(), 0, id, 0, many));
            it.take(0);
            it.world.write(theirs.as_fd(), b"0123456789").expect("room");
            it.take(2);
            it.world.write(theirs.as_fd(), b"abc").expect("room");
            it.take(1);
            it.say(format!("{:?} head {:?}", buffers[..3].concat(), group.head()));
            if id == 0 {
                it.world.shut_down(theirs.as_fd(), Shutdown::Write).expect("a socket");
                it.take(1);
            } else {
                it.world.write(theirs.as_fd(), b"0123456789").expect("room");
                it.take(2);
            }
            let one = prep::recv_provided(ours.as_raw_fd(), 0, 77, 0, RecvSendFlags::empty());
            it.push(one);
            it.take(1);
        }
    });
}

#[test]
fn a_multishot_poll_tells_of_each_change() {
    both("poll multishot", |it| {
        let (ours, theirs) = it.world.socket_pair();
        it.push(prep::poll_multishot(ours.as_raw_fd(), u32::from(libc::POLLIN.cast_unsigned())));
        it.take(0);
        for _ in 0..2 {
            it.world.write(theirs.as_fd(), b"x").expect("room");
            it.take(1);
        }
        it.push(prep::poll_remove(0));
        it.take(2);
        it.push(prep::poll_remove(0));
        it.take(1);
    });
}

#[test]
fn timeouts_repeat_count_and_are_removed() {
    both("timeouts", |it| {
        let (short, long) =
            (Timespec { tv_sec: 0, tv_nsec: 100_000 }, Timespec { tv_sec: 100, tv_nsec: 0 });
        it.push(prep::timeout(at(&short), 3, TimeoutFlags::MULTISHOT));
        it.take(3);
        it.push(prep::timeout(at(&long), 2, TimeoutFlags::empty()));
        it.take(0);
        it.push(prep::nop());
        it.take(1);
        it.push(prep::nop());
        it.take(2);
        it.push(prep::timeout(at(&long), 0, TimeoutFlags::empty()));
        it.push(prep::timeout_remove(4));
        it.push(prep::timeout_remove(4));
        it.take(3);
        let both = TimeoutFlags::ABS | TimeoutFlags::MULTISHOT;
        it.push(prep::timeout(at(&long), 0, both));
        it.take(1);
    });
}

#[test]
fn a_drained_entry_waits_for_all_before_it_and_those_after_it_wait_for_it() {
    both("drain", |it| {
        let (reader, writer) = it.world.pipe();
        let mut buf = [0_u8; 4];
        let addr = buf.as_mut_ptr().expose_provenance() as u64;
        it.push(prep::read(reader.as_raw_fd(), addr, 4, 0));
        it.push(Sqe { flags: SqeFlags::IO_DRAIN, ..prep::nop() });
        it.push(prep::nop());
        it.take(0);
        it.say("nothing yet");
        it.world.write(writer.as_fd(), b"four").expect("room");
        it.take(3);
        it.push(prep::nop());
        it.take(1);
        it.say(format!("{buf:?}"));
    });
}

#[test]
fn a_linked_timeout_ends_its_request_or_ends_with_it() {
    both("link timeout", |it| {
        let short = Timespec { tv_sec: 0, tv_nsec: 100_000 };
        let long = Timespec { tv_sec: 100, tv_nsec: 0 };
        let (reader, writer) = it.world.pipe();
        let mut buf = [0_u8; 4];
        let addr = buf.as_mut_ptr().expose_provenance() as u64;
        let read = prep::read(reader.as_raw_fd(), addr, 4, 0);
        let link = SqeFlags::IO_LINK;
        it.push(Sqe { flags: link, ..read });
        it.push(Sqe { flags: link, ..prep::link_timeout(at(&short), TimeoutFlags::empty()) });
        it.push(prep::nop());
        it.take(3);
        it.push(Sqe { flags: link, ..read });
        it.push(Sqe { flags: link, ..prep::link_timeout(at(&long), TimeoutFlags::empty()) });
        it.push(prep::nop());
        it.take(0);
        it.world.write(writer.as_fd(), b"four").expect("room");
        it.take(3);
        it.push(prep::link_timeout(at(&long), TimeoutFlags::empty()));
        it.take(1);
    });
}

#[test]
fn a_close_lets_the_other_end_know() {
    both("close", |it| {
        let (reader, writer) = it.world.pipe();
        let mut buf = [0_u8; 4];
        let addr = buf.as_mut_ptr().expose_provenance() as u64;
        it.push(prep::read(reader.as_raw_fd(), addr, 4, 0));
        it.take(0);
        it.push(prep::close(std::os::fd::IntoRawFd::into_raw_fd(writer)));
        it.take(2);
        let (ours, theirs) = it.world.socket_pair();
        it.world.write(ours.as_fd(), b"unread").expect("room");
        drop(theirs);
        let none = RecvSendFlags::empty();
        it.push(prep::recv(ours.as_raw_fd(), addr, 4, 0, none));
        it.take(1);
        it.push(prep::recv(ours.as_raw_fd(), addr, 4, 0, none));
        let flags = libc::MSG_NOSIGNAL.cast_unsigned();
        it.push(prep::send(ours.as_raw_fd(), addr, 4, flags, none));
        it.take(2);
    });
}

#[test]
fn waits_end_when_they_should() {
    both("waits", |it| {
        let span = Duration::from_millis(2);
        it.ring.expect_others();
        let woken = it.ring.wait_timeout(1, span).expect("no fault");
        it.say(format!("{woken:?}"));
        it.push(prep::nop());
        let woken = it.ring.submit_and_wait_timeout(1, span).expect("no fault");
        it.say(format!("{woken:?}"));
        let short = Timespec { tv_sec: 0, tv_nsec: 100_000 };
        it.push(prep::timeout(at(&short), 0, TimeoutFlags::empty()));
        it.ring.submit().expect("no fault");
        // The NOP is there; the timeout comes; a third one does not.
        let woken = it.ring.wait_min(3, span, Duration::from_secs(100));
        let is_early = matches!(woken, Ok(Woken::Ready) | Err(_));
        it.say(format!("{is_early}"));
        it.take(2);
    });
}
