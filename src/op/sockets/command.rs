//! Commands to sockets: byte counts, options, addresses.
//!
//! | to | use | since |
//! |---|---|---|
//! | count the bytes that wait to be received | [`Unread`] | Linux 6.5 |
//! | count the bytes that the peer has not acknowledged | [`Unsent`] | Linux 6.5 |
//! | get an option's value | [`GetOption`] | Linux 6.7 |
//! | set an option | [`SetOption`] | Linux 6.7 |
//! | get the local address, or the peer's | [`GetName`] | Linux 6.19 |
//!
//! The system calls for these do not block. So a command pays off only where it replaces one: in a
//! chain after [`Socket`](crate::op::Socket) and before [`Connect`](crate::op::Connect), or for a
//! file in the ring's table, which no system call accepts.
//!
//! Before Linux 6.5 sockets know no commands, and all of these end with `EOPNOTSUPP`. So do
//! commands to sockets of families without commands, such as unix sockets.
//!
//! The kernel passes a command to any file that accepts commands, and `/dev/null` answers 0 to all
//! of them. Where such an answer is possible, the descriptor is checked with a system call that
//! does not block, and the operation ends with `ENOTSOCK` if it is not a socket. A file in the
//! ring's table cannot be checked: its answer is taken for a socket's.
//!
//! Keeps OP1: values and addresses lie in the operation. Leaves to others: the list of options
//! (`option`); commands to other files, which only the [raw API](crate::prep::uring_cmd) has.
#![allow(unsafe_code, reason = "writes entries that point to values")]

use std::io;

use annulus_sys::abi::Sqe;
use annulus_sys::flags::{SocketUringOp, SqeFlags};

use super::option::{MAX_VALUE, OptionValue, SocketOption};
use crate::buf::address::{Address, MAX_ADDRESS, Storage};
use crate::op::target::{Target, looks_again};
use crate::op::{Done, Op, Outcome, RingId};
use crate::prep;

/// Counts the bytes that wait to be received; for a datagram socket, those of the first datagram.
/// As `FIONREAD` of `ioctl(2)`. Since Linux 6.5.
///
/// The number is of that moment, and 0 is not the end: a stream whose peer is gone has 0, too. A
/// unix socket has no such command (`EOPNOTSUPP`).
///
/// # Completion
///
/// Once, with the number of bytes.
///
/// # Cancellation
///
/// It does not wait, so it completes as usual.
///
/// # Errors
///
/// `EINVAL` for a listener. `EOPNOTSUPP` or `ENOTSOCK` for a file that is not a socket, and
/// `EOPNOTSUPP` for a socket without commands.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::Unread;
/// use std::net::UdpSocket;
///
/// let mut ring = Setup::new(8).build()?;
/// let socket = UdpSocket::bind("127.0.0.1:0")?;
/// socket.send_to(b"hello", socket.local_addr()?)?;
/// let ticket = ring.submit(Unread::new(socket))?;
/// match ring.wait(ticket)?.result {
///     Ok(bytes) => assert_eq!(bytes, 5),
///     Err(error) => println!("needs Linux 6.5: {error}"),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias("IORING_OP_URING_CMD", "io_uring_prep_cmd_sock", "SOCKET_URING_OP_SIOCINQ"))]
#[doc(alias = "FIONREAD")]
#[derive(Debug)]
pub struct Unread<F> {
    fd: F,
}

/// Counts the bytes that the peer has not acknowledged, sent or not. As `TIOCOUTQ` of `ioctl(2)`.
/// Since Linux 6.5.
///
/// 0 says that the peer's system has everything, and not that its program has read it. A unix
/// socket has no such command (`EOPNOTSUPP`).
///
/// # Completion
///
/// Once, with the number of bytes.
///
/// # Cancellation
///
/// It does not wait, so it completes as usual.
///
/// # Errors
///
/// As for [`Unread`].
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::Unsent;
/// use std::net::{TcpListener, TcpStream};
///
/// let mut ring = Setup::new(8).build()?;
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let ours = TcpStream::connect(listener.local_addr()?)?;
/// let ticket = ring.submit(Unsent::new(ours))?;
/// match ring.wait(ticket)?.result {
///     Ok(bytes) => assert_eq!(bytes, 0), // Nothing was sent.
///     Err(error) => println!("needs Linux 6.5: {error}"),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias("IORING_OP_URING_CMD", "io_uring_prep_cmd_sock", "SOCKET_URING_OP_SIOCOUTQ"))]
#[doc(alias = "TIOCOUTQ")]
#[derive(Debug)]
pub struct Unsent<F> {
    fd: F,
}

impl<F> Unread<F> {
    /// Asks the socket `fd`.
    pub fn new(fd: F) -> Self {
        Self { fd }
    }
}

impl<F> Unsent<F> {
    /// Asks the socket `fd`.
    pub fn new(fd: F) -> Self {
        Self { fd }
    }
}

/// A command without arguments.
fn ask(fd: &impl Target, command: SocketUringOp) -> Sqe {
    fd.aim(prep::cmd_sock(-1, command, 0, 0, 0, 0))
}

/// The count that a command returned; 0 is also the answer of some files that are not sockets.
fn count(fd: &impl Target, done: &Done) -> io::Result<usize> {
    match done.result()? {
        0 => of_socket(fd, 0),
        count => Ok(count as usize),
    }
}

/// `answer`, if `fd` is a socket, as far as this can be checked.
fn of_socket<T>(fd: &impl Target, answer: T) -> io::Result<T> {
    let Sqe { fd, flags, .. } = fd.aim(Sqe::ZERO);
    if flags.contains(SqeFlags::FIXED_FILE) {
        return Ok(answer);
    }
    let (mut kind, mut len) = (0_i32, 4);
    let place = (&raw mut kind).cast();
    // SAFETY: `kind` has the four bytes that `len` says, and both are live, since they are locals.
    let asked =
        unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_TYPE, place, &raw mut len) };
    if asked == 0 { Ok(answer) } else { Err(io::Error::last_os_error()) }
}

// SAFETY: OP1: the entry points to nothing, and the descriptor is of `fd`. It completes once.
unsafe impl<F: Target> Op for Unread<F> {
    type Output = Outcome<usize, F>;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    fn refusal(&mut self) -> Option<&'static str> {
        looks_again(&self.fd)
    }

    fn prep(&mut self) -> Sqe {
        ask(&self.fd, SocketUringOp::SIOCINQ)
    }

    fn finish(self, done: Done) -> Self::Output {
        Outcome { result: count(&self.fd, &done), fd: self.fd, buf: () }
    }
}

// SAFETY: OP1: the entry points to nothing, and the descriptor is of `fd`. It completes once.
unsafe impl<F: Target> Op for Unsent<F> {
    type Output = Outcome<usize, F>;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    fn refusal(&mut self) -> Option<&'static str> {
        looks_again(&self.fd)
    }

    fn prep(&mut self) -> Sqe {
        ask(&self.fd, SocketUringOp::SIOCOUTQ)
    }

    fn finish(self, done: Done) -> Self::Output {
        Outcome { result: count(&self.fd, &done), fd: self.fd, buf: () }
    }
}

/// Gets the value of an option: `getsockopt(2)`. Since Linux 6.7.
///
/// To ask for [`ERROR`](SocketOption::ERROR) clears it: the next operation on the socket does not
/// report that error any more.
///
/// # Completion
///
/// Once, with the value.
///
/// # Cancellation
///
/// It does not wait, so it completes as usual.
///
/// # Errors
///
/// `EOPNOTSUPP` for an option that is not of the socket level (`SOL_SOCKET`): the kernel gives no
/// others through this command, such as those of TCP. `EOPNOTSUPP` also before Linux 6.7.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::{GetOption, SetOption, SocketOption};
/// use std::net::UdpSocket;
///
/// let mut ring = Setup::new(8).build()?;
/// let socket = UdpSocket::bind("127.0.0.1:0")?;
/// let set = ring.submit(SetOption::new(socket, SocketOption::BROADCAST, true))?;
/// let set = ring.wait(set)?;
/// let get = ring.submit(GetOption::new(set.fd, SocketOption::BROADCAST))?;
/// let get = ring.wait(get)?;
/// match set.result {
///     Ok(()) => assert_eq!(get.result?, true),
///     Err(error) => println!("needs Linux 6.7: {error}"),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias("IORING_OP_URING_CMD", "io_uring_prep_cmd_sock", "SOCKET_URING_OP_GETSOCKOPT"))]
#[doc(alias = "getsockopt")]
#[derive(Debug)]
pub struct GetOption<F, V> {
    value: Value,
    option: SocketOption<V>,
    fd: F,
}

/// Sets an option: `setsockopt(2)`. Since Linux 6.7.
///
/// Options of TCP, IP and others can be set, although [`GetOption`] cannot get them. The kernel may
/// change a value: a [`RECEIVE_BUFFER`](SocketOption::RECEIVE_BUFFER) of 5,000 is 10,000 when it is
/// asked for, and a limit of the system cuts it.
///
/// # Completion
///
/// Once, without a value.
///
/// # Cancellation
///
/// It does not wait, so it completes as usual.
///
/// # Errors
///
/// `ENOPROTOOPT` for an option that the socket does not have, or that is read-only. `EOPNOTSUPP`
/// before Linux 6.7.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::{SetOption, SocketOption};
/// use std::net::UdpSocket;
///
/// let mut ring = Setup::new(8).build()?;
/// let socket = UdpSocket::bind("127.0.0.1:0")?;
/// // An option that has no name here: SOL_UDP, UDP_CORK.
/// let cork = SocketOption::<bool>::new(17, 1)?;
/// let set = ring.submit(SetOption::new(socket, cork, true))?;
/// if let Err(error) = ring.wait(set)?.result {
///     println!("needs Linux 6.7: {error}");
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias("IORING_OP_URING_CMD", "io_uring_prep_cmd_sock", "SOCKET_URING_OP_SETSOCKOPT"))]
#[doc(alias = "setsockopt")]
#[derive(Debug)]
pub struct SetOption<F, V> {
    value: Value,
    option: SocketOption<V>,
    fd: F,
}

/// A value as the kernel reads and writes it, aligned for every type of value.
#[repr(C, align(8))]
#[derive(Debug)]
struct Value([u8; MAX_VALUE]);

impl Value {
    fn place(&mut self) -> u64 {
        (&raw mut self.0).expose_provenance() as u64
    }
}

impl<F, V: OptionValue> GetOption<F, V> {
    /// Gets `option` of the socket `fd`.
    pub fn new(fd: F, option: SocketOption<V>) -> Self {
        Self { value: Value([0; MAX_VALUE]), option, fd }
    }
}

impl<F, V: OptionValue> SetOption<F, V> {
    /// Sets `option` of the socket `fd` to `value`.
    pub fn new(fd: F, option: SocketOption<V>, value: V) -> Self {
        Self { value: Value(value.encode().0), option, fd }
    }
}

// SAFETY: OP1: the entry points to `value`, which lies here, and gives the kernel no more than its
// length; safe code cannot name an option whose value names something else. The descriptor is of
// `fd`. It completes once.
unsafe impl<F: Target, V: OptionValue> Op for GetOption<F, V> {
    type Output = Outcome<V, F>;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    fn refusal(&mut self) -> Option<&'static str> {
        looks_again(&self.fd)
    }

    fn prep(&mut self) -> Sqe {
        let Self { value, option: SocketOption { level, name, .. }, fd } = self;
        let command = SocketUringOp::GETSOCKOPT;
        fd.aim(prep::cmd_sock(-1, command, *level, *name, value.place(), V::LEN))
    }

    fn finish(self, done: Done) -> Self::Output {
        let other = || io::Error::other("the kernel gave fewer bytes than the option's value has");
        let result = done.result().and_then(|len| {
            if len < V::LEN {
                // Bytes that the kernel did not write are not part of a value.
                return of_socket(&self.fd, ()).and_then(|()| Err(other()));
            }
            Ok(V::decode(&self.value.0))
        });
        Outcome { result, fd: self.fd, buf: () }
    }
}

// SAFETY: OP1: the entry points to `value`, which lies here; safe code cannot name an option whose
// value names something else. The descriptor is of `fd`. It completes once.
unsafe impl<F: Target, V: OptionValue> Op for SetOption<F, V> {
    type Output = Outcome<(), F>;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    fn refusal(&mut self) -> Option<&'static str> {
        looks_again(&self.fd)
    }

    fn prep(&mut self) -> Sqe {
        let Self { value, option: SocketOption { level, name, .. }, fd } = self;
        let command = SocketUringOp::SETSOCKOPT;
        fd.aim(prep::cmd_sock(-1, command, *level, *name, value.place(), V::LEN))
    }

    fn finish(self, done: Done) -> Self::Output {
        let result = done.result().and_then(|_| of_socket(&self.fd, ()));
        Outcome { result, fd: self.fd, buf: () }
    }
}

/// Gets the address of a socket, or of its peer: `getsockname(2)`, `getpeername(2)`. Since Linux
/// 6.19.
///
/// It can also ask about a [`FixedFile`](crate::lease::FixedFile), which has no descriptor for
/// `getsockname(2)`.
///
/// # Completion
///
/// Once, with the address.
///
/// # Cancellation
///
/// It does not wait, so it completes as usual.
///
/// # Errors
///
/// `ENOTCONN` when there is no peer. `EOPNOTSUPP` before Linux 6.19. An error with a message for an
/// address of a family that [may name descriptors](Address::from_bytes).
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::GetName;
/// use std::net::UdpSocket;
///
/// let mut ring = Setup::new(4).build()?;
/// let socket = UdpSocket::bind("127.0.0.1:0")?;
/// let address = socket.local_addr()?;
/// let name = ring.submit(GetName::of(socket))?;
/// match ring.wait(name)?.result {
///     Ok(name) => assert_eq!(name.as_inet(), Some(address)),
///     Err(error) => println!("needs Linux 6.19: {error}"),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias("IORING_OP_URING_CMD", "SOCKET_URING_OP_GETSOCKNAME"))]
#[doc(alias = "io_uring_prep_cmd_getsockname")]
#[doc(alias("getsockname", "getpeername"))]
#[derive(Debug)]
pub struct GetName<F> {
    address: Storage<MAX_ADDRESS>,
    whose: End,
    fd: F,
}

/// Which end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Ours = 0,
    Peers = 1,
}

impl<F> GetName<F> {
    /// Gets the address of `fd` itself.
    pub fn of(fd: F) -> Self {
        Self { address: Storage::EMPTY, whose: End::Ours, fd }
    }

    /// Gets the address that `fd` is connected to.
    pub fn of_peer(fd: F) -> Self {
        Self { whose: End::Peers, ..Self::of(fd) }
    }
}

// SAFETY: OP1: the entry points to `address`, which lies here and says how much room it has. The
// descriptor is of `fd`. It completes once.
unsafe impl<F: Target> Op for GetName<F> {
    type Output = Outcome<Address, F>;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    fn refusal(&mut self) -> Option<&'static str> {
        looks_again(&self.fd)
    }

    fn prep(&mut self) -> Sqe {
        let (address, len) = self.address.room();
        self.fd.aim(prep::cmd_getsockname(-1, address, len, self.whose as u32))
    }

    fn finish(self, done: Done) -> Self::Output {
        let text = "the kernel gave an address that is longer than any, or may name a descriptor";
        let none = || io::Error::other(text);
        let address = self.address.address();
        let result = done.result().and_then(|_| of_socket(&self.fd, address)?.ok_or_else(none));
        Outcome { result, fd: self.fd, buf: () }
    }
}
