//! Worker threads (io-wq): requests that may not, or should not, run where they were submitted.
//!
//! ```text
//!   `ASYNC`, or of its kind ──► is a worker free? ── no ──► wait ──┐    a cancel: 0
//!                                       │ yes                      │
//!                                       ▼                          │
//!                       a worker has it: one attempt ◄─────────────┘    a cancel: `EALREADY`
//!                                       │
//!                                       ├──► ends, or waits for its end without the worker,
//!                                       │    and then a worker tries it again
//!                                       └──► a splice waits with the worker
//! ```
//!
//! | goes to a worker | |
//! |---|---|
//! | every entry with `ASYNC` | |
//! | `FSYNC` `FTRUNCATE` `FALLOCATE` `SHUTDOWN` `SPLICE` `TEE` | |
//! | operations on paths | but opens that neither make nor cut a file |
//! | the step after one that a worker has done | unless the ring defers its work |
//!
//! A request that a worker has was cancelled too late: the worker may notice, and then it ends with
//! `ECANCELED`, or not, and then it goes on as if nothing had been.
//!
//! The worker goes on with the next step of a chain, and waits with it where that must wait. A
//! cancel interrupts it there (`EINTR`), as it does with a splice.
#![allow(unsafe_code, reason = "reads and writes the argument of a call")]

use annulus_sys::errno::Errno;
use annulus_sys::flags::SqeFlags;

use super::pool::{Pool, Work};
use super::region::{read_value, write_value};
use super::request::{Job, Request, Stage};
use super::state::{Due, Mode, State};
use super::trace::RequestId;
use super::world::Kind;

/// The most bounded workers, unless a first ring has fewer entries, and the most of the others.
const MOST: [u32; 2] = [32, 4096];

impl State {
    /// The workers of the thread that submits for a ring.
    fn pool(&mut self, ring: usize) -> &mut Pool {
        match self.rings[ring].poller {
            Some(poller) => &mut self.pollers[poller].pool,
            None => &mut self.pool,
        }
    }

    /// A ring was made: the first one of a thread decides how many workers there may be.
    pub(super) fn size_pool(&mut self, ring: usize, sq_entries: u32) {
        let pool = self.pool(ring);
        if pool.most == [0; 2] {
            pool.most = [MOST[0].min(sq_entries), MOST[1]];
        }
    }

    /// Whether a request is for a worker from the start.
    pub(super) fn is_for_worker(request: &Request) -> bool {
        let is_forced = request.flags.contains(SqeFlags::ASYNC);
        is_forced
            || request.worker.is_some()
            || match &request.job {
                Job::Fsync | Job::Truncate(_) | Job::Allocate { .. } => true,
                Job::Shutdown(_) | Job::Splice(_) => true,
                Job::Path(job) => job.may_block(),
                _ => false,
            }
    }

    /// Whether a worker tries a request again, now that its end has changed: it was forced.
    pub(super) fn returns_to_pool(&self, id: RequestId) -> bool {
        self.requests.get(&id).is_some_and(|request| {
            let is_forced = request.flags.contains(SqeFlags::ASYNC);
            let is_tried = !request.job.repeats() && !matches!(request.job, Job::Poll { .. });
            is_forced && is_tried && request.stage == Stage::Begun && request.work.is_none()
        })
    }

    /// Gives a request to a worker, or lets it wait for one.
    pub(super) fn punt(&mut self, id: RequestId) {
        let request = &self.requests[&id];
        let (ring, end) = (request.ring, request.end);
        // One that was forced itself is polled for.
        let is_forced = request.flags.contains(SqeFlags::ASYNC);
        if let Some(kind) = request.worker.filter(|_| !is_forced) {
            self.employ(ring, kind, id);
            self.requests.get_mut(&id).expect("in flight").work = Some(Work::Blocks(kind));
            return;
        }
        let is_file = matches!(request.job, Job::Path(_))
            || end.is_some_and(|end| self.world.ends[end].kind == Kind::File)
            || end.is_some_and(|end| self.world.is_real_file(end));
        let kind = usize::from(!is_file);
        let pool = self.pool(ring);
        let is_free = pool.busy[kind] < pool.most[kind];
        if !is_free {
            pool.waiting[kind].push_back(id);
            self.requests.get_mut(&id).expect("in flight").work = Some(Work::Waits(kind));
            return;
        }
        self.employ(ring, kind, id);
    }

    fn employ(&mut self, ring: usize, kind: usize, id: RequestId) {
        self.pool(ring).busy[kind] += 1;
        self.requests.get_mut(&id).expect("in flight").work = Some(Work::Runs(kind));
        let delay = self.delay();
        self.schedule(delay, Due::Run(id));
    }

    /// A request leaves its pool: it is tried now, or has ended.
    pub(super) fn leave_pool(&mut self, ring: usize, id: RequestId, work: Option<Work>) {
        match work {
            None => {}
            Some(Work::Waits(kind)) => self.pool(ring).waiting[kind].retain(|&other| other != id),
            Some(Work::Runs(kind) | Work::Doomed(kind) | Work::Blocks(kind)) => {
                let pool = self.pool(ring);
                pool.busy[kind] -= 1;
                self.employ_next(ring, kind);
            }
        }
    }

    fn employ_next(&mut self, ring: usize, kind: usize) {
        while self.pool(ring).busy[kind] < self.pool(ring).most[kind]
            && let Some(next) = self.pool(ring).waiting[kind].pop_front()
        {
            let ring = self.requests[&next].ring;
            self.employ(ring, kind, next);
        }
    }

    /// A request that waits for its end leaves its worker, unless that one waits with it.
    pub(super) fn put_off(&mut self, id: RequestId, waits: bool) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        let stays = match request.job {
            Job::Splice(_) => true,
            Job::Poll { .. } => false,
            _ => waits && matches!(request.work, Some(Work::Blocks(_))),
        };
        if let Some(Work::Runs(kind) | Work::Blocks(kind)) = request.work.filter(|_| stays) {
            request.work = Some(Work::Blocks(kind));
            return;
        }
        let (ring, work) = (request.ring, request.work.take());
        self.leave_pool(ring, id, work);
    }

    /// The worker that had a request goes on with the next one of its chain, if the completion was
    /// posted by it: not of what failed, nor on a ring that defers its work.
    pub(super) fn hand_down(&mut self, request: &Request, work: Option<Work>, res: i32) {
        let (ring, next) = (request.ring, request.next);
        if res < 0 {
            return;
        }
        let Some(Work::Runs(kind) | Work::Doomed(kind) | Work::Blocks(kind)) = work else { return };
        if self.rings[ring].mode != Mode::Defer
            && let Some(next) = next.and_then(|next| self.requests.get_mut(&next))
        {
            next.worker = Some(kind);
        }
    }

    /// A cancel of a request that a worker has comes too late.
    pub(super) fn is_too_late(&mut self, id: RequestId) -> bool {
        let misses = self.luck.hits(self.faults.no_cancel);
        let request = self.requests.get_mut(&id).expect("in flight");
        match request.work {
            None | Some(Work::Waits(_)) => return false,
            Some(Work::Blocks(_)) => {
                let delay = self.delay();
                self.schedule(delay, Due::Interrupt(id));
            }
            Some(Work::Runs(kind)) if !misses => request.work = Some(Work::Doomed(kind)),
            Some(Work::Runs(_) | Work::Doomed(_)) => {}
        }
        true
    }

    /// Sets how many workers there may be; tells how many there might have been before.
    ///
    /// # Safety
    ///
    /// `arg` must be null or point to two numbers.
    pub(super) unsafe fn limit_workers(
        &mut self,
        ring: usize,
        arg: *mut libc::c_void,
        count: u32,
    ) -> Result<u32, Errno> {
        if arg.is_null() || count != 2 {
            return Err(Errno::new(libc::EINVAL));
        }
        // SAFETY: two numbers, as promised to `limit_workers`.
        let asked = unsafe { read_value::<[u32; 2]>(arg.expose_provenance() as u64) };
        if asked.iter().any(|&limit| i32::try_from(limit).is_err()) {
            return Err(Errno::new(libc::EINVAL));
        }
        let before = self.pool(ring).most;
        for (kind, limit) in asked.into_iter().enumerate().filter(|(_, limit)| *limit > 0) {
            self.pool(ring).most[kind] = limit;
            self.employ_next(ring, kind);
        }
        // SAFETY: two numbers, as promised to `limit_workers`.
        unsafe { write_value(arg, before) };
        Ok(0)
    }
}
