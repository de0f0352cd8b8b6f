//! The scripted kernel behind a recorder, which notes how each call named the ring.
//!
//! ```text
//!   RawRing ─► DriverKernel ─► Script     kernel.took() == [(to_submit, min_complete, flags), ...]
//!              notes                   kernel.seen()    the same, with the argument and the name
//!                                      kernel.named()   what was registered, and at which index
//! ```
//!
//! # Safety
//!
//! Every call is passed on; the script keeps the contract.
#![allow(unsafe_code, reason = "plays the kernel")]

use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use annulus::{RawRing, Setup};
use annulus_sys::abi::Params;
use annulus_sys::abi_register::RsrcUpdate;
use annulus_sys::errno::Errno;
use annulus_sys::flags::{EnterFlags, SetupFlags};
use annulus_sys::kernel::{Backend, Kernel};
use annulus_sys::map::Map;
use annulus_sys::opcode::RegisterOp;
use annulus_sys::syscall::{EnterArg, RingFd, RingRef};

use super::support::backend::{Bound, Call, Script, ScriptedKernel};

/// A scripted kernel that can be controlled like its [`Script`].
pub struct DriverKernel {
    script: Arc<Script>,
    notes: Mutex<Notes>,
}

#[derive(Default)]
struct Notes {
    /// For each enter the index of a registered ring; `None` for a descriptor.
    indices: Vec<Option<u32>>,
    named: Vec<(RegisterOp, u32)>,
}

/// How the kernel was entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    pub to_submit: u32,
    pub min_complete: u32,
    pub flags: EnterFlags,
    pub bound: Bound,
    /// The index of a registered ring; `None` for a descriptor.
    pub index: Option<u32>,
}

impl DriverKernel {
    /// A Linux that knows every flag, and whose rings start just before the wrap.
    pub fn new() -> Arc<Self> {
        let (_, script) = ScriptedKernel::new();
        script.start_at(u32::MAX - 1);
        Arc::new(Self { script, notes: Mutex::default() })
    }

    /// The kernel, as an argument for a set-up.
    pub fn backend(self: &Arc<Self>) -> Kernel {
        Kernel::with_backend(Arc::<Self>::clone(self))
    }

    /// The ring that `setup` describes.
    pub fn ring(self: &Arc<Self>, setup: Setup<'_>) -> RawRing {
        setup.kernel(self.backend()).build_raw().expect("a ring")
    }

    /// The enters since the last time this was asked.
    pub fn seen(&self) -> Vec<Seen> {
        let indices = std::mem::take(&mut self.notes().indices);
        let enters = self.take_calls().into_iter().filter_map(|call| match call {
            Call::Enter { to_submit, min_complete, flags, bound } => {
                Some((to_submit, min_complete, flags, bound))
            }
            _ => None,
        });
        let see = |((to_submit, min_complete, flags, bound), index)| Seen {
            to_submit,
            min_complete,
            flags,
            bound,
            index,
        };
        enters.zip(indices).map(see).collect()
    }

    /// [`seen`](Self::seen), as `to_submit`, `min_complete` and flags.
    pub fn took(&self) -> Vec<(u32, u32, EnterFlags)> {
        let brief = |seen: Seen| (seen.to_submit, seen.min_complete, seen.flags);
        self.seen().into_iter().map(brief).collect()
    }

    /// The rings that were registered and unregistered since the last time this was asked, with the
    /// index that the call had as its argument or, when registering, as its answer.
    pub fn named(&self) -> Vec<(RegisterOp, u32)> {
        std::mem::take(&mut self.notes().named)
    }

    /// The flags of each set-up since the last time this was asked.
    pub fn setups(&self) -> Vec<SetupFlags> {
        let flags = |call| match call {
            Call::Setup { params, .. } => Some(params.flags),
            _ => None,
        };
        self.take_calls().into_iter().filter_map(flags).collect()
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Deref for DriverKernel {
    type Target = Script;

    fn deref(&self) -> &Script {
        &self.script
    }
}

// SAFETY: passes every call on to a `Script`, which keeps the contract, and changes nothing.
unsafe impl Backend for DriverKernel {
    fn setup(&self, entries: u32, params: &mut Params) -> Result<RingFd, Errno> {
        self.script.setup(entries, params)
    }

    fn map(&self, ring: RingRef<'_>, offset: u64, len: usize) -> Result<Map, Errno> {
        self.script.map(ring, offset, len)
    }

    fn enter(
        &self,
        ring: RingRef<'_>,
        to_submit: u32,
        min_complete: u32,
        flags: EnterFlags,
        arg: EnterArg<'_>,
    ) -> Result<u32, Errno> {
        let index = ring.is_registered().then(|| ring.number().cast_unsigned());
        self.notes().indices.push(index);
        self.script.enter(ring, to_submit, min_complete, flags, arg)
    }

    unsafe fn register(
        &self,
        ring: RingRef<'_>,
        op: RegisterOp,
        arg: *mut libc::c_void,
        count: u32,
    ) -> Result<u32, Errno> {
        // SAFETY: as promised to `register`.
        let answer = unsafe { self.script.register(ring, op, arg, count) };
        if matches!(op, RegisterOp::RING_FDS | RegisterOp::UNREGISTER_RING_FDS) {
            // SAFETY: a live `struct io_uring_rsrc_update`, as promised to `register`.
            let update = unsafe { arg.cast::<RsrcUpdate>().read() };
            self.notes().named.push((op, update.offset));
        }
        answer
    }

    fn now(&self) -> Instant {
        self.script.now()
    }

    fn sleep(&self, span: Duration) {
        self.script.sleep(span);
    }
}
