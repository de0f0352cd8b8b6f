//! Raw rings that go from thread to thread, and rings that others made: nothing is lost on the way.
//!
//! ```text
//!   made here, or by another library and adopted
//!     ──► SendRawRing ──► thread, as a RawRing and back ──► .. ──► taken empty, or dropped
//!         random steps at each: push, flush, submit, wait, pop, drain, feed a pipe that is read
//! ```
//!
//! | module | shows |
//! |---|---|
//! | `accounts` | what is held against a ring after each step: each `user_data` comes back once |
//! | `moving` | rings that are sent, with entries pushed, published, in flight, and not taken |
//! | `adopting` | rings that a few lines of our own made and used, by `unsafe` and the system calls |
//!
//! The first two run on this kernel and on the simulated one; `adopt` maps a ring of Linux only.
//! `ANNULUS_SEED=n` repeats one history, `ANNULUS_SEEDS=m..n` runs others.
#![allow(unsafe_code, reason = "pushes raw entries, and plays another library")]

#[path = "../owned/chance.rs"]
#[allow(dead_code, reason = "not every function is used here")]
mod chance;

mod accounts;
mod adopting;
mod moving;
#[path = "../support/panics.rs"]
mod panics;
#[path = "../support/seeds.rs"]
mod seeds;
mod world;

use seeds::seeds;
