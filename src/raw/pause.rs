//! Pauses between the waits of a ring whose devices are polled (`IOPOLL`).
//!
//! On such a ring, a wait inside the kernel waits only for those devices. So we pause outside it.
//!
//! | the kernel returned without completions | what we do |
//! |---|---|
//! | a few times | ask again at once: a device is about to answer |
//! | again and again | watch the ring with `ppoll(2)`, for a millisecond at most |
//!
//! Completions from other sources, such as messages and worker threads, wake the `ppoll`. So do
//! signals, which the kernel does not notice while no device has anything to do (seen up to 6.18);
//! it also ignores the signal mask then. The pause is only a millisecond, since a worker thread may
//! hand the device a request that needs polling without giving a sign.
//!
//! Leaves to others: how long to wait in total, and what a signal means (`wait`, `enter`).
#![allow(unsafe_code, reason = "calls ppoll")]

use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use annulus_sys::errno::Errno;
use annulus_sys::syscall::RingFd;

/// How often the kernel is asked again at once before the first pause: a device about to answer
/// does so within a few tries.
const AT_ONCE: u32 = 64;

/// How long a pause lasts at most, since a request may need polling without a sign.
const SPAN: Duration = Duration::from_millis(1);

/// How often the kernel returned without completions, in one wait.
#[derive(Debug, Default)]
pub(crate) struct Rest {
    in_vain: u32,
}

impl Rest {
    /// Called when the kernel returned without completions; `left` is the time that remains, if
    /// there is a limit. Pauses if the kernel has been asked often enough. Fails with `EINTR` if a
    /// signal came that `signals` does not block.
    pub(crate) fn take(
        &mut self,
        ring: &RingFd,
        left: Option<Duration>,
        signals: Option<&libc::sigset_t>,
    ) -> Result<(), Errno> {
        self.in_vain += 1;
        if self.in_vain <= AT_ONCE {
            return Ok(());
        }
        let fd: RawFd = match ring {
            RingFd::Owned(fd) => fd.as_raw_fd(),
            RingFd::Registered(_) => -1, // No descriptor to watch: just sleep.
        };
        let mut polled = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let span = SPAN.min(left.unwrap_or(SPAN));
        let span = libc::timespec { tv_sec: 0, tv_nsec: span.subsec_nanos().into() };
        let mask = signals.map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: one live `pollfd`, a timespec and a set or none, because they are locals, or
        // borrowed by us.
        let woken = unsafe { libc::ppoll(&raw mut polled, 1, &raw const span, mask) };
        if woken < 0 { Err(Errno::last()) } else { Ok(()) }
    }
}
