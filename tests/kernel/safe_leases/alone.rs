//! Operations that must have their buffer ring to themselves, and when a buffer is bound.
//!
//! ```text
//!   in flight on a buffer ring         may be submitted meanwhile
//!   one buffer each, used whole        one buffer each, used whole
//!   parts, again and again             parts, again and again
//!   a part, once; or a bundle          nothing, until its last completion was taken
//! ```

use std::io::Write as _;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::time::Duration;

use annulus::lease::{BufLease, BufRing};
use annulus::op::{Nop, Op, Read, ReadMulti, RecvBundle, RecvBundleMulti, RecvMsgMulti, RecvMulti};
use annulus::op::{RecvProvided, SendBundle};
use annulus::{Event, Rejection, Ring, StepExt as _, Ticket};
use libtest_mimic::{Failed, Trial};

use super::buf_ring::{PARTS, PROVIDED, SOME, all_are_back, buffers, receive, record, sockets};
use super::{patient, pipe, ring};
use crate::harness::test;
use annulus::raw::register::RingMemory;

pub fn tests() -> Vec<Trial> {
    vec![
        test("br1_parts_are_bound_in_the_order_of_completions", &PARTS, bound_in_order),
        test("br1_no_byte_of_a_part_is_lost_by_redeeming_late", &PARTS, redeemed_late),
        test("op3_the_resource_of_a_completion_waits_in_its_slot", &PROVIDED, waits_in_its_slot),
        test("br1_parts_are_of_one_operation_at_a_time", &PARTS, one_at_a_time),
        test("br1_parts_of_many_multishots_follow_each_other", &PARTS, multishots),
        test("br1_nothing_else_selects_while_a_bundle_does", &PROVIDED, nothing_besides_a_bundle),
        test("br1_what_must_be_in_turn_is_not_for_workers", &PARTS, not_for_workers),
        test("br1_what_must_be_in_turn_is_not_submitted_behind_a_drain", &PARTS, not_drained),
        test("br1_the_steps_of_a_chain_do_not_select_against_each_other", &PROVIDED, chains),
        test("messages_need_buffers_that_are_used_whole", &PARTS, messages),
        test("br1_parts_that_a_cancel_leaves_come_back", &PARTS, parts_back_from_cancelled),
        test("a_rejected_operation_leaves_no_claim", &PROVIDED, no_claim_is_left),
    ]
}

fn parts(ring: &mut Ring, count: u32, size: u32) -> BufRing {
    patient(|| ring.buf_ring_with(count, size, RingMemory::User, SOME))
}

/// Submits a receive, and takes its completion, but does not redeem it.
fn received(
    ring: &mut Ring,
    from: &UnixStream,
    buffers: &BufRing,
) -> Ticket<RecvProvided<UnixStream>> {
    let from = from.try_clone().expect("a descriptor");
    let ticket = ring.submit(RecvProvided::new(from, buffers)).expect("submit");
    let mut ended = false;
    while !ended {
        ring.submit_and_wait(1).expect("it completes");
        ring.reap(|event| ended = matches!(event, Event::Ended { .. })).expect("reap");
    }
    ticket
}

fn lease(ring: &mut Ring, ticket: Ticket<RecvProvided<UnixStream>>) -> BufLease {
    ring.try_take(ticket).expect("it has ended").result.expect("a receive").expect("data")
}

fn bound_in_order() -> Result<(), Failed> {
    let mut ring = ring();
    let buffers = parts(&mut ring, 1, 64);
    let (from, mut to) = sockets();
    to.write_all(&[b'1'; 10])?;
    let one = received(&mut ring, &from, &buffers);
    to.write_all(&[b'2'; 20])?;
    let two = received(&mut ring, &from, &buffers);
    // The later one first.
    let second = lease(&mut ring, two);
    assert_eq!(*second, [b'2'; 20]);
    let first = lease(&mut ring, one);
    assert_eq!(*first, [b'1'; 10]);
    let view: &[u8] = &first;
    to.write_all(&[b'3'; 20])?;
    let third = receive(&mut ring, &from, &buffers).ok_or("data")?;
    assert_eq!(*third, [b'3'; 20]);
    assert_eq!(view, [b'1'; 10], "BR1: nothing writes to a held buffer");
    assert_eq!(*second, [b'2'; 20], "BR1: nothing writes to a held buffer");
    Ok(())
}

fn redeemed_late() -> Result<(), Failed> {
    let mut ring = ring();
    let buffers = parts(&mut ring, 4, 64);
    let (from, mut to) = sockets();
    to.write_all(&[b'1'; 10])?;
    let one = received(&mut ring, &from, &buffers);
    to.write_all(&[b'2'; 54])?;
    let two = received(&mut ring, &from, &buffers);
    drop(lease(&mut ring, two));
    assert_eq!(*lease(&mut ring, one), [b'1'; 10]);
    assert_eq!(buffers.leased(), 0);
    Ok(())
}

/// Whole buffers, too, are leased from the moment that their completion was taken.
fn waits_in_its_slot() -> Result<(), Failed> {
    let mut ring = ring();
    let buffers = buffers(&mut ring, 2, 16);
    let (from, mut to) = sockets();
    to.write_all(b"kept")?;
    let kept = received(&mut ring, &from, &buffers);
    assert_eq!(buffers.leased(), 1, "bound when the completion was taken");
    to.write_all(b"given up")?;
    let given_up = received(&mut ring, &from, &buffers);
    assert_eq!(buffers.leased(), 2);
    ring.detach(given_up);
    assert_eq!(buffers.leased(), 1, "back with its operation");
    assert_eq!(*lease(&mut ring, kept), *b"kept");
    all_are_back(&mut ring, &buffers);
    // With its ring.
    to.write_all(b"never taken")?;
    let never = received(&mut ring, &from, &buffers);
    drop(ring);
    assert_eq!(buffers.leased(), 0);
    drop(never);
    Ok(())
}

/// The operation, which is rejected since another one selects buffers.
fn selecting<O: Op + 'static>(ring: &mut Ring, op: O) -> O {
    let Err(rejected) = ring.submit(op) else { panic!("it was submitted") };
    assert_eq!(rejected.why, Rejection::BufRingBusy);
    assert!(rejected.to_string().contains("wait until that has ended"), "{rejected}");
    rejected.op
}

/// The operation, which is rejected since it cannot work.
fn invalid<O: Op + 'static>(ring: &mut Ring, op: O) -> O {
    let Err(rejected) = ring.submit(op) else { panic!("it was submitted") };
    assert!(matches!(rejected.why, Rejection::Invalid { .. }), "{rejected}");
    rejected.op
}

fn one_at_a_time() -> Result<(), Failed> {
    let mut ring = ring();
    let buffers = parts(&mut ring, 2, 16);
    let (from, mut to) = sockets();
    let (reader, _writer) = pipe();
    let first = ring.submit(RecvProvided::new(from.try_clone()?, &buffers))?;
    let second = selecting(&mut ring, RecvProvided::new(from.try_clone()?, &buffers));
    drop(selecting(&mut ring, RecvMulti::new(from.try_clone()?, &buffers)));
    drop(selecting(&mut ring, RecvBundle::new(from.try_clone()?, &buffers)));
    let read = selecting(&mut ring, ReadMulti::new(reader, &buffers));
    to.write_all(b"first")?;
    let came = ring.wait(first)?.result?.ok_or("data")?;
    assert_eq!(&came[..], b"first");
    // It has ended, and only that counts: its lease may be held.
    let second = ring.submit(second)?;
    to.write_all(b"second")?;
    assert_eq!(ring.wait(second)?.result?.as_deref(), Some(&b"second"[..]));
    // A detached operation counts as long as it is in flight.
    let many = ring.submit(RecvMulti::new(from.try_clone()?, &buffers))?;
    let other = ring.submit(read)?; // These do not mind each other.
    for ticket in [ring.cancel(&many), ring.cancel(&other)] {
        ticket?;
    }
    ring.detach(many);
    ring.detach(other);
    let third = selecting(&mut ring, RecvProvided::new(from, &buffers));
    record(&mut ring);
    let third = ring.submit(third)?;
    to.write_all(b"third")?;
    assert_eq!(ring.wait(third)?.result?.as_deref(), Some(&b"third"[..]));
    Ok(())
}

/// Each stream's bytes count up from a number of its own.
fn multishots() -> Result<(), Failed> {
    let mut ring = ring();
    let buffers = parts(&mut ring, 8, 32);
    let streams = [(); 3].map(|()| sockets());
    let mut tickets = Vec::new();
    for (from, _) in &streams {
        tickets.push(ring.submit(RecvMulti::new(from.try_clone()?, &buffers))?);
    }
    let (mut sent, mut came) = ([0_u8, 80, 160], [0_u8, 80, 160]);
    for lap in 0..200_usize {
        for (at, (_, to)) in streams.iter().enumerate() {
            let bytes: Vec<u8> = (0..1 + (lap * 7 + at * 3) % 11)
                .map(|_| {
                    sent[at] = sent[at].wrapping_add(1);
                    sent[at].wrapping_sub(1)
                })
                .collect();
            (&mut &*to).write_all(&bytes)?;
        }
        for at in [0, 1, 2] {
            while came[at] != sent[at] {
                let Some(lease) = ring.next(&tickets[at])? else {
                    // No buffer was left, since the others' wait to be taken.
                    let again = RecvMulti::new(streams[at].0.try_clone()?, &buffers);
                    let ended = std::mem::replace(&mut tickets[at], ring.submit(again)?);
                    drop(ring.wait(ended)?);
                    continue;
                };
                for &byte in lease?.iter() {
                    assert_eq!(byte, came[at], "lap {lap}, stream {at}");
                    came[at] = came[at].wrapping_add(1);
                }
            }
        }
    }
    for ticket in tickets {
        ring.cancel(&ticket)?;
        ring.detach(ticket);
    }
    record(&mut ring);
    assert_eq!(buffers.leased(), 0);
    Ok(())
}

fn nothing_besides_a_bundle() -> Result<(), Failed> {
    let mut ring = ring();
    let buffers = buffers(&mut ring, 4, 16);
    let (from, mut to) = sockets();
    let bundle = ring.submit(RecvBundle::new(from.try_clone()?, &buffers))?;
    drop(selecting(&mut ring, RecvProvided::new(from.try_clone()?, &buffers)));
    drop(selecting(&mut ring, RecvMulti::new(from.try_clone()?, &buffers)));
    drop(selecting(&mut ring, RecvBundleMulti::new(from.try_clone()?, &buffers)));
    to.write_all(b"x")?;
    drop(ring.wait(bundle)?);
    let one = ring.submit(RecvProvided::new(from.try_clone()?, &buffers))?;
    let two = ring.submit(RecvProvided::new(from.try_clone()?, &buffers))?;
    let bundle = selecting(&mut ring, RecvBundle::new(from, &buffers));
    ring.cancel(&one)?;
    drop(ring.wait(one)?);
    let bundle = selecting(&mut ring, bundle);
    ring.cancel(&two)?;
    drop(ring.wait(two)?);
    let bundle = ring.submit(bundle)?;
    ring.cancel(&bundle)?;
    drop(ring.wait(bundle)?);
    all_are_back(&mut ring, &buffers);
    Ok(())
}

fn not_for_workers() -> Result<(), Failed> {
    let mut ring = ring();
    let (whole, parts) = (buffers(&mut ring, 4, 16), parts(&mut ring, 4, 16));
    let (from, mut to) = sockets();
    let of_parts = invalid(&mut ring, RecvProvided::new(from.try_clone()?, &parts).forced());
    drop(invalid(&mut ring, RecvMulti::new(from.try_clone()?, &parts).forced()));
    drop(invalid(&mut ring, RecvBundle::new(from.try_clone()?, &whole).forced()));
    drop(invalid(&mut ring, RecvBundleMulti::new(from.try_clone()?, &whole).forced().drained()));
    let rejected = ring.submit_chain((Nop, of_parts)).expect_err("behind another");
    assert!(matches!(rejected.why, Rejection::Invalid { .. }));
    let bundle = RecvBundle::new(from.try_clone()?, &whole);
    let rejected = ring.submit_chain((Nop, Nop, bundle)).expect_err("behind others");
    assert!(matches!(rejected.why, Rejection::Invalid { .. }));
    // In front of a chain it runs in its turn.
    let (_, _, bundle) = rejected.op;
    to.write_all(b"in front")?;
    let chain = ring.submit_chain((bundle.within(Duration::from_secs(10)), Nop))?;
    let (front, _) = ring.wait_chain(chain)?.outputs;
    match front.output.result {
        Ok(bundle) => assert_eq!(bundle.ok_or("data")?.bytes(), 8),
        Err(error) => println!("bundles need Linux 6.10: {error}"),
    }
    all_are_back(&mut ring, &whole);
    Ok(())
}

/// After a drained entry the kernel gives every entry to worker threads.
fn not_drained() -> Result<(), Failed> {
    let mut ring = ring();
    let (whole, parts) = (buffers(&mut ring, 4, 16), parts(&mut ring, 4, 16));
    let (from, mut to) = sockets();
    let (reader, mut writer) = pipe();
    drop(invalid(&mut ring, RecvMulti::new(from.try_clone()?, &parts).drained()));
    drop(invalid(&mut ring, RecvBundle::new(from.try_clone()?, &whole).drained()));
    let before = ring.submit(Read::new(reader, [0; 1]))?;
    let drain = ring.submit(Nop.drained())?;
    ring.submit_all()?;
    let refused =
        ring.submit(RecvMulti::new(from.try_clone()?, &parts)).expect_err("a drain holds");
    assert_eq!(refused.why, Rejection::Drained);
    let bundle = ring.submit(RecvBundle::new(from.try_clone()?, &whole)).expect_err("it holds");
    assert_eq!(bundle.why, Rejection::Drained);
    let chain = ring.submit_chain((bundle.op, Nop)).expect_err("it holds");
    assert_eq!(chain.why, Rejection::Drained);
    // Operations that name their buffer may run.
    let selected = ring.submit(RecvProvided::new(from.try_clone()?, &whole))?;
    to.write_all(b"picked")?;
    writer.write_all(b"x")?;
    drop((ring.wait(before)?, ring.wait(drain)?));
    assert_eq!(ring.wait(selected)?.result?.as_deref(), Some(&b"picked"[..]));
    let many = ring.submit(refused.op)?;
    to.write_all(b"in turn")?;
    assert_eq!(ring.next(&many)?.ok_or("data")??[..], *b"in turn");
    ring.detach(many);
    Ok(())
}

fn chains() -> Result<(), Failed> {
    let mut ring = ring();
    let buffers = buffers(&mut ring, 4, 16);
    let (from, mut to) = sockets();
    let vacant = ring.vacant();
    let bundle = RecvBundle::new(from.try_clone()?, &buffers);
    let selected = RecvProvided::new(from.try_clone()?, &buffers);
    let rejected = ring.submit_chain((bundle, selected)).expect_err("both select buffers");
    assert_eq!((rejected.why, ring.vacant()), (Rejection::BufRingBusy, vacant));
    drop(rejected);
    to.write_all(b"0123456789abcdefrest")?;
    let picks = [(); 2].map(|()| RecvProvided::new(from.try_clone().expect("a number"), &buffers));
    let chain = ring.submit_chain(picks)?;
    for (output, bytes) in ring.wait_chain(chain)?.outputs.into_iter().zip([16, 4]) {
        assert_eq!(output.result?.ok_or("data")?.len(), bytes);
    }
    all_are_back(&mut ring, &buffers);
    Ok(())
}

fn messages() -> Result<(), Failed> {
    let mut ring = ring();
    let (whole, parts) = (buffers(&mut ring, 2, 64), parts(&mut ring, 2, 64));
    let (from, to) = UnixDatagram::pair()?;
    drop(invalid(&mut ring, RecvMsgMulti::new(from.try_clone()?, &parts).with_control(64)));
    to.send(b"whole")?;
    let many = ring.submit(RecvMsgMulti::new(from, &whole))?;
    match ring.next(&many)? {
        Some(message) => assert_eq!(message?.payload(), b"whole"),
        None => println!("multishot messages need Linux 6.0"),
    }
    ring.detach(many);
    Ok(())
}

fn parts_back_from_cancelled() -> Result<(), Failed> {
    let mut ring = ring();
    let buffers = parts(&mut ring, 4, 16);
    let (from, mut to) = sockets();
    for _ in 0..6 {
        let one = ring.submit(RecvProvided::new(from.try_clone()?, &buffers))?;
        ring.submit_all()?;
        ring.cancel(&one)?;
        drop(ring.wait(one)?);
        let many = ring.submit(RecvMulti::new(from.try_clone()?, &buffers))?;
        ring.submit_all()?;
        to.write_all(b"1234")?;
        assert_eq!(ring.next(&many)?.ok_or("data")??[..], *b"1234");
        ring.cancel(&many)?;
        drop(ring.wait(many)?);
    }
    assert_eq!(buffers.leased(), 0);
    // All of their bytes, whatever was cancelled.
    to.write_all(&[b'.'; 5 * 16])?;
    let mut held = Vec::new();
    while let Some(lease) = try_lease(&mut ring, &from, &buffers) {
        held.push(lease);
    }
    let bytes: usize = held.iter().map(|lease| lease.len()).sum();
    assert!(bytes > 3 * 16 && buffers.leased() == 4, "BR1: {bytes} bytes of 64");
    Ok(())
}

/// The output of a receive, unless every buffer is in a lease.
fn try_lease(ring: &mut Ring, from: &UnixStream, buffers: &BufRing) -> Option<BufLease> {
    match super::buf_ring::try_receive(ring, from, buffers) {
        Ok(lease) => lease,
        Err(error) => {
            assert_eq!(error.raw_os_error(), Some(libc::ENOBUFS));
            None
        }
    }
}

fn no_claim_is_left() -> Result<(), Failed> {
    let (mut ring, mut other) = (ring(), ring());
    let buffers = buffers(&mut ring, 2, 16);
    let (from, mut to) = sockets();
    for _ in 0..3 {
        let op = RecvBundle::new(from.try_clone()?, &buffers);
        assert_eq!(other.submit(op).expect_err("of another").why, Rejection::OtherRing);
        let long = [(); 100].map(|()| RecvProvided::new(from.try_clone().expect("one"), &buffers));
        let rejected = ring.submit_chain(long).expect_err("longer than the ring");
        assert!(matches!(rejected.why, Rejection::ChainTooLong { .. }));
    }
    let sends = patient(|| ring.send_ring(2, 16));
    let rejected = other.submit(SendBundle::new(from.try_clone()?, sends)).expect_err("of another");
    assert_eq!(rejected.why, Rejection::OtherRing);
    to.write_all(b"all the same")?;
    let bundle = ring.submit(RecvBundle::new(from, &buffers))?;
    drop(ring.wait(bundle)?);
    all_are_back(&mut ring, &buffers);
    Ok(())
}
