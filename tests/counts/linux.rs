//! Linux behind a counter of its calls, which also tells where a ring's indices are mapped.
//!
//! ```text
//!   ring ─► Linux ─► the system call         linux.calls() == enters and register calls so far
//! ```
//!
//! # Safety
//!
//! Every call is passed on to Linux, which keeps the contract.
#![allow(unsafe_code, reason = "stands between a ring and Linux")]

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use annulus::sys::abi::Params;
use annulus::sys::errno::Errno;
use annulus::sys::flags::{EnterFlags, OFF_SQ_RING, SetupFlags};
use annulus::sys::kernel::{Backend, Kernel};
use annulus::sys::map::Map;
use annulus::sys::opcode::RegisterOp;
use annulus::sys::syscall::{self, EnterArg, RingFd, RingRef};
use annulus::{RawRing, Setup};

/// Linux, and what was asked of it.
#[derive(Default)]
pub struct Linux {
    calls: AtomicU64,
    indices: AtomicUsize,
}

impl Linux {
    /// A set-up whose calls are counted.
    pub fn setup(entries: u32) -> (Setup<'static>, Arc<Self>) {
        let linux = Arc::<Self>::default();
        let kernel = Kernel::with_backend(Arc::<Self>::clone(&linux));
        (Setup::new(entries).kernel(kernel), linux)
    }

    /// A ring of that set-up, with its completions deferred (CQ5); or why there is none.
    pub fn ring(entries: u32) -> Result<(RawRing, Arc<Self>), String> {
        let (setup, linux) = Self::setup(entries);
        let ring = setup.build_raw().map_err(|error| error.to_string())?;
        if !ring.flags().contains(SetupFlags::DEFER_TASKRUN | SetupFlags::TASKRUN_FLAG) {
            return Err("needs Linux 6.1: DEFER_TASKRUN".to_owned());
        }
        Ok((ring, linux))
    }

    /// How many system calls were made for the ring.
    pub fn calls(&self) -> u64 {
        self.calls.load(Relaxed)
    }

    /// The address of the page with the ring's indices.
    pub fn indices(&self) -> usize {
        self.indices.load(Relaxed)
    }
}

// SAFETY: Linux itself describes the memory, because the calls are only passed on.
unsafe impl Backend for Linux {
    fn setup(&self, entries: u32, params: &mut Params) -> Result<RingFd, Errno> {
        // SAFETY: the ring names no memory of the caller's, since `Linux::ring` gives it none.
        unsafe { syscall::setup(entries, params) }
    }

    fn map(&self, ring: RingRef<'_>, offset: u64, len: usize) -> Result<Map, Errno> {
        // SAFETY: the ring is alive during the call, because the caller holds it.
        let map = Map::of_ring(unsafe { BorrowedFd::borrow_raw(ring.number()) }, offset, len)?;
        if offset == OFF_SQ_RING {
            self.indices.store(usize::try_from(map.address()).expect("an address"), Relaxed);
        }
        Ok(map)
    }

    fn enter(
        &self,
        ring: RingRef<'_>,
        to_submit: u32,
        min_complete: u32,
        flags: EnterFlags,
        arg: EnterArg<'_>,
    ) -> Result<u32, Errno> {
        self.calls.fetch_add(1, Relaxed);
        // SAFETY: OP1 holds for every entry, as promised to `RawRing::push`.
        unsafe { syscall::enter(ring, to_submit, min_complete, flags, arg) }
    }

    unsafe fn register(
        &self,
        ring: RingRef<'_>,
        op: RegisterOp,
        arg: *mut libc::c_void,
        count: u32,
    ) -> Result<u32, Errno> {
        self.calls.fetch_add(1, Relaxed);
        // SAFETY: as promised to `register`.
        unsafe { syscall::register(ring, op, arg, count) }
    }
}
