//! What each way of waiting says of a regular file: `poll` and a ring that it is ready, epoll that
//! it cannot be watched.
#![allow(unsafe_code, reason = "calls poll and epoll_ctl")]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use annulus::Setup;
use annulus::op::{Poll, PollEvents, Read};

use crate::ring;

/// A file of this tree.
fn file() -> File {
    File::open(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).expect("it is there")
}

// ANCHOR: poll
#[test]
fn poll_says_that_a_regular_file_is_always_ready() {
    let file = file();
    let mut asked = libc::pollfd { fd: file.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one live `pollfd`, because `asked` is ours; the call does not wait.
    let ready = unsafe { libc::poll(&raw mut asked, 1, 0) };
    assert_eq!((ready, asked.revents), (1, libc::POLLIN));
}
// ANCHOR_END: poll

// ANCHOR: epoll
#[test]
fn epoll_refuses_a_regular_file() {
    // SAFETY: takes a number only.
    let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    assert!(epoll >= 0);
    // SAFETY: the descriptor was just made, and nothing else owns it.
    let epoll = unsafe { OwnedFd::from_raw_fd(epoll) };
    let file = file();
    let mut event = libc::epoll_event { events: libc::EPOLLIN.cast_unsigned(), u64: 1 };
    let (on, add) = (epoll.as_raw_fd(), libc::EPOLL_CTL_ADD);
    // SAFETY: a live event, because it is ours; the kernel copies it.
    let added = unsafe { libc::epoll_ctl(on, add, file.as_raw_fd(), &raw mut event) };
    assert_eq!(added, -1);
    assert_eq!(io::Error::last_os_error().raw_os_error(), Some(libc::EPERM));
}
// ANCHOR_END: epoll

// ANCHOR: ring
#[test]
fn a_ring_says_that_a_regular_file_is_ready_and_reads_it() {
    let Some(mut ring) = ring(Setup::new(8)) else { return };
    let poll = ring.submit(Poll::new(file(), PollEvents::IN)).expect("room");
    let polled = ring.wait(poll).expect("it goes on");
    assert!(polled.result.expect("ready").contains(PollEvents::IN));
    // What one wants is the bytes, and nothing has to be asked before.
    let read = ring.submit(Read::new(polled.fd, Vec::with_capacity(16))).expect("room");
    assert_eq!(ring.wait(read).expect("it goes on").ok().expect("bytes").0, 16);
}
// ANCHOR_END: ring
