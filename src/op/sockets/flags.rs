//! How to send and to receive: the flags `MSG_*` that make sense in a ring.
//!
//! | type | for |
//! |---|---|
//! | [`SendFlags`] | everything that sends |
//! | [`RecvFlags`] | a receive into buffers of its own |
//! | [`ProvidedFlags`] | a receive into buffers that the kernel selects |
//!
//! Leaves to others: the operations (`stream` and others).

use std::ops::BitOr;

/// How to send: flags, combined with `|`.
///
/// A closed connection is always an error (`EPIPE`), and never a signal: `MSG_NOSIGNAL` is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SendFlags(u32);

impl SendFlags {
    /// More data follows soon: wait for it before making a packet (`MSG_MORE`).
    pub const MORE: Self = Self(libc::MSG_MORE.cast_unsigned());
    /// Complete only when everything is sent, or on an error: no short sends (`MSG_WAITALL`). Since
    /// Linux 5.19; ignored before. If a part was sent before the error, the count is reported if
    /// the kernel knows it: see [`RecvFlags::WAIT_ALL`].
    pub const WAIT_ALL: Self = Self(libc::MSG_WAITALL.cast_unsigned());
    /// Fail with `EAGAIN` instead of waiting for room (`MSG_DONTWAIT`).
    pub const DONT_WAIT: Self = Self(libc::MSG_DONTWAIT.cast_unsigned());
    /// The last byte is urgent (`MSG_OOB`).
    pub const OUT_OF_BAND: Self = Self(libc::MSG_OOB.cast_unsigned());
    /// Send only to hosts on a directly connected network (`MSG_DONTROUTE`).
    pub const DONT_ROUTE: Self = Self(libc::MSG_DONTROUTE.cast_unsigned());
    /// The peer is known to be reachable, because it has answered (`MSG_CONFIRM`).
    pub const CONFIRM: Self = Self(libc::MSG_CONFIRM.cast_unsigned());
    /// End a record, for sockets that have records (`MSG_EOR`).
    pub const END_OF_RECORD: Self = Self(libc::MSG_EOR.cast_unsigned());
    /// Connect a TCP socket to the address of the message, and send the bytes with the first packet
    /// (`MSG_FASTOPEN`): for [`SendTo`](crate::op::SendTo) and [`SendMsg`](crate::op::SendMsg). See
    /// `net.ipv4.tcp_fastopen` in `ip-sysctl`.
    #[doc(alias = "MSG_FASTOPEN")]
    pub const FAST_OPEN: Self = Self(libc::MSG_FASTOPEN.cast_unsigned());

    /// The bits that the kernel sees.
    #[inline]
    pub(crate) fn bits(self) -> u32 {
        self.0 | libc::MSG_NOSIGNAL.cast_unsigned()
    }
}

impl BitOr for SendFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// How to receive: flags, combined with `|`.
///
/// `MSG_TRUNC` is left out: with it the kernel counts bytes that it did not write. To learn the
/// length of a datagram that was cut, use [`with_length`](crate::op::RecvMsg::with_length).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecvFlags(u32);

impl RecvFlags {
    /// Leave the data in the socket, for the next receive (`MSG_PEEK`).
    pub const PEEK: Self = Self(libc::MSG_PEEK.cast_unsigned());
    /// Complete only when the buffer is full, at the end, or on an error (`MSG_WAITALL`). Since
    /// Linux 5.18; before, it may complete with less.
    ///
    /// When it fails or is cancelled after a part of the bytes has arrived, it completes with that
    /// part. Debian's Linux 5.10 is an exception: there the received bytes are lost. The same
    /// happens there to a [forced](crate::op::Op::forced) operation: it fails with `EAGAIN` where
    /// one that was not forced would wait.
    pub const WAIT_ALL: Self = Self(libc::MSG_WAITALL.cast_unsigned());
    /// Fail with `EAGAIN` instead of waiting for data (`MSG_DONTWAIT`).
    pub const DONT_WAIT: Self = Self(libc::MSG_DONTWAIT.cast_unsigned());
    /// Receive the urgent byte (`MSG_OOB`).
    pub const OUT_OF_BAND: Self = Self(libc::MSG_OOB.cast_unsigned());
    /// Receive from the queue of errors (`MSG_ERRQUEUE`): with
    /// [`RecvMsg`](crate::op::RecvMsg) and a [`MsgHeader`](crate::op::MsgHeader), whose control
    /// data tells the error. Unlike `recvmsg(2)` it waits for one (seen on 6.18); with
    /// [`DONT_WAIT`](Self::DONT_WAIT) it ends with `EAGAIN` when there is none.
    #[doc(alias = "MSG_ERRQUEUE")]
    pub const ERROR_QUEUE: Self = Self(libc::MSG_ERRQUEUE.cast_unsigned());

    /// The bits that the kernel sees.
    #[inline]
    pub(crate) fn bits(self) -> u32 {
        self.0
    }
}

impl BitOr for RecvFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// How to receive into provided buffers: flags, combined with `|`.
///
/// `MSG_WAITALL` and `MSG_PEEK` are left out. A receive that has selected a buffer and waits for
/// more bytes would have that buffer counted, and so offered, twice (seen up to Linux 7.3). A
/// receive that leaves the data in the socket would deliver it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProvidedFlags(u32);

impl ProvidedFlags {
    /// Fail with `EAGAIN` instead of waiting for data (`MSG_DONTWAIT`).
    pub const DONT_WAIT: Self = Self(libc::MSG_DONTWAIT.cast_unsigned());
    /// Receive the urgent byte (`MSG_OOB`).
    pub const OUT_OF_BAND: Self = Self(libc::MSG_OOB.cast_unsigned());

    /// The bits that the kernel sees.
    #[inline]
    pub(crate) fn bits(self) -> u32 {
        self.0
    }
}

impl BitOr for ProvidedFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}
