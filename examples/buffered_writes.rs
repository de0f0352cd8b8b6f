//! Who does a buffered write: the thread that submits it, or a worker thread of the kernel; counted
//! for each file system and each kind of write.
//!
//! ```text
//!   write ─► tried without waiting ─┬─ done ──────────────────────────► by the thread, inline
//!                                   ├─ it would wait (EAGAIN) ────────► by a worker
//!                                   └─ this file system cannot try ───► by a worker
//!   the same, with RWF_NOWAIT ──────── instead of a worker, an error: refused
//! ```
//!
//! Each write has a ring and a thread of its own, and a worker bears the number of the thread that
//! submitted, and stays for seconds. So no worker is missed, and none is taken for another's. What
//! this leaves out are writes that come together and wait for each other's locks.
//!
//! Look at: the first row, new data at the end of a file, which is what logs and downloads do. And
//! at what `--rest` changes: where a write has to note the time, the first one in each tick of the
//! kernel's clock is not like those after it. Name a folder for each file system:
//! `buffered_writes /tmp /dev/shm`. Linux 5.12.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use std::{env, process, thread};

use annulus::op::{Op as _, RwFlags, Write};
use annulus::sys::flags::Features;
use annulus::{Ring, Setup, Stats};
use clap::{Parser, value_parser};
use rustix::fs::{Advice, FallocateFlags};
use support::{Failure, Page, failed, up_to};

mod support;

/// Counts which buffered writes are done by worker threads.
#[derive(Debug, Parser)]
#[command(verbatim_doc_comment)]
struct Arguments {
    /// Where files are to be made, one folder for each file system
    #[arg(value_name = "FOLDER")]
    folders: Vec<PathBuf>,
    /// So many writes of each kind
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = up_to(10_000))]
    writes: u32,
    /// Rest so many milliseconds before each write
    #[arg(long, value_name = "N", default_value_t = 0,
        value_parser = value_parser!(u64).range(..=1000))]
    rest: u64,
    /// Print what the rings did in all
    #[arg(long)]
    stats: bool,
}

/// What a file is before it is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    /// It is empty, and grows.
    Empty,
    /// It has a size, and no blocks.
    Hole,
    /// It has blocks that nothing was written to.
    Allocated,
    /// It is written, durable, and in the page cache.
    Cached,
    /// It is written, durable, and not in the page cache.
    Forgotten,
}

/// A kind of write.
#[derive(Debug, Clone, Copy)]
struct Kind {
    name: &'static str,
    before: Before,
    bytes: usize,
    /// From the beginning of one write to that of the next.
    step: u64,
    how: How,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// As it comes.
    Tried,
    /// It asks for a worker.
    Forced,
    /// It does not want one.
    NoWait,
}

const PAGE: u64 = 4096;
const WHOLE: usize = 4096;
const PART: usize = 100;

/// A kind that is tried; the part of a page lies far from the next, which might be read with it.
const fn kind(name: &'static str, before: Before, bytes: usize) -> Kind {
    let step = if bytes == PART { 16 * PAGE } else { PAGE };
    Kind { name, before, bytes, step, how: How::Tried }
}

const KINDS: [Kind; 9] = [
    kind("at the end, a page", Before::Empty, WHOLE),
    Kind { step: 100, ..kind("at the end, 100 bytes", Before::Empty, PART) },
    kind("over what is cached, a page", Before::Cached, WHOLE),
    kind("over what is cached, 100 bytes", Before::Cached, PART),
    kind("over what is not, a page", Before::Forgotten, WHOLE),
    kind("over what is not, 100 bytes", Before::Forgotten, PART),
    kind("into a hole, a page", Before::Hole, WHOLE),
    kind("into allocated blocks, a page", Before::Allocated, WHOLE),
    Kind { how: How::Forced, ..kind("cached, a page, forced", Before::Cached, WHOLE) },
];

/// How many writes of each kind, and how long before each.
#[derive(Debug, Clone, Copy)]
struct Plan {
    writes: u32,
    rest: Duration,
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Inline,
    Worker,
    Refused,
}

/// `EAGAIN` and `EOPNOTSUPP`.
const WOULD_WAIT: [i32; 2] = [11, 95];

/// A folder of ours on a file system, gone in the end.
struct Place {
    folder: PathBuf,
    system: String,
}

fn main() -> ExitCode {
    support::main(run)
}

fn run(arguments: Arguments, page: &mut Page) -> Result<(), Failure> {
    let Arguments { mut folders, writes, rest, stats } = arguments;
    let plan = Plan { writes, rest: Duration::from_millis(rest) };
    if folders.is_empty() {
        folders.push(env::temp_dir());
    }
    let places: Vec<_> =
        folders.iter().enumerate().map(|(at, folder)| Place::new(folder, at)).collect();
    let places = places.into_iter().collect::<Result<Vec<_>, _>>()?;
    let (before, mut total) = (support::cpu_time(), Stats::default());
    writeln!(page, "of {writes} writes, by a worker:")?;
    table(page, &places, plan, &KINDS, &mut total)?;
    writeln!(page, "\nof {writes} writes, refused where they must not wait (RWF_NOWAIT):")?;
    let tried = KINDS.iter().filter(|kind| kind.how == How::Tried);
    let kinds: Vec<_> = tried.map(|kind| Kind { how: How::NoWait, ..*kind }).collect();
    table(page, &places, plan, &kinds, &mut total)?;
    if stats {
        let cpu = support::cpu_time() - before;
        writeln!(page, "{}", support::stats_line(total, total.sqes, cpu))?;
    }
    Ok(())
}

/// A row for each kind, a column for each file system.
fn table(
    page: &mut Page,
    places: &[Place],
    plan: Plan,
    kinds: &[Kind],
    total: &mut Stats,
) -> Result<(), Failure> {
    let titles: String = places.iter().map(|place| format!("{:>9}", place.system)).collect();
    writeln!(page, "{:<31}{titles}", "")?;
    for kind in kinds {
        let mut row = String::new();
        for place in places {
            let counted = if kind.how == How::NoWait { Fate::Refused } else { Fate::Worker };
            let count = place.count(kind, plan, counted, total)?;
            row.push_str(&format!("{count:>9}"));
        }
        writeln!(page, "{:<31}{row}", kind.name)?;
    }
    Ok(())
}

impl Place {
    fn new(folder: &Path, number: usize) -> Result<Self, Failure> {
        let cannot = format!("cannot make a folder in {}", folder.display());
        let system = rustix::fs::statfs(folder).map_err(failed(&cannot))?.f_type;
        let folder = folder.join(format!("annulus-writes-{}-{number}", process::id()));
        fs::create_dir(&folder).map_err(failed(cannot))?;
        // The numbers of `statfs(2)`.
        let system = match system {
            0xEF53 => "ext4".into(),
            0x5846_5342 => "xfs".into(),
            0x9123_683E => "btrfs".into(),
            0x0102_1994 => "tmpfs".into(),
            0x794C_7630 => "overlay".into(),
            0xF2F5_2010 => "f2fs".into(),
            other => format!("{other:x}"),
        };
        Ok(Self { folder, system })
    }

    /// How many of so many writes have this fate.
    fn count(
        &self,
        kind: &Kind,
        plan: Plan,
        counted: Fate,
        total: &mut Stats,
    ) -> Result<u32, Failure> {
        let mut file = self.file(kind, plan.writes)?;
        let mut count = 0;
        for number in 0..plan.writes {
            thread::sleep(plan.rest);
            let at = u64::from(number) * kind.step;
            // A thread of its own, so that the workers of others are not taken for its.
            let wrote = thread::scope(|scope| scope.spawn(|| write(file, at, kind)).join());
            let panicked = |_| Err(Failure::Failed("a panic".into()));
            let (fate, stats);
            (file, fate, stats) = wrote.unwrap_or_else(panicked)?;
            count += u32::from(fate == counted);
            total.enters += stats.enters;
            total.sqes += stats.sqes;
            total.cqes += stats.cqes;
        }
        Ok(count)
    }

    /// A file for writes of this kind.
    fn file(&self, kind: &Kind, writes: u32) -> Result<File, Failure> {
        let cannot = || failed(format!("cannot prepare a file in {}", self.folder.display()));
        let path = self.folder.join("file");
        let len = u64::from(writes) * kind.step;
        // A new one each time: file systems keep notes of what was done to a file.
        if path.exists() {
            fs::remove_file(&path).map_err(cannot())?;
        }
        let file = File::create_new(&path).map_err(cannot())?;
        match kind.before {
            Before::Empty => {}
            Before::Hole => file.set_len(len).map_err(cannot())?,
            Before::Allocated => {
                let blocks = rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, len);
                blocks.map_err(|errno| cannot()(errno.into()))?;
            }
            Before::Cached | Before::Forgotten => {
                fs::write(&path, vec![7; usize::try_from(len).unwrap_or(0)]).map_err(cannot())?;
                file.sync_all().map_err(cannot())?;
            }
        }
        if kind.before == Before::Forgotten {
            let forgotten = rustix::fs::fadvise(&file, 0, None, Advice::DontNeed);
            forgotten.map_err(|errno| cannot()(errno.into()))?;
        }
        Ok(file)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

// ANCHOR: write
/// Writes once, and says who did it.
fn write(file: File, at: u64, kind: &Kind) -> Result<(File, Fate, Stats), Failure> {
    let mut ring: Ring = Setup::plain(2).build()?;
    if !ring.features().contains(Features::NATIVE_WORKERS) {
        let why = "workers are threads of the process since Linux 5.12, and not here";
        return Err(Failure::Failed(why.into()));
    }
    let write = Write::new(file, vec![1; kind.bytes]).at(at);
    let wrote = match kind.how {
        How::Tried => ring.submit(write).map(|ticket| ring.wait(ticket))??,
        How::NoWait => {
            let write = write.flags(RwFlags::NOWAIT);
            ring.submit(write).map(|ticket| ring.wait(ticket))??
        }
        How::Forced => ring.submit(write.forced()).map(|ticket| ring.wait(ticket))??,
    };
    let fate = match wrote.result {
        Ok(count) if count == kind.bytes && has_worker()? => Fate::Worker,
        Ok(count) if count == kind.bytes => Fate::Inline,
        Ok(count) => return Err(Failure::Failed(format!("wrote only {count} bytes"))),
        Err(error) if error.raw_os_error().is_some_and(|errno| WOULD_WAIT.contains(&errno)) => {
            Fate::Refused
        }
        Err(error) => return Err(Failure::of("cannot write", error)),
    };
    Ok((wrote.fd, fate, ring.stats()))
}
// ANCHOR_END: write

/// Whether the kernel has made a worker for this thread: a thread of this process, which bears the
/// number of ours in its name.
fn has_worker() -> Result<bool, Failure> {
    let link = fs::read_link("/proc/thread-self").map_err(failed("no /proc"))?;
    let thread = link.file_name().unwrap_or_default().to_string_lossy();
    let name = format!("iou-wrk-{thread}\n");
    let threads = fs::read_dir("/proc/self/task").map_err(failed("no /proc"))?;
    // A thread that has ended meanwhile has no name.
    let names = threads.flatten().flat_map(|task| fs::read_to_string(task.path().join("comm")));
    Ok(names.into_iter().any(|comm| comm == name))
}
