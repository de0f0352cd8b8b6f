//! The safe API between a kernel that answers anything and a caller that does anything: random
//! histories, in which OP1, OP2, OP3, BR1 and RG1 must hold.
//!
//! ```text
//!   owned/program.rs   what the caller does, decided by a seed
//!        │             (submits.rs, chains.rs, scopes.rs, finish.rs; of things.rs, claims.rs;
//!        │             habits.rs: how often; blame.rs: whose panics end a call)
//!        ▼
//!      annulus         the ring under test
//!        ▼
//!   owned/kernel.rs    what the kernel does (request.rs, group.rs: with whose memory; ends.rs: how
//!        │             requests end; lies.rs: what is not so)
//!        ▼
//!   owned/ledger.rs    what must hold
//!
//!   owned/counts.rs    no histories: what single calls count, and what they refuse
//! ```
//!
//! `ANNULUS_SEEDS=n` runs `n` histories of each kind, `ANNULUS_SEEDS=m..n` those with these seeds.
//! The histories leak memory, which adds up: run 20 000 at a time at most. `ANNULUS_SEED=n` runs
//! one history again and prints its steps; `ANNULUS_STEPS=n` stops it after `n` steps. Under
//! AddressSanitizer the same histories show each byte that is used too late. What they leak, they
//! leak on purpose. In `tests/fuzz` the bytes of a fuzzer decide in place of a seed.
#![allow(unsafe_code, reason = "plays the kernel, and opens the pending count")]

#[path = "../support/mod.rs"]
mod support;

mod blame;
mod chains;
mod chance;
mod claims;
mod closing;
mod counts;
mod drained;
mod ends;
mod finish;
mod found;
mod group;
mod habits;
mod kernel;
mod ledger;
mod lies;
mod loops;
mod profile;
mod program;
mod request;
mod runner;
mod scopes;
mod selected;
mod submits;
mod things;
mod timed;
mod unticketed;
mod world;

use profile::Profile;

#[test]
fn op1_op2_op3_rg1_hold_whatever_the_caller_does() {
    runner::run(Profile::Honest);
}

#[test]
fn op1_op2_op3_rg1_hold_whatever_the_kernel_says() {
    runner::run(Profile::Lying);
}

#[test]
fn op1_op2_op3_rg1_hold_when_the_callers_code_panics() {
    runner::run(Profile::Panicking);
}
