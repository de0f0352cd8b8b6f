//! What only sockets do: connections are made, queued, accepted and shut down.
//!
//! ```text
//!   Fresh ── connect ──► queue of Listener ── accept ──► Connection
//! ```

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::datagrams::covers;
use super::trace::EndId;
use super::world::{End, Io, Kind, Life, Shut, World};

/// How many connections a listener queues.
const BACKLOG: usize = 128;

impl World {
    /// Ends one direction, or both.
    pub(super) fn shut_down(&mut self, at: EndId, how: i32) -> Io<()> {
        let (reads, writes) = match how {
            libc::SHUT_RD => (true, false),
            libc::SHUT_WR => (false, true),
            libc::SHUT_RDWR => (true, true),
            _ => return Io::Fails(libc::EINVAL),
        };
        let end = &mut self.ends[at];
        match end.kind {
            Kind::Pair | Kind::Connection => {}
            Kind::Fresh => return Io::Fails(libc::ENOTCONN),
            Kind::Real => return self.shut_down_real(at, how),
            Kind::Datagram | Kind::Udp => return Io::Fails(libc::EINVAL),
            Kind::Listener => {
                end.no_more.reads |= reads;
                self.wake(at);
                return Io::Done(());
            }
            _ => return Io::Fails(libc::ENOTSOCK),
        }
        end.no_more =
            Shut { reads: end.no_more.reads | reads, writes: end.no_more.writes | writes };
        if let Some(peer) = end.peer {
            let other = &mut self.ends[peer].no_more;
            *other = Shut { reads: other.reads | writes, writes: other.writes | reads };
            self.wake(peer);
        }
        self.wake(at);
        Io::Done(())
    }

    /// How many bytes can be sent on a stream; all, if a send would fail.
    pub(super) fn room(&self, at: EndId) -> usize {
        self.ends[at].peer.map_or(usize::MAX, |peer| self.ends[peer].inbox.room())
    }

    /// Takes a connection off a listener's queue.
    pub(super) fn accept(&mut self, at: EndId) -> Io<EndId> {
        let end = &mut self.ends[at];
        match end.kind {
            Kind::Listener if end.no_more.reads => Io::Fails(libc::EINVAL),
            Kind::Listener => match end.queue.pop_front() {
                Some(connection) => {
                    self.wake(at);
                    Io::Done(connection)
                }
                None => Io::Wait,
            },
            Kind::Fresh | Kind::Pair | Kind::Connection => Io::Fails(libc::EINVAL),
            Kind::Datagram | Kind::Udp => Io::Fails(libc::EOPNOTSUPP),
            _ => Io::Fails(libc::ENOTSOCK),
        }
    }

    /// Lets a socket take connections: `listen(2)`.
    pub(super) fn listen(&mut self, at: EndId) -> Io<()> {
        match self.ends[at].kind {
            Kind::Listener => Io::Done(()),
            Kind::Fresh => {
                if self.ends[at].address.is_none() {
                    let anywhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
                    self.ends[at].address = Some(SocketAddr::new(anywhere, self.free_port()));
                }
                self.ends[at].kind = Kind::Listener;
                Io::Done(())
            }
            Kind::Pair | Kind::Connection => Io::Fails(libc::EINVAL),
            Kind::Datagram | Kind::Udp => Io::Fails(libc::EOPNOTSUPP),
            _ => Io::Fails(libc::ENOTSOCK),
        }
    }

    /// The listener at an address.
    pub(super) fn listener(&self, address: SocketAddr) -> Option<EndId> {
        let is_it = |end: &End| {
            let is_there = end.address.is_some_and(|other| covers(other, address));
            end.kind == Kind::Listener && is_there && end.life != Life::Gone
        };
        self.ends.iter().position(is_it)
    }

    /// Connects a fresh socket to the listener at an address.
    pub(super) fn connect(&mut self, at: EndId, address: SocketAddr) -> Io<()> {
        match self.ends[at].kind {
            Kind::Fresh => {}
            Kind::Udp => return self.connect_udp(at, address),
            Kind::Datagram => return Io::Fails(libc::EINVAL),
            Kind::Pair | Kind::Connection => return Io::Fails(libc::EISCONN),
            Kind::Listener => return Io::Fails(libc::EINVAL),
            _ => return Io::Fails(libc::ENOTSOCK),
        }
        let Some(listener) = self.listener(address) else { return Io::Fails(libc::ECONNREFUSED) };
        if self.ends[listener].no_more.reads {
            return Io::Fails(libc::ECONNREFUSED);
        }
        if self.ends[listener].queue.len() >= BACKLOG {
            return Io::Wait;
        }
        let served = self.make(Kind::Connection);
        self.ends[served].address = Some(address);
        let own = self.ends[at].address;
        let port = own.map_or_else(|| self.free_port(), |own| own.port());
        let ip = own.map(|own| own.ip()).filter(|ip| !ip.is_unspecified());
        self.ends[at].address = Some(SocketAddr::new(ip.unwrap_or(address.ip()), port));
        self.ends[at].kind = Kind::Connection;
        self.join(at, served);
        self.ends[listener].queue.push_back(served);
        self.wake(listener);
        Io::Done(())
    }
}
