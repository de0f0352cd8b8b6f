//! The parts of a kernel test: a name, its needs, and a body that runs here or in a child.
#![allow(dead_code, reason = "not every module uses all of it")]

use std::io::PipeReader;
use std::os::fd::AsRawFd;
use std::process::{Child, Command, Output};
use std::sync::OnceLock;
use std::time::Duration;

use annulus::sys::abi::{Cqe, Sqe};
use annulus::sys::flags::{EnterFlags, Features, SetupFlags};
use annulus::sys::opcode::{Opcode, RegisterOp};
use annulus::{Capabilities, RawRing, Ring, Setup, SetupError};
use libtest_mimic::{Failed, Trial};

use crate::tally;

/// Something that a test needs of the kernel or of the user who runs it.
#[derive(Debug, Clone, Copy)]
pub enum Need {
    /// A set-up flag.
    Setup(SetupFlags),
    /// A feature.
    Feature(Features),
    /// An operation.
    Op(Opcode),
    /// A register call.
    Register(RegisterOp),
    /// An enter flag.
    Enter(EnterFlags),
    /// To be root.
    Root,
    /// Not to be root.
    User,
    /// That `kernel.io_uring_disabled` has this value, which is not 0.
    TurnedOff(u32),
    /// Anything that the function checks: `Some` says what is missing.
    Other(fn() -> Option<String>),
}

/// The capabilities of this kernel, found out once.
pub fn here() -> &'static Capabilities {
    detected().as_ref().expect("a ring can be made here")
}

/// The capabilities of this kernel, or why it makes no ring at all, found out once.
fn detected() -> &'static Result<Capabilities, SetupError> {
    static HERE: OnceLock<Result<Capabilities, SetupError>> = OnceLock::new();
    HERE.get_or_init(|| patient(Capabilities::detect))
}

/// Whether a ring can be made here at all.
pub fn has_rings() -> bool {
    detected().is_ok()
}

/// The value of `kernel.io_uring_disabled`; 0 where there is no such thing.
pub fn turned_off() -> u32 {
    let value = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
    value.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// Runs `make` until there is enough locked memory: dropped rings give theirs back a little late.
pub fn patient<T>(mut make: impl FnMut() -> Result<T, SetupError>) -> Result<T, SetupError> {
    for _ in 0..200 {
        match make() {
            Err(SetupError::LockedMemory { .. } | SetupError::OutOfMemory { .. }) => {
                std::thread::sleep(Duration::from_millis(10));
            }
            result => return result,
        }
    }
    make()
}

/// A ring of `setup`, which must be possible here.
pub fn ring(setup: Setup<'_>) -> RawRing {
    patient(|| setup.build_raw()).expect("a ring can be made here")
}

/// A ring of the safe API, of `setup`, which must be possible here.
pub fn safe_ring(setup: Setup<'_>) -> Ring {
    patient(|| setup.build()).expect("a ring can be made here")
}

/// A test that runs where all of `needs` are met, and is ignored elsewhere, with the reason. Where
/// no ring can be made, only the tests run whose only need that is ([`Need::TurnedOff`]).
pub fn test(
    name: &str,
    needs: &[Need],
    body: impl FnOnce() -> Result<(), Failed> + Send + 'static,
) -> Trial {
    let about_that = needs.iter().any(|need| matches!(need, Need::TurnedOff(_)));
    let missing = match detected() {
        Err(error) if !about_that => Some(format!("needs a ring: {error}")),
        _ => needs.iter().find_map(|need| need.missing()),
    };
    if detected().is_ok() {
        tally::note(needs);
    }
    let trial = Trial::test(name, body);
    match missing {
        Some(reason) => trial.with_kind(reason).with_ignored_flag(true),
        None => trial,
    }
}

impl Need {
    /// What is missing, if anything is.
    pub fn missing(self) -> Option<String> {
        let needs = |met: bool, since: Option<&str>, what: String| {
            (!met).then(|| format!("needs Linux {}: {what}", since.unwrap_or("(unknown)")))
        };
        match self {
            Self::Setup(flags) => {
                let lacking = flags - here().setup_flags();
                let (name, flag) = lacking.iter_names().next()?;
                needs(false, flag.since(), name.to_owned())
            }
            Self::Feature(feature) => {
                let met = here().features().contains(feature);
                needs(met, feature.since(), format!("{feature:?}"))
            }
            Self::Enter(flags) => {
                let lacking = flags - here().enter_flags();
                let (name, flag) = lacking.iter_names().next()?;
                needs(false, flag.since(), name.to_owned())
            }
            Self::Op(op) => needs(here().has_op(op), op.since(), format!("{op:?}")),
            Self::Register(op) => needs(here().has_register(op), op.since(), format!("{op:?}")),
            Self::Root => (!is_root()).then(|| "needs root".to_owned()),
            Self::User => is_root().then(|| "needs an ordinary user".to_owned()),
            Self::TurnedOff(value) => {
                (turned_off() != value).then(|| format!("needs kernel.io_uring_disabled = {value}"))
            }
            Self::Other(find) => find(),
        }
    }
}

/// Whether this process is root.
pub fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:")).expect("a Uid line");
    uids.split_whitespace().nth(1) == Some("0")
}

/// A NOP that comes back with `user_data`.
pub fn nop(user_data: u64) -> Sqe {
    Sqe { opcode: Opcode::NOP, fd: -1, user_data, ..Sqe::ZERO }
}

/// Pushes an entry that points to nothing, or to memory that lives forever.
#[allow(unsafe_code, reason = "vouches for entries without pointers")]
pub fn push(ring: &mut RawRing, sqe: Sqe) {
    // SAFETY: our tests call this only with entries that point to nothing or to memory that
    // outlives the ring (OP1).
    unsafe { ring.push(sqe) }.expect("room for an entry");
}

/// Takes every completion there is.
pub fn drain(ring: &mut RawRing) -> Vec<Cqe> {
    let mut cqes = Vec::new();
    ring.drain(|cqe| cqes.push(cqe)).expect("drain");
    cqes
}

/// The `user_data` of every completion there is, in order.
pub fn drain_user_data(ring: &mut RawRing) -> Vec<u64> {
    drain(ring).into_iter().map(|cqe| cqe.user_data).collect()
}

/// The ways in which a ring may receive its completions (CQ5), each with its name.
pub const MODES: [(&str, SetupFlags); 5] = [
    ("at_once", SetupFlags::empty()),
    ("cooperating", SetupFlags::COOP_TASKRUN),
    ("cooperating_flagged", SetupFlags::COOP_TASKRUN.union(SetupFlags::TASKRUN_FLAG)),
    ("deferring", SetupFlags::SINGLE_ISSUER.union(SetupFlags::DEFER_TASKRUN)),
    ("deferring_flagged", DEFERRING),
];

/// Completions are deferred, and the kernel raises a flag for it.
pub const DEFERRING: SetupFlags =
    SetupFlags::SINGLE_ISSUER.union(SetupFlags::DEFER_TASKRUN).union(SetupFlags::TASKRUN_FLAG);

/// `body` as a test for each of [`MODES`].
pub fn in_each_mode(
    name: &str,
    needs: &[Need],
    body: fn(SetupFlags) -> Result<(), Failed>,
) -> Vec<Trial> {
    let trials = MODES.into_iter().map(|(mode, flags)| {
        let needs = [needs, &[Need::Setup(flags)]].concat();
        test(&format!("{name}_{mode}"), &needs, move || body(flags))
    });
    trials.collect()
}

/// A read of one byte from a pipe, into memory that lives forever.
pub fn read_byte(from: &PipeReader, user_data: u64) -> Sqe {
    let byte = std::ptr::from_mut(Box::leak(Box::new(0_u8)));
    Sqe {
        opcode: Opcode::READ,
        fd: from.as_raw_fd(),
        off: u64::MAX,
        addr: byte.expose_provenance() as u64,
        len: 1,
        user_data,
        ..Sqe::ZERO
    }
}

/// Whether the other end of a pipe or a socket is closed, or will be soon: a child process that a
/// test begins has a copy of every descriptor until it executes its program.
pub fn hangs_up(fd: &impl AsRawFd) -> bool {
    hangs_up_within(fd, 60_000)
}

/// Whether the other end of a pipe or a socket is closed within so many milliseconds.
#[allow(unsafe_code, reason = "poll(2)")]
pub fn hangs_up_within(fd: &impl AsRawFd, milliseconds: libc::c_int) -> bool {
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: 0, revents: 0 };
    // SAFETY: one live `struct pollfd`, as the count says.
    let found = unsafe { libc::poll(&raw mut poll, 1, milliseconds) };
    assert!(found >= 0, "{}", std::io::Error::last_os_error());
    poll.revents & (libc::POLLHUP | libc::POLLERR) != 0
}

/// A part of a test that plays in a child process.
pub type Part = (&'static str, fn());

/// Runs the part `name` of `parts`, then exits: with 0 if it returned, with 101 if it panicked.
pub fn play(name: &str, parts: &[Part]) -> ! {
    let (_, part) = parts.iter().find(|(part, _)| *part == name).expect("a part of that name");
    part();
    std::process::exit(0);
}

/// Runs `part` in a child process of this program, and returns how it ended.
pub fn child(part: &str) -> Output {
    let program = std::env::current_exe().expect("this program has a path");
    Command::new(program).env("ANNULUS_CHILD", part).output().expect("a child process")
}

/// Begins to play `part` in a child process.
pub fn begin_child(part: &str) -> Child {
    let program = std::env::current_exe().expect("this program has a path");
    Command::new(program).env("ANNULUS_CHILD", part).spawn().expect("a child process")
}

/// Plays `part` in a child process, which must succeed.
pub fn child_succeeds(part: &str) -> Result<(), Failed> {
    let output = child(part);
    if output.status.success() {
        return Ok(());
    }
    let out = String::from_utf8_lossy(&output.stdout);
    let err = String::from_utf8_lossy(&output.stderr);
    Err(format!("{part}: {}\n{out}\n{err}", output.status).into())
}
