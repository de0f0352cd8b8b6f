//! The four kernel calls, answered by a simulated kernel.
//!
//! | call | answered | refused |
//! |---|---|---|
//! | `setup` | `IOPOLL` `HYBRID_IOPOLL` `R_DISABLED` `CQSIZE` `CLAMP` `SUBMIT_ALL` `COOP_TASKRUN` `TASKRUN_FLAG` `SINGLE_ISSUER` `DEFER_TASKRUN` `NO_SQARRAY` `SQE128` `CQE32` `SQE_MIXED` `CQE_MIXED` `SQ_REWIND` `NO_MMAP` `SQPOLL` `SQ_AFF` `ATTACH_WQ` `REGISTERED_FD_ONLY` | other flags: `EINVAL` |
//! | `map` | the rings, and buffer rings that the kernel allocates | |
//! | `enter` | with a timeout, a minimum wait and a signal mask (no signal comes), also from a region | |
//! | `register` | see `register` | everything else: `EINVAL` |
#![allow(unsafe_code, reason = "plays the kernel")]

use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use annulus_sys::abi::Params;
use annulus_sys::errno::Errno;
use annulus_sys::flags::{
    EnterFlags, Features, OFF_MMAP_MASK, OFF_PBUF_RING, OFF_PBUF_SHIFT, SetupFlags,
};
use annulus_sys::kernel::Backend;
use annulus_sys::map::{Map, page_size};
use annulus_sys::opcode::RegisterOp;
use annulus_sys::syscall::{EnterArg, RingFd, RingRef};

use super::Sim;
use super::enter::{Call, Turn};
use super::gate::Gate;
use super::layout::{fit_together, lengths, sized};
use super::memory::Half;
use super::placeholder::Placeholder;
use super::state::{Mode, Ring, State};
use super::sync_cancel::{Step, SyncCancel};
use super::trace::What;
use super::waits::OFF_REGION;

/// The flags of rings that the simulated kernel makes.
pub(super) const FLAGS: SetupFlags = SetupFlags::CQSIZE
    .union(SetupFlags::IOPOLL)
    .union(SetupFlags::HYBRID_IOPOLL)
    .union(SetupFlags::R_DISABLED)
    .union(SetupFlags::CLAMP)
    .union(SetupFlags::SUBMIT_ALL)
    .union(SetupFlags::COOP_TASKRUN)
    .union(SetupFlags::TASKRUN_FLAG)
    .union(SetupFlags::SINGLE_ISSUER)
    .union(SetupFlags::DEFER_TASKRUN)
    .union(SetupFlags::NO_SQARRAY)
    .union(SetupFlags::SQE128)
    .union(SetupFlags::CQE32)
    .union(SetupFlags::SQE_MIXED)
    .union(SetupFlags::CQE_MIXED)
    .union(SetupFlags::SQ_REWIND)
    .union(SetupFlags::NO_MMAP)
    .union(SetupFlags::SQPOLL)
    .union(SetupFlags::SQ_AFF)
    .union(SetupFlags::ATTACH_WQ)
    .union(SetupFlags::REGISTERED_FD_ONLY);

/// How many nanoseconds a synchronous cancel takes at least.
const CALL: u64 = 1_000;

/// The features that it reports.
pub(super) const FEATURES: Features = Features::SINGLE_MMAP
    .union(Features::NODROP)
    .union(Features::SUBMIT_STABLE)
    .union(Features::RW_CUR_POS)
    .union(Features::CUR_PERSONALITY)
    .union(Features::FAST_POLL)
    .union(Features::POLL_32BITS)
    .union(Features::SQPOLL_NONFIXED)
    .union(Features::EXT_ARG)
    .union(Features::NATIVE_WORKERS)
    .union(Features::RSRC_TAGS)
    .union(Features::CQE_SKIP)
    .union(Features::LINKED_FILE)
    .union(Features::MIN_TIMEOUT)
    .union(Features::NO_IOWAIT);

/// What stands behind the four calls.
pub(super) struct Behind(pub(super) Arc<Mutex<State>>);

impl Behind {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Behind {
    /// Cancels, and waits until what is to end has ended.
    fn sync_cancel<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        mut call: SyncCancel,
    ) -> Result<u32, Errno> {
        loop {
            match state.cancel_now(&mut call) {
                Step::Return(result) => return result,
                Step::Act(act) => {
                    let act = state.acts[act].take().expect("an act is due once");
                    drop(state);
                    act(&Sim(Arc::clone(&self.0)));
                    state = self.state();
                    state.look();
                }
            }
        }
    }
}

fn refused<T>(errno: i32) -> Result<T, Errno> {
    Err(Errno::new(errno))
}

impl State {
    /// The ring that is made of a request, if it is not refused.
    fn accepted(&mut self, entries: u32, params: &Params) -> Result<Params, Errno> {
        if self.luck.hits(self.faults.setup) {
            let errnos = [libc::EPERM, libc::ENOSYS, libc::ENOMEM];
            return refused(errnos[self.luck.index(errnos.len())]);
        }
        let is_old = params.flags.iter().any(|flag| !self.release.has(flag.since()));
        if !FLAGS.contains(params.flags)
            || is_old
            || params.resv != [0; 3]
            || !fit_together(params.flags)
        {
            return refused(libc::EINVAL);
        }
        let features = FEATURES.iter().filter(|feature| self.release.has(feature.since()));
        let features = features.collect();
        let answer = sized(entries, Params { features, ..*params })?;
        let (rings, sqes) = lengths(&answer);
        let is_scattered = rings.max(sqes) > page_size() && self.release.is_before(6, 14);
        if answer.flags.contains(SetupFlags::NO_MMAP) && is_scattered {
            return refused(libc::EINVAL);
        }
        Ok(answer)
    }

    fn make_ring(&mut self, entries: u32, params: &mut Params) -> Result<RingFd, Errno> {
        let answer = self.accepted(entries, params)?;
        self.find_closed_rings();
        let poller = self.poller_for(&answer)?;
        let (fd, placeholder) = Placeholder::new()?;
        // Half of the rings are about to wrap.
        let start = match self.luck.below(2) {
            0 => 0,
            _ => u32::MAX - u32::try_from(self.luck.below(8)).expect("below 8"),
        };
        let half = Half::new(&answer, start)?;
        let ring = self.rings.len();
        let fd = if answer.flags.contains(SetupFlags::REGISTERED_FD_ONLY) {
            RingFd::Registered(self.add_ring_fd(ring, fd, None)?)
        } else {
            self.numbers.insert(fd.as_raw_fd(), ring);
            RingFd::Owned(fd)
        };
        let flags = answer.flags;
        let mode = if flags.contains(SetupFlags::DEFER_TASKRUN) {
            Mode::Defer
        } else if flags.contains(SetupFlags::COOP_TASKRUN) {
            Mode::Coop
        } else {
            Mode::Plain
        };
        let what = What::Made(answer.sq_entries, answer.cq_entries);
        self.note(Some(self.rings.len()), what);
        self.rings.push(Ring {
            half,
            mode,
            flags,
            placeholder,
            is_open: true,
            has_dropped: false,
            overflow: Default::default(),
            work: Default::default(),
            groups: vec![],
            buffers: Default::default(),
            files: Default::default(),
            counted: 0,
            timeouts: 0,
            batch: None,
            drains: Default::default(),
            poller: None,
            thread: None,
            gate: Gate::of(flags),
            signal: None,
            people: Default::default(),
            region: None,
        });
        self.attend(ring, poller, &answer);
        self.size_pool(ring, answer.sq_entries);
        *params = answer;
        Ok(fd)
    }

    /// Which ring a call names.
    fn ring(&self, ring: RingRef<'_>) -> Result<usize, Errno> {
        let found = if ring.is_registered() {
            u32::try_from(ring.number()).ok().and_then(|at| self.registered(at))
        } else {
            self.numbers.get(&ring.number()).copied()
        };
        found.filter(|&ring| self.rings[ring].is_open).ok_or(Errno::new(libc::EBADF))
    }
}

// SAFETY: what `setup` and `map` describe is memory that its maps keep, laid out by `Half`, which
// alone plays the kernel's side of it.
unsafe impl Backend for Behind {
    fn setup(&self, entries: u32, params: &mut Params) -> Result<RingFd, Errno> {
        self.state().make_ring(entries, params)
    }

    fn map(&self, ring: RingRef<'_>, offset: u64, len: usize) -> Result<Map, Errno> {
        let mut state = self.state();
        let ring = state.ring(ring)?;
        let mapped = if offset & OFF_MMAP_MASK == OFF_PBUF_RING {
            let id = (offset & !OFF_MMAP_MASK) >> OFF_PBUF_SHIFT;
            let id = u16::try_from(id).map_err(|_| Errno::new(libc::EINVAL))?;
            state.group(ring, id)?.block.as_ref().and_then(|block| block.map(len))
        } else if offset == OFF_REGION {
            state.rings[ring].region.as_ref().and_then(|region| region.block.map(len))
        } else {
            state.rings[ring].half.block(offset).and_then(|block| block.map(len))
        };
        mapped.ok_or(Errno::new(libc::EINVAL))
    }

    fn enter(
        &self,
        ring: RingRef<'_>,
        to_submit: u32,
        min_complete: u32,
        flags: EnterFlags,
        arg: EnterArg<'_>,
    ) -> Result<u32, Errno> {
        let mut state = self.state();
        if state.rings.len() > 1 {
            state.find_closed_rings();
        }
        let ring = state.ring(ring)?;
        let since = match arg {
            EnterArg::None | EnterArg::SigMask(_) => "5.1",
            EnterArg::Ext(_) => "5.11",
            EnterArg::Registered(_) => "6.13",
        };
        if !state.release.has(Some(since)) {
            return refused(libc::EINVAL);
        }
        let limits = state.limits(ring, flags, arg);
        let (limit, min_wait) = limits.unwrap_or_default();
        let mut call = Call {
            ring,
            to_submit,
            min_complete,
            flags,
            limit,
            min_wait,
            wrong: limits.err(),
            count: None,
            began: 0,
            timeouts: 0,
            asked: false,
        };
        loop {
            match state.enter(&mut call) {
                Turn::Return(result) => return result,
                Turn::Act(act) => {
                    let act = state.acts[act].take().expect("an act is due once");
                    drop(state);
                    act(&Sim(Arc::clone(&self.0)));
                    state = self.state();
                    state.look();
                }
            }
        }
    }

    unsafe fn register(
        &self,
        ring: RingRef<'_>,
        op: RegisterOp,
        arg: *mut libc::c_void,
        count: u32,
    ) -> Result<u32, Errno> {
        let mut state = self.state();
        if ring.number() == -1 && !ring.is_registered() {
            // SAFETY: as promised to `Backend::register`.
            return unsafe { state.register_blind(op, arg, count) };
        }
        let ring = state.ring(ring)?;
        // With this call a ring without a descriptor ends, whose memory may be gone already.
        if op != RegisterOp::UNREGISTER_RING_FDS {
            state.look();
        }
        if op == RegisterOp::SYNC_CANCEL {
            state.admit(ring, op)?;
            // SAFETY: as promised to `Backend::register`.
            let call = unsafe { SyncCancel::of(ring, arg, count, state.now) }?;
            // Takes time, or a program that asks again and again until its time is over never ends.
            let soon = state.now.saturating_add(CALL);
            state.let_time_pass(Some(soon));
            return self.sync_cancel(state, call);
        }
        // SAFETY: as promised to `Backend::register`.
        unsafe { state.register(ring, op, arg, count) }
    }

    fn sleep(&self, span: Duration) {
        Sim(Arc::clone(&self.0)).advance(span);
    }

    /// Lets time pass up to the next thing that happens.
    ///
    /// # Panics
    ///
    /// When nothing can happen: the program would wait without end.
    fn rest(&self) {
        let sim = Sim(Arc::clone(&self.0));
        let next = {
            let mut state = self.state();
            state.look();
            state.let_pollers_look();
            state.next_time().map(|at| at.saturating_sub(state.now))
        };
        match next {
            Some(span) => sim.advance(Duration::from_nanos(span)),
            None => panic!("a wait for a polling thread can never end: {}", sim.report()),
        }
    }

    fn now(&self) -> Instant {
        let state = self.state();
        state.start + Duration::from_nanos(state.now)
    }
}
