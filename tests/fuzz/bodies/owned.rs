//! Histories of the safe API, as in `tests/owned`: the caller calls, drops, forgets and panics;
//! the kernel behind each ring completes in any order, and lies.
//!
//! ```text
//!   input   caller ──►        ◄── kernel of each ring
//! ```

use super::chance;
use chance::Chance;
use profile::Profile;
use program::Program;

#[path = "../../owned/blame.rs"]
mod blame;
#[path = "../../owned/chains.rs"]
mod chains;
#[path = "../../owned/claims.rs"]
mod claims;
#[path = "../../owned/ends.rs"]
mod ends;
#[path = "../../owned/finish.rs"]
mod finish;
#[path = "../../owned/group.rs"]
mod group;
#[path = "../../owned/habits.rs"]
mod habits;
#[path = "../../owned/kernel.rs"]
mod kernel;
#[path = "../../owned/ledger.rs"]
mod ledger;
#[path = "../../owned/lies.rs"]
mod lies;
#[path = "../../owned/profile.rs"]
mod profile;
#[path = "../../owned/program.rs"]
mod program;
#[path = "../../owned/request.rs"]
pub mod request;
#[path = "../../owned/runner.rs"]
mod runner;
#[path = "../../owned/scopes.rs"]
mod scopes;
#[path = "../../owned/submits.rs"]
mod submits;
#[path = "../../owned/things.rs"]
mod things;
#[path = "../../owned/unticketed.rs"]
mod unticketed;
#[path = "../../owned/world.rs"]
mod world;

/// The most steps of a history.
const STEPS: u32 = 300;

/// One history.
pub fn run(data: &[u8]) {
    runner::hush();
    let mut chance = Chance::of(data);
    let profile = chance.among(&[Profile::Honest, Profile::Lying, Profile::Panicking]);
    let theirs = chance.split();
    let mut program = Program::with(chance, theirs, profile);
    program.choose_habits();
    for step in 0..STEPS {
        if program.chance.is_used_up() {
            break;
        }
        program.step(|name, at| {
            if super::tells() {
                println!("{step:3}: {name}, ring {at}");
            }
        });
        program.check();
    }
    program.finish();
}
