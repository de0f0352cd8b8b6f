//! Chains: which ones are submitted, and what their outputs must be.
//!
//! | chain | entries |
//! |---|---|
//! | `[read; 3]` | 3 |
//! | `(read, write.hard(), nop)` | 3 |
//! | `(read.within(..), nop)` | 3 |
//! | `(nop, write, read, nop.hard().within..)` | 5 |
//! | `vec![read; 3]` | 3 |
//! | `(vec![read.within(..); 2], write)` | 5 |

use std::sync::Arc;
use std::time::Duration;

use annulus::op::{Read, Write};
use annulus::ring::link::{Hard, Within};
use annulus::{Ring, Step, StepExt, Ticket, Timed};

use super::chance::Chance;
use super::claims::{AnyClaim, JudgedRow, One, Parts, Row, Shooting, Sink};
use super::ledger::{Fate, Of, OpId, Tie};
use super::things::{File, Panics, Tagged, UserValue, Watched};
use super::world::{Bomb, Token, World};

type Reading = Read<File, Watched<Box<[u8]>>>;
type Writing = Write<File, Watched<Vec<u8>>>;

type Array = [Reading; 3];
type List = Vec<Reading>;
type Parting = (Vec<Within<Reading>>, Writing);
type Mixed = (Reading, Hard<Writing>, Tagged);
type Timely = (Within<Reading>, Tagged);
type Long = (Tagged, Writing, Hard<Within<Reading>>, Tagged);

/// Makes operations for one ring.
pub struct Maker<'a> {
    pub world: &'a Arc<World>,
    pub ring: usize,
    pub chance: &'a mut Chance,
}

impl Maker<'_> {
    pub fn op(&mut self) -> OpId {
        self.world.make(self.ring, Fate::Ends)
    }

    pub fn token(&mut self, id: OpId) -> Token {
        Token::new(self.world, id, Of::Kernel, Bomb::No)
    }

    /// The token of a buffer that may panic when it is asked for its bytes.
    fn bomb(&mut self, id: OpId) -> Token {
        let bomb = if self.chance.one_in(4) { Bomb::Yes } else { Bomb::No };
        Token::new(self.world, id, Of::Kernel, bomb)
    }

    fn read(&mut self) -> (OpId, Reading) {
        let id = self.op();
        let bytes = vec![0; self.chance.below(40) as usize].into_boxed_slice();
        let buf = Watched::new(self.bomb(id), Panics::InRegion, bytes);
        (id, Read::new(File::new(self.token(id)), buf).at(u64::from(id)))
    }

    fn write(&mut self) -> (OpId, Writing) {
        let id = self.op();
        let bytes = self.chance.bytes(24);
        let buf = Watched::new(self.bomb(id), Panics::InRegion, bytes);
        (id, Write::new(File::new(self.token(id)), buf).at(u64::from(id)))
    }

    fn nop(&mut self) -> (OpId, Tagged) {
        let id = self.op();
        (id, Tagged(self.token(id)))
    }

    fn time(&mut self) -> Duration {
        Duration::from_nanos(self.chance.next())
    }

    /// Submits a random kind of chain.
    pub fn submit_chain(&mut self, ring: &mut Ring<UserValue>) -> Option<Box<dyn AnyClaim>> {
        match self.chance.below(6) {
            0 => {
                let ((a, read_a), (b, read_b), (c, read_c)) =
                    (self.read(), self.read(), self.read());
                self.row::<Array>(ring, [read_a, read_b, read_c], vec![a, b, c])
            }
            1 => {
                let ((a, read), (b, write), (c, nop)) = (self.read(), self.write(), self.nop());
                self.row::<Mixed>(ring, (read, write.hard(), nop), vec![a, b, c])
            }
            2 => {
                let ids_and_reads = [self.read(), self.read(), self.read()];
                let (ids, reads) = ids_and_reads.into_iter().unzip();
                self.row::<List>(ring, reads, ids)
            }
            3 => {
                let ((a, read_a), clock_a) = (self.read(), self.op());
                let ((b, read_b), clock_b) = (self.read(), self.op());
                let (c, write) = self.write();
                let reads = vec![read_a.within(self.time()), read_b.within(self.time())];
                self.row::<Parting>(ring, (reads, write), vec![a, clock_a, b, clock_b, c])
            }
            4 => {
                let ((a, read), clock, (c, nop)) = (self.read(), self.op(), self.nop());
                let read = read.within(self.time());
                self.row::<Timely>(ring, (read, nop), vec![a, clock, c])
            }
            _ => {
                let ((a, first), (b, write)) = (self.nop(), self.write());
                let ((c, read), clock, (d, last)) = (self.read(), self.op(), self.nop());
                let read = read.within(self.time()).hard();
                self.row::<Long>(ring, (first, write, read, last), vec![a, b, c, clock, d])
            }
        }
    }

    /// Submits `chain`, which consists of these operations.
    fn row<L: JudgedRow>(
        &mut self,
        ring: &mut Ring<UserValue>,
        chain: L,
        ids: Vec<OpId>,
    ) -> Option<Box<dyn AnyClaim>> {
        ids.iter().zip(L::TIES).for_each(|(&id, &tie)| self.world.tie(id, tie));
        let tickets = ring.submit_chain(chain).ok()?;
        ids.iter().for_each(|&id| self.world.pushed(id));
        Some(Box::new(Row { ids, tickets }))
    }
}

fn judge<O: Shooting>(output: O::Output, id: OpId, sink: Sink<'_>) {
    O::judge(output, &sink.world.redeemed(id), sink.world, sink.leases);
}

fn judge_timed<O: Shooting>(timed: Timed<O::Output>, ids: [OpId; 2], sink: Sink<'_>) {
    let clock = sink.world.redeemed(ids[1]);
    if timed.expired != (clock.result == -libc::ETIME) {
        sink.world.fault(format!("expired: {}, and {}", timed.expired, clock.result));
    }
    judge::<O>(timed.output, ids[0], sink);
}

fn one<O: Shooting>(ticket: Ticket<O>, id: OpId) -> Box<dyn AnyClaim> {
    Box::new(One { id, ticket })
}

impl JudgedRow for Array {
    const STEPS: &'static [usize] = &[0, 1, 2];
    const TIES: &'static [Tie] = &[Tie::Soft, Tie::Soft, Tie::None];

    fn judge(outputs: Self::Outputs, ids: &[OpId], sink: Sink<'_>) {
        outputs.into_iter().zip(ids).for_each(|(it, &id)| judge::<Reading>(it, id, sink));
    }

    fn parts(tickets: Self::Tickets, ids: &[OpId]) -> Parts {
        let claims = tickets.into_iter().zip(ids).map(|(ticket, &id)| one(ticket, id)).collect();
        Parts { claims, lost: Vec::new() }
    }
}

impl JudgedRow for List {
    const STEPS: &'static [usize] = Array::STEPS;
    const TIES: &'static [Tie] = Array::TIES;

    fn judge(outputs: Self::Outputs, ids: &[OpId], sink: Sink<'_>) {
        assert_eq!(outputs.len(), ids.len());
        outputs.into_iter().zip(ids).for_each(|(it, &id)| judge::<Reading>(it, id, sink));
    }

    fn parts(tickets: Self::Tickets, ids: &[OpId]) -> Parts {
        let claims = tickets.into_iter().zip(ids).map(|(ticket, &id)| one(ticket, id)).collect();
        Parts { claims, lost: Vec::new() }
    }
}

impl JudgedRow for Parting {
    const STEPS: &'static [usize] = &[0, 2, 4];
    const TIES: &'static [Tie] = &[Tie::Soft, Tie::Soft, Tie::Soft, Tie::Soft, Tie::None];

    fn judge((reads, write): Self::Outputs, ids: &[OpId], sink: Sink<'_>) {
        for (at, read) in reads.into_iter().enumerate() {
            judge_timed::<Reading>(read, [ids[2 * at], ids[2 * at + 1]], sink);
        }
        judge::<Writing>(write, ids[4], sink);
    }

    fn parts((_, write): Self::Tickets, ids: &[OpId]) -> Parts {
        Parts { claims: vec![one(write, ids[4])], lost: ids[..4].to_vec() }
    }
}

impl JudgedRow for Mixed {
    const STEPS: &'static [usize] = &[0, 1, 2];
    const TIES: &'static [Tie] = &[Tie::Soft, Tie::Hard, Tie::None];

    fn judge((read, write, nop): Self::Outputs, ids: &[OpId], sink: Sink<'_>) {
        judge::<Reading>(read, ids[0], sink);
        judge::<Writing>(write, ids[1], sink);
        judge::<Tagged>(nop, ids[2], sink);
    }

    fn parts((read, write, nop): Self::Tickets, ids: &[OpId]) -> Parts {
        let claims = vec![one(read, ids[0]), one(write, ids[1]), one(nop, ids[2])];
        Parts { claims, lost: Vec::new() }
    }
}

impl JudgedRow for Timely {
    const STEPS: &'static [usize] = &[0, 2];
    const TIES: &'static [Tie] = &[Tie::Soft, Tie::Soft, Tie::None];

    fn judge((read, nop): Self::Outputs, ids: &[OpId], sink: Sink<'_>) {
        judge_timed::<Reading>(read, [ids[0], ids[1]], sink);
        judge::<Tagged>(nop, ids[2], sink);
    }

    fn parts((_, nop): Self::Tickets, ids: &[OpId]) -> Parts {
        Parts { claims: vec![one(nop, ids[2])], lost: vec![ids[0], ids[1]] }
    }
}

impl JudgedRow for Long {
    const STEPS: &'static [usize] = &[0, 1, 2, 4];
    const TIES: &'static [Tie] = &[Tie::Soft, Tie::Soft, Tie::Hard, Tie::Hard, Tie::None];

    fn judge((first, write, read, last): Self::Outputs, ids: &[OpId], sink: Sink<'_>) {
        judge::<Tagged>(first, ids[0], sink);
        judge::<Writing>(write, ids[1], sink);
        judge_timed::<Reading>(read, [ids[2], ids[3]], sink);
        judge::<Tagged>(last, ids[4], sink);
    }

    fn parts((first, write, _, last): Self::Tickets, ids: &[OpId]) -> Parts {
        let claims = vec![one(first, ids[0]), one(write, ids[1]), one(last, ids[4])];
        Parts { claims, lost: vec![ids[2], ids[3]] }
    }
}
