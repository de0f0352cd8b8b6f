//! UDP sockets, from outside of the rings.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use super::Sim;
use super::outside::given;
use super::world::{Io, Kind};

/// # Datagrams
impl Sim {
    /// A UDP socket that is bound to an address of IPv4. Port 0 is any that is free; see
    /// [`local_address`](Self::local_address).
    ///
    /// # Errors
    ///
    /// `EADDRINUSE`, `EAFNOSUPPORT`, and as [`pipe`](Self::pipe).
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::sim::Sim;
    /// use annulus::{Setup, op};
    ///
    /// let sim = Sim::new(1);
    /// let mut ring = Setup::new(8).kernel(sim.kernel()).build()?;
    /// let address = "10.0.0.1:53".parse()?;
    /// let server = sim.udp_socket(address)?;
    /// let client = sim.udp_socket("10.0.0.2:0".parse()?)?;
    /// sim.send_to(&client, b"question", address)?;
    /// let recv = ring.submit(op::Recv::new(server, Vec::with_capacity(512)))?;
    /// assert_eq!(ring.wait(recv)?.ok()?.1, b"question");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn udp_socket(&self, address: SocketAddr) -> io::Result<OwnedFd> {
        let fd = {
            let mut state = self.state();
            let end = state.world.make(Kind::Udp);
            given(state.world.descriptor(end))?
        };
        self.act(&fd, "bind", 0, |state, end| state.world.bind(end, address))?;
        Ok(fd)
    }

    /// The address that a socket is bound to, if it has one.
    ///
    /// # Errors
    ///
    /// `EBADF` for a descriptor that is none of this simulation.
    pub fn local_address(&self, fd: impl AsFd) -> io::Result<Option<SocketAddr>> {
        let state = self.state();
        let end = state.world.find(fd.as_fd().as_raw_fd());
        let end = end.ok_or(io::Error::from_raw_os_error(libc::EBADF))?;
        Ok(state.world.ends[end].address)
    }

    /// Sends a datagram to an address, as `sendto(2)` does.
    ///
    /// # Errors
    ///
    /// Those of `sendto(2)`; `ENOTSOCK` for what is no UDP socket.
    pub fn send_to(&self, fd: impl AsFd, bytes: &[u8], to: SocketAddr) -> io::Result<usize> {
        self.act(fd, "send", bytes.len(), |state, end| match state.world.ends[end].kind {
            Kind::Udp => state.world.send_message(end, bytes, Some(to)),
            _ => Io::Fails(libc::ENOTSOCK),
        })
    }

    /// Receives a datagram whole, and from where it came: `recvfrom(2)`, if it may not wait.
    ///
    /// # Errors
    ///
    /// `EAGAIN` when there is none, `ECONNREFUSED` when one that was sent found nobody, `ENOTSOCK`
    /// for what is no UDP socket.
    pub fn receive_from(&self, fd: impl AsFd) -> io::Result<(Vec<u8>, SocketAddr)> {
        self.act(fd, "receive", 0, |state, end| match state.world.ends[end].kind {
            Kind::Udp => match state.world.take_message(end, usize::MAX) {
                Io::Done((mail, _)) => {
                    Io::Done((mail.bytes, mail.from.expect("UDP sockets have addresses")))
                }
                Io::Wait => Io::Wait,
                Io::Fails(errno) => Io::Fails(errno),
            },
            _ => Io::Fails(libc::ENOTSOCK),
        })
    }
}
