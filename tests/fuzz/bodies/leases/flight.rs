//! A receive in flight, of any type; and what it brings.

use std::fs::File;
use std::rc::Rc;

use annulus::lease::{BufLease, BufRing, Bundle, Datagram};
use annulus::op::{
    self, Forced, Multishot, Op, ProvidedFlags, ReadMulti, RecvBundle, RecvBundleMulti,
    RecvMsgMulti, RecvMulti, RecvProvided,
};
use annulus::{EnterError, Next, Ring, Ticket};

type Fd = Rc<File>;

/// A receive that was submitted.
pub enum Flight {
    One(Ticket<RecvProvided<Fd>>),
    Forced(Ticket<Forced<RecvProvided<Fd>>>),
    ForcedBundle(Ticket<Forced<RecvBundle<Fd>>>),
    Many(Ticket<RecvMulti<Fd>>),
    Read(Ticket<ReadMulti<Fd>>),
    Bundle(Ticket<RecvBundle<Fd>>),
    Bundles(Ticket<RecvBundleMulti<Fd>>),
    Messages(Ticket<RecvMsgMulti<Fd>>),
}

/// How what came is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// One after the other, then the end.
    Each,
    /// With the end, if that has come.
    Last,
    /// With the end, which is waited for.
    Wait,
}

/// What a completion carries; a bundle is several.
pub enum Item {
    Lease(BufLease),
    Message(Datagram),
}

impl Item {
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Lease(lease) => lease,
            Self::Message(message) => message.payload(),
        }
    }

    pub fn into_lease(self) -> Option<BufLease> {
        match self {
            Self::Lease(lease) => Some(lease),
            Self::Message(_) => None,
        }
    }
}

fn lease(lease: BufLease) -> Vec<Item> {
    vec![Item::Lease(lease)]
}

fn bundle(bundle: Bundle) -> Vec<Item> {
    bundle.map(Item::Lease).collect()
}

fn message(message: Datagram) -> Vec<Item> {
    vec![Item::Message(message)]
}

impl Flight {
    /// Submits a receive that selects from `pool`, unless the ring refuses it.
    pub fn begin(ring: &mut Ring, pool: &BufRing, fd: &Fd, kind: u32) -> Option<Self> {
        let fd = Rc::clone(fd);
        let pick = RecvProvided::new(Rc::clone(&fd), pool);
        let bundle = RecvBundle::new(Rc::clone(&fd), pool);
        match kind {
            0 => ring.submit(pick).ok().map(Self::One),
            7 => ring.submit(pick.flags(ProvidedFlags::DONT_WAIT)).ok().map(Self::One),
            8 => ring.submit(bundle.forced()).ok().map(Self::ForcedBundle),
            9 => {
                // In a chain, which is given up at once.
                let chain = ring.submit_chain((op::Nop, bundle)).ok()?;
                ring.detach_chain(chain);
                None
            }
            1 => ring.submit(pick.forced()).ok().map(Self::Forced),
            2 => ring.submit(RecvMulti::new(fd, pool)).ok().map(Self::Many),
            3 => ring.submit(ReadMulti::new(fd, pool)).ok().map(Self::Read),
            4 => ring.submit(bundle).ok().map(Self::Bundle),
            5 => ring.submit(RecvBundleMulti::new(fd, pool)).ok().map(Self::Bundles),
            _ => ring.submit(RecvMsgMulti::new(fd, pool)).ok().map(Self::Messages),
        }
    }

    /// Takes what has come; returns what is still in flight.
    pub fn take(self, ring: &mut Ring, how: Take, items: &mut Vec<Vec<Item>>) -> Option<Self> {
        match self {
            Self::One(ticket) => {
                let outcome = redeem(ring, ticket, how).map_err(Self::One);
                once(outcome.map(|it| it.result.ok().flatten().map(lease)), items)
            }
            Self::Forced(ticket) => {
                let outcome = redeem(ring, ticket, how).map_err(Self::Forced);
                once(outcome.map(|it| it.result.ok().flatten().map(lease)), items)
            }
            Self::Bundle(ticket) => {
                let outcome = redeem(ring, ticket, how).map_err(Self::Bundle);
                once(outcome.map(|it| it.result.ok().flatten().map(bundle)), items)
            }
            Self::ForcedBundle(ticket) => {
                let outcome = redeem(ring, ticket, how).map_err(Self::ForcedBundle);
                once(outcome.map(|it| it.result.ok().flatten().map(bundle)), items)
            }
            Self::Many(ticket) => {
                next(ring, &ticket, how, items, lease);
                let ended = redeem(ring, ticket, how).map_err(Self::Many);
                rest(ended.map(|it| it.remaining), items, lease)
            }
            Self::Read(ticket) => {
                next(ring, &ticket, how, items, lease);
                let ended = redeem(ring, ticket, how).map_err(Self::Read);
                rest(ended.map(|it| it.remaining), items, lease)
            }
            Self::Bundles(ticket) => {
                next(ring, &ticket, how, items, bundle);
                let ended = redeem(ring, ticket, how).map_err(Self::Bundles);
                rest(ended.map(|it| it.remaining), items, bundle)
            }
            Self::Messages(ticket) => {
                next(ring, &ticket, how, items, message);
                let ended = redeem(ring, ticket, how).map_err(Self::Messages);
                rest(ended.map(|it| it.remaining), items, message)
            }
        }
    }

    pub fn cancel(&self, ring: &mut Ring) -> Result<(), EnterError> {
        match self {
            Self::One(ticket) => ring.cancel(ticket),
            Self::Forced(ticket) => ring.cancel(ticket),
            Self::ForcedBundle(ticket) => ring.cancel(ticket),
            Self::Many(ticket) => ring.cancel(ticket),
            Self::Read(ticket) => ring.cancel(ticket),
            Self::Bundle(ticket) => ring.cancel(ticket),
            Self::Bundles(ticket) => ring.cancel(ticket),
            Self::Messages(ticket) => ring.cancel(ticket),
        }
    }

    /// Gives it up.
    pub fn leave(self, ring: &mut Ring) {
        match self {
            Self::One(ticket) => ring.detach(ticket),
            Self::Forced(ticket) => ring.detach(ticket),
            Self::ForcedBundle(ticket) => ring.detach(ticket),
            Self::Many(ticket) => ring.detach(ticket),
            Self::Read(ticket) => ring.detach(ticket),
            Self::Bundle(ticket) => ring.detach(ticket),
            Self::Bundles(ticket) => ring.detach(ticket),
            Self::Messages(ticket) => ring.detach(ticket),
        }
    }
}

/// The output, if there is one; or the ticket.
fn redeem<O: Op>(ring: &mut Ring, ticket: Ticket<O>, how: Take) -> Result<O::Output, Ticket<O>> {
    match how {
        Take::Each | Take::Last => ring.try_take(ticket),
        Take::Wait => ring.wait(ticket).map_err(|unfinished| unfinished.ticket),
    }
}

/// Takes what a receive has brought that ends with it.
fn once(came: Result<Option<Vec<Item>>, Flight>, items: &mut Vec<Vec<Item>>) -> Option<Flight> {
    match came {
        Ok(item) => {
            items.extend(item);
            None
        }
        Err(flight) => Some(flight),
    }
}

/// Takes what a multishot has brought so far.
fn next<T, O: Multishot<Item = std::io::Result<T>>>(
    ring: &mut Ring,
    ticket: &Ticket<O>,
    how: Take,
    items: &mut Vec<Vec<Item>>,
    of: fn(T) -> Vec<Item>,
) {
    while how == Take::Each
        && let Ok(Next::Item(item)) = ring.try_next(ticket)
    {
        items.extend(item.ok().map(of));
    }
}

/// Takes what was left when it ended.
fn rest<T>(
    came: Result<Vec<std::io::Result<T>>, Flight>,
    items: &mut Vec<Vec<Item>>,
    of: fn(T) -> Vec<Item>,
) -> Option<Flight> {
    match came {
        Ok(remaining) => {
            items.extend(remaining.into_iter().flatten().map(of));
            None
        }
        Err(flight) => Some(flight),
    }
}
