//! Drained operations on a ring with a sender: its poll for messages is always in flight.

use std::io::pipe;
use std::thread;

use annulus::op::{Nop, Op as _, Read};
use annulus::sys::opcode::RegisterOp;
use annulus::{Rejection, Ring};
use libtest_mimic::Failed;

use super::{await_messages, here};

/// Whether the ring polls an eventfd of its own for messages.
fn polls(ring: &Ring) -> bool {
    ring.raw().fd().is_none() || !here().has_register(RegisterOp::SEND_MSG_RING)
}

pub fn begins_or_is_refused(mut ring: Ring) -> Result<(), Failed> {
    let sender = ring.sender()?;
    ring.submit_all()?;
    if polls(&ring) {
        let rejected = ring.submit(Nop.drained()).expect_err("it would not begin");
        assert!(matches!(rejected.why, Rejection::Invalid { .. }));
        let rejected = ring.submit_chain((Nop.drained(), Nop)).expect_err("it would not begin");
        assert!(matches!(rejected.why, Rejection::Invalid { .. }));
    } else {
        let ticket = ring.submit(Nop.drained())?;
        ring.wait(ticket)??;
        let chain = ring.submit_chain((Nop.drained(), Nop))?;
        let _ = ring.wait_chain(chain)?;
    }
    ring.scope(|s| {
        let ticket = s.submit(Nop).expect("nothing is in flight");
        s.wait(ticket).expect("it ends").expect("a NOP succeeds");
    });
    sender.send(7)?;
    assert_eq!(await_messages(&mut ring, 1), [7]);
    Ok(())
}

pub fn wakes_or_is_refused(mut ring: Ring) -> Result<(), Failed> {
    let (reader, writer) = pipe()?;
    let read = ring.submit(Read::new(reader, [0; 4]))?;
    let drained = ring.submit(Nop.drained())?;
    ring.submit_all()?;
    let early = ring.sender();
    if polls(&ring) {
        let error = early.expect_err("its poll would wait behind what is drained");
        assert_eq!(error.kind(), std::io::ErrorKind::ResourceBusy);
        assert!(error.to_string().contains("until nothing is in flight"), "{error}");
    } else {
        early?.send(1)?;
        assert_eq!(await_messages(&mut ring, 1), [1]);
    }
    drop(writer);
    assert_eq!(ring.wait(read)?.result?, 0);
    ring.wait(drained)??;
    ring.reap(|_| ())?;
    let sender = ring.sender()?;
    for message in 2..5 {
        let sender = sender.clone();
        let thread = thread::spawn(move || sender.send(message));
        assert_eq!(await_messages(&mut ring, 1), [message]);
        thread.join().expect("no panic")?;
    }
    ring.scope(|s| s.submit(Nop).map(drop).map_err(|rejected| rejected.why))?;
    Ok(())
}
