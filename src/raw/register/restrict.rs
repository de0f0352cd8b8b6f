//! Restrictions: what a ring, or every ring of a task, may still do. They are permanent.
//!
//! ```text
//!   Restrictions::new().allow(READ).allow(WRITE)
//!        │                                          entries      register calls
//!        ├─ DisabledRing::restrict ─► enable        READ WRITE   (those of the ring's end)
//!        └─ restrict_task ─► every ring from now on ASYNC_CANCEL ENABLE_RINGS, SYNC_CANCEL
//! ```
//!
//! Before Linux 7.0, a restricted ring allows only what is named. Since Linux 7.0, there are two
//! classes, entries and register calls, and a class in which nothing is named is **open**. For
//! example, a ring restricted to the entry `READ` can register nothing on 6.19, but anything on
//! 7.0; and a ring restricted to register calls can submit anything on 7.0. Therefore
//! [`Restrictions`] always names something of each class: what a ring needs to end, which is to be
//! enabled, and to cancel what it has in flight.
//!
//! What is not allowed fails with `EACCES`: an entry in its completion, a register call at once
//! ([`RegisterError::Restricted`]). Some limits follow:
//!
//! - If the ring itself was restricted, its cancels carry `ASYNC` and `FIXED_FILE` where these are
//!   required; a cancel can carry `FIXED_FILE` since Linux 5.19.
//! - If the task was restricted in this way, or other flags are required, [`Ring::cancel`] does
//!   nothing, and a ring that ends with operations in flight needs Linux 6.0 to cancel them.
//! - Before Linux 6.13, a [`sender`](crate::Ring::sender) can wake a ring only if `POLL_ADD` is
//!   allowed.
//! - If the task was restricted, a ring without a descriptor (`REGISTERED_FD_ONLY`) goes away only
//!   with its thread, unless `UNREGISTER_RING_FDS` is allowed.
//!
//! [`Ring::cancel`]: crate::Ring::cancel
//!
//! Leaves to others: filters by arguments ([`Filter`](super::Filter)).
#![allow(unsafe_code, reason = "hands arguments to the kernel")]

use annulus_sys::abi_register::{Restriction, TaskRestriction};
use annulus_sys::flags::SqeFlags;
use annulus_sys::flags_register::RestrictionOp;
use annulus_sys::opcode::{Opcode, RegisterOp};
use annulus_sys::rings::Base;

use super::call::{Call, count_of};
use super::error::RegisterError;
use crate::raw::RawRing;
use crate::raw::disabled::DisabledRing;

const KNOWN: &str = "allow only operations and register calls that this kernel has";
const SET: &str = "set of restrictions, for good";

/// What may still be done. Everything that is not allowed here is refused.
///
/// ```
/// use annulus::Setup;
/// use annulus::op::{Nop, Read};
/// use annulus::raw::register::Restrictions;
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
    /// One bit for each opcode.
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
    /// Allows only what a ring needs to end: `ASYNC_CANCEL`, `ENABLE_RINGS`, and since Linux 6.0
    /// `SYNC_CANCEL`. No entry may have flags.
    pub const fn new() -> Self {
        let none =
            Self { ops: [0; 4], calls: 0, allowed: SqeFlags::empty(), required: SqeFlags::empty() };
        none.allow(Opcode::ASYNC_CANCEL)
            .allow_register(RegisterOp::ENABLE_RINGS)
            .allow_register(RegisterOp::SYNC_CANCEL)
    }

    /// Allows entries with this opcode.
    #[doc(alias = "IORING_RESTRICTION_SQE_OP")]
    #[must_use]
    pub const fn allow(mut self, op: Opcode) -> Self {
        self.ops[(op.0 / 64) as usize] |= 1 << (op.0 % 64);
        self
    }

    /// Allows a register call. A number above 63 is unknown to this crate, and is not allowed.
    /// `RING_FDS` also allows `UNREGISTER_RING_FDS`: without it, a ring that was
    /// [registered](crate::RawRing::register_ring_fd) could not give back its slot, and a thread
    /// has only 16.
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

    /// Allows flags of entries, among them the flags of links, and `FIXED_FILE`.
    #[doc(alias = "IORING_RESTRICTION_SQE_FLAGS_ALLOWED")]
    #[must_use]
    pub const fn allow_flags(mut self, flags: SqeFlags) -> Self {
        self.allowed = self.allowed.union(flags);
        self
    }

    /// Requires flags of every entry, and allows them. With `FIXED_FILE`, only registered files can
    /// be used.
    #[doc(alias = "IORING_RESTRICTION_SQE_FLAGS_REQUIRED")]
    #[must_use]
    pub const fn require_flags(mut self, flags: SqeFlags) -> Self {
        self.required = self.required.union(flags);
        self
    }

    /// The restrictions as the kernel takes them, one by one, always with some of each class.
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

    /// These restrictions for a kernel that has no `SYNC_CANCEL` (before Linux 6.0) and refuses its
    /// number.
    fn older(self) -> Self {
        Self { calls: self.calls & !(1 << RegisterOp::SYNC_CANCEL.0), ..self }
    }
}

/// # Restricting it
impl DisabledRing {
    /// Restricts the ring, permanently and only once. Everything may still be registered until the
    /// ring is enabled. Since Linux 5.10.
    ///
    /// # Errors
    ///
    /// [`RegisterError::InUse`] if the ring or its task is restricted already;
    /// [`RegisterError::Invalid`] if something is allowed that this kernel does not have.
    #[doc(alias = "IORING_REGISTER_RESTRICTIONS")]
    #[doc(alias = "io_uring_register_restrictions")]
    pub fn restrict(&mut self, restrictions: &Restrictions) -> Result<(), RegisterError> {
        restrict(self.rings().base(), restrictions)?;
        self.demand(restrictions.required);
        Ok(())
    }
}

/// # Restricting it
impl RawRing {
    /// Restricts a ring that is still [disabled](crate::Setup::build_raw_disabled), permanently and
    /// only once. Everything may still be registered until it is [enabled](Self::enable). Since
    /// Linux 5.10: `IORING_REGISTER_RESTRICTIONS` in `io_uring_register(2)`.
    ///
    /// What is demanded of entries ([`require_flags`](Restrictions::require_flags)) is for the
    /// caller to set: the raw API pushes an entry as it is.
    ///
    /// # Errors
    ///
    /// As [`DisabledRing::restrict`], and [`RegisterError::Enabled`] for a ring that is not
    /// disabled; if it is restricted already, then [`RegisterError::Restricted`].
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::register::Restrictions;
    /// use annulus::sys::opcode::Opcode;
    /// use annulus::{Setup, prep};
    ///
    /// let mut ring = Setup::new(4).build_raw_disabled()?;
    /// ring.restrict(&Restrictions::new().allow(Opcode::READ))?;
    /// ring.enable()?;
    /// // SAFETY: a NOP points to nothing (OP1).
    /// unsafe { ring.push(prep::nop())? };
    /// ring.submit_and_wait(1)?;
    /// assert_eq!(ring.pop().map(|cqe| cqe.res), Some(-13)); // EACCES
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias("IORING_REGISTER_RESTRICTIONS", "io_uring_register_restrictions"))]
    pub fn restrict(&self, restrictions: &Restrictions) -> Result<(), RegisterError> {
        restrict(self.base(), restrictions)
    }
}

fn restrict(base: &Base, restrictions: &Restrictions) -> Result<(), RegisterError> {
    match restrict_by(base, &restrictions.rows()) {
        Err(RegisterError::Invalid { .. }) => restrict_by(base, &restrictions.older().rows()),
        answer => answer,
    }
}

fn restrict_by(base: &Base, rows: &[Restriction]) -> Result<(), RegisterError> {
    let call = Call::new(RegisterOp::RESTRICTIONS, count_of(rows)?, KNOWN);
    let arg = rows.as_ptr().cast_mut();
    // SAFETY: as many live restrictions as the count says, which the kernel copies, because it
    // says so.
    let made = unsafe { call.make(base, arg) };
    made.map(drop).map_err(|error| error.unless(libc::EBUSY, taken()))
}

/// Restricts every ring that is made from now on by this thread or by threads that it starts,
/// permanently and only once. Existing rings stay as they are. Since Linux 7.0.
///
/// # Errors
///
/// [`RegisterError::InUse`] if this thread is restricted already, [`RegisterError::Privilege`]
/// unless it has `no_new_privs` set or `CAP_SYS_ADMIN`, [`RegisterError::Invalid`] if something is
/// allowed that this kernel does not have.
#[doc(alias = "IORING_REGISTER_RESTRICTIONS")]
#[doc(alias = "io_uring_task_restriction")]
#[doc(alias = "io_uring_register_task_restrictions")]
pub fn restrict_task(restrictions: &Restrictions) -> Result<(), RegisterError> {
    /// The largest argument: 64 register calls, 256 operations, two sets of flags.
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
            // Since Linux 7.3 the kernel uses one errno for both.
            RegisterError::Privilege { .. } if is_privileged() => taken(),
            error => error,
        },
    })
}

/// Whether this thread may restrict itself, as far as `/proc` says.
fn is_privileged() -> bool {
    const CAP_SYS_ADMIN: u32 = 21;
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let said = |name| status.lines().find_map(|line: &str| line.strip_prefix(name)).map(str::trim);
    let held = said("CapEff:").and_then(|held| u64::from_str_radix(held, 16).ok()).unwrap_or(0);
    said("NoNewPrivs:") == Some("1") || held & 1 << CAP_SYS_ADMIN != 0
}

fn taken() -> RegisterError {
    RegisterError::InUse { what: SET }
}

/// For a task, `EACCES` means that a privilege is missing.
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
    fn for_an_older_kernel_the_calls_that_it_has_are_left() {
        let calls = Restrictions::new()
            .allow_register(RegisterOp::PROBE)
            .allow_register(RegisterOp::SYNC_CANCEL);
        let rows = calls.older().rows();
        let is_call = |row: &&Restriction| row.opcode == RestrictionOp::REGISTER_OP;
        let kept: Vec<u8> = rows.iter().filter(is_call).map(|row| row.register_op).collect();
        let has = |op: RegisterOp| kept.iter().any(|&number| u32::from(number) == op.0);
        assert!(has(RegisterOp::PROBE) && !has(RegisterOp::SYNC_CANCEL), "{kept:?}");
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
