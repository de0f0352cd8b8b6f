//! The ticket of an operation with a time limit, once its chain was taken apart.
//!
//! ```text
//!   TimedTicket ─┬─ operation ─► the step's own slot
//!                └─ timeout ───► a second slot
//! ```
//!
//! Both slots are freed together. Leaves to others: when the time is up (`link_timeout`).

use super::{TimedTicket, Within};
use crate::lease::ticket::Ticket;
use crate::op::Op;
use crate::ring::link::{Step, Timed};
use crate::ring::{Redeem, Ring, Submitted, sealed};

impl<O> TimedTicket<O> {
    /// The operation's own ticket: to take its [next](Ring::next) completion, or to submit a
    /// [`Cancel`](crate::op::Cancel) of it.
    pub fn operation(&self) -> &Ticket<O> {
        &self.op
    }

    /// The number of the operation's slot in the ring, as [`Ticket::slot`].
    pub fn slot(&self) -> u32 {
        self.op.slot()
    }

    /// The operation's own ticket, without that of its linked timeout: nothing will wait for it.
    pub(in crate::ring) fn without_clock<U: Default>(self, ring: &mut Ring<U>) -> Ticket<O> {
        ring.detach(self.clock);
        self.op
    }

    /// The number of the slot of its linked timeout, which ends with an event of its own.
    pub fn timeout_slot(&self) -> u32 {
        self.clock.slot()
    }
}

impl<O> sealed::Redeem for TimedTicket<O> {}
impl<O> sealed::Submitted for TimedTicket<O> {}

impl<O> Submitted for TimedTicket<O> {
    fn on<U: Default>(&self, ring: &Ring<U>) -> u64 {
        self.op.on(ring)
    }
}

impl<O: Op> Redeem for TimedTicket<O> {
    type Output = Timed<O::Output>;

    fn quiet(&self) -> Option<u32> {
        None // Two slots: if the wait fails, each end is still to be shown.
    }

    fn awaited<U: Default>(&self, ring: &Ring<U>) -> u32 {
        ring.check(&self.op);
        let only_the_clock = ring.slab.is_done(&self.op) && !ring.slab.is_done(&self.clock);
        if only_the_clock { self.clock.slot() } else { self.op.slot() }
    }

    #[track_caller]
    fn redeem<U: Default>(self, ring: &mut Ring<U>) -> Result<Timed<O::Output>, Self> {
        let timed = Within::<O>::take(ring, self)?;
        ring.undelivered.drop_redeemed(&ring.slab);
        Ok(timed)
    }

    #[track_caller]
    fn give_up<U: Default>(self, ring: &mut Ring<U>) {
        let Self { op, clock, .. } = self;
        ring.detach(clock); // First: only the drop of its user value runs the caller's code.
        ring.detach(op);
    }
}
