//! What the two sides share: the kernel behind every ring of a history, and the ledger.
//!
//! ```text
//!   driver ── made, pushed, redeemed ──►┐         ┌◄── setup, map, enter, register ── Ring
//!   Token::drop ────────────────────────┴► World ◄┘
//! ```
//!
//! # Safety
//!
//! The memory of each ring is a `RingMemory`, which its maps keep; only a `Kernel` plays its other
//! half.
#![allow(unsafe_code, reason = "plays the kernel")]

use std::any::Any;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use annulus::sys::abi_register::BufReg;
use annulus_sys::abi::Params;
use annulus_sys::errno::Errno;
use annulus_sys::flags::{EnterFlags, Features, SetupFlags};
use annulus_sys::kernel::{Backend, Kernel as Behind};
use annulus_sys::map::Map;
use annulus_sys::opcode::RegisterOp;
use annulus_sys::syscall::{EnterArg, ExtArg, RingFd, RingRef};

use super::Profile;
use super::blame::Tripped;
use super::chance::Chance;
use super::group::{Gift, Group};
use super::kernel::{Ask, Bound, Kernel, Tally};
use super::ledger::{Claim, Cut, Fate, Goes, Ledger, Of, OpId, Shown, Stage, Tie};
use crate::support::memory::sane;

/// Whether values that may panic when they are dropped do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Armed {
    No,
    Yes,
}

/// What a panic on purpose throws.
#[derive(Debug)]
pub struct OnPurpose;

/// Everything except the program and the ring.
pub struct World(Mutex<State>);

struct State {
    profile: Profile,
    chance: Chance,
    ledger: Ledger,
    kernels: Vec<Option<Kernel>>,
    armed: Armed,
    tripped: Option<Tripped>,
    /// The time by the clock of these kernels. How fast the machine is decides nothing.
    now: Instant,
}

/// How long each call takes.
const CALL: Duration = Duration::from_micros(1);

/// The result that an operation ended with.
#[derive(Debug)]
pub struct End {
    pub result: i32,
    /// The contents of the buffer that the kernel has written.
    pub image: Vec<u8>,
}

/// The calls that one ring goes through.
struct NumberedKernel {
    world: Arc<World>,
    number: usize,
}

impl World {
    pub fn new(chance: Chance, profile: Profile) -> Arc<Self> {
        let (ledger, kernels) = (Ledger::default(), Vec::new());
        let (armed, tripped, now) = (Armed::No, None, Instant::now());
        Arc::new(Self(Mutex::new(State { profile, chance, ledger, kernels, armed, tripped, now })))
    }

    /// The kernel for one more ring, and the ring's number.
    pub fn kernel(self: &Arc<Self>) -> (usize, Behind) {
        let mut state = self.state();
        state.kernels.push(None);
        let number = state.kernels.len() - 1;
        (number, Behind::with_backend(Arc::new(NumberedKernel { world: Arc::clone(self), number })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a broken rule.
    pub fn fault(&self, text: impl Into<String>) {
        self.state().ledger.fault(text);
    }

    pub fn take_faults(&self) -> Vec<String> {
        self.state().ledger.take_faults()
    }

    pub fn make(&self, ring: usize, fate: Fate) -> OpId {
        self.state().ledger.make(ring, fate)
    }

    /// The operation's entry must be linked to the next like this.
    pub fn tie(&self, id: OpId, tie: Tie) {
        self.state().ledger.op(id).tie = tie;
    }

    /// The operation was pushed, after all others of its ring.
    pub fn pushed(&self, id: OpId) {
        self.with_kernel_of(id, |kernel, ledger| kernel.pushed(id, ledger));
    }

    pub fn claim(&self, id: OpId, claim: Claim) {
        self.state().ledger.op(id).claim = claim;
    }

    /// The end of the operation need not be shown.
    pub fn may_be_quiet(&self, id: OpId) {
        let mut state = self.state();
        let note = state.ledger.op(id);
        if note.shown == Shown::No {
            note.shown = Shown::Perhaps;
        }
    }

    /// The end of the operation was shown, with this result.
    pub fn shown(&self, id: OpId, result: Result<u32, Errno>) {
        let mut state = self.state();
        let note = state.ledger.op(id);
        let (expected, claim) = (note.result, note.claim);
        if !matches!(note.stage, Stage::Ended | Stage::Taken) {
            let stage = note.stage;
            state.ledger.fault(format!("the end of {id} was shown, and it is {stage:?}"));
        } else if note.shown == Shown::Yes {
            state.ledger.fault(format!("the end of {id} was shown twice"));
        } else if matches!(claim, Claim::Detached | Claim::Gone) {
            state.ledger.fault(format!("the end of {id} was shown, and its claim is {claim:?}"));
        } else if result != u32::try_from(expected).map_err(|_| Errno::new(expected.wrapping_neg()))
        {
            state.ledger.fault(format!("{id} ended with {expected}, and {result:?} was shown"));
        }
        state.ledger.op(id).shown = Shown::Yes;
    }

    /// The output of the operation was received.
    pub fn redeemed(&self, id: OpId) -> End {
        let mut state = self.state();
        let note = state.ledger.op(id);
        note.claim = Claim::Gone;
        let (stage, result, image) = (note.stage, note.result, note.image.clone());
        if !matches!(stage, Stage::Ended | Stage::Taken) {
            state.ledger.fault(format!("OP1: the output of {id} was had, and it is {stage:?}"));
        }
        End { result, image }
    }

    /// The operation that the kernel knows by a `user_data` of that slot.
    pub fn in_slot(&self, ring: usize, slot: u32) -> Option<OpId> {
        self.with_kernel(ring, |kernel, _| kernel.slots.get(&slot).copied())
    }

    pub fn stage(&self, id: OpId) -> Stage {
        self.state().ledger.op(id).stage
    }

    pub fn fate(&self, id: OpId) -> Fate {
        self.state().ledger.op(id).fate
    }

    /// Whether the ring has let go of all that the operation owned, or never had it.
    pub fn is_over(&self, id: OpId) -> bool {
        let mut state = self.state();
        let note = state.ledger.op(id);
        match note.claim {
            Claim::Gone => true,
            Claim::Detached => note.stage == Stage::Taken,
            Claim::Held | Claim::Forgotten => note.stage == Stage::Made,
        }
    }

    pub fn result(&self, id: OpId) -> i32 {
        self.state().ledger.op(id).result
    }

    /// Whether it let the next step of its chain begin.
    pub fn goes(&self, id: OpId) -> Goes {
        self.state().ledger.op(id).goes
    }

    pub fn claim_of(&self, id: OpId) -> Claim {
        self.state().ledger.op(id).claim
    }

    pub fn lost_an_owner(&self, id: OpId) -> bool {
        self.state().ledger.lost_an_owner(id)
    }

    /// Whether everything that the operation owned was dropped.
    pub fn has_lost_all(&self, id: OpId) -> bool {
        self.state().ledger.has_lost_all(id)
    }

    /// How many rings there were.
    pub fn count(&self) -> usize {
        self.state().kernels.len()
    }

    pub fn awaitable(&self, ring: usize) -> usize {
        self.look(ring);
        self.state().ledger.awaitable(ring)
    }

    pub fn in_flight(&self, ring: usize) -> usize {
        self.look(ring);
        self.state().ledger.in_flight(ring)
    }

    pub fn slots_taken(&self, ring: usize) -> usize {
        self.look(ring);
        self.state().ledger.slots_taken(ring)
    }

    pub fn not_shown(&self, ring: usize) -> Vec<OpId> {
        self.look(ring);
        self.state().ledger.not_shown(ring)
    }

    pub fn tally(&self, ring: usize) -> Tally {
        self.with_kernel(ring, |kernel, ledger| {
            kernel.look(ledger);
            kernel.tally
        })
    }

    /// What the kernel wrote to the buffer whose bytes begin with this number.
    pub fn completion(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let serial = u64::from_le_bytes(*bytes.first_chunk()?);
        self.state().ledger.completions.get(&serial).cloned()
    }

    /// How many buffers of a ring's groups are not on offer.
    pub fn given(&self, ring: usize) -> usize {
        self.with_kernel(ring, |kernel, ledger| {
            kernel.touch(ledger);
            kernel.groups.iter().flat_map(Group::given).count()
        })
    }

    /// Checks that no buffer is lost: each is on offer, with an operation that can still be
    /// claimed, or in one of these leases, which the caller has.
    pub fn check_buffers(&self, ring: usize, leased: &[u64]) {
        self.with_kernel(ring, |kernel, ledger| {
            for group in &mut kernel.groups {
                if let Err(fault) = group.look() {
                    ledger.fault(fault);
                }
            }
            for Gift { op, serial } in kernel.groups.iter().flat_map(Group::given) {
                let note = ledger.op(op);
                let is_over = matches!(note.claim, Claim::Gone | Claim::Detached);
                if note.stage == Stage::Taken && is_over && !leased.contains(&serial) {
                    ledger.fault(format!("BR1: a buffer that {op} was given is lost"));
                }
            }
        });
    }

    pub fn is_quiet(&self, ring: usize) -> bool {
        self.look(ring);
        self.with_kernel(ring, |kernel, _| kernel.is_quiet())
    }

    pub fn interrupt(&self, ring: usize) {
        self.with_kernel(ring, Kernel::interrupt);
    }

    /// The kernel goes on with its requests, even when the ring is gone.
    pub fn go_on(&self, ring: usize) {
        self.with_kernel(ring, |kernel, ledger| {
            kernel.look(ledger);
            kernel.touch(ledger);
        });
    }

    /// The ring is gone.
    pub fn close(&self, ring: usize, cut: Cut) {
        self.go_on(ring);
        self.state().ledger.close(ring, cut);
    }

    pub fn arm(&self, armed: Armed) {
        let mut state = self.state();
        state.armed = armed;
        if armed == Armed::Yes {
            state.tripped = None;
        }
    }

    /// The value that has panicked last, since they were armed.
    pub fn tripped(&self) -> Option<Tripped> {
        self.state().tripped
    }

    pub fn armed(&self) -> Armed {
        self.state().armed
    }

    fn look(&self, ring: usize) {
        self.with_kernel(ring, |kernel, ledger| kernel.look(ledger));
    }

    fn with_kernel<R>(&self, ring: usize, act: impl FnOnce(&mut Kernel, &mut Ledger) -> R) -> R {
        let State { kernels, ledger, .. } = &mut *self.state();
        act(kernels[ring].as_mut().expect("the ring was set up"), ledger)
    }

    fn with_kernel_of<R>(&self, id: OpId, act: impl FnOnce(&mut Kernel, &mut Ledger) -> R) -> R {
        let ring = self.state().ledger.op(id).ring;
        self.with_kernel(ring, act)
    }
}

/// Something that an operation owns.
#[derive(Debug)]
pub struct Token {
    // A leaked token must not keep the world alive.
    world: Weak<World>,
    owner: usize,
    op: OpId,
    of: Of,
    bomb: Bomb,
}

/// Whether it panics when it is dropped, once it is armed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bomb {
    No,
    Yes,
}

impl Token {
    pub fn new(world: &Arc<World>, op: OpId, of: Of, bomb: Bomb) -> Self {
        let owner = world.state().ledger.own(op, of);
        Self { world: Arc::downgrade(world), owner, op, of, bomb }
    }

    pub fn op(&self) -> OpId {
        self.op
    }

    /// Panics, if it is one that panics and it is armed.
    pub fn trip(&self) {
        let Some(world) = self.world.upgrade() else { return };
        if self.bomb == Bomb::Yes && world.armed() == Armed::Yes && !std::thread::panicking() {
            world.state().tripped = Some(Tripped { op: self.op, of: self.of });
            drop(world);
            panic_any(OnPurpose);
        }
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        if let Some(world) = self.world.upgrade() {
            world.state().ledger.dropped(self.owner);
        }
        self.trip();
    }
}

/// Runs `call`, in which a panic on purpose may happen.
pub fn risky<T>(call: impl FnOnce() -> T) -> Result<T, OnPurpose> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|panic| match panic.downcast::<OnPurpose>() {
        Ok(panic) => *panic,
        Err(other) => resume_unwind(other),
    })
}

// SAFETY: what `setup` and `map` describe is memory that its maps keep, touched only by a `Kernel`.
unsafe impl Backend for NumberedKernel {
    fn setup(&self, entries: u32, params: &mut Params) -> Result<RingFd, Errno> {
        let State { kernels, chance, profile, .. } = &mut *self.world.state();
        let mut answer = sane(entries, *params, SetupFlags::all())?;
        answer.features = Features::from_bits_retain((1 << 18) - 1);
        let chance = chance.split();
        kernels[self.number] = Some(Kernel::new(&mut answer, *profile, chance));
        *params = answer;
        let fd = File::open("/dev/null").map_err(|error| Errno::of(&error))?;
        Ok(RingFd::Owned(fd.into()))
    }

    fn map(&self, _: RingRef<'_>, offset: u64, len: usize) -> Result<Map, Errno> {
        self.world.with_kernel(self.number, |kernel, _| {
            let region = kernel.memory.region(offset).ok_or(Errno::new(libc::EINVAL))?;
            assert!(len <= region.len(), "more is mapped than there is");
            let base = region.base();
            let keeper: Box<dyn Any + Send + Sync> = Box::new(region);
            // SAFETY: the region is that long, and lives until the keeper is dropped.
            Ok(unsafe { Map::foreign(base, len, keeper) })
        })
    }

    fn enter(
        &self,
        _: RingRef<'_>,
        to_submit: u32,
        min_complete: u32,
        flags: EnterFlags,
        arg: EnterArg<'_>,
    ) -> Result<u32, Errno> {
        let bound = match arg {
            EnterArg::Ext(ExtArg { timeout: Some(_), .. }) => Bound::Timeout,
            _ => Bound::None,
        };
        let ask = Ask { to_submit, min_complete, flags, bound };
        self.sleep(CALL);
        self.world.with_kernel(self.number, |kernel, ledger| kernel.enter(ask, ledger))
    }

    fn now(&self) -> Instant {
        self.world.state().now
    }

    fn sleep(&self, span: Duration) {
        self.world.state().now += span;
    }

    unsafe fn register(
        &self,
        _: RingRef<'_>,
        op: RegisterOp,
        arg: *mut libc::c_void,
        _: u32,
    ) -> Result<u32, Errno> {
        if !matches!(op, RegisterOp::PBUF_RING | RegisterOp::UNREGISTER_PBUF_RING) {
            return Err(Errno::new(libc::EINVAL));
        }
        // SAFETY: a live `struct io_uring_buf_reg`, as promised to `register`.
        let reg = unsafe { arg.cast::<BufReg>().read() };
        self.world.with_kernel(self.number, |kernel, _| {
            kernel.groups.retain(|group| group.id != reg.bgid);
            if op == RegisterOp::PBUF_RING {
                kernel.groups.push(Group::new(&reg));
            }
        });
        Ok(0)
    }
}
