//! Which of several requests that wait for one end is first: the same one on both kernels.
//!
//! ```text
//!   5 reads wait ──► 8 bytes come ──► all are woken, the last one first; the others wait again
//!                                     in that order, so the next time the first of them is first
//! ```

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use annulus::prep;
use annulus::sys::flags::{AcceptFlags, CancelFlags, RecvSendFlags};

use super::chance::Chance;
use super::scene::{Scene, both, seeded, with_faults};

/// An end that can be read, and how to write to it.
fn ends(it: &Scene<'_>, kind: u32) -> (OwnedFd, OwnedFd) {
    match kind {
        0 => {
            let counter = it.world.eventfd();
            let other = counter.try_clone().expect("a descriptor");
            (counter, other)
        }
        1 => it.world.pipe(),
        2 => it.world.socket_pair(),
        _ => it.world.datagram_pair(),
    }
}

fn read(it: &mut Scene<'_>, kind: u32, fd: &OwnedFd, into: &mut [u8; 8]) {
    let (fd, none) = (fd.as_raw_fd(), RecvSendFlags::empty());
    let addr = into.as_mut_ptr().expose_provenance() as u64;
    it.push(match kind {
        2 | 3 => prep::recv(fd, addr, 8, 0, none),
        _ => prep::read(fd, addr, 8, 0),
    });
}

fn write(it: &mut Scene<'_>, fd: &OwnedFd) {
    let wrote = it.world.write(fd.as_fd(), &1_u64.to_ne_bytes()).map_err(|error| error.kind());
    it.say(format!("wrote {wrote:?}"));
}

#[test]
fn reads_that_wait_for_one_end_are_served_in_one_order() {
    for kind in 0..4 {
        both("waiters", |it| {
            let (reader, writer) = ends(it, kind);
            let mut buffers = [[0; 8]; 5];
            for buffer in &mut buffers {
                read(it, kind, &reader, buffer);
            }
            it.take(0);
            for _ in 0..5 {
                write(it, &writer);
                it.take(1);
            }
        });
    }
}

#[test]
fn accepts_are_served_in_the_order_in_which_they_began() {
    both("accepts", |it| {
        let (listener, address) = it.world.listener();
        for _ in 0..4 {
            it.push(prep::accept(listener.as_raw_fd(), 0, 0, 0, AcceptFlags::empty()));
        }
        it.take(0);
        for _ in 0..4 {
            let _client = it.world.connect(address).expect("a listener");
            it.take_fds(1);
        }
    });
}

/// Reads and polls of one end, cancels of them, and writes to it.
fn program(it: &mut Scene<'_>, chance: &mut Chance) {
    let kind = chance.below(4);
    let (reader, writer) = ends(it, kind);
    // They outlive the ring: a cancel may come too late.
    let buffers = vec![[0; 8]; 24].leak();
    let mut free = buffers.iter_mut();
    for _ in 0..chance.below(12) + 3 {
        match chance.below(8) {
            0..=3 => {
                if let Some(buffer) = free.next() {
                    read(it, kind, &reader, buffer);
                }
            }
            4 if it.next > 0 => {
                let any = chance.below(u32::try_from(it.next).expect("few"));
                it.push(prep::cancel(any.into(), CancelFlags::empty()));
            }
            _ => {
                it.rest(|_| false);
                write(it, &writer);
            }
        }
        it.rest(|_| false);
    }
    it.push(prep::cancel(0, CancelFlags::ANY | CancelFlags::ALL));
    it.rest(|_| false);
    it.say(format!("{buffers:?}"));
}

#[test]
fn both_kernels_serve_waiters_alike() {
    seeded("waiters", 300, program);
}

#[test]
fn op1_op2_hold_for_waiters() {
    with_faults(2_000, program);
}
