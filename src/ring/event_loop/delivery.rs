//! Delivering completions: from the queue to the closure in the slot.
//!
//! ```text
//!   completion ─► slot ─► Handler { call, number } ─► call(io, slot, completion)
//!                                     │                knows the types of operation and closure
//!                                     └ tells this operation from later ones in the slot
//! ```
//!
//! Completions are taken one at a time, so that a closure may use the ring.
//!
//! Keeps OP2: a handler is stored together with the operation whose types it knows, and only here.
#![allow(unsafe_code, reason = "records completions that it takes from the queue")]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use annulus_sys::abi::Cqe;
use annulus_sys::cq::Batch;

use super::waiting_room::{Refused, Waiting, WaitingRoom};
use crate::lease::ticket::{Rejected, Rejection};
use crate::op::Completion;
use crate::raw::Rounds;
use crate::raw::enter::Driver;
use crate::raw::wait_options::WaitOptions;
use crate::ring::Ring;
use crate::ring::end::Pace;
use crate::ring::slab::Recorded;
use crate::setup::enter_error::{EnterCause, EnterError};

/// How often a loop that only waits for messages looks whether a sender is left.
const LOOK: Duration = Duration::from_millis(100);

/// What a closure gets: the state of the event loop, and the means to submit what comes next.
pub struct Io<'a, S = ()> {
    /// The state of the event loop.
    pub state: &'a mut S,
    pub(super) core: &'a mut Core<S>,
}

impl<S: fmt::Debug> fmt::Debug for Io<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Io").field("state", &self.state).finish_non_exhaustive()
    }
}

/// Calls the closure of the operation in a slot: with a completion that is not the last, or at the
/// end.
pub(super) type Call<S> = fn(&mut Io<'_, S>, u32, &mut Option<Completion>) -> io::Result<()>;

/// Handles a message.
pub(super) type OnMessage<S> = Rc<RefCell<dyn FnMut(&mut Io<'_, S>, u64) -> io::Result<()>>>;

/// The user value of an [`EventLoop`](super::EventLoop)'s ring: how to call the closure of an
/// operation.
pub struct Handler<S> {
    pub(super) call: Option<Call<S>>,
    /// The number of the operation in its event loop.
    pub(super) number: u64,
}

impl<S> Default for Handler<S> {
    fn default() -> Self {
        Self { call: None, number: 0 }
    }
}

impl<S> fmt::Debug for Handler<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handler({})", self.number)
    }
}

/// An event loop without its state.
pub(super) struct Core<S> {
    pub(super) ring: Ring<Handler<S>>,
    pub(super) waiting: WaitingRoom<Self>,
    /// How many operations were submitted.
    pub(super) count: u64,
    pub(super) on_message: Option<OnMessage<S>>,
    /// Messages that came while nothing handled them.
    messages: VecDeque<u64>,
    /// Set once the loop is being stopped.
    stopping: Option<Pace>,
}

impl<S> fmt::Debug for Core<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core")
            .field("ring", &self.ring)
            .field("waiting", &self.waiting)
            .field("stopping", &self.stopping.is_some())
            .finish_non_exhaustive()
    }
}

/// What is next.
enum Taken<S> {
    /// The only completion of the operation in that slot, and how to call its closure.
    Plain(u32, Option<Call<S>>),
    /// A completion that is still to be recorded.
    Other(Cqe),
    /// An event that was kept.
    Kept,
}

impl<S: 'static> Core<S> {
    pub(super) fn new(mut ring: Ring<Handler<S>>) -> Self {
        // Their tickets cannot be redeemed any more.
        ring.detach_all();
        Self {
            ring,
            waiting: WaitingRoom::new(),
            count: 1, // What was submitted before has the number 0.
            on_message: None,
            messages: VecDeque::new(),
            stopping: None,
        }
    }

    pub(super) fn io<'a>(&'a mut self, state: &'a mut S) -> Io<'a, S> {
        Io { state, core: self }
    }

    /// Whether a closure is still to be called.
    #[inline]
    pub(super) fn has_work(&self) -> bool {
        self.ring.in_flight() > 0 || !self.waiting.is_empty() || self.has_kept()
    }

    /// Whether an event or a message is here already.
    fn has_kept(&self) -> bool {
        self.ring.has_kept_events() || (!self.messages.is_empty() && self.on_message.is_some())
    }

    /// Whether messages may still be sent, and are waited for.
    #[inline]
    pub(super) fn has_senders(&self) -> bool {
        !self.is_stopping() && self.ring.internal.has_senders()
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.is_some()
    }

    /// From now on nothing more is submitted, and everything in flight is cancelled.
    pub(super) fn stop(&mut self) {
        self.stopping.get_or_insert_default();
        self.waiting.clear();
    }

    /// Submits operations that wait for a slot, as many as there are slots.
    #[inline]
    pub(super) fn start_waiting(
        &mut self,
        state: &mut S,
        on_error: &mut impl FnMut(&mut Io<'_, S>, io::Error),
    ) {
        if !self.waiting.is_empty() {
            self.start_each(state, on_error);
        }
    }

    #[cold]
    fn start_each(&mut self, state: &mut S, on_error: &mut impl FnMut(&mut Io<'_, S>, io::Error)) {
        let mut at = 0;
        while let Some(Waiting { number, cancelled, start }) = self.waiting.take(at) {
            match start.start(self, number) {
                Ok(()) => {}
                Err(Refused::ForNow(start, why)) => {
                    self.waiting.put(at, Waiting { number, cancelled, start });
                    if why != Rejection::BufRingBusy {
                        return;
                    }
                    at += 1; // It waits for something else than a slot, and keeps its place.
                    continue;
                }
                Err(Refused::ForGood(why)) => on_error(&mut self.io(state), rejected(why)),
            }
            if cancelled && let Err(error) = self.cancel(number) {
                on_error(&mut self.io(state), error.into());
            }
        }
    }

    /// Submits what is queued, and waits for a completion, as `options` say if there are any.
    #[inline]
    pub(super) fn wait(&mut self, options: Option<&WaitOptions>) -> Result<(), EnterError> {
        if self.is_stopping() || self.ring.in_flight() == 0 || self.has_kept() {
            return self.wait_a_while(options);
        }
        match options {
            None => self.ring.submit_and_wait(1).map(drop),
            Some(options) => self.ring.submit_and_wait_with(1, options).map(drop),
        }
    }

    /// Waits where something else than a completion may be next. While stopping, cancels everything
    /// in flight, if that is due.
    #[cold]
    fn wait_a_while(&mut self, options: Option<&WaitOptions>) -> Result<(), EnterError> {
        let limit = options.and_then(|options| options.limit.left(Duration::ZERO));
        let time = limit.unwrap_or(LOOK).min(LOOK);
        if self.has_kept() {
            return self.submit_queued();
        }
        if !self.is_stopping() {
            // Nothing tells a wait that the last sender is gone.
            return self.ring.wait_a_little(time);
        }
        let mut pace = self.stopping.take().unwrap_or_default();
        // First what has come while closures ran: a timer that has expired is found by no cancel
        // until its completion has come and it is armed again.
        let looked = self.ring.look();
        let all = self.ring.slab.in_flight_user_data();
        // Nobody but `turn` has anything else to do meanwhile.
        let most = if options.is_some() { LOOK / 10 } else { LOOK };
        let waited =
            looked.and_then(|()| self.ring.cancel_and_wait(all, &mut pace, time.min(most)));
        self.stopping = Some(pace);
        waited
    }

    /// If the turn leaves something, makes the ring's descriptor readable again: events that were
    /// kept do not show there, and completions of before not to a poll that is edge-triggered.
    pub(super) fn wake_for_rest(&mut self) -> Result<(), EnterError> {
        if !self.has_kept() && self.ring.raw.ready() == 0 {
            return Ok(());
        }
        match self.ring.wake_itself() {
            Err(error) if is_passing(error.cause) => Ok(()),
            woken => woken,
        }
    }

    /// Submits what is queued.
    pub(super) fn submit_queued(&mut self) -> Result<(), EnterError> {
        match self.ring.submit_all() {
            Err(error) if is_passing(error.cause) => Ok(()),
            submitted => submitted.map(drop),
        }
    }

    /// Takes the completions that are ready, and calls their closures, for no more completions than
    /// the queue has room for: others may come as fast as closures run, and must not keep the rest
    /// of the turn waiting. With `all`, asks the kernel for those that it holds back, within the
    /// same limit; otherwise only if there was none.
    pub(super) fn deliver_ready(
        &mut self,
        state: &mut S,
        all: bool,
        on_error: &mut impl FnMut(&mut Io<'_, S>, io::Error),
    ) -> Result<(), EnterError> {
        let (mut rounds, most) = (Rounds::default(), self.ring.raw.cq_entries());
        loop {
            let left = most.saturating_sub(rounds.total);
            let count = self.deliver_up_to(left, state, on_error);
            let hints = self.ring.raw.rings().halves().1.hints();
            let done = rounds.are_done(Batch { count, hints }, Driver::HELD_BACK);
            if done || rounds.total >= most || (count > 0 && !all) {
                break;
            }
            match self.ring.raw.ask_again(rounds, count)? {
                Some(next) => rounds = next,
                None => break,
            }
        }
        self.deliver_messages(state, on_error);
        self.ring.serve();
        Ok(())
    }

    /// Calls the closures of up to `most` completions, and returns of how many.
    #[inline]
    fn deliver_up_to(
        &mut self,
        most: u32,
        state: &mut S,
        on_error: &mut impl FnMut(&mut Io<'_, S>, io::Error),
    ) -> u32 {
        let (mut taken, mut nothing) = (0, None);
        while taken < most
            && let Some(next) = self.take_next()
        {
            taken += 1;
            let delivered = match next {
                Taken::Plain(slot, Some(call)) => call(&mut self.io(state), slot, &mut nothing),
                Taken::Plain(_, None) => Ok(()),
                Taken::Other(cqe) => {
                    let (user_data, flags) = (cqe.user_data, cqe.flags.bits());
                    let slab = &mut self.ring.slab;
                    // SAFETY: just taken from the ring's queue, in order; not recorded yet
                    // (OP1, OP3).
                    let recorded = unsafe { slab.settle_parts(user_data, cqe.res, flags) };
                    self.deliver(state, recorded)
                }
                Taken::Kept => match self.ring.undelivered.pop(&mut self.ring.slab) {
                    Some(recorded) => self.deliver(state, recorded),
                    None => Ok(()),
                },
            };
            if let Err(error) = delivered {
                self.report(state, error, on_error);
            }
        }
        taken
    }

    /// Takes the oldest completion. Nearly all are the only one of an operation with a closure.
    #[inline]
    fn take_next(&mut self) -> Option<Taken<S>> {
        let Ring { raw, slab, undelivered, .. } = &mut self.ring;
        if !undelivered.is_empty() {
            return Some(Taken::Kept);
        }
        let cqe = raw.pop()?;
        // SAFETY: just taken from the ring's queue, in order (OP1, OP3).
        match unsafe { slab.record_plain(cqe) } {
            Some((slot, handler)) => Some(Taken::Plain(slot, handler.call)),
            None => Some(Taken::Other(cqe)),
        }
    }

    #[cold]
    fn report(
        &mut self,
        state: &mut S,
        error: io::Error,
        on_error: &mut impl FnMut(&mut Io<'_, S>, io::Error),
    ) {
        if !self.is_stopping() {
            on_error(&mut self.io(state), error);
        }
    }

    #[cold]
    fn deliver(&mut self, state: &mut S, recorded: Recorded) -> io::Result<()> {
        let (slot, mut completion) = match recorded {
            Recorded::Ended(slot) => (slot, None),
            Recorded::Completion(slot, completion) => (slot, Some(completion)),
            Recorded::Last(slot, completion) => {
                // First, so that a panic at the item does not lose the end.
                self.ring.undelivered.push(&mut self.ring.slab, Recorded::Ended(slot));
                (slot, Some(completion))
            }
            Recorded::Message(message) => {
                self.messages.push_back(message);
                return Ok(());
            }
            Recorded::Internal(user_data, res) => {
                self.ring.internal.completed(user_data, res);
                return Ok(());
            }
            Recorded::Raw(_) | Recorded::Nothing => return Ok(()),
        };
        match self.ring.slab.user(slot).call {
            Some(call) => call(&mut self.io(state), slot, &mut completion),
            None => Ok(()),
        }
    }

    fn deliver_messages(
        &mut self,
        state: &mut S,
        on_error: &mut impl FnMut(&mut Io<'_, S>, io::Error),
    ) {
        while let Some(message) = self.ring.internal.next_mail() {
            self.messages.push_back(message);
        }
        for _ in 0..self.messages.len() {
            let Some(each) = self.on_message.clone() else { return };
            let Some(message) = self.messages.pop_front() else { return };
            let handled = (each.borrow_mut())(&mut self.io(state), message);
            if let Err(error) = handled {
                self.report(state, error, on_error);
            }
        }
    }
}

/// Whether entering the kernel again can help.
pub(super) fn is_passing(cause: EnterCause) -> bool {
    matches!(
        cause,
        EnterCause::Interrupted
            | EnterCause::CompletionsPending
            | EnterCause::ReadyFirst { .. }
            | EnterCause::OutOfRequests
    )
}

/// The error of an operation that was not submitted, and is gone.
fn rejected(why: Rejection) -> io::Error {
    Rejected { op: (), user: (), why }.into()
}
