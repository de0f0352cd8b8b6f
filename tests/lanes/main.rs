//! A lane between a kernel that answers anything and a caller that does anything: random histories,
//! in which OP1, OP2, OP3 and RG1 must hold.
//!
//! ```text
//!   lanes/program.rs   what the caller does, decided by a seed
//!        ▼
//!      annulus::Lane
//!        ▼
//!   lanes/kernel.rs    what the kernel does, with whose memory, and what is not so
//!        │
//!   lanes/things.rs    the operation, its values, and who may drop them when
//! ```
//!
//! `ANNULUS_SEEDS=n` runs `n` histories of each kind; `ANNULUS_SEED=n` runs one again.
#![allow(unsafe_code, reason = "plays the kernel")]

#[path = "../owned/chance.rs"]
#[allow(dead_code, reason = "shared with the histories of rings")]
mod chance;
mod kernel;
#[path = "../owned/profile.rs"]
mod profile;
mod program;
#[path = "../support/mod.rs"]
mod support;
mod things;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use profile::Profile;
use program::Program;
use support::panics::text;
use things::OnPurpose;

/// A number that the environment gives.
fn given(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

fn run(profile: Profile) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !info.payload().is::<OnPurpose>() {
                loud(info);
            }
        }));
    });
    let seeds = match given("ANNULUS_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..given("ANNULUS_SEEDS").unwrap_or(1500),
    };
    for seed in seeds {
        let history = AssertUnwindSafe(|| Program::new(seed, profile).run());
        if let Err(panic) = catch_unwind(history) {
            panic!("{profile:?}, ANNULUS_SEED={seed}: {}", text(&*panic));
        }
    }
}

#[test]
fn op1_op2_op3_rg1_hold_in_a_lane_whatever_the_caller_does() {
    run(Profile::Honest);
}

#[test]
fn op1_op2_op3_rg1_hold_in_a_lane_whatever_the_kernel_says() {
    run(Profile::Lying);
}

#[test]
fn op1_op2_op3_rg1_hold_in_a_lane_when_the_callers_code_panics() {
    run(Profile::Panicking);
}
