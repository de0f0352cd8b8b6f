//! A small `make`: its jobs, their pipes and their ends are waited for in one place, a ring.
//!
//! ```text
//!   target, all that it needs is made ─► sh -c COMMAND ─┬─ WaitId: its status ───┐
//!       ▲                (posix_spawn)                  └─ Read of its pipe, … ──┴─► both ended:
//!       │                                                                            printed whole
//!       └──────────────────────────── next command, or next target ◄─────────────────┘
//! ```
//!
//! | part of `make` | here |
//! |---|---|
//! | targets, what they need, commands, `@`, `.PHONY`, comments | yes |
//! | a file that is newer than all that it needs is left alone | yes |
//! | `-j`, `-k`; the output of a command in one piece | yes |
//! | variables, patterns, functions, `include` | no |
//!
//! Try it: `mini_make --file examples/mini_make/Makefile -j 4`.
//!
//! Look at: what is not there. No handler of SIGCHLD, no thread for a pipe, no temporary file for
//! the output of a job, and no `waitpid` for whichever child comes first, which would steal the
//! children of a library. A command is over when its process has ended *and* its pipe is closed, in
//! whichever order they come: so what it leaves running in the background, with the pipe open, is
//! waited for. Linux 6.7.

use std::collections::HashMap;
use std::fs;
use std::io::{self, PipeReader, Write as _};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use annulus::op::{ChildEvents, ChildStatus, Process, Read, WaitId};
use annulus::sys::opcode::Opcode;
use annulus::{Capabilities, EventLoop, Io, Setup};
use clap::Parser;
use rules::Rules;
use support::{Failure, Page, failed, up_to};

#[path = "mini_make/rules.rs"]
mod rules;
mod support;

/// Makes targets by the rules of a file, several at once.
#[derive(Debug, Parser)]
#[command(verbatim_doc_comment)]
struct Arguments {
    /// What to make; the first target of the file if none is named
    targets: Vec<String>,
    /// The file with the rules
    #[arg(short, long, value_name = "FILE", default_value = "Makefile")]
    file: PathBuf,
    /// So many commands at once, 1 to 1024
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = up_to(1024))]
    jobs: u32,
    /// After a failure go on with what does not need it
    #[arg(short, long)]
    keep_going: bool,
    /// Print what the ring did in all
    #[arg(long)]
    stats: bool,
}

/// How far a target is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Running,
    Made,
    /// It, or something that it needs, was not made.
    Failed,
}

/// The state of the loop.
#[derive(Debug)]
struct Make {
    rules: Rules,
    /// All that is to be made, each after what it needs.
    order: Vec<String>,
    states: HashMap<String, State>,
    /// Whether something was made for it, so that what needs it is made as well.
    fresh: HashMap<String, bool>,
    running: u32,
    jobs: u32,
    keep_going: bool,
    commands: u64,
    failures: Vec<String>,
}

/// A command that runs.
#[derive(Debug)]
struct Job {
    target: String,
    /// Which of the target's commands it is.
    number: usize,
    output: Vec<u8>,
    status: Option<ChildStatus>,
    /// Its pipe is closed.
    is_silent: bool,
}

type Shared = std::rc::Rc<std::cell::RefCell<Job>>;

fn main() -> ExitCode {
    support::main(run)
}

fn run(arguments: Arguments, page: &mut Page) -> Result<(), Failure> {
    let Arguments { mut targets, file, jobs, keep_going, stats } = arguments;
    if !Capabilities::detect()?.has_op(Opcode::WAITID) {
        return Err(Failure::Failed("to wait for children on a ring needs Linux 6.7".into()));
    }
    let cannot = format!("cannot read {}", file.display());
    let text = fs::read_to_string(&file).map_err(failed(cannot))?;
    let wrong = |what| Failure::of(file.display(), what);
    let rules = Rules::parse(&text).map_err(wrong)?;
    if targets.is_empty() {
        let first = rules.first().ok_or_else(|| wrong("there is no target".into()))?;
        targets.push(first.to_owned());
    }
    let order = rules.order(&targets).map_err(wrong)?;
    let states = order.iter().map(|target| (target.clone(), State::Waiting)).collect();
    let make = Make {
        rules,
        order,
        states,
        fresh: HashMap::new(),
        running: 0,
        jobs,
        keep_going,
        commands: 0,
        failures: Vec::new(),
    };
    // Two operations for each command.
    let mut events = EventLoop::new(Setup::new((2 * jobs).max(8)).build_for()?, make);
    let before = support::cpu_time();
    start_what_can(&mut events.io()).map_err(failed("cannot start"))?;
    let mut trouble = None;
    events.run(|_, error| trouble = Some(error))?;
    if let Some(error) = trouble {
        return Err(Failure::of("cannot go on", error));
    }
    let make = &events.state;
    if stats {
        let (cpu, total) = (support::cpu_time() - before, events.ring().raw().stats());
        writeln!(page, "{}", support::stats_line(total, make.commands, cpu))?;
    }
    if let [first, ..] = &make.failures[..] {
        let more = match make.failures.len() - 1 {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        return Err(Failure::Failed(format!("{first}{more}")));
    }
    if make.commands == 0 {
        writeln!(page, "everything is up to date")?;
    }
    Ok(())
}

// ANCHOR: start
/// Starts whatever has all that it needs, as long as fewer than `jobs` run.
fn start_what_can(io: &mut Io<'_, Make>) -> io::Result<()> {
    // In order, so that a target comes after what it needs: one pass settles all of them.
    for at in 0..io.state.order.len() {
        let target = io.state.order[at].clone();
        let may_start = io.state.failures.is_empty() || io.state.keep_going;
        if io.state.states[&target] != State::Waiting || !may_start {
            continue;
        }
        match io.state.readiness(&target) {
            Some(State::Made) if io.state.is_due(&target) => {
                if io.state.running == io.state.jobs {
                    return Ok(());
                }
                io.state.running += 1;
                io.state.states.insert(target.clone(), State::Running);
                next_command(io, target, 0)?;
            }
            Some(state) => drop(io.state.states.insert(target, state)),
            None => {}
        }
    }
    Ok(())
}
// ANCHOR_END: start

impl Make {
    /// `Made` if all that `target` needs is made, `Failed` if something will not be.
    fn readiness(&self, target: &str) -> Option<State> {
        let needs = &self.rules.rule(target)?.needs;
        // What has no state is a file that nothing makes.
        let mut states = needs.iter().filter_map(|need| self.states.get(need));
        if states.clone().any(|state| *state == State::Failed) {
            return Some(State::Failed);
        }
        states.all(|state| *state == State::Made).then_some(State::Made)
    }

    /// Whether the commands of `target` are to be run.
    fn is_due(&self, target: &str) -> bool {
        let Some(rule) = self.rules.rule(target) else { return false };
        let made_anew = |need: &String| self.fresh.get(need).is_some_and(|fresh| *fresh);
        let is_due = rule.needs.iter().any(made_anew) || self.rules.is_stale(target);
        is_due && !rule.commands.is_empty()
    }
}

// ANCHOR: command
/// Runs the command `number` of `target`, or notes that the target is made.
fn next_command(io: &mut Io<'_, Make>, target: String, number: usize) -> io::Result<()> {
    let rule = io.state.rules.rule(&target);
    let Some(line) = rule.and_then(|rule| rule.commands.get(number)).cloned() else {
        io.state.running -= 1;
        io.state.fresh.insert(target.clone(), true);
        io.state.states.insert(target, State::Made);
        return start_what_can(io);
    };
    let (line, is_quiet) = match line.strip_prefix('@') {
        Some(line) => (line, true),
        None => (&line[..], false),
    };
    let (reader, writer) = io::pipe()?;
    let mut command = Command::new("sh");
    command.args(["-c", line]).stdin(Stdio::null());
    command.stdout(writer.try_clone()?).stderr(writer);
    let child = command.spawn()?;
    drop(command); // Our copies of the writing end: otherwise the pipe would never close.
    io.state.commands += 1;
    let output = if is_quiet { Vec::new() } else { format!("{line}\n").into_bytes() };
    let job = Job { target, number, output, status: None, is_silent: false };
    let job = Shared::new(job.into());
    let for_status = Shared::clone(&job);
    let wait = WaitId::new(Process(child.id()), ChildEvents::EXITED);
    io.submit(wait, move |io, ended| {
        for_status.borrow_mut().status = ended.result?.map(|change| change.status);
        end_of_job(io, &for_status)
    })?;
    listen(io, job, reader, Vec::with_capacity(16 << 10))
}

/// Reads what the job prints, until its pipe is closed.
fn listen(io: &mut Io<'_, Make>, job: Shared, pipe: PipeReader, buf: Vec<u8>) -> io::Result<()> {
    io.submit(Read::new(pipe, buf), move |io, read| {
        if read.result? == 0 {
            job.borrow_mut().is_silent = true;
            return end_of_job(io, &job);
        }
        job.borrow_mut().output.extend(&read.buf);
        listen(io, job, read.fd, read.buf)
    })?;
    Ok(())
}

/// Goes on if the job's process has ended, and its pipe is closed.
fn end_of_job(io: &mut Io<'_, Make>, job: &Shared) -> io::Result<()> {
    let job = job.borrow();
    let (Some(status), true) = (job.status, job.is_silent) else { return Ok(()) };
    let mut out = io::stdout().lock();
    out.write_all(&job.output)?;
    out.flush()?;
    if status.success() {
        return next_command(io, job.target.clone(), job.number + 1);
    }
    io.state.running -= 1;
    io.state.states.insert(job.target.clone(), State::Failed);
    io.state.failures.push(format!("{} was not made: {}", job.target, why(status)));
    start_what_can(io)
}
// ANCHOR_END: command

/// What became of a process.
fn why(status: ChildStatus) -> String {
    match status {
        ChildStatus::Exited(code) => format!("exit status {code}"),
        ChildStatus::Killed(signal) => format!("killed by signal {signal}"),
        ChildStatus::Dumped(signal) => format!("killed by signal {signal}, with a core"),
        other => format!("{other:?}"),
    }
}
