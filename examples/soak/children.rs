//! Children: this program once more, with low limits, or to be killed in the midst of its work.
//!
//! ```text
//!   kill:   we ◄── a stream, by a ring ── victim: rounds, until SIGKILL; what came is right
//!   limits: we ── sh: ulimit -n, -l ──► rounds with few descriptors, little memory ─► a tally
//! ```

use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use annulus::Setup;
use annulus::op::Write;

use super::audit::Audit;
use super::chance::{Chance, bytes, compare, mix};
use super::make::patient;
use super::round;
use super::tally::{Count, Tally};
use super::trouble::{Check, Trouble, equal, finding, may_end};
use super::watch::{Soak, Stage};

/// Starts children and kills them, until the soak is over.
pub fn kill(soak: &Soak, stage: &Stage) -> Check {
    let mut chance = Chance::new(soak.seed ^ 3);
    while !soak.is_over() {
        let seed = chance.next();
        stage.begin(format!("a child that is to be killed, of seed {seed}"));
        {
            let _open = soak.gate.read();
            let received = kill_one(soak, seed, chance.below(400))?;
            soak.total.add(Count::Kills, 1);
            soak.total.add(Count::Bytes, received);
        }
        stage.done();
        pause(soak, 30);
    }
    Ok(())
}

/// A child works for some milliseconds. Returns how many bytes came from it.
fn kill_one(soak: &Soak, seed: u64, millis: u32) -> Result<u64, Trouble> {
    let mut child = again("victim", seed, soak.patience)?
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let Some(mut from) = child.stdout.take() else { return finding("a child has no output") };
    let reader = thread::spawn(move || {
        let (mut buf, mut at) = (vec![0; 8192], 0);
        loop {
            match from.read(&mut buf) {
                // All that the child had is closed, its rings too.
                Ok(0) => return Ok::<u64, Trouble>(at),
                Ok(count) => {
                    compare(seed, at, &buf[..count])?;
                    at += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    });
    thread::sleep(Duration::from_millis(20 + u64::from(millis)));
    child.kill()?;
    let status = child.wait()?;
    let received = match reader.join() {
        Ok(received) => received?,
        Err(_) => return finding("a reader panicked"),
    };
    equal("the signal that a killed child ended with", status.signal(), Some(9))?;
    Ok(received)
}

/// What a child does until it is killed: rounds, and a stream to its parent.
pub fn victim(seed: u64, patience: Duration) -> Check {
    thread::spawn(move || {
        for number in 0.. {
            let _ = round::run(mix(seed ^ number), number % 8 == 0, patience);
        }
    });
    let mut ring = patient(|| Setup::new(4).build())?;
    let out = Rc::new(io::stdout().as_fd().try_clone_to_owned()?);
    let (mut at, mut chance) = (0, Chance::new(seed));
    loop {
        let part = bytes(seed, at, chance.up_to(6000));
        let ticket = match ring.submit(Write::new(Rc::clone(&out), part)) {
            Ok(ticket) => ticket,
            Err(rejected) => return finding(rejected.to_string()),
        };
        match ring.wait(ticket) {
            Ok(outcome) => match outcome.result {
                Ok(count) => at += count as u64,
                // The parent is gone.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                Err(error) => may_end("a write to the parent", &error)?,
            },
            Err(unfinished) => return finding(unfinished.to_string()),
        }
    }
}

/// Starts children that may have little, until the soak is over.
pub fn limits(soak: &Soak, stage: &Stage) -> Check {
    let mut chance = Chance::new(soak.seed ^ 4);
    while !soak.is_over() {
        let seed = chance.next();
        let (files, kilobytes) = (chance.among(&[10, 14, 20, 40]), chance.among(&[64, 1000, 8000]));
        stage.begin(format!("{files} descriptors, {kilobytes} KiB of locked memory, seed {seed}"));
        {
            let _open = soak.gate.read();
            // Who may lock less memory than that, and not raise it, has a low limit already. The
            // shell takes a descriptor to redirect what it says, so files come last.
            let memory = format!("{{ ulimit -l {kilobytes} 2> /dev/null || true; }}");
            let script = format!("{memory} && ulimit -n {files} && exec \"$@\"");
            let child = again("limited", seed, soak.patience)?;
            let mut command = Command::new("sh");
            command.args(["-c", &script, "sh"]).arg(child.get_program()).args(child.get_args());
            let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
            if !output.status.success() {
                return finding(format!(
                    "rounds with {files} descriptors and {kilobytes} KiB of locked memory, of \
                     seed {seed}: {}",
                    output.status
                ));
            }
            let line = String::from_utf8_lossy(&output.stdout);
            let Some(mut tally) = Tally::from_line(line.trim()) else {
                return finding(format!("a child has no tally, but {line}"));
            };
            tally.add(Count::LimitedRounds, tally.of(Count::Rounds));
            soak.total.merge(&tally);
        }
        stage.done();
        pause(soak, 50);
    }
    Ok(())
}

/// What a child with low limits does: a few rounds, each of them audited.
pub fn limited(seed: u64, patience: Duration) -> Result<Tally, Trouble> {
    let (audit, mut total) = (Audit::begin()?, Tally::default());
    for number in 0..6 {
        let (tally, leaks) = round::run(mix(seed ^ number), false, patience)?;
        audit.check(leaks)?;
        total.merge(&tally);
        total.add(Count::Audits, 1);
    }
    Ok(total)
}

/// This program, in another role.
fn again(role: &str, seed: u64, patience: Duration) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    let (seed, patience) = (seed.to_string(), patience.as_secs().to_string());
    command.args(["--role", role, "--seed", &seed, "--patience", &patience]);
    Ok(command)
}

/// Rests for some milliseconds, so that audits get their turn.
fn pause(soak: &Soak, millis: u64) {
    if !soak.is_over() {
        thread::sleep(Duration::from_millis(millis));
    }
}
