//! Whether a ring is enabled, and what it may do: what is known of that. Leaves to others: who asks
//! (`restrict`).

use annulus_sys::abi::Sqe;
use annulus_sys::abi_register::Restriction;
use annulus_sys::errno::Errno;
use annulus_sys::flags::{SetupFlags, SqeFlags};
use annulus_sys::flags_register::RestrictionOp;
use annulus_sys::opcode::{Opcode, RegisterOp};

/// What a ring may do.
#[derive(Debug, Default)]
pub(super) struct Gate {
    pub(super) is_disabled: bool,
    /// What was registered, and whether it counts.
    pub(super) limits: Option<Limits>,
    pub(super) is_restricted: bool,
}

/// What is named.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Limits {
    pub(super) calls: u64,
    ops: [u64; 4],
    allowed: SqeFlags,
    required: SqeFlags,
    /// Whether something of the class was named.
    pub(super) names_calls: bool,
    pub(super) names_entries: bool,
}

impl Gate {
    pub(super) fn of(flags: SetupFlags) -> Self {
        Self { is_disabled: flags.contains(SetupFlags::R_DISABLED), ..Self::default() }
    }
}

impl Limits {
    pub(super) fn add(&mut self, restriction: Restriction) -> Result<(), Errno> {
        // The same byte is the number of a call, of an operation, or flags.
        let number = restriction.register_op;
        let flags = SqeFlags::from_bits_retain(number);
        match restriction.opcode {
            RestrictionOp::REGISTER_OP if u32::from(number) < RegisterOp::LAST => {
                self.calls |= 1 << number;
                self.names_calls = true;
                return Ok(());
            }
            RestrictionOp::SQE_OP if number < Opcode::LAST => {
                self.ops[usize::from(number / 64)] |= 1 << (number % 64);
            }
            RestrictionOp::SQE_FLAGS_ALLOWED => self.allowed = flags,
            RestrictionOp::SQE_FLAGS_REQUIRED => self.required = flags,
            _ => return Err(Errno::new(libc::EINVAL)),
        }
        self.names_entries = true;
        Ok(())
    }

    pub(super) fn allows(&self, sqe: &Sqe) -> bool {
        let op = sqe.opcode.0;
        let is_named = self.ops[usize::from(op / 64)] & (1 << (op % 64)) != 0;
        let may = self.allowed | self.required;
        is_named && sqe.flags.contains(self.required) && may.contains(sqe.flags)
    }
}
