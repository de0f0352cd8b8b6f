//! Sending queued buffers: in order, once, and every buffer accounted for (BR1).

use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use annulus::lease::{SendBuf, SendQueue, SendRing};
use annulus::op::{Nop, Op, Recv, SendBundle};
use annulus::sys::flags::Features;
use annulus::sys::opcode::RegisterOp;
use annulus::{Rejection, Ring};
use libtest_mimic::{Failed, Trial};

use crate::harness::{Need, hangs_up, here, test};
use crate::safe_leases::patient;
use crate::safe_sockets::{begin, code, pattern, record, run, set_option, small};

const BUNDLE: [Need; 1] = [Need::Feature(Features::RECVSEND_BUNDLE)];
const NO_BUNDLE: [Need; 2] = [Need::Register(RegisterOp::PBUF_RING), Need::Other(bundles)];
const QUEUE: [Need; 1] = [Need::Register(RegisterOp::PBUF_RING)];

/// The tests.
pub fn tests() -> Vec<Trial> {
    vec![
        test("what_is_queued_is_sent_in_order", &BUNDLE, in_order),
        test("nothing_queued_is_nothing_sent", &BUNDLE, nothing),
        test("what_is_queued_meanwhile_is_sent_behind", &BUNDLE, meanwhile),
        test("br1_a_cancelled_bundle_stays_queued_and_nothing_is_lost", &BUNDLE, cancel),
        test("br1_a_bundle_that_failed_stays_queued", &BUNDLE, failed),
        test("br1_a_bundle_that_is_not_waited_for_is_sent_anyway", &BUNDLE, given_up),
        test("a_bundle_is_not_sent_by_a_worker", &BUNDLE, forced),
        test("a_queue_fills_from_operations", &BUNDLE, filled_by_operations),
        test("a_queue_of_another_ring_is_refused", &QUEUE, other_ring),
        test("a_queue_outlives_its_ring", &QUEUE, outlives),
        test("before_a_kernel_sends_bundles_they_stay_queued", &NO_BUNDLE, refused),
    ]
}

fn bundles() -> Option<String> {
    let has = here().features().contains(Features::RECVSEND_BUNDLE);
    has.then(|| "needs a kernel without RECVSEND_BUNDLE".to_owned())
}

/// A ring of 8 buffers of `size` bytes, and its queue.
fn queue(ring: &mut Ring, size: u32) -> (SendRing, SendQueue) {
    let sends = patient(|| ring.send_ring(8, size));
    let queue = sends.queue();
    assert_eq!((queue.count(), queue.available(), queue.bytes()), (8, 8, 0));
    (sends, queue)
}

/// A buffer that holds `bytes`.
fn holding(queue: &SendQueue, bytes: &[u8]) -> Option<SendBuf> {
    let mut buf = queue.get()?;
    buf.set_len(bytes.len());
    buf.copy_from_slice(bytes);
    Some(buf)
}

fn in_order() -> Result<(), Failed> {
    let mut ring = small();
    let (mut sends, queue) = queue(&mut ring, 16);
    let (ours, mut theirs) = UnixStream::pair()?;
    let ours = Rc::new(ours);
    let all = pattern(100_000);
    let (mut at, mut lap) = (0, 0);
    while at < 20_000 {
        let begun = at;
        // Of any length, in any order of the buffers.
        let mut held: Vec<SendBuf> = std::iter::from_fn(|| queue.get()).collect();
        held.rotate_left(lap % 8);
        for (number, mut buf) in held.into_iter().enumerate() {
            let len = (lap * 7 + number * 5) % 17;
            buf.set_len(len);
            buf.copy_from_slice(&all[at..at + len]);
            at += len;
            buf.queue();
        }
        assert_eq!(queue.bytes(), at - begun);
        let sent = run(&mut ring, SendBundle::new(Rc::clone(&ours), sends));
        assert_eq!(sent.result?, at - begun);
        assert_eq!((queue.bytes(), queue.available()), (0, 8));
        let mut bytes = vec![0; at - begun];
        theirs.read_exact(&mut bytes)?;
        assert!(bytes == all[begun..at], "lap {lap}");
        (sends, lap) = (sent.buf, lap + 1);
    }
    Ok(())
}

fn nothing() -> Result<(), Failed> {
    let mut ring = small();
    let (sends, queue) = queue(&mut ring, 16);
    let (ours, mut theirs) = UnixStream::pair()?;
    let sent = run(&mut ring, SendBundle::new(ours, sends));
    assert_eq!(sent.result?, 0);
    // Nor is a buffer without bytes.
    queue.get().ok_or("free")?.queue();
    assert_eq!((queue.bytes(), queue.available()), (0, 8));
    holding(&queue, b"x").ok_or("free")?.queue();
    let sent = run(&mut ring, SendBundle::new(sent.fd, sent.buf));
    assert_eq!((sent.result?, queue.available()), (1, 8));
    drop(sent.fd);
    let mut bytes = Vec::new();
    theirs.read_to_end(&mut bytes)?;
    assert_eq!(bytes, b"x");
    Ok(())
}

/// Two ends of a connection through which only little goes before it is read.
fn narrow() -> Result<(UnixStream, UnixStream), Failed> {
    let (ours, theirs) = UnixStream::pair()?;
    set_option(&ours, libc::SO_SNDBUF, 1 << 14)?;
    Ok((ours, theirs))
}

/// Reads until the end.
fn reader(mut theirs: UnixStream) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        theirs.read_to_end(&mut bytes).expect("the end comes");
        bytes
    })
}

fn meanwhile() -> Result<(), Failed> {
    const ALL: usize = 400_000;
    let mut ring = small();
    let (mut sends, queue) = queue(&mut ring, 4096);
    let (mut ours, theirs) = narrow()?;
    let reader = reader(theirs);
    let all = pattern(ALL);
    let (mut queued, mut sent) = (0, 0);
    let fill = |at: &mut usize| {
        while *at < ALL
            && let Some(mut buf) = queue.get()
        {
            let len = (ALL - *at).min(1 + *at % 4096);
            buf.set_len(len);
            buf.copy_from_slice(&all[*at..*at + len]);
            buf.queue();
            *at += len;
        }
    };
    while sent < ALL {
        let send = begin(&mut ring, SendBundle::new(ours, sends));
        // Before it has begun, while it waits for room, or after it: wherever that falls.
        fill(&mut queued);
        let mut completions = 0;
        while let Some(completion) = ring.next(&send)? {
            completions += completion?;
        }
        let outcome = ring.wait(send)?;
        let count = outcome.result?;
        assert_eq!(count, completions, "the shots are all of it");
        sent += count;
        (ours, sends) = (outcome.fd, outcome.buf);
    }
    assert_eq!((sent, queue.available(), queue.bytes()), (ALL, 8, 0));
    drop(ours);
    assert!(reader.join().expect("no panic") == all, "in order, once");
    Ok(())
}

/// Cancels until a cancel finds the send: while the kernel retries the send, no cancel finds it.
fn until_cancelled<O: Op + 'static>(ring: &mut Ring, op: O) -> Result<O::Output, Failed> {
    let mut ticket = begin(ring, op);
    loop {
        ring.cancel(&ticket)?;
        match ring.wait_timeout(ticket, Duration::from_millis(10)) {
            Ok(output) => return Ok(output),
            Err(unfinished) => ticket = unfinished.ticket,
        }
    }
}

fn cancel() -> Result<(), Failed> {
    let mut ring = small();
    let (mut sends, queue) = queue(&mut ring, 1 << 18);
    let (mut ours, theirs) = narrow()?;
    let all = pattern(6 << 18);
    for part in all.chunks(1 << 18) {
        holding(&queue, part).ok_or("free")?.queue();
    }
    // The peer does not read, so not everything goes through.
    let mut sent = 0;
    for round in 0..5 {
        let before = queue.bytes();
        let outcome = until_cancelled(&mut ring, SendBundle::new(ours, sends))?;
        let left = queue.bytes();
        assert!(left > 0 && left <= before, "round {round}: {left} of {before}");
        match outcome.result {
            Ok(count) => assert_eq!(count, before - left),
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::ECANCELED)),
        }
        sent += before - left;
        (ours, sends) = (outcome.fd, outcome.buf);
    }
    assert_eq!(sent + queue.bytes(), all.len());
    // One more buffer goes after all remaining ones.
    holding(&queue, b"the end").ok_or("free")?.queue();
    let reader = reader(theirs);
    while queue.bytes() > 0 {
        let outcome = run(&mut ring, SendBundle::new(ours, sends));
        outcome.result?;
        (ours, sends) = (outcome.fd, outcome.buf);
    }
    drop((ours, sends));
    let bytes = reader.join().expect("no panic");
    assert_eq!(bytes.len(), all.len() + 7);
    assert!(bytes == [&all[..], b"the end"].concat(), "in order, once");
    assert_eq!(queue.available(), 8);
    Ok(())
}

fn failed() -> Result<(), Failed> {
    let mut ring = small();
    let (sends, queue) = queue(&mut ring, 16);
    for part in [&b"stays "[..], b"queued"] {
        holding(&queue, part).ok_or("free")?.queue();
    }
    let (ours, theirs) = UnixStream::pair()?;
    drop(theirs);
    assert!(hangs_up(&ours));
    let outcome = run(&mut ring, SendBundle::new(ours, sends));
    assert_eq!(code(outcome.result), Some(libc::EPIPE), "and no signal");
    assert_eq!((queue.bytes(), queue.available()), (12, 6));
    let (_reader, writer) = std::io::pipe()?;
    let outcome = run(&mut ring, SendBundle::new(writer, outcome.buf));
    assert_eq!(code(outcome.result), Some(libc::ENOTSOCK));
    assert_eq!((queue.bytes(), queue.available()), (12, 6));
    holding(&queue, b" behind").ok_or("free")?.queue();
    let (ours, mut theirs) = UnixStream::pair()?;
    let outcome = run(&mut ring, SendBundle::new(ours, outcome.buf));
    assert_eq!(outcome.result?, 19);
    drop(outcome.fd);
    let mut bytes = Vec::new();
    theirs.read_to_end(&mut bytes)?;
    assert_eq!(bytes, b"stays queued behind");
    assert_eq!((queue.bytes(), queue.available()), (0, 8));
    Ok(())
}

fn given_up() -> Result<(), Failed> {
    let mut ring = small();
    let (sends, queue) = queue(&mut ring, 16);
    let (ours, mut theirs) = UnixStream::pair()?;
    holding(&queue, b"for nobody").ok_or("free")?.queue();
    let send = begin(&mut ring, SendBundle::new(ours, sends));
    ring.detach(send);
    record(&mut ring);
    let mut bytes = Vec::new();
    theirs.read_to_end(&mut bytes)?;
    assert_eq!(bytes, b"for nobody");
    assert_eq!((queue.bytes(), queue.available()), (0, 8));
    // A lease that is dropped, or forgotten, blocks nothing.
    drop(queue.get());
    std::mem::forget(queue.get());
    assert_eq!(queue.available(), 7);
    run(&mut ring, Nop)?;
    Ok(())
}

/// A worker thread would take the buffers for good, and go on after those that it could not send.
fn forced() -> Result<(), Failed> {
    let mut ring = small();
    let (sends, queue) = queue(&mut ring, 16);
    let (ours, mut theirs) = UnixStream::pair()?;
    holding(&queue, b"one ").ok_or("free")?.queue();
    let rejected = ring.submit(SendBundle::new(ours, sends).forced()).expect_err("by a worker");
    let words = rejected.to_string();
    assert!(words.contains("neither force it nor put it behind"), "{words}");
    assert!(matches!(rejected.why, Rejection::Invalid { .. }));
    let rejected = ring.submit_chain((Nop, rejected.op)).expect_err("a worker's, too");
    assert!(matches!(rejected.why, Rejection::Invalid { .. }));
    assert_eq!((queue.bytes(), queue.available()), (4, 7), "nothing was sent");
    drop(rejected);
    let mut bytes = Vec::new();
    theirs.read_to_end(&mut bytes)?;
    assert_eq!(bytes, b"");
    Ok(())
}

fn filled_by_operations() -> Result<(), Failed> {
    let mut ring = small();
    let (mut sends, queue) = queue(&mut ring, 16);
    let (from, through) = UnixStream::pair()?;
    let (ours, mut theirs) = UnixStream::pair()?;
    let (mut through, mut ours) = (through, ours);
    std::io::Write::write_all(&mut &from, &pattern(40))?;
    drop(from);
    loop {
        let received = run(&mut ring, Recv::new(through, queue.get().ok_or("free")?));
        let count = received.result?;
        assert_eq!((received.buf.len(), received.buf.capacity()), (count, 16));
        received.buf.queue();
        through = received.fd;
        let sent = run(&mut ring, SendBundle::new(ours, sends));
        assert_eq!(sent.result?, count);
        (ours, sends) = (sent.fd, sent.buf);
        if count == 0 {
            break;
        }
    }
    drop(ours);
    let mut bytes = Vec::new();
    theirs.read_to_end(&mut bytes)?;
    assert!(bytes == pattern(40));
    Ok(())
}

fn other_ring() -> Result<(), Failed> {
    let (mut ring, mut other) = (small(), small());
    let (sends, queue) = queue(&mut ring, 16);
    holding(&queue, b"mine").ok_or("free")?.queue();
    let (ours, _theirs) = UnixStream::pair()?;
    let rejected = other.submit(SendBundle::new(ours, sends)).expect_err("of another ring");
    assert_eq!(rejected.why, Rejection::OtherRing);
    assert_eq!((queue.bytes(), queue.available()), (4, 7));
    Ok(())
}

fn outlives() -> Result<(), Failed> {
    let mut ring = small();
    let (sends, queue) = queue(&mut ring, 16);
    let held = holding(&queue, b"held").ok_or("free")?;
    holding(&queue, b"queued").ok_or("free")?.queue();
    drop((ring, sends));
    assert_eq!((*held == *b"held", queue.bytes(), queue.available()), (true, 6, 6));
    held.queue();
    assert_eq!((queue.bytes(), queue.available()), (6, 7), "nobody would send it");
    assert!(queue.get().is_some());
    Ok(())
}

fn refused() -> Result<(), Failed> {
    let mut ring = small();
    let (sends, queue) = queue(&mut ring, 16);
    holding(&queue, b"stays").ok_or("free")?.queue();
    let (ours, _theirs) = UnixStream::pair()?;
    let outcome = run(&mut ring, SendBundle::new(ours, sends));
    // Linux 6.1 has another errno for it.
    let refused = [Some(libc::EINVAL), Some(libc::EOPNOTSUPP)];
    assert!(refused.contains(&code(outcome.result)));
    assert_eq!((queue.bytes(), queue.available()), (5, 7));
    Ok(())
}
