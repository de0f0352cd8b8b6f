//! Commands to a receive queue.
//!
//! ```text
//!   ZcrxCtrl { id, op, .. } ──► ZCRX_CTRL ──► the queue of that number, on this ring
//! ```
//!
//! Leaves to others: the methods of a queue of ours (`zcrx`).
#![allow(unsafe_code, reason = "tells the kernel of memory, and takes a descriptor from it")]

use std::os::fd::{FromRawFd, OwnedFd};

use annulus_sys::abi_zcrx::ZcrxCtrl;
use annulus_sys::opcode::RegisterOp;
use annulus_sys::rings::Base;

use crate::raw::RawRing;
use crate::raw::register::call::Call;
use crate::raw::register::error::RegisterError;

impl RawRing {
    /// Sends a command to a receive queue, like the methods of
    /// [`ReceiveQueue`](super::ReceiveQueue), for queues that were imported or registered by other
    /// means. Since Linux 6.19.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Missing`] if no queue has that number.
    ///
    /// # Safety
    ///
    /// The memory that the command names must be as for
    /// [`ReceiveQueue::add_area`](super::ReceiveQueue::add_area).
    #[doc(alias = "IORING_REGISTER_ZCRX_CTRL")]
    #[doc(alias = "io_uring_register_zcrx_ctrl")]
    pub unsafe fn zcrx_ctrl(&self, ctrl: &mut ZcrxCtrl) -> Result<(), RegisterError> {
        // SAFETY: as promised to `zcrx_ctrl`.
        unsafe { command(self.base(), ctrl) }
    }
}

/// The descriptor that a successful command to export made.
///
/// # Safety
///
/// The command must have succeeded, and no code may have taken the descriptor yet (OP3).
pub(super) unsafe fn exported(ctrl: &ZcrxCtrl) -> OwnedFd {
    let number = ctrl.exported().cast_signed();
    assert!(number >= 0, "OP3: the kernel exported a queue, and made no descriptor but {number}");
    // SAFETY: the kernel made it, and told nobody else, as promised to `exported` (OP3).
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// Sends a command.
///
/// # Safety
///
/// As for [`RawRing::zcrx_ctrl`].
pub(super) unsafe fn command(base: &Base, ctrl: &mut ZcrxCtrl) -> Result<(), RegisterError> {
    let call = Call::new(RegisterOp::ZCRX_CTRL, 0, "the kernel does not have this command");
    // SAFETY: a live `struct zcrx_ctrl`, which names live memory where it names any, as promised to
    // `command`.
    let made = unsafe { call.make(base, std::ptr::from_mut(ctrl)) };
    let missing = RegisterError::Missing { what: "receive queue of that number" };
    made.map(drop).map_err(|error| error.unless(libc::ENXIO, missing))
}
