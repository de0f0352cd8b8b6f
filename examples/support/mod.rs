//! What the examples share: arguments, one-line failures, and what an operation cost.
//!
//! | a program ends | with | and says |
//! |---|---|---|
//! | as it should, or after `--help` | 0 | what it has to say, on stdout |
//! | because something failed | 1 | one line on stderr |
//! | because it was called wrongly | 2 | what is wrong and how to call it, on stderr |
#![allow(dead_code, reason = "no example uses all of it")]

pub mod echo;
pub mod picture;
pub mod progress;
pub mod reading;
pub mod serving;

use std::cell::Cell;
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;
use std::{fmt, fs, thread};

use annulus::sys::sq::Full;
use annulus::{EnterCause, EnterError, Rejected, Ring, SetupError, Stats, Unfinished};

/// Why an example ends before its time.
#[derive(Debug)]
pub enum Failure {
    /// It was called wrongly.
    Usage(String),
    /// Something failed: one line that says what.
    Failed(String),
    /// Its output has nowhere to go.
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

/// The claim goes with it. What is in flight then ends with its ring, or with its scope.
impl<T> From<Unfinished<T>> for Failure {
    fn from(unfinished: Unfinished<T>) -> Self {
        Self::Failed(unfinished.to_string())
    }
}

/// For `map_err`: `what` failed.
pub fn failed<E: fmt::Display>(what: impl fmt::Display) -> impl FnOnce(E) -> Failure {
    move |error| Failure::of(what, error)
}

/// Runs an example, and turns how it ended into what the shell sees.
pub fn main(usage: &str, example: fn(Arguments, &mut Page) -> Result<(), Failure>) -> ExitCode {
    let mut arguments = Arguments { rest: std::env::args_os().skip(1).collect() };
    let mut page = Page { out: io::stdout() };
    let outcome = if arguments.flag("--help") || arguments.flag("-h") {
        writeln!(page, "{}", usage.trim())
    } else {
        example(arguments, &mut page)
    };
    // When stderr is closed too, there is nobody left to tell.
    let mut stderr = io::stderr();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // The reader, such as `head`, has seen enough.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(Failure::Output(error)) => {
            let _ = writeln!(stderr, "{}: cannot write: {error}", name(usage));
            ExitCode::from(1)
        }
        Err(Failure::Failed(what)) => {
            let _ = writeln!(stderr, "{}: {what}", name(usage));
            ExitCode::from(1)
        }
        Err(Failure::Usage(what)) => {
            let call = usage.trim().lines().next().unwrap_or_default();
            let _ = writeln!(stderr, "{}: {what}\n{call}", name(usage));
            ExitCode::from(2)
        }
    }
}

/// The name of the example whose usage begins with `usage: NAME`.
fn name(usage: &str) -> &str {
    usage.split_whitespace().nth(1).unwrap_or("example")
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

/// What stood on the command line, minus what was taken already.
#[derive(Debug)]
pub struct Arguments {
    rest: Vec<OsString>,
}

impl Arguments {
    /// Takes `name`, and says whether it was there.
    pub fn flag(&mut self, name: &str) -> bool {
        let before = self.rest.len();
        self.rest.retain(|argument| argument != name);
        self.rest.len() != before
    }

    /// Takes `name` and the number after it.
    pub fn number_after(&mut self, name: &str) -> Result<Option<u32>, Failure> {
        let Some(number) = self.count_after(name)? else { return Ok(None) };
        let too_large = || Failure::Usage(format!("{name}: {number} is more than {}", u32::MAX));
        u32::try_from(number).map(Some).map_err(|_| too_large())
    }

    /// Takes `name` and the number after it, which may be as large as they come.
    pub fn count_after(&mut self, name: &str) -> Result<Option<u64>, Failure> {
        let Some(at) = self.rest.iter().position(|argument| argument == name) else {
            return Ok(None);
        };
        if at + 1 == self.rest.len() {
            return Err(Failure::Usage(format!("{name} needs a number")));
        }
        let number = number(&self.rest.remove(at + 1))?;
        self.rest.remove(at);
        Ok(Some(number))
    }

    /// Takes the first argument that is no option.
    pub fn operand(&mut self) -> Option<OsString> {
        let is_option = |argument: &OsString| argument.as_encoded_bytes().starts_with(b"-");
        let at = self.rest.iter().position(|argument| !is_option(argument))?;
        Some(self.rest.remove(at))
    }

    /// Refuses what nobody took.
    pub fn end(self) -> Result<(), Failure> {
        let Some(left) = self.rest.first() else { return Ok(()) };
        let left = left.to_string_lossy();
        let kind = if left.starts_with('-') { "unknown option" } else { "one argument too many" };
        Err(Failure::Usage(format!("{kind}: {left}")))
    }
}

/// The number, at least 1, that `argument` is.
pub fn number(argument: &OsString) -> Result<u64, Failure> {
    let parsed = argument.to_str().and_then(|text| text.parse::<u64>().ok());
    match parsed.filter(|&number| number > 0) {
        Some(number) => Ok(number),
        None => {
            let given = argument.to_string_lossy();
            Err(Failure::Usage(format!("{given} is no number from 1 to {}", u64::MAX)))
        }
    }
}

/// Hands everything over and waits until `want` events can be reaped, also past a signal.
pub fn submit_and_wait<U: Default>(ring: &mut Ring<U>, want: u32) -> Result<(), EnterError> {
    loop {
        match ring.submit_and_wait(want) {
            // Ctrl-Z and `fg`, or a debugger. What was submitted stays so; we wait on.
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

/// What `--stats` prints: what was done, and what one of `operations` cost.
pub fn stats_line(stats: Stats, operations: u64, cpu: Duration) -> String {
    let Stats { enters, sqes, cqes, .. } = stats;
    let each = nanos_each(cpu, operations);
    format!("stats: {enters} enters, {sqes} SQEs, {cqes} CQEs, {each} CPU ns per operation")
}

/// How many nanoseconds of `cpu` one of `operations` took; `unknown`, where [`cpu_time`] could not
/// be asked for, such as without a descriptor left to open its file.
pub fn nanos_each(cpu: Duration, operations: u64) -> String {
    if cpu.is_zero() {
        return "unknown".into();
    }
    (cpu.as_nanos() / u128::from(operations.max(1))).to_string()
}
