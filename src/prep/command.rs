//! Commands: operations that a driver defines for its own files, besides reading and writing.
//!
//! ```text
//!   entry of 64 bytes   │ opcode fd off: command number │ .. │ addr3 pad2: 16 bytes of command  │
//!   entry of 128 bytes  │ opcode fd off: command number │ .. │ 16 + 64 more: 80 bytes of command │
//! ```
//!
//! | entry | file | `off` | `addr` | `file_index` | `addr3` |
//! |---|---|---|---|---|---|
//! | [`uring_cmd`], [`uring_cmd_wide`], [`uring_cmd128`] | of any driver that takes commands: NVMe, ublk | command number | – | – | command bytes |
//! | [`cmd_sock`] | socket | command number | option level and name | length of the value | address of the value |
//! | [`cmd_getsockname`] | socket | 5 | address | 0: own, 1: peer | address of the length |
//! | [`cmd_discard`] | block device | 0x1200 | offset | – | length |
//! | [`cmd_zone_reset_all`] | zoned block device | 0x1201 | – | – | – |
//!
//! The driver defines what the bytes of a command mean, and which memory they point to. So the only
//! commands that have a safe operation are those for [sockets](crate::op::sockets::command).

use annulus_sys::abi::{Sqe, Sqe128};
use annulus_sys::flags::{BlockUringCmd, SocketUringOp, UringCmdFlags};
use annulus_sys::opcode::Opcode;

/// `IORING_OP_URING_CMD`: sends the command `number`, with 16 bytes of payload, to the driver of
/// `fd`. With `FIXED`, `buf_index` names a registered buffer; with `MULTISHOT`, a buffer group.
/// Since Linux 5.19. Fails with `EOPNOTSUPP` if the file takes no commands.
#[doc(alias = "io_uring_prep_uring_cmd")]
#[inline]
pub fn uring_cmd(fd: i32, number: u32, flags: UringCmdFlags, command: [u8; 16]) -> Sqe {
    let (opcode, off, op_flags) = (Opcode::URING_CMD, u64::from(number), flags.bits());
    let mut sqe = Sqe { opcode, fd, off, op_flags, ..Sqe::ZERO };
    sqe.set_cmd(command);
    sqe
}

/// `IORING_OP_URING_CMD` with 80 bytes of payload, for a ring with `SQE128`. NVMe and ublk need
/// this form. Since Linux 5.19.
#[doc(alias = "io_uring_prep_uring_cmd")]
#[inline]
pub fn uring_cmd_wide(fd: i32, number: u32, flags: UringCmdFlags, command: [u8; 80]) -> Sqe128 {
    let first = uring_cmd(fd, number, flags, [0; 16]);
    let mut sqe = Sqe128 { first, ..Sqe128::ZERO };
    sqe.set_cmd(command);
    sqe
}

/// `IORING_OP_URING_CMD128`: like [`uring_cmd_wide`], for a ring with `SQE_MIXED`, where the opcode
/// says that the entry has 128 bytes. Since Linux 6.19.
#[doc(alias = "io_uring_prep_uring_cmd128")]
#[inline]
pub fn uring_cmd128(fd: i32, number: u32, flags: UringCmdFlags, command: [u8; 80]) -> Sqe128 {
    let Sqe128 { first, rest } = uring_cmd_wide(fd, number, flags, command);
    Sqe128 { first: Sqe { opcode: Opcode::URING_CMD128, ..first }, rest }
}

/// `IORING_OP_URING_CMD` to a socket. `command` selects the command. To get or set an option,
/// `level` and `name` name the option, and its value is the `len` bytes at `value`; the other
/// commands ignore these arguments. Since Linux 6.5; options since Linux 6.7.
#[doc(alias = "io_uring_prep_cmd_sock")]
#[inline]
pub fn cmd_sock(
    fd: i32,
    command: SocketUringOp,
    level: u32,
    name: u32,
    value: u64,
    len: u32,
) -> Sqe {
    Sqe {
        opcode: Opcode::URING_CMD,
        fd,
        off: u64::from(command.0),
        addr: u64::from(level) | u64::from(name) << 32,
        file_index: len,
        addr3: value,
        ..Sqe::ZERO
    }
}

/// `IORING_OP_URING_CMD` with `GETSOCKNAME`: writes a socket's address to `address` and its length
/// to the u32 at `address_len`. That u32 must first hold the space at `address`, in bytes. `whose`
/// is 0 for the local address and 1 for the peer's. Since Linux 6.19.
#[doc(alias = "io_uring_prep_cmd_getsockname")]
#[inline]
pub fn cmd_getsockname(fd: i32, address: u64, address_len: u64, whose: u32) -> Sqe {
    let off = u64::from(SocketUringOp::GETSOCKNAME.0);
    Sqe {
        opcode: Opcode::URING_CMD,
        fd,
        off,
        addr: address,
        file_index: whose,
        addr3: address_len,
        ..Sqe::ZERO
    }
}

/// `IORING_OP_URING_CMD` with `DISCARD`: discards `len` bytes at `offset` of a block device, and
/// the data in them, like `ioctl(BLKDISCARD)`. Both must be multiples of the device's sector size.
/// Since Linux 6.12.
#[doc(alias = "io_uring_prep_cmd_discard")]
#[inline]
pub fn cmd_discard(fd: i32, offset: u64, len: u64) -> Sqe {
    let (opcode, off) = (Opcode::URING_CMD, u64::from(BlockUringCmd::DISCARD.0));
    Sqe { opcode, fd, off, addr: offset, addr3: len, ..Sqe::ZERO }
}

/// `IORING_OP_URING_CMD` with `ZONE_RESET_ALL`: resets every zone of a zoned block device, which
/// discards all of its data, like `ioctl(BLKRESETZONE)` on all zones. Fails with `EINVAL` or
/// `EOPNOTSUPP` on other devices, and before Linux 7.3.
#[doc(alias = "io_uring_prep_cmd_zone_reset_all")]
#[inline]
pub fn cmd_zone_reset_all(fd: i32) -> Sqe {
    let (opcode, off) = (Opcode::URING_CMD, u64::from(BlockUringCmd::ZONE_RESET_ALL.0));
    Sqe { opcode, fd, off, ..Sqe::ZERO }
}
