//! A polling thread in the kernel that takes entries without an enter, and what that costs.
//!
//! ```text
//!   usual    we write entries ── enter ──► the kernel takes them, and we wait in there
//!   SQPOLL   we write entries ◄─ looks ─── its thread, awake: no enter at all
//!                             ── enter ──► its thread, asleep since `idle`: one to wake it
//! ```
//!
//! Look at: the enters, which fall from one per batch to almost none; and the CPU time per request,
//! which includes the polling thread: it uses a whole CPU for as long as it is awake, even when
//! there is nothing to do. So polling is for rings that are always busy, on machines with a CPU to
//! spare for each, or with one polling thread for all rings. If the thread has to share our CPU,
//! the two slow each other down.
//!
//! This program looks for completions and does not wait for them, since a wait is an enter as well.
//! A program that needs to sleep may as well enter.
//!
//! Linux 5.1; before 5.13 polling is for root, or for users with `CAP_SYS_NICE`.

use std::process::ExitCode;
use std::time::{Duration, Instant};
use std::{hint, thread};

use annulus::op::Nop;
use annulus::sys::flags::SetupFlags;
use annulus::{Ring, Setup, Stats};
use clap::Parser;
use support::{Failure, Page, failed, up_to};

mod support;

/// Does the same work on a usual ring and on one that a thread of the kernel
/// polls, and counts how often the kernel was entered.
#[derive(Debug, Parser)]
#[command(verbatim_doc_comment)]
struct Arguments {
    /// How many requests
    #[arg(long, value_name = "N", default_value_t = 32_000, value_parser = up_to(u32::MAX))]
    requests: u32,
    /// Milliseconds until an idle thread sleeps
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = up_to(u32::MAX))]
    idle: u32,
    /// Print what the rings did in all
    #[arg(long)]
    stats: bool,
}

/// Requests that are submitted together.
const BATCH: u32 = 32;
/// Twice as many, since the thread posts completions before it releases the entries.
const ENTRIES: u32 = 2 * BATCH;
/// How many checks without success come before a yield: the polling thread may need the CPU.
const LOOKS: u32 = 1000;
/// How long the polling thread may take to fall asleep, beyond its idle time.
const LIMIT: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    support::main(run)
}

fn run(arguments: Arguments, page: &mut Page) -> Result<(), Failure> {
    let requests = arguments.requests;
    let idle = Duration::from_millis(arguments.idle.into());
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    if cpus < 3 {
        writeln!(page, "{cpus} CPUs: polling takes one, and we one; there is none to spare, and")?;
        writeln!(page, "the figures are worse for it\n")?;
    }

    let mut usual = Setup::new(ENTRIES).build()?;
    let cpu = work(&mut usual, requests)?;
    show(page, "usual", &usual, cpu)?;
    let first = support::stats_line(usual.raw().stats(), requests.into(), cpu);
    usual.shutdown(LIMIT).map_err(failed("the ring did not end"))?;

    let mut polled = match Setup::new(ENTRIES).sqpoll(idle).build() {
        Ok(ring) => ring,
        Err(error) => return writeln!(page, "polled: left out. {error}"),
    };
    let cpu = work(&mut polled, requests)?;
    show(page, "polled", &polled, cpu)?;
    let second = support::stats_line(polled.raw().stats(), requests.into(), cpu);
    sleep(page, &mut polled, idle)?;
    if arguments.stats {
        writeln!(page, "usual:  {first}")?;
        writeln!(page, "polled: {second}")?;
    }
    polled.shutdown(LIMIT).map_err(failed("the ring did not end"))
}

/// Does the work on one ring, and returns the CPU time that it took, including the polling
/// thread's.
fn work(ring: &mut Ring, requests: u32) -> Result<Duration, Failure> {
    let before = support::cpu_time();
    let mut left = requests;
    while left > 0 {
        let batch = left.min(BATCH);
        complete(ring, batch)?;
        left -= batch;
    }
    Ok(support::cpu_time() - before)
}

fn show(page: &mut Page, name: &str, ring: &Ring, cpu: Duration) -> Result<(), Failure> {
    let Stats { enters, sqes, .. } = ring.raw().stats();
    let each = cpu.as_nanos() / u128::from(sqes.max(1));
    writeln!(page, "{name}: {sqes} requests, {enters} enters, {each} CPU ns per request")
}

// ANCHOR: complete
/// Submits `count` requests, and takes their completions.
fn complete(ring: &mut Ring, count: u32) -> Result<(), Failure> {
    let mut tickets = Vec::new();
    for _ in 0..count {
        tickets.push(ring.submit(Nop)?);
    }
    if ring.raw().flags().contains(SetupFlags::SQPOLL) {
        // Enters only if the thread sleeps.
        ring.submit_all()?;
    } else {
        support::submit_and_wait(ring, count)?;
    }
    let (mut done, mut looks) = (0, 0);
    while done < count {
        // Enters only if the kernel holds completions back.
        done += ring.reap(|_| {})?;
        looks += 1;
        if looks % LOOKS == 0 {
            thread::yield_now();
        } else {
            hint::spin_loop();
        }
    }
    for ticket in tickets {
        ring.wait(ticket)?.map_err(failed("a nop"))?;
    }
    Ok(())
}
// ANCHOR_END: complete

// ANCHOR: sleep
/// Lets the thread fall asleep, and wakes it.
fn sleep(page: &mut Page, ring: &mut Ring, idle: Duration) -> Result<(), Failure> {
    let start = Instant::now();
    while !ring.raw().needs_wakeup() {
        if start.elapsed() > LIMIT + idle {
            return writeln!(page, "after {LIMIT:?} with nothing to do, the thread is awake still");
        }
        thread::sleep(Duration::from_millis(5));
    }
    writeln!(page, "after {idle:?} with nothing to do, the thread sleeps")?;
    for what in ["the next request", "the one after it"] {
        let before = ring.raw().stats().enters;
        complete(ring, 1)?;
        let enters = ring.raw().stats().enters - before;
        writeln!(page, "  enters for {what}: {enters}")?;
    }
    Ok(())
}
// ANCHOR_END: sleep
