//! Chains: operations that begin one after the other, where they break, and link timeouts.
//!
//! ```text
//!   soft   write ──all of it──► write ──all of it──► fsync
//!             └─ an error, or less than was asked: the rest is cancelled
//!   hard   write ──however it ended──► write
//!   time   read
//!             └ LINK_TIMEOUT: cancels it when the time is up, or ends when it has ended
//! ```
//!
//! Look at: a chain costs one submission, and the kernel goes on by itself; a read that returns
//! less than it was asked to breaks a soft chain, like an error does; a step that never began ends
//! with `ECANCELED`, and gives its buffer back anyway; and the kernel counts a timeout that has
//! expired as an error, `ETIME`, which is no error for us.
//!
//! Linux 5.6; timeouts that repeat need 6.4, and are skipped before.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use annulus::op::{Fsync, Nop, Offset, Read, Timeout, TimeoutMulti, Write};
use annulus::{ChainEnd, Ring, Setup, Step, StepExt};
use clap::Parser;
use support::{Failure, Page, failed};

mod support;

/// Submits chains that hold and chains that break, and operations with a clock,
/// and prints what each step ended with.
#[derive(Debug, Parser)]
#[command(verbatim_doc_comment)]
struct Arguments {
    /// Print what the ring did in all
    #[arg(long)]
    stats: bool,
}

/// The timeout of operations that wait in vain.
const SHORT: Duration = Duration::from_millis(20);
/// The timeout of operations that end sooner.
const LONG: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    support::main(run)
}

fn run(arguments: Arguments, page: &mut Page) -> Result<(), Failure> {
    let mut ring = Setup::new(8).build()?;
    let file = Rc::new(nameless_file()?);
    let before = support::cpu_time();

    holds(page, &mut ring, &file)?;
    breaks(page, &mut ring, &file)?;
    clocks(page, &mut ring, &file)?;
    timeouts(page, &mut ring)?;
    repeats(page, &mut ring)?;

    let (stats, cpu) = (ring.raw().stats(), support::cpu_time() - before);
    if arguments.stats {
        writeln!(page, "{}", support::stats_line(stats, stats.sqes, cpu))?;
    }
    ring.shutdown(Duration::from_secs(1)).map_err(failed("the ring did not end"))
}

// ANCHOR: holds
/// Chains in which every step does everything it was asked to.
fn holds(page: &mut Page, ring: &mut Ring, file: &Rc<File>) -> Result<(), Failure> {
    writeln!(page, "a chain that holds: write, write, fsync, read")?;
    let write = |text, at| Write::new(Rc::clone(file), text).offset(Offset::At(at));
    let chain = (
        write("hello, ", 0),
        write("world", 7),
        Fsync::new(Rc::clone(file)),
        Read::new(Rc::clone(file), [0; 12]).offset(Offset::At(0)),
    );
    let tickets = ring.submit_chain(chain)?;
    let before = ring.raw().stats().enters;
    let count = ring.submit_all()?;
    let enters = ring.raw().stats().enters - before;
    writeln!(page, "  {count} entries handed over by {enters} enter")?;
    let chain = ring.wait_chain(tickets)?;
    let (first, second, synced, read) = chain.outputs;
    show(page, "write", &first.result)?;
    show(page, "write", &second.result)?;
    show(page, "fsync", &synced.result)?;
    show(page, "read", &read.result)?;
    let text = String::from_utf8_lossy(&read.buf);
    writeln!(page, "  {}; it read {text:?}\n", told(chain.end))
}
// ANCHOR_END: holds

// ANCHOR: breaks
/// Chains that break, soft and hard: by an error, and by a result that is too short.
fn breaks(page: &mut Page, ring: &mut Ring, file: &Rc<File>) -> Result<(), Failure> {
    // Writing to a pipe without a reader fails: the read end is closed.
    let closed = || io::pipe().map(|(_, writer)| writer).map_err(failed("no pipe"));

    writeln!(page, "an error breaks it: write into a closed pipe, nop")?;
    let tickets = ring.submit_chain((Write::new(closed()?, "lost"), Nop))?;
    let chain = ring.wait_chain(tickets)?;
    show(page, "write", &chain.outputs.0.result)?;
    show(page, "nop", &chain.outputs.1)?;
    writeln!(page, "  {}\n", told(chain.end))?;

    writeln!(page, "a short read breaks it: read 100 bytes of 12, write")?;
    let read = || Read::new(Rc::clone(file), vec![0; 100].into_boxed_slice()).offset(Offset::At(0));
    let write = || Write::new(Rc::clone(file), "HELLO").offset(Offset::At(0));
    let tickets = ring.submit_chain((read(), write()))?;
    let chain = ring.wait_chain(tickets)?;
    show(page, "read", &chain.outputs.0.result)?;
    show(page, "write", &chain.outputs.1.result)?;
    writeln!(page, "  {}; and {:?} came back\n", told(chain.end), chain.outputs.1.buf)?;

    writeln!(page, "a hard link holds: the two of before, tied hard")?;
    let tickets =
        ring.submit_chain((Write::new(closed()?, "lost").hard(), read().hard(), write()))?;
    let chain = ring.wait_chain(tickets)?;
    show(page, "write", &chain.outputs.0.result)?;
    show(page, "read", &chain.outputs.1.result)?;
    show(page, "write", &chain.outputs.2.result)?;
    writeln!(page, "  {}\n", told(chain.end))
}
// ANCHOR_END: breaks

// ANCHOR: clocks
/// Reads with a link timeout.
fn clocks(page: &mut Page, ring: &mut Ring, file: &Rc<File>) -> Result<(), Failure> {
    let (silent, _writer) = io::pipe().map_err(failed("no pipe"))?;
    writeln!(page, "a clock runs out: read from a silent pipe within {SHORT:?}, nop")?;
    let tickets = ring.submit_chain((Read::new(silent, [0; 8]).within(SHORT), Nop))?;
    let chain = ring.wait_chain(tickets)?;
    let (read, nop) = chain.outputs;
    show(page, "read", &read.output.result)?;
    show(page, "nop", &nop)?;
    writeln!(page, "  time was up: {}; {}\n", read.expired, told(chain.end))?;

    writeln!(page, "a clock that is not needed: read 5 bytes within {LONG:?}, nop")?;
    let read = Read::new(Rc::clone(file), [0; 5]).offset(Offset::At(0)).within(LONG);
    let tickets = ring.submit_chain((read, Nop))?;
    let chain = ring.wait_chain(tickets)?;
    let (read, nop) = chain.outputs;
    show(page, "read", &read.output.result)?;
    show(page, "nop", &nop)?;
    writeln!(page, "  time was up: {}; {}\n", read.expired, told(chain.end))
}
// ANCHOR_END: clocks

/// Timeouts by themselves: they wait for a time, or for other operations to complete.
fn timeouts(page: &mut Page, ring: &mut Ring) -> Result<(), Failure> {
    writeln!(page, "timeouts: one that runs out, one that another completion ends, one cancelled")?;
    let timeout = ring.submit(Timeout::new(SHORT))?;
    show(page, "after 20 ms", &ring.wait(timeout)?)?;
    let timeout = ring.submit(Timeout::new(LONG).or_after(1))?;
    let nop = ring.submit(Nop)?;
    show(page, "after one other", &ring.wait(timeout)?)?;
    show(page, "the other", &ring.wait(nop)?)?;
    let timeout = ring.submit(Timeout::new(LONG))?;
    ring.cancel(&timeout)?;
    show(page, "cancelled", &ring.wait(timeout)?)?;
    writeln!(page)
}

/// One request that completes again and again.
fn repeats(page: &mut Page, ring: &mut Ring) -> Result<(), Failure> {
    writeln!(page, "a timeout that repeats: each 5 ms, three times")?;
    let ticking = ring.submit(TimeoutMulti::new(Duration::from_millis(5)).times(3))?;
    let mut count = 0;
    while ring.next(&ticking)?.is_some() {
        count += 1;
        writeln!(page, "  tick {count}")?;
    }
    match ring.wait(ticking)? {
        Err(error) if count == 0 && error.kind() == io::ErrorKind::InvalidInput => {
            writeln!(page, "  left out: it needs Linux 6.4")?;
        }
        ended => show(page, "in the end", &ended)?,
    }
    writeln!(page, "  in flight: {}", ring.in_flight())
}

/// Prints the result of a step.
fn show(page: &mut Page, what: &str, result: &io::Result<impl Debug>) -> Result<(), Failure> {
    match result {
        Ok(value) => writeln!(page, "  {what:<16} {value:?}"),
        Err(error) => writeln!(page, "  {what:<16} {error}"),
    }
}

fn told(end: ChainEnd) -> String {
    match end {
        ChainEnd::Complete => "every step began".into(),
        ChainEnd::Broken { at } => format!("broken at step {at}, counted from 0"),
    }
}

/// A file that is removed when it is closed.
fn nameless_file() -> Result<File, Failure> {
    let name = format!("annulus-06-{}", std::process::id());
    let path = std::env::temp_dir().join(name);
    let what = format!("cannot make {}", path.display());
    let mut options = OpenOptions::new();
    let file =
        options.read(true).write(true).create_new(true).open(&path).map_err(failed(&what))?;
    fs::remove_file(&path).map_err(failed(&what))?;
    Ok(file)
}
