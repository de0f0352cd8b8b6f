//! The reactor: one ring, and the wakers of the tasks that wait for it.
//!
//! ```text
//!   turn:  give up what is left ─► submit ─► wait? ─► take ─► wake, with nothing borrowed
//! ```
//!
//! The waker of an operation is its user value in the ring. Code of the caller's runs at two places
//! only: in a waker, when nothing is borrowed; and in destructors of what an abandoned operation
//! owned, while the ring is. A future that such a destructor drops is put aside, and given up in
//! the next turn.
//!
//! Leaves to others: what a future does when it is polled (`run`, `items`), and when to turn
//! (`block_on`, `drive`).

use std::cell::{Cell, RefCell, RefMut};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::{Context, Waker};

use annulus_sys::flags::SetupFlags;

use super::room::{Place, Room};
use crate::lease::completion::Completion;
use crate::lease::ticket::{Rejected, Rejection, Ticket};
use crate::op::Op;
use crate::ring::Ring;
use crate::ring::event::Event;
use crate::setup::enter_error::{EnterCause, EnterError};

/// A ring whose operations are futures. Cheap to clone: all clones are the same reactor.
///
/// See the [module](super) for what it does.
#[derive(Clone)]
pub struct Reactor(Rc<Inner>);

/// Gives an operation up, once the ring is free.
type GiveUp = Box<dyn FnOnce(&Reactor, &mut Ring<Option<Waker>>)>;

struct Inner {
    ring: RefCell<Ring<Option<Waker>>>,
    /// Completions before the last one that the ring has shown, and nobody has taken, by slot.
    items: RefCell<Vec<VecDeque<Completion>>>,
    /// Tasks whose operations have ended.
    woken: RefCell<VecDeque<Waker>>,
    /// Tasks that found no slot.
    room: RefCell<Room>,
    /// Tasks whose operation the ring did not take for another reason that passes.
    behind: RefCell<VecDeque<Waker>>,
    /// The tasks that turn the reactor, when there is something for them to do.
    drivers: RefCell<Vec<Waker>>,
    /// Whether the ring has entries that were not submitted.
    pushed: Cell<bool>,
    /// Whether a polling thread is to make room for another entry.
    full: Cell<bool>,
    /// What was given up while the ring was in use.
    given_up: RefCell<Vec<GiveUp>>,
}

impl fmt::Debug for Reactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reactor")
    }
}

/// Why an operation did not begin.
pub(super) enum Refused<O> {
    /// The task is polled again when it may. It may have a place in a line.
    Later(O, Option<Place>),
    Never(Rejected<O>),
}

impl Reactor {
    /// A reactor of this ring. Make the ring with
    /// [`Setup::build_for`](crate::Setup::build_for), on the thread whose tasks use it: by
    /// [`Setup::plain`](crate::Setup::plain) if [another executor drives it](Self::fd), otherwise
    /// by [`Setup::new`](crate::Setup::new).
    pub fn new(ring: Ring<Option<Waker>>) -> Self {
        let slots = ring.raw().cq_entries() as usize;
        Self(Rc::new(Inner {
            ring: RefCell::new(ring),
            items: RefCell::new((0..slots).map(|_| VecDeque::new()).collect()),
            woken: RefCell::default(),
            room: RefCell::default(),
            behind: RefCell::default(),
            drivers: RefCell::default(),
            pushed: Cell::new(false),
            full: Cell::new(false),
            given_up: RefCell::default(),
        }))
    }

    /// Calls `with` with the ring, to register buffers or files with it, or to look at it.
    ///
    /// Its completions belong to the reactor: submit there only what you also redeem there, and
    /// nothing that completes many times.
    ///
    /// # Panics
    ///
    /// When called while the ring is in use: by `with`, or by a destructor that the ring calls. And
    /// when `with` has put another ring into its place.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::future::Reactor;
    /// use annulus::{Setup, op};
    /// use std::os::unix::net::UnixStream;
    ///
    /// let reactor = Reactor::new(Setup::new(8).build_for()?);
    /// let buffers = reactor.with_ring(|ring| ring.buf_ring(4, 1024))?;
    /// let (ours, _theirs) = UnixStream::pair()?;
    /// let _items = reactor.items(op::RecvMulti::new(ours, &buffers));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn with_ring<R>(&self, with: impl FnOnce(&mut Ring<Option<Waker>>) -> R) -> R {
        let mut ring = self.ring();
        let id = ring.id;
        let result = with(&mut ring);
        assert!(ring.id == id, "{} was put into the place of {id}: make a new reactor", ring.id);
        drop(ring);
        self.grant(); // It may have freed a slot, or pushed an entry.
        self.call_drivers();
        result
    }

    /// A descriptor of the ring, which is readable when completions are ready: for
    /// [`drive`](Self::drive).
    ///
    /// # Errors
    ///
    /// When the descriptor cannot be duplicated; and `Unsupported` for a ring that has none
    /// (`REGISTERED_FD_ONLY`), that polls devices (`IOPOLL`), or that defers task work
    /// (`DEFER_TASKRUN`), as those of [`Setup::new`](crate::Setup::new) do: the kernel posts a
    /// completion there only when the ring is entered, so nobody who waits at the descriptor would
    /// be woken. Make the ring with [`Setup::plain`](crate::Setup::plain).
    pub fn fd(&self) -> io::Result<OwnedFd> {
        const CURE: &str = "the descriptor of a ring that defers task work, or polls devices, \
                            wakes nobody who waits at it: make the ring with Setup::plain";
        let entered = SetupFlags::DEFER_TASKRUN.union(SetupFlags::IOPOLL);
        let ring = self.ring();
        if ring.raw().flags().intersects(entered) {
            return Err(io::Error::new(io::ErrorKind::Unsupported, CURE));
        }
        let fd = ring.raw().fd().ok_or(io::ErrorKind::Unsupported)?;
        fd.try_clone_to_owned()
    }

    #[track_caller]
    pub(super) fn ring(&self) -> RefMut<'_, Ring<Option<Waker>>> {
        self.0.ring.try_borrow_mut().expect("the ring is in use: by `with_ring`, or a destructor")
    }

    /// Submits `op`, whose end wakes the task of `context`, which may have a place in the line.
    pub(super) fn submit<O: Op + 'static>(
        &self,
        op: O,
        place: Option<Place>,
        context: &Context<'_>,
    ) -> Result<Ticket<O>, Refused<O>> {
        let waker = context.waker().clone();
        let mut ring = self.ring();
        let has = |count| ring.slab.vacant_up_to(count) == count;
        if !self.0.room.borrow_mut().may_begin(place, has) {
            let (place, before) = self.0.room.borrow_mut().wait(place, waker);
            drop(ring);
            drop(before); // With nothing borrowed, because it may be the last one of its task.
            return Err(Refused::Later(op, Some(place)));
        }
        let submitted = ring.submit_for(op, Some(waker));
        drop(ring);
        let Rejected { op, user, why } = match submitted {
            Ok(ticket) => {
                // Of an operation that was redeemed elsewhere.
                let items = self.take_items(ticket.slot());
                drop(items);
                self.call_drivers();
                return Ok(ticket);
            }
            Err(rejected) => rejected,
        };
        self.grant(); // A slot that was granted is not used.
        match why {
            Rejection::QueueFull => self.0.full.set(true),
            Rejection::NoSlot | Rejection::BufRingBusy | Rejection::Drained => {}
            Rejection::Enter(error) if passes(error.cause) => {}
            why => return Err(Refused::Never(Rejected { op, user: (), why })),
        }
        self.0.behind.borrow_mut().extend(user);
        self.call_drivers(); // The ring may have submitted, or taken, something for it.
        Err(Refused::Later(op, None))
    }

    /// Leaves the line.
    pub(super) fn leave(&self, place: Place) {
        let waker = self.0.room.borrow_mut().leave(place);
        drop(waker); // With nothing borrowed.
        self.grant();
    }

    /// Lets those that wait for a slot have those that are free.
    fn grant(&self) {
        loop {
            let Ok(ring) = self.0.ring.try_borrow() else { return };
            let has = |count| ring.slab.vacant_up_to(count) == count;
            let granted = self.0.room.borrow_mut().grant(has);
            drop(ring);
            let Some(waker) = granted else { return };
            waker.wake();
        }
    }

    /// The output of an operation, if it has ended. Otherwise its end wakes the task of `context`.
    pub(super) fn output<O: Op + 'static>(
        &self,
        ticket: Ticket<O>,
        context: &Context<'_>,
    ) -> Result<O::Output, Ticket<O>> {
        let mut ring = self.ring();
        let slot = ticket.slot();
        let ticket = match ring.take_after(ticket, || self.take_items(slot).into()) {
            Ok(output) => {
                drop(ring);
                self.grant();
                return Ok(output);
            }
            Err(ticket) => ticket,
        };
        let waker = ring.user(&ticket);
        if waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            return Err(ticket);
        }
        let before = waker.replace(context.waker().clone());
        drop(ring);
        drop(before); // With nothing borrowed, because it may be the last one of its task.
        Err(ticket)
    }

    /// The next item of a stream.
    pub(super) fn next_item<O>(&self, ticket: &Ticket<O>) -> Option<Completion> {
        let slot = ticket.slot();
        if let Some(items) = self.0.items.borrow_mut().get_mut(slot as usize)
            && let Some(item) = items.pop_front()
        {
            return Some(item);
        }
        // What the ring took in while it waited for something else.
        let Ring { undelivered, slab, .. } = &mut *self.ring();
        undelivered.next_of(slab, slot)
    }

    fn take_items(&self, slot: u32) -> VecDeque<Completion> {
        self.0.items.borrow_mut().get_mut(slot as usize).map(std::mem::take).unwrap_or_default()
    }

    /// Asks the kernel to cancel an operation. If there is no room to ask, it ends as ever.
    pub(super) fn cancel<O: Op + 'static>(&self, ticket: &Ticket<O>) {
        let _ = self.ring().cancel(ticket);
        self.call_drivers();
    }

    /// Panics where [`ring`](Self::ring) would, before a future has lost its state.
    #[track_caller]
    pub(super) fn check_free(&self) {
        drop(self.ring());
    }

    /// Cancels an operation that nobody waits for any more.
    pub(super) fn give_up<O: Op + 'static>(&self, ticket: Ticket<O>) {
        let Ok(mut ring) = self.0.ring.try_borrow_mut() else {
            let later: GiveUp = Box::new(move |reactor, ring| reactor.give_up_in(ring, ticket));
            self.0.given_up.borrow_mut().push(later);
            return;
        };
        self.give_up_in(&mut ring, ticket);
        drop(ring);
        self.grant();
        self.call_drivers();
    }

    fn give_up_in<O: Op + 'static>(&self, ring: &mut Ring<Option<Waker>>, ticket: Ticket<O>) {
        if ticket.ring() != ring.id {
            return; // It went away with the ring that was here before.
        }
        let items = self.take_items(ticket.slot());
        // If there is no room to ask, the operation ends as ever.
        let _ = ring.cancel(&ticket);
        ring.detach(ticket);
        drop(items); // With nothing of ours borrowed but the ring.
    }

    /// Submits what was pushed, waits until `want` completions are ready, takes all that are, and
    /// wakes their tasks: for an executor of your own, which calls it when no task is ready, with
    /// 1, and between tasks now and then, with 0. Does not wait while there are tasks to wake. A
    /// signal ends the wait.
    ///
    /// # Errors
    ///
    /// As for [`Ring::submit_and_wait`](crate::Ring::submit_and_wait). In most cases the ring
    /// cannot go on then.
    ///
    /// # Panics
    ///
    /// When the ring is in use, as [`with_ring`](Self::with_ring).
    pub fn turn(&self, want: u32) -> Result<(), EnterError> {
        let want = if self.has_work() || self.0.full.get() { 0 } else { want };
        let taken = self.take(want);
        self.wake();
        taken
    }

    fn take(&self, want: u32) -> Result<(), EnterError> {
        let inner = &*self.0;
        let mut ring = self.ring();
        loop {
            let given_up = inner.given_up.take();
            if given_up.is_empty() {
                break;
            }
            for give_up in given_up {
                give_up(self, &mut ring);
            }
        }
        let room = if inner.full.take() { ring.raw.wait_for_room() } else { Ok(()) };
        let entered = if want == 0 { ring.submit_all() } else { ring.submit_and_wait(want) };
        let reaped = ring.reap(|event| match event {
            Event::Ended { user, .. } => inner.woken.borrow_mut().extend(user.take()),
            Event::Multishot { user, slot, completion } => {
                let mut items = inner.items.borrow_mut();
                let at = slot as usize;
                if items.len() <= at {
                    items.resize_with(at + 1, VecDeque::new);
                }
                items[at].push_back(completion);
                inner.woken.borrow_mut().extend(user.take());
            }
            // Another thread woke a task, and has said so where the task's executor looks.
            _ => {}
        });
        // Some may be left: the kernel had no memory, or waits for completions to be taken.
        inner.pushed.set(ring.raw.rings().halves().0.unsubmitted() > 0);
        match room.and(entered).and(reaped) {
            Err(error) if !passes(error.cause) => Err(error),
            _ => Ok(()),
        }
    }

    /// Wakes tasks, one at a time: a waker may do anything. If one panics, the others are still
    /// there for the next turn.
    fn wake(&self) {
        let inner = &*self.0;
        loop {
            let Some(waker) = inner.woken.borrow_mut().pop_front() else { break };
            waker.wake();
        }
        let behind = inner.behind.borrow().len();
        for _ in 0..behind {
            let Some(waker) = inner.behind.borrow_mut().pop_front() else { break };
            waker.wake();
        }
        self.grant();
    }

    /// Whether there may be entries that were not submitted.
    pub(super) fn has_pushed(&self) -> bool {
        self.0.pushed.get()
    }

    /// Whether another turn has tasks to wake, or operations to give up, whatever the kernel does.
    pub(super) fn has_work(&self) -> bool {
        !self.0.woken.borrow().is_empty() || !self.0.given_up.borrow().is_empty()
    }

    /// Lets a driver be woken when there is something to do.
    pub(super) fn driven_by(&self, waker: &Waker) {
        let mut drivers = self.0.drivers.borrow_mut();
        if !drivers.iter().any(|driver| driver.will_wake(waker)) {
            drivers.push(waker.clone());
        }
    }

    /// Wakes the drivers, because there is something to submit.
    pub(super) fn call_drivers(&self) {
        self.0.pushed.set(true);
        loop {
            let driver = self.0.drivers.borrow_mut().pop();
            let Some(driver) = driver else { return };
            driver.wake();
        }
    }
}

/// Whether a call that failed may succeed later, without anything changed.
fn passes(cause: EnterCause) -> bool {
    matches!(
        cause,
        EnterCause::Interrupted
            | EnterCause::CompletionsPending
            | EnterCause::OutOfRequests
            | EnterCause::ReadyFirst { .. }
    )
}
