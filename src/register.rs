//! Calls to `io_uring_register(2)` for a ring's own life: enable it, name it, be notified by it.
//!
//! | call | register op | since |
//! |---|---|---|
//! | [`enable`] | `ENABLE_RINGS` | Linux 5.10 |
//! | [`cancel_now`] | `SYNC_CANCEL` | Linux 6.0 |
//! | [`name_ring`] and [`forget_ring`] | `RING_FDS`, `UNREGISTER_RING_FDS` | Linux 5.18 |
//! | [`notify`] and [`silence`] | `EVENTFD`, `EVENTFD_ASYNC`, `UNREGISTER_EVENTFD` | Linux 5.2, 5.6 |
//!
//! Leaves to others: registered files, buffers and the rest, which own what they register.
#![allow(unsafe_code, reason = "hands arguments to the kernel")]

pub mod buffers;
pub mod busy;
pub(crate) mod call;
pub mod cancel;
pub mod files;
pub mod personality;
pub mod region;
pub mod workers;

use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use annulus_sys::abi::Timespec;
use annulus_sys::abi_register::{RsrcUpdate, SyncCancelReg};
use annulus_sys::errno::Errno;
use annulus_sys::opcode::RegisterOp;
use annulus_sys::rings::Base;
use annulus_sys::syscall::{RingFd, RingRef};

pub use buffers::ClonePart;
pub use busy::{BusyPoll, Prefer, Tracking, WaitClock};
pub use cancel::{CancelNow, EndedNow};
pub use files::FileSlot;
pub use personality::Personality;
pub use region::{WaitRegion, WaitSlot, Whose};
pub use workers::{WorkerLimits, Workers};

pub use crate::lease::RegisterError;

/// Lets the kernel choose the index.
const ANY_INDEX: u32 = u32::MAX;

/// Enables a disabled ring.
pub(crate) fn enable(base: &Base) -> Result<(), Errno> {
    // SAFETY: takes no argument, because `io_uring_register(2)` says so.
    unsafe { base.register(RegisterOp::ENABLE_RINGS, ptr::null_mut(), 0) }.map(drop)
}

/// Registers the ring's descriptor with this thread, and returns the index that names it.
pub(crate) fn name_ring(base: &Base) -> Result<u32, Errno> {
    let RingFd::Owned(fd) = base.fd() else { return Err(Errno::new(libc::EBADF)) };
    let data = u64::from(fd.as_raw_fd().cast_unsigned());
    let mut update = RsrcUpdate { offset: ANY_INDEX, resv: 0, data };
    let arg = (&raw mut update).cast();
    // SAFETY: one live `struct io_uring_rsrc_update`, which the kernel writes and does not keep,
    // because it copies in and out.
    unsafe { base.register(RegisterOp::RING_FDS, arg, 1) }?;
    assert!(update.offset != ANY_INDEX, "the kernel registered the ring, and chose no index");
    Ok(update.offset)
}

/// Forgets the ring that this thread registered at `index`.
pub(crate) fn forget_ring(base: &Base, index: u32) -> Result<(), Errno> {
    let mut update = RsrcUpdate { offset: index, resv: 0, data: 0 };
    let arg = (&raw mut update).cast();
    let ring = base.fd().by_ref();
    // SAFETY: one live `struct io_uring_rsrc_update`, which the kernel does not keep, because it
    // copies.
    unsafe { base.kernel().register(ring, RegisterOp::UNREGISTER_RING_FDS, arg, 1) }.map(drop)
}

/// Which completions signal an eventfd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signals {
    /// All of them.
    All,
    /// Those that did not complete inside a submit.
    Async,
}

/// Registers an eventfd that completions signal.
pub(crate) fn notify(base: &Base, eventfd: BorrowedFd<'_>, on: Signals) -> Result<(), Errno> {
    let op = match on {
        Signals::All => RegisterOp::EVENTFD,
        Signals::Async => RegisterOp::EVENTFD_ASYNC,
    };
    let mut fd = eventfd.as_raw_fd();
    let arg = (&raw mut fd).cast();
    // SAFETY: one live descriptor number; the kernel takes a reference to the file, not to the
    // number, because `io_uring_register(2)` says so.
    unsafe { base.register(op, arg, 1) }.map(drop)
}

/// Unregisters the eventfd.
pub(crate) fn silence(base: &Base) -> Result<(), Errno> {
    // SAFETY: takes no argument, because `io_uring_register(2)` says so.
    unsafe { base.register(RegisterOp::UNREGISTER_EVENTFD, ptr::null_mut(), 0) }.map(drop)
}

/// Cancels the request `word` now, past the submission ring, and waits next to nothing for its end.
/// Since Linux 6.0.
pub(crate) fn cancel_now(base: &Base, word: u64) {
    let timeout = Timespec { tv_sec: 0, tv_nsec: 1 };
    let mut reg = SyncCancelReg { addr: word, fd: -1, timeout, ..SyncCancelReg::default() };
    let arg = (&raw mut reg).cast();
    // Whatever it answers, the request's own completion says whether it ended.
    // SAFETY: one live `struct io_uring_sync_cancel_reg`, which the kernel does not keep, because
    // it copies.
    let _ = unsafe { base.register(RegisterOp::SYNC_CANCEL, arg, 1) };
}

/// Asks whether the kernel knows `op`, by a call that names no memory it could use: any answer but
/// `EINVAL` and `EOPNOTSUPP` is yes. `count` is what `op` wants there.
pub(crate) fn knows(base: &Base, ring: Asked, op: RegisterOp, count: u32) -> bool {
    // An address that belongs to the kernel, so copying from it fails, whatever is mapped here.
    let nowhere = ptr::without_provenance_mut(1 << 63);
    let ring = match ring {
        Asked::RawRing => base.fd().by_ref(),
        Asked::Task => RingRef::NONE,
    };
    // SAFETY: the kernel can neither read nor write at the address, so the call changes nothing.
    let answer = unsafe { base.kernel().register(ring, op, nowhere, count) };
    !answer.is_err_and(|errno| {
        [libc::EINVAL, libc::EOPNOTSUPP, libc::EBADF].iter().any(|&number| errno.is(number))
    })
}

/// What a register call is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// A ring.
    RawRing,
    /// The task, with no ring named.
    Task,
}
