//! Timeouts: alone, repeated, bound to a count of completions, or bound to another request.

use annulus_sys::flags::CqeFlags;

use super::request::{Job, Request, Stage};
use super::run::Try;
use super::state::{Alarm, Due, State};
use super::trace::RequestId;

/// The shortest time between two completions of a timeout that repeats. Without it a timeout of
/// zero would fill the queue before time can move.
const SHORTEST: u64 = 1_000;

impl State {
    pub(super) fn try_timeout(
        &mut self,
        id: RequestId,
        span: u64,
        is_absolute: bool,
        count: u32,
        repeats: bool,
    ) -> Try {
        let ring = self.requests[&id].ring;
        let Some(alarm) = self.alarms.get(&id).copied() else {
            let at = if is_absolute { span } else { self.now.saturating_add(span) };
            let counted = self.rings[ring].counted;
            let counted = (!repeats && count > 0).then(|| counted.wrapping_add(count));
            self.alarms.insert(id, Alarm { at, counted, left: count });
            self.schedule_at(at, Due::Run(id));
            return Try::Sleeps;
        };
        if alarm.at > self.now {
            return Try::Sleeps;
        }
        self.rings[ring].timeouts += 1;
        if !repeats || alarm.left == 1 {
            return Try::Ends(-libc::ETIME);
        }
        let at = self.now.saturating_add(span.max(SHORTEST));
        self.alarms.insert(id, Alarm { at, left: alarm.left.saturating_sub(1), ..alarm });
        if !self.post_more(id, -libc::ETIME, CqeFlags::empty()) {
            return Try::Ends(-libc::ETIME);
        }
        self.schedule_at(at, Due::Run(id));
        Try::Sleeps
    }

    /// Counts `more` completions, and ends the timeouts that wait for as many as the ring has had.
    pub(super) fn end_counted(&mut self, ring: usize, more: u32) {
        let counted = self.rings[ring].counted.wrapping_add(more);
        self.rings[ring].counted = counted;
        if self.alarms.is_empty() {
            return;
        }
        let is_due = |alarm: &Alarm| {
            let reached = |at: u32| counted.wrapping_sub(at).cast_signed() >= 0;
            alarm.counted.is_some_and(reached)
        };
        let due = |(id, alarm): (&RequestId, &Alarm)| {
            let of_ring = self.requests.get(id).is_some_and(|request| request.ring == ring);
            (of_ring && is_due(alarm)).then_some(*id)
        };
        let ids: Vec<RequestId> = self.alarms.iter().filter_map(due).collect();
        for id in ids {
            self.rings[ring].timeouts += 1;
            self.finish(id, 0, CqeFlags::empty());
        }
    }

    /// A linked timeout begins with the request that it bounds, and cancels it.
    pub(super) fn try_link_timeout(&mut self, id: RequestId, span: u64, is_absolute: bool) -> Try {
        let Some(alarm) = self.alarms.get(&id).copied() else {
            let at = if is_absolute { span } else { self.now.saturating_add(span) };
            self.alarms.insert(id, Alarm { at, counted: None, left: 0 });
            self.schedule_at(at, Due::Run(id));
            return Try::Sleeps;
        };
        if alarm.at > self.now {
            return Try::Sleeps;
        }
        let bounded = self.requests.iter().find(|(_, request)| request.clock == Some(id));
        let Some((&bounded, _)) = bounded else { return Try::Ends(-libc::ECANCELED) };
        // From now on they end on their own, and what follows follows the request.
        let next = self.requests.get_mut(&id).expect("in flight").next.take();
        let request = self.requests.get_mut(&bounded).expect("in flight");
        (request.clock, request.next) = (None, next);
        match self.cancel_one(bounded) {
            0 => Try::Ends(-libc::ETIME),
            late => Try::Ends(late),
        }
    }

    /// Cancels the first timeout with that `user_data`.
    pub(super) fn remove_timeout(&mut self, ring: usize, user_data: u64) -> i32 {
        let is_it = |request: &Request| {
            request.ring == ring
                && request.user_data == user_data
                && request.stage == Stage::Begun
                && matches!(request.job, Job::Timeout { .. })
        };
        let found = self.requests.iter().find(|(_, request)| is_it(request));
        let Some((&id, _)) = found else { return -libc::ENOENT };
        self.cancel_one(id)
    }

    /// Gives the first timeout with that `user_data` another time, from now on.
    pub(super) fn update_timeout(
        &mut self,
        ring: usize,
        user_data: u64,
        (new, absolute): (u64, bool),
        is_linked: bool,
    ) -> i32 {
        let is_it = |request: &Request| {
            let is_kind = match request.job {
                Job::Timeout { .. } => !is_linked,
                Job::LinkTimeout { .. } => is_linked,
                _ => false,
            };
            let is_there = request.ring == ring && request.stage == Stage::Begun;
            is_there && is_kind && request.user_data == user_data
        };
        let found = self.requests.iter_mut().find(|(_, request)| is_it(request));
        let Some((&id, request)) = found else { return -libc::ENOENT };
        if let Job::Timeout { span, is_absolute, .. } = &mut request.job {
            (*span, *is_absolute) = (new, absolute);
        }
        let at = if absolute { new } else { self.now.saturating_add(new) };
        let Some(alarm) = self.alarms.get_mut(&id) else { return -libc::ENOENT };
        // It counts completions no more.
        (alarm.at, alarm.counted) = (at, None);
        self.schedule_at(at, Due::Run(id));
        0
    }
}
