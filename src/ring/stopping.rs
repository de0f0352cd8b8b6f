//! Stopping an operation, or giving up its output.
//!
//! | call | the operation | the output |
//! |---|---|---|
//! | [`Ring::cancel`], then wait | ends soon | yours |
//! | [`Ring::detach`] | goes on | dropped when it arrives |
//! | both, in this order | ends soon | dropped when it arrives |
//!
//! Leaves to others: the cancel as an entry (`Ring::cancel_user_data`), and as a system call
//! (`cancel_now`).

use crate::raw::register;
use crate::ring::{Redeem, Ring, Submitted};
use crate::setup::enter_error::EnterError;

/// # Stopping
impl<U: Default> Ring<U> {
    /// Asks the kernel to cancel the operation. The operation still completes, perhaps with
    /// success: keep the ticket, and wait as before. To learn what the kernel made of the cancel,
    /// submit a [`Cancel`](crate::op::Cancel) instead.
    ///
    /// A cancel may miss its operation: one that a worker thread is just starting, or a
    /// [`TimeoutMulti`](crate::op::TimeoutMulti) with a very short interval. Then cancel again. The
    /// call does nothing while an earlier cancel has not completed, or when the operation has
    /// ended. Behind a [drained](crate::op::Op::drained) operation the kernel makes cancels wait,
    /// too, for the very operations that they are to end. So there, since Linux 6.0, the call also
    /// asks by a system call of its own. What waits itself is not found: it ends in its turn.
    ///
    /// # Errors
    ///
    /// [`EnterError`] when the submission queue is full and making room failed. Then no cancel was
    /// submitted.
    ///
    /// # Panics
    ///
    /// When the ticket belongs to another ring.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::{Setup, op};
    ///
    /// let mut ring = Setup::new(8).build()?;
    /// let (reader, _writer) = std::io::pipe()?; // Nothing is ever written.
    /// let read = ring.submit(op::Read::new(reader, vec![0; 64]))?;
    /// ring.cancel(&read)?;
    /// let outcome = ring.wait(read)?; // It still completes, and gives everything back.
    /// assert!(outcome.result.is_err()); // ECANCELED
    /// assert_eq!(outcome.buf.len(), 64);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn cancel<T: Submitted>(&mut self, ticket: &T) -> Result<(), EnterError> {
        let user_data = ticket.on(self);
        if self.slab.is_being_cancelled(user_data) {
            self.pull(None)?; // An earlier cancel may have completed, and missed.
        }
        if self.slab.may_wait() && self.raw.is_here() {
            register::cancel_now(self.raw.base(), user_data);
        }
        if self.slab.may_cancel(user_data) { self.cancel_user_data(user_data) } else { Ok(()) }
    }

    /// Detaches every operation, as if each ticket were [given up](Self::detach). None of them may
    /// be redeemed later.
    pub(crate) fn detach_all(&mut self) {
        self.slab.detach_all();
        self.undelivered.drop_redeemed(&self.slab);
    }

    /// Gives up the ticket. The operation goes on. When it has completed, everything that it owns
    /// and every resource that its completions carry is dropped. If such a drop panics, the panic
    /// hook reports it and the panic goes no further, as in a detached thread: the code that reaps
    /// or waits at that moment holds tickets of its own. User values of ended operations are
    /// dropped in this way too.
    ///
    /// Dropping the ring cancels what is detached like all else in flight: wait until
    /// [`in_flight`](Self::in_flight) is 0 for what must not be lost.
    ///
    /// # Panics
    ///
    /// When the ticket belongs to another ring.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::{Setup, op};
    /// use std::io::Read;
    ///
    /// let mut ring = Setup::new(8).build()?;
    /// let (mut reader, writer) = std::io::pipe()?;
    /// let write = ring.submit(op::Write::new(writer, "a line of a log"))?;
    /// ring.detach(write); // The write goes on. Then the ring drops the writer and the buffer.
    /// ring.submit_all()?;
    /// let mut buf = [0; 15];
    /// reader.read_exact(&mut buf)?;
    /// assert_eq!(&buf, b"a line of a log");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn detach<T: Redeem>(&mut self, ticket: T) {
        ticket.give_up(self);
    }
}
