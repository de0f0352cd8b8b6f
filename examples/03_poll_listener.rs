//! Polling for connections: a poll that completes once, again, and until it is removed.
//!
//! ```text
//!   one-shot    Poll ──────► connection ──► Outcome, with the listener: it has ended
//!   multishot   PollMulti ─► connection ──► an item, and the poll goes on
//!                        ──► connection ──► an item, and the poll goes on
//!               PollRemove ───────────────► Cancelled(1), and the poll's own end: Cancelled
//! ```
//!
//! Look at: the cost of a check that finds nothing, against a wait; the second connection, which a
//! one-shot poll does not report until it is submitted again; and that a poll which is removed
//! still has its own end. Until that has come the ring owns the listener.
//!
//! Linux 5.1; multishot needs 5.13, and is skipped before. Waits can have a timeout from 5.11 on.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use annulus::op::{CancelOutcome, Ending, Op, Outcome, Poll, PollEvents, PollMulti, PollRemove};
use annulus::sys::flags::Features;
use annulus::{Next, Ring, Setup, Ticket};
use clap::Parser;
use support::{Failure, Page, failed};

mod support;

/// Listens on a port of the loopback interface, connects to it, and prints what
/// the ring says.
#[derive(Debug, Parser)]
#[command(verbatim_doc_comment)]
struct Arguments {
    /// Print what the ring did in all
    #[arg(long)]
    stats: bool,
}

/// How long the client sleeps before it connects, so that there is something to wait for.
const DELAY: Duration = Duration::from_millis(50);
/// How long to wait for a completion that must come.
const LIMIT: Duration = Duration::from_secs(10);

/// The listener has several owners: this program, and each poll that is in flight.
type Listener = Rc<TcpListener>;

fn main() -> ExitCode {
    support::main(run)
}

fn run(arguments: Arguments, page: &mut Page) -> Result<(), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(failed("cannot listen"))?;
    let address = listener.local_addr().map_err(failed("cannot listen"))?;
    let listener = Rc::new(listener);
    writeln!(page, "listening on {address}")?;
    let mut ring = Setup::new(8).build()?;
    let before = support::cpu_time();

    one_shot(page, &mut ring, &listener, address)?;
    multishot(page, &mut ring, &listener, address)?;

    if arguments.stats {
        let (stats, cpu) = (ring.stats(), support::cpu_time() - before);
        writeln!(page, "{}", support::stats_line(stats, stats.cqes, cpu))?;
    }
    Ok(())
}

/// A poll that completes once: a check, a wait, and a second connection that goes unnoticed.
fn one_shot(
    page: &mut Page,
    ring: &mut Ring,
    listener: &Listener,
    address: SocketAddr,
) -> Result<(), Failure> {
    let ticket = ring.submit(Poll::new(Rc::clone(listener), PollEvents::IN))?;
    ring.submit_all()?;
    writeln!(page, "one-shot: submitted, in flight: {}", ring.in_flight())?;

    let before = ring.stats().enters;
    let reaped = ring.reap(|_| ())?;
    let cost = ring.stats().enters - before;
    let Err(ticket) = ring.try_take(ticket) else {
        return Err(Failure::Failed("a completion before any connection".into()));
    };
    writeln!(page, "  a look, before anybody connects: {reaped} events, for {cost} enters")?;

    let client = thread::spawn(move || {
        thread::sleep(DELAY);
        TcpStream::connect(address)
    });
    let (before, start) = (ring.stats().enters, Instant::now());
    let polled = wait(ring, ticket);
    let (cost, waited) = (ring.stats().enters - before, start.elapsed().as_millis());
    let client = client.join().map_err(|_| Failure::Failed("the client panicked".into()))?;
    // Report why no client came, before reporting that none came.
    let first = client.map_err(failed("cannot connect"))?;
    let events = readable(polled?)?;
    writeln!(page, "  a wait: {waited} ms and {cost} enters, then {events:?}")?;
    accept(page, listener)?;

    let second = TcpStream::connect(address).map_err(failed("cannot connect"))?;
    let (reaped, in_flight) = (ring.reap(|_| ())?, ring.in_flight());
    writeln!(page, "  a second connection: {reaped} events, in flight: {in_flight}")?;
    let ticket = ring.submit(Poll::new(Rc::clone(listener), PollEvents::IN))?;
    let events = readable(wait(ring, ticket)?)?;
    writeln!(page, "  submitted again: at once {events:?}")?;
    accept(page, listener)?;
    drop((first, second));
    Ok(())
}

/// A poll that completes at each connection, until it is removed.
fn multishot(
    page: &mut Page,
    ring: &mut Ring,
    listener: &Listener,
    address: SocketAddr,
) -> Result<(), Failure> {
    let ticket = ring.submit(PollMulti::new(Rc::clone(listener), PollEvents::IN))?;
    ring.submit_all()?;
    match ring.try_next(&ticket)? {
        Next::Pending => {}
        // A kernel without multishot refuses it at once.
        Next::Ended => {
            return match wait(ring, ticket)?.how {
                Ending::Failed(error) if error.kind() == std::io::ErrorKind::InvalidInput => {
                    writeln!(page, "multishot: left out, it needs Linux 5.13")
                }
                how => Err(Failure::Failed(format!("the poll ended before it began: {how:?}"))),
            };
        }
        Next::Item(events) => {
            return Err(Failure::Failed(format!("{events:?} before any connection")));
        }
    }
    writeln!(page, "multishot: submitted, in flight: {}", ring.in_flight())?;
    for _ in 0..2 {
        let client = TcpStream::connect(address).map_err(failed("cannot connect"))?;
        let events = next(ring, &ticket)?;
        writeln!(page, "  a connection: {events:?}, in flight: {}", ring.in_flight())?;
        accept(page, listener)?;
        drop(client);
    }

    let owners = Rc::strong_count(listener);
    let removal = ring.submit(PollRemove::new(&ticket))?;
    match wait(ring, removal)? {
        CancelOutcome::Cancelled(count) => writeln!(page, "  removal: Cancelled({count})")?,
        other => return Err(Failure::Failed(format!("the poll was not removed: {other:?}"))),
    }
    let ended = wait(ring, ticket)?;
    writeln!(page, "  the poll itself: {:?}, in flight: {}", ended.how, ring.in_flight())?;
    drop(ended);
    writeln!(
        page,
        "  owners of the listener: {owners} before, {} after",
        Rc::strong_count(listener)
    )
}

// ANCHOR: wait
/// Waits at most this long for an operation's end.
fn wait<O: Op>(ring: &mut Ring, ticket: Ticket<O>) -> Result<O::Output, Failure> {
    // Before Linux 5.11 a wait has no timeout, and takes as long as it takes.
    let waited = if ring.features().contains(Features::EXT_ARG) {
        ring.wait_timeout(ticket, LIMIT)
    } else {
        ring.wait(ticket)
    };
    Ok(waited?)
}
// ANCHOR_END: wait

/// Waits at most this long for the next item of a poll that goes on.
fn next(ring: &mut Ring, ticket: &Ticket<PollMulti<Listener>>) -> Result<PollEvents, Failure> {
    let start = Instant::now();
    loop {
        match ring.try_next(ticket)? {
            Next::Item(events) if events.contains(PollEvents::IN) => return Ok(events),
            Next::Item(events) => return Err(Failure::Failed(format!("{events:?}, and no IN"))),
            Next::Ended => return Err(Failure::Failed("the kernel ended the poll".into())),
            Next::Pending if start.elapsed() > LIMIT => {
                return Err(Failure::Failed(format!("no item within {} s", LIMIT.as_secs())));
            }
            // A signal is no reason to give up.
            Next::Pending => match ring.submit_and_wait_timeout(1, LIMIT) {
                Err(error) if error.cause == annulus::EnterCause::Interrupted => {}
                waited => drop(waited?),
            },
        }
    }
}

/// The events of a poll that reported a connection.
fn readable(polled: Outcome<PollEvents, Listener>) -> Result<PollEvents, Failure> {
    let events = polled.result.map_err(failed("cannot poll"))?;
    if events.contains(PollEvents::IN) {
        return Ok(events);
    }
    Err(Failure::Failed(format!("{events:?}, and no IN")))
}

// ANCHOR: accept
/// Accepts the waiting connection. Only now: the poll reported that this does not block.
fn accept(page: &mut Page, listener: &TcpListener) -> Result<(), Failure> {
    let (_, peer) = listener.accept().map_err(failed("cannot accept"))?;
    writeln!(page, "  accepted {peer}")
}
// ANCHOR_END: accept
