//! Bundles: many buffers in one completion, every one of them accounted for (BR1).

use std::collections::BTreeSet;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use annulus::lease::{BufLease, BufRing, Bundle};
use annulus::op::{Ending, Nop, RecvBundle, RecvBundleMulti, RecvProvided};
use annulus::sys::flags::Features;
use annulus::sys::opcode::RegisterOp;
use annulus::{Event, Rejection, Ring};
use libtest_mimic::{Failed, Trial};

use crate::harness::{Need, here, test};
use crate::safe_leases::buf_ring::{all_are_back, buffers};
use crate::safe_sockets::{begin, code, pattern, record, run, small, tcp};

const BUNDLE: [Need; 1] = [Need::Feature(Features::RECVSEND_BUNDLE)];
/// Linux 6.12 fills only one buffer unless it knows that more data waits.
const MANY: [Need; 2] = [BUNDLE[0], Need::Other(one_at_a_time)];
const NO_BUNDLE: [Need; 2] = [Need::Register(RegisterOp::PBUF_RING), Need::Other(bundles)];

/// The tests.
pub fn tests() -> Vec<Trial> {
    vec![
        test("br1_one_completion_carries_many_buffers_in_order", &MANY, many),
        test("br1_bundles_follow_the_ring_and_not_the_numbers", &MANY, shuffled),
        test("br1_bundles_of_two_sockets_share_one_ring_of_buffers", &BUNDLE, shared),
        test("br1_a_bundle_that_is_left_in_part_goes_back_in_part", &MANY, in_part),
        test("br1_bundles_that_are_not_taken_are_offered_again", &BUNDLE, not_taken),
        test("br1_a_forgotten_bundle_is_leased_for_ever", &MANY, forgotten),
        test("br1_receives_of_bundles_that_fail_keep_no_buffer", &BUNDLE, failing),
        test("a_receive_of_a_bundle_is_cancelled_and_loses_nothing", &BUNDLE, cancelled),
        test("a_receive_of_a_bundle_ends_with_the_stream", &BUNDLE, ends),
        test("bundles_come_until_the_buffers_are_used_up", &BUNDLE, until_used_up),
        test("bundles_of_a_connection_arrive_in_order", &BUNDLE, connection),
        test("a_bundle_outlives_its_ring", &MANY, outlives),
        test("bundles_of_buffers_of_another_ring_are_refused", &BUNDLE, other_ring),
        test("before_a_kernel_knows_bundles_it_refuses_them", &NO_BUNDLE, no_bundles),
    ]
}

fn bundles() -> Option<String> {
    let has = here().features().contains(Features::RECVSEND_BUNDLE);
    has.then(|| "needs a kernel without RECVSEND_BUNDLE".to_owned())
}

/// Finds it out, where there are bundles at all.
fn one_at_a_time() -> Option<String> {
    let mut ring = small();
    let buffers = buffers(&mut ring, 4, 16);
    let (mut ours, theirs) = UnixStream::pair().expect("a pair");
    ours.write_all(&pattern(64)).expect("there is room");
    let received = run(&mut ring, RecvBundle::new(theirs, &buffers)).result;
    let count = received.expect("data").expect("data").count();
    (count < 4).then(|| "needs a kernel that fills all buffers at once".to_owned())
}

/// The remaining bytes of a bundle.
fn bytes(bundle: Bundle) -> Vec<u8> {
    bundle.flat_map(|lease| lease.to_vec()).collect()
}

fn joined(leases: &[BufLease]) -> Vec<u8> {
    leases.iter().flat_map(|lease| lease.to_vec()).collect()
}

/// The output of one receive.
fn receive(ring: &mut Ring, from: &UnixStream, buffers: &BufRing) -> Result<Bundle, Failed> {
    let receive = RecvBundle::new(from.try_clone()?, buffers);
    let bundle = run(ring, receive).result?.ok_or("data")?;
    let each = usize::try_from(buffers.buffer_size())?;
    assert_eq!(bundle.buffers(), bundle.bytes().div_ceil(each), "full but for the last");
    Ok(bundle)
}

/// The output of as many receives as it takes: the kernel fills whole buffers where it can, and may
/// leave the remainder for the next receive.
fn receive_all(
    ring: &mut Ring,
    from: &UnixStream,
    buffers: &BufRing,
    count: usize,
) -> Result<Vec<u8>, Failed> {
    let mut received = Vec::new();
    while received.len() < count {
        received.extend(bytes(receive(ring, from, buffers)?));
    }
    Ok(received)
}

fn many() -> Result<(), Failed> {
    let mut ring = small();
    let buffers = buffers(&mut ring, 8, 16);
    let (mut ours, theirs) = UnixStream::pair()?;
    for count in [1, 16, 17, 40, 127, 128] {
        ours.write_all(&pattern(count))?;
        let bundle = receive(&mut ring, &theirs, &buffers)?;
        let first = bundle.bytes();
        assert!(bundle.buffers() > 1 || count < 40, "{count} bytes, and one buffer");
        assert_eq!(buffers.leased(), bundle.buffers(), "leased as soon as it is consumed");
        let leases: Vec<BufLease> = bundle.collect();
        let places: BTreeSet<usize> = leases.iter().map(|lease| lease.as_ptr().addr()).collect();
        assert_eq!(places.len(), leases.len());
        let begin = joined(&leases);
        drop(leases);
        let rest = receive_all(&mut ring, &theirs, &buffers, count - first)?;
        assert!([begin, rest].concat() == pattern(count));
    }
    // No more than there is room for; the rest stays.
    ours.write_all(&pattern(200))?;
    let first = receive(&mut ring, &theirs, &buffers)?;
    assert_eq!((first.bytes(), first.buffers()), (128, 8));
    let receive_more = RecvBundle::new(theirs.try_clone()?, &buffers);
    assert_eq!(code(run(&mut ring, receive_more).result), Some(libc::ENOBUFS));
    let first = bytes(first);
    let rest = receive_all(&mut ring, &theirs, &buffers, 72)?;
    assert!([first, rest].concat() == pattern(200));
    all_are_back(&mut ring, &buffers);
    Ok(())
}

/// Leases are dropped in another order each time, so the ring of buffers is soon in none.
fn shuffled() -> Result<(), Failed> {
    let mut ring = small();
    let buffers = buffers(&mut ring, 8, 4);
    let (mut ours, theirs) = UnixStream::pair()?;
    let mut seed = 7_usize;
    let mut next = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let (mut held, mut sent, mut received) = (Vec::<BufLease>::new(), 0, Vec::new());
    let (all, mut longest) = (pattern(20_000), 0);
    while sent < 10_000 {
        while held.len() > next(8) {
            held.swap_remove(next(held.len()));
        }
        let count = 1 + next(32);
        ours.write_all(&all[sent..sent + count])?;
        sent += count;
        while received.len() < sent {
            if held.len() == 8 {
                held.swap_remove(next(8));
            }
            let bundle = receive(&mut ring, &theirs, &buffers)?;
            longest = longest.max(bundle.buffers());
            for lease in bundle {
                received.extend_from_slice(&lease);
                held.push(lease);
            }
            assert_eq!(buffers.leased(), held.len());
        }
    }
    assert!(received == all[..sent] && longest > 2, "{longest}");
    drop(held);
    all_are_back(&mut ring, &buffers);
    Ok(())
}

fn shared() -> Result<(), Failed> {
    let mut ring = small();
    let buffers = buffers(&mut ring, 16, 16);
    let pairs = [UnixStream::pair()?, UnixStream::pair()?];
    let mut received = [Vec::new(), Vec::new()];
    for lap in 0..100 {
        for (at, (ours, _)) in pairs.iter().enumerate() {
            (&mut &*ours).write_all(&[u8::try_from(lap)?; 50][..20 + at * 30])?;
        }
        // One after the other in flight.
        let tickets = pairs.each_ref().map(|(_, theirs)| {
            let theirs = theirs.try_clone().expect("a descriptor");
            let ticket = ring.submit(RecvBundle::new(theirs, &buffers)).expect("room");
            while ring.in_flight() > 0 {
                ring.submit_and_wait(1).expect("it completes");
                ring.reap(|_| ()).expect("reap");
            }
            ticket
        });
        assert!(buffers.leased() >= 2, "each is bound when its completion was taken");
        // The later one is redeemed first.
        for (at, ticket) in tickets.into_iter().enumerate().rev() {
            let bundle = ring.wait(ticket)?.result?.ok_or("data")?;
            let rest = 20 + at * 30 - bundle.bytes();
            received[at].extend(bytes(bundle));
            received[at].extend(receive_all(&mut ring, &pairs[at].1, &buffers, rest)?);
        }
        assert_eq!(buffers.leased(), 0);
    }
    for (at, received) in received.iter().enumerate() {
        let expected = (0..100).flat_map(|lap| vec![lap; 20 + at * 30]);
        assert!(*received == expected.collect::<Vec<u8>>());
    }
    all_are_back(&mut ring, &buffers);
    Ok(())
}

fn in_part() -> Result<(), Failed> {
    let mut ring = small();
    let buffers = buffers(&mut ring, 4, 16);
    let (mut ours, theirs) = UnixStream::pair()?;
    ours.write_all(&pattern(64))?;
    let mut bundle = receive(&mut ring, &theirs, &buffers)?;
    let second = bundle.nth(1).ok_or("four")?;
    assert_eq!((bundle.bytes(), bundle.buffers(), buffers.leased()), (32, 2, 3));
    drop(bundle);
    assert_eq!(buffers.leased(), 1);
    assert!(*second == pattern(64)[16..32]);
    drop(second);
    all_are_back(&mut ring, &buffers);
    Ok(())
}

fn not_taken() -> Result<(), Failed> {
    let mut ring = small();
    let buffers = buffers(&mut ring, 4, 16);
    for _ in 0..5 {
        let (mut ours, theirs) = UnixStream::pair()?;
        // Detached before there is data, detached after a cancel, and never redeemed.
        let once = begin(&mut ring, RecvBundle::new(theirs.try_clone()?, &buffers));
        ring.detach(once);
        ours.write_all(&pattern(50))?;
        record(&mut ring);
        let many = begin(&mut ring, RecvBundleMulti::new(theirs.try_clone()?, &buffers));
        ours.write_all(&pattern(50))?;
        run(&mut ring, Nop)?;
        ring.cancel(&many)?;
        ring.detach(many);
        record(&mut ring);
        assert_eq!(buffers.leased(), 0, "BR1");
        // Shown, and dropped unread.
        let many = begin(&mut ring, RecvBundleMulti::new(theirs, &buffers));
        ours.write_all(&pattern(50))?;
        let mut completions = 0;
        while completions == 0 {
            ring.submit_and_wait(1)?;
            ring.reap(|event| completions += u32::from(matches!(event, Event::Multishot { .. })))?;
        }
        ring.detach(many);
        drop(ours);
        record(&mut ring);
        assert_eq!(buffers.leased(), 0, "BR1");
    }
    all_are_back(&mut ring, &buffers);
    Ok(())
}

fn forgotten() -> Result<(), Failed> {
    let mut ring = small();
    let buffers = buffers(&mut ring, 4, 16);
    let (mut ours, theirs) = UnixStream::pair()?;
    ours.write_all(&pattern(32))?;
    std::mem::forget(receive(&mut ring, &theirs, &buffers)?);
    assert_eq!(buffers.leased(), 2);
    for _ in 0..10 {
        ours.write_all(&pattern(30))?;
        assert!(receive_all(&mut ring, &theirs, &buffers, 30)? == pattern(30));
        assert_eq!(buffers.leased(), 2, "those two, forever");
    }
    // A ticket that is not redeemed holds its bundle until the ring is dropped.
    ours.write_all(&pattern(30))?;
    let _never_redeemed = begin(&mut ring, RecvBundle::new(theirs, &buffers));
    run(&mut ring, Nop)?;
    drop(ring);
    assert_eq!(buffers.leased(), 2);
    Ok(())
}

fn failing() -> Result<(), Failed> {
    let mut ring = small();
    let buffers = buffers(&mut ring, 2, 16);
    let (reader, _writer) = std::io::pipe()?;
    let reader = Rc::new(reader);
    let outcome = run(&mut ring, RecvBundle::new(Rc::clone(&reader), &buffers));
    assert_eq!(code(outcome.result), Some(libc::ENOTSOCK));
    assert!(Rc::ptr_eq(&outcome.fd, &reader));
    let socket = crate::safe_sockets::socket(libc::AF_INET, libc::SOCK_STREAM)?;
    let socket = Rc::new(socket);
    for _ in 0..3 {
        let once = run(&mut ring, RecvBundle::new(Rc::clone(&socket), &buffers));
        assert_eq!(code(once.result), Some(libc::ENOTCONN));
        let many = begin(&mut ring, RecvBundleMulti::new(Rc::clone(&socket), &buffers));
        assert!(ring.next(&many)?.is_none());
        assert!(matches!(ring.wait(many)?.how, Ending::Failed(_)));
    }
    all_are_back(&mut ring, &buffers);
    Ok(())
}

fn cancelled() -> Result<(), Failed> {
    let mut ring = small();
    let buffers = buffers(&mut ring, 4, 16);
    let (mut ours, theirs) = UnixStream::pair()?;
    for _ in 0..5 {
        let once = RecvBundle::new(theirs.try_clone()?, &buffers).poll_first();
        let outcome = crate::safe_sockets::cancelled(&mut ring, once);
        assert_eq!(code(outcome.result), Some(libc::ECANCELED));
        let many = RecvBundleMulti::new(theirs.try_clone()?, &buffers);
        let ended = crate::safe_sockets::cancelled(&mut ring, many);
        assert!(matches!(ended.how, Ending::Cancelled), "{:?}", ended.how);
        ours.write_all(&pattern(33))?;
        assert!(receive_all(&mut ring, &theirs, &buffers, 33)? == pattern(33));
    }
    all_are_back(&mut ring, &buffers);
    Ok(())
}

fn ends() -> Result<(), Failed> {
    let mut ring = small();
    let buffers = buffers(&mut ring, 4, 16);
    let (mut ours, theirs) = UnixStream::pair()?;
    let many = begin(&mut ring, RecvBundleMulti::new(theirs, &buffers));
    ours.write_all(&pattern(40))?;
    let mut received = Vec::new();
    while received.len() < 40 {
        received.extend(bytes(ring.next(&many)?.ok_or("it goes on")??));
    }
    assert!(received == pattern(40));
    drop(ours);
    assert!(ring.next(&many)?.is_none());
    let ended = ring.wait(many)?;
    assert!(matches!(ended.how, Ending::Eof), "{:?}", ended.how);
    let once = run(&mut ring, RecvBundle::new(ended.fd.try_clone()?, &buffers));
    assert!(once.result?.is_none());
    all_are_back(&mut ring, &buffers);
    Ok(())
}

fn until_used_up() -> Result<(), Failed> {
    let mut ring = small();
    let buffers = buffers(&mut ring, 4, 16);
    let (mut ours, mut theirs) = UnixStream::pair()?;
    ours.write_all(&pattern(1000))?;
    drop(ours);
    let (mut received, mut rounds) = (Vec::new(), 0);
    let how = loop {
        let many = begin(&mut ring, RecvBundleMulti::new(theirs, &buffers));
        let mut held = Vec::new();
        while let Some(bundle) = ring.next(&many)? {
            held.extend(bundle?);
        }
        let ended = ring.wait(many)?;
        received.extend(joined(&held));
        rounds += 1;
        match ended.how {
            Ending::Stopped | Ending::NoBuffers => assert_eq!(buffers.leased(), 4),
            how => break how,
        }
        theirs = ended.fd;
    };
    assert!(matches!(how, Ending::Eof), "{how:?}");
    assert!(rounds >= 16 && received == pattern(1000), "{rounds} rounds");
    all_are_back(&mut ring, &buffers);
    Ok(())
}

fn connection() -> Result<(), Failed> {
    let mut ring = small();
    let buffers = buffers(&mut ring, 16, 1000);
    let (mut ours, mut theirs) = tcp()?;
    let writer = std::thread::spawn(move || {
        // In pieces of any size, while we receive.
        let all = pattern(300_000);
        let mut rest = &all[..];
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(rest.len().min(1 + rest.len() % 7919));
            ours.write_all(piece).expect("room, in the end");
            rest = behind;
        }
    });
    let mut received = Vec::new();
    let how = loop {
        let many = begin(&mut ring, RecvBundleMulti::new(theirs, &buffers));
        while let Some(bundle) = ring.next(&many)? {
            received.extend(bytes(bundle?));
        }
        let ended = ring.wait(many)?;
        theirs = match ended.how {
            Ending::Stopped | Ending::NoBuffers => ended.fd,
            how => break how,
        };
    };
    writer.join().expect("no panic");
    assert!(matches!(how, Ending::Eof), "{how:?}");
    assert_eq!(received.len(), 300_000);
    assert!(received == pattern(300_000), "in order, and nothing between");
    all_are_back(&mut ring, &buffers);
    Ok(())
}

fn outlives() -> Result<(), Failed> {
    let mut ring = small();
    let buffers = buffers(&mut ring, 4, 16);
    let (mut ours, theirs) = UnixStream::pair()?;
    ours.write_all(&pattern(64))?;
    let mut bundle = receive(&mut ring, &theirs, &buffers)?;
    let first = bundle.next().ok_or("four")?;
    drop((ring, buffers));
    let rest: Vec<u8> = bytes(bundle);
    assert!([&first[..], &rest].concat() == pattern(64));
    Ok(())
}

fn other_ring() -> Result<(), Failed> {
    let (mut ring, mut other) = (small(), small());
    let buffers = buffers(&mut ring, 2, 16);
    let (ours, _theirs) = UnixStream::pair()?;
    let rejected = other.submit(RecvBundle::new(ours, &buffers)).expect_err("of another ring");
    assert_eq!(rejected.why, Rejection::OtherRing);
    let (ours, _theirs) = UnixStream::pair()?;
    let rejected = other.submit(RecvBundleMulti::new(ours, &buffers)).expect_err("of another");
    assert_eq!(rejected.why, Rejection::OtherRing);
    all_are_back(&mut ring, &buffers);
    Ok(())
}

fn no_bundles() -> Result<(), Failed> {
    let mut ring = small();
    let buffers = buffers(&mut ring, 2, 16);
    let (mut ours, theirs) = UnixStream::pair()?;
    ours.write_all(b"stays")?;
    let once = run(&mut ring, RecvBundle::new(theirs, &buffers));
    assert_eq!(code(once.result), Some(libc::EINVAL));
    let many = begin(&mut ring, RecvBundleMulti::new(once.fd, &buffers));
    assert!(ring.next(&many)?.is_none());
    let ended = ring.wait(many)?;
    assert!(matches!(ended.how, Ending::Failed(_)), "{:?}", ended.how);
    let selected = run(&mut ring, RecvProvided::new(ended.fd, &buffers)).result?;
    assert_eq!(selected.as_deref(), Some(&b"stays"[..]));
    drop(selected);
    all_are_back(&mut ring, &buffers);
    Ok(())
}
