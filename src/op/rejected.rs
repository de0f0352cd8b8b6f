//! What an operation gives back that was not submitted.
//!
//! ```text
//!   submit ──► Rejected { op, why } ── into_output ──► Outcome { result: Err(why), fd, buf }
//! ```
//!
//! Leaves to others: the reasons (`lease::ticket`), and what each output holds (each operation).

use super::{Done, Op};
use crate::lease::ticket::Rejected;

impl<O: Op, U> Rejected<O, U> {
    /// Takes the operation apart: returns the output that it would have if the kernel had refused
    /// it, with everything that it owned. Drops the user value: take that first if you need it.
    ///
    /// The result is [the reason as an error number](crate::Rejection::errno). So a caller that
    /// treats a rejection like any other failure has one path for both, and loses no buffer.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::{Rejected, Setup};
    /// use annulus::op::{Nop, Recv};
    /// use std::os::unix::net::UnixStream;
    ///
    /// let mut ring = Setup::new(4).build()?;
    /// let mut nops = Vec::new();
    /// while ring.vacant() > 0 {
    ///     nops.push(ring.submit(Nop)?); // Nobody takes their completions.
    /// }
    /// let (_ours, theirs) = UnixStream::pair()?;
    /// let rejected = ring.submit(Recv::new(theirs, vec![0; 64])).unwrap_err();
    /// let outcome = rejected.into_output();
    /// assert_eq!(outcome.result.unwrap_err().raw_os_error(), Some(16)); // EBUSY
    /// assert_eq!(outcome.buf.len(), 64); // The vector, and `outcome.fd` is the socket.
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn into_output(self) -> O::Output {
        self.op.finish(Done::never_submitted(self.why.errno()))
    }
}
