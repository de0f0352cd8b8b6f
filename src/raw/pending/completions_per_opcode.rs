//! How many completions a request of each opcode has: the decision for whoever adds an opcode.
//!
//! | completions | which |
//! |---|---|
//! | one | nearly all |
//! | any number, until the last | with a multishot flag, and those that are always multishot |
//! | one, and a notification | zero-copy sends |
//! | none, or others than its own | commands, messages to a ring, `CQE_SKIP_SUCCESS` |
//!
//! Decided by name, for each of [`Opcode::ALL`]: a test holds the decisions, and fails until a new
//! opcode has one.

use annulus_sys::abi::Sqe;
use annulus_sys::flags::{AcceptFlags, PollFlags, RecvSendFlags, SqeFlags, TimeoutFlags};
use annulus_sys::opcode::Opcode;

/// Whether a request may end without a completion, or cause one that is not its own.
#[inline]
pub(super) fn may_surprise(sqe: &Sqe) -> bool {
    // Commands do as the driver likes; and a ring may send a message to itself.
    let surprising = [Opcode::URING_CMD, Opcode::URING_CMD128, Opcode::MSG_RING];
    sqe.flags.contains(SqeFlags::CQE_SKIP_SUCCESS) || surprising.contains(&sqe.opcode)
}

/// Whether a request may complete more than once.
#[inline]
pub(super) fn may_repeat(sqe: &Sqe) -> bool {
    match sqe.opcode {
        Opcode::POLL_ADD => sqe.len & PollFlags::ADD_MULTI.bits() != 0,
        Opcode::ACCEPT => sqe.ioprio & AcceptFlags::MULTISHOT.bits() != 0,
        Opcode::RECV | Opcode::RECVMSG => sqe.ioprio & RecvSendFlags::RECV_MULTISHOT.bits() != 0,
        Opcode::TIMEOUT => sqe.op_flags & TimeoutFlags::MULTISHOT.bits() != 0,
        Opcode::READ_MULTISHOT | Opcode::RECV_ZC => true,
        // One completion for the result, and later the zero-copy notification.
        Opcode::SEND_ZC | Opcode::SENDMSG_ZC => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many completions a request of an opcode has.
    #[derive(Debug, Clone, Copy)]
    enum Completes {
        /// One.
        Once,
        /// One; any number if the entry has this flag.
        RepeatsIf(Flag),
        /// Any number.
        Repeats,
        /// One with the result, and one with the notification that the memory is free.
        WithNotification,
        /// None, or others than its own.
        Surprises,
    }

    /// A flag that makes a request multishot, in the field where it stands.
    #[derive(Debug, Clone, Copy)]
    enum Flag {
        Len(u32),
        IoPrio(u16),
        OpFlags(u32),
    }

    impl Flag {
        fn set(self, sqe: Sqe) -> Sqe {
            match self {
                Self::Len(len) => Sqe { len, ..sqe },
                Self::IoPrio(ioprio) => Sqe { ioprio, ..sqe },
                Self::OpFlags(op_flags) => Sqe { op_flags, ..sqe },
            }
        }
    }

    const ACCEPTS: Flag = Flag::IoPrio(AcceptFlags::MULTISHOT.bits());
    const RECEIVES: Flag = Flag::IoPrio(RecvSendFlags::RECV_MULTISHOT.bits());
    const POLLS: Flag = Flag::Len(PollFlags::ADD_MULTI.bits());
    const EXPIRES: Flag = Flag::OpFlags(TimeoutFlags::MULTISHOT.bits());

    /// The decision on each opcode, by name. Not derived from `may_repeat` and `may_surprise`: it
    /// is what they are compared with.
    #[rustfmt::skip]
    const DECISIONS: &[(Completes, &[Opcode])] = &[
        (Completes::Once, &[
            Opcode::NOP, Opcode::READV, Opcode::WRITEV, Opcode::FSYNC, Opcode::READ_FIXED,
            Opcode::WRITE_FIXED, Opcode::POLL_REMOVE, Opcode::SYNC_FILE_RANGE, Opcode::SENDMSG,
            Opcode::TIMEOUT_REMOVE, Opcode::ASYNC_CANCEL, Opcode::LINK_TIMEOUT, Opcode::CONNECT,
            Opcode::FALLOCATE, Opcode::OPENAT, Opcode::CLOSE, Opcode::FILES_UPDATE, Opcode::STATX,
            Opcode::READ, Opcode::WRITE, Opcode::FADVISE, Opcode::MADVISE, Opcode::SEND,
            Opcode::OPENAT2, Opcode::EPOLL_CTL, Opcode::SPLICE, Opcode::PROVIDE_BUFFERS,
            Opcode::REMOVE_BUFFERS, Opcode::TEE, Opcode::SHUTDOWN, Opcode::RENAMEAT,
            Opcode::UNLINKAT, Opcode::MKDIRAT, Opcode::SYMLINKAT, Opcode::LINKAT,
            Opcode::FSETXATTR, Opcode::SETXATTR, Opcode::FGETXATTR, Opcode::GETXATTR,
            Opcode::SOCKET, Opcode::WAITID, Opcode::FUTEX_WAIT, Opcode::FUTEX_WAKE,
            Opcode::FUTEX_WAITV, Opcode::FIXED_FD_INSTALL, Opcode::FTRUNCATE, Opcode::BIND,
            Opcode::LISTEN, Opcode::EPOLL_WAIT, Opcode::READV_FIXED, Opcode::WRITEV_FIXED,
            Opcode::PIPE, Opcode::NOP128,
        ]),
        (Completes::RepeatsIf(POLLS), &[Opcode::POLL_ADD]),
        (Completes::RepeatsIf(EXPIRES), &[Opcode::TIMEOUT]),
        (Completes::RepeatsIf(ACCEPTS), &[Opcode::ACCEPT]),
        (Completes::RepeatsIf(RECEIVES), &[Opcode::RECV, Opcode::RECVMSG]),
        (Completes::Repeats, &[Opcode::READ_MULTISHOT, Opcode::RECV_ZC]),
        (Completes::WithNotification, &[Opcode::SEND_ZC, Opcode::SENDMSG_ZC]),
        (Completes::Surprises, &[Opcode::URING_CMD, Opcode::URING_CMD128, Opcode::MSG_RING]),
    ];

    #[test]
    fn how_often_each_opcode_completes_is_decided_by_name() {
        for &opcode in Opcode::ALL {
            let decided = DECISIONS.iter().filter(|(_, opcodes)| opcodes.contains(&opcode));
            let &[(completes, _)] = &decided.collect::<Vec<_>>()[..] else {
                panic!(
                    "{opcode:?}: decide how often it completes, in one row of DECISIONS; if that \
                     is not once, also in `may_repeat` or `may_surprise`. Otherwise a wait for \
                     its second completion is refused"
                );
            };
            let plain = Sqe { opcode, ..Sqe::ZERO };
            let (flagged, repeats, surprises) = match *completes {
                Completes::Once => (plain, [false, false], false),
                Completes::RepeatsIf(flag) => (flag.set(plain), [false, true], false),
                Completes::Repeats | Completes::WithNotification => (plain, [true, true], false),
                Completes::Surprises => (plain, [false, false], true),
            };
            let noted = [&plain, &flagged].map(may_repeat);
            assert_eq!(noted, repeats, "{opcode:?} in `may_repeat`: {completes:?}");
            assert_eq!(may_surprise(&plain), surprises, "{opcode:?} in `may_surprise`");
            let skips = Sqe { flags: SqeFlags::CQE_SKIP_SUCCESS, ..plain };
            assert!(may_surprise(&skips), "{opcode:?} may skip its completion");
        }
    }
}
