//! Rows of steps: tuples and arrays, each step tied to the next.
//!
//! | row | tickets | outputs |
//! |---|---|---|
//! | `(A,)`, `(A, B)`, `(A, B, C)`, `(A, B, C, D)` | a tuple | a tuple |
//! | `[S; N]` | an array | an array |
//!
//! Leaves to others: what a tie means (`link`).
#![allow(unsafe_code, reason = "passes unsafe contracts on")]

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;
use std::time::Instant;

use annulus_sys::flags::{Features, SqeFlags};

use super::went::end_of;
use super::{Boarded, Boarding, ChainEnd, Claims, Linked, Step, Tie, Waits, sealed};
use crate::op::RingId;
use crate::ring::Ring;
use crate::ticket::Rejection;

const SOFT: SqeFlags = SqeFlags::IO_LINK;

/// Sees to the clocks of steps in a row, as far as they have begun.
struct Watch<'a, U: Default> {
    ring: &'a mut Ring<U>,
    begun: bool,
    /// When to look again.
    next: Option<Instant>,
}

impl<'a, U: Default> Watch<'a, U> {
    fn new(ring: &'a mut Ring<U>) -> Self {
        Self { ring, begun: true, next: None }
    }

    fn step<S: Step>(&mut self, step: &mut Boarded<S::Ticket>) {
        if self.begun {
            let due = S::watch(self.ring, &mut step.ticket);
            self.next = self.next.into_iter().chain(due).min();
            self.begun = S::went(self.ring, step).is_some();
        }
    }
}

/// The output of a step that is done; or how its owner's code panicked, to be gone on with when the
/// other steps are out of their slots too.
fn done<S: Step, U: Default>(ring: &mut Ring<U>, ticket: S::Ticket) -> thread::Result<S::Output> {
    let taken = catch_unwind(AssertUnwindSafe(|| S::take(ring, ticket)))?;
    Ok(taken.unwrap_or_else(|_| unreachable!("OP2: every step was done")))
}

/// Gives a step up; or how its owner's code panicked, to be gone on with when the others are given
/// up too.
fn given_up<S: Step, U: Default>(ring: &mut Ring<U>, ticket: S::Ticket) -> thread::Result<()> {
    catch_unwind(AssertUnwindSafe(|| S::give_up(ring, ticket)))
}

fn back<T>(taken: thread::Result<T>) -> T {
    taken.unwrap_or_else(|panic| resume_unwind(panic))
}

impl<A: Step> sealed::Linked for (A,) {}
impl<A: Step, B: Step> sealed::Linked for (A, B) {}
impl<A: Step, B: Step, C: Step> sealed::Linked for (A, B, C) {}
impl<A: Step, B: Step, C: Step, D: Step> sealed::Linked for (A, B, C, D) {}
impl<S: Step, const N: usize> sealed::Linked for [S; N] {}

impl<A: Step> Linked for (A,) {
    type Tickets = (A::Ticket,);
    type Boarded = (Boarded<A::Ticket>,);
    type Outputs = (A::Output,);
    const ENTRIES: u32 = A::ENTRIES;
    const NEEDS: Features = A::NEEDS;
    const WAITS: Waits = A::WAITS;

    fn admit(&self, ring: RingId, claims: &mut Claims) -> Result<(), Rejection> {
        self.0.admit(ring, claims)
    }

    unsafe fn board<U: Default>(self, aboard: &mut Boarding<'_, U>) -> Self::Boarded {
        // SAFETY: as promised to `board`.
        let a = unsafe { self.0.board(aboard, Tie::None, SOFT) };
        (a,)
    }

    fn end<U: Default>(ring: &Ring<U>, boarded: &Self::Boarded) -> Option<ChainEnd> {
        end_of([A::went(ring, &boarded.0)])
    }

    fn watch<U: Default>(ring: &mut Ring<U>, boarded: &mut Self::Boarded) -> Option<Instant> {
        let mut watch = Watch::new(ring);
        watch.step::<A>(&mut boarded.0);
        watch.next
    }

    fn tickets(boarded: Self::Boarded) -> Self::Tickets {
        (boarded.0.ticket,)
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
    type Boarded = (Boarded<A::Ticket>, Boarded<B::Ticket>);
    type Outputs = (A::Output, B::Output);
    const ENTRIES: u32 = A::ENTRIES + B::ENTRIES;
    const NEEDS: Features = A::NEEDS.union(B::NEEDS);
    const WAITS: Waits = A::WAITS.then(B::WAITS);

    fn admit(&self, ring: RingId, claims: &mut Claims) -> Result<(), Rejection> {
        self.0.admit(ring, claims)?;
        self.1.admit(ring, claims)
    }

    unsafe fn board<U: Default>(self, aboard: &mut Boarding<'_, U>) -> Self::Boarded {
        // SAFETY: as promised to `board`.
        let a = unsafe { self.0.board(aboard, Tie::Soft, SOFT) };
        // SAFETY: as promised to `board`.
        let b = unsafe { self.1.board(aboard, Tie::None, SOFT) };
        (a, b)
    }

    fn end<U: Default>(ring: &Ring<U>, boarded: &Self::Boarded) -> Option<ChainEnd> {
        end_of([A::went(ring, &boarded.0), B::went(ring, &boarded.1)])
    }

    fn watch<U: Default>(ring: &mut Ring<U>, boarded: &mut Self::Boarded) -> Option<Instant> {
        let mut watch = Watch::new(ring);
        watch.step::<A>(&mut boarded.0);
        watch.step::<B>(&mut boarded.1);
        watch.next
    }

    fn tickets(boarded: Self::Boarded) -> Self::Tickets {
        (boarded.0.ticket, boarded.1.ticket)
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
    type Boarded = (Boarded<A::Ticket>, Boarded<B::Ticket>, Boarded<C::Ticket>);
    type Outputs = (A::Output, B::Output, C::Output);
    const ENTRIES: u32 = A::ENTRIES + B::ENTRIES + C::ENTRIES;
    const NEEDS: Features = A::NEEDS.union(B::NEEDS).union(C::NEEDS);
    const WAITS: Waits = A::WAITS.then(B::WAITS).then(C::WAITS);

    fn admit(&self, ring: RingId, claims: &mut Claims) -> Result<(), Rejection> {
        self.0.admit(ring, claims)?;
        self.1.admit(ring, claims)?;
        self.2.admit(ring, claims)
    }

    unsafe fn board<U: Default>(self, aboard: &mut Boarding<'_, U>) -> Self::Boarded {
        // SAFETY: as promised to `board`.
        let a = unsafe { self.0.board(aboard, Tie::Soft, SOFT) };
        // SAFETY: as promised to `board`.
        let b = unsafe { self.1.board(aboard, Tie::Soft, SOFT) };
        // SAFETY: as promised to `board`.
        let c = unsafe { self.2.board(aboard, Tie::None, SOFT) };
        (a, b, c)
    }

    fn end<U: Default>(ring: &Ring<U>, boarded: &Self::Boarded) -> Option<ChainEnd> {
        end_of([A::went(ring, &boarded.0), B::went(ring, &boarded.1), C::went(ring, &boarded.2)])
    }

    fn watch<U: Default>(ring: &mut Ring<U>, boarded: &mut Self::Boarded) -> Option<Instant> {
        let mut watch = Watch::new(ring);
        watch.step::<A>(&mut boarded.0);
        watch.step::<B>(&mut boarded.1);
        watch.step::<C>(&mut boarded.2);
        watch.next
    }

    fn tickets(boarded: Self::Boarded) -> Self::Tickets {
        (boarded.0.ticket, boarded.1.ticket, boarded.2.ticket)
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
    type Boarded = (Boarded<A::Ticket>, Boarded<B::Ticket>, Boarded<C::Ticket>, Boarded<D::Ticket>);
    type Outputs = (A::Output, B::Output, C::Output, D::Output);
    const ENTRIES: u32 = A::ENTRIES + B::ENTRIES + C::ENTRIES + D::ENTRIES;
    const NEEDS: Features = A::NEEDS.union(B::NEEDS).union(C::NEEDS).union(D::NEEDS);
    const WAITS: Waits = A::WAITS.then(B::WAITS).then(C::WAITS).then(D::WAITS);

    fn admit(&self, ring: RingId, claims: &mut Claims) -> Result<(), Rejection> {
        self.0.admit(ring, claims)?;
        self.1.admit(ring, claims)?;
        self.2.admit(ring, claims)?;
        self.3.admit(ring, claims)
    }

    unsafe fn board<U: Default>(self, aboard: &mut Boarding<'_, U>) -> Self::Boarded {
        // SAFETY: as promised to `board`.
        let a = unsafe { self.0.board(aboard, Tie::Soft, SOFT) };
        // SAFETY: as promised to `board`.
        let b = unsafe { self.1.board(aboard, Tie::Soft, SOFT) };
        // SAFETY: as promised to `board`.
        let c = unsafe { self.2.board(aboard, Tie::Soft, SOFT) };
        // SAFETY: as promised to `board`.
        let d = unsafe { self.3.board(aboard, Tie::None, SOFT) };
        (a, b, c, d)
    }

    fn end<U: Default>(ring: &Ring<U>, boarded: &Self::Boarded) -> Option<ChainEnd> {
        end_of([
            A::went(ring, &boarded.0),
            B::went(ring, &boarded.1),
            C::went(ring, &boarded.2),
            D::went(ring, &boarded.3),
        ])
    }

    fn watch<U: Default>(ring: &mut Ring<U>, boarded: &mut Self::Boarded) -> Option<Instant> {
        let mut watch = Watch::new(ring);
        watch.step::<A>(&mut boarded.0);
        watch.step::<B>(&mut boarded.1);
        watch.step::<C>(&mut boarded.2);
        watch.step::<D>(&mut boarded.3);
        watch.next
    }

    fn tickets(boarded: Self::Boarded) -> Self::Tickets {
        (boarded.0.ticket, boarded.1.ticket, boarded.2.ticket, boarded.3.ticket)
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
    type Boarded = [Boarded<S::Ticket>; N];
    type Outputs = [S::Output; N];
    const ENTRIES: u32 = S::ENTRIES * entries_of(N);
    const NEEDS: Features = S::NEEDS;
    const WAITS: Waits = if N > 1 { S::WAITS.then(S::WAITS) } else { S::WAITS };

    fn admit(&self, ring: RingId, claims: &mut Claims) -> Result<(), Rejection> {
        self.iter().try_for_each(|step| step.admit(ring, claims))
    }

    unsafe fn board<U: Default>(self, aboard: &mut Boarding<'_, U>) -> Self::Boarded {
        let mut left = N;
        self.map(|step| {
            left -= 1;
            let tie = if left == 0 { Tie::None } else { Tie::Soft };
            // SAFETY: as promised to `board`.
            unsafe { step.board(aboard, tie, SOFT) }
        })
    }

    fn end<U: Default>(ring: &Ring<U>, boarded: &Self::Boarded) -> Option<ChainEnd> {
        end_of(boarded.each_ref().map(|step| S::went(ring, step)))
    }

    fn watch<U: Default>(ring: &mut Ring<U>, boarded: &mut Self::Boarded) -> Option<Instant> {
        let mut watch = Watch::new(ring);
        boarded.iter_mut().for_each(|step| watch.step::<S>(step));
        watch.next
    }

    fn tickets(boarded: Self::Boarded) -> Self::Tickets {
        boarded.map(|step| step.ticket)
    }

    fn take<U: Default>(ring: &mut Ring<U>, tickets: Self::Tickets) -> Self::Outputs {
        tickets.map(|ticket| done::<S, U>(ring, ticket)).map(back)
    }

    fn give_up<U: Default>(ring: &mut Ring<U>, tickets: Self::Tickets) {
        tickets.map(|ticket| given_up::<S, U>(ring, ticket)).into_iter().for_each(back);
    }
}

/// The length of a row, which no ring exceeds.
const fn entries_of(count: usize) -> u32 {
    assert!(count <= 1 << 15, "a chain longer than any ring");
    #[expect(clippy::cast_possible_truncation, reason = "just checked")]
    let count = count as u32;
    count
}
