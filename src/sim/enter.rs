//! One enter: submit, run what is due, and wait, during which virtual time moves.
//!
//! ```text
//!   submit ─► all consumed? ─ no ─► return the count
//!                 │ yes
//!                 ▼
//!   run what is due ─► enough ready? ─ yes ─► return
//!         ▲                 │ no
//!         └── time moves ◄──┴──► nothing can happen: `EDEADLK`, which Linux never returns
//! ```
//!
//! What a wait returns follows Linux: the count of entries, if any were consumed; 0 if a completion
//! is ready; and only then `ETIME` or `EINTR`. A timeout that ends, ends the wait (v6.18).

use annulus_sys::errno::Errno;
use annulus_sys::flags::{EnterFlags, SetupFlags};
use annulus_sys::syscall::this_thread;

use super::state::{Mode, State};
use super::trace::What;

/// How many enters may find nothing to do before time moves anyway, for a program that asks again
/// and again instead of waiting.
const PATIENCE: u32 = 8;

/// The flags of enters that the kernel knows, besides those that say what the argument is.
const KNOWN: EnterFlags = EnterFlags::GETEVENTS
    .union(EnterFlags::SQ_WAKEUP)
    .union(EnterFlags::SQ_WAIT)
    .union(EnterFlags::ABS_TIMER)
    .union(EnterFlags::NO_IOWAIT);

/// All of them.
pub(super) const FLAGS_OF_ENTERS: EnterFlags = KNOWN
    .union(EnterFlags::EXT_ARG)
    .union(EnterFlags::EXT_ARG_REG)
    .union(EnterFlags::REGISTERED_RING);

/// An enter that runs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    pub(super) ring: usize,
    pub(super) to_submit: u32,
    pub(super) min_complete: u32,
    pub(super) flags: EnterFlags,
    /// How long to wait at most, and how long for all completions.
    pub(super) limit: Option<u64>,
    pub(super) min_wait: Option<u64>,
    /// What is wrong with its argument, which only a wait reads.
    pub(super) wrong: Option<Errno>,
    /// How many entries were consumed; `None` before that.
    pub(super) count: Option<u32>,
    /// When it began, and how many timeouts had ended then.
    pub(super) began: u64,
    pub(super) timeouts: u32,
    /// Whether chance was asked for a signal.
    pub(super) asked: bool,
}

/// What comes next.
#[derive(Debug)]
pub(super) enum Turn {
    /// The enter returns.
    Return(Result<u32, Errno>),
    /// A test acts, and then the enter goes on.
    Act(usize),
}

impl State {
    /// Goes on with an enter.
    pub(super) fn enter(&mut self, call: &mut Call) -> Turn {
        let turn = match call.count {
            None => match self.begin_enter(call) {
                Some(result) => Turn::Return(result),
                None => self.go_on(call),
            },
            Some(_) => self.go_on(call),
        };
        if let Turn::Return(result) = &turn {
            self.raise(call.ring);
            self.perhaps_lie(call.ring);
            let shown = result.map_err(Errno::raw);
            self.note(Some(call.ring), What::Returned(shown));
        }
        turn
    }

    /// Submits. Returns what the enter returns, if it does not go on.
    fn begin_enter(&mut self, call: &mut Call) -> Option<Result<u32, Errno>> {
        let Call { ring, to_submit, min_complete, flags, .. } = *call;
        self.look();
        self.note(Some(ring), What::Entered(to_submit, min_complete));
        let is_old = flags.iter().any(|flag| !self.release.has(flag.since()));
        if is_old || !KNOWN.contains(flags) {
            return Some(Err(Errno::new(libc::EINVAL)));
        }
        if self.rings[ring].gate.is_disabled {
            return Some(Err(Errno::new(libc::EBADFD)));
        }
        if let Some(errno) = self.refusal(ring, to_submit) {
            return Some(Err(Errno::new(errno)));
        }
        (call.began, call.timeouts) = (self.now, self.rings[ring].timeouts);
        if self.rings[ring].poller.is_some() {
            if flags.contains(EnterFlags::SQ_WAKEUP) && self.needs_wakeup(ring) {
                self.rouse_for(ring);
            }
            self.idle += u32::from(min_complete == 0);
            call.count = Some(to_submit);
            return None;
        }
        if self.rings[ring].mode == Mode::Coop {
            self.run_work(ring);
        }
        let count = if to_submit > 0 { self.submit(ring, to_submit) } else { 0 };
        call.count = Some(count);
        if count > 0 {
            self.idle = 0;
        } else if min_complete == 0 || self.reaps(ring) {
            self.idle += 1;
        }
        (count < to_submit).then_some(Ok(count))
    }

    fn refusal(&mut self, ring: usize, to_submit: u32) -> Option<i32> {
        if self.rings[ring].poller.is_some() {
            return self.is_orphan(ring).then_some(libc::EOWNERDEAD);
        }
        let of_ring = &mut self.rings[ring];
        if of_ring.flags.contains(SetupFlags::SINGLE_ISSUER) {
            let thread = this_thread();
            if *of_ring.thread.get_or_insert(thread) != thread {
                return Some(libc::EEXIST);
            }
        }
        let is_old = self.release.is_before(5, 13);
        if to_submit > 0 && is_old {
            self.flush(ring);
        }
        let overflows = !self.rings[ring].overflow.is_empty();
        if to_submit > 0 && overflows && is_old {
            return Some(libc::EBUSY);
        }
        if to_submit > 0 && overflows && self.luck.hits(self.faults.busy) {
            return Some(libc::EBUSY);
        }
        (to_submit > 0 && self.luck.hits(self.faults.again)).then_some(libc::EAGAIN)
    }

    fn go_on(&mut self, call: &mut Call) -> Turn {
        let (ring, asks) = (call.ring, call.flags.contains(EnterFlags::GETEVENTS));
        let mode = self.rings[ring].mode;
        loop {
            if let Some(act) = self.run_due() {
                return Turn::Act(act);
            }
            if mode == Mode::Coop || asks {
                self.run_work(ring);
            }
            if self.next_time().is_some_and(|at| at <= self.now) {
                continue;
            }
            let count = call.count.unwrap_or(0);
            if self.waits_for_room(call) {
                if self.let_time_pass(None) {
                    continue;
                }
                return Turn::Return(Err(Errno::new(self.stall(ring))));
            }
            if !asks {
                return Turn::Return(Ok(count));
            }
            self.flush(ring);
            if let Some(errno) = call.wrong {
                return Turn::Return(if count == 0 { Err(errno) } else { Ok(count) });
            }
            if self.is_enough(call) {
                if self.is_in_vain(call) && self.let_time_pass(None) {
                    continue;
                }
                return Turn::Return(Ok(count));
            }
            if std::mem::take(&mut self.rings[ring].has_dropped) {
                let lost = Err(Errno::new(libc::EBADR));
                return Turn::Return(if count == 0 { lost } else { Ok(count) });
            }
            if let Err(errno) = self.wait(call) {
                let is_empty = self.rings[ring].half.ready() == 0;
                let fails = count == 0 && is_empty;
                return Turn::Return(if fails { Err(Errno::new(errno)) } else { Ok(count) });
            }
        }
    }

    /// Whether it waits until the polling thread has made room (`SQ_WAIT`).
    fn waits_for_room(&self, call: &Call) -> bool {
        let ring = &self.rings[call.ring];
        let waits = call.flags.contains(EnterFlags::SQ_WAIT) && ring.poller.is_some();
        waits && ring.half.visible() == Ok(ring.half.sizes().0)
    }

    /// Whether the wait has what it waits for.
    fn is_enough(&self, call: &Call) -> bool {
        let ring = &self.rings[call.ring];
        let over = |span: u64| self.now >= call.began.saturating_add(span);
        let most = if call.min_wait.is_some_and(over) { 1 } else { u32::MAX };
        let most = if self.reaps(call.ring) { 0 } else { most };
        let want = call.min_complete.min(ring.half.cq_entries()).min(most);
        ring.half.ready() >= want || ring.timeouts != call.timeouts
    }

    /// Whether the program only asks, again and again, and nothing happens.
    fn is_in_vain(&self, call: &Call) -> bool {
        let only_asks = call.min_complete == 0 || self.reaps(call.ring);
        only_asks && self.idle > PATIENCE && self.rings[call.ring].half.ready() == 0
    }

    /// Lets time move on; or says why the wait ends.
    fn wait(&mut self, call: &mut Call) -> Result<(), i32> {
        let at = |span: u64| call.began.saturating_add(span);
        let deadline = call.limit.map(at);
        if deadline.is_some_and(|deadline| deadline <= self.now) {
            return Err(libc::ETIME);
        }
        if !std::mem::replace(&mut call.asked, true) && self.luck.hits(self.faults.interrupt) {
            return Err(libc::EINTR);
        }
        let min_wait = call.min_wait.map(at).filter(|&end| end > self.now);
        let ends = deadline.into_iter().chain(min_wait).min();
        if self.let_time_pass(ends) {
            return Ok(());
        }
        if self.world.wait_for_real() {
            self.wake_up();
            return Ok(());
        }
        Err(if call.count == Some(0) { self.stall(call.ring) } else { libc::EDEADLK })
    }

    /// A wait can never end. Returns the error that says so.
    pub(super) fn stall(&mut self, ring: usize) -> i32 {
        let flight: Vec<String> =
            self.in_flight().into_iter().map(|(_, request)| request).collect();
        let count = u32::try_from(flight.len()).unwrap_or(u32::MAX);
        self.note(Some(ring), What::Stalled(count));
        self.stalls.push(flight);
        libc::EDEADLK
    }

    /// Moves time to the next thing that happens, or to `limit`. Returns whether there is one.
    pub(super) fn let_time_pass(&mut self, limit: Option<u64>) -> bool {
        let next = self.next_time().into_iter().chain(limit).min();
        self.idle = 0;
        if let Some(next) = next {
            self.now = self.now.max(next);
            self.world.look_at_real();
            self.wake_up();
        }
        next.is_some()
    }
}
