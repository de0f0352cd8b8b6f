//! The echo ladder: one server in ten steps, from a thread for each client to multishot receives,
//! and how often each calls the kernel for 1,000 requests.
//!
//! ```text
//!   step                          new in it                                       module
//!   0 threads                     a blocking read and write for each client       threads
//!   1 poll, 2 epoll               one thread asks which clients have sent         readiness
//!   3 one by one                  epoll's loop on a ring: an enter for each entry one_by_one
//!   4 submit and wait             operations wait by themselves; one call a turn  batched
//!   5 all that is ready           a wake-up handles every completion              batched
//!   6 direct                      connections live in the ring's table of files   direct
//!   7 accept multishot            one entry accepts everybody                     direct
//!   8 receive multishot           one entry receives; the kernel selects buffers  multishot
//!   9 defer                       completions are made when we wait, by us        multishot
//!   lied                          no ring: answers a read, not a request          readiness
//! ```
//!
//! Without `--port` each step serves clients in this very thread, who speak while the server does
//! not, and who compare every byte: so the counts are exact, and depend on no clock. With `--port`
//! a step is a server of its own until Ctrl-C; then the counts depend on the clients.
//!
//! Look at: the column of calls, from 4 to 5. And at what steps 6 and 9 do *not* change. What is
//! not there: limits for clients that read nothing, and whatever else `07_echo_server` has.
//! Linux 6.1; the steps before 6 need less.

use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::process::ExitCode;
use std::{net, process};

use annulus::Stats;
use clap::Parser;
use clients::Clients;
use support::{Failure, Page, failed, serving, up_to};

mod batched;
mod clients;
mod direct;
mod multishot;
mod one_by_one;
mod readiness;
#[path = "../support/mod.rs"]
mod support;
mod threads;
mod turns;

/// Counts what the steps of an echo server cost; with a port, serves.
#[derive(Debug, Parser)]
#[command(name = "ladder", verbatim_doc_comment)]
struct Arguments {
    /// Only this step: 0 to 9, or "lied"
    #[arg(long, value_name = "N", value_parser = STEPS, hide_possible_values = true)]
    step: Option<String>,
    /// Serve on this port of 127.0.0.1; 0 is any
    #[arg(long, value_name = "P", requires = "step")]
    port: Option<u16>,
    /// Bytes in a request
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = up_to(4096))]
    bytes: u32,
    /// Print what the rings did in all
    #[arg(long)]
    stats: bool,
}

const STEPS: [&str; 11] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "lied"];
const NAMES: [&str; 11] = [
    "threads",
    "poll",
    "epoll",
    "one by one",
    "submit and wait",
    "all that is ready",
    "direct",
    "accept multishot",
    "receive multishot",
    "defer",
    "lied",
];

/// What a server has done so far.
#[derive(Debug, Default, Clone, Copy)]
struct Done {
    /// System calls: to wait, to accept, to read, to write, to close. Not those that start threads.
    calls: u64,
    /// What the ring counted.
    ring: Stats,
    /// Completions that were there before the server entered to take them.
    early: u64,
    /// Bytes sent back.
    bytes: u64,
    /// It was told to stop.
    stopped: bool,
}

// ANCHOR: server
/// A step of the ladder.
trait Server {
    /// Waits until something can be done, and does it.
    fn turn(&mut self) -> Result<(), Failure>;

    /// What it has done.
    fn done(&self) -> Done;
}

/// Makes the server of a step. It ends when a byte comes through `stop`.
fn server(
    step: usize,
    bytes: usize,
    listener: OwnedFd,
    stop: UnixStream,
) -> Result<Box<dyn Server>, Failure> {
    Ok(match step {
        0 => Box::new(threads::Threads::new(listener, stop)?),
        1 => Box::new(readiness::Readiness::poll(listener, stop.into(), None)?),
        2 => Box::new(readiness::Readiness::epoll(listener, stop.into())?),
        3 => Box::new(one_by_one::OneByOne::new(listener, stop)?),
        4 => Box::new(batched::Batched::new(listener, stop, 1)?),
        5 => Box::new(batched::Batched::new(listener, stop, usize::MAX)?),
        6 => Box::new(direct::Tabled::new(listener, stop, direct::Accepts::Once)?),
        7 => Box::new(direct::Tabled::new(listener, stop, direct::Accepts::Multishot)?),
        8 => Box::new(multishot::Multi::new(listener, stop, multishot::Deferred::No)?),
        9 => Box::new(multishot::Multi::new(listener, stop, multishot::Deferred::Yes)?),
        _ => Box::new(readiness::Readiness::poll(listener, stop.into(), Some(bytes))?),
    })
}
// ANCHOR_END: server

fn main() -> ExitCode {
    support::main(run)
}

fn run(arguments: Arguments, page: &mut Page) -> Result<(), Failure> {
    let wanted = arguments.step.as_deref();
    let number = wanted.and_then(|step| STEPS.iter().position(|name| *name == step));
    let bytes = arguments.bytes as usize;
    if let (Some(step), Some(port)) = (number, arguments.port) {
        return serve(step, port, bytes, arguments.stats, page);
    }
    let before = support::cpu_time();
    let (mut total, mut requests) = (Stats::default(), 0);
    writeln!(page, "for 1,000 requests       calls  enters  entries  completions  early  answers")?;
    for step in 0..STEPS.len() {
        if number.is_some_and(|number| number != step) {
            continue;
        }
        let (done, answers) = match measure(step, bytes) {
            Ok(measured) => measured,
            // Older kernels can do the steps before.
            Err(failure) if number.is_none() && total.enters > 0 => {
                if let Failure::Failed(why) = failure {
                    writeln!(page, "{:<4} {:<17} not here: {why}", STEPS[step], NAMES[step])?;
                }
                continue;
            }
            Err(failure) => return Err(failure),
        };
        let (name, Stats { enters, sqes, cqes, .. }) = (NAMES[step], done.ring);
        let row = format!("{:<4} {name:<17} {:>7}", STEPS[step], done.calls);
        writeln!(page, "{row} {enters:>7}  {sqes:>7}  {cqes:>11}  {:>5}  {answers}", done.early)?;
        total.enters += enters;
        total.sqes += sqes;
        total.cqes += cqes;
        requests += clients::REQUESTS;
    }
    if arguments.stats {
        // The clients are in this process, too.
        let cpu = support::cpu_time() - before;
        writeln!(page, "{}", support::stats_line(total, requests, cpu))?;
    }
    Ok(())
}

// ANCHOR: measure
/// What a step costs for 1,000 requests, and what its clients say of the answers.
fn measure(step: usize, bytes: usize) -> Result<(Done, String), Failure> {
    let name = format!("annulus-ladder-{}-{step}", process::id());
    let address = SocketAddr::from_abstract_name(name).map_err(failed("no address"))?;
    let listener = UnixListener::bind_addr(&address).map_err(failed("cannot listen"))?;
    let (stop, _silent) = UnixStream::pair().map_err(failed("no socket"))?;
    let mut server = server(step, bytes, listener.into(), stop)?;
    let mut clients = Clients::new(address, bytes);
    // The clients who have their answers speak, and then the server has its turn.
    while clients.speak()? {
        server.turn()?;
    }
    Ok((server.done(), clients.verdict()))
}
// ANCHOR_END: measure

/// Serves until it is told to stop.
fn serve(
    step: usize,
    port: u16,
    bytes: usize,
    stats: bool,
    page: &mut Page,
) -> Result<(), Failure> {
    let listening = format!("cannot listen on port {port}");
    let listener = net::TcpListener::bind(("127.0.0.1", port)).map_err(failed(&listening))?;
    let address = listener.local_addr().map_err(failed(&listening))?;
    let mut server = server(step, bytes, listener.into(), serving::asked_to_stop()?)?;
    let before = support::cpu_time();
    writeln!(page, "listening on {address}")?;
    while !server.done().stopped {
        server.turn()?;
    }
    let Done { calls, ring, bytes: echoed, .. } = server.done();
    let requests = echoed / bytes as u64;
    let per = |count: u64| count * 1000 / requests.max(1);
    writeln!(page, "echoed {echoed} bytes: {requests} requests of {bytes}")?;
    writeln!(page, "for 1,000 requests: {} calls, {} enters", per(calls), per(ring.enters))?;
    if stats {
        let cpu = support::cpu_time() - before;
        writeln!(page, "{}", support::stats_line(ring, requests, cpu))?;
    }
    Ok(())
}
