//! Spans and points in time.

use std::time::Duration;

use annulus_sys::abi;

/// A span, or a point in time, laid out as the kernel's `struct __kernel_timespec`.
#[derive(Default, Debug, Clone, Copy)]
#[repr(transparent)]
pub struct Timespec(pub(in super::super) abi::Timespec);

impl Timespec {
    /// No time.
    #[inline]
    pub const fn new() -> Self {
        Self(abi::Timespec { tv_sec: 0, tv_nsec: 0 })
    }

    /// Whole seconds.
    #[inline]
    pub const fn sec(mut self, sec: u64) -> Self {
        self.0.tv_sec = sec.cast_signed();
        self
    }

    /// Additional nanoseconds, below 1,000,000,000.
    #[inline]
    pub const fn nsec(mut self, nsec: u32) -> Self {
        self.0.tv_nsec = nsec as i64;
        self
    }
}

impl From<Duration> for Timespec {
    /// A span that is too long for the kernel becomes the longest that it accepts.
    fn from(span: Duration) -> Self {
        Self(span.into())
    }
}
