//! A server that receives and sends bundles: any number of buffers by one entry. Linux 6.10.
//!
//! ```text
//!   one group for all ─ the kernel selects ─► waiting ─► a group for each connection ─► the socket
//!        ▲                                                                                │
//!        └──────────────────────────── sent ◄─────────────────────────────────────────────┘
//! ```
//!
//! A bundle names its first buffer only; the others are those that were offered next. With one
//! message of one buffer under way on each connection there is nothing to bundle. So this server
//! shows what bundles cost where they are of no use; `tests/counts` shows what they save.

use std::collections::VecDeque;
use std::net::TcpListener;

use annulus::raw::register::{BufferGroup, Consumption, RingMemory};
use annulus::sys::abi::{Cqe, Sqe};
use annulus::sys::flags::{CqeFlags, RecvSendFlags};
use annulus::{RawRing, prep};

use super::ladder::{ACCEPT, Buffers, Files, RECEIVE, SEND, name, ring, turn};

/// How many buffers of one connection can be on their way.
const MOST: u32 = 16;

/// The answers of a connection: their buffers, and how much is in each.
struct Sender {
    group: BufferGroup,
    waiting: Vec<(u16, u32)>,
    sending: Vec<u16>,
}

impl Sender {
    fn new(ring: &RawRing, file: i32) -> Self {
        let id = u16::try_from(file).expect("few descriptors are open");
        let group = ring.buffer_group(id, MOST, RingMemory::User, Consumption::Whole);
        let group = group.expect("Linux 5.19");
        Self { group, waiting: Vec::new(), sending: Vec::new() }
    }

    /// Sends what waits, all of it by one entry.
    fn start(&mut self, ring: &mut RawRing, buffers: &mut Buffers, file: i32) {
        let id = self.group.id();
        // SAFETY: nothing else is done to the ring of buffers than here and in `sent`.
        let group = unsafe { self.group.ring() };
        for (id, len) in self.waiting.drain(..) {
            // SAFETY: the memory lives as long as this program, and nothing else uses the buffer.
            unsafe { group.push(buffers.address(id), len, id) }.expect("room");
            self.sending.push(id);
        }
        group.flush();
        let sqe = prep::send_provided(file, 0, id, 0, RecvSendFlags::BUNDLE);
        let user_data = name(file as usize, SEND);
        // SAFETY: the buffers are offered again only when they were sent.
        unsafe { ring.push(Sqe { user_data, ..sqe }) }.expect("room");
    }

    /// All that was started has been sent: which buffers that were.
    fn sent(&mut self) -> std::vec::Drain<'_, u16> {
        // SAFETY: the entry has completed, so the kernel has selected all buffers for it.
        unsafe { self.group.ring().taken(self.sending.len() as u32) };
        self.sending.drain(..)
    }
}

pub fn bundle(listener: &TcpListener, bytes: usize) -> ! {
    let mut ring = ring(listener, Files::Descriptors);
    let mut buffers = Buffers::new(&ring, bytes);
    // In the order in which the kernel selects them.
    let mut offered: VecDeque<u16> = (0..Buffers::COUNT).collect();
    let mut senders: Vec<Option<Sender>> = Vec::new();
    let flags = RecvSendFlags::RECV_MULTISHOT.union(RecvSendFlags::BUNDLE);
    let receive = |file: i32| Sqe {
        user_data: name(file as usize, RECEIVE),
        ..prep::recv_provided(file, 0, 0, 0, flags)
    };
    let mut came: Vec<Cqe> = Vec::new();
    loop {
        turn(&mut ring, &mut came);
        for cqe in came.drain(..) {
            let at = (cqe.user_data >> 2) as usize;
            let sqe = match (cqe.user_data & 3, cqe.res) {
                (ACCEPT, file @ 0..) => {
                    senders.resize_with(senders.len().max(file as usize + 1), || None);
                    senders[file as usize] = Some(Sender::new(&ring, file));
                    receive(file)
                }
                (RECEIVE, count @ 1..) => {
                    let sender = senders[at].as_mut().expect("it was accepted");
                    assert_eq!(cqe.buffer_id(), offered.front().copied(), "the next buffer");
                    let mut left = count as usize;
                    while left > 0 {
                        let part = left.min(bytes);
                        left -= part;
                        let id = offered.pop_front().expect("a buffer was there");
                        buffers.taken(1);
                        sender.waiting.push((id, part as u32));
                    }
                    if sender.sending.is_empty() {
                        sender.start(&mut ring, &mut buffers, at as i32);
                    }
                    if cqe.flags.contains(CqeFlags::MORE) {
                        continue;
                    }
                    receive(at as i32)
                }
                (SEND, 1..) => {
                    let sender = senders[at].as_mut().expect("it was accepted");
                    for id in sender.sent() {
                        buffers.offer(id);
                        offered.push_back(id);
                    }
                    if !sender.waiting.is_empty() {
                        sender.start(&mut ring, &mut buffers, at as i32);
                    }
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
