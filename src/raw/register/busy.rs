//! Busy polling of network queues, and the clock that bounds waits.
//!
//! ```text
//!   wait ─► poll the queues for 50 µs ─┬─ a packet: no interrupt, no sleep
//!                                      └─ none: sleep until the interrupt
//! ```
//!
//! | tracking | polls | since |
//! |---|---|---|
//! | [`Tracking::Dynamic`] | the queues of the sockets that requests wait on | Linux 6.9 |
//! | [`Tracking::Static`] | the queues added by [`add_napi_id`](RawRing::add_napi_id) | Linux 6.13 |
//! | [`Tracking::Inactive`] | none: only reported, and set by [`end_busy_poll`](RawRing::end_busy_poll) | Linux 6.13 |
//!
//! Busy polling trades processor time for latency. It needs a kernel with
//! `CONFIG_NET_RX_BUSY_POLL`. The socket option `SO_INCOMING_NAPI_ID` gives the id of a socket's
//! queue. Sockets without a network card, such as those over loopback, have none.
#![allow(unsafe_code, reason = "hands arguments to the kernel")]

use std::time::Duration;

use annulus_sys::abi_register::{ClockRegister, Napi};
use annulus_sys::flags_register::{NapiOp, NapiTracking};
use annulus_sys::opcode::RegisterOp;

use super::call::Call;
use super::error::RegisterError;
use crate::raw::RawRing;

const POLL: &str = "busy polling is for up to 2^32 microseconds, not for a ring with IOPOLL, and \
                    other tracking than dynamic needs Linux 6.13";

/// How network queues are polled before a wait sleeps.
#[doc(alias = "io_uring_napi")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BusyPoll {
    /// How long to poll: whole microseconds, rounded up. Zero does not poll.
    pub time: Duration,
    /// Whether interrupts or polling come first.
    pub prefer: Prefer,
    /// Which queues are polled.
    pub tracking: Tracking,
}

/// What comes first when packets arrive while queues are polled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Prefer {
    /// Interrupts, as usual.
    #[default]
    Interrupts,
    /// Polling: interrupts are deferred while it goes on (`SO_PREFER_BUSY_POLL`).
    Polling,
}

/// Which queues are polled.
#[doc(alias = "io_uring_napi_tracking_strategy")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tracking {
    /// The queues of the sockets that requests wait on.
    #[default]
    #[doc(alias = "IO_URING_NAPI_TRACKING_DYNAMIC")]
    Dynamic,
    /// The queues that were added one by one. Since Linux 6.13.
    #[doc(alias = "IO_URING_NAPI_TRACKING_STATIC")]
    Static,
    /// No queues. The kernel reports this value, since Linux 6.13, but does not accept it.
    #[doc(alias = "IO_URING_NAPI_TRACKING_INACTIVE")]
    Inactive,
}

/// The clock that bounds waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WaitClock {
    /// `CLOCK_MONOTONIC`: stops while the system is suspended.
    #[default]
    Monotonic,
    /// `CLOCK_BOOTTIME`: also runs while the system is suspended.
    Boottime,
}

/// # Busy polling, and the clock of waits
impl RawRing {
    /// Sets how queues are polled, and returns the previous settings. Since Linux 6.9.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Unsupported`] also if the kernel is built without busy polling;
    /// [`RegisterError::Invalid`] for [`Tracking::Inactive`], which the kernel does not accept
    /// here.
    #[doc(alias = "IORING_REGISTER_NAPI")]
    #[doc(alias = "IO_URING_NAPI_REGISTER_OP")]
    #[doc(alias = "io_uring_register_napi")]
    pub fn set_busy_poll(&self, poll: BusyPoll) -> Result<BusyPoll, RegisterError> {
        let micros = u32::try_from(poll.time.as_nanos().div_ceil(1000));
        let tracking = match poll.tracking {
            Tracking::Dynamic => NapiTracking::DYNAMIC,
            Tracking::Static => NapiTracking::STATIC,
            Tracking::Inactive => {
                let reason = "`Tracking::Inactive` cannot be set: call `end_busy_poll` instead";
                return Err(RegisterError::Invalid { reason });
            }
        };
        let mut napi = Napi {
            busy_poll_to: micros.map_err(|_| RegisterError::Invalid { reason: POLL })?,
            prefer_busy_poll: u8::from(poll.prefer == Prefer::Polling),
            opcode: NapiOp::REGISTER_OP,
            op_param: tracking.0,
            ..Napi::default()
        };
        self.napi(&mut napi)?;
        Ok(BusyPoll::of(&napi))
    }

    /// Adds a queue to the polled ones, with [`Tracking::Static`]. Since Linux 6.13.
    ///
    /// # Errors
    ///
    /// [`RegisterError::InUse`] if the queue was added before, [`RegisterError::Invalid`] if `id`
    /// is not the id of a queue.
    #[doc(alias = "IO_URING_NAPI_STATIC_ADD_ID")]
    pub fn add_napi_id(&self, id: u32) -> Result<(), RegisterError> {
        if !self.base().is_of_this_process() {
            return Err(RegisterError::OtherProcess);
        }
        let opcode = NapiOp::STATIC_ADD_ID;
        let added = self.napi(&mut Napi { opcode, op_param: id, ..Napi::default() });
        added.map_err(|error| match error {
            // The kernel uses one errno for both, and this ring belongs to this thread.
            RegisterError::OtherThread => RegisterError::InUse { what: "queue of that id" },
            error => error,
        })
    }

    /// Removes a queue from the polled ones. Since Linux 6.13.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Missing`] if the queue was not added.
    #[doc(alias = "IO_URING_NAPI_STATIC_DEL_ID")]
    pub fn remove_napi_id(&self, id: u32) -> Result<(), RegisterError> {
        let opcode = NapiOp::STATIC_DEL_ID;
        let removed = self.napi(&mut Napi { opcode, op_param: id, ..Napi::default() });
        let missing = RegisterError::Missing { what: "queue of that id" };
        removed.map_err(|error| error.unless(libc::ENOENT, missing))
    }

    fn napi(&self, napi: &mut Napi) -> Result<(), RegisterError> {
        let wrong = match napi.opcode {
            NapiOp::REGISTER_OP => POLL,
            _ => "add the id of a queue, to a ring with static tracking, on Linux 6.13 or later",
        };
        let call = Call::new(RegisterOp::NAPI, 1, wrong);
        // SAFETY: a live `struct io_uring_napi`, which the kernel copies in and out, because it
        // says so.
        unsafe { call.make(self.base(), std::ptr::from_mut(napi)) }.map(drop)
    }

    /// Stops busy polling, and returns the previous settings. Since Linux 6.9.
    ///
    /// # Errors
    ///
    /// As for [`set_busy_poll`](Self::set_busy_poll).
    #[doc(alias = "IORING_UNREGISTER_NAPI")]
    #[doc(alias = "io_uring_unregister_napi")]
    pub fn end_busy_poll(&self) -> Result<BusyPoll, RegisterError> {
        let mut napi = Napi::default();
        let call = Call::new(RegisterOp::UNREGISTER_NAPI, 1, POLL);
        // SAFETY: a live `struct io_uring_napi`, which the kernel writes, because it says so.
        unsafe { call.make(self.base(), &raw mut napi) }?;
        Ok(BusyPoll::of(&napi))
    }

    /// Sets the clock that bounds waits on this ring. Since Linux 6.12.
    ///
    /// # Errors
    ///
    /// The kernel's error.
    #[doc(alias = "IORING_REGISTER_CLOCK")]
    #[doc(alias = "io_uring_register_clock")]
    pub fn set_wait_clock(&self, clock: WaitClock) -> Result<(), RegisterError> {
        let id = match clock {
            WaitClock::Monotonic => libc::CLOCK_MONOTONIC,
            WaitClock::Boottime => libc::CLOCK_BOOTTIME,
        };
        let mut arg = ClockRegister { clockid: id.cast_unsigned(), resv: [0; 3] };
        let call = Call::new(RegisterOp::CLOCK, 0, "a wait uses one of the two clocks");
        // SAFETY: a live `struct io_uring_clock_register`, which the kernel copies, because it says
        // so.
        unsafe { call.make(self.base(), &raw mut arg) }.map(drop)
    }
}

impl BusyPoll {
    /// The settings that the kernel reports.
    fn of(napi: &Napi) -> Self {
        Self {
            time: Duration::from_micros(napi.busy_poll_to.into()),
            prefer: match napi.prefer_busy_poll {
                0 => Prefer::Interrupts,
                _ => Prefer::Polling,
            },
            tracking: match NapiTracking(napi.op_param) {
                NapiTracking::STATIC => Tracking::Static,
                NapiTracking::INACTIVE => Tracking::Inactive,
                _ => Tracking::Dynamic,
            },
        }
    }
}
