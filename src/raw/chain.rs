//! A chain: entries that are submitted together, or not at all.
//!
//! ```text
//!   ring.reserve(3) ─► chain.push ─► chain.push ─► chain.push ─► commit ─► ring.submit
//!                                         │
//!                                  dropped or unwound ─► as if nothing had been pushed
//! ```
//!
//! Links (`IO_LINK`, `IO_HARDLINK`) work within one submission only, so a flush must not cut a
//! chain. While a [`Chain`] is alive, nothing can be flushed, since it borrows the ring.
#![allow(unsafe_code, reason = "its entries point to memory")]

use annulus_sys::abi::{Sqe, Sqe128};
use annulus_sys::sq::Reservation;
use annulus_sys::sq::{Full, PushWideError};

use crate::raw::pending::Pending;
use crate::setup::enter_error::{EnterCause, EnterError};

/// Refuses to reserve more slots than the queue has.
pub(crate) fn check_size(count: u32, entries: u32) -> Result<(), EnterError> {
    if count > entries {
        return Err(EnterError::new(0, EnterCause::TooFewSlots { count, entries }));
    }
    Ok(())
}

/// Slots reserved by [`RawRing::reserve`](crate::RawRing::reserve).
#[derive(Debug)]
#[must_use = "entries pushed into a chain are dropped with it, unless it is committed"]
pub struct Chain<'a> {
    slots: Reservation<'a>,
    pending: &'a mut Pending,
}

impl<'a> Chain<'a> {
    pub(crate) fn new(slots: Reservation<'a>, pending: &'a mut Pending) -> Self {
        Self { slots, pending }
    }

    /// Writes `sqe` into the next reserved slot.
    ///
    /// # Errors
    ///
    /// [`Full`] when the reservation is used up.
    ///
    /// # Safety
    ///
    /// As for [`RawRing::push`](crate::RawRing::push), from [`commit`](Self::commit) on.
    pub unsafe fn push(&mut self, sqe: Sqe) -> Result<(), Full> {
        self.pending.note(&sqe);
        // SAFETY: as promised to `Chain::push`.
        unsafe { self.slots.push(sqe) }
    }

    /// Writes a 128-byte entry into the next reserved slots. On a ring with `SQE_MIXED` it takes
    /// two slots, and once a third, as padding, where it would lie across the end of the queue.
    ///
    /// # Errors
    ///
    /// As for [`RawRing::push_wide`](crate::RawRing::push_wide), within the reservation.
    ///
    /// # Safety
    ///
    /// As for [`push`](Self::push).
    pub unsafe fn push_wide(&mut self, sqe: Sqe128) -> Result<(), PushWideError> {
        self.pending.note(&sqe.first);
        // SAFETY: as promised to `Chain::push_wide`.
        unsafe { self.slots.push_wide(sqe) }
    }

    /// How many reserved slots are left.
    pub fn left(&self) -> u32 {
        self.slots.left()
    }

    /// Keeps what was pushed, for the next submit. Returns unused slots to the ring.
    pub fn commit(self) {
        self.slots.commit();
    }
}
