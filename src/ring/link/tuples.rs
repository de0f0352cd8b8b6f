//! Sequences of steps: tuples and arrays, each step linked to the next.
//!
//! | sequence | tickets | outputs |
//! |---|---|---|
//! | `(A,)`, `(A, B)`, `(A, B, C)`, `(A, B, C, D)` | a tuple | a tuple |
//! | `[S; N]` | an array | an array |
//!
//! Leaves to others: what a link means (`link`).
#![allow(unsafe_code, reason = "passes unsafe contracts on")]

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;

use annulus_sys::flags::{Features, SqeFlags};

use super::outcome::Ends;
use super::{Claims, Linked, PlacedStep, Position, Step, UnsubmittedChain, Waits, Watch, sealed};
use crate::lease::ticket::Rejection;
use crate::op::RingId;
use crate::ring::Ring;

const SOFT: SqeFlags = SqeFlags::IO_LINK;

/// The output of a step that is done. If the caller's code panics, the panic is resumed only when
/// the other steps are out of their slots too.
pub(super) fn done<S: Step, U: Default>(
    ring: &mut Ring<U>,
    ticket: S::Ticket,
) -> thread::Result<S::Output> {
    let taken = catch_unwind(AssertUnwindSafe(|| S::take(ring, ticket)))?;
    Ok(taken.unwrap_or_else(|_| unreachable!("OP2: every step was done")))
}

/// Gives a step up. If the caller's code panics, the panic is resumed only when the others are
/// given up too.
pub(super) fn given_up<S: Step, U: Default>(
    ring: &mut Ring<U>,
    ticket: S::Ticket,
) -> thread::Result<()> {
    catch_unwind(AssertUnwindSafe(|| S::give_up(ring, ticket)))
}

pub(super) fn back<T>(taken: thread::Result<T>) -> T {
    taken.unwrap_or_else(|panic| resume_unwind(panic))
}

impl<A: Step> sealed::Linked for (A,) {}
impl<A: Step, B: Step> sealed::Linked for (A, B) {}
impl<A: Step, B: Step, C: Step> sealed::Linked for (A, B, C) {}
impl<A: Step, B: Step, C: Step, D: Step> sealed::Linked for (A, B, C, D) {}
impl<S: Step, const N: usize> sealed::Linked for [S; N] {}

impl<A: Step> Linked for (A,) {
    type Tickets = (A::Ticket,);
    type Placed = (PlacedStep<A::Ticket>,);
    type Outputs = (A::Output,);
    const NEEDS: Features = A::NEEDS;
    const WAITS: Waits = A::WAITS;

    fn entries(&self) -> u32 {
        A::ENTRIES
    }

    fn admit(&mut self, ring: RingId, claims: &mut Claims) -> Result<(), Rejection> {
        self.0.admit(ring, claims)
    }

    unsafe fn place<U: Default>(
        self,
        chain: &mut UnsubmittedChain<'_, U>,
        last: Position,
    ) -> Self::Placed {
        // SAFETY: as promised to `place`.
        let a = unsafe { self.0.place(chain, last, SOFT) };
        (a,)
    }

    fn ends<U: Default>(ring: &Ring<U>, placed: &Self::Placed, ends: &mut Ends) {
        ends.step(A::end_of_step(ring, &placed.0));
    }

    fn watch<U: Default>(watch: &mut Watch<'_, U>, placed: &mut Self::Placed) {
        watch.step::<A>(&mut placed.0);
    }

    fn tickets(placed: Self::Placed) -> Self::Tickets {
        (placed.0.ticket,)
    }

    fn take<U: Default>(ring: &mut Ring<U>, tickets: Self::Tickets) -> Self::Outputs {
        let a = done::<A, U>(ring, tickets.0);
        (back(a),)
    }

    fn give_up<U: Default>(ring: &mut Ring<U>, tickets: Self::Tickets) {
        let a = given_up::<A, U>(ring, tickets.0);
        [a].into_iter().for_each(back);
    }
}

impl<A: Step, B: Step> Linked for (A, B) {
    type Tickets = (A::Ticket, B::Ticket);
    type Placed = (PlacedStep<A::Ticket>, PlacedStep<B::Ticket>);
    type Outputs = (A::Output, B::Output);
    const NEEDS: Features = A::NEEDS.union(B::NEEDS);
    const WAITS: Waits = A::WAITS.then(B::WAITS);

    fn entries(&self) -> u32 {
        A::ENTRIES + B::ENTRIES
    }

    fn admit(&mut self, ring: RingId, claims: &mut Claims) -> Result<(), Rejection> {
        self.0.admit(ring, claims)?;
        self.1.admit(ring, claims)
    }

    unsafe fn place<U: Default>(
        self,
        chain: &mut UnsubmittedChain<'_, U>,
        last: Position,
    ) -> Self::Placed {
        // SAFETY: as promised to `place`.
        let a = unsafe { self.0.place(chain, Position::BeforeAnother, SOFT) };
        // SAFETY: as promised to `place`.
        let b = unsafe { self.1.place(chain, last, SOFT) };
        (a, b)
    }

    fn ends<U: Default>(ring: &Ring<U>, placed: &Self::Placed, ends: &mut Ends) {
        ends.step(A::end_of_step(ring, &placed.0));
        ends.step(B::end_of_step(ring, &placed.1));
    }

    fn watch<U: Default>(watch: &mut Watch<'_, U>, placed: &mut Self::Placed) {
        watch.step::<A>(&mut placed.0);
        watch.step::<B>(&mut placed.1);
    }

    fn tickets(placed: Self::Placed) -> Self::Tickets {
        (placed.0.ticket, placed.1.ticket)
    }

    fn take<U: Default>(ring: &mut Ring<U>, tickets: Self::Tickets) -> Self::Outputs {
        let a = done::<A, U>(ring, tickets.0);
        let b = done::<B, U>(ring, tickets.1);
        (back(a), back(b))
    }

    fn give_up<U: Default>(ring: &mut Ring<U>, tickets: Self::Tickets) {
        let a = given_up::<A, U>(ring, tickets.0);
        let b = given_up::<B, U>(ring, tickets.1);
        [a, b].into_iter().for_each(back);
    }
}

impl<A: Step, B: Step, C: Step> Linked for (A, B, C) {
    type Tickets = (A::Ticket, B::Ticket, C::Ticket);
    type Placed = (PlacedStep<A::Ticket>, PlacedStep<B::Ticket>, PlacedStep<C::Ticket>);
    type Outputs = (A::Output, B::Output, C::Output);
    const NEEDS: Features = A::NEEDS.union(B::NEEDS).union(C::NEEDS);
    const WAITS: Waits = A::WAITS.then(B::WAITS).then(C::WAITS);

    fn entries(&self) -> u32 {
        A::ENTRIES + B::ENTRIES + C::ENTRIES
    }

    fn admit(&mut self, ring: RingId, claims: &mut Claims) -> Result<(), Rejection> {
        self.0.admit(ring, claims)?;
        self.1.admit(ring, claims)?;
        self.2.admit(ring, claims)
    }

    unsafe fn place<U: Default>(
        self,
        chain: &mut UnsubmittedChain<'_, U>,
        last: Position,
    ) -> Self::Placed {
        // SAFETY: as promised to `place`.
        let a = unsafe { self.0.place(chain, Position::BeforeAnother, SOFT) };
        // SAFETY: as promised to `place`.
        let b = unsafe { self.1.place(chain, Position::BeforeAnother, SOFT) };
        // SAFETY: as promised to `place`.
        let c = unsafe { self.2.place(chain, last, SOFT) };
        (a, b, c)
    }

    fn ends<U: Default>(ring: &Ring<U>, placed: &Self::Placed, ends: &mut Ends) {
        ends.step(A::end_of_step(ring, &placed.0));
        ends.step(B::end_of_step(ring, &placed.1));
        ends.step(C::end_of_step(ring, &placed.2));
    }

    fn watch<U: Default>(watch: &mut Watch<'_, U>, placed: &mut Self::Placed) {
        watch.step::<A>(&mut placed.0);
        watch.step::<B>(&mut placed.1);
        watch.step::<C>(&mut placed.2);
    }

    fn tickets(placed: Self::Placed) -> Self::Tickets {
        (placed.0.ticket, placed.1.ticket, placed.2.ticket)
    }

    fn take<U: Default>(ring: &mut Ring<U>, tickets: Self::Tickets) -> Self::Outputs {
        let a = done::<A, U>(ring, tickets.0);
        let b = done::<B, U>(ring, tickets.1);
        let c = done::<C, U>(ring, tickets.2);
        (back(a), back(b), back(c))
    }

    fn give_up<U: Default>(ring: &mut Ring<U>, tickets: Self::Tickets) {
        let a = given_up::<A, U>(ring, tickets.0);
        let b = given_up::<B, U>(ring, tickets.1);
        let c = given_up::<C, U>(ring, tickets.2);
        [a, b, c].into_iter().for_each(back);
    }
}

impl<A: Step, B: Step, C: Step, D: Step> Linked for (A, B, C, D) {
    type Tickets = (A::Ticket, B::Ticket, C::Ticket, D::Ticket);
    type Placed = (
        PlacedStep<A::Ticket>,
        PlacedStep<B::Ticket>,
        PlacedStep<C::Ticket>,
        PlacedStep<D::Ticket>,
    );
    type Outputs = (A::Output, B::Output, C::Output, D::Output);
    const NEEDS: Features = A::NEEDS.union(B::NEEDS).union(C::NEEDS).union(D::NEEDS);
    const WAITS: Waits = A::WAITS.then(B::WAITS).then(C::WAITS).then(D::WAITS);

    fn entries(&self) -> u32 {
        A::ENTRIES + B::ENTRIES + C::ENTRIES + D::ENTRIES
    }

    fn admit(&mut self, ring: RingId, claims: &mut Claims) -> Result<(), Rejection> {
        self.0.admit(ring, claims)?;
        self.1.admit(ring, claims)?;
        self.2.admit(ring, claims)?;
        self.3.admit(ring, claims)
    }

    unsafe fn place<U: Default>(
        self,
        chain: &mut UnsubmittedChain<'_, U>,
        last: Position,
    ) -> Self::Placed {
        // SAFETY: as promised to `place`.
        let a = unsafe { self.0.place(chain, Position::BeforeAnother, SOFT) };
        // SAFETY: as promised to `place`.
        let b = unsafe { self.1.place(chain, Position::BeforeAnother, SOFT) };
        // SAFETY: as promised to `place`.
        let c = unsafe { self.2.place(chain, Position::BeforeAnother, SOFT) };
        // SAFETY: as promised to `place`.
        let d = unsafe { self.3.place(chain, last, SOFT) };
        (a, b, c, d)
    }

    fn ends<U: Default>(ring: &Ring<U>, placed: &Self::Placed, ends: &mut Ends) {
        ends.step(A::end_of_step(ring, &placed.0));
        ends.step(B::end_of_step(ring, &placed.1));
        ends.step(C::end_of_step(ring, &placed.2));
        ends.step(D::end_of_step(ring, &placed.3));
    }

    fn watch<U: Default>(watch: &mut Watch<'_, U>, placed: &mut Self::Placed) {
        watch.step::<A>(&mut placed.0);
        watch.step::<B>(&mut placed.1);
        watch.step::<C>(&mut placed.2);
        watch.step::<D>(&mut placed.3);
    }

    fn tickets(placed: Self::Placed) -> Self::Tickets {
        (placed.0.ticket, placed.1.ticket, placed.2.ticket, placed.3.ticket)
    }

    fn take<U: Default>(ring: &mut Ring<U>, tickets: Self::Tickets) -> Self::Outputs {
        let a = done::<A, U>(ring, tickets.0);
        let b = done::<B, U>(ring, tickets.1);
        let c = done::<C, U>(ring, tickets.2);
        let d = done::<D, U>(ring, tickets.3);
        (back(a), back(b), back(c), back(d))
    }

    fn give_up<U: Default>(ring: &mut Ring<U>, tickets: Self::Tickets) {
        let a = given_up::<A, U>(ring, tickets.0);
        let b = given_up::<B, U>(ring, tickets.1);
        let c = given_up::<C, U>(ring, tickets.2);
        let d = given_up::<D, U>(ring, tickets.3);
        [a, b, c, d].into_iter().for_each(back);
    }
}

impl<S: Step, const N: usize> Linked for [S; N] {
    type Tickets = [S::Ticket; N];
    type Placed = [PlacedStep<S::Ticket>; N];
    type Outputs = [S::Output; N];
    const NEEDS: Features = S::NEEDS;
    const WAITS: Waits = if N > 1 { S::WAITS.then(S::WAITS) } else { S::WAITS };

    fn entries(&self) -> u32 {
        const { S::ENTRIES * entries_of(N) }
    }

    fn admit(&mut self, ring: RingId, claims: &mut Claims) -> Result<(), Rejection> {
        self.iter_mut().try_for_each(|step| step.admit(ring, claims))
    }

    unsafe fn place<U: Default>(
        self,
        chain: &mut UnsubmittedChain<'_, U>,
        last: Position,
    ) -> Self::Placed {
        let mut left = N;
        self.map(|step| {
            left -= 1;
            let position = if left == 0 { last } else { Position::BeforeAnother };
            // SAFETY: as promised to `place`.
            unsafe { step.place(chain, position, SOFT) }
        })
    }

    fn ends<U: Default>(ring: &Ring<U>, placed: &Self::Placed, ends: &mut Ends) {
        placed.iter().for_each(|step| ends.step(S::end_of_step(ring, step)));
    }

    fn watch<U: Default>(watch: &mut Watch<'_, U>, placed: &mut Self::Placed) {
        placed.iter_mut().for_each(|step| watch.step::<S>(step));
    }

    fn tickets(placed: Self::Placed) -> Self::Tickets {
        placed.map(|step| step.ticket)
    }

    fn take<U: Default>(ring: &mut Ring<U>, tickets: Self::Tickets) -> Self::Outputs {
        tickets.map(|ticket| done::<S, U>(ring, ticket)).map(back)
    }

    fn give_up<U: Default>(ring: &mut Ring<U>, tickets: Self::Tickets) {
        tickets.map(|ticket| given_up::<S, U>(ring, ticket)).into_iter().for_each(back);
    }
}

/// The length of an array of steps. An array that is longer than any ring does not compile.
const fn entries_of(count: usize) -> u32 {
    assert!(count <= 1 << 15, "a chain longer than any ring");
    #[expect(clippy::cast_possible_truncation, reason = "just checked")]
    let count = count as u32;
    count
}
