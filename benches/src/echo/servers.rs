//! The servers: each sends back whatever comes, as its library is used best, and does nothing else.
//!
//! | server | how |
//! |---|---|
//! | `threads` | a thread for each connection, blocking |
//! | `epoll` | one thread, `epoll_wait`, then a `read` and a `write` for each that is ready |
//! | `tokio` | one thread, a task for each connection |
//! | `io-uring` | a receive, then a send; one enter for all that is ready |
//! | `annulus-single` | the same with an enter for each entry: how not to do it |
//! | `annulus` | one enter for all that is ready |
//! | `annulus-direct` | and connections in the ring's file table |
//! | `annulus-multishot` | a receive that goes on, into buffers that the kernel takes |
//! | `annulus-loop` | the safe event loop, with closures |
//!
//! With the feature `peers` there are those of `peers.rs`.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::rc::Rc;

use annulus::op::{self, AcceptMulti, SendFlags};
use annulus::raw::register::{Consumption, RingMemory};
use annulus::sys::abi::{Cqe, Sqe};
use annulus::sys::flags::{AcceptFlags, CqeFlags, RecvSendFlags, SqeFlags};
use annulus::{Arrival, EventLoop, Io, RawRing, Setup, prep};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

#[cfg(feature = "peers")]
use super::peers;

/// How a server serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    Threads,
    Epoll,
    Tokio,
    IoUring,
    AnnulusSingle,
    Annulus,
    AnnulusDirect,
    AnnulusMultishot,
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
}

/// Serves until the process is killed.
pub fn run(kind: Kind, bytes: usize) -> ! {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    println!("{}", listener.local_addr().expect("it is bound"));
    match kind {
        Kind::Threads => threads(&listener, bytes),
        Kind::Epoll => with_epoll(&listener, bytes),
        Kind::Tokio => with_tokio(listener, bytes),
        Kind::IoUring => peer(&listener, bytes),
        Kind::AnnulusSingle => raw(&listener, bytes, Enters::Each),
        Kind::Annulus => raw(&listener, bytes, Enters::All),
        Kind::AnnulusDirect => direct(&listener, bytes),
        Kind::AnnulusMultishot => multishot(&listener, bytes),
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
                if stream.write_all(&block[..count]).is_err() {
                    return;
                }
            }
        });
    }
}

fn with_epoll(listener: &TcpListener, bytes: usize) -> ! {
    const LISTENER: u64 = u64::MAX;
    let poll = epoll::create(CreateFlags::CLOEXEC).expect("an epoll");
    epoll::add(&poll, listener, EventData::new_u64(LISTENER), EventFlags::IN).expect("a socket");
    let mut streams: Vec<Option<TcpStream>> = Vec::new();
    let mut events = Vec::with_capacity(256);
    let mut block = vec![0; bytes];
    loop {
        events.clear();
        let spare = rustix::buffer::spare_capacity(&mut events);
        epoll::wait(&poll, spare, None).expect("an epoll");
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
            match stream.read(&mut block) {
                Ok(count @ 1..) => stream.write_all(&block[..count]).expect("room for an answer"),
                _ => *place = None,
            }
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

/// A connection: its socket, or its place in the file table, and its buffer.
struct Connection {
    file: i32,
    block: Vec<u8>,
}

/// The `user_data` of an entry: which connection, and what it does.
const ACCEPT: u64 = 0;
const RECEIVE: u64 = 1;
const SEND: u64 = 2;

fn name(at: usize, what: u64) -> u64 {
    (at as u64) << 2 | what
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

/// How often `raw` enters the kernel.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Enters {
    /// For each entry.
    Each,
    /// Once for all that is ready.
    All,
}

fn ring() -> RawRing {
    Setup::new(2048).build_raw().expect("a ring")
}

fn receive(at: usize, connection: &mut Connection) -> Sqe {
    let address = connection.block.as_mut_ptr().expose_provenance() as u64;
    let len = connection.block.len() as u32;
    let sqe = prep::recv(connection.file, address, len, 0, RecvSendFlags::empty());
    Sqe { user_data: name(at, RECEIVE), ..sqe }
}

fn send(at: usize, connection: &Connection, count: u32) -> Sqe {
    let address = connection.block.as_ptr().expose_provenance() as u64;
    let sqe = prep::send(connection.file, address, count, 0, RecvSendFlags::empty());
    Sqe { user_data: name(at, SEND), ..sqe }
}

fn raw(listener: &TcpListener, bytes: usize, enters: Enters) -> ! {
    let mut ring = ring();
    let mut connections: Vec<Connection> = Vec::new();
    let accept = prep::accept(listener.as_raw_fd(), 0, 0, 0, AcceptFlags::MULTISHOT);
    // SAFETY: it points to nothing.
    unsafe { ring.push(Sqe { user_data: name(0, ACCEPT), ..accept }) }.expect("room");
    let mut came: Vec<Cqe> = Vec::new();
    loop {
        ring.turn(1, |cqe| came.push(cqe)).expect("a turn");
        for cqe in came.drain(..) {
            let at = (cqe.user_data >> 2) as usize;
            let sqe = match (cqe.user_data & 3, cqe.res) {
                (ACCEPT, file @ 0..) => {
                    nodelay(file);
                    connections.push(Connection { file, block: vec![0; bytes] });
                    let at = connections.len() - 1;
                    receive(at, &mut connections[at])
                }
                (RECEIVE, count @ 1..) => send(at, &connections[at], count as u32),
                (SEND, 1..) => receive(at, &mut connections[at]),
                _ => continue,
            };
            // SAFETY: the block lives as long as this program, and has one entry at a time.
            unsafe { ring.push(sqe) }.expect("room");
            if enters == Enters::Each {
                ring.submit().expect("submit");
            }
        }
    }
}

fn direct(listener: &TcpListener, bytes: usize) -> ! {
    let mut ring = ring();
    ring.register_files_sparse(4096).expect("a file table");
    let mut blocks: Vec<Option<Connection>> = Vec::new();
    let accept = prep::accept(listener.as_raw_fd(), 0, 0, 0, AcceptFlags::MULTISHOT);
    let accept = Sqe { file_index: annulus::sys::flags::FILE_INDEX_ALLOC, ..accept };
    // SAFETY: it points to nothing.
    unsafe { ring.push(Sqe { user_data: name(0, ACCEPT), ..accept }) }.expect("room");
    let mut came: Vec<Cqe> = Vec::new();
    let fixed = |sqe: Sqe| Sqe { flags: SqeFlags::FIXED_FILE, ..sqe };
    loop {
        ring.turn(1, |cqe| came.push(cqe)).expect("a turn");
        for cqe in came.drain(..) {
            let at = (cqe.user_data >> 2) as usize;
            let sqe = match (cqe.user_data & 3, cqe.res) {
                (ACCEPT, file @ 0..) => {
                    let at = file as usize;
                    blocks.resize_with(blocks.len().max(at + 1), || None);
                    let new = Connection { file, block: vec![0; bytes] };
                    receive(at, blocks[at].insert(new))
                }
                (what, count @ 1..) => {
                    let connection = blocks[at].as_mut().expect("it was accepted");
                    match what {
                        RECEIVE => send(at, connection, count as u32),
                        _ => receive(at, connection),
                    }
                }
                _ => continue,
            };
            // SAFETY: the block lives as long as this program, and has one entry at a time.
            unsafe { ring.push(fixed(sqe)) }.expect("room");
        }
    }
}

fn multishot(listener: &TcpListener, bytes: usize) -> ! {
    const BUFFERS: u16 = 4096;
    let mut ring = ring();
    let mut memory = vec![0; usize::from(BUFFERS) * bytes];
    let start = memory.as_mut_ptr().expose_provenance() as u64;
    let address = |id: u16| start + u64::from(id) * bytes as u64;
    let group = ring.buffer_group(0, BUFFERS.into(), RingMemory::Kernel, Consumption::Whole);
    let mut group = group.expect("Linux 6.4");
    for id in 0..BUFFERS {
        // SAFETY: the memory lives as long as this program, and is the kernel's from now on.
        unsafe { group.ring().push(address(id), bytes as u32, id) }.expect("room");
    }
    // SAFETY: nothing else is done to the ring of buffers than here.
    unsafe { group.ring() }.flush();
    let accept = prep::accept(listener.as_raw_fd(), 0, 0, 0, AcceptFlags::MULTISHOT);
    // SAFETY: it points to nothing.
    unsafe { ring.push(Sqe { user_data: name(0, ACCEPT), ..accept }) }.expect("room");
    let flags = RecvSendFlags::RECV_MULTISHOT;
    let receive = |file: i32| Sqe {
        user_data: name(file as usize, RECEIVE),
        ..prep::recv_provided(file, 0, 0, 0, flags)
    };
    let mut came: Vec<Cqe> = Vec::new();
    loop {
        ring.turn(1, |cqe| came.push(cqe)).expect("a turn");
        for cqe in came.drain(..) {
            let at = (cqe.user_data >> 2) as usize;
            let sqe = match (cqe.user_data & 3, cqe.res) {
                (ACCEPT, file @ 0..) => {
                    nodelay(file);
                    receive(file)
                }
                (RECEIVE, count @ 1..) => {
                    let id = cqe.buffer_id().expect("a buffer was taken");
                    // SAFETY: returned once, since each completion names another.
                    unsafe { group.ring().taken(1) };
                    let sqe =
                        prep::send(at as i32, address(id), count as u32, 0, RecvSendFlags::empty());
                    // SAFETY: the buffer is offered again only when it was sent.
                    unsafe { ring.push(Sqe { user_data: name(usize::from(id), SEND), ..sqe }) }
                        .expect("room");
                    if cqe.flags.contains(CqeFlags::MORE) {
                        continue;
                    }
                    receive(at as i32)
                }
                (SEND, _) => {
                    let id = at as u16;
                    // SAFETY: it was sent, so the kernel is done with it.
                    unsafe { group.ring().push(address(id), bytes as u32, id) }.expect("room");
                    continue;
                }
                _ => continue,
            };
            // SAFETY: it points to nothing.
            unsafe { ring.push(sqe) }.expect("room");
        }
        // SAFETY: nothing else is done to the ring of buffers than here.
        unsafe { group.ring() }.flush();
    }
}

/// Answers are sent at once.
fn nodelay(file: i32) {
    // SAFETY: the descriptor stays open: it is taken out of the value again.
    let stream = TcpStream::from(unsafe { OwnedFd::from_raw_fd(file) });
    stream.set_nodelay(true).expect("a socket");
    let _ = stream.into_raw_fd();
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
        let send = op::Send::new(received.fd, received.buf).flags(SendFlags::WAIT_ALL);
        io.submit(send, |io, sent| {
            sent.result?;
            answer(io, sent.fd, sent.buf)
        })?;
        Ok(())
    })?;
    Ok(())
}
