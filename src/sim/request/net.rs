//! Entries about sockets: what each asks for, and addresses as bytes.
//!
//! | | `ioprio` | `file_index` |
//! |---|---|---|
//! | receives, sends | `RECV_MULTISHOT`, `FIXED_BUF`, `POLL_FIRST` (no effect) | 0 |
//! | accepts | `MULTISHOT`, `POLL_FIRST` (no effect) | the place for the connection |
#![allow(unsafe_code, reason = "reads what entries point to")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use annulus_sys::abi::Sqe;
use annulus_sys::flags::{AcceptFlags, FILE_INDEX_ALLOC, RecvSendFlags, SqeFlags};
use annulus_sys::opcode::Opcode;

use super::super::region::{Region, Span, Use, read_value};
use super::{How, Job, Place};

pub(super) fn receive(sqe: &Sqe) -> Result<Job, i32> {
    let flags = sqe.op_flags.cast_signed();
    let how = RecvSendFlags::from_bits_retain(sqe.ioprio);
    let several = RecvSendFlags::BUNDLE;
    let known = RecvSendFlags::RECV_MULTISHOT | RecvSendFlags::POLL_FIRST | several;
    let allowed = libc::MSG_WAITALL | libc::MSG_DONTWAIT | libc::MSG_TRUNC;
    let repeats = how.contains(RecvSendFlags::RECV_MULTISHOT);
    let selects = sqe.flags.contains(SqeFlags::BUFFER_SELECT);
    let (whole, waits) = (flags & libc::MSG_WAITALL != 0, flags & libc::MSG_DONTWAIT == 0);
    let mixed = if selects { whole } else { repeats };
    // What Linux does with selected buffers then (v6.18) is no model.
    let counts = flags & libc::MSG_TRUNC != 0 && selects && !repeats;
    if flags & !allowed != 0
        || !known.contains(how)
        || mixed
        || counts
        || sqe.off != 0
        || sqe.file_index != 0
    {
        return Err(libc::EINVAL);
    }
    let takes_len = flags & libc::MSG_TRUNC != 0;
    let bundles = selects && how.contains(several);
    if how.contains(several) && sqe.opcode != Opcode::RECV {
        return Err(libc::EINVAL);
    }
    Ok(Job::Recv(How {
        whole,
        uncut: whole,
        waits,
        repeats,
        takes_len,
        bundles,
        notifies: false,
        to: None,
    }))
}

pub(super) fn send(sqe: &Sqe) -> Result<Job, i32> {
    let flags = sqe.op_flags.cast_signed();
    let how = RecvSendFlags::from_bits_retain(sqe.ioprio);
    let allowed = libc::MSG_WAITALL | libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL | libc::MSG_MORE;
    let zero_copy = RecvSendFlags::POLL_FIRST | RecvSendFlags::FIXED_BUF;
    let notifies = matches!(sqe.opcode, Opcode::SEND_ZC | Opcode::SENDMSG_ZC);
    let bundles = how.contains(RecvSendFlags::BUNDLE);
    let selects = sqe.flags.contains(SqeFlags::BUFFER_SELECT);
    // Of no length, and to where the socket is connected.
    let is_plain = sqe.opcode == Opcode::SEND && selects && sqe.len == 0 && sqe.off == 0;
    let plain = RecvSendFlags::POLL_FIRST | RecvSendFlags::BUNDLE;
    let known = if notifies { zero_copy } else { plain };
    if bundles && !is_plain {
        return Err(libc::EINVAL);
    }
    let is_odd = !known.contains(how) || sqe.file_index > u32::from(u16::MAX);
    if flags & !allowed != 0 || is_odd || (notifies && sqe.addr3 != 0) {
        return Err(libc::EINVAL);
    }
    let (whole, waits) = (flags & libc::MSG_WAITALL != 0, flags & libc::MSG_DONTWAIT == 0);
    if notifies && sqe.flags.contains(SqeFlags::CQE_SKIP_SUCCESS) {
        return Err(libc::EINVAL);
    }
    let to = match sqe.off {
        0 => None,
        at => Some(address_at(at, sqe.file_index as usize)?),
    };
    Ok(Job::Send(How {
        whole,
        uncut: false,
        waits,
        repeats: false,
        takes_len: false,
        bundles,
        notifies,
        to,
    }))
}

pub(super) fn accept(sqe: &Sqe) -> Result<(Job, Vec<Span>), i32> {
    let how = AcceptFlags::from_bits_retain(sqe.ioprio);
    let repeats = how.contains(AcceptFlags::MULTISHOT);
    let flags = sqe.op_flags.cast_signed();
    let known = AcceptFlags::MULTISHOT | AcceptFlags::POLL_FIRST;
    // There is one place for the addresses of all that a multishot accepts.
    let mixed = (repeats && sqe.addr != 0) || (sqe.addr != 0) != (sqe.off != 0);
    let into = place(sqe);
    if sqe.len != 0 || mixed || !known.contains(how) {
        return Err(libc::EINVAL);
    }
    if into.is_some() && flags & libc::SOCK_CLOEXEC != 0 {
        return Err(libc::EINVAL);
    }
    if repeats && matches!(into, Some(Place::At(_))) {
        return Err(libc::EINVAL);
    }
    if flags & !(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK) != 0 {
        return Err(libc::EINVAL);
    }
    let mut spans = Vec::new();
    if sqe.addr != 0 {
        // SAFETY: the live length of the address, for which the program vouched (OP1).
        let len = unsafe { read_value::<u32>(sqe.off) } as usize;
        let use_ = Use::Writes;
        spans.push(Span { address: sqe.addr, len, use_ });
        spans.push(Span { address: sqe.off, len: size_of::<u32>(), use_ });
    }
    Ok((Job::Accept { repeats, into }, spans))
}

/// The address to which a `CONNECT` goes.
pub(super) fn address(sqe: &Sqe) -> Result<SocketAddr, i32> {
    if sqe.len != 0 || sqe.ioprio != 0 || sqe.op_flags != 0 || sqe.file_index != 0 {
        return Err(libc::EINVAL);
    }
    let len = usize::try_from(sqe.off).map_err(|_| libc::EINVAL)?;
    address_at(sqe.addr, len)
}

/// The address in `len` bytes.
pub(super) fn address_at(address: u64, len: usize) -> Result<SocketAddr, i32> {
    if !(2..=128).contains(&len) {
        return Err(libc::EINVAL);
    }
    let span = Span { address, len, use_: Use::Reads };
    // SAFETY: an address of so many bytes, for which the program vouched (OP1).
    let bytes = unsafe { Region::new(span) }.read(0);
    let family = i32::from(u16::from_ne_bytes([bytes[0], bytes[1]]));
    let port = bytes.get(2..4).map_or(0, |port| u16::from_be_bytes([port[0], port[1]]));
    let part = |from: usize, to: usize| bytes.get(from..to).ok_or(libc::EINVAL);
    let ip = match family {
        libc::AF_INET if len < 16 => return Err(libc::EINVAL),
        libc::AF_INET => {
            let octets: [u8; 4] = part(4, 8)?.try_into().map_err(|_| libc::EINVAL)?;
            IpAddr::V4(Ipv4Addr::from(octets))
        }
        libc::AF_INET6 => {
            let octets: [u8; 16] = part(8, 24)?.try_into().map_err(|_| libc::EINVAL)?;
            IpAddr::V6(Ipv6Addr::from(octets))
        }
        _ => return Err(libc::EAFNOSUPPORT),
    };
    Ok(SocketAddr::new(ip, port))
}

/// The bytes of an address, as `accept(2)` writes them.
pub(in crate::sim) fn encode(address: SocketAddr) -> Vec<u8> {
    let mut bytes = Vec::new();
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    bytes.extend(u16::try_from(family).expect("a small number").to_ne_bytes());
    bytes.extend(address.port().to_be_bytes());
    match address.ip() {
        IpAddr::V4(ip) => {
            bytes.extend(ip.octets());
            bytes.extend([0; 8]);
        }
        IpAddr::V6(ip) => {
            bytes.extend([0; 4]);
            bytes.extend(ip.octets());
            bytes.extend([0; 4]);
        }
    }
    bytes
}

/// Where an entry wants a new file.
pub(super) fn place(sqe: &Sqe) -> Option<Place> {
    match sqe.file_index {
        0 => None,
        FILE_INDEX_ALLOC => Some(Place::Any),
        at => Some(Place::At(at - 1)),
    }
}

/// A socket for a stream or for datagrams of the internet.
pub(super) fn socket(sqe: &Sqe) -> Result<Job, i32> {
    let kind = i32::try_from(sqe.off).map_err(|_| libc::EINVAL)?;
    let flags = kind & (libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK);
    let into = place(sqe);
    let is_inet = matches!(sqe.fd, libc::AF_INET | libc::AF_INET6);
    let protocol = sqe.len.cast_signed();
    let is_stream = kind - flags == libc::SOCK_STREAM && matches!(protocol, 0 | libc::IPPROTO_TCP);
    let has_messages = kind - flags == libc::SOCK_DGRAM
        && sqe.fd == libc::AF_INET
        && matches!(protocol, 0 | libc::IPPROTO_UDP);
    if sqe.addr != 0 || sqe.op_flags != 0 || !is_inet || !(is_stream || has_messages) {
        return Err(libc::EINVAL);
    }
    if into.is_some() && flags & libc::SOCK_CLOEXEC != 0 {
        return Err(libc::EINVAL);
    }
    Ok(Job::Socket { into, has_messages })
}

/// The address that a `BIND` gives a socket.
pub(super) fn bind(sqe: &Sqe) -> Result<Job, i32> {
    if sqe.len != 0 || sqe.ioprio != 0 || sqe.op_flags != 0 || sqe.file_index != 0 {
        return Err(libc::EINVAL);
    }
    let len = usize::try_from(sqe.off).map_err(|_| libc::EINVAL)?;
    Ok(Job::Bind(address_at(sqe.addr, len)?))
}
