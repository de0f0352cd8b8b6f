//! Children: waits until a process has ended, or stopped, or gone on.
//!
//! ```text
//!   WaitId::new(AnyChild, EXITED) ──► WAITID ──► ChildChange { pid, status: Exited(0), .. }
//! ```
//!
//! | whose | named by |
//! |---|---|
//! | one process | the owner of its pidfd, or [`Process`] with its number |
//! | those of a process group | [`Group`] |
//! | any child | [`AnyChild`] |
//!
//! Keeps OP1: what the kernel tells is written into the operation, and a pidfd belongs to it.
//! Leaves to others: starting processes.
#![allow(unsafe_code, reason = "writes an entry that points to what the kernel fills in")]

use std::io;
use std::mem;
use std::ops::BitOr;
use std::os::fd::{AsFd, AsRawFd};

use annulus_sys::abi::Sqe;

use super::{Done, Op, Outcome};
use crate::prep;

mod sealed {
    pub trait Sealed {}
}

/// Which children are waited for. Implemented here only: for the owners of a pidfd, [`Process`],
/// [`Group`] and [`AnyChild`].
pub trait Whose: sealed::Sealed {
    /// What the kernel is told: a kind, and a number.
    #[doc(hidden)]
    fn named(&self) -> (u32, u32);
}

/// The child with this number. When it was waited for, the number may become another's: a pidfd has
/// no such trouble.
#[doc(alias = "P_PID")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Process(pub u32);

/// The children of the process group with this number; of the caller's own, if it is 0.
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

impl<F: AsFd> Whose for F {
    fn named(&self) -> (u32, u32) {
        (libc::P_PIDFD, self.as_fd().as_raw_fd().cast_unsigned())
    }
}

impl Whose for Process {
    fn named(&self) -> (u32, u32) {
        (libc::P_PID, self.0)
    }
}

impl Whose for Group {
    fn named(&self) -> (u32, u32) {
        (libc::P_PGID, self.0)
    }
}

impl Whose for AnyChild {
    fn named(&self) -> (u32, u32) {
        (libc::P_ALL, 0)
    }
}

/// What a wait is for, as in `waitid(2)`. Combined with `|`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChildEvents(i32);

impl ChildEvents {
    /// A child has ended.
    #[doc(alias = "WEXITED")]
    pub const EXITED: Self = Self(libc::WEXITED);
    /// A signal has stopped one.
    #[doc(alias = "WSTOPPED")]
    pub const STOPPED: Self = Self(libc::WSTOPPED);
    /// `SIGCONT` has let one go on.
    #[doc(alias = "WCONTINUED")]
    pub const CONTINUED: Self = Self(libc::WCONTINUED);
}

impl BitOr for ChildEvents {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What has become of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChildChange {
    /// Its number.
    pub pid: u32,
    /// Whose it was: its real user.
    pub uid: u32,
    /// What has become of it.
    pub status: ChildStatus,
}

/// What has become of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChildStatus {
    /// It has ended, with this code.
    #[doc(alias = "CLD_EXITED")]
    Exited(i32),
    /// This signal has ended it.
    #[doc(alias = "CLD_KILLED")]
    Killed(i32),
    /// This signal has ended it, and its memory was dumped.
    #[doc(alias = "CLD_DUMPED")]
    Dumped(i32),
    /// This signal has stopped it.
    #[doc(alias = "CLD_STOPPED")]
    Stopped(i32),
    /// It has trapped, for this reason: its tracer is told.
    #[doc(alias = "CLD_TRAPPED")]
    Trapped(i32),
    /// It goes on, after this signal.
    #[doc(alias = "CLD_CONTINUED")]
    Continued(i32),
    /// Something that has no name here.
    Other {
        /// What, as `si_code`.
        code: i32,
        /// With what, as `si_status`.
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

    /// Whether it ended, with 0.
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
    /// Not written for a child, and still a part of what the kernel is given.
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

/// Waits until something has become of a child. Since Linux 6.7.
///
/// The children are those of the process, not only of the thread that has the ring.
///
/// # Completion
///
/// Once, with what has become of which child; with `None` if nothing has and it was
/// [not to wait](Self::no_wait), or the pidfd was opened with `O_NONBLOCK`. A child that has ended
/// is gone with that, unless it was [left](Self::leave) as it is.
///
/// # Cancellation
///
/// At once, with `ECANCELED`; by its ticket, not by a file.
///
/// # Where it fails
///
/// Linux 6.16 (seen with 6.16.12) may go down when a child that is waited for stops and goes on.
/// Wait for its end alone there, or with `waitid(2)`.
///
/// # Errors
///
/// `ECHILD` when there is no such child, or another wait has taken it: also one of the standard
/// library's [`Child`](std::process::Child). `EBADF` for an open descriptor that is no pidfd,
/// `EINVAL` for a process number beyond `i32::MAX`.
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

impl<W: Whose> WaitId<W> {
    /// Waits until one of `events` has happened to one of the children of `whose`.
    pub fn new(whose: W, events: ChildEvents) -> Self {
        Self { whose, options: events.0, info: NOTHING }
    }

    fn and(self, option: i32) -> Self {
        Self { options: self.options | option, ..self }
    }

    /// Completes at once, also if nothing has happened.
    #[doc(alias = "WNOHANG")]
    pub fn no_wait(self) -> Self {
        self.and(libc::WNOHANG)
    }

    /// Leaves the child as it is, to be waited for again.
    #[doc(alias = "WNOWAIT")]
    pub fn leave(self) -> Self {
        self.and(libc::WNOWAIT)
    }

    /// Also for children that do not send `SIGCHLD` when they end.
    #[doc(alias = "__WALL")]
    pub fn all_kinds(self) -> Self {
        self.and(libc::__WALL)
    }
}

// SAFETY: OP1: the address is of `info`, all of whose values are integers that the kernel may
// write, and a descriptor is of `whose`. It completes once, with a number.
unsafe impl<W: Whose> Op for WaitId<W> {
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
