//! A runtime for `async` code, of a few lines: tasks, timers, sockets, and cancellation by drop.
//!
//! ```text
//!   spawn ─► tasks ◄── poll ── ready queue ◄── wakers ◄── turn ◄── completions ◄─┐
//!              │                                                                 │
//!              └─► a future of an operation ─► reactor ─► ring ─► kernel ────────┘
//! ```
//!
//! | in `mini_runtime` | in the reactor, `annulus::future` |
//! |---|---|
//! | tasks, and a handle of the output of each | a future of an operation: `run` |
//! | the queue of ready tasks | a stream of its items: `items` |
//! | a waker, which queues its task | where the waker lies until the operation has ended |
//! | polling in rounds | what happens between rounds: `turn` submits, waits, takes, wakes |
//! | waking from another thread: a `RingSender` | timers: `sleep`, `timeout` |
//!
//! Look at: `mini_runtime/ready.rs` and `mini_runtime/runtime.rs`, which are the whole runtime. And
//! at what is not there: no unsafe, no buffer that is kept alive by hand; a future that is dropped
//! in the middle of a read costs one cancel, because the ring owns the buffer. `simulate_runtime`
//! runs all of it, unchanged, on a simulated kernel.
//!
//! The demonstration: an echo server and its clients on one thread, a timer that wins against a
//! read, and a wake-up from another thread. Linux 5.19.

use std::future::poll_fn;
use std::io;
use std::net::TcpListener;
use std::process::ExitCode;
use std::task::Poll;
use std::thread;

use annulus::sys::opcode::Opcode;
use annulus::{Capabilities, Setup};
use clap::Parser;
use mini_runtime::{Runtime, echo};
use support::{Failure, Page, failed, up_to};

mod mini_runtime;
mod support;

/// Runs an echo server and its clients as tasks of one thread, on one ring.
#[derive(Debug, Parser)]
#[command(verbatim_doc_comment)]
struct Arguments {
    /// How many clients, 1 to 32760
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = up_to(32760))]
    clients: u32,
    /// How often each sends and gets back
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = up_to(u32::MAX))]
    rounds: u32,
    /// Print what the ring did in all
    #[arg(long)]
    stats: bool,
}

fn main() -> ExitCode {
    support::main(run)
}

fn run(arguments: Arguments, page: &mut Page) -> Result<(), Failure> {
    let Arguments { clients, rounds, stats } = arguments;
    // They came with accepts that complete many times, which themselves cannot be asked for.
    if !Capabilities::detect()?.has_op(Opcode::SOCKET) {
        return Err(Failure::Failed("sockets that a ring makes need Linux 5.19".into()));
    }
    let listener = TcpListener::bind("127.0.0.1:0").map_err(failed("cannot listen"))?;
    let address = listener.local_addr().map_err(failed("cannot listen"))?;
    let before = support::cpu_time();
    // Each connection waits at both of its ends; in a full ring, none could begin that they await.
    let waiting = 2 * clients + 16;
    let ring = Setup::new(waiting.min(256)).cq_entries(waiting.max(512)).build_for()?;
    let runtime = Runtime::new(ring).map_err(failed("no eventfd"))?;
    let ours = runtime.clone();
    let (bytes, wakes) = runtime
        .block_on(async move {
            let bytes = echo::demonstrate(ours, listener, address, clients, rounds).await?;
            Ok::<_, io::Error>((bytes, woken_from_afar().await))
        })?
        .map_err(failed("the echo failed"))?;
    writeln!(page, "{clients} clients, {rounds} rounds each: {bytes} bytes there and back")?;
    writeln!(page, "a read of a silent peer lost against a timer, and was cancelled by its drop")?;
    writeln!(page, "another thread woke a task {wakes} times")?;
    if stats {
        let total = runtime.reactor().with_ring(|ring| ring.raw().stats());
        let cpu = support::cpu_time() - before;
        writeln!(page, "{}", support::stats_line(total, total.sqes, cpu))?;
    }
    Ok(())
}

/// A task that another thread wakes, three times.
async fn woken_from_afar() -> u32 {
    for _ in 0..3 {
        let mut asked = false;
        poll_fn(|context| {
            if std::mem::replace(&mut asked, true) {
                return Poll::Ready(());
            }
            let waker = context.waker().clone();
            thread::spawn(move || waker.wake());
            Poll::Pending
        })
        .await;
    }
    3
}
