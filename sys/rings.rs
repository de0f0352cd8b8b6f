//! Makes a ring: from a [`Request`] to a mapped and checked pair of queues.
//!
//! ```text
//!   Request ──► own memory? ──► setup ──► map ──► checked once ──► SubmissionQueue,
//!               (NO_MMAP)                 1, 2 or 0 ring maps,     CompletionQueue,
//!                                         and the entries          over the atomics that
//!                                                                  `params` located
//! ```
//!
//! | layout | ring memory | entries |
//! |---|---|---|
//! | `FEAT_SINGLE_MMAP` (5.4) | one map at `OFF_SQ_RING` | one map at `OFF_SQES` |
//! | without it | one map each at `OFF_SQ_RING` and `OFF_CQ_RING` | one map at `OFF_SQES` |
//! | `NO_MMAP` (6.5) | pages that we allocate | pages that we allocate |
//!
//! The kernel's answer is checked once, here: the sizes, the masks, and that every index and slot
//! lies inside its map. A failed check names its invariant (SQ2, CQ2).
//!
//! Leaves to others: which flags to request, and the error text when the kernel refuses them.
//!
//! # Safety
//!
//! Vouches to `orderings`, `sq` and `cq` for pointers that `Map::at` has checked.
#![allow(unsafe_code, reason = "vouches for the atomics that the kernel located")]

mod resize;

use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::abi::Params;
use crate::abi_register::RsrcUpdate;
use crate::cq::CompletionQueue;
use crate::errno::Errno;
use crate::flags::SetupFlags;
use crate::kernel::Kernel;
pub use crate::layout::{Attached, MAX_CQ_ENTRIES, MAX_SQ_ENTRIES, Request};
use crate::layout::{Layout, OwnMemory, Regions};
use crate::map::Map;
use crate::opcode::RegisterOp;
use crate::process::Numbers;
use crate::sq::SubmissionQueue;
use crate::syscall::{RingFd, RingRef, Thread, this_thread};

/// Why a resize failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResizeFailure {
    /// The resize was refused. Nothing changed.
    Refused(Errno),
    /// The kernel resized the ring, but the new memory could not be mapped.
    Map(Errno),
}

/// The step at which making a ring failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetupFailure {
    /// `io_uring_setup(2)` failed.
    Setup(Errno),
    /// The kernel made the ring, but its memory could not be mapped, so the ring was closed.
    Map(Errno),
    /// We could not allocate the memory for the ring (`NO_MMAP`).
    OwnMemory(Errno),
}

/// A ring: both queues, and the [`Base`] that they share.
#[derive(Debug)]
pub struct Rings {
    sq: SubmissionQueue,
    cq: CompletionQueue,
    base: Arc<Base>,
}

/// What both halves of a ring share: the descriptor, and the kernel that it belongs to.
#[derive(Debug)]
pub struct Base {
    kernel: Kernel,
    fd: RingFd,
    params: Params,
    number: u64,
    /// The thread that made the ring. The index of a ring without a descriptor is valid only there.
    thread: Thread,
    /// The mappings of this ring, which tell whether a half belongs to it.
    memory: Mutex<Weak<[Map]>>,
}

impl Rings {
    /// Makes a ring and maps it.
    ///
    /// # Errors
    ///
    /// [`SetupFailure`] says which step failed, and with which error.
    ///
    /// # Panics
    ///
    /// When the sizes and offsets that the kernel returned cannot be a ring (SQ2, CQ2).
    pub fn setup(kernel: &Kernel, request: &Request<'_>) -> Result<Self, SetupFailure> {
        let mut params = request.params();
        let own = if params.flags.contains(SetupFlags::NO_MMAP) {
            Some(OwnMemory::new(request).map_err(SetupFailure::OwnMemory)?)
        } else {
            None
        };
        if let Some(own) = &own {
            params.cq_off.user_addr = own.rings_address();
            params.sq_off.user_addr = own.sqes_address();
        }
        // SAFETY: the addresses point to zeroed memory that is large enough and leaks unless idle
        // (RG1); `attach` is borrowed, so the caller may use it, as promised to `Attached::to`.
        let fd = match unsafe { kernel.setup(request.entries, &mut params) } {
            Ok(fd) => fd,
            Err(errno) => {
                // SAFETY: the kernel made no ring, so it has no use for the memory.
                own.into_iter().for_each(|own| unsafe { own.found_idle() });
                return Err(SetupFailure::Setup(errno));
            }
        };
        let base = Base::new(kernel, fd, params);
        // SAFETY: as promised to `over`, since `params` is what `setup` returned for this
        // descriptor.
        unsafe { Self::over(base, own) }.map_err(SetupFailure::Map)
    }

    /// Maps a ring that already exists.
    ///
    /// # Errors
    ///
    /// Those of `mmap(2)`; `EBUSY` if entries are published that the kernel has not consumed, since
    /// the index array is filled here.
    ///
    /// # Panics
    ///
    /// When the sizes and offsets in `params` cannot be a ring (SQ2, CQ2).
    ///
    /// # Safety
    ///
    /// `params` must be what `io_uring_setup(2)` returned for `fd`; only layout features may be
    /// cleared in it. If the ring was resized since, it must have no index array, and the sizes and
    /// offsets must be those that the last resize returned. No other code may use the queues from
    /// now on.
    pub unsafe fn adopt(kernel: &Kernel, fd: RingFd, params: Params) -> Result<Self, Errno> {
        let base = Base::new(kernel, fd, params);
        let layout = Layout::of(&base.params);
        let apart = layout.array_is_apart(&base.params);
        assert!(apart, "SQ2, CQ2: the index array lies over the indices or the completions");
        let regions = layout.map(&base.kernel, &base.fd, params.features)?;
        if layout.has_published(&base.params, &regions) {
            return Err(Errno::new(libc::EBUSY));
        }
        // SAFETY: as promised to `adopt`.
        Ok(unsafe { Self::within(base, &layout, &regions) })
    }

    /// # Safety
    ///
    /// As for [`adopt`](Self::adopt). With `NO_MMAP`, `own` must be `Some`.
    unsafe fn over(base: Base, own: Option<OwnMemory>) -> Result<Self, Errno> {
        let layout = Layout::of(&base.params);
        let regions = match own {
            Some(own) => own.into_regions(),
            None => layout.map(&base.kernel, &base.fd, base.params.features)?,
        };
        // SAFETY: as promised to `over`.
        Ok(unsafe { Self::within(base, &layout, &regions) })
    }

    /// # Safety
    ///
    /// As for [`adopt`](Self::adopt), and `regions` are the maps of this ring, in which no entry is
    /// published that the kernel has not consumed.
    unsafe fn within(base: Base, layout: &Layout, regions: &Regions) -> Self {
        let (sq, cq) = layout.parts(&base.params, regions);
        // SAFETY: the atomics and slots lie in `regions`, which the parts keep alive; the kernel
        // keeps SQ1.
        let sq = unsafe { SubmissionQueue::over(sq) };
        // SAFETY: likewise; the kernel keeps CQ1.
        let cq = unsafe { CompletionQueue::over(cq) };
        base.lies_in(sq.memory());
        Self { sq, cq, base: Arc::new(base) }
    }

    /// Our half of the submission queue.
    #[inline]
    pub fn sq(&mut self) -> &mut SubmissionQueue {
        &mut self.sq
    }

    /// Our half of the completion queue.
    #[inline]
    pub fn cq(&mut self) -> &mut CompletionQueue {
        &mut self.cq
    }

    /// Both halves at the same time.
    #[inline]
    pub fn both(&mut self) -> (&mut SubmissionQueue, &mut CompletionQueue) {
        (&mut self.sq, &mut self.cq)
    }

    /// Both halves, for reading.
    #[inline]
    pub fn halves(&self) -> (&SubmissionQueue, &CompletionQueue) {
        (&self.sq, &self.cq)
    }

    /// The descriptor and the kernel that both halves share.
    #[inline]
    pub fn base(&self) -> &Arc<Base> {
        &self.base
    }

    /// Splits the ring into its halves and their base. Each half may move to its own thread.
    pub fn split(self) -> (SubmissionQueue, CompletionQueue, Arc<Base>) {
        (self.sq, self.cq, self.base)
    }

    /// Joins the parts that [`split`](Self::split) returned.
    ///
    /// # Errors
    ///
    /// Returns all three parts if they do not belong to one ring, and in a forked child.
    #[expect(clippy::result_large_err, reason = "the error gives the caller's parts back")]
    pub fn join(
        sq: SubmissionQueue,
        cq: CompletionQueue,
        base: Arc<Base>,
    ) -> Result<Self, (SubmissionQueue, CompletionQueue, Arc<Base>)> {
        // In a forked child the lock may be held forever, by a thread that only the parent has.
        let ours = base.is_of_this_process() && base.has(&sq, &cq);
        if ours { Ok(Self { sq, cq, base }) } else { Err((sq, cq, base)) }
    }

    /// Lets ring memory of our own be unmapped when both halves are dropped, instead of leaked
    /// (RG1).
    ///
    /// # Safety
    ///
    /// No request may be in flight or be submitted later, and no polling thread may run. If the
    /// halves were swapped, this must hold for the ring of the submission half.
    pub unsafe fn found_idle(&self) {
        for map in self.sq.memory().iter() {
            // SAFETY: as promised to `Rings::found_idle`.
            unsafe { map.found_idle() };
        }
    }
}

impl Base {
    fn new(kernel: &Kernel, fd: RingFd, params: Params) -> Self {
        let nowhere: Weak<[Map; 0]> = Weak::new();
        static NUMBERS: Numbers = Numbers::new();
        let (number, thread) = (NUMBERS.next(), this_thread());
        Self { kernel: kernel.clone(), fd, params, number, thread, memory: Mutex::new(nowhere) }
    }

    /// Records the mappings that hold the ring now.
    fn lies_in(&self, memory: &Arc<[Map]>) {
        *self.memory.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(memory);
    }

    /// Whether both halves belong to this ring.
    fn has(&self, sq: &SubmissionQueue, cq: &CompletionQueue) -> bool {
        let ours = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        [sq.memory(), cq.memory()].iter().all(|half| Weak::ptr_eq(&ours, &Arc::downgrade(half)))
    }

    /// Whether the ring can be named on this thread. On any thread other than the one that made the
    /// ring, the index of a ring without a descriptor names nothing, or another ring.
    pub fn is_here(&self) -> bool {
        matches!(self.fd, RingFd::Owned(_)) || self.thread == this_thread()
    }

    /// Whether the calling process made the ring, and is not a forked child of that process.
    pub fn is_of_this_process(&self) -> bool {
        self.thread.is_of_this_process()
    }

    /// The kernel that the ring belongs to.
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// The handle that keeps the ring open.
    pub fn fd(&self) -> &RingFd {
        &self.fd
    }

    /// A number that no other ring of this process ever has.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The parameters that `io_uring_setup(2)` returned. A resize may have changed the sizes since.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// `io_uring_register(2)` on this ring.
    ///
    /// # Errors
    ///
    /// The kernel's. `EBADF` for a ring without a descriptor on a thread that did not make it.
    /// `ECHILD` in a forked child, whose descriptor leads to its parent's ring.
    ///
    /// # Safety
    ///
    /// As [`crate::syscall::register`].
    pub unsafe fn register(
        &self,
        op: RegisterOp,
        arg: *mut libc::c_void,
        count: u32,
    ) -> Result<u32, Errno> {
        if !self.is_of_this_process() {
            return Err(Errno::new(libc::ECHILD));
        }
        if !self.is_here() {
            return Err(Errno::new(libc::EBADF));
        }
        // SAFETY: as promised to `Base::register`.
        unsafe { self.kernel.register(self.fd.by_ref(), op, arg, count) }
    }
}

impl Drop for Base {
    fn drop(&mut self) {
        // A descriptor closes itself. A ring without one is unregistered by its index, which works
        // only on its own thread. On other threads we do nothing: the kernel unregisters the ring
        // when its thread ends.
        if let RingFd::Registered(index) = self.fd
            && self.is_here()
        {
            let mut update = RsrcUpdate { offset: index, resv: 0, data: 0 };
            let arg = (&raw mut update).cast();
            let ring = RingRef::registered(index);
            // SAFETY: a live `struct io_uring_rsrc_update`, which the kernel does not keep, because
            // it copies.
            let _ = unsafe { self.kernel.register(ring, RegisterOp::UNREGISTER_RING_FDS, arg, 1) };
        }
    }
}
