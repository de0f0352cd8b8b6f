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

use annulus_sys::flags::{Features, SqeFlags};

use super::{Boarding, ChainEnd, Claims, Linked, Step, Tie, Waits, sealed};
use crate::op::RingId;
use crate::ring::Ring;
use crate::ticket::Rejection;

const SOFT: SqeFlags = SqeFlags::IO_LINK;

/// Where a chain with these results ended.
fn end_of<const N: usize>(results: [Option<i32>; N]) -> Option<ChainEnd> {
    let mut ran = 0;
    for (at, result) in results.into_iter().enumerate() {
        if result? != -libc::ECANCELED {
            ran = at + 1;
        }
    }
    Some(if ran == N { ChainEnd::Complete } else { ChainEnd::Broken { at: ran.saturating_sub(1) } })
}

/// The output of a step that is done; or how its owner's code panicked, to be gone on with when the
/// other steps are out of their slots too.
fn done<S: Step, U: Default>(ring: &mut Ring<U>, ticket: S::Ticket) -> thread::Result<S::Output> {
    let taken = catch_unwind(AssertUnwindSafe(|| S::take(ring, ticket)))?;
    Ok(taken.unwrap_or_else(|_| unreachable!("OP2: every step was done")))
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
    type Outputs = (A::Output,);
    const ENTRIES: u32 = A::ENTRIES;
    const NEEDS: Features = A::NEEDS;
    const WAITS: Waits = A::WAITS;

    fn admit(&self, ring: RingId, claims: &mut Claims) -> Result<(), Rejection> {
        self.0.admit(ring, claims)
    }

    unsafe fn board<U: Default>(self, aboard: &mut Boarding<'_, U>) -> Self::Tickets {
        // SAFETY: as promised to `board`.
        let a = unsafe { self.0.board(aboard, Tie::None, SOFT) };
        (a,)
    }

    fn end<U: Default>(ring: &Ring<U>, tickets: &Self::Tickets) -> Option<ChainEnd> {
        end_of([A::raw(ring, &tickets.0)])
    }

    fn take<U: Default>(ring: &mut Ring<U>, tickets: Self::Tickets) -> Self::Outputs {
        let a = done::<A, U>(ring, tickets.0);
        (back(a),)
    }
}

impl<A: Step, B: Step> Linked for (A, B) {
    type Tickets = (A::Ticket, B::Ticket);
    type Outputs = (A::Output, B::Output);
    const ENTRIES: u32 = A::ENTRIES + B::ENTRIES;
    const NEEDS: Features = A::NEEDS.union(B::NEEDS);
    const WAITS: Waits = A::WAITS.then(B::WAITS);

    fn admit(&self, ring: RingId, claims: &mut Claims) -> Result<(), Rejection> {
        self.0.admit(ring, claims)?;
        self.1.admit(ring, claims)
    }

    unsafe fn board<U: Default>(self, aboard: &mut Boarding<'_, U>) -> Self::Tickets {
        // SAFETY: as promised to `board`.
        let a = unsafe { self.0.board(aboard, Tie::Soft, SOFT) };
        // SAFETY: as promised to `board`.
        let b = unsafe { self.1.board(aboard, Tie::None, SOFT) };
        (a, b)
    }

    fn end<U: Default>(ring: &Ring<U>, tickets: &Self::Tickets) -> Option<ChainEnd> {
        end_of([A::raw(ring, &tickets.0), B::raw(ring, &tickets.1)])
    }

    fn take<U: Default>(ring: &mut Ring<U>, tickets: Self::Tickets) -> Self::Outputs {
        let a = done::<A, U>(ring, tickets.0);
        let b = done::<B, U>(ring, tickets.1);
        (back(a), back(b))
    }
}

impl<A: Step, B: Step, C: Step> Linked for (A, B, C) {
    type Tickets = (A::Ticket, B::Ticket, C::Ticket);
    type Outputs = (A::Output, B::Output, C::Output);
    const ENTRIES: u32 = A::ENTRIES + B::ENTRIES + C::ENTRIES;
    const NEEDS: Features = A::NEEDS.union(B::NEEDS).union(C::NEEDS);
    const WAITS: Waits = A::WAITS.then(B::WAITS).then(C::WAITS);

    fn admit(&self, ring: RingId, claims: &mut Claims) -> Result<(), Rejection> {
        self.0.admit(ring, claims)?;
        self.1.admit(ring, claims)?;
        self.2.admit(ring, claims)
    }

    unsafe fn board<U: Default>(self, aboard: &mut Boarding<'_, U>) -> Self::Tickets {
        // SAFETY: as promised to `board`.
        let a = unsafe { self.0.board(aboard, Tie::Soft, SOFT) };
        // SAFETY: as promised to `board`.
        let b = unsafe { self.1.board(aboard, Tie::Soft, SOFT) };
        // SAFETY: as promised to `board`.
        let c = unsafe { self.2.board(aboard, Tie::None, SOFT) };
        (a, b, c)
    }

    fn end<U: Default>(ring: &Ring<U>, tickets: &Self::Tickets) -> Option<ChainEnd> {
        end_of([A::raw(ring, &tickets.0), B::raw(ring, &tickets.1), C::raw(ring, &tickets.2)])
    }

    fn take<U: Default>(ring: &mut Ring<U>, tickets: Self::Tickets) -> Self::Outputs {
        let a = done::<A, U>(ring, tickets.0);
        let b = done::<B, U>(ring, tickets.1);
        let c = done::<C, U>(ring, tickets.2);
        (back(a), back(b), back(c))
    }
}

impl<A: Step, B: Step, C: Step, D: Step> Linked for (A, B, C, D) {
    type Tickets = (A::Ticket, B::Ticket, C::Ticket, D::Ticket);
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

    unsafe fn board<U: Default>(self, aboard: &mut Boarding<'_, U>) -> Self::Tickets {
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

    fn end<U: Default>(ring: &Ring<U>, tickets: &Self::Tickets) -> Option<ChainEnd> {
        end_of([
            A::raw(ring, &tickets.0),
            B::raw(ring, &tickets.1),
            C::raw(ring, &tickets.2),
            D::raw(ring, &tickets.3),
        ])
    }

    fn take<U: Default>(ring: &mut Ring<U>, tickets: Self::Tickets) -> Self::Outputs {
        let a = done::<A, U>(ring, tickets.0);
        let b = done::<B, U>(ring, tickets.1);
        let c = done::<C, U>(ring, tickets.2);
        let d = done::<D, U>(ring, tickets.3);
        (back(a), back(b), back(c), back(d))
    }
}

impl<S: Step, const N: usize> Linked for [S; N] {
    type Tickets = [S::Ticket; N];
    type Outputs = [S::Output; N];
    const ENTRIES: u32 = S::ENTRIES * entries_of(N);
    const NEEDS: Features = S::NEEDS;
    const WAITS: Waits = if N > 1 { S::WAITS.then(S::WAITS) } else { S::WAITS };

    fn admit(&self, ring: RingId, claims: &mut Claims) -> Result<(), Rejection> {
        self.iter().try_for_each(|step| step.admit(ring, claims))
    }

    unsafe fn board<U: Default>(self, aboard: &mut Boarding<'_, U>) -> Self::Tickets {
        let mut left = N;
        self.map(|step| {
            left -= 1;
            let tie = if left == 0 { Tie::None } else { Tie::Soft };
            // SAFETY: as promised to `board`.
            unsafe { step.board(aboard, tie, SOFT) }
        })
    }

    fn end<U: Default>(ring: &Ring<U>, tickets: &Self::Tickets) -> Option<ChainEnd> {
        end_of(tickets.each_ref().map(|ticket| S::raw(ring, ticket)))
    }

    fn take<U: Default>(ring: &mut Ring<U>, tickets: Self::Tickets) -> Self::Outputs {
        tickets.map(|ticket| done::<S, U>(ring, ticket)).map(back)
    }
}

/// The length of a row, which no ring exceeds.
const fn entries_of(count: usize) -> u32 {
    assert!(count <= 1 << 15, "a chain longer than any ring");
    #[expect(clippy::cast_possible_truncation, reason = "just checked")]
    let count = count as u32;
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: Option<i32> = Some(0);
    const CANCELED: Option<i32> = Some(-libc::ECANCELED);

    #[test]
    fn a_chain_is_broken_where_the_last_step_ran_before_those_that_were_cancelled() {
        let end = end_of::<3>;
        assert_eq!(end([OK, OK, OK]), Some(ChainEnd::Complete));
        assert_eq!(end([OK, OK, Some(-libc::EIO)]), Some(ChainEnd::Complete));
        assert_eq!(end([OK, Some(3), CANCELED]), Some(ChainEnd::Broken { at: 1 }));
        assert_eq!(end([Some(-libc::EIO), CANCELED, CANCELED]), Some(ChainEnd::Broken { at: 0 }));
        assert_eq!(end([CANCELED, CANCELED, CANCELED]), Some(ChainEnd::Broken { at: 0 }));
        assert_eq!(end([OK, None, CANCELED]), None);
    }
}
