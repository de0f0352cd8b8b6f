//! Tasks of one thread, polled in rounds; between two rounds the reactor turns.
//!
//! ```text
//!   spawn ─► tasks ◄── poll ── a round ◄── ready ◄── wake ◄── turn: submit, wait, take
//!                                │                             ▲
//!                                └── all were polled ──────────┘ waits only if none is ready
//! ```

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use annulus::future::Reactor;
use annulus::{EnterError, Ring};

use super::ready::Ready;

/// A runtime of one thread. Cheap to clone.
#[derive(Clone)]
pub struct Runtime(Rc<Inner>);

struct Inner {
    reactor: Reactor,
    ready: Arc<Ready>,
    /// By number; `None` while a task is polled, and when it is done.
    tasks: RefCell<Vec<Option<Task>>>,
    /// Numbers of tasks that are done.
    vacated: RefCell<Vec<usize>>,
}

struct Task {
    future: Pin<Box<dyn Future<Output = ()>>>,
    waker: Waker,
}

impl Runtime {
    /// A runtime on this ring.
    pub fn new(ring: Ring<Option<Waker>>) -> io::Result<Self> {
        let reactor = Reactor::new(ring);
        let ready = Ready::new(reactor.with_ring(Ring::sender)?);
        let (tasks, vacated) = Default::default();
        Ok(Self(Rc::new(Inner { reactor, ready, tasks, vacated })))
    }

    /// What makes futures of operations.
    pub fn reactor(&self) -> &Reactor {
        &self.0.reactor
    }

    // ANCHOR: spawn
    /// Runs a future alongside the others. The handle is a future of its output; a task whose
    /// handle is dropped runs on.
    pub fn spawn<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> Handle<T> {
        let end = Rc::new(RefCell::new(End { output: None, waiter: None }));
        let theirs = Rc::clone(&end);
        let future = Box::pin(async move {
            let output = future.await;
            theirs.borrow_mut().output = Some(output);
            let waiter = theirs.borrow_mut().waiter.take();
            waiter.into_iter().for_each(Waker::wake);
        });
        let mut tasks = self.0.tasks.borrow_mut();
        let number = self.0.vacated.borrow_mut().pop().unwrap_or(tasks.len());
        if number == tasks.len() {
            tasks.push(None);
        }
        tasks[number] = Some(Task { future, waker: self.0.ready.waker(number) });
        self.0.ready.push(number);
        Handle(end)
    }
    // ANCHOR_END: spawn

    // ANCHOR: block_on
    /// Runs until `main` is done. The other tasks are dropped then, and so their operations are
    /// cancelled.
    pub fn block_on<T: 'static>(
        &self,
        main: impl Future<Output = T> + 'static,
    ) -> Result<T, EnterError> {
        let main = self.spawn(main);
        let outcome = loop {
            let more = self.0.ready.round(|task| self.poll(task));
            let output = main.0.borrow_mut().output.take();
            if let Some(output) = output {
                break Ok(output);
            }
            // Another thread that wakes a task from here on sends a message, which ends the wait.
            if let Err(error) = self.0.reactor.turn(u32::from(!more)) {
                break Err(error);
            }
        };
        self.drop_tasks();
        outcome
    }
    // ANCHOR_END: block_on

    // ANCHOR: poll
    /// Polls one task, which may spawn others, or drop anything.
    fn poll(&self, number: usize) {
        // Taken out meanwhile, so that the task may spawn; waking a task that is done does nothing.
        let taken = self.0.tasks.borrow_mut().get_mut(number).and_then(Option::take);
        let Some(mut task) = taken else { return };
        match task.future.as_mut().poll(&mut Context::from_waker(&task.waker)) {
            Poll::Pending => self.0.tasks.borrow_mut()[number] = Some(task),
            Poll::Ready(()) => self.0.vacated.borrow_mut().push(number),
        }
    }
    // ANCHOR_END: poll

    /// Tasks hold the runtime, and it holds them: without this, neither would go.
    fn drop_tasks(&self) {
        self.0.vacated.borrow_mut().clear();
        loop {
            let task = self.0.tasks.borrow_mut().pop();
            // With nothing borrowed: a task that goes may do anything.
            let Some(_task) = task else { return };
        }
    }
}

/// The output of a task, as a future.
pub struct Handle<T>(Rc<RefCell<End<T>>>);

struct End<T> {
    output: Option<T>,
    /// Who waits for it.
    waiter: Option<Waker>,
}

impl<T> Future for Handle<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let mut end = self.0.borrow_mut();
        match end.output.take() {
            Some(output) => Poll::Ready(output),
            None => {
                end.waiter = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}
