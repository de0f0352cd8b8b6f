//! Pending completions: what the raw API learns about them from what is ready, not from pushes.
//!
//! | when it sees | it |
//! |---|---|
//! | fewer requests written and in flight than completions wanted | looks at what is ready, and at what is held back (CQ5) |
//! | more completions ready than requests in flight, none of them multishot | knows that others send here: the pending count is open |
//! | more completions popped than entries pushed | knows that others send here: the pending count is open |
//!
//! Leaves to others: which completions an entry can have (`pending`).

use annulus_sys::sq::SqeShape;

use crate::raw::RawRing;
use crate::raw::pending::{Pending, modulo};
use crate::setup::enter_error::EnterError;

impl RawRing {
    /// Whether `want` completions can come, given that `queued` requests are not submitted yet.
    /// Before it refuses, looks at what is ready, and at what the kernel holds back (CQ5).
    #[cold]
    pub(super) fn check_pending(&mut self, want: u32, queued: u32) -> Result<(), EnterError> {
        self.check_mapped()?;
        let refusal = self.check(want, queued);
        if refusal.is_ok() || self.ready() >= want {
            return self.announced(queued);
        }
        if !self.driver.may_hold_back(self.rings.halves().1, 1) {
            return refusal;
        }
        self.get_events()?;
        if self.ready() >= want { self.announced(queued) } else { self.check(want, queued) }
    }

    /// Whether `want` completions can come, judging by pushes only.
    fn check(&self, want: u32, queued: u32) -> Result<(), EnterError> {
        self.pending.check(want, self.in_flight().saturating_sub(queued))
    }

    /// If more completions are ready than requests were submitted, others have sent some: records
    /// that.
    fn announced(&mut self, queued: u32) -> Result<(), EnterError> {
        // A single multishot request may have posted all of them.
        let counted = self.pending == Pending::Counted;
        if counted && self.ready() > self.in_flight().saturating_sub(queued) {
            self.pending.open();
        }
        Ok(())
    }

    /// At least how many requests are pushed and not submitted.
    pub(super) fn queued(&mut self) -> u32 {
        let polled = self.driver.polls();
        let sq = self.rings.sq();
        // Requests that were not submitted cannot complete.
        let indices = sq.indices();
        let unpublished = indices.written.distance_from(indices.tail);
        let slots = if polled { unpublished } else { sq.unconsumed() };
        // A lower bound on requests: on a mixed ring, one request may take two slots and one of
        // padding.
        if sq.shape() == SqeShape::Mixed { slots.div_ceil(3) } else { slots }
    }

    /// If more completions were popped than entries pushed, records that others send here.
    #[inline]
    pub(crate) fn compare(&mut self) {
        // Nearly always, no more have ended than the enters are known to have submitted.
        let left = self.driver.submitted.wrapping_sub(self.rings.halves().1.ended());
        if left.cast_signed() < 0 {
            self.compare_pushed();
        }
    }

    #[cold]
    fn compare_pushed(&mut self) {
        let (sq, cq) = self.rings.halves();
        self.pending.compare(sq.pushed(), modulo(cq.ended()));
    }

    /// Records that messages may come from senders that the safe API counts.
    pub(crate) fn expect_messages(&mut self) {
        self.pending.expect_messages();
    }
}
