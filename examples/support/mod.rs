//! What the examples share: arguments, one-line failures, waiting, and what an operation cost.
//!
//! | a program ends | with | and says |
//! |---|---|---|
//! | as it should, or after `--help` | 0 | what it has to say, on stdout |
//! | because something failed | 1 | one line on stderr |
//! | because it was called wrongly | 2 | what is wrong and how to call it, on stderr |
#![allow(dead_code, reason = "no example uses all of it")]
#![allow(unsafe_code, reason = "asks for the time that the process has used")]

pub mod echo;
pub mod loans;
pub mod picture;
pub mod reading;

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use annulus::sys::flags::Features;
use annulus::sys::sq::Full;
use annulus::{EnterCause, EnterError, RawRing, SetupError, Stats, Woken};

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
        let Some(at) = self.rest.iter().position(|argument| argument == name) else {
            return Ok(None);
        };
        if at + 1 == self.rest.len() {
            return Err(Failure::Usage(format!("{name} needs a number")));
        }
        let number = number(&self.rest.remove(at + 1))?;
        self.rest.remove(at);
        let too_large = || Failure::Usage(format!("{name}: {number} is more than {}", u32::MAX));
        u32::try_from(number).map(Some).map_err(|_| too_large())
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

/// Submits what was pushed and waits for `want` completions, also past a signal.
pub fn submit_and_wait(ring: &mut RawRing, want: u32) -> Result<(), EnterError> {
    loop {
        match ring.submit_and_wait(want) {
            // Ctrl-Z and `fg`, or a debugger. What was submitted stays so; we wait on.
            Err(EnterError { cause: EnterCause::Interrupted, .. }) => {}
            outcome => return outcome.map(drop),
        }
    }
}

/// Waits until `want` completions are ready, also past a signal. Before Linux 5.11, which cannot
/// bound a wait, it takes as long as it takes.
pub fn wait_at_most(ring: &mut RawRing, want: u32, limit: Duration) -> Result<Woken, EnterError> {
    let start = Instant::now();
    loop {
        let waited = if ring.features().contains(Features::EXT_ARG) {
            ring.wait_timeout(want, limit.saturating_sub(start.elapsed()))
        } else {
            ring.wait(want).map(|()| Woken::Ready)
        };
        match waited {
            Err(EnterError { cause: EnterCause::Interrupted, .. }) => {}
            outcome => return outcome,
        }
    }
}

/// The processor time, ours and the kernel's for us, that this process has used.
pub fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one live `struct timespec` and keeps nothing, because the call is
    // synchronous. Every Linux has this clock; if it failed, the time would stay 0.
    let _ = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_nanos(nanos)
}

/// What `--stats` prints: what was done, and what one of `operations` cost.
pub fn stats_line(stats: Stats, operations: u64, cpu: Duration) -> String {
    let Stats { enters, sqes, cqes, .. } = stats;
    let each = cpu.as_nanos() / u128::from(operations.max(1));
    format!("stats: {enters} enters, {sqes} SQEs, {cqes} CQEs, {each} CPU ns per operation")
}
