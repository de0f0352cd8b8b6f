//! What the examples share: arguments, one-line failures, and the cost of an operation.
//!
//! | a program ends | with | and prints |
//! |---|---|---|
//! | as it should, or after `--help` | 0 | its output, on stdout |
//! | because something failed | 1 | one line on stderr |
//! | because it was called wrongly | 2 | what is wrong and how to call it, on stderr |
#![allow(dead_code, reason = "no example uses all of it")]

pub mod cksum;
pub mod echo;
pub mod ends;
pub mod holes;
pub mod picture;
pub mod progress;
pub mod reading;
pub mod serving;
pub mod tree;

use std::cell::Cell;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;
use std::{fmt, fs, thread};

use annulus::sys::sq::Full;
use annulus::{EnterCause, EnterError, Rejected, Ring, SetupError, Stats, Unfinished};
use clap::builder::RangedI64ValueParser;
use clap::error::{ContextKind, ContextValue};
use clap::{Arg, Parser, value_parser};

/// Why an example ends before its time.
#[derive(Debug)]
pub enum Failure {
    /// Something failed: one line of text.
    Failed(String),
    /// Its output cannot be written.
    Output(io::Error),
}

impl Failure {
    /// `what` failed because of `error`.
    pub fn of(what: impl fmt::Display, error: impl fmt::Display) -> Self {
        Self::Failed(format!("{what}: {error}"))
    }
}

impl From<SetupError> for Failure {
    fn from(error: SetupError) -> Self {
        Self::of("there is no ring", error)
    }
}

impl From<EnterError> for Failure {
    fn from(error: EnterError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<Full> for Failure {
    fn from(full: Full) -> Self {
        Self::Failed(full.to_string())
    }
}

impl<O, U> From<Rejected<O, U>> for Failure {
    fn from(rejected: Rejected<O, U>) -> Self {
        Self::Failed(rejected.to_string())
    }
}

/// The ticket is dropped with the error. The operation then ends with its ring, or with its scope.
impl<T> From<Unfinished<T>> for Failure {
    fn from(unfinished: Unfinished<T>) -> Self {
        Self::Failed(unfinished.to_string())
    }
}

/// For `map_err`: `what` failed.
pub fn failed<E: fmt::Display>(what: impl fmt::Display) -> impl FnOnce(E) -> Failure {
    move |error| Failure::of(what, error)
}

/// The name of the example that this is compiled into.
const NAME: &str = env!("CARGO_BIN_NAME");

/// Parses the arguments, runs an example with them, and turns its result into an exit code.
pub fn main<A: Parser>(example: fn(A, &mut Page) -> Result<(), Failure>) -> ExitCode {
    let outcome = match parse::<A>() {
        Ok(arguments) => example(arguments, &mut Page { out: io::stdout() }),
        // When stderr is closed too, there is nowhere left to report it.
        Err(wrong) if wrong.use_stderr() => {
            let _ = wrong.print();
            return ExitCode::from(2);
        }
        Err(help) => help.print().map_err(Failure::Output),
    };
    let what = match outcome {
        Ok(()) => return ExitCode::SUCCESS,
        // The reader, such as `head`, has seen enough.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            return ExitCode::SUCCESS;
        }
        Err(Failure::Output(error)) => format!("cannot write: {error}"),
        Err(Failure::Failed(what)) => what,
    };
    tell(what);
    ExitCode::FAILURE
}

/// Parses the arguments. A negative number is a number, and so is told the range that it misses.
fn parse<A: Parser>() -> Result<A, clap::Error> {
    let negative = |arg: Arg| {
        let takes_value = arg.get_action().takes_values();
        arg.allow_negative_numbers(takes_value)
    };
    let mut command = A::command().mut_args(negative);
    let matches = command.try_get_matches_from_mut(std::env::args_os());
    let parsed = matches.and_then(|matches| A::from_arg_matches(&matches));
    parsed.map_err(|mut wrong| {
        // `clap` leaves it out when it is a value that is wrong.
        if wrong.get(ContextKind::Usage).is_none() {
            wrong.insert(ContextKind::Usage, ContextValue::StyledStr(command.render_usage()));
        }
        wrong
    })
}

/// Parses a number from 1 to `most`.
pub fn up_to(most: u32) -> RangedI64ValueParser<u32> {
    value_parser!(u32).range(1..=most.into())
}

/// Writes a line to stderr, without the panic of `eprintln!` when that is closed.
pub fn tell(what: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "{NAME}: {what}");
}

/// Where an example writes: stdout, without the panic of `println!` when that is closed or full.
#[derive(Debug)]
pub struct Page {
    out: io::Stdout,
}

impl Page {
    /// What `write!` and `writeln!` call.
    pub fn write_fmt(&mut self, text: fmt::Arguments<'_>) -> Result<(), Failure> {
        self.out.write_fmt(text).map_err(Failure::Output)
    }

    /// Writes `words`, broken into lines of at most 80 columns that begin with `label` or below it.
    pub fn list(&mut self, label: &str, words: &[impl AsRef<str>]) -> Result<(), Failure> {
        let indent = " ".repeat(label.chars().count());
        let mut line = String::from(label);
        for word in words.iter().map(AsRef::as_ref) {
            if line.chars().count() + 1 + word.chars().count() > 80 {
                writeln!(self, "{line}")?;
                line.clone_from(&indent);
            }
            line.push(' ');
            line.push_str(word);
        }
        writeln!(self, "{line}")
    }
}

/// Submits everything and waits until `want` events can be reaped, even after a signal.
pub fn submit_and_wait<U: Default>(ring: &mut Ring<U>, want: u32) -> Result<(), EnterError> {
    loop {
        match ring.submit_and_wait(want) {
            // Ctrl-Z and `fg`, or a debugger. The entries stay submitted; the wait goes on.
            Err(EnterError { cause: EnterCause::Interrupted, .. }) => {}
            outcome => return outcome.map(drop),
        }
    }
}

/// The processor time, ours and the kernel's for us, that this process has used: 0 where the kernel
/// keeps no such figures.
///
/// There is a file in `/proc` for each thread, also for those that the kernel runs requests on,
/// with the nanoseconds that it ran until it was last off the processor; so this one gives way
/// first. What a thread used is no longer told when it has ended. Then the time stands still until
/// the others make up for that, and never runs backwards.
pub fn cpu_time() -> Duration {
    thread_local! {
        static LATEST: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    }
    thread::yield_now();
    let nanos = |task: io::Result<fs::DirEntry>| {
        let figures = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        figures.split_whitespace().next()?.parse::<u64>().ok()
    };
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten();
    let now = Duration::from_nanos(tasks.filter_map(nanos).sum());
    let latest = LATEST.get().max(now);
    LATEST.set(latest);
    latest
}

/// The processor time that this thread has used: 0 where the kernel keeps no such figures. For
/// programs whose threads end before the figures are read.
pub fn thread_cpu_time() -> Duration {
    thread::yield_now();
    let figures = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = figures.split_whitespace().next().and_then(|word| word.parse().ok());
    Duration::from_nanos(nanos.unwrap_or_default())
}

/// The output of `--stats`: what was done, and the cost of one of `operations`.
pub fn stats_line(stats: Stats, operations: u64, cpu: Duration) -> String {
    let Stats { enters, sqes, cqes, .. } = stats;
    let each = nanos_each(cpu, operations);
    format!("stats: {enters} enters, {sqes} SQEs, {cqes} CQEs, {each} CPU ns per operation")
}

/// How many nanoseconds of `cpu` one of `operations` took; `unknown`, where [`cpu_time`] could not
/// be read, such as without a descriptor left to open its file.
pub fn nanos_each(cpu: Duration, operations: u64) -> String {
    if cpu.is_zero() {
        return "unknown".into();
    }
    (cpu.as_nanos() / u128::from(operations.max(1))).to_string()
}
