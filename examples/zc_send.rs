//! From which size on does it pay to send without a copy? Sends of each size in three ways, over
//! TCP, and the processor time of each.
//!
//! ```text
//!   copied      Send ─► completion: the buffer is ours again
//!   zero-copy   SendZc ─► item: the next send may start ─ .. ─► notification: the buffer is ours
//!   registered  SendZcFixed, the same, from a buffer whose pages the kernel knows
//! ```
//!
//! Without `--to` it sends to a process on this machine. Then there is no card that could fetch the
//! bytes, and the kernel copies them after all: the table shows what zero copy costs, and nothing
//! of what it gains. The notifications say so, and so does the last line. For a true answer, run
//! `zc_send --listen 0.0.0.0:9000` on another machine, and `--to` it here.
//!
//! Look at: the copy, which grows with the size, against the price of two completions and of pinned
//! pages, which hardly does; how many sends were copied anyway; and that a buffer is not used again
//! before its notification, so that zero copy takes several of them.
//!
//! Linux 6.0; the reports since 6.2. Before, it sends with copies only.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use annulus::buf::AlignedBuf;
use annulus::op::{Multishot, Op, Outcome, Send, SendFlags, SendZc, SendZcFixed, Sent};
use annulus::sys::opcode::Opcode;
use annulus::{Capabilities, Ring, Setup, Stats, Ticket};
use clap::Parser;
use support::{Failure, Page, failed, up_to};
use zc_send::sink::{self, Own};

mod support;
mod zc_send {
    pub mod sink;
}

/// Measures sends with a copy and without, by size.
#[derive(Debug, Parser)]
#[command(verbatim_doc_comment)]
struct Arguments {
    /// The sizes of a send, in bytes
    #[arg(long, value_name = "N,..", value_delimiter = ',', value_parser = up_to(1 << 24),
          default_values_t = [1024, 4096, 16_384, 65_536, 262_144, 1 << 20],
          hide_default_value = true)]
    sizes: Vec<u32>,
    /// MiB of each size, five times in each way
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = up_to(1 << 20))]
    mib: u32,
    /// Where to; by default to a process on this machine
    #[arg(long, value_name = "ADDRESS")]
    to: Option<SocketAddr>,
    /// Be the other end, at this address
    #[arg(long, value_name = "ADDRESS", conflicts_with = "to")]
    listen: Option<SocketAddr>,
    /// End when stdin ends
    #[arg(long, requires = "listen")]
    until_eof: bool,
    /// Print what the rings did in all
    #[arg(long)]
    stats: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Copied,
    ZeroCopy,
    Registered,
}

/// What some sends came to.
#[derive(Debug, Default)]
struct Sends {
    bytes: u64,
    count: u64,
    /// How many the kernel reported to have copied, of how many reports.
    copied: u64,
    reports: u64,
    cpu: Duration,
    stats: Stats,
}

/// How often each is measured, in turn with the others: the median counts.
const ROUNDS: usize = 5;
/// Memory for all buffers of a run; and how many those are, at most. They must hold more than the
/// peer receives before it acknowledges: on loopback two segments of 64 KiB, or 40 ms go by.
const MEMORY: u32 = 4 << 20;
const BUFFERS: u32 = 256;

fn main() -> ExitCode {
    support::main(run)
}

fn run(arguments: Arguments, page: &mut Page) -> Result<(), Failure> {
    if let Some(address) = arguments.listen {
        return sink::serve(address, arguments.until_eof, page);
    }
    let here = Capabilities::detect()?;
    let own = arguments.to.is_none().then(Own::start).transpose()?;
    let to = arguments.to.or(own.as_ref().map(|own| own.address));
    let Some(to) = to else { return Ok(()) };
    let ways: &[Way] = if here.has_op(Opcode::SEND_ZC) {
        &[Way::Copied, Way::ZeroCopy, Way::Registered]
    } else {
        writeln!(page, "without a copy: left out, it needs Linux 6.0")?;
        &[Way::Copied]
    };
    let reports = ways.len() > 1 && can_report(to)?;
    writeln!(page, "CPU ns of a send, {} MiB of each size, median of {ROUNDS}", arguments.mib)?;
    writeln!(page, "{:>10}{:>12}{:>12}{:>12}", "bytes", "copied", "zero-copy", "registered")?;
    let (mut all, mut rows) = (Sends::default(), Vec::new());
    for &size in &arguments.sizes {
        let count = ((u64::from(arguments.mib) << 20) / u64::from(size)).max(1);
        let mut costs = vec![Vec::new(); ways.len()];
        for _ in 0..ROUNDS {
            for (costs, &way) in costs.iter_mut().zip(ways) {
                let sends = measure(to, way, size, count, reports)?;
                costs.push(sends.cpu.as_nanos() / u128::from(count));
                all.add(&sends);
            }
        }
        let row: Vec<u128> = costs.into_iter().map(median).collect();
        let cells: String = row.iter().map(|nanos| format!("{nanos:>12}")).collect();
        writeln!(page, "{size:>10}{cells}")?;
        rows.push((size, row));
    }
    if ways.len() > 1 {
        conclude(page, &rows, &all)?;
    }
    if arguments.stats {
        writeln!(page, "{}", support::stats_line(all.stats, all.count, all.cpu))?;
    }
    Ok(())
}

/// What the table says, and whether it says anything.
fn conclude(page: &mut Page, rows: &[(u32, Vec<u128>)], all: &Sends) -> Result<(), Failure> {
    for (column, name) in [(1, "zero-copy"), (2, "registered")] {
        match threshold(rows, column) {
            Some(size) => writeln!(page, "{name}: cheaper than a copy from {size} bytes on")?,
            None => writeln!(page, "{name}: not cheaper than a copy at the last size")?,
        }
    }
    if all.reports == 0 {
        return writeln!(page, "whether they were copied anyway is told since Linux 6.2");
    }
    writeln!(page, "copied anyway: {} of {} sends", all.copied, all.reports)?;
    if all.copied == all.reports {
        writeln!(page, "so this shows what zero copy costs, and nothing of what it gains")?;
    }
    Ok(())
}

fn median(mut costs: Vec<u128>) -> u128 {
    costs.sort_unstable();
    costs.get(costs.len() / 2).copied().unwrap_or(0)
}

/// The smallest size from which on `column` is less than the copy, to the last size.
fn threshold(rows: &[(u32, Vec<u128>)], column: usize) -> Option<u32> {
    let is_less = |(_, row): &&(u32, Vec<u128>)| row[column] < row[0];
    rows.iter().rev().take_while(is_less).last().map(|&(size, _)| size)
}

// One way, one size ------------------------------------------------------------------------------

fn measure(
    to: SocketAddr,
    way: Way,
    size: u32,
    count: u64,
    reports: bool,
) -> Result<Sends, Failure> {
    let mut ring = Setup::new(2 * BUFFERS).build()?;
    let stream = Rc::new(connect(to)?);
    let buffers = (MEMORY / size).clamp(2, BUFFERS);
    let flags = SendFlags::WAIT_ALL;
    let own = || (0..buffers).map(|_| filled(size)).collect::<Vec<_>>();
    let before = support::cpu_time();
    let mut sends = match way {
        Way::Copied => with_copies(&mut ring, &stream, filled(size), count)?,
        Way::ZeroCopy => without(&mut ring, &stream, own(), count, |stream, buf| {
            let send = SendZc::new(stream, buf).flags(flags);
            if reports { send.report() } else { send }
        })?,
        Way::Registered => {
            let made = ring.fixed_pool(u16::try_from(buffers).unwrap_or(2), size);
            let pool = made.map_err(failed("no registered buffers"))?;
            let mut bufs: Vec<_> = std::iter::from_fn(|| pool.get()).collect();
            bufs.iter_mut().for_each(|buf| buf.set_len(size as usize));
            without(&mut ring, &stream, bufs, count, |stream, buf| {
                let send = SendZcFixed::new(stream, buf).flags(flags);
                if reports { send.report() } else { send }
            })?
        }
    };
    sends.cpu = support::cpu_time() - before;
    sends.stats = ring.stats();
    sink::check(&stream, sends.bytes)?;
    Ok(sends)
}

fn connect(to: SocketAddr) -> Result<TcpStream, Failure> {
    // Without Nagle's algorithm, which keeps small sends back.
    let connected = TcpStream::connect(to).and_then(|it| it.set_nodelay(true).map(|()| it));
    connected.map_err(failed(format!("cannot connect to {to}")))
}

fn filled(size: u32) -> AlignedBuf {
    let mut buf = AlignedBuf::new(size as usize, 4096);
    buf.set_len(size as usize);
    buf.fill(b'z');
    buf
}

fn with_copies(
    ring: &mut Ring,
    stream: &Rc<TcpStream>,
    mut buf: AlignedBuf,
    count: u64,
) -> Result<Sends, Failure> {
    let mut sends = Sends { count, ..Sends::default() };
    for _ in 0..count {
        let send = Send::new(Rc::clone(stream), buf).flags(SendFlags::WAIT_ALL);
        let sent = ring.submit(send)?;
        let Outcome { result, buf: back, .. } = ring.wait(sent)?;
        sends.bytes += result.map_err(failed("send"))? as u64;
        buf = back; // At once: the socket has a copy.
    }
    Ok(sends)
}

// ANCHOR: without
/// Sends `count` times. A buffer is used again when its notification has come.
fn without<O, B>(
    ring: &mut Ring,
    stream: &Rc<TcpStream>,
    mut free: Vec<B>,
    count: u64,
    op: impl Fn(Rc<TcpStream>, B) -> O,
) -> Result<Sends, Failure>
where
    O: Op<Output = Outcome<Sent, Rc<TcpStream>, B>> + Multishot + 'static,
{
    let mut sends = Sends { count, ..Sends::default() };
    let mut held = VecDeque::new();
    for _ in 0..count {
        if free.is_empty()
            && let Some(oldest) = held.pop_front()
        {
            free.push(sends.take_back(ring, oldest)?);
        }
        let Some(buf) = free.pop() else { break };
        let ticket = ring.submit(op(Rc::clone(stream), buf))?;
        // The first completion: the socket has taken the bytes, and the next send keeps its place
        // behind them. An error is told again at the end.
        let _ = ring.next(&ticket)?;
        held.push_back(ticket);
    }
    for ticket in held {
        sends.take_back(ring, ticket)?;
    }
    Ok(sends)
}

impl Sends {
    /// The second completion: nobody needs the buffer any more.
    fn take_back<O, B>(&mut self, ring: &mut Ring, ticket: Ticket<O>) -> Result<B, Failure>
    where
        O: Op<Output = Outcome<Sent, Rc<TcpStream>, B>> + 'static,
    {
        let Outcome { result, buf, .. } = ring.wait(ticket)?;
        let Sent { bytes, copied } = result.map_err(failed("a send without a copy"))?;
        self.bytes += bytes as u64;
        self.reports += u64::from(copied.is_some());
        self.copied += u64::from(copied == Some(true));
        Ok(buf)
    }
    // ANCHOR_END: without

    fn add(&mut self, other: &Self) {
        self.bytes += other.bytes;
        self.count += other.count;
        self.copied += other.copied;
        self.reports += other.reports;
        self.cpu += other.cpu;
        self.stats.enters += other.stats.enters;
        self.stats.sqes += other.stats.sqes;
        self.stats.cqes += other.stats.cqes;
    }
}

/// Whether this kernel reports what it copied: it is asked once.
fn can_report(to: SocketAddr) -> Result<bool, Failure> {
    let mut ring = Setup::new(4).build()?;
    let stream = connect(to)?;
    let ticket = ring.submit(SendZc::new(stream, vec![b'z']).report())?;
    let Outcome { result, fd, .. } = ring.wait(ticket)?;
    match result {
        Ok(sent) => sink::check(&fd, sent.bytes as u64).map(|()| true),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(false),
        Err(error) => Err(Failure::of("a send without a copy", error)),
    }
}
