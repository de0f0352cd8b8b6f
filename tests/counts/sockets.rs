//! Sockets in pairs: the server's ends, and the clients, who take turns with it.
//!
//! ```text
//!   clients: write to all, read from all, compare      server: receives all, sends all
//! ```
//!
//! Nobody is faster than the other: the server waits for as many completions as there will be, and
//! the clients for as many bytes. So the counts are exact, however busy the machine is. The sockets
//! are of this machine, and deliver a message in the call that sends it.
#![allow(unsafe_code, reason = "vouches for the memory of its entries")]

use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use annulus::RawRing;
use annulus::raw::register::{BufferGroup, Consumption, RingMemory};
use annulus::sys::abi::{Cqe, Sqe};

/// How many connections there are.
pub const CONNECTIONS: usize = 10;
/// How long a message is.
pub const BYTES: usize = 64;
/// The same, for an entry.
pub const LEN: u32 = 64;

/// The ends of the clients.
#[derive(Debug)]
pub struct Clients(Vec<UnixStream>);

/// The clients' ends, and the server's.
pub fn pairs() -> (Clients, Vec<UnixStream>) {
    let pairs = (0..CONNECTIONS).map(|_| UnixStream::pair().expect("two sockets"));
    let (clients, served) = pairs.unzip();
    (Clients(clients), served)
}

impl Clients {
    /// Each sends `count` messages at once.
    pub fn send(&mut self, count: usize, round: usize) {
        for (at, client) in self.0.iter_mut().enumerate() {
            client.write_all(&text(at, count, round)).expect("the server listens");
        }
    }

    /// Each receives them back.
    pub fn receive(&mut self, count: usize, round: usize) {
        for (at, client) in self.0.iter_mut().enumerate() {
            let mut came = vec![0; count * BYTES];
            client.read_exact(&mut came).expect("the server answers");
            assert_eq!(came, text(at, count, round), "connection {at}, round {round}");
        }
    }
}

/// What the connection `at` sends in a round: no two messages are equal.
fn text(at: usize, count: usize, round: usize) -> Vec<u8> {
    let message = |number: usize| {
        let mut message = [b'.'; BYTES];
        let name = format!("{at} {round} {number}");
        message[..name.len()].copy_from_slice(name.as_bytes());
        message
    };
    (0..count).flat_map(message).collect()
}

/// Buffers of one message each. They live forever, so no entry outlives them.
#[derive(Debug)]
pub struct Blocks(&'static mut [[u8; BYTES]]);

impl Blocks {
    pub fn new(count: usize) -> Self {
        Self(vec![[0; BYTES]; count].leak())
    }

    /// The address of a block, for an entry.
    pub fn address(&mut self, at: usize) -> u64 {
        self.0[at].as_mut_ptr().expose_provenance() as u64
    }

    /// Offers the blocks of these numbers to the kernel, which selects from `group`.
    pub fn offer(&mut self, group: &mut BufferGroup, numbers: impl IntoIterator<Item = u16>) {
        // SAFETY: nobody moves the ring of buffers elsewhere, since it is only pushed to.
        let ring = unsafe { group.ring() };
        for number in numbers {
            let address = self.address(number.into());
            // SAFETY: the block lives forever, and nothing else has it (BR1).
            unsafe { ring.push(address, LEN, number) }.expect("room");
        }
        ring.flush();
    }
}

/// A group of buffers for `count` blocks.
pub fn group(ring: &RawRing, id: u16, count: u32) -> Result<BufferGroup, String> {
    let group =
        ring.buffer_group(id, count.next_power_of_two(), RingMemory::User, Consumption::Whole);
    group.map_err(|error| error.to_string())
}

/// Records that the kernel took `count` blocks out of a group.
pub fn taken(group: &mut BufferGroup, count: u32) {
    // SAFETY: nobody moves the ring of buffers elsewhere, since it only counts.
    let ring = unsafe { group.ring() };
    // SAFETY: completions named as many, each once.
    unsafe { ring.taken(count) };
}

/// Whose message has come: its number is the `user_data` of the receive.
pub fn connection(cqe: &Cqe) -> usize {
    usize::try_from(cqe.user_data).expect("ten of them")
}

/// The descriptor of a socket, for an entry.
pub fn file(stream: &UnixStream) -> i32 {
    stream.as_raw_fd()
}

/// Pushes an entry whose memory lives forever.
pub fn push(ring: &mut RawRing, sqe: Sqe) {
    // SAFETY: our tests pass entries that point to nothing or to blocks, which live forever and
    // have one entry at a time (OP1).
    unsafe { ring.push(sqe) }.expect("room");
}
