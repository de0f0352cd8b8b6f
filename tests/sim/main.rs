//! The simulated kernel `annulus::sim`: it is deterministic, it does what Linux does, it finds what
//! a program does wrong, and it finds nothing wrong with this crate.
//!
//! | module | shows |
//! |---|---|
//! | `twice` | one seed, one trace |
//! | `differential` | random programs on both kernels: what can be observed is equal |
//! | `scenarios` | the same short programs on both, one for each operation |
//! | `futexes` | random programs that wait at words and wake each other on both kernels |
//! | `groups` | random programs with provided buffers, whole or in parts |
//! | `splices` | random programs that move bytes from file to file on both kernels |
//! | `bundles` | bundles of buffers on both kernels: contents and accounts, not where they are split |
//! | `tables` | random programs with registered buffers and files on both kernels |
//! | `paths` | random programs that open, name and change files on both kernels |
//! | `messages` | random programs with messages, datagrams and addresses on both kernels |
//! | `waiters` | which of several requests that wait for one end is first, on both kernels |
//! | `updates` | messages between rings, NOP flags, updates of polls and timeouts on both kernels |
//! | `programs` | random programs of the safe API, with faults: every rule is kept |
//! | `seeded` | how many programs of these two run, and which |
//! | `layouts` | rings of every layout and size on both kernels |
//! | `polling` | rings with a polling thread on both kernels, and set-up flags |
//! | `workers` | requests that worker threads run on both kernels |
//! | `real` | descriptors that the simulation did not make: files, pipes and eventfds of the machine |
//! | `registrations` | queries, disabled and restricted rings, clones, personalities on both kernels |
//! | `waits` | cancels at once, polled rings, eventfds, clocks and regions on both kernels |
//! | `drained` | what Linux holds back behind a drained entry ends with its ring |
//! | `unmapped` | a map that stays unmapped, for tests of that |
//! | `releases` | what older kernels lack, and do otherwise |
//! | `lies` | a kernel that stores anything, refuses, or loses: what the program's side survives |
//! | `shrinking` | the luck of a failing run is shrunk to what it takes |
//! | `accounts` | each rule that a program breaks is reported, and so is a wait that cannot end |
//! | `modes` | overflow, deferred work, partial submission, time |
//! | `recorder` | real rings tell the same records |
//! | `speed` | how many small programs run in a second, without a broken rule |
//!
//! Does not show: anything about threads, or the real network.
#![allow(unsafe_code, reason = "pushes raw entries, and breaks rules on purpose")]

#[path = "../owned/chance.rs"]
#[allow(dead_code, reason = "not every function is used here")]
mod chance;
#[path = "../support/panics.rs"]
mod panics;

mod accounts;
mod bundles;
mod differential;
mod drained;
mod futexes;
mod groups;
mod layouts;
mod lies;
mod messages;
mod modes;
mod paths;
mod polling;
mod programs;
mod real;
mod recorder;
mod registrations;
mod releases;
mod scenarios;
mod scene;
mod seeded;
#[path = "../support/seeds.rs"]
mod seeds;
mod shrinking;
mod speed;
mod splices;
mod tables;
mod twice;
mod unmapped;
mod updates;
mod waiters;
mod waits;
mod workers;
mod worlds;

use seeds::seeds;

/// Whether one run is to be shown.
fn shows() -> bool {
    std::env::var("ANNULUS_SEED").is_ok()
}
