//! Why the ring has no such pool or table, and what to do about it.
//!
//! | errno | because | here |
//! |---|---|---|
//! | `EBUSY` | one table of buffers and one of files is all that a ring has | [`Taken`] |
//! | `ENOMEM` | `RLIMIT_MEMLOCK`: registered buffers count, for all but root | [`LockedMemory`] |
//! | `EMFILE` | `RLIMIT_NOFILE`: a table of files is no longer than that | [`TooManyFiles`] |
//! | `EINVAL` | the kernel is too old, or the size is beyond it | [`Unsupported`], [`Invalid`] |
//! | `EEXIST` | a ring with `SINGLE_ISSUER` listens to one thread | [`NotHere`] |
//! | `ECHILD` | this is a forked child, and the ring its parent's | [`NotHere`] |
//! | `EBADFD` | the ring is not disabled any more | [`Enabled`] |
//! | `EACCES` | the ring or the task is restricted | [`Restricted`] |
//! | `ENXIO` | there is nothing registered | [`Missing`] |
//! | `ENOSYS`; `EPERM` under a seccomp filter | that filter refuses the call | [`Refused`] |
//!
//! [`Taken`]: RegisterError::Taken
//! [`LockedMemory`]: RegisterError::LockedMemory
//! [`TooManyFiles`]: RegisterError::TooManyFiles
//! [`Unsupported`]: RegisterError::Unsupported
//! [`Invalid`]: RegisterError::Invalid
//! [`NotHere`]: RegisterError::NotHere
//! [`Enabled`]: RegisterError::Enabled
//! [`Restricted`]: RegisterError::Restricted
//! [`Missing`]: RegisterError::Missing
//! [`Refused`]: RegisterError::Refused

use std::io;

use annulus_sys::errno::Errno;
use annulus_sys::map::page_size;
use thiserror::Error;

use crate::denied::{limit_of, memory_lock_limit};

/// Why the kernel did not register something, or did not undo it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// The ring has one, which is still in use.
    #[error("one {what} per ring: share it, or drop it and all that came from it, then try again")]
    Taken {
        /// What there is one of.
        what: &'static str,
    },
    /// The buffers do not fit into what this user may lock into memory.
    #[error(
        "the buffers need {needed} bytes of locked memory, and the limit is {limit}, of which this \
         user's rings and other buffers hold a part: raise it (ulimit -l, RLIMIT_MEMLOCK), or ask \
         for less"
    )]
    LockedMemory {
        /// Bytes that the buffers take.
        needed: u64,
        /// The soft limit `RLIMIT_MEMLOCK`, in bytes.
        limit: u64,
    },
    /// There is not so much memory.
    #[error("there is no memory for it ({needed} bytes): ask for less")]
    OutOfMemory {
        /// Bytes that it takes.
        needed: u64,
    },
    /// The table would be longer than this process may have files open.
    #[error(
        "a table of {count} files, and at most {limit} may be open: raise the limit (ulimit -n, \
         RLIMIT_NOFILE), or ask for less"
    )]
    TooManyFiles {
        /// How many places were asked for.
        count: u32,
        /// The soft limit `RLIMIT_NOFILE`.
        limit: u64,
    },
    /// This kernel cannot do it.
    #[error("{what} needs Linux {since}")]
    Unsupported {
        /// What was asked for.
        what: &'static str,
        /// The first release that can.
        since: &'static str,
    },
    /// The ring was made for, or enabled on, another thread (`SINGLE_ISSUER`); or this is a forked
    /// child, and the ring is its parent's.
    #[error("the ring belongs to another thread, or this is a forked child: make the call there")]
    NotHere,
    /// The ring was enabled already.
    #[error("the ring is enabled already, and this is for a disabled one: see `build_disabled`")]
    Enabled,
    /// The ring's, or this task's, restrictions do not allow it.
    #[error("{call} is not allowed: allow it when the ring or the task is restricted")]
    Restricted {
        /// The register call, without `IORING_`.
        call: &'static str,
    },
    /// It takes a privilege.
    #[error("it takes a privilege: {cure}")]
    Privilege {
        /// Which, and what does instead, if anything.
        cure: &'static str,
    },
    /// There is nothing to undo, to change or to ask about.
    #[error("there is no {what}: it was not registered, or is gone")]
    Missing {
        /// What there is none of.
        what: &'static str,
    },
    /// No kernel can do it.
    #[error("no kernel can: {reason}")]
    Invalid {
        /// What is wrong, and how to put it right.
        reason: &'static str,
    },
    /// Something between us and the kernel refuses the call: a seccomp filter, a security module.
    #[error(
        "io_uring_register is refused ({0}), as seccomp filters of sandboxes do: allow it in the \
         profile, beside io_uring_setup and io_uring_enter"
    )]
    Refused(Errno),
    /// Something else.
    #[error("io_uring_register: {0}")]
    Other(Errno),
}

impl RegisterError {
    /// Why the kernel said `ENOMEM` to `needed` bytes of memory that it is to lock: whole pages.
    pub(crate) fn no_memory(needed: u64) -> Self {
        let needed = needed.next_multiple_of(page_size() as u64);
        match memory_lock_limit() {
            None => Self::OutOfMemory { needed },
            Some(limit) => Self::LockedMemory { needed, limit },
        }
    }

    /// Why the kernel said `EMFILE` to a table of `count` files.
    pub(crate) fn too_many_files(count: u32) -> Self {
        Self::TooManyFiles { count, limit: limit_of(libc::RLIMIT_NOFILE) }
    }
}

impl From<RegisterError> for io::Error {
    fn from(error: RegisterError) -> Self {
        let kind = match error {
            RegisterError::Taken { .. } => io::ErrorKind::ResourceBusy,
            RegisterError::LockedMemory { .. } | RegisterError::OutOfMemory { .. } => {
                io::ErrorKind::OutOfMemory
            }
            RegisterError::Unsupported { .. } => io::ErrorKind::Unsupported,
            RegisterError::Invalid { .. } => io::ErrorKind::InvalidInput,
            RegisterError::Restricted { .. } | RegisterError::Privilege { .. } => {
                io::ErrorKind::PermissionDenied
            }
            RegisterError::Missing { .. } => io::ErrorKind::NotFound,
            RegisterError::NotHere
            | RegisterError::Enabled
            | RegisterError::TooManyFiles { .. } => io::ErrorKind::Other,
            RegisterError::Refused(errno) | RegisterError::Other(errno) => {
                io::Error::from(errno).kind()
            }
        };
        Self::new(kind, error)
    }
}
