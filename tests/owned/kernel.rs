//! A kernel that completes any request at any time: the kernel's half of one ring.
//!
//! ```text
//!   enter ─► note what was taken ─► touch memory ─► refuse? ─► consume ─► complete some ─► wait
//! ```
//!
//! It refuses, consumes and waits as some Linux would: `EAGAIN`, `EBUSY`, `EINTR`, `ETIME`, a part
//! of a batch (but never of a chain), completions that overflow. `ends` describes how requests end,
//! and `lies` which false completions there are.
//!
//! It checks SQ2, CQ2 and SQ4 of the ring, that entries come in the order in which they were
//! pushed, once each, and that no batch ends within a chain.
#![allow(unsafe_code, reason = "plays the kernel")]

use std::collections::{HashMap, VecDeque};

use annulus_sys::abi::{Cqe, Params, Sqe};
use annulus_sys::errno::Errno;
use annulus_sys::flags::{EnterFlags, SetupFlags, SqRingFlags};
use annulus_sys::index::Index;

use super::Profile;
use super::chance::Chance;
use super::group::Group;
use super::ledger::{Broken, Fate, Ledger, OpId, Stage, Tie};
use super::request::{Request, Role, State};
use crate::support::fake_kernel::{FakeKernel, words};
use crate::support::memory::RingMemory;

/// The upper two bits of `user_data`.
pub const KIND: u64 = 3 << 62;
/// The kind of internal requests.
pub const OWN: u64 = 1 << 62;

/// What an enter asks for.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    pub to_submit: u32,
    pub min_complete: u32,
    pub flags: EnterFlags,
    /// Whether the wait is bounded.
    pub bound: Bound,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    None,
    Timeout,
}

/// What a completion was, to be counted when the ring has taken it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Posted {
    /// The last completion of an operation.
    End(OpId),
    /// A completion that names nothing in flight.
    Stale,
    /// A completion of the kind for messages.
    Message,
    /// A completion of the kind for raw entries.
    Raw,
    /// Not the last completion, or that of an internal request.
    Other,
}

/// How many completions of which kind the ring has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    pub stale: u64,
    pub messages: u64,
    pub raws: u64,
}

/// The kernel's half of a ring.
#[derive(Debug)]
pub struct Kernel {
    pub profile: Profile,
    pub chance: Chance,
    pub memory: RingMemory,
    pub rings: FakeKernel,
    pub requests: Vec<Request>,
    pub groups: Vec<Group>,
    pub tally: Tally,
    /// The `user_data` of operations that have ended.
    pub ended: Vec<u64>,
    /// Which operation last used each slot.
    pub slots: HashMap<u32, OpId>,
    flags: SetupFlags,
    /// Entries that were pushed and not consumed, oldest first.
    queue: VecDeque<OpId>,
    /// Completions that were posted and not taken, oldest first; the newest may still be in
    /// `overflow`.
    posted: VecDeque<Posted>,
    overflow: VecDeque<Cqe>,
    /// Up to which index the ring has taken completions.
    head: Index,
    /// The contents of entries that were not consumed.
    left: Vec<(Index, [u64; 8])>,
    chains: u64,
    work: Work,
    /// The false completion that it prefers, if it has one.
    pub habit: u32,
}

/// Whether there is deferred work, which the ring must ask for (CQ5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    None,
    Deferred,
}

impl Kernel {
    /// The kernel behind a new ring, whose layout it reports.
    pub fn new(params: &mut Params, profile: Profile, mut chance: Chance) -> Self {
        let memory = RingMemory::new(params, u32::MAX - chance.below(8));
        let rings = memory.kernel();
        let head = rings.cq_head.observe();
        let habit = chance.below(14);
        Self {
            profile,
            chance,
            memory,
            rings,
            requests: Vec::new(),
            groups: Vec::new(),
            tally: Tally::default(),
            ended: Vec::new(),
            slots: HashMap::new(),
            flags: params.flags,
            queue: VecDeque::new(),
            posted: VecDeque::new(),
            overflow: VecDeque::new(),
            head,
            left: Vec::new(),
            chains: 0,
            work: Work::None,
            habit,
        }
    }

    /// `id` was pushed, after all others.
    pub fn pushed(&mut self, id: OpId, ledger: &mut Ledger) {
        ledger.op(id).stage = Stage::Queued;
        self.queue.push_back(id);
    }

    /// Submits, and waits.
    pub fn enter(&mut self, ask: Ask, ledger: &mut Ledger) -> Result<u32, Errno> {
        self.look(ledger);
        self.touch(ledger);
        if let Some(errno) = self.refusal(ask) {
            return Err(Errno::new(errno));
        }
        let count = self.consume(ask.to_submit, ledger);
        for _ in 0..self.chance.below(4) {
            self.complete_one(ledger);
        }
        self.catch_up(ledger);
        self.lie(ledger);
        let mut outcome = Ok(count);
        if ask.flags.contains(EnterFlags::GETEVENTS) {
            self.work = Work::None;
            self.deliver();
            // Linux waits only if it has consumed everything.
            if count == ask.to_submit
                && let Err(errno) = self.wait(ask, ledger)
                && count == 0
            {
                outcome = Err(Errno::new(errno));
            }
        }
        self.say();
        self.touch(ledger);
        outcome
    }

    /// Something happens outside of an enter: an interrupt, or another thread.
    pub fn interrupt(&mut self, ledger: &mut Ledger) {
        self.look(ledger);
        self.touch(ledger);
        if self.flags.contains(SetupFlags::DEFER_TASKRUN) {
            self.work = Work::Deferred;
        } else {
            self.complete_one(ledger);
        }
        self.say();
    }

    /// Notes what the ring has taken since the last call, and reports what it should not have
    /// touched.
    pub fn look(&mut self, ledger: &mut Ledger) {
        let head = self.rings.cq_head.observe();
        let in_ring = self.rings.cq_tail.last().distance_from(self.head);
        let passed = head.distance_from(self.head);
        if passed > in_ring {
            ledger.fault(format!("CQ2: {passed} completions were taken of {in_ring}"));
            return;
        }
        for _ in 0..passed {
            match self.posted.pop_front().expect("one for each completion") {
                Posted::End(id) => ledger.op(id).stage = Stage::Taken,
                Posted::Stale => self.tally.stale += 1,
                Posted::Message => self.tally.messages += 1,
                Posted::Raw => self.tally.raws += 1,
                Posted::Other => {}
            }
        }
        self.head = head;
        if self.rings.visible() > self.rings.shape().sq_entries {
            ledger.fault("SQ2: more entries are submitted than there are");
        }
        for (index, before) in std::mem::take(&mut self.left) {
            // SAFETY: ours to read: `tail` covers the slot (SQ3).
            let now = words(unsafe { self.rings.sqes.read(index) });
            if now != before {
                ledger.fault("SQ4: an entry was written over before it was consumed");
            }
        }
    }

    /// Uses all memory that requests point to (OP1).
    pub fn touch(&mut self, ledger: &mut Ledger) {
        for group in &mut self.groups {
            match group.look() {
                Ok(()) if ledger.broken() == Broken::No => group.scribble(&mut self.chance),
                Ok(()) => {}
                Err(fault) => ledger.fault(fault),
            }
        }
        for at in 0..self.requests.len() {
            self.touch_one(at, ledger);
        }
    }

    pub fn touch_one(&mut self, at: usize, ledger: &mut Ledger) {
        let request = &mut self.requests[at];
        if ledger.broken() == Broken::No && !request.region.touch(&mut self.chance) {
            ledger.fault(format!("OP1: memory of {request:?} changed while the kernel has it"));
        }
    }

    /// Posts a completion to the ring, or to the overflow list if one is waiting there.
    pub fn post(&mut self, cqe: Cqe, what: Posted) {
        self.posted.push_back(what);
        if !self.overflow.is_empty() || !self.rings.post(cqe) {
            self.overflow.push_back(cqe);
        }
    }

    /// How many completions found no room.
    pub fn overflowing(&self) -> usize {
        self.overflow.len()
    }

    /// Whether the ring has taken all that was posted, and all that was pushed is consumed.
    pub fn is_quiet(&self) -> bool {
        self.posted.is_empty() && self.queue.is_empty() && self.requests.is_empty()
    }

    fn deliver(&mut self) {
        while let Some(cqe) = self.overflow.pop_front() {
            if !self.rings.post(cqe) {
                self.overflow.push_front(cqe);
                break;
            }
        }
    }

    /// Raises the flags that report completions held back.
    fn say(&mut self) {
        let mut flags = SqRingFlags::empty();
        flags.set(SqRingFlags::CQ_OVERFLOW, !self.overflow.is_empty());
        let tells = self.flags.contains(SetupFlags::TASKRUN_FLAG);
        flags.set(SqRingFlags::TASKRUN, tells && self.work == Work::Deferred);
        self.rings.sq_flags.store(flags.bits());
    }

    fn refusal(&mut self, ask: Ask) -> Option<i32> {
        if ask.to_submit == 0 {
            None
        } else if !self.overflow.is_empty() && self.chance.one_in(8) {
            Some(libc::EBUSY)
        } else {
            self.chance.one_in(64).then_some(libc::EAGAIN)
        }
    }

    fn wait(&mut self, ask: Ask, ledger: &mut Ledger) -> Result<(), i32> {
        let entries = self.rings.shape().cq_entries;
        while entries - self.rings.cq_room() < ask.min_complete {
            if ask.bound == Bound::Timeout && self.chance.one_in(4) {
                return Err(libc::ETIME);
            }
            if self.chance.one_in(16) {
                // A signal; or a completion was lost, and nobody waits for that one.
                return Err(self.chance.among(&[libc::EINTR, libc::EINTR, libc::EBADR]));
            }
            if !self.complete_one(ledger) {
                let is_bounded = ask.bound == Bound::Timeout;
                return Err(if is_bounded { libc::ETIME } else { libc::EINTR });
            }
            self.deliver();
        }
        Ok(())
    }

    /// Takes up to `given` entries off the ring, and says how many.
    fn consume(&mut self, given: u32, ledger: &mut Ledger) -> u32 {
        let most = if self.chance.one_in(8) { self.chance.below(given + 1).max(1) } else { given };
        let (mut count, mut chain) = (0, None);
        while count < given && (count < most || chain.is_some()) {
            let Some(sqe) = self.rings.consume() else {
                ledger.fault("SQ2: fewer entries are there than were to be submitted");
                break;
            };
            count += 1;
            chain = self.begin(&sqe, chain, ledger);
        }
        if chain.is_some() {
            ledger.fault("a batch ends within a chain");
        }
        let (from, left) = (self.rings.sq_head.last(), self.rings.visible());
        for index in (0..left).map(|count| from.advance(count)) {
            // SAFETY: ours to read: `tail` covers the slot (SQ3).
            self.left.push((index, words(unsafe { self.rings.sqes.read(index) })));
        }
        count
    }

    /// Begins the request of `sqe`, in `chain` if the entry before was linked to it. Returns the
    /// chain that the next entry is in.
    fn begin(&mut self, sqe: &Sqe, chain: Option<u64>, ledger: &mut Ledger) -> Option<u64> {
        let op = match sqe.user_data & KIND {
            0 => self.queue.pop_front(),
            OWN => None,
            _ => {
                ledger.fault(format!("OP2: an entry with the user_data {:#x}", sqe.user_data));
                None
            }
        };
        if sqe.user_data & KIND == 0 {
            self.check(sqe, op, ledger);
        }
        let mut request = match Request::of(sqe, op) {
            Ok(request) => request,
            Err(fault) => {
                ledger.fault(fault);
                return None;
            }
        };
        if let Role::Cancel(target) = request.role
            && self.requests.iter().any(|it| it.role == Role::Cancel(target))
        {
            ledger.fault(format!("two cancels of {target:#x} are in flight"));
        }
        if let Some(id) = op {
            let note = ledger.op(id);
            note.stage = Stage::Held;
            let tie = note.tie;
            request.stays = note.fate == Fate::Stays;
            self.slots.insert(slot_of(request.user_data), id);
            if request.tie != tie {
                ledger.fault(format!("{id} is tied {:?}, and not {tie:?}", request.tie));
            }
        }
        request.chain = chain;
        if chain.is_some() {
            let before = self.requests.last().map_or(State::Running, |last| last.state);
            request.state = if request.role == Role::Clock { before } else { State::Waiting };
        } else if request.tie != Tie::None {
            self.chains += 1;
            request.chain = Some(self.chains);
        }
        let next = request.chain.filter(|_| request.tie != Tie::None);
        self.requests.push(request);
        self.select_early(self.requests.len() - 1);
        self.touch_one(self.requests.len() - 1, ledger);
        next
    }

    /// Whether it is the next entry in the order of pushing.
    fn check(&self, sqe: &Sqe, op: Option<OpId>, ledger: &mut Ledger) {
        let Some(id) = op else {
            ledger.fault("OP2: an entry was consumed that was never pushed");
            return;
        };
        if self.requests.iter().any(|other| other.user_data == sqe.user_data) {
            ledger.fault(format!("OP2: two requests have the user_data {:#x}", sqe.user_data));
        }
        if sqe.off != 0 && sqe.off != u64::from(id) {
            ledger.fault(format!("entry {} was consumed in the place of {id}", sqe.off));
        }
        if ledger.lost_an_owner(id) {
            ledger.fault(format!("OP1: operation {id} began, and an owner was dropped before"));
        }
    }
}

/// The slot's number in the lower half of `user_data`. One bit says that there is no ticket.
fn slot_of(user_data: u64) -> u32 {
    let [a, b, c, d, ..] = (user_data & !(1 << 27)).to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}
