//! Where the kernel runs an operation: at once within the enter, later without any thread, or on a
//! worker thread.
//!
//! | what is seen | then it ran |
//! |---|---|
//! | complete when the enter returns that only submits it | inline: the enter took as long as the operation |
//! | not yet, and it completes once what it waits for happens | armed: the kernel waited, and no thread did |
//! | a thread named `iou-wrk-…` of this process | on a worker: a thread that may block, made for it |
//!
//! Each operation has a ring and a thread of its own, since workers belong to the thread that
//! submits. A worker lives for seconds after its work, so it is seen however fast it was.
//!
//! Look at: the first two reads of a pipe, which are the same operation. Then at `--forced`, which
//! asks for a worker each time, and what that does to the CPU time (`--stats`). The answers for
//! files depend on their file system: `--folder` chooses it. Linux 5.12; some rows need more.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{PipeReader, PipeWriter, Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use std::{env, io, process, thread};

use annulus::op::{
    self, Cwd, Fadvise, FileAdvice, Fsync, How, MkdirAt, Mode, Nop, Op, OpenAt, Poll, PollEvents,
    Splice, Stat, Statx, Timeout,
};
use annulus::sys::errno::Errno;
use annulus::sys::flags::Features;
use annulus::{Event, Ring, Setup, Stats};
use clap::Parser;
use support::{Failure, Page, failed};

mod support;

/// Says of each operation where the kernel runs it.
#[derive(Debug, Parser)]
#[command(verbatim_doc_comment)]
struct Arguments {
    /// Ask for a worker each time
    #[arg(long)]
    forced: bool,
    /// Where the files are to be made
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Print what the rings did in all
    #[arg(long)]
    stats: bool,
}

/// Where an operation ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Where {
    Inline,
    Armed,
    Worker,
}

/// `ETIME`.
const TIMED_OUT: i32 = 62;

/// What was seen of an operation.
#[derive(Debug)]
struct Seen {
    place: Where,
    result: Result<u32, Errno>,
    stats: Stats,
}

/// What the operations of the table work on.
#[derive(Debug)]
struct Bench {
    forced: bool,
    folder: PathBuf,
}

/// A row: what is done, and how.
type Row = (&'static str, fn(&Bench) -> Result<Seen, Failure>);

const ROWS: [Row; 15] = [
    ("nothing", |bench| bench.observe(Nop, || ())),
    ("read a pipe that has bytes", |bench| {
        let (reader, mut writer) = pipe()?;
        writer.write_all(b"x").map_err(failed("no room"))?;
        bench.observe(op::Read::new(reader, [0; 1]), || ())
    }),
    ("read a pipe that is empty", |bench| {
        let (reader, mut writer) = pipe()?;
        bench.observe(op::Read::new(reader, [0; 1]), move || said(writer.write_all(b"x")))
    }),
    ("receive from who is silent", |bench| {
        let (socket, mut peer) = UnixStream::pair().map_err(failed("no sockets"))?;
        bench.observe(op::Recv::new(socket, [0; 1]), move || said(peer.write_all(b"x")))
    }),
    ("accept, and nobody comes", |bench| {
        let listener = TcpListener::bind("127.0.0.1:0").map_err(failed("cannot listen"))?;
        let address = listener.local_addr().map_err(failed("cannot listen"))?;
        let connect = move || said(std::net::TcpStream::connect(address));
        bench.observe(op::Accept::new(listener), connect)
    }),
    ("poll a pipe that is empty", |bench| {
        let (reader, mut writer) = pipe()?;
        bench.observe(Poll::new(reader, PollEvents::IN), move || said(writer.write_all(b"x")))
    }),
    ("wait for ten milliseconds", |bench| {
        bench.observe(Timeout::new(Duration::from_millis(10)), || ())
    }),
    ("read a file, from the page cache", |bench| {
        let mut file = bench.file()?;
        file.read_to_end(&mut Vec::new()).map_err(failed("cannot read"))?;
        bench.observe(op::Read::new(file, vec![0; 4096]).at(0), || ())
    }),
    ("read a file, from its disk", |bench| {
        let file = forgotten(bench.file()?)?;
        bench.observe(op::Read::new(file, vec![0; 4096]).at(0), || ())
    }),
    ("write to a file", |bench| {
        bench.observe(op::Write::new(bench.file()?, vec![1; 4096]).at(0), || ())
    }),
    ("make a file durable", |bench| bench.observe(Fsync::new(bench.file()?), || ())),
    ("open a path that was just used", |bench| {
        bench.file()?;
        bench.observe(OpenAt::new(Cwd, bench.path("file")?, How::read()), || ())
    }),
    ("ask about a path", |bench| {
        let path = bench.path("file")?;
        bench.observe(Statx::at(Cwd, path, Stat::boxed()), || ())
    }),
    ("make a directory", |bench| {
        bench.observe(MkdirAt::new(Cwd, bench.path("directory")?, Mode::new(0o700)), || ())
    }),
    ("move bytes from pipe to pipe", |bench| {
        let ((from, mut full), (_reader, to)) = (pipe()?, pipe()?);
        full.write_all(b"x").map_err(failed("no room"))?;
        bench.observe(Splice::new(from, to, 1), || ())
    }),
];

fn pipe() -> Result<(PipeReader, PipeWriter), Failure> {
    io::pipe().map_err(failed("no pipe"))
}

/// The same file, without its pages in memory, if its file system can do that.
fn forgotten(file: File) -> Result<File, Failure> {
    file.sync_all().map_err(failed("cannot write"))?;
    // By another thread, whose worker is not taken for ours.
    let forget = || {
        let mut ring = Setup::plain(8).build()?;
        let ticket = ring.submit(Fadvise::new(file, FileAdvice::DontNeed))?;
        Ok(ring.wait(ticket)?.fd)
    };
    let forgotten = thread::scope(|scope| scope.spawn(forget).join());
    forgotten.unwrap_or_else(|_| Err(Failure::Failed("a panic".into())))
}

/// If it fails, the operation that waits for it never ends; so this says so.
fn said<T>(outcome: io::Result<T>) {
    if let Err(error) = outcome {
        support::tell(format_args!("what it waits for failed: {error}"));
        process::exit(1);
    }
}

fn main() -> ExitCode {
    support::main(run)
}

fn run(arguments: Arguments, page: &mut Page) -> Result<(), Failure> {
    let Arguments { forced, folder, stats } = arguments;
    let name = format!("annulus-where-{}", process::id());
    let folder = folder.unwrap_or_else(env::temp_dir).join(name);
    fs::create_dir(&folder).map_err(failed(format!("cannot make {}", folder.display())))?;
    let bench = Bench { forced, folder };
    let outcome = bench.table(page, stats);
    let gone = fs::remove_dir_all(&bench.folder);
    outcome.and(gone.map_err(failed(format!("cannot remove {}", bench.folder.display()))))
}

impl Bench {
    fn table(&self, page: &mut Page, stats: bool) -> Result<(), Failure> {
        let before = support::cpu_time();
        let mut total = Stats::default();
        for (name, row) in ROWS {
            // A thread of its own, so that the workers of others are not taken for its.
            let seen = thread::scope(|scope| scope.spawn(|| row(self)).join());
            let seen = seen.map_err(|_| Failure::Failed(format!("{name}: a panic")))??;
            let place = match seen.place {
                Where::Inline => "inline",
                Where::Armed => "armed",
                Where::Worker => "worker",
            };
            // A timeout that has run out says so by an error.
            let failed = seen.result.err().filter(|errno| errno.raw() != TIMED_OUT);
            let failed = failed.map_or(String::new(), |errno| format!("  {errno}"));
            writeln!(page, "{name:<34} {place}{failed}")?;
            total.enters += seen.stats.enters;
            total.sqes += seen.stats.sqes;
            total.cqes += seen.stats.cqes;
        }
        if stats {
            let cpu = support::cpu_time() - before;
            writeln!(page, "{}", support::stats_line(total, ROWS.len() as u64, cpu))?;
        }
        Ok(())
    }

    /// Where `op` runs, which may wait for what `then` does.
    fn observe<O: Op + 'static>(&self, op: O, then: impl FnOnce()) -> Result<Seen, Failure> {
        if self.forced { observe(op.forced(), then) } else { observe(op, then) }
    }

    fn path(&self, name: &str) -> Result<CString, Failure> {
        let path = self.folder.join(name);
        CString::new(path.as_os_str().as_bytes()).map_err(failed("a path with a zero"))
    }

    /// A file with something in it.
    fn file(&self) -> Result<File, Failure> {
        let path = self.folder.join("file");
        fs::write(&path, [7; 8192]).map_err(failed("cannot write"))?;
        let file = File::options().read(true).write(true).open(&path);
        file.map_err(failed("cannot open what was written"))
    }
}

// ANCHOR: observe
/// Submits `op` and does not wait; looks; does `then`; waits, and looks again.
fn observe<O: Op + 'static>(op: O, then: impl FnOnce()) -> Result<Seen, Failure> {
    let mut ring: Ring = Setup::plain(8).build()?;
    if !ring.features().contains(Features::NATIVE_WORKERS) {
        let why = "workers are threads of the process since Linux 5.12, and not here";
        return Err(Failure::Failed(why.into()));
    }
    let ticket = ring.submit(op)?;
    ring.submit_all()?;
    // The completion queue is memory: this asks nobody.
    let at = ring.raw().positions();
    let at_once = at.cq_head != at.cq_tail;
    then();
    support::submit_and_wait(&mut ring, 1)?;
    let mut result = Ok(0);
    ring.reap(|event| {
        if let Event::Ended { result: said, .. } = event {
            result = said;
        }
    })?;
    let place = match (has_worker()?, at_once) {
        (true, _) => Where::Worker,
        (false, true) => Where::Inline,
        (false, false) => Where::Armed,
    };
    ring.detach(ticket);
    Ok(Seen { place, result, stats: ring.stats() })
}

/// Whether the kernel has made a worker for this thread: a thread of this process, which bears the
/// number of ours in its name.
fn has_worker() -> Result<bool, Failure> {
    let tasks = Path::new("/proc/self/task");
    let link = fs::read_link("/proc/thread-self").map_err(failed("no /proc"))?;
    let thread = link.file_name().unwrap_or_default().to_string_lossy();
    let name = format!("iou-wrk-{thread}\n");
    let threads = fs::read_dir(tasks).map_err(failed("no /proc"))?;
    // A thread that has ended meanwhile has no name.
    let names = threads.flatten().flat_map(|task| fs::read_to_string(task.path().join("comm")));
    Ok(names.into_iter().any(|comm| comm == name))
}
// ANCHOR_END: observe
