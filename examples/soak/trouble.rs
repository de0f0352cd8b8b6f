//! Why a round ends before its time, and which errors are none.
//!
//! | trouble | means | and then |
//! |---|---|---|
//! | a finding | something is not as documented, or not accounted for | the soak ends, with exit status 1 |
//! | a lack | no memory, or no descriptor, as a documented error says | the round ends, and is still accounted for |

use std::fmt::{Debug, Display};
use std::io;

use annulus::lease::RegisterError;
use annulus::{EnterCause, EnterError, Rejection, SetupError};

/// Why a round ends before its time.
#[derive(Debug)]
pub enum Trouble {
    /// Something is wrong.
    Finding(String),
    /// Something could not be had.
    Lack(String),
}

/// The result of a step.
pub type Check = Result<(), Trouble>;

/// The failure that `what` says.
pub fn finding<T>(what: impl Into<String>) -> Result<T, Trouble> {
    Err(Trouble::Finding(what.into()))
}

/// Fails unless `is` is `should`.
pub fn equal<T: PartialEq + Debug>(what: impl Display, is: T, should: T) -> Check {
    if is == should { Ok(()) } else { finding(format!("{what}: {is:?}, and should be {should:?}")) }
}

impl From<io::Error> for Trouble {
    /// A call of the standard library failed.
    fn from(error: io::Error) -> Self {
        if is_lack(&error) {
            return Self::Lack(error.to_string());
        }
        Self::Finding(format!("a system call failed: {error}"))
    }
}

impl From<SetupError> for Trouble {
    fn from(error: SetupError) -> Self {
        let what = format!("no ring: {error}");
        match error {
            SetupError::LockedMemory { .. }
            | SetupError::OutOfMemory { .. }
            | SetupError::AddressSpace { .. }
            | SetupError::TooManyFiles { .. } => Self::Lack(what),
            _ => Self::Finding(what),
        }
    }
}

/// The lease, or `None` where this user cannot have it, or this kernel does not make it.
pub fn lease<T>(made: Result<T, RegisterError>) -> Result<Option<T>, Trouble> {
    match made {
        Ok(made) => Ok(Some(made)),
        Err(
            RegisterError::LockedMemory { .. }
            | RegisterError::OutOfMemory { .. }
            | RegisterError::TooManyFiles { .. }
            | RegisterError::Unsupported { .. },
        ) => Ok(None),
        Err(error) => finding(format!("it cannot be registered: {error}")),
    }
}

/// Whether a descriptor, or memory, is lacking.
pub fn is_lack(error: &io::Error) -> bool {
    let lacks = [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ENOBUFS];
    error.raw_os_error().is_some_and(|code| lacks.contains(&code))
}

/// Fails unless an operation may end like that here: cancelled, for lack of something, or because
/// this kernel does not know it.
pub fn may_end(what: &str, error: &io::Error) -> Check {
    let known =
        [libc::ECANCELED, libc::EINTR, libc::EAGAIN, libc::EINVAL, libc::EOPNOTSUPP, libc::EBADFD];
    if is_lack(error) || error.raw_os_error().is_some_and(|code| known.contains(&code)) {
        return Ok(());
    }
    finding(format!("{what} ended with {error}"))
}

/// Fails unless a call may end like that. Returns whether a signal did it.
pub fn may_pass(error: EnterError) -> Result<bool, Trouble> {
    match error.cause {
        EnterCause::Interrupted => Ok(true),
        EnterCause::OutOfRequests
        | EnterCause::CompletionsPending
        | EnterCause::NothingComing { .. }
        | EnterCause::ReadyFirst { .. } => Ok(false),
        _ => finding(format!("the kernel was entered: {error}")),
    }
}

/// Fails unless an operation may be refused like that, for now.
pub fn may_refuse(why: Rejection) -> Check {
    match why {
        Rejection::NoSlot
        | Rejection::QueueFull
        | Rejection::BufRingBusy
        | Rejection::ChainTooLong { .. }
        | Rejection::Unsupported { .. }
        | Rejection::Invalid { .. } => Ok(()),
        Rejection::Enter(error) => may_pass(error).map(drop),
        _ => finding(format!("an operation was refused: {why}")),
    }
}
