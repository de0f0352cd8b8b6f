//! Sockets: creating, binding and connecting them; sending and receiving bytes and messages.
//!
//! ```text
//!   field       socket      accept      connect, bind   send        sendmsg
//!   fd          domain      listener    socket          socket      socket
//!   off         kind        &length     length          to          –
//!   addr        –           &address    &address        &bytes      &msghdr
//!   len         protocol    –           –               count       1
//!   op_flags    –           SOCK_*      –               MSG_*       MSG_*
//! ```

use annulus_sys::abi::Sqe;
use annulus_sys::flags::{AcceptFlags, RecvSendFlags, SqeFlags};
use annulus_sys::opcode::Opcode;

/// `IORING_OP_SOCKET`: creates a socket. `kind` may include `SOCK_CLOEXEC` and `SOCK_NONBLOCK`.
/// Since Linux 5.19.
#[doc(alias = "io_uring_prep_socket")]
#[inline]
pub fn socket(domain: i32, kind: u64, protocol: u32) -> Sqe {
    Sqe { opcode: Opcode::SOCKET, fd: domain, off: kind, len: protocol, ..Sqe::ZERO }
}

/// `IORING_OP_BIND`: binds a socket to the `address_len` bytes of address at `address`. Since Linux
/// 6.11.
#[doc(alias = "io_uring_prep_bind")]
#[inline]
pub fn bind(fd: i32, address: u64, address_len: u32) -> Sqe {
    Sqe { opcode: Opcode::BIND, fd, addr: address, off: u64::from(address_len), ..Sqe::ZERO }
}

/// `IORING_OP_LISTEN`: makes a socket listen for connections, of which up to `backlog` may wait
/// to be accepted. Since Linux 6.11.
#[doc(alias = "io_uring_prep_listen")]
#[inline]
pub fn listen(fd: i32, backlog: u32) -> Sqe {
    Sqe { opcode: Opcode::LISTEN, fd, len: backlog, ..Sqe::ZERO }
}

/// `IORING_OP_ACCEPT`: accepts a connection. The peer's address goes to `address` and its length to
/// the u32 at `address_len`. That u32 must first hold the space at `address`, in bytes. Both
/// pointers may be 0. `descriptor_flags` are `SOCK_CLOEXEC` and `SOCK_NONBLOCK`. Since Linux 5.5.
#[doc(alias = "io_uring_prep_accept")]
#[doc(alias = "io_uring_prep_multishot_accept")]
#[inline]
pub fn accept(
    fd: i32,
    address: u64,
    address_len: u64,
    descriptor_flags: u32,
    flags: AcceptFlags,
) -> Sqe {
    Sqe {
        opcode: Opcode::ACCEPT,
        fd,
        addr: address,
        off: address_len,
        op_flags: descriptor_flags,
        ioprio: flags.bits(),
        ..Sqe::ZERO
    }
}

/// `IORING_OP_CONNECT`: connects to the address in the `address_len` bytes at `address`. Since
/// Linux 5.5.
#[doc(alias = "io_uring_prep_connect")]
#[inline]
pub fn connect(fd: i32, address: u64, address_len: u32) -> Sqe {
    Sqe { opcode: Opcode::CONNECT, fd, addr: address, off: u64::from(address_len), ..Sqe::ZERO }
}

/// `IORING_OP_SHUTDOWN`: shuts down one direction of a connection, or both. `how` is a `SHUT_*`.
/// Since Linux 5.11.
#[doc(alias = "io_uring_prep_shutdown")]
#[inline]
pub fn shutdown(fd: i32, how: u32) -> Sqe {
    Sqe { opcode: Opcode::SHUTDOWN, fd, len: how, ..Sqe::ZERO }
}

/// `IORING_OP_SEND`: sends `len` bytes from `addr`; `message_flags` are `MSG_*`. Since Linux 5.6.
#[doc(alias = "io_uring_prep_send")]
#[inline]
pub fn send(fd: i32, addr: u64, len: u32, message_flags: u32, flags: RecvSendFlags) -> Sqe {
    let (opcode, op_flags, ioprio) = (Opcode::SEND, message_flags, flags.bits());
    Sqe { opcode, fd, addr, len, op_flags, ioprio, ..Sqe::ZERO }
}

/// Makes `sqe`, a [`send`] or a [`send_zc`], send to the address in the `address_len` bytes at
/// `address`. Since Linux 6.0.
#[doc(alias = "io_uring_prep_sendto")]
#[doc(alias = "io_uring_prep_send_set_addr")]
#[inline]
pub fn send_to(sqe: Sqe, address: u64, address_len: u16) -> Sqe {
    Sqe { off: address, file_index: u32::from(address_len), ..sqe }
}

/// `IORING_OP_SEND_ZC`: sends `len` bytes from `addr`, without copying them if the kernel can. The
/// bytes must not change until the zero-copy notification, which is the second completion. Since
/// Linux 6.0.
#[doc(alias = "io_uring_prep_send_zc")]
#[inline]
pub fn send_zc(fd: i32, addr: u64, len: u32, message_flags: u32, flags: RecvSendFlags) -> Sqe {
    Sqe { opcode: Opcode::SEND_ZC, ..send(fd, addr, len, message_flags, flags) }
}

/// `IORING_OP_SEND_ZC` with `FIXED_BUF`: like [`send_zc`], from an `addr` in the registered buffer
/// `index`. Since Linux 6.0.
#[doc(alias = "io_uring_prep_send_zc_fixed")]
#[inline]
pub fn send_zc_fixed(
    fd: i32,
    addr: u64,
    len: u32,
    message_flags: u32,
    flags: RecvSendFlags,
    index: u16,
) -> Sqe {
    let flags = flags.union(RecvSendFlags::FIXED_BUF);
    Sqe { buf_index: index, ..send_zc(fd, addr, len, message_flags, flags) }
}

/// `IORING_OP_SEND` with `SEND_VECTORIZED`: sends the `count` buffers of the `struct iovec` array
/// at `iovecs`, one after the other. [`send_zc`] takes the flag too. Since Linux 6.17.
#[doc(alias = "IORING_SEND_VECTORIZED")]
#[inline]
pub fn send_vectored(
    fd: i32,
    iovecs: u64,
    count: u32,
    message_flags: u32,
    flags: RecvSendFlags,
) -> Sqe {
    send(fd, iovecs, count, message_flags, flags.union(RecvSendFlags::SEND_VECTORIZED))
}

/// `IORING_OP_SEND` with `BUFFER_SELECT`: sends up to `len` bytes (0: all) of the next buffer in
/// the buffer ring `group`. With `BUNDLE`, sends as many buffers as there are. Since Linux 6.10.
#[doc(alias = "io_uring_prep_send_bundle")]
#[inline]
pub fn send_provided(
    fd: i32,
    len: u32,
    group: u16,
    message_flags: u32,
    flags: RecvSendFlags,
) -> Sqe {
    let sqe = send(fd, 0, len, message_flags, flags);
    Sqe { flags: SqeFlags::BUFFER_SELECT, buf_index: group, ..sqe }
}

/// `IORING_OP_SENDMSG`: sends the message that the `msghdr` at `message` describes. Since Linux
/// 5.3.
#[doc(alias = "io_uring_prep_sendmsg")]
#[inline]
pub fn sendmsg(fd: i32, message: u64, message_flags: u32, flags: RecvSendFlags) -> Sqe {
    Sqe { opcode: Opcode::SENDMSG, ..send(fd, message, 1, message_flags, flags) }
}

/// `IORING_OP_SENDMSG_ZC`: like [`sendmsg`], without copying the bytes if the kernel can. Since
/// Linux 6.1.
#[doc(alias = "io_uring_prep_sendmsg_zc")]
#[inline]
pub fn sendmsg_zc(fd: i32, message: u64, message_flags: u32, flags: RecvSendFlags) -> Sqe {
    Sqe { opcode: Opcode::SENDMSG_ZC, ..send(fd, message, 1, message_flags, flags) }
}

/// `IORING_OP_SENDMSG_ZC` with `FIXED_BUF`: like [`sendmsg_zc`], where all the bytes of the message
/// lie in the registered buffer `index`. Since Linux 6.15.
#[doc(alias = "io_uring_prep_sendmsg_zc_fixed")]
#[inline]
pub fn sendmsg_zc_fixed(
    fd: i32,
    message: u64,
    message_flags: u32,
    flags: RecvSendFlags,
    index: u16,
) -> Sqe {
    let flags = flags.union(RecvSendFlags::FIXED_BUF);
    Sqe { buf_index: index, ..sendmsg_zc(fd, message, message_flags, flags) }
}

/// `IORING_OP_RECV`: receives up to `len` bytes into `addr`; `message_flags` are `MSG_*`. Since
/// Linux 5.6.
#[doc(alias = "io_uring_prep_recv")]
#[inline]
pub fn recv(fd: i32, addr: u64, len: u32, message_flags: u32, flags: RecvSendFlags) -> Sqe {
    Sqe { opcode: Opcode::RECV, ..send(fd, addr, len, message_flags, flags) }
}

/// `IORING_OP_RECV` with `BUFFER_SELECT`: receives up to `len` bytes (0: as many as fit) into a
/// buffer that the kernel selects from `group`. Since Linux 5.7; `RECV_MULTISHOT`, with a `len` of
/// 0, since Linux 6.0.
#[doc(alias = "io_uring_prep_recv_multishot")]
#[inline]
pub fn recv_provided(
    fd: i32,
    len: u32,
    group: u16,
    message_flags: u32,
    flags: RecvSendFlags,
) -> Sqe {
    let sqe = recv(fd, 0, len, message_flags, flags);
    Sqe { flags: SqeFlags::BUFFER_SELECT, buf_index: group, ..sqe }
}

/// `IORING_OP_RECVMSG`: receives a message into the buffers that the `msghdr` at `message` names,
/// and updates the `msghdr`. Since Linux 5.3.
#[doc(alias = "io_uring_prep_recvmsg")]
#[inline]
pub fn recvmsg(fd: i32, message: u64, message_flags: u32, flags: RecvSendFlags) -> Sqe {
    Sqe { opcode: Opcode::RECVMSG, ..send(fd, message, 1, message_flags, flags) }
}

/// `IORING_OP_RECVMSG` with `BUFFER_SELECT`: like [`recvmsg`], into a buffer that the kernel
/// selects from `group`. With `RECV_MULTISHOT`, the buffer starts with a `RecvmsgOut`, the address
/// and the control data, and the bytes follow. The `msghdr` says how much space the address and the
/// control data each have. Since Linux 5.7; multishot since Linux 6.0.
#[doc(alias = "io_uring_prep_recvmsg_multishot")]
#[doc(alias = "io_uring_recvmsg_out")]
#[inline]
pub fn recvmsg_provided(
    fd: i32,
    message: u64,
    group: u16,
    message_flags: u32,
    flags: RecvSendFlags,
) -> Sqe {
    let sqe = recvmsg(fd, message, message_flags, flags);
    Sqe { flags: SqeFlags::BUFFER_SELECT, buf_index: group, ..sqe }
}

/// `IORING_OP_RECV_ZC` with `RECV_MULTISHOT`: receives into the memory of the network card's queue
/// that is registered as `queue`, up to `len` bytes in total (0: no limit). Each 32-byte completion
/// says where the bytes lie. Fails with `EINVAL` if no such queue is registered; to register one,
/// the card must be able to split headers from data. Since Linux 6.15.
#[doc(alias = "IORING_OP_RECV_ZC")]
#[inline]
pub fn recv_zc(fd: i32, queue: u32, len: u32, flags: RecvSendFlags) -> Sqe {
    let ioprio = flags.union(RecvSendFlags::RECV_MULTISHOT).bits();
    Sqe { opcode: Opcode::RECV_ZC, fd, len, ioprio, file_index: queue, ..Sqe::ZERO }
}

#[cfg(test)]
mod tests {
    use super::super::golden::golden;
    use super::*;

    const ONE: u64 = 0x7f00_8020_4000;
    const TWO: u64 = 0x7f00_c030_6000;

    #[test]
    fn sockets_are_made_and_connected_as_liburing_does() {
        let made = Sqe { op_flags: 0x3440, ..socket(0x3110, 0x3220, 0x3330) };
        assert_eq!(made, golden("io_uring_prep_socket"));
        assert_eq!(listen(0x3110, 0x3220), golden("io_uring_prep_listen"));
        let many = accept(0x3110, ONE, TWO, 0x3440, AcceptFlags::MULTISHOT);
        assert_eq!(many, golden("io_uring_prep_multishot_accept"));
        let connected = connect(0x3110, ONE, 0x3330);
        assert_eq!(connected, golden("io_uring_prep_connect"));
        assert_eq!(bind(0x3110, ONE, 0x3330), Sqe { opcode: Opcode::BIND, ..connected });
        assert_eq!(shutdown(0x3110, 0x3220), golden("io_uring_prep_shutdown"));
    }

    #[test]
    fn bytes_are_sent_and_received_as_liburing_does() {
        let none = RecvSendFlags::empty();
        let sent = send(0x3110, ONE, 0x3330, 0x5000, none);
        assert_eq!(sent, golden("io_uring_prep_send"));
        assert_eq!(send_to(sent, 0x7f01_4050_a000, 0x3660), golden("io_uring_prep_sendto"));
        let flags = RecvSendFlags::from_bits_retain(0x5400);
        assert_eq!(send_zc(0x3110, ONE, 0x3330, 0x5000, flags), golden("io_uring_prep_send_zc"));
        let many = recv_provided(0x3110, 0x3330, 0, 0x3440, RecvSendFlags::RECV_MULTISHOT);
        let many = Sqe { flags: SqeFlags::empty(), addr: ONE, ..many };
        assert_eq!(many, golden("io_uring_prep_recv_multishot"));
    }

    #[test]
    fn messages_are_sent_and_received_as_liburing_does() {
        let none = RecvSendFlags::empty();
        assert_eq!(sendmsg(0x3110, ONE, 0x4c00, none), golden("io_uring_prep_sendmsg"));
        assert_eq!(sendmsg_zc(0x3110, ONE, 0x4c00, none), golden("io_uring_prep_sendmsg_zc"));
        assert_eq!(recvmsg(0x3110, ONE, 0x3330, none), golden("io_uring_prep_recvmsg"));
    }
}
