//! The echo ladder: servers on a raw ring of annulus, each with one more of what io_uring offers.
//!
//! | server | receives | sends | sockets |
//! |---|---|---|---|
//! | `annulus-single` | one by one, an enter for each: how not to do it | likewise | descriptors |
//! | `annulus` | one by one, one enter for all that is ready | likewise | descriptors |
//! | `annulus-poll-first` | the same, but waits for data before it looks for any | likewise | descriptors |
//! | `annulus-zero-copy` | as `annulus` | without a copy, and two completions | descriptors |
//! | `annulus-direct` | as `annulus` | as `annulus` | in the ring's file table |
//! | `annulus-multishot` | go on, into buffers that the kernel selects | as `annulus` | descriptors |
//! | `annulus-multishot-direct` | the same | as `annulus` | in the ring's file table |
//! | `annulus-bundle` | the same, many buffers at once (`bundles.rs`) | likewise | descriptors |
//!
//! All accept with one entry that goes on. `annulus-zero-copy` is expected to lose with messages of
//! a few kilobytes: a second completion costs more than a copy of so little, and over loopback the
//! kernel copies after all.

use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};

use annulus::raw::register::{BufferGroup, Consumption, RingMemory};
use annulus::sys::abi::{Cqe, Sqe};
use annulus::sys::flags::{AcceptFlags, CqeFlags, RecvSendFlags, SqeFlags};
use annulus::{RawRing, Setup, prep};

use super::calls;

/// A connection: its socket, or its place in the file table, and its buffer.
pub struct Connection {
    pub file: i32,
    pub block: Vec<u8>,
}

/// The `user_data` of an entry: which connection, and what it does.
pub const ACCEPT: u64 = 0;
pub const RECEIVE: u64 = 1;
pub const SEND: u64 = 2;

pub fn name(at: usize, what: u64) -> u64 {
    (at as u64) << 2 | what
}

/// How often `raw` enters the kernel.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Enters {
    /// For each entry.
    Each,
    /// Once for all that is ready.
    All,
}

/// Where accepted sockets go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Files {
    Descriptors,
    /// The ring's file table.
    Table,
}

/// Receives look for data at once, and wait if there is none.
pub const AT_ONCE: RecvSendFlags = RecvSendFlags::empty();
/// Receives wait first: a client that has just got an answer has sent nothing yet.
pub const POLL_FIRST: RecvSendFlags = RecvSendFlags::POLL_FIRST;

/// A ring that accepts.
pub fn ring(listener: &TcpListener, files: Files) -> RawRing {
    let mut ring = Setup::new(2048).build_raw().expect("a ring");
    // What is accepted answers at once, as its listener would.
    nodelay(listener.as_raw_fd());
    let accept = prep::accept(listener.as_raw_fd(), 0, 0, 0, AcceptFlags::MULTISHOT);
    let accept = match files {
        Files::Descriptors => accept,
        Files::Table => {
            ring.register_files_sparse(4096).expect("a file table");
            prep::direct_alloc(accept)
        }
    };
    // SAFETY: it points to nothing.
    unsafe { ring.push(Sqe { user_data: name(0, ACCEPT), ..accept }) }.expect("room");
    ring
}

/// Submits, waits, and takes what came.
pub fn turn(ring: &mut RawRing, came: &mut Vec<Cqe>) {
    ring.turn(1, |cqe| came.push(cqe)).expect("a turn");
    calls::set(ring.stats().enters);
}

/// Answers are sent at once.
pub fn nodelay(file: i32) {
    // SAFETY: the descriptor stays open: it is taken out of the value again.
    let stream = TcpStream::from(unsafe { OwnedFd::from_raw_fd(file) });
    stream.set_nodelay(true).expect("a socket");
    let _ = stream.into_raw_fd();
}

fn receive(at: usize, connection: &mut Connection, how: RecvSendFlags) -> Sqe {
    let address = connection.block.as_mut_ptr().expose_provenance() as u64;
    let len = connection.block.len() as u32;
    let sqe = prep::recv(connection.file, address, len, 0, how);
    Sqe { user_data: name(at, RECEIVE), ..sqe }
}

fn send(at: usize, connection: &Connection, count: u32) -> Sqe {
    let address = connection.block.as_ptr().expose_provenance() as u64;
    let sqe = prep::send(connection.file, address, count, 0, RecvSendFlags::empty());
    Sqe { user_data: name(at, SEND), ..sqe }
}

pub fn raw(listener: &TcpListener, bytes: usize, enters: Enters, how: RecvSendFlags) -> ! {
    let mut ring = ring(listener, Files::Descriptors);
    let mut connections: Vec<Connection> = Vec::new();
    let mut came: Vec<Cqe> = Vec::new();
    loop {
        turn(&mut ring, &mut came);
        for cqe in came.drain(..) {
            let at = (cqe.user_data >> 2) as usize;
            let sqe = match (cqe.user_data & 3, cqe.res) {
                (ACCEPT, file @ 0..) => {
                    connections.push(Connection { file, block: vec![0; bytes] });
                    let at = connections.len() - 1;
                    receive(at, &mut connections[at], how)
                }
                (RECEIVE, count @ 1..) => send(at, &connections[at], count as u32),
                (SEND, 1..) => receive(at, &mut connections[at], how),
                _ => continue,
            };
            // SAFETY: the block lives as long as this program, and has one entry at a time.
            unsafe { ring.push(sqe) }.expect("room");
            if enters == Enters::Each {
                ring.submit().expect("submit");
            }
        }
    }
}

pub fn zero_copy(listener: &TcpListener, bytes: usize) -> ! {
    let mut ring = ring(listener, Files::Descriptors);
    let mut connections: Vec<Connection> = Vec::new();
    let mut came: Vec<Cqe> = Vec::new();
    loop {
        turn(&mut ring, &mut came);
        for cqe in came.drain(..) {
            let at = (cqe.user_data >> 2) as usize;
            let sqe = match (cqe.user_data & 3, cqe.res) {
                (ACCEPT, file @ 0..) => {
                    connections.push(Connection { file, block: vec![0; bytes] });
                    let at = connections.len() - 1;
                    receive(at, &mut connections[at], AT_ONCE)
                }
                (RECEIVE, count @ 1..) => {
                    let sqe = send(at, &connections[at], count as u32);
                    let copying = prep::send_zc(sqe.fd, sqe.addr, sqe.len, 0, AT_ONCE);
                    Sqe { user_data: sqe.user_data, ..copying }
                }
                // Sent; the block is in use until the notification.
                (SEND, 1..) if cqe.flags.contains(CqeFlags::MORE) => continue,
                (SEND, _) if cqe.flags.contains(CqeFlags::NOTIF) => {
                    receive(at, &mut connections[at], AT_ONCE)
                }
                _ => continue,
            };
            // SAFETY: the block lives as long as this program, and has one entry at a time.
            unsafe { ring.push(sqe) }.expect("room");
        }
    }
}

pub fn direct(listener: &TcpListener, bytes: usize) -> ! {
    let mut ring = ring(listener, Files::Table);
    let mut blocks: Vec<Option<Connection>> = Vec::new();
    let mut came: Vec<Cqe> = Vec::new();
    let fixed = |sqe: Sqe| Sqe { flags: SqeFlags::FIXED_FILE, ..sqe };
    loop {
        turn(&mut ring, &mut came);
        for cqe in came.drain(..) {
            let at = (cqe.user_data >> 2) as usize;
            let sqe = match (cqe.user_data & 3, cqe.res) {
                (ACCEPT, file @ 0..) => {
                    let at = file as usize;
                    blocks.resize_with(blocks.len().max(at + 1), || None);
                    let new = Connection { file, block: vec![0; bytes] };
                    receive(at, blocks[at].insert(new), AT_ONCE)
                }
                (what, count @ 1..) => {
                    let connection = blocks[at].as_mut().expect("it was accepted");
                    match what {
                        RECEIVE => send(at, connection, count as u32),
                        _ => receive(at, connection, AT_ONCE),
                    }
                }
                _ => continue,
            };
            // SAFETY: the block lives as long as this program, and has one entry at a time.
            unsafe { ring.push(fixed(sqe)) }.expect("room");
        }
    }
}

/// Buffers that the kernel selects, each as large as a message.
pub struct Buffers {
    pub group: BufferGroup,
    memory: Vec<u8>,
    bytes: usize,
}

impl Buffers {
    /// How many there are.
    pub const COUNT: u16 = 4096;

    pub fn new(ring: &RawRing, bytes: usize) -> Self {
        let count = u32::from(Self::COUNT);
        let group = ring.buffer_group(0, count, RingMemory::Kernel, Consumption::Whole);
        let memory = vec![0; usize::from(Self::COUNT) * bytes];
        let mut buffers = Self { group: group.expect("Linux 6.4"), memory, bytes };
        (0..Self::COUNT).for_each(|id| buffers.offer(id));
        buffers.flush();
        buffers
    }

    pub fn address(&mut self, id: u16) -> u64 {
        let start = self.memory.as_mut_ptr().expose_provenance() as u64;
        start + u64::from(id) * self.bytes as u64
    }

    /// Offers a buffer that nothing uses.
    pub fn offer(&mut self, id: u16) {
        let (address, len) = (self.address(id), self.bytes as u32);
        // SAFETY: the memory lives as long as this program, and is the kernel's from now on.
        unsafe { self.group.ring().push(address, len, id) }.expect("room");
    }

    /// The kernel has selected so many.
    pub fn taken(&mut self, count: u32) {
        // SAFETY: completions named as many, each of them once.
        unsafe { self.group.ring().taken(count) };
    }

    /// Shows the kernel what was offered.
    pub fn flush(&mut self) {
        // SAFETY: nothing else is done to the ring of buffers than here.
        unsafe { self.group.ring() }.flush();
    }
}

pub fn multishot(listener: &TcpListener, bytes: usize, files: Files) -> ! {
    let mut ring = ring(listener, files);
    let mut buffers = Buffers::new(&ring, bytes);
    let named = match files {
        Files::Descriptors => SqeFlags::empty(),
        Files::Table => SqeFlags::FIXED_FILE,
    };
    let receive = |file: i32| {
        let sqe = prep::recv_provided(file, 0, 0, 0, RecvSendFlags::RECV_MULTISHOT);
        Sqe { user_data: name(file as usize, RECEIVE), flags: sqe.flags | named, ..sqe }
    };
    let mut came: Vec<Cqe> = Vec::new();
    loop {
        turn(&mut ring, &mut came);
        for cqe in came.drain(..) {
            let at = (cqe.user_data >> 2) as usize;
            let sqe = match (cqe.user_data & 3, cqe.res) {
                (ACCEPT, file @ 0..) => receive(file),
                (RECEIVE, count @ 1..) => {
                    let id = cqe.buffer_id().expect("a buffer was taken");
                    buffers.taken(1);
                    let from = buffers.address(id);
                    let sqe = prep::send(at as i32, from, count as u32, 0, AT_ONCE);
                    let user_data = name(usize::from(id), SEND);
                    // SAFETY: the buffer is offered again only when it was sent.
                    unsafe { ring.push(Sqe { user_data, flags: named, ..sqe }) }.expect("room");
                    if cqe.flags.contains(CqeFlags::MORE) {
                        continue;
                    }
                    receive(at as i32)
                }
                (SEND, _) => {
                    buffers.offer(at as u16);
                    continue;
                }
                _ => continue,
            };
            // SAFETY: it points to nothing.
            unsafe { ring.push(sqe) }.expect("room");
        }
        buffers.flush();
    }
}
