//! Filters: small BPF programs that look at each request of an operation, and allow or refuse it.
//!
//! ```text
//!   Filter::new(SOCKET, &program) ─► add_filter ─► every SOCKET of the ring
//!        ld  [16]           the family: after user_data (8), opcode, flags, sizes (8)
//!        jeq AF_UNIX, 0, 1
//!        ret 1              allow
//!        ret 0              refuse: EACCES
//! ```
//!
//! A program is classic BPF, as for seccomp: it loads 32-bit values from a
//! [`annulus_sys::abi_bpf::BpfCtx`], computes, jumps forward, and returns. It sees a copy
//! that the kernel made, not memory that could still change. An operation can have any number of
//! filters; a request runs only if all of them allow it. A filter cannot be removed. Since Linux
//! 7.0, in kernels with `CONFIG_IO_URING_BPF`.
//!
//! Leaves to others: writing the program, and allowing operations as a whole
//! ([`Restrictions`](super::Restrictions)).
#![allow(unsafe_code, reason = "hands arguments to the kernel")]

use annulus_sys::abi_bpf::{Bpf, BpfFilter};
use annulus_sys::flags_register::{BpfCmd, BpfFilterFlags};
use annulus_sys::opcode::{Opcode, RegisterOp};
use annulus_sys::rings::Base;

use super::call::{Call, count_of};
use super::error::RegisterError;
use super::restrict::unprivileged;
use crate::raw::RawRing;
use crate::raw::disabled::DisabledRing;

const PROGRAM: &str = "a filter has 1 to 4096 instructions that seccomp would accept too, loads \
                       only whole 32-bit words, and is for an operation that this kernel has";
const SIZE: &str = "the operation does not show the filter so many bytes of its arguments: expect \
                    as many as it shows, or do not call `strictly`";

/// A program that decides about the requests of one operation.
#[doc(alias = "io_uring_bpf_filter")]
#[derive(Debug, Clone, Copy)]
pub struct Filter<'p> {
    op: Opcode,
    program: &'p [libc::sock_filter],
    flags: BpfFilterFlags,
    pdu_size: u8,
}

impl<'p> Filter<'p> {
    /// A filter for requests with opcode `op`: a return value of 0 refuses the request, any other
    /// allows it.
    pub const fn new(op: Opcode, program: &'p [libc::sock_filter]) -> Self {
        Self { op, program, flags: BpfFilterFlags::empty(), pdu_size: 0 }
    }

    /// Refuses every operation that has no filter.
    #[doc(alias = "IO_URING_BPF_FILTER_DENY_REST")]
    #[must_use]
    pub const fn deny_rest(self) -> Self {
        Self { flags: self.flags.union(BpfFilterFlags::DENY_REST), ..self }
    }

    /// The program looks at `bytes` bytes of the operation's own arguments. A kernel that shows
    /// fewer refuses the filter.
    #[must_use]
    pub const fn expecting(self, bytes: u8) -> Self {
        Self { pdu_size: bytes, ..self }
    }

    /// A kernel that shows more bytes than expected refuses the filter too.
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

/// # Filters
impl RawRing {
    /// Adds a filter to this ring, permanently. Returns how many bytes of the operation's own
    /// arguments the filter sees. Since Linux 7.0.
    ///
    /// # Errors
    ///
    /// [`RegisterError::Unsupported`] also if the kernel is built without `CONFIG_IO_URING_BPF`;
    /// [`RegisterError::Invalid`] if the kernel rejects the program.
    #[doc(alias = "IORING_REGISTER_BPF_FILTER")]
    #[doc(alias = "io_uring_register_bpf_filter")]
    pub fn add_filter(&self, filter: &Filter<'_>) -> Result<u8, RegisterError> {
        filter.add_to(self.base())
    }
}

/// # Filters
impl DisabledRing {
    /// Adds a filter to this ring, permanently. Returns how many bytes of the operation's own
    /// arguments the filter sees. Since Linux 7.0.
    ///
    /// # Errors
    ///
    /// As for [`RawRing::add_filter`].
    pub fn add_filter(&mut self, filter: &Filter<'_>) -> Result<u8, RegisterError> {
        filter.add_to(self.rings().base())
    }
}

/// Adds a filter, permanently, to every ring that is made from now on by this thread or by threads
/// that it starts. Returns how many bytes of the operation's own arguments the filter sees. Since
/// Linux 7.0.
///
/// # Errors
///
/// As for [`RawRing::add_filter`], and [`RegisterError::Privilege`] unless this thread has
/// `no_new_privs` set or `CAP_SYS_ADMIN`.
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
