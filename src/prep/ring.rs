//! Operations on requests and rings: timeouts, polls, cancels, messages.
//!
//! | entry | `fd` | `addr` | `off` | `len` | `op_flags` |
//! |---|---|---|---|---|---|
//! | [`timeout`] | –1 | address of a timespec | completions to wait for | 1 | flags |
//! | [`link_timeout`] | –1 | address of a timespec | 0 | 1 | flags |
//! | [`timeout_remove`] | –1 | target | 0 | 0 | 0 |
//! | [`timeout_update`] | –1 | target | address of a timespec | 0 | flags |
//! | [`poll_add`], [`poll_multishot`] | file | 0 | 0 | flags | events |
//! | [`poll_remove`], [`poll_update`] | –1 | target | new `user_data` | flags | events |
//! | [`cancel`], [`cancel_opcode`] | –1 | target | 0 | opcode | flags |
//! | [`cancel_fd`] | file | 0 | 0 | 0 | flags |
//! | [`msg_ring`], [`msg_ring_flags`] | ring | 0 | `user_data` | result | flags |
//! | [`msg_ring_fd`], [`msg_ring_fd_alloc`] | ring | 1 | `user_data` | 0 | flags |
//!
//! The target of an entry is another request, named by its `user_data`. If several requests have
//! that `user_data`, the kernel takes the first.
//!
//! Leaves to others: which request has which `user_data`.

use annulus_sys::abi::Sqe;
use annulus_sys::flags::{
    CancelFlags, CqeFlags, FILE_INDEX_ALLOC, MsgRingCmd, MsgRingFlags, PollFlags, TimeoutFlags,
};
use annulus_sys::opcode::Opcode;

/// `IORING_OP_TIMEOUT`: completes with `ETIME` when the time in the `Timespec` at `addr` is up, or
/// with 0 if `count` is not 0 and `count` other requests complete first. With `MULTISHOT`, `count`
/// says how often the timeout fires; 0 means forever. Since Linux 5.4.
#[doc(alias = "io_uring_prep_timeout")]
#[inline]
pub fn timeout(addr: u64, count: u32, flags: TimeoutFlags) -> Sqe {
    Sqe {
        opcode: Opcode::TIMEOUT,
        fd: -1,
        off: u64::from(count),
        addr,
        len: 1,
        op_flags: flags.bits(),
        ..Sqe::ZERO
    }
}

/// `IORING_OP_LINK_TIMEOUT`: cancels the request that it is linked to when the time in the
/// `Timespec` at `addr` is up. Since Linux 5.5.
#[doc(alias = "io_uring_prep_link_timeout")]
#[inline]
pub fn link_timeout(addr: u64, flags: TimeoutFlags) -> Sqe {
    Sqe { opcode: Opcode::LINK_TIMEOUT, fd: -1, addr, len: 1, op_flags: flags.bits(), ..Sqe::ZERO }
}

/// `IORING_OP_TIMEOUT_REMOVE`: cancels the timeout that has this `user_data`. Since Linux 5.5.
#[doc(alias = "io_uring_prep_timeout_remove")]
#[inline]
pub fn timeout_remove(user_data: u64) -> Sqe {
    Sqe { opcode: Opcode::TIMEOUT_REMOVE, fd: -1, addr: user_data, ..Sqe::ZERO }
}

/// `IORING_OP_TIMEOUT_REMOVE` with `UPDATE`: changes the time of the timeout that has this
/// `user_data` to the `Timespec` at `addr`. The timeout keeps its clock. `flags` may contain `ABS`,
/// and `LINK_UPDATE` (Linux 5.15) to change a link timeout. Since Linux 5.11.
#[doc(alias = "io_uring_prep_timeout_update")]
#[inline]
pub fn timeout_update(user_data: u64, addr: u64, flags: TimeoutFlags) -> Sqe {
    Sqe {
        opcode: Opcode::TIMEOUT_REMOVE,
        fd: -1,
        off: addr,
        addr: user_data,
        op_flags: flags.union(TimeoutFlags::UPDATE).bits(),
        ..Sqe::ZERO
    }
}

/// `IORING_OP_POLL_ADD`: completes when one of `events` (such as `POLLIN`) is ready. Since Linux
/// 5.1; events above the lower sixteen bits since Linux 5.9.
#[doc(alias = "io_uring_prep_poll_add")]
#[inline]
pub fn poll_add(fd: i32, events: u32) -> Sqe {
    Sqe { opcode: Opcode::POLL_ADD, fd, op_flags: events, ..Sqe::ZERO }
}

/// `IORING_OP_POLL_ADD` with `ADD_MULTI`: completes each time one of `events` becomes ready. Since
/// Linux 5.13.
#[doc(alias = "io_uring_prep_poll_multishot")]
#[inline]
pub fn poll_multishot(fd: i32, events: u32) -> Sqe {
    Sqe { len: PollFlags::ADD_MULTI.bits(), ..poll_add(fd, events) }
}

/// `IORING_OP_POLL_REMOVE`: cancels the poll that has this `user_data`. Since Linux 5.1.
#[doc(alias = "io_uring_prep_poll_remove")]
#[inline]
pub fn poll_remove(user_data: u64) -> Sqe {
    Sqe { opcode: Opcode::POLL_REMOVE, fd: -1, addr: user_data, ..Sqe::ZERO }
}

/// `IORING_OP_POLL_REMOVE` with an update: makes the poll that has this `user_data` wait for
/// `events` from now on (`UPDATE_EVENTS`), or changes its `user_data` to `new`
/// (`UPDATE_USER_DATA`). Since Linux 5.13.
#[doc(alias = "io_uring_prep_poll_update")]
#[inline]
pub fn poll_update(user_data: u64, new: u64, events: u32, flags: PollFlags) -> Sqe {
    Sqe { off: new, len: flags.bits(), op_flags: events, ..poll_remove(user_data) }
}

/// `IORING_OP_ASYNC_CANCEL`: cancels a request that has this `user_data`. Since Linux 5.5.
#[doc(alias = "io_uring_prep_cancel64")]
#[inline]
pub fn cancel_user_data(user_data: u64) -> Sqe {
    cancel(user_data, CancelFlags::empty())
}

/// `IORING_OP_ASYNC_CANCEL`: cancels the requests that `flags` select. `user_data` matters only if
/// `flags` match by `user_data`. Since Linux 5.5; flags since Linux 5.19.
#[doc(alias = "io_uring_prep_cancel64")]
#[inline]
pub fn cancel(user_data: u64, flags: CancelFlags) -> Sqe {
    Sqe {
        opcode: Opcode::ASYNC_CANCEL,
        fd: -1,
        addr: user_data,
        op_flags: flags.bits(),
        ..Sqe::ZERO
    }
}

/// `IORING_OP_ASYNC_CANCEL` with `FD`: cancels a request on the file behind `fd`, or all of them
/// with `ALL`. Since Linux 5.19.
#[doc(alias = "io_uring_prep_cancel_fd")]
#[inline]
pub fn cancel_fd(fd: i32, flags: CancelFlags) -> Sqe {
    Sqe { fd, ..cancel(0, flags.union(CancelFlags::FD)) }
}

/// `IORING_OP_ASYNC_CANCEL` with `OP`: cancels a request with this `opcode`, or all of them with
/// `ALL`. Since Linux 6.6. Linux 6.0 to 6.5 ignore the flag, and cancel the request that has this
/// `user_data` instead.
#[doc(alias = "IORING_ASYNC_CANCEL_OP")]
#[inline]
pub fn cancel_opcode(opcode: Opcode, user_data: u64, flags: CancelFlags) -> Sqe {
    Sqe { len: u32::from(opcode.0), ..cancel(user_data, flags.union(CancelFlags::OP)) }
}

/// `IORING_OP_MSG_RING`: posts a completion with this `user_data` and `result` to the ring `fd`.
/// Since Linux 5.18.
#[doc(alias = "io_uring_prep_msg_ring")]
#[inline]
pub fn msg_ring(fd: i32, result: u32, user_data: u64) -> Sqe {
    Sqe { opcode: Opcode::MSG_RING, fd, len: result, off: user_data, ..Sqe::ZERO }
}

/// `IORING_OP_MSG_RING` with `FLAGS_PASS`: posts a completion with this `user_data`, `result` and
/// `cqe_flags` to the ring `fd`. Since Linux 6.3.
#[doc(alias = "io_uring_prep_msg_ring_cqe_flags")]
#[inline]
pub fn msg_ring_flags(
    fd: i32,
    result: u32,
    user_data: u64,
    flags: MsgRingFlags,
    cqe_flags: CqeFlags,
) -> Sqe {
    Sqe {
        op_flags: flags.union(MsgRingFlags::FLAGS_PASS).bits(),
        file_index: cqe_flags.bits(),
        ..msg_ring(fd, result, user_data)
    }
}

/// `IORING_OP_MSG_RING` with `SEND_FD`: copies the registered file `source` of this ring into slot
/// `target` of the file table of the ring `fd`. Unless `flags` contain `CQE_SKIP`, also posts a
/// completion with this `user_data` and a result of 0 there. `EOVERFLOW` means that the file
/// arrived and the completion did not. Since Linux 6.0.
#[doc(alias = "io_uring_prep_msg_ring_fd")]
#[inline]
pub fn msg_ring_fd(fd: i32, source: u32, target: u32, user_data: u64, flags: MsgRingFlags) -> Sqe {
    // The kernel counts slots from 1 here; 0 means no slot.
    Sqe { file_index: target.wrapping_add(1), ..msg_ring_fd_alloc(fd, source, user_data, flags) }
}

/// Like [`msg_ring_fd`], into a slot of the table that the kernel chooses. The results of both
/// completions are the slot's index. Since Linux 6.0.
#[doc(alias = "io_uring_prep_msg_ring_fd_alloc")]
#[inline]
pub fn msg_ring_fd_alloc(fd: i32, source: u32, user_data: u64, flags: MsgRingFlags) -> Sqe {
    Sqe {
        addr: MsgRingCmd::SEND_FD.0,
        op_flags: flags.bits(),
        file_index: FILE_INDEX_ALLOC,
        addr3: source.into(),
        ..msg_ring(fd, 0, user_data)
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::golden;
    use super::*;

    const TIMESPEC: u64 = 0x7f00_4010_2000;
    const WORD: u64 = 0x0102_0304_0000_2110;

    #[test]
    fn timeouts_are_written_as_liburing_does() {
        let flags = TimeoutFlags::from_bits_retain;
        let made = timeout(TIMESPEC, 0x3220, flags(0x4c00));
        assert_eq!(made, golden("io_uring_prep_timeout"));
        let linked = link_timeout(TIMESPEC, flags(0x4800));
        assert_eq!(linked, golden("io_uring_prep_link_timeout"));
        // The kernel takes no flags there.
        let removed = Sqe { op_flags: 0x4800, ..timeout_remove(WORD) };
        assert_eq!(removed, golden("io_uring_prep_timeout_remove"));
        let updated = timeout_update(0x0102_0304_0000_2220, TIMESPEC, flags(0x4c00));
        assert_eq!(updated, golden("io_uring_prep_timeout_update"));
    }

    #[test]
    fn polls_are_written_as_liburing_does() {
        assert_eq!(poll_add(0x3110, 0x3220), golden("io_uring_prep_poll_add"));
        assert_eq!(poll_multishot(0x3110, 0x3220), golden("io_uring_prep_poll_multishot"));
        let flags = PollFlags::from_bits_retain(0x3440);
        let updated = poll_update(WORD, 0x0102_0304_0000_2220, 0x3330, flags);
        assert_eq!(updated, golden("io_uring_prep_poll_update"));
        let nothing = PollFlags::empty();
        assert_eq!(poll_remove(WORD), poll_update(WORD, 0, 0, nothing));
    }

    #[test]
    fn cancels_and_messages_are_written_as_liburing_does() {
        let flags = CancelFlags::from_bits_retain(0x4800);
        assert_eq!(cancel(WORD, flags), golden("io_uring_prep_cancel64"));
        assert_eq!(cancel_user_data(WORD), Sqe { op_flags: 0, ..cancel(WORD, flags) });
        // The kernel reads the opcode from a field where no liburing helper puts one.
        let (fd, opcode) = (cancel_fd(7, flags), cancel_opcode(Opcode::READ, WORD, flags));
        assert_eq!((fd.fd, fd.addr, fd.op_flags), (7, 0, 0x4802));
        assert_eq!((opcode.len, opcode.addr, opcode.op_flags), (22, WORD, 0x4820));
        let sent = msg_ring(0x3110, 0x3220, 0x0102_0304_0000_2330);
        let sent = Sqe { op_flags: 0x5002, file_index: 0x3550, ..sent };
        assert_eq!(sent, golden("io_uring_prep_msg_ring_cqe_flags"));
    }
}
