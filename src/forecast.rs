//! How many completions can still come, so that a wait for more is an error and not a hang.
//!
//! | an entry | completions | then the forecast is |
//! |---|---|---|
//! | of one shot | 1 | counted |
//! | multishot, zero-copy send | as many as it likes, until its last | repeating |
//! | with `CQE_SKIP_SUCCESS`, commands | 0, 1, or as many as the driver likes | open |
//! | on another ring, sent here | 1 | open, [by the caller](Forecast::open), or once one is seen |
//!
//! One that is seen is known only by counts: it hides a request in flight, unless the caller said
//! so before.
//!
//! A repeating forecast refuses a wait when nothing is in flight, an open one never. The kernel
//! itself cannot know, and would wait for ever.
//!
//! Leaves to others: waits with a limit, which are never refused (`patience`); and what the slots
//! of the safe face know better (`ring`).

use annulus_sys::abi::Sqe;
use annulus_sys::flags::{AcceptFlags, PollFlags, RecvSendFlags, SqeFlags, TimeoutFlags};
use annulus_sys::opcode::Opcode;

use crate::error::{EnterCause, EnterError};

/// What is known about completions to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum Forecast {
    /// One for each request in flight.
    #[default]
    Counted,
    /// Any number, while a request is in flight.
    Repeating,
    /// Messages too, of senders that the safe face knows.
    Messages,
    /// Any number.
    Open,
}

impl Forecast {
    /// Takes note of an entry that is pushed.
    #[inline]
    pub(crate) fn note(&mut self, sqe: &Sqe) {
        if may_surprise(sqe) {
            *self = Self::Open;
        } else if may_repeat(sqe) {
            *self = (*self).max(Self::Repeating);
        }
    }

    /// Any number of completions may come from now on.
    pub(crate) fn open(&mut self) {
        *self = Self::Open;
    }

    /// Messages may come from now on, from senders that are counted elsewhere.
    pub(crate) fn expect_messages(&mut self) {
        *self = (*self).max(Self::Messages);
    }

    /// Takes note that `ended` of `pushed` requests have ended, both modulo 2³²: when more have,
    /// some completions were announced by no push, and others may be.
    #[inline]
    pub(crate) fn compare(&mut self, pushed: u32, ended: u32) {
        if pushed.wrapping_sub(ended).cast_signed() < 0 {
            *self = Self::Open;
        }
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
            Self::Counted | Self::Repeating => in_flight,
            Self::Messages | Self::Open => in_flight.max(1),
        }
    }

    /// Refuses to wait for `want` completions when only `coming` can come.
    #[inline]
    pub(crate) fn check(self, want: u32, coming: u32) -> Result<(), EnterError> {
        let endless = match self {
            Self::Counted => false,
            Self::Repeating => coming > 0,
            Self::Messages | Self::Open => true,
        };
        if want <= coming || endless {
            return Ok(());
        }
        Err(EnterError::new(0, EnterCause::NothingComing { want, coming }))
    }
}

/// Whether a request may complete without a completion, or bring one that is not its own.
#[inline]
fn may_surprise(sqe: &Sqe) -> bool {
    // As the driver likes; and a message may go to the ring that sends it.
    let surprising = [Opcode::URING_CMD, Opcode::URING_CMD128, Opcode::MSG_RING];
    sqe.flags.contains(SqeFlags::CQE_SKIP_SUCCESS) || surprising.contains(&sqe.opcode)
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
        assert_eq!(forecast, Forecast::Repeating);
        assert!(forecast.check(100, 1).is_ok());
        assert!(forecast.check(1, 0).is_err(), "nothing is in flight");
        forecast.note(&Sqe { opcode: Opcode::MSG_RING, ..Sqe::ZERO });
        assert_eq!(forecast, Forecast::Open);
        forecast.note(&Sqe { opcode: Opcode::SEND_ZC, ..Sqe::ZERO });
        assert_eq!(forecast, Forecast::Open);
        assert!(forecast.check(100, 0).is_ok());
    }

    #[test]
    fn more_that_ended_than_were_pushed_open_the_forecast_across_the_wrap() {
        let mut forecast = Forecast::Counted;
        forecast.compare(1, u32::MAX);
        forecast.compare(7, 7);
        assert_eq!(forecast, Forecast::Counted);
        forecast.compare(u32::MAX, 0);
        assert_eq!(forecast, Forecast::Open);
    }

    #[test]
    fn in_flight_survives_the_wrap_and_unannounced_completions() {
        assert_eq!(Forecast::Counted.in_flight(1, u32::MAX), 2);
        assert_eq!(Forecast::Counted.in_flight(5, 6), 0);
    }
}
