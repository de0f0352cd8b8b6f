//! From a request to a mapped, checked pair of rings.
//!
//! ```text
//!   Request ──► own memory? ──► setup ──► map ──► checked once ──► SubmissionRing, CompletionRing
//!               (NO_MMAP)                 1, 2 or 0 ring maps,       over the words that
//!                                         and the entries            `params` located
//! ```
//!
//! | layout | ring memory | entries |
//! |---|---|---|
//! | `FEAT_SINGLE_MMAP` (5.4) | one map at `OFF_SQ_RING` | one map at `OFF_SQES` |
//! | without it | one map each at `OFF_SQ_RING` and `OFF_CQ_RING` | the same |
//! | `NO_MMAP` (6.5) | pages of ours | pages of ours |
//!
//! What the kernel returned is checked here, with the invariant's name (SQ2, CQ2), and not again:
//! sizes, masks, and that every word and slot lies inside its map.
//!
//! Leaves to others: which flags to ask for, and what to say when the kernel refuses.
//!
//! # Safety
//!
//! Vouches to `shared`, `sq` and `cq` for pointers that `Map::at` has checked.
#![allow(unsafe_code, reason = "vouches for the words that the kernel located")]

use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::abi::Params;
use crate::abi_register::RsrcUpdate;
use crate::cq::CompletionRing;
use crate::errno::Errno;
use crate::flags::SetupFlags;
use crate::kernel::Kernel;
pub use crate::layout::{Attached, MAX_CQ_ENTRIES, MAX_SQ_ENTRIES, Request};
use crate::layout::{Layout, OwnMemory};
use crate::map::Map;
use crate::opcode::RegisterOp;
use crate::process::Numbers;
use crate::sq::SubmissionRing;
use crate::syscall::{RingFd, RingRef, Thread, this_thread};

/// Why there is no ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetupFailure {
    /// `io_uring_setup(2)` refused.
    Setup(Errno),
    /// The ring was made and is gone again: its memory could not be mapped.
    Map(Errno),
    /// There was no memory of our own to give (`NO_MMAP`).
    OwnMemory(Errno),
}

/// Both rings, and what they stand on.
#[derive(Debug)]
pub struct Rings {
    sq: SubmissionRing,
    cq: CompletionRing,
    base: Arc<Base>,
}

/// What both halves of a ring stand on: the descriptor and the kernel behind it.
#[derive(Debug)]
pub struct Base {
    kernel: Kernel,
    fd: RingFd,
    params: Params,
    number: u64,
    /// The thread that made the ring, to which the index of a ring without descriptor belongs.
    thread: Thread,
    /// Where the rings of this descriptor lie, to tell whose halves are whose.
    memory: Mutex<Weak<[Map]>>,
}

impl Rings {
    /// Makes a ring and maps it.
    ///
    /// # Errors
    ///
    /// [`SetupFailure`] says which step failed, and with what.
    ///
    /// # Panics
    ///
    /// When what the kernel describes cannot be a ring (SQ2, CQ2).
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
        // SAFETY: the addresses are of zeroed memory that is large enough and leaks unless idle
        // (RG1); `attach` is borrowed, so it is the caller's to use, as promised to `Attached::to`.
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

    /// Maps a ring that was made already.
    ///
    /// # Errors
    ///
    /// What `mmap(2)` refuses.
    ///
    /// # Panics
    ///
    /// When what `params` describes cannot be a ring (SQ2, CQ2).
    ///
    /// # Safety
    ///
    /// `params` must be what setting `fd` up returned, its layout features at most withheld; and
    /// nobody else may have mapped it.
    pub unsafe fn adopt(kernel: &Kernel, fd: RingFd, params: Params) -> Result<Self, Errno> {
        // SAFETY: as promised to `adopt`.
        unsafe { Self::over(Base::new(kernel, fd, params), None) }
    }

    /// # Safety
    ///
    /// As for [`adopt`](Self::adopt); `own` must be there with `NO_MMAP`.
    unsafe fn over(base: Base, own: Option<OwnMemory>) -> Result<Self, Errno> {
        let params = &base.params;
        let layout = Layout::of(params);
        let regions = match own {
            Some(own) => own.into_regions(),
            None => layout.map(&base.kernel, &base.fd, params.features)?,
        };
        let (sq, cq) = layout.parts(params, &regions);
        // SAFETY: the words and slots lie in `regions`, which the parts keep; the kernel keeps SQ1.
        let sq = unsafe { SubmissionRing::over(sq) };
        // SAFETY: likewise; the kernel keeps CQ1.
        let cq = unsafe { CompletionRing::over(cq) };
        base.lies_in(sq.memory());
        Ok(Self { sq, cq, base: Arc::new(base) })
    }

    /// Our half of the submission ring.
    #[inline]
    pub fn sq(&mut self) -> &mut SubmissionRing {
        &mut self.sq
    }

    /// Our half of the completion ring.
    #[inline]
    pub fn cq(&mut self) -> &mut CompletionRing {
        &mut self.cq
    }

    /// Both halves at once.
    #[inline]
    pub fn both(&mut self) -> (&mut SubmissionRing, &mut CompletionRing) {
        (&mut self.sq, &mut self.cq)
    }

    /// Both halves, to look at.
    #[inline]
    pub fn halves(&self) -> (&SubmissionRing, &CompletionRing) {
        (&self.sq, &self.cq)
    }

    /// What both halves stand on.
    #[inline]
    pub fn base(&self) -> &Arc<Base> {
        &self.base
    }

    /// Both halves, each of which may go to a thread of its own, and what they stand on.
    pub fn split(self) -> (SubmissionRing, CompletionRing, Arc<Base>) {
        (self.sq, self.cq, self.base)
    }

    /// Puts together what [`split`](Self::split) took apart.
    ///
    /// # Errors
    ///
    /// Gives all three back when they are not of one ring, and in a forked child.
    #[expect(clippy::result_large_err, reason = "the error is what the caller gave, given back")]
    pub fn join(
        sq: SubmissionRing,
        cq: CompletionRing,
        base: Arc<Base>,
    ) -> Result<Self, (SubmissionRing, CompletionRing, Arc<Base>)> {
        // In a child somebody who is gone may hold the lock.
        let ours = base.is_of_this_process() && base.has(&sq, &cq);
        if ours { Ok(Self { sq, cq, base }) } else { Err((sq, cq, base)) }
    }

    /// Changes the sizes of a live ring (`IORING_REGISTER_RESIZE_RINGS`, since Linux 6.13).
    /// Completions and flushed entries move along; what was written is flushed first. Needs
    /// `DEFER_TASKRUN` and `NO_SQARRAY`, and memory of the kernel's.
    ///
    /// # Errors
    ///
    /// [`ResizeFailure::Refused`] leaves the ring as it was: `EXDEV` where a half was swapped for
    /// another ring's, and `ECHILD` in a forked child. After [`ResizeFailure::Map`] the
    /// kernel uses memory that we could not map: the ring must not be used any more.
    ///
    /// # Panics
    ///
    /// When what the kernel describes cannot be a ring (SQ2, CQ2), or lost our place in it.
    pub fn resize(&mut self, entries: u32, cq_entries: Option<u32>) -> Result<(), ResizeFailure> {
        // In a child somebody who is gone may hold the lock.
        if !self.base.is_of_this_process() {
            return Err(ResizeFailure::Refused(Errno::new(libc::ECHILD)));
        }
        let flags = self.base.params.flags;
        // With memory of ours, the kernel would want new memory, and we could not tell when the old
        // is idle. Where a new index array lies, it does not say (v6.18).
        if flags.contains(SetupFlags::NO_MMAP) || !flags.contains(SetupFlags::NO_SQARRAY) {
            return Err(ResizeFailure::Refused(Errno::new(libc::EINVAL)));
        }
        // The kernel sees no index of a rewinding ring, and would copy none of what is written. It
        // copies half of each wide entry and completion (until 7.0: seen up to 6.19), and tears a
        // wide entry of a mixed ring apart at the new end. So these move only while they are empty.
        // And what is asked must be of this ring.
        if !self.base.has(&self.sq, &self.cq) {
            return Err(ResizeFailure::Refused(Errno::new(libc::EXDEV)));
        }
        let entries_stay = SetupFlags::SQ_REWIND | SetupFlags::SQE128 | SetupFlags::SQE_MIXED;
        let entries_lost = flags.intersects(entries_stay) && self.sq.unconsumed() > 0;
        let cqes_lost = flags.contains(SetupFlags::CQE32) && self.cq.ready() > 0;
        // And where the tail is one too far, the oldest completion twice.
        if entries_lost || cqes_lost || self.cq.is_overrun() {
            return Err(ResizeFailure::Refused(Errno::new(libc::EBUSY)));
        }
        let mut params = Request { cq_entries, ..Request::new(entries) }.params();
        // Set-up takes the entries as an argument, a resize among the parameters.
        params.sq_entries = entries;
        self.sq.flush();
        let arg = (&raw mut params).cast();
        // SAFETY: a live `struct io_uring_params`, which the kernel does not keep, because it
        // copies.
        unsafe { self.base.register(RegisterOp::RESIZE_RINGS, arg, 1) }
            .map_err(ResizeFailure::Refused)?;
        params.features = self.base.params.features;
        params.flags = self.base.params.flags;
        let layout = Layout::of(&params);
        let regions = layout
            .map(&self.base.kernel, &self.base.fd, params.features)
            .map_err(ResizeFailure::Map)?;
        let (sq, cq) = layout.parts(&params, &regions);
        // SAFETY: as in `over`, and everything written was flushed.
        unsafe { self.sq.move_to(sq) };
        // SAFETY: as in `over`, since CQ1 still holds.
        unsafe { self.cq.move_to(cq) };
        self.base.lies_in(self.sq.memory());
        Ok(())
    }

    /// Lets ring memory of our own be unmapped when both halves are gone, instead of leaked (RG1).
    ///
    /// # Safety
    ///
    /// Nothing may be in flight or be submitted any more, and no polling thread may run: of the
    /// ring that the submission half is of, if it was swapped.
    pub unsafe fn found_idle(&self) {
        for map in self.sq.memory().iter() {
            // SAFETY: as promised to `Rings::found_idle`.
            unsafe { map.found_idle() };
        }
    }
}

/// Why a ring has its old size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResizeFailure {
    /// The kernel refused. Nothing changed.
    Refused(Errno),
    /// The kernel resized the ring, and then its memory could not be mapped.
    Map(Errno),
}

impl Base {
    fn new(kernel: &Kernel, fd: RingFd, params: Params) -> Self {
        let nowhere: Weak<[Map; 0]> = Weak::new();
        static NUMBERS: Numbers = Numbers::new();
        let (number, thread) = (NUMBERS.next(), this_thread());
        Self { kernel: kernel.clone(), fd, params, number, thread, memory: Mutex::new(nowhere) }
    }

    /// Takes note of where the rings lie now.
    fn lies_in(&self, memory: &Arc<[Map]>) {
        *self.memory.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(memory);
    }

    /// Whether both halves are of this ring.
    fn has(&self, sq: &SubmissionRing, cq: &CompletionRing) -> bool {
        let ours = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        [sq.memory(), cq.memory()].iter().all(|half| Weak::ptr_eq(&ours, &Arc::downgrade(half)))
    }

    /// Whether the ring can be named on this thread. The index of a ring without descriptor names
    /// nothing, or another ring, on any thread but the one that made it.
    fn is_here(&self) -> bool {
        matches!(self.fd, RingFd::Owned(_)) || self.thread == this_thread()
    }

    /// Whether this is the process that made the ring, and not one that it forked.
    pub fn is_of_this_process(&self) -> bool {
        self.thread.is_of_this_process()
    }

    /// The kernel behind the ring.
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// What holds the ring open.
    pub fn fd(&self) -> &RingFd {
        &self.fd
    }

    /// A number that no other ring of this process has, or ever will.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// What `io_uring_setup(2)` returned. The sizes may have changed since, by a resize.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// `io_uring_register(2)` on this ring.
    ///
    /// # Errors
    ///
    /// The kernel's; `EBADF` for a ring without descriptor on a thread that did not make it; and
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
        // A descriptor closes itself; a registered ring is let go of by its index, on its thread.
        // Elsewhere the end of that thread lets it go.
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
