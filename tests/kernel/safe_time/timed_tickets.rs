//! The ticket of an operation with a time limit: what a plain ticket can do, it can do, too.

use std::io::{PipeWriter, pipe};
use std::time::Duration;

use annulus::op::{Nop, Read};
use annulus::raw::register::EndedNow;
use annulus::sys::flags::Features;
use annulus::sys::opcode::RegisterOp;
use annulus::{EnterCause, Ring, StepExt as _, TimedTicket, WaitOptions};
use libtest_mimic::{Failed, Trial};

use super::{HOUR, SOON, errno, run, small};
use crate::harness::{Need, test};

type Reading = TimedTicket<Read<std::io::PipeReader, [u8; 8]>>;

/// Waits with a limit.
const LIMITS: Need = Need::Feature(Features::EXT_ARG);
const AT_ONCE: Need = Need::Register(RegisterOp::SYNC_CANCEL);

pub fn tests() -> Vec<Trial> {
    vec![
        test("a_timed_ticket_cancels_its_operation", &[], cancels),
        test("a_timed_ticket_cancels_its_operation_at_once", &[AT_ONCE], cancels_at_once),
        test("a_timed_ticket_comes_back_from_waits_with_a_limit", &[LIMITS], comes_back),
        test("a_timed_ticket_is_waited_for_with_options", &[LIMITS], with_options),
    ]
}

/// A read of a silent pipe, which has `time`, and the pipe's other end.
fn reading(ring: &mut Ring, time: Duration) -> Result<(Reading, PipeWriter), Failed> {
    let (silent, writer) = pipe()?;
    let chain = ring.submit_chain([Read::new(silent, [0; 8]).within(time)])?;
    let [timed] = chain.into_tickets();
    ring.submit_all()?;
    run(ring, Nop)?;
    Ok((timed, writer))
}

fn cancels() -> Result<(), Failed> {
    let mut ring = small();
    let (timed, _writer) = reading(&mut ring, HOUR)?;
    ring.cancel(&timed)?;
    let timed = ring.wait(timed)?;
    assert_eq!((errno(timed.output.result), timed.expired), (Some(libc::ECANCELED), false));
    assert_eq!(ring.in_flight(), 0);
    Ok(())
}

fn cancels_at_once() -> Result<(), Failed> {
    let mut ring = small();
    let (timed, _writer) = reading(&mut ring, HOUR)?;
    assert_eq!(ring.cancel_now(&timed, HOUR)?, EndedNow::Ended(1));
    assert!(!ring.wait(timed)?.expired);
    Ok(())
}

fn comes_back() -> Result<(), Failed> {
    let mut ring = small();
    let (timed, writer) = reading(&mut ring, HOUR)?;
    let Err(timed) = ring.try_take(timed) else { panic!("nothing was written") };
    let unfinished = ring.wait_timeout(timed, SOON).expect_err("nothing was written");
    assert_eq!(unfinished.why.cause, EnterCause::TimedOut);
    let options = WaitOptions::at_most(SOON);
    let unfinished = ring.wait_with(unfinished.ticket, &options).expect_err("still nothing");
    assert_eq!(unfinished.why.cause, EnterCause::TimedOut);
    drop(writer);
    let timed = ring.wait(unfinished.ticket)?;
    assert_eq!((timed.output.result?, timed.expired), (0, false));
    Ok(())
}

fn with_options() -> Result<(), Failed> {
    let mut ring = small();
    let (timed, _writer) = reading(&mut ring, SOON)?;
    let timed = ring.wait_with(timed, &WaitOptions::at_most(HOUR))?;
    assert_eq!((errno(timed.output.result), timed.expired), (Some(libc::ECANCELED), true));
    Ok(())
}
