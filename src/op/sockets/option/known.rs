//! The list of socket options.
//!
//! | value | options |
//! |---|---|
//! | `bool` | `REUSE_ADDRESS`, `NO_DELAY`, `PACKET_INFO`, .. |
//! | `i32` | `SEND_BUFFER`, `KEEP_ALIVE_IDLE`, `SEGMENT_SIZE`, .. |
//! | others | `LINGER`, `PEER`, `SEND_TIMEOUT`, `SEND_TIME`, `CONGESTION_CONTROL` |
//!
//! Leaves to others: values, and which other options safe code may name (`option`).

use std::time::Duration;

use super::{Linger, Name, OptionError, Peer, SendClock, SocketOption};

/// `UDP_SEGMENT`.
const UDP_SEGMENT: i32 = 103;
/// `UDP_GRO`.
const UDP_GRO: i32 = 104;

impl<V> SocketOption<V> {
    const fn socket(name: i32) -> Self {
        Self::of(libc::SOL_SOCKET, name)
    }

    const fn tcp(name: i32) -> Self {
        Self::of(libc::IPPROTO_TCP, name)
    }

    const fn ip(name: i32) -> Self {
        Self::of(libc::IPPROTO_IP, name)
    }

    const fn ipv6(name: i32) -> Self {
        Self::of(libc::IPPROTO_IPV6, name)
    }
}

impl SocketOption<bool> {
    /// The option `name` of `level`, for options that are not listed here and whose value is
    /// 0 or 1. Any name of `IPPROTO_TCP` and `IPPROTO_UDP` is accepted, and most of `IPPROTO_IP`
    /// and `IPPROTO_IPV6`. The kernel refuses a name that is unknown, or whose value has another
    /// size.
    ///
    /// # Errors
    ///
    /// [`OptionError`] for others: the value may name a descriptor (`SO_ATTACH_BPF`) or memory.
    pub fn new(level: u32, name: u32) -> Result<Self, OptionError> {
        Self::checked(level, name)
    }

    /// An address can be bound although earlier connections still use it (`SO_REUSEADDR`).
    pub const REUSE_ADDRESS: Self = Self::socket(libc::SO_REUSEADDR);
    /// Several sockets share one port (`SO_REUSEPORT`).
    pub const REUSE_PORT: Self = Self::socket(libc::SO_REUSEPORT);
    /// Idle connections are probed (`SO_KEEPALIVE`).
    pub const KEEP_ALIVE: Self = Self::socket(libc::SO_KEEPALIVE);
    /// Datagrams may go to a broadcast address (`SO_BROADCAST`).
    pub const BROADCAST: Self = Self::socket(libc::SO_BROADCAST);
    /// Sends only to hosts on a directly connected network (`SO_DONTROUTE`).
    pub const DONT_ROUTE: Self = Self::socket(libc::SO_DONTROUTE);
    /// Urgent bytes arrive in line with the others (`SO_OOBINLINE`).
    pub const OUT_OF_BAND_INLINE: Self = Self::socket(libc::SO_OOBINLINE);
    /// Received messages carry the sender's credentials (`SO_PASSCRED`).
    pub const PASS_CREDENTIALS: Self = Self::socket(libc::SO_PASSCRED);
    /// Received messages carry the time of arrival (`SO_TIMESTAMP`).
    pub const TIMESTAMP: Self = Self::socket(libc::SO_TIMESTAMP);
    /// Enables `MSG_ZEROCOPY` for `send(2)` (`SO_ZEROCOPY`); [`SendZc`](crate::op::SendZc) does not
    /// need it.
    pub const ZERO_COPY: Self = Self::socket(libc::SO_ZEROCOPY);
    /// Whether the socket is a listener (`SO_ACCEPTCONN`). Read-only.
    pub const IS_LISTENER: Self = Self::socket(libc::SO_ACCEPTCONN);
    /// Small packets are sent at once (`TCP_NODELAY`).
    pub const NO_DELAY: Self = Self::tcp(libc::TCP_NODELAY);
    /// Only full packets are sent (`TCP_CORK`).
    pub const CORK: Self = Self::tcp(libc::TCP_CORK);
    /// Received data is acknowledged at once (`TCP_QUICKACK`).
    pub const QUICK_ACK: Self = Self::tcp(libc::TCP_QUICKACK);
    /// An IPv6 socket does not accept IPv4 (`IPV6_V6ONLY`).
    pub const ONLY_V6: Self = Self::ipv6(libc::IPV6_V6ONLY);
    /// Received messages carry the time of arrival, in nanoseconds (`SO_TIMESTAMPNS`).
    pub const TIMESTAMP_NS: Self = Self::socket(libc::SO_TIMESTAMPNS);
    /// Received messages carry how many packets were [dropped](crate::op::Control::dropped)
    /// (`SO_RXQ_OVFL`).
    pub const COUNT_DROPPED: Self = Self::socket(libc::SO_RXQ_OVFL);
    /// Received IPv4 packets carry [where they were sent to](crate::op::Control::packet_info)
    /// (`IP_PKTINFO`).
    pub const PACKET_INFO: Self = Self::ip(libc::IP_PKTINFO);
    /// Received IPv4 packets carry their [type of service](crate::op::Control::type_of_service)
    /// (`IP_RECVTOS`).
    pub const RECEIVE_TYPE_OF_SERVICE: Self = Self::ip(libc::IP_RECVTOS);
    /// Received IPv4 packets carry how many [hops](crate::op::Control::hops_left) they had left
    /// (`IP_RECVTTL`).
    pub const RECEIVE_TIME_TO_LIVE: Self = Self::ip(libc::IP_RECVTTL);
    /// An address can be bound that this machine does not have (`IP_FREEBIND`).
    pub const FREE_BIND: Self = Self::ip(libc::IP_FREEBIND);
    /// A bind to port 0 chooses the port only when the socket is connected
    /// (`IP_BIND_ADDRESS_NO_PORT`).
    pub const BIND_ADDRESS_NO_PORT: Self = Self::ip(libc::IP_BIND_ADDRESS_NO_PORT);
    /// Received IPv6 packets carry [where they were sent to](crate::op::Control::packet_info)
    /// (`IPV6_RECVPKTINFO`).
    pub const PACKET_INFO_V6: Self = Self::ipv6(libc::IPV6_RECVPKTINFO);
    /// Received IPv6 packets carry their [traffic class](crate::op::Control::type_of_service)
    /// (`IPV6_RECVTCLASS`).
    pub const RECEIVE_TRAFFIC_CLASS: Self = Self::ipv6(libc::IPV6_RECVTCLASS);
    /// Received IPv6 packets carry how many [hops](crate::op::Control::hops_left) they had left
    /// (`IPV6_RECVHOPLIMIT`).
    pub const RECEIVE_HOP_LIMIT: Self = Self::ipv6(libc::IPV6_RECVHOPLIMIT);
    /// The kernel may put several datagrams together, and tells [their
    /// size](crate::op::Control::segment_size) (`UDP_GRO`).
    #[doc(alias = "UDP_GRO")]
    pub const RECEIVE_OFFLOAD: Self = Self::of(libc::IPPROTO_UDP, UDP_GRO);
}

impl SocketOption<i32> {
    /// The option `name` of `level`, for options that are not listed here and whose value is
    /// an int. Any name of `IPPROTO_TCP` and `IPPROTO_UDP` is accepted, and most of `IPPROTO_IP`
    /// and `IPPROTO_IPV6`. The kernel refuses a name that is unknown, or whose value has another
    /// size.
    ///
    /// # Errors
    ///
    /// [`OptionError`] for others: the value may name a descriptor (`SO_ATTACH_BPF`) or memory.
    pub fn new(level: u32, name: u32) -> Result<Self, OptionError> {
        Self::checked(level, name)
    }

    /// How many bytes may wait to be sent (`SO_SNDBUF`). The kernel doubles the number that is set.
    pub const SEND_BUFFER: Self = Self::socket(libc::SO_SNDBUF);
    /// How many bytes may wait to be received (`SO_RCVBUF`). The kernel doubles the number that is
    /// set.
    pub const RECEIVE_BUFFER: Self = Self::socket(libc::SO_RCVBUF);
    /// How many bytes must be there before a receive completes (`SO_RCVLOWAT`).
    pub const RECEIVE_LOW_WATER: Self = Self::socket(libc::SO_RCVLOWAT);
    /// The error since the last query, as an errno, or 0 (`SO_ERROR`). Read-only.
    pub const ERROR: Self = Self::socket(libc::SO_ERROR);
    /// Its type, such as `SOCK_STREAM` (`SO_TYPE`). Read-only.
    pub const KIND: Self = Self::socket(libc::SO_TYPE);
    /// Its address family, such as `AF_INET` (`SO_DOMAIN`). Read-only.
    pub const DOMAIN: Self = Self::socket(libc::SO_DOMAIN);
    /// Its protocol, such as `IPPROTO_TCP` (`SO_PROTOCOL`). Read-only.
    pub const PROTOCOL: Self = Self::socket(libc::SO_PROTOCOL);
    /// The priority of its packets, 0 to 6 (`SO_PRIORITY`).
    pub const PRIORITY: Self = Self::socket(libc::SO_PRIORITY);
    /// A number that routing and filters use (`SO_MARK`). Needs `CAP_NET_ADMIN`; or
    /// `CAP_NET_RAW`, since Linux 5.17.
    pub const MARK: Self = Self::socket(libc::SO_MARK);
    /// The CPU on which its packets arrive (`SO_INCOMING_CPU`).
    pub const INCOMING_CPU: Self = Self::socket(libc::SO_INCOMING_CPU);
    /// For how many microseconds a receive polls the network device (`SO_BUSY_POLL`).
    pub const BUSY_POLL: Self = Self::socket(libc::SO_BUSY_POLL);
    /// After how many idle seconds a connection is probed (`TCP_KEEPIDLE`).
    pub const KEEP_ALIVE_IDLE: Self = Self::tcp(libc::TCP_KEEPIDLE);
    /// How many seconds lie between probes (`TCP_KEEPINTVL`).
    pub const KEEP_ALIVE_INTERVAL: Self = Self::tcp(libc::TCP_KEEPINTVL);
    /// After how many probes a connection is dead (`TCP_KEEPCNT`).
    pub const KEEP_ALIVE_COUNT: Self = Self::tcp(libc::TCP_KEEPCNT);
    /// For how many milliseconds bytes may stay unacknowledged (`TCP_USER_TIMEOUT`).
    pub const USER_TIMEOUT: Self = Self::tcp(libc::TCP_USER_TIMEOUT);
    /// For how many seconds a connection may wait for its first bytes before it is accepted
    /// (`TCP_DEFER_ACCEPT`).
    pub const DEFER_ACCEPT: Self = Self::tcp(libc::TCP_DEFER_ACCEPT);
    /// How many connections with data in their first packet may be pending (`TCP_FASTOPEN`).
    pub const FAST_OPEN: Self = Self::tcp(libc::TCP_FASTOPEN);
    /// How many hops an IPv4 packet may make (`IP_TTL`).
    pub const TIME_TO_LIVE: Self = Self::ip(libc::IP_TTL);
    /// The type of service of IPv4 packets (`IP_TOS`).
    pub const TYPE_OF_SERVICE: Self = Self::ip(libc::IP_TOS);
    /// The largest segment of a connection in bytes (`TCP_MAXSEG`).
    pub const MAX_SEGMENT: Self = Self::tcp(libc::TCP_MAXSEG);
    /// How often a connection attempt is repeated (`TCP_SYNCNT`).
    pub const CONNECT_ATTEMPTS: Self = Self::tcp(libc::TCP_SYNCNT);
    /// How many bytes that are not sent yet make a socket count as full (`TCP_NOTSENT_LOWAT`).
    pub const NOT_SENT_LOW_WATER: Self = Self::tcp(libc::TCP_NOTSENT_LOWAT);
    /// The traffic class of IPv6 packets (`IPV6_TCLASS`); -1 for that of the system.
    pub const TRAFFIC_CLASS: Self = Self::ipv6(libc::IPV6_TCLASS);
    /// How many hops an IPv6 packet may make (`IPV6_UNICAST_HOPS`); -1 for that of the system.
    pub const HOP_LIMIT: Self = Self::ipv6(libc::IPV6_UNICAST_HOPS);
    /// What is done about packets that are too long for a link of IPv4: `IP_PMTUDISC_*`
    /// (`IP_MTU_DISCOVER`).
    pub const MTU_DISCOVER: Self = Self::ip(libc::IP_MTU_DISCOVER);
    /// What is done about packets that are too long for a link of IPv6: `IPV6_PMTUDISC_*`
    /// (`IPV6_MTU_DISCOVER`).
    pub const MTU_DISCOVER_V6: Self = Self::ipv6(libc::IPV6_MTU_DISCOVER);
    /// Into datagrams of how many bytes each message is cut; 0 for no cut (`UDP_SEGMENT`). For a
    /// single message, see [`SendControl::segment_size`](crate::op::SendControl::segment_size).
    #[doc(alias("UDP_SEGMENT", "GSO"))]
    pub const SEGMENT_SIZE: Self = Self::of(libc::IPPROTO_UDP, UDP_SEGMENT);
}

impl SocketOption<Duration> {
    /// For how long a blocking `send(2)` waits; 0 means forever (`SO_SNDTIMEO`). Operations of a
    /// ring ignore it.
    pub const SEND_TIMEOUT: Self = Self::socket(libc::SO_SNDTIMEO);
    /// For how long a blocking `recv(2)` waits; 0 means forever (`SO_RCVTIMEO`). Operations of a
    /// ring ignore it.
    pub const RECEIVE_TIMEOUT: Self = Self::socket(libc::SO_RCVTIMEO);
}

impl SocketOption<Linger> {
    /// What closing does with bytes that are not sent yet (`SO_LINGER`).
    pub const LINGER: Self = Self::socket(libc::SO_LINGER);
}

impl SocketOption<Peer> {
    /// The process at the other end of a unix socket (`SO_PEERCRED`). Read-only.
    pub const PEER: Self = Self::socket(libc::SO_PEERCRED);
}

impl SocketOption<SendClock> {
    /// Messages may carry the [time](crate::op::SendControl::send_time) at which they are to leave,
    /// on this clock (`SO_TXTIME`).
    pub const SEND_TIME: Self = Self::socket(libc::SO_TXTIME);
}

impl SocketOption<Name> {
    /// The congestion control algorithm of a connection, such as `cubic` (`TCP_CONGESTION`).
    #[doc(alias = "TCP_CONGESTION")]
    pub const CONGESTION_CONTROL: Self = Self::tcp(libc::TCP_CONGESTION);
}
