//! Solutions of chapter 1: what a client of an echo server must look at.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use annulus::{Setup, op::Nop};

use crate::ring;

// ANCHOR: noticed
/// Answers once, and hangs up. `lies` is the bug of 2020.
fn serve(mut stream: UnixStream, lies: bool) {
    let mut buf = [0; 1024];
    let count = stream.read(&mut buf).expect("a request");
    stream.write_all(if lies { &buf[..] } else { &buf[..count] }).expect("an answer");
}

#[test]
fn an_answer_is_as_long_as_its_request() {
    for (lies, expected) in [(false, 5), (true, 1024)] {
        let (mut client, server) = UnixStream::pair().expect("two ends");
        client.write_all(b"hello").expect("room");
        client.shutdown(Shutdown::Write).expect("it is connected");
        serve(server, lies);
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).expect("the server hung up");
        assert_eq!(answer.len(), expected);
        assert_eq!(answer == b"hello", !lies);
    }
}
// ANCHOR_END: noticed

// ANCHOR: batches
#[test]
fn a_batch_is_an_enter() {
    for (batch, enters) in [(8, 125), (7, 143)] {
        let Some(mut ring) = ring(Setup::new(8)) else { return };
        let (mut left, mut tickets) = (1000, Vec::new());
        while left > 0 {
            let now = batch.min(left);
            tickets.extend((0..now).map(|_| ring.submit(Nop).expect("room")));
            ring.submit_and_wait(now).expect("all complete");
            for ticket in tickets.drain(..) {
                ring.wait(ticket).expect("it is there").expect("a NOP does not fail");
            }
            left -= now;
        }
        assert_eq!(ring.stats().enters, enters);
    }
}
// ANCHOR_END: batches

// ANCHOR: stream
#[test]
fn a_read_of_a_stream_is_no_message() {
    let (mut client, mut server) = UnixStream::pair().expect("two ends");
    server.write_all(&[1; 512]).expect("room");
    server.write_all(&[2; 512]).expect("room");
    let mut buf = [0; 4096];
    assert_eq!(client.read(&mut buf).expect("bytes"), 1024, "two replies in one read");
    server.write_all(&[3; 512]).expect("room");
    assert_eq!(client.read(&mut buf[..100]).expect("bytes"), 100, "a part of one");
}
// ANCHOR_END: stream
