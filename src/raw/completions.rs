//! Completions in a `for` loop: taken one by one, and their slots given back together.
//!
//! ```text
//!   for cqe in ring.completions() { .. }      never enters; one store of the head, at the end
//! ```
//!
//! Leaves to others: what lies in the queue (`annulus_sys::cq`), and completions that the kernel
//! holds back (`reap`).
#![allow(unsafe_code, reason = "takes a value out of its place once")]

use std::fmt;
use std::mem::ManuallyDrop;

use annulus_sys::abi::Cqe;
use annulus_sys::cq::TakenCqes;
use annulus_sys::sq::SubmissionQueue;

use crate::raw::RawRing;
use crate::raw::pending::{Pending, modulo};

/// # Taking completions in a loop of your own
impl RawRing {
    /// Takes the completions that are in the queue now, oldest first: [`pop`](Self::pop) for each,
    /// but the kernel gets the slots back together, when the iterator is dropped. So drop it before
    /// you wait. The completions that it did not return stay in the queue. If it is forgotten, all
    /// of them come again.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::{Setup, prep};
    ///
    /// let mut ring = Setup::new(8).build_raw()?;
    /// for number in 0..3 {
    ///     // SAFETY: a NOP points to nothing (OP1).
    ///     unsafe { ring.push(prep::nop().with_user_data(number))? };
    /// }
    /// ring.submit_and_wait(3)?;
    /// let numbers: Vec<u64> = ring.completions().map(|cqe| cqe.user_data).collect();
    /// assert_eq!(numbers, [0, 1, 2]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    #[doc(alias("io_uring_for_each_cqe", "io_uring_cq_advance"))]
    pub fn completions(&mut self) -> Completions<'_> {
        let Self { rings, driver, pending, .. } = self;
        let (sq, cq) = rings.both();
        let submitted = driver.submitted;
        Completions { taken: ManuallyDrop::new(cq.completions()), sq, submitted, pending }
    }
}

/// Completions that are taken one by one: see [`RawRing::completions`].
pub struct Completions<'a> {
    taken: ManuallyDrop<TakenCqes<'a>>,
    sq: &'a SubmissionQueue,
    /// How many entries the enters are known to have submitted.
    submitted: u64,
    pending: &'a mut Pending,
}

impl Iterator for Completions<'_> {
    type Item = Cqe;

    #[inline]
    fn next(&mut self) -> Option<Cqe> {
        self.taken.next()
    }
}

impl Drop for Completions<'_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: taken once, since nothing touches it after `drop`.
        let cq = unsafe { ManuallyDrop::take(&mut self.taken) }.finish();
        // As in `RawRing::compare`: if more have ended than were submitted, others send here.
        if self.submitted.wrapping_sub(cq.ended()).cast_signed() < 0 {
            self.pending.compare(self.sq.pushed(), modulo(cq.ended()));
        }
    }
}

impl fmt::Debug for Completions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Completions").finish_non_exhaustive()
    }
}
