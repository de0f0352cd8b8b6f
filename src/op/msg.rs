//! Messages from one ring to another.
//!
//! ```text
//!   this ring: submit(Message) ──► MSG_RING ──► completion of kind 2 ──► Event::Message: that ring
//!                                         └──► sent, or why not          ──► the ticket: this ring
//! ```
//!
//! The kernel would post any word, also one that ends an operation it still has; so a message goes
//! only where a [`RingSender`] leads, and is of a kind of its own (OP2).
//!
//! Leaves to others: senders (`sender`), and what a message means.
#![allow(unsafe_code, reason = "writes entries")]

use std::io;
use std::sync::Arc;

use annulus_sys::abi::Sqe;
use annulus_sys::rings::Base;

use super::{Done, Op};
use crate::prep;
use crate::sender::{self, RingSender, SendError};

/// Sends a message to the ring of a [`RingSender`], which may be this one, with the next submit:
/// many messages, one system call. Since Linux 5.18. From a thread without a ring, and on older
/// kernels, there is [`RingSender::send`].
///
/// # Completion
///
/// Once, when the message is in the other ring's hands: it shows up there as
/// [`Event::Message`](crate::Event::Message).
///
/// # Errors
///
/// `EINVAL` before Linux 5.18; `EOVERFLOW` when that ring has more completions than there is memory
/// for, and `EOWNERDEAD` when its thread has ended; `EBADF` in a forked child for what its parent
/// made.
///
/// # Cancellation
///
/// It is done at once, and cannot be cancelled.
///
/// # Example
///
/// ```
/// use annulus::{Event, Setup};
/// use annulus::op::Message;
///
/// let (mut here, mut there) = (Setup::new(4).build()?, Setup::new(4).build()?);
/// let message = Message::new(&there.sender()?, 7)?;
/// let ticket = here.submit(message)?;
/// # if !annulus::Capabilities::detect()?.has_op(annulus::sys::opcode::Opcode::MSG_RING) {
/// #     return Ok(());
/// # }
/// here.wait(ticket)??;
/// there.submit_and_wait(1)?;
/// there.reap(|event| assert!(matches!(event, Event::Message(7))))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "IORING_OP_MSG_RING")]
#[doc(alias = "io_uring_prep_msg_ring")]
#[derive(Debug)]
pub struct Message {
    /// Keeps that ring's descriptor open.
    to: Arc<Base>,
    /// That ring waits as long as it has a sender.
    _sender: RingSender,
    message: u64,
}

impl Message {
    /// `message`, of at most [`MAX_MESSAGE`](crate::sender::MAX_MESSAGE), to the ring of `to`.
    ///
    /// # Errors
    ///
    /// [`SendError::TooWide`], [`SendError::Closed`] when that ring is gone, and
    /// [`SendError::Nameless`] when it has no descriptor.
    pub fn new(to: &RingSender, message: u64) -> Result<Self, SendError> {
        Ok(Self { to: to.ring(message)?, _sender: to.clone(), message })
    }
}

// SAFETY: OP1: the entry points to nothing, and its descriptor is of `to`. It completes once; what
// it posts elsewhere has a word of a kind that ends no operation (OP2).
unsafe impl Op for Message {
    type Output = io::Result<()>;

    fn prep(&mut self) -> Sqe {
        prep::msg_ring(sender::named(&self.to), 0, sender::word(self.message))
    }

    fn finish(self, done: Done) -> io::Result<()> {
        done.result().map(drop)
    }
}
