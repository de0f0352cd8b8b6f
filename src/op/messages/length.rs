//! The length of a whole datagram (`MSG_TRUNC`), also when the buffers were too short for it.
//!
//! | socket | what the kernel does with `MSG_TRUNC` |
//! |---|---|
//! | datagrams: internet, raw, unix, netlink, packet | writes what fits, and returns the length of all of it |
//! | a TCP connection | throws the bytes away, and returns how many: it writes nothing |
//! | others | some of either, or nothing |
//!
//! So the result may count bytes that the kernel never wrote, and uninitialised memory would count
//! as received. The flag therefore goes only to a descriptor that is known to be of the first row:
//! it was asked for its kind, and the entry names the same number. That is not enough: before the
//! kernel looks, another file may have taken the number (`dup2` over stdin); and with `MSG_PEEK`
//! the kernel may begin behind the start of a datagram (`SO_PEEK_OFF`), and still returns the
//! length of all of it. So the buffers are filled with zeroes first.
//!
//! Keeps OP1: only written bytes count as filled. Leaves to others: the clamp to the buffers
//! (`Done::count`).
#![allow(unsafe_code, reason = "asks a descriptor for its kind, fills buffers with zeroes")]

use annulus_sys::abi::Sqe;
use annulus_sys::flags::SqeFlags;

use crate::buf::IoVec;
use crate::op::target::Target;

/// Whether an operation asks for the length of a whole datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Length {
    /// It does not.
    #[default]
    Unasked,
    /// It does, if the file is a datagram socket.
    Asked,
    /// The file is a datagram socket, with this descriptor.
    Of(i32),
}

const REGISTERED: &str = "the length of a whole datagram cannot be asked for through a registered \
                          file, because nothing tells which kind of socket it is: use a descriptor";
const STREAM: &str = "the file is no datagram socket (internet, unix, netlink or packet), so there \
                      is no length of a whole datagram, and a stream would throw its bytes away: \
                      receive without asking for it";
const WAITS: &str = "WAIT_ALL adds up several messages, so there is no length of a whole datagram: \
                     leave out one of the two";

impl Length {
    /// Checks the file, if there is something to ask. `flags` are those of the receive.
    #[inline]
    pub(crate) fn refusal(&mut self, file: &impl Target, flags: u32) -> Option<&'static str> {
        if *self == Self::Unasked { None } else { self.check(file, flags) }
    }

    #[cold]
    fn check(&mut self, file: &impl Target, flags: u32) -> Option<&'static str> {
        *self = Self::Asked;
        let sqe = file.aim(Sqe::ZERO);
        if flags & libc::MSG_WAITALL.cast_unsigned() != 0 {
            return Some(WAITS);
        }
        if sqe.flags.contains(SqeFlags::FIXED_FILE) {
            return Some(REGISTERED);
        }
        if sqe.fd < 0 {
            return None; // A file of another ring, or of a chain: refused for that.
        }
        if !tells_lengths(sqe.fd) {
            return Some(STREAM);
        }
        *self = Self::Of(sqe.fd);
        None
    }

    /// Adds the flag to an entry that names the descriptor which was checked.
    #[inline]
    pub(crate) fn asked_in(self, sqe: Sqe) -> Sqe {
        match self {
            Self::Of(fd) if fd == sqe.fd && !sqe.flags.contains(SqeFlags::FIXED_FILE) => {
                Sqe { op_flags: sqe.op_flags | libc::MSG_TRUNC.cast_unsigned(), ..sqe }
            }
            _ => sqe,
        }
    }

    /// Fills the buffers of a receive with zeroes, if the kernel might write fewer bytes than it
    /// counts.
    ///
    /// # Safety
    ///
    /// `table` was made of buffers that nobody else uses, and that are still in place.
    #[inline]
    pub(crate) unsafe fn clear(self, table: &[IoVec]) {
        if self != Self::Unasked {
            // SAFETY: as promised to `clear`.
            table.iter().for_each(|entry| unsafe { entry.clear() });
        }
    }
}

/// Whether this is a socket that writes what fits of a datagram when it is asked for the length of
/// all of it, as of Linux 7.3.
fn tells_lengths(fd: i32) -> bool {
    let (domain, kind) = (option(fd, libc::SO_DOMAIN), option(fd, libc::SO_TYPE));
    let (Some(domain), Some(kind)) = (domain, kind) else { return false };
    match domain {
        libc::AF_INET | libc::AF_INET6 => matches!(kind, libc::SOCK_DGRAM | libc::SOCK_RAW),
        libc::AF_UNIX => matches!(kind, libc::SOCK_DGRAM | libc::SOCK_SEQPACKET),
        libc::AF_NETLINK | libc::AF_PACKET => matches!(kind, libc::SOCK_DGRAM | libc::SOCK_RAW),
        _ => false,
    }
}

/// An option of the socket level; `None` for what is no socket.
fn option(fd: i32, name: i32) -> Option<i32> {
    let (mut value, mut len) = (0_i32, 4);
    let place = (&raw mut value).cast();
    // SAFETY: `value` has the four bytes that `len` says, and both are live, since they are locals.
    let asked = unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, name, place, &raw mut len) };
    (asked == 0).then_some(value)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn op1_only_the_descriptor_that_was_checked_is_asked() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let mut length = Length::Asked;
        assert_eq!(length.asked_in(socket.aim(Sqe::ZERO)).op_flags, 0, "not checked yet");
        assert_eq!(length.refusal(&socket, 0), None);
        let asked = |fd: i32, flags| length.asked_in(Sqe { fd, flags, ..Sqe::ZERO }).op_flags;
        let fd = socket.as_raw_fd();
        assert_eq!(asked(fd, SqeFlags::empty()), libc::MSG_TRUNC.cast_unsigned());
        assert_eq!((asked(fd + 1, SqeFlags::empty()), asked(fd, SqeFlags::FIXED_FILE)), (0, 0));
    }

    #[test]
    fn op1_a_stream_is_not_asked() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let (reader, _writer) = std::io::pipe().expect("a pipe");
        let mut length = Length::Asked;
        assert_eq!(length.refusal(&listener, 0), Some(STREAM));
        assert_eq!(length.asked_in(listener.aim(Sqe::ZERO)).op_flags, 0);
        assert_eq!(length.refusal(&reader, 0), Some(STREAM));
        assert_eq!(Length::Unasked.refusal(&reader, 0), None);
    }
}
