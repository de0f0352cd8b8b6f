//! When the kernel is not called, or only once.
//!
//! | | system calls |
//! |---|---|
//! | a thousand submits of nothing | 0 |
//! | a thousand drains of nothing, and turns that do not wait | 0 |
//! | peeks and waits that find something | 0 |
//! | a turn, if more comes while it takes what came | 1, and 1 for the next turn |
//! | accepting ten connections | 10, or 1 if the accept goes on |
//!
//! And a tracer, strace, counts as many as we do.
#![allow(unsafe_code, reason = "closes what a ring accepted")]

use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;
use std::sync::Arc;

use annulus::sys::flags::{AcceptFlags, RecvSendFlags};
use annulus::{RawRing, prep};

use crate::linux::Linux;
use crate::sockets::{Blocks, LEN, file, push};
use crate::{nops, or_skip};

#[test]
fn nothing_to_submit_is_no_call() {
    let (mut ring, linux) = or_skip!(Linux::ring(8));
    for _ in 0..1000 {
        assert_eq!(ring.submit(), Ok(0));
    }
    assert_eq!(linux.calls(), 0);
}

#[test]
fn nothing_to_take_is_no_call_if_the_kernel_says_so() {
    let (mut ring, linux) = or_skip!(Linux::ring(8));
    let mut blocks = Blocks::new(1);
    let (_client, served) = UnixStream::pair().expect("two sockets");
    let receive = prep::recv(file(&served), blocks.address(0), LEN, 0, RecvSendFlags::empty());
    push(&mut ring, receive);
    assert_eq!((ring.submit(), linux.calls()), (Ok(1), 1));
    for _ in 0..1000 {
        assert_eq!(ring.drain(|cqe| panic!("{cqe:?}")), Ok(0));
        assert_eq!(ring.peek(), Ok(None));
        assert_eq!(ring.turn(0, |cqe| panic!("{cqe:?}")), Ok(0));
    }
    assert_eq!(linux.calls(), 1);
}

#[test]
fn something_that_is_there_is_found_without_a_call() {
    let (mut ring, linux) = or_skip!(Linux::ring(8));
    nops(&mut ring, 8);
    assert_eq!((ring.submit(), linux.calls()), (Ok(8), 1));
    for user_data in 0..3 {
        let cqe = ring.peek().expect("a look").expect("a completion");
        assert_eq!(cqe.user_data, user_data);
    }
    assert_eq!(ring.submit_and_wait(5), Ok(0));
    assert_eq!(ring.turn(5, |_| ()), Ok(5));
    assert_eq!(linux.calls(), 1);
}

/// A ring that receives from two clients.
fn two_clients() -> Result<(RawRing, Arc<Linux>, [UnixStream; 4]), String> {
    let (mut ring, linux) = Linux::ring(8)?;
    let mut blocks = Blocks::new(2);
    let pairs = [(); 2].map(|()| UnixStream::pair().expect("two sockets"));
    for (at, (_, served)) in pairs.iter().enumerate() {
        let (from, to) = (file(served), blocks.address(at));
        push(&mut ring, prep::recv(from, to, LEN, 0, RecvSendFlags::empty()));
    }
    assert_eq!((ring.submit(), linux.calls()), (Ok(2), 1));
    let [one, other] = pairs;
    Ok((ring, linux, [one.0, other.0, one.1, other.1]))
}

#[test]
fn cq5_a_turn_does_not_enter_again_for_what_came_during_it() {
    let (mut ring, linux, [mut one, mut other, ..]) = or_skip!(two_clients());
    one.write_all(b"one").expect("it is received");
    let meanwhile = ring.turn(1, |_| other.write_all(b"other").expect("it is received"));
    assert_eq!((meanwhile, linux.calls()), (Ok(1), 2));
    assert_eq!((ring.turn(1, |_| ()), linux.calls()), (Ok(1), 3));
}

#[test]
fn cq5_a_drain_enters_again_for_what_came_during_it() {
    let (mut ring, linux, [mut one, mut other, ..]) = or_skip!(two_clients());
    one.write_all(b"one").expect("it is received");
    assert_eq!((ring.submit_and_wait(1), linux.calls()), (Ok(0), 2));
    let mut first = true;
    let meanwhile = ring.drain(|_| {
        if std::mem::take(&mut first) {
            other.write_all(b"other").expect("it is received");
        }
    });
    assert_eq!((meanwhile, linux.calls()), (Ok(2), 3));
}

/// How many calls it takes to accept ten clients that wait for it, `each` with one entry.
fn accepts(flags: AcceptFlags, each: u32) -> Result<u64, String> {
    let (mut ring, linux) = Linux::ring(8)?;
    let name = format!("annulus-{}-accepts-{each}", std::process::id());
    let path = std::env::temp_dir().join(name);
    let listener = UnixListener::bind(&path).expect("a name for a socket");
    let clients = [(); 10].map(|()| UnixStream::connect(&path).expect("it listens"));
    std::fs::remove_file(&path).expect("ours");
    for _ in 0..10 / each {
        push(&mut ring, prep::accept(listener.as_raw_fd(), 0, 0, 0, flags));
        let taken = ring.turn(each, |cqe| {
            assert!(cqe.res >= 0, "{cqe:?}");
            // SAFETY: a new descriptor, which nothing else owns, because an accept succeeded.
            drop(unsafe { OwnedFd::from_raw_fd(cqe.res) });
        });
        assert_eq!(taken, Ok(each));
    }
    drop(clients);
    Ok(linux.calls())
}

#[test]
fn an_accept_that_goes_on_saves_a_call_for_each_client() {
    assert_eq!(or_skip!(accepts(AcceptFlags::empty(), 1)), 10);
    assert_eq!(or_skip!(accepts(AcceptFlags::MULTISHOT, 10)), 1);
}

/// What strace counts while the test of that name runs in a process of its own.
fn traced(test: &str) -> Result<u64, String> {
    let program = std::env::current_exe().expect("we run from a file");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-c", "-e", "trace=io_uring_enter"]).arg(program);
    let output = strace.args(["--exact", test, "--nocapture"]).output();
    let output = output.map_err(|error| format!("strace does not start: {error}"))?;
    let page = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let table = page(&output.stderr);
    if let Some((_, why)) = table.split_once("not counted: ") {
        return Err(why.lines().next().unwrap_or_default().to_owned());
    }
    // % time, seconds, microseconds a call, calls, errors if there were any, and the name.
    let line = table.lines().find(|line| line.ends_with("io_uring_enter"));
    let calls = line.and_then(|line| line.split_whitespace().nth(3)?.parse().ok());
    calls.ok_or_else(|| format!("strace cannot trace here: {table}"))
}

#[test]
fn a_tracer_counts_as_many_calls_as_we_do() {
    let test = "ladder::an_enter_for_all_that_is_ready_is_two_for_ten_echoes";
    assert_eq!(or_skip!(traced(test)), 200);
}
