//! Submitting an operation with its closure, and calling that closure.
//!
//! ```text
//!   submit(op, then) ─► With { op, then } in a slot, and Handler { call: ended::<O, F> } beside it
//!   ended::<O, F>    ─► takes both out of the slot ─► then(io, output)
//!   arrived::<O, F>  ─► leaves both there, while the kernel has the operation ─► then(io, item)
//! ```
//!
//! Keeps OP1 and OP2: see the SAFETY comments.
#![allow(unsafe_code, reason = "knows the type of the operation in a slot")]

use std::io;

use super::delivery::{Call, Core, Handler, Io, is_passing};
use super::waiting_room::{Refused, Start, Waiting};
use super::with::With;
use crate::lease::ticket::{Rejected, Rejection};
use crate::op::{Completion, Completions, Multishot, Op};
use crate::raw::RingId;
use crate::raw::inspect::Stats;
use crate::setup::enter_error::EnterError;

/// Names an operation of an event loop, to [cancel](Io::cancel) it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OpId {
    ring: RingId,
    number: u64,
}

impl OpId {
    pub(super) fn new(ring: RingId, number: u64) -> Self {
        Self { ring, number }
    }
}

/// What the closure of a multishot operation is called with.
#[derive(Debug)]
pub enum Arrival<O: Multishot> {
    /// An item; more may come.
    Item(O::Item),
    /// The operation has ended. It is the last call.
    End(O::Output),
}

impl<S: 'static> Io<'_, S> {
    /// Submits `op`. When it has ended, `then` is called with its output. If every slot is taken,
    /// it waits for one, in the order of submission. It waits too while its buffer ring is busy
    /// with an operation that must be alone there; then those after it may overtake it.
    ///
    /// An error of `then` goes to whoever [runs](crate::EventLoop::run) the loop; any other value
    /// is dropped.
    ///
    /// The operation and what its closure captures share a slot of 256 bytes. If they do not fit,
    /// it does not compile: capture a `Box` or an `Rc` of what is large.
    ///
    /// For operations that complete many times, see
    /// [`submit_multishot`](Self::submit_multishot).
    ///
    /// # Errors
    ///
    /// [`Rejected`] gives operation and closure back, with the reason: a mistake in the operation,
    /// a kernel without it, an earlier [drained](Op::drained) operation that this one must not wait
    /// for, or [`stop`](Self::stop) was called.
    #[inline]
    pub fn submit<O, F, R>(&mut self, op: O, then: F) -> Result<OpId, Rejected<O, F>>
    where
        O: Op + 'static,
        F: FnOnce(&mut Io<'_, S>, O::Output) -> io::Result<R> + 'static,
    {
        self.core.submit(op, then, call_at_end::<S, O, F, R>())
    }

    /// Submits `op`, which completes many times. `each` is called with every item, and once more at
    /// the end, also after a call that returned an error or panicked.
    ///
    /// ```
    /// use annulus::op::TimeoutMulti;
    /// use annulus::{Arrival, EventLoop, Setup};
    /// use std::time::Duration;
    ///
    /// let mut events = EventLoop::new(Setup::new(8).build_for()?, 0);
    /// let ticks = TimeoutMulti::new(Duration::from_millis(1)).times(3);
    /// events.io().submit_multishot(ticks, |io, arrival| {
    ///     match arrival {
    ///         Arrival::Item(()) => *io.state += 1,
    ///         Arrival::End(_) => assert!(*io.state <= 3),
    ///     }
    ///     Ok(())
    /// })?;
    /// events.run(|_, error| panic!("{error}"))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`submit`](Self::submit).
    #[inline]
    pub fn submit_multishot<O, F, R>(&mut self, op: O, each: F) -> Result<OpId, Rejected<O, F>>
    where
        O: Multishot + 'static,
        F: FnMut(&mut Io<'_, S>, Arrival<O>) -> io::Result<R> + 'static,
    {
        self.core.submit(op, each, arrived::<S, O, F, R>)
    }

    /// Asks the kernel to cancel an operation. Its closure is called as always, mostly with
    /// `ECANCELED`. Does nothing if it has ended, or while an earlier cancel of it is on its way.
    /// One that waits for a slot is cancelled once it has one. It looks for the operation in every
    /// slot.
    ///
    /// # Errors
    ///
    /// [`EnterError`] when the submission queue is full and making room failed. Then no cancel was
    /// submitted, or not for every step of a chain.
    ///
    /// # Panics
    ///
    /// If the operation belongs to another event loop.
    pub fn cancel(&mut self, op: OpId) -> Result<(), EnterError> {
        let ring = self.core.ring.id;
        assert!(op.ring == ring, "OP2: an operation of {} on {ring}", op.ring);
        if self.core.waiting.cancel(op.number) {
            return Ok(());
        }
        self.core.cancel(op.number)
    }

    /// Ends the loop: cancels everything in flight, drops what waits for a slot, and rejects
    /// whatever is submitted from now on. Closures of operations in flight are still called, mostly
    /// with `ECANCELED`. To let operations end by themselves, cancel only those that bring new
    /// work.
    pub fn stop(&mut self) {
        self.core.stop();
    }

    /// Whether [`stop`](Self::stop) was called.
    pub fn is_stopping(&self) -> bool {
        self.core.is_stopping()
    }

    /// How many operations wait for a slot. If that does not fall, the ring has too few slots for
    /// what is idle.
    pub fn waiting(&self) -> usize {
        self.core.waiting.len()
    }

    /// How many slots are free.
    pub fn vacant(&self) -> u32 {
        self.core.ring.vacant()
    }

    /// How many operations are in flight, or wait for a slot.
    pub fn unfinished(&self) -> usize {
        self.core.ring.in_flight() as usize + self.core.waiting.len()
    }

    /// Counters of the ring.
    pub fn stats(&self) -> Stats {
        self.core.ring.stats()
    }
}

impl<S: 'static> Core<S> {
    /// Cancels every operation in flight with this number: the steps of a chain share it.
    pub(super) fn cancel(&mut self, number: u64) -> Result<(), EnterError> {
        let mut slot = 0;
        while let Some((at, user_data)) =
            self.ring.slab.find(slot, |handler| handler.number == number)
        {
            slot = at + 1;
            if self.ring.slab.may_cancel(user_data) {
                self.ring.cancel_user_data(user_data)?;
            }
        }
        Ok(())
    }

    #[inline]
    fn submit<O, F>(&mut self, op: O, then: F, call: Call<S>) -> Result<OpId, Rejected<O, F>>
    where
        O: Op + 'static,
        F: 'static,
    {
        if self.must_wait() {
            return self.submit_later(op, then, call);
        }
        let (number, ring) = (self.count, self.ring.id);
        let handler = Handler { call: Some(call), number };
        match self.ring.submit_for(With::new(op, then), handler) {
            Ok(_) => {
                self.count += 1;
                Ok(OpId { ring, number })
            }
            Err(Rejected { op: With { op, then }, why, .. }) if is_for_now(why) => {
                self.submit_later(op, then, call)
            }
            Err(Rejected { op: With { op, then }, why, .. }) => {
                Err(Rejected { op, user: then, why })
            }
        }
    }

    /// Lets the operation wait, if it can ever be submitted.
    #[cold]
    fn submit_later<O, F>(
        &mut self,
        mut op: O,
        then: F,
        call: Call<S>,
    ) -> Result<OpId, Rejected<O, F>>
    where
        O: Op + 'static,
        F: 'static,
    {
        if let Err(why) = self.may_wait_for_slot(&mut op) {
            return Err(Rejected { op, user: then, why });
        }
        Ok(self.wait_for_slot(Box::new(Later { with: With::new(op, then), call })))
    }

    /// Whether nothing may be submitted now.
    #[inline]
    pub(super) fn must_wait(&self) -> bool {
        self.is_stopping() || !self.waiting.is_empty()
    }

    pub(super) fn wait_for_slot(&mut self, start: Box<dyn Start<Self>>) -> OpId {
        let (number, ring) = (self.count, self.ring.id);
        self.count += 1;
        self.waiting.push(Waiting { number, cancelled: false, start });
        OpId { ring, number }
    }

    /// Rejects whatever is submitted after a stop.
    pub(super) fn may_wait(&self) -> Result<(), Rejection> {
        if self.is_stopping() {
            return Err(Rejection::Stopping);
        }
        Ok(())
    }

    fn may_wait_for_slot<O: Op>(&self, op: &mut O) -> Result<(), Rejection> {
        self.may_wait()?;
        if !self.ring.features().contains(O::NEEDS) {
            return Err(Rejection::Unsupported { needs: O::NEEDS });
        }
        if let Some(reason) = op.refusal() {
            return Err(Rejection::Invalid { reason });
        }
        if op.belongs_to(self.ring.id) { Ok(()) } else { Err(Rejection::OtherRing) }
    }
}

/// Whether the operation can be submitted once others have ended.
pub(super) fn is_for_now(why: Rejection) -> bool {
    match why {
        Rejection::NoSlot | Rejection::QueueFull | Rejection::BufRingBusy => true,
        Rejection::Enter(error) => is_passing(error.cause),
        _ => false,
    }
}

/// An operation that waits for a slot.
struct Later<S, O, F> {
    with: With<O, F>,
    call: Call<S>,
}

impl<S: 'static, O: Op + 'static, F: 'static> Start<Core<S>> for Later<S, O, F> {
    fn start(self: Box<Self>, core: &mut Core<S>, number: u64) -> Result<(), Refused<Core<S>>> {
        let Self { with, call } = *self;
        match core.ring.submit_for(with, Handler { call: Some(call), number }) {
            Ok(_) => Ok(()),
            Err(Rejected { op: with, why, .. }) if is_for_now(why) => {
                Err(Refused::ForNow(Box::new(Self { with, call }), why))
            }
            Err(Rejected { why, .. }) => Err(Refused::ForGood(why)),
        }
    }
}

/// What calls the closure of an operation that completes once.
#[inline]
pub(super) fn call_at_end<S, O, F, R>() -> Call<S>
where
    O: Op,
    F: FnOnce(&mut Io<'_, S>, O::Output) -> io::Result<R>,
{
    const {
        assert!(
            !matches!(O::COMPLETIONS, Completions::Multishot),
            "this operation completes many times: submit it with `submit_multishot`"
        );
    }
    ended::<S, O, F, R>
}

/// Calls the closure of an operation that completes once, at its end.
fn ended<S, O, F, R>(
    io: &mut Io<'_, S>,
    slot: u32,
    completion: &mut Option<Completion>,
) -> io::Result<()>
where
    O: Op,
    F: FnOnce(&mut Io<'_, S>, O::Output) -> io::Result<R>,
{
    if completion.is_some() {
        return Ok(()); // The result of a zero-copy send, which comes once more at its end.
    }
    let (output, then) = take::<S, O, F>(io, slot);
    then(io, output).map(drop)
}

/// Calls the closure of an operation that completes many times.
fn arrived<S, O, F, R>(
    io: &mut Io<'_, S>,
    slot: u32,
    completion: &mut Option<Completion>,
) -> io::Result<()>
where
    O: Multishot,
    F: FnMut(&mut Io<'_, S>, Arrival<O>) -> io::Result<R>,
{
    let Some(completion) = completion.take() else {
        let (output, mut each) = take::<S, O, F>(io, slot);
        return each(io, Arrival::End(output)).map(drop);
    };
    let item = O::item(completion);
    let with = io.core.ring.slab.payload_of(slot).cast::<With<O, F>>().as_ptr();
    // SAFETY: the operation in this slot is of that type, because `submit` stored this function
    // with it (OP2). It stays there during the call: only `take` takes it out, which no code does
    // that an `Io` can reach. The kernel has no address within the closure (OP1), and no other code
    // refers to it.
    let each = unsafe { &mut (*with).then };
    each(io, Arrival::Item(item)).map(drop)
}

/// Takes an operation that has ended out of its slot, with its closure.
fn take<S, O: Op, F>(io: &mut Io<'_, S>, slot: u32) -> (O::Output, F) {
    let ring = &mut io.core.ring;
    // SAFETY: the operation in this slot is of that type, because `submit` or `submit_chain` stored
    // the function that calls this together with it; its only ticket was dropped there (OP2).
    let ticket = unsafe { ring.slab.ticket_again::<With<O, F>>(slot, ring.id) };
    let Ok(taken) = ring.try_take(ticket) else {
        unreachable!("OP2: an operation that has ended is in flight")
    };
    taken
}
