//! What received control messages say: their data as values.
//!
//! | method | control message | arrives after |
//! |---|---|---|
//! | [`packet_info`](Control::packet_info) | `IP_PKTINFO`, `IPV6_PKTINFO` | `IP_PKTINFO`, `IPV6_RECVPKTINFO` |
//! | [`type_of_service`](Control::type_of_service) | `IP_TOS`, `IPV6_TCLASS` | `IP_RECVTOS`, `IPV6_RECVTCLASS` |
//! | [`hops_left`](Control::hops_left) | `IP_TTL`, `IPV6_HOPLIMIT` | `IP_RECVTTL`, `IPV6_RECVHOPLIMIT` |
//! | [`segment_size`](Control::segment_size) | `UDP_GRO` | `UDP_GRO` |
//! | [`time`](Control::time) | `SCM_TIMESTAMP`, .. | `SO_TIMESTAMP`, `SO_TIMESTAMPNS`, `SO_TIMESTAMPING` |
//! | [`device_time`](Control::device_time) | `SCM_TIMESTAMPING` | `SO_TIMESTAMPING` |
//! | [`dropped`](Control::dropped) | `SO_RXQ_OVFL` | `SO_RXQ_OVFL` |
//!
//! Each method returns `None` for every other control message, and for data of another size.
//!
//! Leaves to others: where control messages lie (`control`), those to send (`send`).

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use super::{Control, UDP_GRO};

/// `SO_TIMESTAMP_NEW`.
const TIMESTAMP_NEW: i32 = 63;
/// `SO_TIMESTAMPNS_NEW`.
const TIMESTAMPNS_NEW: i32 = 64;
/// `SO_TIMESTAMPING_NEW`.
const TIMESTAMPING_NEW: i32 = 65;

/// Where a packet was sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PacketInfo {
    /// The index of the network device on which it arrived.
    pub interface: u32,
    /// The address of this machine to which it was delivered: the address to
    /// [answer from](super::SendControl::source), unless it is a multicast address of IPv6. On a
    /// socket of IPv6 that also takes packets of IPv4, their addresses are mapped
    /// (`::ffff:127.0.0.1`), and this is the destination in the header: a broadcast address then,
    /// from which nothing can be sent. Such a socket tells both if both options are set.
    pub local: IpAddr,
    /// The destination address in its header. It differs from `local` for a broadcast or multicast
    /// packet on a socket of IPv4.
    pub destination: IpAddr,
}

impl Control<'_> {
    /// Where the packet was sent to (`IP_PKTINFO`, `IPV6_PKTINFO`).
    #[doc(alias("IP_PKTINFO", "IPV6_PKTINFO"))]
    pub fn packet_info(self) -> Option<PacketInfo> {
        match (self.level, self.kind) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                let [interface, local, destination] = words(self.data)?;
                let interface = u32::from_ne_bytes(interface);
                Some(PacketInfo { interface, local: local.into(), destination: destination.into() })
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                let (address, interface) = self.data.split_first_chunk::<16>()?;
                let interface = u32::from_ne_bytes(interface.try_into().ok()?);
                let local = IpAddr::from(*address);
                Some(PacketInfo { interface, local, destination: local })
            }
            _ => None,
        }
    }

    /// The type of service of an IPv4 packet, or the traffic class of an IPv6 packet: six bits of
    /// the class (DSCP), then two of congestion (ECN). (`IP_TOS`, `IPV6_TCLASS`)
    #[doc(alias("IP_TOS", "IPV6_TCLASS", "ECN", "DSCP"))]
    pub fn type_of_service(self) -> Option<u8> {
        self.byte([(libc::IPPROTO_IP, libc::IP_TOS), (libc::IPPROTO_IPV6, libc::IPV6_TCLASS)])
    }

    /// How many more hops the packet could have made (`IP_TTL`, `IPV6_HOPLIMIT`).
    #[doc(alias("IP_TTL", "IPV6_HOPLIMIT"))]
    pub fn hops_left(self) -> Option<u8> {
        self.byte([(libc::IPPROTO_IP, libc::IP_TTL), (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT)])
    }

    /// The size of the datagrams that the kernel put together in this message, in bytes; the last
    /// of them may be shorter (`UDP_GRO`, generic receive offload).
    #[doc(alias("UDP_GRO", "GRO"))]
    pub fn segment_size(self) -> Option<u16> {
        self.int([(libc::IPPROTO_UDP, UDP_GRO)]).and_then(|size| size.try_into().ok())
    }

    /// When the packet arrived, by the clock of the system (`SCM_TIMESTAMP`, `SCM_TIMESTAMPNS`, and
    /// the software time of `SCM_TIMESTAMPING`). The kernel begins to stamp packets some time after
    /// the first socket asked for it, so `SCM_TIMESTAMPING` may be missing from the first ones.
    #[doc(alias("SO_TIMESTAMP", "SO_TIMESTAMPNS", "SCM_TIMESTAMPING"))]
    pub fn time(self) -> Option<SystemTime> {
        let since = match self.kind {
            _ if self.level != libc::SOL_SOCKET => None,
            libc::SO_TIMESTAMP | TIMESTAMP_NEW => duration(longs(self.data)?, 1000),
            libc::SO_TIMESTAMPNS | TIMESTAMPNS_NEW => duration(longs(self.data)?, 1),
            libc::SO_TIMESTAMPING | TIMESTAMPING_NEW => self.stamp(0),
            _ => None,
        };
        SystemTime::UNIX_EPOCH.checked_add(since?)
    }

    /// When the packet arrived at the network device, by the device's own clock
    /// (`SCM_TIMESTAMPING`).
    #[doc(alias = "SCM_TIMESTAMPING")]
    pub fn device_time(self) -> Option<Duration> {
        let stamps = matches!(self.kind, libc::SO_TIMESTAMPING | TIMESTAMPING_NEW);
        if self.level == libc::SOL_SOCKET && stamps { self.stamp(2) } else { None }
    }

    /// How many packets the socket has dropped since it was made, because it was full
    /// (`SO_RXQ_OVFL`).
    #[doc(alias = "SO_RXQ_OVFL")]
    pub fn dropped(self) -> Option<u32> {
        self.int([(libc::SOL_SOCKET, libc::SO_RXQ_OVFL)]).map(i32::cast_unsigned)
    }

    /// One of the three times of `SCM_TIMESTAMPING`; one that was not taken is zero.
    fn stamp(self, index: usize) -> Option<Duration> {
        let [a, b, c, d, e, f] = longs(self.data)?;
        let time = duration([[a, b], [c, d], [e, f]][index], 1)?;
        (!time.is_zero()).then_some(time)
    }

    /// The number, if this is one of `names`.
    fn int<const N: usize>(self, names: [(i32, i32); N]) -> Option<i32> {
        let [word] = words(self.data)?;
        names.contains(&(self.level, self.kind)).then_some(i32::from_ne_bytes(word))
    }

    /// The number, which has one byte or four, if this is one of `names`.
    fn byte<const N: usize>(self, names: [(i32, i32); N]) -> Option<u8> {
        match self.data {
            [byte] => names.contains(&(self.level, self.kind)).then_some(*byte),
            _ => self.int(names)?.try_into().ok(),
        }
    }
}

/// Data that consists of this many words of four bytes.
fn words<const N: usize>(data: &[u8]) -> Option<[[u8; 4]; N]> {
    let (words, rest) = data.as_chunks();
    if rest.is_empty() { words.try_into().ok() } else { None }
}

/// Data that consists of this many words of eight bytes.
fn longs<const N: usize>(data: &[u8]) -> Option<[i64; N]> {
    let (longs, rest) = data.as_chunks();
    let longs: [[u8; 8]; N] = if rest.is_empty() { longs.try_into().ok()? } else { return None };
    Some(longs.map(i64::from_ne_bytes))
}

/// Seconds, and smaller units of this many nanoseconds.
fn duration([seconds, units]: [i64; 2], unit: u32) -> Option<Duration> {
    let nanoseconds = u32::try_from(units).ok()?.checked_mul(unit)?;
    Some(Duration::new(u64::try_from(seconds).ok()?, nanoseconds.min(999_999_999)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control<'a>(level: i32, kind: i32, data: &'a [u8]) -> Control<'a> {
        Control { level, kind, data }
    }

    #[test]
    fn data_of_another_size_says_nothing() {
        let bytes = [0; 64];
        for len in (0..64).filter(|len| ![1, 4, 12, 16, 20, 48].contains(len)) {
            let data = &bytes[..len];
            for kind in 0..128 {
                let [socket, v4, v6, udp] = [1, 0, 41, 17].map(|level| control(level, kind, data));
                assert!(v4.packet_info().is_none() && v6.packet_info().is_none(), "{len}");
                assert!(v4.type_of_service().is_none() && v6.hops_left().is_none(), "{len}");
                assert!(socket.time().is_none() && socket.device_time().is_none(), "{len}");
                assert!(socket.dropped().is_none() && udp.segment_size().is_none(), "{len}");
            }
        }
    }

    #[test]
    fn whatever_the_kernel_writes_is_read_without_a_panic() {
        let largest = [0xff; 48];
        let smallest = [[0xff; 7].as_slice(), &[0x7f]].concat().repeat(6);
        for data in [&largest[..], &smallest] {
            for (kind, len) in [(29, 16), (35, 16), (37, 48), (63, 16), (64, 16), (65, 48)] {
                let control = control(libc::SOL_SOCKET, kind, &data[..len]);
                assert_eq!((control.time(), control.device_time()), (None, None), "{kind}");
            }
        }
        assert_eq!(control(0, libc::IP_TOS, &[0xff; 4]).type_of_service(), None);
        assert_eq!(control(17, UDP_GRO, &[0xff; 4]).segment_size(), None);
        assert_eq!(control(1, libc::SO_RXQ_OVFL, &[0xff; 4]).dropped(), Some(u32::MAX));
    }

    #[test]
    fn times_are_read_in_their_units() {
        let since = |duration| SystemTime::UNIX_EPOCH + duration;
        let data = [7_i64, 250_000].map(i64::to_ne_bytes);
        let time = |kind| control(libc::SOL_SOCKET, kind, data.as_flattened()).time();
        assert_eq!(time(libc::SO_TIMESTAMP), Some(since(Duration::new(7, 250_000_000))));
        assert_eq!(time(libc::SO_TIMESTAMPNS), Some(since(Duration::new(7, 250_000))));
        let data = [1_i64, 2, 3, 4, 5, 6].map(i64::to_ne_bytes);
        let both = control(libc::SOL_SOCKET, libc::SO_TIMESTAMPING, data.as_flattened());
        assert_eq!(both.time(), Some(since(Duration::new(1, 2))));
        assert_eq!(both.device_time(), Some(Duration::new(5, 6)));
        let none = control(libc::SOL_SOCKET, libc::SO_TIMESTAMPING, &[0; 48]);
        assert_eq!((none.time(), none.device_time()), (None, None));
    }
}
