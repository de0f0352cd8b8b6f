//! Rings that begin disabled (`R_DISABLED`), and what a ring may still do once it is enabled.
//!
//! ```text
//!   set up ──► disabled ── RESTRICTIONS, once ──► ENABLE_RINGS ──► entered, restricted
//!              every enter: `EBADFD`                               what is not named: `EACCES`
//! ```
//!
//! Up to 6.19 only what is named is allowed. Since 7.0 entries and calls are two classes, and one
//! in which nothing is named is open.
#![allow(unsafe_code, reason = "reads the argument of a call")]

use annulus_sys::abi::Sqe;
use annulus_sys::abi_register::Restriction;
use annulus_sys::errno::Errno;
use annulus_sys::flags::{SetupFlags, SqeFlags};
use annulus_sys::flags_register::RestrictionOp;
use annulus_sys::opcode::{Opcode, RegisterOp};
use annulus_sys::syscall::this_thread;

use super::gate::Limits;
use super::iopoll::is_polled;
use super::region::copy_in;
use super::request::selects_buffers;
use super::state::State;
use super::submit::FLAGS_OF_ENTRIES;

/// The most restrictions of one call.
const MOST: u32 = RestrictionOp::LAST as u32 + RegisterOp::LAST + Opcode::LAST as u32;

fn refused<T>(errno: i32) -> Result<T, Errno> {
    Err(Errno::new(errno))
}

impl State {
    /// Restricts a ring that is disabled.
    ///
    /// # Safety
    ///
    /// `address` must be 0, or point to `count` times a `struct io_uring_restriction`.
    pub(super) unsafe fn restrict(
        &mut self,
        ring: usize,
        address: u64,
        count: u32,
    ) -> Result<u32, Errno> {
        let has_classes = !self.release.is_before(7, 0);
        let gate = &mut self.rings[ring].gate;
        if !gate.is_disabled {
            return refused(libc::EBADFD);
        }
        if gate.limits.is_some() {
            return refused(libc::EBUSY);
        }
        if address == 0 || count > MOST {
            return refused(libc::EINVAL);
        }
        let mut limits = Limits::default();
        for at in 0..u64::from(count) {
            let at = address + at * size_of::<Restriction>() as u64;
            // SAFETY: one of `count`, as promised to `restrict`.
            limits.add(unsafe { copy_in::<Restriction>(at) }?)?;
        }
        if !has_classes || count == 0 {
            (limits.names_calls, limits.names_entries) = (true, true);
        }
        gate.limits = Some(limits);
        Ok(0)
    }

    /// Enables a ring that began disabled.
    pub(super) fn enable(&mut self, ring: usize) -> Result<u32, Errno> {
        let of_ring = &mut self.rings[ring];
        if !of_ring.gate.is_disabled {
            return refused(libc::EBADFD);
        }
        of_ring.gate.is_disabled = false;
        of_ring.gate.is_restricted = of_ring.gate.limits.is_some();
        if of_ring.flags.contains(SetupFlags::SINGLE_ISSUER) {
            of_ring.thread = Some(this_thread());
        }
        Ok(0)
    }

    /// Whether a register call is allowed.
    pub(super) fn allows_call(&self, ring: usize, op: RegisterOp) -> bool {
        let gate = &self.rings[ring].gate;
        let Some(limits) = gate.limits.filter(|_| gate.is_restricted) else { return true };
        let is_named = op.0 < u64::BITS && limits.calls & (1 << op.0) != 0;
        is_named || !limits.names_calls
    }

    /// The error with which an entry is refused before anything that belongs to its operation is
    /// looked at.
    pub(super) fn barred(&self, ring: usize, sqe: &Sqe) -> Option<i32> {
        let (of_ring, gate) = (&self.rings[ring], &self.rings[ring].gate);
        let polls = of_ring.flags.contains(SetupFlags::IOPOLL);
        if !gate.is_restricted && !polls && sqe.personality == 0 {
            return None;
        }
        let selects = sqe.flags.contains(SqeFlags::BUFFER_SELECT);
        let is_known = self.release.has(sqe.opcode.since());
        let is_wrong = !is_known || !FLAGS_OF_ENTRIES.contains(sqe.flags);
        if is_wrong || (selects && !selects_buffers(sqe.opcode)) {
            return None; // Refused anyway.
        }
        let limits = gate.limits.filter(|limits| gate.is_restricted && limits.names_entries);
        if limits.is_some_and(|limits| !limits.allows(sqe)) {
            return Some(libc::EACCES);
        }
        if polls && !is_polled(self.release, sqe.opcode) {
            return Some(libc::EINVAL);
        }
        let is_stranger = sqe.personality != 0 && !of_ring.people.knows(sqe.personality);
        is_stranger.then_some(libc::EINVAL)
    }
}
