//! One message of 64 bytes to each of N sockets, as a chat room sends it.
//!
//! ```text
//!                  ┌──► socket 1 ─► its receiver compares every byte
//!   one message ───┼──► socket 2 ─►
//!                  └──► socket N ─►
//! ```
//!
//! Only the sending is measured. After each burst the receivers read what came, without a clock:
//! each must have got every message of the burst, in order, and no more.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use annulus::prep;
use annulus::sys::abi::Sqe;
use annulus::sys::flags::RecvSendFlags;
use annulus::{Event, Ring, Setup, op};

use crate::machine;
use crate::measure::{Measured, on_processor};
use crate::spread::{Clock, Samples};
use crate::table::Report;

/// The bytes of a message.
const BYTES: usize = 64;
/// Entries of the rings: a round to more sockets takes several enters.
const ENTRIES: u32 = 1024;
/// Messages of a burst to a single socket, which has room for so many.
const BURST: usize = 64;
/// How many sends a sample is of, at least.
const SENDS: usize = 20_000;
/// Descriptors for all but the sockets.
const SPARE: u64 = 64;

/// Sends a message to all sockets.
type Send = Box<dyn FnMut(&[Rc<UnixStream>], &Rc<[u8]>)>;

/// Both ends of each connection.
struct Room {
    senders: Vec<Rc<UnixStream>>,
    receivers: Vec<UnixStream>,
}

pub fn run(counts: &[usize], samples: u32) -> Report {
    let (most, mut notes) = (connections(), Vec::new());
    let _pinned = on_processor(0);
    let mut sections: Vec<(String, Vec<Measured>)> = Vec::new();
    for &wanted in counts {
        let count = wanted.min(most);
        if count < wanted {
            notes.push(format!("{count} sockets in place of {wanted}: RLIMIT_NOFILE has no more"));
        }
        sections.push((format!("{count} sockets"), section(count, samples)));
    }
    Report { title: "One message of 64 bytes to many sockets", unit: "send", sections, notes }
}

/// How many connections fit.
fn connections() -> usize {
    let open = machine::descriptors();
    usize::try_from(open.saturating_sub(SPARE) / 2).unwrap_or(usize::MAX).max(1)
}

fn section(count: usize, samples: u32) -> Vec<Measured> {
    let mut room = Room::new(count);
    let mut ways = [
        ("write(2) in a loop", writes()),
        ("annulus, raw", raw()),
        ("annulus, safe", safe()),
        ("io-uring", peer()),
    ]
    .map(|(name, way)| (Samples::of(name), way));
    for (_, send) in &mut ways {
        room.sample(send); // Not measured: the sockets' memory is new.
    }
    for _ in 0..samples {
        for (taken, send) in &mut ways {
            let (cpu, wall) = room.sample(send);
            taken.add(cpu, wall);
        }
    }
    ways.into_iter().map(|(taken, _)| taken.measured()).collect()
}

impl Room {
    fn new(count: usize) -> Self {
        let pairs = (0..count).map(|_| {
            let (sender, receiver) = UnixStream::pair().expect("within the limit");
            receiver.set_nonblocking(true).expect("a socket");
            (Rc::new(sender), receiver)
        });
        let (senders, receivers) = pairs.unzip();
        Self { senders, receivers }
    }

    /// CPU time and wall time of a send, in nanoseconds.
    fn sample(&mut self, send: &mut Send) -> (f64, f64) {
        let burst = (1024 / self.senders.len()).clamp(1, BURST);
        let messages: Vec<Rc<[u8]>> =
            (0..burst).map(|number| Rc::from([number as u8 + 1; BYTES])).collect();
        let (mut sends, mut cpu, mut wall) = (0, 0.0, 0.0);
        while sends < SENDS {
            let clock = Clock::start();
            messages.iter().for_each(|message| send(&self.senders, message));
            let took = clock.stop();
            (cpu, wall) = (cpu + took.0, wall + took.1);
            sends += burst * self.senders.len();
            self.check(&messages);
        }
        (cpu / sends as f64, wall / sends as f64)
    }

    /// Each receiver has got all messages, in order, and nothing else.
    fn check(&mut self, messages: &[Rc<[u8]>]) {
        let mut block = vec![0; BYTES * messages.len()];
        for receiver in &mut self.receivers {
            receiver.read_exact(&mut block).expect("all messages have come");
            let parts = block.chunks(BYTES).zip(messages);
            assert!(parts.into_iter().all(|(part, message)| *part == **message), "other bytes");
            let more = receiver.read(&mut [0]).map_err(|error| error.kind());
            assert_eq!(more, Err(ErrorKind::WouldBlock), "a message came twice");
        }
    }
}

fn writes() -> Send {
    Box::new(|sockets, message| {
        for socket in sockets {
            let count = (&**socket).write(message).expect("room in the socket");
            assert_eq!(count, BYTES);
        }
    })
}

fn raw() -> Send {
    let mut ring = Setup::new(ENTRIES).build_raw().expect("a ring");
    Box::new(move |sockets, message| {
        for part in sockets.chunks(ENTRIES as usize) {
            let address = message.as_ptr().expose_provenance() as u64;
            for socket in part {
                let fd = socket.as_raw_fd();
                let send = prep::send(fd, address, BYTES as u32, 0, RecvSendFlags::empty());
                // SAFETY: the message outlives the round, which waits for all completions.
                unsafe { ring.push(Sqe { user_data: 1, ..send }) }.expect("room");
            }
            let (want, mut sent) = (part.len() as u32, 0);
            while sent < want {
                sent += ring
                    .turn(want - sent, |cqe| assert_eq!(cqe.res, BYTES as i32))
                    .expect("a turn");
            }
        }
    })
}

fn safe() -> Send {
    let mut ring: Ring = Setup::new(ENTRIES).build().expect("a ring");
    let mut tickets = Vec::with_capacity(ENTRIES as usize);
    Box::new(move |sockets, message| {
        for part in sockets.chunks(ENTRIES as usize) {
            for socket in part {
                let send = op::Send::new(Rc::clone(socket), Rc::clone(message));
                tickets.push(ring.submit(send).expect("a slot"));
            }
            let mut left = part.len() as u32;
            while left > 0 {
                ring.submit_and_wait(left).expect("submit");
                let each = |event: Event<'_, ()>| assert!(matches!(event, Event::Ended { .. }));
                left -= ring.reap(each).expect("reap");
            }
            for ticket in tickets.drain(..) {
                let sent = ring.try_take(ticket).expect("it has ended");
                assert_eq!(sent.result.expect("room in the socket"), BYTES);
            }
        }
    })
}

fn peer() -> Send {
    let mut builder = io_uring::IoUring::<io_uring::squeue::Entry>::builder();
    builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag();
    let mut ring: io_uring::IoUring = builder.setup_submit_all().build(ENTRIES).expect("a ring");
    Box::new(move |sockets, message| {
        for part in sockets.chunks(ENTRIES as usize) {
            let mut sq = ring.submission();
            for socket in part {
                let fd = io_uring::types::Fd(socket.as_raw_fd());
                let send = io_uring::opcode::Send::new(fd, message.as_ptr(), BYTES as u32).build();
                // SAFETY: the message outlives the round, which waits for all completions.
                unsafe { sq.push(&send) }.expect("room");
            }
            drop(sq);
            let mut left = part.len();
            while left > 0 {
                ring.submit_and_wait(left).expect("submit");
                for cqe in ring.completion() {
                    assert_eq!(cqe.result(), BYTES as i32);
                    left -= 1;
                }
            }
        }
    })
}
