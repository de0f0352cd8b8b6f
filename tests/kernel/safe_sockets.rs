//! Operations on sockets, safe API: what each does, and which resources come back when it fails.
//!
//! ```text
//!   connections.rs   made, named, connected, accepted, shut down
//!   streams.rs       bytes, and datagrams to an address
//!   messages.rs      several buffers, addresses, descriptors
//!   multi.rs         many connections, much data
//!   zerocopy.rs      sent without a copy
//! ```
//!
//! Whether a descriptor was closed shows at its other end: a read there returns the end of the
//! stream.
#![allow(unsafe_code, reason = "makes sockets, and sets their options, without the ring")]

use std::io::Read as _;
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use annulus::op::{Nop, Op};
use annulus::{Ring, Setup, Ticket};
use libtest_mimic::{Failed, Trial};

use crate::harness::{Need, safe_ring};

#[path = "safe_sockets/connections.rs"]
mod connections;
#[path = "safe_sockets/messages.rs"]
mod messages;
#[path = "safe_sockets/multi.rs"]
mod multi;
#[path = "safe_sockets/streams.rs"]
mod streams;
#[path = "safe_sockets/zerocopy.rs"]
mod zerocopy;

/// The tests.
pub fn tests() -> Vec<Trial> {
    let modules = [
        connections::tests(),
        streams::tests(),
        messages::tests(),
        multi::tests(),
        zerocopy::tests(),
    ];
    modules.into_iter().flatten().collect()
}

/// IPv6, which a machine may lack.
pub const V6: Need = Need::Other(lacks_v6);

fn lacks_v6() -> Option<String> {
    let has = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    (!has).then(|| "needs IPv6".to_owned())
}

pub fn small() -> Ring {
    safe_ring(Setup::new(4))
}

/// Submits `op`, waits for it, and returns its output.
pub fn run<O: Op + 'static>(ring: &mut Ring, op: O) -> O::Output {
    let ticket = ring.submit(op).expect("room");
    ring.wait(ticket).expect("it completes")
}

/// Submits `op`, and lets the kernel begin.
pub fn begin<O: Op + 'static>(ring: &mut Ring, op: O) -> Ticket<O> {
    let ticket = ring.submit(op).expect("room");
    ring.submit_all().expect("submit");
    ticket
}

/// Submits `op`, cancels it, and returns its output.
pub fn cancelled<O: Op + 'static>(ring: &mut Ring, op: O) -> O::Output {
    let ticket = begin(ring, op);
    ring.cancel(&ticket).expect("room");
    ring.wait(ticket).expect("it completes")
}

/// Turns until nothing is in flight any more, wanted or not.
pub fn record(ring: &mut Ring) {
    while ring.in_flight() > 0 {
        run(ring, Nop).expect("a NOP succeeds");
    }
}

/// The error that a result is.
pub fn code<T>(result: std::io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

/// Two ends of a TCP connection.
pub fn tcp() -> Result<(TcpStream, TcpStream), Failed> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let ours = TcpStream::connect(listener.local_addr()?)?;
    Ok((ours, listener.accept()?.0))
}

/// A socket, made without the ring.
pub fn socket(domain: i32, kind: i32) -> Result<OwnedFd, Failed> {
    // SAFETY: it takes numbers only, so there is nothing to be valid.
    let fd = unsafe { libc::socket(domain, kind | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    // SAFETY: just made, and nothing else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sets an option of the socket itself.
pub fn set_option(fd: &impl AsFd, option: i32, value: i32) -> Result<(), Failed> {
    set_option_of(fd, libc::SOL_SOCKET, option, value)
}

/// Two ends of a connection through which only little goes before it is read. How much that is
/// depends on the kernel, and on the size of its pages: see [`unacknowledged`].
pub fn narrow() -> Result<(TcpStream, TcpStream), Failed> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    set_option(&listener, libc::SO_RCVBUF, 1 << 15)?;
    let ours = TcpStream::connect(listener.local_addr()?)?;
    set_option(&ours, libc::SO_SNDBUF, 1 << 17)?;
    Ok((ours, listener.accept()?.0))
}

/// How many of the bytes that were sent the other end has not acknowledged.
pub fn unacknowledged(fd: &impl AsFd) -> usize {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the kernel writes one live integer, because `bytes` is a local.
    let done = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    assert_eq!(done, 0, "a socket knows what it has sent");
    usize::try_from(bytes).expect("a count")
}

/// Sets an option of this level, whose value is an int, or several.
pub fn set_option_of<V: Copy>(
    fd: &impl AsFd,
    level: i32,
    option: i32,
    value: V,
) -> Result<(), Failed> {
    let fd = fd.as_fd().as_raw_fd();
    let (value, len) = ((&raw const value).cast(), u32::try_from(size_of::<V>())?);
    // SAFETY: a live value, which the kernel copies, because the call is synchronous.
    if unsafe { libc::setsockopt(fd, level, option, value, len) } < 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    Ok(())
}

/// The first four bytes of the value of an option of this level.
pub fn option_of(fd: &impl AsFd, level: i32, option: i32) -> Result<i32, Failed> {
    let (fd, mut value, mut len) = (fd.as_fd().as_raw_fd(), [0_i32; 8], 32);
    let place = (&raw mut value).cast();
    // SAFETY: `value` has the 32 bytes that `len` says, and both are live, since they are locals.
    if unsafe { libc::getsockopt(fd, level, option, place, &raw mut len) } < 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    Ok(value[0])
}

/// An address of this machine without a listener.
fn nobody() -> Result<SocketAddr, Failed> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// A path for a socket that is not there yet.
pub fn path() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("annulus-{}-{number}.sock", std::process::id());
    std::env::temp_dir().join(name)
}

/// Whether the other end was closed, and nothing is left to read.
fn ends(mut stream: &UnixStream) -> Result<bool, Failed> {
    Ok(stream.read(&mut [0])? == 0)
}

/// 64 KiB and more in which no two places look alike for long.
pub fn pattern(count: usize) -> Vec<u8> {
    let byte = |at: usize| at.wrapping_mul(2_654_435_761).to_le_bytes()[2];
    (0..count).map(byte).collect()
}
