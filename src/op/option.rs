//! Options of sockets: which there are, and of what type their values are.
//!
//! ```text
//!   SocketOption<Switch>    REUSE_ADDRESS, NO_DELAY, ..      an int, 0 or 1
//!   SocketOption<i32>       SEND_BUFFER, KEEP_ALIVE_IDLE, .. an int
//!   SocketOption<Duration>  SEND_TIMEOUT, ..                 seconds │ microseconds
//!   SocketOption<Linger>    LINGER                           on │ seconds
//!   SocketOption<Peer>      PEER                             pid │ uid │ gid
//! ```
//!
//! An option whose value names memory or a descriptor (filters, `TCP_ZEROCOPY_RECEIVE`) must not be
//! made of numbers by safe code, since the kernel would go where they point; so there is a closed
//! list, and [`SocketOption::from_raw`], which is unsafe.
//!
//! Leaves to others: setting and asking (`command`).
#![allow(unsafe_code, reason = "has one constructor that the caller must vouch for")]

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

/// How many bytes a value has at most.
pub(super) const MOST_VALUE: usize = 16;

/// An option of a socket whose value is a `V`: see `socket(7)`, `tcp(7)`, `ip(7)`.
#[doc(alias = "setsockopt")]
pub struct SocketOption<V> {
    pub(super) level: u32,
    pub(super) name: u32,
    value: PhantomData<fn(V) -> V>,
}

/// An option that is on or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Switch {
    /// Off: 0.
    Off,
    /// On: any other number.
    On,
}

/// What closing a socket does with bytes that are not sent yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Linger {
    /// Closing returns at once, and they are sent behind it.
    Off,
    /// Closing waits for them, for so many seconds; with 0 they are dropped, and the connection is
    /// reset.
    Seconds(u16),
}

/// Who is at the other end of a unix socket: as it was when the two were connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Peer {
    /// Its process; 0 if we cannot see that.
    pub pid: i32,
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

mod sealed {
    /// Only what is in this file is a value.
    pub trait Sealed {}
}

/// What an option's value can be.
pub trait OptionValue: sealed::Sealed + Copy {
    /// Its bytes, and how many of them count.
    #[doc(hidden)]
    fn encode(self) -> ([u8; MOST_VALUE], u32);

    /// How many bytes it has.
    #[doc(hidden)]
    const LEN: u32;

    /// The value whose bytes these are. Called with all of them.
    #[doc(hidden)]
    fn decode(bytes: &[u8; MOST_VALUE]) -> Self;
}

impl<V> SocketOption<V> {
    /// The option `name` of `level`, whatever it is.
    ///
    /// # Safety
    ///
    /// Its value must be a `V`, and name no memory and no descriptor.
    pub const unsafe fn from_raw(level: u32, name: u32) -> Self {
        Self::of(level.cast_signed(), name.cast_signed())
    }

    const fn of(level: i32, name: i32) -> Self {
        Self { level: level.cast_unsigned(), name: name.cast_unsigned(), value: PhantomData }
    }

    const fn socket(name: i32) -> Self {
        Self::of(libc::SOL_SOCKET, name)
    }

    const fn tcp(name: i32) -> Self {
        Self::of(libc::IPPROTO_TCP, name)
    }
}

impl SocketOption<Switch> {
    /// An address can be bound to that connections of earlier still have (`SO_REUSEADDR`).
    pub const REUSE_ADDRESS: Self = Self::socket(libc::SO_REUSEADDR);
    /// Several sockets share one port (`SO_REUSEPORT`).
    pub const REUSE_PORT: Self = Self::socket(libc::SO_REUSEPORT);
    /// An idle connection is probed (`SO_KEEPALIVE`).
    pub const KEEP_ALIVE: Self = Self::socket(libc::SO_KEEPALIVE);
    /// Datagrams may go to all of a network (`SO_BROADCAST`).
    pub const BROADCAST: Self = Self::socket(libc::SO_BROADCAST);
    /// To hosts on the same network only (`SO_DONTROUTE`).
    pub const DONT_ROUTE: Self = Self::socket(libc::SO_DONTROUTE);
    /// Urgent bytes come among the others (`SO_OOBINLINE`).
    pub const OUT_OF_BAND_INLINE: Self = Self::socket(libc::SO_OOBINLINE);
    /// Messages tell who sent them (`SO_PASSCRED`).
    pub const PASS_CREDENTIALS: Self = Self::socket(libc::SO_PASSCRED);
    /// Messages tell when they came (`SO_TIMESTAMP`).
    pub const TIMESTAMP: Self = Self::socket(libc::SO_TIMESTAMP);
    /// `MSG_ZEROCOPY` of `send(2)` is heeded (`SO_ZEROCOPY`); [`SendZc`](super::SendZc) needs no
    /// such thing.
    pub const ZERO_COPY: Self = Self::socket(libc::SO_ZEROCOPY);
    /// Whether it is a listener (`SO_ACCEPTCONN`). To be asked only.
    pub const IS_LISTENER: Self = Self::socket(libc::SO_ACCEPTCONN);
    /// Small packets are sent at once (`TCP_NODELAY`).
    pub const NO_DELAY: Self = Self::tcp(libc::TCP_NODELAY);
    /// Only full packets are sent (`TCP_CORK`).
    pub const CORK: Self = Self::tcp(libc::TCP_CORK);
    /// What came is acknowledged at once (`TCP_QUICKACK`).
    pub const QUICK_ACK: Self = Self::tcp(libc::TCP_QUICKACK);
    /// A socket of IPv6 takes nothing of IPv4 (`IPV6_V6ONLY`).
    pub const ONLY_V6: Self = Self::of(libc::IPPROTO_IPV6, libc::IPV6_V6ONLY);
}

impl SocketOption<i32> {
    /// How many bytes may wait to be sent (`SO_SNDBUF`): the kernel doubles what is set.
    pub const SEND_BUFFER: Self = Self::socket(libc::SO_SNDBUF);
    /// How many bytes may wait to be received (`SO_RCVBUF`): the kernel doubles what is set.
    pub const RECEIVE_BUFFER: Self = Self::socket(libc::SO_RCVBUF);
    /// How many bytes must be there before a receive completes (`SO_RCVLOWAT`).
    pub const RECEIVE_LOW_WATER: Self = Self::socket(libc::SO_RCVLOWAT);
    /// What went wrong since this was asked last, as an errno, or 0 (`SO_ERROR`). To be asked only.
    pub const ERROR: Self = Self::socket(libc::SO_ERROR);
    /// Its kind, such as `SOCK_STREAM` (`SO_TYPE`). To be asked only.
    pub const KIND: Self = Self::socket(libc::SO_TYPE);
    /// Its family, such as `AF_INET` (`SO_DOMAIN`). To be asked only.
    pub const DOMAIN: Self = Self::socket(libc::SO_DOMAIN);
    /// Its protocol, such as `IPPROTO_TCP` (`SO_PROTOCOL`). To be asked only.
    pub const PROTOCOL: Self = Self::socket(libc::SO_PROTOCOL);
    /// The priority of its packets, 0 to 6 (`SO_PRIORITY`).
    pub const PRIORITY: Self = Self::socket(libc::SO_PRIORITY);
    /// A number that routes and filters look at (`SO_MARK`). Needs `CAP_NET_ADMIN`.
    pub const MARK: Self = Self::socket(libc::SO_MARK);
    /// The processor on which its packets come in (`SO_INCOMING_CPU`).
    pub const INCOMING_CPU: Self = Self::socket(libc::SO_INCOMING_CPU);
    /// For how many microseconds a receive polls the card (`SO_BUSY_POLL`).
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
    /// How many connections may be opening with data in their first packet (`TCP_FASTOPEN`).
    pub const FAST_OPEN: Self = Self::tcp(libc::TCP_FASTOPEN);
    /// How many hops a packet of IPv4 may make (`IP_TTL`).
    pub const TIME_TO_LIVE: Self = Self::of(libc::IPPROTO_IP, libc::IP_TTL);
    /// The class of a packet of IPv4 (`IP_TOS`).
    pub const TYPE_OF_SERVICE: Self = Self::of(libc::IPPROTO_IP, libc::IP_TOS);
}

impl SocketOption<Duration> {
    /// For how long a blocking `send(2)` waits, 0 for ever (`SO_SNDTIMEO`). Operations of a ring do
    /// not look at it.
    pub const SEND_TIMEOUT: Self = Self::socket(libc::SO_SNDTIMEO);
    /// For how long a blocking `recv(2)` waits, 0 for ever (`SO_RCVTIMEO`). Operations of a ring do
    /// not look at it.
    pub const RECEIVE_TIMEOUT: Self = Self::socket(libc::SO_RCVTIMEO);
}

impl SocketOption<Linger> {
    /// What closing does with bytes that are not sent yet (`SO_LINGER`).
    pub const LINGER: Self = Self::socket(libc::SO_LINGER);
}

impl SocketOption<Peer> {
    /// Who is at the other end of a unix socket (`SO_PEERCRED`). To be asked only.
    pub const PEER: Self = Self::socket(libc::SO_PEERCRED);
}

impl<V> Clone for SocketOption<V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V> Copy for SocketOption<V> {}

impl<V> fmt::Debug for SocketOption<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { level, name, .. } = self;
        f.debug_struct("SocketOption").field("level", level).field("name", name).finish()
    }
}

/// The parts, one after the other, in front of zeroes.
fn joined<const N: usize>(parts: [&[u8]; N]) -> [u8; MOST_VALUE] {
    let mut bytes = [0; MOST_VALUE];
    let mut places = bytes.iter_mut();
    for (byte, place) in parts.into_iter().flatten().zip(&mut places) {
        *place = *byte;
    }
    bytes
}

/// The number of 32 bits that is the `index`th.
fn number(bytes: &[u8; MOST_VALUE], index: usize) -> i32 {
    let (numbers, _) = bytes.as_chunks::<4>();
    i32::from_ne_bytes(numbers[index])
}

impl sealed::Sealed for i32 {}

impl OptionValue for i32 {
    const LEN: u32 = 4;

    fn encode(self) -> ([u8; MOST_VALUE], u32) {
        (joined([&self.to_ne_bytes()]), Self::LEN)
    }

    fn decode(bytes: &[u8; MOST_VALUE]) -> Self {
        number(bytes, 0)
    }
}

impl sealed::Sealed for Switch {}

impl OptionValue for Switch {
    const LEN: u32 = 4;

    fn encode(self) -> ([u8; MOST_VALUE], u32) {
        i32::from(self == Self::On).encode()
    }

    fn decode(bytes: &[u8; MOST_VALUE]) -> Self {
        if number(bytes, 0) == 0 { Self::Off } else { Self::On }
    }
}

impl sealed::Sealed for Linger {}

impl OptionValue for Linger {
    const LEN: u32 = 8;

    fn encode(self) -> ([u8; MOST_VALUE], u32) {
        let (on, seconds) = match self {
            Self::Off => (0_i32, 0),
            Self::Seconds(seconds) => (1, i32::from(seconds)),
        };
        (joined([&on.to_ne_bytes(), &seconds.to_ne_bytes()]), Self::LEN)
    }

    fn decode(bytes: &[u8; MOST_VALUE]) -> Self {
        match (number(bytes, 0), number(bytes, 1)) {
            (0, _) => Self::Off,
            (_, seconds) => Self::Seconds(seconds.try_into().unwrap_or(u16::MAX)),
        }
    }
}

impl sealed::Sealed for Duration {}

impl OptionValue for Duration {
    const LEN: u32 = 16;

    fn encode(self) -> ([u8; MOST_VALUE], u32) {
        let seconds = i64::try_from(self.as_secs()).unwrap_or(i64::MAX);
        let micros = i64::from(self.subsec_micros());
        (joined([&seconds.to_ne_bytes(), &micros.to_ne_bytes()]), Self::LEN)
    }

    fn decode(bytes: &[u8; MOST_VALUE]) -> Self {
        let (numbers, _) = bytes.as_chunks::<8>();
        let number = |index: usize| u64::try_from(i64::from_ne_bytes(numbers[index]));
        let seconds = Self::from_secs(number(0).unwrap_or(0));
        seconds.saturating_add(Self::from_micros(number(1).unwrap_or(0)))
    }
}

impl sealed::Sealed for Peer {}

impl OptionValue for Peer {
    const LEN: u32 = 12;

    fn encode(self) -> ([u8; MOST_VALUE], u32) {
        let Self { pid, uid, gid } = self;
        (joined([&pid.to_ne_bytes(), &uid.to_ne_bytes(), &gid.to_ne_bytes()]), Self::LEN)
    }

    fn decode(bytes: &[u8; MOST_VALUE]) -> Self {
        let [pid, uid, gid] = [0, 1, 2].map(|index| number(bytes, index));
        Self { pid, uid: uid.cast_unsigned(), gid: gid.cast_unsigned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comes_back<V: OptionValue + PartialEq + fmt::Debug>(value: V, len: usize) {
        let (bytes, told) = value.encode();
        assert_eq!((V::decode(&bytes), told), (value, V::LEN));
        assert_eq!(V::LEN as usize, len);
    }

    #[test]
    fn values_have_the_sizes_of_their_structs_and_come_back() {
        comes_back(i32::MIN, size_of::<i32>());
        comes_back(Switch::On, size_of::<i32>());
        comes_back(Switch::Off, size_of::<i32>());
        comes_back(Linger::Off, size_of::<libc::linger>());
        comes_back(Linger::Seconds(u16::MAX), size_of::<libc::linger>());
        comes_back(Duration::new(7, 250_000_000), size_of::<libc::timeval>());
        comes_back(Peer { pid: 1, uid: u32::MAX, gid: 2 }, size_of::<libc::ucred>());
    }

    #[test]
    fn whatever_the_kernel_writes_is_a_value() {
        let all = [0xff; MOST_VALUE];
        assert_eq!(Switch::decode(&all), Switch::On);
        assert_eq!(Linger::decode(&all), Linger::Seconds(u16::MAX));
        assert_eq!(Duration::decode(&all), Duration::ZERO);
        let large = joined([&i64::MAX.to_ne_bytes(), &i64::MAX.to_ne_bytes()]);
        assert!(Duration::decode(&large) > Duration::from_secs(1 << 62));
        assert_eq!(Duration::MAX.encode().0[..8], i64::MAX.to_ne_bytes());
    }
}
