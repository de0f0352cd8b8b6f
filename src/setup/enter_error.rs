//! What can go wrong when a ring in use enters the kernel, each with its cause and its cure.
//!
//! | errno | here | what it means | what is lost |
//! |---|---|---|---|
//! | `EINTR` | [`Interrupted`] | a signal handler ran during the wait | nothing |
//! | `EAGAIN` | [`OutOfRequests`] | the kernel has no memory for another request | nothing: entries stay queued |
//! | `EBUSY` | [`CompletionsPending`] | completions overflow, and the kernel takes no more work | nothing |
//! | `EBADR` | [`CompletionsLost`] | the kernel had no memory to keep an overflowing completion | a completion |
//! | `ECHILD` | [`OtherProcess`] | this is a forked child; this crate reports it, not the kernel | nothing |
//! | `EPERM`, `EACCES`, `ENOSYS` | [`Refused`] | a seccomp filter or a security module refuses the call | nothing |
//! | `ETIME` | not an error: [`Woken::TimedOut`] | the time is up | nothing |
//!
//! Whatever the cause, [`EnterError::submitted`] says how many entries the kernel took before it.
//!
//! [`Interrupted`]: EnterCause::Interrupted
//! [`OutOfRequests`]: EnterCause::OutOfRequests
//! [`CompletionsPending`]: EnterCause::CompletionsPending
//! [`CompletionsLost`]: EnterCause::CompletionsLost
//! [`OtherProcess`]: EnterCause::OtherProcess
//! [`Refused`]: EnterCause::Refused

use std::fmt;
use std::io;

use annulus_sys::errno::Errno;
use thiserror::Error;

/// Why a call into the kernel did not do everything that was asked.
#[derive(Clone, Copy, PartialEq, Eq, Error)]
#[error("{cause}{}", before(*submitted))]
pub struct EnterError {
    /// How many entries the kernel consumed before the error. The other entries stay queued, in
    /// order. They still belong to the kernel: the memory that they point to must stay valid.
    pub submitted: u32,
    /// What stopped the call.
    pub cause: EnterCause,
}

/// Contains the text, so that a `?` in `main` prints cause and cure.
impl fmt::Debug for EnterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EnterError({self})")
    }
}

/// What stopped a call into the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EnterCause {
    /// A signal arrived before enough completions did. Some may be ready. Wait again; nothing needs
    /// to be submitted again. Not every such error means a signal: when a wait is for several
    /// completions, the end of a [`Timeout`](crate::op::Timeout) can look like one.
    #[error("a signal arrived before enough completions did: wait again")]
    Interrupted,
    /// The kernel had no memory for another request. Take completions, then submit again.
    #[error("the kernel has no memory for another request: take completions, then submit again")]
    OutOfRequests,
    /// Completions overflow the completion queue, and the kernel accepts no entries until they are
    /// taken.
    #[error("completions overflow the completion queue: take them, then submit again")]
    CompletionsPending,
    /// The kernel had no memory to keep an overflowing completion, and dropped it.
    #[error(
        "the kernel dropped a completion for lack of memory, so a request will never complete: \
         take completions more often, or make the completion queue larger"
    )]
    CompletionsLost,
    /// The ring belongs to another thread (`SINGLE_ISSUER`).
    #[error(
        "the ring belongs to another thread (SINGLE_ISSUER): use it on that thread, or set it up \
         without SINGLE_ISSUER"
    )]
    WrongThread,
    /// This is a forked child, and the ring belongs to its parent: see [fork](crate#fork).
    #[error("the ring belongs to the parent process, which forked this one: make a new ring")]
    OtherProcess,
    /// The ring is still disabled (`R_DISABLED`).
    #[error("the ring is disabled: enable it first")]
    Disabled,
    /// The kernel's polling thread (`SQPOLL`) is gone.
    #[error("the kernel's polling thread has died: make a new ring")]
    PollerDied,
    /// That many completions can never come: too few of the submitted requests are still in flight.
    /// Only waits without a limit report this. If other rings send messages to a ring that is used
    /// through the raw API, [say so](crate::RawRing::expect_others) first.
    #[error("{want} completions wanted, but {coming} can come: submit first, or wait for fewer")]
    NothingComing {
        /// How many completions the caller waited for.
        want: u32,
        /// How many are ready or in flight.
        coming: u32,
    },
    /// The completion queue can never hold that many completions.
    #[error("{want} completions wanted, but the queue holds {entries}: take some in between")]
    WaitTooLarge {
        /// How many completions the caller waited for.
        want: u32,
        /// How many the completion queue holds.
        entries: u32,
    },
    /// Some completions are ready and must be taken before more can come. On a ring with `IOPOLL`,
    /// the kernel polls the device only while no completion is ready. On a ring with `CQE_MIXED`,
    /// large completions may leave no room for the missing ones.
    #[error(
        "{ready} of {want} completions are ready, and no more can come until they are taken: take \
         them, then wait for the rest"
    )]
    ReadyFirst {
        /// How many are ready.
        ready: u32,
        /// How many completions the caller waited for.
        want: u32,
    },
    /// The submission queue can never hold that many reserved slots.
    #[error("{count} slots asked for, but the submission queue has {entries}: make a longer ring")]
    TooFewSlots {
        /// How many slots were asked for.
        count: u32,
        /// How many slots there are.
        entries: u32,
    },
    /// The kernel cannot wait that way.
    #[error("{what} needs Linux {since}")]
    Unsupported {
        /// What was asked for.
        what: &'static str,
        /// The first release that can.
        since: &'static str,
    },
    /// A wait for one operation reached its time limit before the operation ended.
    #[error("the time is up, and the operation has not ended: wait again, or cancel it")]
    TimedOut,
    /// The kernel resized the ring, but the new memory could not be mapped.
    #[error("the ring was resized, but its new memory could not be mapped: make a new ring")]
    Unmapped,
    /// Something between this process and io_uring refuses the call: a seccomp filter or a security
    /// module. For an existing ring, `io_uring_enter(2)` itself never returns `EPERM`, `EACCES` or
    /// `ENOSYS`.
    #[error(
        "io_uring_enter is refused ({0}), as a sandbox's seccomp filter does: allow \
         io_uring_setup, io_uring_enter and io_uring_register in the profile, or fall back to epoll"
    )]
    Refused(Errno),
    /// Any other errno.
    #[error("io_uring_enter: {0}")]
    Other(Errno),
}

/// Contains the text, so that a `?` in `main` prints cause and cure.
impl fmt::Debug for EnterCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EnterCause({self})")
    }
}

impl From<Errno> for EnterCause {
    fn from(errno: Errno) -> Self {
        match errno.raw() {
            // A signal came before anything was submitted or completed.
            libc::EINTR => Self::Interrupted,
            // The first allocation of a batch failed.
            libc::EAGAIN => Self::OutOfRequests,
            // Linux 5.8 to 5.12: the overflow list is not empty and the kernel will not add to it.
            libc::EBUSY => Self::CompletionsPending,
            // Since Linux 5.19, reported once after an overflowing completion could not be kept.
            libc::EBADR => Self::CompletionsLost,
            // SINGLE_ISSUER, and another task submitted.
            libc::EEXIST => Self::WrongThread,
            // Never from the kernel: this crate reports it in a forked child.
            libc::ECHILD => Self::OtherProcess,
            // R_DISABLED.
            libc::EBADFD => Self::Disabled,
            // SQPOLL, and its thread is gone.
            libc::EOWNERDEAD => Self::PollerDied,
            // Not from io_uring itself, but from a filter in front of it.
            libc::EPERM | libc::EACCES | libc::ENOSYS => Self::Refused(errno),
            _ => Self::Other(errno),
        }
    }
}

/// The end of an error message: says how many entries went in, or nothing if none did.
fn before(submitted: u32) -> String {
    match submitted {
        0 => String::new(),
        1 => " (1 entry was submitted before)".to_owned(),
        count => format!(" ({count} entries were submitted before)"),
    }
}

impl EnterError {
    /// An error with `cause`, after `submitted` entries went in.
    pub(crate) fn new(submitted: u32, cause: impl Into<EnterCause>) -> Self {
        Self { submitted, cause: cause.into() }
    }
}

impl EnterError {
    /// The error number of the [cause](EnterCause::errno).
    pub fn errno(&self) -> Errno {
        self.cause.errno()
    }
}

impl EnterCause {
    /// The error number that the kernel returned, or would have returned, had it been asked. Where
    /// the kernel would not have refused, but waited forever, the number says so: `EDEADLK` for
    /// [`NothingComing`](Self::NothingComing), `EBUSY` for [`ReadyFirst`](Self::ReadyFirst).
    pub fn errno(&self) -> Errno {
        Errno::new(match *self {
            Self::Interrupted => libc::EINTR,
            Self::OutOfRequests => libc::EAGAIN,
            Self::CompletionsPending | Self::ReadyFirst { .. } => libc::EBUSY,
            Self::CompletionsLost => libc::EBADR,
            Self::WrongThread => libc::EEXIST,
            Self::OtherProcess => libc::ECHILD,
            Self::Disabled | Self::Unmapped => libc::EBADFD,
            Self::PollerDied => libc::EOWNERDEAD,
            Self::NothingComing { .. } => libc::EDEADLK,
            Self::WaitTooLarge { .. } | Self::TooFewSlots { .. } | Self::Unsupported { .. } => {
                libc::EINVAL
            }
            Self::TimedOut => libc::ETIMEDOUT,
            Self::Refused(errno) | Self::Other(errno) => return errno,
        })
    }
}

/// Keeps [the error number](EnterError::errno), which a runtime decides by, and neither the text
/// nor how many entries were submitted: an `io::Error` has only one of them.
impl From<EnterError> for io::Error {
    fn from(error: EnterError) -> Self {
        error.errno().into()
    }
}

/// How a bounded wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a wait that timed out may have fewer completions ready than were asked for"]
pub enum Woken {
    /// Enough completions are ready: as many as were asked for, or one once the [minimum
    /// wait](crate::WaitOptions::min_wait) is over.
    Ready,
    /// The time is up, and too few completions are ready. There may be some.
    TimedOut,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_went_in_before_it_if_anything_did() {
        let text = |submitted| EnterError::new(submitted, EnterCause::OutOfRequests).to_string();
        assert!(text(0).ends_with("then submit again"));
        assert!(text(1).ends_with("(1 entry was submitted before)"));
        assert!(text(7).ends_with("(7 entries were submitted before)"));
    }

    #[test]
    fn an_errno_of_the_kernel_comes_back_as_it_was() {
        for number in 1..134 {
            let error = EnterError::new(3, Errno::new(number));
            assert_eq!(error.errno(), Errno::new(number), "{error}");
            assert_eq!(io::Error::from(error).raw_os_error(), Some(number), "{error}");
        }
    }
}
