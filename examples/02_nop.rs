//! What a request costs when it does nothing: less, the more of them share one system call.
//!
//! ```text
//!   batch 1     push submit pop · push submit pop · push submit pop ·      3 enters for 3 requests
//!   batch 3     push push push submit pop pop pop                          1 enter for 3
//! ```
//!
//! Look at: the column `CPU ns per NOP`. What remains at batch 128 is the kernel's and our own work
//! on one request; the rest of what batch 1 costs is the way into the kernel and back.
//!
//! With more than 4294967296 NOPs the indices of both rings wrap: `02_nop 4300000000 --batch 128`
//! takes some minutes, and checks each completion.
//!
//! Linux 5.1.
#![allow(unsafe_code, reason = "pushes entries")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use annulus::sys::abi::Sqe;
use annulus::sys::opcode::Opcode;
use annulus::{RawRing, Setup};
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

    // One ring for every row, as large as the largest batch.
    let entries = batches.iter().copied().max().unwrap_or(1);
    let mut ring = Setup::new(entries).build_raw()?;
    let begin = support::cpu_time();
    writeln!(page, "{count} NOPs, on a ring of {} entries", ring.sq_entries())?;
    writeln!(page, "{:>7} {:>9} {:>15}", "batch", "enters", "CPU ns per NOP")?;
    for &batch in &batches {
        let (enters, start) = (ring.stats().enters, support::cpu_time());
        submit_in_batches(&mut ring, count, batch)?;
        let each = (support::cpu_time() - start).as_nanos() / u128::from(count);
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
fn submit_in_batches(ring: &mut RawRing, count: u64, batch: u32) -> Result<(), Failure> {
    let (mut done, mut told) = (0, Instant::now());
    while done < count {
        if told.elapsed() > Duration::from_secs(1) {
            told = Instant::now();
            eprint!("\r{:>3} %", u128::from(done) * 100 / u128::from(count));
        }
        let end = count.min(done.saturating_add(u64::from(batch)));
        for number in done..end {
            let nop = Sqe { opcode: Opcode::NOP, user_data: number, ..Sqe::ZERO };
            // SAFETY: a NOP points to nothing (OP1).
            unsafe { ring.push(nop) }?;
        }
        support::submit_and_wait(ring, u32::try_from(end - done).expect("a batch"))?;
        let mut wrong = None;
        ring.drain(|cqe| {
            if (cqe.user_data, cqe.res) != (done, 0) {
                wrong.get_or_insert(cqe);
            }
            done += 1;
        })?;
        if let Some(cqe) = wrong {
            return Err(Failure::Failed(format!("a completion that no NOP has: {cqe:?}")));
        }
    }
    Ok(())
}
