//! Waiting for child processes: until one has ended, stopped, or continued.
//!
//! ```text
//!   WaitId::new(AnyChild, EXITED) ──► WAITID ──► ChildChange { pid, status: Exited(0), .. }
//! ```
//!
//! | children | named by |
//! |---|---|
//! | one process | the owner of its pidfd, or [`Process`] with its number |
//! | those of a process group | [`Group`] |
//! | any child | [`AnyChild`] |
//!
//! Keeps OP1: the kernel writes its answer into the operation, which also owns the pidfd. Leaves to
//! others: starting processes.
#![allow(unsafe_code, reason = "writes an entry that points to memory for the kernel to fill in")]

use std::io;
use std::mem;
use std::ops::BitOr;
use std::os::fd::{AsFd, AsRawFd};

use annulus_sys::abi::Sqe;

use crate::op::{Done, Op, Outcome};
use crate::prep;

mod sealed {
    pub trait Sealed {}
}

/// The children to wait for: an owner of a pidfd, [`Process`], [`Group`] or [`AnyChild`]. Sealed:
/// only this crate implements it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` names no child process",
    note = "name it by a pidfd, or by `Process`, `Group` or `AnyChild`"
)]
pub trait WaitTarget: sealed::Sealed {
    /// What the kernel sees: a kind, and a number.
    #[doc(hidden)]
    fn named(&self) -> (u32, u32);
}

/// The child with this process ID. After a wait has taken the child, the ID may be reused; a pidfd
/// does not have this problem.
#[doc(alias = "P_PID")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Process(pub u32);

/// The children in the process group with this ID; 0 means the caller's own group.
#[doc(alias = "P_PGID")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Group(pub u32);

/// Any child.
#[doc(alias = "P_ALL")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct AnyChild;

impl<F: AsFd> sealed::Sealed for F {}
impl sealed::Sealed for Process {}
impl sealed::Sealed for Group {}
impl sealed::Sealed for AnyChild {}

#[doc(hidden)] // Otherwise rustdoc repeats its hidden items on the page of every such type.
impl<F: AsFd> WaitTarget for F {
    fn named(&self) -> (u32, u32) {
        (libc::P_PIDFD, self.as_fd().as_raw_fd().cast_unsigned())
    }
}

impl WaitTarget for Process {
    fn named(&self) -> (u32, u32) {
        (libc::P_PID, self.0)
    }
}

impl WaitTarget for Group {
    fn named(&self) -> (u32, u32) {
        (libc::P_PGID, self.0)
    }
}

impl WaitTarget for AnyChild {
    fn named(&self) -> (u32, u32) {
        (libc::P_ALL, 0)
    }
}

/// The events to wait for, as in `waitid(2)`. Combined with `|`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChildEvents(i32);

impl ChildEvents {
    /// A child has ended.
    #[doc(alias = "WEXITED")]
    pub const EXITED: Self = Self(libc::WEXITED);
    /// A signal has stopped a child.
    #[doc(alias = "WSTOPPED")]
    pub const STOPPED: Self = Self(libc::WSTOPPED);
    /// `SIGCONT` has continued a child.
    #[doc(alias = "WCONTINUED")]
    pub const CONTINUED: Self = Self(libc::WCONTINUED);
}

impl BitOr for ChildEvents {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A change of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChildChange {
    /// Its process ID.
    pub pid: u32,
    /// Its real user ID.
    pub uid: u32,
    /// What has happened to it.
    pub status: ChildStatus,
}

/// What has happened to a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChildStatus {
    /// It has exited, with this code.
    #[doc(alias = "CLD_EXITED")]
    Exited(i32),
    /// This signal has killed it.
    #[doc(alias = "CLD_KILLED")]
    Killed(i32),
    /// This signal has killed it, and its core was dumped.
    #[doc(alias = "CLD_DUMPED")]
    Dumped(i32),
    /// This signal has stopped it.
    #[doc(alias = "CLD_STOPPED")]
    Stopped(i32),
    /// A traced child has trapped, for this reason.
    #[doc(alias = "CLD_TRAPPED")]
    Trapped(i32),
    /// This signal has continued it.
    #[doc(alias = "CLD_CONTINUED")]
    Continued(i32),
    /// A status without a name here.
    Other {
        /// The `si_code`.
        code: i32,
        /// The `si_status`.
        status: i32,
    },
}

impl ChildStatus {
    fn of(code: i32, status: i32) -> Self {
        match code {
            libc::CLD_EXITED => Self::Exited(status),
            libc::CLD_KILLED => Self::Killed(status),
            libc::CLD_DUMPED => Self::Dumped(status),
            libc::CLD_STOPPED => Self::Stopped(status),
            libc::CLD_TRAPPED => Self::Trapped(status),
            libc::CLD_CONTINUED => Self::Continued(status),
            code => Self::Other { code, status },
        }
    }

    /// Whether it has exited with code 0.
    pub const fn success(self) -> bool {
        matches!(self, Self::Exited(0))
    }
}

/// A `siginfo_t` about a child.
#[repr(C, align(8))]
#[derive(Debug, Clone, Copy)]
struct SigInfo {
    signo: i32,
    errno: i32,
    code: i32,
    pad: i32,
    pid: u32,
    uid: u32,
    status: i32,
    /// Not written for a child, but a part of the memory that the kernel is given.
    rest: [u32; 25],
}

const _: () = {
    assert!(size_of::<SigInfo>() == size_of::<libc::siginfo_t>());
    assert!(align_of::<SigInfo>() == align_of::<libc::siginfo_t>());
    assert!(mem::offset_of!(SigInfo, code) == mem::offset_of!(libc::siginfo_t, si_code));
    assert!(mem::offset_of!(SigInfo, pid) == 16);
    assert!(mem::offset_of!(SigInfo, status) == 24);
};

const NOTHING: SigInfo =
    SigInfo { signo: 0, errno: 0, code: 0, pad: 0, pid: 0, uid: 0, status: 0, rest: [0; 25] };

/// Waits until a child changes its state: `waitid(2)`. Since Linux 6.7.
///
/// The children are those of the process, not only of the thread that owns the ring.
///
/// # Completion
///
/// Once, with the child and its change; with `None` if nothing has happened and either
/// [`no_wait`](Self::no_wait) is set, or the pidfd was opened with `O_NONBLOCK`. This also reaps a
/// child that has ended, unless [`leave`](Self::leave) is set.
///
/// # Cancellation
///
/// At once, with `ECANCELED`; by its ticket, not by a file.
///
/// # Where it fails
///
/// Linux 6.16 (seen with 6.16.12) may crash when a child that is waited for stops and continues. On
/// that kernel wait only for its end, or use `waitid(2)`.
///
/// # Errors
///
/// `ECHILD` when there is no such child, or another wait has taken it, such as one of the standard
/// library's [`Child`](std::process::Child). `EBADF` for an open descriptor that is not a pidfd,
/// `EINVAL` for a process ID beyond `i32::MAX`, and before Linux 6.7.
///
/// # Example
///
/// ```
/// use annulus::op::{ChildEvents, ChildStatus, Process, WaitId};
/// use std::process::Command;
///
/// # if !annulus::Capabilities::detect()?.has_op(annulus::sys::opcode::Opcode::WAITID) {
/// #     return Ok(());
/// # }
/// let mut ring = annulus::Setup::new(4).build()?;
/// let child = Command::new("true").spawn()?;
/// let exit = ring.submit(WaitId::new(Process(child.id()), ChildEvents::EXITED))?;
/// let change = ring.wait(exit)?.result?.expect("it was waited for");
/// assert_eq!(change.status, ChildStatus::Exited(0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias("IORING_OP_WAITID", "io_uring_prep_waitid", "waitid"))]
#[derive(Debug)]
pub struct WaitId<W> {
    whose: W,
    options: i32,
    info: SigInfo,
}

impl<W: WaitTarget> WaitId<W> {
    /// Waits until one of `events` has happened to one of the children `whose`.
    pub fn new(whose: W, events: ChildEvents) -> Self {
        Self { whose, options: events.0, info: NOTHING }
    }

    fn and(self, option: i32) -> Self {
        Self { options: self.options | option, ..self }
    }

    /// Completes at once, even if nothing has happened.
    #[doc(alias = "WNOHANG")]
    pub fn no_wait(self) -> Self {
        self.and(libc::WNOHANG)
    }

    /// Leaves the child as it is, so that it can be waited for again.
    #[doc(alias = "WNOWAIT")]
    pub fn leave(self) -> Self {
        self.and(libc::WNOWAIT)
    }

    /// Also waits for children that do not send `SIGCHLD` when they end.
    #[doc(alias = "__WALL")]
    pub fn all_kinds(self) -> Self {
        self.and(libc::__WALL)
    }
}

// SAFETY: OP1: the address is of `info`, whose fields are all integers that the kernel may write,
// and a descriptor is of `whose`. It completes once, with a number.
unsafe impl<W: WaitTarget> Op for WaitId<W> {
    type Output = Outcome<Option<ChildChange>, W>;

    fn prep(&mut self) -> Sqe {
        let (kind, id) = self.whose.named();
        let info = (&raw mut self.info).expose_provenance() as u64;
        prep::waitid(kind, id, info, self.options.cast_unsigned())
    }

    fn finish(self, done: Done) -> Self::Output {
        let Self { whose, info, .. } = self;
        let change = |_| {
            let status = ChildStatus::of(info.code, info.status);
            let change = ChildChange { pid: info.pid, uid: info.uid, status };
            (info.signo != 0).then_some(change)
        };
        let result: io::Result<_> = done.result().map(change);
        Outcome { result, fd: whose, buf: () }
    }
}
