//! A file read twice: into buffers that the ring owns, then into one that it borrows.
//!
//! ```text
//!   owned      Read { file, buf } ─► in flight ─► event: index ─► outcome { count, file, buf }
//!                   ▲                                                     │
//!                   └──── the next block, into that same buffer ◄─────────┘
//!
//!   borrowed   scope │ Read { &file, &mut buf[..64K] }  Read { &file, &mut buf[64K..] } …  wait │
//!                    │◄──────── lent up to here, however the code in between ends ─────────────►│
//! ```
//!
//! | | owned | borrowed |
//! |---|---|---|
//! | a buffer is | moved in, and comes out with the outcome | an ordinary `&mut [u8]` |
//! | may outlive the function | yes: an event loop is made of this | no: `scope` waits at its end |
//! | in flight | always as many as there are buffers | none between two scopes |
//! | blocks are checked | as they come, in any order | in order |
//!
//! Look at: the enters of either way, far fewer than the reads; and whether blocks overtook each
//! other, as they may when a device has to be asked. Every byte is compared with what `std` reads
//! at that position.
//!
//! Linux 5.6.

use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;

use annulus::buf::SliceExt;
use annulus::op::{Outcome, Read};
use annulus::{Event, Ring, Setup, Ticket};
use clap::Parser;
use support::reading::{BLOCK, Comparison, ReadBlock, Source, Verdict};
use support::{Failure, Page, up_to};

mod support;

/// Reads a file twice, many blocks at once: into buffers that the ring owns, and
/// into one that it borrows.
#[derive(Debug, Parser)]
#[command(verbatim_doc_comment)]
struct Arguments {
    /// The file to read; else the source of this program
    path: Option<PathBuf>,
    /// Blocks in flight, 1 to 1024
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = up_to(1024))]
    depth: u32,
    /// Print what the ring did in all
    #[arg(long)]
    stats: bool,
}

/// The figures of one way of reading.
struct Report {
    bytes: u64,
    reads: u64,
    verdict: Verdict,
}

fn main() -> ExitCode {
    support::main(run)
}

fn run(arguments: Arguments, page: &mut Page) -> Result<(), Failure> {
    let depth = arguments.depth;
    let source = match arguments.path {
        Some(path) => Source::open(&path)?,
        None => Source::open_our_own("04_read_file.rs")?,
    };
    writeln!(page, "path {}", source.path().display())?;
    let mut ring: Ring<usize> = Setup::new(depth).build_for()?;
    let before = support::cpu_time();

    writeln!(page, "owned: {depth} buffers of {} KiB, in and out of the ring", BLOCK >> 10)?;
    let (report, late) = read_owned(&mut ring, &source, depth as usize)?;
    let enters = ring.stats().enters;
    show(page, &report, enters)?;
    writeln!(page, "  {late} blocks came later than one that lies behind them")?;
    writeln!(page, "borrowed: one buffer of {depth} times {} KiB, lent in parts", BLOCK >> 10)?;
    let report = read_borrowed(&mut ring, &source, depth as usize)?;
    show(page, &report, ring.stats().enters - enters)?;

    if arguments.stats {
        let (stats, cpu) = (ring.stats(), support::cpu_time() - before);
        writeln!(page, "{}", support::stats_line(stats, stats.sqes, cpu))?;
    }
    Ok(())
}

fn show(page: &mut Page, report: &Report, enters: u64) -> Result<(), Failure> {
    let Report { bytes, reads, verdict } = report;
    writeln!(page, "  {bytes} bytes in {reads} reads, {enters} enters")?;
    writeln!(page, "  {verdict}")
}

// The first way: owned ---------------------------------------------------------------------------

/// A block in flight. The operation owns file and buffer until its end.
struct Block {
    ticket: Ticket<ReadBlock>,
    at: u64,
    /// How many of its bytes came before this read.
    filled: usize,
}

impl Block {
    /// Asks for the missing part of the block that begins at `at`. The operation's user value,
    /// which its event will carry, is the index under which we keep the block.
    fn ask(
        ring: &mut Ring<usize>,
        place: usize,
        (file, buf): (Rc<File>, Box<[u8]>),
        at: u64,
        filled: usize,
    ) -> Result<Self, Failure> {
        let read = Read::new(file, buf.slice(filled..)).at(at + filled as u64);
        Ok(Self { ticket: ring.submit_for(read, place)?, at, filled })
    }
}

/// Reads with owned buffers. As soon as a block has come its buffer is used for the next one. Also
/// returns how many blocks were overtaken.
fn read_owned(
    ring: &mut Ring<usize>,
    source: &Source,
    depth: usize,
) -> Result<(Report, u64), Failure> {
    let (mut asked, mut reads, mut late, mut newest) = (0, 0, 0, 0);
    let mut comparison = Comparison::new(source);
    let mut places: Vec<Option<Block>> = Vec::with_capacity(depth);
    while places.is_empty() || (places.len() < depth && asked < source.size()) {
        let things = (Rc::clone(source.file()), vec![0; BLOCK].into_boxed_slice());
        places.push(Some(Block::ask(ring, places.len(), things, asked, 0)?));
        (asked, reads) = (asked + BLOCK as u64, reads + 1);
    }
    let (mut in_flight, mut ended) = (places.len(), Vec::with_capacity(depth));
    while in_flight > 0 {
        support::submit_and_wait(ring, 1)?;
        // An event names the operation that has ended. While the ring shows events it takes no
        // operations.
        ring.reap(|event| {
            if let Event::Ended { user, .. } = event {
                ended.push(*user);
            }
        })?;
        for place in ended.drain(..) {
            let Some(Block { ticket, at, filled }) = places[place].take() else { continue };
            let Ok(Outcome { result, fd, buf }) = ring.try_take(ticket) else {
                return Err(Failure::Failed(format!("the event of block {at} was not its end")));
            };
            let (buf, is_last) = (buf.into_inner(), matches!(result, Ok(0)));
            let filled = filled + source.count(result)?;
            if filled < BLOCK && !is_last {
                places[place] = Some(Block::ask(ring, place, (fd, buf), at, filled)?);
                reads += 1;
                continue;
            }
            comparison.block(at, &buf[..filled])?;
            late += u64::from(at < newest);
            newest = newest.max(at);
            in_flight -= 1;
            // Beyond the size that the file claims: one block at a time, until a read returns
            // nothing.
            if !is_last && (asked < source.size() || in_flight == 0) {
                places[place] = Some(Block::ask(ring, place, (fd, buf), asked, 0)?);
                (asked, reads, in_flight) = (asked + BLOCK as u64, reads + 1, in_flight + 1);
            }
        }
    }
    let bytes = comparison.bytes;
    Ok((Report { bytes, reads, verdict: comparison.end()? }, late))
}

// The second way: borrowed -----------------------------------------------------------------------

/// Reads with one borrowed buffer, as many blocks in a scope as fit into it.
fn read_borrowed(ring: &mut Ring<usize>, source: &Source, depth: usize) -> Result<Report, Failure> {
    let (mut buf, mut counts) = (vec![0; depth * BLOCK], vec![0; depth]);
    let (mut at, mut reads, mut is_last) = (0, 0, false);
    let mut comparison = Comparison::new(source);
    while !is_last {
        // No more than the file claims to have, but at least one, to find the end.
        let left = source.size().saturating_sub(at).div_ceil(BLOCK as u64);
        let blocks = usize::try_from(left).unwrap_or(usize::MAX).clamp(1, depth);
        reads += read_parts(ring, source, at, &mut buf[..blocks * BLOCK], &mut counts)?;
        // The scope has ended, so `buf` is ours again, and the compiler knows it.
        for (part, &count) in buf.chunks(BLOCK).zip(&counts[..blocks]) {
            comparison.block(at, &part[..count])?;
            at += count as u64;
            is_last |= count < BLOCK;
        }
    }
    Ok(Report { bytes: comparison.bytes, reads, verdict: comparison.end()? })
}

// ANCHOR: parts
/// Fills `buf` from `at` on, all blocks of it at once, and notes how many bytes came in each.
/// Returns how many reads that took.
fn read_parts(
    ring: &mut Ring<usize>,
    source: &Source,
    at: u64,
    buf: &mut [u8],
    counts: &mut [usize],
) -> Result<u64, Failure> {
    let (file, mut reads) = (&**source.file(), 0);
    ring.scope(|scope| {
        let mut tickets = Vec::with_capacity(counts.len());
        let starts = (at..).step_by(BLOCK);
        for (part, start) in buf.chunks_mut(BLOCK).zip(starts.clone()) {
            tickets.push(scope.submit(Read::new(file, part).at(start))?);
            reads += 1;
        }
        for ((mut ticket, start), filled) in tickets.into_iter().zip(starts).zip(counts) {
            *filled = 0;
            loop {
                let outcome = scope.wait(ticket)?;
                let is_last = matches!(outcome.result, Ok(0));
                let count = source.count(outcome.result)?;
                *filled += count;
                if is_last || *filled == BLOCK {
                    break;
                }
                // The outcome gives back the buffer that was lent: the next read continues after
                // those bytes.
                let (_, rest) = outcome.buf.split_at_mut(count);
                ticket = scope.submit(Read::new(file, rest).at(start + *filled as u64))?;
                reads += 1;
            }
        }
        Ok(reads)
    })
}
// ANCHOR_END: parts
