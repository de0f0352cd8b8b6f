//! Messages to other rings, and commands of drivers.

use annulus_sys::abi::{Sqe, Sqe128};
use annulus_sys::flags::{MsgRingCmd, MsgRingFlags, UringCmdFlags};
use annulus_sys::opcode::Opcode;

use super::super::types::{DestinationSlot, Fixed, UseFd};
use super::{Entry, Entry128, UseFixed, at, on};

/// Posts a completion on another ring. Since Linux 5.18.
#[derive(Debug)]
pub struct MsgRingData {
    sqe: Sqe,
    user_flags: Option<u32>,
}

impl MsgRingData {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::MSG_RING.0;

    /// With this result and this value; with these flags, since Linux 6.3.
    #[inline]
    pub fn new(ring_fd: impl UseFd, result: i32, user_data: u64, user_flags: Option<u32>) -> Self {
        let sqe = Sqe {
            addr: MsgRingCmd::DATA.0,
            len: result.cast_unsigned(),
            off: user_data,
            ..at(Opcode::MSG_RING, ring_fd.number())
        };
        Self { sqe, user_flags }
    }

    /// `IORING_MSG_RING_*`.
    #[inline]
    pub const fn opcode_flags(mut self, opcode_flags: u32) -> Self {
        self.sqe.op_flags = opcode_flags;
        self
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        let Self { mut sqe, user_flags } = self;
        if let Some(flags) = user_flags {
            sqe.file_index = flags;
            sqe.op_flags |= MsgRingFlags::FLAGS_PASS.bits();
        }
        Entry(sqe)
    }
}

/// Registers a file of ours with another ring. Since Linux 6.0.
#[derive(Debug)]
pub struct MsgRingSendFd(Sqe);

impl MsgRingSendFd {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::MSG_RING.0;

    /// The completion there carries `user_data`.
    #[inline]
    pub fn new(
        ring_fd: impl UseFd,
        fixed_slot_src: Fixed,
        dest_slot_index: DestinationSlot,
        user_data: u64,
    ) -> Self {
        Self(Sqe {
            addr: MsgRingCmd::SEND_FD.0,
            off: user_data,
            addr3: u64::from(fixed_slot_src.0),
            file_index: dest_slot_index.file_index(),
            ..at(Opcode::MSG_RING, ring_fd.number())
        })
    }

    /// `IORING_MSG_RING_*`.
    #[inline]
    pub const fn opcode_flags(mut self, opcode_flags: u32) -> Self {
        self.0.op_flags = opcode_flags;
        self
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

/// A command of the driver behind the file, with 16 bytes of its own.
/// Since Linux 5.19.
#[derive(Debug)]
pub struct UringCmd16 {
    sqe: Sqe,
    buf_index: Option<u16>,
}

impl UringCmd16 {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::URING_CMD.0;

    /// The command `cmd_op`.
    #[inline]
    pub fn new(fd: impl UseFixed, cmd_op: u32) -> Self {
        let sqe = Sqe { off: u64::from(cmd_op), ..on(Opcode::URING_CMD, fd) };
        Self { sqe, buf_index: None }
    }

    /// The registered buffer that the command uses.
    #[inline]
    pub const fn buf_index(mut self, buf_index: Option<u16>) -> Self {
        self.buf_index = buf_index;
        self
    }

    /// The bytes of the command.
    #[inline]
    pub const fn cmd(mut self, cmd: [u8; 16]) -> Self {
        self.sqe.set_cmd(cmd);
        self
    }

    /// The field `addr`, which some commands use.
    #[inline]
    pub const fn addr(mut self, addr: Option<u64>) -> Self {
        self.sqe.addr = match addr {
            Some(addr) => addr,
            None => 0,
        };
        self
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        let Self { sqe, buf_index } = self;
        Entry(with_registered(sqe, buf_index))
    }
}

/// A command of the driver behind the file, with 80 bytes of its own. The ring must have entries of
/// 128 bytes. Since Linux 5.19.
#[derive(Debug)]
pub struct UringCmd80 {
    sqe: Sqe128,
    buf_index: Option<u16>,
}

impl UringCmd80 {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::URING_CMD.0;

    /// The command `cmd_op`.
    #[inline]
    pub fn new(fd: impl UseFixed, cmd_op: u32) -> Self {
        let sqe = Sqe { off: u64::from(cmd_op), ..on(Opcode::URING_CMD, fd) };
        Self { sqe: Sqe128 { first: sqe, rest: [0; 8] }, buf_index: None }
    }

    /// The registered buffer that the command uses.
    #[inline]
    pub const fn buf_index(mut self, buf_index: Option<u16>) -> Self {
        self.buf_index = buf_index;
        self
    }

    /// The bytes of the command.
    #[inline]
    pub fn cmd(mut self, cmd: [u8; 80]) -> Self {
        self.sqe.set_cmd(cmd);
        self
    }

    /// The field `addr`, which some commands use.
    #[inline]
    pub const fn addr(mut self, addr: Option<u64>) -> Self {
        self.sqe.first.addr = match addr {
            Some(addr) => addr,
            None => 0,
        };
        self
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry128 {
        let Self { mut sqe, buf_index } = self;
        sqe.first = with_registered(sqe.first, buf_index);
        Entry128(sqe)
    }
}

/// A command that uses a registered buffer, if there is one.
#[inline]
fn with_registered(sqe: Sqe, buf_index: Option<u16>) -> Sqe {
    match buf_index {
        Some(buf_index) => {
            Sqe { buf_index, op_flags: sqe.op_flags | UringCmdFlags::FIXED.bits(), ..sqe }
        }
        None => sqe,
    }
}
