//! A polling thread: what is known of it. Leaves to others: what it does (`polling`).

use super::pool::Pool;

/// A polling thread.
#[derive(Debug)]
pub(super) struct Poller {
    pub(super) rings: Vec<usize>,
    /// How long it polls without finding anything.
    pub(super) idle: u64,
    pub(super) doing: Doing,
    /// Whether a step, and the end of its patience, are due.
    pub(super) is_stepping: bool,
    pub(super) is_tiring: bool,
    /// Its workers.
    pub(super) pool: Pool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doing {
    /// It polls until then.
    Polls(u64),
    Sleeps,
    Dead,
}
