//! Messages to a ring from other threads, and how they wake it.
//!
//! ```text
//!   another thread: RingSender::send(7) ──► MSG_RING, no ring needed (Linux 6.13)  ─┐
//!                                       └─► before: a queue, and an eventfd that    ─┤
//!                                           is readable while there is anything in it│
//!   another ring:   submit(Message)     ──► MSG_RING (Linux 5.18)                   ─┤
//!                                                                                    ▼
//!   the ring's thread:                            reap ─► Event::Message(7)
//! ```
//!
//! A completion that another ring sends may carry any `user_data`, and a forged one would end an
//! operation that the kernel still has. So only a [`RingSender`] sends, and its messages have a
//! kind of their own in the upper two bits (OP2), which leaves them 62 bits.
//!
//! Only the ring keeps its mailbox alive. A sender looks it up for each message, and so cannot send
//! to a ring that is gone. The way that messages take is decided once, when the first sender is
//! made.
//!
//! Leaves to others: the poll on the eventfd (`internal`), and the operation (`op::Message`).
//!
//! # Example
//!
//! ```
//! use annulus::{Event, Setup};
//!
//! let mut ring = Setup::new(4).build()?;
//! let sender = ring.sender()?;
//! let thread = std::thread::spawn(move || sender.send(7));
//! let mut message = None;
//! while message.is_none() {
//!     ring.submit_and_wait(1)?;
//!     ring.reap(|event| {
//!         if let Event::Message(number) = event {
//!             message = Some(number);
//!         }
//!     })?;
//! }
//! assert_eq!(message, Some(7));
//! thread.join().expect("no panic")?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![allow(unsafe_code, reason = "pushes entries")]

use std::io;
use std::sync::Arc;

use crate::lease::mailbox::{Mailbox, RingSender, SendError};
use crate::ring::Ring;

/// # Messages from other threads
impl<U: Default> Ring<U> {
    /// A sender with which other threads send messages to this ring. While a sender exists, no wait
    /// is refused as one that could never end. Where messages come through a poll (before Linux
    /// 6.13, or without a descriptor), the ring accepts no [drained](crate::op::Op::drained)
    /// operation from now on: it would never begin.
    ///
    /// When another thread drops the last clone of a sender, a wait of the ring ends, without an
    /// event. If nothing else can come, the next wait says so.
    ///
    /// Messages do not wait for the ring to read them, so a fast sender can pile up any number. To
    /// bound that, keep the work in a queue of your own, and send one message when it was empty.
    ///
    /// # Errors
    ///
    /// Before Linux 6.13: when no eventfd can be made; `Unsupported` for a ring with `IOPOLL`; and
    /// `ResourceBusy` while a [drained](crate::op::Op::drained) operation may hold up others.
    /// [`SendError::Closed`] in a forked child.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::{Event, Setup};
    ///
    /// let mut ring = Setup::new(8).build()?;
    /// let sender = ring.sender()?; // Clone it for more threads.
    /// std::thread::spawn(move || sender.send(42));
    /// ring.submit_and_wait(1)?;
    /// ring.reap(|event| assert!(matches!(event, Event::Message(42))))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn sender(&mut self) -> io::Result<RingSender> {
        if !self.process.is_this() {
            return Err(io::Error::other(SendError::Closed));
        }
        if self.internal.mailbox().is_none() {
            let mailbox = Arc::new(Mailbox::new(self.raw.base())?);
            // Its poll would wait behind a drained entry, and messages would not wake the ring.
            if mailbox.eventfd().is_some() && self.slab.may_wait() {
                let past = self.go_past_drained();
                past.map_err(|why| io::Error::new(io::ErrorKind::ResourceBusy, why))?;
            }
            self.internal.open(mailbox);
            self.raw.expect_messages();
            self.serve_sender();
        }
        let mailbox = self.internal.mailbox().expect("it was just opened");
        Ok(RingSender::to(mailbox))
    }

    /// Arms the poll on the mailbox if it is due, and makes room for it if necessary. If that
    /// fails, it is tried again the next time.
    #[cold]
    pub(crate) fn serve_sender(&mut self) {
        let Some(sqe) = self.internal.watch() else { return };
        if self.raw.room() == 0 && self.raw.wait_for_room().is_err() {
            return;
        }
        // SAFETY: the entry points to nothing (OP1), and the eventfd stays open as long as the
        // ring.
        if unsafe { self.raw.push_known(sqe) }.is_ok() {
            self.internal.watching();
        }
    }
}
