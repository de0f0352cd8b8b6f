//! The beginning of a life: a ring of a kind that this kernel has, and its registrations.

use std::time::Duration;

use annulus::lease::RegisterError;
use annulus::sys::flags::{Features, SetupFlags};
use annulus::{Ring, Setup, SetupError};

use crate::chance::Chance;

/// The kinds of rings.
pub const KINDS: [&str; 5] = ["plain", "cooperating", "deferring", "polled", "overflowing"];

/// A ring of this kind, or the next simpler one that the kernel has.
pub fn ring(chance: &mut Chance, kind: usize) -> (Ring, usize) {
    let entries = chance.among(&[8, 16, 32]);
    let setup = Setup::plain(entries);
    let setup = match KINDS[kind] {
        "cooperating" => setup.with(SetupFlags::COOP_TASKRUN | SetupFlags::TASKRUN_FLAG),
        "deferring" => setup.with(SetupFlags::SINGLE_ISSUER | SetupFlags::DEFER_TASKRUN),
        "polled" => setup.sqpoll(Duration::from_millis(1)),
        "overflowing" => Setup::new(8).cq_entries(8),
        _ => setup,
    };
    let ring = patient(|| setup.build()).ok().filter(|ring| {
        // Before Linux 5.11 such a ring takes registered files only.
        KINDS[kind] != "polled" || ring.raw().features().contains(Features::SQPOLL_NONFIXED)
    });
    let plain = || patient(|| Setup::plain(entries).build()).expect("a ring can be made");
    ring.map_or_else(|| (plain(), 0), |ring| (ring, kind))
}

/// Runs `make` until there is enough locked memory: dropped rings give theirs back a little late.
pub fn patient<T>(mut make: impl FnMut() -> Result<T, SetupError>) -> Result<T, SetupError> {
    for _ in 0..200 {
        match make() {
            Err(SetupError::LockedMemory { .. } | SetupError::OutOfMemory { .. }) => {
                std::thread::sleep(Duration::from_millis(5));
            }
            result => return result,
        }
    }
    make()
}

/// The result; `None` where this kernel or user cannot make it.
pub fn lacking<T>(made: Result<T, RegisterError>) -> Option<T> {
    match made {
        Ok(made) => Some(made),
        Err(
            RegisterError::Unsupported { .. }
            | RegisterError::LockedMemory { .. }
            | RegisterError::OutOfMemory { .. }
            | RegisterError::TooManyFiles { .. },
        ) => None,
        Err(error) => panic!("it cannot be registered: {error}"),
    }
}
