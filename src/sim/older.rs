//! What entries ask for that came later than their operation, each with its first release.
//!
//! | of an entry that asks for more than a release knows | |
//! |---|---|
//! | a flag that came later (`FLAGS`) | is refused with `EINVAL` |
//! | a selected buffer where none could be selected | is refused with `EOPNOTSUPP` |
//! | a field that was not looked at before a release (`UNREAD`) | has no effect |
//!
//! Read from the sources of Linux 5.10, 5.16, 6.1, 6.12 and 6.18, and for flags from its headers.
//! Two fields that were not looked at are refused nevertheless: the flags of a `NOP` before 6.10,
//! as stable releases refuse them, and the place of a `CLOSE` before 5.15, which would close
//! descriptor 0.

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
    /// Whether there is an address to send to (1).
    Address,
    /// The command of a message.
    Command,
}

use Field::{Address, Command, Entry, Len, OpFlags, Place, Priority};

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
const FLAGS: [(Opcode, Field, u32, &str); 35] = [
    (Opcode::NOP, OpFlags, NopFlags::INJECT_RESULT.bits(), "6.10"),
    (Opcode::NOP, OpFlags, LOOK_UPS, "6.13"),
    (Opcode::NOP, OpFlags, NopFlags::TW.bits(), "6.16"),
    (Opcode::NOP, OpFlags, NopFlags::CQE32.bits(), "6.18"),
    (Opcode::POLL_ADD, Len, PollFlags::ADD_MULTI.bits(), "5.13"),
    (Opcode::POLL_REMOVE, Len, UPDATES, "5.13"),
    (Opcode::TIMEOUT, OpFlags, CLOCKS, "5.15"),
    (Opcode::TIMEOUT, OpFlags, TimeoutFlags::ETIME_SUCCESS.bits(), "5.16"),
    (Opcode::TIMEOUT, OpFlags, TimeoutFlags::MULTISHOT.bits(), "6.4"),
    (Opcode::LINK_TIMEOUT, OpFlags, CLOCKS, "5.15"),
    (Opcode::LINK_TIMEOUT, OpFlags, TimeoutFlags::ETIME_SUCCESS.bits(), "5.16"),
    (Opcode::TIMEOUT_REMOVE, OpFlags, TimeoutFlags::UPDATE.bits(), "5.11"),
    (Opcode::TIMEOUT_REMOVE, OpFlags, TimeoutFlags::LINK_UPDATE.bits(), "5.15"),
    (Opcode::ASYNC_CANCEL, OpFlags, CANCELS, "5.19"),
    (Opcode::ASYNC_CANCEL, OpFlags, CancelFlags::FD_FIXED.bits(), "6.0"),
    (Opcode::ASYNC_CANCEL, OpFlags, BY_OPCODE, "6.6"),
    (Opcode::MSG_RING, Command, u32::MAX, "6.0"),
    (Opcode::MSG_RING, OpFlags, MsgRingFlags::CQE_SKIP.bits(), "6.0"),
    (Opcode::MSG_RING, OpFlags, MsgRingFlags::FLAGS_PASS.bits(), "6.3"),
    (Opcode::ACCEPT, Priority, AcceptFlags::MULTISHOT.bits() as u32, "5.19"),
    (Opcode::ACCEPT, Place, ANYWHERE, "5.19"),
    (Opcode::RECV, Priority, POLL_FIRST, "5.19"),
    (Opcode::RECV, Priority, MULTISHOT, "6.0"),
    (Opcode::RECV, Priority, BUNDLE, "6.10"),
    (Opcode::RECVMSG, Priority, POLL_FIRST, "5.19"),
    (Opcode::RECVMSG, Priority, MULTISHOT, "6.0"),
    (Opcode::SEND, Priority, POLL_FIRST, "5.19"),
    (Opcode::SEND, Priority, BUNDLE, "6.10"),
    (Opcode::SEND, Entry, SELECTS, "6.10"),
    (Opcode::SEND, Address, 1, "6.1"),
    (Opcode::SENDMSG, Priority, POLL_FIRST, "5.19"),
    (Opcode::SENDMSG_ZC, Priority, FIXED, "6.15"),
    (Opcode::OPENAT, Place, ANYWHERE, "5.19"),
    (Opcode::OPENAT2, Place, ANYWHERE, "5.19"),
    (Opcode::CLOSE, Place, u32::MAX, "5.15"),
];

/// Fields that a release does not look at before this one.
const UNREAD: [(Opcode, Field, &str); 8] = [
    (Opcode::RECV, Priority, "5.19"),
    (Opcode::RECVMSG, Priority, "5.19"),
    (Opcode::SEND, Priority, "5.19"),
    (Opcode::SENDMSG, Priority, "5.19"),
    (Opcode::SEND, Address, "5.18"),
    (Opcode::ACCEPT, Place, "5.15"),
    (Opcode::OPENAT, Place, "5.15"),
    (Opcode::OPENAT2, Place, "5.15"),
];

/// What a kernel reads of an entry, and the error with which it refuses it, if it does.
pub(super) fn read_by(release: Release, sqe: Sqe) -> (Sqe, Option<i32>) {
    if release == Release::NEWEST {
        return (sqe, sqe.opcode.since().is_none().then_some(libc::EINVAL));
    }
    let sqe = as_read(release, sqe);
    let skips = sqe.flags.contains(SqeFlags::CQE_SKIP_SUCCESS);
    if !release.has(sqe.opcode.since()) || (skips && release.is_before(5, 17)) {
        return (sqe, Some(libc::EINVAL));
    }
    let is_unknown = |&(opcode, field, flags, since): &(Opcode, Field, u32, &str)| {
        opcode == sqe.opcode && asked(&sqe, field) & flags != 0 && !release.has(Some(since))
    };
    let refused = FLAGS.iter().find(|row| is_unknown(row));
    let errno = refused.map(|row| if row.1 == Entry { libc::EOPNOTSUPP } else { libc::EINVAL });
    (sqe, errno)
}

/// The entry, without what a kernel does not look at.
fn as_read(release: Release, mut sqe: Sqe) -> Sqe {
    for (opcode, field, since) in UNREAD {
        if opcode != sqe.opcode || release.has(Some(since)) {
            continue;
        }
        match field {
            Priority => sqe.ioprio = 0,
            Place => sqe.file_index = 0,
            Address => (sqe.off, sqe.file_index) = (0, 0),
            OpFlags | Len | Entry | Command => unreachable!("no such row"),
        }
    }
    sqe
}

/// What an entry says in a field.
fn asked(sqe: &Sqe, field: Field) -> u32 {
    match field {
        OpFlags => sqe.op_flags,
        Len => sqe.len,
        Priority => u32::from(sqe.ioprio),
        Entry => u32::from(sqe.flags.bits()),
        Place => sqe.file_index,
        Address => u32::from(sqe.off != 0),
        Command => u32::from(sqe.addr != 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kind, name, value, release.
    const CONSTANTS: &str = include_str!("../../tests/data/constants.tsv");

    fn number(release: &str) -> (u16, u16) {
        let (major, minor) = release.split_once('.').expect("two numbers");
        (major.parse().expect("a number"), minor.parse().expect("a number"))
    }

    /// The single flags of a kind: each with its bit and its release.
    fn flags(kind: &str) -> Vec<(&str, u32, &str)> {
        let rows = CONSTANTS.lines().map(|line| line.split('\t').collect::<Vec<_>>());
        let rows = rows.filter(|row| row[0] == kind);
        let flag = |row: Vec<&'static str>| {
            let value = u32::from_str_radix(row[2].strip_prefix("0x")?, 16).expect("a number");
            value.is_power_of_two().then_some((row[1], value, row[3]))
        };
        rows.filter_map(flag).collect()
    }

    /// The kind of flags in a field.
    fn kind(opcode: Opcode, field: Field) -> Option<&'static str> {
        match (opcode, field) {
            (Opcode::NOP, OpFlags) => Some("nop_flag"),
            (Opcode::POLL_ADD | Opcode::POLL_REMOVE, Len) => Some("poll_flag"),
            (Opcode::ASYNC_CANCEL, OpFlags) => Some("cancel_flag"),
            (Opcode::MSG_RING, OpFlags) => Some("msg_ring_flag"),
            (Opcode::ACCEPT, Priority) => Some("accept_ioprio_flag"),
            (_, Priority) => Some("recvsend_ioprio_flag"),
            (_, OpFlags) => Some("timeout_flag"),
            _ => None,
        }
    }

    #[test]
    fn each_flag_has_the_release_that_the_headers_give_it() {
        // Flags that an operation took later than another one had them.
        let later = [(Opcode::SENDMSG_ZC, "IORING_RECVSEND_FIXED_BUF")];
        for (opcode, field, bits, since) in FLAGS {
            let Some(kind) = kind(opcode, field) else { continue };
            let of_row: Vec<_> = flags(kind).into_iter().filter(|it| it.1 & bits != 0).collect();
            assert!(!of_row.is_empty(), "{opcode:?} {bits:#x}");
            assert_eq!(of_row.iter().fold(0, |all, flag| all | flag.1), bits, "{opcode:?}");
            for (name, _, release) in of_row {
                let is_later = later.contains(&(opcode, name));
                assert_eq!(release == since, !is_later, "{opcode:?} {name}: {release}");
                assert!(number(release) <= number(since), "{opcode:?} {name}: {release}");
            }
        }
    }

    #[test]
    fn each_flag_that_is_younger_than_its_operation_has_a_row() {
        // Those that no entry may have on the simulated kernel, of any release.
        let unknown = ["IORING_POLL_ADD_LEVEL", "IORING_TIMEOUT_IMMEDIATE_ARG"];
        for (opcode, field) in [
            (Opcode::NOP, OpFlags),
            (Opcode::TIMEOUT, OpFlags),
            (Opcode::ASYNC_CANCEL, OpFlags),
            (Opcode::MSG_RING, OpFlags),
        ] {
            let kind = kind(opcode, field).expect("a kind");
            for (name, bit, since) in flags(kind) {
                let oldest = number(opcode.since().expect("known")).max((5, 10));
                let is_younger = number(since) > oldest;
                let mut rows = FLAGS.iter().filter(|row| row.2 & bit != 0 && row.1 == field);
                let is_of = |row: &(Opcode, Field, u32, &str)| {
                    // The updates of timeouts are another operation.
                    row.0 == opcode || (opcode, row.0) == (Opcode::TIMEOUT, Opcode::TIMEOUT_REMOVE)
                };
                let has_row = unknown.contains(&name) || rows.any(is_of);
                assert!(!is_younger || has_row, "{opcode:?} {name}, {since}");
            }
        }
    }

    #[test]
    fn no_row_is_older_than_its_operation() {
        let younger = |opcode: Opcode, since| {
            let of_operation = opcode.since().expect("known");
            assert!(number(since) > number(of_operation), "{opcode:?} {since}");
        };
        FLAGS.iter().for_each(|&(opcode, _, _, since)| younger(opcode, since));
        UNREAD.iter().for_each(|&(opcode, _, since)| younger(opcode, since));
    }
}
