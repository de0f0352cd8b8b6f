//! Whether the awaited events can still come: a wait without a timeout that could never end is an
//! error.
//!
//! | can still come | how many |
//! |---|---|
//! | completions that are ready or kept | their number |
//! | the end of each operation in flight | one, and one more for a result before a notification |
//! | completions of a multishot | any number, while it is in flight and not detached |
//! | messages | any number, while there is a sender |
//! | completions of raw entries ([`Ring::raw_mut`]) | the raw API's pending count |
//!
//! The slots know what is in flight. A count of completions would not, because messages and forged
//! completions make it wrong. Leaves to others: the raw API's pending count (`raw::pending`).

use crate::raw::pending::Pending;
use crate::ring::Ring;
use crate::setup::enter_error::{EnterCause, EnterError};

impl<U: Default> Ring<U> {
    /// Refuses to wait for `want` events that can never come. The slots know which operations are
    /// in flight, and the mailbox whether a sender exists. Before refusing, looks at completions
    /// that are ready, including those that the kernel holds back (CQ5).
    ///
    /// Returns whether the ring is still [plain](Self::is_plain): no completion had to be taken.
    #[cold]
    pub(crate) fn check_can_come(&mut self, want: u32) -> Result<bool, EnterError> {
        if self.may_come(0) >= want || self.raw.ready() >= want {
            return Ok(true);
        }
        self.pull(None)?;
        let kept = u32::try_from(self.undelivered.count(&self.slab)).unwrap_or(u32::MAX);
        let coming = self.may_come(kept);
        if coming >= want {
            return Ok(self.is_plain());
        }
        Err(EnterError::new(0, EnterCause::NothingComing { want, coming }))
    }

    /// The most events that can be shown, if `kept` are kept already; `u32::MAX` for any number.
    pub(crate) fn may_come(&self, kept: u32) -> u32 {
        // The caller's own entries (`raw_mut`), in addition to operations and the ring's internal
        // requests.
        let others =
            self.raw.in_flight().saturating_sub(self.slab.in_flight() + self.internal.count());
        let endless = self.internal.has_senders()
            || self.raw.pending() == Pending::Open
            // Messages that came were counted as the ends of the caller's own entries.
            || (self.internal.is_lent() && self.raw.pending() >= Pending::Messages)
            || (others > 0 && self.raw.pending() >= Pending::Repeating);
        match self.slab.coming() {
            Some(coming) if !endless => kept.saturating_add(coming).saturating_add(others),
            _ => u32::MAX,
        }
    }
}
