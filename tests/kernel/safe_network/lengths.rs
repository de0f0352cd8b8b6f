//! The length of a whole datagram, when the buffer is too short for it.
#![allow(unsafe_code, reason = "gives a number to another file")]

use std::io::{Write as _, pipe};
use std::net::UdpSocket;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::rc::Rc;

use annulus::op::{MsgHeader, Op, Recv, RecvFlags, RecvMsg, RecvMsgMulti};
use annulus::sys::opcode::{Opcode, RegisterOp};
use annulus::{Rejection, Ring};
use libtest_mimic::{Failed, Trial};

use crate::harness::{Need, test};
use crate::safe_leases::buf_ring::buffers;
use crate::safe_sockets::{begin, pattern, run, set_option, small, socket, tcp};

/// Messages without end came with this.
const MESSAGES: [Need; 1] = [Need::Op(Opcode::SEND_ZC)];
/// Files that are inserted into the ring's table.
const TABLE: [Need; 1] = [Need::Register(RegisterOp::FILE_ALLOC_RANGE)];

/// The tests.
pub fn tests() -> Vec<Trial> {
    vec![
        test("op1_a_cut_datagram_tells_its_length_and_counts_what_was_written", &[], cut),
        test("op1_what_is_no_datagram_socket_is_not_asked_for_a_length", &[], refused),
        test("op1_a_file_of_the_table_is_not_asked_for_a_length", &TABLE, of_the_table),
        test("op1_a_peek_from_an_offset_counts_no_byte_that_is_not_there", &[], offset),
        test("op1_a_number_that_became_a_stream_shows_no_old_bytes", &[], other_file),
        test("a_peek_tells_the_length_before_the_datagram_is_received", &[], peeked),
        test("a_datagram_in_a_provided_buffer_tells_its_length", &MESSAGES, provided),
    ]
}

/// Pairs of datagram sockets: what is sent through the first arrives at the second.
fn pairs() -> Result<Vec<(OwnedFd, OwnedFd)>, Failed> {
    let (udp, theirs) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    udp.connect(theirs.local_addr()?)?;
    let (unix, its) = UnixDatagram::pair()?;
    Ok(vec![(udp.into(), theirs.into()), (unix.into(), its.into())])
}

/// Between the submission and the enter, a TCP connection takes the number: it throws the bytes
/// away, and counts them.
fn other_file() -> Result<(), Failed> {
    let mut ring = small();
    let (mut ours, theirs) = tcp()?;
    ours.write_all(&[1; 32])?;
    let number = OwnedFd::from(UdpSocket::bind("127.0.0.1:0")?);
    let raw = number.as_raw_fd();
    let mut buf = vec![0xaa; 32];
    buf.clear();
    let ticket = ring.submit(RecvMsg::new(number, [buf]).with_length())?;
    // SAFETY: only the operation owns `raw`, and so it owns the new file from here on.
    assert_eq!(unsafe { libc::dup2(theirs.as_raw_fd(), raw) }, raw);
    let outcome = ring.wait(ticket)?;
    outcome.result?;
    assert!(outcome.buf[0].iter().all(|&byte| byte == 0), "{:?}", outcome.buf);
    Ok(())
}

fn cut() -> Result<(), Failed> {
    let mut ring = small();
    for (ours, theirs) in pairs()? {
        let (ours, theirs) = (UnixDatagram::from(ours), Rc::new(theirs));
        for (sent, in_buffer) in [(100, 16), (17, 16), (16, 16), (3, 3), (0, 0), (60_000, 16)] {
            for header in [None, Some(MsgHeader::new())] {
                ours.send(&pattern(sent))?;
                let bufs = [Vec::with_capacity(10), Vec::with_capacity(6)];
                let recv = RecvMsg::new(Rc::clone(&theirs), bufs).with_length();
                let (result, bufs) = match header {
                    None => run(&mut ring, recv.with_address()).into_parts(),
                    Some(header) => {
                        let outcome = run(&mut ring, recv.with(header));
                        (outcome.result, outcome.buf.0)
                    }
                };
                let received = result?;
                assert_eq!((received.bytes, received.length()), (in_buffer, Some(sent)));
                assert_eq!(received.is_truncated(), sent > in_buffer);
                assert_eq!(bufs.concat(), pattern(sent)[..in_buffer]);
            }
        }
        // Without asking, only the length of one that is not cut is known.
        for (sent, length) in [(100, None), (3, Some(3))] {
            ours.send(&pattern(sent))?;
            let bufs = [Vec::with_capacity(16)];
            let received = run(&mut ring, RecvMsg::new(Rc::clone(&theirs), bufs)).result?;
            assert_eq!(received.length(), length);
        }
    }
    Ok(())
}

/// Checks that the ring refuses `op`, and says why.
fn is_refused<O: Op + 'static>(ring: &mut Ring, op: O, why: &str) {
    let Err(rejected) = ring.submit(op) else { panic!("it was submitted") };
    assert!(matches!(rejected.why, Rejection::Invalid { .. }));
    assert!(rejected.to_string().contains(why), "{rejected}");
}

fn refused() -> Result<(), Failed> {
    let mut ring = small();
    let (mut ours, theirs) = tcp()?;
    let theirs = Rc::new(theirs);
    ours.write_all(b"still there")?;
    let recv = |fd: &Rc<_>| RecvMsg::new(Rc::clone(fd), [Vec::with_capacity(64)]).with_length();
    is_refused(&mut ring, recv(&theirs), "no datagram socket");
    is_refused(&mut ring, recv(&theirs).flags(RecvFlags::PEEK), "no datagram socket");
    // In a chain too.
    let chain = ring.submit_chain([recv(&theirs), recv(&theirs)]);
    assert!(matches!(chain.map_err(|it| it.why), Err(Rejection::Invalid { .. })));
    let received = run(&mut ring, Recv::new(theirs, Vec::with_capacity(64)));
    assert_eq!((received.result?, &received.buf[..]), (11, b"still there".as_slice()));

    let (unix, _its) = UnixStream::pair()?;
    is_refused(&mut ring, RecvMsg::new(unix, [[0; 8]]).with_length(), "no datagram socket");
    is_refused(&mut ring, RecvMsg::new(pipe()?.0, [[0; 8]]).with_length(), "no datagram socket");
    let whole = RecvMsg::new(UnixDatagram::pair()?.0, [[0; 8]]).flags(RecvFlags::WAIT_ALL);
    is_refused(&mut ring, whole.with_length(), "leave out one of the two");
    // One that records belong to is asked.
    let records = socket(libc::AF_UNIX, libc::SOCK_SEQPACKET)?;
    assert!(run(&mut ring, RecvMsg::new(records, [[0; 8]]).with_length()).result.is_err());
    Ok(())
}

fn of_the_table() -> Result<(), Failed> {
    let mut ring = small();
    let table = ring.file_table(1)?;
    let file = table.insert(&mut ring, UnixDatagram::pair()?.0)?;
    is_refused(&mut ring, RecvMsg::new(file, [[0; 8]]).with_length(), "a registered file");
    Ok(())
}

fn offset() -> Result<(), Failed> {
    let mut ring = small();
    for (ours, theirs) in pairs()? {
        let ours = UnixDatagram::from(ours);
        // A unix socket ends a peek behind its datagrams, so there is none with an offset.
        set_option(&theirs, libc::SO_PEEK_OFF, 6)?;
        ours.send(&pattern(10))?;
        let mut buf = vec![0xee; 32];
        buf.clear();
        let recv = RecvMsg::new(theirs, [buf]).flags(RecvFlags::PEEK).with_length();
        let peeked = run(&mut ring, recv);
        let (received, [buf]) = (peeked.result?, peeked.buf);
        assert_eq!(buf.len(), received.bytes);
        assert_eq!(buf[..4], pattern(10)[6..]);
        assert!(buf[4..].iter().all(|&byte| byte == 0), "{buf:x?}: nothing that was there before");
    }
    Ok(())
}

fn peeked() -> Result<(), Failed> {
    let mut ring = small();
    for (ours, theirs) in pairs()? {
        UnixDatagram::from(ours).send(&pattern(1000))?;
        let recv = RecvMsg::new(theirs, [[7; 1]]).flags(RecvFlags::PEEK).with_length();
        let peeked = run(&mut ring, recv);
        let length = peeked.result?.length().ok_or("it was asked for")?;
        assert_eq!((length, peeked.buf), (1000, [[pattern(1)[0]]]));
        let whole = RecvMsg::new(peeked.fd, [Vec::with_capacity(length)]).with_length();
        let received = run(&mut ring, whole);
        assert_eq!((received.result?.bytes, received.buf), (1000, [pattern(1000)]));
    }
    Ok(())
}

fn provided() -> Result<(), Failed> {
    let mut ring = small();
    let buffers = buffers(&mut ring, 4, 16 + 128 + 10);
    for (ours, theirs) in pairs()? {
        let (ours, theirs) = (UnixDatagram::from(ours), Rc::new(theirs));
        let many = RecvMsgMulti::new(Rc::clone(&theirs), &buffers).with_address();
        let messages = begin(&mut ring, many.with_length());
        for sent in [10, 11, 1000, 1] {
            ours.send(&pattern(sent))?;
            let message = ring.next(&messages)?.ok_or("a message")??;
            assert_eq!((message.length(), message.is_truncated()), (Some(sent), sent > 10));
            assert_eq!(message.payload(), &pattern(sent)[..sent.min(10)]);
        }
        ring.cancel(&messages)?;
        let ended = ring.wait(messages)?;
        let messages = begin(&mut ring, RecvMsgMulti::new(ended.fd, &buffers).with_address());
        for (sent, length) in [(11, None), (10, Some(10))] {
            ours.send(&pattern(sent))?;
            assert_eq!(ring.next(&messages)?.ok_or("a message")??.length(), length);
        }
        ring.cancel(&messages)?;
        drop(ring.wait(messages)?);
    }
    let stream = RecvMsgMulti::new(tcp()?.0, &buffers).with_length();
    is_refused(&mut ring, stream, "no datagram socket");
    Ok(())
}
