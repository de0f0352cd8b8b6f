//! Socket addresses, as the bytes that the kernel reads and writes.
//!
//! ```text
//!   SocketAddrV4   │ 2 │ port │ 4 bytes │ 8 zeroes │                            16 bytes
//!   SocketAddrV6   │ 10 │ port │ flow info │ 16 bytes │ scope │                 28
//!   a unix path    │ 1 │ path │ 0 │                                             up to 110
//!   abstract name  │ 1 │ 0 │ name │                                             up to 110
//!   unnamed        │ 1 │                                                        2
//! ```
//!
//! Addresses are written and read byte by byte, through the public API of the standard library; its
//! own representation does not matter here. An address lies inside the operation that names it, so
//! nothing is allocated. It takes 28 bytes where it is always an internet address ([`SendTo`]), and
//! 128 bytes, enough for any family, where an operation has little else ([`Connect`],
//! [`AcceptFrom`]) or in an [`MsgHeader`].
//!
//! Keeps OP1: where the kernel writes, its length is clamped to the room there was. Leaves to
//! others: which addresses may name descriptors (`family`).
//!
//! [`SendTo`]: crate::op::SendTo
//! [`Connect`]: crate::op::Connect
//! [`AcceptFrom`]: crate::op::AcceptFrom
//! [`MsgHeader`]: crate::op::MsgHeader
#![allow(unsafe_code, reason = "has one constructor that the caller must vouch for")]

mod family;

use std::ffi::OsStr;
use std::fmt;
use std::net::{self, SocketAddrV4, SocketAddrV6};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net as unix;

const UNIX: u16 = 1;
const INET: u16 = 2;
const INET6: u16 = 10;

const _: () = {
    assert!(libc::AF_UNIX.cast_unsigned() == UNIX as u32);
    assert!(libc::AF_INET.cast_unsigned() == INET as u32);
    assert!(libc::AF_INET6.cast_unsigned() == INET6 as u32);
};

/// The longest address, in bytes (`struct sockaddr_storage`).
pub(crate) const MAX_ADDRESS: usize = 128;
/// The longest internet address, in bytes (`struct sockaddr_in6`).
pub(crate) const MAX_INET: usize = 28;

/// Room for an address of up to `N` bytes.
#[doc(hidden)]
#[derive(Clone, Copy)]
pub struct Storage<const N: usize> {
    /// The length of the address in bytes. The kernel may report more than there is room for.
    len: u32,
    bytes: [u8; N],
}

impl<const N: usize> Storage<N> {
    /// No address.
    pub(crate) const EMPTY: Self = Self { len: 0, bytes: [0; N] };

    /// The concatenated parts, cut to the room there is.
    #[inline]
    fn of(parts: &[&[u8]]) -> Self {
        let mut this = Self::EMPTY;
        let mut end = 0;
        for part in parts {
            let part = &part[..part.len().min(N - end)];
            this.bytes[end..end + part.len()].copy_from_slice(part);
            end += part.len();
        }
        this.len = length(end);
        this
    }

    #[inline]
    pub(crate) fn inet(address: net::SocketAddr) -> Self {
        let port = address.port().to_be_bytes();
        match address {
            net::SocketAddr::V4(v4) => {
                Self::of(&[&INET.to_ne_bytes(), &port, &v4.ip().octets(), &[0; 8]])
            }
            net::SocketAddr::V6(v6) => Self::of(&[
                &INET6.to_ne_bytes(),
                &port,
                &v6.flowinfo().to_ne_bytes(),
                &v6.ip().octets(),
                &v6.scope_id().to_ne_bytes(),
            ]),
        }
    }

    fn unix(address: &unix::SocketAddr) -> Self {
        let family = &UNIX.to_ne_bytes();
        match (address.as_pathname(), address.as_abstract_name()) {
            (Some(path), _) => Self::of(&[family, path.as_os_str().as_bytes(), &[0]]),
            (None, Some(name)) => Self::of(&[family, &[0], name]),
            (None, None) => Self::of(&[family]),
        }
    }

    /// Where the kernel may write an address, and where the address's length lies. That length now
    /// says how much room there is.
    #[inline]
    pub(crate) fn room(&mut self) -> (u64, u64) {
        self.len = self.capacity();
        let Self { len, bytes } = self;
        let bytes = (&raw mut *bytes).expose_provenance() as u64;
        (bytes, (&raw mut *len).expose_provenance() as u64)
    }

    /// Records a length that the kernel reported elsewhere.
    #[inline]
    pub(crate) fn set_len(&mut self, len: u32) {
        self.len = len;
    }

    /// The pointer to the address, and its length in bytes.
    #[inline]
    pub(crate) fn place(&self) -> (u64, u32) {
        let bytes = self.as_ref();
        (bytes.as_ptr().expose_provenance() as u64, length(bytes.len()))
    }

    /// The capacity in bytes.
    #[inline]
    pub(crate) fn capacity(&self) -> u32 {
        length(N)
    }

    /// The stored address. `None` if there is none, if it was cut, or if it may name a descriptor.
    pub(crate) fn address(&self) -> Option<Address> {
        let fits = self.len <= self.capacity();
        if fits { Address::from_bytes(self.as_ref()) } else { None }
    }
}

impl<const N: usize> AsRef<[u8]> for Storage<N> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.len.min(self.capacity()) as usize]
    }
}

/// The length of an address.
#[inline]
fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("an address has at most 128 bytes")
}

impl<const N: usize> fmt::Debug for Storage<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.address(), f)
    }
}

/// A socket address of any family.
///
/// # Example
///
/// ```
/// use annulus::op::Address;
/// use std::net::{Ipv4Addr, SocketAddr};
/// use std::os::unix::net::SocketAddr as UnixAddr;
///
/// let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 80));
/// let address = Address::from(local);
/// assert_eq!(address.as_inet(), Some(local));
/// assert_eq!(address.to_string(), "127.0.0.1:80");
///
/// let path = UnixAddr::from_pathname("/run/echo.sock")?;
/// assert!(Address::from(&path).as_inet().is_none());
/// # Ok::<(), std::io::Error>(())
/// ```
#[doc(alias = "sockaddr")]
#[derive(Clone, Copy)]
pub struct Address(pub(crate) Storage<MAX_ADDRESS>);

impl Address {
    /// The address with the bytes of this `sockaddr`, for families that the standard library does
    /// not know. `None` if there are more than 128 bytes, or too few for a family. Also `None` if
    /// the bytes may name a descriptor: those of `AF_XDP` and `AF_PPPOX` do, and those of a family
    /// that this crate does not know might; see [`from_raw`](Self::from_raw).
    pub fn from_bytes(sockaddr: &[u8]) -> Option<Self> {
        let fits = sockaddr.len() <= MAX_ADDRESS && family::names_no_descriptor(sockaddr);
        fits.then(|| Self(Storage::of(&[sockaddr])))
    }

    /// The address with the bytes of this `sockaddr`, whatever they mean. `None` if there are more
    /// than 128 bytes, or none.
    ///
    /// ```
    /// use annulus::op::Address;
    ///
    /// // The socket to share memory with: of this process, and open until both are bound.
    /// # let shared = std::io::pipe()?.0;
    /// let number = std::os::fd::AsRawFd::as_raw_fd(&shared);
    /// let xdp = [&[44, 0, 1, 0][..], &[0; 8], &number.to_ne_bytes()].concat();
    /// assert!(Address::from_bytes(&xdp).is_none());
    /// // SAFETY: the only descriptor that it names is `shared`, which is open.
    /// assert!(unsafe { Address::from_raw(&xdp) }.is_some());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Safety
    ///
    /// The caller must be allowed to use each descriptor that the address names, wherever the
    /// address is used. The descriptor must stay open until then: an address does not keep it open.
    pub unsafe fn from_raw(sockaddr: &[u8]) -> Option<Self> {
        let fits = !sockaddr.is_empty() && sockaddr.len() <= MAX_ADDRESS;
        fits.then(|| Self(Storage::of(&[sockaddr])))
    }

    /// The bytes of its `sockaddr`.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_ref()
    }

    /// The address and port, if this is an internet address.
    pub fn as_inet(&self) -> Option<net::SocketAddr> {
        let (family, rest) = self.as_bytes().split_first_chunk()?;
        let (port, rest) = rest.split_first_chunk()?;
        let port = u16::from_be_bytes(*port);
        match u16::from_ne_bytes(*family) {
            INET => {
                let (ip, _) = rest.split_first_chunk::<4>()?;
                Some(net::SocketAddr::from((*ip, port)))
            }
            INET6 => {
                let (flow, rest) = rest.split_first_chunk()?;
                let (ip, rest) = rest.split_first_chunk::<16>()?;
                let (scope, _) = rest.split_first_chunk()?;
                let (flow, scope) = (u32::from_ne_bytes(*flow), u32::from_ne_bytes(*scope));
                Some(SocketAddrV6::new((*ip).into(), port, flow, scope).into())
            }
            _ => None,
        }
    }

    /// The path or the name, if this is a unix address that the standard library can hold. It
    /// cannot hold a path of 108 bytes, which the kernel accepts.
    pub fn as_unix(&self) -> Option<unix::SocketAddr> {
        let (family, name) = self.as_bytes().split_first_chunk()?;
        if u16::from_ne_bytes(*family) != UNIX {
            return None;
        }
        let address = match name {
            [0, name @ ..] => unix::SocketAddr::from_abstract_name(name),
            path => {
                let path = path.split(|&byte| byte == 0).next().unwrap_or_default();
                unix::SocketAddr::from_pathname(OsStr::from_bytes(path))
            }
        };
        address.ok()
    }
}

impl From<net::SocketAddr> for Address {
    fn from(address: net::SocketAddr) -> Self {
        Self(Storage::inet(address))
    }
}

impl From<SocketAddrV4> for Address {
    fn from(address: SocketAddrV4) -> Self {
        Self(Storage::inet(address.into()))
    }
}

impl From<SocketAddrV6> for Address {
    fn from(address: SocketAddrV6) -> Self {
        Self(Storage::inet(address.into()))
    }
}

impl From<unix::SocketAddr> for Address {
    fn from(address: unix::SocketAddr) -> Self {
        Self(Storage::unix(&address))
    }
}

impl From<&unix::SocketAddr> for Address {
    fn from(address: &unix::SocketAddr) -> Self {
        Self(Storage::unix(address))
    }
}

impl PartialEq for Address {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Address {}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.as_inet(), self.as_unix()) {
            (Some(inet), _) => inet.fmt(f),
            (None, Some(unix)) => unix.fmt(f),
            (None, None) => self.as_bytes().fmt(f),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_inet() {
            Some(inet) => inet.fmt(f),
            None => fmt::Debug::fmt(self, f),
        }
    }
}

mod sealed {
    /// Only types in this file are destinations.
    pub trait Sealed {}
}

/// A destination for a datagram: an address type of the standard library, or an [`Address`].
pub trait Destination: sealed::Sealed {
    /// Its bytes, with exactly the room that this kind of address needs.
    type Bytes: AsRef<[u8]> + fmt::Debug;

    /// Its bytes.
    #[doc(hidden)]
    fn encode(self) -> Self::Bytes;
}

impl sealed::Sealed for net::SocketAddr {}
impl sealed::Sealed for SocketAddrV4 {}
impl sealed::Sealed for SocketAddrV6 {}
impl sealed::Sealed for unix::SocketAddr {}
impl sealed::Sealed for Address {}

impl Destination for net::SocketAddr {
    type Bytes = Storage<MAX_INET>;

    #[inline]
    fn encode(self) -> Self::Bytes {
        Storage::inet(self)
    }
}

impl Destination for SocketAddrV4 {
    type Bytes = Storage<MAX_INET>;

    #[inline]
    fn encode(self) -> Self::Bytes {
        Storage::inet(self.into())
    }
}

impl Destination for SocketAddrV6 {
    type Bytes = Storage<MAX_INET>;

    #[inline]
    fn encode(self) -> Self::Bytes {
        Storage::inet(self.into())
    }
}

impl Destination for unix::SocketAddr {
    type Bytes = Storage<MAX_ADDRESS>;

    fn encode(self) -> Self::Bytes {
        Storage::unix(&self)
    }
}

impl Destination for Address {
    type Bytes = Storage<MAX_ADDRESS>;

    fn encode(self) -> Self::Bytes {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

    use super::*;

    fn v6() -> SocketAddrV6 {
        SocketAddrV6::new(Ipv6Addr::new(0xfe80, 0, 0, 0, 1, 2, 3, 4), 0x1234, 5, 6)
    }

    #[test]
    fn addresses_of_the_internet_have_the_bytes_of_their_sockaddr() {
        let v4 = Address::from(SocketAddrV4::new([127, 0, 0, 1].into(), 0x1f90));
        assert_eq!(v4.as_bytes(), [2, 0, 0x1f, 0x90, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        let v6 = Address::from(v6());
        let head = [10, 0, 0x12, 0x34, 5, 0, 0, 0, 0xfe, 0x80];
        let tail = [0, 0, 0, 0, 0, 0, 0, 1, 0, 2, 0, 3, 0, 4, 6, 0, 0, 0];
        assert_eq!(v6.as_bytes(), [head.as_slice(), &tail].concat());
    }

    #[test]
    fn what_is_written_is_read_back() {
        let v4: SocketAddr = "192.0.2.7:65535".parse().expect("an address");
        for inet in [v4, v6().into()] {
            assert_eq!(Address::from(inet).as_inet(), Some(inet));
            assert!(Address::from(inet).as_unix().is_none());
            let short: Storage<MAX_INET> = Storage::inet(inet);
            assert_eq!(short.address(), Some(Address::from(inet)));
        }
        let path = unix::SocketAddr::from_pathname("/tmp/socket").expect("a path");
        let read = Address::from(&path).as_unix().expect("a path");
        assert_eq!(read.as_pathname(), path.as_pathname());
        let name = unix::SocketAddr::from_abstract_name(b"a\0b").expect("a name");
        let read = Address::from(name).as_unix().expect("a name");
        assert_eq!(read.as_abstract_name(), Some(b"a\0b".as_slice()));
        let unnamed = unix::SocketAddr::from_pathname("").expect("no name");
        assert_eq!(Address::from(&unnamed).as_bytes(), [1, 0]);
        assert!(Address::from(unnamed).as_unix().is_some_and(|address| address.is_unnamed()));
    }

    #[test]
    fn the_longest_path_fits_and_a_longer_one_is_no_path() {
        let path = "x".repeat(107);
        let address = Address::from(unix::SocketAddr::from_pathname(&path).expect("a path"));
        assert_eq!(address.as_bytes().len(), 110);
        let read = address.as_unix().expect("a path");
        assert_eq!(read.as_pathname().and_then(|path| path.to_str()), Some(path.as_str()));
        let whole = [UNIX.to_ne_bytes().as_slice(), &[b'x'; 108]].concat();
        let address = Address::from_bytes(&whole).expect("within 128 bytes");
        assert!(address.as_unix().is_none());
        assert_eq!(address.as_bytes(), whole);
    }

    #[test]
    fn a_length_beyond_the_room_is_no_address_and_reads_no_further() {
        let mut storage: Storage<MAX_INET> = Storage::inet(v6().into());
        for len in [29, 128, 1 << 31, u32::MAX] {
            storage.set_len(len);
            assert_eq!(storage.address(), None, "{len}");
            assert_eq!(storage.as_ref().len(), MAX_INET, "{len}");
        }
        storage.set_len(0);
        assert_eq!((storage.address(), storage.as_ref().len()), (None, 0));
    }

    #[test]
    fn an_address_that_is_cut_short_anywhere_is_none() {
        let v4 = SocketAddrV4::new([127, 0, 0, 1].into(), 7);
        for (address, least) in [(Address::from(v4), 8), (Address::from(v6()), 28)] {
            for len in 2..least {
                let cut = Address::from_bytes(&address.as_bytes()[..len]).expect("a family");
                assert_eq!((cut.as_inet(), cut.as_unix().is_some()), (None, false), "{len}");
            }
        }
        assert!([0, 1, 129].iter().all(|&len| Address::from_bytes(&[0; 129][..len]).is_none()));
    }

    #[test]
    fn a_family_that_the_standard_library_does_not_know_keeps_its_bytes() {
        let vsock = [40, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0];
        let address = Address::from_bytes(&vsock).expect("within 128 bytes");
        assert_eq!((address.as_inet(), address.as_unix().is_none()), (None, true));
        assert_eq!(address.as_bytes(), vsock);
        assert!(format!("{address}").starts_with("[40, 0"));
    }

    #[test]
    fn an_address_reads_as_the_standard_librarys_does() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let local = listener.local_addr().expect("its address");
        assert_eq!(Address::from(local).to_string(), local.to_string());
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let local = socket.local_addr().expect("its address");
        assert_eq!(format!("{:?}", Address::from(local)), format!("{local:?}"));
        let path = unix::SocketAddr::from_pathname("/a").expect("a path");
        assert_eq!(Address::from(&path).to_string(), format!("{path:?}"));
    }
}
