//! Socket options, and the types of their values.
//!
//! ```text
//!   SocketOption<bool>      REUSE_ADDRESS, NO_DELAY, ..      an int, 0 or 1
//!   SocketOption<i32>       SEND_BUFFER, KEEP_ALIVE_IDLE, .. an int
//!   SocketOption<Duration>  SEND_TIMEOUT, ..                 seconds │ microseconds
//!   SocketOption<Linger>    LINGER                           on │ seconds
//!   SocketOption<Peer>      PEER                             pid │ uid │ gid
//!   SocketOption<SendClock> SEND_TIME                        clock │ flags
//!   SocketOption<Name>      CONGESTION_CONTROL               16 bytes, padded with zeroes
//! ```
//!
//! Safe code must not build values that name memory or a descriptor (filters, `SO_ATTACH_BPF`,
//! `TCP_ZEROCOPY_RECEIVE`) from numbers, since the kernel would follow them; nor ask for a value
//! that is a new descriptor (`SO_PEERPIDFD`). So there is a closed list of options. Others are made
//! by `SocketOption::new`, which accepts only levels and names whose values are plain numbers, and
//! by [`SocketOption::from_raw`], which is unsafe.
//!
//! Leaves to others: the list of options (`known`), setting and asking (`command`).
#![allow(unsafe_code, reason = "has one constructor with a contract for its caller")]

mod known;

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

/// The size of the largest value, in bytes: a `timeval`.
pub(in crate::op) const MAX_VALUE: usize = 16;

/// An option of a socket whose value is a `V`: see `socket(7)`, `tcp(7)`, `ip(7)`.
#[doc(alias = "setsockopt")]
pub struct SocketOption<V> {
    pub(in crate::op) level: u32,
    pub(in crate::op) name: u32,
    value: PhantomData<fn(V) -> V>,
}

/// What closing a socket does with bytes that are not sent yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Linger {
    /// Closing returns at once, and the bytes are sent in the background.
    Off,
    /// Closing waits up to this many seconds until they are sent; with 0 they are dropped, and the
    /// connection is reset.
    Seconds(u16),
}

/// The process at the other end of a unix socket, as it was when the two were connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Peer {
    /// Its process ID; 0 if it is not visible in this process's namespace.
    pub pid: i32,
    /// Its user ID.
    pub uid: u32,
    /// Its group ID.
    pub gid: u32,
}

/// The clock of the times at which packets are to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[doc(alias = "sock_txtime")]
pub struct SendClock(i32);

impl SendClock {
    /// The clock that never goes back (`CLOCK_MONOTONIC`): for the queue `fq`.
    pub const MONOTONIC: Self = Self(libc::CLOCK_MONOTONIC);
    /// International atomic time (`CLOCK_TAI`): for the queue `etf`. Needs `CAP_NET_ADMIN`.
    pub const TAI: Self = Self(libc::CLOCK_TAI);
}

/// A name of up to 15 bytes, such as that of a congestion control algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Name([u8; MAX_VALUE]);

impl Name {
    /// The name; `None` if it has more than 15 bytes, or a zero.
    pub fn new(name: &str) -> Option<Self> {
        let fits = name.len() < MAX_VALUE && !name.contains('\0');
        fits.then(|| Self(joined([name.as_bytes()])))
    }
}

mod sealed {
    /// Only the types in this file are values.
    pub trait Sealed {}
}

/// The types of option values. Sealed: only this crate implements it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no value of a socket option",
    note = "values are `bool`, `i32`, `Duration`, `Linger`, `Peer`, `SendClock`, `Name`"
)]
pub trait OptionValue: sealed::Sealed + Copy {
    /// Its bytes, and how many of them are used.
    #[doc(hidden)]
    fn encode(self) -> ([u8; MAX_VALUE], u32);

    /// Its size in bytes.
    #[doc(hidden)]
    const LEN: u32;

    /// The value with these bytes. Called with all of them.
    #[doc(hidden)]
    fn decode(bytes: &[u8; MAX_VALUE]) -> Self;
}

impl<V> SocketOption<V> {
    /// The option `name` of `level`, for options that are not listed here.
    ///
    /// # Safety
    ///
    /// The option's value must be a `V`, and must name no memory and no descriptor.
    pub const unsafe fn from_raw(level: u32, name: u32) -> Self {
        Self::of(level.cast_signed(), name.cast_signed())
    }

    /// The option, if four bytes are only ever a number to it.
    fn checked(level: u32, name: u32) -> Result<Self, OptionError> {
        if !is_number(level, name) {
            return Err(OptionError { level, name });
        }
        Ok(Self { level, name, value: PhantomData })
    }

    const fn of(level: i32, name: i32) -> Self {
        Self { level: level.cast_unsigned(), name: name.cast_unsigned(), value: PhantomData }
    }
}

/// Why an option cannot be named: see [`SocketOption::<i32>::new`].
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the option {name} of level {level} may name a descriptor or memory, or is unknown: use an \
     option that `SocketOption` lists, or `SocketOption::from_raw`"
)]
pub struct OptionError {
    level: u32,
    name: u32,
}

/// Contains the text, so that a `?` in `main` prints cause and cure.
impl fmt::Debug for OptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OptionError({self})")
    }
}

/// Whether four bytes are only ever a number to this option, as of Linux 7.3. (An address has
/// eight.) Those that are left out take names (`TCP_ULP`, `TCP_CONGESTION`), keys, addresses of
/// memory, or structs whose length the kernel does not always ask for (`TCP_AO_GET_KEYS`); or they
/// belong to netfilter and to multicast routing.
fn is_number(level: u32, name: u32) -> bool {
    match level.cast_signed() {
        libc::IPPROTO_TCP => {
            matches!(name, 1..=10 | 12 | 16..=18 | 23..=25 | 27 | 30 | 34 | 36 | 37 | 44..=46)
        }
        libc::IPPROTO_UDP => matches!(name, 1 | 101..=104),
        // Not IP_OPTIONS, policies, and filters of multicast sources.
        libc::IPPROTO_IP => name < 64 && !matches!(name, 4 | 16 | 17 | 41..=48),
        libc::IPPROTO_IPV6 => matches!(name, 0..64 | 66 | 67 | 70..=76),
        _ => false,
    }
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

/// The parts, one after the other, padded with zeroes.
fn joined<const N: usize>(parts: [&[u8]; N]) -> [u8; MAX_VALUE] {
    let mut bytes = [0; MAX_VALUE];
    let mut places = bytes.iter_mut();
    for (byte, place) in parts.into_iter().flatten().zip(&mut places) {
        *place = *byte;
    }
    bytes
}

/// The `index`th 32-bit number.
fn number(bytes: &[u8; MAX_VALUE], index: usize) -> i32 {
    let (numbers, _) = bytes.as_chunks::<4>();
    i32::from_ne_bytes(numbers[index])
}

impl sealed::Sealed for i32 {}

impl OptionValue for i32 {
    const LEN: u32 = 4;

    fn encode(self) -> ([u8; MAX_VALUE], u32) {
        (joined([&self.to_ne_bytes()]), Self::LEN)
    }

    fn decode(bytes: &[u8; MAX_VALUE]) -> Self {
        number(bytes, 0)
    }
}

impl sealed::Sealed for bool {}

/// 0 is `false`, any other number is `true`.
impl OptionValue for bool {
    const LEN: u32 = 4;

    fn encode(self) -> ([u8; MAX_VALUE], u32) {
        i32::from(self).encode()
    }

    fn decode(bytes: &[u8; MAX_VALUE]) -> Self {
        number(bytes, 0) != 0
    }
}

impl sealed::Sealed for Linger {}

impl OptionValue for Linger {
    const LEN: u32 = 8;

    fn encode(self) -> ([u8; MAX_VALUE], u32) {
        let (on, seconds) = match self {
            Self::Off => (0_i32, 0),
            Self::Seconds(seconds) => (1, i32::from(seconds)),
        };
        (joined([&on.to_ne_bytes(), &seconds.to_ne_bytes()]), Self::LEN)
    }

    fn decode(bytes: &[u8; MAX_VALUE]) -> Self {
        match (number(bytes, 0), number(bytes, 1)) {
            (0, _) => Self::Off,
            (_, seconds) => Self::Seconds(seconds.try_into().unwrap_or(u16::MAX)),
        }
    }
}

impl sealed::Sealed for Duration {}

impl OptionValue for Duration {
    const LEN: u32 = 16;

    fn encode(self) -> ([u8; MAX_VALUE], u32) {
        let seconds = i64::try_from(self.as_secs()).unwrap_or(i64::MAX);
        let micros = i64::from(self.subsec_micros());
        (joined([&seconds.to_ne_bytes(), &micros.to_ne_bytes()]), Self::LEN)
    }

    fn decode(bytes: &[u8; MAX_VALUE]) -> Self {
        let (numbers, _) = bytes.as_chunks::<8>();
        let number = |index: usize| u64::try_from(i64::from_ne_bytes(numbers[index]));
        let seconds = Self::from_secs(number(0).unwrap_or(0));
        seconds.saturating_add(Self::from_micros(number(1).unwrap_or(0)))
    }
}

impl sealed::Sealed for Peer {}

impl OptionValue for Peer {
    const LEN: u32 = 12;

    fn encode(self) -> ([u8; MAX_VALUE], u32) {
        let Self { pid, uid, gid } = self;
        (joined([&pid.to_ne_bytes(), &uid.to_ne_bytes(), &gid.to_ne_bytes()]), Self::LEN)
    }

    fn decode(bytes: &[u8; MAX_VALUE]) -> Self {
        let [pid, uid, gid] = [0, 1, 2].map(|index| number(bytes, index));
        Self { pid, uid: uid.cast_unsigned(), gid: gid.cast_unsigned() }
    }
}

impl sealed::Sealed for SendClock {}

impl OptionValue for SendClock {
    const LEN: u32 = 8;

    fn encode(self) -> ([u8; MAX_VALUE], u32) {
        (joined([&self.0.to_ne_bytes(), &[0; 4]]), Self::LEN)
    }

    fn decode(bytes: &[u8; MAX_VALUE]) -> Self {
        Self(number(bytes, 0))
    }
}

impl sealed::Sealed for Name {}

impl OptionValue for Name {
    const LEN: u32 = 16;

    fn encode(self) -> ([u8; MAX_VALUE], u32) {
        (self.0, Self::LEN)
    }

    fn decode(bytes: &[u8; MAX_VALUE]) -> Self {
        Self(*bytes)
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
        comes_back(true, size_of::<i32>());
        comes_back(false, size_of::<i32>());
        comes_back(Linger::Off, size_of::<libc::linger>());
        comes_back(Linger::Seconds(u16::MAX), size_of::<libc::linger>());
        comes_back(Duration::new(7, 250_000_000), size_of::<libc::timeval>());
        comes_back(Peer { pid: 1, uid: u32::MAX, gid: 2 }, size_of::<libc::ucred>());
        comes_back(SendClock::TAI, 8);
        comes_back(Name::new("cubic").expect("it is short"), 16);
        assert_eq!(Name::new("fifteen bytes..").map(|name| name.0[15]), Some(0));
        assert!(Name::new("sixteen bytes...").is_none() && Name::new("a\0b").is_none());
    }

    #[test]
    fn op3_an_option_that_may_name_a_descriptor_or_memory_is_not_made_in_safe_code() {
        let refused = |level: i32, name: i32| {
            let (level, name) = (level.cast_unsigned(), name.cast_unsigned());
            let both =
                (SocketOption::<i32>::new(level, name), SocketOption::<bool>::new(level, name));
            assert_eq!(both.0.is_err(), both.1.is_err());
            both.0.is_err()
        };
        // Descriptors: SO_ATTACH_BPF, SO_ATTACH_REUSEPORT_EBPF, SO_PEERPIDFD; and all the others.
        assert!([50, 52, 77].into_iter().all(|name| refused(libc::SOL_SOCKET, name)));
        assert!((0..200).all(|name| refused(libc::SOL_SOCKET, name)));
        for level in [263, 276, 279, 282, 284, 255, 132, -1] {
            assert!((0..200).all(|name| refused(level, name)), "{level}");
        }
        // Names, keys, memory, and structs whose length is not asked for.
        let tcp = [11, 13, 14, 15, 19, 31, 32, 33, 35, 38, 39, 40, 41, 42, 43, 47];
        assert!(tcp.into_iter().all(|name| refused(libc::IPPROTO_TCP, name)));
        assert!([4, 16, 17, 41, 48].into_iter().all(|name| refused(libc::IPPROTO_IP, name)));
        assert!(refused(libc::IPPROTO_UDP, 100) && !refused(libc::IPPROTO_UDP, libc::UDP_SEGMENT));
        // Netfilter, and multicast routing.
        assert!(
            [64, 65, 66, 67, 80, 200, -1].into_iter().all(|name| refused(libc::IPPROTO_IP, name))
        );
        assert!(
            [64, 65, 68, 69, 80, 200, -1].into_iter().all(|it| refused(libc::IPPROTO_IPV6, it))
        );
        assert!(!refused(libc::IPPROTO_TCP, libc::TCP_NODELAY) && !refused(libc::IPPROTO_UDP, 1));
        assert!(!refused(libc::IPPROTO_IPV6, libc::IPV6_TCLASS));
    }

    #[test]
    fn whatever_the_kernel_writes_is_a_value() {
        let all = [0xff; MAX_VALUE];
        assert!(bool::decode(&all));
        assert_eq!(Linger::decode(&all), Linger::Seconds(u16::MAX));
        assert_eq!(Duration::decode(&all), Duration::ZERO);
        let large = joined([&i64::MAX.to_ne_bytes(), &i64::MAX.to_ne_bytes()]);
        assert!(Duration::decode(&large) > Duration::from_secs(1 << 62));
        assert_eq!(Duration::MAX.encode().0[..8], i64::MAX.to_ne_bytes());
    }
}
