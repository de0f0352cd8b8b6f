//! Inside tokio: a thousand tasks that read blocks of a file, through a ring and by its threads.
//!
//! ```text
//!   tokio, one thread
//!     task ── reactor.run(Read).await ──► ring ──► kernel      no other thread
//!     task ── spawn_blocking, as in tokio::fs ──► pool of threads ── pread ──► kernel
//! ```
//!
//! | | through the ring | by the threads |
//! |---|---|---|
//! | a read waits | in the kernel | in a thread of the pool |
//! | system calls | one for all reads that tasks have asked for meanwhile | two or more a read, and wake-ups between threads |
//! | dropped in the middle | cancelled; the ring keeps the buffer until the kernel is done | runs on in its thread |
//!
//! Look at: what changes in a program of tokio. A reactor is made, one task drives it, and an
//! `.await` of a read stands where one of `tokio::fs` stood; timers and sockets of tokio go on
//! beside it. And at the CPU time of a read, of both. Linux 5.6.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{env, fs, io, process};

use annulus::Setup;
use annulus::future::Reactor;
use annulus::op::Read;
use clap::Parser;
use support::{Failure, Page, failed, nanos_each, stats_line, up_to};
use tokio::task::{LocalSet, spawn_blocking, spawn_local};

mod support;

/// Bytes of a block.
const BLOCK: usize = 4096;
/// Blocks of the file.
const BLOCKS: u64 = 4096;

/// Reads blocks of a file in many tasks of tokio: through a ring, and by its pool
/// of threads. Prints what a read costs.
#[derive(Debug, Parser)]
#[command(verbatim_doc_comment)]
struct Arguments {
    /// How many tasks, 1 to 16000
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = up_to(16000))]
    tasks: u32,
    /// How many blocks each reads
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = up_to(1_000_000))]
    reads: u32,
    /// Print what the ring did in all
    #[arg(long)]
    stats: bool,
}

fn main() -> ExitCode {
    support::main(compare)
}

fn compare(arguments: Arguments, page: &mut Page) -> Result<(), Failure> {
    let file = Scratch::new().map_err(failed("no file to read"))?;
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build().map_err(failed("no runtime"))?;
    let setup = Setup::plain(256).cq_entries(arguments.tasks.max(512));
    let reactor = Reactor::new(setup.build_for()?);
    let open = || file.open().map_err(failed("the file"));
    let (shared, sent) = (Rc::new(open()?), Arc::new(open()?));
    let (ring, threads) = LocalSet::new().block_on(&runtime, async {
        let driver = spawn_local(reactor.drive_in_tokio().map_err(failed("no driver"))?);
        let ring = measured(arguments.tasks, |task| {
            by_ring(reactor.clone(), Rc::clone(&shared), task, arguments.reads)
        });
        let ring = ring.await?;
        driver.abort();
        let threads =
            measured(arguments.tasks, |task| by_threads(Arc::clone(&sent), task, arguments.reads));
        Ok::<_, Failure>((ring, threads.await?))
    })?;
    let reads = u64::from(arguments.tasks) * u64::from(arguments.reads);
    writeln!(page, "{reads} reads of {BLOCK} bytes by {} tasks", arguments.tasks)?;
    for (what, (cpu, wall)) in [("through the ring", ring), ("by the threads", threads)] {
        let (cpu, wall) = (nanos_each(cpu, reads), nanos_each(wall, reads));
        writeln!(page, "  {what:16}  {cpu:>7} ns of CPU a read, {wall:>7} ns in all")?;
    }
    if arguments.stats {
        let stats = reactor.with_ring(|ring| ring.raw().stats());
        writeln!(page, "{}", stats_line(stats, reads, ring.0))?;
    }
    Ok(())
}

/// Runs so many tasks. Returns how much CPU time that took, of all threads, and how long.
async fn measured<F>(tasks: u32, task: impl Fn(u32) -> F) -> Result<(Duration, Duration), Failure>
where
    F: Future<Output = io::Result<()>> + 'static,
{
    let (cpu, start) = (support::cpu_time(), Instant::now());
    let tasks: Vec<_> = (0..tasks).map(|number| spawn_local(task(number))).collect();
    for task in tasks {
        task.await.map_err(failed("a task"))?.map_err(failed("a read"))?;
    }
    Ok((support::cpu_time() - cpu, start.elapsed()))
}

/// The block that a task reads after so many others: all over the file.
fn block(task: u32, read: u32) -> u64 {
    u64::from(task.wrapping_mul(0x9e37_79b9) ^ read.wrapping_mul(0x85eb_ca6b)) % BLOCKS
}

/// Reads blocks through the ring, with one buffer that goes to the ring and comes back.
async fn by_ring(reactor: Reactor, file: Rc<File>, task: u32, reads: u32) -> io::Result<()> {
    let mut buf = Vec::with_capacity(BLOCK);
    for read in 0..reads {
        let block = block(task, read);
        let read = Read::new(Rc::clone(&file), buf).at(block * BLOCK as u64);
        let outcome = reactor.run(read).await?;
        outcome.result?;
        check(&outcome.buf, block)?;
        buf = outcome.buf;
    }
    Ok(())
}

/// Reads blocks as `tokio::fs` does: each by a thread of the pool.
async fn by_threads(file: Arc<File>, task: u32, reads: u32) -> io::Result<()> {
    let mut buf = vec![0; BLOCK];
    for read in 0..reads {
        let (file, block) = (Arc::clone(&file), block(task, read));
        let task = spawn_blocking(move || {
            file.read_exact_at(&mut buf, block * BLOCK as u64).map(|()| buf)
        });
        buf = task.await??;
        check(&buf, block)?;
    }
    Ok(())
}

/// Each block begins with its number.
fn check(buf: &[u8], block: u64) -> io::Result<()> {
    if buf.len() == BLOCK && buf.starts_with(&block.to_le_bytes()) {
        return Ok(());
    }
    Err(io::Error::other(format!("block {block} is not what was written")))
}

/// A file of numbered blocks, which goes when this does.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> io::Result<Self> {
        let path = env::temp_dir().join(format!("annulus-blocks-{}", process::id()));
        let scratch = Self(path);
        let mut file = File::create(&scratch.0)?;
        for number in 0..BLOCKS {
            let mut block = vec![0; BLOCK];
            block[..8].copy_from_slice(&number.to_le_bytes());
            file.write_all(&block)?;
        }
        Ok(scratch)
    }

    fn open(&self) -> io::Result<File> {
        File::open(&self.0)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left in the folder of temporary files goes with it.
        let _ = fs::remove_file(&self.0);
    }
}
