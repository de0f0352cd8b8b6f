//! Waits for five things in one wait, and says which came first: a futex, an eventfd, a socket, a
//! child process and a clock.
//!
//! ```text
//!   a thread stores a word, wakes ──► FutexWait ─┐
//!   a thread writes an eventfd ─────► Read ──────┤
//!   a client connects ──────────────► Accept ────┼──► one ring, one wait ──► who came first
//!   a process ends ─────────────────► WaitId ────┤
//!   the time is up ─────────────────► Timeout ───┘
//! ```
//!
//! Without arguments there are five rounds, and in each another one comes first. With a time for
//! one or several, there is one round: `--futex 20 --clock 50`. With a command and an address it is
//! of use in a script: `wait_any --clock 60000 --listen 127.0.0.1:7777 -- make all` prints which of
//! the three came first, a minute, a client, or the end of `make`.
//!
//! Look at: the wait, which is one line, and does not know what it waits for. A condition variable
//! waits for no socket, `epoll` for no futex, and `waitpid` for nothing else. Then at the last
//! column: what did not come is in flight still, and is cancelled by ending the ring. Linux 6.7.

use std::fmt;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use annulus::op::{Accept, ChildEvents, FutexWait, Process, Read, Timeout, WaitId};
use annulus::sys::opcode::Opcode;
use annulus::{Capabilities, Event, Ring, Setup, Stats};
use clap::Parser;
use rustix::event::{EventfdFlags, eventfd};
use rustix::thread::futex;
use support::{Failure, Page, failed};

mod support;

/// Waits for five things at once, and says which came first.
#[derive(Debug, Parser)]
#[command(verbatim_doc_comment)]
struct Arguments {
    /// A thread wakes the futex after so many ms
    #[arg(long, value_name = "MS")]
    futex: Option<u32>,
    /// A thread writes to the eventfd after so many ms
    #[arg(long, value_name = "MS")]
    eventfd: Option<u32>,
    /// A thread connects to the socket after so many ms
    #[arg(long, value_name = "MS")]
    socket: Option<u32>,
    /// The child, a `sleep`, ends after so many ms
    #[arg(long, value_name = "MS", conflicts_with = "command")]
    child: Option<u32>,
    /// The time is up after so many ms
    #[arg(long, value_name = "MS")]
    clock: Option<u32>,
    /// Where the socket listens
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: String,
    /// Print what the rings did in all
    #[arg(long)]
    stats: bool,
    /// The child, in place of a `sleep`
    #[arg(last = true)]
    command: Vec<String>,
}

/// What is waited for; the user value of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Source {
    #[default]
    Futex,
    Eventfd,
    Socket,
    Child,
    Clock,
}

/// All of them.
const SOURCES: [Source; 5] =
    [Source::Futex, Source::Eventfd, Source::Socket, Source::Child, Source::Clock];
/// When a source comes that is not to come.
const NEVER: Duration = Duration::from_secs(3600);
/// When the first of a round comes, if nobody said.
const SOON: u32 = 20;

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Futex => "futex",
            Self::Eventfd => "eventfd",
            Self::Socket => "socket",
            Self::Child => "child",
            Self::Clock => "clock",
        })
    }
}

/// When each source comes, if it does.
#[derive(Debug, Clone, Copy, Default)]
struct Plan([Option<u32>; 5]);

impl Plan {
    fn of(arguments: &Arguments) -> Self {
        let Arguments { futex, eventfd, socket, child, clock, .. } = *arguments;
        Self([futex, eventfd, socket, child, clock])
    }

    /// Only `source` comes.
    fn only(source: Source) -> Self {
        Self(SOURCES.map(|other| (other == source).then_some(SOON)))
    }

    fn after(self, source: Source) -> Option<Duration> {
        self.0[source as usize].map(|millis| Duration::from_millis(millis.into()))
    }
}

fn main() -> ExitCode {
    support::main(run)
}

fn run(arguments: Arguments, page: &mut Page) -> Result<(), Failure> {
    let here = Capabilities::detect()?;
    if !here.has_op(Opcode::FUTEX_WAIT) || !here.has_op(Opcode::WAITID) {
        return Err(Failure::Failed("to wait for a futex and a child needs Linux 6.7".into()));
    }
    let plan = Plan::of(&arguments);
    let is_given = plan.0.iter().any(Option::is_some) || !arguments.command.is_empty();
    let rounds = match is_given || arguments.listen != "127.0.0.1:0" {
        true => vec![plan],
        false => SOURCES.map(Plan::only).into(),
    };
    let (before, mut total) = (support::cpu_time(), Stats::default());
    for plan in &rounds {
        let stats = round(&arguments, *plan, page)?;
        total.enters += stats.enters;
        total.sqes += stats.sqes;
        total.cqes += stats.cqes;
    }
    if arguments.stats {
        let cpu = support::cpu_time() - before;
        writeln!(page, "{}", support::stats_line(total, rounds.len() as u64, cpu))?;
    }
    Ok(())
}

/// Waits for all five, and prints which came first.
fn round(arguments: &Arguments, plan: Plan, page: &mut Page) -> Result<Stats, Failure> {
    let mut ring: Ring<Source> = Setup::new(8).build_for()?;
    let listener = TcpListener::bind(&arguments.listen);
    let listener =
        listener.map_err(failed(format_args!("cannot listen on {}", arguments.listen)))?;
    let address = listener.local_addr().map_err(failed("the socket has no address"))?;
    let word = Arc::new(AtomicU32::new(0));
    let counter = eventfd(0, EventfdFlags::CLOEXEC).map_err(failed("no eventfd"))?;
    let theirs = counter.try_clone().map_err(failed("no second descriptor"))?;
    let mut child = start(arguments, plan)?;
    disturb(plan, &word, theirs, address);

    // ANCHOR: submit
    let start = Instant::now();
    let span = plan.after(Source::Clock).unwrap_or(NEVER);
    let _waits = (
        ring.submit_for(FutexWait::new(word, 0), Source::Futex)?,
        ring.submit_for(Read::new(counter, [0; 8]), Source::Eventfd)?,
        ring.submit_for(Accept::new(listener), Source::Socket)?,
        ring.submit_for(
            WaitId::new(Process(child.id()), ChildEvents::EXITED).leave(),
            Source::Child,
        )?,
        ring.submit_for(Timeout::new(span), Source::Clock)?,
    );
    // ANCHOR_END: submit
    // ANCHOR: wait
    support::submit_and_wait(&mut ring, 1)?;
    let mut first = None;
    ring.reap(|event| {
        if let Event::Ended { user, result, .. } = event {
            first = first.or(Some((*user, result)));
        }
    })?;
    // ANCHOR_END: wait
    let Some((source, result)) = first else {
        return Err(Failure::Failed("the wait ended, and nothing came".into()));
    };
    let (came, left) = (start.elapsed().as_millis(), ring.in_flight());
    // A time that is up is ETIME, and a word that changed before the kernel looked is EAGAIN.
    if let Err(errno) = result
        && !errno.is(libc::EAGAIN)
        && !errno.is(libc::ETIME)
    {
        return Err(Failure::of(format_args!("the {source} failed"), errno));
    }
    writeln!(page, "{source:<7} came first, after {came} ms; {left} others are in flight")?;
    let stats = ring.raw().stats();
    // What is in flight is cancelled, and waited for.
    ring.shutdown(Duration::from_secs(5)).map_err(failed("an untidy end"))?;
    // The wait has left the child to us (`leave`), so its number is still its own.
    child.kill().map_err(failed("the child does not end"))?;
    child.wait().map_err(failed("the child is gone"))?;
    Ok(stats)
}

/// Starts the child.
fn start(arguments: &Arguments, plan: Plan) -> Result<Child, Failure> {
    let mut command = match &arguments.command[..] {
        [name, words @ ..] => {
            let mut command = Command::new(name);
            command.args(words);
            command
        }
        [] => {
            let span = plan.after(Source::Child).unwrap_or(NEVER);
            let mut command = Command::new("sleep");
            command.arg(span.as_secs_f64().to_string()).stdin(Stdio::null());
            command
        }
    };
    let name = command.get_program().to_string_lossy().into_owned();
    command.spawn().map_err(failed(format_args!("cannot start {name}")))
}

/// Starts a thread for each of the first three sources that is to come.
fn disturb(plan: Plan, word: &Arc<AtomicU32>, counter: OwnedFd, address: SocketAddr) {
    let later = |source, what: Box<dyn FnOnce() + Send>| {
        let Some(span) = plan.after(source) else { return };
        thread::spawn(move || {
            thread::sleep(span);
            what();
        });
    };
    let word = Arc::clone(word);
    later(
        Source::Futex,
        Box::new(move || {
            word.store(1, Ordering::Release);
            let _ = futex::wake(&word, futex::Flags::empty(), 1);
        }),
    );
    later(
        Source::Eventfd,
        Box::new(move || {
            let _ = rustix::io::write(&counter, &1_u64.to_ne_bytes());
        }),
    );
    later(
        Source::Socket,
        Box::new(move || {
            if let Ok(mut stream) = TcpStream::connect(address) {
                let _ = stream.write_all(b"here");
            }
        }),
    );
}
