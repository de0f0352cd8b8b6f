//! Operations as futures: what a reactor does on each kernel. `tests/future` has more, on one.
//!
//! Tests that fork run in a process of their own, since fork copies only one thread.

use std::future::{Future, poll_fn};
use std::io::{PipeReader, PipeWriter, Write};
use std::net::{TcpListener, TcpStream};
use std::pin::Pin;
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use annulus::Setup;
use annulus::future::{Reactor, Run};
use annulus::op::{AcceptMulti, Ending, Nop, Read};
use annulus::sys::opcode::Opcode;
use libtest_mimic::{Failed, Trial};

use crate::harness::{Need, Part, child_succeeds, patient, test};
use crate::processes::{Side, end_with, fork, outcome, pipe};

/// The parts that play in a child process.
pub const PARTS: &[Part] = &[("a forked child turns a reactor", forked)];

/// Since Linux 5.19, as multishot accepts.
const MULTISHOT: [Need; 1] = [Need::Op(Opcode::SOCKET)];

/// The tests.
pub fn tests() -> Vec<Trial> {
    vec![
        test("a_future_is_the_output_of_its_operation", &[], output),
        test("op1_a_future_that_is_dropped_cancels_its_operation", &[], dropped),
        test("a_future_that_is_cancelled_gives_its_buffer_back", &[], cancelled),
        test("a_stream_has_each_connection_and_an_end", &MULTISHOT, stream),
        test("a_wake_of_another_thread_ends_the_wait_of_a_reactor", &[], woken),
        test("a_future_is_limited_by_time", &[], limited),
        test("a_forked_child_runs_no_future_of_its_parents_reactor", &[], || {
            child_succeeds("a forked child turns a reactor")
        }),
    ]
}

fn reactor() -> Reactor {
    Reactor::new(patient(|| Setup::new(4).build_for()).expect("a ring can be made here"))
}

type Reading = Run<Read<PipeReader, Vec<u8>>>;

/// A read that waits, and where to write for it.
fn silent(reactor: &Reactor) -> (Reading, PipeWriter) {
    let (from, to) = pipe();
    let mut reading = reactor.run(Read::new(from, Vec::with_capacity(8)));
    assert!(once(&mut reading).is_pending());
    (reading, to)
}

fn once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

fn open(reactor: &Reactor) -> u32 {
    reactor.with_ring(|ring| ring.in_flight())
}

fn output() -> Result<(), Failed> {
    let reactor = reactor();
    let (reading, mut to) = silent(&reactor);
    to.write_all(b"hello")?;
    let outcome = reactor.block_on(reading)??;
    assert_eq!((outcome.result?, &outcome.buf[..]), (5, &b"hello"[..]));
    // More than there are slots, one after the other.
    reactor.block_on(async {
        for _ in 0..50 {
            reactor.run(Nop).await.expect("it is accepted").expect("a NOP succeeds");
        }
    })?;
    assert_eq!(open(&reactor), 0);
    Ok(())
}

fn dropped() -> Result<(), Failed> {
    let reactor = reactor();
    let (reading, mut to) = silent(&reactor);
    reactor.turn(0)?;
    drop(reading);
    while open(&reactor) > 0 {
        reactor.block_on(reactor.sleep(Duration::from_millis(1)))??.ok();
    }
    // The reader went with the operation.
    let mut refused = to.write_all(b"x");
    for _ in 0..1000 {
        if refused.is_err() {
            break;
        }
        thread::sleep(Duration::from_millis(1));
        refused = to.write_all(b"x");
    }
    assert_eq!(refused.expect_err("nobody reads").kind(), std::io::ErrorKind::BrokenPipe);
    Ok(())
}

fn cancelled() -> Result<(), Failed> {
    let reactor = reactor();
    let (mut reading, _to) = silent(&reactor);
    reactor.turn(0)?;
    reading.cancel();
    let outcome = reactor.block_on(reading)??;
    let error = outcome.result.expect_err("it was cancelled");
    // Of a worker thread, EINTR.
    assert!(matches!(error.raw_os_error(), Some(libc::ECANCELED | libc::EINTR)), "{error}");
    assert_eq!(outcome.buf.capacity(), 8);
    Ok(())
}

fn stream() -> Result<(), Failed> {
    let reactor = reactor();
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let clients: Vec<_> = (0..3).map(|_| TcpStream::connect(address)).collect();
    let mut accepted = reactor.items(AcceptMulti::new(listener));
    let ended = reactor.block_on(async {
        for _ in &clients {
            let connection = accepted.next().await.expect("an item");
            drop(connection.expect("it accepts"));
        }
        accepted.cancel();
        assert!(accepted.next().await.is_none());
        accepted.end().expect("it is over")
    })??;
    assert!(matches!(ended.how, Ending::Cancelled), "{:?}", ended.how);
    Ok(())
}

fn woken() -> Result<(), Failed> {
    let reactor = reactor();
    let (ask, asked) = mpsc::channel::<Waker>();
    let other = thread::spawn(move || {
        let mut count = 0;
        for waker in asked {
            thread::sleep(Duration::from_millis(2)); // It waits by now.
            waker.wake();
            count += 1;
        }
        count
    });
    let mut polls = 0;
    let told = poll_fn(move |context| {
        polls += 1;
        if polls > 10 {
            return Poll::Ready(());
        }
        ask.send(context.waker().clone()).expect("the thread is there");
        Poll::Pending
    });
    reactor.block_on(told)?;
    assert_eq!(other.join().map_err(|_| "it panicked")?, 10);
    Ok(())
}

fn limited() -> Result<(), Failed> {
    let reactor = reactor();
    let (reading, _to) = silent(&reactor);
    let over = reactor.block_on(reactor.timeout(Duration::from_millis(2), reading))?;
    assert!(over.is_none());
    let minute = Duration::from_secs(60);
    let in_time = reactor.block_on(reactor.timeout(minute, reactor.run(Nop)))?;
    in_time.ok_or("it ends before")???;
    Ok(())
}

/// The child finds errors, and drops everything; the parent goes on.
fn forked() {
    let reactor = reactor();
    let (reading, mut to) = silent(&reactor);
    reactor.turn(0).expect("the ring works");
    match fork() {
        Side::Child => end_with(move || {
            assert!(reactor.turn(0).is_err(), "the ring is the parent's");
            let ran = reactor.block_on(reactor.run(Nop));
            assert!(!matches!(ran, Ok(Ok(_))), "the ring is the parent's");
            drop(reading);
            drop(reactor);
        }),
        Side::Parent(child) => assert_eq!(outcome(child), 0),
    }
    to.write_all(b"hello").expect("room");
    let outcome = reactor.block_on(reading).expect("the ring works").expect("it is accepted");
    assert_eq!((outcome.result.expect("it succeeds"), &outcome.buf[..]), (5, &b"hello"[..]));
}
