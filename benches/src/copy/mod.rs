//! A large file, and a folder of small ones: the example `05_copy` beside `cp` and `dd`.
//!
//! ```text
//!   a folder of --dir, and of /dev/shm     source ─► copy      compared, byte for byte
//!                                                    removed: a file at once, folders in the end
//! ```
//!
//! Each is a process of its own, which may use all processors. Its CPU time is what the kernel
//! tells of it when it has ended, threads and the kernel's workers included; its wall time includes
//! starting it. The source is in the page cache, and was written to its disk before.

mod files;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};

use crate::measure::Measured;
use crate::spread::Samples;
use crate::table::Report;
use files::{Scratch, compare, compare_folders};

/// What to measure.
pub struct Plan {
    /// Where to: a folder is made in each of them, and removed.
    pub dirs: Vec<PathBuf>,
    /// The size of the large file.
    pub bytes: u64,
    /// The number of small files.
    pub files: u32,
    /// Blocks, or files, on their way.
    pub depths: Vec<u32>,
    pub samples: u32,
}

/// The bytes in a small file.
const SMALL: usize = 4096;

/// A program that copies: its name, and its command without source and destination.
struct Program {
    name: String,
    command: Vec<String>,
    /// Before the path of the source, and before that of the destination.
    marks: [&'static str; 2],
}

impl Program {
    fn new(name: impl Into<String>, command: &[&str]) -> Self {
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        Self { name: name.into(), command, marks: ["", ""] }
    }

    /// Copies; the CPU time and the wall time that it took.
    fn run(&self, source: &Path, dest: &Path) -> (Duration, Duration) {
        let [before_source, before_dest] = self.marks;
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]).stdout(Stdio::null());
        command.arg(format!("{before_source}{}", source.display()));
        command.arg(format!("{before_dest}{}", dest.display()));
        let (cpu, wall) = (cpu_of_children(), Instant::now());
        let status = command.status().expect("it starts");
        let took = (cpu_of_children() - cpu, wall.elapsed());
        assert!(status.success(), "{} failed", self.name);
        took
    }
}

/// The CPU time of all children that have ended.
fn cpu_of_children() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("it may always be asked for");
    let micros = |time: nix::sys::time::TimeVal| time.tv_sec() * 1_000_000 + time.tv_usec();
    let sum = micros(usage.user_time()) + micros(usage.system_time());
    Duration::from_micros(u64::try_from(sum).unwrap_or(0))
}

/// A report of the large file, and one of the small ones.
pub fn run(plan: &Plan) -> [Report; 2] {
    let mut notes = Vec::new();
    let ours = example("05_copy").unwrap_or_else(|why| {
        notes.push(format!("without annulus: {why}"));
        None
    });
    let (mut large, mut small) = (Vec::new(), Vec::new());
    for dir in &plan.dirs {
        let mut scratch = match Scratch::new(dir) {
            Ok(scratch) => scratch,
            Err(error) => {
                notes.push(format!("a folder was left out: {error}"));
                continue;
            }
        };
        let bytes = scratch.fitting(plan.bytes, &mut notes);
        // Each copy of it stays until the end.
        let copies = plan.depths.len() as u64 + 1;
        let per_file = SMALL as u64 * (copies * (u64::from(plan.samples) + 1) + 1);
        let files = scratch.fitting(per_file * u64::from(plan.files), &mut notes) / per_file;
        let name = format!("{}, a file of {} MiB", scratch.kind(), bytes >> 20);
        large.push((name, large_file(plan, &mut scratch, ours.as_deref(), bytes)));
        let name = format!("{}, {files} files of 4 KiB", scratch.kind());
        small.push((name, small_files(plan, &mut scratch, ours.as_deref(), files)));
    }
    notes.push("dd copies single files, and is not among those that copy folders".to_owned());
    notes.push("all bytes of each copy were compared with the source".to_owned());
    let report = |title, unit, sections| Report { title, unit, sections, notes: notes.clone() };
    [
        report("Copying a large file", "KiB", large),
        report("Copying a folder of small files, each with its name", "file", small),
    ]
}

/// An example, built in release; `None` if this cargo knows of no such program.
pub fn example(name: &str) -> Result<Option<PathBuf>, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    let mut build = Command::new(cargo);
    build.args(["build", "--release", "--quiet", "--example", name]);
    build.args(["--message-format=json", "--manifest-path"]).arg(manifest);
    let built = build.output().map_err(|error| format!("cargo does not start: {error}"))?;
    if !built.status.success() {
        return Err(format!("the example {name} does not build"));
    }
    let lines = built.stdout.split(|&byte| byte == b'\n');
    let messages = lines.filter_map(|line| serde_json::from_slice(line).ok());
    let program = |message: serde_json::Value| Some(message["executable"].as_str()?.into());
    Ok(messages.filter_map(program).next_back())
}

fn large_file(
    plan: &Plan,
    scratch: &mut Scratch,
    ours: Option<&Path>,
    bytes: u64,
) -> Vec<Measured> {
    let source = scratch.file("source", bytes);
    let mut programs = our_programs(plan, ours, &[]);
    programs.push(Program::new("cp", &["cp"]));
    let dd = Program::new("dd bs=512K", &["dd", "bs=512K", "status=none"]);
    programs.push(Program { marks: ["if=", "of="], ..dd });
    let operations = bytes as f64 / 1024.0;
    let rows = race(plan, programs, scratch, &source, operations, compare);
    scratch.remove("source");
    rows
}

fn small_files(
    plan: &Plan,
    scratch: &mut Scratch,
    ours: Option<&Path>,
    files: u64,
) -> Vec<Measured> {
    let source = scratch.folder("source", files, SMALL);
    let mut programs = our_programs(plan, ours, &["--recursive"]);
    programs.push(Program::new("cp -r", &["cp", "-r"]));
    let rows = race(plan, programs, scratch, &source, files as f64, compare_folders);
    scratch.remove("source");
    rows
}

/// The example, for each depth.
fn our_programs(plan: &Plan, ours: Option<&Path>, options: &[&str]) -> Vec<Program> {
    let program = |path: &Path, depth: &u32| {
        let (path, number) = (path.display().to_string(), depth.to_string());
        let command = [&[&*path, "--depth", &number][..], options].concat();
        Program::new(format!("annulus, 05_copy, depth {depth}"), &command)
    };
    ours.iter().flat_map(|path| plan.depths.iter().map(|depth| program(path, depth))).collect()
}

/// All programs, a copy by each in turn. A first round is not measured.
fn race(
    plan: &Plan,
    programs: Vec<Program>,
    scratch: &Scratch,
    source: &Path,
    operations: f64,
    compare: fn(&Path, &Path),
) -> Vec<Measured> {
    let mut taken: Vec<Samples> =
        programs.iter().map(|program| Samples::of(program.name.clone())).collect();
    let mut copies = Vec::new();
    for round in 0..=plan.samples {
        for (number, (program, samples)) in programs.iter().zip(&mut taken).enumerate() {
            let name = format!("copy-{round}-{number}");
            let (cpu, wall) = program.run(source, &scratch.path(&name));
            compare(source, &scratch.path(&name));
            let each = |time: Duration| time.as_secs_f64() * 1e9 / operations;
            if round > 0 {
                samples.add(each(cpu), each(wall));
            }
            // Small files stay: ext4 looks long for an inode where many were just removed.
            if source.is_file() {
                scratch.remove(&name);
            } else {
                copies.push(name);
            }
        }
    }
    copies.iter().for_each(|name| scratch.remove(name));
    taken.into_iter().map(Samples::measured).collect()
}
