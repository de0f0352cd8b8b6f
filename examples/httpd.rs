//! A web server of files: sockets and files on one ring. With `--threads`, the same by a pool of
//! threads.
//!
//! ```text
//!   GET /a HTTP/1.1 ─► openat2 below the root ─► statx ─► 200 OK, then read and send in turns
//! ```
//!
//! | what happens | what the server does |
//! |---|---|
//! | GET or HEAD of a file | `Content-Length`, and the file; of one `Range`, that part (206, 416) |
//! | of a directory | its `index.html`; without a `/` at the end, 301 |
//! | `..`, or a link, leads out of the root | 403: the kernel refuses the open (`RESOLVE_BENEATH`) |
//! | a FIFO, a device, a socket | 403; it is not waited for |
//! | nothing is there | 404 |
//! | no request, or one with a body; a head of more than 8 KiB | 400, 405, 413, 505; 431; then it hangs up |
//! | many requests at once | they are answered one after the other |
//! | a client that does not read, or says nothing | after `--timeout` seconds it is cut off |
//! | the file gets shorter while it is sent | the connection is closed, so the client can tell |
//! | more clients than there is room for | they wait in the listener |
//! | no descriptor is left | 503 for a file, and clients wait in the listener |
//! | SIGINT, SIGTERM | what is being answered is answered, then the server ends; a second one ends it at once |
//!
//! Look at: `open` and `look` in `httpd/ring.rs`, where files take the way of sockets; and the
//! enters per request (`--stats`) with one client and with a hundred. What is not there: TLS, dates
//! and conditions, lists of directories, compression. Linux 5.19; with `--threads`, 5.6.
#![forbid(unsafe_code)]

use std::fs::File;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use std::{fmt, io};

use annulus::Capabilities;
use annulus::sys::opcode::Opcode;
use clap::Parser;
use httpd::{ring, threads};
use support::{Failure, Page, failed, serving, up_to};

mod httpd {
    pub mod answer;
    pub mod request;
    pub mod ring;
    pub mod threads;

    use super::support::{self, Failure, failed};
    use super::{CHUNK, Counts, Patience, TICK, tell_unusual};
}
mod support;

/// Serves the files below a directory, until it is told to stop (Ctrl-C).
#[derive(Debug, Parser)]
#[command(verbatim_doc_comment)]
struct Arguments {
    /// The directory whose files everybody may have
    #[arg(default_value = ".")]
    root: PathBuf,
    /// Where to listen; port 0 is any
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: String,
    /// Serve so many at once, 1 to 30000
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = up_to(30_000))]
    clients: u32,
    /// Cut off who does nothing for N seconds
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = up_to(86_400))]
    timeout: u32,
    /// When told to stop, finish within N seconds
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = up_to(86_400))]
    grace: u32,
    /// Without a ring: N threads, each for one client at a time
    #[arg(long, value_name = "N", conflicts_with = "clients", value_parser = up_to(4096))]
    threads: Option<u32>,
    /// Print what the ring did in all
    #[arg(long)]
    stats: bool,
}

/// The bytes that are read and sent at once; a head fits in them.
const CHUNK: usize = 64 << 10;
/// How often the server looks for clients whose time is over.
const TICK: Duration = Duration::from_secs(1);

/// How long clients may take.
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// While they do nothing.
    timeout: Duration,
    /// For the rest, after the server is told to stop, or has hung up.
    grace: Duration,
}

/// The figures of a server.
#[derive(Debug, Default)]
struct Counts {
    clients: u64,
    /// How many there were at once, at most.
    most: usize,
    requests: u64,
    bytes: u64,
    /// How many clients did nothing for too long.
    cut_off: u64,
    /// How many files got shorter while they were sent.
    shrank: u64,
    /// How often no client could be accepted, for lack of descriptors or memory.
    paused: u64,
}

fn main() -> ExitCode {
    support::main(run)
}

fn run(arguments: Arguments, page: &mut Page) -> Result<(), Failure> {
    let Arguments { root: path, listen, clients, timeout, grace, threads, stats } = arguments;
    // It came with buffer rings and multishot accepts, which themselves cannot be asked for.
    if threads.is_none() && !Capabilities::detect()?.has_op(Opcode::SOCKET) {
        return Err(Failure::Failed("buffer rings need Linux 5.19; try --threads 16".into()));
    }
    let opening = format!("cannot serve {}", path.display());
    let root: OwnedFd = File::open(&path).map_err(failed(&opening))?.into();
    let listening = format!("cannot listen on {listen}");
    let listener = TcpListener::bind(&listen).map_err(failed(&listening))?;
    let address = listener.local_addr().map_err(failed(&listening))?;
    let signals = serving::asked_to_stop()?;
    let [timeout, grace] = [timeout, grace].map(|seconds| Duration::from_secs(seconds.into()));
    let patience = Patience { timeout, grace };
    let before = support::cpu_time();
    if let Some(threads) = threads {
        writeln!(page, "listening on {address}")?;
        let served = threads::serve(root, listener, signals, patience, threads);
        let (counts, cpu) = served.map_err(failed("the threads failed"))?;
        writeln!(page, "{counts}")?;
        if stats {
            let each = support::nanos_each(cpu, counts.requests);
            writeln!(page, "stats: {threads} threads, {each} CPU ns per operation")?;
        }
        return Ok(());
    }
    let mut events = ring::start(root, clients, patience)?;
    writeln!(page, "listening on {address}")?;
    ring::serve(&mut events, listener, signals)?;
    let cpu = support::cpu_time() - before;
    let (counts, total) = (&events.state.counts, events.ring().raw().stats());
    writeln!(page, "{counts}")?;
    if stats {
        writeln!(page, "{}", support::stats_line(total, counts.requests, cpu))?;
        let thousandths = total.enters * 1000 / counts.requests.max(1);
        writeln!(page, "{}.{:03} enters per request", thousandths / 1000, thousandths % 1000)?;
    }
    Ok(())
}

/// Tells an error, unless it is that a client has gone.
fn tell_unusual(error: &io::Error) {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, NotConnected, TimedOut, WouldBlock};
    let kind = error.kind();
    if !matches!(kind, BrokenPipe | ConnectionReset | NotConnected | TimedOut | WouldBlock) {
        support::tell(error);
    }
}

impl Counts {
    /// Adds those of another thread.
    fn add(&mut self, other: &Self) {
        self.clients += other.clients;
        self.most = self.most.max(other.most);
        self.requests += other.requests;
        self.bytes += other.bytes;
        self.cut_off += other.cut_off;
        self.shrank += other.shrank;
        self.paused += other.paused;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { clients, most, requests, bytes, cut_off, shrank, paused } = self;
        writeln!(f, "answered {requests} requests with {bytes} bytes")?;
        writeln!(f, "served {clients} clients, at most {most} at once")?;
        writeln!(f, "could not accept {paused} times")?;
        write!(f, "cut off {cut_off} clients that did nothing; {shrank} files got shorter")
    }
}
