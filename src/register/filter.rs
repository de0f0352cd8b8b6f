//! Filters: small programs that look at each request of an operation, and let it run or not.
//!
//! ```text
//!   Filter::new(SOCKET, &program) ─► add_filter ─► every SOCKET of the ring
//!        ld  [16]           the family: behind user_data (8), opcode, flags, sizes (8)
//!        jeq AF_UNIX, 0, 1
//!        ret 1              it runs
//!        ret 0              EACCES
//! ```
//!
//! A program is classic BPF, as for seccomp: it loads words of a
//! [`BpfCtx`](annulus_sys::abi_bpf::BpfCtx), computes, jumps forward, and returns. It sees what
//! the kernel has copied, not memory that could still change. Filters add up, as
//! many for one operation as one likes: a request runs if all of them let it. None can be taken
//! back. Since Linux 7.0, in kernels with `CONFIG_IO_URING_BPF`.
//!
//! Leaves to others: writing the program, and allowing operations as a whole
//! ([`Restrictions`](super::Restrictions)).
#![allow(unsafe_code, reason = "hands arguments to the kernel")]

use annulus_sys::abi_bpf::{Bpf, BpfFilter};
use annulus_sys::flags_register::{BpfCmd, BpfFilterFlags};
use annulus_sys::opcode::{Opcode, RegisterOp};
use annulus_sys::rings::Base;

use super::call::{Call, count_of};
use super::restrict::unprivileged;
use crate::disabled::DisabledRing;
use crate::lease::RegisterError;
use crate::raw::RawRing;

const PROGRAM: &str = "a filter has 1 to 4096 instructions, those that seccomp takes too, loads \
                       whole words of what it sees, and judges an operation of this kernel's";
const SIZE: &str = "the operation does not show the filter so many bytes of its own: expect what \
                    it shows, or do not insist";

/// A program that judges the requests of one operation.
#[doc(alias = "io_uring_bpf_filter")]
#[derive(Debug, Clone, Copy)]
pub struct Filter<'p> {
    op: Opcode,
    program: &'p [libc::sock_filter],
    flags: BpfFilterFlags,
    pdu_size: u8,
}

impl<'p> Filter<'p> {
    /// Judges requests that do `op`: 0 refuses one, anything else lets it run.
    pub const fn new(op: Opcode, program: &'p [libc::sock_filter]) -> Self {
        Self { op, program, flags: BpfFilterFlags::empty(), pdu_size: 0 }
    }

    /// Refuses every operation that no filter judges.
    #[doc(alias = "IO_URING_BPF_FILTER_DENY_REST")]
    #[must_use]
    pub const fn deny_rest(self) -> Self {
        Self { flags: self.flags.union(BpfFilterFlags::DENY_REST), ..self }
    }

    /// The program looks at `bytes` bytes of the operation's own, so that a kernel that shows fewer
    /// refuses it.
    #[must_use]
    pub const fn expecting(self, bytes: u8) -> Self {
        Self { pdu_size: bytes, ..self }
    }

    /// A kernel that shows more than is expected refuses it too.
    #[doc(alias = "IO_URING_BPF_FILTER_SZ_STRICT")]
    #[must_use]
    pub const fn strictly(self) -> Self {
        Self { flags: self.flags.union(BpfFilterFlags::SZ_STRICT), ..self }
    }

    fn argument(&self) -> Result<Bpf, RegisterError> {
        let filter = BpfFilter {
            opcode: self.op.0.into(),
            flags: self.flags,
            filter_len: count_of(self.program)?,
            pdu_size: self.pdu_size,
            filter_ptr: self.program.as_ptr().expose_provenance() as u64,
            ..BpfFilter::default()
        };
        Ok(Bpf { cmd_type: BpfCmd::FILTER, filter, ..Bpf::default() })
    }

    fn add_to(&self, base: &Base) -> Result<u8, RegisterError> {
        let mut arg = self.argument()?;
        // SAFETY: a live `struct io_uring_bpf` that names as many live instructions as it says, all
        // of which the kernel copies, because it checks them before it runs them.
        let made = unsafe { CALL.make(base, &raw mut arg) };
        made.map(|_| arg.filter.pdu_size).map_err(explain)
    }
}

const CALL: Call = Call::new(RegisterOp::BPF_FILTER, 1, PROGRAM);

fn explain(error: RegisterError) -> RegisterError {
    error.unless(libc::EMSGSIZE, RegisterError::Invalid { reason: SIZE })
}

impl RawRing {
    /// Adds a filter to this ring, for good. Returns how many bytes of the operation's own it sees.
    /// Since Linux 7.0.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Unsupported`] also where the kernel is built without `CONFIG_IO_URING_BPF`;
    /// [`RegisterError::Invalid`] for a program that the kernel does not take.
    #[doc(alias = "IORING_REGISTER_BPF_FILTER")]
    #[doc(alias = "io_uring_register_bpf_filter")]
    pub fn add_filter(&self, filter: &Filter<'_>) -> Result<u8, RegisterError> {
        filter.add_to(self.base())
    }
}

impl DisabledRing {
    /// Adds a filter to this ring, for good. Returns how many bytes of the operation's own it sees.
    /// Since Linux 7.0.
    ///
    /// # Errors
    ///
    /// As [`RawRing::add_filter`].
    pub fn add_filter(&mut self, filter: &Filter<'_>) -> Result<u8, RegisterError> {
        filter.add_to(self.rings().base())
    }
}

/// Adds a filter to every ring that this thread makes from now on, and those that it starts, for
/// good. Returns how many bytes of the operation's own it sees. Since Linux 7.0.
///
/// # Errors
///
/// As [`RawRing::add_filter`]; [`RegisterError::Privilege`] unless this thread has `no_new_privs`
/// set or `CAP_SYS_ADMIN`.
#[doc(alias = "io_uring_register_bpf_filter_task")]
pub fn add_task_filter(filter: &Filter<'_>) -> Result<u8, RegisterError> {
    let mut arg = filter.argument()?;
    // SAFETY: a live `struct io_uring_bpf` that names as many live instructions as it says, all of
    // which the kernel copies, because it checks them before it runs them.
    let made = unsafe { CALL.make_for_task(&raw mut arg) };
    made.map(|_| arg.filter.pdu_size).map_err(|error| explain(unprivileged(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_what_the_kernel_reads() {
        let program = [libc::sock_filter { code: 6, jt: 0, jf: 0, k: 1 }];
        let filter = Filter::new(Opcode::SOCKET, &program).deny_rest().expecting(12).strictly();
        let Bpf { cmd_type, cmd_flags, resv, filter } = filter.argument().expect("it is short");
        assert_eq!((cmd_type, cmd_flags, resv), (BpfCmd(1), 0, 0));
        let mine = (filter.opcode, filter.flags.bits(), filter.filter_len, filter.pdu_size);
        assert_eq!(mine, (45, 3, 1, 12));
        assert_eq!(filter.filter_ptr, program.as_ptr().addr() as u64);
        assert_eq!((filter.resv, filter.resv2), ([0; 3], [0; 5]));
    }
}
