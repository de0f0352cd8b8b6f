//! Chains of an event loop: linked operations, each with a closure of its own.
//!
//! ```text
//!   io.chain().then(write, |io, wrote| ..).then(sync, |io, synced| ..)
//!        └─► (With { write, .. }, With { sync, .. }) ─► slots, each with its Handler
//! ```
//!
//! Leaves to others: what a link means (`link`), and calling the closures (`delivery`).

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::time::Duration;

use super::delivery::{Call, Core, Handler, Io};
use super::submission::{OpId, call_at_end, is_for_now};
use super::waiting_room::{Refused, Start};
use super::with::With;
use crate::lease::ticket::{Rejected, Rejection};
use crate::op::Op;
use crate::ring::Ring;
use crate::ring::link::{Hard, Step as _, StepExt as _, Within};

/// The longest chain.
const LONGEST: usize = 4;

/// A chain that is being put together, step by step. Made by [`Io::chain`], submitted by
/// [`Io::submit_chain`].
///
/// Each step begins when the one before it has done everything that was asked; a
/// [hard](Self::then_hard) step lets the next begin however it ends. A step that never began ends
/// with `ECANCELED`. Every step's closure is called.
pub struct LoopChain<S, L = ()> {
    steps: L,
    calls: [Option<Call<S>>; LONGEST],
    state: PhantomData<fn(&mut S)>,
}

impl<S, L> fmt::Debug for LoopChain<S, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps = self.calls.iter().flatten().count();
        write!(f, "LoopChain({steps} steps)")
    }
}

mod sealed {
    /// A sequence of up to three steps, which can have one more.
    pub trait Append<T> {
        type Longer;
        fn append(self, step: T) -> Self::Longer;
    }

    /// A step that has an operation with its closure inside.
    pub trait LoopStep: crate::ring::link::Step {
        type Op;
        type Then;

        /// The slot of its operation. Whatever else the step has is given up.
        fn keep<U: Default>(ring: &mut crate::ring::Ring<U>, ticket: Self::Ticket) -> u32;

        fn into_parts(self) -> (Self::Op, Self::Then);
    }

    /// A sequence of such steps.
    pub trait LoopSteps: crate::ring::link::Linked {
        /// The operations and closures.
        type Parts;

        /// Calls `each` with the place of each step in the chain, and its slot.
        fn keep<U: Default>(
            ring: &mut crate::ring::Ring<U>,
            tickets: Self::Tickets,
            each: impl FnMut(&mut crate::ring::Ring<U>, usize, u32),
        );

        fn into_parts(self) -> Self::Parts;
    }
}

use sealed::{Append, LoopStep, LoopSteps};

impl<S: 'static> Io<'_, S> {
    /// Begins a chain, for [`submit_chain`](Self::submit_chain).
    pub fn chain(&self) -> LoopChain<S> {
        LoopChain { steps: (), calls: [None; LONGEST], state: PhantomData }
    }

    /// Submits a chain of up to four operations, each of which begins when the one before it allows
    /// that. If too few slots are free, the chain waits for them, as in [`submit`](Self::submit),
    /// and what is submitted later waits behind it. [`cancel`](Self::cancel) cancels whichever step
    /// is running, which ends the chain, unless that step is [hard](LoopChain::then_hard).
    ///
    /// # Errors
    ///
    /// As [`submit`](Self::submit). [`LoopChain::into_parts`] takes what comes back apart. A chain
    /// that needs more slots or entries than the ring has is a mistake, too.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::op::{Fsync, Write};
    /// use annulus::{EventLoop, Setup};
    /// use std::fs::File;
    /// use std::rc::Rc;
    ///
    /// let mut events = EventLoop::new(Setup::new(8).build_for()?, 0);
    /// # let path = std::env::temp_dir().join(format!("annulus-loop-{}", std::process::id()));
    /// let log = Rc::new(File::create(&path)?);
    /// # std::fs::remove_file(path)?;
    /// let mut io = events.io();
    /// let chain = io
    ///     .chain()
    ///     .then(Write::new(Rc::clone(&log), "a record\n"), |_, wrote| wrote.result)
    ///     .then(Fsync::new(log), |io, synced| {
    ///         synced.result?; // ECANCELED if the write was short, or failed.
    ///         *io.state += 1;
    ///         Ok(())
    ///     });
    /// io.submit_chain(chain)?;
    /// events.run(|_, error| panic!("{error}"))?;
    /// assert_eq!(events.state, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn submit_chain<L>(
        &mut self,
        chain: LoopChain<S, L>,
    ) -> Result<OpId, Rejected<LoopChain<S, L>>>
    where
        L: LoopSteps + 'static,
    {
        self.core.submit_chain(chain)
    }

    /// Submits `op`, and cancels it if it has not ended after `time`: then its result is
    /// `ECANCELED`, or `EINTR` where a worker thread ran it. Otherwise as [`submit`](Self::submit).
    ///
    /// The time starts when the operation does, and not while it waits for a slot. It takes two
    /// slots. For the operations that it does not limit since Linux 6.15, see
    /// [`within`](crate::StepExt::within).
    ///
    /// # Errors
    ///
    /// As [`submit_chain`](Self::submit_chain).
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::op::Read;
    /// use annulus::{EventLoop, Setup};
    /// use std::time::Duration;
    ///
    /// let mut events = EventLoop::new(Setup::new(8).build_for()?, false);
    /// let (silent, _writer) = std::io::pipe()?; // Nothing is ever written.
    /// let read = Read::new(silent, [0; 8]);
    /// events.io().submit_within(read, Duration::from_millis(1), |io, read| {
    ///     *io.state = read.result.is_err_and(|error| error.raw_os_error() == Some(125));
    ///     Ok(())
    /// })?;
    /// events.run(|_, error| panic!("{error}"))?;
    /// assert!(events.state); // ECANCELED
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn submit_within<O, F, R>(
        &mut self,
        op: O,
        time: Duration,
        then: F,
    ) -> Result<OpId, Rejected<O, F>>
    where
        O: Op + 'static,
        F: FnOnce(&mut Io<'_, S>, O::Output) -> io::Result<R> + 'static,
    {
        let chain = self.chain().then_within(op, time, then);
        self.submit_chain(chain).map_err(|Rejected { op: chain, why, .. }| {
            let ((op, then),) = chain.into_parts();
            Rejected { op, user: then, why }
        })
    }
}

impl<S: 'static, L> LoopChain<S, L> {
    /// Adds an operation. When it has ended, `then` is called with its output.
    pub fn then<O, F, R>(self, op: O, then: F) -> LoopChain<S, <L as Append<With<O, F>>>::Longer>
    where
        L: Append<With<O, F>>,
        O: Op + 'static,
        F: FnOnce(&mut Io<'_, S>, O::Output) -> io::Result<R> + 'static,
    {
        self.append(With::new(op, then), call_at_end::<S, O, F, R>())
    }

    /// Adds an operation after which the next one begins however this one ends
    /// (`IOSQE_IO_HARDLINK`).
    pub fn then_hard<O, F, R>(
        self,
        op: O,
        then: F,
    ) -> LoopChain<S, <L as Append<Hard<With<O, F>>>>::Longer>
    where
        L: Append<Hard<With<O, F>>>,
        O: Op + 'static,
        F: FnOnce(&mut Io<'_, S>, O::Output) -> io::Result<R> + 'static,
    {
        self.append(With::new(op, then).hard(), call_at_end::<S, O, F, R>())
    }

    /// Adds an operation that is cancelled if it has not ended after `time`: see
    /// [`Io::submit_within`].
    pub fn then_within<O, F, R>(
        self,
        op: O,
        time: Duration,
        then: F,
    ) -> LoopChain<S, <L as Append<Within<With<O, F>>>>::Longer>
    where
        L: Append<Within<With<O, F>>>,
        O: Op + 'static,
        F: FnOnce(&mut Io<'_, S>, O::Output) -> io::Result<R> + 'static,
    {
        self.append(With::new(op, then).within(time), call_at_end::<S, O, F, R>())
    }

    fn append<T>(self, step: T, call: Call<S>) -> LoopChain<S, L::Longer>
    where
        L: Append<T>,
    {
        let Self { steps, mut calls, state } = self;
        *calls.iter_mut().find(|call| call.is_none()).expect("four steps at most") = Some(call);
        LoopChain { steps: steps.append(step), calls, state }
    }
}

impl<S, L: LoopSteps> LoopChain<S, L> {
    /// The operation and the closure of each step, in a tuple.
    pub fn into_parts(self) -> L::Parts {
        self.steps.into_parts()
    }
}

impl<S: 'static> Core<S> {
    fn submit_chain<L>(&mut self, chain: LoopChain<S, L>) -> Result<OpId, Rejected<LoopChain<S, L>>>
    where
        L: LoopSteps + 'static,
    {
        let (number, ring) = (self.count, self.ring.id);
        if !self.must_wait() {
            match self.start_chain(chain, number) {
                Ok(()) => {
                    self.count += 1;
                    return Ok(OpId::new(ring, number));
                }
                Err(Rejected { op, why, .. }) if is_for_now(why) => {
                    return self.submit_chain_later(op);
                }
                Err(rejected) => return Err(rejected),
            }
        }
        self.submit_chain_later(chain)
    }

    /// Submits a chain whose slots are free.
    fn start_chain<L: LoopSteps + 'static>(
        &mut self,
        chain: LoopChain<S, L>,
        number: u64,
    ) -> Result<(), Rejected<LoopChain<S, L>>> {
        let LoopChain { steps, calls, state } = chain;
        let tickets = match self.ring.submit_chain(steps) {
            Ok(tickets) => tickets.into_tickets(),
            Err(Rejected { op: steps, why, .. }) => {
                return Err(Rejected { op: LoopChain { steps, calls, state }, user: (), why });
            }
        };
        L::keep(&mut self.ring, tickets, |ring, at, slot| {
            *ring.slab.user(slot) = Handler { call: calls[at], number };
        });
        Ok(())
    }

    #[cold]
    fn submit_chain_later<L: LoopSteps + 'static>(
        &mut self,
        mut chain: LoopChain<S, L>,
    ) -> Result<OpId, Rejected<LoopChain<S, L>>> {
        if let Err(why) = self.may_chain_wait(&mut chain.steps) {
            return Err(Rejected { op: chain, user: (), why });
        }
        Ok(self.wait_for_slot(Box::new(chain)))
    }

    fn may_chain_wait<L: LoopSteps>(&self, steps: &mut L) -> Result<(), Rejection> {
        self.may_wait()?;
        if steps.entries() > self.ring.slab.count() {
            let reason = "the chain needs more slots than the ring has: set more";
            return Err(Rejection::Invalid { reason });
        }
        match self.ring.admit_chain(steps) {
            Err(why) if !is_for_now(why) => Err(why),
            _ => Ok(()),
        }
    }
}

impl<S: 'static, L: LoopSteps + 'static> Start<Core<S>> for LoopChain<S, L> {
    fn start(self: Box<Self>, core: &mut Core<S>, number: u64) -> Result<(), Refused<Core<S>>> {
        match core.start_chain(*self, number) {
            Ok(()) => Ok(()),
            Err(Rejected { op: chain, why, .. }) if is_for_now(why) => {
                Err(Refused::ForNow(Box::new(chain), why))
            }
            Err(Rejected { why, .. }) => Err(Refused::ForGood(why)),
        }
    }
}

impl<O: Op, F> LoopStep for With<O, F> {
    type Op = O;
    type Then = F;

    fn keep<U: Default>(_: &mut Ring<U>, ticket: Self::Ticket) -> u32 {
        ticket.slot()
    }

    fn into_parts(self) -> (O, F) {
        (self.op, self.then)
    }
}

impl<S: LoopStep> LoopStep for Hard<S> {
    type Op = S::Op;
    type Then = S::Then;

    fn keep<U: Default>(ring: &mut Ring<U>, ticket: Self::Ticket) -> u32 {
        S::keep(ring, ticket)
    }

    fn into_parts(self) -> (S::Op, S::Then) {
        self.0.into_parts()
    }
}

impl<O: Op, F> LoopStep for Within<With<O, F>> {
    type Op = O;
    type Then = F;

    /// Nothing waits for the clock, which ends with its operation.
    fn keep<U: Default>(ring: &mut Ring<U>, ticket: Self::Ticket) -> u32 {
        ticket.without_clock(ring).slot()
    }

    fn into_parts(self) -> (O, F) {
        self.op.into_parts()
    }
}

impl<T> Append<T> for () {
    type Longer = (T,);
    fn append(self, step: T) -> (T,) {
        (step,)
    }
}

impl<A, T> Append<T> for (A,) {
    type Longer = (A, T);
    fn append(self, step: T) -> (A, T) {
        (self.0, step)
    }
}

impl<A, B, T> Append<T> for (A, B) {
    type Longer = (A, B, T);
    fn append(self, step: T) -> (A, B, T) {
        (self.0, self.1, step)
    }
}

impl<A, B, C, T> Append<T> for (A, B, C) {
    type Longer = (A, B, C, T);
    fn append(self, step: T) -> (A, B, C, T) {
        (self.0, self.1, self.2, step)
    }
}

impl<A: LoopStep> LoopSteps for (A,) {
    type Parts = ((A::Op, A::Then),);

    fn keep<U: Default>(
        ring: &mut Ring<U>,
        tickets: Self::Tickets,
        mut each: impl FnMut(&mut Ring<U>, usize, u32),
    ) {
        let a = A::keep(ring, tickets.0);
        each(ring, 0, a);
    }

    fn into_parts(self) -> Self::Parts {
        (self.0.into_parts(),)
    }
}

impl<A: LoopStep, B: LoopStep> LoopSteps for (A, B) {
    type Parts = ((A::Op, A::Then), (B::Op, B::Then));

    fn keep<U: Default>(
        ring: &mut Ring<U>,
        tickets: Self::Tickets,
        mut each: impl FnMut(&mut Ring<U>, usize, u32),
    ) {
        let slots = [A::keep(ring, tickets.0), B::keep(ring, tickets.1)];
        slots.into_iter().enumerate().for_each(|(at, slot)| each(ring, at, slot));
    }

    fn into_parts(self) -> Self::Parts {
        (self.0.into_parts(), self.1.into_parts())
    }
}

impl<A: LoopStep, B: LoopStep, C: LoopStep> LoopSteps for (A, B, C) {
    type Parts = ((A::Op, A::Then), (B::Op, B::Then), (C::Op, C::Then));

    fn keep<U: Default>(
        ring: &mut Ring<U>,
        tickets: Self::Tickets,
        mut each: impl FnMut(&mut Ring<U>, usize, u32),
    ) {
        let (a, b) = (A::keep(ring, tickets.0), B::keep(ring, tickets.1));
        let slots = [a, b, C::keep(ring, tickets.2)];
        slots.into_iter().enumerate().for_each(|(at, slot)| each(ring, at, slot));
    }

    fn into_parts(self) -> Self::Parts {
        (self.0.into_parts(), self.1.into_parts(), self.2.into_parts())
    }
}

impl<A: LoopStep, B: LoopStep, C: LoopStep, D: LoopStep> LoopSteps for (A, B, C, D) {
    type Parts = ((A::Op, A::Then), (B::Op, B::Then), (C::Op, C::Then), (D::Op, D::Then));

    fn keep<U: Default>(
        ring: &mut Ring<U>,
        tickets: Self::Tickets,
        mut each: impl FnMut(&mut Ring<U>, usize, u32),
    ) {
        let (a, b) = (A::keep(ring, tickets.0), B::keep(ring, tickets.1));
        let slots = [a, b, C::keep(ring, tickets.2), D::keep(ring, tickets.3)];
        slots.into_iter().enumerate().for_each(|(at, slot)| each(ring, at, slot));
    }

    fn into_parts(self) -> Self::Parts {
        let (a, b) = (self.0.into_parts(), self.1.into_parts());
        (a, b, self.2.into_parts(), self.3.into_parts())
    }
}
