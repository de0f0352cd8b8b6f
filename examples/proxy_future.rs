//! A TCP proxy in forty lines of `async`: what comes from a client goes to the server, and back.
//!
//! ```text
//!   a task for each client: Socket ─► Connect ─► try_zip ─┬─ relay from the client to the server
//!                                                         └─ relay from the server to the client
//! ```
//!
//! When one side has sent everything, the other is told so (half-close), and can still answer. When
//! one direction fails, the other is dropped: its receive is cancelled, and the streams close.
//!
//! Try it: `proxy_future 127.0.0.1:8080 example.com:80`, and a browser. Linux 5.19.

use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::{io, rc::Rc, time::Duration};

use annulus::op::{AcceptMulti, Connect, Domain, Recv, Send, SendFlags, Socket, SocketKind};
use annulus::{Setup, future::Reactor};

fn main() -> io::Result<()> {
    let usage = clap::Command::new("proxy_future").arg(clap::arg!(<ADDRESS> "where to listen"));
    let usage = usage.arg(clap::arg!(<SERVER> "where the server is")).get_matches();
    let argument = |name| usage.get_one::<String>(name).unwrap();
    let server = argument("SERVER").to_socket_addrs()?.next().ok_or(io::ErrorKind::NotFound)?;
    let listener = Rc::new(TcpListener::bind(argument("ADDRESS"))?);
    println!("from {} to {server}", listener.local_addr()?);
    let (reactor, tasks) = (Reactor::new(Setup::new(256).build_for()?), smol::LocalExecutor::new());
    reactor.block_on(tasks.run(async {
        loop {
            let mut clients = reactor.items(AcceptMulti::new(Rc::clone(&listener)));
            while let Some(Ok(client)) = clients.next().await {
                tasks.spawn(connect(reactor.clone(), client.into(), server)).detach();
            }
            // No descriptor is left, for example: in a moment there may be one.
            reactor.sleep(Duration::from_millis(100)).await??;
        }
    }))?
}

/// Connects `client` to the server, and relays both ways.
async fn connect(reactor: Reactor, client: TcpStream, server: SocketAddr) -> io::Result<()> {
    let socket = reactor.run(Socket::new(Domain::of(&server), SocketKind::STREAM)).await??;
    let connected = reactor.run(Connect::new(TcpStream::from(socket), server)).await?;
    let (client, server) = connected.result.map(|()| (Rc::new(client), Rc::new(connected.fd)))?;
    let (there, back) = (relay(&reactor, &client, &server), relay(&reactor, &server, &client));
    smol::future::try_zip(there, back).await.map(drop)
}

/// Sends to `to` what comes from `from`, until there is no more.
async fn relay(reactor: &Reactor, from: &Rc<TcpStream>, to: &Rc<TcpStream>) -> io::Result<()> {
    let mut buf = Vec::with_capacity(16 << 10);
    loop {
        let received = reactor.run(Recv::new(Rc::clone(from), buf)).await?;
        if received.result? == 0 {
            return to.shutdown(Shutdown::Write);
        }
        let send = Send::new(Rc::clone(to), received.buf).flags(SendFlags::WAIT_ALL);
        (_, buf) = reactor.run(send).await?.ok()?;
    }
}
