//! Buffers that are provided one by one, as before there were rings of buffers.
//!
//! ```text
//!   provide_buffers ─► list of the group ─ the kernel takes the first ─► a completion names it
//!         ▲                  └─ remove_buffers ─► forgotten                     │
//!         └──────────────────────────── again, for each ────────────────────────┘
//! ```
//!
//! A ring of buffers ([`Ring::buf_ring`](crate::Ring::buf_ring), Linux 5.19) does the same without
//! an operation for each buffer that is offered again. A group is one or the other.

use annulus_sys::abi::Sqe;
use annulus_sys::opcode::Opcode;

/// `IORING_OP_PROVIDE_BUFFERS`: offers `count` buffers of `len` bytes, side by side from `addr`, to
/// requests that pick from `group`; completions name them `first`, `first + 1`, and so on. Since
/// Linux 5.7.
///
/// More than 65535 buffers are refused with `E2BIG`, and with `EINVAL` a group that is a ring of
/// buffers.
#[doc(alias = "io_uring_prep_provide_buffers")]
#[inline]
pub fn provide_buffers(addr: u64, len: u32, count: u32, group: u16, first: u16) -> Sqe {
    Sqe {
        opcode: Opcode::PROVIDE_BUFFERS,
        fd: count.cast_signed(),
        off: u64::from(first),
        addr,
        len,
        buf_index: group,
        ..Sqe::ZERO
    }
}

/// `IORING_OP_REMOVE_BUFFERS`: takes up to `count` buffers of `group` back, oldest first, and
/// completes with how many those were. Since Linux 5.7.
///
/// `ENOENT` for a group that never was.
#[doc(alias = "io_uring_prep_remove_buffers")]
#[inline]
pub fn remove_buffers(count: u32, group: u16) -> Sqe {
    let (opcode, fd) = (Opcode::REMOVE_BUFFERS, count.cast_signed());
    Sqe { opcode, fd, buf_index: group, ..Sqe::ZERO }
}
