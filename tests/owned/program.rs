//! Random programs in safe code: whatever a caller may do with a ring, in any order.
//!
//! After each step, for each ring:
//!
//! ```text
//!   in_flight      = pushed − last completions taken          vacant = slots − those taken
//!   stale          = completions taken that named nothing     every end taken was shown, once
//! ```

use std::cell::RefCell;
use std::mem;
use std::panic::panic_any;
use std::sync::Arc;
use std::time::Duration;

use annulus::lease::{BufRing, Resource};
use annulus::{EnterCause, EnterError, Event, Ring, Setup};

use super::Profile;
use super::chance::Chance;
use super::claims::{AnyClaim, Sink, WaitOptions};
use super::habits::Habits;
use super::ledger::{Claim, Fate, Of, OpId, Stage};
use super::runner::complaint;
use super::things::{Leases, UserValue, keep};
use super::unticketed::{self, Unticketed};
use super::world::{Armed, OnPurpose, World, risky};

/// Longer than any history: only the kernel's timeout ends such a wait.
const LONG: Duration = Duration::from_secs(3600);

/// A ring, and what its caller holds.
pub struct Rig {
    pub number: usize,
    pub ring: Ring<UserValue>,
    pub claims: Vec<Box<dyn AnyClaim>>,
    pub buffers: Vec<BufRing>,
    /// Operations without a ticket; some of them have ended.
    pub unticketed: Vec<Unticketed>,
    /// Events shown that belonged to no operation.
    messages: u64,
    raws: u64,
    /// Operations that never end.
    pub stays: u32,
}

/// A program.
pub struct Program {
    pub world: Arc<World>,
    pub chance: Chance,
    pub profile: Profile,
    pub habits: Habits,
    #[expect(clippy::vec_box, reason = "so that rings have places to be moved to")]
    pub rigs: Vec<Box<Rig>>,
    pub leases: Leases,
    /// Leases that were given to an operation, by the number at the front of their bytes.
    pub given: Vec<(u64, OpId)>,
}

/// What a program may do next, and how often it does so.
type Step = (u32, &'static str, fn(&mut Program, usize));
pub const STEPS: [Step; 21] = [
    (24, "submit", Program::submit),
    (4, "submit a chain", Program::submit_chain),
    (6, "submit all", Program::submit_all),
    (5, "submit and wait", Program::submit_and_wait),
    (8, "reap", Program::reap),
    (4, "reap, and panic", Program::reap_and_panic),
    (6, "take outputs by type", Program::take_outputs),
    (2, "cancel by key", Program::cancel_by_key),
    (6, "try to take", Program::try_take),
    (6, "wait", Program::wait),
    (4, "wait for a while", Program::wait_a_while),
    (6, "cancel", Program::cancel),
    (5, "detach", Program::detach),
    (2, "forget", Program::forget),
    (4, "take a completion", Program::next),
    (2, "change a user value", Program::change_user_value),
    (5, "run a scope", Program::scope),
    (3, "move", Program::relocate),
    (2, "use a ticket elsewhere", Program::go_abroad),
    (6, "interrupt", Program::interrupt),
    (4, "drop a lease, or make buffers", Program::lend),
];

impl Program {
    pub fn new(seed: u64, profile: Profile) -> Self {
        Self::with(Chance::new(seed), Chance::new(!seed), profile)
    }

    /// A program whose caller decides by `chance`, and its kernel by `theirs`.
    pub fn with(chance: Chance, theirs: Chance, profile: Profile) -> Self {
        let world = World::new(theirs, profile);
        let (leases, rigs, given) = (RefCell::default(), Vec::new(), Vec::new());
        let habits = Habits::default();
        let mut program = Self { world, chance, profile, habits, rigs, leases, given };
        for _ in 0..=program.chance.below(2) {
            program.new_ring();
        }
        program
    }

    fn new_ring(&mut self) {
        let (number, kernel) = self.world.kernel();
        let entries = self.chance.among(&[2, 4, 8]);
        let setup = match self.chance.below(3) {
            0 => Setup::new(entries),
            1 => Setup::plain(entries),
            _ => Setup::plain(entries).cq_entries(entries),
        };
        let mut ring = setup.kernel(kernel).build_for().expect("a ring");
        // A program that ends with a failure must not wait.
        ring.set_drop_timeout(Duration::ZERO);
        let (claims, buffers, unticketed) = (Vec::new(), Vec::new(), Vec::new());
        let rig = Rig { number, ring, claims, buffers, unticketed, messages: 0, raws: 0, stays: 0 };
        self.rigs.push(Box::new(rig));
    }

    /// Logs the next action, and does it.
    pub fn step(&mut self, say: impl FnOnce(&str, usize)) {
        let (_, name, act) = STEPS[self.habits.step(&mut self.chance)];
        let at = self.chance.place(self.rigs.len()).expect("a ring");
        say(name, at);
        act(self, at);
    }

    /// Checks that everything is as it must be.
    pub fn check(&mut self) {
        let leased = self.leases.borrow();
        let mut leased: Vec<u64> = leased.iter().map(|(_, bytes)| serial(bytes)).collect();
        self.given.retain(|&(_, id)| !self.world.is_over(id));
        leased.extend(self.given.iter().map(|&(serial, _)| serial));
        for rig in &self.rigs {
            let (world, number) = (&self.world, rig.number);
            let slots = rig.ring.raw().cq_entries() as usize;
            assert_eq!(rig.ring.in_flight() as usize, world.in_flight(number), "in flight");
            let vacant = rig.ring.vacant() as usize;
            assert_eq!(vacant + world.slots_taken(number), slots, "slots vacant, or taken");
            assert_eq!(rig.ring.stale(), world.tally(number).stale, "stale completions");
            world.check_buffers(number, &leased);
        }
        let faults = self.world.take_faults();
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }

    /// Runs `call`, in which the caller's values may panic.
    pub fn risk<T>(&mut self, call: impl FnOnce(&mut Self) -> T) -> Result<T, OnPurpose> {
        if self.profile == Profile::Panicking && self.chance.one_in(2) {
            self.world.arm(Armed::Yes);
        }
        let world = Arc::clone(&self.world);
        let result = risky(|| call(self));
        world.arm(Armed::No);
        result
    }

    fn submit_all(&mut self, at: usize) {
        if let Err(error) = self.rigs[at].ring.submit_all() {
            expected(error);
        }
    }

    fn submit_and_wait(&mut self, at: usize) {
        let rig = &mut self.rigs[at];
        let most = u32::try_from(self.world.awaitable(rig.number)).expect("few").min(3);
        let want = self.chance.below(most + 1);
        let waited = match self.chance.below(2) {
            0 => rig.ring.submit_and_wait(want),
            _ => rig.ring.submit_and_wait_timeout(want, LONG).map(|(count, _)| count),
        };
        match waited {
            // It may have counted false completions among those that were to come.
            Err(EnterError { cause: EnterCause::NothingComing { .. }, .. })
                if self.profile == Profile::Lying => {}
            Err(error) => expected(error),
            Ok(_) => {}
        }
    }

    fn reap(&mut self, at: usize) {
        let reaped = self.risk(|it| it.reap_until(at, None));
        if reaped.is_err() {
            self.world.blame_what_is_shown();
        }
        if let Ok(Ok(_)) = reaped {
            let number = self.rigs[at].number;
            let hidden = self.world.not_shown(number);
            assert!(hidden.is_empty(), "never shown: the ends of {hidden:?}");
            let (rig, tally) = (&self.rigs[at], self.world.tally(number));
            assert_eq!((rig.messages, rig.raws), (tally.messages, tally.raws), "other events");
        }
    }

    fn reap_and_panic(&mut self, at: usize) {
        let last = self.chance.below(4);
        let _ = risky(|| self.reap_until(at, Some(last)));
    }

    /// Looks at events, and panics at one of them.
    fn reap_until(&mut self, at: usize, panics_at: Option<u32>) -> Result<u32, EnterError> {
        let Self { world, chance, rigs, leases, .. } = self;
        let Rig { number, ring, messages, raws, unticketed, .. } = &mut *rigs[at];
        let mut count = 0;
        ring.reap(|event| {
            match event {
                Event::Ended { user, slot, result } => {
                    if let Some(id) = owner(world, *number, slot, user) {
                        world.shown(id, result);
                    }
                    if chance.one_in(4) {
                        drop(mem::take(user));
                    }
                }
                Event::Output(mut output) => {
                    let (slot, result) = (output.slot(), output.result());
                    if let Some(id) = owner(world, *number, slot, output.user()) {
                        world.shown(id, result);
                        let sink = Sink { world, leases };
                        unticketed::take(output, id, unticketed, chance, sink);
                    }
                }
                Event::Multishot { user, slot, completion } => {
                    if let Some(id) = owner(world, *number, slot, user)
                        && world.claim_of(id) != Claim::Held
                        && world.claim_of(id) != Claim::Forgotten
                    {
                        world.fault(format!("a completion of {id} was shown, and it has no claim"));
                    }
                    if let Resource::Buffer(lease) = completion.resource
                        && chance.one_in(2)
                    {
                        keep(lease, world, leases);
                    }
                }
                Event::Message(_) => *messages += 1,
                Event::Raw(_) => *raws += 1,
                other => panic!("{other:?}"),
            }
            if panics_at == Some(count) {
                panic_any(OnPurpose);
            }
            count += 1;
        })
    }

    fn some_claim(&mut self, at: usize) -> Option<Box<dyn AnyClaim>> {
        let place = self.chance.place(self.rigs[at].claims.len())?;
        Some(self.rigs[at].claims.swap_remove(place))
    }

    /// After a panic on purpose in a call that took the claims: the claims are redeemed, or lost.
    fn record(&self, ids: Vec<OpId>) {
        for id in ids.into_iter().filter(|&id| self.world.claim_of(id) == Claim::Held) {
            let is_gone = self.world.lost_an_owner(id);
            self.world.claim(id, if is_gone { Claim::Gone } else { Claim::Forgotten });
        }
    }

    fn try_take(&mut self, at: usize) {
        let Some(claim) = self.some_claim(at) else { return };
        let ids = claim.ids();
        let taken = self.risk(|it| {
            let sink = Sink { world: &it.world, leases: &it.leases };
            claim.try_take(&mut it.rigs[at].ring, sink)
        });
        match taken {
            Ok(Ok(())) => {}
            Ok(Err(claim)) => {
                let done = ids.iter().all(|&id| self.world.stage(id) == Stage::Taken);
                assert!(!done || ids.len() > 1, "{ids:?} has ended, and was not to be had");
                self.rigs[at].claims.push(claim);
            }
            Err(OnPurpose) => {
                self.world.blame_one_of(&ids);
                self.record(ids);
            }
        }
    }

    fn wait(&mut self, at: usize) {
        self.wait_for(at, None);
    }

    fn wait_a_while(&mut self, at: usize) {
        let time = self.chance.among(&[LONG, Duration::ZERO]);
        self.wait_for(at, Some(time));
    }

    /// Waits for some claim; with a timeout if its operation never ends.
    pub fn wait_for(&mut self, at: usize, time: Option<Duration>) {
        let Some(claim) = self.some_claim(at) else { return };
        let ids = claim.ids();
        let stays = ids.iter().any(|&id| self.world.fate(id) == Fate::Stays);
        let time = if stays { Some(time.unwrap_or(LONG)) } else { time };
        // When a step panics, the program cannot know which steps of the chain were redeemed.
        let is_row = ids.len() > 1;
        let act = |it: &mut Self| {
            let sink = Sink { world: &it.world, leases: &it.leases };
            claim.wait(&mut it.rigs[at].ring, time, sink)
        };
        let waited = if is_row { Ok(act(self)) } else { self.risk(act) };
        match waited {
            Ok(Ok(())) => {}
            Ok(Err((claim, why))) => {
                expected(why);
                self.rigs[at].claims.push(claim);
            }
            Err(OnPurpose) => {
                self.world.blame_one_of(&ids);
                self.record(ids);
            }
        }
    }

    fn cancel(&mut self, at: usize) {
        let Some(claim) = self.some_claim(at) else { return };
        if let Err(error) = claim.cancel(&mut self.rigs[at].ring) {
            expected(error);
        }
        self.rigs[at].claims.push(claim);
    }

    fn detach(&mut self, at: usize) {
        let Some(claim) = self.some_claim(at) else { return };
        let parts = claim.into_parts();
        parts.lost.iter().for_each(|&id| self.world.claim(id, Claim::Forgotten));
        for part in parts.claims {
            part.ids().iter().for_each(|&id| self.world.claim(id, Claim::Detached));
            let _ = self.risk(|it| part.detach(&mut it.rigs[at].ring));
        }
    }

    fn forget(&mut self, at: usize) {
        let Some(claim) = self.some_claim(at) else { return };
        claim.ids().iter().for_each(|&id| self.world.claim(id, Claim::Forgotten));
        if self.chance.one_in(2) {
            mem::forget(claim);
        }
    }

    fn next(&mut self, at: usize) {
        let Some(claim) = self.some_claim(at) else { return };
        let ids = claim.ids();
        let stays = ids.iter().any(|&id| self.world.fate(id) == Fate::Stays);
        let waits = !stays && self.chance.one_in(2);
        let options = if waits { WaitOptions::Endless } else { WaitOptions::None };
        let taken = self.risk(|it| {
            let sink = Sink { world: &it.world, leases: &it.leases };
            claim.next(&mut it.rigs[at].ring, options, sink)
        });
        match taken {
            Ok(Ok(())) => {}
            Ok(Err(error)) => expected(error),
            Err(OnPurpose) => self.world.blame_one_of(&[]),
        }
        self.rigs[at].claims.push(claim);
    }

    fn change_user_value(&mut self, at: usize) {
        let Some(claim) = self.some_claim(at) else { return };
        if let [id] = claim.ids()[..] {
            let token = self.token(id, Of::Caller);
            let _ = self.risk(|it| {
                if let Some(user) = claim.user_value(&mut it.rigs[at].ring) {
                    *user = UserValue::new(token);
                }
            });
        }
        self.rigs[at].claims.push(claim);
    }

    fn scope(&mut self, at: usize) {
        super::scopes::run(self, at);
    }

    /// Moves rings to other places in memory.
    fn relocate(&mut self, at: usize) {
        let mut rig = self.rigs.swap_remove(at);
        if let Some(other) = self.rigs.last_mut()
            && self.chance.one_in(2)
        {
            mem::swap(&mut *rig, &mut **other);
        }
        let moved = *rig;
        self.rigs.push(Box::new(moved));
    }

    /// Uses a ticket with a ring that it does not belong to.
    fn go_abroad(&mut self, at: usize) {
        if self.rigs.len() < 2 {
            return;
        }
        let Some(claim) = self.some_claim(at) else { return };
        let other = (at + 1) % self.rigs.len();
        if claim.ids().len() > 1 {
            return self.rigs[at].claims.push(claim);
        }
        let (world, ids) = (Arc::clone(&self.world), claim.ids());
        let sink = Sink { world: &world, leases: &self.leases };
        let rigs = &mut self.rigs;
        let complaint = if self.chance.one_in(4) {
            ids.iter().for_each(|&id| world.claim(id, Claim::Forgotten));
            complaint(|| claim.try_take(&mut rigs[other].ring, sink).is_ok())
        } else {
            let said = complaint(|| claim.cancel(&mut rigs[other].ring));
            rigs[at].claims.push(claim);
            said
        };
        assert!(complaint.contains("OP2: a ticket of ring"), "{complaint}");
    }

    fn interrupt(&mut self, at: usize) {
        self.world.interrupt(self.rigs[at].number);
    }

    fn lend(&mut self, at: usize) {
        if self.chance.one_in(3) {
            let rig = &mut self.rigs[at];
            if rig.buffers.len() == 2 {
                rig.buffers.remove(0);
            }
            let count = self.chance.among(&[1, 4]);
            // Leaked memory adds up, and would run out some day.
            rig.buffers.extend(rig.ring.buf_ring(count, 32));
            return;
        }
        let count = self.leases.borrow().len();
        if let Some(place) = self.chance.place(count) {
            self.return_lease(place);
        }
    }

    /// Drops a lease, whose bytes must not have changed.
    pub fn return_lease(&mut self, place: usize) {
        let (lease, bytes) = self.leases.borrow_mut().swap_remove(place);
        assert!(lease[..] == bytes[..lease.len()], "BR1: a lease was written to");
    }
}

/// The number at the front of what the kernel has written to a buffer.
pub fn serial(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(u64::MAX, |front| u64::from_le_bytes(*front))
}

/// The operation of an event; by its slot, if it has no user value.
pub fn owner(world: &World, ring: usize, slot: u32, user: &UserValue) -> Option<OpId> {
    let by_slot = world.in_slot(ring, slot);
    if user.op().is_some_and(|id| by_slot != Some(id)) {
        world.fault(format!("OP2: an event of {by_slot:?} came with the value of {:?}", user.op()));
    }
    by_slot
}

/// An error that a kernel has reason to answer with.
pub fn expected(error: EnterError) {
    let is_expected = matches!(
        error.cause,
        EnterCause::Interrupted
            | EnterCause::OutOfRequests
            | EnterCause::CompletionsPending
            | EnterCause::CompletionsLost
            | EnterCause::TimedOut
    );
    assert!(is_expected, "{error}");
}
