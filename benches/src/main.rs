//! Benchmarks of annulus, beside what else reaches the same kernel.
//!
//! | name | what |
//! |---|---|
//! | `nop` | NOPs in batches: the library's own cost and that of an enter |
//! | `rings` | pushing and draining alone, on ordinary memory, without a kernel |
//! | `read` | 4 KiB at random from a file, with so many in flight |
//! | `tasks` | small files, by 1,000 tasks of tokio: through a reactor, and by `tokio::fs` |
//! | `spawn-cost` | making a ring and dropping it; memory for each slot |
//! | `scale` | NOPs with up to 32,768 in flight, and in large rings |
//! | `fanout` | one message to many sockets |
//! | `ws-fanout` | one message to many clients, as WebSocket frames: three servers |
//! | `copy` | a large file and many small ones, beside `cp` and `dd` |
//! | `echo` | servers over the loopback device, and what an answer costs them |
//! | `report` | all of them, in a bounded form, as a page with plots |
//! | `count` | one loop of `nop`, for a counter of instructions: see `run` |
//!
//! Contenders take turns, on one processor, and each row is the median of many samples, with the
//! spread of the middle half. The CPU time of the process comes first, in nanoseconds an operation:
//! it includes the kernel's. Above the table stand the kernel, the machine and its mitigations.

mod copy;
mod echo;
mod energy;
mod fanout;
mod floor;
mod liburing;
mod machine;
mod measure;
mod nop;
#[cfg(feature = "peers")]
mod peers;
mod read;
mod report;
mod rings;
mod scale;
mod spawn_cost;
mod spread;
mod table;
mod tasks;
mod ways;
mod ws_fanout;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

use echo::{Kind, Plan};
use liburing::Liburing;
use report::Extent;
use table::{Form, Report};
use ways::{Mode, Rounds, WAYS};

/// Measures annulus, and what it is compared with.
#[derive(Parser)]
#[command(name = "annulus-bench")]
struct Arguments {
    #[command(subcommand)]
    bench: Bench,
    /// Print JSON in place of a table.
    #[arg(long, global = true)]
    json: bool,
    /// How often each contender is measured.
    #[arg(long, global = true, default_value_t = 15,
          value_parser = clap::value_parser!(u32).range(3..=1000))]
    samples: u32,
}

#[derive(Subcommand)]
enum Bench {
    /// NOPs in batches: the ways of annulus, io-uring, and a floor without checks.
    ///
    /// The feature `peers` adds compio-driver and tokio-uring.
    Nop {
        /// How many NOPs go into one enter.
        #[arg(long, value_delimiter = ',', default_value = "1,8,32,128,1024",
              value_parser = clap::value_parser!(u32).range(1..=4096))]
        batch: Vec<u32>,
        /// How the rings are set up.
        #[arg(long, value_enum, default_value_t = Mode::Deferred)]
        mode: Mode,
        /// Also race liburing, in C; it is built with `cc`, for this run.
        #[arg(long)]
        liburing: bool,
        /// The liburing to build with, in place of the system's: a folder with `include` and `lib`.
        #[arg(long, value_name = "DIR")]
        liburing_path: Option<PathBuf>,
    },
    /// Pushing and draining alone.
    Rings,
    /// Reads of 4 KiB at random from a file.
    ///
    /// Where `fio` is installed, it is a contender, too.
    Read {
        /// Read past the page cache (`O_DIRECT`).
        #[arg(long)]
        direct: bool,
        /// Where the file lies: the folder for temporary files, if none is given.
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
        /// How many reads are in flight.
        #[arg(long, value_delimiter = ',', default_value = "1,8,32,128",
              value_parser = clap::value_parser!(u32).range(1..=1024))]
        depth: Vec<u32>,
    },
    /// Small files, by 1,000 tasks of tokio: through a reactor inside it, and by `tokio::fs`.
    Tasks {
        /// Where the files lie: the folder for temporary files, if none is given.
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Making a ring and dropping it.
    SpawnCost,
    /// NOPs, many in flight.
    Scale {
        /// How many are in flight, and how many entries a ring has.
        #[arg(long, value_delimiter = ',', default_value = "64,256,1024,4096,16384,32768",
              value_parser = clap::value_parser!(u32).range(1..=32768))]
        size: Vec<u32>,
    },
    /// One message to many sockets.
    Fanout {
        /// How many sockets; fewer, if there are not so many descriptors.
        #[arg(long, value_delimiter = ',', default_value = "1,10,100,1000,10000",
              value_parser = clap::value_parser!(u32).range(1..=100_000))]
        sockets: Vec<u32>,
    },
    /// The example `ws_fanout`, tokio-tungstenite, and a server on tokio with the first's frames.
    WsFanout {
        /// How many clients; fewer, if there are not so many descriptors.
        #[arg(long, value_delimiter = ',', default_value = "100,1000,10000",
              value_parser = clap::value_parser!(u32).range(1..=30_000))]
        clients: Vec<u32>,
        /// How many messages are under way.
        #[arg(long, value_delimiter = ',', default_value = "1,16",
              value_parser = clap::value_parser!(u32).range(1..=32))]
        window: Vec<u32>,
        /// How many seconds a sample takes.
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=60))]
        seconds: u64,
    },
    /// Copies by the example `05_copy`, by `cp` and by `dd`.
    Copy {
        /// Where to copy from and to: the folder for temporary files, if none is given.
        #[arg(long, value_name = "DIR")]
        dir: Vec<PathBuf>,
        /// Copy in /dev/shm as well.
        #[arg(long)]
        tmpfs: bool,
        /// The size of the large file, in MiB; less, if there is no room.
        #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..))]
        mib: u64,
        /// How many small files.
        #[arg(long, default_value_t = 5000,
              value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        files: u32,
        /// How many blocks, or small files, are on their way.
        #[arg(long, value_delimiter = ',', default_value = "16,32",
              value_parser = clap::value_parser!(u32).range(1..=1024))]
        depth: Vec<u32>,
    },
    /// An echo server and its clients, over the loopback device.
    ///
    /// The feature `peers` adds servers over monoio, tokio-uring and mio.
    Echo {
        /// How many connections.
        #[arg(long, value_delimiter = ',', default_value = "50,200,1000",
              value_parser = clap::value_parser!(u32).range(1..=1000))]
        connections: Vec<u32>,
        /// How long a message is.
        #[arg(long, value_delimiter = ',', default_value = "64,512,4096",
              value_parser = clap::value_parser!(u32).range(1..=4096))]
        bytes: Vec<u32>,
        /// Which servers.
        #[arg(long, value_enum, value_delimiter = ',')]
        server: Vec<Kind>,
        /// How many seconds a sample takes.
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=60))]
        seconds: u64,
    },
    /// All benchmarks, as a page with plots: `report.html`, and `report.md`.
    Report {
        /// The folder to write to; it is made if it is not there.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Two minutes at most, and rough figures.
        #[arg(long)]
        quick: bool,
    },
    /// One of the servers of `ws-fanout`.
    #[command(hide = true)]
    ServeFanout { server: ws_fanout::Kind },
    /// One of the servers of `echo`.
    #[command(hide = true)]
    Serve { server: Kind, bytes: usize },
    /// One loop of NOPs, for a counter of instructions.
    Count {
        /// A way to use a ring, as `nop` names it.
        way: String,
        /// How many NOPs go into one enter.
        #[arg(value_parser = clap::value_parser!(u32).range(1..=4096))]
        batch: u32,
        /// How many NOPs in all.
        count: u64,
    },
}

fn main() -> ExitCode {
    let Arguments { bench, json, samples } = Arguments::parse();
    let form = if json { Form::Json } else { Form::Table };
    match bench {
        Bench::Nop { batch, mode, liburing, liburing_path } => {
            let asked = liburing || liburing_path.is_some();
            let built = asked.then(|| Liburing::build(liburing_path.as_deref()));
            let built = built.and_then(|built| {
                built.inspect_err(|why| eprintln!("without liburing: {why}")).ok()
            });
            nop::run(&batch, mode, built.as_ref(), samples).print(form);
        }
        Bench::Rings => rings::run(samples).print(form),
        Bench::Read { direct, dir, depth } => {
            let dir = dir.unwrap_or_else(std::env::temp_dir);
            return print(read::run(&dir, direct, &depth, samples), form);
        }
        Bench::Tasks { dir } => {
            let dir = dir.unwrap_or_else(std::env::temp_dir);
            return print(tasks::run(&dir, samples), form);
        }
        Bench::SpawnCost => spawn_cost::run(samples).print(form),
        Bench::Scale { size } => scale::run(&size, samples).print(form),
        Bench::Fanout { sockets } => {
            let sockets: Vec<usize> = sockets.into_iter().map(|count| count as usize).collect();
            fanout::run(&sockets, samples).print(form);
        }
        Bench::WsFanout { clients, window, seconds } => {
            let counts = |all: Vec<u32>| all.into_iter().map(|count| count as usize).collect();
            let (clients, windows) = (counts(clients), counts(window));
            let time = Duration::from_secs(seconds);
            let plan = ws_fanout::Plan { clients, windows, time, samples: samples.min(7) };
            if let Err(why) = ws_fanout::run(&plan, form) {
                eprintln!("error: {why}");
                return ExitCode::FAILURE;
            }
        }
        Bench::Copy { mut dir, tmpfs, mib, files, depth: depths } => {
            if dir.is_empty() {
                dir.push(std::env::temp_dir());
            }
            if tmpfs {
                dir.push(PathBuf::from("/dev/shm"));
            }
            let bytes = mib.saturating_mul(1 << 20);
            let plan = copy::Plan { dirs: dir, bytes, files, depths, samples: samples.min(7) };
            copy::run(&plan).iter().for_each(|report| report.print(form));
        }
        Bench::Echo { connections, bytes, server, seconds } => {
            let all = Kind::value_variants();
            let kinds = if server.is_empty() { all.to_vec() } else { server };
            let bytes = bytes.into_iter().map(|bytes| bytes as usize).collect();
            let time = Duration::from_secs(seconds);
            echo::run(&Plan { connections, bytes, kinds, time, samples: samples.min(5) }, form);
        }
        Bench::Report { out, quick } => {
            let extent = if quick { Extent::Quick } else { Extent::Whole };
            if let Err(error) = report::run(&out, extent) {
                eprintln!("error: cannot write the report: {error}");
                return ExitCode::FAILURE;
            }
        }
        Bench::Serve { server, bytes } => echo::serve(server, bytes),
        Bench::ServeFanout { server } => ws_fanout::serve(server),
        Bench::Count { way, batch, count } => return count_one(&way, batch, count),
    }
    ExitCode::SUCCESS
}

fn print(report: Result<Report, String>, form: Form) -> ExitCode {
    match report {
        Ok(report) => {
            report.print(form);
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

fn count_one(way: &str, batch: u32, count: u64) -> ExitCode {
    let Some((_, run)) = WAYS.iter().find(|(name, _)| *name == way) else {
        let names: Vec<&str> = WAYS.iter().map(|(name, _)| *name).collect();
        eprintln!("error: no way is called {way}; they are {}", names.join(", "));
        return ExitCode::from(2);
    };
    let rounds = Rounds { mode: Mode::Deferred, batch, rounds: count / u64::from(batch) };
    assert_eq!(run(rounds), rounds.sum(), "completions were lost or repeated");
    println!("{way}: {} rounds of {batch}", rounds.rounds);
    ExitCode::SUCCESS
}
