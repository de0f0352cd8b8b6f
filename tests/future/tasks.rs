//! An executor of a few lines: tasks of one thread, and a queue of those that are ready.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use annulus::future::Reactor;

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// How a task ended its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Done,
    Panicked,
    Dropped,
    Forgotten,
}

pub struct Tasks {
    tasks: RefCell<Vec<Option<Task>>>,
    pub ends: RefCell<Vec<Option<End>>>,
    /// Nothing is done with them while the program runs; then they go, so that no descriptor leaks.
    forgotten: RefCell<Vec<Task>>,
    ready: Arc<Mutex<VecDeque<usize>>>,
}

struct Woken {
    task: usize,
    ready: Arc<Mutex<VecDeque<usize>>>,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.ready.lock().expect("no panic").push_back(self.task);
    }
}

impl Tasks {
    pub fn new() -> Self {
        let (tasks, ends, forgotten) = Default::default();
        Self { tasks, ends, forgotten, ready: Arc::default() }
    }

    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) -> usize {
        let number = self.tasks.borrow().len();
        self.tasks.borrow_mut().push(Some(Box::pin(task)));
        self.ends.borrow_mut().push(None);
        self.ready.lock().expect("no panic").push_back(number);
        number
    }

    /// Ends a task from outside.
    pub fn end(&self, number: usize, how: End) {
        let task = self.tasks.borrow_mut()[number].take();
        if let Some(task) = task {
            self.ends.borrow_mut()[number] = Some(how);
            match how {
                End::Forgotten => self.forgotten.borrow_mut().push(task),
                _ => drop(task),
            }
        }
    }

    pub fn left(&self) -> usize {
        self.tasks.borrow().iter().flatten().count()
    }

    pub fn alive(&self) -> Vec<usize> {
        let tasks = self.tasks.borrow();
        tasks.iter().enumerate().filter(|(_, task)| task.is_some()).map(|(at, _)| at).collect()
    }

    /// Polls every task that is ready.
    pub fn poll(&self) {
        loop {
            let Some(number) = self.ready.lock().expect("no panic").pop_front() else { return };
            let Some(mut task) = self.tasks.borrow_mut()[number].take() else { continue };
            let woken = Arc::new(Woken { task: number, ready: Arc::clone(&self.ready) });
            let waker = Waker::from(woken);
            let mut context = Context::from_waker(&waker);
            let polled = catch_unwind(AssertUnwindSafe(|| task.as_mut().poll(&mut context)));
            let end = match polled {
                Ok(Poll::Pending) => {
                    self.tasks.borrow_mut()[number] = Some(task);
                    continue;
                }
                Ok(Poll::Ready(())) => End::Done,
                Err(_) => End::Panicked,
            };
            self.ends.borrow_mut()[number] = Some(end);
        }
    }

    /// Runs all tasks to their end.
    pub fn run(&self, reactor: &Reactor) {
        loop {
            self.poll();
            if self.left() == 0 {
                return;
            }
            reactor.turn(1).expect("the ring goes on");
        }
    }
}
