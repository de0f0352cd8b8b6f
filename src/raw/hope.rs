//! Whether there is hope: what the raw face knows of completions to come, beside what was pushed.
//!
//! | it sees | so |
//! |---|---|
//! | fewer in flight than are awaited | what is ready is looked at, and what is held back (CQ5) |
//! | more ready than requests in flight, none of which repeats | others send here: the forecast is open |
//! | more popped than was pushed | likewise |
//!
//! Leaves to others: what an entry may bring (`forecast`).

use annulus_sys::sq::SqeShape;

use crate::error::{EnterError, Woken};
use crate::forecast::Forecast;
use crate::patience::Patience;
use crate::raw::RawRing;

impl RawRing {
    /// [`submit_and_wait`](Self::submit_and_wait), of a caller who knows that enough can come.
    #[inline]
    pub(crate) fn submit_and_wait_unasked(&mut self, want: u32) -> Result<u32, EnterError> {
        self.check_mapped()?;
        let (sq, cq) = self.rings.both();
        self.gate.submit_and_wait(sq, cq, want)
    }

    /// [`submit_and_wait_with`](Self::submit_and_wait_with), of a caller who knows that enough can
    /// come.
    pub(crate) fn submit_and_wait_with_unasked(
        &mut self,
        want: u32,
        patience: &Patience,
    ) -> Result<(u32, Woken), EnterError> {
        self.check_mapped()?;
        let (sq, cq) = self.rings.both();
        self.gate.submit_and_wait_bounded(sq, cq, want, patience, 0)
    }

    /// Whether `want` completions can come, `queued` of the requests being not submitted. Looks at
    /// what is ready before it refuses, also at what the kernel holds back (CQ5).
    #[cold]
    pub(super) fn forecast_of(&mut self, want: u32, queued: u32) -> Result<(), EnterError> {
        self.check_mapped()?;
        let refusal = self.check(want, queued);
        if refusal.is_ok() || self.ready() >= want {
            return self.announced(queued);
        }
        if !self.gate.may_hold_back(self.rings.halves().1, 1) {
            return refusal;
        }
        self.get_events()?;
        if self.ready() >= want { self.announced(queued) } else { self.check(want, queued) }
    }

    /// That `want` completions can come, as far as pushes tell.
    fn check(&self, want: u32, queued: u32) -> Result<(), EnterError> {
        self.forecast.check(want, self.in_flight().saturating_sub(queued))
    }

    /// Takes note of it when more is ready than was submitted: others have sent something.
    fn announced(&mut self, queued: u32) -> Result<(), EnterError> {
        // One request that repeats may have brought all of them.
        let counted = self.forecast == Forecast::Counted;
        if counted && self.ready() > self.in_flight().saturating_sub(queued) {
            self.forecast.open();
        }
        Ok(())
    }

    /// At least how many requests are pushed and not submitted.
    pub(super) fn queued(&mut self) -> u32 {
        let polled = self.gate.polls();
        let sq = self.rings.sq();
        // What was not submitted cannot complete.
        let (_, published, written) = sq.indices();
        let slots = if polled { written.distance_from(published) } else { sq.unconsumed() };
        // At least so many requests: on a mixed ring one may take two slots, and padding before it.
        if sq.shape() == SqeShape::Mixed { slots.div_ceil(3) } else { slots }
    }

    /// Takes note of it when more has been popped than was pushed.
    #[inline]
    pub(crate) fn compare(&mut self) {
        let (sq, cq) = self.rings.halves();
        self.forecast.compare(sq.pushed(), cq.ended());
    }

    /// Takes note that messages may come, from senders that the safe face counts.
    pub(crate) fn expect_messages(&mut self) {
        self.forecast.expect_messages();
    }
}
