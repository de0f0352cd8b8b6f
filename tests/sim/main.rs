//! The simulated kernel `annulus::sim`: it is deterministic, it does what Linux does, it finds what
//! a program does wrong, and it finds nothing wrong with this crate.
//!
//! | module | shows |
//! |---|---|
//! | `twice` | one seed, one trace |
//! | `differential` | random programs on both kernels: what can be observed is equal |
//! | `scenarios` | the same short programs on both, one for each operation |
//! | `programs` | random programs of the safe API, with faults: every rule is kept |
//! | `accounts` | each rule that a program breaks is reported, and so is a wait that cannot end |
//! | `modes` | overflow, deferred work, partial submission, time |
//! | `speed` | how many small programs run in a second (ignored) |
//!
//! Does not show: anything about threads, the real network, or rings with wide entries.
#![allow(unsafe_code, reason = "pushes raw entries, and breaks rules on purpose")]

#[path = "../owned/chance.rs"]
#[allow(dead_code, reason = "not every function is used here")]
mod chance;

mod accounts;
mod differential;
mod modes;
mod programs;
mod scenarios;
mod speed;
mod twice;
mod worlds;
