//! The queue of ready tasks, and the wakers that put them there.
//!
//! ```text
//!   wake ─► is it in the queue? ── no ──► [ 3 ][ 7 ][ 1 ] ─► a round: each is polled once
//!             └── yes: nothing to do        └── by another thread: and a message to the ring
//! ```

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};
use std::thread::{self, ThreadId};

use annulus::RingSender;

/// Tasks to be polled, and how to tell their thread that there are some.
pub struct Ready {
    queue: Mutex<Queue>,
    sender: RingSender,
    home: ThreadId,
}

#[derive(Default)]
struct Queue {
    order: Vec<usize>,
    /// Whether a task is queued, or its turn in this round is still to come; by its number.
    queued: Vec<bool>,
}

impl Ready {
    /// An empty queue, for tasks of this thread.
    pub fn new(sender: RingSender) -> Arc<Self> {
        Arc::new(Self { queue: Mutex::default(), sender, home: thread::current().id() })
    }

    /// A waker of a task.
    pub fn waker(self: &Arc<Self>, task: usize) -> Waker {
        Waker::from(Arc::new(TaskWaker { task, ready: Arc::clone(self) }))
    }

    // ANCHOR: queue
    /// Queues a task, unless it is queued. Returns whether the queue was empty.
    pub fn push(&self, task: usize) -> bool {
        let mut queue = self.queue();
        let was_empty = queue.order.is_empty();
        if queue.queued.len() <= task {
            queue.queued.resize(task + 1, false);
        }
        if !mem::replace(&mut queue.queued[task], true) {
            queue.order.push(task);
        }
        was_empty
    }

    /// Polls each task that is ready now, once. Returns whether more have become ready meanwhile.
    pub fn round(&self, poll: impl Fn(usize)) -> bool {
        let round = mem::take(&mut self.queue().order);
        for task in round {
            // First, so that a task that is woken from here on is polled again.
            self.queue().queued[task] = false;
            poll(task);
        }
        !self.queue().order.is_empty()
    }
    // ANCHOR_END: queue

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// ANCHOR: waker
struct TaskWaker {
    task: usize,
    ready: Arc<Ready>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        let was_empty = self.ready.push(self.task);
        // The thread looks at the queue before it waits, so only a queue that was empty when it
        // looked needs the message.
        if was_empty && thread::current().id() != self.ready.home {
            // Without a ring there is no thread that waits.
            let _ = self.ready.sender.send(0);
        }
    }
}
// ANCHOR_END: waker
