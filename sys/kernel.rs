//! The four doors: everything this crate asks of a kernel.
//!
//! ```text
//!        ours                 door           theirs
//!   rings, wait loops ──►   setup     ──►   a new ring
//!                           map       ──►   its memory
//!                           enter     ──►   submit, wait
//!                           register  ──►   everything else
//!   push, pop ────────────────────────────  touch only the mapping
//! ```
//!
//! Behind the doors stands Linux. With the feature `sim` something else can (`Doors`): a model
//! that runs the ring code above it unchanged, since push and pop never come through here. Without
//! the feature each door is a direct call.
//!
//! Leaves to others: the calls themselves (`syscall`, `map`).
//!
//! # Safety
//!
//! Passes on what each door's caller promised.
#![allow(unsafe_code, reason = "passes unsafe contracts on")]

use core::fmt;

use crate::abi::Params;
use crate::errno::Errno;
use crate::flags::EnterFlags;
use crate::map::Map;
use crate::opcode::RegisterOp;
use crate::syscall::{self, EnterArg, RingFd, RingRef};

/// A kernel: Linux, or what stands in for it.
#[derive(Clone, Default)]
pub struct Kernel(Behind);

#[derive(Clone, Default)]
enum Behind {
    #[default]
    Linux,
    #[cfg(feature = "sim")]
    Doors(std::sync::Arc<dyn Doors>),
}

/// A kernel that is not Linux.
///
/// # Safety
///
/// `setup` and `map` must describe memory that keeps the contract of the real one: the offsets lie
/// in the maps, SQ1 and CQ1 hold, slots are touched only as `sq` and `cq` allow.
#[cfg(feature = "sim")]
pub unsafe trait Doors: Send + Sync {
    /// As [`syscall::setup`].
    ///
    /// # Errors
    ///
    /// As the real one.
    fn setup(&self, entries: u32, params: &mut Params) -> Result<RingFd, Errno>;

    /// As [`Map::of_ring`].
    ///
    /// # Errors
    ///
    /// As the real one.
    fn map(&self, ring: RingRef<'_>, offset: u64, len: usize) -> Result<Map, Errno>;

    /// As [`syscall::enter`].
    ///
    /// # Errors
    ///
    /// As the real one.
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
    /// As the real one.
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
}

impl Kernel {
    /// The kernel that runs this process.
    pub const LINUX: Self = Self(Behind::Linux);

    /// A kernel that is not Linux.
    #[cfg(feature = "sim")]
    pub fn behind(doors: std::sync::Arc<dyn Doors>) -> Self {
        Self(Behind::Doors(doors))
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
            Behind::Linux => unsafe { syscall::setup(entries, params) },
            #[cfg(feature = "sim")]
            Behind::Doors(doors) => doors.setup(entries, params),
        }
    }

    /// Maps a region of a ring's memory.
    ///
    /// # Errors
    ///
    /// As [`Map::of_ring`]; `EBADF` for a ring that has no descriptor.
    pub fn map(&self, ring: &RingFd, offset: u64, len: usize) -> Result<Map, Errno> {
        match &self.0 {
            Behind::Linux => match ring {
                RingFd::Owned(fd) => Map::of_ring(std::os::fd::AsFd::as_fd(fd), offset, len),
                RingFd::Registered(_) => Err(Errno::new(libc::EBADF)),
            },
            #[cfg(feature = "sim")]
            Behind::Doors(doors) => doors.map(ring.by_ref(), offset, len),
        }
    }

    /// Submits and waits.
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
            Behind::Linux => unsafe { syscall::enter(ring, to_submit, min_complete, flags, arg) },
            #[cfg(feature = "sim")]
            Behind::Doors(doors) => doors.enter(ring, to_submit, min_complete, flags, arg),
        }
    }

    /// Does everything else.
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
            Behind::Linux => unsafe { syscall::register(ring, op, arg, count) },
            #[cfg(feature = "sim")]
            // SAFETY: as promised to `Kernel::register`.
            Behind::Doors(doors) => unsafe { doors.register(ring, op, arg, count) },
        }
    }
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Behind::Linux => f.write_str("Linux"),
            #[cfg(feature = "sim")]
            Behind::Doors(_) => f.write_str("not Linux"),
        }
    }
}
