//! A step after which its chain goes on, however the step ends: `IOSQE_IO_HARDLINK`.
//!
//! ```text
//!   read.hard() ──short, or an error──► close        read ──short, or an error──► (cancelled)
//! ```
//!
//! Only a refusal of the step, before it runs, still breaks the chain. Leaves to others: what a
//! link means (`link`).
#![allow(unsafe_code, reason = "passes unsafe contracts on")]

use std::time::Instant;

use annulus_sys::flags::{Features, SqeFlags};

use super::outcome::Breaks;
use super::{Claims, PlacedStep, Position, Step, StepEnd, UnsubmittedChain, Waits, sealed};
use crate::lease::ticket::Rejection;
use crate::op::RingId;
use crate::ring::Ring;

/// A step after which the chain goes on, however it ends. Made by [`Step::hard`].
#[derive(Debug)]
pub struct Hard<S>(pub(in crate::ring) S);

impl<S> Hard<S> {
    /// Gives the step back, for example that of a chain which was rejected.
    pub fn into_inner(self) -> S {
        self.0
    }
}

impl<S> sealed::Step for Hard<S> {}

impl<S: Step> Step for Hard<S> {
    type Ticket = S::Ticket;
    type Output = S::Output;
    const ENTRIES: u32 = S::ENTRIES;
    const NEEDS: Features = S::NEEDS;
    const WAITS: Waits = S::WAITS;

    fn admit(&mut self, ring: RingId, claims: &mut Claims) -> Result<(), Rejection> {
        self.0.admit(ring, claims)
    }

    unsafe fn place<U: Default>(
        self,
        chain: &mut UnsubmittedChain<'_, U>,
        position: Position,
        _: SqeFlags,
    ) -> PlacedStep<S::Ticket> {
        // SAFETY: as promised to `place`.
        let PlacedStep { ticket, .. } =
            unsafe { self.0.place(chain, position, SqeFlags::IO_HARDLINK) };
        PlacedStep { ticket, breaks: Breaks::Refusals }
    }

    fn end_of_step<U: Default>(ring: &Ring<U>, placed: &PlacedStep<S::Ticket>) -> Option<StepEnd> {
        S::end_of_step(ring, placed)
    }

    fn watch<U: Default>(ring: &mut Ring<U>, ticket: &mut S::Ticket) -> Option<Instant> {
        S::watch(ring, ticket)
    }

    fn missing<U: Default>(ring: &Ring<U>, ticket: &S::Ticket) -> Option<u32> {
        S::missing(ring, ticket)
    }

    fn take<U: Default>(ring: &mut Ring<U>, ticket: S::Ticket) -> Result<S::Output, S::Ticket> {
        S::take(ring, ticket)
    }

    fn give_up<U: Default>(ring: &mut Ring<U>, ticket: S::Ticket) {
        S::give_up(ring, ticket);
    }
}
