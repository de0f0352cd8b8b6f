//! What the caller of a lane does, and what must hold after each step.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use annulus::{EnterError, Lane, LaneKey, Rejection, Setup};
use annulus_sys::kernel::Kernel;

use super::Profile;
use super::chance::Chance;
use super::kernel::LaneKernel;
use super::things::{Id, Mark, OnPurpose, Place, Probe, Probed, Shared, set_trap};

/// The most steps of a history.
const STEPS: u32 = 60;

pub struct Program {
    chance: Chance,
    profile: Profile,
    ledger: Shared,
    kernel: LaneKernel,
    lane: Option<Lane<Probe, Mark>>,
    keys: Vec<LaneKey>,
    ids: Id,
}

impl Program {
    pub fn new(seed: u64, profile: Profile) -> Self {
        Self::with(Chance::new(seed), Chance::new(!seed), profile)
    }

    /// A program whose caller decides by `chance`, and its kernel by `theirs`.
    pub fn with(mut chance: Chance, theirs: Chance, profile: Profile) -> Self {
        let ledger = Shared::default();
        let kernel = LaneKernel::new(theirs, profile, &ledger);
        let entries = 1 << chance.below(4);
        let setup = if chance.one_in(2) { Setup::plain(entries) } else { Setup::new(entries) };
        let long = chance.among(&[1, 1, 2, 4]);
        let setup = setup.cq_entries(entries * long);
        let setup = setup.kernel(Kernel::with_backend(std::sync::Arc::new(kernel.clone())));
        let lane = setup.build_lane().expect("a lane");
        Self { chance, profile, ledger, kernel, lane: Some(lane), keys: Vec::new(), ids: 0 }
    }

    /// One history.
    pub fn run(mut self) {
        for _ in 0..self.chance.below(STEPS) {
            self.step();
            self.check();
        }
        self.finish();
    }

    fn step(&mut self) {
        if self.profile == Profile::Panicking && self.chance.one_in(4) {
            set_trap(self.chance.among(&[
                Place::Refusal,
                Place::BelongsTo,
                Place::Prep,
                Place::Finish,
                Place::FinishAndUserDrop,
                Place::OpDrop,
                Place::UserDrop,
            ]));
        }
        let step = AssertUnwindSafe(|| match self.chance.below(16) {
            0..4 => self.submit(),
            4..6 => self.submit_many(),
            6..9 => self.turn(),
            9..11 => self.reap(),
            11 => self.wait(),
            12 => drop(self.lane().submit_all()),
            13..15 => self.cancel(),
            _ => self.kernel.state().interrupt(),
        });
        if let Err(panic) = catch_unwind(step)
            && !panic.is::<OnPurpose>()
        {
            resume_unwind(panic);
        }
        set_trap(Place::Never);
    }

    fn lane(&mut self) -> &mut Lane<Probe, Mark> {
        self.lane.as_mut().expect("until the end")
    }

    fn next(&mut self) -> (Probe, Mark) {
        self.ids += 1;
        (Probe::new(self.ids, &self.ledger), Mark::new(self.ids, &self.ledger))
    }

    fn submit(&mut self) {
        let ((op, mark), vacant) = (self.next(), self.lane().vacant());
        let id = self.ids;
        match self.lane().submit(op, mark) {
            Ok(key) => {
                self.keys.push(key);
                self.ledger.lock().note(id).pushed = true;
            }
            Err(rejected) => {
                assert_eq!(rejected.user.id, id);
                assert_eq!(rejected.why == Rejection::NoSlot, vacant == 0, "{:?}", rejected.why);
            }
        }
    }

    /// Those that are queued before one is refused, or before a panic, are in flight.
    fn submit_many(&mut self) {
        let count = self.chance.below(7);
        let (from, before) = (self.ids + 1, self.lane().in_flight());
        let ops: Vec<_> = (0..count).map(|_| self.next()).collect();
        let mut ops = ops.into_iter();
        let lane = self.lane.as_mut().expect("until the end");
        let submitted = catch_unwind(AssertUnwindSafe(|| lane.submit_each(ops.by_ref())));
        let queued = lane.in_flight() - before;
        let mut ledger = self.ledger.lock();
        for id in from..from + queued {
            ledger.note(id).pushed = true;
        }
        drop(ledger);
        match submitted {
            Ok(Ok(all)) => assert_eq!((all, queued), (count, count)),
            Ok(Err(rejected)) => assert_eq!(rejected.user.id, from + queued),
            Err(panic) => {
                drop(ops);
                resume_unwind(panic);
            }
        }
    }

    fn turn(&mut self) {
        let in_flight = self.lane().in_flight();
        let want = self.chance.below(in_flight + 2);
        let (seen, taken) = self.take(|lane, each| lane.turn(want, each));
        match taken {
            Ok(count) => {
                assert_eq!(count, seen);
                assert!(want <= in_flight, "more cannot come");
                assert!(count >= want || self.kernel.state().lies > 0, "{count} of {want}");
            }
            Err(_) if want > in_flight => assert_eq!(seen, 0),
            Err(_) => {}
        }
    }

    fn reap(&mut self) {
        let (seen, taken) = self.take(|lane, each| lane.reap(each));
        assert!(taken.is_err() || taken == Ok(seen));
    }

    fn wait(&mut self) {
        let in_flight = self.lane().in_flight();
        let want = self.chance.below(in_flight + 1);
        let waited = self.lane().submit_and_wait(want);
        if waited.is_ok() && self.chance.one_in(2) {
            let (seen, taken) = self.take(|lane, each| lane.reap(each));
            let lies = self.kernel.state().lies;
            assert!(taken.is_err() || seen >= want || lies > 0, "{seen} of {want}");
        }
    }

    fn cancel(&mut self) {
        if let Some(at) = self.chance.place(self.keys.len()) {
            let key = self.keys[at];
            let _ = self.lane().cancel(&key);
        }
    }

    /// Takes outputs and checks each. Returns how many there were.
    fn take(
        &mut self,
        how: impl FnOnce(
            &mut Lane<Probe, Mark>,
            &mut dyn FnMut(Mark, Probed),
        ) -> Result<u32, EnterError>,
    ) -> (u32, Result<u32, EnterError>) {
        let (mut seen, mut chance) = (0, self.chance.clone());
        let panics = self.profile == Profile::Panicking;
        self.chance.next();
        let (lane, ledger) = (self.lane.as_mut().expect("until the end"), &self.ledger);
        let taken = how(lane, &mut |mark, probed| {
            seen += 1;
            judge(ledger, &mark, &probed);
            if panics && chance.one_in(16) {
                set_trap(Place::Never); // A second panic would abort.
                std::panic::panic_any(OnPurpose);
            }
        });
        (seen, taken)
    }

    /// What must hold between two steps.
    fn check(&mut self) {
        let lane = self.lane.as_ref().expect("until the end");
        let (in_flight, vacant, slots) = (lane.in_flight(), lane.vacant(), lane.raw().cq_entries());
        let stale = lane.stale();
        let mut ledger = self.ledger.lock();
        let flying = ledger.notes.values().filter(|note| note.pushed && note.op_drops == 0).count();
        if flying != in_flight as usize || in_flight + vacant != slots {
            ledger.fault(format!("{in_flight} in flight and {vacant} vacant, not {flying}"));
        }
        for (id, note) in &ledger.notes.clone() {
            if note.op_drops == 0 && note.user_drops > 0 {
                ledger.fault(format!("the user value of {id} is gone before it has ended"));
            }
        }
        assert_eq!(ledger.faults, Vec::<String>::new());
        drop(ledger);
        assert!(stale <= self.kernel.state().lies);
    }

    /// Ends the lane in one way or another. Only what the kernel has may be left.
    fn finish(mut self) {
        let stay = self.chance.one_in(3);
        if stay {
            self.kernel.state().stays = 2;
            drop(catch_unwind(AssertUnwindSafe(|| self.submit_many())));
            set_trap(Place::Never);
            let _ = self.lane().submit_all();
        }
        let mut lane = self.lane.take().expect("until the end");
        if self.profile == Profile::Panicking && self.chance.one_in(2) {
            set_trap(self.chance.among(&[Place::Finish, Place::OpDrop, Place::UserDrop]));
        }
        let time = Duration::from_millis(if stay { 12 } else { 10_000 });
        let left = match self.chance.below(8) {
            0 => {
                mem::forget(lane);
                self.kernel.state().interrupt();
                None
            }
            1..4 => Some(catch_unwind(AssertUnwindSafe(|| match lane.shutdown(time) {
                Ok(()) => 0,
                Err(timed_out) => timed_out.in_flight,
            }))),
            _ => {
                lane.set_drop_timeout(time);
                Some(catch_unwind(AssertUnwindSafe(|| drop(lane))).map(|()| u32::MAX))
            }
        };
        set_trap(Place::Never);
        self.kernel.state().interrupt(); // The kernel may still use what it has.
        let ledger = self.ledger.lock();
        assert_eq!(ledger.faults, Vec::<String>::new());
        let Some(left) = left else { return };
        let held = ledger.notes.values().filter(|note| note.op_drops == 0).count();
        if let Ok(left) = left {
            assert!(
                left == u32::MAX || left as usize == held,
                "{left} left, and {held} not dropped"
            );
        }
        assert!(stay || held == 0, "{held} were leaked");
        for (id, note) in &ledger.notes {
            assert_eq!(note.user_drops, 1, "the user value of {id}");
        }
    }
}

/// Checks an output against what the kernel did, and notes that it was shown.
fn judge(ledger: &Shared, mark: &Mark, probed: &Probed) {
    let mut ledger = ledger.lock();
    let id = probed.id();
    if mark.id != id {
        ledger.fault(format!("OP2: the user value of {} came with the output of {id}", mark.id));
    }
    let note = ledger.note(id);
    note.shown += 1;
    let (shown, ended) = (note.shown, note.ended);
    if shown > 1 {
        ledger.fault(format!("OP2: the output of {id} was shown {shown} times"));
    }
    if ended != Some((probed.result, probed.inline)) || probed.inline != *probed.heap {
        ledger.fault(format!("OP2: {id} ended with {probed:?}, and the kernel said {ended:?}"));
    }
}
