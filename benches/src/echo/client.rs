//! The clients: all connections in one thread, each with one message under way.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::fd::OwnedFd;

pub struct Clients {
    epoll: OwnedFd,
    clients: Vec<Client>,
    bytes: usize,
    /// How long an answer is. What follows the message in it is zeroes.
    answer: usize,
}

struct Client {
    stream: TcpStream,
    /// The message under way; its number is in every byte.
    number: u8,
    came: usize,
    sent: Instant,
}

/// What came back.
pub struct Answers {
    pub count: u64,
    pub time: Duration,
    /// How long each answer took, in microseconds.
    took: Vec<f32>,
}

impl Answers {
    /// How long that share of the answers took at most.
    pub fn at(&self, share: f64) -> f64 {
        let mut took = self.took.clone();
        if took.is_empty() {
            return 0.0;
        }
        let at = ((took.len() - 1) as f64 * share) as usize;
        *took.select_nth_unstable_by(at, f32::total_cmp).1 as f64
    }
}

impl Clients {
    pub fn connect(server: SocketAddr, count: u32, bytes: usize, answer: usize) -> Self {
        let epoll = epoll::create(CreateFlags::CLOEXEC).expect("an epoll");
        let mut clients = Vec::new();
        for number in 0..count {
            let stream = TcpStream::connect(server).expect("the server listens");
            stream.set_nodelay(true).expect("a socket");
            stream.set_nonblocking(true).expect("a socket");
            let data = EventData::new_u64(u64::from(number));
            epoll::add(&epoll, &stream, data, EventFlags::IN).expect("a socket");
            clients.push(Client { stream, number: 0, came: 0, sent: Instant::now() });
        }
        let mut all = Self { epoll, clients, bytes, answer };
        for at in 0..all.clients.len() {
            all.clients[at].send(bytes);
        }
        all
    }

    /// Goes on for so long.
    pub fn run(&mut self, time: Duration) -> Answers {
        let started = Instant::now();
        let mut answers = Answers { count: 0, time, took: Vec::new() };
        let mut block = vec![0; self.answer];
        let mut events = Vec::with_capacity(256);
        loop {
            answers.time = started.elapsed();
            if answers.time >= time {
                return answers;
            }
            events.clear();
            let limit = rustix::time::Timespec { tv_sec: 5, tv_nsec: 0 };
            let spare = rustix::buffer::spare_capacity(&mut events);
            let count = epoll::wait(&self.epoll, spare, Some(&limit)).expect("an epoll");
            assert!(count > 0, "the server answers no more");
            for event in &events {
                let client = &mut self.clients[event.data.u64() as usize];
                if let Some(took) = client.receive(&mut block, self.bytes) {
                    answers.count += 1;
                    answers.took.push(took.as_secs_f32() * 1e6);
                    client.send(self.bytes);
                }
            }
        }
    }
}

impl Client {
    fn send(&mut self, bytes: usize) {
        self.number = self.number.wrapping_add(1);
        (self.came, self.sent) = (0, Instant::now());
        // A message is far smaller than the socket's buffer, which is empty.
        self.stream.write_all(&[self.number; 4096][..bytes]).expect("room for a message");
    }

    /// Receives what there is; if that is the end of the answer, how long it took.
    fn receive(&mut self, block: &mut [u8], message: usize) -> Option<Duration> {
        let left = block.len() - self.came;
        match self.stream.read(&mut block[..left]) {
            Ok(0) => panic!("the server has closed a connection"),
            Ok(count) => {
                let echoed = count.min(message.saturating_sub(self.came));
                let (echo, rest) = block[..count].split_at(echoed);
                let right = echo.iter().all(|&byte| byte == self.number);
                assert!(
                    right && rest.iter().all(|&byte| byte == 0),
                    "the server answered with other bytes"
                );
                self.came += count;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
            Err(error) => panic!("{error}"),
        }
        (self.came == block.len()).then(|| self.sent.elapsed())
    }
}
