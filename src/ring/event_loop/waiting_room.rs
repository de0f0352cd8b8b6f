//! Operations that wait for a slot, oldest first.
//!
//! ```text
//!   submit ─┬─ a slot is free, and nothing waits ──► in flight
//!           └─ otherwise ──► Box ──► … ──► a slot is free ──► in flight
//! ```
//!
//! Only here does an operation cost an allocation.

use std::collections::VecDeque;
use std::fmt;

use crate::lease::ticket::Rejection;

/// An operation that waits, and its closure. `C` is what it is submitted to.
pub(super) trait Start<C> {
    /// Submits it. If it has to wait on, it comes back.
    fn start(self: Box<Self>, core: &mut C, number: u64) -> Result<(), Refused<C>>;
}

/// Why a waiting operation was not submitted.
pub(super) enum Refused<C> {
    /// It waits on.
    ForNow(Box<dyn Start<C>>, Rejection),
    /// It can never be submitted, and was dropped.
    ForGood(Rejection),
}

/// One that waits.
pub(super) struct Waiting<C> {
    pub(super) number: u64,
    /// Whether to cancel it as soon as it has been submitted.
    pub(super) cancelled: bool,
    pub(super) start: Box<dyn Start<C>>,
}

/// All that wait.
pub(super) struct WaitingRoom<C>(VecDeque<Waiting<C>>);

impl<C> WaitingRoom<C> {
    pub(super) fn new() -> Self {
        Self(VecDeque::new())
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn push(&mut self, waiting: Waiting<C>) {
        self.0.push_back(waiting);
    }

    /// Takes the one at this place, counted from the oldest.
    pub(super) fn take(&mut self, at: usize) -> Option<Waiting<C>> {
        self.0.remove(at)
    }

    /// Puts back what was just taken from this place.
    pub(super) fn put(&mut self, at: usize, waiting: Waiting<C>) {
        self.0.insert(at, waiting);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Marks the one with this number to be cancelled. Returns whether it waits here.
    pub(super) fn cancel(&mut self, number: u64) -> bool {
        let found = self.0.iter_mut().find(|waiting| waiting.number == number);
        found.map(|waiting| waiting.cancelled = true).is_some()
    }
}

impl<C> fmt::Debug for WaitingRoom<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WaitingRoom({} operations)", self.0.len())
    }
}
