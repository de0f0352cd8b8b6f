//! Valid programs on Linux, as in `tests/sim/differential.rs`: what a program can see there is what
//! it sees on the simulation of this release. On a machine without a ring it says so.

use annulus::sim::Sim;

use super::chance;
use super::tells as shows;
use chance::Chance;

#[path = "../../sim/differential.rs"]
mod differential;
#[path = "../../sim/worlds.rs"]
mod worlds;

/// One program, in both worlds.
pub fn run(data: &[u8]) {
    let mut chance = Chance::of(data);
    let sim = Sim::new(chance.half().into()).like(worlds::release_here());
    sim.allow_shared_user_data();
    let program = |world: &dyn worlds::World, told| differential::run(chance.clone(), world, told);
    let (simulated, counts) = program(&sim, None).expect("a simulated ring");
    let told = |attempt| Some(differential::Told { counts: counts.clone(), attempt });
    let on_linux = |attempt| program(&worlds::Real, told(attempt));
    let Some(real) = differential::settled(&simulated, on_linux) else { return };
    if shows() {
        println!("{}\nLinux: {real:#?}", sim.report());
    }
    sim.check();
    let pairs = real.iter().zip(&simulated);
    for (line, (real, simulated)) in pairs.enumerate() {
        assert_eq!(real, simulated, "line {line}: Linux, and the simulation");
    }
}
