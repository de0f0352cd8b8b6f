//! Children: each end of a process, and each other change, as `waitid(2)` reports it.
#![allow(unsafe_code, reason = "sends signals, and opens processes")]
#![allow(clippy::zombie_processes, reason = "it is the ring that waits for them")]

use std::io::{Read as _, Write as _, pipe};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};

use annulus::op::{AnyChild, ChildEvents, ChildStatus, Group, Process, WaitId};
use annulus::sys::opcode::Opcode;
use libtest_mimic::{Failed, Trial};

use super::{begin, cancelled, errno, goes_on, run, small};
use crate::harness::{Need, Part, child_succeeds, test};

const WAITID: Need = Need::Op(Opcode::WAITID);
/// This need is a version number, because to try it out is to crash.
const STOPS: Need = Need::Other(crashes);

/// The parts that run in a child process, since they wait for any child.
pub const PARTS: &[Part] = &[
    ("any child is waited for", any_child),
    ("a group is waited for", a_group),
    ("no child is there", no_child),
    ("ends when told", ends_when_told),
];

/// Linux 6.16 crashes, because a list is taken apart twice, when a child that is waited for stops
/// and continues. Seen with 6.16.12; 6.12.117 and 6.17.13 have it fixed.
fn crashes() -> Option<String> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("/proc is mounted");
    let reason = "needs a kernel that outlives a child that stops and goes on";
    release.starts_with("6.16.").then(|| reason.to_owned())
}

pub fn tests() -> Vec<Trial> {
    vec![
        test("a_child_that_ends_is_waited_for", &[WAITID], ends),
        test("a_child_that_a_signal_ends_is_waited_for", &[WAITID], killed),
        test("a_child_that_stops_and_goes_on_is_waited_for", &[WAITID, STOPS], stops),
        test("a_child_is_named_by_its_pidfd", &[WAITID], by_pidfd),
        test("a_child_can_be_left_as_it_is", &[WAITID], left),
        test("a_wait_that_is_not_to_wait_finds_nothing", &[WAITID], not_waiting),
        test("a_wait_for_a_child_is_cancelled", &[WAITID], wait_cancelled),
        test("what_is_no_child_is_refused", &[WAITID], refused),
        test("any_child_is_waited_for", &[WAITID], || child_succeeds("any child is waited for")),
        test("a_process_group_is_waited_for", &[WAITID], || {
            child_succeeds("a group is waited for")
        }),
        test("a_wait_without_children_is_refused", &[WAITID], || {
            child_succeeds("no child is there")
        }),
    ]
}

/// A child process of a test: it ends on command, with the given code.
fn ends_when_told() {
    let mut code = [0];
    std::io::stdin().read_exact(&mut code).expect("it is told");
    std::process::exit(code[0].into());
}

/// A command that ends on command.
fn command() -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    command.env("ANNULUS_CHILD", "ends when told").stdin(Stdio::piped());
    command
}

/// A child that ends on command.
fn child() -> Child {
    command().spawn().expect("a child")
}

/// Lets a child end, with `code`.
fn end(child: &mut Child, code: u8) {
    child.stdin.take().expect("it was piped").write_all(&[code]).expect("it reads");
}

fn signal(child: &Child, signal: i32) {
    let pid = i32::try_from(child.id()).expect("a number");
    // SAFETY: the child is ours, and nothing has waited for it, because only this test does.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
}

fn pidfd(child: &Child) -> OwnedFd {
    // SAFETY: takes numbers only, because that is what `pidfd_open(2)` is.
    let number = unsafe { libc::syscall(libc::SYS_pidfd_open, child.id(), 0) };
    let number = i32::try_from(number).expect("an int");
    assert!(number >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: a new descriptor, which nothing else owns, because that is what success means.
    unsafe { OwnedFd::from_raw_fd(number) }
}

fn uid() -> u32 {
    // SAFETY: has no preconditions, because it only looks a number up.
    unsafe { libc::getuid() }
}

fn ends() -> Result<(), Failed> {
    let mut ring = small();
    for code in [0, 7, 255] {
        let mut child = child();
        let wait = WaitId::new(Process(child.id()), ChildEvents::EXITED);
        let wait = begin(&mut ring, wait);
        let wait = goes_on(&mut ring, wait);
        end(&mut child, code);
        let ended = ring.wait(wait)?;
        assert_eq!(ended.fd, Process(child.id()));
        let change = ended.result?.ok_or("it was waited for")?;
        assert_eq!((change.pid, change.uid), (child.id(), uid()));
        assert_eq!(change.status, ChildStatus::Exited(code.into()));
        assert_eq!(change.status.success(), code == 0);
        // The child is reaped.
        assert_eq!(child.wait().err().and_then(|error| error.raw_os_error()), Some(libc::ECHILD));
    }
    Ok(())
}

fn killed() -> Result<(), Failed> {
    let mut ring = small();
    let child = child();
    let wait = begin(&mut ring, WaitId::new(Process(child.id()), ChildEvents::EXITED));
    signal(&child, libc::SIGKILL);
    let change = ring.wait(wait)?.result?.ok_or("it was waited for")?;
    assert_eq!(change.status, ChildStatus::Killed(libc::SIGKILL));
    assert!(!change.status.success());
    Ok(())
}

fn stops() -> Result<(), Failed> {
    let mut ring = small();
    let child = child();
    let all = ChildEvents::EXITED | ChildEvents::STOPPED | ChildEvents::CONTINUED;
    let next = [
        (libc::SIGSTOP, ChildStatus::Stopped(libc::SIGSTOP)),
        (libc::SIGCONT, ChildStatus::Continued(libc::SIGCONT)),
        (libc::SIGTERM, ChildStatus::Killed(libc::SIGTERM)),
    ];
    for (number, status) in next {
        let wait = begin(&mut ring, WaitId::new(Process(child.id()), all).all_kinds());
        let wait = goes_on(&mut ring, wait);
        signal(&child, number);
        let change = ring.wait(wait)?.result?.ok_or("it was waited for")?;
        assert_eq!((change.pid, change.status), (child.id(), status));
    }
    Ok(())
}

fn by_pidfd() -> Result<(), Failed> {
    let mut ring = small();
    let mut child = child();
    let fd = pidfd(&child);
    let number = fd.as_raw_fd();
    let wait = begin(&mut ring, WaitId::new(fd, ChildEvents::EXITED));
    let wait = goes_on(&mut ring, wait);
    end(&mut child, 3);
    let ended = ring.wait(wait)?;
    assert_eq!(ended.fd.as_raw_fd(), number, "it comes back");
    let change = ended.result?.ok_or("it was waited for")?;
    assert_eq!((change.pid, change.status), (child.id(), ChildStatus::Exited(3)));
    let again = run(&mut ring, WaitId::new(ended.fd, ChildEvents::EXITED));
    assert_eq!(errno(&again), Some(libc::ECHILD));
    Ok(())
}

fn left() -> Result<(), Failed> {
    let mut ring = small();
    let mut child = child();
    end(&mut child, 5);
    for _ in 0..2 {
        let wait = WaitId::new(Process(child.id()), ChildEvents::EXITED).leave();
        let change = run(&mut ring, wait).result?.ok_or("it was waited for")?;
        assert_eq!((change.pid, change.status), (child.id(), ChildStatus::Exited(5)));
    }
    assert_eq!(child.wait()?.code(), Some(5));
    Ok(())
}

fn not_waiting() -> Result<(), Failed> {
    let mut ring = small();
    let mut child = child();
    let look = || WaitId::new(Process(child.id()), ChildEvents::EXITED).no_wait();
    assert_eq!(run(&mut ring, look()).result?, None);
    end(&mut child, 0);
    assert!(child.wait()?.success());
    Ok(())
}

fn wait_cancelled() -> Result<(), Failed> {
    let mut ring = small();
    let mut child = child();
    let wait = begin(&mut ring, WaitId::new(Process(child.id()), ChildEvents::EXITED));
    let ended = cancelled(&mut ring, wait);
    assert_eq!((errno(&ended), ended.fd), (Some(libc::ECANCELED), Process(child.id())));
    // The child was not waited for.
    end(&mut child, 0);
    assert!(child.wait()?.success());
    Ok(())
}

fn refused() -> Result<(), Failed> {
    let mut ring = small();
    let (reader, _writer) = pipe()?;
    let number = reader.as_raw_fd();
    let ended = run(&mut ring, WaitId::new(reader, ChildEvents::EXITED));
    assert_eq!(ended.fd.as_raw_fd(), number);
    assert_eq!(errno(&ended), Some(libc::EBADF), "a pipe is no process");
    let ended = run(&mut ring, WaitId::new(Process(u32::MAX), ChildEvents::EXITED));
    assert_eq!(errno(&ended), Some(libc::EINVAL));
    let ended = run(&mut ring, WaitId::new(Process(std::process::id()), ChildEvents::EXITED));
    assert_eq!(errno(&ended), Some(libc::ECHILD), "not one's own child");
    Ok(())
}

fn any_child() {
    let mut ring = small();
    let mut children = [child(), child()];
    let mut found = Vec::new();
    for (child, code) in children.iter_mut().zip(1..) {
        let wait = begin(&mut ring, WaitId::new(AnyChild, ChildEvents::EXITED));
        let wait = goes_on(&mut ring, wait);
        end(child, code);
        let change = ring.wait(wait).expect("a wait").result.expect("a child").expect("it ended");
        found.push((change.pid, change.status));
    }
    let wanted = [(children[0].id(), 1), (children[1].id(), 2)];
    assert_eq!(found, wanted.map(|(pid, code)| (pid, ChildStatus::Exited(code))));
}

fn a_group() {
    use std::os::unix::process::CommandExt;
    let mut ring = small();
    let mut own = child();
    let mut other = command().process_group(0).spawn().expect("a child");
    end(&mut other, 4);
    let wait = WaitId::new(Group(other.id()), ChildEvents::EXITED);
    let change = run(&mut ring, wait).result.expect("a child").expect("it ended");
    assert_eq!((change.pid, change.status), (other.id(), ChildStatus::Exited(4)));
    assert!(other.try_wait().is_err());
    end(&mut own, 0);
    let change = run(&mut ring, WaitId::new(Group(0), ChildEvents::EXITED));
    assert_eq!(change.result.expect("a child").map(|change| change.pid), Some(own.id()));
}

fn no_child() {
    let ended = run(&mut small(), WaitId::new(AnyChild, ChildEvents::EXITED));
    assert_eq!(errno(&ended), Some(libc::ECHILD));
}
