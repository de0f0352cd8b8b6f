//! Detached multishot operations: no wait for events ends because of one before its last
//! completion.
//!
//! ```text
//!   detached     completion   completion   …   end
//!   an event?     no           no              counts, and shows none
//! ```

use std::io::pipe;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use annulus::op::{Nop, Read, SendZc, Timeout, TimeoutMulti};
use annulus::sys::opcode::Opcode;
use annulus::{EnterCause, Event, Ring, WaitOptions, Woken};
use libtest_mimic::{Failed, Trial};

use super::timeouts::REPEATED;
use super::{HOUR, SOON, begin, small};
use crate::harness::{Need, test};

/// So long that a completion comes in it.
const WHILE: Duration = Duration::from_millis(50);
const SENDS: Need = Need::Op(Opcode::SEND_ZC);

pub fn tests() -> Vec<Trial> {
    vec![
        test("completions_of_a_detached_multishot_end_no_wait", &[REPEATED], completions),
        test("the_end_of_what_was_given_up_counts_once", &[SENDS], counts_once),
        test("completions_of_a_detached_multishot_are_not_waited_for", &[REPEATED], not_waited_for),
        test("what_was_given_up_in_a_scope_leaves_waits_as_they_were", &[REPEATED], after_a_scope),
        test("a_reaping_counts_what_it_shows", &[REPEATED], counted),
    ]
}

/// Reaps, and returns how many events there were, which must be what `reap` returns.
fn reaped(ring: &mut Ring) -> u32 {
    let mut shown = 0;
    let counted = ring.reap(|_| shown += 1).expect("reap");
    assert_eq!(counted, shown);
    counted
}

fn completions() -> Result<(), Failed> {
    let mut ring = small();
    let (silent, _writer) = pipe()?;
    let timer = begin(&mut ring, TimeoutMulti::new(SOON));
    ring.detach(timer);
    let read = begin(&mut ring, Read::new(silent, [0; 4]));
    assert_eq!(ring.submit_and_wait_timeout(1, WHILE)?.1, Woken::TimedOut);
    assert_eq!(reaped(&mut ring), 0);
    let options = WaitOptions::at_most(WHILE);
    assert_eq!(ring.submit_and_wait_with(1, &options)?.1, Woken::TimedOut);
    assert_eq!(reaped(&mut ring), 0);
    let ends = begin(&mut ring, Timeout::new(WHILE));
    ring.submit_and_wait(1)?;
    assert_eq!(reaped(&mut ring), 1);
    assert!(ring.try_take(ends).is_ok());
    drop(read);
    Ok(())
}

/// A zero-copy send completes twice: with its result, and when its bytes are free.
fn counts_once() -> Result<(), Failed> {
    let mut ring = small();
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let one = TcpStream::connect(listener.local_addr()?)?;
    let (silent, _writer) = pipe()?;
    let read = begin(&mut ring, Read::new(silent, [0; 4]));
    let send = begin(&mut ring, SendZc::new(one, [1; 8]));
    ring.detach(send);
    drop(listener.accept()?); // It has the bytes, or lets them go.
    assert_eq!(ring.submit_and_wait_timeout(2, WHILE)?.1, Woken::TimedOut);
    assert_eq!(reaped(&mut ring), 0);
    drop(read);
    Ok(())
}

fn not_waited_for() -> Result<(), Failed> {
    let mut ring = small();
    let timer = begin(&mut ring, TimeoutMulti::new(HOUR));
    ring.detach(timer);
    let why = ring.submit_and_wait(2).map_err(|error| error.cause);
    assert_eq!(why, Err(EnterCause::NothingComing { want: 2, coming: 1 }));
    let nop = begin(&mut ring, Nop);
    ring.submit_and_wait(1)?;
    assert_eq!(reaped(&mut ring), 1);
    assert!(ring.try_take(nop).is_ok());
    Ok(())
}

/// When all of them have ended, they leave no trace in the ring's counts.
fn after_a_scope() -> Result<(), Failed> {
    let mut ring = small();
    let given_up = ring.submit(TimeoutMulti::new(SOON).times(2)).map_err(|r| r.why)?;
    ring.detach(given_up);
    ring.scope(|s| {
        for _ in 0..2 {
            drop(s.submit(TimeoutMulti::new(SOON)).map_err(|r| r.why)?);
        }
        s.submit_all()?;
        Ok::<_, Failed>(())
    })?;
    while ring.in_flight() > 0 {
        ring.submit_and_wait(1)?;
        assert_eq!(reaped(&mut ring), 0);
    }
    let why = ring.submit_and_wait(1).map_err(|error| error.cause);
    assert_eq!(why, Err(EnterCause::NothingComing { want: 1, coming: 0 }));
    let wanted = begin(&mut ring, TimeoutMulti::new(SOON));
    // As many as it likes. Each may look like a signal, where several completions are awaited.
    let waited = ring.submit_and_wait(3).map_err(|error| error.cause);
    assert!(matches!(waited, Ok(_) | Err(EnterCause::Interrupted)), "{waited:?}");
    drop(wanted);
    Ok(())
}

/// An end that comes with the last completion is an event of its own; that of an internal cancel is
/// none, nor is that of a detached operation.
fn counted() -> Result<(), Failed> {
    let mut ring = small();
    let (silent, _writer) = pipe()?;
    let read = begin(&mut ring, Read::new(silent, [0; 4]));
    let nop = begin(&mut ring, Nop);
    ring.detach(nop);
    ring.cancel(&read)?;
    let last = begin(&mut ring, TimeoutMulti::new(SOON).times(1));
    let (mut ends, mut completions, mut counts) = (0, 0, 0);
    while ends < 2 {
        ring.submit_and_wait(1)?;
        counts += ring.reap(|event| match event {
            Event::Ended { .. } => ends += 1,
            Event::Multishot { .. } => completions += 1,
            other => panic!("{other:?}"),
        })?;
    }
    assert_eq!((ends, completions, counts), (2, 1, 3));
    assert_eq!(reaped(&mut ring), 0);
    drop((read, last));
    Ok(())
}
