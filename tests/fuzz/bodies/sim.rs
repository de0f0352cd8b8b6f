//! Programs of the safe API on `annulus::sim`, as in `tests/sim/programs.rs`: streams, pools,
//! timers, chains and cancels, with faults.

use super::chance;
use super::tells as shows;
use chance::Chance;

#[path = "../../sim/programs.rs"]
mod programs;

/// The most steps of a program.
const STEPS: u32 = 200;

/// One program.
pub fn run(data: &[u8]) {
    let mut chance = Chance::of(data);
    let seed = chance.half().into();
    let mut program = programs::Program::new(seed, chance);
    for _ in 0..STEPS {
        if program.chance.is_used_up() {
            break;
        }
        program.step();
        program.sim.check();
    }
    if shows() {
        program.sim.trace().iter().for_each(|record| println!("{record}"));
    }
    program.end(seed);
}
