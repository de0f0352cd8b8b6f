//! Solutions of chapter 2: what readiness promises, and where an operation waits.
#![allow(unsafe_code, reason = "calls poll")]

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use annulus::op::{Nop, Read, Recv};
use annulus::sys::opcode::Opcode;
use annulus::{Capabilities, Setup, prep};

use crate::{raw, ring};

/// Whether `poll(2)` says that the stream can be read.
fn is_readable(stream: &UnixStream) -> bool {
    let mut asked = libc::pollfd { fd: stream.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one live `pollfd`, because `asked` is ours; the call does not wait.
    unsafe { libc::poll(&raw mut asked, 1, 0) == 1 }
}

// ANCHOR: two
#[test]
fn readiness_is_told_to_two_and_a_byte_goes_to_one() {
    let (mut sender, mut one) = UnixStream::pair().expect("two ends");
    let mut other = one.try_clone().expect("a descriptor");
    one.set_nonblocking(true).expect("it is a socket");
    sender.write_all(b"x").expect("room");
    assert!(is_readable(&one) && is_readable(&other), "both are told");
    assert_eq!(one.read(&mut [0; 8]).expect("the byte"), 1);
    assert_eq!(other.read(&mut [0; 8]).expect_err("none").kind(), ErrorKind::WouldBlock);

    let Some(mut ring) = ring(Setup::new(8)) else { return };
    let one = Rc::new(one);
    let reads = [(); 2].map(|()| ring.submit(Recv::new(Rc::clone(&one), [0; 8])).expect("room"));
    sender.write_all(b"x").expect("room");
    ring.submit_and_wait(1).expect("one completes");
    assert_eq!(ring.reap(|_| ()).expect("a look"), 1);
    assert_eq!(ring.in_flight(), 1, "and the other goes on");
    sender.write_all(b"y").expect("room");
    for read in reads {
        assert_eq!(ring.wait(read).expect("it goes on").result.expect("a byte"), 1);
    }
}
// ANCHOR_END: two

// ANCHOR: inline
#[test]
fn what_is_done_inline_is_complete_when_the_submit_returns() {
    // A ring that does not defer its completions: they can be seen without a second call.
    let Some(mut ring) = raw(Setup::plain(8)) else { return };
    let (empty, _writer) = std::io::pipe().expect("a pipe");
    let file = File::open(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).expect("a file");
    (&file).read_exact(&mut [0; 16]).expect("it is in the page cache now");
    let bytes: &'static mut [u8; 32] = Box::leak(Box::new([0; 32]));
    let addr = bytes.as_mut_ptr().expose_provenance() as u64;
    let entries = [
        prep::nop(),
        prep::read(file.as_raw_fd(), addr, 16, 0),
        prep::read(empty.as_raw_fd(), addr + 16, 16, 0),
    ];
    for (mut entry, number) in entries.into_iter().zip(0..) {
        entry.user_data = number;
        // SAFETY: the bytes live forever, and each read has its own (OP1).
        unsafe { ring.push(entry) }.expect("room");
    }
    assert_eq!(ring.submit().expect("all are taken"), 3);
    let inline: Vec<u64> = std::iter::from_fn(|| ring.pop()).map(|cqe| cqe.user_data).collect();
    assert!(inline.contains(&0), "the NOP: {inline:?}");
    assert!(!inline.contains(&2), "the empty pipe: {inline:?}");
    // The file as well, on file systems that do not wait for what is in the page cache.
    println!("inline: {inline:?}");
}
// ANCHOR_END: inline

// ANCHOR: nonblocking
#[test]
fn a_socket_that_does_not_block_is_waited_for_by_a_ring() {
    let Some(mut ring) = ring(Setup::new(8)) else { return };
    let (mut sender, receiver) = UnixStream::pair().expect("two ends");
    receiver.set_nonblocking(true).expect("it is a socket");
    let receive = ring.submit(Recv::new(receiver, [0; 8])).expect("room");
    let nop = ring.submit(Nop).expect("room");
    ring.wait(nop).expect("it goes on").expect("a NOP does not fail");
    match ring.try_take(receive) {
        // Older kernels do not wait, as the socket says.
        Ok(outcome) => {
            let here = Capabilities::detect().expect("there is a ring");
            assert!(!here.has_op(Opcode::LISTEN), "Linux 6.11 and later wait");
            let error = outcome.result.expect_err("nothing was sent");
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            println!("this kernel says {error}");
        }
        Err(receive) => {
            sender.write_all(b"late").expect("room");
            let outcome = ring.wait(receive).expect("it goes on");
            assert_eq!(outcome.result.expect("bytes"), 4);
        }
    }
    // A pipe has no such choice.
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    let read = ring.submit(Read::new(reader, [0; 4])).expect("room");
    writer.write_all(b"late").expect("room");
    assert_eq!(ring.wait(read).expect("it goes on").buf, *b"late");
}
// ANCHOR_END: nonblocking
