//! The safe core against a kernel that says what it likes and a caller who does what he likes:
//! random histories, in which OP1, OP2, OP3, BR1 and RG1 must hold.
//!
//! ```text
//!   owned/program.rs   what the caller does: a seed says what, in which order
//!        │             (submits.rs, chains.rs, scopes.rs, finish.rs; of things.rs, claims.rs)
//!        ▼
//!      annulus         the ring under test
//!        ▼
//!   owned/kernel.rs    what the kernel does (request.rs, group.rs: with whose memory; ends.rs: how
//!        │             requests end; lies.rs: what is not so)
//!        ▼
//!   owned/ledger.rs    what must hold
//! ```
//!
//! `ANNULUS_SEEDS=n` runs so many histories of each kind, `ANNULUS_SEEDS=m..n` others; what they
//! leak adds up, so 20 000 at a time are enough. `ANNULUS_SEED=n` runs one again, and says what it
//! does; `ANNULUS_STEPS=n` stops it after so many steps. Under AddressSanitizer the same histories
//! show each byte that is used too late; what is leaked, is leaked on purpose.
#![allow(unsafe_code, reason = "plays the kernel, and opens a forecast")]

mod support;

#[path = "owned/chains.rs"]
mod chains;
#[path = "owned/chance.rs"]
mod chance;
#[path = "owned/claims.rs"]
mod claims;
#[path = "owned/ends.rs"]
mod ends;
#[path = "owned/finish.rs"]
mod finish;
#[path = "owned/found.rs"]
mod found;
#[path = "owned/group.rs"]
mod group;
#[path = "owned/kernel.rs"]
mod kernel;
#[path = "owned/ledger.rs"]
mod ledger;
#[path = "owned/lies.rs"]
mod lies;
#[path = "owned/picked.rs"]
mod picked;
#[path = "owned/program.rs"]
mod program;
#[path = "owned/request.rs"]
mod request;
#[path = "owned/runner.rs"]
mod runner;
#[path = "owned/scopes.rs"]
mod scopes;
#[path = "owned/submits.rs"]
mod submits;
#[path = "owned/things.rs"]
mod things;
#[path = "owned/world.rs"]
mod world;

/// What kind of history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// The kernel is one that Linux could be.
    Honest,
    /// It posts completions that are not true.
    Lying,
    /// It is honest, and what the caller hands over panics: when it is asked for its bytes, told
    /// how many came, or dropped.
    Panicking,
}

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
