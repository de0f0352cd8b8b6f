//! Twenty clients in one thread. Each says something, waits for its answer, and compares every
//! byte.
//!
//! ```text
//!   speak: ten clients │ turn │ the other ten │ turn │ the first ten, who have their answers │ …
//! ```
//!
//! So there is always something to do for the server: ten requests at a time. After ten requests a
//! client leaves, and another comes in its place. The sockets deliver a message in the call that
//! sends it, so nothing here depends on time.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::{SocketAddr, UnixStream};

use crate::support::{Failure, failed};

/// How many requests there are in all.
pub const REQUESTS: u64 = 1000;
const CLIENTS: usize = 20;
const EACH: u64 = 10;

/// All of them.
pub struct Clients {
    address: SocketAddr,
    bytes: usize,
    clients: Vec<Client>,
    /// How many requests were made, and how many answers counted.
    asked: u64,
    answered: u64,
    /// The first request whose answer was not what had been sent.
    wrong: Option<u64>,
}

#[derive(Default)]
struct Client {
    stream: Option<UnixStream>,
    /// The request that waits for its answer, and what of that has come.
    request: Option<u64>,
    came: Vec<u8>,
    /// How many requests it has made.
    made: u64,
}

impl Clients {
    /// Nobody is connected yet.
    pub fn new(address: SocketAddr, bytes: usize) -> Self {
        let clients = (0..CLIENTS).map(|_| Client::default()).collect();
        Self { address, bytes, clients, asked: 0, answered: 0, wrong: None }
    }

    /// Whoever has its answer makes its next request, while there are requests left. Whether the
    /// server has something to do.
    pub fn speak(&mut self) -> Result<bool, Failure> {
        // At first, the second half lets the first half begin.
        let most = if self.asked == 0 { CLIENTS / 2 } else { CLIENTS };
        for at in 0..most {
            while self.listen(at)? && self.asked < REQUESTS {
                self.ask(at)?;
            }
        }
        Ok(self.answered < REQUESTS)
    }

    /// Takes what has come for a client. Whether it waits for nothing.
    fn listen(&mut self, at: usize) -> Result<bool, Failure> {
        let Client { stream: Some(stream), request: Some(request), came, .. } =
            &mut self.clients[at]
        else {
            return Ok(true);
        };
        while came.len() < self.bytes {
            let mut buf = [0; 4096];
            match stream.read(&mut buf[..self.bytes - came.len()]) {
                Ok(0) => return Err(Failure::Failed("the server hung up".into())),
                Ok(count) => came.extend_from_slice(&buf[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(Failure::of("no answer", error)),
            }
        }
        if *came != text(*request, self.bytes) {
            self.wrong = self.wrong.or(Some(*request));
        }
        self.answered += 1;
        self.clients[at].request = None;
        Ok(true)
    }

    /// Makes the next request of a client, who may be a new one.
    fn ask(&mut self, at: usize) -> Result<(), Failure> {
        let client = &mut self.clients[at];
        if client.made == EACH {
            *client = Client::default();
        }
        if client.stream.is_none() {
            let stream = UnixStream::connect_addr(&self.address);
            let stream = stream.map_err(failed("nobody listens"))?;
            stream.set_nonblocking(true).map_err(failed("not here"))?;
            client.stream = Some(stream);
        }
        self.asked += 1;
        client.made += 1;
        client.request = Some(self.asked);
        client.came.clear();
        let stream =
            client.stream.as_mut().map(|stream| stream.write_all(&text(self.asked, self.bytes)));
        stream.unwrap_or(Ok(())).map_err(failed("cannot ask"))
    }

    /// What is to be said of the answers.
    pub fn verdict(&self) -> String {
        self.wrong.map_or("right".into(), |request| format!("wrong, first to request {request}"))
    }
}

/// A request: no two are equal, nor any two bytes that follow each other.
fn text(request: u64, bytes: usize) -> Vec<u8> {
    let byte = |at: u64| (request.wrapping_mul(31) ^ at ^ (request >> 5)).to_le_bytes()[0] | 1;
    (0..bytes as u64).map(|at| byte(at * 2)).collect()
}
