//! Sending and receiving without a copy.

use annulus_sys::abi::Sqe;
use annulus_sys::flags::RecvSendFlags;
use annulus_sys::opcode::Opcode;

use super::{Entry, MULTISHOT, UseFixed, address, address_len, on};

/// Receives again and again, where the network card put the data. Since Linux 6.15.
#[derive(Debug)]
pub struct RecvZc(Sqe);

impl RecvZc {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::RECV_ZC.0;

    /// `len` bytes in all; 0 means without an end.
    #[inline]
    pub fn new(fd: impl UseFixed, len: u32) -> Self {
        Self(Sqe { len, ioprio: MULTISHOT, ..on(Opcode::RECV_ZC, fd) })
    }

    /// The id of the receive queue.
    #[inline]
    pub const fn ifq(mut self, ifq: u32) -> Self {
        self.0.file_index = ifq;
        self
    }

    /// Additional `IORING_RECVSEND_*`.
    #[inline]
    pub const fn ioprio(mut self, ioprio: u16) -> Self {
        self.0.ioprio = ioprio | MULTISHOT;
        self
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

/// Sends without a copy. A second completion, a [notification](super::super::cqueue::notif), says
/// that the buffer is free. Since Linux 6.0.
#[derive(Debug)]
pub struct SendZc {
    sqe: Sqe,
    buf_index: Option<u16>,
}

impl SendZc {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::SEND_ZC.0;

    /// Up to `len` bytes from `buf`.
    #[inline]
    pub fn new(fd: impl UseFixed, buf: *const u8, len: u32) -> Self {
        let sqe = Sqe { addr: address(buf), len, ..on(Opcode::SEND_ZC, fd) };
        Self { sqe, buf_index: None }
    }

    /// The registered buffer in which the bytes lie.
    #[inline]
    pub const fn buf_index(mut self, buf_index: Option<u16>) -> Self {
        self.buf_index = buf_index;
        self
    }

    /// The address to send to.
    #[inline]
    pub fn dest_addr(mut self, dest_addr: *const libc::sockaddr) -> Self {
        self.sqe.off = address(dest_addr);
        self
    }

    /// The length of that address.
    #[inline]
    pub const fn dest_addr_len(mut self, dest_addr_len: libc::socklen_t) -> Self {
        self.sqe.file_index = address_len(dest_addr_len);
        self
    }

    /// `MSG_*`.
    #[inline]
    pub const fn flags(mut self, flags: i32) -> Self {
        self.sqe.op_flags = flags.cast_unsigned();
        self
    }

    /// `IORING_RECVSEND_*` and `IORING_SEND_ZC_*`.
    #[inline]
    pub const fn zc_flags(mut self, zc_flags: u16) -> Self {
        self.sqe.ioprio = zc_flags;
        self
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(from_registered(self.sqe, self.buf_index))
    }
}

/// Sends a message without a copy. A second completion, a
/// [notification](super::super::cqueue::notif), says that the buffers are free. Since Linux 6.1.
#[derive(Debug)]
pub struct SendMsgZc {
    sqe: Sqe,
    buf_index: Option<u16>,
}

impl SendMsgZc {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::SENDMSG_ZC.0;

    /// The message that `msg` describes.
    #[inline]
    pub fn new(fd: impl UseFixed, msg: *const libc::msghdr) -> Self {
        let sqe = Sqe { addr: address(msg), len: 1, ..on(Opcode::SENDMSG_ZC, fd) };
        Self { sqe, buf_index: None }
    }

    /// `IORING_RECVSEND_*` and `IORING_SEND_ZC_*`.
    #[inline]
    pub const fn ioprio(mut self, ioprio: u16) -> Self {
        self.sqe.ioprio = ioprio;
        self
    }

    /// `MSG_*`.
    #[inline]
    pub const fn flags(mut self, flags: u32) -> Self {
        self.sqe.op_flags = flags;
        self
    }

    /// The registered buffer in which the parts of the message lie. Since Linux 6.15.
    #[inline]
    pub const fn buf_index(mut self, buf_index: Option<u16>) -> Self {
        self.buf_index = buf_index;
        self
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(from_registered(self.sqe, self.buf_index))
    }
}

/// A send from a registered buffer, if there is one.
#[inline]
fn from_registered(sqe: Sqe, buf_index: Option<u16>) -> Sqe {
    match buf_index {
        Some(buf_index) => {
            Sqe { buf_index, ioprio: sqe.ioprio | RecvSendFlags::FIXED_BUF.bits(), ..sqe }
        }
        None => sqe,
    }
}
