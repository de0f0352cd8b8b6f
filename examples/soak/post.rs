//! Messages to a ring, from another thread and from another ring, that come exactly once.
//!
//! ```text
//!   a thread: RingSender::send ──┐
//!   another ring: Message ───────┴─► the desk's messages: as many, and each of them once
//! ```

use std::cell::RefCell;
use std::rc::Rc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use annulus::op::Message;
use annulus::{RingSender, SendError};

use super::act::{Act, Hall};
use super::tally::Count;
use super::trouble::{Check, Trouble, equal, finding, may_end};

/// A thread that sends numbers below a million, and what another ring sends from there on.
pub struct Post {
    sender: RingSender,
    thread: Option<JoinHandle<Result<u64, String>>>,
    /// How many the thread has sent, once it has ended.
    by_thread: u64,
    /// The numbers that another ring has sent, and whether it is sending one.
    by_ring: Rc<RefCell<(Vec<u64>, bool)>>,
    next: u64,
    left: u32,
    /// Everything that was sent has come.
    arrived: bool,
    desk: usize,
    other: usize,
}

const FIRST_OF_RING: u64 = 1_000_000;

impl Post {
    pub fn new(hall: &mut Hall) -> Result<Self, Trouble> {
        let desks = u32::try_from(hall.desks.len()).unwrap_or(1);
        let (desk, other) = (hall.chance.below(desks) as usize, hall.chance.below(desks) as usize);
        let sender = hall.desks[desk].ring.sender()?;
        let (count, clone) = (hall.chance.below(300).into(), sender.clone());
        let rests = hall.chance.one_in(2);
        let send = move || {
            for number in 0..count {
                match clone.send(number) {
                    Ok(()) => {}
                    // The ring is gone, as it may be.
                    Err(SendError::Closed) => return Ok(number),
                    Err(error) => return Err(format!("message {number}: {error}")),
                }
                if rests && number % 8 == 0 {
                    thread::sleep(Duration::from_micros(300));
                }
            }
            Ok(count)
        };
        let thread = thread::Builder::new().spawn(send)?;
        Ok(Self {
            sender,
            thread: Some(thread),
            by_thread: 0,
            by_ring: Rc::default(),
            next: FIRST_OF_RING,
            left: hall.chance.below(10),
            arrived: false,
            desk,
            other,
        })
    }

    /// The thread has ended.
    fn join(&mut self) -> Check {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        match thread.join() {
            Ok(Ok(count)) => {
                self.by_thread = count;
                Ok(())
            }
            Ok(Err(what)) => finding(what),
            Err(_) => finding("a thread that sends messages panicked"),
        }
    }
}

impl Act for Post {
    fn step(&mut self, hall: &mut Hall) -> Check {
        if self.thread.as_ref().is_some_and(JoinHandle::is_finished) {
            self.join()?;
        }
        if self.left == 0 || self.by_ring.borrow().1 {
            let is_sending = self.thread.is_some() || self.by_ring.borrow().1;
            let sent = self.by_thread + self.by_ring.borrow().0.len() as u64;
            self.arrived = !is_sending && sent == hall.desks[self.desk].messages.len() as u64;
            return Ok(());
        }
        self.left -= 1;
        let (number, by_ring) = (self.next, Rc::clone(&self.by_ring));
        self.next += 1;
        let message = match Message::new(&self.sender, number) {
            Ok(message) => message,
            Err(error) => return finding(format!("message {number}: {error}")),
        };
        let sent = move |result| {
            let mut by_ring = by_ring.borrow_mut();
            by_ring.1 = false;
            match result {
                Ok(()) => by_ring.0.push(number),
                Err(error) => may_end("a message", &error)?,
            }
            Ok(())
        };
        let accepted = hall.desks[self.other].submit(message, sent)?;
        self.by_ring.borrow_mut().1 |= accepted;
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.arrived
    }

    fn end(mut self: Box<Self>, hall: &mut Hall, tidily: bool) -> Check {
        self.join()?;
        let mut came = std::mem::take(&mut hall.desks[self.desk].messages);
        hall.tally.add(Count::Messages, came.len() as u64);
        came.sort_unstable();
        if tidily {
            let sent: Vec<u64> =
                (0..self.by_thread).chain(self.by_ring.borrow().0.iter().copied()).collect();
            return equal("the messages that came", came, sent);
        }
        let count = came.len();
        came.dedup();
        equal("messages that came once", came.len(), count)
    }

    fn name(&self) -> &'static str {
        "messages"
    }
}
