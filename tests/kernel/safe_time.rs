//! Timeouts, polls and cancels, safe API.
//!
//! ```text
//!   begin(op) ──► its ticket ──► goes_on ──► something ends it ──► its output
//! ```
//!
//! A time that is to come is a millisecond away, one that is not to come is an hour away: no test
//! measures time. A test that something does not happen waits for an operation that was submitted
//! later.

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
#[path = "safe_time/timed_tickets.rs"]
mod timed_tickets;
#[path = "safe_time/timeouts.rs"]
pub mod timeouts;

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
        timed_tickets::tests(),
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

/// Checks that `ticket` has not completed when a later operation has.
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
