//! Told when a connection waits: POLL_ADD once, again, and until further notice.
//!
//! ```text
//!   one-shot    POLL_ADD ──► connection ──► completion, and the request has ended
//!   multishot   POLL_ADD ──► connection ──► completion, F_MORE
//!                        ──► connection ──► completion, F_MORE
//!               POLL_REMOVE ──────────────► completion, ECANCELED: now it has ended
//! ```
//!
//! Look at: what a peek costs that finds nothing, against a wait; the second connection, of which a
//! one-shot poll says nothing until it is armed again; and the flag `F_MORE`, which alone tells
//! whether a request is still in flight.
//!
//! Linux 5.1; multishot needs 5.13, and is left out before. Waits are bounded from 5.11 on.
#![allow(unsafe_code, reason = "pushes entries")]

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use annulus::sys::abi::{Cqe, Sqe};
use annulus::sys::flags::{CqeFlags, PollFlags};
use annulus::sys::opcode::Opcode;
use annulus::{RawRing, Setup, Woken};
use support::{Arguments, Failure, Page};

mod support;

const USAGE: &str = "
usage: 03_poll_listener [--stats] [--help]

Listens on a port of the loopback interface, connects to it, and prints what
the ring says.

  --stats   print what the ring did in all
  --help    print this";

/// The word by which we know the poll again, and the one of its removal: never two alike in flight
/// (OP2).
const POLL: u64 = 0xDEAD_BEEF;
const REMOVAL: u64 = 0xFEED;

/// How long the client sleeps before it connects, so that there is something to wait for.
const DELAY: Duration = Duration::from_millis(50);
/// How long we wait for what must come.
const LIMIT: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    support::main(USAGE, run)
}

fn run(mut arguments: Arguments, page: &mut Page) -> Result<(), Failure> {
    let wants_stats = arguments.flag("--stats");
    arguments.end()?;
    let listener = TcpListener::bind("127.0.0.1:0").map_err(failed("cannot listen"))?;
    let address = listener.local_addr().map_err(failed("cannot listen"))?;
    writeln!(page, "listening on {address}")?;
    // Declared after the listener, so dropped before it: the poll goes first, then its file.
    let mut ring = Setup::new(8).build_raw()?;
    let before = support::cpu_time();

    one_shot(page, &mut ring, &listener, address)?;
    multishot(page, &mut ring, &listener, address)?;

    if wants_stats {
        let (stats, cpu) = (ring.stats(), support::cpu_time() - before);
        writeln!(page, "{}", support::stats_line(stats, stats.cqes, cpu))?;
    }
    Ok(())
}

/// A poll that completes once: peek, wait, and a second connection that goes unnoticed.
fn one_shot(
    page: &mut Page,
    ring: &mut RawRing,
    listener: &TcpListener,
    address: SocketAddr,
) -> Result<(), Failure> {
    arm(ring, listener, PollFlags::empty())?;
    writeln!(page, "one-shot: armed, user_data {POLL:#X}")?;

    let before = ring.stats().enters;
    let early = ring.peek()?;
    let cost = ring.stats().enters - before;
    if let Some(cqe) = early {
        return Err(Failure::Failed(format!("a completion before any connection: {cqe:?}")));
    }
    writeln!(page, "  peek, before anybody connects: nothing, for {cost} enters")?;

    let client = thread::spawn(move || {
        thread::sleep(DELAY);
        TcpStream::connect(address)
    });
    let (before, start) = (ring.stats().enters, Instant::now());
    let cqe = next(ring);
    let (cost, waited) = (ring.stats().enters - before, start.elapsed().as_millis());
    let client = client.join().map_err(|_| Failure::Failed("the client panicked".into()))?;
    // Why nobody came, before that nobody came.
    let first = client.map_err(failed("cannot connect"))?;
    let cqe = cqe?;
    expect_readable(cqe)?;
    writeln!(page, "  wait: blocked for {waited} ms and {cost} enters, then {}", show(cqe))?;
    accept(page, listener)?;

    let second = TcpStream::connect(address).map_err(failed("cannot connect"))?;
    if let Some(cqe) = ring.peek()? {
        return Err(Failure::Failed(format!("a one-shot poll fired twice: {cqe:?}")));
    }
    writeln!(page, "  a second connection: nothing, since the poll has ended")?;
    arm(ring, listener, PollFlags::empty())?;
    let cqe = next(ring)?;
    expect_readable(cqe)?;
    writeln!(page, "  armed again: at once {}", show(cqe))?;
    accept(page, listener)?;
    drop((first, second));
    Ok(())
}

/// A poll that completes at each connection, until it is removed.
fn multishot(
    page: &mut Page,
    ring: &mut RawRing,
    listener: &TcpListener,
    address: SocketAddr,
) -> Result<(), Failure> {
    arm(ring, listener, PollFlags::ADD_MULTI)?;
    // A kernel that lacks it says so in the completion, at once.
    if let Some(cqe) = ring.peek()? {
        return match cqe.result() {
            Err(errno) if errno.is(libc::EINVAL) => {
                writeln!(page, "multishot: left out, it needs Linux 5.13")
            }
            _ => Err(Failure::Failed(format!("a completion before any connection: {cqe:?}"))),
        };
    }
    writeln!(page, "multishot: armed")?;
    for _ in 0..2 {
        let client = TcpStream::connect(address).map_err(failed("cannot connect"))?;
        let cqe = next(ring)?;
        expect_readable(cqe)?;
        writeln!(page, "  a connection: {}", show(cqe))?;
        accept(page, listener)?;
        drop(client);
        if cqe.is_last() {
            return Err(Failure::Failed("the kernel ended the multishot poll".into()));
        }
    }

    let remove = Sqe { opcode: Opcode::POLL_REMOVE, addr: POLL, user_data: REMOVAL, ..Sqe::ZERO };
    // SAFETY: `addr` is the word of the poll and no address, so it points to nothing (OP1).
    unsafe { ring.push(remove) }?;
    ring.submit()?;
    let mut ended = (false, false);
    while ended != (true, true) {
        let cqe = next(ring)?;
        let what = match (cqe.user_data, cqe.result()) {
            (REMOVAL, Ok(_)) => {
                ended.0 = true;
                "the removal"
            }
            (POLL, Err(errno)) if errno.is(libc::ECANCELED) && cqe.is_last() => {
                ended.1 = true;
                "the poll, with ECANCELED,"
            }
            _ => return Err(Failure::Failed(format!("not what a removal brings: {cqe:?}"))),
        };
        writeln!(page, "  removed: {what} says {}", show(cqe))?;
    }
    writeln!(page, "  in flight: {}", ring.in_flight())
}

/// Asks to be told when a connection waits, and submits.
fn arm(ring: &mut RawRing, listener: &TcpListener, how: PollFlags) -> Result<(), Failure> {
    let poll = Sqe {
        opcode: Opcode::POLL_ADD,
        fd: listener.as_raw_fd(),
        len: how.bits(),
        op_flags: u32::from(libc::POLLIN.cast_unsigned()),
        user_data: POLL,
        ..Sqe::ZERO
    };
    // SAFETY: a poll points to nothing (OP1), and its file is ours, since the listener is borrowed.
    unsafe { ring.push(poll) }?;
    ring.submit()?;
    Ok(())
}

/// Waits for the next completion.
fn next(ring: &mut RawRing) -> Result<Cqe, Failure> {
    let waited = support::wait_at_most(ring, 1, LIMIT)?;
    match (waited, ring.pop()) {
        (Woken::Ready, Some(cqe)) => Ok(cqe),
        _ => Err(Failure::Failed(format!("no completion within {} s", LIMIT.as_secs()))),
    }
}

/// Refuses a completion that is not "a connection waits".
fn expect_readable(cqe: Cqe) -> Result<(), Failure> {
    let readable = u32::from(libc::POLLIN.cast_unsigned());
    match cqe.result() {
        Ok(events) if cqe.user_data == POLL && events & readable != 0 => Ok(()),
        _ => Err(Failure::Failed(format!("not what a waiting connection brings: {cqe:?}"))),
    }
}

/// Takes the connection that waits. Only now: the poll said that this does not block.
fn accept(page: &mut Page, listener: &TcpListener) -> Result<(), Failure> {
    let (_, peer) = listener.accept().map_err(failed("cannot accept"))?;
    writeln!(page, "  accepted {peer}")
}

fn show(cqe: Cqe) -> String {
    let result = match cqe.result() {
        Ok(value) => format!("res {value:#x}"),
        Err(_) => format!("res {}", cqe.res),
    };
    let more = if cqe.flags.contains(CqeFlags::MORE) { ", F_MORE" } else { "" };
    format!("user_data {:#X}, {result}{more}", cqe.user_data)
}

fn failed(what: &'static str) -> impl Fn(std::io::Error) -> Failure {
    move |error| Failure::of(what, error)
}
