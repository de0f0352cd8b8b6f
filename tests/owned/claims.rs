//! Tickets of any operation, as things that can be redeemed, given up, or forgotten.

use std::time::Duration;

use annulus::buf::IoBuf;
use annulus::link::Linked;
use annulus::op::{Multishot, Read, RecvMulti, RecvPicked, SendZc, Write};
use annulus::{ChainEnd, ChainTicket, EnterError, Next, Ring, Ticket, Unfinished};

use super::ledger::{Goes, OpId, Tie};
use super::things::{File, Judged, Leases, Readable, Tagged, Watched, Word, keep};
use super::world::World;

/// Where outputs go.
#[derive(Clone, Copy)]
pub struct Sink<'a> {
    pub world: &'a World,
    pub leases: &'a Leases,
}

/// What came of a wait.
pub type Waited = Result<(), (Box<dyn AnyClaim>, EnterError)>;

/// A claim to one output, or to those of a chain.
pub trait AnyClaim {
    /// The operations.
    fn ids(&self) -> Vec<OpId>;

    fn try_take(
        self: Box<Self>,
        ring: &mut Ring<Word>,
        sink: Sink<'_>,
    ) -> Result<(), Box<dyn AnyClaim>>;

    fn wait(
        self: Box<Self>,
        ring: &mut Ring<Word>,
        time: Option<Duration>,
        sink: Sink<'_>,
    ) -> Waited;

    fn cancel(&self, ring: &mut Ring<Word>) -> Result<(), EnterError>;

    fn detach(self: Box<Self>, ring: &mut Ring<Word>);

    /// The word of the operation, if it is one.
    fn word<'r>(&self, ring: &'r mut Ring<Word>) -> Option<&'r mut Word>;

    /// Takes a shot, if it has any: waiting for it or not.
    fn next(
        &self,
        ring: &mut Ring<Word>,
        patience: Patience,
        sink: Sink<'_>,
    ) -> Result<(), EnterError>;

    /// The claims one by one.
    fn into_parts(self: Box<Self>) -> Parts;
}

/// What a claim falls into.
#[derive(Default)]
pub struct Parts {
    pub claims: Vec<Box<dyn AnyClaim>>,
    /// Operations whose claims cannot be redeemed alone.
    pub lost: Vec<OpId>,
}

/// Whether to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    None,
    Endless,
}

/// A ticket.
pub struct One<O> {
    pub id: OpId,
    pub ticket: Ticket<O>,
}

/// Operations that may complete many times.
pub trait Shooting: Judged {
    /// Takes a shot.
    fn next(
        _: &mut Ring<Word>,
        _: &Ticket<Self>,
        _: Patience,
        _: Sink<'_>,
    ) -> Result<(), EnterError> {
        Ok(())
    }
}

impl<B: Readable> Shooting for Read<File, Watched<B>> {}
impl<B: AsRef<[u8]> + IoBuf + 'static> Shooting for Write<File, Watched<B>> {}
impl Shooting for RecvPicked<File> {}
impl Shooting for Tagged {}

fn next_of<O: Multishot>(
    ring: &mut Ring<Word>,
    ticket: &Ticket<O>,
    patience: Patience,
) -> Result<Option<O::Item>, EnterError> {
    match patience {
        Patience::Endless => ring.next(ticket),
        Patience::None => Ok(match ring.try_next(ticket)? {
            Next::Item(item) => Some(item),
            Next::Pending | Next::Ended => None,
        }),
    }
}

impl Shooting for RecvMulti<File> {
    fn next(
        ring: &mut Ring<Word>,
        ticket: &Ticket<Self>,
        patience: Patience,
        sink: Sink<'_>,
    ) -> Result<(), EnterError> {
        if let Some(Ok(lease)) = next_of(ring, ticket, patience)? {
            keep(lease, sink.world, sink.leases);
        }
        Ok(())
    }
}

impl Shooting for SendZc<File, Watched<Box<[u8]>>> {
    fn next(
        ring: &mut Ring<Word>,
        ticket: &Ticket<Self>,
        patience: Patience,
        _: Sink<'_>,
    ) -> Result<(), EnterError> {
        next_of(ring, ticket, patience).map(drop)
    }
}

impl<O: Shooting> AnyClaim for One<O> {
    fn ids(&self) -> Vec<OpId> {
        vec![self.id]
    }

    fn try_take(
        self: Box<Self>,
        ring: &mut Ring<Word>,
        sink: Sink<'_>,
    ) -> Result<(), Box<dyn AnyClaim>> {
        let Self { id, ticket } = *self;
        let output = ring.try_take(ticket);
        let output = output.map_err(|ticket| Box::new(Self { id, ticket }) as Box<dyn AnyClaim>)?;
        O::judge(output, &sink.world.redeemed(id), sink.world, sink.leases);
        Ok(())
    }

    fn wait(
        self: Box<Self>,
        ring: &mut Ring<Word>,
        time: Option<Duration>,
        sink: Sink<'_>,
    ) -> Waited {
        let Self { id, ticket } = *self;
        let waited = match time {
            None => ring.wait(ticket),
            Some(time) => ring.wait_timeout(ticket, time),
        };
        match waited {
            Ok(output) => {
                O::judge(output, &sink.world.redeemed(id), sink.world, sink.leases);
                Ok(())
            }
            Err(Unfinished { ticket, why }) => Err((Box::new(Self { id, ticket }), why)),
        }
    }

    fn cancel(&self, ring: &mut Ring<Word>) -> Result<(), EnterError> {
        ring.cancel(&self.ticket)
    }

    fn detach(self: Box<Self>, ring: &mut Ring<Word>) {
        ring.detach(self.ticket);
    }

    fn word<'r>(&self, ring: &'r mut Ring<Word>) -> Option<&'r mut Word> {
        Some(ring.user(&self.ticket))
    }

    fn next(
        &self,
        ring: &mut Ring<Word>,
        patience: Patience,
        sink: Sink<'_>,
    ) -> Result<(), EnterError> {
        O::next(ring, &self.ticket, patience, sink)
    }

    fn into_parts(self: Box<Self>) -> Parts {
        Parts { claims: vec![self], lost: Vec::new() }
    }
}

/// The tickets of a chain.
pub struct Row<L: Linked> {
    pub ids: Vec<OpId>,
    pub tickets: ChainTicket<L>,
}

/// Chains whose outputs can be told right from wrong.
pub trait JudgedRow: Linked + 'static {
    /// Which of the operations are steps; the others are clocks.
    const STEPS: &'static [usize];
    /// How each of the operations is tied to the next.
    const TIES: &'static [Tie];

    /// Says what is wrong with the outputs of these operations.
    fn judge(outputs: Self::Outputs, ids: &[OpId], sink: Sink<'_>);

    /// The claims one by one.
    fn parts(tickets: Self::Tickets, ids: &[OpId]) -> Parts;
}

/// Where the chain of `ids` must have ended: at the last step that ran, if that one broke it, and
/// otherwise at the next, which then began, and was cancelled.
fn end_of(steps: &[usize], ids: &[OpId], world: &World) -> ChainEnd {
    let ran = |&at: &usize| {
        let clock = (!steps.contains(&(at + 1))).then(|| ids.get(at + 1)).flatten();
        let ran_out = clock.is_some_and(|&clock| world.result(clock) != -libc::ECANCELED);
        world.result(ids[at]) != -libc::ECANCELED || ran_out
    };
    let Some(last) = steps.iter().rposition(ran) else { return ChainEnd::Broken { at: 0 } };
    match world.goes(ids[steps[last]]) {
        _ if last + 1 == steps.len() => ChainEnd::Complete,
        Goes::On => ChainEnd::Broken { at: last + 1 },
        Goes::No => ChainEnd::Broken { at: last },
    }
}

impl<L: JudgedRow> AnyClaim for Row<L> {
    fn ids(&self) -> Vec<OpId> {
        self.ids.clone()
    }

    fn try_take(self: Box<Self>, _: &mut Ring<Word>, _: Sink<'_>) -> Result<(), Box<dyn AnyClaim>> {
        Err(self)
    }

    fn wait(self: Box<Self>, ring: &mut Ring<Word>, _: Option<Duration>, sink: Sink<'_>) -> Waited {
        let Self { ids, tickets } = *self;
        match ring.wait_chain(tickets) {
            Ok(chain) => {
                let expected = end_of(L::STEPS, &ids, sink.world);
                if chain.end != expected {
                    let results: Vec<_> = ids.iter().map(|&id| sink.world.result(id)).collect();
                    let was = format!("a chain of {results:?} ended {:?}", chain.end);
                    sink.world.fault(format!("{was}, not {expected:?}"));
                }
                L::judge(chain.outputs, &ids, sink);
                Ok(())
            }
            Err(Unfinished { ticket: tickets, why }) => {
                ids.iter().for_each(|&id| sink.world.may_be_quiet(id));
                Err((Box::new(Self { ids, tickets }), why))
            }
        }
    }

    fn cancel(&self, _: &mut Ring<Word>) -> Result<(), EnterError> {
        Ok(())
    }

    fn detach(self: Box<Self>, _: &mut Ring<Word>) {
        unreachable!("it is taken apart first");
    }

    fn word<'r>(&self, _: &'r mut Ring<Word>) -> Option<&'r mut Word> {
        None
    }

    fn next(&self, _: &mut Ring<Word>, _: Patience, _: Sink<'_>) -> Result<(), EnterError> {
        Ok(())
    }

    fn into_parts(self: Box<Self>) -> Parts {
        L::parts(self.tickets.into_tickets(), &self.ids)
    }
}
