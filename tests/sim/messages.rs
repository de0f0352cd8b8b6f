//! Messages and datagrams: random programs on both kernels.
//!
//! | a program | at random |
//! |---|---|
//! | receives messages | from a stream, a pair for datagrams, UDP sockets; with room for names and control data, or without; into its own buffers or selected ones, once or again and again |
//! | sends messages | of two parts, to a name or to where the socket is connected, also zero-copy |
//!
//! Ports differ between the kernels; a name is shown by the socket that has it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use annulus::prep;
use annulus::sys::abi::Sqe;
use annulus::sys::flags::{CQE_BUFFER_SHIFT, CancelFlags, CqeFlags, RecvSendFlags, SqeFlags};
use annulus::sys::flags_register::PbufRingFlags;
use annulus::sys::groups::{Group, RingMemory};
use annulus::sys::index::Entries;

use super::chance::Chance;
use super::scenarios::encoded;
use super::scene::{Scene, at, both, seeded, with_faults};

const BUFFERS: u16 = 8;
const SIZE: usize = 64;

/// A message as an entry points to it.
#[repr(C)]
struct Message {
    header: [u64; 7],
    name: [u8; 32],
    control: [u64; 4],
    vectors: [[u64; 2]; 2],
    bytes: [[u8; 24]; 2],
}

/// A program's sockets and memory.
struct Post {
    /// A stream, a pair for datagrams, three UDP sockets of which the last one is connected.
    ends: Vec<OwnedFd>,
    addresses: Vec<SocketAddr>,
    messages: Vec<(u64, Box<Message>)>,
    group: Group,
    memory: Box<[[u8; SIZE]; BUFFERS as usize]>,
    free: Vec<u16>,
    waits: HashMap<u64, usize>,
}

impl Post {
    fn new(it: &mut Scene<'_>, chance: &mut Chance) -> Self {
        let (ours, theirs) = it.world.socket_pair();
        let (one, other) = it.world.datagram_pair();
        let (first, address) = it.world.udp();
        let (second, second_address) = it.world.udp();
        let (third, third_address) = it.world.udp();
        let target = Box::new(encoded(address));
        it.push(prep::connect(third.as_raw_fd(), at(&*target), 16));
        it.rest(|_| false);
        let nobody = SocketAddr::from(([127, 0, 0, 1], 9));
        let addresses = vec![address, second_address, third_address, nobody];
        let entries = Entries::new(BUFFERS.into()).expect("a power of two");
        let flags = chance.among(&[PbufRingFlags::empty(), PbufRingFlags::INC]);
        let group = Group::register(it.ring.base(), 1, entries, RingMemory::User, flags);
        let memory = Box::new([[b'.'; SIZE]; BUFFERS as usize]);
        Self {
            ends: vec![ours, theirs, one, other, first, second, third],
            addresses,
            messages: vec![],
            group: group.expect("a group"),
            memory,
            free: (0..BUFFERS).collect(),
            waits: HashMap::new(),
        }
    }

    /// Offers some of the free buffers.
    fn offer(&mut self, chance: &mut Chance) {
        for _ in 0..chance.below(4) {
            let Some(bid) = self.free.pop() else { return };
            let addr = self.memory[usize::from(bid)].as_mut_ptr().expose_provenance() as u64;
            let len = chance.among(&[64, 64, 64, 20]);
            // SAFETY: the group lives as long as the program, and no child is forked.
            let ring = unsafe { self.group.ring() };
            // SAFETY: the memory outlives the ring; each buffer is offered once (BR1).
            unsafe { ring.push(addr, len, bid) }.expect("room");
            ring.flush();
        }
    }

    /// A new message, and where it lies.
    fn message(&mut self, it: &Scene<'_>, chance: &mut Chance, to: Option<SocketAddr>) -> u64 {
        let parts = [chance.below(25), chance.below(25)].map(u64::from);
        let bytes = [*b"twenty-four of a message", *b", and then twenty-four !"];
        let mut message = Box::new(Message {
            header: [0; 7],
            name: [b'n'; 32],
            control: [0x6363_6363_6363_6363; 4],
            vectors: [[0; 2]; 2],
            bytes,
        });
        if let Some(to) = to {
            message.name[..16].copy_from_slice(&encoded(to));
        }
        let start = std::ptr::from_mut(&mut *message).expose_provenance() as u64;
        let offset = |offset: usize| start + offset as u64;
        let bytes = offset(std::mem::offset_of!(Message, bytes));
        message.vectors = [[bytes, parts[0]], [bytes + 24, parts[1]]];
        message.header[2] = offset(std::mem::offset_of!(Message, vectors));
        message.header[3] = chance.among(&[2, 2, 1, 0]);
        message.header[0] = offset(std::mem::offset_of!(Message, name));
        self.messages.push((it.next, message));
        start
    }

    fn last(&mut self) -> &mut [u64; 7] {
        &mut self.messages.last_mut().expect("made just now").1.header
    }

    fn receive(&mut self, it: &Scene<'_>, chance: &mut Chance) -> Option<Sqe> {
        let end = chance.below(7) as usize;
        if self.waits.values().any(|&waits| waits == end) {
            return None;
        }
        self.waits.insert(it.next, end);
        let fd = self.ends[end].as_raw_fd();
        let start = self.message(it, chance, None);
        let (many, none) = (RecvSendFlags::RECV_MULTISHOT, RecvSendFlags::empty());
        let mut flags = 0;
        for (flag, rarity) in [(libc::MSG_DONTWAIT, 4), (libc::MSG_TRUNC, 4)] {
            // What a stream does with that is not simulated.
            let is_odd = flag == libc::MSG_TRUNC && end < 2;
            flags |= if !is_odd && chance.one_in(rarity) { flag } else { 0 };
        }
        let is_whole = chance.one_in(5);
        let kind = chance.below(7);
        let flags = if is_whole && kind < 3 { flags | libc::MSG_WAITALL } else { flags };
        let flags = flags.cast_unsigned();
        let room = chance.among(&[0, 8, 16, 16, 32]);
        let control = if chance.one_in(4) { 8 } else { 0 };
        let header = self.last();
        header[1] = room;
        header[4] = start + std::mem::offset_of!(Message, control) as u64;
        header[5] = control;
        if chance.one_in(4) {
            header[0] = 0;
        }
        Some(match kind {
            0..=2 => prep::recvmsg(fd, start, flags, none),
            3 => {
                header[3] = 0;
                prep::recvmsg_provided(fd, start, 1, flags & !64, many)
            }
            4 => {
                header[3] = header[3].min(1);
                prep::recvmsg_provided(fd, start, 1, flags & !0x20, none)
            }
            5 => prep::recv_provided(fd, 0, 1, flags & !0x20, many),
            _ => {
                let address = start + std::mem::offset_of!(Message, bytes) as u64;
                prep::recv(fd, address, chance.below(25), flags, none)
            }
        })
    }

    fn send(&mut self, it: &Scene<'_>, chance: &mut Chance) -> Sqe {
        let end = chance.below(7) as usize;
        let fd = self.ends[end].as_raw_fd();
        let is_udp = end > 3;
        // The one that is connected is found by its name only by its peer.
        let to = chance.among(&[None, Some(0), Some(1), Some(3)]).filter(|_| is_udp);
        let to = to.map(|to: usize| self.addresses[to]);
        let start = self.message(it, chance, to);
        let header = self.last();
        header[1] = 16;
        if to.is_none() {
            (header[0], header[1]) = (0, 0);
        }
        let name = start + std::mem::offset_of!(Message, name) as u64;
        let bytes = start + std::mem::offset_of!(Message, bytes) as u64;
        let none = RecvSendFlags::empty();
        let flags = libc::MSG_NOSIGNAL.cast_unsigned();
        match chance.below(6) {
            0..=2 => prep::sendmsg(fd, start, flags, none),
            3 => prep::sendmsg_zc(fd, start, flags, none),
            4 if to.is_some() => {
                let sqe = prep::send(fd, bytes, chance.below(25), flags, none);
                Sqe { off: name, file_index: 16, ..sqe }
            }
            4 => prep::send_zc(fd, bytes, chance.below(25), flags, none),
            _ => prep::send(fd, bytes, chance.below(25), flags, none),
        }
    }

    fn step(&mut self, it: &mut Scene<'_>, chance: &mut Chance) {
        match chance.below(10) {
            0 => self.offer(chance),
            1..=4 => {
                let Some(sqe) = self.receive(it, chance) else { return };
                let links = chance.one_in(4);
                let flags = if links { SqeFlags::IO_LINK } else { SqeFlags::empty() };
                it.push(Sqe { flags: sqe.flags | flags, ..sqe });
                if links {
                    it.push(prep::nop());
                }
            }
            5..=7 => {
                let sqe = self.send(it, chance);
                it.push(sqe);
            }
            8 => {
                let end = self.ends[chance.below(7) as usize].as_fd();
                let bytes = &b"forty bytes from outside, or less of it."[..];
                let count = chance.below(41) as usize;
                let written = it.world.write(end, &bytes[..count]);
                it.say(format!("{:?}", written.map_err(|error| error.raw_os_error())));
            }
            _ => {
                let end = chance.below(7) as usize;
                if self.waits.values().any(|&waits| waits == end) {
                    return;
                }
                let bytes = it.world.read(self.ends[end].as_fd());
                it.say(format!("{:?}", bytes.map_err(|error| error.raw_os_error())));
            }
        }
        self.rest(it);
    }

    fn rest(&mut self, it: &mut Scene<'_>) {
        it.rest(|_| false);
        for (user_data, _, flags) in it.last.clone() {
            if flags.contains(CqeFlags::BUFFER) && !flags.contains(CqeFlags::BUF_MORE) {
                let bid = flags.bits() >> CQE_BUFFER_SHIFT;
                self.free.push(u16::try_from(bid).expect("16 bits"));
                // SAFETY: the group lives as long as the program, and no child is forked.
                let ring = unsafe { self.group.ring() };
                // SAFETY: a completion without `BUF_MORE` has returned it, only once (BR1).
                unsafe { ring.taken(1) };
            }
            if !flags.contains(CqeFlags::MORE) {
                self.waits.remove(&user_data);
            }
        }
    }

    /// Bytes, where each port of this program is the number of its socket.
    fn shown(&self, bytes: &[u8]) -> String {
        let mut bytes = bytes.to_vec();
        for at in 2..bytes.len() {
            if bytes[at..].starts_with(&[127, 0, 0, 1]) {
                let port = u16::from_be_bytes([bytes[at - 2], bytes[at - 1]]);
                let known = self.addresses.iter().position(|other| other.port() == port);
                let known = u8::try_from(known.unwrap_or(9)).expect("few");
                bytes[at - 2..at].copy_from_slice(&[0, known]);
            } else if bytes[at - 2..].starts_with(&[2, 0]) && bytes.len() > at + 1 {
                // A name that is cut behind the port.
                if !bytes[at + 2..].starts_with(&[127, 0, 0, 1]) {
                    bytes[at..at + 2].fill(0);
                }
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

fn program(it: &mut Scene<'_>, chance: &mut Chance) {
    let mut post = Post::new(it, chance);
    post.offer(chance);
    for _ in 0..chance.below(30) {
        post.step(it, chance);
    }
    for _ in 0..2 {
        it.push(prep::cancel(0, CancelFlags::ANY | CancelFlags::ALL));
        post.rest(it);
    }
    it.say(format!("head {:?}", post.group.head()));
    for bid in &post.free {
        let bytes = post.shown(&post.memory[usize::from(*bid)]);
        it.say(format!("buffer {bid}: {bytes:?}"));
    }
    for (id, message) in &post.messages {
        let Message { header, name, control, bytes, .. } = &**message;
        let flags = u32::try_from(header[6] & 0xffff_ffff).expect("32 bits");
        let (name, bytes) = (post.shown(name), post.shown(&bytes.concat()));
        let is_there = header[0] != 0;
        let (len, room) = (header[1], header[5]);
        it.say(format!("{id}: {is_there} {len} {room} {flags} {name:?} {control:?} {bytes:?}"));
    }
    // If a kernel did not end everything, it must not find other memory here (RG1).
    std::mem::forget((post.memory, post.messages));
}

#[test]
fn random_programs_with_messages_see_on_the_simulated_kernel_what_they_see_on_linux() {
    seeded("messages", 600, program);
}

#[test]
fn op1_holds_for_random_programs_with_messages_and_faults() {
    with_faults(300, program);
}

#[test]
fn sockets_are_made_bound_and_listen_through_the_ring() {
    both("bind", |it| {
        let (stream, message) =
            (libc::SOCK_STREAM.cast_unsigned(), libc::SOCK_DGRAM.cast_unsigned());
        for kind in [stream, stream, message, message] {
            it.push(prep::socket(libc::AF_INET, kind.into(), 0));
            it.take_fds(1);
        }
        let fds: Vec<i32> = it.fds.iter().map(AsRawFd::as_raw_fd).collect();
        let any = Box::new(encoded(SocketAddr::from(([127, 0, 0, 1], 0))));
        let (used, taken) = it.world.udp();
        let taken = Box::new(encoded(taken));
        let (pair, _other) = it.world.socket_pair();
        let (file, datagrams) = (it.world.file(b""), it.world.datagram_pair());
        for sqe in [
            prep::bind(fds[0], at(&*any), 16),
            prep::bind(fds[0], at(&*any), 16),
            prep::bind(fds[2], at(&*taken), 16),
            prep::bind(fds[2], at(&*any), 16),
            prep::bind(fds[2], at(&*any), 16),
            prep::bind(file.as_raw_fd(), at(&*any), 16),
            Sqe { len: 1, ..prep::bind(fds[3], at(&*any), 16) },
            prep::listen(fds[0], 5),
            prep::listen(fds[0], 6),
            prep::listen(fds[1], 6),
            prep::bind(fds[1], at(&*any), 16),
            prep::listen(fds[2], 6),
            prep::listen(pair.as_raw_fd(), 6),
            prep::listen(datagrams.0.as_raw_fd(), 6),
            prep::listen(file.as_raw_fd(), 6),
            Sqe { addr: 1, ..prep::listen(fds[0], 6) },
            // A socket without an address gets one as it sends.
            prep::connect(fds[3], at(&*taken), 16),
            prep::send(fds[3], at(&*taken), 2, 0, RecvSendFlags::empty()),
        ] {
            it.push(sqe);
            it.take(1);
        }
        it.say(format!("{:?}", it.world.read(used.as_fd())));
        drop(used);
        // The first send finds nobody, and the second one hears of it.
        for _ in 0..3 {
            it.push(prep::send(fds[3], at(&*taken), 2, 0, RecvSendFlags::empty()));
            it.take(1);
        }
    });
}

#[test]
fn datagrams_know_when_the_other_end_is_gone() {
    both("datagrams", |it| {
        let (ours, theirs) = it.world.datagram_pair();
        let bytes = *b"message";
        let none = RecvSendFlags::empty();
        it.push(prep::send(ours.as_raw_fd(), at(&bytes), 7, 0, none));
        it.take(1);
        it.say(format!("{:?}", it.world.read(theirs.as_fd())));
        it.push(prep::accept(ours.as_raw_fd(), 0, 0, 0, annulus::sys::flags::AcceptFlags::empty()));
        it.take(1);
        drop(theirs);
        for _ in 0..2 {
            it.push(prep::send(ours.as_raw_fd(), at(&bytes), 7, 0, none));
            it.take(1);
        }
    });
}
