//! The bound of a wait, as the scripted kernel was given it.
#![allow(dead_code, reason = "not every test uses all of it")]

use std::time::Duration;

use annulus_sys::abi::Timespec;
use annulus_sys::syscall::EnterArg;

/// An [`EnterArg`] that can be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// No argument.
    None,
    /// A signal mask alone.
    SigMask,
    /// The extended argument.
    Ext {
        /// Its timeout.
        timeout: Option<Timespec>,
        /// Its minimal wait.
        min_wait: Option<Duration>,
        /// Whether it has a signal mask.
        sigmask: bool,
    },
    /// A registered argument, at this offset.
    Registered(usize),
}

impl Bound {
    /// What there is to keep of it.
    pub fn of(arg: EnterArg<'_>) -> Self {
        match arg {
            EnterArg::None => Self::None,
            EnterArg::SigMask(_) => Self::SigMask,
            EnterArg::Ext(ext) => Self::Ext {
                timeout: ext.timeout,
                min_wait: ext.min_wait,
                sigmask: ext.sigmask.is_some(),
            },
            EnterArg::Registered(offset) => Self::Registered(offset),
        }
    }

    /// How long the wait may last, if it says so itself: else its minimum, after which it ends with
    /// less than it asked for.
    pub fn limit(self) -> Option<Duration> {
        let Self::Ext { timeout, min_wait, .. } = self else { return None };
        let Some(time) = timeout else { return min_wait };
        let secs = u64::try_from(time.tv_sec).expect("a limit is not negative");
        let nanos = u32::try_from(time.tv_nsec).expect("less than a second");
        Some(Duration::new(secs, nanos))
    }
}
