//! Solutions of chapter 20: children, their pipes, and a fork.

use std::io::PipeReader;
use std::process::{Command, Stdio};
use std::time::Duration;

use annulus::op::{ChildEvents, ChildStatus, Process, Read, Timeout, WaitId};
use annulus::sys::opcode::Opcode;
use annulus::{Capabilities, Ring, Setup, StepExt as _};

use crate::ring;

/// A ring on which children are waited for, or a reason on stderr.
fn waiting_ring() -> Option<Ring> {
    let mut setup = Some(Setup::new(8));
    if !Capabilities::detect().is_ok_and(|here| here.has_op(Opcode::WAITID)) {
        eprintln!("skipped: needs Linux 6.7: WAITID");
        setup = None;
    }
    ring(setup?)
}

/// What a shell command prints, as far as it is read, and its number.
fn run(command: &str) -> (PipeReader, u32) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).stdin(Stdio::null()).stdout(writer);
    #[expect(clippy::zombie_processes, reason = "a ring waits for it")]
    let child = shell.spawn().expect("every system has a shell");
    (reader, child.id())
}

// ANCHOR: both
#[test]
fn a_pipe_may_close_before_its_process_ends_and_long_after() {
    let Some(mut ring) = waiting_ring() else { return };
    // The first closes its output, and goes on. The second ends, and leaves somebody behind.
    let cases = [("exec >&-; sleep 0.2", false), ("sleep 0.2 & exit 3", true)];
    for (command, ends_first) in cases {
        let (reader, pid) = run(command);
        let ended = ring.submit(WaitId::new(Process(pid), ChildEvents::EXITED)).expect("room");
        let silent = ring.submit(Read::new(reader, [0; 1])).expect("room");
        ring.submit_and_wait(1).expect("one of them comes");
        let (ended, is_first) = match ring.try_take(ended) {
            Ok(ended) => (ended, true),
            Err(ticket) => (ring.wait(ticket).expect("it ends"), false),
        };
        assert_eq!(is_first, ends_first, "{command}");
        let status = ended.result.expect("it was waited for").expect("it has ended").status;
        assert_eq!(status.success(), !ends_first);
        assert_eq!(ring.wait(silent).expect("it closes").result.expect("and is empty"), 0);
    }
}
// ANCHOR_END: both

// ANCHOR: within
#[test]
fn a_child_has_a_time_limit_and_is_killed_after_it() {
    let Some(mut ring) = waiting_ring() else { return };
    let mut sleep = Command::new("sleep");
    #[expect(clippy::zombie_processes, reason = "a ring waits for it")]
    let mut child = sleep.arg("3600").spawn().expect("there is a sleep");
    let wait = WaitId::new(Process(child.id()), ChildEvents::EXITED).leave();
    let limited = wait.within(Duration::from_millis(20));
    let ticket = ring.submit_chain((limited,)).expect("room");
    let chain = ring.wait_chain(ticket).expect("it ends in any case");
    // The wait has ended, and the process has not.
    assert!(chain.outputs.0.output.result.is_err());
    child.kill().expect("it is ours");
    let wait = WaitId::new(Process(child.id()), ChildEvents::EXITED);
    let ticket = ring.submit(wait).expect("room");
    let ended = ring.wait(ticket).expect("it ends").result.expect("it was waited for");
    assert_eq!(ended.map(|change| change.status), Some(ChildStatus::Killed(libc::SIGKILL)));
}
// ANCHOR_END: within

// ANCHOR: many
#[test]
fn many_children_and_a_time_are_one_wait() {
    let Some(mut ring) = waiting_ring() else { return };
    let limit = ring.submit(Timeout::new(Duration::from_secs(60))).expect("room");
    let waits: Vec<_> = (0..5)
        .map(|code| {
            let (reader, pid) = run(&format!("exit {code}"));
            drop(reader);
            ring.submit(WaitId::new(Process(pid), ChildEvents::EXITED)).expect("room")
        })
        .collect();
    ring.submit_and_wait(5).expect("five of them come");
    for (code, wait) in (0..).zip(waits) {
        let ended = ring.wait(wait).expect("it is there").result.expect("it was waited for");
        assert_eq!(ended.map(|change| change.status), Some(ChildStatus::Exited(code)));
    }
    ring.detach(limit);
}
// ANCHOR_END: many
