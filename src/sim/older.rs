//! What entries ask for that came later than their operation: flags, each with its first release.
//!
//! A kernel that is older refuses such an entry with `EINVAL`, as one that has a flag that it does
//! not know.

use annulus_sys::abi::Sqe;
use annulus_sys::flags::{
    AcceptFlags, CancelFlags, MsgRingFlags, NopFlags, PollFlags, RecvSendFlags, SqeFlags,
    TimeoutFlags,
};
use annulus_sys::opcode::Opcode;

use super::release::Release;

/// In which field of an entry flags lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    OpFlags,
    Len,
    Priority,
    /// The flags of the entry.
    Entry,
    /// The place of a table for a new file.
    Place,
    /// Whether there is an address (1).
    Address,
}

use Field::{Address, Entry, Len, OpFlags, Place, Priority};

const CANCELS: u32 = CancelFlags::ALL.union(CancelFlags::FD).union(CancelFlags::ANY).bits();
const BY_OPCODE: u32 = CancelFlags::USERDATA.union(CancelFlags::OP).bits();
const CLOCKS: u32 = TimeoutFlags::BOOTTIME.union(TimeoutFlags::REALTIME).bits();
const UPDATES: u32 = PollFlags::UPDATE_EVENTS.union(PollFlags::UPDATE_USER_DATA).bits();
const LOOK_UPS: u32 =
    NopFlags::FILE.union(NopFlags::FIXED_FILE).union(NopFlags::FIXED_BUFFER).bits();
const SELECTS: u32 = SqeFlags::BUFFER_SELECT.bits() as u32;
const POLL_FIRST: u32 = RecvSendFlags::POLL_FIRST.bits() as u32;
const MULTISHOT: u32 = RecvSendFlags::RECV_MULTISHOT.bits() as u32;
const FIXED: u32 = RecvSendFlags::FIXED_BUF.bits() as u32;
const BUNDLE: u32 = RecvSendFlags::BUNDLE.bits() as u32;
const ANYWHERE: u32 = 1 << 31;

/// Flags that came later than the operation.
const FLAGS: [(Opcode, Field, u32, &str); 33] = [
    (Opcode::NOP, OpFlags, NopFlags::INJECT_RESULT.bits(), "6.10"),
    (Opcode::NOP, OpFlags, LOOK_UPS, "6.13"),
    (Opcode::NOP, OpFlags, NopFlags::TW.bits(), "6.17"),
    (Opcode::NOP, OpFlags, NopFlags::CQE32.bits(), "6.18"),
    (Opcode::POLL_ADD, Len, PollFlags::ADD_MULTI.bits(), "5.13"),
    (Opcode::POLL_REMOVE, Len, UPDATES, "5.13"),
    (Opcode::TIMEOUT, OpFlags, CLOCKS, "5.15"),
    (Opcode::TIMEOUT, OpFlags, TimeoutFlags::ETIME_SUCCESS.bits(), "5.16"),
    (Opcode::TIMEOUT, OpFlags, TimeoutFlags::MULTISHOT.bits(), "6.4"),
    (Opcode::LINK_TIMEOUT, OpFlags, CLOCKS, "5.15"),
    (Opcode::TIMEOUT_REMOVE, OpFlags, TimeoutFlags::UPDATE.bits(), "5.11"),
    (Opcode::TIMEOUT_REMOVE, OpFlags, TimeoutFlags::LINK_UPDATE.bits(), "5.15"),
    (Opcode::ASYNC_CANCEL, OpFlags, CANCELS, "5.19"),
    (Opcode::ASYNC_CANCEL, OpFlags, CancelFlags::FD_FIXED.bits(), "6.0"),
    (Opcode::ASYNC_CANCEL, OpFlags, BY_OPCODE, "6.6"),
    (Opcode::MSG_RING, OpFlags, MsgRingFlags::CQE_SKIP.bits(), "6.0"),
    (Opcode::MSG_RING, OpFlags, MsgRingFlags::FLAGS_PASS.bits(), "6.3"),
    (Opcode::ACCEPT, Priority, AcceptFlags::MULTISHOT.bits() as u32, "5.19"),
    (Opcode::RECV, Priority, POLL_FIRST, "5.19"),
    (Opcode::RECV, Priority, MULTISHOT, "6.0"),
    (Opcode::RECV, Priority, BUNDLE, "6.10"),
    (Opcode::RECVMSG, Priority, POLL_FIRST, "5.19"),
    (Opcode::RECVMSG, Priority, MULTISHOT, "6.0"),
    (Opcode::SEND, Priority, POLL_FIRST, "5.19"),
    (Opcode::SEND, Priority, BUNDLE, "6.10"),
    (Opcode::SEND, Entry, SELECTS, "6.10"),
    (Opcode::SEND, Address, 1, "6.2"),
    (Opcode::SENDMSG, Priority, POLL_FIRST, "5.19"),
    (Opcode::SENDMSG_ZC, Priority, FIXED, "6.15"),
    (Opcode::OPENAT, Place, u32::MAX, "5.15"),
    (Opcode::OPENAT, Place, ANYWHERE, "5.19"),
    (Opcode::OPENAT2, Place, u32::MAX, "5.15"),
    (Opcode::OPENAT2, Place, ANYWHERE, "5.19"),
];

/// Whether a kernel knows everything that an entry asks for.
pub(super) fn knows(release: Release, sqe: &Sqe) -> bool {
    let skips = sqe.flags.contains(SqeFlags::CQE_SKIP_SUCCESS);
    if !release.has(sqe.opcode.since()) || (skips && release.is_before(5, 17)) {
        return false;
    }
    FLAGS.iter().filter(|row| row.0 == sqe.opcode).all(|&(_, field, flags, since)| {
        let asked = match field {
            OpFlags => sqe.op_flags,
            Len => sqe.len,
            Priority => u32::from(sqe.ioprio),
            Entry => u32::from(sqe.flags.bits()),
            Place => sqe.file_index,
            Address => u32::from(sqe.off != 0),
        };
        asked & flags == 0 || release.has(Some(since))
    })
}
