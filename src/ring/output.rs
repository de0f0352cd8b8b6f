//! The output of an operation without a ticket, as an event carries it.
//!
//! ```text
//!   Event::Output(output) ─┬─ take::<O>() ─► the user value and the output, if it is an `O`
//!                          └─ dropped ─────► both are dropped
//! ```
//!
//! Keeps OP2: an output is taken as the type that was submitted. Leaves to others: submitting
//! (`unticketed`), and the slot (`slab`).
#![allow(unsafe_code, reason = "takes outputs out of slots, by type")]

use std::fmt;

use annulus_sys::errno::Errno;

use crate::lease::completion::result_of;
use crate::op::Op;
use crate::ring::slab::{Slab, contained};

/// The output of an operation that was submitted [without a
/// ticket](crate::Ring::submit_unticketed), and its user value. If nobody takes it, both are
/// dropped with it.
pub struct Output<'a, U> {
    slab: &'a mut Slab<U>,
    /// Its operation has ended, and the slot is not free as long as this exists.
    slot: u32,
}

impl<'a, U: Default> Output<'a, U> {
    /// The output in `slot`.
    ///
    /// # Safety
    ///
    /// The operation in the slot must have ended, and must have no ticket. The slot must not be
    /// free.
    unsafe fn of(slab: &'a mut Slab<U>, slot: u32) -> Self {
        Self { slab, slot }
    }

    /// The user value and the output, if the operation is an `O`.
    ///
    /// # Errors
    ///
    /// This value, if the operation is of another type.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::{Event, Setup, op};
    /// use std::time::Duration;
    ///
    /// let mut ring = Setup::new(8).build()?;
    /// ring.submit_unticketed(op::Nop, ())?;
    /// ring.submit_unticketed(op::Timeout::new(Duration::from_millis(1)), ())?;
    /// let (mut nops, mut timeouts) = (0, 0);
    /// ring.turn(2, |event| {
    ///     let Event::Output(output) = event else { return };
    ///     let output = match output.take::<op::Nop>() {
    ///         Ok(_) => return nops += 1,
    ///         Err(output) => output,
    ///     };
    ///     if output.take::<op::Timeout>().is_ok() {
    ///         timeouts += 1;
    ///     }
    /// })?;
    /// assert_eq!((nops, timeouts), (1, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn take<O: Op + 'static>(self) -> Result<(U, O::Output), Self> {
        // SAFETY: it has ended, and the slot is not free, as promised to `of`. The output is taken
        // once, since `self` is gone then (OP2).
        match unsafe { self.slab.take_by_type::<O>(self.slot, Vec::new()) } {
            Some(taken) => Ok(taken),
            None => Err(self),
        }
    }
}

impl<U> Output<'_, U> {
    /// The user value.
    #[inline]
    pub fn user(&mut self) -> &mut U {
        self.slab.user(self.slot)
    }

    /// The number of the operation's slot: [`OpKey::slot`](crate::OpKey::slot).
    #[inline]
    pub fn slot(&self) -> u32 {
        self.slot
    }

    /// The kernel's result.
    #[inline]
    pub fn result(&self) -> Result<u32, Errno> {
        result_of(self.slab.result(self.slot))
    }
}

impl<U> fmt::Debug for Output<'_, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { slot, .. } = self;
        f.debug_struct("Output").field("slot", slot).field("result", &self.result()).finish()
    }
}

/// An output that is being shown. What is left of it is dropped at the end, or when the caller's
/// code panics.
pub(crate) struct Shown<'a, U: Default> {
    slab: &'a mut Slab<U>,
    slot: u32,
    /// The operation, among all that the slot ever holds.
    tenant: u64,
}

impl<'a, U: Default> Shown<'a, U> {
    /// # Safety
    ///
    /// The operation in the slot must have ended, and must have no ticket. The slot must not be
    /// free.
    pub(crate) unsafe fn of(slab: &'a mut Slab<U>, slot: u32) -> Self {
        let tenant = slab.tenant(slot);
        Self { slab, slot, tenant }
    }

    /// The output. Called once.
    pub(crate) fn output(&mut self) -> Output<'_, U> {
        // SAFETY: as promised to `Shown::of`, and nobody has taken it, as this is the first call.
        unsafe { Output::of(self.slab, self.slot) }
    }
}

impl<U: Default> Drop for Shown<'_, U> {
    fn drop(&mut self) {
        if !self.slab.is_tenant(self.slot, self.tenant) {
            return;
        }
        // SAFETY: its operation is in the slot still, and has ended, as promised to `of` (OP2).
        let mut drop_it = || unsafe { self.slab.drop_output(self.slot) };
        // A panic may have brought us here, and a second one must not abort.
        if std::thread::panicking() { contained(drop_it) } else { drop_it() }
    }
}
