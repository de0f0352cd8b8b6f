//! Taking completions, and asking for those that the kernel holds back.
//!
//! ```text
//!   pop     the ring ──► one                      never enters
//!   peek    the ring, else the kernel ──► one     enters if the ring is empty and more may be held
//!   drain   the ring, and the kernel ──► all      enters while the kernel says that it holds more
//! ```
//!
//! The kernel holds completions back when the ring overflows, and when it defers task work; with
//! `TASKRUN_FLAG` it says so in the shared flags. CQ5: nothing is presumed absent that was not
//! asked for. Each completion is out of the ring before the caller's code sees it, so that code may
//! push, panic, or drop the ring. Others may complete as fast as we take: a drain comes back when
//! it has seen four times what the ring holds, and a thousand at least.

use annulus_sys::abi::{Cqe, Cqe32};
use annulus_sys::cq::CompletionRing;

use crate::enter::Gate;
use crate::error::EnterError;
use crate::raw::RawRing;

impl RawRing {
    /// Takes the oldest completion in the ring. Never enters the kernel, and so may miss one that
    /// the kernel holds back: see [`peek`](Self::peek).
    #[inline]
    pub fn pop(&mut self) -> Option<Cqe> {
        let cqe = self.rings_mut().cq().pop();
        self.compare();
        cqe
    }

    /// [`pop`](Self::pop), with the second 16 bytes of a ring with `CQE32` or `CQE_MIXED`.
    pub fn pop_wide(&mut self) -> Option<Cqe32> {
        let cqe = self.rings_mut().cq().pop_wide();
        self.compare();
        cqe
    }

    /// Takes the oldest completion, asking the kernel first for what it holds back if the ring is
    /// empty and that may be (CQ5). `None` is the truth, nothing had completed: but where others
    /// send here, only after [`expect_others`](Self::expect_others), since a message looks like the
    /// end of a request.
    ///
    /// # Errors
    ///
    /// [`EnterError`] from asking.
    #[inline]
    pub fn peek(&mut self) -> Result<Option<Cqe>, EnterError> {
        if let Some(cqe) = self.pop() {
            return Ok(Some(cqe));
        }
        self.fetch()?;
        Ok(self.pop())
    }

    /// Takes every completion there is, oldest first, and returns how many. Each counts as taken
    /// before `each` sees it, even when `each` unwinds.
    ///
    /// Also those that the kernel says it holds back, and those that it holds back without a sign
    /// (`DEFER_TASKRUN` or `COOP_TASKRUN` without `TASKRUN_FLAG`, `IOPOLL`) if the ring was empty
    /// (CQ5; where others send here, as for [`peek`](Self::peek)). Where they come as fast as they
    /// are taken, it ends after four times as many as the ring holds; what is left comes next time.
    ///
    /// # Errors
    ///
    /// [`EnterError`] from asking for what is held back; `each` has seen what came before.
    #[inline]
    pub fn drain(&mut self, mut each: impl FnMut(Cqe)) -> Result<u32, EnterError> {
        let (mut total, mut asked) = (0, false);
        loop {
            let count = self.rings_mut().cq().drain(&mut each);
            total += count;
            self.compare();
            if !self.may_bring_more(total, count, &mut asked)? {
                return Ok(total);
            }
        }
    }

    /// [`drain`](Self::drain), with the second 16 bytes of each completion.
    ///
    /// # Errors
    ///
    /// As [`drain`](Self::drain).
    pub fn drain_wide(&mut self, mut each: impl FnMut(Cqe32)) -> Result<u32, EnterError> {
        let (mut total, mut asked) = (0, false);
        loop {
            let count = self.rings_mut().cq().drain_wide(&mut each);
            total += count;
            self.compare();
            if !self.may_bring_more(total, count, &mut asked)? {
                return Ok(total);
            }
        }
    }

    /// Asks the kernel for every completion that it holds back (CQ5), with one system call.
    ///
    /// # Errors
    ///
    /// [`EnterError`] from asking.
    pub fn get_events(&mut self) -> Result<(), EnterError> {
        self.check_mapped()?;
        let (rings, gate) = self.parts();
        gate.get_events(rings.halves().1)
    }

    /// How many completions are ready to pop.
    pub fn ready(&mut self) -> u32 {
        self.rings_mut().cq().ready()
    }

    /// After a drain that took `count`, and `total` with those before: whether the kernel was asked
    /// for more.
    #[inline]
    pub(crate) fn may_bring_more(
        &mut self,
        total: u32,
        count: u32,
        asked: &mut bool,
    ) -> Result<bool, EnterError> {
        let maybe_more = Gate::flagged(self.rings().halves().1) || total == 0;
        // Asking brought nothing: there is nothing.
        if (*asked && count == 0) || !maybe_more || is_flood(self.rings().halves().1, total) {
            return Ok(false);
        }
        *asked = true;
        self.fetch()
    }

    /// Asks for what the kernel may hold back, and says whether it was asked.
    #[cold]
    fn fetch(&mut self) -> Result<bool, EnterError> {
        self.check_mapped()?;
        let in_flight = self.forecast().upper_bound(self.in_flight());
        let (rings, gate) = self.parts();
        let cq = rings.halves().1;
        if !gate.may_hold_back(cq, in_flight) {
            return Ok(false);
        }
        gate.get_events(cq).map(|()| true)
    }
}

/// Whether `total` completions are enough at once: others can complete as fast as we take, and are
/// not to keep us for ever. Those that are left come the next time. A thousand are no flood, since
/// small rings overflow by more than they hold.
pub(crate) fn is_flood(cq: &CompletionRing, total: u32) -> bool {
    total >= cq.entries().saturating_mul(4).max(1024)
}
