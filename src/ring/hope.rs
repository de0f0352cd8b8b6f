//! Whether there is hope: a wait without a limit for what can never come is an error.
//!
//! | can still come | as many as |
//! |---|---|
//! | what is ready or kept | there are |
//! | the end of an operation in flight | there are, and one more for each result before a notification |
//! | what a multishot brings | it likes, while it is in flight and wanted |
//! | messages | there may be, while there is a sender |
//! | what the caller's own entries bring ([`Ring::raw_mut`]) | the raw face reckons with |
//!
//! It is the slots that know what is in flight, not a count of completions, which
//! messages and forgeries put wrong. Leaves to others: the raw face's forecast (`forecast`).

use crate::error::{EnterCause, EnterError};
use crate::forecast::Forecast;
use crate::ring::Ring;

impl<U: Default> Ring<U> {
    /// Refuses to wait for `want` events that can never come. The slots know what is in flight, and
    /// the mailbox whether anybody can send; looks at what is ready before it refuses, also at what
    /// the kernel holds back (CQ5).
    ///
    /// Says whether the ring is still [plain](Self::is_plain): nothing had to be taken.
    #[cold]
    pub(crate) fn hope_for(&mut self, want: u32) -> Result<bool, EnterError> {
        if self.may_come(0) >= want || self.raw.ready() >= want {
            return Ok(true);
        }
        self.pull(None)?;
        let kept = u32::try_from(self.backlog.count(&self.slab)).unwrap_or(u32::MAX);
        let coming = self.may_come(kept);
        if coming >= want {
            return Ok(self.is_plain());
        }
        Err(EnterError::new(0, EnterCause::NothingComing { want, coming }))
    }

    /// How many events can be shown at most, `kept` being there: all ones for any number.
    pub(crate) fn may_come(&self, kept: u32) -> u32 {
        // Entries of the caller's own (`raw_mut`) beside the operations, and the ring's.
        let others = self.raw.in_flight().saturating_sub(self.slab.in_flight() + self.own.count());
        let endless = self.own.has_senders()
            || self.raw.forecast() == Forecast::Open
            || (others > 0 && self.raw.forecast() >= Forecast::Repeating);
        match self.slab.coming() {
            Some(coming) if !endless => kept.saturating_add(coming).saturating_add(others),
            _ => u32::MAX,
        }
    }
}
