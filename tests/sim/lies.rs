//! A kernel that lies, refuses, and loses: the program's side returns, or panics; it neither loops
//! without end nor touches what is not its own.
//!
//! A watchdog sees a call that does not end; an address sanitizer sees the rest.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use annulus::prep;
use annulus::sim::{Faults, Sim};
use annulus::sys::abi::{Sqe, Sqe128};
use annulus::sys::flags::SetupFlags;
use annulus::{EnterCause, RawRing, Ring, Setup, SetupError, op};

use super::chance::Chance;
use super::panics::watched;
use super::worlds::World;

const LIES: Faults = Faults { byzantine: 100, ..Faults::SOME };
const SHORT: Duration = Duration::from_millis(1);

fn shapes() -> [SetupFlags; 8] {
    let defers = SetupFlags::SINGLE_ISSUER | SetupFlags::DEFER_TASKRUN;
    let rewinds = SetupFlags::SQ_REWIND | SetupFlags::NO_SQARRAY;
    [
        SetupFlags::empty(),
        defers,
        defers | SetupFlags::CQE_MIXED,
        SetupFlags::SQE_MIXED | SetupFlags::CQE_MIXED,
        SetupFlags::SQE128 | SetupFlags::CQE32,
        SetupFlags::SQPOLL,
        rewinds,
        SetupFlags::COOP_TASKRUN | SetupFlags::TASKRUN_FLAG | SetupFlags::CQE32,
    ]
}

fn raw_step(ring: &mut RawRing, chance: &mut Chance) {
    let nop = Sqe { user_data: chance.below(9).into(), ..prep::nop() };
    match chance.below(9) {
        0 | 1 => {
            // SAFETY: a NOP points to nothing (OP1).
            let _ = unsafe { ring.push(nop) };
        }
        2 => {
            let wide = Sqe128 { first: prep::nop128().first, rest: [0; 8] };
            // SAFETY: a NOP points to nothing (OP1).
            let _ = unsafe { ring.push_wide(wide) };
        }
        3 => drop(ring.submit()),
        4 => drop(ring.pop()),
        5 => drop(ring.pop_wide()),
        6 => drop(ring.drain(|_| ())),
        7 => drop(ring.wait_timeout(1, SHORT)),
        _ => drop((ring.get_events(), ring.ready(), ring.room(), ring.positions())),
    }
}

#[test]
fn raw_rings_survive_a_kernel_that_lies() {
    watched(|| {
        for seed in super::seeds(1500) {
            let (sim, mut chance) = (Sim::with_faults(seed, LIES), Chance::new(seed));
            let mut ring = sim.setup(4, chance.among(&shapes())).expect("a ring");
            for _ in 0..chance.below(60) {
                let _ = catch_unwind(AssertUnwindSafe(|| raw_step(&mut ring, &mut chance)));
            }
            let _ = catch_unwind(AssertUnwindSafe(|| drop(ring)));
        }
    });
}

fn safe_step(ring: &mut Ring, sim: &Sim, chance: &mut Chance) {
    match chance.below(7) {
        0 | 1 => drop(ring.submit(op::Nop)),
        2 => {
            let (reader, writer) = sim.pipe().expect("descriptors");
            sim.write(&writer, b"some").expect("room");
            drop(ring.submit(op::Read::new(reader, [0_u8; 8])));
        }
        3 => {
            let ticket = ring.submit(op::Nop);
            drop(ticket.map(|ticket| ring.wait_timeout(ticket, SHORT)));
        }
        4 => {
            let ticket = ring.submit(op::Timeout::new(SHORT));
            drop(ticket.map(|ticket| ring.cancel(&ticket)));
        }
        5 => drop(ring.submit_all()),
        _ => drop(ring.reap(|_| ())),
    }
}

#[test]
fn safe_rings_survive_a_kernel_that_lies() {
    watched(|| {
        for seed in super::seeds(1000) {
            let (sim, mut chance) = (Sim::with_faults(seed, LIES), Chance::new(seed));
            let flags = chance.among(&shapes());
            let polls = flags.contains(SetupFlags::SQPOLL);
            let setup = Setup::plain(4).with(flags).kernel(sim.kernel());
            let setup = if polls { setup.sqpoll(SHORT) } else { setup };
            let mut ring = setup.build().expect("a ring");
            for _ in 0..chance.below(40) {
                let step = || safe_step(&mut ring, &sim, &mut chance);
                if catch_unwind(AssertUnwindSafe(step)).is_err() {
                    break;
                }
            }
            let _ = catch_unwind(AssertUnwindSafe(|| drop(ring)));
        }
    });
}

#[test]
fn a_ring_that_is_refused_says_why() {
    let mut seen = [0; 3];
    for seed in 0..60 {
        let sim = Sim::with_faults(seed, Faults { setup: 1000, ..Faults::NONE });
        match Setup::plain(4).kernel(sim.kernel()).build_raw().map(drop) {
            Err(SetupError::NotSupported { .. }) => seen[0] += 1,
            Err(SetupError::OutOfMemory { .. } | SetupError::LockedMemory { .. }) => seen[1] += 1,
            Err(_) => seen[2] += 1,
            Ok(()) => panic!("it was to be refused"),
        }
    }
    assert!(seen.iter().all(|&count| count > 0), "{seen:?}");
}

#[test]
fn a_call_that_finds_no_memory_leaves_everything_as_it_was() {
    let mut refused = 0;
    for seed in 0..40 {
        let sim = Sim::with_faults(seed, Faults { register: 500, ..Faults::NONE });
        let mut ring = Setup::plain(4).kernel(sim.kernel()).build().expect("a ring");
        let made = [ring.fixed_pool(2, 8).is_ok(), ring.file_table(2).is_ok()];
        refused += made.iter().filter(|&&made| !made).count();
        let nop = ring.submit(op::Nop).expect("room");
        ring.wait(nop).expect("it ends").expect("no error");
        sim.check();
    }
    assert!((20..60).contains(&refused), "{refused} of 80");
}

#[test]
fn cq5_a_completion_that_is_lost_is_told_once() {
    let sim = Sim::with_faults(1, Faults { dropped: 1000, ..Faults::NONE });
    let mut ring = sim.setup(2, SetupFlags::empty()).expect("a ring");
    for user_data in 0..6 {
        // SAFETY: a NOP points to nothing (OP1).
        unsafe { ring.push(Sqe { user_data, ..prep::nop() }) }.expect("room");
        ring.submit().expect("no fault");
    }
    assert_eq!((ring.ready(), ring.lost()), (4, 2));
    while ring.pop().is_some() {}
    ring.expect_others();
    let told = ring.wait_timeout(1, SHORT).expect_err("two were lost");
    assert_eq!(told.cause, EnterCause::CompletionsLost);
    let _ = ring.wait_timeout(1, SHORT).expect("it was told once");
    sim.check();
}
