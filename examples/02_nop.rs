//! What a request costs when it does nothing: less, the more of them share one system call.
//!
//! ```text
//!   batch 1     submit wait reap · submit wait reap · submit wait reap ·   3 enters for 3 requests
//!   batch 3     submit submit submit wait reap                             1 enter for 3
//! ```
//!
//! Look at: the column `CPU ns per NOP`. What remains at batch 128 is the kernel's and our own work
//! on one request; the rest of what batch 1 costs is the way into the kernel and back. And at the
//! word, here a number, that goes in with a request and comes back with its event: an event loop
//! knows by it whose turn it is.
//!
//! With more than 4294967296 NOPs the indices of both rings wrap: `02_nop 4300000000 --batch 128`
//! takes some minutes, and checks each completion.
//!
//! Linux 5.1.

use std::process::ExitCode;

use annulus::op::Nop;
use annulus::{Event, Ring, Setup, Ticket};
use support::progress::Progress;
use support::{Arguments, Failure, Page};

mod support;

const USAGE: &str = "
usage: 02_nop [COUNT] [--batch N] [--stats] [--help]

Submits COUNT NOPs (100000), N at a time, and prints what one costs.

  --batch N   only this batch, 1 to 32768, instead of 1, 8, 32 and 128
  --stats     print what the ring did in all
  --help      print this";

/// The batches of the table.
const BATCHES: [u32; 4] = [1, 8, 32, 128];

fn main() -> ExitCode {
    support::main(USAGE, run)
}

fn run(mut arguments: Arguments, page: &mut Page) -> Result<(), Failure> {
    let wants_stats = arguments.flag("--stats");
    let batch = arguments.number_after("--batch")?;
    let count = arguments.operand().as_ref().map_or(Ok(100_000), support::number)?;
    arguments.end()?;
    if batch.is_some_and(|batch| batch > 32768) {
        return Err(Failure::Usage("--batch: a ring has at most 32768 entries".into()));
    }
    let batches = batch.map_or(BATCHES.to_vec(), |batch| vec![batch]);

    // One ring for every row, as large as the largest batch. Its word is the number of a NOP.
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
    if wants_stats {
        let stats = ring.stats();
        let cpu = support::cpu_time() - begin;
        writeln!(page, "{}", support::stats_line(stats, stats.cqes, cpu))?;
    }
    Ok(())
}

/// Submits `count` NOPs, `batch` at a time, and checks that each completes once and in order.
fn submit_in_batches(ring: &mut Ring<u64>, count: u64, batch: u32) -> Result<(), Failure> {
    let mut tickets: Vec<Ticket<Nop>> = Vec::with_capacity(batch as usize);
    let (mut done, mut progress) = (0, Progress::new());
    while done < count {
        progress.show(format_args!("{} %", u128::from(done) * 100 / u128::from(count)));
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
        // What has ended gives its slot back only here, and nobody else may have it until then.
        for ticket in tickets.drain(..) {
            if ring.try_take(ticket).is_err() {
                return Err(Failure::Failed("a NOP that has not ended".into()));
            }
        }
    }
    Ok(())
}
