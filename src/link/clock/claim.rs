//! The claim to an operation with a clock, by itself: out of a chain that was taken apart.
//!
//! ```text
//!   TimedTicket ─┬─ operation ─► the step's own slot
//!                └─ clock ─────► a second one
//! ```
//!
//! Both slots come back together. Leaves to others: when the time is up (`clock`).

use super::{TimedTicket, Within};
use crate::link::{Step, Timed};
use crate::op::Op;
use crate::ring::{Redeem, Ring, sealed};
use crate::ticket::Ticket;

impl<O> TimedTicket<O> {
    /// The operation, without its clock: to [cancel](Ring::cancel) it, to tell its events by its
    /// [slot](Ticket::slot), to take the [next](Ring::next) that it brings.
    pub fn operation(&self) -> &Ticket<O> {
        &self.op
    }
}

impl<O> sealed::Redeem for TimedTicket<O> {}

impl<O: Op> Redeem for TimedTicket<O> {
    type Output = Timed<O::Output>;

    fn quiet(&self) -> Option<u32> {
        None // Two slots: if the wait fails, each end is still to be shown.
    }

    fn redeem<U: Default>(self, ring: &mut Ring<U>) -> Result<Timed<O::Output>, Self> {
        let timed = Within::<O>::take(ring, self)?;
        ring.backlog.drop_redeemed(&ring.slab);
        Ok(timed)
    }

    fn give_up<U: Default>(self, ring: &mut Ring<U>) {
        let Self { op, clock, .. } = self;
        ring.detach(clock); // First: nobody's code runs for it but the word's.
        ring.detach(op);
    }
}
