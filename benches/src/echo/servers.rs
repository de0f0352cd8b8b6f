//! The servers: each sends back whatever comes, as its library is used best, and does nothing else.
//!
//! | server | how |
//! |---|---|
//! | `threads` | a thread for each connection, blocking |
//! | `epoll` | one thread, `epoll_wait`, then a `read` and a `write` for each that is ready |
//! | `tokio` | one thread, a task for each connection |
//! | `epoll-2020` | the same, and answers twice as much as it got: a bug, see below |
//! | `io-uring` | a receive, then a send; one enter for all that is ready |
//! | `annulus-…` | the steps of `ladder.rs` |
//! | `annulus-loop` | the safe event loop, with closures |
//!
//! With the feature `peers` there are those of `peers.rs`.
//!
//! `epoll-2020` is what io_uring was compared with in 2020: an echo server that sent its whole
//! buffer back, 1,024 bytes for 512. It shows what that mistake costs, and is no contender.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::rc::Rc;

use annulus::op::{self, AcceptMulti, SendFlags};
use annulus::{Arrival, EventLoop, Io, Setup};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use super::ladder::{self, ACCEPT, Connection, Enters, Files, RECEIVE, SEND, name, nodelay};
#[cfg(feature = "peers")]
use super::peers;
use super::{bundles, calls};

/// How a server serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    Threads,
    Epoll,
    /// Answers twice as much as it got.
    #[value(name = "epoll-2020")]
    Epoll2020,
    Tokio,
    IoUring,
    AnnulusSingle,
    Annulus,
    AnnulusPollFirst,
    AnnulusZeroCopy,
    AnnulusDirect,
    AnnulusMultishot,
    AnnulusMultishotDirect,
    AnnulusBundle,
    AnnulusLoop,
    #[cfg(feature = "peers")]
    Monoio,
    #[cfg(feature = "peers")]
    TokioUring,
    #[cfg(feature = "peers")]
    Mio,
}

impl Kind {
    pub fn name(self) -> String {
        let value = clap::ValueEnum::to_possible_value(&self).expect("none is skipped");
        value.get_name().to_owned()
    }

    /// How long the answer to a message of so many bytes is: as long, but for the mistake of 2020.
    pub fn answer(self, bytes: usize) -> usize {
        if self == Self::Epoll2020 { 2 * bytes } else { bytes }
    }
}

/// Serves until the process is killed.
pub fn run(kind: Kind, bytes: usize) -> ! {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    println!("{}", listener.local_addr().expect("it is bound"));
    calls::answer();
    match kind {
        Kind::Threads => threads(&listener, bytes),
        Kind::Epoll => with_epoll(&listener, bytes, Answer::Same),
        Kind::Epoll2020 => with_epoll(&listener, bytes, Answer::WholeBuffer),
        Kind::Tokio => with_tokio(listener, bytes),
        Kind::IoUring => peer(&listener, bytes),
        Kind::AnnulusSingle => ladder::raw(&listener, bytes, Enters::Each, ladder::AT_ONCE),
        Kind::Annulus => ladder::raw(&listener, bytes, Enters::All, ladder::AT_ONCE),
        Kind::AnnulusPollFirst => ladder::raw(&listener, bytes, Enters::All, ladder::POLL_FIRST),
        Kind::AnnulusZeroCopy => ladder::zero_copy(&listener, bytes),
        Kind::AnnulusDirect => ladder::direct(&listener, bytes),
        Kind::AnnulusMultishot => ladder::multishot(&listener, bytes, Files::Descriptors),
        Kind::AnnulusMultishotDirect => ladder::multishot(&listener, bytes, Files::Table),
        Kind::AnnulusBundle => bundles::bundle(&listener, bytes),
        Kind::AnnulusLoop => event_loop(listener, bytes),
        #[cfg(feature = "peers")]
        Kind::Monoio => peers::monoio(listener, bytes),
        #[cfg(feature = "peers")]
        Kind::TokioUring => peers::tokio_uring(listener, bytes),
        #[cfg(feature = "peers")]
        Kind::Mio => peers::mio(listener, bytes),
    }
}

fn threads(listener: &TcpListener, bytes: usize) -> ! {
    loop {
        let (mut stream, _) = listener.accept().expect("a client");
        stream.set_nodelay(true).expect("a socket");
        std::thread::spawn(move || {
            let mut block = vec![0; bytes];
            while let Ok(count @ 1..) = stream.read(&mut block) {
                calls::add(2);
                if stream.write_all(&block[..count]).is_err() {
                    return;
                }
            }
        });
    }
}

/// What is sent back.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// What came.
    Same,
    /// All of a buffer that has room for twice as much.
    WholeBuffer,
}

fn with_epoll(listener: &TcpListener, bytes: usize, answer: Answer) -> ! {
    const LISTENER: u64 = u64::MAX;
    let poll = epoll::create(CreateFlags::CLOEXEC).expect("an epoll");
    epoll::add(&poll, listener, EventData::new_u64(LISTENER), EventFlags::IN).expect("a socket");
    let mut streams: Vec<Option<TcpStream>> = Vec::new();
    let mut events = Vec::with_capacity(256);
    let mut buffer = vec![0; 2 * bytes];
    loop {
        events.clear();
        let spare = rustix::buffer::spare_capacity(&mut events);
        epoll::wait(&poll, spare, None).expect("an epoll");
        calls::add(1);
        for event in &events {
            let at = event.data.u64();
            if at == LISTENER {
                let (stream, _) = listener.accept().expect("a client");
                stream.set_nodelay(true).expect("a socket");
                let number = EventData::new_u64(streams.len() as u64);
                epoll::add(&poll, &stream, number, EventFlags::IN).expect("a socket");
                streams.push(Some(stream));
                continue;
            }
            let place = &mut streams[at as usize];
            let Some(stream) = place else { continue };
            let Ok(count @ 1..) = stream.read(&mut buffer[..bytes]) else {
                *place = None;
                continue;
            };
            let count = if answer == Answer::Same { count } else { buffer.len() };
            stream.write_all(&buffer[..count]).expect("room for an answer");
            calls::add(2);
        }
    }
}

fn with_tokio(listener: TcpListener, bytes: usize) -> ! {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
    runtime.expect("a runtime").block_on(async move {
        listener.set_nonblocking(true).expect("a socket");
        let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
        loop {
            let (mut stream, _) = listener.accept().await.expect("a client");
            stream.set_nodelay(true).expect("a socket");
            tokio::spawn(async move {
                let mut block = vec![0; bytes];
                while let Ok(count @ 1..) = stream.read(&mut block).await {
                    if stream.write_all(&block[..count]).await.is_err() {
                        return;
                    }
                }
            });
        }
    })
}

fn peer(listener: &TcpListener, bytes: usize) -> ! {
    use io_uring::{opcode, types};
    let mut builder = io_uring::IoUring::<io_uring::squeue::Entry>::builder();
    builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag();
    let mut ring: io_uring::IoUring = builder.setup_submit_all().build(2048).expect("a ring");
    let mut connections: Vec<Connection> = Vec::new();
    let accept = opcode::AcceptMulti::new(types::Fd(listener.as_raw_fd())).build();
    // SAFETY: it points to nothing.
    unsafe { ring.submission().push(&accept.user_data(name(0, ACCEPT))) }.expect("room");
    let mut came = Vec::new();
    loop {
        ring.submit_and_wait(1).expect("submit");
        calls::add(1);
        came.extend(ring.completion().map(|cqe| (cqe.user_data(), cqe.result())));
        let mut sq = ring.submission();
        for (data, result) in came.drain(..) {
            let at = (data >> 2) as usize;
            let entry = match data & 3 {
                ACCEPT => {
                    nodelay(result);
                    let at = connections.len();
                    connections.push(Connection { file: result, block: vec![0; bytes] });
                    let Connection { file, block } = &mut connections[at];
                    let receive =
                        opcode::Recv::new(types::Fd(*file), block.as_mut_ptr(), bytes as u32);
                    receive.build().user_data(name(at, RECEIVE))
                }
                RECEIVE if result > 0 => {
                    let Connection { file, block } = &connections[at];
                    let send = opcode::Send::new(types::Fd(*file), block.as_ptr(), result as u32);
                    send.build().user_data(name(at, SEND))
                }
                SEND if result > 0 => {
                    let Connection { file, block } = &mut connections[at];
                    let receive =
                        opcode::Recv::new(types::Fd(*file), block.as_mut_ptr(), bytes as u32);
                    receive.build().user_data(name(at, RECEIVE))
                }
                _ => continue,
            };
            // SAFETY: the block lives as long as this program, and has one entry at a time.
            unsafe { sq.push(&entry) }.expect("room");
        }
    }
}

fn event_loop(listener: TcpListener, bytes: usize) -> ! {
    let mut events = EventLoop::new(Setup::new(2048).build_for().expect("a ring"), ());
    let accepted = events.io().submit_multishot(AcceptMulti::new(listener), move |io, arrival| {
        if let Arrival::Item(fd) = arrival {
            let stream = TcpStream::from(fd?);
            stream.set_nodelay(true)?;
            answer(io, Rc::new(stream), Vec::with_capacity(bytes))?;
        }
        Ok(())
    });
    accepted.expect("room");
    // A client that is gone is no concern of the others.
    events.run(|_, _| ()).expect("it goes on");
    unreachable!("the listener stays open");
}

/// Receives, sends back, and goes on.
fn answer(io: &mut Io<'_, ()>, stream: Rc<TcpStream>, block: Vec<u8>) -> std::io::Result<()> {
    io.submit(op::Recv::new(stream, block), |io, received| {
        if received.result? == 0 {
            return Ok(());
        }
        calls::set(io.stats().enters);
        let send = op::Send::new(received.fd, received.buf).flags(SendFlags::WAIT_ALL);
        io.submit(send, |io, sent| {
            sent.result?;
            answer(io, sent.fd, sent.buf)
        })?;
        Ok(())
    })?;
    Ok(())
}
