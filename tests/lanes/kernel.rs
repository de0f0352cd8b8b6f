//! A kernel that completes any request at any time, and says what is not so if it lies.
//!
//! ```text
//!   enter ─► touch memory ─► refuse? ─► consume some ─► complete some ─► lie ─► wait
//! ```
//!
//! It writes to the memory of every request that it has, at each call (OP1).
#![allow(unsafe_code, reason = "plays the kernel")]

use std::collections::VecDeque;
use std::ptr::with_exposed_provenance_mut;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use annulus_sys::abi::{Cqe, Params, Sqe};
use annulus_sys::errno::Errno;
use annulus_sys::flags::{CqeFlags, EnterFlags, Features, SetupFlags, SqRingFlags};
use annulus_sys::kernel::Backend;
use annulus_sys::map::Map;
use annulus_sys::opcode::{Opcode, RegisterOp};
use annulus_sys::syscall::{EnterArg, RingFd, RingRef};

use super::Profile;
use super::chance::Chance;
use super::things::{Id, Shared};
use crate::support::fake_kernel::FakeKernel;
use crate::support::memory::{RingMemory, sane};

/// How many bits of a `user_data` are the number of a slot; the rest is a sequence number.
const NUMBER_BITS: u32 = 21;
/// More operations than a history has.
const MOST: u64 = 1000;

/// A request that the kernel has.
#[derive(Debug)]
struct Request {
    user_data: u64,
    id: Id,
    places: [u64; 2],
    image: [u8; 8],
    /// No cancel ends it, nor does time.
    stays: bool,
}

/// The kernel of one lane.
#[derive(Clone)]
pub struct LaneKernel(Arc<Mutex<State>>);

pub struct State {
    pub chance: Chance,
    profile: Profile,
    ledger: Shared,
    ring: Option<(RingMemory, FakeKernel)>,
    requests: Vec<Request>,
    overflow: VecDeque<Cqe>,
    /// The `user_data` of operations that have ended.
    ended: Vec<u64>,
    /// The sequence number of the last operation that was consumed.
    latest: u64,
    /// How many false completions were posted.
    pub lies: u64,
    /// One in so many requests stays forever; none, if 0.
    pub stays: u32,
}

impl LaneKernel {
    pub fn new(chance: Chance, profile: Profile, ledger: &Shared) -> Self {
        Self(Arc::new(Mutex::new(State {
            chance,
            profile,
            ledger: ledger.clone(),
            ring: None,
            requests: Vec::new(),
            overflow: VecDeque::new(),
            ended: Vec::new(),
            latest: 0,
            lies: 0,
            stays: 0,
        })))
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn rings(&mut self) -> &mut FakeKernel {
        &mut self.ring.as_mut().expect("a ring was set up").1
    }

    /// Something happens outside of an enter.
    pub fn interrupt(&mut self) {
        self.touch();
        self.complete_one();
        self.lie();
        self.say();
    }

    /// Writes to all memory that requests offer, after a look at whether anybody else did.
    fn touch(&mut self) {
        let mut ledger = self.ledger.lock();
        if !ledger.faults.is_empty() {
            return; // Some of it may be gone.
        }
        for request in &mut self.requests {
            let image = self.chance.next().to_le_bytes();
            for place in request.places {
                let address = usize::try_from(place).expect("an address");
                let bytes = with_exposed_provenance_mut::<[u8; 8]>(address);
                // SAFETY: the memory of an operation that the kernel has; OP1 is what is tested.
                let before = unsafe { bytes.read() };
                if before != request.image {
                    ledger.fault(format!("OP1: memory of {} changed", request.id));
                }
                // SAFETY: nobody else may use it, since the kernel has the operation (OP1).
                unsafe { bytes.write(image) };
            }
            request.image = image;
        }
    }

    fn post(&mut self, cqe: Cqe) {
        if !self.overflow.is_empty() || !self.rings().post(cqe) {
            self.overflow.push_back(cqe);
        }
    }

    fn deliver(&mut self) {
        while let Some(cqe) = self.overflow.pop_front() {
            if !self.rings().post(cqe) {
                self.overflow.push_front(cqe);
                break;
            }
        }
    }

    fn say(&mut self) {
        let mut flags = SqRingFlags::empty();
        flags.set(SqRingFlags::CQ_OVERFLOW, !self.overflow.is_empty());
        self.rings().sq_flags.store(flags.bits());
    }

    /// Completes one request that may end, and says whether there was one.
    fn complete_one(&mut self) -> bool {
        let free: Vec<usize> =
            (0..self.requests.len()).filter(|&at| !self.requests[at].stays).collect();
        let Some(at) = self.chance.place(free.len()) else { return false };
        let result = if self.chance.one_in(4) { -libc::EIO } else { 8 };
        self.complete(free[at], result);
        true
    }

    fn complete(&mut self, at: usize, result: i32) {
        let request = self.requests.swap_remove(at);
        let mut ledger = self.ledger.lock();
        let note = ledger.note(request.id);
        note.held = false;
        note.ended = Some((result, request.image));
        drop(ledger);
        self.ended.push(request.user_data);
        self.post(Cqe { user_data: request.user_data, res: result, ..Cqe::ZERO });
    }

    /// Posts a completion that is not so.
    fn lie(&mut self) {
        if self.profile != Profile::Lying || !self.chance.one_in(3) {
            return;
        }
        let live = self.chance.place(self.requests.len()).map(|at| self.requests[at].user_data);
        let mut flags = CqeFlags::empty();
        let user_data = match self.chance.below(7) {
            // Again, or late.
            0 | 1 => match self.chance.place(self.ended.len()) {
                Some(at) => self.ended[at],
                None => 0,
            },
            // A word as free slots have: a number without a sequence.
            2 => u64::from(self.chance.below(40)),
            3 => u64::from(u32::MAX),
            4 => self.chance.next(),
            // Another sequence number, or another slot.
            5 => live.unwrap_or(7) ^ (1 << self.chance.below(64)),
            // Not the last one of an operation in flight.
            _ => {
                flags = if self.chance.one_in(2) { CqeFlags::MORE } else { CqeFlags::NOTIF };
                live.unwrap_or(u64::MAX)
            }
        };
        let true_after_all = flags.is_empty()
            && (user_data == u64::MAX
                || self.requests.iter().any(|request| request.user_data == user_data));
        let is_last_word = self.pending(user_data);
        let may_be_next = flags.is_empty() && self.may_be_next(user_data);
        let true_after_all = true_after_all || may_be_next || flags.is_empty() && is_last_word;
        if !true_after_all {
            self.lies += 1;
            self.post(Cqe { user_data, res: 3, flags });
        }
    }

    /// Whether an operation may get this `user_data` before a completion of now is taken. Then
    /// the completion is that of the operation, for whoever takes it.
    fn may_be_next(&self, user_data: u64) -> bool {
        (1..=MOST).contains(&(user_data >> NUMBER_BITS).wrapping_sub(self.latest))
    }

    /// Whether an entry with this `user_data` is pushed and not consumed.
    fn pending(&mut self, user_data: u64) -> bool {
        let rings = self.rings();
        let (from, count) = (rings.sq_head.last(), rings.visible());
        (0..count).any(|ahead| {
            // SAFETY: ours to read: `tail` covers the slot (SQ3).
            unsafe { rings.sqes.read(from.advance(ahead)) }.user_data == user_data
        })
    }

    fn begin(&mut self, sqe: &Sqe) {
        if sqe.opcode == Opcode::ASYNC_CANCEL {
            let found = self.requests.iter().position(|request| request.user_data == sqe.addr);
            let result = match found {
                Some(at) if !self.requests[at].stays && !self.chance.one_in(3) => {
                    self.complete(at, -libc::ECANCELED);
                    0
                }
                Some(_) => -libc::EALREADY,
                None => -libc::ENOENT,
            };
            return self.post(Cqe { user_data: sqe.user_data, res: result, ..Cqe::ZERO });
        }
        self.latest = self.latest.max(sqe.user_data >> NUMBER_BITS);
        let mut ledger = self.ledger.lock();
        if self.requests.iter().any(|request| request.user_data == sqe.user_data) {
            ledger.fault("OP2: two requests in flight have one `user_data`");
        }
        ledger.note(sqe.len).held = true;
        drop(ledger);
        let stays = self.stays > 0 && self.chance.one_in(self.stays);
        let (user_data, id) = (sqe.user_data, sqe.len);
        let places = [sqe.addr, sqe.addr3];
        self.requests.push(Request { user_data, id, places, image: [0; 8], stays });
    }

    fn enter(
        &mut self,
        to_submit: u32,
        least: u32,
        flags: EnterFlags,
        bound: bool,
    ) -> Result<u32, i32> {
        self.touch();
        if to_submit > 0 && self.chance.one_in(64) {
            return Err(libc::EAGAIN);
        }
        if to_submit > 0 && !self.overflow.is_empty() && self.chance.one_in(8) {
            return Err(libc::EBUSY);
        }
        let part = self.chance.one_in(8);
        let most = if part { self.chance.below(to_submit + 1).max(1) } else { to_submit };
        let mut count = 0;
        while count < to_submit.min(most) {
            let Some(sqe) = self.rings().consume() else { break };
            count += 1;
            self.begin(&sqe);
        }
        for _ in 0..self.chance.below(4) {
            self.complete_one();
        }
        self.lie();
        let mut outcome = Ok(count);
        if flags.contains(EnterFlags::GETEVENTS) {
            self.deliver();
            if count == to_submit
                && let Err(errno) = self.wait(least, bound)
                && count == 0
            {
                outcome = Err(errno);
            }
        }
        self.touch();
        self.say();
        outcome
    }

    fn wait(&mut self, least: u32, bound: bool) -> Result<(), i32> {
        loop {
            let rings = self.rings();
            if rings.shape().cq_entries - rings.cq_room() >= least {
                return Ok(());
            }
            if self.chance.one_in(16) {
                return Err(libc::EINTR);
            }
            if !self.complete_one() || (bound && self.chance.one_in(4)) {
                return Err(if bound { libc::ETIME } else { libc::EINTR });
            }
            self.deliver();
        }
    }
}

// SAFETY: what `setup` and `map` describe is memory that its maps keep, touched only by a
// `FakeKernel`.
unsafe impl Backend for LaneKernel {
    fn setup(&self, entries: u32, params: &mut Params) -> Result<RingFd, Errno> {
        let mut state = self.state();
        let mut answer = sane(entries, *params, SetupFlags::all())?;
        answer.features = Features::from_bits_retain((1 << 18) - 1);
        let start = u32::MAX - state.chance.below(8);
        let memory = RingMemory::new(&mut answer, start);
        let kernel = memory.kernel();
        state.ring = Some((memory, kernel));
        *params = answer;
        let null = std::fs::File::open("/dev/null").map_err(|error| Errno::of(&error))?;
        Ok(RingFd::Owned(null.into()))
    }

    fn map(&self, _: RingRef<'_>, offset: u64, len: usize) -> Result<Map, Errno> {
        let state = self.state();
        let (memory, _) = state.ring.as_ref().ok_or(Errno::new(libc::EBADF))?;
        let region = memory.region(offset).ok_or(Errno::new(libc::EINVAL))?;
        let (base, len) = (region.base(), len.min(region.len()));
        // SAFETY: the region is that long, and lives until the keeper is dropped.
        Ok(unsafe { Map::foreign(base, len, Box::new(region)) })
    }

    fn enter(
        &self,
        _: RingRef<'_>,
        to_submit: u32,
        min_complete: u32,
        flags: EnterFlags,
        arg: EnterArg<'_>,
    ) -> Result<u32, Errno> {
        let bound = matches!(arg, EnterArg::Ext(ext) if ext.timeout.is_some());
        self.state().enter(to_submit, min_complete, flags, bound).map_err(Errno::new)
    }

    unsafe fn register(
        &self,
        _: RingRef<'_>,
        _: RegisterOp,
        _: *mut libc::c_void,
        _: u32,
    ) -> Result<u32, Errno> {
        Err(Errno::new(libc::EINVAL))
    }
}
