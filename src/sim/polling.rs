//! Polling threads (`SQPOLL`), without a thread: each is stepped when virtual time or an enter lets
//! it.
//!
//! ```text
//!            entries are there                    idle for as long as asked
//!   awake ──────────────────────► step: take them ─────────────────────────► asleep
//!     ▲                                                                        │
//!     └── `SQ_WAKEUP`, or work of a request in flight ◄────────────────────────┘ NEED_WAKEUP
//! ```
//!
//! Before it sleeps it raises the flag and looks once more (SQ5). A program that publishes entries
//! and does not wake it waits without end, which the report says. It may also die, by a fault:
//! what its rings have in flight is cancelled, and every enter fails with `EOWNERDEAD`.

use annulus_sys::abi::Params;
use annulus_sys::errno::Errno;
use annulus_sys::flags::{CqeFlags, SetupFlags};

use super::poller::{Doing, Poller};
use super::pool::Pool;
use super::real::is_open;
use super::state::{Due, State};
use super::trace::{RequestId, What};

/// How many CPUs the simulated machine has.
const CPUS: u32 = 8;
/// How long a thread polls if nothing else is asked for.
const USUAL: u64 = 1_000_000_000;
/// The most entries that it takes of one ring before it looks at its next one.
const SHARE: u32 = 8;

impl State {
    /// The polling thread that a ring asks for.
    pub(super) fn poller_for(&self, params: &Params) -> Result<Option<usize>, Errno> {
        let has = |flag| params.flags.contains(flag);
        let other = if has(SetupFlags::ATTACH_WQ) {
            let fd = params.wq_fd.cast_signed();
            let other = match (self.ring_at(fd), is_open(fd)) {
                (Some(ring), _) => Ok(ring),
                (None, true) => Err(Errno::new(libc::EINVAL)),
                (None, false) => Err(Errno::new(libc::ENXIO)),
            };
            Some(other?)
        } else {
            None
        };
        if !has(SetupFlags::SQPOLL) {
            let refused = Err(Errno::new(libc::EINVAL));
            return if has(SetupFlags::SQ_AFF) { refused } else { Ok(None) };
        }
        let attached = match other {
            Some(ring) => Some(self.rings[ring].poller.ok_or(Errno::new(libc::EINVAL))?),
            None => None,
        };
        if attached.is_some_and(|at| self.pollers[at].doing == Doing::Dead) {
            return Err(Errno::new(libc::ENXIO));
        }
        if has(SetupFlags::SQ_AFF) && attached.is_none() && params.sq_thread_cpu >= CPUS {
            return Err(Errno::new(libc::EINVAL));
        }
        Ok(Some(attached.unwrap_or(self.pollers.len())))
    }

    /// Gives a new ring its thread, which is made if need be.
    pub(super) fn attend(&mut self, ring: usize, poller: Option<usize>, params: &Params) {
        let Some(at) = poller else { return };
        let idle = match u64::from(params.sq_thread_idle) {
            0 => USUAL,
            milliseconds => milliseconds * 1_000_000,
        };
        if at == self.pollers.len() {
            let doing = Doing::Polls(self.now);
            let (is_stepping, is_tiring) = (false, false);
            let pool = Pool::default();
            self.pollers.push(Poller { rings: vec![], idle, doing, is_stepping, is_tiring, pool });
        }
        let poller = &mut self.pollers[at];
        poller.rings.push(ring);
        poller.idle = poller.idle.max(idle);
        self.rings[ring].poller = Some(at);
        self.rouse(at);
    }

    /// Whether the thread of a ring is dead.
    pub(super) fn is_orphan(&self, ring: usize) -> bool {
        let poller = self.rings[ring].poller;
        poller.is_some_and(|at| self.pollers[at].doing == Doing::Dead)
    }

    /// Whether the flag must be raised that asks to be woken.
    pub(super) fn needs_wakeup(&self, ring: usize) -> bool {
        let poller = self.rings[ring].poller;
        poller.is_some_and(|at| !matches!(self.pollers[at].doing, Doing::Polls(_)))
    }

    /// Whether a step of a thread, or its falling asleep, can still happen.
    pub(super) fn is_awake(&self, poller: usize) -> bool {
        let Poller { doing, rings, .. } = &self.pollers[poller];
        matches!(doing, Doing::Polls(_)) && rings.iter().any(|&ring| self.rings[ring].is_open)
    }

    /// The thread of a ring, if it has one, has something to do.
    pub(super) fn rouse_for(&mut self, ring: usize) {
        if let Some(poller) = self.rings[ring].poller {
            self.rouse(poller);
        }
    }

    /// Lets a thread poll from now on for as long as it may.
    fn rouse(&mut self, at: usize) {
        let is_weary = self.luck.hits(self.faults.doze);
        let poller = &mut self.pollers[at];
        if poller.doing == Doing::Dead {
            return;
        }
        let did_sleep = poller.doing == Doing::Sleeps;
        let span = if is_weary { 0 } else { poller.idle };
        let until = self.now.saturating_add(span);
        poller.doing = Doing::Polls(until);
        if !std::mem::replace(&mut poller.is_tiring, true) {
            self.schedule_at(until, Due::Tire(at));
        }
        if did_sleep {
            self.show(at, What::Woken);
        }
    }

    /// Notes what became of a thread, and tells its rings.
    fn show(&mut self, at: usize, what: What) {
        let rings = self.pollers[at].rings.clone();
        self.note(rings.first().copied(), what);
        rings.into_iter().for_each(|ring| self.raise(ring));
    }

    /// How many entries a thread could take.
    fn visible_to(&self, at: usize) -> u32 {
        let runs = |ring: usize| self.rings[ring].is_open && !self.rings[ring].gate.is_disabled;
        let open = self.pollers[at].rings.iter().filter(|&&ring| runs(ring));
        open.map(|&ring| self.rings[ring].half.visible().unwrap_or(0)).sum()
    }

    /// Lets the threads that poll see what was published.
    pub(super) fn let_pollers_look(&mut self) {
        for at in 0..self.pollers.len() {
            let is_busy = self.pollers[at].is_stepping;
            if !is_busy && self.is_awake(at) && self.visible_to(at) > 0 {
                self.pollers[at].is_stepping = true;
                let delay = self.delay();
                self.schedule(delay, Due::Step(at));
            }
        }
    }

    /// A thread takes what it sees.
    pub(super) fn step(&mut self, at: usize) {
        self.pollers[at].is_stepping = false;
        if self.luck.hits(self.faults.thread_dies) {
            return self.die(at);
        }
        let rings = self.pollers[at].rings.clone();
        let most = if rings.len() > 1 { SHARE } else { u32::MAX };
        for ring in rings {
            let is_open = self.rings[ring].is_open && !self.rings[ring].gate.is_disabled;
            let visible = self.rings[ring].half.visible().unwrap_or(0).min(most);
            if is_open && visible > 0 {
                let count = self.submit(ring, visible);
                self.note(Some(ring), What::Polled(count));
            }
        }
        self.rouse(at);
    }

    /// The patience of a thread is over, unless it had something to do meanwhile.
    pub(super) fn tire(&mut self, at: usize) {
        self.pollers[at].is_tiring = false;
        let Doing::Polls(until) = self.pollers[at].doing else { return };
        if self.pollers[at].is_stepping || self.visible_to(at) > 0 {
            return; // After its step it polls on.
        }
        if until > self.now {
            self.pollers[at].is_tiring = true;
            return self.schedule_at(until, Due::Tire(at));
        }
        self.pollers[at].doing = Doing::Sleeps;
        self.show(at, What::Slept);
    }

    /// A thread ends before its rings.
    fn die(&mut self, at: usize) {
        self.pollers[at].doing = Doing::Dead;
        let rings = self.pollers[at].rings.clone();
        let is_its = |ring: usize| rings.contains(&ring);
        let flight = self.requests.iter().filter(|(_, request)| is_its(request.ring));
        let flight: Vec<RequestId> = flight.map(|(&id, _)| id).collect();
        for id in flight {
            self.finish(id, -libc::ECANCELED, CqeFlags::empty());
        }
        self.show(at, What::Died);
    }
}
