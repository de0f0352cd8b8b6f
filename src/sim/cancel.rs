//! Cancels: which requests they find, and what becomes of those.
//!
//! | the target | result of the cancel | the target completes with |
//! |---|---|---|
//! | waits at a futex | 1 (v6.18) | `ECANCELED`, which breaks no chain |
//! | waits for an end or for a time | 0 | `ECANCELED`, or the bytes that it has |
//! | a worker thread has it | `EALREADY` | what it would have, or `ECANCELED` |
//! | a worker thread waits with it | `EALREADY` | what it would have, or `EINTR`; a splice 512 (v6.18) |
//! | was taken by a worker thread (a fault) | `EALREADY` | what it would have, or `EINTR` |
//! | is a timer that repeats, and fires just now (a fault) | `ENOENT` | – |
//! | waits in a chain or behind a drained one, notifies, is not there | `ENOENT` | – |

use super::request::{Job, Key, Request, Stage};
use super::state::{Due, State};
use super::trace::RequestId;

/// What an interrupted splice completes with. Linux means to keep that number to itself.
const ERESTARTSYS: i32 = 512;

impl State {
    /// Cancels what `key` names; the request `by` is the cancel itself.
    pub(super) fn cancel(&mut self, ring: usize, key: Key, by: RequestId) -> i32 {
        let mut end = None;
        if let Some(fd) = key.fd {
            end = if key.is_fixed { self.fixed_file(ring, fd).0 } else { self.end_at(fd) };
            if end.is_none() {
                return -libc::EBADF;
            }
        }
        let matches = |id: RequestId, request: &Request| {
            id != by
                && request.ring == ring
                && request.stage == Stage::Begun
                && !matches!(request.job, Job::LinkTimeout { .. })
                && key.user_data.is_none_or(|user_data| request.user_data == user_data)
                && key.opcode.is_none_or(|opcode| request.opcode == opcode)
                && (end.is_none() || request.end == end)
        };
        let found = self.requests.iter().filter(|(id, request)| matches(**id, request));
        let found: Vec<RequestId> = found.map(|(&id, _)| id).collect();
        if !key.all {
            return found.first().map_or(-libc::ENOENT, |&id| self.cancel_one(id));
        }
        let (mut cancelled, mut at_futexes) = (0, 0);
        for id in found {
            // One may have ended with another, by a chain.
            if !self.has_begun(id) {
                continue;
            }
            match self.cancel_one(id) {
                0 => cancelled += 1,
                // Linux takes all those at futexes at once, and counts one (v6.18).
                1 => at_futexes = 1,
                _ => {}
            }
        }
        cancelled + at_futexes
    }

    /// Cancels the first poll with that `user_data`.
    pub(super) fn remove_poll(&mut self, ring: usize, user_data: u64) -> i32 {
        self.poll(ring, user_data).map_or(-libc::ENOENT, |id| self.cancel_one(id))
    }

    /// The first poll with that `user_data`.
    pub(super) fn poll(&self, ring: usize, user_data: u64) -> Option<RequestId> {
        let is_it = |request: &Request| {
            request.ring == ring
                && request.user_data == user_data
                && request.stage == Stage::Begun
                && matches!(request.job, Job::Poll { .. })
        };
        self.requests.iter().find(|(_, request)| is_it(request)).map(|(&id, _)| id)
    }

    /// Cancels a request that has begun: 0, or 1 if it waits at a futex, or `EALREADY`.
    pub(super) fn cancel_one(&mut self, id: RequestId) -> i32 {
        if self.futexes.is_woken(id) {
            return -libc::ENOENT;
        }
        if self.requests[&id].work.is_some() && self.is_too_late(id) {
            return -libc::EALREADY;
        }
        let fires = matches!(self.requests[&id].job, Job::Timeout { repeats: true, .. });
        if fires && self.luck.hits(self.faults.no_cancel) {
            return -libc::ENOENT;
        }
        let is_at_futex = self.is_at_futex(id);
        let request = &self.requests[&id];
        let may_be_late =
            !is_at_futex && !request.job.repeats() && !matches!(request.job, Job::Timeout { .. });
        if may_be_late && self.luck.hits(self.faults.no_cancel) {
            let delay = self.delay();
            self.schedule(delay, Due::Interrupt(id));
            return -libc::EALREADY;
        }
        self.stop(id, -libc::ECANCELED);
        i32::from(is_at_futex)
    }

    /// A worker thread was interrupted in a request.
    pub(super) fn give_up(&mut self, id: RequestId) {
        if !self.has_begun(id) {
            return;
        }
        match self.requests[&id].job {
            // A signal does not end those: they go on, and complete.
            Job::Path(_) | Job::Truncate(_) | Job::Allocate { .. } | Job::Bind(_) | Job::Listen => {
            }
            Job::Splice(_) => self.stop(id, -ERESTARTSYS),
            _ => self.stop(id, -libc::EINTR),
        }
    }

    /// Ends a request before it is done: with what it has transferred, or else with `res`.
    fn stop(&mut self, id: RequestId, res: i32) {
        let request = &self.requests[&id];
        let part = request.got.len().max(request.sent);
        let res = match request.job {
            Job::Recv(_) | Job::RecvMessage(..) | Job::Send(_) if part > 0 => {
                i32::try_from(part).expect("at most MAX_TRANSFER")
            }
            _ => res,
        };
        self.end(id, res);
    }
}
