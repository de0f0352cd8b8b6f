//! Datagrams: whole messages between two Unix sockets, or between UDP sockets with addresses.
//!
//! ```text
//!   Datagram ◄──► Datagram      208 KiB each way, of which a message costs some; then a send waits
//!   Udp ── to an address ──►    the socket that is bound to it; none is lost, unless nobody takes
//!                               them: behind 1024, the next ones are
//! ```
//!
//! A send to an address where nobody is succeeds; a socket that is connected to it hears of that
//! with its next call (`ECONNREFUSED`).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::trace::EndId;
use super::world::{End, Io, Kind, Life, Mail, World};

/// What a message costs of a Unix socket's room, besides its bytes; and the room. Linux counts
/// memory.
const COST: usize = 768;
const ROOM: usize = 212_992;

/// How many messages wait at a UDP socket.
const UDP_MOST: usize = 1024;

/// The longest message: half of the room for sends, and what an IPv4 packet holds.
const UNIX_LONGEST: usize = 212_960;
const UDP_LONGEST: usize = 65_507;

const ANYWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Whether an end takes and gives whole messages.
pub(super) fn has_messages(kind: Kind) -> bool {
    matches!(kind, Kind::Datagram | Kind::Udp)
}

impl World {
    /// Takes a message, cut to `most` bytes, and how long it was. Whoever asks for no bytes takes
    /// one, too.
    pub(super) fn take_message(&mut self, at: EndId, most: usize) -> Io<(Mail, usize)> {
        let end = &mut self.ends[at];
        if end.kind == Kind::Udp && std::mem::take(&mut end.is_reset) {
            return Io::Fails(libc::ECONNREFUSED);
        }
        let Some(mut mail) = end.mail.pop_front() else { return Io::Wait };
        let len = mail.bytes.len();
        mail.bytes.truncate(most);
        if let Some(peer) = end.peer {
            self.wake(peer);
        }
        Io::Done((mail, len))
    }

    /// Sends a message, to where the socket is connected or to an address.
    pub(super) fn send_message(
        &mut self,
        at: EndId,
        bytes: &[u8],
        to: Option<SocketAddr>,
    ) -> Io<usize> {
        match self.ends[at].kind {
            Kind::Datagram if to.is_some() => Io::Fails(libc::EINVAL),
            Kind::Datagram => self.send_to_peer(at, bytes),
            _ => self.send_to_address(at, bytes, to),
        }
    }

    fn send_to_peer(&mut self, at: EndId, bytes: &[u8]) -> Io<usize> {
        let end = &mut self.ends[at];
        if bytes.len() > UNIX_LONGEST {
            return Io::Fails(libc::EMSGSIZE);
        }
        let Some(peer) = end.peer else {
            // It is told once that the other end is gone, and loses what came from there.
            if std::mem::take(&mut end.is_reset) {
                end.mail.clear();
                return Io::Fails(libc::ECONNREFUSED);
            }
            return Io::Fails(libc::ENOTCONN);
        };
        if self.is_full(peer) {
            return Io::Wait;
        }
        self.ends[peer].mail.push_back(Mail { bytes: bytes.to_vec(), from: None });
        self.wake(peer);
        Io::Done(bytes.len())
    }

    /// Whether a message to the end would have to wait.
    pub(super) fn is_full(&self, at: EndId) -> bool {
        let mail = &self.ends[at].mail;
        let used: usize = mail.iter().map(|mail| COST + mail.bytes.len()).sum();
        self.ends[at].kind == Kind::Datagram && used >= ROOM
    }

    fn send_to_address(&mut self, at: EndId, bytes: &[u8], to: Option<SocketAddr>) -> Io<usize> {
        let end = &mut self.ends[at];
        if bytes.len() > UDP_LONGEST {
            return Io::Fails(libc::EMSGSIZE);
        }
        let is_connected = to.is_none();
        let to = match to.or(end.remote) {
            Some(to) if !to.is_ipv4() => return Io::Fails(libc::EAFNOSUPPORT),
            Some(to) if to.port() == 0 => return Io::Fails(libc::EINVAL),
            Some(to) => to,
            None => return Io::Fails(libc::EDESTADDRREQ),
        };
        if std::mem::take(&mut end.is_reset) {
            return Io::Fails(libc::ECONNREFUSED);
        }
        let from = self.bound(at);
        let ip = if from.ip().is_unspecified() { to.ip() } else { from.ip() };
        let from = SocketAddr::new(ip, from.port());
        let receiver = self.receiver(from, to);
        if receiver.is_none() && is_connected {
            self.ends[at].is_reset = true;
            self.wake(at);
        }
        if let Some(receiver) = receiver.filter(|&other| self.ends[other].mail.len() < UDP_MOST) {
            let mail = Mail { bytes: bytes.to_vec(), from: Some(from) };
            self.ends[receiver].mail.push_back(mail);
            self.wake(receiver);
        }
        Io::Done(bytes.len())
    }

    /// Who gets a message: a socket that is bound to the address, and connected to the sender or to
    /// nobody.
    fn receiver(&self, from: SocketAddr, to: SocketAddr) -> Option<EndId> {
        let takes = |end: &End| {
            let is_there = end.address.is_some_and(|address| covers(address, to));
            let is_asked = end.remote.is_none_or(|remote| remote == from);
            end.kind == Kind::Udp && end.life != Life::Gone && is_there && is_asked
        };
        let found = (0..self.ends.len()).filter(|&at| takes(&self.ends[at]));
        // One that is connected goes before one that is not.
        found.max_by_key(|&at| self.ends[at].remote.is_some())
    }

    /// Gives a socket an address: `bind(2)`. Port 0 is any that is free.
    pub(super) fn bind(&mut self, at: EndId, address: SocketAddr) -> Io<()> {
        let end = &self.ends[at];
        match end.kind {
            Kind::Fresh | Kind::Udp if end.address.is_none() => {}
            Kind::Fresh | Kind::Udp | Kind::Listener | Kind::Connection => {
                return Io::Fails(libc::EINVAL);
            }
            Kind::Pair | Kind::Datagram => return Io::Fails(libc::EINVAL),
            _ => return Io::Fails(libc::ENOTSOCK),
        }
        let is_udp = end.kind == Kind::Udp;
        if is_udp && !address.is_ipv4() {
            return Io::Fails(libc::EAFNOSUPPORT);
        }
        if address.port() == 0 {
            let port = self.free_port();
            self.ends[at].address = Some(SocketAddr::new(address.ip(), port));
            return Io::Done(());
        }
        let clashes = |end: &End| {
            let is_kind = match end.kind {
                Kind::Udp => is_udp,
                Kind::Fresh | Kind::Listener => !is_udp,
                _ => false,
            };
            let is_there = |other| covers(other, address) || covers(address, other);
            is_kind && end.life != Life::Gone && end.address.is_some_and(is_there)
        };
        if self.ends.iter().any(clashes) {
            return Io::Fails(libc::EADDRINUSE);
        }
        self.ends[at].address = Some(address);
        Io::Done(())
    }

    /// The next port that the kernel gives away.
    pub(super) fn free_port(&mut self) -> u16 {
        loop {
            self.ports = self.ports.wrapping_add(1);
            let port = 49_152 + self.ports % 16_384;
            let uses = |end: &End| end.address.is_some_and(|address| address.port() == port);
            if !self.ends.iter().any(|end| end.life != Life::Gone && uses(end)) {
                return port;
            }
        }
    }

    /// The address of a UDP socket, which it gets now if it has none.
    fn bound(&mut self, at: EndId) -> SocketAddr {
        if let Some(address) = self.ends[at].address {
            return address;
        }
        let address = SocketAddr::new(ANYWHERE, self.free_port());
        self.ends[at].address = Some(address);
        address
    }

    /// Connects a UDP socket: from now on it talks only to that address.
    pub(super) fn connect_udp(&mut self, at: EndId, address: SocketAddr) -> Io<()> {
        if !address.is_ipv4() {
            return Io::Fails(libc::EAFNOSUPPORT);
        }
        let own = self.bound(at);
        let ip = if own.ip().is_unspecified() { address.ip() } else { own.ip() };
        self.ends[at].address = Some(SocketAddr::new(ip, own.port()));
        self.ends[at].remote = Some(address);
        Io::Done(())
    }
}

/// Whether what is sent to `to` comes to a socket that is bound to `address`.
pub(super) fn covers(address: SocketAddr, to: SocketAddr) -> bool {
    let is_anywhere = address.ip().is_unspecified() && address.is_ipv4() == to.is_ipv4();
    address == to || (is_anywhere && address.port() == to.port())
}
