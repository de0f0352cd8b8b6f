//! liburing, in C: a program of its own, built when asked for, and linked by nothing of ours.
//!
//! ```text
//!   this process                        the child, on the same processor
//!   cc liburing/nop.c -luring
//!   nop MODE BATCH ROUNDS  ──────────►  reads its clocks, loops, reads them again
//!   checks the sum         ◄──────────  "SUM CPU_NS WALL_NS VERSION"
//! ```
//!
//! What it costs to start the child is in no figure.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::ValueEnum;

use crate::measure::{Contender, Spent};
use crate::ways::{Mode, Rounds};

const SOURCE: &[u8] = include_bytes!("../liburing/nop.c");

/// The program, which is removed at the end.
pub struct Liburing {
    program: PathBuf,
    pub version: String,
}

impl Liburing {
    /// Builds the program with the liburing that is below `path`, or with the system's.
    pub fn build(path: Option<&Path>) -> Result<Self, String> {
        let program = std::env::temp_dir().join(format!("annulus-nop-{}", std::process::id()));
        compile(&program, path)?;
        let mut built = Self { program, version: String::new() };
        let one = Rounds { mode: Mode::Plain, batch: 1, rounds: 1 };
        built.version = built.run(one)?.1;
        Ok(built)
    }

    pub fn contender(&self, mode: Mode, batch: u32) -> Contender<'_> {
        Contender::reporting("liburing", move |count| {
            let rounds = Rounds { mode, batch, rounds: count.div_ceil(u64::from(batch)) };
            self.run(rounds).expect("it ran before").0
        })
    }

    /// What the loop took, and the version of liburing.
    fn run(&self, rounds: Rounds) -> Result<(Spent, String), String> {
        let mode = rounds.mode.to_possible_value().expect("none is skipped");
        let numbers = [u64::from(rounds.batch), rounds.rounds].map(|number| number.to_string());
        let output = Command::new(&self.program).arg(mode.get_name()).args(numbers).output();
        let output = output.map_err(|error| format!("liburing's program: {error}"))?;
        let text = |bytes| String::from_utf8_lossy(bytes).trim().to_owned();
        let (line, complaint) = (text(&output.stdout), text(&output.stderr));
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        let &[sum, cpu, wall, version] = words.as_slice() else {
            return Err(format!("liburing's program: {complaint}"));
        };
        assert_eq!(sum.parse(), Ok(rounds.sum()), "liburing lost or repeated completions");
        let seconds = |word: &str| word.parse::<f64>().expect("nanoseconds") / 1e9;
        Ok((Spent { cpu: seconds(cpu), wall: seconds(wall) }, version.to_owned()))
    }
}

impl Drop for Liburing {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.program);
    }
}

/// `path` has an `include` and a `lib`, as `make install prefix=path` leaves them.
fn compile(program: &Path, path: Option<&Path>) -> Result<(), String> {
    let mut command = Command::new("cc");
    command.args(["-O2", "-x", "c", "-", "-o"]).arg(program);
    if let Some(path) = path {
        let lib = path.join("lib");
        command.arg("-I").arg(path.join("include")).arg("-L").arg(&lib);
        command.arg(format!("-Wl,-rpath,{}", lib.display()));
    }
    command.arg("-luring").stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("no compiler: cc: {error}"))?;
    let mut stdin = child.stdin.take().expect("it is a pipe");
    // A compiler that does not read to the end says why below.
    let _ = stdin.write_all(SOURCE);
    drop(stdin);
    let output = child.wait_with_output().map_err(|error| format!("cc: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&output.stderr);
    Err(format!("{}\nliburing cannot be built here: apt-get install liburing-dev", why.trim()))
}
