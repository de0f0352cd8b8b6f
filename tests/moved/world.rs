//! The two kernels on which rings are moved: this one, and the simulated one.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::thread::sleep;
use std::time::Duration;

use annulus::sim::{Faults, Sim};
use annulus::{RawRing, Setup, SetupError};

/// A kernel.
#[derive(Clone)]
pub enum World {
    Linux,
    Simulated(Sim),
}

impl World {
    pub fn simulated(seed: u64) -> Self {
        Self::Simulated(Sim::with_faults(seed, Faults::SOME))
    }

    /// Whether this kernel makes rings at all.
    pub fn has_rings() -> bool {
        let made = Setup::plain(1).build_raw();
        match made {
            Ok(_) | Err(SetupError::LockedMemory { .. } | SetupError::OutOfMemory { .. }) => true,
            Err(error) => {
                println!("skipped: no ring can be made here: {error}");
                false
            }
        }
    }

    /// A ring of `setup`, or `None` if this kernel has none of these flags.
    pub fn ring(&self, setup: &Setup<'static>) -> Option<RawRing> {
        for _ in 0..500 {
            let setup = match self {
                Self::Linux => setup.clone(),
                Self::Simulated(sim) => setup.clone().kernel(sim.kernel()),
            };
            match setup.build_raw() {
                // Dropped rings give their memory back a little late.
                Err(SetupError::LockedMemory { .. } | SetupError::OutOfMemory { .. }) => {
                    sleep(Duration::from_millis(10));
                }
                made => return made.ok(),
            }
        }
        None
    }

    pub fn pipe(&self) -> (OwnedFd, OwnedFd) {
        match self {
            Self::Linux => {
                let (from, to) = std::io::pipe().expect("a pipe");
                (from.into(), to.into())
            }
            Self::Simulated(sim) => sim.pipe().expect("a pipe"),
        }
    }

    /// Writes one byte, for which there is room.
    pub fn feed(&self, to: &OwnedFd) {
        match self {
            Self::Linux => {
                let mut to = std::fs::File::from(to.try_clone().expect("a duplicate"));
                to.write_all(b"x").expect("room");
            }
            Self::Simulated(sim) => drop(sim.write(to, b"x").expect("room")),
        }
    }

    /// How many bytes came into a pipe, once nobody writes to it any more.
    pub fn count(&self, (from, to): (OwnedFd, OwnedFd)) -> usize {
        match self {
            Self::Linux => {
                drop(to);
                let mut bytes = Vec::new();
                std::fs::File::from(from).read_to_end(&mut bytes).expect("a pipe")
            }
            Self::Simulated(sim) => sim.read(&from, 1 << 16).map_or(0, |bytes| bytes.len()),
        }
    }
}
