//! Histories of a lane, as in `tests/lanes`: operations of one type, a caller that panics, a kernel
//! that lies.

use super::chance;
use chance::Chance;
use profile::Profile;
use things::OnPurpose;

#[path = "../../lanes/kernel.rs"]
mod kernel;
#[path = "../../owned/profile.rs"]
mod profile;
#[path = "../../lanes/program.rs"]
mod program;
#[path = "../../lanes/things.rs"]
mod things;

/// One history.
pub fn run(data: &[u8]) {
    super::hush(|panic| panic.is::<OnPurpose>());
    let mut chance = Chance::of(data);
    let profile = chance.among(&[Profile::Honest, Profile::Lying, Profile::Panicking]);
    let theirs = chance.split();
    program::Program::with(chance, theirs, profile).run();
}
