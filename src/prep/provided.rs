//! Provided buffers, one by one, as they worked before buffer rings.
//!
//! ```text
//!   provide_buffers ─► list of the group ─ the kernel selects one ─► a completion names it
//!         ▲                  └─ remove_buffers ─► forgotten                  │
//!         └──────────────────────────── again, for each ─────────────────────┘
//! ```
//!
//! A buffer ring ([`Ring::buf_ring`](crate::Ring::buf_ring), Linux 5.19) does the same, without an
//! operation for each buffer that is provided again. A group is one or the other.

use annulus_sys::abi::Sqe;
use annulus_sys::opcode::Opcode;

/// `IORING_OP_PROVIDE_BUFFERS`: adds `count` adjacent buffers of `len` bytes each, starting at
/// `addr`, to `group`. Requests select buffers from the group, and completions name them by number:
/// `first`, `first + 1`, and so on. Since Linux 5.7.
///
/// Fails with `E2BIG` for more than 65535 buffers, and with `EINVAL` if the group is a buffer ring.
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

/// `IORING_OP_REMOVE_BUFFERS`: removes up to `count` buffers from `group`, oldest first. The result
/// is how many it removed. Since Linux 5.7.
///
/// Fails with `ENOENT` if the group never existed.
#[doc(alias = "io_uring_prep_remove_buffers")]
#[inline]
pub fn remove_buffers(count: u32, group: u16) -> Sqe {
    let (opcode, fd) = (Opcode::REMOVE_BUFFERS, count.cast_signed());
    Sqe { opcode, fd, buf_index: group, ..Sqe::ZERO }
}
