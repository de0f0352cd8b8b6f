//! A sequence of steps and a close after them, as a chain: [`Closing`].
//!
//! ```text
//!   Closing { steps, close } ─place─► (steps' places, close's place) ─take─► (outputs, outcome)
//!        └ its ChainFd belongs to this ring while entries are made, and at no other time
//! ```
//!
//! Keeps OP1: the steps name a descriptor that the close owns, and the close begins last. Leaves to
//! others: what a link means (`link`).
#![allow(unsafe_code, reason = "passes unsafe contracts on")]

use annulus_sys::flags::{Features, SqeFlags};

use super::outcome::Ends;
use super::tuples::{back, done, given_up};
use super::{Claims, Linked, PlacedStep, Position, Step, UnsubmittedChain, Waits, Watch, sealed};
use crate::lease::ticket::{Rejection, Ticket};
use crate::op::{Close, Closing, Op, RingId};
use crate::ring::Ring;

impl<L: Linked> sealed::Linked for Closing<L> {}

impl<L: Linked> Linked for Closing<L> {
    type Tickets = (L::Tickets, Ticket<Close>);
    type Placed = (L::Placed, PlacedStep<Ticket<Close>>);
    type Outputs = (L::Outputs, <Close as Op>::Output);
    const NEEDS: Features = L::NEEDS;
    const WAITS: Waits = L::WAITS.then(Waits::of::<Close>());
    const CLOSES: bool = true;

    fn entries(&self) -> u32 {
        let steps = self.steps().entries();
        if steps == 0 { 0 } else { steps.saturating_add(1) }
    }

    fn admit(&mut self, ring: RingId, claims: &mut Claims) -> Result<(), Rejection> {
        let (steps, close, _usable) = self.parts_mut(ring);
        steps.admit(ring, claims)?;
        Step::admit(close, ring, claims)
    }

    unsafe fn place<U: Default>(
        self,
        chain: &mut UnsubmittedChain<'_, U>,
        last: Position,
    ) -> Self::Placed {
        let (steps, close, _usable) = self.into_usable(chain.ring);
        // SAFETY: as promised to `place`. The number stays open until all steps have ended, because
        // its only owner is the close, which is linked behind them (OP1).
        let steps = unsafe { steps.place(chain, Position::BeforeAnother) };
        // SAFETY: as promised to `place`.
        let close = unsafe { close.place(chain, last, SqeFlags::IO_LINK) };
        (steps, close)
    }

    fn ends<U: Default>(ring: &Ring<U>, (steps, close): &Self::Placed, ends: &mut Ends) {
        L::ends(ring, steps, ends);
        ends.step(Close::end_of_step(ring, close));
    }

    fn settle<U: Default>(ring: &mut Ring<U>, (steps, close): &Self::Placed) {
        L::settle(ring, steps);
        let mut ends = Ends::new();
        L::ends(ring, steps, &mut ends);
        if ends.is_cut {
            ring.slab.ended(&close.ticket).was_cut_off();
        }
    }

    fn watch<U: Default>(watch: &mut Watch<'_, U>, (steps, close): &mut Self::Placed) {
        L::watch(watch, steps);
        watch.step::<Close>(close);
    }

    fn tickets((steps, close): Self::Placed) -> Self::Tickets {
        (L::tickets(steps), close.ticket)
    }

    fn take<U: Default>(ring: &mut Ring<U>, (steps, close): Self::Tickets) -> Self::Outputs {
        // Before the steps, since a panic of theirs goes on at once.
        let close = done::<Close, U>(ring, close);
        (L::take(ring, steps), back(close))
    }

    fn give_up<U: Default>(ring: &mut Ring<U>, (steps, close): Self::Tickets) {
        let close = given_up::<Close, U>(ring, close);
        L::give_up(ring, steps);
        back(close);
    }
}
