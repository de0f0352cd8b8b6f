//! When a ring reports drained operations: only if there are some, and only while one is in flight.
//!
//! ```text
//!   drained, and rejected            was not drained
//!   a step of a chain that panicked  was not drained
//!   only an internal cancel          is submitted, and ends soon
//! ```

use std::cell::Cell;
use std::io::{PipeReader, PipeWriter, Write as _};
use std::rc::Rc;
use std::time::Duration;

use annulus::op::{Cancel, Nop, Op as _, Read};
use annulus::{Rejection, Ring, Setup, Ticket};
use libtest_mimic::{Failed, Trial};

use super::{silent, small};
use crate::harness::{safe_ring, test};
use crate::watched::{Panics, Watched, quietly};

pub fn tests() -> Vec<Trial> {
    vec![
        test("what_found_no_slot_was_not_drained", &[], without_slots),
        test("what_is_of_another_ring_was_not_drained", &[], of_another_ring),
        test("what_panicked_was_not_drained", &[], panicked),
        test("a_chain_that_panicked_was_not_drained", &[], chain_panicked),
        test("a_chain_that_was_drained_holds_up_a_scope", &[], chain_drained),
        test("a_cancel_of_the_rings_own_holds_up_no_scope", &[], own_cancel),
        test("a_cancel_of_a_polling_rings_own_holds_up_no_scope", &[], polled_cancel),
    ]
}

type Reading = Ticket<Read<PipeReader, [u8; 4]>>;

/// A read that goes on as long as the other end of its pipe is open.
fn reading(ring: &mut Ring) -> Result<(Reading, PipeWriter), Failed> {
    let (reader, writer) = silent();
    let read = ring.submit(Read::new(reader, [0; 4])).map_err(|r| r.why)?;
    Ok((read, writer))
}

/// The result of a NOP in a scope.
fn scoped(ring: &mut Ring) -> Result<u32, Rejection> {
    ring.scope(|s| {
        let nop = s.submit(Nop).map_err(|rejected| rejected.why)?;
        Ok(s.wait(nop).expect("it completes").expect("it does nothing"))
    })
}

fn without_slots() -> Result<(), Failed> {
    let mut ring = small();
    let (_read, _writer) = reading(&mut ring)?;
    let nops: Result<Vec<_>, _> =
        (0..ring.vacant()).map(|_| ring.submit(Nop).map_err(|r| r.why)).collect();
    let refused = ring.submit(Nop.drained()).map(drop).map_err(|rejected| rejected.why);
    assert_eq!(refused, Err(Rejection::NoSlot));
    let refused = ring.submit_chain((Nop.drained(), Nop)).map(drop).map_err(|r| r.why);
    assert_eq!(refused, Err(Rejection::NoSlot));
    for nop in nops? {
        ring.wait(nop)??;
    }
    assert_eq!(scoped(&mut ring), Ok(0));
    Ok(())
}

fn of_another_ring() -> Result<(), Failed> {
    let (mut home, mut ring) = (small(), small());
    let (read, _writer) = reading(&mut ring)?;
    let (abroad, _other) = reading(&mut home)?;
    let refused = ring.submit(Cancel::ticket(&abroad).drained()).map(drop).map_err(|r| r.why);
    assert_eq!(refused, Err(Rejection::OtherRing));
    assert_eq!(scoped(&mut ring), Ok(0));
    drop((read, abroad));
    Ok(())
}

fn panicking() -> Read<PipeReader, Watched> {
    Read::new(silent().0, Watched::new(&Rc::new(Cell::new(0)), Panics::InRegion))
}

fn panicked() -> Result<(), Failed> {
    let mut ring = small();
    let (_read, _writer) = reading(&mut ring)?;
    assert!(quietly(|| ring.submit(panicking().drained()).is_ok()).is_err());
    assert_eq!(scoped(&mut ring), Ok(0));
    Ok(())
}

fn chain_panicked() -> Result<(), Failed> {
    let mut ring = small();
    let (_read, _writer) = reading(&mut ring)?;
    assert!(quietly(|| ring.submit_chain((Nop.drained(), panicking())).is_ok()).is_err());
    assert_eq!(scoped(&mut ring), Ok(0));
    Ok(())
}

fn chain_drained() -> Result<(), Failed> {
    let mut ring = small();
    let (read, _writer) = reading(&mut ring)?;
    let chain = ring.submit_chain((Nop.drained(), Nop)).map_err(|rejected| rejected.why)?;
    assert_eq!(scoped(&mut ring), Err(Rejection::Drained));
    ring.cancel(&read)?;
    drop(chain);
    Ok(())
}

/// Its cancel is queued, and nothing else is in flight: only the ring can submit it.
fn cancels(ring: &mut Ring) -> Result<(), Failed> {
    let drained = ring.submit(Nop.drained()).map_err(|r| r.why)?;
    ring.wait(drained)??;
    let (reader, mut writer) = silent();
    let mut read = ring.submit(Read::new(reader, [0; 1])).map_err(|r| r.why)?;
    ring.submit_all()?;
    ring.cancel(&read)?;
    writer.write_all(b"x")?;
    let read = loop {
        ring.reap(|_| ())?;
        match ring.try_take(read) {
            Ok(output) => break output,
            Err(ticket) => read = ticket,
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    assert!(matches!(read.result.map_err(|error| error.raw_os_error()), Ok(1) | Err(Some(_))));
    assert_eq!((ring.in_flight(), scoped(ring)), (0, Ok(0)));
    Ok(())
}

fn own_cancel() -> Result<(), Failed> {
    cancels(&mut small())
}

fn polled_cancel() -> Result<(), Failed> {
    cancels(&mut safe_ring(Setup::new(4).sqpoll(Duration::from_millis(1))))
}
