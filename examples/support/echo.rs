//! An echo over TCP with both ends on one ring, and with borrowed buffers.
//!
//! ```text
//!   client  send ──► recv  server          one submit for the pair
//!   client  recv ◄── send  server          and one for the way back
//! ```
//!
//! A send or a receive may move less than a whole message; the rest is submitted again. Each way is
//! a scope, so that buffers and sockets need only be lent.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use annulus::op::{Accept, Connect, Domain, Recv, Send, Socket, SocketKind};
use annulus::sys::opcode::Opcode;
use annulus::{Capabilities, Ring};

use crate::support::{Failure, failed};

/// The bytes in a message.
pub const MESSAGE: usize = 256;

/// The two ends of a connection.
#[derive(Debug)]
pub struct Connection {
    client: OwnedFd,
    server: OwnedFd,
    /// The operations that made the connection.
    pub made_by: &'static str,
}

impl Connection {
    /// Connects to this process itself, through the ring as far as this kernel can.
    pub fn open(ring: &mut Ring, here: &Capabilities) -> Result<Self, Failure> {
        let (listener, address) = listen().map_err(failed("cannot listen on loopback"))?;
        if here.has_op(Opcode::SOCKET) {
            let socket = ring.submit(Socket::new(Domain::V4, SocketKind::STREAM))?;
            let client = ring.wait(socket)?.map_err(failed("socket"))?;
            let server = meet(ring, &listener, &client, address)?;
            return Ok(Self { client, server, made_by: "SOCKET, CONNECT and ACCEPT" });
        }
        // Before Linux 5.19 a socket is made by `socket(2)`. The connection waits to be accepted.
        let client = TcpStream::connect(address).map_err(failed("connect"))?;
        let accept = ring.submit(Accept::new(listener))?;
        let server = ring.wait(accept)?.result.map_err(failed("accept"))?;
        Ok(Self { client: client.into(), server, made_by: "std, and ACCEPT" })
    }

    /// Sends `rounds` messages there and back, and checks every byte.
    pub fn exchange(&self, ring: &mut Ring, rounds: u8) -> Result<(), Failure> {
        let (mut sent, mut held, mut back) = ([0; MESSAGE], [0; MESSAGE], [0; MESSAGE]);
        for round in 0..rounds {
            sent.iter_mut().zip(0..=u8::MAX).for_each(|(byte, at)| *byte = at ^ round);
            held.fill(0);
            back.fill(0);
            carry(ring, &self.client, &sent, &self.server, &mut held)?;
            carry(ring, &self.server, &held, &self.client, &mut back)?;
            if back != sent {
                return Err(Failure::Failed(format!("echo {round} is not what was sent")));
            }
        }
        Ok(())
    }
}

fn listen() -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Accepts at one end while the other connects. If one of them fails, the other is cancelled at the
/// end of the scope.
fn meet(
    ring: &mut Ring,
    listener: &TcpListener,
    client: &OwnedFd,
    address: SocketAddr,
) -> Result<OwnedFd, Failure> {
    ring.scope(|scope| {
        let accept = scope.submit(Accept::new(listener))?;
        let connect = scope.submit(Connect::new(client, address))?;
        scope.wait(connect)?.result.map_err(failed("connect"))?;
        scope.wait(accept)?.result.map_err(failed("accept"))
    })
}

/// Carries a message from one end to the other.
fn carry(
    ring: &mut Ring,
    from: &OwnedFd,
    message: &[u8],
    to: &OwnedFd,
    buf: &mut [u8],
) -> Result<(), Failure> {
    let (mut sent, mut received) = (0, 0);
    while received < message.len() {
        ring.scope(|scope| {
            // When everything is sent, this sends nothing.
            let send = scope.submit(Send::new(from, &message[sent..]))?;
            let recv = scope.submit(Recv::new(to, &mut buf[received..]))?;
            // If it fails, nothing will come, and the scope cancels the receive.
            sent += match scope.wait(send)?.result {
                Err(error) if error.kind() == ErrorKind::Interrupted => 0, // Try again.
                result => result.map_err(failed("send"))?,
            };
            received += match scope.wait(recv)?.result {
                Ok(0) => return Err(Failure::Failed("the peer has hung up".into())),
                Err(error) if error.kind() == ErrorKind::Interrupted => 0,
                result => result.map_err(failed("recv"))?,
            };
            Ok(())
        })?;
    }
    Ok(())
}
