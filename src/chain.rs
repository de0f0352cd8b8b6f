//! Entries that are handed to the kernel together, or not at all.
//!
//! ```text
//!   ring.reserve(3) ─► chain.push ─► chain.push ─► chain.push ─► commit ─► ring.submit
//!                                         │
//!                                  dropped or unwound ─► as if nothing had been pushed
//! ```
//!
//! Links (`IO_LINK`, `IO_HARDLINK`) hold within one submission only, so a chain must not be cut by
//! a flush; while a [`Chain`] lives, nothing can be flushed, since it borrows the ring.
#![allow(unsafe_code, reason = "its entries point to memory")]

use annulus_sys::abi::{Sqe, Sqe128};
use annulus_sys::reservation::Reservation;
use annulus_sys::sq::{Full, PushWideError};

use crate::error::{EnterCause, EnterError};
use crate::forecast::Forecast;

/// Refuses to set aside more slots than there are.
pub(crate) fn check_size(count: u32, entries: u32) -> Result<(), EnterError> {
    if count > entries {
        return Err(EnterError::new(0, EnterCause::TooFewSlots { count, entries }));
    }
    Ok(())
}

/// Slots set aside by [`RawRing::reserve`](crate::RawRing::reserve).
#[derive(Debug)]
#[must_use = "what was pushed into a chain is dropped with it, unless it is committed"]
pub struct Chain<'a> {
    slots: Reservation<'a>,
    forecast: &'a mut Forecast,
}

impl<'a> Chain<'a> {
    pub(crate) fn new(slots: Reservation<'a>, forecast: &'a mut Forecast) -> Self {
        Self { slots, forecast }
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
        self.forecast.note(&sqe);
        // SAFETY: as promised to `Chain::push`.
        unsafe { self.slots.push(sqe) }
    }

    /// Writes a 128-byte entry into the next reserved slots: two on a ring with `SQE_MIXED`, and a
    /// third, once, where it would straddle the ring's end.
    ///
    /// # Errors
    ///
    /// As for [`RawRing::push_wide`](crate::RawRing::push_wide), within the reservation.
    ///
    /// # Safety
    ///
    /// As for [`push`](Self::push).
    pub unsafe fn push_wide(&mut self, sqe: Sqe128) -> Result<(), PushWideError> {
        self.forecast.note(&sqe.first);
        // SAFETY: as promised to `Chain::push_wide`.
        unsafe { self.slots.push_wide(sqe) }
    }

    /// How many reserved slots are left.
    pub fn left(&self) -> u32 {
        self.slots.left()
    }

    /// Keeps what was pushed, for the next submit. Slots that are left over go back to the ring.
    pub fn commit(self) {
        self.slots.commit();
    }
}
