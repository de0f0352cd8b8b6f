//! The clients: N connections in one thread, of which the first speaks and all listen.
//!
//! ```text
//!   message n: 64 bytes that n decides ── masked ──► server ── a frame of 66 bytes ──► all
//!   so each connection gets one and the same endless stream, of which every byte is compared
//! ```
//!
//! So many messages are under way: the next is sent when all have the oldest of them.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::fd::OwnedFd;

/// The bytes of a message.
pub const BYTES: usize = 64;
/// A message as a frame of a server: two bytes before it.
const FRAME: usize = 2 + BYTES;
/// Messages repeat after so many; far fewer are under way.
const PERIOD: usize = 256;
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const HEAD: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

pub struct Clients {
    epoll: OwnedFd,
    clients: Vec<Client>,
    /// What each of them gets, twice in a row.
    expected: Vec<u8>,
    /// How many have each of the messages under way.
    heard: [usize; PERIOD],
    /// Messages that were sent, and those that all have.
    sent: usize,
    done: usize,
}

struct Client {
    stream: TcpStream,
    /// Bytes of frames, in all.
    came: usize,
}

/// What was heard.
pub struct Heard {
    pub deliveries: u64,
    pub time: Duration,
}

fn message(number: usize) -> [u8; BYTES] {
    std::array::from_fn(|at| (number.wrapping_mul(31) + at) as u8)
}

impl Clients {
    /// So many connections, all of them greeted. Then so many messages are under way.
    pub fn connect(server: SocketAddr, count: usize, window: usize) -> Self {
        let epoll = epoll::create(CreateFlags::CLOEXEC).expect("an epoll");
        let mut clients = Vec::with_capacity(count);
        for number in 0..count {
            let stream = greeted(server);
            let data = EventData::new_u64(number as u64);
            epoll::add(&epoll, &stream, data, EventFlags::IN).expect("a socket");
            clients.push(Client { stream, came: 0 });
        }
        let frame = |number| [&[0x82, BYTES as u8], &message(number)[..]].concat();
        let expected = (0..2 * PERIOD).flat_map(frame).collect();
        let mut all = Self { epoll, clients, expected, heard: [0; PERIOD], sent: 0, done: 0 };
        (0..window).for_each(|_| all.speak());
        all
    }

    /// Goes on for so long.
    pub fn run(&mut self, time: Duration) -> Heard {
        let started = Instant::now();
        let mut heard = Heard { deliveries: 0, time };
        let mut block = vec![0; PERIOD * FRAME];
        let mut events = Vec::with_capacity(256);
        loop {
            heard.time = started.elapsed();
            if heard.time >= time {
                return heard;
            }
            events.clear();
            let limit = rustix::time::Timespec { tv_sec: 10, tv_nsec: 0 };
            let spare = rustix::buffer::spare_capacity(&mut events);
            let count = epoll::wait(&self.epoll, spare, Some(&limit)).expect("an epoll");
            assert!(count > 0, "the server delivers no more");
            for event in &events {
                heard.deliveries += self.receive(event.data.u64() as usize, &mut block);
            }
        }
    }

    /// Receives what there is for one of them; how many messages are whole by that.
    fn receive(&mut self, number: usize, block: &mut [u8]) -> u64 {
        let client = &mut self.clients[number];
        let count = match client.stream.read(block) {
            Ok(0) => panic!("the server has closed a connection"),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return 0,
            Err(error) => panic!("{error}"),
        };
        let at = client.came % (PERIOD * FRAME);
        assert!(block[..count] == self.expected[at..][..count], "the server sent other bytes");
        let before = client.came / FRAME;
        client.came += count;
        let whole = before..client.came / FRAME;
        whole.clone().for_each(|message| self.heard[message % PERIOD] += 1);
        while self.done < self.sent && self.heard[self.done % PERIOD] == self.clients.len() {
            self.heard[self.done % PERIOD] = 0;
            self.done += 1;
            self.speak();
        }
        whole.len() as u64
    }

    /// The first says something.
    fn speak(&mut self) {
        let mut frame = [&[0x82, 0x80 | BYTES as u8], &MASK[..], &message(self.sent)].concat();
        frame[6..].iter_mut().zip(MASK.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        // Far smaller than what a socket has room for.
        self.clients[0].stream.write_all(&frame).expect("room for a message");
        self.sent += 1;
    }
}

/// A connection that has been greeted, and so gets every message from now on.
fn greeted(server: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(server).expect("the server listens");
    stream.set_nodelay(true).expect("a socket");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket");
    stream.write_all(HEAD).expect("room for a head");
    let (mut answer, mut block) = (Vec::new(), [0; 512]);
    while !answer.ends_with(b"\r\n\r\n") {
        let count = stream.read(&mut block).expect("the server answers");
        assert!(count > 0, "the server hangs up");
        answer.extend_from_slice(&block[..count]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
    stream.set_nonblocking(true).expect("a socket");
    stream
}
