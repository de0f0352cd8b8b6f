//! The end of requests: their memory, their completions, and what follows in the chain.
//!
//! | a request ended, and | the rest of its chain |
//! |---|---|
//! | did what it was to do | the next one begins |
//! | failed, and the link is hard | the next one begins |
//! | failed, or was short | completes with `ECANCELED`, in order |
//!
//! An entry with `CQE_SKIP_SUCCESS` that fails has a completion, and the rest of its chain has
//! none; if one without it fails, the rest has completions even where it asked to skip them
//! (v6.18).

use annulus_sys::abi::Cqe;
use annulus_sys::flags::{CqeFlags, SqeFlags};

use super::pool::Work;
use super::post::{How, Posting};
use super::region::{Region, Use};
use super::request::{Job, Letter, Request, Stage};
use super::signals::By;
use super::state::{Due, Mode, State};
use super::trace::{RequestId, What};

impl State {
    /// Checks that the memory of a request is as the kernel left it (OP1).
    pub(super) fn check_memory(&mut self, id: RequestId) {
        let Some(request) = self.requests.get(&id) else { return };
        if self.is_sound() && !request.regions.iter().all(Region::is_untouched) {
            let (ring, what) = (request.ring, request.describe(id));
            let rule = if self.rings[ring].is_open { "OP1" } else { "RG1" };
            self.fault(ring, format!("{rule}: memory of {what} changed"));
        }
    }

    /// A request ends, with its last completion.
    pub(super) fn finish(&mut self, id: RequestId, res: i32, flags: CqeFlags) {
        self.check_memory(id);
        let Some(mut request) = self.requests.remove(&id) else { return };
        self.alarms.remove(&id);
        self.futexes.forget(id);
        let work = request.work.take();
        if matches!(work, Some(Work::Runs(_) | Work::Doomed(_) | Work::Blocks(_))) {
            self.let_linger(request.ring);
        }
        self.leave_pool(request.ring, id, work);
        self.hand_down(&request, work, res);
        if self.is_sound() {
            give_back(&request);
        }
        for end in request.end.into_iter().chain(request.source) {
            self.world.leave(end);
            self.world.forget(end, id);
        }
        let (ring, has_failed) = (request.ring, self.has_failed(&request, res));
        let skips = request.flags.contains(SqeFlags::CQE_SKIP_SUCCESS);
        if !skips || has_failed {
            let cqe = Cqe { user_data: request.user_data, res, flags };
            let by = self.poster(ring, work);
            self.post_wide(ring, id, Posting { cqe, big: request.big }, by);
            self.count(ring, Some(&request.job));
        }
        for entry in request.held.drain(..) {
            self.let_go(ring, entry);
        }
        self.go_on_in_chain(&mut request, has_failed, skips);
        self.go_on_after_drain(ring);
        self.raise(ring);
    }

    /// Whether a request failed, as its chain sees it.
    fn has_failed(&self, request: &Request, res: i32) -> bool {
        let always = matches!(request.job, Job::Fsync | Job::Allocate { .. } | Job::Shutdown(_))
            || matches!(request.job, Job::Path(_));
        let is_old = always && self.release.is_before(6, 0);
        request.has_failed(res) || (is_old && res < 0)
    }

    /// Goes on with what is linked to a request that has its result.
    fn go_on_in_chain(&mut self, request: &mut Request, has_failed: bool, skips: bool) {
        let mut next = request.next.take();
        if let Some(clock) = request.clock.take() {
            // The request is over, so its timeout has nothing to bound. What follows the timeout
            // follows the request, too.
            next = self.requests.get_mut(&clock).and_then(|clock| clock.next.take());
            let refused = self.requests.get(&clock).and_then(|clock| clock.refused);
            self.finish(clock, refused.unwrap_or(-libc::ECANCELED), CqeFlags::empty());
        }
        let goes_on = !has_failed || request.flags.contains(SqeFlags::IO_HARDLINK);
        match next {
            // As work of the ring: when the batch is submitted, and the completion is there.
            Some(next) if goes_on => self.schedule(0, Due::Begin(next)),
            Some(next) => self.break_chain(next, skips),
            None => {}
        }
    }

    /// The rest of a chain that was broken completes without having begun.
    fn break_chain(&mut self, first: RequestId, skips: bool) {
        let mut next = Some(first);
        while let Some(id) = next {
            let Some(request) = self.requests.remove(&id) else { return };
            next = request.next;
            let res = request.refused.unwrap_or(-libc::ECANCELED);
            if !skips {
                let cqe = Cqe { user_data: request.user_data, res, flags: CqeFlags::empty() };
                self.post(request.ring, id, cqe);
                // Even a timeout, which has not begun, is a completion as any other.
                self.count(request.ring, None);
            }
        }
    }

    /// A completion of a request that goes on. Returns whether the queue had room: if it had not,
    /// the request must end with this completion.
    pub(super) fn post_more(&mut self, id: RequestId, res: i32, flags: CqeFlags) -> bool {
        let request = self.requests.get_mut(&id).expect("in flight");
        let (ring, user_data) = (request.ring, request.user_data);
        if !self.rings[ring].overflow.is_empty() || !self.rings[ring].half.has_room() {
            return false;
        }
        request.posts += 1;
        request.has_waited = false;
        let (job, work) = (request.job.clone(), request.work);
        let cqe = Cqe { user_data, res, flags: flags | CqeFlags::MORE };
        let by = self.poster(ring, work);
        self.post_wide(ring, id, cqe.into(), by);
        self.count(ring, Some(&job));
        true
    }

    /// A zero-copy send has its result, and keeps the memory until its notification. The worker
    /// that has sent it is free, or goes on with its chain.
    pub(super) fn send_result(&mut self, id: RequestId, res: i32) {
        let Some(mut request) = self.requests.remove(&id) else { return };
        request.posts += 1;
        request.stage = Stage::Notifying;
        let (ring, user_data) = (request.ring, request.user_data);
        let work = request.work.take();
        self.leave_pool(ring, id, work);
        self.hand_down(&request, work, res);
        let cqe = Cqe { user_data, res, flags: CqeFlags::MORE };
        let by = self.poster(ring, work);
        self.post_wide(ring, id, cqe.into(), by);
        let has_failed = request.has_failed(res);
        self.go_on_in_chain(&mut request, has_failed, false);
        self.requests.insert(id, request);
        let delay = self.delay();
        self.schedule(delay, Due::Notify(id));
    }

    /// The notification of a zero-copy send, which is its last completion.
    pub(super) fn notify(&mut self, id: RequestId) {
        if self.requests.get(&id).is_some_and(|request| request.stage == Stage::Notifying) {
            self.finish(id, 0, CqeFlags::NOTIF);
        }
    }

    /// A completion that belongs to no request of the ring.
    pub(super) fn tell(&mut self, ring: usize, cqe: Cqe) {
        self.post(ring, 0, cqe);
        self.count(ring, None);
        self.raise(ring);
    }

    fn post(&mut self, ring: usize, id: RequestId, cqe: Cqe) {
        self.post_wide(ring, id, cqe.into(), By::Other);
    }

    /// Who posts the completion of a request that a worker has, if one has it.
    fn poster(&self, ring: usize, work: Option<Work>) -> By {
        let is_worker = matches!(work, Some(Work::Runs(_) | Work::Doomed(_) | Work::Blocks(_)));
        if is_worker && self.rings[ring].mode != Mode::Defer { By::Worker } else { By::Other }
    }

    fn post_wide(&mut self, ring: usize, id: RequestId, posting: Posting, by: By) {
        let posting = self.perhaps_another(posting);
        let cqe = posting.cqe;
        self.idle = 0;
        self.note(Some(ring), What::Posted(id, cqe.res, cqe.flags.bits()));
        let forgets = !self.release.is_before(7, 3);
        let of_ring = &mut self.rings[ring];
        if !of_ring.is_open {
            return;
        }
        let how = How { waits: !of_ring.overflow.is_empty(), forgets };
        if !of_ring.half.post(posting, how) {
            if self.luck.hits(self.faults.dropped) {
                of_ring.half.count_lost();
                of_ring.has_dropped = true;
                return self.note(Some(ring), What::Lost(id));
            }
            of_ring.overflow.push_back((id, posting));
            return self.note(Some(ring), What::Overflowed(id));
        }
        self.signal(ring, by);
    }

    /// Counts a completion, for the timeouts that wait for a number of them.
    fn count(&mut self, ring: usize, job: Option<&Job>) {
        if matches!(job, Some(Job::Timeout { .. })) {
            return;
        }
        match &mut self.rings[ring].batch {
            Some(batch) => *batch += 1,
            None => self.end_counted(ring, 1),
        }
    }

    /// Moves completions that found no room to the queue.
    pub(super) fn flush(&mut self, ring: usize) {
        let forgets = !self.release.is_before(7, 3);
        let of_ring = &mut self.rings[ring];
        let before = of_ring.overflow.len();
        while let Some((_, posting)) = of_ring.overflow.front().copied()
            && of_ring.half.post(posting, How { waits: false, forgets })
        {
            of_ring.overflow.pop_front();
        }
        if of_ring.overflow.len() < before {
            self.signal(ring, By::Other);
            self.wake_up();
        }
    }
}

/// Writes what a request has received to its memory, and puts back what it did not write.
fn give_back(request: &Request) {
    let Request { regions, got, job, letter, .. } = request;
    if let (Job::Accept { .. }, [address, len]) = (job, &regions[..]) {
        let count = u32::try_from(got.len()).expect("an address is short");
        address.end(&got[..got.len().min(address.len())]);
        return len.end(&count.to_ne_bytes());
    }
    let mut others = 0;
    if let Job::RecvMessage(_, envelope) = job {
        others = envelope.others.min(regions.len());
        give_back_letter(&regions[..others], letter.as_ref());
    }
    let mut rest = &got[..];
    for region in regions[others..].iter().filter(|region| region.use_() != Use::Reads) {
        let (part, others) = rest.split_at(rest.len().min(region.len()));
        region.end(part);
        rest = others;
    }
}

/// Updates a `struct msghdr`, and writes the address that belongs to it: what is in `regions`.
fn give_back_letter(regions: &[Region], letter: Option<&Letter>) {
    let Some((header, name)) = regions.split_first() else { return };
    let Some(letter) = letter else {
        return regions.iter().for_each(|region| region.end(&[]));
    };
    let mut bytes = header.read(0);
    let len = u32::try_from(letter.from.len()).expect("an address is short");
    let has_name = bytes[..8] != [0; 8];
    if has_name {
        bytes[8..12].copy_from_slice(&len.to_ne_bytes());
    }
    bytes[40..48].fill(0);
    bytes[48..52].copy_from_slice(&letter.flags.to_ne_bytes());
    header.end(&bytes);
    for name in name {
        name.end(&letter.from[..letter.from.len().min(name.len())]);
    }
}
