//! What a new socket is for: its address family, and its type.
//!
//! | | stream | datagram |
//! |---|---|---|
//! | `V4`, `V6` | TCP | UDP |
//! | `UNIX` | bytes within this machine | datagrams within this machine |
//!
//! Leaves to others: making the socket (`net`).

use std::net;

/// The address family of a socket (`AF_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Domain(pub i32);

impl Domain {
    /// IPv4.
    pub const V4: Self = Self(libc::AF_INET);
    /// IPv6; and IPv4 too, unless [`ONLY_V6`](crate::op::SocketOption::ONLY_V6) is set.
    pub const V6: Self = Self(libc::AF_INET6);
    /// Within this machine.
    pub const UNIX: Self = Self(libc::AF_UNIX);

    /// The family of an address.
    pub fn of(address: &net::SocketAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// The type of a socket (`SOCK_*`, without the flags).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SocketKind(pub(super) u8);

impl SocketKind {
    /// A stream of bytes: TCP, unless the protocol says otherwise.
    pub const STREAM: Self = Self(1);
    /// Datagrams: UDP, unless the protocol says otherwise.
    pub const DATAGRAM: Self = Self(2);
    /// Packets below any protocol.
    pub const RAW: Self = Self(3);
    /// Datagrams in order, over a connection.
    pub const SEQUENCED: Self = Self(5);
}

const _: () = {
    assert!(libc::SOCK_STREAM == 1);
    assert!(libc::SOCK_DGRAM == 2);
    assert!(libc::SOCK_RAW == 3);
    assert!(libc::SOCK_SEQPACKET == 5);
};
