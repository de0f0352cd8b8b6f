//! Entries that move bytes from file to file.

use std::os::fd::RawFd;

use annulus_sys::abi::Sqe;
use annulus_sys::flags::SpliceFlags;
use annulus_sys::opcode::Opcode;

use super::Job;

/// What a splice moves, and from where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sim) struct Splice {
    pub(in crate::sim) from: RawFd,
    /// Whether that is a place of the table.
    pub(in crate::sim) is_fixed: bool,
    /// Where in the files; `None` for the position.
    pub(in crate::sim) from_offset: Option<u64>,
    pub(in crate::sim) to_offset: Option<u64>,
    pub(in crate::sim) len: usize,
    pub(in crate::sim) waits: bool,
    /// Whether the bytes also stay where they were (`TEE`).
    pub(in crate::sim) copies: bool,
}

pub(super) fn splice(sqe: &Sqe) -> Result<Job, i32> {
    let copies = sqe.opcode == Opcode::TEE;
    let fixed = SpliceFlags::FD_IN_FIXED.bits();
    let all =
        libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK | libc::SPLICE_F_MORE | libc::SPLICE_F_GIFT;
    let is_odd = sqe.op_flags & !(fixed | all) != 0 || sqe.ioprio != 0;
    if is_odd || (copies && (sqe.off != 0 || sqe.addr != 0)) {
        return Err(libc::EINVAL);
    }
    let offset = |offset: u64| (offset != u64::MAX && !copies).then_some(offset);
    Ok(Job::Splice(Splice {
        from: sqe.file_index.cast_signed(),
        is_fixed: sqe.op_flags & fixed != 0,
        from_offset: offset(sqe.addr),
        to_offset: offset(sqe.off),
        len: sqe.len as usize,
        waits: sqe.op_flags & libc::SPLICE_F_NONBLOCK == 0,
        copies,
    }))
}
