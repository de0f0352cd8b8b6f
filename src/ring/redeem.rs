//! Redeeming: the kinds of ticket that the calls of [`Ring`] accept.
//!
//! | ticket | output | [`Ring::cancel`] | [`Ring::user`] |
//! |---|---|---|---|
//! | [`Ticket<O>`](crate::Ticket) | the operation's | the operation | the operation's |
//! | [`TimedTicket<O>`](crate::TimedTicket) | [`Timed`](crate::Timed), of the operation's | the operation | the operation's, then its linked timeout's |
//!
//! An [`OpKey`](crate::OpKey) names an operation without a ticket, and can only cancel it.
//! [`Ring::wait_chain`] redeems a whole chain. Leaves to others: the slots (`slab`).

use crate::lease::ticket::Ticket;
use crate::op::Op;
use crate::ring::Ring;

/// # Looking without waiting
impl<U: Default> Ring<U> {
    /// The output of the operation, if its last completion was already taken, by
    /// [`reap`](Self::reap) or in a wait. Completions of a multishot operation that no code has
    /// taken come with it: see [`Ended::remaining`](crate::op::Ended::remaining).
    ///
    /// # Errors
    ///
    /// The ticket, while the kernel has the operation.
    ///
    /// # Panics
    ///
    /// When the ticket belongs to another ring.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::{Setup, op};
    ///
    /// let mut ring = Setup::new(8).build()?;
    /// let (reader, writer) = std::io::pipe()?;
    /// let read = ring.submit(op::Read::new(reader, [0; 5]))?;
    /// let Err(read) = ring.try_take(read) else { panic!("there was nothing to read") };
    ///
    /// let write = ring.submit(op::Write::new(writer, "hello"))?;
    /// assert_eq!(ring.wait(write)?.result?, 5);
    /// match ring.try_take(read) {
    ///     Ok(outcome) => assert_eq!(outcome.buf, *b"hello"),
    ///     Err(read) => drop(ring.wait(read)?), // It had not ended yet.
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    #[track_caller]
    pub fn try_take<T: Redeem>(&mut self, ticket: T) -> Result<T::Output, T> {
        ticket.redeem(self)
    }
}

pub(crate) mod sealed {
    pub trait Redeem {}
    pub trait Submitted {}
}

/// What names an operation that was submitted, to [cancel](Ring::cancel) it: a
/// [`Ticket`], a [`TimedTicket`](crate::TimedTicket), or an [`OpKey`](crate::OpKey).
#[diagnostic::on_unimplemented(
    message = "`{Self}` names no operation",
    note = "`Ring::cancel` and `cancel_now` take a `Ticket`, a `TimedTicket` or an `OpKey`"
)]
pub trait Submitted: sealed::Submitted {
    /// The `user_data` of the operation, on the ring that it was submitted to.
    #[doc(hidden)]
    #[track_caller]
    fn on<U: Default>(&self, ring: &Ring<U>) -> u64;
}

/// A ticket that [`Ring::wait`], [`wait_timeout`](Ring::wait_timeout),
/// [`wait_with`](Ring::wait_with), [`try_take`](Ring::try_take) and [`detach`](Ring::detach) take,
/// and to which [`cancel`](Ring::cancel), [`cancel_now`](Ring::cancel_now) and
/// [`user`](Ring::user) apply: a [`Ticket`], or a [`TimedTicket`](crate::TimedTicket).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no ticket",
    note = "`Ring::wait`, `try_take`, `detach`, `cancel` and `user` take a `Ticket` or a \
            `TimedTicket`; a chain goes to `wait_chain`"
)]
pub trait Redeem: Sized + Submitted + sealed::Redeem {
    /// The output.
    type Output;

    /// The slot whose `Ended` event is not kept while the ticket is waited for.
    #[doc(hidden)]
    fn quiet(&self) -> Option<u32>;

    /// The slot whose end is still to come, or the operation's if all have ended.
    #[doc(hidden)]
    #[track_caller]
    fn awaited<U: Default>(&self, ring: &Ring<U>) -> u32;

    #[doc(hidden)]
    #[track_caller]
    fn redeem<U: Default>(self, ring: &mut Ring<U>) -> Result<Self::Output, Self>;

    #[doc(hidden)]
    #[track_caller]
    fn give_up<U: Default>(self, ring: &mut Ring<U>);
}

impl<O> sealed::Redeem for Ticket<O> {}
impl<O> sealed::Submitted for Ticket<O> {}

impl<O> Submitted for Ticket<O> {
    #[inline]
    #[track_caller]
    fn on<U: Default>(&self, ring: &Ring<U>) -> u64 {
        ring.check(self);
        self.user_data()
    }
}

impl<O: Op> Redeem for Ticket<O> {
    type Output = O::Output;

    #[inline]
    fn quiet(&self) -> Option<u32> {
        Some(self.slot())
    }

    #[inline]
    #[track_caller]
    fn awaited<U: Default>(&self, ring: &Ring<U>) -> u32 {
        ring.check(self);
        self.slot()
    }

    #[inline]
    #[track_caller]
    fn redeem<U: Default>(self, ring: &mut Ring<U>) -> Result<O::Output, Self> {
        ring.take_one(self)
    }

    #[inline]
    #[track_caller]
    fn give_up<U: Default>(self, ring: &mut Ring<U>) {
        ring.detach_one(self);
    }
}
