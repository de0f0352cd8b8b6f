//! Restrictions: what a ring, or every ring of a task, may still do, for good.
//!
//! ```text
//!   Restrictions::new().allow(READ).allow(WRITE)
//!        │                                          entries      register calls
//!        ├─ DisabledRing::restrict ─► enable        READ WRITE   (those of the ring's end)
//!        └─ restrict_task ─► every ring from now on ASYNC_CANCEL ENABLE_RINGS, SYNC_CANCEL
//! ```
//!
//! A kernel before 7.0 takes a restricted ring to allow nothing that is not named. From 7.0 on it
//! has two classes, entries and register calls, and a class of which nothing is named is **open**:
//! a ring that was shut to all but `READ` on 6.19 may register anything on 7.0, and the other way
//! round. So these always name something of each class, which is what a ring needs to end: to be
//! enabled, and to cancel what it has in flight.
//!
//! What is not allowed fails with `EACCES`: an entry in its completion, a register call at once
//! ([`RegisterError::Restricted`]). The cancels of a ring that was restricted itself carry `ASYNC`
//! and `FIXED_FILE` where these are required; the latter is taken on a cancel since Linux 5.19.
//! Where a task was restricted so, or other flags are required, [`Ring::cancel`] does nothing, and
//! a ring that ends with operations in flight needs Linux 6.0 to cancel them. Before Linux 6.13 a
//! ring is woken by its [`sender`](crate::Ring::sender) only where `POLL_ADD` is allowed. Where a
//! task was restricted, a ring without descriptor (`REGISTERED_FD_ONLY`) goes only with its thread,
//! unless `UNREGISTER_RING_FDS` is allowed.
//!
//! [`Ring::cancel`]: crate::Ring::cancel
//!
//! Leaves to others: filters by arguments ([`Filter`](super::Filter)).
#![allow(unsafe_code, reason = "hands arguments to the kernel")]

use annulus_sys::abi_register::{Restriction, TaskRestriction};
use annulus_sys::flags::SqeFlags;
use annulus_sys::flags_register::RestrictionOp;
use annulus_sys::opcode::{Opcode, RegisterOp};

use super::call::{Call, count_of};
use crate::disabled::DisabledRing;
use crate::lease::RegisterError;

const KNOWN: &str = "each operation and register call that is allowed is one that this kernel has";
const SET: &str = "set of restrictions, for good";

/// What may still be done. Everything that is not allowed here is not.
///
/// ```
/// use annulus::Setup;
/// use annulus::op::{Nop, Read};
/// use annulus::register::Restrictions;
/// use annulus::sys::opcode::Opcode;
///
/// let mut disabled = Setup::new(4).build_disabled()?;
/// disabled.restrict(&Restrictions::new().allow(Opcode::NOP))?;
/// let mut ring = disabled.enable().map_err(|(_, errno)| errno)?;
/// let nop = ring.submit(Nop)?;
/// assert!(ring.wait(nop)?.is_ok());
/// let read = ring.submit(Read::new(std::io::pipe()?.0, [0; 8]))?;
/// let refused = ring.wait(read)?.result.unwrap_err();
/// assert_eq!(refused.raw_os_error(), Some(13)); // EACCES
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "io_uring_restriction")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restrictions {
    /// One bit for each operation of entries.
    ops: [u64; 4],
    /// One bit for each register call.
    calls: u64,
    allowed: SqeFlags,
    required: SqeFlags,
}

impl Default for Restrictions {
    fn default() -> Self {
        Self::new()
    }
}

impl Restrictions {
    /// Nothing may be done but what a ring needs to end: `ASYNC_CANCEL`, `ENABLE_RINGS`, and from
    /// Linux 6.0 `SYNC_CANCEL`. No entry may have flags.
    pub const fn new() -> Self {
        let none =
            Self { ops: [0; 4], calls: 0, allowed: SqeFlags::empty(), required: SqeFlags::empty() };
        none.allow(Opcode::ASYNC_CANCEL)
            .allow_register(RegisterOp::ENABLE_RINGS)
            .allow_register(RegisterOp::SYNC_CANCEL)
    }

    /// Allows an operation of entries.
    #[doc(alias = "IORING_RESTRICTION_SQE_OP")]
    #[must_use]
    pub const fn allow(mut self, op: Opcode) -> Self {
        self.ops[(op.0 / 64) as usize] |= 1 << (op.0 % 64);
        self
    }

    /// Allows a register call. A number beyond 63 is none that this crate knows, and not allowed.
    /// `RING_FDS` brings `UNREGISTER_RING_FDS` along: without it a ring that was
    /// [registered](crate::RawRing::register_ring_fd) could not give its place back, and a thread
    /// has 16.
    #[doc(alias = "IORING_RESTRICTION_REGISTER_OP")]
    #[must_use]
    pub const fn allow_register(mut self, op: RegisterOp) -> Self {
        if op.0 < u64::BITS {
            self.calls |= 1 << op.0;
        }
        if op.0 == RegisterOp::RING_FDS.0 {
            self.calls |= 1 << RegisterOp::UNREGISTER_RING_FDS.0;
        }
        self
    }

    /// Allows flags of entries. Those of chains are among them, and `FIXED_FILE`.
    #[doc(alias = "IORING_RESTRICTION_SQE_FLAGS_ALLOWED")]
    #[must_use]
    pub const fn allow_flags(mut self, flags: SqeFlags) -> Self {
        self.allowed = self.allowed.union(flags);
        self
    }

    /// Demands flags of every entry, and allows them: `FIXED_FILE`, so that only files can be used
    /// that were registered.
    #[doc(alias = "IORING_RESTRICTION_SQE_FLAGS_REQUIRED")]
    #[must_use]
    pub const fn require_flags(mut self, flags: SqeFlags) -> Self {
        self.required = self.required.union(flags);
        self
    }

    /// These, one by one, always some of each class.
    fn rows(&self) -> Vec<Restriction> {
        let row = |opcode: RestrictionOp, register_op: u8| Restriction {
            opcode,
            register_op,
            ..Restriction::default()
        };
        let calls = (0..64_u8).filter(|&call| self.calls & 1 << call != 0);
        let is_allowed = |op: &u8| self.ops[usize::from(op / 64)] & 1 << (op % 64) != 0;
        let ops = (0..=u8::MAX).filter(is_allowed);
        let mut rows: Vec<_> = calls
            .map(|call| row(RestrictionOp::REGISTER_OP, call))
            .chain(ops.map(|op| row(RestrictionOp::SQE_OP, op)))
            .collect();
        if !self.allowed.is_empty() {
            rows.push(row(RestrictionOp::SQE_FLAGS_ALLOWED, self.allowed.bits()));
        }
        if !self.required.is_empty() {
            rows.push(row(RestrictionOp::SQE_FLAGS_REQUIRED, self.required.bits()));
        }
        rows
    }

    /// These, for a kernel that has no `SYNC_CANCEL` (before Linux 6.0) and refuses its number.
    fn older(self) -> Self {
        Self { calls: self.calls & !(1 << RegisterOp::SYNC_CANCEL.0), ..self }
    }
}

impl DisabledRing {
    /// Restricts the ring, once and for good. Until it is enabled, everything may still be
    /// registered. Since Linux 5.10.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Taken`] when it is restricted already, itself or by its task;
    /// [`RegisterError::Invalid`] when something is allowed that this kernel does not have.
    #[doc(alias = "IORING_REGISTER_RESTRICTIONS")]
    #[doc(alias = "io_uring_register_restrictions")]
    pub fn restrict(&mut self, restrictions: &Restrictions) -> Result<(), RegisterError> {
        match self.restrict_by(&restrictions.rows()) {
            Err(RegisterError::Invalid { .. }) => self.restrict_by(&restrictions.older().rows())?,
            answer => answer?,
        }
        self.demand(restrictions.required);
        Ok(())
    }

    fn restrict_by(&mut self, rows: &[Restriction]) -> Result<(), RegisterError> {
        let call = Call::new(RegisterOp::RESTRICTIONS, count_of(rows)?, KNOWN);
        let arg = rows.as_ptr().cast_mut();
        // SAFETY: so many live restrictions, which the kernel copies, because it says so.
        let made = unsafe { call.make(self.rings().base(), arg) };
        made.map(drop).map_err(|error| error.unless(libc::EBUSY, taken()))
    }
}

/// Restricts every ring that this thread makes from now on, and those that it starts, once and for
/// good. Rings that there are stay as they are. Since Linux 7.0.
///
/// # Errors
///
/// [`RegisterError::Taken`] when this thread is restricted already, [`RegisterError::Privilege`]
/// unless it has `no_new_privs` set or `CAP_SYS_ADMIN`, [`RegisterError::Invalid`] when something
/// is allowed that this kernel does not have.
#[doc(alias = "IORING_REGISTER_RESTRICTIONS")]
#[doc(alias = "io_uring_task_restriction")]
#[doc(alias = "io_uring_register_task_restrictions")]
pub fn restrict_task(restrictions: &Restrictions) -> Result<(), RegisterError> {
    /// As many as there can be: 64 register calls, 256 operations, two words of flags.
    #[repr(C)]
    struct Argument {
        head: TaskRestriction,
        rows: [Restriction; 322],
    }
    let rows = restrictions.rows();
    let nr_res = u16::try_from(rows.len()).expect("at most 322");
    let head = TaskRestriction { nr_res, ..TaskRestriction::default() };
    let mut arg = Argument { head, rows: [Restriction::default(); 322] };
    arg.rows[..rows.len()].copy_from_slice(&rows);
    let call = Call::new(RegisterOp::RESTRICTIONS, 1, KNOWN);
    // SAFETY: a live `struct io_uring_task_restriction` with as many restrictions behind it as it
    // says, all of which the kernel copies, because it says so.
    let made = unsafe { call.make_for_task(&raw mut arg) };
    made.map(drop).map_err(|error| match error {
        RegisterError::Unsupported { .. } => {
            RegisterError::Unsupported { what: "restricting a task", since: "7.0" }
        }
        error => match unprivileged(error).unless(libc::EPERM, taken()) {
            // Since Linux 7.3 the kernel says one thing for both.
            RegisterError::Privilege { .. } if is_privileged() => taken(),
            error => error,
        },
    })
}

/// Whether this thread may restrict itself, for all that `/proc` says.
fn is_privileged() -> bool {
    const CAP_SYS_ADMIN: u32 = 21;
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let said = |name| status.lines().find_map(|line: &str| line.strip_prefix(name)).map(str::trim);
    let held = said("CapEff:").and_then(|held| u64::from_str_radix(held, 16).ok()).unwrap_or(0);
    said("NoNewPrivs:") == Some("1") || held & 1 << CAP_SYS_ADMIN != 0
}

fn taken() -> RegisterError {
    RegisterError::Taken { what: SET }
}

/// For a task, `EACCES` is about its privileges.
pub(super) fn unprivileged(error: RegisterError) -> RegisterError {
    let cure = "set no_new_privs (prctl), or have CAP_SYS_ADMIN";
    match error {
        RegisterError::Restricted { .. } => RegisterError::Privilege { cure },
        error => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes(restrictions: &Restrictions) -> (usize, usize) {
        let rows = restrictions.rows();
        let count = |class| rows.iter().filter(|row| row.opcode == class).count();
        (count(RestrictionOp::REGISTER_OP), count(RestrictionOp::SQE_OP))
    }

    #[test]
    fn both_classes_are_always_named() {
        assert_eq!(classes(&Restrictions::new()), (2, 1));
        assert_eq!(classes(&Restrictions::new().older()), (1, 1));
        assert_eq!(classes(&Restrictions::new().allow(Opcode(255))), (2, 2));
        let calls = Restrictions::new().allow_register(RegisterOp::PROBE);
        assert_eq!(classes(&calls.allow_register(RegisterOp(64))), (3, 1));
    }

    #[test]
    fn flags_are_one_row_each() {
        let flags = Restrictions::new()
            .allow_flags(SqeFlags::IO_LINK)
            .allow_flags(SqeFlags::ASYNC)
            .require_flags(SqeFlags::FIXED_FILE);
        let rows = flags.rows();
        let both = (SqeFlags::IO_LINK | SqeFlags::ASYNC).bits();
        let [.., allowed, required] = &rows[..] else { panic!("{rows:?}") };
        let allowed = (allowed.opcode, allowed.register_op);
        assert_eq!(allowed, (RestrictionOp::SQE_FLAGS_ALLOWED, both));
        let required = (required.opcode, required.register_op);
        let fixed = SqeFlags::FIXED_FILE.bits();
        assert_eq!(required, (RestrictionOp::SQE_FLAGS_REQUIRED, fixed));
    }
}
