//! Drained entries (`IO_DRAIN`), and what the kernel holds back because of one.
//!
//! | | up to 6.15 | since 6.16 |
//! |---|---|---|
//! | a drained chain waits for | every request before it | every request in flight |
//! | what comes later waits for | the drained chain | every request in flight |
//! | that is over | when the drained chain has ended | when an entry comes while none is in flight |
//!
//! Until that is over, what comes is given to worker threads (since 5.15, `REQ_F_FORCE_ASYNC`).
//!
//! Since 6.16 a request that a worker thread ran is in flight until the thread lets go of it, a
//! moment after it completed ([`Faults::lingers`](super::Faults::lingers)), and nothing looks
//! again then (`io_queue_deferred` in `io_uring/io_uring.c`).

use annulus_sys::flags::SqeFlags;

use super::held::Held;
use super::request::Request;
use super::state::{Due, State};
use super::trace::RequestId;

/// How long a worker thread holds on to what it ran, at most, in nanoseconds.
const LONGEST: u64 = 250_000;

impl State {
    /// An entry comes. It goes to a worker thread if it drains, or while entries are held back.
    pub(super) fn force_if_drained(&mut self, ring: usize, request: &mut Request) {
        let of_ring = &mut self.rings[ring].drains;
        of_ring.is_active |= request.flags.contains(SqeFlags::IO_DRAIN);
        if of_ring.is_active && !self.release.is_before(5, 15) {
            request.flags |= SqeFlags::ASYNC;
        }
    }

    /// A chain is complete: it begins, or waits.
    pub(super) fn begin_or_hold(&mut self, ring: usize, ids: &[RequestId], drains: bool) {
        let (Some(&head), Some(&last)) = (ids.first(), ids.last()) else { return };
        let is_in_flight =
            |(from, to): &(RequestId, RequestId)| self.requests.range(from..=to).next().is_some();
        let is_old = self.release.is_before(6, 16);
        let of_ring = &mut self.rings[ring].drains;
        let behind = of_ring.newest.filter(is_in_flight);
        of_ring.is_active |= drains;
        let goes_on = match is_old {
            true => !drains && behind.is_none() && of_ring.held.is_empty(),
            false => !of_ring.is_active,
        };
        if goes_on {
            return self.begin(head);
        }
        if drains {
            of_ring.newest = Some((head, last));
        }
        of_ring.held.push_back(Held { head, count: ids.len(), drains, behind });
        self.go_on_after_drain(ring);
        let of_ring = &mut self.rings[ring].drains;
        of_ring.is_active &= drains || !of_ring.held.is_empty();
    }

    /// Begins the chains whose turn it is, of those that wait: a request has ended, or comes.
    pub(super) fn go_on_after_drain(&mut self, ring: usize) {
        let (mut drains, mut is_first) = (false, true);
        while let Some(&held) = self.rings[ring].drains.held.front() {
            drains |= held.drains;
            let waits = match self.release.is_before(6, 16) {
                true => self.is_behind(ring, held),
                false => (drains || is_first) && self.is_any_in_flight(ring),
            };
            if waits {
                return;
            }
            is_first = false;
            self.rings[ring].drains.held.pop_front();
            self.schedule(0, Due::Begin(held.head));
        }
    }

    /// Up to 6.15: whether a chain has to wait.
    fn is_behind(&self, ring: usize, held: Held) -> bool {
        let mut before = self.requests.range(..held.head);
        let waits_for_all = held.drains && before.any(|(_, other)| other.ring == ring);
        let is_there = |(from, to)| self.requests.range(from..=to).next().is_some();
        waits_for_all || held.behind.is_some_and(is_there)
    }

    /// Since 6.16: whether a request is in flight that is not itself held back.
    fn is_any_in_flight(&self, ring: usize) -> bool {
        let of_ring = &self.rings[ring].drains;
        let held: usize = of_ring.held.iter().map(|held| held.count).sum();
        let all = self.requests.values().filter(|request| request.ring == ring).count();
        all + of_ring.lingering > held
    }

    /// A worker thread ran a request that has ended. It may hold on to it for a moment.
    pub(super) fn let_linger(&mut self, ring: usize) {
        let matters = self.rings[ring].drains.is_active && !self.release.is_before(6, 16);
        if matters && self.luck.hits(self.faults.lingers) {
            self.rings[ring].drains.lingering += 1;
            let span = 1 + self.delays.below(LONGEST);
            self.schedule(span, Due::LetGo(ring));
        }
    }

    /// The worker thread lets go. Nothing looks at what is held back.
    pub(super) fn let_go_of_ended(&mut self, ring: usize) {
        self.rings[ring].drains.lingering -= 1;
    }
}
