//! Tickets of every type under one roof, so that a life can redeem them in any order.
//!
//! ```text
//!   ship_once(op, finish)  ─► Once ─┐
//!   ship_many(op, bring)   ─► Many ─┴─► dyn Claim ─ cancel, wait, take, detach, drop
//! ```
//!
//! How an operation is submitted (its [`Manner`]) is random. Refused operations come back, and are
//! counted.

use std::cell::Cell;
use std::time::Duration;

use annulus::op::{Completion, Multishot, Nop, Op};
use annulus::ring::Next;
use annulus::ring::event::Event;
use annulus::{EnterCause, EnterError, Rejection, Step as _, StepExt as _, Ticket, Unfinished};

use crate::world::World;

/// The description of an operation.
#[derive(Debug)]
pub struct About {
    /// How many operations came before, in this life.
    pub number: u64,
    /// Its kind, by its name in the tally.
    pub kind: &'static str,
    /// The stream whose bytes it moves.
    pub whose: Whose,
    /// Its last completion was seen.
    pub ended: Cell<bool>,
}

/// Which stream an operation moves bytes of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// None.
    Nobody,
    /// The bytes that come in, under this key.
    Inward(u64),
    /// The bytes that go out, under this key, and how many of them.
    Outward(u64),
    /// Connections.
    Listener,
}

/// How an operation is handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Alone.
    Plain,
    /// To a worker thread.
    Forced,
    /// As the second step of a chain.
    After,
    /// As the first step of a chain.
    Before,
    /// As the first step of a chain, with a hard link.
    Hard,
    /// With a link timeout.
    Within,
    /// Behind everything that came before.
    Drained,
}

/// Handles the output of an operation.
pub type Finish<O> = fn(&mut World, &About, <O as Op>::Output);
/// Handles one of many items that an operation completes with.
pub type Bring<O> = fn(&mut World, &About, <O as Multishot>::Item);

/// The claim to an operation of some type.
pub trait Claim {
    /// The description of its operation.
    fn about(&self) -> &About;
    /// Its slot.
    fn slot(&self) -> u32;
    /// Asks for its end.
    fn cancel(&self, world: &mut World) -> Result<(), EnterError>;
    /// It has completed, and will complete again.
    fn completion(&self, world: &mut World, completion: Completion);
    /// Takes its output, if it has ended.
    fn take(self: Box<Self>, world: &mut World) -> Option<Box<dyn Claim>>;
    /// Waits for its end, but not for long.
    fn wait(self: Box<Self>, world: &mut World, limit: Duration) -> Option<Box<dyn Claim>>;
    /// Takes one of its items.
    fn next(&self, world: &mut World);
    /// Detaches it.
    fn detach(self: Box<Self>, world: &mut World);
}

/// The claim to an operation that completes once.
struct Once<O: Op> {
    about: About,
    ticket: Ticket<O>,
    finish: Finish<O>,
}

/// The claim to an operation that completes many times.
struct Many<O: Multishot> {
    about: About,
    ticket: Ticket<O>,
    finish: Finish<O>,
    bring: Bring<O>,
}

impl<O: Op + 'static> Claim for Once<O> {
    fn about(&self) -> &About {
        &self.about
    }

    fn slot(&self) -> u32 {
        self.ticket.slot()
    }

    fn cancel(&self, world: &mut World) -> Result<(), EnterError> {
        if world.holds_back && world.chance.one_in(2) {
            return cancel_now(world, &self.ticket);
        }
        world.ring.cancel(&self.ticket)
    }

    fn completion(&self, _: &mut World, completion: Completion) {
        panic!("{} completes once, and completed with {completion:?}", self.about.kind);
    }

    fn take(self: Box<Self>, world: &mut World) -> Option<Box<dyn Claim>> {
        let Self { about, ticket, finish } = *self;
        match world.ring.try_take(ticket) {
            Ok(output) => {
                world.ended(&about);
                finish(world, &about, output);
                world.redeemed(&about);
                None
            }
            Err(ticket) => Some(Box::new(Self { about, ticket, finish })),
        }
    }

    fn wait(self: Box<Self>, world: &mut World, limit: Duration) -> Option<Box<dyn Claim>> {
        let Self { about, ticket, finish } = *self;
        match world.ring.wait_timeout(ticket, limit) {
            Ok(output) => {
                world.ended(&about);
                finish(world, &about, output);
                world.redeemed(&about);
                None
            }
            Err(Unfinished { ticket, why, .. }) => {
                bearable(why.cause);
                Some(Box::new(Self { about, ticket, finish }))
            }
        }
    }

    fn next(&self, _: &mut World) {}

    fn detach(self: Box<Self>, world: &mut World) {
        world.ring.detach(self.ticket);
        world.abandoned(&self.about);
    }
}

impl<O: Multishot + 'static> Claim for Many<O> {
    fn about(&self) -> &About {
        &self.about
    }

    fn slot(&self) -> u32 {
        self.ticket.slot()
    }

    fn cancel(&self, world: &mut World) -> Result<(), EnterError> {
        if world.holds_back && world.chance.one_in(2) {
            return cancel_now(world, &self.ticket);
        }
        world.ring.cancel(&self.ticket)
    }

    fn completion(&self, world: &mut World, completion: Completion) {
        (self.bring)(world, &self.about, O::item(completion));
    }

    /// Only when all of its items were taken, so that none is dropped.
    fn take(self: Box<Self>, world: &mut World) -> Option<Box<dyn Claim>> {
        loop {
            match world.ring.try_next(&self.ticket) {
                Ok(Next::Item(item)) => (self.bring)(world, &self.about, item),
                Ok(Next::Pending) => return Some(self),
                Ok(Next::Ended) => break,
                Err(error) => {
                    bearable(error.cause);
                    return Some(self);
                }
            }
        }
        let Self { about, ticket, finish, bring } = *self;
        match world.ring.try_take(ticket) {
            Ok(output) => {
                world.ended(&about);
                finish(world, &about, output);
                world.redeemed(&about);
                None
            }
            Err(ticket) => Some(Box::new(Self { about, ticket, finish, bring })),
        }
    }

    fn wait(self: Box<Self>, world: &mut World, limit: Duration) -> Option<Box<dyn Claim>> {
        world.pause(limit);
        self.take(world)
    }

    fn next(&self, world: &mut World) {
        match world.ring.try_next(&self.ticket) {
            Ok(Next::Item(item)) => (self.bring)(world, &self.about, item),
            Ok(Next::Pending | Next::Ended) => {}
            Err(error) => bearable(error.cause),
        }
    }

    fn detach(self: Box<Self>, world: &mut World) {
        world.ring.detach(self.ticket);
        world.abandoned(&self.about);
    }
}

/// Cancels by a system call. An entry would be held back, too, which is why `Ring::cancel` makes
/// such a call of its own.
fn cancel_now<O: Op>(world: &mut World, ticket: &Ticket<O>) -> Result<(), EnterError> {
    if let Err(error) = world.ring.cancel_now(ticket, Duration::ZERO) {
        panic!("it cannot be cancelled: {error}");
    }
    Ok(())
}

/// Submits an operation that completes once.
pub fn ship_once<O: Op + 'static>(world: &mut World, about: About, op: O, finish: Finish<O>) {
    let manners = [
        (Manner::Plain, 6),
        (Manner::Forced, 2),
        (Manner::After, 1),
        (Manner::Before, 1),
        (Manner::Hard, 1),
        (Manner::Within, 1),
        (Manner::Drained, u32::from(world.drains)),
    ];
    let manner = world.manner(about.kind, &manners);
    world.note_ship(&about, manner);
    match manner {
        Manner::Plain => match world.ring.submit(op) {
            Ok(ticket) => world.shipped(Box::new(Once { about, ticket, finish }), manner),
            Err(rejected) => world.refused(&about, rejected.why),
        },
        Manner::Forced => match world.ring.submit(op.forced()) {
            Ok(ticket) => world.shipped(Box::new(Once { about, ticket, finish }), manner),
            Err(rejected) => world.refused(&about, rejected.why),
        },
        Manner::After => match world.ring.submit_chain((Nop, op)) {
            Ok(tickets) => {
                let (nop, ticket) = tickets.into_tickets();
                ship_nop(world, nop);
                world.shipped(Box::new(Once { about, ticket, finish }), manner);
            }
            Err(rejected) => world.refused(&about, rejected.why),
        },
        Manner::Before => match world.ring.submit_chain((op, Nop)) {
            Ok(tickets) => {
                let (ticket, nop) = tickets.into_tickets();
                ship_nop(world, nop);
                world.shipped(Box::new(Once { about, ticket, finish }), manner);
            }
            Err(rejected) => world.refused(&about, rejected.why),
        },
        Manner::Hard => match world.ring.submit_chain((op.hard(), Nop)) {
            Ok(tickets) => {
                let (ticket, nop) = tickets.into_tickets();
                ship_nop(world, nop);
                world.shipped(Box::new(Once { about, ticket, finish }), manner);
            }
            Err(rejected) => world.refused(&about, rejected.why),
        },
        // Nothing would bound the wait of a clock that is held back.
        Manner::Within if world.holds_back => {
            world.refused(&about, Rejection::Drained);
        }
        Manner::Within => within(world, about, op, finish),
        Manner::Drained => match world.ring.submit(op.drained()) {
            Ok(ticket) => {
                world.holds_back = true;
                world.shipped(Box::new(Once { about, ticket, finish }), manner);
            }
            Err(rejected) => world.refused(&about, rejected.why),
        },
    }
}

/// Submits an operation that completes once with a link timeout, and waits for it.
fn within<O: Op + 'static>(world: &mut World, about: About, op: O, finish: Finish<O>) {
    let chain = (op.within(Duration::from_micros(50)),);
    let tickets = match world.ring.submit_chain(chain) {
        Ok(tickets) => tickets,
        Err(rejected) => return world.refused(&about, rejected.why),
    };
    world.count_shipped(&about, Manner::Within);
    match world.ring.wait_chain(tickets) {
        Ok(chain) => {
            world.ended(&about);
            finish(world, &about, chain.outputs.0.output);
            world.redeemed(&about);
        }
        Err(Unfinished { why, .. }) => panic!("a chain with a clock has no end: {why}"),
    }
}

/// Submits an operation that completes many times.
pub fn ship_many<O: Multishot + 'static>(
    world: &mut World,
    about: About,
    op: O,
    bring: Bring<O>,
    finish: Finish<O>,
) {
    let manner = world.manner(about.kind, &[(Manner::Plain, 5), (Manner::Forced, 1)]);
    world.note_ship(&about, manner);
    if manner == Manner::Forced {
        match world.ring.submit(op.forced()) {
            Ok(ticket) => world.shipped(Box::new(Many { about, ticket, finish, bring }), manner),
            Err(rejected) => world.refused(&about, rejected.why),
        }
    } else {
        match world.ring.submit(op) {
            Ok(ticket) => world.shipped(Box::new(Many { about, ticket, finish, bring }), manner),
            Err(rejected) => world.refused(&about, rejected.why),
        }
    }
}

/// The other step of a chain.
fn ship_nop(world: &mut World, ticket: Ticket<Nop>) {
    let about = world.about("nop", Whose::Nobody);
    world.shipped(Box::new(Once { about, ticket, finish: |_, _, _| {} }), Manner::Plain);
}

/// Reaps.
pub fn reap(world: &mut World) {
    let mut events = Vec::new();
    let reaped = world.ring.reap(|event| match event {
        Event::Ended { slot, .. } => events.push((slot, None)),
        Event::Multishot { slot, completion, .. } => events.push((slot, Some(completion))),
        other => panic!("nobody asked for {other:?}"),
    });
    if let Err(error) = reaped {
        bearable(error.cause);
    }
    for (slot, completion) in events {
        let Some(at) = world.claims.iter().position(|claim| claim.slot() == slot) else {
            assert!(world.dropped > 0, "an event of slot {slot}, which nobody has");
            continue;
        };
        let claim = world.claims.swap_remove(at);
        match completion {
            Some(completion) => claim.completion(world, completion),
            None => world.ended(claim.about()),
        }
        world.claims.push(claim);
    }
}

/// Fails unless it is a valid reason for a wait to end.
pub fn bearable(cause: EnterCause) {
    let expected = matches!(
        cause,
        EnterCause::Interrupted
            | EnterCause::OutOfRequests
            | EnterCause::CompletionsPending
            | EnterCause::NothingComing { .. }
            | EnterCause::ReadyFirst { .. }
            | EnterCause::WaitTooLarge { .. }
            | EnterCause::TimedOut
    );
    assert!(expected, "a wait ended: {cause:?}");
}

/// Fails unless it is a valid reason to refuse an operation here.
pub fn refusable(why: Rejection) {
    assert!(why != Rejection::OtherRing, "all is of this ring, and was refused: {why}");
}
