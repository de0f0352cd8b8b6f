//! The ring on a scripted kernel: every call that a method makes is counted, with its arguments.
//!
//! ```text
//!   enter/submit.rs        how many calls, partial submissions, errors, a kernel that lies
//!   enter/turn.rs          submit, wait and take in one call; what a pusher wrote
//!   enter/wait.rs          signals, waits that could never end, the pending count, mixed rings
//!   enter/pending.rs       which waits the safe API refuses
//!   enter/time.rs          waits that are bounded: timeout, minimum wait
//!   enter/wait_options.rs  points in time, signals, stored arguments
//!   enter/hold.rs          CQ5: held-back completions are asked for only when there may be some
//!   enter/poll.rs          SQPOLL: published, woken once, never submitted twice
//!   enter/name.rs          registered rings, halves, figures
//!   enter/handle.rs        handles: no call for nothing; what a ring learns of others
//!   enter/disabled.rs      disabled rings, rings that are probed, rings that are sent
//!   enter/loops.rs         event loops: enters that fail for a while, what waits, what comes back
//!   enter/beside.rs        lanes and chains beside cancels, signals and strangers' completions
//!   enter/ladder.rs        which set-up flags are tried, in which order
//! ```
//!
//! A call is written as `(to_submit, min_complete, flags)`. All indices start just before the wrap.
#![allow(unsafe_code, reason = "pushes entries that point to nothing")]

#[path = "../support/driver_kernel.rs"]
mod driver_kernel;
#[path = "../support/mod.rs"]
mod support;

mod beside;
mod disabled;
mod handle;
mod hold;
mod ladder;
mod loops;
mod mended;
mod name;
#[path = "wait_options.rs"]
mod options;
mod pending;
mod poll;
mod submit;
mod time;
mod turn;
mod turns;
mod wait;

use std::sync::Arc;

use annulus::{RawRing, Setup};
use annulus_sys::abi::Sqe;
use annulus_sys::flags::{EnterFlags, SetupFlags};
use driver_kernel::DriverKernel;

const NONE: EnterFlags = EnterFlags::empty();
const GETEVENTS: EnterFlags = EnterFlags::GETEVENTS;

/// Four entries and eight completions, with these flags.
fn ring(flags: SetupFlags) -> (RawRing, Arc<DriverKernel>) {
    let kernel = DriverKernel::new();
    let ring = kernel.ring(Setup::plain(4).with(flags));
    (ring, kernel)
}

/// The same, with no flags.
fn plain() -> (RawRing, Arc<DriverKernel>) {
    ring(SetupFlags::empty())
}

/// Pushes NOPs with these `user_data`.
fn push(ring: &mut RawRing, user_data: impl IntoIterator<Item = u64>) {
    for user_data in user_data {
        push_as(ring, Sqe { user_data, ..Sqe::ZERO });
    }
}

/// Pushes an entry, which this kernel does not look at.
fn push_as(ring: &mut RawRing, sqe: Sqe) {
    // SAFETY: nothing is read or written through it, because the kernel is a script (OP1).
    unsafe { ring.push(sqe) }.expect("room");
}

/// The `user_data` of all completions that can be popped.
fn pop_all(ring: &mut RawRing) -> Vec<u64> {
    std::iter::from_fn(|| ring.pop()).map(|cqe| cqe.user_data).collect()
}

/// The `user_data` of all entries that the kernel consumed.
fn consumed(kernel: &DriverKernel) -> Vec<u64> {
    kernel.consumed().iter().map(|sqe| sqe.user_data).collect()
}
