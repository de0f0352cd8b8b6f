//! Making sockets, and connecting them.

use annulus_sys::abi::Sqe;
use annulus_sys::flags::{AcceptFlags, FILE_INDEX_ALLOC, SocketUringOp};
use annulus_sys::opcode::Opcode;

use super::super::types::DestinationSlot;
use super::{Entry, UseFixed, address, at, on};

/// Makes a socket, as `socket(2)`. Since Linux 5.19.
#[derive(Debug)]
pub struct Socket(Sqe);

impl Socket {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::SOCKET.0;

    /// `AF_*`, `SOCK_*`, and a protocol.
    #[inline]
    pub fn new(domain: i32, socket_type: i32, protocol: i32) -> Self {
        Self(Sqe {
            off: i64::from(socket_type).cast_unsigned(),
            len: protocol.cast_unsigned(),
            ..at(Opcode::SOCKET, domain)
        })
    }

    /// Registers the new file at this place, in place of a descriptor.
    #[inline]
    pub const fn file_index(mut self, file_index: Option<DestinationSlot>) -> Self {
        self.0.file_index = DestinationSlot::or_descriptor(file_index);
        self
    }

    /// None exist: must be 0.
    #[inline]
    pub const fn flags(mut self, flags: i32) -> Self {
        self.0.op_flags = flags.cast_unsigned();
        self
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

/// Binds a socket, as `bind(2)`. Since Linux 6.11.
#[derive(Debug)]
pub struct Bind(Sqe);

impl Bind {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::BIND.0;

    /// To the `addrlen` bytes at `addr`.
    #[inline]
    pub fn new(fd: impl UseFixed, addr: *const libc::sockaddr, addrlen: libc::socklen_t) -> Self {
        Self(Sqe { addr: address(addr), off: u64::from(addrlen), ..on(Opcode::BIND, fd) })
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

/// Listens, as `listen(2)`. Since Linux 6.11.
#[derive(Debug)]
pub struct Listen(Sqe);

impl Listen {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::LISTEN.0;

    /// With room for `backlog` connections.
    #[inline]
    pub fn new(fd: impl UseFixed, backlog: i32) -> Self {
        Self(Sqe { len: backlog.cast_unsigned(), ..on(Opcode::LISTEN, fd) })
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

/// Accepts a connection, as `accept4(2)`. Since Linux 5.5.
#[derive(Debug)]
pub struct Accept(Sqe);

impl Accept {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::ACCEPT.0;

    /// The address of the other end goes to `addr`; both may be null.
    #[inline]
    pub fn new(
        fd: impl UseFixed,
        addr: *mut libc::sockaddr,
        addrlen: *mut libc::socklen_t,
    ) -> Self {
        Self(Sqe { addr: address(addr), off: address(addrlen), ..on(Opcode::ACCEPT, fd) })
    }

    /// Registers the new file at this place, in place of a descriptor.
    #[inline]
    pub const fn file_index(mut self, file_index: Option<DestinationSlot>) -> Self {
        self.0.file_index = DestinationSlot::or_descriptor(file_index);
        self
    }

    /// `SOCK_*`.
    #[inline]
    pub const fn flags(mut self, flags: i32) -> Self {
        self.0.op_flags = flags.cast_unsigned();
        self
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

/// Accepts connections, one after the other. Since Linux 5.19.
#[derive(Debug)]
pub struct AcceptMulti(Sqe);

impl AcceptMulti {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::ACCEPT.0;

    /// A completion for each connection.
    #[inline]
    pub fn new(fd: impl UseFixed) -> Self {
        Self(Sqe { ioprio: AcceptFlags::MULTISHOT.bits(), ..on(Opcode::ACCEPT, fd) })
    }

    /// Registers each connection where the kernel finds an empty place.
    #[inline]
    pub const fn allocate_file_index(mut self, allocate_file_index: bool) -> Self {
        self.0.file_index = if allocate_file_index { FILE_INDEX_ALLOC } else { 0 };
        self
    }

    /// `SOCK_*`.
    #[inline]
    pub const fn flags(mut self, flags: i32) -> Self {
        self.0.op_flags = flags.cast_unsigned();
        self
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

/// Connects a socket, as `connect(2)`. Since Linux 5.5.
#[derive(Debug)]
pub struct Connect(Sqe);

impl Connect {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::CONNECT.0;

    /// To the `addrlen` bytes at `addr`.
    #[inline]
    pub fn new(fd: impl UseFixed, addr: *const libc::sockaddr, addrlen: libc::socklen_t) -> Self {
        Self(Sqe { addr: address(addr), off: u64::from(addrlen), ..on(Opcode::CONNECT, fd) })
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

/// Shuts a connection down, as `shutdown(2)`. Since Linux 5.11.
#[derive(Debug)]
pub struct Shutdown(Sqe);

impl Shutdown {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::SHUTDOWN.0;

    /// `how` is `SHUT_*`.
    #[inline]
    pub fn new(fd: impl UseFixed, how: i32) -> Self {
        Self(Sqe { len: how.cast_unsigned(), ..on(Opcode::SHUTDOWN, fd) })
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

/// Sets a socket option, as `setsockopt(2)`. Since Linux 6.7.
#[derive(Debug)]
pub struct SetSockOpt(Sqe);

impl SetSockOpt {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::URING_CMD.0;

    /// To the `optlen` bytes at `optval`.
    #[inline]
    pub fn new(
        fd: impl UseFixed,
        level: u32,
        optname: u32,
        optval: *const libc::c_void,
        optlen: u32,
    ) -> Self {
        Self(Sqe {
            off: u64::from(SocketUringOp::SETSOCKOPT.0),
            addr: u64::from(level) | u64::from(optname) << 32,
            addr3: address(optval),
            file_index: optlen,
            ..on(Opcode::URING_CMD, fd)
        })
    }

    /// `IORING_URING_CMD_*`.
    #[inline]
    pub const fn flags(mut self, flags: u32) -> Self {
        self.0.op_flags = flags;
        self
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

/// Reads a socket option, as `getsockopt(2)`. Since Linux 6.7.
#[derive(Debug)]
pub struct GetSockOpt(Sqe);

impl GetSockOpt {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::URING_CMD.0;

    /// Into up to `optlen` bytes at `optval`; the result is how many.
    #[inline]
    pub fn new(
        fd: impl UseFixed,
        level: u32,
        optname: u32,
        optval: *mut libc::c_void,
        optlen: u32,
    ) -> Self {
        Self(Sqe {
            off: u64::from(SocketUringOp::GETSOCKOPT.0),
            addr: u64::from(level) | u64::from(optname) << 32,
            addr3: address(optval),
            file_index: optlen,
            ..on(Opcode::URING_CMD, fd)
        })
    }

    /// `IORING_URING_CMD_*`.
    #[inline]
    pub const fn flags(mut self, flags: u32) -> Self {
        self.0.op_flags = flags;
        self
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}
