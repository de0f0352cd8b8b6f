//! Submitting and waiting, by a shared reference.
//!
//! | ring | `submit_and_wait(want)` enters |
//! |---|---|
//! | plain | always, once; it asks for completions if `want > 0`, or if some are held back (CQ5) |
//! | `SQPOLL` | only if the polling thread sleeps, `want > 0`, or completions are held back |
//! | `DEFER_TASKRUN` without `TASKRUN_FLAG` | always, and asks for completions: nothing tells whether some are held back |
//!
//! Leaves to others: register calls (`submitter/*`).
#![allow(unsafe_code, reason = "enters the kernel")]

mod buffers;
mod files;
mod registered;
mod ring_fd;

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr;
use std::sync::Arc;

use annulus_sys::errno::Errno;
use annulus_sys::flags::{self, SetupFlags, SqRingFlags};
use annulus_sys::opcode::RegisterOp;
use annulus_sys::rings::Base;
use annulus_sys::sq::SqWatch;
use annulus_sys::syscall::{self, RingFd, RingRef};
use bitflags::bitflags;

use super::parameters::Parameters;
use super::types::SubmitArgs;
use ring_fd::RingFds;

bitflags! {
    /// Flags of `io_uring_enter(2)`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    pub struct EnterFlags: u32 {
        /// Wait for completions, and post those that are held back.
        const GETEVENTS = flags::EnterFlags::GETEVENTS.bits();
        /// Wake the polling thread.
        const SQ_WAKEUP = flags::EnterFlags::SQ_WAKEUP.bits();
        /// Wait until a submission slot is free, with a polling thread.
        const SQ_WAIT = flags::EnterFlags::SQ_WAIT.bits();
        /// The argument is a `struct io_uring_getevents_arg`. Since Linux 5.11.
        const EXT_ARG = flags::EnterFlags::EXT_ARG.bits();
        /// The ring is named by its index among the thread's registered rings. Since Linux 5.18.
        const REGISTERED_RING = flags::EnterFlags::REGISTERED_RING.bits();
        /// The timeout is a point in time. Since Linux 6.12.
        const ABS_TIMER = flags::EnterFlags::ABS_TIMER.bits();
        /// The argument is an offset into a registered region. Since Linux 6.13.
        const EXT_ARG_REG = flags::EnterFlags::EXT_ARG_REG.bits();
        /// The wait does not count as iowait. Since Linux 6.15.
        const NO_IOWAIT = flags::EnterFlags::NO_IOWAIT.bits();
    }
}

/// What every submitter of a ring shares.
#[derive(Debug)]
pub(super) struct Shared {
    watch: SqWatch,
    /// The flags that every enter has.
    always: flags::EnterFlags,
    is_polled: bool,
    params: Parameters,
    // Dropped in this order: an index is given back by the descriptor.
    ring_fds: RingFds,
    base: Arc<Base>,
}

impl Shared {
    pub(super) fn new(base: Arc<Base>, watch: SqWatch) -> Self {
        let params = Parameters(*base.params());
        let setup = params.0.flags;
        let defers = setup.contains(SetupFlags::DEFER_TASKRUN);
        let untold = defers && !setup.contains(SetupFlags::TASKRUN_FLAG);
        let always = if untold || params.is_setup_iopoll() {
            flags::EnterFlags::GETEVENTS
        } else {
            flags::EnterFlags::empty()
        };
        let is_polled = params.is_setup_sqpoll();
        let ring_fds = RingFds::new(Arc::clone(&base));
        Self { watch, always, is_polled, params, ring_fds, base }
    }

    #[inline]
    pub(super) fn params(&self) -> &Parameters {
        &self.params
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        match self.base.fd() {
            RingFd::Owned(fd) => fd.as_fd(),
            RingFd::Registered(_) => unreachable!("no ring here is made without a descriptor"),
        }
    }
}

/// What submits, waits and registers. Each function makes at most one system call, and returns as
/// the kernel does.
pub struct Submitter<'a> {
    shared: &'a Shared,
    /// The index of the ring on this thread: see [`register_ring_fd`](Self::register_ring_fd).
    index: Option<u32>,
    /// An index means nothing on another thread.
    here: PhantomData<*const ()>,
}

/// What an enter would do.
enum Plan {
    /// It submits this many entries, with these flags.
    Enter(u32, flags::EnterFlags),
    /// Nothing: the polling thread has this many entries to consume.
    Nothing(u32),
}

impl<'a> Submitter<'a> {
    #[inline]
    pub(super) fn over(shared: &'a Shared) -> Self {
        Self { shared, index: None, here: PhantomData }
    }
}

impl Submitter<'_> {
    /// `io_uring_enter(2)` as it is. `arg` is what `flag` says, or `None`.
    ///
    /// # Errors
    ///
    /// The kernel's; `ECHILD` in a forked child.
    ///
    /// # Safety
    ///
    /// The arguments must be what `io_uring_enter(2)` takes, and what the submitted entries point
    /// to must stay valid until their last completion (OP1).
    pub unsafe fn enter<T: Sized>(
        &self,
        to_submit: u32,
        min_complete: u32,
        flag: u32,
        arg: Option<&T>,
    ) -> io::Result<usize> {
        if !self.shared.watch.is_here() {
            return Err(other_process());
        }
        let flags = flags::EnterFlags::from_bits_retain(flag);
        let arg = (arg.map_or(ptr::null(), ptr::from_ref).cast(), size_of::<T>());
        // SAFETY: as promised to `Submitter::enter`.
        let answer =
            unsafe { syscall::enter_with(self.ring(), to_submit, min_complete, flags, arg) };
        Ok(answer.map(|count| count as usize)?)
    }

    /// Submits all published entries. Returns how many the kernel consumed; with a polling thread,
    /// how many it has to consume.
    ///
    /// # Errors
    ///
    /// The kernel's; `ECHILD` in a forked child.
    #[inline]
    pub fn submit(&self) -> io::Result<usize> {
        self.submit_and_wait(0)
    }

    /// [Submits](Self::submit) all published entries, and waits until `want` completions are ready.
    ///
    /// # Errors
    ///
    /// As [`submit`](Self::submit): `EINTR` if a signal came before anything happened.
    #[inline]
    pub fn submit_and_wait(&self, want: usize) -> io::Result<usize> {
        let want = saturated(want);
        match self.plan(want)? {
            Plan::Nothing(queued) => Ok(queued as usize),
            Plan::Enter(queued, flags) => {
                // SAFETY: who pushed the entries promised that they may run (OP1).
                let answer = unsafe { syscall::enter_plain(self.ring(), queued, want, flags) };
                match usize::try_from(answer) {
                    Ok(count) => Ok(count),
                    Err(_) => Err(io::Error::from_raw_os_error(answer.wrapping_neg())),
                }
            }
        }
    }

    /// [`submit_and_wait`](Self::submit_and_wait) with a time limit, a minimum wait or a signal
    /// mask. Since Linux 5.11.
    ///
    /// # Errors
    ///
    /// As [`submit_and_wait`](Self::submit_and_wait): `ETIME` when the time was up before anything
    /// happened.
    #[inline]
    pub fn submit_with_args(&self, want: usize, args: &SubmitArgs<'_, '_>) -> io::Result<usize> {
        self.submit_with_args_and_flags(want, args, EnterFlags::empty())
    }

    /// [`submit_with_args`](Self::submit_with_args), with [`ABS_TIMER`](EnterFlags::ABS_TIMER),
    /// [`NO_IOWAIT`](EnterFlags::NO_IOWAIT), or both.
    ///
    /// # Errors
    ///
    /// As [`submit_with_args`](Self::submit_with_args); `EINVAL` for any other flag.
    pub fn submit_with_args_and_flags(
        &self,
        want: usize,
        args: &SubmitArgs<'_, '_>,
        flags: EnterFlags,
    ) -> io::Result<usize> {
        if !(EnterFlags::ABS_TIMER | EnterFlags::NO_IOWAIT).contains(flags) {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let want = saturated(want);
        match self.plan(want)? {
            Plan::Nothing(queued) => Ok(queued as usize),
            Plan::Enter(queued, planned) => {
                let flags = flags::EnterFlags::from_bits_retain(flags.bits());
                let flags = planned | flags | flags::EnterFlags::EXT_ARG;
                let arg = (ptr::from_ref(args.arg()).cast(), size_of_val(args.arg()));
                // SAFETY: a live argument of the form that `EXT_ARG` names, whose pointers are
                // borrowed by `args`; who pushed the entries promised that they may run (OP1).
                let answer = unsafe { syscall::enter_with(self.ring(), queued, want, flags, arg) };
                Ok(answer.map(|count| count as usize)?)
            }
        }
    }

    /// Waits until a submission slot is free, with a polling thread. Since Linux 5.10.
    ///
    /// # Errors
    ///
    /// The kernel's; `ECHILD` in a forked child.
    pub fn squeue_wait(&self) -> io::Result<usize> {
        // SAFETY: no argument, and nothing is submitted, as the count is 0.
        unsafe { self.enter::<()>(0, 0, EnterFlags::SQ_WAIT.bits(), None) }
    }

    /// What an enter that waits for `want` completions has to do.
    #[inline]
    fn plan(&self, want: u32) -> io::Result<Plan> {
        let shared = self.shared;
        let Some((queued, hints)) = shared.watch.look() else {
            return Err(other_process());
        };
        let held_back = hints.intersects(SqRingFlags::CQ_OVERFLOW | SqRingFlags::TASKRUN);
        let mut flags = shared.always;
        if want > 0 || held_back {
            flags |= flags::EnterFlags::GETEVENTS; // CQ5
        }
        if shared.is_polled {
            if shared.watch.needs_wakeup() {
                flags |= flags::EnterFlags::SQ_WAKEUP; // SQ5
            } else if want == 0 && !held_back {
                return Ok(Plan::Nothing(queued));
            }
        }
        Ok(Plan::Enter(queued, flags))
    }

    /// The name of the ring for an enter.
    #[inline]
    fn ring(&self) -> RingRef<'_> {
        match self.index {
            None => self.shared.base.fd().by_ref(),
            Some(index) => RingRef::registered(index),
        }
    }

    /// `io_uring_register(2)`.
    ///
    /// # Safety
    ///
    /// `arg` and `count` must be what `op` takes. Memory that the kernel uses after the call must
    /// stay valid until it is unregistered and idle (RG1).
    unsafe fn register<T>(&self, op: RegisterOp, arg: *const T, count: usize) -> io::Result<u32> {
        let count = u32::try_from(count).map_err(|_| Errno::new(libc::EINVAL))?;
        // SAFETY: as promised to `register`.
        Ok(unsafe { self.shared.base.register(op, arg.cast_mut().cast(), count) }?)
    }
}

impl fmt::Debug for Submitter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Submitter").field("index", &self.index).finish_non_exhaustive()
    }
}

/// The kernel waits for no more than the queue has slots, so a larger number says the same.
#[inline]
fn saturated(want: usize) -> u32 {
    u32::try_from(want).unwrap_or(u32::MAX)
}

/// The error in a forked child, whose descriptor leads to its parent's ring.
#[cold]
fn other_process() -> io::Error {
    io::Error::from_raw_os_error(libc::ECHILD)
}
