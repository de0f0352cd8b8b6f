//! What a wait for a chain has to look at between two enters: time limits, and what is missing.
//!
//! ```text
//!   step 1 ended   step 2 runs: its clock is looked at   step 3: not begun, its clock stands
//!   └──────────────────────── completions that are missing ───────────────────────────────┘
//! ```
//!
//! Leaves to others: how a step is cancelled (`link_timeout`), and the wait (`submit`).

use std::time::Instant;

use super::{PlacedStep, Step};
use crate::ring::Ring;

/// Enforces the time limits of a chain's steps, as far as the steps have begun.
#[doc(hidden)]
#[derive(Debug)]
pub struct Watch<'a, U: Default> {
    ring: &'a mut Ring<U>,
    /// Whether every step so far has ended, so that the next one has begun.
    begun: bool,
    /// When to look again, if a clock of ours runs.
    pub(super) until: Option<Instant>,
    /// How many last completions have not come yet, if one wait for all of them will do.
    pub(super) missing: Option<u32>,
}

impl<'a, U: Default> Watch<'a, U> {
    pub(super) fn new(ring: &'a mut Ring<U>) -> Self {
        Self { ring, begun: true, until: None, missing: Some(0) }
    }

    pub(super) fn step<S: Step>(&mut self, step: &mut PlacedStep<S::Ticket>) {
        let missing = S::missing(self.ring, &step.ticket);
        self.missing = self.missing.zip(missing).map(|(sum, more)| sum + more);
        if self.begun {
            let due = S::watch(self.ring, &mut step.ticket);
            self.until = self.until.into_iter().chain(due).min();
            self.begun = S::end_of_step(self.ring, step).is_some();
        }
    }
}
