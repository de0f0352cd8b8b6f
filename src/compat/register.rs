//! Values that register calls take: a probe, restrictions, and the descriptor that is no file.

use std::fmt;
use std::os::fd::RawFd;

use annulus_sys::abi_register::{self, ProbeOp};
use annulus_sys::flags_register::{ProbeOpFlags, REGISTER_FILES_SKIP, RestrictionOp};
use annulus_sys::opcode::Opcode;

/// What operations the kernel has. [`register_probe`](super::Submitter::register_probe) fills it
/// in.
#[derive(Clone)]
#[repr(C)]
pub struct Probe {
    head: abi_register::Probe,
    ops: [ProbeOp; Self::COUNT as usize],
}

impl Probe {
    /// One for each number of an operation.
    pub(super) const COUNT: u32 = 256;

    /// A probe that knows of no operation.
    pub fn new() -> Self {
        let none = ProbeOp { op: Opcode::NOP, resv: 0, flags: ProbeOpFlags::empty(), resv2: 0 };
        Self { head: abi_register::Probe::default(), ops: [none; Self::COUNT as usize] }
    }

    /// Whether the kernel has the operation with this `CODE`.
    pub fn is_supported(&self, opcode: u8) -> bool {
        let known = opcode <= self.head.last_op.0;
        known && self.ops[usize::from(opcode)].flags.contains(ProbeOpFlags::SUPPORTED)
    }
}

impl Default for Probe {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let codes = (0..=u8::MAX).filter(|&code| self.is_supported(code));
        f.debug_set().entries(codes.map(Opcode)).finish()
    }
}

/// One thing that a restricted ring may do, or must do.
#[derive(Debug)]
#[repr(transparent)]
pub struct Restriction(abi_register::Restriction);

impl Restriction {
    /// Allows a register call.
    pub fn register_op(op: u8) -> Self {
        Self::new(RestrictionOp::REGISTER_OP, op)
    }

    /// Allows an operation.
    pub fn sqe_op(op: u8) -> Self {
        Self::new(RestrictionOp::SQE_OP, op)
    }

    /// Allows [flags](super::squeue::Flags) of entries.
    pub fn sqe_flags_allowed(flags: u8) -> Self {
        Self::new(RestrictionOp::SQE_FLAGS_ALLOWED, flags)
    }

    /// Demands [flags](super::squeue::Flags) of every entry.
    pub fn sqe_flags_required(flags: u8) -> Self {
        Self::new(RestrictionOp::SQE_FLAGS_REQUIRED, flags)
    }

    fn new(opcode: RestrictionOp, register_op: u8) -> Self {
        Self(abi_register::Restriction { opcode, register_op, ..Default::default() })
    }
}

/// In place of a descriptor, leaves what is registered at an index as it is.
pub const SKIP_FILE: RawFd = REGISTER_FILES_SKIP;
