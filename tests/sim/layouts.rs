//! Rings of every layout: wide, mixed and rewinding queues, memory of the program's, new sizes.
//!
//! | compared | with |
//! |---|---|
//! | random programs of NOPs, in every layout that it makes | Linux, exactly and in order |
//! | random programs of small NOPs, in every layout | a plain ring of the simulation |
//!
//! The simulated ring begins at index 0, as that of Linux: where a filler goes depends on it.

use std::os::fd::{AsFd, AsRawFd};

use annulus::prep;
use annulus::sim::{Release, Sim};
use annulus::sys::abi::{Sqe, Sqe128};
use annulus::sys::abi_register::RsrcUpdate;
use annulus::sys::flags::{NopFlags, SetupFlags, SqRingFlags};
use annulus::sys::map::Pages;
use annulus::sys::opcode::RegisterOp;
use annulus::sys::rings::ResizeFailure;
use annulus::{RawRing, Setup};

use super::chance::Chance;
use super::scene::both;
use super::unmapped::Unmapped;
use super::worlds::{Real, World};

const DEFERS: SetupFlags = SetupFlags::SINGLE_ISSUER.union(SetupFlags::DEFER_TASKRUN);
const RESIZABLE: SetupFlags = DEFERS.union(SetupFlags::NO_SQARRAY);
const REWINDS: SetupFlags = SetupFlags::SQ_REWIND.union(SetupFlags::NO_SQARRAY);

/// The layouts, each with and without what lets it be resized.
fn layouts() -> Vec<SetupFlags> {
    let (sqe128, cqe32) = (SetupFlags::SQE128, SetupFlags::CQE32);
    let shapes = [
        SetupFlags::empty(),
        sqe128,
        cqe32,
        sqe128 | cqe32,
        SetupFlags::CQE_MIXED,
        sqe128 | SetupFlags::CQE_MIXED,
        SetupFlags::NO_SQARRAY,
        SetupFlags::NO_MMAP,
        SetupFlags::NO_MMAP | sqe128 | cqe32,
        SetupFlags::NO_MMAP | SetupFlags::NO_SQARRAY,
        SetupFlags::NO_MMAP | SetupFlags::REGISTERED_FD_ONLY,
        // Newer than 6.18.
        SetupFlags::SQE_MIXED,
        SetupFlags::SQE_MIXED | SetupFlags::CQE_MIXED,
        REWINDS,
        REWINDS | sqe128 | SetupFlags::CQE_MIXED,
    ];
    let both = shapes.into_iter().flat_map(|shape| [shape, shape | RESIZABLE]);
    both.collect()
}

/// A ring whose indices begin at 0.
fn from_zero(sim: &Sim, flags: SetupFlags) -> RawRing {
    loop {
        let ring = sim.setup(4, flags).expect("a simulated ring");
        if ring.positions().cq_tail.to_raw() == 0 {
            return ring;
        }
    }
}

/// Which entries a program pushes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pushes {
    Small,
    All,
}

struct Run {
    ring: RawRing,
    flags: SetupFlags,
    next: u64,
    lines: Vec<String>,
}

impl Run {
    fn push(&mut self, chance: &mut Chance, pushes: Pushes) {
        let user_data = self.next;
        let result = i32::try_from(user_data).expect("few");
        let all = pushes == Pushes::All;
        let sqe = match chance.below(6) {
            0 | 1 if all => prep::nop_cqe32([user_data, 7]),
            2 if all => Sqe { ioprio: 9, ..prep::nop() },
            _ => prep::nop_with(NopFlags::INJECT_RESULT, result, -1, 0),
        };
        let sqe = Sqe { user_data, ..sqe };
        let is_wide = all && chance.one_in(3);
        let pushed = if is_wide && self.flags.contains(SetupFlags::SQE128) {
            // SAFETY: a NOP points to nothing (OP1).
            unsafe { self.ring.push_wide(Sqe128 { first: sqe, rest: [user_data; 8] }) }.is_ok()
        } else if is_wide && self.flags.contains(SetupFlags::SQE_MIXED) {
            let first = Sqe { user_data, ..prep::nop128().first };
            // SAFETY: a NOP points to nothing (OP1).
            unsafe { self.ring.push_wide(Sqe128 { first, rest: [0; 8] }) }.is_ok()
        } else {
            // SAFETY: a NOP points to nothing (OP1).
            unsafe { self.ring.push(sqe) }.is_ok()
        };
        self.next += u64::from(pushed);
        self.lines.push(format!("pushed {pushed}"));
    }

    fn pop(&mut self) {
        let line = match self.ring.pop_wide() {
            Some(wide) => format!("{:?} {:?}", wide.first, wide.big),
            None => "none".into(),
        };
        self.lines.push(line);
    }

    /// In both halves, which may have become too small, or was too large already.
    fn resize(&mut self, chance: &mut Chance) {
        let entries = 1 << chance.below(5);
        let cq = [None, Some(2 * entries), Some(4 * entries)];
        let resized = self.ring.resize(entries, chance.among(&cq));
        let refused = resized.map_err(|failure| match failure {
            ResizeFailure::Refused(errno) => errno.raw(),
            ResizeFailure::Map(errno) => panic!("no map: {errno}"),
        });
        let now = (self.ring.sq_entries(), self.ring.cq_entries());
        self.lines.push(format!("resized {refused:?}: {now:?}"));
    }

    fn step(&mut self, chance: &mut Chance, pushes: Pushes) {
        match chance.below(10) {
            0..=3 => self.push(chance, pushes),
            4 | 5 => {
                let submitted = self.ring.submit().map_err(|error| error.submitted);
                self.lines.push(format!("submitted {submitted:?}"));
            }
            6 | 7 => (0..=chance.below(4)).for_each(|_| self.pop()),
            8 if pushes == Pushes::All => self.resize(chance),
            _ => self.ring.get_events().expect("no fault"),
        }
        let overflows = self.ring.sq_flags().contains(SqRingFlags::CQ_OVERFLOW);
        self.lines.push(format!("{} ready, {overflows}", self.ring.ready()));
    }
}

/// What a program sees on a ring.
fn run(ring: RawRing, flags: SetupFlags, seed: u64, pushes: Pushes) -> Vec<String> {
    let mut chance = Chance::new(seed);
    let mut run = Run { ring, flags, next: 0, lines: Vec::new() };
    for _ in 0..chance.below(60) {
        run.step(&mut chance, pushes);
    }
    run.ring.submit().expect("no fault");
    for _ in 0..80 {
        run.ring.get_events().expect("no fault");
        run.pop();
    }
    run.lines
}

fn compare(name: &str, flags: SetupFlags, seed: u64, one: &[String], other: &[String]) {
    let at = one.iter().zip(other).position(|(one, other)| one != other);
    let Some(at) = at else { return assert_eq!(one.len(), other.len()) };
    panic!(
        "{name}, {flags:?}, ANNULUS_SEED={seed}, line {at}:\n{:#?}\n  here {}\n  there {}",
        &one[at.saturating_sub(12)..at],
        one[at],
        other[at]
    );
}

#[test]
fn rings_of_every_layout_show_what_they_show_on_linux() {
    let (mut compared, mut newer) = (0, 0);
    let is_6_18 = Real.setup(4, SetupFlags::SQE_MIXED).is_none();
    for flags in layouts() {
        for seed in super::seeds(150) {
            // Where fillers go depends on the release; the oldest one with them is known well.
            let is_mixed = flags.contains(SetupFlags::CQE_MIXED);
            let real = Real.setup(4, flags).filter(|_| !is_mixed || is_6_18);
            let Some(real) = real else {
                newer += 1;
                break;
            };
            let is_old = is_mixed && !flags.contains(SetupFlags::SQE_MIXED);
            let release = if is_old { Release::V6_18 } else { Release::NEWEST };
            let sim = Sim::new(seed).like(release);
            let simulated = run(from_zero(&sim, flags), flags, seed, Pushes::All);
            sim.check();
            let real = run(real, flags, seed, Pushes::All);
            compare("a layout", flags, seed, &simulated, &real);
            compared += 1;
        }
    }
    println!("{compared} programs agree; {newer} layouts are newer than this kernel");
}

#[test]
fn rings_are_registered_and_named_by_their_places() {
    both("registered rings", |it| {
        let fd = |ring: &RawRing| u64::from(ring.as_fd().as_raw_fd().cast_unsigned());
        let (itself, any) = (fd(&it.ring), u32::MAX);
        let update = |offset, data| RsrcUpdate { offset, resv: 0, data };
        let (reader, _writer) = it.world.pipe();
        let other = u64::from(reader.as_raw_fd().cast_unsigned());
        let (adds, drops) = (RegisterOp::RING_FDS, RegisterOp::UNREGISTER_RING_FDS);
        for mut updates in [
            vec![update(any, itself)],
            vec![update(3, itself), update(any, itself), update(3, itself)],
            vec![update(16, itself)],
            vec![update(any, other)],
            vec![update(any, 9999)],
            vec![RsrcUpdate { resv: 1, ..update(5, itself) }],
        ] {
            let count = u32::try_from(updates.len()).expect("few");
            it.register(adds, updates.first_mut(), count);
            it.say(format!("{:?}", updates.iter().map(|one| one.offset).collect::<Vec<_>>()));
        }
        it.register::<u32>(adds, None, 0);
        it.ring.register_ring_fd().expect("there is room");
        it.push(prep::nop());
        it.take(1);
        it.ring.unregister_ring_fd().expect("it is there");
        for mut one in [update(0, 0), update(0, 0), update(16, 0), update(1, 7), update(3, 0)] {
            it.register(drops, Some(&mut one), 1);
        }
        let mut all: Vec<_> = (0..17).map(|_| update(any, itself)).collect();
        it.register(adds, all.first_mut(), 17);
        it.register(adds, all.first_mut(), 16);
        it.push(prep::nop());
        it.take(1);
        for place in 0..16 {
            it.register(drops, Some(&mut update(place, 0)), 1);
        }
    });
}

#[test]
fn a_layout_does_not_change_what_a_program_sees() {
    for flags in layouts() {
        for seed in super::seeds(60) {
            let (sim, plain) = (Sim::new(seed), Sim::new(seed + 1));
            let ring = sim.setup(4, flags).expect("a simulated ring");
            let with = run(ring, flags, seed, Pushes::Small);
            let mode = flags & DEFERS;
            let ring = plain.setup(4, mode).expect("a simulated ring");
            compare("small", flags, seed, &with, &run(ring, mode, seed, Pushes::Small));
            sim.check();
        }
    }
}

#[test]
fn cq4_a_mixed_ring_loses_nothing_at_any_start() {
    for seed in super::seeds(400) {
        let releases = [Release::V6_18, Release::NEWEST];
        let sim = Sim::new(seed).like(releases[usize::from(seed % 2 == 0)]);
        let mut ring = sim.setup(4, SetupFlags::CQE_MIXED).expect("a simulated ring");
        let (mut chance, mut sent, mut seen) = (Chance::new(seed), 0, Vec::new());
        for _ in 0..80 {
            let wide = chance.one_in(2);
            let nop = if wide { prep::nop_cqe32([sent, !sent]) } else { prep::nop() };
            // SAFETY: a NOP points to nothing (OP1).
            unsafe { ring.push(Sqe { user_data: sent, ..nop }) }.expect("room");
            sent += 1;
            ring.submit().expect("no fault");
            while chance.one_in(2) {
                ring.get_events().expect("no fault");
                let Some(cqe) = ring.pop_wide() else { break };
                let number = cqe.first.user_data;
                assert!(cqe.big == [0; 2] || cqe.big == [number, !number]);
                seen.push(number);
            }
        }
        ring.drain(|cqe| seen.push(cqe.user_data)).expect("no fault");
        // A small one may pass a wide one that was held back.
        seen.sort_unstable();
        assert_eq!(seen, (0..sent).collect::<Vec<_>>(), "seed {seed}");
        sim.check();
    }
}

#[test]
fn a_wide_entry_at_the_end_of_a_mixed_ring_is_refused() {
    let sim = Sim::new(1);
    let mut ring = sim.setup(4, SetupFlags::SQE_MIXED).expect("a simulated ring");
    // Without the padding that `push_wide` writes.
    let wide = prep::nop128().first;
    let at = ring.positions().sq_tail.to_raw() % 4;
    for _ in 0..3 - at {
        // SAFETY: a NOP points to nothing (OP1).
        unsafe { ring.push(prep::nop()) }.expect("room");
    }
    // SAFETY: a NOP points to nothing (OP1).
    unsafe { ring.push(Sqe { user_data: 1, ..wide }) }.expect("room");
    ring.submit().expect("no fault");
    let mut refused = Vec::new();
    ring.drain(|cqe| refused.push((cqe.user_data, cqe.res))).expect("no fault");
    assert_eq!(refused.last(), Some(&(1, -libc::EINVAL)));
    // Nor does a ring of small entries take it.
    let mut ring = sim.setup(4, SetupFlags::empty()).expect("a simulated ring");
    // SAFETY: a NOP points to nothing (OP1).
    unsafe { ring.push(wide) }.expect("room");
    ring.submit().expect("no fault");
    assert_eq!(ring.pop().map(|cqe| cqe.res), Some(-libc::EINVAL));
}

#[test]
fn rg1_ring_memory_of_the_program_that_is_unmapped_is_reported() {
    let sim = Sim::new(1);
    let setup = Setup::plain(4).own_memory(Pages::Ordinary).kernel(sim.kernel());
    let map = Unmapped::new(setup.memory_size());
    // SAFETY: only the ring uses it; that it is unmapped is what the test is for (RG1).
    let setup = unsafe { setup.memory_at(map.memory()) };
    let mut ring = setup.build_raw().expect("a ring");
    // SAFETY: a NOP points to nothing (OP1).
    unsafe { ring.push(prep::nop()) }.expect("room");
    ring.submit_and_wait(1).expect("no fault");
    assert_eq!(ring.pop().map(|cqe| cqe.res), Some(0));
    sim.check();
    // SAFETY: the ring is used no more; the kernel still has it, on purpose (RG1).
    unsafe { map.unmap() };
    let broken = sim.report().broken.join("; ");
    assert!(broken.starts_with("RG1: the memory of the ring is not mapped"), "{broken}");
    // It must not be touched any more.
    std::mem::forget(ring);
}
