//! Clocks: what a point in time is measured by.
#![allow(unsafe_code, reason = "asks for the time")]

use std::time::Duration;

use annulus_sys::flags::TimeoutFlags;

/// The clock that a timeout uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Clock {
    /// `CLOCK_MONOTONIC`: stops while the system is suspended.
    #[default]
    Monotonic,
    /// `CLOCK_BOOTTIME`: also runs while the system is suspended. Since Linux 5.15; `EINVAL`
    /// before.
    Boottime,
    /// `CLOCK_REALTIME`: the time of day, which can be set. Since Linux 5.15; `EINVAL` before.
    Realtime,
}

impl Clock {
    pub(crate) fn flags(self) -> TimeoutFlags {
        match self {
            Self::Monotonic => TimeoutFlags::empty(),
            Self::Boottime => TimeoutFlags::BOOTTIME,
            Self::Realtime => TimeoutFlags::REALTIME,
        }
    }

    /// The time since the clock's zero, for [`Timeout::until`](crate::op::Timeout::until).
    pub fn now(self) -> Duration {
        let id = match self {
            Self::Monotonic => libc::CLOCK_MONOTONIC,
            Self::Boottime => libc::CLOCK_BOOTTIME,
            Self::Realtime => libc::CLOCK_REALTIME,
        };
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: one live timespec, which the kernel writes and does not keep, because it copies.
        unsafe { libc::clock_gettime(id, &raw mut time) };
        // Negative only for dates before 1970.
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
    }
}
