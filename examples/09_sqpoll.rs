//! A thread of the kernel that looks for entries, so that we need not enter it: at what price.
//!
//! ```text
//!   usual    we write entries ── enter ──► the kernel takes them, and we wait in there
//!   SQPOLL   we write entries ◄─ looks ─── its thread, awake: no enter at all
//!                             ── enter ──► its thread, asleep since `idle`: one to wake it
//! ```
//!
//! Look at: the enters, which go from one per batch to next to none; and the CPU time per request,
//! which counts the polling thread too: it takes a CPU for itself for as long as it is awake, also
//! when there is nothing to do. So it is for rings that are always busy, on machines with a CPU to
//! spare for each, or with one polling thread for all of them. Where that CPU is ours, too, the two
//! are in each other's way.
//!
//! Completions are looked for here, not waited for, since a wait is an enter as well. What needs to
//! sleep may as well enter.
//!
//! Linux 5.1; before 5.13 polling is for root, or for those with `CAP_SYS_NICE`.

use std::process::ExitCode;
use std::time::{Duration, Instant};
use std::{hint, thread};

use annulus::op::Nop;
use annulus::sys::flags::SetupFlags;
use annulus::{Ring, Setup, Stats};
use support::{Arguments, Failure, Page, failed};

mod support;

const USAGE: &str = "
usage: 09_sqpoll [--requests N] [--idle N] [--stats] [--help]

Does the same work on a usual ring and on one that a thread of the kernel
polls, and counts how often the kernel was entered.

  --requests N  how many requests; 32000 unless told
  --idle N      the thread sleeps when it found nothing for N milliseconds;
                50 unless told
  --stats       print what the rings did in all
  --help        print this";

/// Requests that are handed over together.
const BATCH: u32 = 32;
/// Twice as many, since the thread posts completions before it lets go of the entries.
const ENTRIES: u32 = 2 * BATCH;
/// Looks without success, after which the CPU is offered to others: the polling thread may need it.
const LOOKS: u32 = 1000;
/// How long the polling thread may take to fall asleep, beyond its time.
const LIMIT: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    support::main(USAGE, run)
}

fn run(mut arguments: Arguments, page: &mut Page) -> Result<(), Failure> {
    let wants_stats = arguments.flag("--stats");
    let requests = arguments.number_after("--requests")?.unwrap_or(32_000);
    let idle = arguments.number_after("--idle")?.unwrap_or(50);
    arguments.end()?;
    let idle = Duration::from_millis(idle.into());
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
    if wants_stats {
        writeln!(page, "usual:  {first}")?;
        writeln!(page, "polled: {second}")?;
    }
    polled.shutdown(LIMIT).map_err(failed("the ring did not end"))
}

/// Does the work on one ring, and returns the CPU time that it took: also the polling thread's.
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

/// Hands `count` requests over, and takes their completions.
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
        // Enters only if the kernel holds something back.
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
