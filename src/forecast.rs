//! How many completions can still come, so that a wait for more is an error and not a hang.
//!
//! | an entry | completions | then |
//! |---|---|---|
//! | of one shot | 1 | counted |
//! | multishot, zero-copy send, commands | as many as it likes | the forecast is open |
//! | with `CQE_SKIP_SUCCESS` | 0 or 1 | the forecast is open |
//! | on another ring, sent here | 1 | [`open`](Forecast::open), by the caller |
//!
//! An open forecast refuses no wait. The kernel itself cannot know, and would wait for ever.

use annulus_sys::abi::Sqe;
use annulus_sys::flags::{AcceptFlags, PollFlags, RecvSendFlags, SqeFlags, TimeoutFlags};
use annulus_sys::opcode::Opcode;

use crate::error::{EnterCause, EnterError};

/// What is known about completions to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Forecast {
    /// One for each request in flight.
    #[default]
    Counted,
    /// Any number.
    Open,
}

impl Forecast {
    /// Takes note of an entry that is pushed.
    #[inline]
    pub(crate) fn note(&mut self, sqe: &Sqe) {
        if sqe.flags.contains(SqeFlags::CQE_SKIP_SUCCESS) || may_repeat(sqe) {
            *self = Self::Open;
        }
    }

    /// Any number of completions may come from now on.
    pub(crate) fn open(&mut self) {
        *self = Self::Open;
    }

    /// How many requests have not ended, of `pushed` and `ended`, both modulo 2³².
    #[inline]
    pub(crate) fn in_flight(self, pushed: u32, ended: u32) -> u32 {
        // More can have ended than were pushed: completions that no push announced.
        u32::try_from(pushed.wrapping_sub(ended).cast_signed()).unwrap_or(0)
    }

    /// At least how many to reckon with when the kernel is to be asked.
    pub(crate) fn upper_bound(self, in_flight: u32) -> u32 {
        match self {
            Self::Counted => in_flight,
            Self::Open => in_flight.max(1),
        }
    }

    /// Refuses to wait for `want` completions when only `coming` can come.
    #[inline]
    pub(crate) fn check(self, want: u32, coming: u32) -> Result<(), EnterError> {
        if self == Self::Open || want <= coming {
            return Ok(());
        }
        Err(EnterError::new(0, EnterCause::NothingComing { want, coming }))
    }
}

/// Whether a request may complete more than once.
#[inline]
fn may_repeat(sqe: &Sqe) -> bool {
    match sqe.opcode {
        Opcode::POLL_ADD => sqe.len & PollFlags::ADD_MULTI.bits() != 0,
        Opcode::ACCEPT => sqe.ioprio & AcceptFlags::MULTISHOT.bits() != 0,
        Opcode::RECV | Opcode::RECVMSG => sqe.ioprio & RecvSendFlags::RECV_MULTISHOT.bits() != 0,
        Opcode::TIMEOUT => sqe.op_flags & TimeoutFlags::MULTISHOT.bits() != 0,
        Opcode::READ_MULTISHOT | Opcode::RECV_ZC => true,
        // The result, and later the notification.
        Opcode::SEND_ZC | Opcode::SENDMSG_ZC => true,
        // As the driver likes; and a message may go to the ring that sends it.
        Opcode::URING_CMD | Opcode::URING_CMD128 | Opcode::MSG_RING => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_is_in_flight_is_refused() {
        let forecast = Forecast::Counted;
        assert!(forecast.check(2, 2).is_ok());
        let error = forecast.check(3, 2).unwrap_err();
        assert_eq!(error.cause, EnterCause::NothingComing { want: 3, coming: 2 });
    }

    #[test]
    fn an_entry_that_may_repeat_opens_the_forecast() {
        let mut forecast = Forecast::Counted;
        forecast.note(&Sqe { opcode: Opcode::ACCEPT, ..Sqe::ZERO });
        assert_eq!(forecast, Forecast::Counted);
        forecast.note(&Sqe { opcode: Opcode::ACCEPT, ioprio: 1, ..Sqe::ZERO });
        assert_eq!(forecast, Forecast::Open);
        assert!(forecast.check(100, 0).is_ok());
    }

    #[test]
    fn in_flight_survives_the_wrap_and_unannounced_completions() {
        assert_eq!(Forecast::Counted.in_flight(1, u32::MAX), 2);
        assert_eq!(Forecast::Counted.in_flight(5, 6), 0);
    }
}
