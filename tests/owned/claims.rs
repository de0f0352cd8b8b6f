//! Tickets of any operation, as values that can be redeemed, dropped, or forgotten.

use std::time::Duration;

use annulus::buf::IoBuf;
use annulus::op::{Multishot, Read, RecvMulti, RecvProvided, SendZc, Write};
use annulus::ring::link::Linked;
use annulus::{ChainEnd, ChainTicket, EnterError, Next, Ring, Ticket, Unfinished};

use super::ledger::{Goes, OpId, Tie};
use super::things::{File, Judged, Leases, Readable, Tagged, UserValue, Watched, keep};
use super::world::World;

/// Where outputs go.
#[derive(Clone, Copy)]
pub struct Sink<'a> {
    pub world: &'a World,
    pub leases: &'a Leases,
}

/// The outcome of a wait.
pub type Waited = Result<(), (Box<dyn AnyClaim>, EnterError)>;

/// A claim to one output, or to those of a chain.
pub trait AnyClaim {
    /// The operations.
    fn ids(&self) -> Vec<OpId>;

    fn try_take(
        self: Box<Self>,
        ring: &mut Ring<UserValue>,
        sink: Sink<'_>,
    ) -> Result<(), Box<dyn AnyClaim>>;

    fn wait(
        self: Box<Self>,
        ring: &mut Ring<UserValue>,
        time: Option<Duration>,
        sink: Sink<'_>,
    ) -> Waited;

    fn cancel(&self, ring: &mut Ring<UserValue>) -> Result<(), EnterError>;

    fn detach(self: Box<Self>, ring: &mut Ring<UserValue>);

    /// The user value of the operation, if the claim is to one operation.
    fn user_value<'r>(&self, ring: &'r mut Ring<UserValue>) -> Option<&'r mut UserValue>;

    /// Takes a completion of a multishot operation, waiting for it or not.
    fn next(
        &self,
        ring: &mut Ring<UserValue>,
        options: WaitOptions,
        sink: Sink<'_>,
    ) -> Result<(), EnterError>;

    /// The claims one by one.
    fn into_parts(self: Box<Self>) -> Parts;
}

/// What a claim needs in order to be redeemed.
#[derive(Default)]
pub struct Parts {
    pub claims: Vec<Box<dyn AnyClaim>>,
    /// Operations whose claims cannot be redeemed alone.
    pub lost: Vec<OpId>,
}

/// Whether to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitOptions {
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
    /// Takes one completion.
    fn next(
        _: &mut Ring<UserValue>,
        _: &Ticket<Self>,
        _: WaitOptions,
        _: Sink<'_>,
    ) -> Result<(), EnterError> {
        Ok(())
    }
}

impl<B: Readable> Shooting for Read<File, Watched<B>> {}
impl<B: AsRef<[u8]> + IoBuf + 'static> Shooting for Write<File, Watched<B>> {}
impl Shooting for RecvProvided<File> {}
impl Shooting for Tagged {}

fn next_of<O: Multishot>(
    ring: &mut Ring<UserValue>,
    ticket: &Ticket<O>,
    options: WaitOptions,
) -> Result<Option<O::Item>, EnterError> {
    match options {
        WaitOptions::Endless => ring.next(ticket),
        WaitOptions::None => Ok(match ring.try_next(ticket)? {
            Next::Item(item) => Some(item),
            Next::Pending | Next::Ended => None,
        }),
    }
}

impl Shooting for RecvMulti<File> {
    fn next(
        ring: &mut Ring<UserValue>,
        ticket: &Ticket<Self>,
        options: WaitOptions,
        sink: Sink<'_>,
    ) -> Result<(), EnterError> {
        if let Some(Ok(lease)) = next_of(ring, ticket, options)? {
            keep(lease, sink.world, sink.leases);
        }
        Ok(())
    }
}

impl Shooting for SendZc<File, Watched<Box<[u8]>>> {
    fn next(
        ring: &mut Ring<UserValue>,
        ticket: &Ticket<Self>,
        options: WaitOptions,
        _: Sink<'_>,
    ) -> Result<(), EnterError> {
        next_of(ring, ticket, options).map(drop)
    }
}

impl<O: Shooting> AnyClaim for One<O> {
    fn ids(&self) -> Vec<OpId> {
        vec![self.id]
    }

    fn try_take(
        self: Box<Self>,
        ring: &mut Ring<UserValue>,
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
        ring: &mut Ring<UserValue>,
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

    fn cancel(&self, ring: &mut Ring<UserValue>) -> Result<(), EnterError> {
        ring.cancel(&self.ticket)
    }

    fn detach(self: Box<Self>, ring: &mut Ring<UserValue>) {
        ring.detach(self.ticket);
    }

    fn user_value<'r>(&self, ring: &'r mut Ring<UserValue>) -> Option<&'r mut UserValue> {
        Some(ring.user(&self.ticket))
    }

    fn next(
        &self,
        ring: &mut Ring<UserValue>,
        options: WaitOptions,
        sink: Sink<'_>,
    ) -> Result<(), EnterError> {
        O::next(ring, &self.ticket, options, sink)
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

/// Chains whose outputs can be checked.
pub trait JudgedRow: Linked + 'static {
    /// Which of the operations are steps; the others are link timeouts.
    const STEPS: &'static [usize];
    /// How each of the operations is linked to the next.
    const TIES: &'static [Tie];

    /// Reports what is wrong with the outputs of these operations.
    fn judge(outputs: Self::Outputs, ids: &[OpId], sink: Sink<'_>);

    /// The claims one by one.
    fn parts(tickets: Self::Tickets, ids: &[OpId]) -> Parts;
}

/// Where the chain of `ids` must have ended: at the last step that ran, if that step broke the
/// chain; otherwise at the step after it, which began and was cancelled.
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

    fn try_take(
        self: Box<Self>,
        _: &mut Ring<UserValue>,
        _: Sink<'_>,
    ) -> Result<(), Box<dyn AnyClaim>> {
        Err(self)
    }

    fn wait(
        self: Box<Self>,
        ring: &mut Ring<UserValue>,
        _: Option<Duration>,
        sink: Sink<'_>,
    ) -> Waited {
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

    fn cancel(&self, _: &mut Ring<UserValue>) -> Result<(), EnterError> {
        Ok(())
    }

    fn detach(self: Box<Self>, _: &mut Ring<UserValue>) {
        unreachable!("it is taken apart first");
    }

    fn user_value<'r>(&self, _: &'r mut Ring<UserValue>) -> Option<&'r mut UserValue> {
        None
    }

    fn next(&self, _: &mut Ring<UserValue>, _: WaitOptions, _: Sink<'_>) -> Result<(), EnterError> {
        Ok(())
    }

    fn into_parts(self: Box<Self>) -> Parts {
        L::parts(self.tickets.into_tickets(), &self.ids)
    }
}
