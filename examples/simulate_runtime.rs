//! Simulate your runtime: that of `10_mini_runtime`, and the server of `echo_small`, unchanged, ten
//! thousand times, each time with other luck.
//!
//! ```text
//!   seed ─► Sim ─┬─ mini_runtime: server, clients and timer are its tasks ─► are all bytes back?
//!                └─ echo_small: clients act from outside of the ring    ─► has each its echo?
//! ```
//!
//! | | what is planted | found, because |
//! |---|---|---|
//! | `mini_runtime` | a task that is woken during its round is lost | a wait can never end |
//! | `echo_small` | a short send is believed | a client has got less than it sent |
//!
//! Look at: `in_runtime` and `with_clients`, which are the whole simulation of each; the files that
//! they run are those of the other two examples. What is planted lies in `simulate_runtime/`; a run
//! on Linux is not likely to show it. The simulation does, leaves out one delay and fault after the
//! other, and prints the smallest run that fails. See `docs/SIMULATE-YOUR-RUNTIME.md`. It needs the
//! feature `sim`, and no io_uring at all.

use std::error::Error;
use std::fmt::Display;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::task::Waker;
use std::time::Duration;

use annulus::sim::shrink::shrink;
use annulus::sim::{Faults, Sim};
use annulus::{EnterCause, EnterError, EventLoop, Io, Ring, Setup};
use echo_small::Served;

#[expect(dead_code, reason = "the program around the server")]
mod echo_small;
mod mini_runtime;
#[expect(clippy::duplicate_mod, reason = "the same files, with another queue")]
#[path = "simulate_runtime/planted.rs"]
mod planted;
#[path = "simulate_runtime/planted_echo.rs"]
mod planted_echo;

/// Runs the mini runtime and the small echo server on a simulated kernel, once for
/// each seed.
#[derive(clap::Parser)]
#[command(verbatim_doc_comment)]
struct Arguments {
    /// How many seeds
    #[arg(long, value_name = "N", default_value_t = 1000)]
    seeds: u64,
    /// Only this one, with all that happens
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Those with a planted bug, until it is found; then the smallest run that fails
    #[arg(long)]
    planted: bool,
}

type Outcome<T = ()> = Result<T, Box<dyn Error>>;
type Program = fn(&Sim) -> Outcome;

/// What is simulated: unchanged, and with a bug.
const PROGRAMS: [(&str, Program, Program); 2] = [
    ("mini_runtime", clean_runtime, planted_runtime),
    ("echo_small", clean_server, planted_server),
];

// The mini runtime: its demonstration, of which nothing is outside.

const CLIENTS: u32 = 4;

fn clean_runtime(sim: &Sim) -> Outcome {
    in_runtime(sim, |ring, listener, address| {
        let runtime = mini_runtime::Runtime::new(ring)?;
        let main = mini_runtime::echo::demonstrate(runtime.clone(), listener, address, CLIENTS, 1);
        Ok(runtime.block_on(main)??)
    })
}

fn planted_runtime(sim: &Sim) -> Outcome {
    in_runtime(sim, |ring, listener, address| {
        let runtime = planted::Runtime::new(ring)?;
        let main = planted::echo::demonstrate(runtime.clone(), listener, address, CLIENTS, 1);
        Ok(runtime.block_on(main)??)
    })
}

fn in_runtime(
    sim: &Sim,
    demonstrate: fn(Ring<Option<Waker>>, TcpListener, SocketAddr) -> Outcome<u64>,
) -> Outcome {
    let ring = Setup::new(8).cq_entries(64).kernel(sim.kernel()).build_for()?;
    let address = SocketAddr::from(([10, 0, 0, 1], 80));
    let bytes = demonstrate(ring, sim.listener(address)?.into(), address)?;
    let said = u64::from(CLIENTS) * "client 0, round 0".len() as u64;
    if bytes == said { Ok(()) } else { Err(format!("{bytes} of {said} bytes came back").into()) }
}

// The echo server: three clients send at their times; at the end each has received what it sent.

const TEXT: &[u8] = b"hello, is anybody there?";

fn clean_server(sim: &Sim) -> Outcome {
    with_clients(sim, echo_small::accept)
}

fn planted_server(sim: &Sim) -> Outcome {
    with_clients(sim, planted_echo::accept)
}

fn with_clients(
    sim: &Sim,
    accept: fn(&mut Io<'_, Served>, TcpListener) -> io::Result<()>,
) -> Outcome {
    let ring = Setup::new(8).kernel(sim.kernel()).build_for()?;
    let mut events = EventLoop::new(ring, Served::default());
    let address = SocketAddr::from(([10, 0, 0, 1], 80));
    accept(&mut events.io(), sim.listener(address)?.into())?;
    let mut clients = Vec::new();
    for number in 1..=3 {
        let client = sim.connect(address)?;
        clients.push(client.try_clone()?);
        sim.after(Duration::from_millis(number), move |sim| {
            sim.write(&client, TEXT).expect("room");
        });
    }
    // The server would wait for more clients without end; so in the end nothing can happen.
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

// What the program does with them.

fn main() -> Outcome {
    let Arguments { seeds, seed, planted } = clap::Parser::parse();
    for (name, clean, bad) in PROGRAMS {
        let program = if planted { bad } else { clean };
        match seed {
            Some(seed) => show(name, seed, program),
            None if planted => {
                let found = (0..seeds).find_map(|seed| shrink(seed, Faults::SOME, program));
                println!("{name}: {}\n", found.ok_or("the bug was not found")?);
            }
            None => {
                (0..seeds).try_for_each(|seed| try_one(seed, program))?;
                println!("{name}: {seeds} runs, and all went well");
            }
        }
    }
    Ok(())
}

/// One run; fails if the program does, or has broken a rule.
fn try_one(seed: u64, program: Program) -> Outcome {
    let sim = Sim::with_faults(seed, Faults::SOME);
    let wrong = |what: &dyn Display| format!("seed {seed}: {what}");
    program(&sim).map_err(|error| wrong(&error))?;
    let report = sim.report();
    if report.is_clean() { Ok(()) } else { Err(wrong(&report).into()) }
}

/// One run, with all that happens.
fn show(name: &str, seed: u64, program: Program) {
    let sim = Sim::with_faults(seed, Faults::SOME);
    let outcome = program(&sim);
    println!("{name}, seed {seed}: {outcome:?}");
    sim.trace().iter().for_each(|record| println!("  {record}"));
}
