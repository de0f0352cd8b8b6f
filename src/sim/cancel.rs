//! Cancels: which requests they find, and what becomes of those.
//!
//! | the target | result of the cancel | the target completes with |
//! |---|---|---|
//! | waits for an end or for a time | 0 | `ECANCELED`, or the bytes that it has |
//! | a worker thread has it | `EALREADY` | what it would have, `ECANCELED` or `EINTR` |
//! | was taken by a worker thread (a fault) | `EALREADY` | what it would have, or `EINTR` |
//! | waits in a chain or behind a drained one, notifies, is not there | `ENOENT` | – |

use super::request::{Job, Key, Request, Stage};
use super::state::{Due, State};
use super::trace::RequestId;

impl State {
    /// Cancels what `key` names; the request `by` is the cancel itself.
    pub(super) fn cancel(&mut self, ring: usize, key: Key, by: RequestId) -> i32 {
        let found = |fd| match key.is_fixed {
            true => self.fixed_file(ring, fd).0,
            false => self.world.find(fd),
        };
        let end = match key.fd {
            Some(fd) => match found(fd) {
                Some(end) => Some(end),
                None => return -libc::EBADF,
            },
            None => None,
        };
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
        let mut cancelled = 0;
        for id in found {
            // One may have ended with another, by a chain.
            if self.has_begun(id) && self.cancel_one(id) == 0 {
                cancelled += 1;
            }
        }
        cancelled
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

    /// Cancels a request that has begun: 0, or `EALREADY`.
    pub(super) fn cancel_one(&mut self, id: RequestId) -> i32 {
        if self.requests[&id].work.is_some() && self.is_too_late(id) {
            return -libc::EALREADY;
        }
        let request = &self.requests[&id];
        let may_be_late = !request.job.repeats() && !matches!(request.job, Job::Timeout { .. });
        if may_be_late && self.luck.hits(self.faults.no_cancel) {
            let delay = self.delay();
            self.schedule(delay, Due::Interrupt(id));
            return -libc::EALREADY;
        }
        self.stop(id, -libc::ECANCELED);
        0
    }

    /// A worker thread was interrupted in a request.
    pub(super) fn give_up(&mut self, id: RequestId) {
        if self.has_begun(id) {
            self.stop(id, -libc::EINTR);
        }
    }

    /// Ends a request before it is done: with what it has transferred, or else with `res`.
    fn stop(&mut self, id: RequestId, res: i32) {
        let request = &self.requests[&id];
        let part = request.got.len().max(request.sent);
        let res = match request.job {
            Job::Recv(_) | Job::Send(_) if part > 0 => {
                i32::try_from(part).expect("at most MAX_TRANSFER")
            }
            _ => res,
        };
        self.end(id, res);
    }
}
