//! Programs by the thousand, one for each seed: those of `programs` on a simulated kernel, those of
//! `differential` on Linux as well. `tests/fuzz` has the same programs, decided by bytes.

use annulus::sim::Sim;

use super::chance::Chance;
use super::differential::{Told, run, settled};
use super::programs::{Program, STEPS};
use super::worlds::{Real, release_here};

const PROGRAMS: u64 = 2000;
const COMPARED: u64 = 1000;

#[test]
fn op1_op2_br1_hold_for_random_programs_with_faults() {
    for seed in super::seeds(PROGRAMS) {
        let mut program = Program::new(seed, Chance::new(seed));
        for _ in 0..program.chance.below(STEPS) {
            program.step();
            program.sim.check();
        }
        if super::shows() {
            program.sim.trace().iter().for_each(|record| println!("{record}"));
        }
        program.end(seed);
    }
}

#[test]
fn random_programs_see_on_the_simulated_kernel_what_they_see_on_linux() {
    let (mut different, mut first) = (0, None);
    for seed in super::seeds(COMPARED) {
        let sim = Sim::new(seed).like(release_here());
        sim.allow_shared_user_data();
        let (simulated, counts) = run(Chance::new(seed), &sim, None).expect("a simulated ring");
        let told = |attempt| Some(Told { counts: counts.clone(), attempt });
        let on_linux = |attempt| run(Chance::new(seed), &Real, told(attempt));
        let Some(real) = settled(&simulated, on_linux) else { return };
        if super::shows() {
            sim.trace().iter().for_each(|record| println!("{record}"));
            println!("{}\nLinux: {real:#?}", sim.report());
        }
        sim.check();
        if real == simulated {
            continue;
        }
        different += 1;
        let pairs = real.iter().zip(&simulated).enumerate();
        let all = pairs.filter(|(_, (real, simulated))| real != simulated);
        let (at, (real, simulated)) = all.into_iter().next().expect("they differ somewhere");
        println!("seed {seed}, line {at}:\n  Linux {real}\n  Sim   {simulated}");
        first = first.or(Some(seed));
    }
    assert_eq!(different, 0, "again: ANNULUS_SEED={first:?}");
}
