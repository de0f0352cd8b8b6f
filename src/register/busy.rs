//! Busy polling of network queues, and the clock that waits go by.
//!
//! ```text
//!   wait ─► poll the queues for 50 µs ─┬─ a packet: no interrupt, no sleep
//!                                      └─ none: sleep until the interrupt
//! ```
//!
//! | tracking | polls | since |
//! |---|---|---|
//! | [`Tracking::Dynamic`] | the queues of the sockets that requests wait on | Linux 6.9 |
//! | [`Tracking::Static`] | those that were added, by [`add_napi_id`](RawRing::add_napi_id) | Linux 6.13 |
//! | [`Tracking::Inactive`] | none: told, and set by [`end_busy_poll`](RawRing::end_busy_poll) | Linux 6.13 |
//!
//! It trades processor time for latency, and needs a kernel with `CONFIG_NET_RX_BUSY_POLL`. The id
//! of a socket's queue is its option `SO_INCOMING_NAPI_ID`; sockets without a network card, such
//! as those over loopback, have none.
#![allow(unsafe_code, reason = "hands arguments to the kernel")]

use std::time::Duration;

use annulus_sys::abi_register::{ClockRegister, Napi};
use annulus_sys::flags_register::{NapiOp, NapiTracking};
use annulus_sys::opcode::RegisterOp;

use super::call::Call;
use crate::lease::RegisterError;
use crate::raw::RawRing;

const POLL: &str = "busy polling is for up to 2^32 microseconds, not for a ring with IOPOLL, and \
                    other tracking than dynamic needs Linux 6.13";

/// How network queues are polled before a wait sleeps.
#[doc(alias = "io_uring_napi")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BusyPoll {
    /// For how long: whole microseconds, rounded up. Zero does not poll.
    pub time: Duration,
    /// What goes first.
    pub prefer: Prefer,
    /// Which queues.
    pub tracking: Tracking,
}

/// What goes first when packets come while queues are polled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Prefer {
    /// Interrupts, as ever.
    #[default]
    Interrupts,
    /// Polling: interrupts are put off while it goes on (`SO_PREFER_BUSY_POLL`).
    Polling,
}

/// Which queues are polled.
#[doc(alias = "io_uring_napi_tracking_strategy")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tracking {
    /// Those of the sockets that requests wait on.
    #[default]
    #[doc(alias = "IO_URING_NAPI_TRACKING_DYNAMIC")]
    Dynamic,
    /// Those that were added one by one. Since Linux 6.13.
    #[doc(alias = "IO_URING_NAPI_TRACKING_STATIC")]
    Static,
    /// None. The kernel tells it, since Linux 6.13, and does not take it.
    #[doc(alias = "IO_URING_NAPI_TRACKING_INACTIVE")]
    Inactive,
}

/// What the time goes by that bounds waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WaitClock {
    /// `CLOCK_MONOTONIC`: stands still while the system is suspended.
    #[default]
    Monotonic,
    /// `CLOCK_BOOTTIME`: goes on then.
    Boottime,
}

impl RawRing {
    /// Sets how queues are polled, and returns how they were before. Since Linux 6.9.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Unsupported`] also where the kernel is built without busy polling;
    /// [`RegisterError::Invalid`] for [`Tracking::Inactive`], which the kernel does not take here.
    #[doc(alias = "IORING_REGISTER_NAPI")]
    #[doc(alias = "IO_URING_NAPI_REGISTER_OP")]
    #[doc(alias = "io_uring_register_napi")]
    pub fn set_busy_poll(&self, poll: BusyPoll) -> Result<BusyPoll, RegisterError> {
        let micros = u32::try_from(poll.time.as_nanos().div_ceil(1000));
        let tracking = match poll.tracking {
            Tracking::Dynamic => NapiTracking::DYNAMIC,
            Tracking::Static => NapiTracking::STATIC,
            Tracking::Inactive => {
                let reason = "no tracking is what `end_busy_poll` leaves";
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

    /// Adds a queue to those that are polled, with [`Tracking::Static`]. Since Linux 6.13.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Taken`] when it was added before, [`RegisterError::Invalid`] for what is no
    /// id of a queue.
    #[doc(alias = "IO_URING_NAPI_STATIC_ADD_ID")]
    pub fn add_napi_id(&self, id: u32) -> Result<(), RegisterError> {
        if !self.base().is_of_this_process() {
            return Err(RegisterError::NotHere);
        }
        let opcode = NapiOp::STATIC_ADD_ID;
        let added = self.napi(&mut Napi { opcode, op_param: id, ..Napi::default() });
        added.map_err(|error| match error {
            // The kernel has one number for both, and this ring is of this thread.
            RegisterError::NotHere => RegisterError::Taken { what: "queue of that id" },
            error => error,
        })
    }

    /// Takes a queue out of those that are polled. Since Linux 6.13.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Missing`] when it is not among them.
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
            _ => "queues are added by their id, to a ring with static tracking: Linux 6.13",
        };
        let call = Call::new(RegisterOp::NAPI, 1, wrong);
        // SAFETY: a live `struct io_uring_napi`, which the kernel copies in and out, because it
        // says so.
        unsafe { call.make(self.base(), std::ptr::from_mut(napi)) }.map(drop)
    }

    /// Polls no more, and returns how queues were polled. Since Linux 6.9.
    ///
    /// # Errors
    ///
    /// As [`set_busy_poll`](Self::set_busy_poll).
    #[doc(alias = "IORING_UNREGISTER_NAPI")]
    #[doc(alias = "io_uring_unregister_napi")]
    pub fn end_busy_poll(&self) -> Result<BusyPoll, RegisterError> {
        let mut napi = Napi::default();
        let call = Call::new(RegisterOp::UNREGISTER_NAPI, 1, POLL);
        // SAFETY: a live `struct io_uring_napi`, which the kernel writes, because it says so.
        unsafe { call.make(self.base(), &raw mut napi) }?;
        Ok(BusyPoll::of(&napi))
    }

    /// Sets the clock by which waits of this ring are bounded. Since Linux 6.12.
    ///
    /// # Errors
    ///
    /// The kernel's.
    #[doc(alias = "IORING_REGISTER_CLOCK")]
    #[doc(alias = "io_uring_register_clock")]
    pub fn set_wait_clock(&self, clock: WaitClock) -> Result<(), RegisterError> {
        let id = match clock {
            WaitClock::Monotonic => libc::CLOCK_MONOTONIC,
            WaitClock::Boottime => libc::CLOCK_BOOTTIME,
        };
        let mut arg = ClockRegister { clockid: id.cast_unsigned(), resv: [0; 3] };
        let call = Call::new(RegisterOp::CLOCK, 0, "waits go by one of two clocks");
        // SAFETY: a live `struct io_uring_clock_register`, which the kernel copies, because it says
        // so.
        unsafe { call.make(self.base(), &raw mut arg) }.map(drop)
    }
}

impl BusyPoll {
    /// What the kernel says.
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
