//! A rest outside the kernel, on a ring whose devices are polled: inside, it waits for these alone.
//!
//! | the kernel came back with nothing | so |
//! |---|---|
//! | a few times | ask again at once: a device is about to answer |
//! | again and again | look at the ring as `ppoll(2)` does, for a millisecond at most |
//!
//! What else brings completions wakes that: messages, worker threads. So do signals, which the
//! kernel does not look at while no device has anything to do (seen up to 6.18), nor at the mask of
//! those to hold back. Only a millisecond, since a worker thread may hand the device a request that
//! wants to be polled, without a sign.
//!
//! Leaves to others: how long to wait in all, and what a signal means (`wait`, `enter`).
#![allow(unsafe_code, reason = "calls ppoll")]

use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use annulus_sys::errno::Errno;
use annulus_sys::syscall::RingFd;

/// How often the kernel is asked again at once.
const AT_ONCE: u32 = 64;

/// How long a rest is at most.
const SPAN: Duration = Duration::from_millis(1);

/// How often the kernel came back with nothing, in one wait.
#[derive(Debug, Default)]
pub(crate) struct Rest {
    in_vain: u32,
}

impl Rest {
    /// The kernel came back with nothing, with so much time `left`, if there is a limit. `EINTR`
    /// when a signal came, of those that `signals` does not hold back.
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
            RingFd::Registered(_) => -1, // Nothing to look at: it sleeps.
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
