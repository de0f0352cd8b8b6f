//! Sending and receiving.

use annulus_sys::abi::Sqe;
use annulus_sys::opcode::Opcode;

use super::{BUNDLE, Entry, MULTISHOT, UseFixed, address, address_len, on, selecting};

/// Sends, as `send(2)`, or to an address, as `sendto(2)`. Since Linux 5.6.
#[derive(Debug)]
pub struct Send(Sqe);

impl Send {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::SEND.0;

    /// Up to `len` bytes from `buf`.
    #[inline]
    pub fn new(fd: impl UseFixed, buf: *const u8, len: u32) -> Self {
        Self(Sqe { addr: address(buf), len, ..on(Opcode::SEND, fd) })
    }

    /// `IORING_RECVSEND_*`.
    #[inline]
    pub const fn ioprio(mut self, ioprio: u16) -> Self {
        self.0.ioprio = ioprio;
        self
    }

    /// `MSG_*`.
    #[inline]
    pub const fn flags(mut self, flags: i32) -> Self {
        self.0.op_flags = flags.cast_unsigned();
        self
    }

    /// The group from which the kernel selects the buffer, with
    /// [`Flags::BUFFER_SELECT`](super::super::squeue::Flags::BUFFER_SELECT).
    #[inline]
    pub const fn buf_group(mut self, buf_group: u16) -> Self {
        self.0.buf_index = buf_group;
        self
    }

    /// The address to send to. Since Linux 6.0.
    #[inline]
    pub fn dest_addr(mut self, dest_addr: *const libc::sockaddr) -> Self {
        self.0.off = address(dest_addr);
        self
    }

    /// The length of that address.
    #[inline]
    pub const fn dest_addr_len(mut self, dest_addr_len: libc::socklen_t) -> Self {
        self.0.file_index = address_len(dest_addr_len);
        self
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

/// Receives, as `recv(2)`. Since Linux 5.6.
#[derive(Debug)]
pub struct Recv(Sqe);

impl Recv {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::RECV.0;

    /// Up to `len` bytes into `buf`.
    #[inline]
    pub fn new(fd: impl UseFixed, buf: *mut u8, len: u32) -> Self {
        Self(Sqe { addr: address(buf), len, ..on(Opcode::RECV, fd) })
    }

    /// `IORING_RECVSEND_*`.
    #[inline]
    pub const fn ioprio(mut self, ioprio: u16) -> Self {
        self.0.ioprio = ioprio;
        self
    }

    /// `MSG_*`.
    #[inline]
    pub const fn flags(mut self, flags: i32) -> Self {
        self.0.op_flags = flags.cast_unsigned();
        self
    }

    /// The group from which the kernel selects the buffer, with
    /// [`Flags::BUFFER_SELECT`](super::super::squeue::Flags::BUFFER_SELECT).
    #[inline]
    pub const fn buf_group(mut self, buf_group: u16) -> Self {
        self.0.buf_index = buf_group;
        self
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

/// Receives again and again, into buffers that the kernel selects. Since Linux 6.0.
#[derive(Debug)]
pub struct RecvMulti(Sqe);

impl RecvMulti {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::RECV.0;

    /// A completion for each buffer.
    #[inline]
    pub fn new(fd: impl UseFixed, buf_group: u16) -> Self {
        Self(Sqe { ioprio: MULTISHOT, ..selecting(on(Opcode::RECV, fd), buf_group) })
    }

    /// `MSG_*`.
    #[inline]
    pub const fn flags(mut self, flags: i32) -> Self {
        self.0.op_flags = flags.cast_unsigned();
        self
    }

    /// How many bytes one buffer takes at most; 0 means its size.
    #[inline]
    pub const fn len(mut self, len: u32) -> Self {
        self.0.len = len;
        self
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

/// Sends from several buffers that the kernel selects. Since Linux 6.10.
#[derive(Debug)]
pub struct SendBundle(Sqe);

impl SendBundle {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::SEND.0;

    /// Buffers of the group, in their order.
    #[inline]
    pub fn new(fd: impl UseFixed, buf_group: u16) -> Self {
        Self(Sqe { ioprio: BUNDLE, ..selecting(on(Opcode::SEND, fd), buf_group) })
    }

    /// `MSG_*`.
    #[inline]
    pub const fn flags(mut self, flags: i32) -> Self {
        self.0.op_flags = flags.cast_unsigned();
        self
    }

    /// How many bytes at most; 0 means all.
    #[inline]
    pub const fn len(mut self, len: u32) -> Self {
        self.0.len = len;
        self
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

/// Receives into several buffers that the kernel selects. Since Linux 6.10.
#[derive(Debug)]
pub struct RecvBundle(Sqe);

impl RecvBundle {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::RECV.0;

    /// The completion names the first buffer; the result says how many were filled.
    #[inline]
    pub fn new(fd: impl UseFixed, buf_group: u16) -> Self {
        Self(Sqe { ioprio: BUNDLE, ..selecting(on(Opcode::RECV, fd), buf_group) })
    }

    /// `MSG_*`.
    #[inline]
    pub const fn flags(mut self, flags: i32) -> Self {
        self.0.op_flags = flags.cast_unsigned();
        self
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

/// Receives bundles again and again. Since Linux 6.10.
#[derive(Debug)]
pub struct RecvMultiBundle(Sqe);

impl RecvMultiBundle {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::RECV.0;

    /// A completion for each bundle.
    #[inline]
    pub fn new(fd: impl UseFixed, buf_group: u16) -> Self {
        Self(Sqe { ioprio: MULTISHOT | BUNDLE, ..selecting(on(Opcode::RECV, fd), buf_group) })
    }

    /// `MSG_*`.
    #[inline]
    pub const fn flags(mut self, flags: i32) -> Self {
        self.0.op_flags = flags.cast_unsigned();
        self
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

/// Sends a message, as `sendmsg(2)`. Since Linux 5.3.
#[derive(Debug)]
pub struct SendMsg(Sqe);

impl SendMsg {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::SENDMSG.0;

    /// The message that `msg` describes.
    #[inline]
    pub fn new(fd: impl UseFixed, msg: *const libc::msghdr) -> Self {
        Self(Sqe { addr: address(msg), len: 1, ..on(Opcode::SENDMSG, fd) })
    }

    /// `IORING_RECVSEND_*`.
    #[inline]
    pub const fn ioprio(mut self, ioprio: u16) -> Self {
        self.0.ioprio = ioprio;
        self
    }

    /// `MSG_*`.
    #[inline]
    pub const fn flags(mut self, flags: u32) -> Self {
        self.0.op_flags = flags;
        self
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

/// Receives a message, as `recvmsg(2)`. Since Linux 5.3.
#[derive(Debug)]
pub struct RecvMsg(Sqe);

impl RecvMsg {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::RECVMSG.0;

    /// Into what `msg` describes.
    #[inline]
    pub fn new(fd: impl UseFixed, msg: *mut libc::msghdr) -> Self {
        Self(Sqe { addr: address(msg), len: 1, ..on(Opcode::RECVMSG, fd) })
    }

    /// `IORING_RECVSEND_*`.
    #[inline]
    pub const fn ioprio(mut self, ioprio: u16) -> Self {
        self.0.ioprio = ioprio;
        self
    }

    /// `MSG_*`.
    #[inline]
    pub const fn flags(mut self, flags: u32) -> Self {
        self.0.op_flags = flags;
        self
    }

    /// The group from which the kernel selects the buffer, with
    /// [`Flags::BUFFER_SELECT`](super::super::squeue::Flags::BUFFER_SELECT).
    #[inline]
    pub const fn buf_group(mut self, buf_group: u16) -> Self {
        self.0.buf_index = buf_group;
        self
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

/// Receives messages again and again, into buffers that the kernel selects: see
/// [`RecvMsgOut`](super::super::types::RecvMsgOut). Since Linux 6.0.
#[derive(Debug)]
pub struct RecvMsgMulti(Sqe);

impl RecvMsgMulti {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::RECVMSG.0;

    /// `msg` says how much room the name and the control data have.
    #[inline]
    pub fn new(fd: impl UseFixed, msg: *const libc::msghdr, buf_group: u16) -> Self {
        Self(Sqe {
            addr: address(msg),
            len: 1,
            ioprio: MULTISHOT,
            ..selecting(on(Opcode::RECVMSG, fd), buf_group)
        })
    }

    /// Additional `IORING_RECVSEND_*`.
    #[inline]
    pub const fn ioprio(mut self, ioprio: u16) -> Self {
        self.0.ioprio = ioprio | MULTISHOT;
        self
    }

    /// `MSG_*`.
    #[inline]
    pub const fn flags(mut self, flags: u32) -> Self {
        self.0.op_flags = flags;
        self
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}
