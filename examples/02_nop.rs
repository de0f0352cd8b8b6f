//! The cost of a request that does nothing: less per request, the more share one system call.
//!
//! ```text
//!   batch 1     submit wait reap · submit wait reap · submit wait reap ·   3 enters for 3 requests
//!   batch 3     submit submit submit wait reap                             1 enter for 3
//! ```
//!
//! Look at: the column `CPU ns per NOP`. At batch 128 it is the work of the kernel and of this
//! crate on one request; the rest of the cost at batch 1 is the way into the kernel and back. And
//! at the user value, here a number, that is submitted with an operation and comes back with its
//! event: an event loop uses it to find out which operation has ended.
//!
//! With more than 4294967296 NOPs the indices of both rings wrap: `02_nop 4300000000 --batch 128`
//! takes some minutes, and checks each completion.
//!
//! Linux 5.1.

use std::process::ExitCode;

use annulus::op::Nop;
use annulus::{Event, Ring, Setup, Ticket};
use clap::{Parser, value_parser};
use support::progress::Progress;
use support::{Failure, Page, up_to};

mod support;

/// Submits NOPs, so many at a time, and prints what one costs.
#[derive(Debug, Parser)]
#[command(verbatim_doc_comment)]
struct Arguments {
    /// How many NOPs
    #[arg(default_value_t = 100_000, value_parser = value_parser!(u64).range(1..=u64::MAX))]
    count: u64,
    /// Only this batch, 1 to 32768, instead of 1, 8, 32 and 128
    #[arg(long, value_name = "N", value_parser = up_to(32768))]
    batch: Option<u32>,
    /// Print what the ring did in all
    #[arg(long)]
    stats: bool,
}

/// The batches of the table.
const BATCHES: [u32; 4] = [1, 8, 32, 128];

fn main() -> ExitCode {
    support::main(run)
}

fn run(arguments: Arguments, page: &mut Page) -> Result<(), Failure> {
    let count = arguments.count;
    let batches = arguments.batch.map_or(BATCHES.to_vec(), |batch| vec![batch]);

    // One ring for every row, as large as the largest batch. Its user value is the number of a NOP.
    let entries = batches.iter().copied().max().unwrap_or(1);
    let mut ring: Ring<u64> = Setup::new(entries).build_for()?;
    let begin = support::cpu_time();
    writeln!(page, "{count} NOPs, on a ring of {} entries", ring.raw().sq_entries())?;
    writeln!(page, "{:>7} {:>9} {:>15}", "batch", "enters", "CPU ns per NOP")?;
    for &batch in &batches {
        let (enters, start) = (ring.stats().enters, support::cpu_time());
        submit_in_batches(&mut ring, count, batch)?;
        let each = support::nanos_each(support::cpu_time() - start, count);
        writeln!(page, "{batch:>7} {:>9} {each:>15}", ring.stats().enters - enters)?;
    }
    if arguments.stats {
        let stats = ring.stats();
        let cpu = support::cpu_time() - begin;
        writeln!(page, "{}", support::stats_line(stats, stats.cqes, cpu))?;
    }
    Ok(())
}

/// Submits `count` NOPs, `batch` at a time, and checks that each completes once and in order.
fn submit_in_batches(ring: &mut Ring<u64>, count: u64, batch: u32) -> Result<(), Failure> {
    let mut tickets: Vec<Ticket<Nop>> = Vec::with_capacity(batch as usize);
    let (mut done, progress) = (0, Progress::of_requests(count));
    while done < count {
        // Seldom: what it takes counts as cost.
        if done % 65536 < u64::from(batch) {
            progress.show(done);
        }
        let end = count.min(done.saturating_add(u64::from(batch)));
        for number in done..end {
            tickets.push(ring.submit_for(Nop, number)?);
        }
        support::submit_and_wait(ring, u32::try_from(end - done).expect("a batch"))?;
        let mut wrong = String::new();
        ring.reap(|event| {
            match event {
                Event::Ended { user, result: Ok(0), .. } if *user == done => {}
                other => wrong = format!("an event that NOP {done} cannot have: {other:?}"),
            }
            done += 1;
        })?;
        if !wrong.is_empty() {
            return Err(Failure::Failed(wrong));
        }
        // An operation that has ended gives its slot back only here; no other operation has it
        // before.
        for ticket in tickets.drain(..) {
            if ring.try_take(ticket).is_err() {
                return Err(Failure::Failed("a NOP that has not ended".into()));
            }
        }
    }
    Ok(())
}
