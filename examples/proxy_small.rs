//! A TCP proxy in seventy lines: what comes from a client goes to the server, and back.
//!
//! ```text
//!   AcceptMulti ─► Connect ─┬─ relay: Recv from the client ─► Send to the server ─► relay …
//!                           └─ relay: Recv from the server ─► Send to the client ─► relay …
//! ```
//!
//! When one side has sent everything, the other is told so (half-close), and can still answer. The
//! streams close when both directions are over.
//!
//! Try it: `proxy_small 127.0.0.1:8080 example.com:80`, and a browser. Linux 5.19.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::rc::Rc;
use std::time::Duration;

use annulus::op::{self, AcceptMulti, Connect, Domain, SendFlags, Socket, SocketKind, Timeout};
use annulus::{Arrival, EventLoop, Io, Setup};

/// Relays between its clients and a server.
#[derive(clap::Parser)]
struct Arguments {
    /// Where to listen.
    address: String,
    /// Where the server is.
    server: String,
}

/// Where the server is.
type Server = SocketAddr;

fn main() -> io::Result<()> {
    let Arguments { address, server } = clap::Parser::parse();
    let server = server.to_socket_addrs()?.next().ok_or(io::ErrorKind::NotFound)?;
    let listener = TcpListener::bind(address)?;
    println!("from {} to {server}", listener.local_addr()?);
    let mut events = EventLoop::new(Setup::new(256).build_for()?, server);
    accept(&mut events.io(), listener)?;
    Ok(events.run(|_, error| eprintln!("{error}"))?)
}

/// Accepts clients, without end, and connects each to the server.
fn accept(io: &mut Io<'_, Server>, listener: TcpListener) -> io::Result<()> {
    io.submit_multishot(AcceptMulti::new(listener), |io, arrival| match arrival {
        Arrival::Item(client) => connect(io, TcpStream::from(client?)),
        // No descriptor is left, for example: in a moment there may be one.
        Arrival::End(ended) => {
            let pause = Timeout::new(Duration::from_millis(100));
            io.submit(pause, |io, _| accept(io, ended.fd))?;
            ended.how.ok().map(drop)
        }
    })?;
    Ok(())
}

/// Connects `client` to the server.
fn connect(io: &mut Io<'_, Server>, client: TcpStream) -> io::Result<()> {
    let socket = Socket::new(Domain::of(io.state), SocketKind::STREAM);
    io.submit(socket, |io, server| {
        let connect = Connect::new(TcpStream::from(server?), *io.state);
        io.submit(connect, |io, connected| {
            connected.result?;
            let (client, server) = (Rc::new(client), Rc::new(connected.fd));
            relay(io, Rc::clone(&client), Rc::clone(&server), Vec::with_capacity(16 << 10))?;
            relay(io, server, client, Vec::with_capacity(16 << 10))
        })?;
        Ok(())
    })?;
    Ok(())
}

/// Sends to `to` what comes from `from`, until there is no more.
fn relay(
    io: &mut Io<'_, Server>,
    from: Rc<TcpStream>,
    to: Rc<TcpStream>,
    buf: Vec<u8>,
) -> io::Result<()> {
    io.submit(op::Recv::new(from, buf), |io, received| match received.result {
        Ok(0) => to.shutdown(Shutdown::Write),
        Ok(_) => {
            let send = op::Send::new(to, received.buf).flags(SendFlags::WAIT_ALL);
            io.submit(send, |io, sent| match sent.result {
                Ok(_) => relay(io, received.fd, sent.fd, sent.buf),
                Err(error) => give_up(&received.fd, &sent.fd, error),
            })?;
            Ok(())
        }
        Err(error) => give_up(&received.fd, &to, error),
    })?;
    Ok(())
}

/// Ends both directions.
fn give_up(from: &TcpStream, to: &TcpStream, error: io::Error) -> io::Result<()> {
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    Err(error)
}
