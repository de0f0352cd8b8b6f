//! Handing a chain over, and waiting for it.
//!
//! ```text
//!   slots counted ─► entries set aside ─► each step moored, asked, pushed ─► committed
//!                                             │ panics
//!                                             └─► every step out of its slot again
//! ```
//!
//! Keeps OP1. Leaves to others: what a tie means (`link`).
#![allow(unsafe_code, reason = "hands the kernel what operations point to")]

use super::{Boarding, ChainOutcome, ChainTicket, Claims, Linked};
use crate::error::EnterCause;
use crate::inflight::Life;
use crate::own::NEVER_BEGINS;
use crate::ring::Ring;
use crate::ticket::{Rejected, Rejection, Unfinished};

impl<U: Default> Ring<U> {
    /// Hands a chain over: each step begins when the one before allows it. It enters the kernel
    /// with the next [`submit_all`](Self::submit_all) or wait, as one.
    ///
    /// # Errors
    ///
    /// [`Rejected`] gives the whole chain back, with the reason.
    pub fn submit_chain<L: Linked + 'static>(
        &mut self,
        chain: L,
    ) -> Result<ChainTicket<L>, Rejected<L>> {
        // SAFETY: `'static`, so that it may stay in its slots for ever (OP1).
        unsafe { self.place_chain(chain, Life::Static) }
    }

    /// # Safety
    ///
    /// No lifetime in `L` may end before its slots are empty again.
    pub(crate) unsafe fn place_chain<L: Linked>(
        &mut self,
        chain: L,
        life: Life,
    ) -> Result<ChainTicket<L>, Rejected<L>> {
        const { L::WAITS.check() }
        let reject = |op, why| Err(Rejected { op, user: (), why });
        let (count, entries) = (L::ENTRIES, self.raw.sq_entries());
        if count > entries {
            return reject(chain, Rejection::Chain { count, entries });
        }
        if !self.raw.features().contains(L::NEEDS) {
            return reject(chain, Rejection::Unsupported { needs: L::NEEDS });
        }
        let mut claims = Claims::default();
        if let Err(why) = chain.admit(self.id, &mut claims) {
            return reject(chain, why);
        }
        let in_order = claims.in_order;
        drop(claims); // Each step claims again in its slot, and nothing comes between.
        if (life == Life::Scoped || L::WAITS.notifies() || in_order)
            && self.slab.may_wait()
            && let Err(why) = self.go_past_drained()
        {
            return reject(chain, why);
        }
        if L::WAITS.drains() && self.own.keeps_watch() {
            return reject(chain, NEVER_BEGINS);
        }
        if !self.slab.has_vacant(count) {
            return reject(chain, Rejection::Slots);
        }
        let Self { raw, slab, id, .. } = self;
        let slots = match raw.reserve(count) {
            Ok(slots) => slots,
            Err(error) if error.cause == EnterCause::OutOfRequests => {
                return reject(chain, Rejection::Queue);
            }
            Err(error) if error.cause == EnterCause::OtherProcess => {
                return reject(chain, Rejection::OtherProcess);
            }
            Err(error) => return reject(chain, Rejection::Enter(error)),
        };
        let mut aboard = Boarding { slab, slots: Some(slots), ring: *id, life, last: None };
        // SAFETY: as promised to `place_chain`.
        let tickets = unsafe { chain.board(&mut aboard) };
        if let Some(slots) = aboard.slots.take() {
            slots.commit();
            aboard.slab.note_drained(L::WAITS.drains()); // And not if a step panicked.
        }
        Ok(ChainTicket(tickets))
    }

    /// Gives up the claims to all outputs of the chain, as [`detach`](Self::detach) does to one.
    /// Its steps go on.
    ///
    /// # Panics
    ///
    /// When the chain is of another ring.
    pub fn detach_chain<L: Linked>(&mut self, chain: ChainTicket<L>) {
        L::give_up(self, chain.into_tickets());
    }

    /// Waits until every step of the chain has completed, and returns their outputs, and how far it
    /// came. What else completes in the meantime is kept for [`reap`](Self::reap).
    ///
    /// # Errors
    ///
    /// [`Unfinished`] gives the tickets back, when the kernel cannot go on.
    ///
    /// # Panics
    ///
    /// When the chain is of another ring. Its claims are lost, and its slots stay taken there.
    pub fn wait_chain<L: Linked>(
        &mut self,
        mut tickets: ChainTicket<L>,
    ) -> Result<ChainOutcome<L::Outputs>, Unfinished<ChainTicket<L>>> {
        loop {
            if let Some(end) = L::end(self, &tickets.0) {
                let outputs = L::take(self, tickets.into_tickets());
                self.backlog.drop_redeemed(&self.slab);
                return Ok(ChainOutcome { outputs, end });
            }
            // Each step's end is kept: if the wait fails, it is still to be shown.
            let until = L::watch(self, &mut tickets.0);
            match self.turn(None, until) {
                Ok(()) => {}
                // A clock of ours, which is seen to next.
                Err(why) if until.is_some() && why.cause == EnterCause::TimedOut => {}
                Err(why) => return Err(Unfinished { ticket: tickets, why }),
            }
        }
    }
}
