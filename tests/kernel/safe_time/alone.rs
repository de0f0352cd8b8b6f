//! Steps of a chain that was taken apart, with a link timeout and without, and detached chains.

use std::io::{PipeReader, PipeWriter, Write as _, pipe};
use std::time::Duration;

use annulus::op::{Nop, Read};
use annulus::sys::flags::Features;
use annulus::{EnterCause, Ring, StepExt as _, TimedTicket};
use libtest_mimic::{Failed, Trial};

use super::{HOUR, SOON, errno, run, small};
use crate::harness::{Need, test};
use crate::watched::quietly;

const BOUNDED: Need = Need::Feature(Features::EXT_ARG);

pub fn tests() -> Vec<Trial> {
    vec![
        test("a_step_with_a_clock_is_waited_for_alone", &[], waited_for),
        test("a_step_with_a_clock_comes_back_while_it_goes_on", &[BOUNDED], goes_on),
        test("a_step_with_a_clock_is_cancelled_alone", &[], cancelled),
        test("a_step_with_a_clock_is_given_up", &[], given_up),
        test("a_step_with_a_clock_that_is_dropped_keeps_its_slots", &[], dropped),
        test("a_chain_is_given_up", &[], chain),
        test("op2_a_step_with_a_clock_is_refused_on_another_ring", &[], foreign),
    ]
}

type Reading = TimedTicket<Read<PipeReader, [u8; 4]>>;

/// A read of data that never comes.
fn reading(ring: &mut Ring, time: Duration) -> Result<(Reading, PipeWriter), Failed> {
    let (silent, writer) = pipe()?;
    let chain = ring.submit_chain((Read::new(silent, [0; 4]).within(time),));
    let (read,) = chain.map_err(|rejected| rejected.why)?.into_tickets();
    Ok((read, writer))
}

/// Checks that all slots are free, and that the pipe has no reader any more.
fn is_over(ring: &mut Ring, mut writer: PipeWriter) -> Result<(), Failed> {
    while ring.in_flight() > 0 {
        ring.submit_and_wait(1)?;
        ring.reap(|_| ())?;
    }
    assert_eq!(ring.vacant(), small().vacant());
    assert_eq!(errno(writer.write(b"x")), Some(libc::EPIPE));
    Ok(())
}

fn waited_for() -> Result<(), Failed> {
    let mut ring = small();
    let (read, writer) = reading(&mut ring, SOON)?;
    let timed = ring.wait(read)?;
    assert!(timed.expired);
    assert_eq!(errno(timed.output.result), Some(libc::ECANCELED));
    drop(timed.output.fd);
    is_over(&mut ring, writer)
}

fn goes_on() -> Result<(), Failed> {
    let mut ring = small();
    let (read, mut writer) = reading(&mut ring, HOUR)?;
    let Err(read) = ring.try_take(read) else { panic!("nothing came") };
    let Err(unfinished) = ring.wait_timeout(read, SOON) else { panic!("nothing came") };
    assert_eq!(unfinished.why.cause, EnterCause::TimedOut);
    writer.write_all(b"data")?;
    let timed = ring.wait(unfinished.ticket)?;
    assert!(!timed.expired);
    assert_eq!(timed.output.ok()?.1, *b"data");
    assert_eq!(ring.reap(|event| panic!("{event:?}, of what was redeemed"))?, 0);
    Ok(())
}

fn cancelled() -> Result<(), Failed> {
    let mut ring = small();
    let (read, writer) = reading(&mut ring, HOUR)?;
    ring.submit_all()?;
    ring.cancel(read.operation())?;
    let timed = ring.wait(read)?;
    assert!(!timed.expired);
    assert_eq!(errno(timed.output.result), Some(libc::ECANCELED));
    drop(timed.output.fd);
    is_over(&mut ring, writer)
}

fn given_up() -> Result<(), Failed> {
    let mut ring = small();
    let (read, writer) = reading(&mut ring, SOON)?;
    ring.detach(read);
    is_over(&mut ring, writer)
}

fn dropped() -> Result<(), Failed> {
    let mut ring = small();
    let (vacant, (read, _writer)) = (ring.vacant(), reading(&mut ring, SOON)?);
    drop(read);
    while ring.in_flight() > 0 {
        ring.submit_and_wait(1)?;
        ring.reap(|_| ())?;
    }
    assert_eq!(ring.vacant(), vacant - 2);
    Ok(())
}

fn chain() -> Result<(), Failed> {
    let mut ring = small();
    let (silent, writer) = pipe()?;
    let read = Read::new(silent, [0; 4]).within(SOON);
    let chain = ring.submit_chain((Nop, read, Nop)).map_err(|rejected| rejected.why)?;
    ring.detach_chain(chain);
    is_over(&mut ring, writer)?;
    let nops = ring.submit_chain([Nop, Nop]).map_err(|rejected| rejected.why)?;
    ring.detach_chain(nops);
    run(&mut ring, Nop)?;
    assert_eq!(ring.vacant(), small().vacant());
    Ok(())
}

fn foreign() -> Result<(), Failed> {
    let (mut home, mut abroad) = (small(), small());
    for call in [
        |ring: &mut Ring, read| drop(ring.wait(read)),
        |ring: &mut Ring, read| drop(ring.try_take(read)),
        |ring: &mut Ring, read| ring.detach(read),
    ] {
        let (read, _writer) = reading(&mut home, HOUR)?;
        assert!(quietly(|| call(&mut abroad, read)).is_err());
    }
    let nops = home.submit_chain([Nop, Nop]).map_err(|rejected| rejected.why)?;
    assert!(quietly(|| abroad.detach_chain(nops)).is_err());
    assert_eq!((abroad.in_flight(), abroad.vacant()), (0, small().vacant()));
    Ok(())
}
