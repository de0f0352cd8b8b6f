//! An echo over TCP of which both ends use one ring.
//!
//! ```text
//!   client  send ──► recv  server          one submit for the pair
//!   client  recv ◄── send  server          and one for the way back
//! ```
//!
//! A send may take less and a receive bring less than a whole message; the rest goes again.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use annulus::sys::opcode::Opcode;
use annulus::{Capabilities, RawRing};

use crate::support::Failure;
use crate::support::loans::{Loans, Request};

/// The bytes in a message.
pub const MESSAGE: usize = 256;

/// The two ends of a connection.
#[derive(Debug)]
pub struct Connection {
    client: OwnedFd,
    server: OwnedFd,
    /// The operations that made it.
    pub made_by: &'static str,
}

/// The buffers: what the client sends, what the server has, what the client gets back.
const SENT: usize = 0;
const HELD: usize = 1;
const BACK: usize = 2;

impl Connection {
    /// Connects to ourselves, by the ring as far as this kernel can.
    pub fn open(ring: &mut RawRing, here: &Capabilities) -> Result<Self, Failure> {
        let failed = |error| Failure::of("cannot listen on the loopback interface", error);
        let listener = TcpListener::bind("127.0.0.1:0").map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        if here.has_op(Opcode::SOCKET) {
            let client = new_socket(ring)?;
            let server = meet(ring, listener.as_fd(), client.as_fd(), address)?;
            return Ok(Self { client, server, made_by: "SOCKET, CONNECT and ACCEPT" });
        }
        // Before Linux 5.19 a socket is made by `socket(2)`. The connection waits to be accepted.
        let client = TcpStream::connect(address).map_err(|error| Failure::of("connect", error))?;
        let mut loans = Loans::new(ring, 0, 0);
        loans.push(0, Request::Accept { listener: listener.as_fd() })?;
        let server = made(&mut loans, "accept")?;
        Ok(Self { client: client.into(), server, made_by: "std, and ACCEPT" })
    }

    /// Sends `rounds` messages there and back, and checks every byte.
    pub fn exchange(&self, ring: &mut RawRing, rounds: u8) -> Result<(), Failure> {
        let mut loans = Loans::new(ring, 3, MESSAGE);
        let (client, server) = (self.client.as_fd(), self.server.as_fd());
        for round in 0..rounds {
            loans
                .buffer(SENT)
                .iter_mut()
                .zip(0..=u8::MAX)
                .for_each(|(byte, at)| *byte = at ^ round);
            loans.buffer(HELD).fill(0);
            loans.buffer(BACK).fill(0);
            carry(&mut loans, (client, SENT), (server, HELD))?;
            carry(&mut loans, (server, HELD), (client, BACK))?;
            let sent = loans.buffer(SENT).to_vec();
            if loans.buffer(BACK) != sent {
                return Err(Failure::Failed(format!("echo {round} is not what was sent")));
            }
        }
        Ok(())
    }
}

/// Makes a socket.
fn new_socket(ring: &mut RawRing) -> Result<OwnedFd, Failure> {
    let mut loans = Loans::new(ring, 0, 0);
    loans.push(0, Request::Socket)?;
    made(&mut loans, "socket")
}

/// The descriptor that the one request in flight makes.
fn made(loans: &mut Loans<'_, '_>, what: &str) -> Result<OwnedFd, Failure> {
    let done = loans.next()?;
    done.result.map_err(|errno| Failure::of(what, errno))?;
    done.made.ok_or_else(|| Failure::Failed(format!("{what} made no descriptor")))
}

/// Accepts at one end while the other connects.
fn meet(
    ring: &mut RawRing,
    listener: BorrowedFd<'_>,
    client: BorrowedFd<'_>,
    address: SocketAddr,
) -> Result<OwnedFd, Failure> {
    const ACCEPT: u64 = 0;
    const CONNECT: u64 = 1;
    let mut loans = Loans::new(ring, 1, size_of::<libc::sockaddr_in>());
    loans.buffer(0).copy_from_slice(&sockaddr(address)?);
    loans.push(ACCEPT, Request::Accept { listener })?;
    loans.push(CONNECT, Request::Connect { socket: client, buffer: 0 })?;
    let mut server = None;
    for _ in 0..2 {
        let done = loans.next()?;
        let what = if done.id == ACCEPT { "accept" } else { "connect" };
        done.result.map_err(|errno| Failure::of(what, errno))?;
        server = server.or(done.made);
    }
    server.ok_or_else(|| Failure::Failed("accept made no descriptor".into()))
}

/// A `struct sockaddr_in`, by its bytes: family, port, address, padding.
fn sockaddr(address: SocketAddr) -> Result<[u8; 16], Failure> {
    let SocketAddr::V4(address) = address else {
        return Err(Failure::Failed(format!("{address} is no address of IPv4")));
    };
    let mut bytes = [0; 16];
    const { assert!(size_of::<libc::sockaddr_in>() == 16) };
    let family = u16::try_from(libc::AF_INET).unwrap_or_default();
    bytes[0..2].copy_from_slice(&family.to_ne_bytes());
    bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
    bytes[4..8].copy_from_slice(&address.ip().octets());
    Ok(bytes)
}

/// Brings a message from a buffer at one end into a buffer at the other.
fn carry<'f>(
    loans: &mut Loans<'_, 'f>,
    (from, source): (BorrowedFd<'f>, usize),
    (to, target): (BorrowedFd<'f>, usize),
) -> Result<(), Failure> {
    const SEND: u64 = 0;
    const RECV: u64 = 1;
    let (mut sent, mut received) = (0, 0);
    while received < MESSAGE {
        let mut in_flight = 1;
        if sent < MESSAGE {
            loans.push(SEND, Request::Send { socket: from, buffer: source, from: sent })?;
            in_flight += 1;
        }
        loans.push(RECV, Request::Recv { socket: to, buffer: target, from: received })?;
        for _ in 0..in_flight {
            let done = loans.next()?;
            let what = if done.id == SEND { "send" } else { "recv" };
            match (done.id, done.result) {
                (SEND, Ok(count)) => sent += count as usize,
                (_, Ok(0)) => return Err(Failure::Failed("the peer has hung up".into())),
                (_, Ok(count)) => received += count as usize,
                (_, Err(errno)) if errno.is(libc::EINTR) => {} // Once more.
                (_, Err(errno)) => return Err(Failure::of(what, errno)),
            }
        }
    }
    Ok(())
}
