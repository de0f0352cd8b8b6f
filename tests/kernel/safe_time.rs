//! Timeouts, polls and cancels, safe face.
//!
//! ```text
//!   begin(op) ──► its ticket ──► goes_on ──► what ends it ──► what it says
//! ```
//!
//! A time that is to come is a millisecond away, one that is not is an hour: nothing here measures.
//! That something does not happen is seen when what was submitted after it has completed.

use std::fmt::Debug;
use std::time::Duration;

use annulus::op::{CancelOutcome, Nop, Op};
use annulus::sys::flags::Features;
use annulus::sys::opcode::Opcode;
use annulus::{Ring, Setup, Ticket};
use libtest_mimic::Trial;

use crate::harness::{Need, safe_ring};

#[path = "safe_time/alone.rs"]
mod alone;
#[path = "safe_time/cancels.rs"]
mod cancels;
#[path = "safe_time/clocks.rs"]
mod clocks;
#[path = "safe_time/given_up.rs"]
mod given_up;
#[path = "safe_time/polls.rs"]
mod polls;
#[path = "safe_time/timeouts.rs"]
mod timeouts;

/// Long enough to come, short enough to wait for.
const SOON: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);

/// Repeated polls, and updates of them: since Linux 5.13.
pub const REPEATED_POLL: Need = Need::Feature(Features::RSRC_TAGS);
/// Cancels by something else than a ticket: since Linux 5.19, as this.
pub const BY_FLAGS: Need = Need::Op(Opcode::SOCKET);

/// The tests.
pub fn tests() -> Vec<Trial> {
    let all = [
        timeouts::tests(),
        clocks::tests(),
        polls::tests(),
        cancels::tests(),
        given_up::tests(),
        alone::tests(),
    ];
    all.into_iter().flatten().collect()
}

fn small() -> Ring {
    safe_ring(Setup::new(8))
}

/// Waits for the output of `op`.
fn run<O: Op + 'static>(ring: &mut Ring, op: O) -> O::Output {
    let ticket = ring.submit(op).expect("room");
    ring.wait(ticket).expect("it completes")
}

/// Submits `op`, which is to go on.
fn begin<O: Op + 'static>(ring: &mut Ring, op: O) -> Ticket<O> {
    let ticket = ring.submit(op).expect("room");
    ring.submit_all().expect("submit");
    ticket
}

/// That `ticket` is not redeemed, when what was submitted after it has completed.
fn goes_on<O: Op>(ring: &mut Ring, ticket: Ticket<O>) -> Ticket<O> {
    run(ring, Nop).expect("a NOP succeeds");
    let Err(ticket) = ring.try_take(ticket) else { panic!("it ended") };
    ticket
}

fn errno<T: Debug>(result: std::io::Result<T>) -> Option<i32> {
    result.expect_err("an error").raw_os_error()
}

fn is_one(outcome: &CancelOutcome) -> bool {
    matches!(outcome, CancelOutcome::Cancelled(1))
}
