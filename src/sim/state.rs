//! Everything that a simulated kernel knows: rings, requests, the world, time and chance.
//!
//! ```text
//!                      ┌─ requests ──┬─ due (a time each) ─┐
//!   rings ─ enter ────►│             │                     ├──► completions
//!                      └─ world ─────┴─ work of a ring ────┘    (DEFER_TASKRUN, COOP_TASKRUN)
//! ```
//!
//! Leaves to others: taking entries (`submit`), running requests (`run`), ending them (`finish`).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::os::fd::{OwnedFd, RawFd};
use std::time::{Duration, Instant};

use annulus_sys::flags::{CqeFlags, SetupFlags, SqRingFlags};

use super::Sim;
use super::block::Region;
use super::buffers::Group;
use super::chance::Chance;
use super::eventfd::Signal;
use super::faults::Faults;
use super::gate::Gate;
use super::held::Drains;
use super::memory::Half;
use super::people::People;
use super::placeholder::{Placeholder, find_closed};
use super::poller::Poller;
use super::pool::Pool;
use super::post::Posting;
use super::registered::Table;
use super::release::Release;
use super::report::{Report, SHOWN};
use super::request::Request;
use super::shrink::Decisions;
use super::trace::{Record, RequestId, Trace, What};
use super::waiting::Futexes;
use super::world::World;

/// Something that a test wants to do at a time.
pub(super) type Act = Box<dyn FnOnce(&Sim) + Send>;

/// What happens at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// A request begins: those before it in its chain, or before a drained one, have ended.
    Begin(RequestId),
    /// A request tries again, or its time is up.
    Run(RequestId),
    /// The notification of a zero-copy send.
    Notify(RequestId),
    /// A worker thread gives a request up that was to be cancelled.
    Interrupt(RequestId),
    /// A message comes to a ring that defers its work.
    Tell {
        ring: usize,
        user_data: u64,
        res: i32,
        flags: u32,
    },
    /// A test acts.
    Act(usize),
    /// A polling thread takes entries, or has found none for a while.
    Step(usize),
    Tire(usize),
    /// A worker thread of a ring lets go of a request that has ended.
    LetGo(usize),
}

/// A simulated kernel.
pub(super) struct State {
    pub(super) seed: u64,
    pub(super) faults: Faults,
    pub(super) release: Release,
    /// Chances for: delays, faults, order.
    pub(super) delays: Chance,
    pub(super) luck: Chance,
    pub(super) start: Instant,
    /// Nanoseconds since the start.
    pub(super) now: u64,
    pub(super) world: World,
    pub(super) futexes: Futexes,
    pub(super) rings: Vec<Ring>,
    pub(super) pollers: Vec<Poller>,
    /// The workers of the thread that enters.
    pub(super) pool: Pool,
    /// Which ring a descriptor of the process belongs to. Only a ring that is open is asked for.
    pub(super) numbers: HashMap<RawFd, usize>,
    /// The registered rings, by their places, each with a descriptor that keeps it open.
    pub(super) ring_fds: BTreeMap<u32, (usize, OwnedFd)>,
    pub(super) requests: BTreeMap<RequestId, Request>,
    pub(super) consumed: RequestId,
    due: BinaryHeap<Reverse<(u64, u64, Due)>>,
    scheduled: u64,
    pub(super) acts: Vec<Option<Act>>,
    /// The timeouts that have begun.
    pub(super) alarms: BTreeMap<RequestId, Alarm>,
    pub(super) trace: Trace,
    pub(super) broken: Vec<String>,
    pub(super) stalls: Vec<Vec<String>>,
    pub(super) abandoned: usize,
    /// Whether it has lied, so that no account means anything.
    pub(super) has_lied: bool,
    /// How many enters in a row found nothing to do.
    pub(super) idle: u32,
    /// Whether several requests in flight may have one `user_data`.
    pub(super) shares_user_data: bool,
    /// Which request is looked at next.
    watched: RequestId,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("seed", &self.seed).finish_non_exhaustive()
    }
}

/// A ring.
#[derive(Debug)]
pub(super) struct Ring {
    pub(super) half: Half,
    pub(super) mode: Mode,
    pub(super) flags: SetupFlags,
    pub(super) placeholder: Placeholder,
    pub(super) is_open: bool,
    /// Whether one was lost since the program was told.
    pub(super) has_dropped: bool,
    /// Completions that found no room.
    pub(super) overflow: VecDeque<(RequestId, Posting)>,
    /// Requests that run at the next enter that allows it.
    pub(super) work: VecDeque<Due>,
    pub(super) groups: Vec<Group>,
    pub(super) buffers: Table,
    pub(super) files: Table,
    /// How many completions were posted, except those of timeouts; how many timeouts ended.
    pub(super) counted: u32,
    pub(super) timeouts: u32,
    /// Completions of the batch that is being submitted: Linux counts them at its end.
    pub(super) batch: Option<u32>,
    /// What waits behind drained entries.
    pub(super) drains: Drains,
    /// The thread that polls its entries (`SQPOLL`).
    pub(super) poller: Option<usize>,
    /// The thread that enters (`SINGLE_ISSUER`).
    pub(super) thread: Option<annulus_sys::syscall::Thread>,
    pub(super) gate: Gate,
    /// The eventfd that its completions signal.
    pub(super) signal: Option<Signal>,
    pub(super) people: People,
    /// The registered memory with arguments.
    pub(super) region: Option<Region>,
}

/// When a timeout ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Alarm {
    pub(super) at: u64,
    /// How many completions of the ring end it before.
    pub(super) counted: Option<u32>,
    /// How often it completes, if there is a limit.
    pub(super) left: u32,
}

/// When the work of a ring runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// At any time.
    Plain,
    /// At each enter.
    Coop,
    /// At an enter that asks for completions.
    Defer,
}

impl State {
    pub(super) fn new(seed: u64, faults: Faults, only: Option<Decisions>) -> Self {
        let of_delays = only.as_ref().map(|only| only.delays.clone());
        let of_faults = only.map(|only| only.faults);
        Self {
            seed,
            faults,
            release: Release::NEWEST,
            delays: Chance::new(seed, 1, of_delays),
            luck: Chance::new(seed, 2, of_faults),
            start: Instant::now(),
            now: 0,
            world: World::default(),
            futexes: Futexes::default(),
            rings: Vec::new(),
            pollers: Vec::new(),
            pool: Pool::default(),
            numbers: HashMap::new(),
            ring_fds: BTreeMap::new(),
            requests: BTreeMap::new(),
            consumed: 0,
            due: BinaryHeap::new(),
            scheduled: 0,
            acts: Vec::new(),
            alarms: BTreeMap::new(),
            trace: Trace::new(),
            broken: Vec::new(),
            stalls: Vec::new(),
            abandoned: 0,
            has_lied: false,
            idle: 0,
            shares_user_data: false,
            watched: 0,
        }
    }

    /// Adds a record.
    pub(super) fn note(&mut self, ring: Option<usize>, what: What) {
        self.trace.add(Record { at: Duration::from_nanos(self.now), ring, what });
    }

    /// Notes a broken rule. From then on no memory of requests is touched.
    pub(super) fn fault(&mut self, ring: usize, text: String) {
        if self.has_lied {
            return;
        }
        self.note(Some(ring), What::Fault(text.clone()));
        self.broken.push(text);
    }

    /// Whether no rule was broken, so that the program's memory may be touched.
    pub(super) fn is_sound(&self) -> bool {
        self.broken.is_empty() && !self.has_lied
    }

    /// Lets something happen `span` nanoseconds from now.
    pub(super) fn schedule(&mut self, span: u64, due: Due) {
        self.schedule_at(self.now.saturating_add(span), due);
    }

    /// Lets something happen at a time.
    pub(super) fn schedule_at(&mut self, at: u64, due: Due) {
        self.scheduled += 1;
        self.due.push(Reverse((at.max(self.now), self.scheduled, due)));
    }

    /// How long something is to be delayed.
    pub(super) fn delay(&mut self) -> u64 {
        let Faults { delay, longest, .. } = self.faults;
        if self.delays.hits(delay) { self.delays.span(longest) } else { 0 }
    }

    /// When the next thing happens.
    pub(super) fn next_time(&mut self) -> Option<u64> {
        while let Some(Reverse((at, _, due))) = self.due.peek() {
            if self.is_live(*due) {
                return Some(*at);
            }
            self.due.pop();
        }
        None
    }

    /// Takes the next thing that happens by now.
    pub(super) fn next_due(&mut self) -> Option<Due> {
        let at = self.next_time()?;
        if at > self.now {
            return None;
        }
        self.due.pop().map(|Reverse((_, _, due))| due)
    }

    fn is_live(&self, due: Due) -> bool {
        match due {
            Due::Act(_) | Due::Tell { .. } | Due::LetGo(_) => true,
            Due::Step(poller) | Due::Tire(poller) => self.is_awake(poller),
            Due::Begin(id) | Due::Run(id) | Due::Notify(id) | Due::Interrupt(id) => {
                self.requests.contains_key(&id)
            }
        }
    }

    /// Looks at what the program has done since the last call: what it took, closed and offered,
    /// and whether it kept the rules.
    pub(super) fn look(&mut self) {
        if self.rings.iter().any(|ring| ring.is_open && ring.half.is_theirs()) {
            // What is closed may be unmapped.
            self.find_closed_rings();
        }
        for at in 0..self.rings.len() {
            if self.rings[at].is_open {
                self.look_at(at);
            }
        }
        self.sweep();
        self.world.look_at_real();
        self.wake_up();
        self.look_at_memory(8);
    }

    /// Lets go of the ends that nothing names or uses any more.
    pub(super) fn sweep(&mut self) {
        for end in self.world.sweep() {
            self.note(None, What::Ended(end));
        }
    }

    fn look_at(&mut self, at: usize) {
        if self.rings[at].half.is_gone() {
            self.rings[at].is_open = false;
            return self.fault(at, "RG1: the memory of the ring is not mapped".into());
        }
        let half = &mut self.rings[at].half;
        let (taken, visible, overwritten) = (half.look(), half.visible(), half.is_overwritten());
        match taken {
            Ok(0) => {}
            Ok(count) => self.note(Some(at), What::Taken(count)),
            Err(text) => self.fault(at, text),
        }
        if let Err(text) = visible {
            self.fault(at, text);
        }
        if overwritten {
            self.fault(at, "SQ4: an entry was written over before it was consumed".into());
        }
        for group in 0..self.rings[at].groups.len() {
            if !self.is_sound() {
                return;
            }
            let group = &mut self.rings[at].groups[group];
            let id = group.id;
            match group.look() {
                Ok(bids) => {
                    for bid in bids {
                        self.note(Some(at), What::Offered(id, bid));
                    }
                }
                Err(text) => self.fault(at, text),
            }
        }
    }

    /// Lets go of the rings whose descriptor is closed: what they have in flight is cancelled.
    pub(super) fn find_closed_rings(&mut self) {
        let is_open = |at: &usize| self.rings[*at].is_open;
        let open: Vec<usize> = (0..self.rings.len()).filter(is_open).collect();
        let mut watched: Vec<libc::pollfd> =
            open.iter().map(|&at| self.rings[at].placeholder.watched()).collect();
        if !find_closed(&mut watched) {
            return;
        }
        let closed = open.iter().zip(&watched).filter(|(_, watched)| watched.revents != 0);
        for &ring in closed.map(|(ring, _)| ring).collect::<Vec<_>>() {
            let of_ring = &mut self.rings[ring];
            of_ring.is_open = false;
            of_ring.groups.clear();
            of_ring.drains.clear();
            self.abandoned += of_ring.half.untaken() as usize + of_ring.overflow.len();
            let is_its = |request: &Request| request.ring == ring;
            let left = self.requests.iter().filter(|(_, request)| is_its(request));
            let left: Vec<RequestId> = left.map(|(&id, _)| id).collect();
            let count = u32::try_from(left.len()).expect("a ring has few requests");
            self.note(Some(ring), What::Closed(count));
            let of_ring = &mut self.rings[ring];
            let entries = of_ring.buffers.clear().into_iter().chain(of_ring.files.clear());
            for entry in entries.collect::<Vec<_>>() {
                self.let_go(ring, entry);
            }
            let _ = self.unregister_signal(ring);
            for id in left {
                self.finish(id, -libc::ECANCELED, CqeFlags::empty());
            }
        }
    }

    /// Looks at the memory of `most` requests, so that every one has its turn (OP1).
    pub(super) fn look_at_memory(&mut self, most: usize) {
        if !self.is_sound() {
            return;
        }
        let after = self.requests.range(self.watched + 1..);
        let turn = after.chain(self.requests.range(..=self.watched)).take(most);
        let mut last = self.watched;
        let mut changed = Vec::new();
        for (&id, request) in turn {
            last = id;
            if !request.regions.iter().all(super::region::Region::is_untouched) {
                changed.push((request.ring, request.describe(id)));
            }
        }
        self.watched = last;
        for (ring, request) in changed {
            let rule = if self.rings[ring].is_open { "OP1" } else { "RG1" };
            self.fault(ring, format!("{rule}: memory of {request} changed"));
        }
    }

    /// Raises the flags that say what is held back.
    pub(super) fn raise(&mut self, ring: usize) {
        let sleeps = self.needs_wakeup(ring);
        let ring = &mut self.rings[ring];
        if !ring.is_open {
            return;
        }
        let tells = ring.flags.contains(SetupFlags::TASKRUN_FLAG);
        let mut flags = SqRingFlags::empty();
        flags.set(SqRingFlags::CQ_OVERFLOW, !ring.overflow.is_empty());
        flags.set(SqRingFlags::TASKRUN, tells && !ring.work.is_empty());
        flags.set(SqRingFlags::NEED_WAKEUP, sleeps);
        ring.half.raise(flags);
    }

    /// The requests in flight.
    pub(super) fn in_flight(&self) -> Vec<(RequestId, String)> {
        self.requests.iter().map(|(&id, request)| (id, request.describe(id))).collect()
    }

    pub(super) fn report(&mut self) -> Report {
        self.find_closed_rings();
        self.look();
        self.look_at_buffers();
        self.look_at_memory(usize::MAX);
        let of_ring = |ring: &Ring| ring.half.untaken() as usize + ring.overflow.len();
        Report {
            seed: self.seed,
            faults: self.faults,
            broken: self.broken.clone(),
            stalls: self.stalls.clone(),
            in_flight: self.in_flight(),
            untaken: self.rings.iter().filter(|ring| ring.is_open).map(of_ring).sum(),
            abandoned: self.abandoned,
            requests: self.consumed,
            last: self.trace.last(SHOWN),
        }
    }
}
