//! A ring with its books: every operation that it accepts is on a claim until it is accounted for.
//!
//! ```text
//!   submit(op, finish) ─► claim ─┬─► reap, try_take ─► finish(output)      taken
//!                                ├─► detach                               detached
//!                                └─► the ring goes                         left in flight
//! ```

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use annulus::lease::{BufRing, FileTable, FixedPool};
use annulus::op::{Completion, Multishot, Op};
use annulus::ring::Next;
use annulus::ring::link::Linked;
use annulus::{ChainOutcome, ChainTicket, Event, Rejection, Ring, Ticket};

use super::chance::Chance;
use super::tally::{Count, Tally};
use super::trouble::{Check, Trouble, equal, finding, may_pass, may_refuse};

/// Handles an output, or an item.
type Finish<T> = Box<dyn FnOnce(T) -> Check>;
type Each<T> = Box<dyn FnMut(T) -> Check>;

/// A ring, what is registered with it, and its books.
pub struct Desk {
    pub ring: Ring<u64>,
    pub pools: Vec<BufRing>,
    /// Who holds leases of the pools lets go of them, since an operation found no buffer.
    pub hungry: Rc<Cell<bool>>,
    pub fixed: Option<FixedPool>,
    pub table: Option<FileTable>,
    /// Messages that have come.
    pub messages: Vec<u64>,
    pub chance: Chance,
    pub tally: Tally,
    claims: HashMap<u64, Box<dyn Claim>>,
    chains: Vec<Box<dyn Chain>>,
    number: u64,
    /// Operations whose output was taken.
    taken: u64,
    slots: u32,
    /// Takes outputs and items ticket by ticket, and never reaps.
    polls: bool,
}

/// The claim to one operation.
trait Claim {
    fn cancel(&self, ring: &mut Ring<u64>) -> Check;
    /// It completed, and will again.
    fn completion(&mut self, completion: Completion) -> Check;
    /// Takes what there is. Returns itself if that is not all.
    fn take(self: Box<Self>, ring: &mut Ring<u64>) -> Result<Option<Box<dyn Claim>>, Trouble>;
    /// Whether nobody needs its output.
    fn is_spare(&self) -> bool;
    fn detach(self: Box<Self>, ring: &mut Ring<u64>);
}

/// The claim to a chain.
trait Chain {
    fn take(self: Box<Self>, ring: &mut Ring<u64>) -> Result<Option<Box<dyn Chain>>, Trouble>;
    fn steps(&self) -> u64;
}

struct Once<O: Op> {
    ticket: Ticket<O>,
    finish: Finish<O::Output>,
    spare: bool,
}

struct Many<O: Multishot> {
    ticket: Ticket<O>,
    each: Each<O::Item>,
    finish: Finish<O::Output>,
}

struct Linking<L: Linked> {
    chain: ChainTicket<L>,
    finish: Finish<ChainOutcome<L::Outputs>>,
    steps: u64,
}

impl<O: Op + 'static> Claim for Once<O> {
    fn cancel(&self, ring: &mut Ring<u64>) -> Check {
        ring.cancel(&self.ticket).or_else(|error| may_pass(error).map(drop))
    }

    fn completion(&mut self, completion: Completion) -> Check {
        finding(format!("an operation that completes once completed with {completion:?}"))
    }

    fn take(self: Box<Self>, ring: &mut Ring<u64>) -> Result<Option<Box<dyn Claim>>, Trouble> {
        let Self { ticket, finish, spare } = *self;
        match ring.try_take(ticket) {
            Ok(output) => finish(output).map(|()| None),
            Err(ticket) => Ok(Some(Box::new(Self { ticket, finish, spare }))),
        }
    }

    fn is_spare(&self) -> bool {
        self.spare
    }

    fn detach(self: Box<Self>, ring: &mut Ring<u64>) {
        ring.detach(self.ticket);
    }
}

impl<O: Multishot + 'static> Claim for Many<O> {
    fn cancel(&self, ring: &mut Ring<u64>) -> Check {
        ring.cancel(&self.ticket).or_else(|error| may_pass(error).map(drop))
    }

    fn completion(&mut self, completion: Completion) -> Check {
        (self.each)(O::item(completion))
    }

    fn take(mut self: Box<Self>, ring: &mut Ring<u64>) -> Result<Option<Box<dyn Claim>>, Trouble> {
        loop {
            match ring.try_next(&self.ticket) {
                Ok(Next::Item(item)) => (self.each)(item)?,
                Ok(Next::Pending) => return Ok(Some(self)),
                Ok(Next::Ended) => break,
                Err(error) => {
                    may_pass(error)?;
                    return Ok(Some(self));
                }
            }
        }
        let Self { ticket, each, finish } = *self;
        match ring.try_take(ticket) {
            Ok(output) => finish(output).map(|()| None),
            Err(ticket) => Ok(Some(Box::new(Self { ticket, each, finish }))),
        }
    }

    fn is_spare(&self) -> bool {
        false
    }

    fn detach(self: Box<Self>, ring: &mut Ring<u64>) {
        ring.detach(self.ticket);
    }
}

impl<L: Linked + 'static> Chain for Linking<L> {
    fn take(self: Box<Self>, ring: &mut Ring<u64>) -> Result<Option<Box<dyn Chain>>, Trouble> {
        let Self { chain, finish, steps } = *self;
        match ring.try_take_chain(chain) {
            Ok(outcome) => finish(outcome).map(|()| None),
            Err(chain) => Ok(Some(Box::new(Self { chain, finish, steps }))),
        }
    }

    fn steps(&self) -> u64 {
        self.steps
    }
}

impl Desk {
    /// A desk with nothing on it but a ring.
    pub fn new(ring: Ring<u64>, mut chance: Chance) -> Self {
        let (slots, polls) = (ring.vacant(), chance.one_in(3));
        let mut tally = Tally::default();
        tally.add(Count::Rings, 1);
        Self {
            ring,
            pools: Vec::new(),
            hungry: Rc::default(),
            fixed: None,
            table: None,
            messages: Vec::new(),
            chance,
            tally,
            claims: HashMap::new(),
            chains: Vec::new(),
            number: 0,
            taken: 0,
            slots,
            polls,
        }
    }

    // Operations come ----------------------------------------------------------------------------

    /// Submits an operation that completes once, here or on a worker thread. Returns whether the
    /// ring has accepted it.
    pub fn submit<O: Op + 'static>(
        &mut self,
        op: O,
        finish: impl FnOnce(O::Output) -> Check + 'static,
    ) -> Result<bool, Trouble> {
        if self.chance.one_in(8) {
            return self.ship(op.forced(), Box::new(finish), false);
        }
        self.ship(op, Box::new(finish), false)
    }

    /// Submits one whose output nobody needs: its ticket may be detached.
    pub fn submit_spare<O: Op + 'static>(&mut self, op: O) -> Result<bool, Trouble> {
        self.ship(op, Box::new(|_| Ok(())), true)
    }

    fn ship<O: Op + 'static>(
        &mut self,
        op: O,
        finish: Finish<O::Output>,
        spare: bool,
    ) -> Result<bool, Trouble> {
        self.number += 1;
        match self.ring.submit_for(op, self.number) {
            Ok(ticket) => Ok(self.claim(Box::new(Once { ticket, finish, spare }))),
            Err(rejected) => self.refused(rejected.why),
        }
    }

    /// Submits an operation that completes many times.
    pub fn submit_many<O: Multishot + 'static>(
        &mut self,
        op: O,
        each: impl FnMut(O::Item) -> Check + 'static,
        finish: impl FnOnce(O::Output) -> Check + 'static,
    ) -> Result<bool, Trouble> {
        self.number += 1;
        match self.ring.submit_for(op, self.number) {
            Ok(ticket) => {
                let (each, finish) = (Box::new(each), Box::new(finish));
                Ok(self.claim(Box::new(Many { ticket, each, finish })))
            }
            Err(rejected) => self.refused(rejected.why),
        }
    }

    /// Submits a chain of so many steps.
    pub fn submit_chain<L: Linked + 'static>(
        &mut self,
        chain: L,
        steps: u64,
        finish: impl FnOnce(ChainOutcome<L::Outputs>) -> Check + 'static,
    ) -> Result<bool, Trouble> {
        match self.ring.submit_chain(chain) {
            Ok(chain) => {
                self.tally.add(Count::Operations, steps);
                let finish = Box::new(finish);
                self.chains.push(Box::new(Linking { chain, finish, steps }));
                Ok(true)
            }
            Err(rejected) => self.refused(rejected.why),
        }
    }

    fn claim(&mut self, claim: Box<dyn Claim>) -> bool {
        self.tally.add(Count::Operations, 1);
        self.claims.insert(self.number, claim);
        true
    }

    fn refused(&mut self, why: Rejection) -> Result<bool, Trouble> {
        may_refuse(why)?;
        self.tally.add(Count::Refusals, 1);
        Ok(false)
    }

    // Operations end -----------------------------------------------------------------------------

    /// Submits, waits for a moment if asked, and takes what has come.
    pub fn turn(&mut self, limit: Duration) -> Check {
        let waited = match self.chance.below(4) {
            0 => self.ring.submit_all().map(drop),
            _ => self.ring.submit_and_wait_timeout(1, limit).map(drop),
        };
        if let Err(error) = waited {
            let by_signal = may_pass(error)?;
            self.tally.add(Count::Interrupted, by_signal.into());
        }
        if self.polls {
            self.poll()?
        } else {
            self.reap()?
        }
        let chains = std::mem::take(&mut self.chains);
        for chain in chains {
            let steps = chain.steps();
            match chain.take(&mut self.ring)? {
                None => self.taken += steps,
                Some(chain) => self.chains.push(chain),
            }
        }
        Ok(())
    }

    fn reap(&mut self) -> Check {
        let (mut happened, messages) = (Vec::new(), &mut self.messages);
        let mut stranger = None;
        let reaped = self.ring.reap(|event| match event {
            Event::Ended { user, .. } => happened.push((*user, None)),
            Event::Multishot { user, completion, .. } => happened.push((*user, Some(completion))),
            Event::Message(message) => messages.push(message),
            other => stranger = Some(format!("nobody asked for {other:?}")),
        });
        if let Err(error) = reaped {
            may_pass(error)?;
        }
        if let Some(stranger) = stranger {
            return finding(stranger);
        }
        for (number, completion) in happened {
            // Steps of chains, and operations that were detached, have no number here.
            let Some(mut claim) = self.claims.remove(&number) else { continue };
            match completion {
                Some(completion) => {
                    claim.completion(completion)?;
                    self.claims.insert(number, claim);
                }
                None => match claim.take(&mut self.ring)? {
                    None => self.taken += 1,
                    Some(_) => return finding("an operation has ended, and has no output"),
                },
            }
        }
        Ok(())
    }

    /// Takes outputs and items ticket by ticket; only messages are reaped.
    fn poll(&mut self) -> Check {
        let mut numbers: Vec<u64> = self.claims.keys().copied().collect();
        numbers.sort_unstable(); // The same way in each run of this seed.
        for number in numbers {
            let Some(claim) = self.claims.remove(&number) else { continue };
            match claim.take(&mut self.ring)? {
                None => self.taken += 1,
                Some(claim) => drop(self.claims.insert(number, claim)),
            }
        }
        self.reap()
    }

    /// Cancels an operation, or detaches one.
    pub fn disturb(&mut self) -> Check {
        let mut numbers: Vec<u64> = self.claims.keys().copied().collect();
        if numbers.is_empty() {
            return Ok(());
        }
        numbers.sort_unstable();
        let number = self.chance.among(&numbers);
        let detaches = self.chance.one_in(3);
        let claim = self.claims.get(&number);
        if detaches && claim.is_some_and(|claim| claim.is_spare()) {
            if let Some(claim) = self.claims.remove(&number) {
                claim.detach(&mut self.ring);
                self.tally.add(Count::Detached, 1);
            }
            return Ok(());
        }
        self.tally.add(Count::Cancels, 1);
        claim.map_or(Ok(()), |claim| claim.cancel(&mut self.ring))
    }

    /// Cancels everything.
    pub fn cancel_all(&mut self) -> Check {
        self.tally.add(Count::Cancels, self.claims.len() as u64);
        self.claims.values().try_for_each(|claim| claim.cancel(&mut self.ring))
    }

    // The end ------------------------------------------------------------------------------------

    /// Whether every claim is settled, and the kernel has nothing.
    pub fn is_idle(&self) -> bool {
        self.claims.is_empty() && self.chains.is_empty() && self.ring.in_flight() == 0
    }

    /// Fails unless every operation is accounted for; and every slot, buffer and place is back.
    pub fn is_whole(&mut self) -> Check {
        self.is_balanced()?;
        equal("operations on a claim", self.claimed(), 0)?;
        let unredeemed: Vec<_> = self.ring.unredeemed().map(|(slot, user)| (slot, *user)).collect();
        equal("operations in flight", self.ring.in_flight(), 0)?;
        equal("operations unredeemed, by slot and number", unredeemed, Vec::new())?;
        equal("slots that are vacant", self.ring.vacant(), self.slots)?;
        equal("completions of no operation", self.ring.stale(), 0)?;
        for pool in &self.pools {
            equal("buffers leased", pool.leased(), 0)?;
        }
        if let Some(fixed) = &self.fixed {
            equal("registered buffers free", fixed.available(), fixed.count().into())?;
        }
        if let Some(table) = &self.table {
            equal("places of files held", table.held(), 0)?;
            equal("places of files lost", table.lost(), 0)?;
        }
        Ok(())
    }

    /// Operations = outputs taken + detached + on a claim.
    fn is_balanced(&self) -> Check {
        let found = self.taken + self.tally.of(Count::Detached) + self.claimed();
        equal("operations accounted for", found, self.tally.of(Count::Operations))
    }

    /// How many operations are on a claim.
    fn claimed(&self) -> u64 {
        self.claims.len() as u64 + self.chains.iter().map(|chain| chain.steps()).sum::<u64>()
    }

    /// Takes the ring away, with operations in flight or without, and adds up what it did. The
    /// tickets outlive it.
    pub fn go(mut self, end: impl FnOnce(Ring<u64>) -> Check) -> Result<Tally, Trouble> {
        self.is_balanced()?;
        let (left, stats) = (self.claimed(), self.ring.stats());
        self.tally.add(Count::LeftInFlight, left);
        self.tally.add(Count::Enters, stats.enters);
        self.tally.add(Count::Sqes, stats.sqes);
        self.tally.add(Count::Cqes, stats.cqes);
        self.tally.add(Count::Overflows, stats.overflows);
        end(self.ring)?;
        Ok(self.tally)
    }
}
