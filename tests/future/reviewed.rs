//! What a hostile reader broke once: items that reached another stream, tasks that slept although
//! there was something to do, and errors that were taken for more than they are.

use std::future::{Future, poll_fn};
use std::io::{PipeReader, PipeWriter, Write as _, pipe};
use std::net::{TcpListener, TcpStream};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::tasks::Tasks;
use annulus::Setup;
use annulus::future::{Reactor, Run};
use annulus::op::{AcceptMulti, Nop, Read, SendZc};

fn reactor(slots: u32) -> Reactor {
    Reactor::new(Setup::new(slots).cq_entries(slots.max(2)).build_for().expect("a ring"))
}
fn once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}
fn silent(reactor: &Reactor) -> (Run<Read<PipeReader, Vec<u8>>>, PipeWriter) {
    let (reader, writer) = pipe().expect("a pipe");
    (reactor.run(Read::new(reader, Vec::with_capacity(8))), writer)
}

/// `run`: "For a multishot operation that is its end, together with all items".
#[test]
fn run_of_a_multishot_has_all_items() {
    let reactor = reactor(4);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let _clients: Vec<_> = (0..3).map(|_| TcpStream::connect(address)).collect();
    let mut accept = reactor.run(AcceptMulti::new(listener));
    let ended = reactor.block_on(async {
        assert!(once(Pin::new(&mut accept)).is_pending());
        reactor.sleep(Duration::from_millis(5)).await.expect("ok").expect("ok");
        accept.cancel();
        accept.await
    });
    let ended = ended.expect("the ring works").expect("accepted");
    assert_eq!(ended.remaining.len(), 3, "the items");
}

/// The items of a `run` come out of another stream.
#[test]
fn items_of_a_run_reach_another_stream() {
    let reactor = reactor(4);
    let bind = || TcpListener::bind("127.0.0.1:0").expect("a port");
    let (first, second) = (bind(), bind());
    let _client = TcpStream::connect(first.local_addr().unwrap()).expect("connects");
    let mut accept = reactor.run(AcceptMulti::new(first));
    let mut items = reactor.items(AcceptMulti::new(second));
    let item = reactor.block_on(async {
        assert!(once(Pin::new(&mut accept)).is_pending());
        reactor.sleep(Duration::from_millis(5)).await.expect("ok").expect("ok");
        accept.cancel();
        drop(accept.await);
        // Nobody ever connects to the second listener.
        reactor.timeout(Duration::from_millis(20), items.next()).await
    });
    assert!(item.expect("the ring works").is_none(), "a connection of another listener");
}

/// A zero-copy send leaves a completion in its slot, which a stream then shows as its item.
#[test]
fn a_zero_copy_send_reaches_another_stream() {
    let reactor = reactor(4);
    let bind = || TcpListener::bind("127.0.0.1:0").expect("a port");
    let (first, second) = (bind(), bind());
    let client = TcpStream::connect(first.local_addr().unwrap()).expect("connects");
    let mut items = reactor.items(AcceptMulti::new(second));
    let item = reactor.block_on(async {
        let sent = reactor.run(SendZc::new(client, vec![1_u8; 64])).await.expect("accepted");
        drop(sent);
        reactor.timeout(Duration::from_millis(20), items.next()).await
    });
    assert!(item.expect("the ring works").is_none(), "an item of nobody");
}

/// `timeout` when the ring is full.
#[test]
fn timeouts_end_even_if_the_operations_fill_the_ring() {
    let (reactor, tasks) = (reactor(2), Tasks::new());
    let mut writers = Vec::new();
    for _ in 0..2 {
        let (read, writer) = silent(&reactor);
        writers.push(writer);
        let reactor = reactor.clone();
        tasks.spawn(async move {
            assert!(reactor.timeout(Duration::from_millis(1), read).await.is_none());
        });
    }
    let watch = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(3));
        for mut writer in writers {
            let _ = writer.write_all(b"rescue");
        }
    });
    tasks.run(&reactor);
    drop(watch);
    assert!(
        tasks.ends.borrow().iter().all(|end| *end == Some(super::tasks::End::Done)),
        "3 s later"
    );
}

/// `cancel`: "What came before still comes, and then the end."
#[test]
fn cancel_twice_keeps_what_came() {
    let reactor = Reactor::new(Setup::plain(8).build_for().expect("a ring"));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let mut items = reactor.items(AcceptMulti::new(listener));
    assert!(once(pin!(items.next())).is_pending());
    reactor.turn(0).expect("it works");
    let _client = TcpStream::connect(address).expect("connects");
    std::thread::sleep(Duration::from_millis(5));
    items.cancel();
    reactor.with_ring(|ring| ring.submit_all()).expect("it works");
    std::thread::sleep(Duration::from_millis(5));
    items.cancel(); // Takes what has come, and keeps it where the stream does not look.
    let item = reactor.block_on(items.next()).expect("ok");
    let end = items.end();
    assert!(item.is_some(), "skipped: {end:?}");
}

/// A wait through `with_ring` of another operation.
#[test]
fn a_wait_in_with_ring_keeps_the_items_of_streams() {
    let reactor = reactor(8);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let mut items = reactor.items(AcceptMulti::new(listener));
    assert!(once(pin!(items.next())).is_pending());
    reactor.turn(0).expect("it works");
    let _client = TcpStream::connect(address).expect("connects");
    let wait = || {
        reactor.with_ring(|ring| {
            let timer =
                ring.submit(annulus::op::Timeout::new(Duration::from_millis(5))).expect("ok");
            let _ = ring.wait(timer).expect("ok");
        })
    };
    wait();
    items.cancel();
    wait();
    let item = reactor.block_on(items.next()).expect("ok");
    let end = items.end();
    assert!(item.is_some(), "skipped: {end:?}");
}

/// Writes into pipes after a time that is far longer than a slow machine takes, so that a test
/// that waits for nothing else ends. Says whether it has.
fn rescue_later(writers: Vec<PipeWriter>) -> Arc<AtomicBool> {
    let is_rescued = Arc::new(AtomicBool::new(false));
    let rescued = Arc::clone(&is_rescued);
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(60));
        rescued.store(true, Ordering::Relaxed);
        for mut writer in writers {
            let _ = writer.write_all(b"rescue");
        }
    });
    is_rescued
}

/// SQPOLL: the queue is full, the polling thread makes room, and block_on sleeps.
#[test]
fn sqpoll_queue_full_is_tried_again() {
    let ring = Setup::new(2).cq_entries(64).sqpoll(Duration::from_millis(1)).build_for();
    let Ok(ring) = ring
        .or_else(|_| Setup::plain(2).cq_entries(64).sqpoll(Duration::from_millis(1)).build_for())
    else {
        return eprintln!("skipped: no polling thread");
    };
    let reactor = Reactor::new(ring);
    let mut writers = Vec::new();
    let mut reads = Vec::new();
    for _ in 0..40 {
        let (read, writer) = silent(&reactor);
        reads.push(read);
        writers.push(writer);
    }
    let is_rescued = rescue_later(writers);
    reactor
        .block_on(async {
            let mut nop = reactor.run(Nop);
            poll_fn(|context| {
                for read in &mut reads {
                    if Pin::new(&mut *read).poll(context).is_ready() {
                        return Poll::Ready(());
                    }
                }
                Pin::new(&mut nop).poll(context).map(drop)
            })
            .await;
        })
        .expect("ok");
    assert!(!is_rescued.load(Ordering::Relaxed), "it waited until somebody wrote");
}

/// A future whose poll panics, because the ring is in use, keeps its grant forever.
#[test]
fn a_poll_in_with_ring_leaks_its_place() {
    let reactor = reactor(2);
    let (mut a, mut wa) = silent(&reactor);
    let (mut b, wb) = silent(&reactor);
    let mut waits = reactor.run(Nop);
    let _ = (once(Pin::new(&mut a)), once(Pin::new(&mut b)), once(Pin::new(&mut waits)));
    let poll = || {
        reactor.with_ring(|_| {
            let _ = once(Pin::new(&mut waits));
        })
    };
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(poll)).is_err());
    drop(waits);
    wa.write_all(b"x").expect("room");
    let is_rescued = rescue_later(vec![wb]);
    reactor
        .block_on(async {
            drop(a.await);
            drop(reactor.run(Nop).await)
        })
        .expect("ok");
    assert!(!is_rescued.load(Ordering::Relaxed), "it waited until somebody wrote");
}

/// An IOPOLL ring's descriptor.
#[test]
fn iopoll_has_no_descriptor_to_wait_at() {
    let setup = Setup::plain(8).with(annulus::sys::flags::SetupFlags::IOPOLL);
    let Ok(ring) = setup.build_for() else { return };
    assert!(Reactor::new(ring).fd().is_err(), "nobody would be woken");
}

/// `timeout` of a future of two operations, in a ring of two slots.
#[test]
fn a_timeout_ends_even_if_its_future_fills_the_ring() {
    let reactor = reactor(2);
    let ((mut a, wa), (mut b, wb)) = (silent(&reactor), silent(&reactor));
    let _rescue = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(3));
        for mut writer in [wa, wb] {
            let _ = writer.write_all(b"rescue");
        }
    });
    let both = poll_fn(move |context| {
        let a = Pin::new(&mut a).poll(context).is_ready();
        let b = Pin::new(&mut b).poll(context).is_ready();
        if a || b { Poll::Ready(()) } else { Poll::Pending }
    });
    let start = Instant::now();
    let timed = reactor.block_on(reactor.timeout(Duration::from_millis(1), both)).expect("ok");
    assert!(timed.is_none(), "after {:?} of a timeout of 1 ms", start.elapsed());
}

struct Flag(std::sync::atomic::AtomicBool);
impl std::task::Wake for Flag {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

/// The kernel has no memory for a request: the driver sleeps on an entry that was not submitted.
#[test]
fn the_driver_does_not_sleep_on_queued_entries() {
    use annulus::sim::{Faults, Sim};
    let mut lost = 0;
    for seed in 0..50 {
        let sim = Sim::with_faults(seed, Faults { again: Faults::SOME.again * 4, ..Faults::NONE });
        let reactor =
            Reactor::new(Setup::plain(4).kernel(sim.kernel()).build_for().expect("a ring"));
        let (reader, _writer) = sim.pipe().expect("a pipe");
        let mut read = reactor.run(Read::new(reader, vec![0_u8; 8]));
        let flag = std::sync::Arc::new(Flag(true.into()));
        let waker = Waker::from(std::sync::Arc::clone(&flag));
        let mut driver = pin!(reactor.drive(|_| Poll::Pending));
        let mut drive = || {
            while flag.0.swap(false, std::sync::atomic::Ordering::Relaxed) {
                assert!(driver.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            }
        };
        let _ = once(Pin::new(&mut read));
        drive();
        for _ in 0..20 {
            let mut nop = reactor.run(Nop);
            let _ = once(Pin::new(&mut nop));
            drive();
            // Nothing wakes the driver any more.
            if once(Pin::new(&mut nop)).is_pending() {
                lost += 1;
            }
        }
    }
    assert_eq!(lost, 0, "operations were left in the submission queue");
}

/// Each wake by another thread is a message, even if the task is awake already.
#[test]
fn wakes_by_another_thread_do_not_pile_up() {
    let reactor = reactor(4);
    let messages = reactor
        .block_on(poll_fn(|context| {
            let waker = context.waker().clone();
            std::thread::spawn(move || {
                for _ in 0..100_000 {
                    waker.wake_by_ref()
                }
            })
            .join()
            .expect("ok");
            let mut messages = 0;
            reactor.with_ring(|ring| {
                while ring
                    .reap(|event| {
                        messages += u32::from(matches!(event, annulus::Event::Message(_)))
                    })
                    .expect("ok")
                    > 0
                {}
            });
            Poll::Ready(messages)
        }))
        .expect("ok");
    assert!(messages <= 2, "{messages} messages lay in the ring");
}

/// An error that passes is no refusal for good.
#[test]
fn no_memory_for_a_moment_is_no_refusal_for_good() {
    use annulus::sim::{Faults, Sim};
    let mut refused = Vec::new();
    for seed in 0..100 {
        let sim = Sim::with_faults(seed, Faults { again: Faults::SOME.again * 4, ..Faults::NONE });
        let reactor = Reactor::new(
            Setup::plain(2).cq_entries(16).kernel(sim.kernel()).build_for().expect("a ring"),
        );
        let mut nops: Vec<_> = (0..8).map(|_| reactor.run(Nop)).collect();
        for nop in &mut nops {
            if let Poll::Ready(Err(rejected)) = once(Pin::new(nop)) {
                refused.push(rejected.why);
            }
        }
    }
    assert!(refused.is_empty(), "{} refused for good: {:?}", refused.len(), refused.first());
}

/// Two drivers, of which the later one is dropped.
#[test]
fn a_driver_that_is_dropped_leaves_the_other_one_in_charge() {
    let reactor = Reactor::new(Setup::plain(8).build_for().expect("a ring"));
    let flag = std::sync::Arc::new(Flag(false.into()));
    let waker = Waker::from(std::sync::Arc::clone(&flag));
    let mut first = pin!(reactor.drive(|_| Poll::Pending));
    assert!(first.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    assert!(once(pin!(reactor.drive(|_| Poll::Pending))).is_pending());
    let mut nop = reactor.run(Nop);
    assert!(once(Pin::new(&mut nop)).is_pending());
    assert!(flag.0.load(std::sync::atomic::Ordering::Relaxed), "nobody drives");
}

/// Another ring in its place.
#[test]
fn another_ring_in_its_place_is_told() {
    let reactor = reactor(2);
    let other = Setup::new(8).cq_entries(16).build_for().expect("a ring");
    let (mut read, _writer) = silent(&reactor);
    assert!(once(Pin::new(&mut read)).is_pending());
    let replaced = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        drop(reactor.with_ring(|ring| std::mem::replace(ring, other)));
    }));
    assert!(replaced.is_err(), "the reactor goes on with a ring that it does not know");
    drop(read); // Of the ring that is gone.
}

/// A polling thread that sleeps now and then is to make room, and signals end waits.
#[test]
fn a_full_queue_of_a_thread_that_dozes_loses_no_task() {
    use annulus::sim::{Faults, Sim};
    for seed in 0..300 {
        let faults = Faults { interrupt: 300, doze: 200, delay: 300, ..Faults::NONE };
        let sim = Sim::with_faults(seed, faults);
        let setup = Setup::new(2).cq_entries(64).sqpoll(Duration::from_millis(1));
        let ring = setup.kernel(sim.kernel()).build_for().expect("a ring");
        let (reactor, tasks) = (Reactor::new(ring), Tasks::new());
        for _ in 0..40 {
            let nop = reactor.run(Nop);
            tasks.spawn(async move { drop(nop.await.expect("it is accepted")) });
        }
        tasks.run(&reactor);
    }
}

/// `block_on` makes a sender, at whose eventfd the ring polls: that keeps no wait alive that can
/// never end.
#[test]
fn a_future_is_run_to_its_end_on_a_simulated_kernel() {
    use annulus::sim::{Faults, Sim};
    for seed in 0..100 {
        let sim = Sim::with_faults(seed, Faults::SOME);
        let ring = Setup::new(4).kernel(sim.kernel()).build_for().expect("a ring");
        let reactor = Reactor::new(ring);
        let (reader, writer) = sim.pipe().expect("a pipe");
        sim.after(Duration::from_millis(1), move |sim| drop(sim.write(&writer, b"later")));
        let read = reactor.run(Read::new(reader, vec![0_u8; 8]));
        let outcome = reactor.block_on(read).expect("the wait ends").expect("it is accepted");
        assert!(matches!(outcome.result, Ok(1..)), "seed {seed}: {:?}", outcome.result);
        let never = reactor.block_on(std::future::pending::<()>());
        assert_eq!(never.expect_err("nothing can happen").raw_os_error(), Some(libc::EDEADLK));
    }
}
