//! A pool of worker threads (io-wq): how many there may be, and who waits for one. Leaves to
//! others: what they do (`workers`).

use std::collections::VecDeque;

use super::trace::RequestId;

/// The workers of a thread that enters, or of a polling thread.
#[derive(Debug, Default)]
pub(super) struct Pool {
    /// Of each kind: how many there may be (0 before the first ring), and how many run.
    pub(super) most: [u32; 2],
    pub(super) busy: [u32; 2],
    pub(super) waiting: [VecDeque<RequestId>; 2],
}

/// Where a request is in a pool. The number is that of the kind: 0 for work on files, which ends
/// in bounded time, and 1 for all other work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    /// It waits for a worker, and can be cancelled.
    Waits(usize),
    /// A worker has it.
    Runs(usize),
    /// A worker has it, and finds that it was cancelled.
    Doomed(usize),
    /// A worker has it, and waits with it: a splice; or the one that has done the step before it in
    /// its chain.
    Blocks(usize),
}
