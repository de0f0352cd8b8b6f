//! An echo server and its clients, all of them tasks of one runtime.
//!
//! ```text
//!   demonstrate ─┬─ serve ── a connection ──► echo: Recv ─► Send ─► Recv ..
//!                ├─ talk, a task for each client: Socket ─► Connect ─► Send ─► Recv ..
//!                └─ a read of a silent peer, which loses against a timer
//! ```

use std::future::{Future, poll_fn};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use annulus::buf::{Append, SliceExt};
use annulus::future::Reactor;
use annulus::op::{AcceptMulti, Connect, Domain, Ending, Recv, Send, Socket, SocketKind};

use super::Runtime;

/// Lets clients talk to the server at `address`, where `listener` listens. Returns how many bytes
/// came back.
pub async fn demonstrate(
    runtime: Runtime,
    listener: TcpListener,
    address: SocketAddr,
    clients: u32,
    rounds: u32,
) -> io::Result<u64> {
    let mut server = Box::pin(runtime.spawn(serve(runtime.clone(), listener)));
    let reactor = runtime.reactor();
    let talks = (0..clients).map(|number| {
        let talk = talk(reactor.clone(), address, number, rounds);
        runtime.spawn(talk)
    });
    let mut bytes = 0;
    for talk in talks.collect::<Vec<_>>() {
        bytes += unless_over(server.as_mut(), talk).await??;
    }
    let silent = connect(reactor, address).await?;
    let read = reactor.run(Recv::new(silent, vec![0; 64].into_boxed_slice()));
    match reactor.timeout(Duration::from_millis(5), read).await {
        Some(_) => Err(io::Error::other("the server spoke first")),
        None => Ok(bytes),
    }
}

/// The output of `talk`; or why the server has ended, because then a talk may never end.
async fn unless_over<T>(
    mut server: Pin<&mut impl Future<Output = io::Error>>,
    talk: impl Future<Output = T>,
) -> io::Result<T> {
    let mut talk = pin!(talk);
    poll_fn(|context| match server.as_mut().poll(context) {
        Poll::Ready(error) => Poll::Ready(Err(error)),
        Poll::Pending => talk.as_mut().poll(context).map(Ok),
    })
    .await
}

/// The server: a task for each connection. Returns why it has stopped.
pub async fn serve(runtime: Runtime, listener: TcpListener) -> io::Error {
    let listener = Rc::new(listener);
    loop {
        let mut connections = runtime.reactor().items(AcceptMulti::new(Rc::clone(&listener)));
        while let Some(connection) = connections.next().await {
            match connection {
                Ok(connection) => drop(runtime.spawn(echo(runtime.reactor().clone(), connection))),
                Err(error) => return error,
            }
        }
        match connections.end() {
            Some(Ok(end)) if end.how.wants_more() => {}
            Some(Ok(end)) => match end.how {
                Ending::Failed(error) => return error,
                how => return io::Error::other(format!("no more connections: {how:?}")),
            },
            Some(Err(rejected)) => return rejected.into(),
            None => unreachable!("the stream is over"),
        }
    }
}

// ANCHOR: echo
/// Sends back all data, until no more comes, or the peer has vanished.
async fn echo(reactor: Reactor, connection: OwnedFd) -> io::Result<()> {
    let (connection, mut buf) = (Rc::new(connection), Vec::with_capacity(4096));
    loop {
        let received = reactor.run(Recv::new(Rc::clone(&connection), buf)).await?;
        if received.result? == 0 {
            return Ok(());
        }
        buf = send_all(&reactor, &connection, received.buf).await?;
        buf.clear();
    }
}
// ANCHOR_END: echo

/// A client: sends, and reads until its whole message came back. Returns how many bytes did.
async fn talk(reactor: Reactor, server: SocketAddr, number: u32, rounds: u32) -> io::Result<u64> {
    let (socket, mut bytes) = (connect(&reactor, server).await?, 0);
    for round in 0..rounds {
        let text = format!("client {number}, round {round}").into_bytes();
        let sent = send_all(&reactor, &socket, text).await?;
        let mut back = Vec::with_capacity(sent.len());
        while back.len() < sent.len() {
            let received = reactor.run(Recv::new(Rc::clone(&socket), Append::new(back))).await?;
            match received.result? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                _ => back = received.buf.into_inner(),
            }
        }
        if back != sent {
            return Err(io::Error::other("the echo is not what was said"));
        }
        bytes += back.len() as u64;
    }
    Ok(bytes)
}

async fn connect(reactor: &Reactor, server: SocketAddr) -> io::Result<Rc<OwnedFd>> {
    let socket = reactor.run(Socket::new(Domain::V4, SocketKind::STREAM)).await??;
    let connected = reactor.run(Connect::new(Rc::new(socket), server)).await?;
    connected.result.map(|()| connected.fd)
}

/// Sends all of `buf`, however short the sends are, and gives it back.
async fn send_all(reactor: &Reactor, to: &Rc<OwnedFd>, mut buf: Vec<u8>) -> io::Result<Vec<u8>> {
    let mut sent = 0;
    while sent < buf.len() {
        let send = reactor.run(Send::new(Rc::clone(to), buf.slice(sent..))).await?;
        sent += send.result?;
        buf = send.buf.into_inner();
    }
    Ok(buf)
}
