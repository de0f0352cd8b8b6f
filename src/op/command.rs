//! Commands to sockets: how much waits, options, addresses.
//!
//! | to know, or to do | use | since |
//! |---|---|---|
//! | how many bytes wait to be received | [`Unread`] | Linux 6.5 |
//! | how many bytes the peer has not acknowledged | [`Unsent`] | Linux 6.5 |
//! | an option's value | [`GetOption`] | Linux 6.7 |
//! | set an option | [`SetOption`] | Linux 6.7 |
//! | the address of our end, or of the peer's | [`GetName`] | Linux 6.19 |
//!
//! The system calls for these do not block, so a command pays where it saves one: in a chain behind
//! [`Socket`](super::Socket) and before [`Connect`](super::Connect), or for a file of the ring's
//! table, which no system call takes.
//!
//! Before Linux 6.5 a socket knows no command, and all of them end with `EOPNOTSUPP`. So do they
//! on sockets of families that have none, such as unix sockets.
//!
//! The kernel hands a command to any file that takes some, and `/dev/null` answers 0 to all. Where
//! an answer may be such a one, the descriptor is asked whether it is of a socket, by a system call
//! that does not block, and `ENOTSOCK` is said if not. A file of the ring's table cannot be asked:
//! what it answers is taken for a socket's.
//!
//! Keeps OP1: values and addresses lie in the operation. Leaves to others: which options there are
//! (`option`); commands of other files, which only the [raw face](crate::prep::uring_cmd) has.
#![allow(unsafe_code, reason = "writes entries that point to values")]

use std::io;

use annulus_sys::abi::Sqe;
use annulus_sys::flags::{SocketUringOp, SqeFlags};

use super::addr::{Address, MOST, Storage};
use super::option::{MOST_VALUE, OptionValue, SocketOption};
use super::target::Target;
use super::{Done, Op, Outcome, RingId};
use crate::prep;

/// Tells how many bytes wait to be received: of a datagram socket, those of the first datagram.
/// Since Linux 6.5.
///
/// # Completion
///
/// Once, with that number.
///
/// # Cancellation
///
/// It does not wait, so it completes as usual.
///
/// # Errors
///
/// `EINVAL` for a listener. `EOPNOTSUPP` or `ENOTSOCK` for what is no socket, and `EOPNOTSUPP` for
/// one without commands.
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
#[doc(alias = "SOCKET_URING_OP_SIOCINQ")]
#[doc(alias = "FIONREAD")]
#[derive(Debug)]
pub struct Unread<F> {
    fd: F,
}

/// Tells how many bytes the peer has not acknowledged, sent or not. Since Linux 6.5.
///
/// # Completion
///
/// Once, with that number.
///
/// # Cancellation
///
/// It does not wait, so it completes as usual.
///
/// # Errors
///
/// As for [`Unread`].
#[doc(alias = "SOCKET_URING_OP_SIOCOUTQ")]
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

/// A command that takes nothing.
fn ask(fd: &impl Target, command: SocketUringOp) -> Sqe {
    fd.aim(prep::cmd_sock(-1, command, 0, 0, 0, 0))
}

/// The number that a command told; 0 is also what a file says that is no socket.
fn count(fd: &impl Target, done: &Done) -> io::Result<usize> {
    match done.result()? {
        0 => of_socket(fd, 0),
        count => Ok(count as usize),
    }
}

/// `answer`, if `fd` is a socket, for all that we can know.
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

// SAFETY: OP1: it points to nothing, and the descriptor is of `fd`. It completes once.
unsafe impl<F: Target> Op for Unread<F> {
    type Output = Outcome<usize, F>;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    fn prep(&mut self) -> Sqe {
        ask(&self.fd, SocketUringOp::SIOCINQ)
    }

    fn finish(self, done: Done) -> Self::Output {
        Outcome { result: count(&self.fd, &done), fd: self.fd, buf: () }
    }
}

// SAFETY: OP1: it points to nothing, and the descriptor is of `fd`. It completes once.
unsafe impl<F: Target> Op for Unsent<F> {
    type Output = Outcome<usize, F>;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    fn prep(&mut self) -> Sqe {
        ask(&self.fd, SocketUringOp::SIOCOUTQ)
    }

    fn finish(self, done: Done) -> Self::Output {
        Outcome { result: count(&self.fd, &done), fd: self.fd, buf: () }
    }
}

/// Asks for an option's value. Since Linux 6.7.
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
/// `EOPNOTSUPP` for an option that is not of the socket itself (`SOL_SOCKET`): the kernel tells no
/// others in this way, such as those of TCP.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::{GetOption, SetOption, SocketOption, Switch};
/// use std::net::UdpSocket;
///
/// let mut ring = Setup::new(8).build()?;
/// let socket = UdpSocket::bind("127.0.0.1:0")?;
/// let set = ring.submit(SetOption::new(socket, SocketOption::BROADCAST, Switch::On))?;
/// let set = ring.wait(set)?;
/// let get = ring.submit(GetOption::new(set.fd, SocketOption::BROADCAST))?;
/// let get = ring.wait(get)?;
/// match set.result {
///     Ok(()) => assert_eq!(get.result?, Switch::On),
///     Err(error) => println!("needs Linux 6.7: {error}"),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "SOCKET_URING_OP_GETSOCKOPT")]
#[doc(alias = "getsockopt")]
#[derive(Debug)]
pub struct GetOption<F, V> {
    value: Value,
    option: SocketOption<V>,
    fd: F,
}

/// Sets an option. Since Linux 6.7.
///
/// # Completion
///
/// Once.
///
/// # Cancellation
///
/// It does not wait, so it completes as usual.
///
/// # Errors
///
/// `ENOPROTOOPT` for an option that the socket does not have, or that can only be asked for.
#[doc(alias = "SOCKET_URING_OP_SETSOCKOPT")]
#[doc(alias = "setsockopt")]
#[derive(Debug)]
pub struct SetOption<F, V> {
    value: Value,
    option: SocketOption<V>,
    fd: F,
}

/// A value as the kernel reads and writes it, aligned as any of them is.
#[repr(C, align(8))]
#[derive(Debug)]
struct Value([u8; MOST_VALUE]);

impl Value {
    fn place(&mut self) -> u64 {
        (&raw mut self.0).expose_provenance() as u64
    }
}

impl<F, V: OptionValue> GetOption<F, V> {
    /// Asks the socket `fd` for `option`.
    pub fn new(fd: F, option: SocketOption<V>) -> Self {
        Self { value: Value([0; MOST_VALUE]), option, fd }
    }
}

impl<F, V: OptionValue> SetOption<F, V> {
    /// Sets `option` of the socket `fd` to `value`.
    pub fn new(fd: F, option: SocketOption<V>, value: V) -> Self {
        Self { value: Value(value.encode().0), option, fd }
    }
}

// SAFETY: OP1: it points to `value`, which lies here, of which the kernel is told no more than
// there is; options that name something else are none that safe code can name. The descriptor is
// of `fd`. It completes once.
unsafe impl<F: Target, V: OptionValue> Op for GetOption<F, V> {
    type Output = Outcome<V, F>;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    fn prep(&mut self) -> Sqe {
        let Self { value, option: SocketOption { level, name, .. }, fd } = self;
        let command = SocketUringOp::GETSOCKOPT;
        fd.aim(prep::cmd_sock(-1, command, *level, *name, value.place(), V::LEN))
    }

    fn finish(self, done: Done) -> Self::Output {
        let other = || io::Error::other("the kernel tells this option in fewer bytes than it has");
        let result = done.result().and_then(|len| {
            if len < V::LEN {
                // What it did not write is no value.
                return of_socket(&self.fd, ()).and_then(|()| Err(other()));
            }
            Ok(V::decode(&self.value.0))
        });
        Outcome { result, fd: self.fd, buf: () }
    }
}

// SAFETY: OP1: it points to `value`, which lies here; options whose values name something else are
// none that safe code can name. The descriptor is of `fd`. It completes once.
unsafe impl<F: Target, V: OptionValue> Op for SetOption<F, V> {
    type Output = Outcome<(), F>;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
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

/// Tells a socket's address, or that of its peer. Since Linux 6.19.
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
/// `ENOTCONN` when there is no peer. `EOPNOTSUPP` before Linux 6.19. In words for an address of a
/// family that [may name descriptors](Address::from_bytes).
#[doc(alias = "SOCKET_URING_OP_GETSOCKNAME")]
#[doc(alias = "io_uring_prep_cmd_getsockname")]
#[doc(alias("getsockname", "getpeername"))]
#[derive(Debug)]
pub struct GetName<F> {
    address: Storage<MOST>,
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
    /// Asks for the address of `fd` itself.
    pub fn of(fd: F) -> Self {
        Self { address: Storage::EMPTY, whose: End::Ours, fd }
    }

    /// Asks for the address that `fd` is connected to.
    pub fn of_peer(fd: F) -> Self {
        Self { whose: End::Peers, ..Self::of(fd) }
    }
}

// SAFETY: OP1: it points to `address`, which lies here and says how much room there is. The
// descriptor is of `fd`. It completes once.
unsafe impl<F: Target> Op for GetName<F> {
    type Output = Outcome<Address, F>;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    fn prep(&mut self) -> Sqe {
        let (address, len) = self.address.room();
        self.fd.aim(prep::cmd_getsockname(-1, address, len, self.whose as u32))
    }

    fn finish(self, done: Done) -> Self::Output {
        let text = "the kernel told an address that is longer than any, or may name a descriptor";
        let none = || io::Error::other(text);
        let address = self.address.address();
        let result = done.result().and_then(|_| of_socket(&self.fd, address)?.ok_or_else(none));
        Outcome { result, fd: self.fd, buf: () }
    }
}
