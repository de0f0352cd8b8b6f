//! A soak: rings under load and disturbance for as long as you like, and an account of everything.
//!
//! ```text
//!   threads ─► rounds, each of a seed: rings, streams, files, listeners, messages, clocks ..
//!      ▲             └─► operations = taken + detached + left; bytes sent = received; all is back
//!      └── signals, SIGKILL, low limits, little memory, forgotten rings
//!   audit   ─► as many descriptors as before         watchdog ─► which round hangs
//! ```
//!
//! | a round checks | |
//! |---|---|
//! | every byte | it says which stream it is of, and where it belongs |
//! | every operation | its output was taken, or it was detached, or its ring went |
//! | every slot, buffer, place of a file | it is free again |
//! | every connection and message | it came once |
//! | every descriptor | it is closed: counted now and then, while no round runs |
//!
//! Look at: a finding names its round, and how to run that again. There is no unsafe here: whatever
//! is done to rings with safe code, everything comes back. Linux 5.11; more from later releases.
#![forbid(unsafe_code)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{self, ExitCode};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use annulus::{Capabilities, Stats};
use clap::{Parser, ValueEnum};
use soak::audit::Audit;
use soak::chance::mix;
use soak::disturb::{self, Signals};
use soak::tally::{Count, Tally};
use soak::trouble::{Check, Trouble};
use soak::watch::{Soak, Stage};
use soak::{children, round};
use support::progress::Progress;
use support::{Failure, Page, failed, up_to};

mod soak {
    pub mod act;
    pub mod apart;
    pub mod audit;
    pub mod chance;
    pub mod children;
    pub mod clocks;
    pub mod desk;
    pub mod disturb;
    pub mod door;
    pub mod flow;
    pub mod make;
    pub mod post;
    pub mod receives;
    pub mod record;
    pub mod round;
    pub mod sends;
    pub mod tally;
    pub mod trouble;
    pub mod watch;
}
mod support;

/// Uses rings in every way at once, disturbs them, and accounts for everything.
#[derive(Debug, Parser)]
#[command(verbatim_doc_comment)]
struct Arguments {
    /// How long
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = up_to(1_000_000))]
    seconds: u32,
    /// What happens; by default another one each time
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// How many threads run rounds
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = up_to(64))]
    threads: u32,
    /// Leave out signals, kill, limits, pressure or forget
    #[arg(long, value_name = "WHAT", value_delimiter = ',', hide_possible_values = true)]
    without: Vec<Disturbance>,
    /// Run the one round of this seed, again and again
    #[arg(long, value_name = "ROUND")]
    again: Option<u64>,
    /// Find fault if a thing takes N seconds
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = up_to(100_000))]
    patience: u32,
    /// Print what the rings did in all
    #[arg(long)]
    stats: bool,
    /// What a child does
    #[arg(long, hide = true)]
    role: Option<Role>,
}

/// What can be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Disturbance {
    Signals,
    Kill,
    Limits,
    Pressure,
    Forget,
}

/// What a child does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    Victim,
    Limited,
}

/// How many megabytes are touched at once, at most.
const PRESSURE: u32 = 48;
/// How often the descriptors are counted.
const AUDIT: Duration = Duration::from_secs(2);
/// A process forgets no more rings than that: they stay open.
const FORGOTTEN: usize = 24;
/// Threads that start children: one to kill them, one to limit them.
const NURSES: usize = 2;

fn main() -> ExitCode {
    support::main(run)
}

fn run(arguments: Arguments, page: &mut Page) -> Result<(), Failure> {
    let patience = Duration::from_secs(arguments.patience.into());
    if let Some(role) = arguments.role {
        return play(role, arguments.seed.unwrap_or(0), patience, page);
    }
    Capabilities::detect()?;
    let before = support::cpu_time();
    let seed = arguments.seed.unwrap_or_else(by_the_clock);
    let threads = if arguments.again.is_some() { 1 } else { arguments.threads as usize };
    let time = Duration::from_secs(arguments.seconds.into());
    let soak = Soak::new(seed, time, patience, threads + NURSES);
    writeln!(page, "seed {seed}, {threads} threads, {} seconds", arguments.seconds)?;

    let does = |what| !arguments.without.contains(&what);
    let signals = does(Disturbance::Signals).then(Signals::begin).transpose();
    let mut signals = signals.map_err(failed("no shell sends signals"))?;
    let audit = Audit::begin().map_err(failed("/proc cannot be read"))?;
    thread::scope(|scope| {
        let (soak, audit, forgets) = (&soak, &audit, does(Disturbance::Forget));
        let mut busy = Vec::new();
        for (number, stage) in (0..).zip(&soak.stages[..threads]) {
            busy.push(scope.spawn(move || rounds(soak, stage, number, arguments.again, forgets)));
        }
        let nurses = [
            (Disturbance::Kill, children::kill as fn(&Soak, &Stage) -> Check),
            (Disturbance::Limits, children::limits),
        ];
        for ((what, nurse), stage) in nurses.into_iter().zip(&soak.stages[threads..]) {
            if does(what) {
                busy.push(scope.spawn(move || note(soak, nurse(soak, stage))));
            }
        }
        if let Some(signals) = &mut signals {
            busy.push(scope.spawn(move || signals.send(soak)));
        }
        if does(Disturbance::Pressure) {
            busy.push(scope.spawn(move || disturb::pressure(soak, PRESSURE)));
        }
        busy.push(scope.spawn(move || audits(soak, audit)));
        let progress = Progress::of_requests(time.as_secs());
        while busy.iter().any(|thread| !thread.is_finished()) {
            progress.show(time.saturating_sub(soak.until - Instant::now()).as_secs());
            watch(soak);
            thread::sleep(Duration::from_millis(20));
        }
    });
    note(&soak, audit.check(soak.leaked()));
    soak.total.add(Count::Audits, 1);
    if let Some(signals) = signals {
        signals.end().map_err(failed("the shell"))?;
    }
    if let Some(what) = soak.finding() {
        return Err(Failure::Failed(what));
    }
    let cpu = arguments.stats.then(|| support::cpu_time() - before);
    report(&soak.total.get(), arguments.seconds, cpu, page)
}

/// A seed that differs each time.
fn by_the_clock() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    mix(now.map_or(0, |now| now.as_secs() << 20 | u64::from(now.subsec_micros()))) >> 32
}

/// Plays a child.
fn play(role: Role, seed: u64, patience: Duration, page: &mut Page) -> Result<(), Failure> {
    let done = match role {
        Role::Victim => children::victim(seed, patience).map(|()| None),
        Role::Limited => children::limited(seed, patience).map(Some),
    };
    match done {
        Ok(None) => Ok(()),
        Ok(Some(tally)) => writeln!(page, "{}", tally.to_line()),
        Err(Trouble::Finding(what) | Trouble::Lack(what)) => Err(Failure::Failed(what)),
    }
}

/// What a thread does: round after round.
fn rounds(soak: &Soak, stage: &Stage, thread: u64, again: Option<u64>, forgets: bool) {
    stage.enter();
    for number in 1.. {
        if soak.is_over() {
            break;
        }
        let seed = again.unwrap_or_else(|| mix(soak.seed ^ mix((thread << 32) + number)));
        let name = format!("round {seed} (the seed was {}): run it by --again {seed}", soak.seed);
        stage.begin(name.clone());
        // No audit while descriptors come and go.
        let open = soak.gate.read();
        let forgets = forgets && soak.leaked().rings < FORGOTTEN;
        let round = AssertUnwindSafe(|| round::run(seed, forgets, soak.patience));
        match catch_unwind(round) {
            Ok(Ok((tally, leaks))) => {
                soak.total.merge(&tally);
                soak.leak(leaks);
            }
            Ok(Err(Trouble::Lack(_))) => soak.total.add(Count::Lacks, 1),
            Ok(Err(Trouble::Finding(what))) => soak.found(format!("{what}\n  in {name}")),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or_default();
                soak.found(format!("a panic: {text}\n  in {name}"));
            }
        }
        drop(open);
        stage.done();
    }
    stage.leave();
}

/// Counts the descriptors now and then, while no round runs.
fn audits(soak: &Soak, audit: &Audit) {
    let mut last = Instant::now();
    while !soak.is_over() {
        thread::sleep(Duration::from_millis(20));
        if last.elapsed() < AUDIT {
            continue;
        }
        let alone = soak.gate.write();
        note(soak, audit.check(soak.leaked()));
        drop(alone);
        soak.total.add(Count::Audits, 1);
        last = Instant::now();
    }
}

/// Keeps a finding.
fn note(soak: &Soak, check: Check) {
    match check {
        Ok(()) => {}
        Err(Trouble::Lack(_)) => soak.total.add(Count::Lacks, 1),
        Err(Trouble::Finding(what)) => soak.found(format!("{what}\n  the seed was {}", soak.seed)),
    }
}

/// The watchdog. A thread that hangs cannot be joined, so the process ends.
fn watch(soak: &Soak) {
    // A round has its own patience, and so has its end.
    let hangs = |stage: &Stage| Some((stage.hangs(soak.patience * 4)?, stage.whereabouts()));
    if let Some((what, place)) = soak.stages.iter().find_map(hangs) {
        support::tell(format_args!("it hangs: {what}\n{place}"));
        process::exit(1);
    }
}

/// The table.
fn report(
    tally: &Tally,
    seconds: u32,
    cpu: Option<Duration>,
    page: &mut Page,
) -> Result<(), Failure> {
    write!(page, "{}", tally.to_table())?;
    let each = |row| tally.of(row) / u64::from(seconds);
    let (rounds, operations) = (each(Count::Rounds), each(Count::Operations));
    writeln!(page, "{rounds} rounds and {operations} operations a second")?;
    writeln!(page, "everything is accounted for, exactly once")?;
    if let Some(cpu) = cpu {
        let stats = Stats {
            enters: tally.of(Count::Enters),
            sqes: tally.of(Count::Sqes),
            cqes: tally.of(Count::Cqes),
            overflows: tally.of(Count::Overflows),
        };
        let operations = tally.of(Count::Operations);
        writeln!(page, "{}", support::stats_line(stats, operations, cpu))?;
    }
    Ok(())
}
