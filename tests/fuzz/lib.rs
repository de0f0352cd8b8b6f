//! The bodies of the fuzz targets, and what they share with the tests.
//!
//! ```text
//!   fuzz_targets/*.rs ──► bodies/*.rs ◄── tests/fuzzed (an ordinary test)
//!                              │
//!                   tests/owned, lanes, sim, hostile, support
//! ```
#![allow(unsafe_code, reason = "plays the kernel")]

pub mod bodies;
#[path = "../support/mod.rs"]
mod support;
