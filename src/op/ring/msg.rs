//! Messages from one ring to another.
//!
//! ```text
//!   this ring: submit(Message) ──► MSG_RING ──► completion of kind 2 ──► Event::Message: that ring
//!                                         └──► sent, or why not          ──► the ticket: this ring
//! ```
//!
//! The kernel would post any `user_data`, even one that ends an operation in flight. So a message
//! goes only where a [`RingSender`] leads, and its `user_data` has a kind of its own (OP2).
//!
//! Leaves to others: senders (`sender`), and what a message means.
#![allow(unsafe_code, reason = "writes entries")]

use std::io;
use std::sync::Arc;

use annulus_sys::abi::Sqe;
use annulus_sys::rings::Base;

use crate::lease::mailbox;
use crate::lease::mailbox::{RingSender, SendError};
use crate::op::{Done, Op};
use crate::prep;

/// Sends a message to the ring of a [`RingSender`], which may be this ring, with the next submit:
/// many messages take one system call. Since Linux 5.18. Without a ring, and on older kernels, use
/// [`RingSender::send`].
///
/// A message is a number of 62 bits, and nothing else: send what is larger through a channel, and
/// the number to say so. It completes here although nobody has looked at it there, and a ring that
/// nobody looks at keeps it.
///
/// # Completion
///
/// Once, when the other ring has the message: it appears there as
/// [`Event::Message`](crate::Event::Message).
///
/// # Errors
///
/// `EINVAL` before Linux 5.18. `EOVERFLOW` when there is no memory for the other ring's
/// completions. `EOWNERDEAD` when the other ring's thread has ended. `EBADF` in a forked child for
/// a sender that its parent made.
///
/// # Cancellation
///
/// It runs at once, and cannot be cancelled.
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
#[doc(alias("io_uring_prep_msg_ring_cqe_flags", "IORING_MSG_DATA"))]
#[derive(Debug)]
pub struct Message {
    /// Keeps the other ring's descriptor open.
    to: Arc<Base>,
    /// The other ring keeps waiting for messages as long as it has a sender.
    _sender: RingSender,
    message: u64,
}

impl Message {
    /// Sends `message`, at most [`MAX_MESSAGE`](crate::lease::mailbox::MAX_MESSAGE), to the ring of
    /// `to`.
    ///
    /// # Errors
    ///
    /// [`SendError::TooWide`] when `message` is larger than that, [`SendError::Closed`] when the
    /// other ring is gone, and [`SendError::NoDescriptor`] when it has no descriptor.
    pub fn new(to: &RingSender, message: u64) -> Result<Self, SendError> {
        Ok(Self { to: to.ring(message)?, _sender: to.clone(), message })
    }
}

// SAFETY: OP1: the entry points to nothing, and its descriptor is of `to`. It completes once; the
// completion that it posts on the other ring has a `user_data` of a kind that ends no operation
// (OP2).
unsafe impl Op for Message {
    type Output = io::Result<()>;

    fn prep(&mut self) -> Sqe {
        prep::msg_ring(mailbox::named(&self.to), 0, mailbox::user_data(self.message))
    }

    fn finish(self, done: Done) -> io::Result<()> {
        done.result().map(drop)
    }
}
