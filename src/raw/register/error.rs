//! Why the ring could not register something, and what to do about it.
//!
//! | errno | because | error |
//! |---|---|---|
//! | `EBUSY` | a ring has at most one table of buffers and one of files | [`InUse`] |
//! | `ENOMEM` | `RLIMIT_MEMLOCK`: registered buffers count towards it, except for root | [`LockedMemory`] |
//! | `EMFILE` | `RLIMIT_NOFILE`: a table of files cannot be longer than that | [`TooManyFiles`] |
//! | `EINVAL` | the kernel is too old, or the size is too large for it | [`Unsupported`], [`Invalid`] |
//! | `EEXIST` | a ring with `SINGLE_ISSUER` accepts calls from one thread only | [`OtherThread`] |
//! | `ECHILD` | this is a forked child, and the ring belongs to its parent | [`OtherProcess`] |
//! | `EBADFD` | the ring is no longer disabled | [`Enabled`] |
//! | `EACCES` | the ring or the task is restricted | [`Restricted`] |
//! | `ENXIO` | nothing is registered | [`Missing`] |
//! | `ENOSYS`; `EPERM` under a seccomp filter | that filter refuses the call | [`Refused`] |
//!
//! [`InUse`]: RegisterError::InUse
//! [`LockedMemory`]: RegisterError::LockedMemory
//! [`TooManyFiles`]: RegisterError::TooManyFiles
//! [`Unsupported`]: RegisterError::Unsupported
//! [`Invalid`]: RegisterError::Invalid
//! [`OtherProcess`]: RegisterError::OtherProcess
//! [`OtherThread`]: RegisterError::OtherThread
//! [`Enabled`]: RegisterError::Enabled
//! [`Restricted`]: RegisterError::Restricted
//! [`Missing`]: RegisterError::Missing
//! [`Refused`]: RegisterError::Refused

use std::fmt;
use std::io;

use annulus_sys::errno::Errno;
use annulus_sys::map::page_size;
use thiserror::Error;

use crate::setup::allowed::{limit_of, memory_lock_limit};

/// Why the kernel did not register something, or did not unregister it.
#[derive(Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// The ring has one already, and it is still in use.
    #[error("one {what} per ring: share it, or drop it and all that came from it, then try again")]
    InUse {
        /// What there is one of.
        what: &'static str,
    },
    /// The buffers need more locked memory than this user may have.
    #[error(
        "the buffers need {needed} bytes of locked memory, but the limit is {limit}, and this \
         user's rings and other buffers already use a part of it: raise it (ulimit -l, \
         RLIMIT_MEMLOCK), or ask for less"
    )]
    LockedMemory {
        /// How many bytes the buffers need.
        needed: u64,
        /// The soft limit `RLIMIT_MEMLOCK`, in bytes.
        limit: u64,
    },
    /// The system does not have that much memory.
    #[error("there is no memory for it ({needed} bytes): ask for less")]
    OutOfMemory {
        /// How many bytes were needed.
        needed: u64,
    },
    /// The table would be longer than the number of files this process may have open.
    #[error(
        "a table of {count} files is too long, since at most {limit} may be open: raise the limit \
         (ulimit -n, RLIMIT_NOFILE), or ask for less"
    )]
    TooManyFiles {
        /// How many slots were asked for.
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
    /// The ring belongs to the thread that made or enabled it (`SINGLE_ISSUER`).
    #[error("the ring belongs to another thread: make the call there")]
    OtherThread,
    /// This is a forked child, and the ring belongs to its parent.
    #[error("the ring belongs to the parent process: make a ring here")]
    OtherProcess,
    /// The ring is enabled already.
    #[error("the ring is enabled already: make this call on a disabled ring (`build_disabled`)")]
    Enabled,
    /// The restrictions of the ring or of this task do not allow the call.
    #[error("{call} is not allowed: allow it when you restrict the ring or the task")]
    Restricted {
        /// The register call, without `IORING_`.
        call: &'static str,
    },
    /// The call needs a privilege.
    #[error("the call needs a privilege: {cure}")]
    Privilege {
        /// The privilege, and an alternative if there is one.
        cure: &'static str,
    },
    /// There is nothing to unregister, to change or to ask about.
    #[error("there is no {what}: it was never registered, or is gone")]
    Missing {
        /// What does not exist.
        what: &'static str,
    },
    /// No kernel can do it.
    #[error("no kernel can: {reason}")]
    Invalid {
        /// What is wrong, and how to put it right.
        reason: &'static str,
    },
    /// Something between this process and io_uring refuses the call: a seccomp filter or a security
    /// module.
    #[error(
        "io_uring_register is refused ({0}), as a sandbox's seccomp filter does: allow it in the \
         profile, together with io_uring_setup and io_uring_enter"
    )]
    Refused(Errno),
    /// Any other errno.
    #[error("io_uring_register: {0}")]
    Other(Errno),
}

/// Contains the text, so that a `?` in `main` prints cause and cure.
impl fmt::Debug for RegisterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RegisterError({self})")
    }
}

impl RegisterError {
    /// The error for `ENOMEM` when the kernel was to lock `needed` bytes of memory, rounded up to
    /// whole pages.
    pub(crate) fn no_memory(needed: u64) -> Self {
        let needed = needed.next_multiple_of(page_size() as u64);
        match memory_lock_limit() {
            None => Self::OutOfMemory { needed },
            Some(limit) => Self::LockedMemory { needed, limit },
        }
    }

    /// The error for `EMFILE` when the kernel was to make a table of `count` files.
    pub(crate) fn too_many_files(count: u32) -> Self {
        Self::TooManyFiles { count, limit: limit_of(libc::RLIMIT_NOFILE) }
    }
}

impl RegisterError {
    /// The error number with which the kernel refused, or would have refused, had it been asked.
    /// For [`Invalid`](Self::Invalid) that is `EINVAL`, and for [`Missing`](Self::Missing) `ENXIO`,
    /// where some calls return a finer one.
    pub fn errno(&self) -> Errno {
        Errno::new(match *self {
            Self::InUse { .. } => libc::EBUSY,
            Self::LockedMemory { .. } | Self::OutOfMemory { .. } => libc::ENOMEM,
            Self::TooManyFiles { .. } => libc::EMFILE,
            Self::Unsupported { .. } | Self::Invalid { .. } => libc::EINVAL,
            Self::OtherThread => libc::EEXIST,
            Self::OtherProcess => libc::ECHILD,
            Self::Enabled => libc::EBADFD,
            Self::Restricted { .. } => libc::EACCES,
            Self::Privilege { .. } => libc::EPERM,
            Self::Missing { .. } => libc::ENXIO,
            Self::Refused(errno) | Self::Other(errno) => return errno,
        })
    }
}

/// Keeps [the error number](RegisterError::errno), which a runtime decides by, and not the text: an
/// `io::Error` has only one of them.
impl From<RegisterError> for io::Error {
    fn from(error: RegisterError) -> Self {
        error.errno().into()
    }
}
