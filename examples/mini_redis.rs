//! A server that speaks the protocol of Redis, with the commands that most programs use of it. All
//! is in memory, and gone when it ends.
//!
//! ```text
//!   AcceptMulti ─► RecvMulti ─► lease ─► parser ─► command ─► one store, one lock
//!                                                     │
//!                  Send ◄── outbox of the client ◄── replies       a clock for what expires
//! ```
//!
//! | what happens | what the server does |
//! |---|---|
//! | commands come in one packet, or byte by byte | the parser takes what is there; what is published or replied in a turn goes by one send to each client |
//! | a client does not read its replies | its commands are not run, and no more is received from it |
//! | a subscriber does not read | it is cut off: who publishes does not wait (`--output`) |
//! | a client announces or sends too much | it is told so, as Redis does, and hung up on (`--longest`) |
//! | the store is full | what would make it larger is refused (`--memory`) |
//! | more clients than there is room for | they are told, and hung up on (`--clients`) |
//! | a key expires | whoever looks does not see it; a timeout on the ring removes it |
//! | SIGINT, SIGTERM | it ends at once |
//!
//! With `--threads N`, N threads have a ring and a listener each (`SO_REUSEPORT`), and share one
//! store. That is right, and simple, and this is what it costs: commands of two threads wait for
//! each other, so that what gets faster is all but the command; and the kernel spreads clients by a
//! hash, so that of few clients all may be on one thread.
//!
//! Try it: `mini_redis`, then `redis-cli -p 7777` and `redis-benchmark -p 7777 -t get -P 32 -q`.
//! Look at: the sends and the enters for each command (`--stats`), far below one with pipelining.
//! What is not there: persistence, transactions, scripts, hashes, sets. Linux 6.0.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs as _};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use annulus::sys::opcode::Opcode;
use annulus::{Capabilities, EventLoop, RingSender, Setup, Stats};
use channels::Channels;
use clap::Parser;
use commands::Shared;
use rustix::net::{self as net, AddressFamily, SocketFlags, SocketType, sockopt};
use server::{Counts, Server};
use store::Store;
use support::serving::{Table, asked_to_stop};
use support::{Failure, Page, failed, up_to};

#[path = "mini_redis/channels.rs"]
mod channels;
#[path = "mini_redis/client.rs"]
mod client;
#[path = "mini_redis/commands.rs"]
mod commands;
#[path = "mini_redis/glob.rs"]
mod glob;
#[path = "mini_redis/keys.rs"]
mod keys;
#[path = "mini_redis/lists.rs"]
mod lists;
#[path = "mini_redis/others.rs"]
mod others;
#[path = "mini_redis/reply.rs"]
mod reply;
#[path = "mini_redis/resp.rs"]
mod resp;
#[path = "mini_redis/server.rs"]
mod server;
#[path = "mini_redis/store.rs"]
mod store;
#[path = "mini_redis/strings.rs"]
mod strings;
mod support;

/// Keeps keys and values for clients of Redis, until it is told to stop (Ctrl-C).
#[derive(Debug, Clone, Parser)]
#[command(verbatim_doc_comment)]
struct Arguments {
    /// Where to listen; port 0 is any
    #[arg(default_value = "127.0.0.1:7777")]
    address: String,
    /// So many threads, each with a ring
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = up_to(256))]
    threads: u32,
    /// Serve so many at once, 1 to 30000
    #[arg(long, value_name = "N", default_value_t = 4000, value_parser = up_to(30_000))]
    clients: u32,
    /// Bytes of the longest string
    #[arg(long, value_name = "N", default_value_t = 1 << 20, value_parser = up_to(512 << 20))]
    longest: u32,
    /// Bytes that may wait for one client
    #[arg(long, value_name = "N", default_value_t = 8 << 20, value_parser = up_to(1 << 30))]
    output: u32,
    /// MiB of keys and values
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = up_to(1 << 20))]
    memory: u32,
    /// Print what the rings did in all
    #[arg(long)]
    stats: bool,
}

/// What a thread begins with.
struct Start {
    thread: usize,
    listener: TcpListener,
    shared: Arc<Mutex<Shared>>,
    /// Where it says how it is reached.
    give: mpsc::Sender<(usize, RingSender)>,
    /// Where it hears how the others are.
    peers: mpsc::Receiver<Arc<[RingSender]>>,
}

/// What a thread tells in the end.
type Told = Result<(Counts, Stats, Duration), Failure>;

fn main() -> ExitCode {
    support::main(run)
}

fn run(arguments: Arguments, page: &mut Page) -> Result<(), Failure> {
    // It came with multishot receives, which themselves cannot be asked for.
    if !Capabilities::detect()?.has_op(Opcode::SEND_ZC) {
        return Err(Failure::Failed("receives that complete many times need Linux 6.0".into()));
    }
    let listening = format!("cannot listen on {}", arguments.address);
    let listeners = listen(&arguments.address, arguments.threads).map_err(failed(&listening))?;
    let address = listeners[0].local_addr().map_err(failed(&listening))?;
    let shared = Arc::new(Mutex::new(Shared {
        store: Store::new(),
        channels: Channels::default(),
        clients: 0,
        most_clients: arguments.clients as usize,
        commands: 0,
        memory: (arguments.memory as usize) << 20,
        longest: arguments.longest as usize,
    }));
    let (give, take) = mpsc::channel();
    let mut others = Vec::new();
    let mut threads = Vec::new();
    for (thread, listener) in listeners.into_iter().enumerate() {
        let (other, peers) = mpsc::channel();
        let (shared, give) = (Arc::clone(&shared), give.clone());
        let start = Start { thread, listener, shared, give, peers };
        let arguments = arguments.clone();
        let spawned = thread::Builder::new().spawn(move || begin(start, &arguments));
        threads.push(spawned.map_err(failed("cannot start a thread"))?);
        others.push(other);
    }
    drop(give);
    // As many as have a ring.
    let mut senders: Vec<_> = take.iter().collect();
    senders.sort_unstable_by_key(|(thread, _)| *thread);
    let peers: Arc<[_]> = senders.into_iter().map(|(_, sender)| sender).collect();
    if peers.len() == threads.len() {
        writeln!(page, "listening on {address}")?;
        others.iter().for_each(|other| drop(other.send(Arc::clone(&peers))));
    }
    drop((others, peers));
    report(threads, &shared, arguments.stats, page)
}

/// Waits until all have ended, and says what they did.
fn report(
    threads: Vec<JoinHandle<Told>>,
    shared: &Mutex<Shared>,
    stats: bool,
    page: &mut Page,
) -> Result<(), Failure> {
    let (mut sum, mut total, mut cpu) = (Counts::default(), Stats::default(), Duration::ZERO);
    for thread in threads {
        let panicked = |_| Err(Failure::Failed("a thread has panicked".into()));
        let (counts, stats, its_cpu) = thread.join().unwrap_or_else(panicked)?;
        sum.add(counts);
        total.enters += stats.enters;
        total.sqes += stats.sqes;
        total.cqes += stats.cqes;
        cpu += its_cpu;
    }
    let commands = server::lock(shared).commands;
    let Counts { came, refused, sends, bytes, cut_off, messages } = sum;
    writeln!(page, "{came} clients came, {refused} were refused, {cut_off} were cut off")?;
    writeln!(page, "{commands} commands, {sends} sends, {bytes} bytes, {messages} messages")?;
    if stats {
        writeln!(page, "{}", support::stats_line(total, commands, cpu))?;
        let thousandths = total.enters * 1000 / commands.max(1);
        writeln!(page, "{}.{:03} enters per command", thousandths / 1000, thousandths % 1000)?;
    }
    Ok(())
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.came += other.came;
        self.refused += other.refused;
        self.sends += other.sends;
        self.bytes += other.bytes;
        self.cut_off += other.cut_off;
        self.messages += other.messages;
    }
}

/// The life of a thread.
fn begin(start: Start, arguments: &Arguments) -> Told {
    let Start { thread, listener, shared, give, peers } = start;
    let (room, longest) = (arguments.clients, arguments.longest as usize);
    // A receive and a send for each client, and the listener, signals and a clock.
    let mut ring = Setup::new(1024).cq_entries((2 * room + 16).max(1024)).build_for()?;
    let server = Server {
        buffers: ring.buf_ring(256, 4096).map_err(failed("cannot make buffers"))?,
        clients: Table::new(),
        shared,
        thread,
        peers: Arc::new([]),
        dirty: Vec::new(),
        told: Vec::new(),
        clock: None,
        longest,
        longest_reply: (arguments.output as usize).max(longest + 1024),
        counts: Counts::default(),
    };
    let mut events = EventLoop::new(ring, server);
    let signals = asked_to_stop()?;
    let sender = events.sender().map_err(failed("a ring takes no messages"))?;
    let _ = give.send((thread, sender));
    drop(give);
    // Without an answer, another thread has no ring, and says why.
    if let Ok(peers) = peers.recv() {
        events.state.peers = peers;
        server::serve(&mut events, listener, signals)?;
    }
    Ok((events.state.counts, events.ring().raw().stats(), support::thread_cpu_time()))
}

/// A listener for each thread. More than one have the same address, and share out who comes.
fn listen(address: &str, threads: u32) -> io::Result<Vec<TcpListener>> {
    let mut addresses = address.to_socket_addrs()?;
    let mut address = addresses.next().ok_or(io::ErrorKind::AddrNotAvailable)?;
    let mut listeners = Vec::new();
    for _ in 0..threads {
        let listener = listener(&address, threads > 1)?;
        address = listener.local_addr()?;
        listeners.push(listener);
    }
    Ok(listeners)
}

fn listener(address: &SocketAddr, is_shared: bool) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if is_shared {
        sockopt::set_socket_reuseport(&socket, true)?;
    }
    net::bind(&socket, address)?;
    net::listen(&socket, 4096)?;
    Ok(socket.into())
}
