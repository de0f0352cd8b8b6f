//! Random programs within a scope, whose buffers are on the stack of the caller.
//!
//! When the scope is over, however it ended, the kernel has none of its operations, and each buffer
//! holds what the last operation to borrow it left there.

use std::os::fd::OwnedFd;
use std::panic::panic_any;
use std::sync::Arc;
use std::time::Duration;

use annulus::lease::BufRing;
use annulus::op::{Nop, Outcome, Read, RecvMulti, Write};
use annulus::{Scope, ScopedTicket, Unfinished};

use super::Profile;
use super::chance::Chance;
use super::ledger::{Claim, Fate, Of, OpId, Stage, Tie};
use super::program::{Program, expected};
use super::things::{Panics, UserValue, Watched};
use super::world::{Armed, Bomb, OnPurpose, Token, World, risky};

const LONG: Duration = Duration::from_secs(3600);

type Reading<'env> = Read<&'env OwnedFd, Watched<&'env mut [u8]>>;
type Lent = [u8; 16];

/// The state outside of the scope.
struct Outside<'a> {
    world: &'a Arc<World>,
    ring: usize,
    chance: &'a mut Chance,
    /// Operations that were pushed.
    pushed: Vec<OpId>,
    /// Which of them borrowed which buffer last.
    borrowed: Vec<Option<OpId>>,
}

/// Runs a scope on a ring.
pub fn run(program: &mut Program, at: usize) {
    let arms = program.profile == Profile::Panicking && program.chance.one_in(2);
    let fd: OwnedFd = std::fs::File::open("/dev/null").expect("there is one").into();
    let Program { world, chance, rigs, .. } = program;
    let rig = &mut rigs[at];
    let mut lent: [Lent; 4] = [[0; 16]; 4];
    let buffers = rig.buffers.last().cloned();
    let (pushed, borrowed) = (Vec::new(), vec![None; lent.len()]);
    let mut outside = Outside { world, ring: rig.number, chance, pushed, borrowed };
    if arms {
        world.arm(Armed::Yes);
    }
    let _ = risky(|| {
        rig.ring.scope(|s| {
            // A panic while the scope waits at its end aborts, as it must.
            let disarm = Disarm(world);
            let free = lent.iter_mut().map(|buf| &mut buf[..]).enumerate().collect();
            let outside = &mut outside;
            Body { s, fd: &fd, buffers, outside, free, reads: Vec::new() }.run();
            drop(disarm);
        });
    });
    let Outside { pushed, borrowed, .. } = outside;
    over(program, at, &pushed);
    for (buf, id) in lent.iter().zip(&borrowed) {
        let world = &program.world;
        if let Some(id) = *id
            && world.stage(id) == Stage::Taken
            && world.redeemed(id).image != buf
        {
            world.fault(format!("OP1: a lent buffer holds {buf:?} after {id}"));
        }
    }
    let before = lent.map(|buf| buf.map(|byte| !byte));
    lent = before;
    program.world.go_on(program.rigs[at].number);
    assert_eq!(lent, before, "OP1: written to after the scope");
}

/// The scope is over.
fn over(program: &Program, at: usize, pushed: &[OpId]) {
    let world = &program.world;
    world.go_on(program.rigs[at].number);
    for &id in pushed {
        let stage = world.stage(id);
        if stage != Stage::Taken {
            world.fault(format!("OP1: {id} is {stage:?}, and its scope is over"));
        }
        if !world.has_lost_all(id) {
            world.fault(format!("what {id} owned is still there, and its scope is over"));
        }
        world.claim(id, Claim::Gone);
    }
}

struct Disarm<'a>(&'a World);

impl Drop for Disarm<'_> {
    fn drop(&mut self) {
        self.0.arm(Armed::No);
    }
}

/// A claim within a scope.
struct Claimed<'scope, 'env> {
    id: OpId,
    buf: usize,
    ticket: ScopedTicket<'scope, Reading<'env>>,
}

struct Body<'s, 'scope, 'env, 'o, 'w> {
    s: &'s mut Scope<'scope, 'env, UserValue>,
    fd: &'env OwnedFd,
    buffers: Option<BufRing>,
    outside: &'o mut Outside<'w>,
    /// Buffers that no operation has.
    free: Vec<(usize, &'env mut [u8])>,
    reads: Vec<Claimed<'scope, 'env>>,
}

impl<'scope, 'env: 'scope> Body<'_, 'scope, 'env, '_, '_> {
    fn run(mut self) {
        for _ in 0..self.outside.chance.below(12) {
            match self.outside.chance.below(14) {
                0..4 => self.read(),
                4 => self.write(),
                5 => self.completions(),
                6 => drop(self.s.submit_all().map_err(expected)),
                7 => self.wait(None),
                8 => self.wait(Some(LONG)),
                9 => self.try_take(),
                10 => self.cancel(),
                11 => self.chain(),
                12 => {
                    let _ = self.some(); // Forgotten: a ticket does nothing when it is dropped.
                }
                _ if self.outside.chance.one_in(4) => panic_any(OnPurpose),
                _ => self.outside.world.interrupt(self.outside.ring),
            }
        }
    }

    fn make(&self) -> (OpId, Token) {
        let id = self.outside.world.make(self.outside.ring, Fate::Ends);
        (id, Token::new(self.outside.world, id, Of::Kernel, Bomb::No))
    }

    fn pushed(&mut self, id: OpId, buf: Option<usize>) {
        self.outside.world.pushed(id);
        self.outside.pushed.push(id);
        if let Some(buf) = buf {
            self.outside.borrowed[buf] = Some(id);
        }
    }

    /// A read into a buffer that is free.
    fn reading(&mut self) -> Option<(OpId, usize, Reading<'env>)> {
        let place = self.outside.chance.place(self.free.len())?;
        let (buf, bytes) = self.free.swap_remove(place);
        let (id, token) = self.make();
        let bytes = Watched::new(token, Panics::Never, bytes);
        Some((id, buf, Read::new(self.fd, bytes).at(u64::from(id))))
    }

    fn read(&mut self) {
        let Some((id, buf, read)) = self.reading() else { return };
        match self.s.submit(read) {
            Ok(ticket) => {
                self.pushed(id, Some(buf));
                self.reads.push(Claimed { id, buf, ticket });
            }
            // The buffer cannot be taken out again, and is not lent any more.
            Err(rejected) => drop(rejected),
        }
    }

    fn write(&mut self) {
        let (id, token) = self.make();
        let bytes = Watched::new(token, Panics::Never, "from far away");
        if let Ok(ticket) = self.s.submit(Write::new(self.fd, bytes).at(u64::from(id))) {
            self.pushed(id, None);
            if self.outside.chance.one_in(2)
                && let Ok(output) = self.s.wait(ticket)
            {
                drop(output);
            }
        }
    }

    /// Operations whose tickets are forgotten at once.
    fn completions(&mut self) {
        let id = self.outside.world.make(self.outside.ring, Fate::Ends);
        let is_pushed = match &self.buffers {
            Some(buffers) => self.s.submit(RecvMulti::new(self.fd, buffers)).is_ok(),
            None => self.s.submit(Nop).is_ok(),
        };
        if is_pushed {
            self.pushed(id, None);
        }
    }

    fn chain(&mut self) {
        let (Some(a), Some(b)) = (self.reading(), self.reading()) else { return };
        self.outside.world.tie(a.0, Tie::Soft);
        let Ok(tickets) = self.s.submit_chain([a.2, b.2]) else { return };
        self.pushed(a.0, Some(a.1));
        self.pushed(b.0, Some(b.1));
        if !self.outside.chance.one_in(2) {
            return;
        }
        if let Ok(chain) = self.s.wait_chain(tickets) {
            let [first, second] = chain.outputs;
            self.give_back(a.0, a.1, first);
            self.give_back(b.0, b.1, second);
        }
    }

    fn some(&mut self) -> Option<Claimed<'scope, 'env>> {
        let place = self.outside.chance.place(self.reads.len())?;
        Some(self.reads.swap_remove(place))
    }

    fn wait(&mut self, time: Option<Duration>) {
        let Some(Claimed { id, buf, ticket }) = self.some() else { return };
        let waited = match time {
            None => self.s.wait(ticket),
            Some(time) => self.s.wait_timeout(ticket, time),
        };
        match waited {
            Ok(output) => self.give_back(id, buf, output),
            Err(Unfinished { ticket, why }) => {
                expected(why);
                self.reads.push(Claimed { id, buf, ticket });
            }
        }
    }

    fn try_take(&mut self) {
        let Some(Claimed { id, buf, ticket }) = self.some() else { return };
        match self.s.try_take(ticket) {
            Ok(output) => self.give_back(id, buf, output),
            Err(ticket) => self.reads.push(Claimed { id, buf, ticket }),
        }
    }

    fn cancel(&mut self) {
        let Some(claimed) = self.some() else { return };
        if let Err(error) = self.s.cancel(&claimed.ticket) {
            expected(error);
        }
        self.reads.push(claimed);
    }

    /// The borrow has ended: the buffer can be lent again.
    fn give_back(
        &mut self,
        id: OpId,
        buf: usize,
        output: Outcome<usize, &'env OwnedFd, Watched<&'env mut [u8]>>,
    ) {
        let end = self.outside.world.redeemed(id);
        let bytes = output.buf.bytes;
        if end.image != bytes {
            self.outside.world.fault(format!("OP1: a lent buffer holds {bytes:?} after {id}"));
        }
        self.free.push((buf, bytes));
    }
}
