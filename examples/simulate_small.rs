//! Simulate your service: an echo service runs a thousand times, each time with other luck.
//!
//! ```text
//!   seed ──► Sim: delays, short transfers, signals ──► the service, unchanged ──► what came back?
//! ```
//!
//! Look at: the service knows nothing of the simulation, which is one function of thirty lines. The
//! second service has a bug that a test on one machine hardly ever shows: it believes that a send
//! sends everything. The simulation finds it, leaves out one delay and fault after the other, and
//! shows the smallest run that fails. It needs the feature `sim`, and no io_uring at all: it runs
//! where the kernel has none.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use annulus::op::{self, AcceptMulti, SendFlags};
use annulus::sim::shrink::shrink;
use annulus::sim::{Faults, Sim};
use annulus::{Arrival, EnterCause, EnterError, EventLoop, Io, Setup};

/// Runs an echo service on a simulated kernel, once for each seed.
#[derive(clap::Parser)]
struct Arguments {
    /// How many seeds.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// Only this one, with all that happened.
    #[arg(long)]
    seed: Option<u64>,
}

/// How a service sends.
type Sending = SendFlags;

// The service: nothing in it knows of a simulation.

fn serve(io: &mut Io<'_, Sending>, listener: OwnedFd) -> io::Result<()> {
    io.submit_multishot(AcceptMulti::new(listener), |io, arrival| match arrival {
        Arrival::Item(client) => echo(io, Rc::new(client?), Vec::with_capacity(64)),
        Arrival::End(ended) => serve(io, ended.fd),
    })?;
    Ok(())
}

fn echo(io: &mut Io<'_, Sending>, client: Rc<OwnedFd>, buf: Vec<u8>) -> io::Result<()> {
    io.submit(op::Recv::new(client, buf), |io, received| {
        if received.result? == 0 {
            return Ok(());
        }
        let send = op::Send::new(received.fd, received.buf).flags(*io.state);
        io.submit(send, |io, sent| {
            sent.result?;
            echo(io, sent.fd, sent.buf)
        })?;
        Ok(())
    })?;
    Ok(())
}

// The simulation: three clients send at their times; at the end each has received what it sent.

const TEXT: &[u8] = b"hello, is anybody there?";

fn simulate(sim: &Sim, sending: Sending) -> Result<(), Box<dyn Error>> {
    let mut events = EventLoop::new(Setup::new(16).kernel(sim.kernel()).build_for()?, sending);
    let address = SocketAddr::from(([10, 0, 0, 1], 80));
    serve(&mut events.io(), sim.listener(address)?)?;
    let mut clients = Vec::new();
    for number in 1..=3 {
        let client = sim.connect(address)?;
        clients.push(client.try_clone()?);
        sim.after(Duration::from_millis(number), move |sim| {
            sim.write(&client, TEXT).expect("room");
        });
    }
    // The service would wait for more clients without end; so in the end nothing can happen.
    match events.run(|_, error| eprintln!("a client: {error}")) {
        Err(error) if !is_idle(&error) => return Err(error.into()),
        _ => {}
    }
    for client in clients {
        let echo = sim.read(&client, 100).unwrap_or_default();
        if echo != TEXT {
            return Err(format!("a client got \"{}\"", echo.escape_ascii()).into());
        }
    }
    Ok(())
}

/// Whether the loop ended because nothing can happen any more.
fn is_idle(error: &EnterError) -> bool {
    matches!(error.cause, EnterCause::Other(errno) if errno.raw() == libc::EDEADLK)
}

fn main() -> Result<(), Box<dyn Error>> {
    let Arguments { seeds, seed } = <Arguments as clap::Parser>::parse();
    if let Some(seed) = seed {
        let sim = Sim::with_faults(seed, Faults::SOME);
        simulate(&sim, SendFlags::WAIT_ALL)?;
        sim.trace().iter().for_each(|record| println!("{record}"));
        return Ok(());
    }
    for seed in 0..seeds {
        let sim = Sim::with_faults(seed, Faults::SOME);
        simulate(&sim, SendFlags::WAIT_ALL)?;
        let report = sim.report();
        assert!(report.is_clean(), "{report}");
    }
    println!("{seeds} runs: every client got back what it had sent");
    let bad = |sim: &Sim| simulate(sim, SendFlags::default());
    let found = (0..seeds).find_map(|seed| shrink(seed, Faults::SOME, bad));
    println!("without WAIT_ALL: {}", found.ok_or("the bug was not found")?);
    Ok(())
}
