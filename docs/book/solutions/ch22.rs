//! Solutions of chapter 22: one frame for many, and who does not listen.

use std::collections::VecDeque;
use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use annulus::op::{Send, SendFlags, SendMsg, SendZc};
use annulus::sys::opcode::Opcode;
use annulus::{Capabilities, Setup};
use session::{Heard, Session, Shared, is_message};

use crate::ring;

#[path = "../../../examples/ws_fanout/session.rs"]
#[allow(dead_code, reason = "its farewell is not said here")]
mod session;

#[test]
fn one_frame_goes_to_three_by_one_enter_and_is_freed_with_the_last() {
    let Some(mut ring) = ring(Setup::new(8)) else { return };
    let frame: Shared = Rc::new(b"\x81\x04news".to_vec());
    let (senders, mut receivers): (Vec<_>, Vec<_>) =
        (0..3).map(|_| UnixStream::pair().expect("two sockets")).unzip();
    let before = ring.stats().enters;
    let sends: Vec<_> = senders
        .into_iter()
        .map(|client| ring.submit(Send::new(client, Rc::clone(&frame))).expect("room"))
        .collect();
    ring.submit_and_wait(3).expect("all complete");
    assert_eq!(ring.stats().enters - before, 1);
    for (send, others) in sends.into_iter().zip([3, 2, 1]) {
        assert_eq!(Rc::strong_count(&frame), others + 1);
        assert_eq!(ring.wait(send).expect("it has ended").result.expect("room"), 6);
    }
    assert_eq!(Rc::strong_count(&frame), 1);
    for receiver in &mut receivers {
        let mut bytes = [0; 6];
        receiver.read_exact(&mut bytes).expect("it is there");
        assert_eq!(bytes, frame[..]);
    }
}

/// A client that has been greeted.
fn greeted() -> Session {
    let mut session = Session::new(100);
    let head = "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    assert!(matches!(&session.hear(head.as_bytes())[..], [Heard::Answer(_)]));
    session
}

#[test]
fn two_clients_mask_it_differently_and_the_frame_is_alike() {
    let said = [[1, 2, 3, 4], [0xff, 0, 0xaa, 7]].map(|mask: [u8; 4]| {
        let text = b"news".iter().zip(mask).map(|(byte, mask)| byte ^ mask);
        let frame: Vec<u8> = [0x81, 0x84].into_iter().chain(mask).chain(text).collect();
        match &greeted().hear(&frame)[..] {
            [Heard::Message(frame)] => frame.to_vec(),
            _ => panic!("a message, and nothing else"),
        }
    });
    assert_eq!(said, [b"\x81\x04news", b"\x81\x04news"]);
}

// ANCHOR: newest
/// Puts a frame into a queue. If that is full, the oldest message makes room, and never an answer.
fn enqueue_newest(queue: &mut VecDeque<Shared>, most: usize, frame: Shared) -> bool {
    if queue.len() >= most {
        let Some(oldest) = queue.iter().position(is_message) else { return false };
        queue.remove(oldest);
    }
    queue.push_back(frame);
    true
}

#[test]
fn a_queue_that_is_full_has_the_answers_and_the_newest_prices() {
    let mut queue = VecDeque::new();
    let pong: Shared = Rc::new(b"\x8a\x00".to_vec());
    for price in 1..=9 {
        assert!(enqueue_newest(&mut queue, 4, Rc::new(vec![0x82, 1, price])));
        if price == 2 {
            assert!(enqueue_newest(&mut queue, 4, Rc::clone(&pong)));
        }
    }
    let prices: Vec<u8> = queue.iter().map(|frame| *frame.last().expect("a byte")).collect();
    assert_eq!(prices, [0, 7, 8, 9]);
    // With answers alone it is full for everybody.
    let mut queue = VecDeque::from([Rc::clone(&pong), Rc::clone(&pong)]);
    assert!(!enqueue_newest(&mut queue, 2, pong));
}
// ANCHOR_END: newest

// ANCHOR: gather
#[test]
fn two_thousand_frames_that_wait_are_two_sends() {
    let Some(mut ring) = ring(Setup::new(8)) else { return };
    let (client, mut peer) = UnixStream::pair().expect("two sockets");
    let mut queue: VecDeque<Shared> =
        (0..2000_u16).map(|at| Rc::new(at.to_be_bytes().to_vec())).collect();
    let (mut client, mut counts) = (Some(client), Vec::new());
    while !queue.is_empty() {
        // More than 1,024 buffers are refused by the kernel.
        let frames: Vec<Shared> = queue.drain(..queue.len().min(1024)).collect();
        let send = SendMsg::new(client.take().expect("it came back"), frames);
        let send = ring.submit(send.flags(SendFlags::WAIT_ALL)).expect("room");
        let sent = ring.wait(send).expect("it ends");
        // With fewer bytes half a frame would be sent, and the client had to go.
        assert_eq!(sent.result.expect("room in the socket"), 2 * sent.buf.len());
        counts.push(sent.buf.len());
        client = Some(sent.fd);
    }
    assert_eq!((&counts[..], ring.stats().sqes), (&[1024, 976][..], 2));
    let mut bytes = vec![0; 4000];
    peer.read_exact(&mut bytes).expect("all of them");
    let numbers = bytes.chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    assert!(numbers.eq(0..2000));
}
// ANCHOR_END: gather

// ANCHOR: zero_copy
#[test]
fn a_frame_for_three_without_a_copy_takes_six_completions() {
    let has_it = Capabilities::detect().is_ok_and(|here| here.has_op(Opcode::SEND_ZC));
    if !has_it {
        return eprintln!("skipped: needs Linux 6.0");
    }
    let Some(mut ring) = ring(Setup::new(8)) else { return };
    let frame: Shared = Rc::new(vec![7; 10_000]);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let mut peers = Vec::new();
    let sends: Vec<_> = (0..3)
        .map(|_| {
            let ours = TcpStream::connect(address).expect("it listens");
            peers.push(listener.accept().expect("somebody connects").0);
            ring.submit(SendZc::new(ours, Rc::clone(&frame))).expect("room")
        })
        .collect();
    for send in &sends {
        assert_eq!(ring.next(send).expect("it goes on").expect("an item").expect("room"), 10_000);
    }
    // The sockets have taken the bytes, and the frame is in use as before.
    assert_eq!(Rc::strong_count(&frame), 1 + 3);
    for peer in &mut peers {
        peer.read_exact(&mut [0; 10_000]).expect("it is there");
    }
    for send in sends {
        ring.wait(send).expect("it ends").result.expect("as before");
    }
    assert_eq!(Rc::strong_count(&frame), 1);
    assert_eq!((ring.stats().sqes, ring.stats().cqes), (3, 6));
}
// ANCHOR_END: zero_copy
