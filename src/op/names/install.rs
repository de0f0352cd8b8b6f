//! Creating a descriptor for a file of the ring's file table.
//!
//! ```text
//!   table │ ─ │ file │ ─ │  ──── InstallFd ───►  OwnedFd, of the same open file
//!                 └ stays
//! ```
//!
//! [`InsertFile`](crate::op::InsertFile) does the opposite. Descriptor and table slot then refer to
//! one open file: they share its position and its flags, and it stays open until both are gone.
//!
//! Keeps OP3: a new descriptor is owned, even when nothing waits for it. Leaves to others: the
//! table (`lease`).
#![allow(unsafe_code, reason = "writes entries")]

use std::os::fd::OwnedFd;

use annulus_sys::abi::Sqe;
use annulus_sys::flags::FixedFdFlags;

use crate::lease::FixedFile;
use crate::op::target::Target;
use crate::op::{Done, Op, Outcome, ResultKind, RingId};
use crate::prep;

/// Creates a descriptor for a registered file, closed on `exec`. Since Linux 6.8.
///
/// It is one open file with two names: its position and its flags, such as `O_NONBLOCK`, are
/// shared, and dropping one leaves the other.
///
/// # Completion
///
/// Once, with the descriptor. The file also stays in the table.
///
/// # Cancellation
///
/// `ECANCELED` if it has not begun: it does not wait.
///
/// # Errors
///
/// `EMFILE` when the process has no descriptor left. `EINVAL` before Linux 6.8.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::{Cwd, How, InstallFd, OpenAt};
/// use std::io::Read;
///
/// let mut ring = Setup::new(4).build()?;
/// let Ok(table) = ring.file_table(4) else { return Ok(()) }; // Linux 5.19
/// let open = OpenAt::new(Cwd, c"/proc/self/comm", How::read()).direct(&table);
/// let open = ring.submit(open)?;
/// let file = ring.wait(open)?.result?;
/// let install = ring.submit(InstallFd::new(file))?;
/// let Ok(fd) = ring.wait(install)?.result else { return Ok(()) }; // Linux 6.8
/// let mut name = String::new();
/// std::fs::File::from(fd).read_to_string(&mut name)?;
/// assert!(!name.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias("IORING_OP_FIXED_FD_INSTALL", "io_uring_prep_fixed_fd_install"))]
#[derive(Debug)]
pub struct InstallFd {
    file: FixedFile,
    flags: FixedFdFlags,
}

impl InstallFd {
    /// Creates a descriptor for `file`.
    pub fn new(file: FixedFile) -> Self {
        Self { file, flags: FixedFdFlags::empty() }
    }

    /// Keeps the descriptor open on `exec`.
    #[doc(alias = "IORING_FIXED_FD_NO_CLOEXEC")]
    pub fn keep_on_exec(self) -> Self {
        Self { flags: FixedFdFlags::NO_CLOEXEC, ..self }
    }
}

// SAFETY: OP1: the entry points to nothing, and the index is of `file`, which is of the ring that
// `belongs_to` compares. It completes once, with a descriptor, as `RESULT_KIND` says (OP3).
unsafe impl Op for InstallFd {
    type Output = Outcome<OwnedFd, FixedFile>;
    const RESULT_KIND: ResultKind = ResultKind::Fd;

    fn belongs_to(&self, ring: RingId) -> bool {
        Target::belongs_to(&self.file, ring)
    }

    fn prep(&mut self) -> Sqe {
        self.file.aim(prep::fixed_fd_install(-1, self.flags))
    }

    fn finish(self, mut done: Done) -> Self::Output {
        Outcome { result: done.fd(), fd: self.file, buf: () }
    }
}
