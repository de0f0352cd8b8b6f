//! What can go wrong between us and the kernel while a ring is in use, each with its cause and
//! cure.
//!
//! | errno | here | what it means | what is lost |
//! |---|---|---|---|
//! | `EINTR` | [`Interrupted`] | a signal handler ran during the wait | nothing |
//! | `EAGAIN` | [`OutOfRequests`] | no memory for another request | nothing: entries stay queued |
//! | `EBUSY` | [`CompletionsPending`] | completions overflow, and the kernel takes no more work | nothing |
//! | `EBADR` | [`CompletionsLost`] | no memory to keep an overflowing completion | a completion |
//! | `ECHILD` | [`OtherProcess`] | this is a forked child; said by us, and by no kernel | nothing |
//! | `EPERM`, `EACCES`, `ENOSYS` | [`Refused`] | a filter of system calls, or a security module | nothing |
//! | `ETIME` | not an error: [`Woken::TimedOut`] | the time is up | nothing |
//!
//! Whatever the cause, [`EnterError::submitted`] says how many entries the kernel took before.
//!
//! [`Interrupted`]: EnterCause::Interrupted
//! [`OutOfRequests`]: EnterCause::OutOfRequests
//! [`CompletionsPending`]: EnterCause::CompletionsPending
//! [`CompletionsLost`]: EnterCause::CompletionsLost
//! [`OtherProcess`]: EnterCause::OtherProcess
//! [`Refused`]: EnterCause::Refused

use std::io;

use annulus_sys::errno::Errno;
use thiserror::Error;

/// Why entering the kernel did not do all that was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{cause}{}", before(*submitted))]
pub struct EnterError {
    /// Entries that the kernel consumed before. The others stay queued, in order, and belong to the
    /// kernel all the same: memory that they point to must stay valid.
    pub submitted: u32,
    /// What stopped it.
    pub cause: EnterCause,
}

/// What stopped an enter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EnterCause {
    /// A signal came before enough completions did. Wait again; nothing needs to be submitted
    /// again. Some may be ready. The kernel does not always say that it was a signal: the end of a
    /// [`Timeout`](crate::op::Timeout) may look like one, where several completions are awaited.
    #[error("a signal arrived before enough completions did: wait again")]
    Interrupted,
    /// The kernel had no memory for another request. Take completions, then submit again.
    #[error("the kernel has no memory for another request: take completions, then submit again")]
    OutOfRequests,
    /// Completions overflow the ring, and the kernel accepts nothing before they are taken.
    #[error("completions overflow the ring: take them, then submit again")]
    CompletionsPending,
    /// The kernel had no memory to keep an overflowing completion, and dropped it.
    #[error(
        "the kernel dropped a completion for lack of memory, so a request will never complete: \
         take completions more often, or make the completion ring larger"
    )]
    CompletionsLost,
    /// The ring belongs to another thread (`SINGLE_ISSUER`).
    #[error(
        "the ring belongs to one thread (SINGLE_ISSUER), and this is not it: use it there, or set \
         it up without"
    )]
    WrongThread,
    /// This is a forked child, and the ring its parent's: see [fork](crate#fork).
    #[error("the ring is of the process that forked this one: make a ring here")]
    OtherProcess,
    /// The ring is still disabled (`R_DISABLED`).
    #[error("the ring is disabled: enable it first")]
    Disabled,
    /// The kernel's polling thread (`SQPOLL`) is gone.
    #[error("the kernel's polling thread has died: make a new ring")]
    PollerDied,
    /// So many completions can never come: too little that was submitted is in flight. Told of
    /// waits without a limit only. What others send to a ring that is used by its raw face, it must
    /// be [told to expect](crate::RawRing::expect_others).
    #[error("{want} completions awaited, {coming} can come: submit first, or wait for fewer")]
    NothingComing {
        /// How many were awaited.
        want: u32,
        /// How many are ready or in flight.
        coming: u32,
    },
    /// The completion ring can never hold that many.
    #[error("{want} completions awaited, but the ring holds {entries}: take some in between")]
    WaitTooLarge {
        /// How many were awaited.
        want: u32,
        /// How many the ring holds.
        entries: u32,
    },
    /// A device is polled only while no completion is ready (`IOPOLL`); and the large completions
    /// of a mixed ring (`CQE_MIXED`) may leave no room for those that are missing.
    #[error(
        "{ready} of {want} completions are ready, and no more can come before they are taken: take \
         them, then wait for the rest"
    )]
    ReadyFirst {
        /// How many are ready.
        ready: u32,
        /// How many were awaited.
        want: u32,
    },
    /// The submission ring can never set so many slots aside.
    #[error("{count} slots are to be set aside, and the ring has {entries}: make a longer ring")]
    TooFewSlots {
        /// How many were to be set aside.
        count: u32,
        /// How many there are.
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
    /// A bounded wait for one operation ended before the operation did.
    #[error("the time is up: wait again, or cancel it")]
    TimedOut,
    /// A resize succeeded in the kernel, and then the new memory could not be mapped.
    #[error("the ring was resized and could not be mapped again: make a new ring")]
    Unmapped,
    /// Something between us and the kernel refuses the call: a seccomp filter, a security module.
    /// `io_uring_enter(2)` itself never says `EPERM`, `EACCES` or `ENOSYS` to a ring that there is.
    #[error(
        "io_uring_enter is refused ({0}), as seccomp filters of sandboxes do: allow \
         io_uring_setup, io_uring_enter and io_uring_register in the profile, or fall back to epoll"
    )]
    Refused(Errno),
    /// Something else.
    #[error("io_uring_enter: {0}")]
    Other(Errno),
}

impl From<Errno> for EnterCause {
    fn from(errno: Errno) -> Self {
        match errno.raw() {
            // A signal came, and nothing was submitted or complete.
            libc::EINTR => Self::Interrupted,
            // The first allocation of a batch failed.
            libc::EAGAIN => Self::OutOfRequests,
            // Linux 5.8 to 5.12: the overflow list is not empty and the kernel will not add to it.
            libc::EBUSY => Self::CompletionsPending,
            // Since Linux 5.19, once, after an overflowing completion could not be kept.
            libc::EBADR => Self::CompletionsLost,
            // SINGLE_ISSUER, and the submitter is another task.
            libc::EEXIST => Self::WrongThread,
            // No kernel's word, but ours: what a forked child does not do.
            libc::ECHILD => Self::OtherProcess,
            // R_DISABLED.
            libc::EBADFD => Self::Disabled,
            // SQPOLL, and its thread is gone.
            libc::EOWNERDEAD => Self::PollerDied,
            // Not the kernel's io_uring: what stands before it.
            libc::EPERM | libc::EACCES | libc::ENOSYS => Self::Refused(errno),
            _ => Self::Other(errno),
        }
    }
}

/// The tail of an error's text: nothing, if nothing went in.
fn before(submitted: u32) -> String {
    match submitted {
        0 => String::new(),
        1 => " (1 entry was submitted before)".to_owned(),
        count => format!(" ({count} entries were submitted before)"),
    }
}

impl EnterError {
    /// `cause`, after `submitted` entries went in.
    pub(crate) fn new(submitted: u32, cause: impl Into<EnterCause>) -> Self {
        Self { submitted, cause: cause.into() }
    }
}

impl From<EnterError> for io::Error {
    fn from(error: EnterError) -> Self {
        let kind = match error.cause {
            EnterCause::Interrupted => io::ErrorKind::Interrupted,
            EnterCause::TimedOut => io::ErrorKind::TimedOut,
            EnterCause::OutOfRequests => io::ErrorKind::OutOfMemory,
            EnterCause::Refused(errno) | EnterCause::Other(errno) => io::Error::from(errno).kind(),
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

/// How a bounded wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a wait that timed out may have brought fewer completions than were asked for"]
pub enum Woken {
    /// Enough completions are ready: as many as were asked for, or one when the
    /// [minimum wait](crate::Patience::min_wait) is over.
    Ready,
    /// The time is up, and enough are not ready. Some may be.
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
}
