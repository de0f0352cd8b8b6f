//! On this kernel.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::future::{Future, pending, poll_fn};
use std::io::{PipeReader, PipeWriter, Write as _, pipe};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use annulus::future::{Reactor, Run};
use annulus::op::{AcceptMulti, Ending, Nop, Read, RecvMulti, Timeout, TimeoutEnd, Write};
use annulus::{Rejection, Ring, Setup, SetupError};

use super::tasks::{End, Tasks};

fn ring(slots: u32) -> Ring<Option<Waker>> {
    loop {
        match Setup::new(slots).cq_entries(slots.max(2)).build_for() {
            // Dropped rings give their memory back a little late.
            Err(SetupError::LockedMemory { .. }) => std::thread::sleep(Duration::from_millis(10)),
            made => return made.expect("a ring"),
        }
    }
}

fn reactor(slots: u32) -> Reactor {
    Reactor::new(ring(slots))
}

/// Polls a future once.
fn once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

type Reading = Run<Read<PipeReader, Vec<u8>>>;

fn silent(reactor: &Reactor) -> (Reading, PipeWriter) {
    let (reader, writer) = pipe().expect("a pipe");
    (reactor.run(Read::new(reader, Vec::with_capacity(8))), writer)
}

#[test]
fn an_operation_is_a_future_of_its_output() {
    let reactor = reactor(4);
    let (read, mut writer) = silent(&reactor);
    writer.write_all(b"hello").expect("room");
    let outcome = reactor.block_on(read).expect("the ring works").expect("it is accepted");
    assert_eq!((outcome.result.expect("it succeeds"), &outcome.buf[..]), (5, &b"hello"[..]));
    assert_eq!(reactor.with_ring(|ring| (ring.in_flight(), ring.vacant())), (0, 4));
}

#[test]
fn an_operation_that_the_ring_refuses_comes_back() {
    let (one, other) = (reactor(4), reactor(4));
    let buffers = one.with_ring(|ring| ring.buf_ring(2, 16)).expect("a buffer ring");
    let (ours, _theirs) = UnixStream::pair().expect("two sockets");
    let refused =
        other.block_on(other.run(RecvMulti::new(ours, &buffers))).expect("the ring works");
    assert_eq!(refused.expect_err("of another ring").why, Rejection::OtherRing);
}

#[test]
fn a_future_that_is_dropped_cancels_its_operation() {
    let reactor = reactor(4);
    let (read, _writer) = silent(&reactor);
    let mut read = Box::pin(read);
    assert!(once(read.as_mut()).is_pending());
    assert_eq!(reactor.with_ring(|ring| ring.in_flight()), 1);
    drop(read);
    reactor.block_on(reactor.sleep(Duration::from_millis(1))).expect("the ring works").ok();
    assert_eq!(reactor.with_ring(|ring| (ring.in_flight(), ring.vacant())), (0, 4));
}

#[test]
fn a_future_that_is_cancelled_gives_everything_back() {
    let reactor = reactor(4);
    let (mut read, _writer) = silent(&reactor);
    assert!(once(Pin::new(&mut read)).is_pending());
    read.cancel();
    let outcome = reactor.block_on(read).expect("the ring works").expect("it was accepted");
    let error = outcome.result.expect_err("it was cancelled");
    assert_eq!(error.raw_os_error(), Some(libc::ECANCELED));
    assert_eq!(outcome.buf.capacity(), 8);
}

#[test]
fn more_tasks_than_slots_take_turns() {
    let (reactor, tasks) = (reactor(4), Tasks::new());
    let done = Rc::new(Cell::new(0));
    for _ in 0..50 {
        let (reactor, done) = (reactor.clone(), Rc::clone(&done));
        tasks.spawn(async move {
            for _ in 0..3 {
                reactor.run(Nop).await.expect("it is accepted").expect("a NOP succeeds");
            }
            done.set(done.get() + 1);
        });
    }
    tasks.run(&reactor);
    assert_eq!(done.get(), 50);
}

#[test]
fn a_task_that_waits_for_room_and_is_dropped_takes_nobody_elses() {
    let (reactor, tasks) = (reactor(2), Tasks::new());
    let (mut kept, mut writers) = (Vec::new(), Vec::new());
    for number in 0..6 {
        let (read, writer) = silent(&reactor);
        let task = tasks.spawn(async move { drop(read.await) });
        // Two are in flight, and four wait.
        if number < 2 { writers.push(writer) } else { kept.push((task, writer)) }
    }
    tasks.poll();
    // The first to wait are gone when room comes.
    for (task, _) in &kept[..3] {
        tasks.end(*task, End::Dropped);
    }
    for mut writer in writers {
        writer.write_all(b"x").expect("room");
    }
    kept[3].1.write_all(b"x").expect("room");
    tasks.run(&reactor);
    assert_eq!(tasks.ends.borrow()[kept[3].0], Some(End::Done));
}

#[test]
fn who_waits_for_a_slot_comes_before_who_has_just_freed_one() {
    let (reactor, tasks) = (reactor(2), Tasks::new());
    let rounds = Rc::new(RefCell::new(Vec::new()));
    for number in 0..5 {
        let (reactor, rounds) = (reactor.clone(), Rc::clone(&rounds));
        tasks.spawn(async move {
            for _ in 0..4 {
                reactor.run(Nop).await.expect("it is accepted").expect("a NOP succeeds");
                rounds.borrow_mut().push(number);
            }
        });
    }
    tasks.run(&reactor);
    // Nobody is two rounds ahead of anybody.
    let mut counts = [0_i32; 5];
    for &number in rounds.borrow().iter() {
        let number: usize = number;
        counts[number] += 1;
        let least = counts.iter().min().expect("five");
        assert!(counts[number] - least <= 2, "{:?}", rounds.borrow());
    }
}

#[test]
fn a_stream_has_every_item_and_then_its_end() {
    let reactor = reactor(8);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let clients: Vec<_> = (0..3).map(|_| TcpStream::connect(address)).collect();
    let mut accepted = reactor.items(AcceptMulti::new(listener));
    let ended = reactor.block_on(async {
        for _ in &clients {
            let connection = accepted.next().await.expect("an item");
            drop(TcpStream::from(connection.expect("it accepts")));
        }
        accepted.cancel();
        assert!(accepted.next().await.is_none());
        assert!(accepted.next().await.is_none(), "it stays over");
        accepted.end().expect("it is over")
    });
    let ended = ended.expect("the ring works").expect("it was accepted");
    assert!(matches!(ended.how, Ending::Cancelled), "{:?}", ended.how);
}

#[test]
fn a_stream_that_is_dropped_drops_what_came() {
    let reactor = reactor(8);
    let buffers = reactor.with_ring(|ring| ring.buf_ring(4, 16)).expect("a buffer ring");
    let (ours, mut theirs) = UnixStream::pair().expect("two sockets");
    let mut items = reactor.items(RecvMulti::new(ours, &buffers));
    assert!(once(pin!(items.next())).is_pending());
    theirs.write_all(b"one").expect("room");
    reactor.block_on(reactor.sleep(Duration::from_millis(2))).expect("the ring works").ok();
    drop(items);
    reactor.block_on(reactor.sleep(Duration::from_millis(2))).expect("the ring works").ok();
    assert_eq!(buffers.leased(), 0, "BR1: every buffer is back");
    assert_eq!(reactor.with_ring(|ring| ring.in_flight()), 0);
}

#[test]
fn another_thread_ends_the_wait() {
    let reactor = reactor(4);
    let shared = Arc::new(Mutex::new((false, None::<Waker>)));
    let other = Arc::clone(&shared);
    let thread = std::thread::spawn(move || {
        loop {
            let mut shared = other.lock().expect("no panic");
            if let Some(waker) = shared.1.take() {
                shared.0 = true;
                drop(shared);
                waker.wake();
                return;
            }
            drop(shared);
            std::thread::yield_now();
        }
    });
    let told = poll_fn(|context| {
        let mut shared = shared.lock().expect("no panic");
        if shared.0 {
            return Poll::Ready(());
        }
        shared.1 = Some(context.waker().clone());
        Poll::Pending
    });
    reactor.block_on(told).expect("the ring works");
    thread.join().expect("no panic");
}

#[test]
fn time_limits_another_future() {
    let reactor = reactor(4);
    let short = Duration::from_millis(1);
    let minute = Duration::from_secs(60);
    let over = reactor.block_on(reactor.timeout(short, pending::<()>())).expect("the ring works");
    assert_eq!(over, None);
    let in_time = reactor.block_on(reactor.timeout(minute, async { 7 })).expect("the ring works");
    assert_eq!(in_time, Some(7));
    let slept = reactor.block_on(reactor.run(Timeout::new(short))).expect("the ring works");
    assert_eq!(slept.expect("it is accepted").expect("it expires"), TimeoutEnd::Expired);
}

/// A buffer that drops a future of the same ring when the ring drops it.
struct Nested {
    bytes: Vec<u8>,
    _future: Rc<RefCell<Option<Reading>>>,
}

impl Drop for Nested {
    fn drop(&mut self) {
        drop(self._future.borrow_mut().take());
    }
}

impl annulus::buf::IoBuf for Nested {
    fn region(&self) -> annulus::buf::Region<'_> {
        self.bytes.region()
    }
}

#[test]
fn a_destructor_in_the_ring_may_drop_other_futures() {
    let reactor = reactor(8);
    let (mut inner, _writer) = silent(&reactor);
    assert!(once(Pin::new(&mut inner)).is_pending());
    let inner = Rc::new(RefCell::new(Some(inner)));
    let file = File::options().write(true).open("/dev/null").expect("/dev/null");
    let nested = Nested { bytes: vec![1], _future: Rc::clone(&inner) };
    let mut write = reactor.run(Write::new(file, nested));
    assert!(once(Pin::new(&mut write)).is_pending());
    drop(write); // Detached: the ring drops the buffer, and that the other future.
    while inner.borrow().is_some() || reactor.with_ring(|ring| ring.in_flight()) > 0 {
        reactor.block_on(reactor.sleep(Duration::from_millis(1))).expect("the ring works").ok();
    }
}

#[test]
fn a_waker_that_panics_takes_no_other_task_along() {
    struct Panics;
    impl std::task::Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("as told");
        }
    }
    let reactor = reactor(4);
    let (mut first, mut second) = (reactor.run(Nop), reactor.run(Nop));
    let panics = Waker::from(Arc::new(Panics));
    let woken = Arc::new(Counts::default());
    assert!(Pin::new(&mut first).poll(&mut Context::from_waker(&panics)).is_pending());
    let counts = Waker::from(Arc::clone(&woken));
    assert!(Pin::new(&mut second).poll(&mut Context::from_waker(&counts)).is_pending());
    let turn = || reactor.turn(2);
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(turn)).is_err());
    reactor.turn(0).expect("the ring goes on");
    assert_eq!(woken.0.load(std::sync::atomic::Ordering::Relaxed), 1);
    assert!(once(Pin::new(&mut first)).is_ready() && once(Pin::new(&mut second)).is_ready());
}

#[derive(Default)]
struct Counts(std::sync::atomic::AtomicU32);

impl std::task::Wake for Counts {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
}
