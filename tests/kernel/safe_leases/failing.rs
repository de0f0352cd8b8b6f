//! Failed operations that name a buffer, which they have selected or not (Linux 6.16 and 6.17).
//!
//! ```text
//!   EAGAIN, buffer 3 ─┬─► the kernel has selected it: it is offered again
//!                     └─► the kernel will select it: it is on offer already
//! ```

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use annulus::lease::{BufLease, BufRing};
use annulus::op::{Forced, Op as _, ProvidedFlags, RecvBundle, RecvMulti, RecvProvided};
use annulus::sys::flags::Features;
use annulus::{Ring, Ticket};
use libtest_mimic::{Failed, Trial};

use super::buf_ring::{PROVIDED, all_are_back, buffers, receive, record, sockets};
use super::ring;
use crate::harness::{Need, test};

const BUNDLES: [Need; 2] = [PROVIDED[0], Need::Feature(Features::RECVSEND_BUNDLE)];

pub fn tests() -> Vec<Trial> {
    vec![
        test("br1_a_receive_that_does_not_wait_offers_nothing_twice", &PROVIDED, does_not_wait),
        test("br1_a_bundle_that_does_not_wait_offers_nothing_twice", &BUNDLES, bundles),
        test("br1_what_fails_among_others_takes_nothing_from_them", &PROVIDED, fails_among_others),
        test("br1_what_was_forced_and_cancelled_comes_back", &PROVIDED, forced),
    ]
}

/// Fails for want of data.
fn fails(ring: &mut Ring, from: &Rc<UnixStream>, buffers: &BufRing) {
    let receive = RecvProvided::new(Rc::clone(from), buffers).flags(ProvidedFlags::DONT_WAIT);
    let receive = ring.submit(receive).expect("submit");
    let error = ring.wait(receive).expect("wait").result.expect_err("there is nothing");
    assert_eq!(error.raw_os_error(), Some(libc::EAGAIN));
}

fn does_not_wait() -> Result<(), Failed> {
    let mut ring = ring();
    let buffers = buffers(&mut ring, 4, 8);
    let (from, _to) = sockets();
    let from = Rc::new(from);
    for round in 0..9 {
        for _ in 0..round {
            fails(&mut ring, &from, &buffers);
        }
        hold_all(&mut ring, &buffers)?;
        all_are_back(&mut ring, &buffers);
    }
    Ok(())
}

/// Holds every buffer at once, each with bytes of its own.
fn hold_all(ring: &mut Ring, buffers: &BufRing) -> Result<(), Failed> {
    let (from, mut to) = sockets();
    let mut held: Vec<BufLease> = Vec::new();
    for number in 0..buffers.count() {
        to.write_all(&[u8::try_from(number)?; 8])?;
        held.push(receive(ring, &from, buffers).ok_or("data")?);
    }
    for (number, lease) in held.iter().enumerate() {
        assert_eq!(lease[..], [u8::try_from(number)?; 8], "BR1: {number} changed");
    }
    Ok(())
}

fn bundles() -> Result<(), Failed> {
    let mut ring = ring();
    let buffers = buffers(&mut ring, 4, 8);
    let (from, _to) = sockets();
    for _ in 0..9 {
        let bundle = RecvBundle::new(from.try_clone()?, &buffers).flags(ProvidedFlags::DONT_WAIT);
        let bundle = ring.submit(bundle)?;
        let error = ring.wait(bundle)?.result.expect_err("there is nothing");
        assert_eq!(error.raw_os_error(), Some(libc::EAGAIN));
        hold_all(&mut ring, &buffers)?;
    }
    Ok(())
}

/// A multishot receive gets the buffer that another receive named when it failed.
fn fails_among_others() -> Result<(), Failed> {
    let mut ring = ring();
    // More than are held, since the failing one may have one for a while (6.1).
    let buffers = buffers(&mut ring, 8, 8);
    let (from, mut to) = sockets();
    let (empty, _writer) = sockets();
    let empty = Rc::new(empty);
    let many = ring.submit(RecvMulti::new(from, &buffers))?;
    let mut held = Vec::new();
    for number in 0..4_u8 {
        // Both complete before either is looked at.
        let receive =
            RecvProvided::new(Rc::clone(&empty), &buffers).flags(ProvidedFlags::DONT_WAIT);
        let receive = ring.submit(receive)?;
        ring.submit_and_wait(1)?;
        to.write_all(&[number; 8])?;
        ring.submit_and_wait(2)?;
        let error = ring.wait(receive)?.result.expect_err("there is nothing");
        assert_eq!(error.raw_os_error(), Some(libc::EAGAIN));
        match ring.next(&many)? {
            Some(completion) => held.push(completion?),
            None => return Err(format!("it ended: {:?}", ring.wait(many)?).into()),
        }
        for (number, lease) in held.iter().enumerate() {
            assert_eq!(lease[..], [u8::try_from(number)?; 8], "BR1: {number} changed");
        }
    }
    drop((held, to));
    let _ = ring.wait(many)?;
    all_are_back(&mut ring, &buffers);
    Ok(())
}

/// Cancels until it has ended: the kernel may miss a request that a worker thread is just
/// beginning.
fn cancelled(
    ring: &mut Ring,
    mut receive: Ticket<Forced<RecvProvided<Rc<UnixStream>>>>,
) -> std::io::Result<Option<BufLease>> {
    loop {
        ring.cancel(&receive).expect("room");
        match ring.wait_timeout(receive, Duration::from_millis(50)) {
            Ok(received) => return received.result,
            Err(unfinished) => receive = unfinished.ticket,
        }
    }
}

/// A buffer that a worker thread had selected, alone in flight and with other operations.
fn forced() -> Result<(), Failed> {
    let mut ring = ring();
    let buffers = buffers(&mut ring, 4, 8);
    let (from, mut to) = sockets();
    let from = Rc::new(from);
    for beside in [false, true, true] {
        let (other, _writer) = sockets();
        let many = beside.then(|| ring.submit(RecvMulti::new(other, &buffers))).transpose()?;
        for _ in 0..4 {
            let receive = ring.submit(RecvProvided::new(Rc::clone(&from), &buffers).forced())?;
            let error = cancelled(&mut ring, receive).expect_err("nobody has written");
            assert!(matches!(error.raw_os_error(), Some(libc::ECANCELED | libc::EINTR)));
        }
        if let Some(many) = many {
            ring.cancel(&many)?;
            let _ = ring.wait(many)?;
        }
        all_are_back(&mut ring, &buffers);
    }
    to.write_all(b"one more")?;
    assert_eq!(receive(&mut ring, &from, &buffers).as_deref(), Some(&b"one more"[..]));
    record(&mut ring);
    Ok(())
}
