//! Cancelling: what can be cancelled, how it ends, and why no data is lost on the way.
//!
//! ```text
//!   Cancel ──► the kernel ──┬─► CancelOutcome           whether the cancel found the operation
//!                           └─► the operation completes  and gives back all that it was given
//! ```
//!
//! | outcome | the operation then ends with |
//! |---|---|
//! | `Cancelled` | `ECANCELED`, or the result that it had already |
//! | `TooLate` | `EINTR`, `ECANCELED`, or its result: it was already running |
//! | `NotFound` | its result: it had completed |
//!
//! Look at: a cancel that succeeds frees nothing, and one that fails loses nothing; only the
//! operation's own completion reports its result. The race between the two may go either way, a
//! thousand times, and every byte is accounted for. Then three ways to give up an output: detach
//! the ticket, drop it, end the ring.
//!
//! Linux 5.6; cancelling by file, and cancelling everything, need 5.19, and are skipped before.

use std::fmt::Debug;
use std::io::{self, PipeReader, PipeWriter, Write as _};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use std::{hint, thread};

use annulus::op::{Cancel, CancelOutcome, Nop, Outcome, Read};
use annulus::{Ring, Setup, Stats, Ticket};
use clap::Parser;
use support::{Failure, Page, failed, up_to};

mod support;

/// Cancels reads in several ways, races a cancel against data, and shows that
/// nothing is lost or leaked.
#[derive(Debug, Parser)]
#[command(verbatim_doc_comment)]
struct Arguments {
    /// How often to race
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = up_to(u32::MAX))]
    races: u32,
    /// Print what the ring did in all
    #[arg(long)]
    stats: bool,
}

/// A read from a pipe that other readers may share.
type Reading = Read<Rc<PipeReader>, [u8; 8]>;

fn main() -> ExitCode {
    support::main(run)
}

fn run(arguments: Arguments, page: &mut Page) -> Result<(), Failure> {
    let mut ring = Setup::new(8).build()?;
    let before = support::cpu_time();

    by_ticket(page, &mut ring)?;
    by_file(page, &mut ring)?;
    everything(page, &mut ring)?;
    let raced = race(page, arguments.races)?;
    unwanted(page, &mut ring)?;

    let (mut stats, cpu) = (ring.raw().stats(), support::cpu_time() - before);
    stats.enters += raced.enters;
    stats.sqes += raced.sqes;
    stats.cqes += raced.cqes;
    the_end(page, ring)?;
    if arguments.stats {
        writeln!(page, "{}", support::stats_line(stats, stats.sqes, cpu))?;
    }
    Ok(())
}

// ANCHOR: by_ticket
/// One operation, before it has completed and after.
fn by_ticket(page: &mut Page, ring: &mut Ring) -> Result<(), Failure> {
    writeln!(page, "one read, by its ticket")?;
    let (silent, _writer) = pipe()?;
    let read = ring.submit(Read::new(silent, Vec::with_capacity(4096)))?;
    let cancel = ring.submit(Cancel::ticket(&read))?;
    show(page, "the cancel", ring.wait(cancel)?)?;
    let Outcome { result, fd, buf } = ring.wait(read)?;
    show_result(page, "the read", result)?;
    let (users, room) = (Rc::strong_count(&fd), buf.capacity());
    writeln!(page, "  back: the pipe, with {users} owner, and a buffer of {room} bytes\n")?;

    writeln!(page, "one nop, which has completed")?;
    let nop = ring.submit(Nop)?;
    ring.submit_all()?;
    let cancel = ring.submit(Cancel::ticket(&nop))?;
    show(page, "the cancel", ring.wait(cancel)?)?;
    show_result(page, "the nop", ring.wait(nop)?)?;
    writeln!(page)
}
// ANCHOR_END: by_ticket

/// All operations on one file, and no others.
fn by_file(page: &mut Page, ring: &mut Ring) -> Result<(), Failure> {
    writeln!(page, "three reads by their file, and not a fourth one of another file")?;
    let (silent, _writer) = pipe()?;
    let (other, _other_writer) = pipe()?;
    let mut reads = Vec::new();
    for file in [&silent, &silent, &silent, &other] {
        reads.push(ring.submit(Read::new(Rc::clone(file), [0; 8]))?);
    }
    let cancel = ring.submit(Cancel::fd(Rc::clone(&silent)))?;
    let (outcome, _) = ring.wait(cancel)?;
    let count = found(page, outcome)?;
    end(page, ring, reads, count)
}

/// All operations in flight.
fn everything(page: &mut Page, ring: &mut Ring) -> Result<(), Failure> {
    writeln!(page, "everything")?;
    let ((one, _writer), (two, _other_writer)) = (pipe()?, pipe()?);
    let mut reads = Vec::new();
    for file in [one, two] {
        reads.push(ring.submit(Read::new(file, [0; 8]))?);
    }
    let cancel = ring.submit(Cancel::any())?;
    let outcome = ring.wait(cancel)?;
    let count = found(page, outcome)?;
    end(page, ring, reads, count)
}

/// Prints the outcome of a cancel, and returns how many operations it found: none, if this kernel
/// knows no such cancel.
fn found(page: &mut Page, outcome: CancelOutcome) -> Result<u32, Failure> {
    let count = outcome.count();
    match outcome {
        CancelOutcome::Failed(error) if error.kind() == io::ErrorKind::InvalidInput => {
            writeln!(page, "  left out: it needs Linux 5.19")?;
        }
        outcome => show(page, "the cancel", outcome)?,
    }
    Ok(count)
}

/// Waits for the first `count` reads, which were cancelled; and ends the others.
fn end(
    page: &mut Page,
    ring: &mut Ring,
    reads: Vec<Ticket<Reading>>,
    count: u32,
) -> Result<(), Failure> {
    for (read, number) in reads.into_iter().zip(1..) {
        let what = format!("read {number}");
        if number <= count {
            show_result(page, &what, ring.wait(read)?.result)?;
            continue;
        }
        match ring.try_take(read) {
            Ok(outcome) => show_result(page, &what, outcome.result)?,
            Err(read) => {
                writeln!(page, "  {what:<16} goes on")?;
                ring.cancel(&read)?;
                let _cancelled = ring.wait(read)?;
            }
        }
    }
    writeln!(page)
}

// ANCHOR: race
/// A cancel against a byte that another thread writes at the same time.
/// It takes a ring that completes as soon as it can. One that defers completions to when we enter
/// (`DEFER_TASKRUN`) sees the cancel first, always. Returns what that ring did.
fn race(page: &mut Page, races: u32) -> Result<Stats, Failure> {
    writeln!(page, "a cancel and a byte, at the same time, {races} times")?;
    let ring = &mut Setup::plain(8).build()?;
    let (reader, mut writer) = pipe()?;
    let (go, start) = mpsc::channel();
    let (near, nearly) = mpsc::channel();
    let other = thread::spawn(move || -> io::Result<()> {
        while let Ok(head_start) = start.recv() {
            let _ = near.send(());
            dawdle(head_start);
            writer.write_all(b"x")?;
        }
        Ok(())
    });
    let (mut cancelled, mut read, mut late) = (0, 0, 0);
    for race in 0..races {
        let reading: Ticket<Reading> = ring.submit(Read::new(Rc::clone(&reader), [0; 8]))?;
        ring.submit_all()?;
        // Sometimes the cancel is first, sometimes the byte.
        go.send(race % 8 * 4).map_err(failed("the other thread has ended"))?;
        nearly.recv().map_err(failed("the other thread has ended"))?;
        dawdle(race / 8 % 8 * 4);
        let cancel = ring.submit(Cancel::ticket(&reading))?;
        let outcome = ring.wait(cancel)?;
        match ring.wait(reading)?.result {
            Ok(1) => read += 1,
            // The byte is in the pipe, or will be; the next reader gets it.
            Err(_) => {
                let again = ring.submit(Read::new(Rc::clone(&reader), [0; 8]))?;
                match ring.wait(again)?.result {
                    Ok(1) => cancelled += 1,
                    other => return Err(Failure::Failed(format!("no byte came: {other:?}"))),
                }
            }
            other => return Err(Failure::Failed(format!("not one byte: {other:?}"))),
        }
        late += u32::from(matches!(outcome, CancelOutcome::TooLate));
    }
    drop(go);
    let ended = other.join().map_err(|_| Failure::Failed("the other thread panicked".into()))?;
    ended.map_err(failed("cannot write"))?;
    writeln!(page, "  cancelled        {cancelled}, and the byte was read by the next")?;
    writeln!(page, "  read             {read}")?;
    writeln!(page, "  too late         {late} of the attempts, that came in just between")?;
    writeln!(page, "  bytes            {} written, {} read\n", races, cancelled + read)?;
    Ok(ring.raw().stats())
}
// ANCHOR_END: race

/// Passes some time, awake: too little to sleep.
fn dawdle(microseconds: u32) {
    let start = Instant::now();
    while start.elapsed() < Duration::from_micros(microseconds.into()) {
        hint::spin_loop();
    }
}

// ANCHOR: unwanted
/// Three operations whose outputs are not wanted.
fn unwanted(page: &mut Page, ring: &mut Ring) -> Result<(), Failure> {
    writeln!(page, "a ticket that is detached, while its read goes on")?;
    let (reader, mut writer) = pipe()?;
    let read = ring.submit(Read::new(Rc::clone(&reader), [0; 8]))?;
    ring.submit_all()?;
    ring.detach(read);
    writeln!(page, "  in flight: {}; owners of the pipe: {}", ring.in_flight(), owners(&reader))?;
    writer.write_all(b"unseen").map_err(failed("cannot write"))?;
    while ring.in_flight() > 0 {
        // Its completion is never shown, so there is no event to wait for: the bytes are dropped,
        // and so is its share of the pipe.
        ring.reap(|_| {})?;
        thread::yield_now();
    }
    writeln!(page, "  in flight: {}; owners of the pipe: {}\n", ring.in_flight(), owners(&reader))?;

    writeln!(page, "a ticket that is dropped: its slot stays taken, as long as the ring")?;
    let before = ring.vacant();
    let nop = ring.submit(Nop)?;
    support::submit_and_wait(ring, 1)?;
    drop(nop);
    ring.reap(|_| {})?;
    writeln!(page, "  free slots: {before}, now {}\n", ring.vacant())
}
// ANCHOR_END: unwanted

// ANCHOR: the_end
/// The end of the ring, with a read in flight.
fn the_end(page: &mut Page, mut ring: Ring) -> Result<(), Failure> {
    writeln!(page, "the end of the ring, with a read in flight")?;
    let (reader, _writer) = pipe()?;
    let read = ring.submit(Read::new(Rc::clone(&reader), [0; 8]))?;
    ring.submit_all()?;
    ring.detach(read);
    writeln!(page, "  in flight: {}; owners of the pipe: {}", ring.in_flight(), owners(&reader))?;
    ring.shutdown(Duration::from_secs(10)).map_err(failed("the ring did not end"))?;
    writeln!(page, "  the ring is gone; owners of the pipe: {}", owners(&reader))
}
// ANCHOR_END: the_end

fn show(page: &mut Page, what: &str, how: impl Debug) -> Result<(), Failure> {
    writeln!(page, "  {what:<16} {how:?}")
}

fn show_result(page: &mut Page, what: &str, result: io::Result<impl Debug>) -> Result<(), Failure> {
    match result {
        Ok(value) => show(page, what, value),
        Err(error) => writeln!(page, "  {what:<16} {error}"),
    }
}

fn owners(pipe: &Rc<PipeReader>) -> usize {
    Rc::strong_count(pipe)
}

fn pipe() -> Result<(Rc<PipeReader>, PipeWriter), Failure> {
    let (reader, writer) = io::pipe().map_err(failed("no pipe"))?;
    Ok((Rc::new(reader), writer))
}
