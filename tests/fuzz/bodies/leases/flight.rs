//! A receive in flight, of any type; and what it brings.

use std::fs::File;
use std::rc::Rc;

use annulus::lease::{BufLease, BufRing, Bundle, Datagram};
use annulus::op::{
    self, Forced, Multishot, Op, ProvidedFlags, ReadMulti, RecvBundle, RecvBundleMulti,
    RecvMsgMulti, RecvMulti, RecvProvided,
};
use annulus::{EnterError, Next, Ring, Ticket};

use crate::bodies::chance::Chance;

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
    pub fn begin(ring: &mut Ring, pool: &BufRing, fd: &Fd, chance: &mut Chance) -> Option<Self> {
        let fd = Rc::clone(fd);
        let pick = RecvProvided::new(Rc::clone(&fd), pool);
        let bundle = RecvBundle::new(Rc::clone(&fd), pool);
        match chance.below(10) {
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
    pub fn take(self, ring: &mut Ring, items: &mut Vec<Vec<Item>>) -> Option<Self> {
        match self {
            Self::One(ticket) => match ring.try_take(ticket) {
                Ok(outcome) => {
                    items.extend(outcome.result.ok().flatten().map(lease));
                    None
                }
                Err(ticket) => Some(Self::One(ticket)),
            },
            Self::Forced(ticket) => match ring.try_take(ticket) {
                Ok(outcome) => {
                    items.extend(outcome.result.ok().flatten().map(lease));
                    None
                }
                Err(ticket) => Some(Self::Forced(ticket)),
            },
            Self::Bundle(ticket) => match ring.try_take(ticket) {
                Ok(outcome) => {
                    items.extend(outcome.result.ok().flatten().map(bundle));
                    None
                }
                Err(ticket) => Some(Self::Bundle(ticket)),
            },
            Self::ForcedBundle(ticket) => match ring.try_take(ticket) {
                Ok(outcome) => {
                    items.extend(outcome.result.ok().flatten().map(bundle));
                    None
                }
                Err(ticket) => Some(Self::ForcedBundle(ticket)),
            },
            Self::Many(ticket) => {
                next(ring, &ticket, items, lease);
                match ring.try_take(ticket) {
                    Ok(ended) => rest(ended.remaining, items, lease),
                    Err(ticket) => Some(Self::Many(ticket)),
                }
            }
            Self::Read(ticket) => {
                next(ring, &ticket, items, lease);
                match ring.try_take(ticket) {
                    Ok(ended) => rest(ended.remaining, items, lease),
                    Err(ticket) => Some(Self::Read(ticket)),
                }
            }
            Self::Bundles(ticket) => {
                next(ring, &ticket, items, bundle);
                match ring.try_take(ticket) {
                    Ok(ended) => rest(ended.remaining, items, bundle),
                    Err(ticket) => Some(Self::Bundles(ticket)),
                }
            }
            Self::Messages(ticket) => {
                next(ring, &ticket, items, message);
                match ring.try_take(ticket) {
                    Ok(ended) => rest(ended.remaining, items, message),
                    Err(ticket) => Some(Self::Messages(ticket)),
                }
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

/// Takes what a multishot has brought so far.
fn next<T, O: Multishot<Item = std::io::Result<T>>>(
    ring: &mut Ring,
    ticket: &Ticket<O>,
    items: &mut Vec<Vec<Item>>,
    of: fn(T) -> Vec<Item>,
) {
    while let Ok(Next::Item(item)) = ring.try_next(ticket) {
        items.extend(item.ok().map(of));
    }
}

/// Takes what was left when it ended.
fn rest<T>(
    remaining: Vec<std::io::Result<T>>,
    items: &mut Vec<Vec<Item>>,
    of: fn(T) -> Vec<Item>,
) -> Option<Flight> {
    items.extend(remaining.into_iter().flatten().map(of));
    None
}
