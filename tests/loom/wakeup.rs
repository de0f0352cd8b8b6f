//! Who may sleep: a polling thread that fell asleep while an entry was visible is woken (SQ5), and
//! an eventfd that may signal again misses no completion.
//!
//! ```text
//!   we:      tail = t   fence   NEED_WAKEUP?          ─► yes: wake
//!   kernel:  NEED_WAKEUP = 1   fence   tail == head?  ─► yes: sleep
//! ```
//!
//! Each side stores one atomic and then loads the other's. Without the fences both loads may come
//! before both stores: the kernel sleeps although there is an entry, and nothing will wake it.

use std::sync::Arc;

use loom::sync::atomic::{Ordering::SeqCst, fence};
use loom::sync::{Condvar, Mutex};
use loom::thread;

use annulus_sys::cq::CompletionQueue;
use annulus_sys::flags::{CqRingFlags, SqRingFlags};
use annulus_sys::sq::SubmissionQueue;

use crate::model::{check, completion, entry, push, until};
use crate::support::fake_kernel::{FakeKernel, Shape};

/// Where the polling thread sleeps. Waking it while it is awake does nothing.
pub struct Bed {
    state: Mutex<State>,
    bell: Condvar,
}

#[derive(Default)]
struct State {
    occupied: bool,
    /// No wake-up will come any more. Loom would call it a deadlock, and abort.
    over: bool,
}

/// How a sleep ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Awake {
    /// Woken.
    Rung,
    /// No wake-up came, and none will.
    Over,
}

impl Bed {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State::default()), bell: Condvar::new() })
    }

    /// Prepares to sleep: from here on a [`wake`](Self::wake) counts.
    pub fn lie_down(&self) {
        self.state.lock().unwrap().occupied = true;
    }

    /// Gets up again without having slept.
    pub fn get_up(&self) {
        self.state.lock().unwrap().occupied = false;
    }

    /// Sleeps until woken.
    pub fn sleep(&self) -> Awake {
        let mut state = self.state.lock().unwrap();
        while state.occupied && !state.over {
            state = self.bell.wait(state).unwrap();
        }
        if state.occupied { Awake::Over } else { Awake::Rung }
    }

    /// What enter does with `SQ_WAKEUP`.
    pub fn wake(&self) {
        self.state.lock().unwrap().occupied = false;
        self.bell.notify_one();
    }

    /// Declares that no [`wake`](Self::wake) will follow.
    pub fn no_more(&self) {
        self.state.lock().unwrap().over = true;
        self.bell.notify_one();
    }
}

/// The polling thread: consumes the entries that it sees, and sleeps when it sees none.
fn poll(mut kernel: FakeKernel, bed: &Bed, count: u64) {
    let mut number = 0;
    while number < count {
        if let Some(sqe) = kernel.consume() {
            assert_eq!(sqe, entry(number));
            number += 1;
            continue;
        }
        bed.lie_down();
        if kernel.may_sleep() {
            assert_eq!(bed.sleep(), Awake::Rung, "SQ5: slept over a published entry");
            kernel.sq_flags.store(SqRingFlags::empty().bits());
        } else {
            bed.get_up();
        }
    }
}

/// Passes `count` entries to a polling thread, one by one, through a ring of `entries`.
fn polled(count: u64, entries: u32) {
    let (mut sq, _cq, kernel) = FakeKernel::new(Shape::plain(entries));
    let bed = Bed::new();
    let peer = thread::spawn({
        let bed = Arc::clone(&bed);
        move || poll(kernel, &bed, count)
    });
    for number in 0..count {
        until(|| push(&mut sq, entry(number)).ok());
        flush_and_wake(&mut sq, &bed);
    }
    bed.no_more();
    peer.join().expect("the kernel's thread");
    assert_eq!(sq.unconsumed(), 0, "a published entry was left lying");
}

fn flush_and_wake(sq: &mut SubmissionQueue, bed: &Bed) {
    sq.flush();
    if sq.needs_wakeup() {
        bed.wake();
    }
}

#[test]
fn sq5_no_wakeup_is_lost() {
    check("1 entry, SQPOLL", || polled(1, 1));
}

#[test]
fn sq5_no_wakeup_is_lost_after_the_first() {
    check("2 entries, SQPOLL", || polled(2, 2));
}

#[test]
fn sq5_no_wakeup_is_lost_when_slots_are_reused() {
    check("2 entries through 1 slot, SQPOLL", || polled(2, 1));
}

/// Lets the kernel signal again, and looks into the ring, while the kernel posts a completion. The
/// kernel has a full barrier between its tail and its load of our flags (`wq_has_sleeper`).
fn resumed(resume_and_look: fn(&mut CompletionQueue) -> bool) {
    let (_sq, mut cq, mut kernel) = FakeKernel::new(Shape::plain(1));
    assert!(cq.set_flags(CqRingFlags::EVENTFD_DISABLED));
    let peer = thread::spawn(move || {
        assert!(kernel.post(completion(0)));
        fence(SeqCst);
        kernel.cq_flags.now() & CqRingFlags::EVENTFD_DISABLED.bits() == 0
    });
    let seen = resume_and_look(&mut cq);
    let signalled = peer.join().expect("the kernel's thread");
    assert!(seen || signalled, "nobody waits for a completion that signals nothing");
}

#[test]
fn an_eventfd_that_resumes_misses_no_completion() {
    check("1 completion, resumed by the ring", || {
        resumed(|cq| cq.set_flags(CqRingFlags::empty()) && cq.pop().is_some());
    });
    check("1 completion, resumed by a handle", || {
        resumed(|cq| {
            let watch = cq.watch();
            watch.set_flags(CqRingFlags::empty()) && watch.look() == Some(1)
        });
    });
}
