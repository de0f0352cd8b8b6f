//! The four kernel calls: everything that this crate asks of a kernel.
//!
//! ```text
//!     this crate              call           the kernel's work
//!   rings, wait loops ──►   setup     ──►   a new ring
//!                           map       ──►   its memory
//!                           enter     ──►   submit, wait
//!                           register  ──►   everything else
//!   push, pop ────────────────────────────  touch only the mapping
//! ```
//!
//! Linux answers the calls. With the feature `sim`, a `Backend` can answer them in its place: a
//! model of a kernel, for tests. The ring code runs on it unchanged, since push and pop never make
//! one of these calls. Without the feature each call goes directly to Linux. A backend may also
//! have a clock of its own ([`Kernel::now`]), by which every wait with a limit is measured.
//!
//! Leaves to others: the system calls themselves (`syscall`, `map`).
//!
//! # Safety
//!
//! Passes on what the caller of each method promised.
#![allow(unsafe_code, reason = "passes unsafe contracts on")]

use core::fmt;
use std::time::{Duration, Instant};

use crate::abi::Params;
use crate::errno::Errno;
use crate::flags::EnterFlags;
use crate::map::Map;
use crate::opcode::RegisterOp;
use crate::syscall::{self, EnterArg, RingFd, RingRef};

/// A kernel: Linux, or a backend that answers in its place.
#[derive(Clone, Default)]
pub struct Kernel(Calls);

#[derive(Clone, Default)]
enum Calls {
    #[default]
    Linux,
    #[cfg(feature = "sim")]
    Backend(std::sync::Arc<dyn Backend>),
}

/// A simulated kernel that answers the calls in place of Linux.
///
/// # Safety
///
/// `setup` and `map` must describe memory that keeps the contract of the real kernel: the offsets
/// lie in the maps, SQ1 and CQ1 hold, and the backend touches slots only as `sq` and `cq` allow.
#[cfg(feature = "sim")]
pub unsafe trait Backend: Send + Sync {
    /// As [`syscall::setup`].
    ///
    /// # Errors
    ///
    /// Those of the real call.
    fn setup(&self, entries: u32, params: &mut Params) -> Result<RingFd, Errno>;

    /// As [`Map::of_ring`].
    ///
    /// # Errors
    ///
    /// Those of the real call.
    fn map(&self, ring: RingRef<'_>, offset: u64, len: usize) -> Result<Map, Errno>;

    /// As [`syscall::enter`].
    ///
    /// # Errors
    ///
    /// Those of the real call.
    fn enter(
        &self,
        ring: RingRef<'_>,
        to_submit: u32,
        min_complete: u32,
        flags: EnterFlags,
        arg: EnterArg<'_>,
    ) -> Result<u32, Errno>;

    /// As [`syscall::register`].
    ///
    /// # Errors
    ///
    /// Those of the real call.
    ///
    /// # Safety
    ///
    /// As [`syscall::register`].
    unsafe fn register(
        &self,
        ring: RingRef<'_>,
        op: RegisterOp,
        arg: *mut libc::c_void,
        count: u32,
    ) -> Result<u32, Errno>;

    /// The time by the clock of this kernel: the one that ends waits. The machine's, unless the
    /// backend has a clock of its own.
    fn now(&self) -> Instant {
        Instant::now()
    }

    /// The program waits for what a thread of the kernel does to the shared memory.
    fn rest(&self) {
        std::thread::yield_now();
    }

    /// The program lets time pass by the clock of this kernel, outside of any call.
    fn sleep(&self, span: Duration) {
        std::thread::sleep(span);
    }
}

impl Kernel {
    /// The kernel that runs this process.
    pub const LINUX: Self = Self(Calls::Linux);

    /// A kernel whose calls `calls` answers in place of Linux.
    #[cfg(feature = "sim")]
    pub fn with_backend(calls: std::sync::Arc<dyn Backend>) -> Self {
        Self(Calls::Backend(calls))
    }

    /// Makes a ring.
    ///
    /// # Errors
    ///
    /// As [`syscall::setup`].
    ///
    /// # Safety
    ///
    /// As [`syscall::setup`].
    pub unsafe fn setup(&self, entries: u32, params: &mut Params) -> Result<RingFd, Errno> {
        match &self.0 {
            // SAFETY: as promised to `Kernel::setup`.
            Calls::Linux => unsafe { syscall::setup(entries, params) },
            #[cfg(feature = "sim")]
            Calls::Backend(calls) => calls.setup(entries, params),
        }
    }

    /// Maps a region of a ring's memory.
    ///
    /// # Errors
    ///
    /// As [`Map::of_ring`]; `EBADF` for a ring without a descriptor.
    pub fn map(&self, ring: &RingFd, offset: u64, len: usize) -> Result<Map, Errno> {
        match &self.0 {
            Calls::Linux => match ring {
                RingFd::Owned(fd) => Map::of_ring(std::os::fd::AsFd::as_fd(fd), offset, len),
                RingFd::Registered(_) => Err(Errno::new(libc::EBADF)),
            },
            #[cfg(feature = "sim")]
            Calls::Backend(calls) => calls.map(ring.by_ref(), offset, len),
        }
    }

    /// Submits entries, and waits for completions.
    ///
    /// # Errors
    ///
    /// As [`syscall::enter`].
    ///
    /// # Safety
    ///
    /// As [`syscall::enter`].
    #[inline]
    pub unsafe fn enter(
        &self,
        ring: RingRef<'_>,
        to_submit: u32,
        min_complete: u32,
        flags: EnterFlags,
        arg: EnterArg<'_>,
    ) -> Result<u32, Errno> {
        match &self.0 {
            // SAFETY: as promised to `Kernel::enter`.
            Calls::Linux => unsafe { syscall::enter(ring, to_submit, min_complete, flags, arg) },
            #[cfg(feature = "sim")]
            Calls::Backend(calls) => calls.enter(ring, to_submit, min_complete, flags, arg),
        }
    }

    /// [`enter`](Self::enter) without an argument, for the path of a busy ring. Returns the count,
    /// or the negative of an error number.
    ///
    /// # Safety
    ///
    /// As [`syscall::enter`].
    #[inline]
    pub unsafe fn enter_plain(
        &self,
        ring: RingRef<'_>,
        to_submit: u32,
        min_complete: u32,
        flags: EnterFlags,
    ) -> i32 {
        match &self.0 {
            // SAFETY: as promised to `Kernel::enter_plain`.
            Calls::Linux => unsafe { syscall::enter_plain(ring, to_submit, min_complete, flags) },
            #[cfg(feature = "sim")]
            Calls::Backend(calls) => {
                match calls.enter(ring, to_submit, min_complete, flags, EnterArg::None) {
                    Ok(count) => i32::try_from(count).unwrap_or(i32::MAX),
                    Err(errno) => -errno.raw(),
                }
            }
        }
    }

    /// The time by the clock that ends waits. It is no call to Linux: `Instant::now` reads it.
    #[inline]
    pub fn now(&self) -> Instant {
        match &self.0 {
            Calls::Linux => Instant::now(),
            #[cfg(feature = "sim")]
            Calls::Backend(calls) => calls.now(),
        }
    }

    /// Lets the threads of the kernel run for a moment, in a loop that looks at shared memory.
    pub fn rest(&self) {
        match &self.0 {
            Calls::Linux => std::thread::yield_now(),
            #[cfg(feature = "sim")]
            Calls::Backend(calls) => calls.rest(),
        }
    }

    /// Lets time pass by the clock that ends waits, outside of any call.
    pub fn sleep(&self, span: Duration) {
        match &self.0 {
            Calls::Linux => std::thread::sleep(span),
            #[cfg(feature = "sim")]
            Calls::Backend(calls) => calls.sleep(span),
        }
    }

    /// Does everything else: registers resources, and asks the kernel about itself.
    ///
    /// # Errors
    ///
    /// As [`syscall::register`].
    ///
    /// # Safety
    ///
    /// As [`syscall::register`].
    pub unsafe fn register(
        &self,
        ring: RingRef<'_>,
        op: RegisterOp,
        arg: *mut libc::c_void,
        count: u32,
    ) -> Result<u32, Errno> {
        match &self.0 {
            // SAFETY: as promised to `Kernel::register`.
            Calls::Linux => unsafe { syscall::register(ring, op, arg, count) },
            #[cfg(feature = "sim")]
            // SAFETY: as promised to `Kernel::register`.
            Calls::Backend(calls) => unsafe { calls.register(ring, op, arg, count) },
        }
    }
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Calls::Linux => f.write_str("Linux"),
            #[cfg(feature = "sim")]
            Calls::Backend(_) => f.write_str("not Linux"),
        }
    }
}
