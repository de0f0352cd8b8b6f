//! The ring on a scripted kernel: every call that a method makes is counted, with what it asks.
//!
//! ```text
//!   enter/submit.rs    submit: how many calls, partial submissions, errors, a kernel that lies
//!   enter/wait.rs      waits: signals, hopeless waits, what opens the forecast, mixed rings
//!   enter/hope.rs      which waits the safe face refuses
//!   enter/time.rs      waits that are bounded: timeout, minimum wait
//!   enter/patience.rs  points in time, signals, stored arguments
//!   enter/hold.rs      CQ5: what the kernel holds back is asked for when, and only when, it may be
//!   enter/poll.rs      SQPOLL: published, woken once, never submitted twice
//!   enter/name.rs      registered rings, halves, figures
//!   enter/ladder.rs    which set-up flags are tried, in which order
//! ```
//!
//! A call is written as `(to_submit, min_complete, flags)`. All indices start just before the wrap.
#![allow(unsafe_code, reason = "pushes entries that point to nothing")]

#[path = "support/gate_kernel.rs"]
mod gate_kernel;
mod support;

#[path = "enter/hold.rs"]
mod hold;
#[path = "enter/hope.rs"]
mod hope;
#[path = "enter/ladder.rs"]
mod ladder;
#[path = "enter/mended.rs"]
mod mended;
#[path = "enter/name.rs"]
mod name;
#[path = "enter/patience.rs"]
mod patience;
#[path = "enter/poll.rs"]
mod poll;
#[path = "enter/submit.rs"]
mod submit;
#[path = "enter/time.rs"]
mod time;
#[path = "enter/wait.rs"]
mod wait;

use std::sync::Arc;

use annulus::{RawRing, Setup};
use annulus_sys::abi::Sqe;
use annulus_sys::flags::{EnterFlags, SetupFlags};
use gate_kernel::GateKernel;

const NONE: EnterFlags = EnterFlags::empty();
const GETEVENTS: EnterFlags = EnterFlags::GETEVENTS;

/// Four entries and eight completions, with these flags.
fn ring(flags: SetupFlags) -> (RawRing, Arc<GateKernel>) {
    let kernel = GateKernel::new();
    let ring = kernel.ring(Setup::plain(4).with(flags));
    (ring, kernel)
}

/// The same, with no flags.
fn plain() -> (RawRing, Arc<GateKernel>) {
    ring(SetupFlags::empty())
}

/// Pushes NOPs with these `user_data`.
fn push(ring: &mut RawRing, user_data: impl IntoIterator<Item = u64>) {
    for user_data in user_data {
        push_as(ring, Sqe { user_data, ..Sqe::ZERO });
    }
}

/// Pushes an entry, which this kernel does not look into.
fn push_as(ring: &mut RawRing, sqe: Sqe) {
    // SAFETY: nothing is read or written through it, because the kernel is a script (OP1).
    unsafe { ring.push(sqe) }.expect("room");
}

/// What can be popped, as `user_data`.
fn pop_all(ring: &mut RawRing) -> Vec<u64> {
    std::iter::from_fn(|| ring.pop()).map(|cqe| cqe.user_data).collect()
}

/// What the kernel consumed, as `user_data`.
fn consumed(kernel: &GateKernel) -> Vec<u64> {
    kernel.consumed().iter().map(|sqe| sqe.user_data).collect()
}
