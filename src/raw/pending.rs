//! How many completions can still come, so that a wait for more is an error and not a hang.
//!
//! | entry | completions | pending count from then on |
//! |---|---|---|
//! | single-shot | 1 | counted |
//! | multishot, zero-copy send | any number, until the last | repeating |
//! | with `CQE_SKIP_SUCCESS`, commands | 0, 1, or as many as the driver likes | open |
//! | pushed on another ring, which sends here | 1 | open, once [the caller says so](Pending::open) or a completion shows it |
//!
//! An opcode that this crate does not know counts as single-shot; a caller who pushes one that
//! repeats [says so](crate::RawRing::expect_others).
//!
//! A completion from another ring shows only in the counts. Until it does, it hides one request in
//! flight, unless the caller announced such completions before.
//!
//! While the pending count is repeating, a wait is refused only if nothing is in flight; while it
//! is open, never. The kernel itself cannot know, and would wait forever.
//!
//! Leaves to others: which opcodes these are (`completions_per_opcode`); waits with a limit, which
//! are never refused (`wait_options`); what the slots of the safe API know in more detail (`ring`).

mod completions_per_opcode;

use annulus_sys::abi::Sqe;

use self::completions_per_opcode::{may_repeat, may_surprise};
use crate::setup::enter_error::{EnterCause, EnterError};

/// What is known about the completions that can still come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum Pending {
    /// One for each request in flight.
    #[default]
    Counted,
    /// Any number, while a request is in flight.
    Repeating,
    /// Also messages from senders that the safe API knows.
    Messages,
    /// Any number.
    Open,
}

impl Pending {
    /// Records that `sqe` is pushed.
    #[inline]
    pub(crate) fn note(&mut self, sqe: &Sqe) {
        if may_surprise(sqe) {
            *self = Self::Open;
        } else if may_repeat(sqe) {
            *self = (*self).max(Self::Repeating);
        }
    }

    /// Records that any number of completions may come from now on.
    pub(crate) fn open(&mut self) {
        *self = Self::Open;
    }

    /// Records that messages may come from now on, from senders that are counted elsewhere.
    pub(crate) fn expect_messages(&mut self) {
        *self = (*self).max(Self::Messages);
    }

    /// Compares how many requests were pushed and how many have ended, both modulo 2³². If more
    /// have ended, some completions were not announced by a push, and more of them may come.
    #[inline]
    pub(crate) fn compare(&mut self, pushed: u32, ended: u32) {
        if pushed.wrapping_sub(ended).cast_signed() < 0 {
            *self = Self::Open;
        }
    }

    /// How many requests have not ended, given the counts `pushed` and `ended`, both modulo 2³².
    #[inline]
    pub(crate) fn in_flight(self, pushed: u32, ended: u32) -> u32 {
        // More can have ended than were pushed: some completions were not announced by a push.
        u32::try_from(pushed.wrapping_sub(ended).cast_signed()).unwrap_or(0)
    }

    /// How many requests to assume in flight when deciding whether to ask the kernel.
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

/// A count modulo 2³².
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "it is compared modulo 2^32")]
pub(super) fn modulo(count: u64) -> u32 {
    count as u32
}

#[cfg(test)]
mod tests {
    use annulus_sys::opcode::Opcode;

    use super::*;

    #[test]
    fn more_than_is_in_flight_is_refused() {
        let pending = Pending::Counted;
        assert!(pending.check(2, 2).is_ok());
        let error = pending.check(3, 2).unwrap_err();
        assert_eq!(error.cause, EnterCause::NothingComing { want: 3, coming: 2 });
    }

    #[test]
    fn an_entry_that_may_repeat_opens_the_forecast() {
        let mut pending = Pending::Counted;
        pending.note(&Sqe { opcode: Opcode::ACCEPT, ..Sqe::ZERO });
        assert_eq!(pending, Pending::Counted);
        pending.note(&Sqe { opcode: Opcode::ACCEPT, ioprio: 1, ..Sqe::ZERO });
        assert_eq!(pending, Pending::Repeating);
        assert!(pending.check(100, 1).is_ok());
        assert!(pending.check(1, 0).is_err(), "nothing is in flight");
        pending.note(&Sqe { opcode: Opcode::MSG_RING, ..Sqe::ZERO });
        assert_eq!(pending, Pending::Open);
        pending.note(&Sqe { opcode: Opcode::SEND_ZC, ..Sqe::ZERO });
        assert_eq!(pending, Pending::Open);
        assert!(pending.check(100, 0).is_ok());
    }

    #[test]
    fn more_that_ended_than_were_pushed_open_the_forecast_across_the_wrap() {
        let mut pending = Pending::Counted;
        pending.compare(1, u32::MAX);
        pending.compare(7, 7);
        assert_eq!(pending, Pending::Counted);
        pending.compare(u32::MAX, 0);
        assert_eq!(pending, Pending::Open);
    }

    #[test]
    fn in_flight_survives_the_wrap_and_unannounced_completions() {
        assert_eq!(Pending::Counted.in_flight(1, u32::MAX), 2);
        assert_eq!(Pending::Counted.in_flight(5, 6), 0);
    }
}
