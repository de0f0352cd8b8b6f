//! Commands: what a file's own code knows to do, beside reading and writing.
//!
//! ```text
//!   entry of 64 bytes    │ opcode fd off: the command's number │ .. │ addr3 pad2: 16 bytes of it │
//!   entry of 128 bytes   │ the same                            │ .. │ 16 │ 64 more: 80 bytes     │
//! ```
//!
//! | entry | to | `off` | `addr` | `file_index` | `addr3` |
//! |---|---|---|---|---|---|
//! | [`uring_cmd`], [`uring_cmd_wide`], [`uring_cmd128`] | any driver that takes commands: NVMe, ublk | number | – | – | the command |
//! | [`cmd_sock`] | a socket | which | level, name | length | value |
//! | [`cmd_getsockname`] | a socket | 5 | address | whose | its length |
//! | [`cmd_discard`] | a block device | 0x1200 | offset | – | bytes |
//! | [`cmd_zone_reset_all`] | a zoned block device | 0x1201 | – | – | – |
//!
//! What a command's bytes mean is between the caller and the driver, and so is what memory they
//! name: there is no safe operation for them but those on [sockets](crate::op::command).

use annulus_sys::abi::{Sqe, Sqe128};
use annulus_sys::flags::{BlockUringCmd, SocketUringOp, UringCmdFlags};
use annulus_sys::opcode::Opcode;

/// `IORING_OP_URING_CMD`: hands the driver of `fd` the command `number`, and its 16 bytes. `FIXED`
/// names a registered buffer in `buf_index`, and `MULTISHOT` a group of buffers there. Since Linux
/// 5.19; `EOPNOTSUPP` from a file that knows no commands.
#[doc(alias = "io_uring_prep_uring_cmd")]
#[inline]
pub fn uring_cmd(fd: i32, number: u32, flags: UringCmdFlags, command: [u8; 16]) -> Sqe {
    let (opcode, off, op_flags) = (Opcode::URING_CMD, u64::from(number), flags.bits());
    let mut sqe = Sqe { opcode, fd, off, op_flags, ..Sqe::ZERO };
    sqe.set_cmd(command);
    sqe
}

/// `IORING_OP_URING_CMD` with 80 bytes, for a ring with `SQE128`: what NVMe and ublk want. Since
/// Linux 5.19.
#[doc(alias = "io_uring_prep_uring_cmd")]
#[inline]
pub fn uring_cmd_wide(fd: i32, number: u32, flags: UringCmdFlags, command: [u8; 80]) -> Sqe128 {
    let first = uring_cmd(fd, number, flags, [0; 16]);
    let mut sqe = Sqe128 { first, ..Sqe128::ZERO };
    sqe.set_cmd(command);
    sqe
}

/// `IORING_OP_URING_CMD128`: as [`uring_cmd_wide`], for a ring with `SQE_MIXED`, where the opcode
/// says that the entry has 128 bytes. Since Linux 6.19.
#[doc(alias = "io_uring_prep_uring_cmd128")]
#[inline]
pub fn uring_cmd128(fd: i32, number: u32, flags: UringCmdFlags, command: [u8; 80]) -> Sqe128 {
    let Sqe128 { first, rest } = uring_cmd_wide(fd, number, flags, command);
    Sqe128 { first: Sqe { opcode: Opcode::URING_CMD128, ..first }, rest }
}

/// `IORING_OP_URING_CMD` to a socket: `command` says what. An option is of `level` and has a
/// `name`; its value is the `len` bytes at `value`. The other commands look at none of these. Since
/// Linux 6.5; options since Linux 6.7.
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

/// `IORING_OP_URING_CMD` with `GETSOCKNAME`: writes a socket's address to `address`, and its length
/// to the u32 at `address_len`, which says first how much room there is. `whose` is 0 for our end,
/// and 1 for the peer's. Since Linux 6.19.
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

/// `IORING_OP_URING_CMD` with `DISCARD`: gives up the `len` bytes at `offset` of a block device,
/// whatever is written there, as `ioctl(BLKDISCARD)`. Both are multiples of the device's sector.
/// Since Linux 6.12.
#[doc(alias = "io_uring_prep_cmd_discard")]
#[inline]
pub fn cmd_discard(fd: i32, offset: u64, len: u64) -> Sqe {
    let (opcode, off) = (Opcode::URING_CMD, u64::from(BlockUringCmd::DISCARD.0));
    Sqe { opcode, fd, off, addr: offset, addr3: len, ..Sqe::ZERO }
}

/// `IORING_OP_URING_CMD` with `ZONE_RESET_ALL`: resets every zone of a zoned block device, whatever
/// is written there, as `ioctl(BLKRESETZONE)` of all. `EINVAL` or `EOPNOTSUPP` from others, and
/// before Linux 7.3.
#[doc(alias = "io_uring_prep_cmd_zone_reset_all")]
#[inline]
pub fn cmd_zone_reset_all(fd: i32) -> Sqe {
    let (opcode, off) = (Opcode::URING_CMD, u64::from(BlockUringCmd::ZONE_RESET_ALL.0));
    Sqe { opcode, fd, off, ..Sqe::ZERO }
}
