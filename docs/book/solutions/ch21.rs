//! Solutions of chapter 21: small futures on the small runtime, and a wake-up that is lost.

use std::cell::RefCell;
use std::future::poll_fn;
use std::mem;
use std::rc::Rc;
use std::task::{Poll, Waker};

use annulus::op::Read;
use annulus::sim::Sim;
use annulus::{EnterCause, Ring, Setup};

#[path = "../../../examples/mini_runtime/mod.rs"]
#[allow(dead_code, reason = "its echo server is not run here")]
mod mini_runtime;
#[path = "../../../examples/simulate_runtime/planted.rs"]
#[allow(dead_code, clippy::duplicate_mod, reason = "the same files, with another queue")]
mod planted;

/// A ring for a runtime, on a simulated kernel.
fn simulated(sim: &Sim) -> Ring<Option<Waker>> {
    Setup::new(8).kernel(sim.kernel()).build_for().expect("a simulated ring")
}

// ANCHOR: yield_now
/// Lets the other tasks go first.
async fn yield_now() {
    let mut has_asked = false;
    poll_fn(|context| {
        if mem::replace(&mut has_asked, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[test]
fn tasks_that_yield_take_turns() {
    let runtime = mini_runtime::Runtime::new(simulated(&Sim::new(1))).expect("an eventfd");
    let order = Rc::new(RefCell::new(Vec::new()));
    let tasks = [1, 2].map(|number| {
        let order = Rc::clone(&order);
        runtime.spawn(async move {
            for _ in 0..3 {
                order.borrow_mut().push(number);
                yield_now().await;
            }
        })
    });
    let all = async move {
        for task in tasks {
            task.await;
        }
    };
    runtime.block_on(all).expect("the ring goes on");
    assert_eq!(*order.borrow(), [1, 2, 1, 2, 1, 2]);
}
// ANCHOR_END: yield_now

// ANCHOR: enters
#[test]
fn four_tasks_that_read_share_an_enter() {
    let sim = Sim::new(1);
    let runtime = mini_runtime::Runtime::new(simulated(&sim)).expect("an eventfd");
    let enters = || runtime.reactor().with_ring(|ring| ring.stats().enters);
    let before = enters();
    let tasks = ["one", "two", "three", "four"].map(|text| {
        let file = sim.file(text.as_bytes()).expect("a descriptor");
        let read = runtime.reactor().run(Read::new(file, Vec::with_capacity(8)));
        runtime.spawn(async move { read.await.expect("room").buf })
    });
    let all = async move {
        let mut texts = Vec::new();
        for task in tasks {
            texts.push(task.await);
        }
        texts.concat()
    };
    assert_eq!(runtime.block_on(all).expect("the ring goes on"), b"onetwothreefour");
    assert_eq!(enters() - before, 1);
}
// ANCHOR_END: enters

// ANCHOR: lost
#[test]
fn a_task_that_wakes_itself_is_lost_by_the_planted_queue() {
    // In `planted`, a task counts as queued until its poll is over.
    let runtime = planted::Runtime::new(simulated(&Sim::new(1))).expect("an eventfd");
    let lost = runtime.block_on(yield_now()).expect_err("nobody wakes it any more").cause;
    // On Linux it would hang. The simulation knows that nothing can happen.
    assert!(matches!(lost, EnterCause::Other(errno) if errno.raw() == libc::EDEADLK), "{lost:?}");
    let runtime = mini_runtime::Runtime::new(simulated(&Sim::new(1))).expect("an eventfd");
    runtime.block_on(yield_now()).expect("it is polled again");
}
// ANCHOR_END: lost
