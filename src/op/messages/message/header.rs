//! The header of a message as the kernel reads and writes it: `struct msghdr`.
//!
//! ```text
//!   0  name │ 8  length │ 16  table │ 24  length │ 32  control │ 40  length │ 48  flags │ 56
//! ```
//!
//! It contains numbers only: each address in it points to memory next to it, in an operation that
//! stays in place (OP1). Leaves to others: who owns that memory.

use std::mem::offset_of;

use crate::buf::IoVec;

/// `struct msghdr`: the addresses and lengths of a message's parts.
#[doc(hidden)]
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Header {
    pub(super) name: u64,
    pub(super) name_len: u32,
    pub(super) hole: u32,
    pub(super) table: u64,
    pub(super) table_len: u64,
    pub(super) control: u64,
    pub(super) control_len: u64,
    pub(super) flags: u32,
    pub(super) end: u32,
}

const _: () = {
    assert!(size_of::<Header>() == size_of::<libc::msghdr>());
    assert!(align_of::<Header>() == align_of::<libc::msghdr>());
    assert!(offset_of!(Header, name) == offset_of!(libc::msghdr, msg_name));
    assert!(offset_of!(Header, name_len) == offset_of!(libc::msghdr, msg_namelen));
    assert!(offset_of!(Header, table) == offset_of!(libc::msghdr, msg_iov));
    assert!(offset_of!(Header, table_len) == offset_of!(libc::msghdr, msg_iovlen));
    assert!(offset_of!(Header, control) == offset_of!(libc::msghdr, msg_control));
    assert!(offset_of!(Header, control_len) == offset_of!(libc::msghdr, msg_controllen));
    assert!(offset_of!(Header, flags) == offset_of!(libc::msghdr, msg_flags));
};

impl Header {
    pub(in crate::op) const EMPTY: Self = Self {
        name: 0,
        name_len: 0,
        hole: 0,
        table: 0,
        table_len: 0,
        control: 0,
        control_len: 0,
        flags: 0,
        end: 0,
    };

    /// A header for the buffers of `table`, and nothing else.
    #[inline]
    pub(super) fn of(table: &[IoVec]) -> Self {
        let start = table.as_ptr().expose_provenance() as u64;
        Self { table: start, table_len: table.len() as u64, ..Self::EMPTY }
    }

    /// A header that says only how much room there is for an address and control data.
    pub(in crate::op) fn room(name_len: u32, control: u32) -> Self {
        Self { name_len, control_len: control.into(), ..Self::EMPTY }
    }

    /// Writes `self` to `place`, for the kernel, and returns the address.
    #[inline]
    pub(in crate::op) fn put(self, place: &mut Self) -> u64 {
        *place = self;
        (&raw mut *place).expose_provenance() as u64
    }
}
