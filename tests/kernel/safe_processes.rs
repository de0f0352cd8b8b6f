//! Processes, futexes, epolls, and other operations, safe API.
//!
//! | module | operations |
//! |---|---|
//! | `epoll` | `EpollCtl`, `EpollWait` |
//! | `children` | `WaitId` |
//! | `futexes` | `FutexWait`, `FutexWake`, `FutexWaitV` |
//! | `nops` | `Nop` and its sisters; messages of every form, raw API |
//! | `passing` | `PassFile` |
//! | `priorities` | reads and writes with a priority |
//! | `raw` | what the safe API cannot express |
//!
//! A test that something does not happen waits for an operation that was submitted later.

use std::ffi::c_int;

use annulus::op::{Nop, Op, Outcome};
use annulus::{Ring, Setup, Ticket};
use libtest_mimic::Trial;

use crate::harness::{Part, safe_ring};

#[path = "safe_processes/children.rs"]
mod children;
#[path = "safe_processes/epoll.rs"]
mod epoll;
#[path = "safe_processes/futexes.rs"]
mod futexes;
#[path = "safe_processes/nops.rs"]
mod nops;
#[path = "safe_processes/passing.rs"]
mod passing;
#[path = "safe_processes/priorities.rs"]
mod priorities;
#[path = "safe_processes/raw.rs"]
mod raw;

/// The parts that play in a child process.
pub const PARTS: &[Part] = children::PARTS;
pub const FUTEXES: &[Part] = futexes::PARTS;

/// The tests.
pub fn tests() -> Vec<Trial> {
    let all = [
        children::tests(),
        epoll::tests(),
        futexes::tests(),
        nops::tests(),
        passing::tests(),
        priorities::tests(),
        raw::tests(),
    ];
    all.into_iter().flatten().collect()
}

fn small() -> Ring {
    safe_ring(Setup::new(8))
}

/// Waits for the output of `op`.
fn run<O: Op + 'static>(ring: &mut Ring, op: O) -> O::Output {
    let ticket = begin(ring, op);
    ring.wait(ticket).expect("it completes")
}

/// Submits `op`, which may go on.
fn begin<O: Op + 'static>(ring: &mut Ring, op: O) -> Ticket<O> {
    let ticket = ring.submit(op).map_err(|rejected| rejected.why).expect("room");
    ring.submit_all().expect("submit");
    ticket
}

/// Checks that `ticket` has not completed when a later operation has.
fn goes_on<O: Op>(ring: &mut Ring, ticket: Ticket<O>) -> Ticket<O> {
    run(ring, Nop).expect("a NOP succeeds");
    let Err(ticket) = ring.try_take(ticket) else { panic!("it ended") };
    ticket
}

/// Cancels the operation, and returns its error.
fn cancelled<O: Op>(ring: &mut Ring, ticket: Ticket<O>) -> O::Output {
    let ticket = goes_on(ring, ticket);
    ring.cancel(&ticket).expect("room for a cancel");
    ring.wait(ticket).expect("it completes")
}

/// The error of an operation.
fn errno<T, F, B>(outcome: &Outcome<T, F, B>) -> Option<c_int> {
    outcome.result.as_ref().err()?.raw_os_error()
}
