//! What a program submits: reads, writes, sends and others, with buffers of every kind.

use annulus::lease::BufLease;
use annulus::op::{Read, RecvMulti, RecvProvided, SendZc, Write};
use annulus::{Rejected, Rejection};

use super::Profile;
use super::blame::disarm_unset;
use super::chains::Maker;
use super::claims::{One, Shooting};
use super::ledger::{Claim, Fate, Of, OpId};
use super::program::{Program, expected, serial};
use super::things::{File, Panics, Tagged, UserValue, Watched};
use super::world::{Bomb, OnPurpose, Token};

impl Program {
    fn bomb(&mut self) -> Bomb {
        let bombs = self.profile == Profile::Panicking && self.chance.one_in(4);
        if bombs { Bomb::Yes } else { Bomb::No }
    }

    pub fn token(&mut self, id: OpId, of: Of) -> Token {
        let bomb = self.bomb();
        Token::new(&self.world, id, of, bomb)
    }

    fn watched<B>(&mut self, id: OpId, bytes: B) -> Watched<B> {
        let panics = [Panics::Never, Panics::Never, Panics::InRegion, Panics::InFilled];
        let panics = self.chance.among(&panics);
        Watched::new(self.token(id, Of::Kernel), panics, bytes)
    }

    fn file(&mut self, id: OpId) -> File {
        File::new(self.token(id, Of::Kernel))
    }

    pub fn submit(&mut self, at: usize) {
        let rig = &mut self.rigs[at];
        let stays = rig.stays < 2 && self.chance.one_in(24);
        rig.stays += u32::from(stays);
        let fate = if stays { Fate::Stays } else { Fate::Ends };
        let (id, len) = (self.world.make(rig.number, fate), self.chance.below(40) as usize);
        if self.chance.one_in(6) {
            let token = self.token(id, Of::Kernel);
            return self.place(at, id, Tagged(token));
        }
        let (file, place) = (self.file(id), u64::from(id));
        if let Some((lease, bytes)) = self.some_lease() {
            // A lease is a buffer too, and goes back when the operation is done with it.
            self.given.push((serial(&bytes), id));
            let buf = self.watched(id, lease);
            return self.place(at, id, Write::new(file, buf).at(place));
        }
        let buffers = self.chance.place(self.rigs[at].buffers.len());
        let buffers = buffers.map(|it| self.rigs[at].buffers[it].clone());
        match (self.habits.kind(&mut self.chance), buffers) {
            (0, _) => {
                // What is in it already is written over.
                let mut bytes = Vec::with_capacity(len + 1);
                bytes.resize(self.chance.below(2) as usize * len, 0);
                let buf = self.watched(id, bytes);
                self.place(at, id, Read::new(file, buf).at(place));
            }
            (1 | 2, _) => {
                let buf = self.watched(id, vec![0; len + 1].into_boxed_slice());
                self.place(at, id, Read::new(file, buf).at(place));
            }
            (3, _) => {
                let buf = self.watched(id, [0; 8]);
                self.place(at, id, Read::new(file, buf).at(place));
            }
            (4, _) => {
                let bytes = self.chance.bytes(len);
                let buf = self.watched(id, bytes);
                self.place(at, id, Write::new(file, buf).at(place));
            }
            (5, _) => {
                let bytes = self.chance.next().to_le_bytes();
                let buf = self.watched(id, bytes);
                self.place(at, id, Write::new(file, buf).at(place));
            }
            (7, Some(buffers)) => self.place(at, id, RecvProvided::new(file, &buffers)),
            (8, Some(buffers)) => self.place(at, id, RecvMulti::new(file, &buffers)),
            _ => {
                let bytes = self.chance.bytes(len).into_boxed_slice();
                let buf = self.watched(id, bytes);
                self.place(at, id, SendZc::new(file, buf));
            }
        }
    }

    fn some_lease(&mut self) -> Option<(BufLease, Vec<u8>)> {
        let place = self.chance.place(self.leases.borrow().len())?;
        self.chance.one_in(4).then(|| self.leases.borrow_mut().swap_remove(place))
    }

    fn place<O: Shooting>(&mut self, at: usize, id: OpId, op: O) {
        let user = UserValue::new(self.token(id, Of::Caller));
        if self.chance.one_in(self.habits.unticketed) {
            return self.place_unticketed(at, id, op, user);
        }
        let arms = self.arm_unset(0);
        let submitted = self.risk(|it| it.rigs[at].ring.submit_for(op, user));
        let has_panicked = disarm_unset(arms);
        match submitted {
            Ok(Ok(ticket)) => {
                self.world.pushed(id);
                self.rigs[at].claims.push(Box::new(One { id, ticket }));
            }
            Ok(Err(Rejected { why, .. })) => self.rejected(at, why),
            Err(OnPurpose) => self.note_unset(id, has_panicked),
        }
    }

    /// Submitting `id` has ended with a panic: nothing was submitted; or the user value that was in
    /// the slot has panicked, and nobody has the ticket.
    pub fn note_unset(&self, id: OpId, has_panicked: bool) {
        if has_panicked {
            self.world.pushed(id);
            self.world.claim(id, Claim::Detached);
        }
    }

    pub fn rejected(&self, at: usize, why: Rejection) {
        match why {
            Rejection::NoSlot => assert_eq!(self.rigs[at].ring.vacant(), 0),
            Rejection::Enter(error) => expected(error),
            Rejection::QueueFull => {}
            other => panic!("rejected: {other}"),
        }
    }

    pub fn submit_chain(&mut self, at: usize) {
        // Nothing of the chain is submitted if a step panics.
        let after = self.chance.below(4);
        let arms = self.arm_unset(after);
        let _ = self.risk(|it| {
            let Self { world, chance, rigs, .. } = it;
            let rig = &mut rigs[at];
            let mut maker = Maker { world, ring: rig.number, chance };
            rig.claims.extend(maker.submit_chain(&mut rig.ring));
        });
        disarm_unset(arms);
    }
}
