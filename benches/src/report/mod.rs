//! All benchmarks, in a bounded form, as a page of HTML and as Markdown.
//!
//! | file | what |
//! |---|---|
//! | `report.html` | everything in one file: plots, tables, and nothing from elsewhere |
//! | `report.md`, `plot-1.svg` … | likewise, for a place that shows Markdown |
//!
//! A chapter is drawn from its `Report` alone, so a contender that a benchmark gains is in it.

mod page;
mod plot;
mod plots;

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use crate::liburing::Liburing;
use crate::measure::{Measured, Spread};
use crate::table::Report;
use crate::ways::Mode;
use crate::{copy, fanout, machine, nop, read, rings, scale, spawn_cost};
use page::Chapter;

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Some ten minutes.
    Whole,
    /// Two minutes at most: to see that everything runs.
    Quick,
}

/// A benchmark: its name, what it measures, and how it is run.
type Bench = (&'static str, &'static str, fn(Extent) -> Vec<Report>);

const BENCHES: [Bench; 10] = [
    (
        "nop",
        "A batch of NOPs is pushed, submitted and taken: what a library costs an operation, and \
         what is left of the system call when many share it.",
        |extent| match extent {
            Extent::Whole => vec![nops(&[1, 8, 32, 128, 1024], 15)],
            Extent::Quick => vec![nops(&[1, 32, 1024], 3)],
        },
    ),
    (
        "rings",
        "Entries are pushed and completions are taken on ordinary memory: the library without the \
         kernel.",
        |extent| vec![rings::run(if extent == Extent::Quick { 3 } else { 15 })],
    ),
    (
        "scale",
        "NOPs with many operations in flight, and in rings that are larger than they need be: a \
         level line is work that does not grow.",
        |extent| match extent {
            Extent::Whole => vec![scale::run(&[64, 256, 1024, 4096, 16384, 32768], 15)],
            Extent::Quick => vec![scale::run(&[64, 1024, 32768], 3)],
        },
    ),
    (
        "read",
        "Blocks of 4 KiB are read at random, with so many in flight: from the page cache, and past \
         it from the disk below.",
        reads,
    ),
    (
        "tasks",
        "A thousand tasks of tokio read files of 4 KiB: through a reactor that runs inside it, and \
         by the threads of tokio::fs.",
        tasks,
    ),
    (
        "fanout",
        "One message of 64 bytes is sent to each of many sockets; each receiver's bytes are \
         compared.",
        |extent| match extent {
            Extent::Whole => vec![fanout::run(&[1, 10, 100, 1000, 10_000], 15)],
            Extent::Quick => vec![fanout::run(&[1, 100, 1000], 3)],
        },
    ),
    (
        "copy",
        "A large file and a folder of small ones are copied by the example 05_copy, by cp and by \
         dd, each a process of its own; every byte is compared.",
        copies,
    ),
    ("spawn-cost", "A ring is made and dropped, for several sizes.", |extent| {
        vec![spawn_cost::run(if extent == Extent::Quick { 3 } else { 15 })]
    }),
    (
        "echo",
        "Servers on one processor answer clients on another, over the loopback device: the CPU \
         time of the server, and how many answers a second it gives.",
        |extent| echo(extent).into_iter().collect(),
    ),
    (
        "ws-fanout",
        "One client says 64 bytes, and all clients hear them, as WebSocket frames over loopback: \
         the CPU time of the server for each that hears.",
        |extent| ws_fanout(extent).into_iter().collect(),
    ),
];

/// With liburing, if it is installed and can be built.
fn nops(batches: &[u32], samples: u32) -> Report {
    let liburing = Liburing::build(None).inspect_err(|why| eprintln!("without liburing: {why}"));
    nop::run(batches, Mode::Deferred, liburing.as_ref().ok(), samples)
}

/// From the page cache, and past it where the file system lets us.
fn reads(extent: Extent) -> Vec<Report> {
    let (depths, samples): (&[u32], _) = match extent {
        Extent::Whole => (&[1, 8, 32, 128], 5), // `fio` takes half a second to begin.
        Extent::Quick => (&[1, 32], 3),
    };
    let dir = std::env::temp_dir();
    let run = |direct| {
        read::run(&dir, direct, depths, samples)
            .inspect_err(|why| eprintln!("without these reads: {why}"))
            .ok()
    };
    [false, true].into_iter().filter_map(run).collect()
}

fn tasks(extent: Extent) -> Vec<Report> {
    let samples = if extent == Extent::Quick { 3 } else { 15 };
    let report = crate::tasks::run(&std::env::temp_dir(), samples);
    report.inspect_err(|why| eprintln!("without these reads: {why}")).into_iter().collect()
}

fn copies(extent: Extent) -> Vec<Report> {
    let (bytes, files, samples) = match extent {
        Extent::Whole => (1 << 30, 5000, 5),
        Extent::Quick => (128 << 20, 500, 2),
    };
    let shm = Path::new("/dev/shm").to_path_buf();
    let mut dirs = vec![std::env::temp_dir()];
    dirs.extend(shm.is_dir().then_some(shm));
    let plan = copy::Plan { dirs, bytes, files, depths: vec![16, 32], samples };
    copy::run(&plan).into()
}

/// Runs everything and writes the report to the folder `out`.
pub fn run(out: &Path, extent: Extent) -> io::Result<()> {
    fs::create_dir_all(out)?;
    let mut head = machine::lines();
    head.extend(now());
    let quick = if extent == Extent::Quick { " --quick" } else { "" };
    head.push(format!("command: annulus-bench report --out DIR{quick}"));
    let mut chapters = Vec::new();
    for (name, about, bench) in BENCHES {
        eprintln!("{name} …");
        let reports = bench(extent).into_iter();
        chapters.extend(reports.map(|report| {
            let plots = plots::of(&report);
            Chapter { about, report, plots }
        }));
    }
    fs::write(out.join("report.html"), page::html(&head, &chapters))?;
    let mut files = 0;
    for plot in chapters.iter().flat_map(|chapter| &chapter.plots) {
        files += 1;
        fs::write(out.join(format!("plot-{files}.svg")), page::alone(&plot.svg))?;
    }
    fs::write(out.join("report.md"), page::markdown(&head, &chapters))
}

/// The day, as `date` tells it.
fn now() -> Option<String> {
    let date = Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"]).output().ok()?;
    Some(String::from_utf8_lossy(&date.stdout).trim().to_owned())
}

/// Another bench, by a process of its own: what that prints as JSON.
fn printed(arguments: &[&str]) -> Option<serde_json::Value> {
    let mut command = Command::new(std::env::current_exe().ok()?);
    command.args(["--json", "--samples", "3"]).args(arguments);
    serde_json::from_slice(&command.output().ok()?.stdout).ok()
}

/// The sections of what was printed, each with its name and its rows.
fn sections(
    found: &serde_json::Value,
    name: fn(&serde_json::Value) -> Option<String>,
    row: fn(&serde_json::Value) -> Option<Measured>,
) -> Option<Vec<(String, Vec<Measured>)>> {
    let section = |section: &serde_json::Value| {
        let rows = section["rows"].as_array()?.iter().filter_map(row).collect();
        Some((name(section)?, rows))
    };
    Some(found["sections"].as_array()?.iter().filter_map(section).collect())
}

fn once(value: f64) -> Spread {
    Spread { low: value, median: value, high: value }
}

fn echo(extent: Extent) -> Option<Report> {
    let arguments: &[&str] = match extent {
        Extent::Whole => &["--connections", "50,200,1000"],
        Extent::Quick => &["--connections", "50"],
    };
    let found = printed(&[&["echo", "--bytes", "64", "--seconds", "1"], arguments].concat())?;
    let name = |section: &serde_json::Value| Some(section["name"].as_str()?.to_owned());
    let row = |row: &serde_json::Value| {
        let rate = row["answers_per_second"].as_f64()?;
        Some(Measured {
            name: row["server"].as_str()?.to_owned(),
            cpu: once(row["cpu_us_per_answer"].as_f64()? * 1e3),
            wall: once(1e9 / rate),
        })
    };
    Some(Report {
        title: "Echoes over the loopback device",
        unit: "answer",
        sections: sections(&found, name, row)?,
        notes: vec!["each figure is the median of three samples of a second".to_owned()],
    })
}

fn ws_fanout(extent: Extent) -> Option<Report> {
    let arguments: &[&str] = match extent {
        Extent::Whole => &["--clients", "100,1000,10000"],
        Extent::Quick => &["--clients", "100"],
    };
    let found = printed(&[&["ws-fanout", "--seconds", "1"], arguments].concat())?;
    let name = |section: &serde_json::Value| {
        let (clients, window) = (section["clients"].as_u64()?, section["under_way"].as_u64()?);
        Some(format!("{clients} clients, {window} under way"))
    };
    let row = |row: &serde_json::Value| {
        let cpu = |at: usize| Some(row["cpu_us_per_delivery"][at].as_f64()? * 1e3);
        Some(Measured {
            name: row["server"].as_str()?.to_owned(),
            cpu: Spread { low: cpu(0)?, median: cpu(1)?, high: cpu(2)? },
            wall: once(1e9 / row["deliveries_per_second"].as_f64()?),
        })
    };
    Some(Report {
        title: "One message to many clients, as WebSocket frames",
        unit: "delivery",
        sections: sections(&found, name, row)?,
        notes: vec!["how many messages are under way is behind the number of clients".to_owned()],
    })
}
