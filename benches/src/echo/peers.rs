//! Servers over runtimes and `mio`: a task for each connection, or an event loop of `epoll`.
//!
//! | server | how |
//! |---|---|
//! | `monoio` | one thread, a task for each connection, a ring with `DEFER_TASKRUN` |
//! | `tokio-uring` | one thread, a task for each connection, a ring with `COOP_TASKRUN` |
//! | `mio` | one thread, edge-triggered `epoll`, a `read` and a `write` for each that is ready |
//!
//! tokio-uring waits in `epoll` and not in its ring, so the ring cannot defer its work until then.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpListener;

use mio::{Events, Interest, Poll, Token};

use super::calls;

const ENTRIES: u32 = 2048;

pub fn monoio(listener: TcpListener, bytes: usize) -> ! {
    use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
    let mut ring = io_uring_of_monoio::IoUring::builder();
    ring.setup_single_issuer().setup_defer_taskrun();
    ring.setup_taskrun_flag().setup_submit_all();
    let builder = monoio::RuntimeBuilder::<monoio::IoUringDriver>::new();
    let runtime = builder.with_entries(ENTRIES).uring_builder(ring).build();
    runtime.expect("a runtime").block_on(async move {
        let listener = monoio::net::TcpListener::from_std(listener).expect("a socket");
        loop {
            let (mut stream, _) = listener.accept().await.expect("a client");
            stream.set_nodelay(true).expect("a socket");
            monoio::spawn(async move {
                let mut block = Vec::with_capacity(bytes);
                loop {
                    let (count, read) = stream.read(block).await;
                    if !matches!(count, Ok(1..)) {
                        return;
                    }
                    // The block's length is now what was read.
                    let (written, sent) = stream.write_all(read).await;
                    if written.is_err() {
                        return;
                    }
                    block = sent;
                    block.clear();
                }
            });
        }
    })
}

pub fn tokio_uring(listener: TcpListener, bytes: usize) -> ! {
    let mut ring = tokio_uring::uring_builder();
    ring.setup_single_issuer().setup_coop_taskrun().setup_taskrun_flag().setup_submit_all();
    let mut builder = tokio_uring::builder();
    builder.entries(ENTRIES).uring_builder(&ring);
    builder.start(async move {
        let listener = tokio_uring::net::TcpListener::from_std(listener);
        loop {
            let (stream, _) = listener.accept().await.expect("a client");
            stream.set_nodelay(true).expect("a socket");
            tokio_uring::spawn(async move {
                let mut block = Vec::with_capacity(bytes);
                loop {
                    let (count, read) = stream.read(block).await;
                    if !matches!(count, Ok(1..)) {
                        return;
                    }
                    // The block's length is now what was read.
                    let (written, sent) = stream.write_all(read).await;
                    if written.is_err() {
                        return;
                    }
                    block = sent;
                    block.clear();
                }
            });
        }
    })
}

pub fn mio(listener: TcpListener, bytes: usize) -> ! {
    const LISTENER: Token = Token(usize::MAX);
    listener.set_nonblocking(true).expect("a socket");
    let mut listener = mio::net::TcpListener::from_std(listener);
    let mut poll = Poll::new().expect("an epoll");
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE).expect("a socket");
    let mut streams: Vec<Option<mio::net::TcpStream>> = Vec::new();
    let mut events = Events::with_capacity(256);
    // Longer than a message: a read that returns less than was asked for has taken all there is
    // (epoll(7)), so no second read has to find that out.
    let mut block = vec![0; bytes + 1];
    loop {
        poll.poll(&mut events, None).expect("an epoll");
        calls::add(1);
        for event in &events {
            if event.token() == LISTENER {
                while let Some(mut stream) = accept(&listener) {
                    let token = Token(streams.len());
                    poll.registry().register(&mut stream, token, Interest::READABLE).expect("room");
                    streams.push(Some(stream));
                }
                continue;
            }
            let place = &mut streams[event.token().0];
            if let Some(stream) = place
                && !echo(stream, &mut block)
            {
                *place = None;
            }
        }
    }
}

fn accept(listener: &mio::net::TcpListener) -> Option<mio::net::TcpStream> {
    match listener.accept() {
        Ok((stream, _)) => {
            stream.set_nodelay(true).expect("a socket");
            Some(stream)
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(error) => panic!("{error}"),
    }
}

/// Sends back all that has come; whether the connection goes on.
fn echo(stream: &mut mio::net::TcpStream, block: &mut [u8]) -> bool {
    loop {
        match stream.read(block) {
            Ok(count @ 1..) => {
                stream.write_all(&block[..count]).expect("room for an answer");
                calls::add(2);
                if count < block.len() {
                    return true;
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
            _ => return false,
        }
    }
}
