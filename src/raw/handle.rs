//! A handle to a ring: what needs no exclusive access to its queues, from any thread.
//!
//! ```text
//!   RawRing, or its halves               RingHandle: Clone, Send, Sync
//!     push, pop, drain, …                  look     loads of the shared indices, no call
//!        one thread, or a lock each        submit   at most one call of the kernel
//!                                          enter    exactly one
//! ```
//!
//! For runtimes that keep the queues behind locks of their own, or whose wait loop is not ours: a
//! thread submits by `&self` while another one pushes, and anyone asks whether something is ready.
//! Nothing here loops, waits for room, or refuses a wait: a call returns as the kernel does.
//!
//! Leaves to others: pushing and taking (`RawRing`, `split`).
#![allow(unsafe_code, reason = "enters the kernel")]

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use annulus_sys::cq::CqWatch;
use annulus_sys::errno::Errno;
use annulus_sys::flags::{CqRingFlags, EnterFlags, SetupFlags, SqRingFlags};
use annulus_sys::rings::Base;
use annulus_sys::sq::SqWatch;
use annulus_sys::syscall::{EnterArg, RingFd};

use crate::raw::register::Signals;
use crate::raw::wait_end::max_awaited;
use crate::raw::{ENTER_FLAGS, RawRing, names_a_slot, register};

/// A handle to a ring, which any thread may hold: [`RawRing::handle`].
///
/// | to know | call | enters the kernel |
/// |---|---|---|
/// | whether something is ready | [`ready`](Self::ready) | no |
/// | what is not submitted yet | [`to_submit`](Self::to_submit) | no |
/// | overflow, task work, a polling thread that sleeps | [`sq_flags`](Self::sq_flags), [`needs_wakeup`](Self::needs_wakeup) | no |
///
/// | to do | call | enters the kernel |
/// |---|---|---|
/// | submit what was published | [`submit`](Self::submit), [`submit_and_wait`](Self::submit_and_wait) | at most once |
/// | anything else | [`enter`](Self::enter) | exactly once |
/// | switch its eventfd | [`register_eventfd`](Self::register_eventfd) and others | once |
/// | … silence it for a while | [`pause_eventfd`](Self::pause_eventfd), [`resume_eventfd`](Self::resume_eventfd) | no |
///
/// It sees entries once they are published ([`RawRing::flush`]), and keeps the memory of the
/// queues mapped and the ring's descriptor open. A ring that is [resized](RawRing::resize) has
/// other queues: ask for another handle then. [`RawRing::stats`] does not count what it does.
///
/// # Example
///
/// ```
/// let mut ring = annulus::Setup::plain(8).build_raw()?;
/// let handle = ring.handle().expect("it has a descriptor");
/// let (mut submissions, mut completions) = ring.split().expect("any thread may use it");
/// // SAFETY: a NOP points to nothing (OP1).
/// unsafe { submissions.push(annulus::prep::nop())? };
/// submissions.flush();
/// std::thread::scope(|scope| scope.spawn(|| handle.submit_and_wait(1)).join())
///     .expect("no panic")?;
/// assert_eq!(handle.ready(), 1);
/// assert!(completions.pop().is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct RingHandle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    sq: SqWatch,
    cq: CqWatch,
    /// The flags that each submit has.
    always: EnterFlags,
    /// How many slots of completions an enter may wait for.
    most: u32,
    flags: SetupFlags,
    base: Arc<Base>,
}

impl RawRing {
    /// A handle for other threads, or beside a queue that is lent out. `None` with
    /// `REGISTERED_FD_ONLY`, since on another thread such a ring has no name; after a resize whose
    /// new memory could not be mapped, and in a forked child.
    // Exclusive, since a `Ring` changes entries between two enters (`disarm_closes`): it lends its
    // raw ring for reading, so nobody gets a handle to it.
    pub fn handle(&mut self) -> Option<RingHandle> {
        let base = self.base();
        if matches!(base.fd(), RingFd::Registered(_)) || self.check_mapped().is_err() {
            return None;
        }
        let flags = base.params().flags;
        // Nothing else tells whether such a ring holds completions back (CQ5).
        let is_silent =
            flags.contains(SetupFlags::DEFER_TASKRUN) && !flags.contains(SetupFlags::TASKRUN_FLAG);
        let asks = is_silent || flags.contains(SetupFlags::IOPOLL);
        let always = if asks { EnterFlags::GETEVENTS } else { EnterFlags::empty() };
        let (sq, cq) = self.rings().halves();
        let (most, sq, cq) = (max_awaited(cq), sq.watch(), cq.watch());
        Some(RingHandle(Arc::new(Shared { sq, cq, always, most, flags, base: Arc::clone(base) })))
    }
}

/// # Looking
impl RingHandle {
    /// How many completions are ready. Where widths are mixed (`CQE_MIXED`), one of 32 bytes counts
    /// twice. 0 in a forked child.
    ///
    /// A hint for whoever takes none of them: another thread may.
    #[inline]
    pub fn ready(&self) -> u32 {
        self.0.cq.look().unwrap_or(0)
    }

    /// How many published entries the kernel has not consumed. 0 in a forked child.
    #[inline]
    pub fn to_submit(&self) -> u32 {
        self.0.sq.look().map_or(0, |(published, _)| published)
    }

    /// As [`RawRing::sq_flags`].
    #[inline]
    pub fn sq_flags(&self) -> SqRingFlags {
        self.0.sq.look().map_or(SqRingFlags::empty(), |(_, flags)| flags)
    }

    /// Whether the polling thread (`SQPOLL`) sleeps, for the thread that has published entries: if
    /// so, a [`submit`](Self::submit) wakes it (SQ5).
    #[inline]
    pub fn needs_wakeup(&self) -> bool {
        self.polls() && self.0.sq.needs_wakeup()
    }

    /// The flags that the ring was set up with.
    pub fn flags(&self) -> SetupFlags {
        self.0.flags
    }

    /// The ring's base, for calls to `io_uring_register(2)` that have no method here.
    pub fn base(&self) -> &Arc<Base> {
        &self.0.base
    }

    fn polls(&self) -> bool {
        self.0.flags.contains(SetupFlags::SQPOLL)
    }
}

/// # Entering the kernel
impl RingHandle {
    /// Submits what is published. Returns how many entries the kernel consumed; with a polling
    /// thread, how many it has to consume.
    ///
    /// Makes one call; none if there is nothing to submit, or a polling thread is awake, and the
    /// ring says that no completion is held back (CQ5). One with `DEFER_TASKRUN` and without
    /// `TASKRUN_FLAG` cannot say so.
    ///
    /// # Errors
    ///
    /// The kernel's, as it gives them: `EEXIST` on a thread that may not use the ring
    /// (`SINGLE_ISSUER`), `EBUSY`, `EAGAIN`; `EINVAL` with `SQ_REWIND`, whose entries only the ring
    /// itself can submit; `ECHILD` in a forked child.
    pub fn submit(&self) -> Result<u32, Errno> {
        self.submit_and_wait(0)
    }

    /// [Submits](Self::submit) what is published, and waits until `want` completions are ready, or
    /// as many as the queue holds. Waits also if none can come.
    ///
    /// # Errors
    ///
    /// As [`submit`](Self::submit); `EINTR` if a signal came before anything was submitted.
    pub fn submit_and_wait(&self, want: u32) -> Result<u32, Errno> {
        let Some((published, hints)) = self.0.sq.look() else {
            return Err(Errno::new(libc::ECHILD));
        };
        let held_back = hints.intersects(SqRingFlags::CQ_OVERFLOW | SqRingFlags::TASKRUN);
        let mut flags = self.0.always;
        if want > 0 || held_back {
            flags |= EnterFlags::GETEVENTS; // CQ5
        }
        let sleeps = self.needs_wakeup();
        if sleeps {
            flags |= EnterFlags::SQ_WAKEUP; // SQ5
        }
        let has_work = if self.polls() { sleeps } else { published > 0 };
        if !has_work && flags.is_empty() {
            return Ok(published);
        }
        self.enter(published, want, flags, EnterArg::None)
    }

    /// Enters the kernel exactly once, with these arguments, and returns as the kernel does.
    ///
    /// # Errors
    ///
    /// As [`submit`](Self::submit), and as [`RawRing::enter`] for `flags` and `arg`; `ETIME` when
    /// the time of `arg` was up.
    pub fn enter(
        &self,
        to_submit: u32,
        min_complete: u32,
        flags: EnterFlags,
        arg: EnterArg<'_>,
    ) -> Result<u32, Errno> {
        if !self.0.sq.is_here() {
            return Err(Errno::new(libc::ECHILD));
        }
        // A kernel that rewinds reads as many slots as it is told to, also those of an earlier lap.
        let rewinds = self.0.flags.contains(SetupFlags::SQ_REWIND) && to_submit > 0;
        if rewinds || !ENTER_FLAGS.contains(flags) || !names_a_slot(&arg) {
            return Err(Errno::new(libc::EINVAL));
        }
        let min_complete = min_complete.min(self.0.most);
        let (kernel, ring) = (self.0.base.kernel(), self.0.base.fd().by_ref());
        // SAFETY: OP1 holds for every entry in the ring, as promised to `RawRing::push`; and no
        // slot is written that this enter may read (SQ4), since `handle` was called on a ring of
        // the caller's own, whose entries nobody changes once they are published (SQ3).
        unsafe { kernel.enter(ring, to_submit, min_complete, flags, arg) }
    }
}

/// # What is registered
impl RingHandle {
    /// As [`RawRing::register_eventfd`].
    ///
    /// # Errors
    ///
    /// As [`RawRing::register_eventfd`].
    pub fn register_eventfd(&self, eventfd: impl AsFd) -> Result<(), Errno> {
        register::notify(&self.0.base, eventfd.as_fd(), Signals::All)
    }

    /// As [`RawRing::register_eventfd_async`].
    ///
    /// # Errors
    ///
    /// As [`RawRing::register_eventfd`].
    pub fn register_eventfd_async(&self, eventfd: impl AsFd) -> Result<(), Errno> {
        register::notify(&self.0.base, eventfd.as_fd(), Signals::Async)
    }

    /// As [`RawRing::unregister_eventfd`].
    ///
    /// # Errors
    ///
    /// As [`RawRing::unregister_eventfd`].
    pub fn unregister_eventfd(&self) -> Result<(), Errno> {
        register::silence(&self.0.base)
    }

    /// As [`RawRing::pause_eventfd`].
    ///
    /// # Errors
    ///
    /// As [`RawRing::pause_eventfd`].
    pub fn pause_eventfd(&self) -> Result<(), Errno> {
        self.set_cq_flags(CqRingFlags::EVENTFD_DISABLED)
    }

    /// As [`RawRing::resume_eventfd`].
    ///
    /// # Errors
    ///
    /// As [`RawRing::pause_eventfd`].
    pub fn resume_eventfd(&self) -> Result<(), Errno> {
        self.set_cq_flags(CqRingFlags::empty())
    }

    fn set_cq_flags(&self, flags: CqRingFlags) -> Result<(), Errno> {
        if !self.0.sq.is_here() {
            return Err(Errno::new(libc::ECHILD));
        }
        let has_flags = self.0.cq.set_flags(flags);
        if has_flags { Ok(()) } else { Err(Errno::new(libc::EOPNOTSUPP)) }
    }
}

impl AsFd for RingHandle {
    /// The ring's descriptor, which polls as readable when completions are ready.
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self.0.base.fd() {
            RingFd::Owned(fd) => fd.as_fd(),
            RingFd::Registered(_) => unreachable!("`RawRing::handle` gives none for such a ring"),
        }
    }
}
