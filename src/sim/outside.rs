//! The world, from outside of the rings: making ends, and acting on them as a peer would.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use annulus_sys::errno::Errno;

use super::Sim;
use super::state::State;
use super::trace::{EndId, What};
use super::world::{Io, Kind};

/// # The world
///
/// Descriptors are real, so they can be given to every operation, kept in a `File` or a
/// `TcpStream`, duplicated and closed. They hold no data: reads and writes of the standard library
/// fail.
impl Sim {
    /// A pipe: the end to read from, and the end to write to.
    ///
    /// # Errors
    ///
    /// `EMFILE`: each end costs two descriptors of the process.
    pub fn pipe(&self) -> io::Result<(OwnedFd, OwnedFd)> {
        self.two(Kind::Reader, Kind::Writer)
    }

    /// Two connected sockets, streams of bytes, as `socketpair(2)` makes them.
    ///
    /// # Errors
    ///
    /// As [`pipe`](Self::pipe).
    pub fn socket_pair(&self) -> io::Result<(OwnedFd, OwnedFd)> {
        self.two(Kind::Pair, Kind::Pair)
    }

    /// Two connected Unix sockets for datagrams.
    ///
    /// # Errors
    ///
    /// As [`pipe`](Self::pipe).
    pub fn datagram_pair(&self) -> io::Result<(OwnedFd, OwnedFd)> {
        self.two(Kind::Datagram, Kind::Datagram)
    }

    /// A file with these contents.
    ///
    /// # Errors
    ///
    /// As [`pipe`](Self::pipe).
    pub fn file(&self, contents: impl Into<Vec<u8>>) -> io::Result<OwnedFd> {
        let mut state = self.state();
        let end = state.world.make_file(contents.into());
        given(state.world.descriptor(end))
    }

    /// An eventfd that holds `count`.
    ///
    /// # Errors
    ///
    /// As [`pipe`](Self::pipe).
    pub fn eventfd(&self, count: u64) -> io::Result<OwnedFd> {
        let mut state = self.state();
        let end = state.world.make(Kind::Counter);
        state.world.ends[end].position = count;
        given(state.world.descriptor(end))
    }

    /// A socket that listens at `address`.
    ///
    /// # Errors
    ///
    /// `EADDRINUSE`, and as [`pipe`](Self::pipe).
    pub fn listener(&self, address: SocketAddr) -> io::Result<OwnedFd> {
        let mut state = self.state();
        state.look();
        if state.world.listener(address).is_some() {
            return Err(io::Error::from_raw_os_error(libc::EADDRINUSE));
        }
        let end = state.world.make(Kind::Listener);
        state.world.ends[end].address = Some(address);
        given(state.world.descriptor(end))
    }

    /// A socket that is not connected, for a `CONNECT`.
    ///
    /// # Errors
    ///
    /// As [`pipe`](Self::pipe).
    pub fn socket(&self) -> io::Result<OwnedFd> {
        let mut state = self.state();
        let end = state.world.make(Kind::Fresh);
        given(state.world.descriptor(end))
    }

    /// A socket that is connected to the listener at `address`.
    ///
    /// # Errors
    ///
    /// `ECONNREFUSED` if none listens there, `EAGAIN` if its queue is full, and as
    /// [`pipe`](Self::pipe).
    pub fn connect(&self, address: SocketAddr) -> io::Result<OwnedFd> {
        let socket = self.socket()?;
        self.act(&socket, "connect", 0, |state, end| state.world.connect(end, address))?;
        Ok(socket)
    }

    /// Writes to a pipe, socket, file or eventfd, as `write(2)` does if it may not wait. Returns
    /// how many bytes there was room for.
    ///
    /// # Errors
    ///
    /// `EAGAIN` when there is no room, and those of `write(2)`.
    pub fn write(&self, fd: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
        self.act(fd, "write", bytes.len(), |state, end| state.world.write(end, bytes, None))
    }

    /// Reads up to `most` bytes, as `read(2)` does if it may not wait. None at the end.
    ///
    /// # Errors
    ///
    /// `EAGAIN` when there is nothing to read, and those of `read(2)`.
    pub fn read(&self, fd: impl AsFd, most: usize) -> io::Result<Vec<u8>> {
        self.act(fd, "read", most, |state, end| state.world.read(end, most, None))
    }

    /// Shuts a socket down: `shutdown(2)`.
    ///
    /// # Errors
    ///
    /// Those of `shutdown(2)`.
    pub fn shut_down(&self, fd: impl AsFd, how: Shutdown) -> io::Result<()> {
        let how = match how {
            Shutdown::Read => libc::SHUT_RD,
            Shutdown::Write => libc::SHUT_WR,
            Shutdown::Both => libc::SHUT_RDWR,
        };
        self.act(fd, "shutdown", 0, |state, end| state.world.shut_down(end, how))
    }

    /// The contents of a file.
    ///
    /// # Errors
    ///
    /// `EBADF` for a descriptor that is no file of this simulation.
    pub fn contents(&self, file: impl AsFd) -> io::Result<Vec<u8>> {
        let mut state = self.state();
        state.look();
        let end = state.world.find(file.as_fd().as_raw_fd());
        let opened = end.and_then(|end| state.world.ends[end].opened);
        let bytes = opened.and_then(|opened| state.world.tree.bytes(opened.node));
        bytes.cloned().ok_or(io::Error::from_raw_os_error(libc::EBADF))
    }

    fn two(&self, first: Kind, second: Kind) -> io::Result<(OwnedFd, OwnedFd)> {
        let mut state = self.state();
        let (one, other) = state.world.make_pair(first, second);
        Ok((given(state.world.descriptor(one))?, given(state.world.descriptor(other))?))
    }

    /// Acts on an end, and lets the requests go on that this allows.
    pub(super) fn act<T>(
        &self,
        fd: impl AsFd,
        what: &'static str,
        bytes: usize,
        act: impl FnOnce(&mut State, EndId) -> Io<T>,
    ) -> io::Result<T> {
        let mut state = self.state();
        state.find_closed_rings();
        state.look();
        let end = state.world.find(fd.as_fd().as_raw_fd());
        let end = end.ok_or(io::Error::from_raw_os_error(libc::EBADF))?;
        state.note(None, What::Outside(what, end, bytes));
        let done = act(&mut state, end);
        state.wake_up();
        match done {
            Io::Done(done) => Ok(done),
            Io::Wait => Err(io::Error::from_raw_os_error(libc::EAGAIN)),
            Io::Fails(errno) => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

pub(super) fn given(fd: Result<OwnedFd, Errno>) -> io::Result<OwnedFd> {
    fd.map_err(|errno| io::Error::from_raw_os_error(errno.raw()))
}
