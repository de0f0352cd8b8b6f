//! What a ring holds back: chains that wait behind a drained entry.
//!
//! Leaves to others: when they begin (`drains`).

use std::collections::VecDeque;

use super::trace::RequestId;

/// What a ring holds back.
#[derive(Debug, Default)]
pub(super) struct Drains {
    /// The chains that have not begun, oldest first.
    pub(super) held: VecDeque<Held>,
    /// The requests of the newest drained chain.
    pub(super) newest: Option<(RequestId, RequestId)>,
    /// Since 6.16: whether what comes is held back.
    pub(super) is_active: bool,
    /// How many requests have ended that a worker thread still has.
    pub(super) lingering: usize,
}

/// A chain that may have to wait for others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    pub(super) head: RequestId,
    /// How many requests it has.
    pub(super) count: usize,
    /// Whether it drains.
    pub(super) drains: bool,
    /// Up to 6.15: the drained chain that it waits for.
    pub(super) behind: Option<(RequestId, RequestId)>,
}

impl Drains {
    /// The ring is gone.
    pub(super) fn clear(&mut self) {
        self.held.clear();
    }
}
