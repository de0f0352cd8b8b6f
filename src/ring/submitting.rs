//! Submitting one operation: it moves into a slot, and its entry into the submission queue.
//!
//! ```text
//!   submit(op) ─► slot ─► entry queued ─► submit_all, or any wait ─► the kernel
//! ```
//!
//! Keeps OP1. Leaves to others: the slot and the entry (`Ring::place`), operations that borrow
//! (`scope`), and chains (`link`).
#![allow(unsafe_code, reason = "hands the kernel memory that operations point to")]

use crate::lease::ticket::{Rejected, Ticket};
use crate::op::Op;
use crate::ring::Ring;
use crate::ring::slab::Life;
use crate::setup::enter_error::EnterError;

/// # Submitting
impl<U: Default> Ring<U> {
    /// Queues `op`. It enters the kernel with the next [`submit_all`](Self::submit_all) or wait.
    /// Until its last completion, the ring owns everything that the operation owns.
    ///
    /// # Errors
    ///
    /// [`Rejected`] gives the operation back, with the reason.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::{Setup, op};
    /// use std::fs::File;
    ///
    /// let mut ring = Setup::new(8).build()?;
    /// let zeroes = File::open("/dev/zero")?;
    /// let read = ring.submit(op::Read::new(zeroes, Vec::with_capacity(64)))?; // Queued.
    /// let outcome = ring.wait(read)?; // Submitted, and waited for.
    /// assert_eq!(outcome.result?, 64);
    /// assert_eq!(outcome.buf, [0; 64]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn submit<O: Op + 'static>(&mut self, op: O) -> Result<Ticket<O>, Rejected<O, U>> {
        self.submit_for(op, U::default())
    }

    /// As [`submit`](Self::submit), with the user value that the operation's events are to carry.
    ///
    /// # Errors
    ///
    /// [`Rejected`] gives the operation and the user value back, with the reason.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::op::Nop;
    /// use annulus::{Event, Ring, Setup};
    ///
    /// let mut ring: Ring<&str> = Setup::new(8).build_for()?;
    /// let nop = ring.submit_for(Nop, "nothing to do")?;
    /// ring.submit_and_wait(1)?;
    /// ring.reap(|event| {
    ///     if let Event::Ended { user, slot, result } = event {
    ///         assert_eq!((*user, slot, result), ("nothing to do", nop.slot(), Ok(0)));
    ///     }
    /// })?;
    /// ring.wait(nop)??; // Does not wait: the operation has ended. This frees its slot.
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn submit_for<O: Op + 'static>(
        &mut self,
        op: O,
        user: U,
    ) -> Result<Ticket<O>, Rejected<O, U>> {
        // SAFETY: `'static`, so it may stay in its slot forever (OP1).
        unsafe { self.place(op, user, Life::Static) }
    }

    /// Hands all queued entries to the kernel. Makes no system call when there are none. Returns
    /// how many entries the kernel took.
    ///
    /// # Errors
    ///
    /// [`EnterError`]; entries that were not taken stay queued for the next time.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::{Setup, op};
    ///
    /// let mut ring = Setup::new(8).build()?;
    /// let (reader, writer) = std::io::pipe()?;
    /// let read = ring.submit(op::Read::new(reader, [0; 5]))?;
    /// let write = ring.submit(op::Write::new(writer, "hello"))?;
    /// assert_eq!(ring.submit_all()?, 2); // One system call. Both operations begin.
    ///
    /// // … do something else meanwhile …
    /// assert_eq!(ring.wait(write)?.result?, 5);
    /// assert_eq!(ring.wait(read)?.buf, *b"hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn submit_all(&mut self) -> Result<u32, EnterError> {
        self.serve();
        self.raw.submit()
    }
}
