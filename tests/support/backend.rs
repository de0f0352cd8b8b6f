//! A scripted kernel behind the four kernel calls: memory on the heap, answers chosen by the test.
//!
//! ```text
//!   let (kernel, script) = ScriptedKernel::new();      a Linux that knows every flag
//!   script.tamper(|params, memory| ...);               what the next setup answers
//!   let rings = Rings::setup(&kernel, &request);
//!   script.enters(Enter::Fail(libc::EINTR));           what the next enter answers
//!   script.kernel(|kernel| kernel.post(cqe));          the kernel's half of the rings
//!   assert_eq!(script.calls(), [...]);                 which calls were made
//! ```
//!
//! Without a script it is honest: it lays the rings out as Linux 6.x does, maps that layout, and an
//! enter consumes the entries that it is given and completes each with 0. It plays one ring at a
//! time, the one set up last.
//!
//! # Safety
//!
//! A map keeps its memory alive, and so does the kernel's half. A test that tampers relies on the
//! checks in `rings` and `Map::at`, which are what it tests.
#![allow(unsafe_code, reason = "plays the kernel")]
#![allow(dead_code, reason = "not every test uses all of it")]

use std::any::Any;
use std::collections::VecDeque;
use std::io::PipeReader;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use annulus_sys::abi::{Cqe, Params, Sqe};
use annulus_sys::errno::Errno;
use annulus_sys::flags::{EnterFlags, Features, SetupFlags};
use annulus_sys::kernel::{Backend, Kernel};
use annulus_sys::map::Map;
use annulus_sys::opcode::RegisterOp;
use annulus_sys::sq::Turn;
use annulus_sys::syscall::{EnterArg, RingFd, RingRef};

pub use super::bound::Bound;
use super::fake_kernel::FakeKernel;
use super::memory::{RingMemory, sane};

/// After so many enters a test counts as stuck.
const TOO_MANY_ENTERS: u32 = 10_000;

/// A kernel call that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// A ring was asked for, with these parameters.
    Setup {
        /// Submission entries.
        entries: u32,
        /// The other parameters.
        params: Params,
    },
    /// A piece of the ring's memory was asked for.
    Map {
        /// `IORING_OFF_*`.
        offset: u64,
        /// Bytes.
        len: usize,
    },
    /// An enter, to submit or to wait.
    Enter {
        /// How many entries to consume.
        to_submit: u32,
        /// How many completions to wait for.
        min_complete: u32,
        /// The flags, without those that describe the argument.
        flags: EnterFlags,
        /// The bound of the wait.
        bound: Bound,
    },
    /// A register call.
    Register {
        /// The operation.
        op: RegisterOp,
        /// The count that goes with the argument.
        count: u32,
    },
}

/// What an enter does.
pub enum Enter {
    /// Consumes at most so many of the given entries, completes each with 0, answers how many.
    Complete(u32),
    /// Consumes at most so many of the given entries, completes none, answers how many.
    Consume(u32),
    /// Consumes nothing and answers this number.
    Answer(u32),
    /// Consumes nothing and fails with this errno.
    Fail(i32),
    /// Consumes so many, completes each with 0, and fails with this errno anyway: Linux never does.
    ConsumeAndFail(u32, i32),
    /// Runs this closure, with the number of entries that it may consume.
    Run(Run),
    /// As `Run`, and the closure is also told the limit of the wait.
    Wait(Waited),
}

/// What a test does in place of an enter.
type Run = Box<dyn FnOnce(&mut FakeKernel, u32) -> Result<u32, Errno> + Send>;
type Waited = Box<dyn FnOnce(&mut FakeKernel, u32, Bound) -> Result<u32, Errno> + Send>;
/// What a test does to the answer of a setup.
type Tamper = Box<dyn FnOnce(&mut Params, &RingMemory) + Send>;
/// What a test does in place of a register call; `None` leaves it to the default.
type OnRegister =
    Box<dyn FnMut(RegisterOp, *mut libc::c_void, u32) -> Option<Result<u32, Errno>> + Send>;

/// A factory of kernels.
#[derive(Debug)]
pub struct ScriptedKernel;

impl ScriptedKernel {
    /// A kernel, and the script that it follows.
    #[expect(clippy::new_ret_no_self, reason = "the kernel and its script are two values")]
    pub fn new() -> (Kernel, Arc<Script>) {
        let script = Arc::new(Script { state: Mutex::default() });
        (Kernel::with_backend(Arc::<Script>::clone(&script)), script)
    }
}

/// What the kernel does next, and which calls were made.
pub struct Script {
    state: Mutex<State>,
}

struct State {
    calls: Vec<Call>,
    consumed: Vec<Sqe>,
    known: SetupFlags,
    features: Features,
    start: u32,
    setup_failures: VecDeque<Errno>,
    tamper: Option<Tamper>,
    /// How many more maps are granted before one fails, and the error of that one.
    map_failure: Option<(u32, Errno)>,
    short_maps: bool,
    enters: VecDeque<Enter>,
    entered: u32,
    /// The time, where it is the script's: it passes by enters and sleeps alone.
    time: Option<Instant>,
    on_register: Option<OnRegister>,
    ring: Option<(RingMemory, FakeKernel)>,
    /// The ring's descriptor is the write end of a pipe: this read end sees it close.
    other_end: Option<PipeReader>,
    /// Held by each map that is alive.
    token: Arc<()>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            calls: Vec::new(),
            consumed: Vec::new(),
            known: SetupFlags::all(),
            features: Features::from_bits_retain((1 << 18) - 1),
            start: 0,
            setup_failures: VecDeque::new(),
            tamper: None,
            map_failure: None,
            short_maps: false,
            enters: VecDeque::new(),
            entered: 0,
            time: None,
            on_register: None,
            ring: None,
            other_end: None,
            token: Arc::new(()),
        }
    }
}

/// What a test can tell the script.
impl Script {
    /// Makes the kernel one that refuses, with `EINVAL`, set-up flags other than these.
    pub fn know(&self, flags: SetupFlags) {
        self.state().known = flags;
    }

    /// Makes the kernel one with these features.
    pub fn set_features(&self, features: Features) {
        self.state().features = features;
    }

    /// Lets the four indices of the next ring start here.
    pub fn start_at(&self, index: u32) {
        self.state().start = index;
    }

    /// From now on time passes in this kernel alone: a microsecond an enter, the whole limit for a
    /// wait that answers `ETIME`, and what the program sleeps.
    pub fn keep_time(&self) {
        self.state().time = Some(Instant::now());
    }

    /// Lets the next setup fail.
    pub fn fail_setup(&self, errno: i32) {
        self.state().setup_failures.push_back(Errno::new(errno));
    }

    /// Changes what the next setup answers, or what it left in memory.
    pub fn tamper(&self, how: impl FnOnce(&mut Params, &RingMemory) + Send + 'static) {
        self.state().tamper = Some(Box::new(how));
    }

    /// Grants `before` maps more, then fails one.
    pub fn fail_map(&self, before: u32, errno: i32) {
        self.state().map_failure = Some((before, Errno::new(errno)));
    }

    /// From now on a map longer than the memory gets as much as there is. Linux refuses instead.
    pub fn grant_short_maps(&self) {
        self.state().short_maps = true;
    }

    /// Sets what the next enter without a script does.
    pub fn enters(&self, enter: Enter) {
        self.state().enters.push_back(enter);
    }

    /// Forgets the scripted enters that were not made.
    pub fn enters_no_more(&self) {
        self.state().enters.clear();
    }

    /// Sets what a register call does; where `how` returns `None`, the default.
    pub fn on_register(
        &self,
        how: impl FnMut(RegisterOp, *mut libc::c_void, u32) -> Option<Result<u32, Errno>>
        + Send
        + 'static,
    ) {
        self.state().on_register = Some(Box::new(how));
    }

    /// Lets the test act as the kernel, on the ring set up last. Not from within [`Enter::Run`],
    /// which holds that kernel already.
    pub fn kernel<R>(&self, act: impl FnOnce(&mut FakeKernel) -> R) -> R {
        act(&mut self.state().ring.as_mut().expect("a ring was set up").1)
    }

    /// Lets the test look into the memory of the ring set up last.
    pub fn memory<R>(&self, look: impl FnOnce(&RingMemory) -> R) -> R {
        look(&self.state().ring.as_ref().expect("a ring was set up").0)
    }

    /// Posts one completion; returns whether there was room.
    pub fn post(&self, user_data: u64, res: i32) -> bool {
        self.kernel(|kernel| kernel.post(Cqe { user_data, res, ..Cqe::ZERO }))
    }

    /// Every call that was made, oldest first.
    pub fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    /// Every call that was made since the last time this was asked.
    pub fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.state().calls)
    }

    /// How many enters were made.
    pub fn entered(&self) -> u32 {
        self.state().entered
    }

    /// The entries that were consumed, slot by slot, except by [`Enter::Run`] and
    /// [`Script::kernel`].
    pub fn consumed(&self) -> Vec<Sqe> {
        self.state().consumed.clone()
    }

    /// Whether the descriptor of the ring set up last is open.
    pub fn is_open(&self) -> bool {
        let state = self.state();
        let Some(reader) = &state.other_end else { return false };
        let mut poll = libc::pollfd { fd: reader.as_raw_fd(), events: 0, revents: 0 };
        // SAFETY: one live `struct pollfd`, as the count says.
        let found = unsafe { libc::poll(&raw mut poll, 1, 0) };
        assert!(found >= 0, "{}", Errno::last());
        poll.revents & libc::POLLHUP == 0
    }

    /// How many maps are alive.
    pub fn maps_alive(&self) -> usize {
        Arc::strong_count(&self.state().token) - 1
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A test may have panicked on purpose while it acted as the kernel.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Lets time pass. Returns whether the script keeps it.
    fn pass(&mut self, span: Duration) -> bool {
        let Some(time) = &mut self.time else { return false };
        *time += span;
        true
    }

    fn setup(&mut self, entries: u32, params: &mut Params) -> Result<RingFd, Errno> {
        if let Some(errno) = self.setup_failures.pop_front() {
            return Err(errno);
        }
        let mut answer = sane(entries, *params, self.known)?;
        answer.features = self.features;
        let memory = RingMemory::new(&mut answer, self.start);
        let kernel = memory.kernel();
        if let Some(tamper) = self.tamper.take() {
            tamper(&mut answer, &memory);
        }
        self.ring = Some((memory, kernel));
        *params = answer;
        if params.flags.contains(SetupFlags::REGISTERED_FD_ONLY) {
            return Ok(RingFd::Registered(3));
        }
        let (reader, writer) = std::io::pipe().map_err(|error| Errno::of(&error))?;
        self.other_end = Some(reader);
        Ok(RingFd::Owned(writer.into()))
    }

    fn map(&mut self, offset: u64, len: usize) -> Result<Map, Errno> {
        match &mut self.map_failure {
            Some((0, errno)) => {
                let errno = *errno;
                self.map_failure = None;
                return Err(errno);
            }
            Some((before, _)) => *before -= 1,
            None => {}
        }
        let (memory, _) = self.ring.as_ref().ok_or(Errno::new(libc::EBADF))?;
        let region = memory.region(offset).ok_or(Errno::new(libc::EINVAL))?;
        if len > region.len() && !self.short_maps {
            return Err(Errno::new(libc::EINVAL));
        }
        let (base, len) = (region.base(), len.min(region.len()));
        let keeper: Box<dyn Any + Send + Sync> = Box::new((region, Arc::clone(&self.token)));
        // SAFETY: the region is that long, and lives until the keeper is dropped.
        Ok(unsafe { Map::foreign(base, len, keeper) })
    }

    fn enter(&mut self, to_submit: u32, bound: Bound) -> Result<u32, Errno> {
        self.entered += 1;
        assert!(self.entered < TOO_MANY_ENTERS, "stuck: entered {TOO_MANY_ENTERS} times");
        match self.enters.pop_front().unwrap_or(Enter::Complete(u32::MAX)) {
            Enter::Complete(most) => Ok(self.consume(to_submit.min(most), true)),
            Enter::Consume(most) => Ok(self.consume(to_submit.min(most), false)),
            Enter::Answer(count) => Ok(count),
            Enter::Fail(errno) => Err(Errno::new(errno)),
            Enter::ConsumeAndFail(most, errno) => {
                self.consume(to_submit.min(most), true);
                Err(Errno::new(errno))
            }
            Enter::Run(run) => {
                let (_, kernel) = self.ring.as_mut().expect("a ring was set up");
                run(kernel, to_submit)
            }
            Enter::Wait(run) => {
                let (_, kernel) = self.ring.as_mut().expect("a ring was set up");
                run(kernel, to_submit, bound)
            }
        }
    }

    /// Takes up to `count` entries off the ring, and returns how many it found.
    fn consume(&mut self, count: u32, completes: bool) -> u32 {
        let Some((_, kernel)) = &mut self.ring else { return 0 };
        for slot in 0..count {
            let sqe = match kernel.shape().turn {
                Turn::Round => kernel.consume(),
                Turn::Rewind => (slot < kernel.shape().sq_entries).then(|| kernel.read_slot(slot)),
            };
            let Some(sqe) = sqe else { return slot };
            self.consumed.push(sqe);
            if completes {
                let posted = kernel.post(Cqe { user_data: sqe.user_data, ..Cqe::ZERO });
                assert!(posted, "the completion ring is full: script the enter");
            }
        }
        count
    }

    fn register(&mut self, op: RegisterOp, arg: *mut libc::c_void) -> Result<u32, Errno> {
        match op {
            RegisterOp::UNREGISTER_RING_FDS => Ok(1),
            RegisterOp::ENABLE_RINGS => Ok(0),
            RegisterOp::RESIZE_RINGS => {
                let pointer = arg.cast::<Params>();
                // SAFETY: a live `struct io_uring_params`, as promised to `register`.
                let asked = unsafe { pointer.read() };
                let answer = self.resize(asked)?;
                // SAFETY: as promised to `register`.
                unsafe { pointer.write(answer) };
                Ok(0)
            }
            _ => Err(Errno::new(libc::EINVAL)),
        }
    }

    /// Like Linux: the parameters describe everything but the place of the index array; indices and
    /// pending entries move along.
    fn resize(&mut self, asked: Params) -> Result<Params, Errno> {
        let (old, mut kernel) = self.ring.take().ok_or(Errno::new(libc::EBADF))?;
        let flags = SetupFlags::CQSIZE | SetupFlags::CLAMP;
        let resized = sane(asked.sq_entries, asked, flags).and_then(|mut answer| {
            answer.flags |= old.flags() - flags;
            answer.features = Features::empty();
            let fits = kernel.visible() <= answer.sq_entries;
            let held = kernel.shape().cq_entries - kernel.cq_room();
            if !fits || held > answer.cq_entries {
                return Err(Errno::new(libc::EOVERFLOW));
            }
            let memory = RingMemory::moved(&mut answer, &old, &mut kernel);
            // Linux 6.18 has an array, and does not report its place.
            answer.sq_off.array = 0;
            if let Some(tamper) = self.tamper.take() {
                tamper(&mut answer, &memory);
            }
            Ok((answer, memory))
        });
        match resized {
            Ok((answer, memory)) => {
                let kernel = memory.kernel();
                self.ring = Some((memory, kernel));
                Ok(answer)
            }
            Err(errno) => {
                self.ring = Some((old, kernel));
                Err(errno)
            }
        }
    }
}

// SAFETY: what `setup` and `map` describe is memory that its maps keep, touched only by a
// `FakeKernel`; only a test that tampers breaks more, and it tests the checks that come before.
unsafe impl Backend for Script {
    fn setup(&self, entries: u32, params: &mut Params) -> Result<RingFd, Errno> {
        let mut state = self.state();
        state.calls.push(Call::Setup { entries, params: *params });
        state.setup(entries, params)
    }

    fn map(&self, _ring: RingRef<'_>, offset: u64, len: usize) -> Result<Map, Errno> {
        let mut state = self.state();
        state.calls.push(Call::Map { offset, len });
        state.map(offset, len)
    }

    fn enter(
        &self,
        _ring: RingRef<'_>,
        to_submit: u32,
        min_complete: u32,
        flags: EnterFlags,
        arg: EnterArg<'_>,
    ) -> Result<u32, Errno> {
        let mut state = self.state();
        let bound = Bound::of(arg);
        state.calls.push(Call::Enter { to_submit, min_complete, flags, bound });
        let answer = state.enter(to_submit, bound);
        let ended_by_limit = answer == Err(Errno::new(libc::ETIME));
        let limit = bound.limit().filter(|_| ended_by_limit).unwrap_or_default();
        state.pass(limit.max(Duration::from_micros(1)));
        answer
    }

    fn now(&self) -> Instant {
        self.state().time.unwrap_or_else(Instant::now)
    }

    fn sleep(&self, span: Duration) {
        if !self.state().pass(span) {
            std::thread::sleep(span);
        }
    }

    unsafe fn register(
        &self,
        _ring: RingRef<'_>,
        op: RegisterOp,
        arg: *mut libc::c_void,
        count: u32,
    ) -> Result<u32, Errno> {
        let mut state = self.state();
        state.calls.push(Call::Register { op, count });
        let scripted = state.on_register.as_mut().and_then(|how| how(op, arg, count));
        scripted.unwrap_or_else(|| state.register(op, arg))
    }
}
