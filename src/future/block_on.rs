//! Running a future to its end on this thread, with nothing but the ring to wait at.
//!
//! ```text
//!   woken? ── poll the future ─► turn, which waits unless the future was woken meanwhile
//!     ▲                            ▲
//!     └── wake, on this thread     └── a message to the ring: wake, on another one
//! ```

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, ThreadId};

use super::reactor::Reactor;
use crate::lease::mailbox::RingSender;

/// Whether the future is to be polled, and how to end the wait of its thread.
struct Signal {
    woken: Mutex<bool>,
    sender: RingSender,
    thread: ThreadId,
}

impl Signal {
    fn woken(&self) -> MutexGuard<'_, bool> {
        self.woken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let was_woken = std::mem::replace(&mut *self.woken(), true);
        if !was_woken && thread::current().id() != self.thread {
            // Without a ring there is no wait to end.
            let _ = self.sender.send(0);
        }
    }
}

impl Reactor {
    /// Runs `future` to its end, and returns its output. Waits in the ring, so one system call
    /// submits what the future wants and waits for it. Other threads may wake the future: the ring
    /// gets a [sender](crate::Ring::sender) for that.
    ///
    /// To run several futures at once, give a future that polls them: that of an executor, or
    /// `join!` of a crate of your choice.
    ///
    /// # Errors
    ///
    /// When the ring fails, and when no sender can be made for it, as
    /// [`Ring::sender`](crate::Ring::sender). The future is dropped then.
    pub fn block_on<F: Future>(&self, future: F) -> io::Result<F::Output> {
        let sender = self.ring().sender()?;
        let thread = thread::current().id();
        let signal = Arc::new(Signal { woken: Mutex::new(true), sender, thread });
        let waker = Waker::from(Arc::clone(&signal));
        let mut context = Context::from_waker(&waker);
        let mut future = pin!(future);
        loop {
            let woken = std::mem::take(&mut *signal.woken());
            if woken && let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return Ok(output);
            }
            let waits = !*signal.woken();
            self.turn(u32::from(waits))?;
            if self.has_pushed() {
                thread::yield_now(); // The kernel has no memory for more requests now.
            }
        }
    }
}
