//! Control messages that are sent along with a message: each says one thing about it.
//!
//! | constructor | control message | says |
//! |---|---|---|
//! | [`source`](SendControl::source) | `IP_PKTINFO`, `IPV6_PKTINFO` | from which address, through which device |
//! | [`segment_size`](SendControl::segment_size) | `UDP_SEGMENT` | how to cut it into datagrams |
//! | [`type_of_service`](SendControl::type_of_service) | `IP_TOS` | class and ECN bits, IPv4 |
//! | [`traffic_class`](SendControl::traffic_class) | `IPV6_TCLASS` | class and ECN bits, IPv6 |
//! | [`time_to_live`](SendControl::time_to_live) | `IP_TTL` | how many hops it may make, IPv4 |
//! | [`hop_limit`](SendControl::hop_limit) | `IPV6_HOPLIMIT` | how many hops it may make, IPv6 |
//! | [`send_time`](SendControl::send_time) | `SCM_TXTIME` | when to send it |
//! | [`mark`](SendControl::mark) | `SO_MARK` | a number for routing and filters |
//! | [`new`](SendControl::new) | others | |
//!
//! Some control messages name descriptors of the process (`SCM_RIGHTS`), buffers that are bound to
//! a device (`SCM_DEVMEM_DMABUF`), or addresses of memory that the kernel then reads or writes (all
//! of `SOL_RDS`). Safe code must not make such a name from a number. So there is a closed list of
//! levels and types. The kernel copies control data before it looks at it, and takes the data of
//! these for values. A wrong value is an error of the send, or a datagram that goes astray, and
//! nothing else.
//!
//! Leaves to others: descriptors, which have an owner (`MsgHeader::attach`); received control
//! messages (`received`).

use std::fmt;
use std::net::IpAddr;

use super::{HEAD, UDP_SEGMENT, put};

/// The largest data of one control message to send, in bytes.
const MOST_DATA: usize = 128;

/// A control message to send: see [`MsgHeader::add_control`](crate::op::MsgHeader::add_control).
///
/// # Example
///
/// ```
/// use annulus::op::SendControl;
///
/// let small = SendControl::segment_size(1200);
/// // The same, for control messages that have no constructor here.
/// let (sol_udp, udp_segment) = (17, 103);
/// assert_eq!(SendControl::new(sol_udp, udp_segment, &1200_u16.to_ne_bytes())?, small);
///
/// // A number is not made a descriptor here: attach its owner.
/// let (sol_socket, scm_rights) = (1, 1);
/// let refused = SendControl::new(sol_socket, scm_rights, &2_i32.to_ne_bytes());
/// assert!(refused.is_err_and(|why| why.to_string().contains("MsgHeader::attach")));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "cmsg")]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SendControl {
    level: i32,
    kind: i32,
    len: usize,
    data: [u8; MOST_DATA],
}

/// Why a control message cannot be sent.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// Control messages of this level and type may name descriptors or memory.
    #[error(
        "a control message of level {level} and type {kind} may name descriptors or memory, or is \
         unknown: attach descriptors with `MsgHeader::attach`, and send others through the raw API"
    )]
    Refused {
        /// The level.
        level: i32,
        /// The type.
        kind: i32,
    },
    /// Its data has more than 128 bytes.
    #[error("the control message has {len} bytes of data: it may have 128")]
    TooLong {
        /// The size of the data in bytes.
        len: usize,
    },
    /// The control messages of one message take more room than there is.
    #[error(
        "there is no room for this control message: those of one message may take 248 bytes, which \
         are 16 for each, and its data rounded up to a multiple of 8. Send fewer of them"
    )]
    NoRoom,
}

/// Contains the text, so that a `?` in `main` prints cause and cure.
impl fmt::Debug for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ControlError({self})")
    }
}

impl SendControl {
    /// Sends from this address of the machine, instead of one that the kernel chooses
    /// (`IP_PKTINFO`, `IPV6_PKTINFO`). To answer from the address that a datagram was sent to, pass
    /// [`PacketInfo::local`](super::received::PacketInfo::local).
    #[doc(alias("IP_PKTINFO", "IPV6_PKTINFO"))]
    pub fn source(address: impl Into<IpAddr>) -> Self {
        Self::source_through(address, 0)
    }

    /// Sends from this address, through the network device with this index; 0 means any. With the
    /// address `0.0.0.0` or `::` only the device is chosen. An address of IPv6 is ignored by a
    /// socket of IPv4; one that is mapped (`::ffff:127.0.0.1`) is used as one of IPv4.
    pub fn source_through(address: impl Into<IpAddr>, interface: u32) -> Self {
        let interface = interface.to_ne_bytes();
        // A mapped address is one of IPv4, also on a socket of IPv6.
        match address.into().to_canonical() {
            IpAddr::V4(v4) => {
                let data = [interface, v4.octets(), [0; 4]];
                Self::of(libc::IPPROTO_IP, libc::IP_PKTINFO, data.as_flattened())
            }
            IpAddr::V6(v6) => {
                let data = [&v6.octets()[..], &interface].concat();
                Self::of(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &data)
            }
        }
    }

    /// Cuts the bytes into datagrams of this many bytes, the last of which may be shorter
    /// (`UDP_SEGMENT`, generic segmentation offload). A datagram must fit into a packet of the
    /// device; all of them together have at most 65,507 bytes, and are at most 64, or 128 on later
    /// kernels. 0 sends one datagram, even where the socket has such an option.
    #[doc(alias("UDP_SEGMENT", "GSO"))]
    pub fn segment_size(bytes: u16) -> Self {
        Self::of(libc::IPPROTO_UDP, UDP_SEGMENT, &bytes.to_ne_bytes())
    }

    /// The type of service of an IPv4 packet (`IP_TOS`): six bits of the class (DSCP), then two of
    /// congestion (ECN).
    #[doc(alias("IP_TOS", "ECN", "DSCP"))]
    pub fn type_of_service(value: u8) -> Self {
        Self::int(libc::IPPROTO_IP, libc::IP_TOS, value)
    }

    /// The traffic class of an IPv6 packet (`IPV6_TCLASS`): six bits of the class (DSCP), then two
    /// of congestion (ECN). For a packet that goes to an IPv4 address through an IPv6 socket, use
    /// [`type_of_service`](Self::type_of_service).
    #[doc(alias("IPV6_TCLASS", "ECN", "DSCP"))]
    pub fn traffic_class(value: u8) -> Self {
        Self::int(libc::IPPROTO_IPV6, libc::IPV6_TCLASS, value)
    }

    /// How many hops an IPv4 packet may make, at least 1 (`IP_TTL`).
    #[doc(alias = "IP_TTL")]
    pub fn time_to_live(hops: u8) -> Self {
        Self::int(libc::IPPROTO_IP, libc::IP_TTL, hops)
    }

    /// How many hops an IPv6 packet may make (`IPV6_HOPLIMIT`).
    #[doc(alias = "IPV6_HOPLIMIT")]
    pub fn hop_limit(hops: u8) -> Self {
        Self::int(libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT, hops)
    }

    /// When the packet is to leave (`SCM_TXTIME`), in nanoseconds of the clock that the socket's
    /// option [`SEND_TIME`](crate::op::SocketOption::SEND_TIME) names. Without that option the send
    /// fails with `EINVAL`. The time has an effect only where the device's queue (`qdisc`) is one
    /// that waits, such as `fq` or `etf`.
    #[doc(alias("SCM_TXTIME", "SO_TXTIME"))]
    pub fn send_time(nanoseconds: u64) -> Self {
        Self::of(libc::SOL_SOCKET, libc::SCM_TXTIME, &nanoseconds.to_ne_bytes())
    }

    /// A number that routing and filters use (`SO_MARK`). Needs `CAP_NET_ADMIN` (or
    /// `CAP_NET_RAW`, since Linux 5.17), or else the send fails with `EPERM`.
    #[doc(alias = "SO_MARK")]
    pub fn mark(mark: u32) -> Self {
        Self::of(libc::SOL_SOCKET, libc::SO_MARK, &mark.to_ne_bytes())
    }

    /// The control message of `level` and type `kind` with this data.
    ///
    /// Every type of the levels `IPPROTO_IP`, `IPPROTO_IPV6`, `IPPROTO_UDP`, `IPPROTO_SCTP`,
    /// `SOL_TLS` and `SOL_ALG` is accepted. Of `SOL_SOCKET` these are: `SO_PRIORITY`, `SO_MARK`,
    /// `SO_TIMESTAMPING`, `SCM_TXTIME`, `SCM_TS_OPT_ID`. A send fails with `EINVAL` if the socket
    /// knows the level and not the type, or wants another size of data. A level that it does not
    /// know is passed over: `segment_size` on a TCP connection succeeds and does nothing.
    ///
    /// # Errors
    ///
    /// [`ControlError::Refused`] for others, since they may name descriptors or memory;
    /// [`ControlError::TooLong`].
    pub fn new(level: i32, kind: i32, data: &[u8]) -> Result<Self, ControlError> {
        if !is_value(level, kind) {
            return Err(ControlError::Refused { level, kind });
        }
        if data.len() > MOST_DATA {
            return Err(ControlError::TooLong { len: data.len() });
        }
        Ok(Self::of(level, kind, data))
    }

    /// The level and the type.
    pub(crate) fn name(&self) -> (i32, i32) {
        (self.level, self.kind)
    }

    /// How much of the control data it takes, in bytes.
    pub(crate) fn room(&self) -> usize {
        HEAD + self.len.next_multiple_of(8)
    }

    /// Writes it to `control` at offset `at`, and returns where it ends.
    pub(crate) fn put(&self, control: &mut [u8], at: usize) -> usize {
        put(control, at, (self.level, self.kind), &self.data[..self.len])
    }

    /// A control message whose data is known to fit.
    fn of(level: i32, kind: i32, bytes: &[u8]) -> Self {
        let mut data = [0; MOST_DATA];
        data[..bytes.len()].copy_from_slice(bytes);
        Self { level, kind, len: bytes.len(), data }
    }

    fn int(level: i32, kind: i32, value: u8) -> Self {
        Self::of(level, kind, &i32::from(value).to_ne_bytes())
    }
}

/// `SO_TIMESTAMPING_NEW`.
const TIMESTAMPING_NEW: i32 = 65;
/// `SCM_TS_OPT_ID`.
const TIMESTAMP_ID: i32 = 81;

/// Whether the kernel takes the data of such a control message for a value, as of Linux 7.3.
fn is_value(level: i32, kind: i32) -> bool {
    match level {
        libc::SOL_SOCKET => matches!(
            kind,
            libc::SO_PRIORITY
                | libc::SO_MARK
                | libc::SO_TIMESTAMPING
                | libc::SCM_TXTIME
                | TIMESTAMPING_NEW
                | TIMESTAMP_ID
        ),
        libc::IPPROTO_IP | libc::IPPROTO_IPV6 | libc::IPPROTO_UDP => true,
        libc::IPPROTO_SCTP | libc::SOL_TLS | libc::SOL_ALG => true,
        _ => false,
    }
}

impl fmt::Debug for SendControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { level, kind, len, data } = self;
        let mut fields = f.debug_struct("SendControl");
        fields.field("level", level).field("kind", kind).field("data", &&data[..*len]).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;
    use crate::buf::control::PIDFD;

    #[test]
    fn op3_what_may_name_descriptors_or_memory_is_no_value() {
        const CREDENTIALS: i32 = 2;
        const SECURITY: i32 = 3;
        const DEVMEM: [i32; 2] = [78, 79];
        const RDS: i32 = 276;
        let kinds = [libc::SCM_RIGHTS, CREDENTIALS, SECURITY, PIDFD, 0, -1, i32::MAX];
        for kind in kinds.into_iter().chain(DEVMEM) {
            let refused = SendControl::new(libc::SOL_SOCKET, kind, &[0; 4]);
            assert_eq!(refused, Err(ControlError::Refused { level: libc::SOL_SOCKET, kind }));
        }
        for level in [RDS, -1, 2, 6, 255, i32::MAX, i32::MIN] {
            assert!((0..20).all(|kind| SendControl::new(level, kind, &[]).is_err()), "{level}");
        }
    }

    #[test]
    fn data_fits_or_is_refused() {
        let of = |len: usize| SendControl::new(libc::IPPROTO_IP, 1, &[7; 129][..len]);
        assert_eq!(of(129), Err(ControlError::TooLong { len: 129 }));
        let rooms = [0, 1, 8, 9, 128].map(|len| of(len).map(|control| control.room()));
        assert_eq!(rooms, [16, 24, 24, 32, 144].map(Ok));
    }

    #[test]
    fn sources_have_the_bytes_of_their_structs() {
        let v4 = SendControl::source_through(Ipv4Addr::LOCALHOST, 7);
        let mut control = [9; 32];
        assert_eq!(v4.put(&mut control, 0), 28);
        let head = [28, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0];
        let data = [7, 0, 0, 0, 127, 0, 0, 1, 0, 0, 0, 0, 9, 9, 9, 9];
        assert_eq!(control, [head, data].as_flattened());
        assert_eq!(v4.len, size_of::<libc::in_pktinfo>());
        let mapped = SendControl::source_through(Ipv4Addr::LOCALHOST.to_ipv6_mapped(), 7);
        assert_eq!((mapped.len, mapped.data), (v4.len, v4.data));
        let v6 = SendControl::source(Ipv6Addr::LOCALHOST);
        assert_eq!((v6.len, v6.data[15]), (size_of::<libc::in6_pktinfo>(), 1));
    }
}
