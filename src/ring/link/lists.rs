//! Chains whose length is known only at run time: `Vec<S>`, and `(Vec<S>, T)`.
//!
//! ```text
//!   Vec<S> ─place─► Vec<PlacedStep<S>> ─tickets─► Vec<Ticket> ─take─► Vec<Output>
//! ```
//!
//! Each arrow keeps the memory of the `Vec` where the new items are no larger than the old ones.
//! A list without steps is refused: it has 0 entries.
//!
//! Keeps OP1. Leaves to others: what a link means (`link`), chains of a fixed length (`tuples`).
#![allow(unsafe_code, reason = "passes unsafe contracts on")]

use annulus_sys::flags::{Features, SqeFlags};

use super::outcome::Ends;
use super::tuples::{back, done, given_up};
use super::{Claims, Linked, PlacedStep, Position, Step, UnsubmittedChain, Waits, Watch, sealed};
use crate::lease::ticket::Rejection;
use crate::op::RingId;
use crate::ring::Ring;

const SOFT: SqeFlags = SqeFlags::IO_LINK;

/// How many entries these steps need.
fn entries_of<S: Step>(steps: &[S]) -> u32 {
    u32::try_from(steps.len()).unwrap_or(u32::MAX).saturating_mul(S::ENTRIES)
}

fn admit_all<S: Step>(steps: &mut [S], ring: RingId, claims: &mut Claims) -> Result<(), Rejection> {
    steps.iter_mut().try_for_each(|step| step.admit(ring, claims))
}

/// The last of the steps is linked by `last`, the others to the next.
///
/// # Safety
///
/// No lifetime in `steps` may end before their slots are empty again.
unsafe fn place_all<S: Step, U: Default>(
    steps: Vec<S>,
    chain: &mut UnsubmittedChain<'_, U>,
    last: Position,
) -> Vec<PlacedStep<S::Ticket>> {
    let mut left = steps.len();
    let place = |step: S| {
        left -= 1;
        let position = if left == 0 { last } else { Position::BeforeAnother };
        // SAFETY: as promised to `place_all`.
        unsafe { step.place(chain, position, SOFT) }
    };
    steps.into_iter().map(place).collect()
}

fn tickets_of<T>(placed: Vec<PlacedStep<T>>) -> Vec<T> {
    placed.into_iter().map(|step| step.ticket).collect()
}

impl<S: Step> sealed::Linked for Vec<S> {}
impl<S: Step, T: Step> sealed::Linked for (Vec<S>, T) {}

impl<S: Step> Linked for Vec<S> {
    type Tickets = Vec<S::Ticket>;
    type Placed = Vec<PlacedStep<S::Ticket>>;
    type Outputs = Vec<S::Output>;
    const NEEDS: Features = S::NEEDS;
    const WAITS: Waits = S::WAITS.then(S::WAITS);

    fn entries(&self) -> u32 {
        entries_of(self)
    }

    fn admit(&mut self, ring: RingId, claims: &mut Claims) -> Result<(), Rejection> {
        admit_all(self, ring, claims)
    }

    unsafe fn place<U: Default>(
        self,
        chain: &mut UnsubmittedChain<'_, U>,
        last: Position,
    ) -> Self::Placed {
        // SAFETY: as promised to `place`.
        unsafe { place_all(self, chain, last) }
    }

    fn ends<U: Default>(ring: &Ring<U>, placed: &Self::Placed, ends: &mut Ends) {
        placed.iter().for_each(|step| ends.step(S::end_of_step(ring, step)));
    }

    fn watch<U: Default>(watch: &mut Watch<'_, U>, placed: &mut Self::Placed) {
        placed.iter_mut().for_each(|step| watch.step::<S>(step));
    }

    fn tickets(placed: Self::Placed) -> Self::Tickets {
        tickets_of(placed)
    }

    fn take<U: Default>(ring: &mut Ring<U>, tickets: Self::Tickets) -> Self::Outputs {
        // All of them, before a panic goes on.
        let all: Vec<_> = tickets.into_iter().map(|ticket| done::<S, U>(ring, ticket)).collect();
        all.into_iter().map(back).collect()
    }

    fn give_up<U: Default>(ring: &mut Ring<U>, tickets: Self::Tickets) {
        let all: Vec<_> = tickets.into_iter().map(|it| given_up::<S, U>(ring, it)).collect();
        all.into_iter().for_each(back);
    }
}

impl<S: Step, T: Step> Linked for (Vec<S>, T) {
    type Tickets = (Vec<S::Ticket>, T::Ticket);
    type Placed = (Vec<PlacedStep<S::Ticket>>, PlacedStep<T::Ticket>);
    type Outputs = (Vec<S::Output>, T::Output);
    const NEEDS: Features = S::NEEDS.union(T::NEEDS);
    const WAITS: Waits = S::WAITS.then(S::WAITS).then(T::WAITS);

    fn entries(&self) -> u32 {
        let steps = entries_of(&self.0);
        if steps == 0 { 0 } else { steps.saturating_add(T::ENTRIES) }
    }

    fn admit(&mut self, ring: RingId, claims: &mut Claims) -> Result<(), Rejection> {
        admit_all(&mut self.0, ring, claims)?;
        self.1.admit(ring, claims)
    }

    unsafe fn place<U: Default>(
        self,
        chain: &mut UnsubmittedChain<'_, U>,
        last: Position,
    ) -> Self::Placed {
        // SAFETY: as promised to `place`.
        let steps = unsafe { place_all(self.0, chain, Position::BeforeAnother) };
        // SAFETY: as promised to `place`.
        let last = unsafe { self.1.place(chain, last, SOFT) };
        (steps, last)
    }

    fn ends<U: Default>(ring: &Ring<U>, (steps, last): &Self::Placed, ends: &mut Ends) {
        steps.iter().for_each(|step| ends.step(S::end_of_step(ring, step)));
        ends.step(T::end_of_step(ring, last));
    }

    fn watch<U: Default>(watch: &mut Watch<'_, U>, (steps, last): &mut Self::Placed) {
        steps.iter_mut().for_each(|step| watch.step::<S>(step));
        watch.step::<T>(last);
    }

    fn tickets((steps, last): Self::Placed) -> Self::Tickets {
        (tickets_of(steps), last.ticket)
    }

    fn take<U: Default>(ring: &mut Ring<U>, (steps, last): Self::Tickets) -> Self::Outputs {
        let all: Vec<_> = steps.into_iter().map(|ticket| done::<S, U>(ring, ticket)).collect();
        let last = done::<T, U>(ring, last);
        (all.into_iter().map(back).collect(), back(last))
    }

    fn give_up<U: Default>(ring: &mut Ring<U>, (steps, last): Self::Tickets) {
        let all: Vec<_> = steps.into_iter().map(|it| given_up::<S, U>(ring, it)).collect();
        let last = given_up::<T, U>(ring, last);
        all.into_iter().chain([last]).for_each(back);
    }
}
