//! How fast a disk, or the page cache, serves one program: reads or writes of blocks, so many at a
//! time, through a ring or by the plain calls.
//!
//! ```text
//!   --engine ring    ┌ block ┬ block ┬ block ┬ .. ┐  --depth of them on their way; as soon as one
//!                    └───────┴───────┴───────┴────┘  is done, its buffer goes for the next
//!   --engine psync     block ─► block ─► block       pread or pwrite, one after the other
//! ```
//!
//! | | the buffers | the entries |
//! |---|---|---|
//! | ring | aligned memory of ours | `READ`, `WRITE` |
//! | ring `--fixed` | registered with the ring | `READ_FIXED`, `WRITE_FIXED` |
//! | psync | one, aligned | none |
//!
//! With `--dsync` a ring's writes have `RWF_DSYNC`, and psync has an `fdatasync` behind each.
//!
//! Look at: `--direct` at a depth of 1 and of 32, for the operations a second and for what one of
//! them costs; then without `--direct`, where the copy is most of it. A latency is from the push of
//! an entry until its completion is taken, so it grows with the depth. And at the number of worker
//! threads: the kernel makes them where an operation would have blocked.
//!
//! Linux 5.6; with `--iopoll`, a device that has queues to be polled.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use annulus::buf::AlignedBuf;
use annulus::op::{Op, Outcome, Read, ReadFixed, RwFlags, Write, WriteFixed};
use annulus::sys::flags::SetupFlags;
use annulus::{EnterCause, Ring, Setup};
use clap::{Parser, ValueEnum, value_parser};
use mini_fio::histogram::Histogram;
use mini_fio::plan::Plan;
use mini_fio::scratch::Scratch;
use support::{Failure, Page, failed, up_to};

mod mini_fio {
    pub mod histogram;
    pub mod plan;
    pub mod scratch;
}
mod support;

/// Measures reads or writes of blocks of a file.
#[derive(Debug, Parser)]
#[command(verbatim_doc_comment)]
struct Arguments {
    /// What to measure with; by default a new file, removed in the end
    file: Option<PathBuf>,
    /// read, write, randread or randwrite
    #[arg(long, value_name = "WHAT", default_value = "randread", hide_possible_values = true)]
    rw: Rw,
    /// The bytes in a block
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = up_to(1 << 24))]
    bs: u32,
    /// Blocks on their way at once, 1 to 1024
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = up_to(1024))]
    depth: u32,
    /// How many blocks in all
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = up_to(u32::MAX))]
    count: u32,
    /// The MiB in a file that is made
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = up_to(1 << 20))]
    size: u32,
    /// ring, or psync (pread and pwrite)
    #[arg(long, value_name = "WHAT", default_value = "ring", hide_possible_values = true)]
    engine: Engine,
    /// Past the page cache (O_DIRECT)
    #[arg(long)]
    direct: bool,
    /// With buffers that are registered with the ring
    #[arg(long)]
    fixed: bool,
    /// Each write is on the disk when it completes
    #[arg(long, conflicts_with = "fixed")]
    dsync: bool,
    /// Poll the device for completions
    #[arg(long, requires = "direct")]
    iopoll: bool,
    /// Write over a file that is there
    #[arg(long)]
    overwrite: bool,
    /// Where the random order begins
    #[arg(long, value_name = "S", default_value_t = 1, value_parser = value_parser!(u64))]
    seed: u64,
    /// Print what the ring did in all
    #[arg(long)]
    stats: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "lower")]
enum Rw {
    Read,
    Write,
    RandRead,
    RandWrite,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Engine {
    Ring,
    Psync,
}

/// When an operation was pushed: the user value of each.
type Begin = Option<Instant>;

/// What a block's address and offset are multiples of; it suits nearly all devices.
const ALIGN: usize = 4096;

impl Rw {
    fn writes(self) -> bool {
        matches!(self, Self::Write | Self::RandWrite)
    }

    fn is_random(self) -> bool {
        matches!(self, Self::RandRead | Self::RandWrite)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::RandRead => "randread",
            Self::RandWrite => "randwrite",
        }
    }
}

fn main() -> ExitCode {
    support::main(run)
}

fn run(arguments: Arguments, page: &mut Page) -> Result<(), Failure> {
    let Arguments { rw, bs, depth, engine, .. } = arguments;
    if engine == Engine::Psync && (arguments.fixed || arguments.iopoll) {
        return Err(Failure::Failed("--fixed and --iopoll take a ring: --engine ring".into()));
    }
    // Before a file is made.
    let ring = match engine {
        Engine::Ring if arguments.iopoll => {
            Some(Setup::plain(depth).with(SetupFlags::IOPOLL).build_for()?)
        }
        Engine::Ring => Some(Setup::new(depth).build_for()?),
        Engine::Psync => None,
    };
    let size = u64::from(arguments.size) << 20;
    let scratch = Scratch::new(arguments.file.clone(), size, rw.writes(), arguments.overwrite)?;
    let file = scratch.open(rw.writes(), if arguments.direct { libc::O_DIRECT } else { 0 })?;
    let len = file.metadata().map_err(failed("cannot look at the file"))?.len();
    let seed = rw.is_random().then_some(arguments.seed);
    let blocks = len / u64::from(bs);
    if blocks == 0 {
        let why = format!("there is no block of {bs} bytes in a file of {len}");
        return Err(Failure::Failed(why));
    }
    let plan = Plan::new(bs, blocks, arguments.count.into(), seed);
    let mut took = Histogram::new();
    let (before, begin) = (support::cpu_time(), Instant::now());
    let stats = match ring {
        Some(mut ring) => {
            by_ring(&mut ring, Rc::new(file), plan, &arguments, &mut took)?;
            Some(ring.stats())
        }
        None => {
            by_calls(&file, plan, &arguments, &mut took)?;
            None
        }
    };
    let (elapsed, cpu) = (begin.elapsed(), support::cpu_time() - before);
    report(page, &arguments, &scratch, &took, elapsed)?;
    let count = u64::from(arguments.count);
    if arguments.stats {
        writeln!(page, "{}", support::stats_line(stats.unwrap_or_default(), count, cpu))?;
    }
    Ok(())
}

// Through a ring ---------------------------------------------------------------------------------

fn by_ring(
    ring: &mut Ring<Begin>,
    file: Rc<File>,
    plan: Plan,
    arguments: &Arguments,
    took: &mut Histogram,
) -> Result<(), Failure> {
    let (block, depth) = (arguments.bs, arguments.depth);
    let flags = if arguments.dsync { RwFlags::DSYNC } else { RwFlags::default() };
    let polls = arguments.iopoll;
    if arguments.fixed {
        let count = u16::try_from(depth).unwrap_or(u16::MAX);
        let made = ring.fixed_pool(count, block);
        let pool = made.map_err(failed("no registered buffers"))?;
        let bufs: Vec<_> = std::iter::from_fn(|| pool.get())
            .map(|mut buf| {
                buf.set_len(block as usize);
                buf.fill(b'm');
                buf
            })
            .collect();
        if arguments.rw.writes() {
            let op = |file, buf, at| WriteFixed::new(file, buf).at(at);
            return keep_busy(ring, &file, bufs, plan, op, took, polls);
        }
        let op = |file, buf, at| ReadFixed::new(file, buf).at(at);
        return keep_busy(ring, &file, bufs, plan, op, took, polls);
    }
    let bufs = (0..depth).map(|_| buf_of(block)).collect();
    if arguments.rw.writes() {
        let op = |file, buf, at| Write::new(file, buf).at(at).flags(flags);
        return keep_busy(ring, &file, bufs, plan, op, took, polls);
    }
    let op = |file, buf, at| Read::new(file, buf).at(at).flags(flags);
    keep_busy(ring, &file, bufs, plan, op, took, polls)
}

/// Has a block on its way in each of `bufs`, until all of `plan` is done.
// ANCHOR: keep_busy
fn keep_busy<O, B>(
    ring: &mut Ring<Begin>,
    file: &Rc<File>,
    mut bufs: Vec<B>,
    mut plan: Plan,
    op: impl Fn(Rc<File>, B, u64) -> O,
    took: &mut Histogram,
    polls: bool,
) -> Result<(), Failure>
where
    O: Op<Output = Outcome<usize, Rc<File>, B>> + 'static,
{
    let mut broken = None;
    loop {
        while !bufs.is_empty()
            && broken.is_none()
            && let Some(at) = plan.next()
            && let Some(buf) = bufs.pop()
        {
            ring.submit_unticketed(op(Rc::clone(file), buf, at), Some(Instant::now()))
                .map_err(|rejected| Failure::Failed(rejected.to_string()))?;
        }
        if ring.in_flight() == 0 {
            return broken.map_or(Ok(()), Err);
        }
        let block = plan.block as usize;
        let turned = ring.turn_outputs::<O>(1, |begin, Outcome { result, buf, .. }| {
            took.add(begin.map_or(Duration::ZERO, |begin: Instant| begin.elapsed()));
            match whole(result, block, polls) {
                Ok(()) => bufs.push(buf),
                Err(failure) => broken = Some(failure),
            }
        });
        match turned {
            // A signal, such as that of a debugger. What is on its way stays so.
            Err(error) if error.cause == EnterCause::Interrupted => {}
            // Something else ended the wait; left there, it would end the next one too.
            Ok(0) => drop(ring.reap(|_| ())?),
            turned => drop(turned?),
        }
    }
}
// ANCHOR_END: keep_busy

// By calls ---------------------------------------------------------------------------------------

fn by_calls(
    file: &File,
    plan: Plan,
    arguments: &Arguments,
    took: &mut Histogram,
) -> Result<(), Failure> {
    let block = arguments.bs as usize;
    let mut buf = buf_of(arguments.bs);
    for at in plan {
        let begin = Instant::now();
        let moved = if arguments.rw.writes() {
            file.write_at(&buf, at)
        } else {
            file.read_at(&mut buf, at)
        };
        whole(moved, block, false)?;
        if arguments.dsync && arguments.rw.writes() {
            file.sync_data().map_err(failed("cannot sync"))?;
        }
        took.add(begin.elapsed());
    }
    Ok(())
}

/// A block of letters, at an address that any device takes.
fn buf_of(block: u32) -> AlignedBuf {
    let mut buf = AlignedBuf::new(block as usize, ALIGN);
    buf.set_len(block as usize);
    buf.fill(b'm');
    buf
}

/// All of a block was moved, or that is the end.
fn whole(result: io::Result<usize>, block: usize, polls: bool) -> Result<(), Failure> {
    match result {
        Ok(count) if count == block => Ok(()),
        Ok(count) => Err(Failure::Failed(format!("only {count} bytes of a block of {block}"))),
        Err(error) => Err(match error.raw_os_error() {
            Some(libc::EINVAL) => {
                Failure::of("a block was refused, as if it were not aligned", error)
            }
            Some(libc::EOPNOTSUPP) if polls => {
                Failure::of("the device has no queue to be polled", error)
            }
            _ => Failure::of("a block failed", error),
        }),
    }
}

// What came of it --------------------------------------------------------------------------------

fn report(
    page: &mut Page,
    arguments: &Arguments,
    scratch: &Scratch,
    took: &Histogram,
    elapsed: Duration,
) -> Result<(), Failure> {
    let Arguments { rw, bs, depth, count, direct, fixed, .. } = *arguments;
    let cache = if direct { "past the page cache" } else { "through the page cache" };
    let by = match arguments.engine {
        Engine::Ring if fixed => format!("ring, depth {depth}, registered buffers"),
        Engine::Ring => format!("ring, depth {depth}"),
        Engine::Psync => "psync, depth 1".to_owned(),
    };
    writeln!(page, "path {}", scratch.path.display())?;
    writeln!(page, "{} of {count} blocks of {bs} bytes, {cache}", rw.name())?;
    writeln!(page, "by {by}")?;
    let seconds = elapsed.as_secs_f64().max(1e-9);
    let (each, mib) = (f64::from(count) / seconds, f64::from(bs) / f64::from(1 << 20));
    writeln!(page, "  {each:.0} operations a second, {:.1} MiB a second", each * mib)?;
    writeln!(page, "  latency, µs:")?;
    let row = |at: Duration| format!("{:.1}", at.as_secs_f64() * 1e6);
    writeln!(page, "    least    {:>12}", row(took.least()))?;
    for (name, share) in [("50 %", 500), ("90 %", 900), ("99 %", 990), ("99.9 %", 999)] {
        writeln!(page, "    {name:<9}{:>12}", row(took.at(share)))?;
    }
    writeln!(page, "    most     {:>12}", row(took.most()))?;
    writeln!(page, "  worker threads at the end: {}", workers())
}

/// How many worker threads the kernel has made for the rings of this process.
fn workers() -> usize {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let names = tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|name| name.starts_with("iou-wrk-")).count()
}
