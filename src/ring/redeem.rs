//! What can be redeemed: a ticket, or that of an operation with a clock.
//!
//! | | output |
//! |---|---|
//! | [`Ticket<O>`](crate::Ticket) | the operation's |
//! | [`TimedTicket<O>`](crate::TimedTicket) | [`Timed`](crate::Timed), of the operation's |
//!
//! A chain as a whole is redeemed by [`Ring::wait_chain`]. Leaves to others: the slots
//! (`inflight`).

use crate::op::Op;
use crate::ring::Ring;
use crate::ticket::Ticket;

pub(crate) mod sealed {
    pub trait Redeem {}
}

/// A claim that [`Ring::wait`], [`Ring::try_take`] and [`Ring::detach`] take: a [`Ticket`], or a
/// [`TimedTicket`](crate::TimedTicket).
pub trait Redeem: Sized + sealed::Redeem {
    /// What it is redeemed for.
    type Output;

    /// The slot whose end is not kept to be shown while this is waited for.
    #[doc(hidden)]
    fn quiet(&self) -> Option<u32>;

    #[doc(hidden)]
    fn redeem<U: Default>(self, ring: &mut Ring<U>) -> Result<Self::Output, Self>;

    #[doc(hidden)]
    fn give_up<U: Default>(self, ring: &mut Ring<U>);
}

impl<O> sealed::Redeem for Ticket<O> {}

impl<O: Op> Redeem for Ticket<O> {
    type Output = O::Output;

    #[inline]
    fn quiet(&self) -> Option<u32> {
        Some(self.slot())
    }

    #[inline]
    fn redeem<U: Default>(self, ring: &mut Ring<U>) -> Result<O::Output, Self> {
        ring.take_one(self)
    }

    #[inline]
    fn give_up<U: Default>(self, ring: &mut Ring<U>) {
        ring.detach_one(self);
    }
}
