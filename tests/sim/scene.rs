//! A short program that runs in both worlds, and says what it sees.
//!
//! ```text
//!   both    one scenario, in three modes            the lines of the simulation and of Linux
//!   seeded  random programs, one for each seed      must be equal
//! ```

use std::os::fd::{FromRawFd, OwnedFd};
use std::time::Duration;

use annulus::RawRing;
use annulus::prep;
use annulus::sim::{Faults, Sim};
use annulus::sys::abi::Sqe;
use annulus::sys::flags::{CancelFlags, CqeFlags, SetupFlags};
use annulus::sys::opcode::RegisterOp;

use super::chance::Chance;
use super::worlds::{Real, World};

const MODES: [SetupFlags; 3] = [
    SetupFlags::empty(),
    SetupFlags::COOP_TASKRUN.union(SetupFlags::TASKRUN_FLAG),
    SetupFlags::SINGLE_ISSUER.union(SetupFlags::DEFER_TASKRUN),
];

/// One run of a scenario.
pub struct Scene<'a> {
    pub world: &'a dyn World,
    pub ring: RawRing,
    /// The flags of its ring.
    pub flags: SetupFlags,
    pub lines: Vec<String>,
    pub next: u64,
    /// The descriptors that completions named.
    pub fds: Vec<OwnedFd>,
    /// The completions of the last rest: `user_data`, result, flags.
    pub last: Vec<(u64, i32, CqeFlags)>,
    /// How many completions came at each rest; and how many are to come, if that is known.
    rests: Vec<usize>,
    counts: Option<Vec<usize>>,
}

impl<'a> Scene<'a> {
    fn new(world: &'a dyn World, flags: SetupFlags, counts: Option<Vec<usize>>) -> Option<Self> {
        let ring = world.setup(16, flags)?;
        let (lines, fds, last, rests) = Default::default();
        Some(Self { world, ring, flags, lines, next: 0, fds, last, rests, counts })
    }

    pub fn say(&mut self, line: impl Into<String>) {
        self.lines.push(line.into());
    }

    /// Pushes an entry; they are numbered.
    pub fn push(&mut self, sqe: Sqe) {
        let sqe = Sqe { user_data: self.next, ..sqe };
        self.next += 1;
        if super::shows() {
            let Sqe { opcode, flags, ioprio, len, op_flags, buf_index, .. } = sqe;
            println!("{opcode:?} {flags:?} {ioprio} {len} {op_flags:#x} {buf_index}");
        }
        // SAFETY: each scenario keeps what its entries point to until they have ended (OP1).
        unsafe { self.ring.push(sqe) }.expect("room");
    }

    /// Submits, and takes `count` completions, and whatever comes with them.
    pub fn take(&mut self, count: u32) {
        self.ring.submit().expect("no fault");
        self.ring.expect_others();
        let mut all = Vec::new();
        for _ in 0..200 {
            self.ring.get_events().expect("no fault");
            while let Some(cqe) = self.ring.pop() {
                let flags = cqe.flags - CqeFlags::SOCK_NONEMPTY;
                all.push((cqe.user_data, cqe.res, flags));
            }
            if all.len() >= count as usize {
                break;
            }
            let _ = self.ring.wait_timeout(1, Duration::from_millis(5));
        }
        // No order between requests is promised; but one request's completions have one.
        all.sort_by_key(|&(user_data, ..)| user_data);
        for (user_data, res, flags) in all {
            self.lines.push(format!("{user_data}: {res} {flags:?}"));
        }
    }

    /// As `take`, where a result that is a descriptor is shown as such, and kept.
    pub fn take_fds(&mut self, count: u32) {
        let before = self.lines.len();
        self.take(count);
        for line in &mut self.lines[before..] {
            let (head, rest) = line.split_once(": ").expect("as `take` writes it");
            let (number, flags) = rest.split_once(' ').expect("as `take` writes it");
            let number: i32 = number.parse().expect("a number");
            if number > 2 {
                // SAFETY: a new descriptor, which nothing else owns (OP3).
                self.fds.push(unsafe { OwnedFd::from_raw_fd(number) });
                *line = format!("{head}: fd {flags}");
            }
        }
    }

    /// Submits, and takes every completion that comes while nothing else happens. On Linux, that
    /// is as many as came in the simulation, or else as many as come within a while. The result of
    /// a request that `is_fd` names is a descriptor, which is kept.
    pub fn rest(&mut self, is_fd: impl Fn(u64) -> bool) {
        let submitted = self.ring.submit().map_err(|error| error.to_string());
        if submitted != Ok(0) {
            self.say(format!("submitted {submitted:?}"));
        }
        let expected = self.counts.as_ref().and_then(|counts| counts.get(self.rests.len()));
        let expected = expected.copied().unwrap_or(0);
        self.last.clear();
        let mut all = Vec::new();
        for round in 0..300 {
            self.ring.get_events().expect("no fault");
            while let Some(cqe) = self.ring.pop() {
                let flags = cqe.flags - CqeFlags::SOCK_NONEMPTY;
                self.last.push((cqe.user_data, cqe.res, flags));
                let mut res = cqe.res.to_string();
                if cqe.res > 2 && is_fd(cqe.user_data) {
                    // SAFETY: a new descriptor, which nothing else owns (OP3).
                    self.fds.push(unsafe { OwnedFd::from_raw_fd(cqe.res) });
                    res = "fd".into();
                }
                all.push((cqe.user_data, format!("{} → {res}, {flags:?}", cqe.user_data)));
            }
            if round >= 2 && all.len() >= expected {
                break;
            }
            self.world.pause();
        }
        // One request's completions have an order; others have none.
        all.sort_by_key(|&(user_data, _)| user_data);
        self.last.sort_by_key(|&(user_data, ..)| user_data);
        self.rests.push(all.len());
        let all: Vec<String> = all.into_iter().map(|(_, text)| text).collect();
        if !all.is_empty() {
            self.say(format!("{all:?}"));
        }
    }

    /// Calls `register`, and says what it returns.
    pub fn register<T>(&mut self, op: RegisterOp, arg: Option<&mut T>, count: u32) {
        let arg = arg.map_or(std::ptr::null_mut(), |arg| std::ptr::from_mut(arg).cast());
        // SAFETY: what a scenario passes lives during the call, and what it registers until the
        // ring is gone.
        let result = unsafe { self.ring.base().register(op, arg, count) };
        self.say(format!("{op:?} {:?}", result.map_err(|errno| errno.raw())));
    }

    pub fn cancel_all(&mut self, count: u32) {
        self.push(prep::cancel(0, CancelFlags::ANY | CancelFlags::ALL));
        self.take(count + 1);
    }
}

/// Runs a scenario on both kernels, in each mode. One that differs runs on Linux again, up to three
/// times: a worker thread may be in the middle of what it does. A true difference comes each time.
pub fn both(name: &str, scene: impl Fn(&mut Scene<'_>)) {
    for flags in MODES {
        let run = |world: &dyn World| {
            let mut it = Scene::new(world, flags, None)?;
            scene(&mut it);
            Some(it.lines)
        };
        let sim = Sim::new(1);
        let simulated = run(&sim).expect("a simulated ring");
        sim.check();
        assert!(!simulated.is_empty());
        let Some(mut real) = run(&Real) else { continue };
        for _ in 1..4 {
            if real != simulated {
                real = run(&Real).expect("as before");
            }
        }
        assert_eq!(simulated, real, "{name}, {flags:?}: the simulation, and then Linux");
    }
}

/// Runs `count` random programs on both kernels. A program does all with one scene, and rests.
pub fn seeded(name: &str, count: u64, program: fn(&mut Scene<'_>, &mut Chance)) {
    let (mut different, mut first) = (0, None);
    for seed in super::seeds(count) {
        let run = |world: &dyn World, counts: Option<Vec<usize>>| {
            let mut chance = Chance::new(seed);
            let flags = chance.among(&MODES);
            let mut it = Scene::new(world, flags, counts)?;
            program(&mut it, &mut chance);
            Some((it.lines, it.rests))
        };
        let sim = Sim::new(seed);
        sim.allow_shared_user_data();
        let (simulated, counts) = run(&sim, None).expect("a simulated ring");
        let on_linux = || run(&Real, Some(counts.clone()));
        let Some((mut real, _)) = on_linux() else { return };
        for _ in 0..3 {
            if real != simulated {
                real = on_linux().map_or(real, |(again, _)| again); // As in `seeded`.
            }
        }
        if super::shows() {
            println!("{}\nLinux: {real:#?}\nSim: {simulated:#?}", sim.report());
        }
        sim.check();
        if real == simulated {
            continue;
        }
        different += 1;
        let mut pairs = real.iter().zip(&simulated).enumerate();
        let pair = pairs.find(|(_, (real, simulated))| real != simulated);
        let (at, (real, simulated)) = pair.expect("they differ somewhere");
        println!("{name}, seed {seed}, line {at}:\n  Linux {real}\n  Sim   {simulated}");
        first = first.or(Some(seed));
    }
    assert_eq!(different, 0, "{name}: again: ANNULUS_SEED={first:?}");
}

/// Runs `count` random programs on a simulated kernel with faults, but none that an enter returns:
/// every rule is kept.
pub fn with_faults(count: u64, program: fn(&mut Scene<'_>, &mut Chance)) {
    let faults = Faults { again: 0, busy: 0, interrupt: 0, partial: 0, ..Faults::SOME };
    for seed in super::seeds(count) {
        let sim = Sim::with_faults(seed, faults);
        sim.allow_shared_user_data();
        let mut chance = Chance::new(seed);
        let flags = chance.among(&MODES);
        let mut it = Scene::new(&sim, flags, None).expect("a simulated ring");
        program(&mut it, &mut chance);
        sim.check();
    }
}

/// Where a value lies.
pub fn at<T>(value: &T) -> u64 {
    std::ptr::from_ref(value).expose_provenance() as u64
}
