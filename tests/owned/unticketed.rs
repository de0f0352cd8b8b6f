//! Operations without tickets: their outputs are taken as events, by type, or dropped.
//!
//! ```text
//!   submit_unticketed ─► key ─┬─ Event::Output ─► take::<O>, after a wrong type now and then
//!                             │                └► dropped
//!                             └─ reap_outputs, turn_outputs ─► the user value and the output
//! ```

use annulus::op::{Nop, Op, Read, RecvMulti, RecvProvided, SendZc, Write};
use annulus::{EnterError, OpKey, Output, Rejected, Ring};

use super::blame::disarm_unset;
use super::chance::Chance;
use super::claims::Sink;
use super::ledger::{Claim, OpId};
use super::program::{Program, expected};
use super::things::{File, Judged, Tagged, UserValue, Watched};
use super::world::{OnPurpose, World};

/// An operation without a ticket, and how its output is taken and checked.
pub struct Unticketed {
    pub id: OpId,
    pub key: OpKey,
    take: fn(Output<'_, UserValue>, OpId, Sink<'_>),
}

/// Takes the output as that of an `O`, which it must be.
fn take_as<O: Judged>(output: Output<'_, UserValue>, id: OpId, sink: Sink<'_>) {
    let end = sink.world.redeemed(id);
    match output.take::<O>() {
        Ok((user, output)) => {
            if user.op() != Some(id) {
                sink.world.fault(format!("OP2: {id} came with the value of {:?}", user.op()));
            }
            O::judge(output, &end, sink.world, sink.leases);
        }
        Err(_) => sink.world.fault(format!("{id} is not of the type that was submitted")),
    }
}

/// What a caller may do with an output that it is shown.
pub fn take(
    output: Output<'_, UserValue>,
    id: OpId,
    unticketed: &mut Vec<Unticketed>,
    chance: &mut Chance,
    sink: Sink<'_>,
) {
    let Some(at) = unticketed.iter().position(|one| one.id == id) else {
        return sink.world.fault(format!("the output of {id} was shown, and it has a ticket"));
    };
    let one = unticketed.swap_remove(at);
    if chance.one_in(4) {
        return sink.world.claim(id, Claim::Gone);
    }
    // No operation is of this type.
    match output.take::<Nop>() {
        Ok(_) => sink.world.fault(format!("OP2: {id} was taken as another operation")),
        Err(output) => (one.take)(output, id, sink),
    }
}

/// What became of the output: it is in this closure's hands.
fn taken<O: Judged>((user, output): (UserValue, O::Output), sink: Sink<'_>) {
    let Some(id) = user.op() else { return sink.world.fault("an output without its user value") };
    let world: &World = sink.world;
    let result = u32::try_from(world.result(id));
    world.shown(id, result.map_err(|_| errno_of(world.result(id))));
    O::judge(output, &world.redeemed(id), world, sink.leases);
}

fn errno_of(result: i32) -> annulus::sys::errno::Errno {
    annulus::sys::errno::Errno::new(result.wrapping_neg())
}

impl Program {
    pub fn place_unticketed<O: Judged>(&mut self, at: usize, id: OpId, op: O, user: UserValue) {
        let arms = self.arm_unset(0);
        let submitted = self.risk(|it| it.rigs[at].ring.submit_unticketed(op, user));
        let has_panicked = disarm_unset(arms);
        match submitted {
            Ok(Ok(key)) => {
                self.world.pushed(id);
                self.rigs[at].unticketed.push(Unticketed { id, key, take: take_as::<O> });
            }
            Ok(Err(Rejected { why, .. })) => self.rejected(at, why),
            Err(OnPurpose) => self.note_unset(id, has_panicked),
        }
    }

    /// Takes outputs by type, of some type.
    pub fn take_outputs(&mut self, at: usize) {
        let kind = self.habits.outputs(&mut self.chance);
        let taken = self.risk(|it| match kind {
            0 => it.outputs_of::<Tagged>(at),
            1 => it.outputs_of::<Read<File, Watched<[u8; 8]>>>(at),
            2 => it.outputs_of::<Read<File, Watched<Box<[u8]>>>>(at),
            3 => it.outputs_of::<Write<File, Watched<Vec<u8>>>>(at),
            4 => it.outputs_of::<RecvProvided<File>>(at),
            5 => it.outputs_of::<RecvMulti<File>>(at),
            _ => it.outputs_of::<SendZc<File, Watched<Box<[u8]>>>>(at),
        });
        if let Err(OnPurpose) = taken {
            self.world.blame_what_is_shown();
            // The one whose output was being made is gone.
            let world = &self.world;
            self.rigs[at].unticketed.retain(|one| {
                let is_gone = world.claim_of(one.id) == Claim::Held && world.lost_an_owner(one.id);
                if is_gone {
                    world.claim(one.id, Claim::Gone);
                }
                !is_gone
            });
        }
    }

    fn outputs_of<O: Judged + Op>(&mut self, at: usize) {
        let waits = self.chance.one_in(2);
        let number = self.rigs[at].number;
        let want = u32::from(waits && self.world.awaitable(number) > 0);
        let Self { world, rigs, leases, .. } = self;
        let rig = &mut *rigs[at];
        let mut count = 0;
        let sink = Sink { world, leases };
        let each = |user: UserValue, output: O::Output| {
            rig.unticketed.retain(|one| Some(one.id) != user.op());
            taken::<O>((user, output), sink);
            count += 1;
        };
        let ring: &mut Ring<UserValue> = &mut rig.ring;
        let reaped: Result<u32, EnterError> =
            if waits { ring.turn_outputs::<O>(want, each) } else { ring.reap_outputs::<O>(each) };
        match reaped {
            Ok(said) => assert_eq!(said, count, "outputs"),
            Err(_) if self.profile == super::Profile::Lying => {}
            Err(error) => expected(error),
        }
    }

    /// Cancels an operation without a ticket, which may have ended.
    pub fn cancel_by_key(&mut self, at: usize) {
        let Some(place) = self.chance.place(self.rigs[at].unticketed.len()) else { return };
        let key = self.rigs[at].unticketed[place].key;
        if let Err(error) = self.rigs[at].ring.cancel(&key) {
            expected(error);
        }
    }
}
