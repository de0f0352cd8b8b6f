//! One register call on one ring, and the error that explains what the kernel answered.
//!
//! ```text
//!   Call { op, count } ─► make(base, arg) ─┬─ the kernel's number
//!                                          └─ errno ─► RegisterError: cause, and cure
//! ```
//!
//! `EINVAL` alone says nothing: a kernel returns it both if it lacks the call and if it rejects an
//! argument. So we ask again, with an address that cannot be read: a kernel that has the call
//! returns `EFAULT`.
//!
//! Leaves to others: what the argument means, and who owns the memory that it names.
#![allow(unsafe_code, reason = "hands arguments to the kernel")]

use std::ptr;

use annulus_sys::errno::Errno;
use annulus_sys::kernel::Kernel;
use annulus_sys::opcode::RegisterOp;
use annulus_sys::rings::Base;
use annulus_sys::syscall::RingRef;

use super::error::RegisterError;
use super::{Asked, answers, knows};
use crate::setup::allowed::{Filter, seccomp_filter};

/// A register call, with its count, which `io_uring_register(2)` calls `nr_args`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    pub(crate) op: RegisterOp,
    pub(crate) count: u32,
    /// The error message for a kernel that has the call and rejects the argument.
    pub(crate) wrong: &'static str,
}

impl Call {
    /// A call whose argument is one struct, or several.
    pub(crate) const fn new(op: RegisterOp, count: u32, wrong: &'static str) -> Self {
        Self { op, count, wrong }
    }

    /// A call whose count is the size of its argument.
    pub(crate) fn sized<T>(op: RegisterOp, wrong: &'static str) -> Self {
        let count = u32::try_from(size_of::<T>()).expect("a struct of the kernel is small");
        Self { op, count, wrong }
    }

    /// Makes the call.
    ///
    /// # Safety
    ///
    /// `arg` must be what the call takes, and memory that the kernel uses after the call must stay
    /// valid, as for [`Base::register`].
    pub(crate) unsafe fn make<T>(self, base: &Base, arg: *mut T) -> Result<u32, RegisterError> {
        // SAFETY: as promised to `make`.
        let answer = unsafe { base.register(self.op, arg.cast(), self.count) };
        answer.map_err(|errno| self.explain(base, errno))
    }

    /// Makes a call that takes no argument but its count.
    pub(crate) fn bare(self, base: &Base) -> Result<u32, RegisterError> {
        // SAFETY: takes no memory, because `io_uring_register(2)` says so of the calls that are
        // made in this way: null names no memory.
        unsafe { self.make::<u8>(base, ptr::null_mut()) }
    }

    /// Makes the call for this task, without naming a ring.
    ///
    /// # Safety
    ///
    /// As for [`make`](Self::make).
    pub(crate) unsafe fn make_for_task<T>(self, arg: *mut T) -> Result<u32, RegisterError> {
        let kernel = &Kernel::LINUX;
        // SAFETY: as promised to `make_for_task`.
        let answer = unsafe { kernel.register(RingRef::NONE, self.op, arg.cast(), self.count) };
        answer.map_err(|errno| {
            let known = || answers(kernel, RingRef::NONE, self.op, self.count);
            match errno.raw() {
                libc::EINVAL | libc::EBADF if !known() => self.unsupported(),
                _ => self.name(errno),
            }
        })
    }

    fn explain(self, base: &Base, errno: Errno) -> RegisterError {
        match errno.raw() {
            libc::EINVAL | libc::EOPNOTSUPP if !self.is_known(base) => self.unsupported(),
            _ => self.name(errno),
        }
    }

    fn unsupported(self) -> RegisterError {
        let what = self.op.name().unwrap_or("this call");
        RegisterError::Unsupported { what, since: self.op.since().unwrap_or("7.3") }
    }

    /// The error for `errno`, from a kernel that has the call.
    fn name(self, errno: Errno) -> RegisterError {
        let name = self.op.name().unwrap_or("this call");
        match errno.raw() {
            libc::EINVAL => RegisterError::Invalid { reason: self.wrong },
            libc::EACCES => RegisterError::Restricted { call: name },
            libc::EEXIST => RegisterError::OtherThread,
            libc::EBADFD => RegisterError::Enabled,
            _ => RegisterError::other(errno),
        }
    }

    /// Whether the kernel has the call. Every supported kernel has the oldest calls.
    fn is_known(self, base: &Base) -> bool {
        self.op.0 < RegisterOp::FILES2.0 || knows(base, Asked::Ring, self.op, self.count)
    }
}

/// How many `items` there are, as the kernel counts.
pub(super) fn count_of<T>(items: &[T]) -> Result<u32, RegisterError> {
    let reason = "the kernel takes fewer than 2^32 items: pass fewer";
    u32::try_from(items.len()).map_err(|_| RegisterError::Invalid { reason })
}

impl RegisterError {
    /// The error for an errno without a meaning of its own for the call; and for the `ECHILD` that
    /// this crate, not the kernel, returns in a forked child.
    pub(crate) fn other(errno: Errno) -> Self {
        match errno.raw() {
            libc::ECHILD => Self::OtherProcess,
            libc::ENOSYS => Self::Refused(errno),
            // Some calls need a privilege and report its absence with this errno too: see `unless`.
            libc::EPERM if seccomp_filter() == Filter::Present => Self::Refused(errno),
            _ => Self::Other(errno),
        }
    }

    /// This error, or `instead` if it is just `errno` from the kernel.
    pub(crate) fn unless(self, errno: i32, instead: Self) -> Self {
        match self {
            Self::Other(said) | Self::Refused(said) if said.is(errno) => instead,
            error => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_has_its_cause() {
        let call = Call::new(RegisterOp::PERSONALITY, 0, "it is wrong");
        let said = |number| call.name(Errno::new(number)).to_string();
        assert_eq!(said(libc::EINVAL), "no kernel can: it is wrong");
        assert!(said(libc::EACCES).starts_with("PERSONALITY is not allowed"));
        assert!(said(libc::EEXIST).starts_with("the ring belongs to another thread"));
        assert!(said(libc::EBADFD).starts_with("the ring is enabled already"));
        assert!(said(libc::ENOSYS).starts_with("io_uring_register is refused"));
        assert_eq!(call.name(Errno::new(libc::EIO)), RegisterError::Other(Errno::new(libc::EIO)));
        assert_eq!(call.name(Errno::new(libc::ECHILD)), RegisterError::OtherProcess);
        assert_eq!(call.unsupported().to_string(), "PERSONALITY needs Linux 5.6");
    }

    #[test]
    fn a_refusal_is_a_filters_only_where_there_is_one() {
        let refused = Errno::new(libc::EPERM);
        let wanted = match seccomp_filter() {
            Filter::Present => RegisterError::Refused(refused),
            Filter::Absent => RegisterError::Other(refused),
        };
        assert_eq!(RegisterError::other(refused), wanted);
    }

    #[test]
    fn one_number_is_named_and_the_others_stay() {
        let busy = RegisterError::Other(Errno::new(libc::EBUSY));
        let taken = RegisterError::InUse { what: "table" };
        assert_eq!(busy.unless(libc::EBUSY, taken), taken);
        assert_eq!(busy.unless(libc::ENXIO, taken), busy);
        assert_eq!(
            RegisterError::OtherProcess.unless(libc::EBUSY, taken),
            RegisterError::OtherProcess
        );
    }
}
