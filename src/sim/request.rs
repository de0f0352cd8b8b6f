//! A request: what an entry asks for, checked as the kernel checks it before anything runs.
//!
//! ```text
//!   entry ──► Job::of ──► a job, or the error with which the request completes
//! ```
//!
//! Fields and flags that the simulated kernel does not know are refused with `EINVAL`, as by a
//! kernel that is too old for them.
#![allow(unsafe_code, reason = "reads what entries point to")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::RawFd;

use annulus_sys::abi::{Sqe, Timespec};
use annulus_sys::flags::{
    AcceptFlags, CancelFlags, FsyncFlags, PollFlags, RecvSendFlags, SqeFlags, TimeoutFlags,
};
use annulus_sys::opcode::Opcode;

use super::region::{Region, Span, Use, read_value};
use super::trace::{EndId, RequestId};

/// The most bytes that one request transfers.
const MAX_TRANSFER: u32 = 0x7fff_f000;
/// The most buffers of a vectored request.
const MAX_VECTORS: u32 = 1024;

/// The operations that the simulated kernel has.
pub(super) const KNOWN: &[Opcode] = &[
    Opcode::NOP,
    Opcode::READV,
    Opcode::WRITEV,
    Opcode::FSYNC,
    Opcode::POLL_ADD,
    Opcode::POLL_REMOVE,
    Opcode::TIMEOUT,
    Opcode::TIMEOUT_REMOVE,
    Opcode::ACCEPT,
    Opcode::ASYNC_CANCEL,
    Opcode::LINK_TIMEOUT,
    Opcode::CONNECT,
    Opcode::CLOSE,
    Opcode::READ,
    Opcode::WRITE,
    Opcode::SEND,
    Opcode::RECV,
    Opcode::SHUTDOWN,
    Opcode::SEND_ZC,
];

/// A request that was consumed and has not ended.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) ring: usize,
    pub(super) user_data: u64,
    pub(super) opcode: Opcode,
    pub(super) flags: SqeFlags,
    pub(super) fd: RawFd,
    pub(super) job: Job,
    /// The end that it uses, once it has begun.
    pub(super) end: Option<EndId>,
    pub(super) spans: Vec<Span>,
    /// The memory of it, while it runs.
    pub(super) regions: Vec<Region>,
    /// How many bytes it is to transfer.
    pub(super) whole: usize,
    /// The group from which it selects a buffer for each transfer.
    pub(super) group: Option<u16>,
    /// What it has received for its own buffers; they are written as it ends.
    pub(super) got: Vec<u8>,
    /// How many bytes it has sent.
    pub(super) sent: usize,
    pub(super) stage: Stage,
    /// The next of its chain, and the timeout that bounds it.
    pub(super) next: Option<RequestId>,
    pub(super) clock: Option<RequestId>,
    /// The result that it has, without having run: it, or its chain, was refused.
    pub(super) refused: Option<i32>,
    /// How many completions it has had.
    pub(super) posts: u32,
}

/// How far a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// It waits for those before it, in its chain or before a drained one.
    Queued,
    /// It runs, or waits for an end or for a time.
    Begun,
    /// A zero-copy send whose notification is to come.
    Notifying,
}

/// What a request does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Job {
    Nop,
    Read { offset: Option<u64> },
    Write { offset: Option<u64> },
    Recv { whole: bool, waits: bool, repeats: bool },
    Send { whole: bool, waits: bool, notifies: bool },
    Accept { repeats: bool },
    Connect(SocketAddr),
    Shutdown(i32),
    Close,
    Fsync,
    Poll { events: u32, repeats: bool },
    PollRemove(u64),
    Timeout { span: u64, is_absolute: bool, count: u32, repeats: bool, is_success: bool },
    TimeoutRemove(u64),
    LinkTimeout { span: u64, is_absolute: bool },
    Cancel(Key),
}

/// What a cancel looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) user_data: Option<u64>,
    pub(super) fd: Option<RawFd>,
    pub(super) opcode: Option<Opcode>,
    /// Every request that matches, and not only the first.
    pub(super) all: bool,
}

impl Job {
    /// What `sqe` asks for, and the memory that it points to; or the error number.
    pub(super) fn of(sqe: &Sqe) -> Result<(Self, Vec<Span>), i32> {
        let selects = sqe.flags.contains(SqeFlags::BUFFER_SELECT);
        let len = sqe.len.min(MAX_TRANSFER) as usize;
        let buffer =
            |use_| if selects { vec![] } else { vec![Span { address: sqe.addr, len, use_ }] };
        if selects && !matches!(sqe.opcode, Opcode::READ | Opcode::RECV) {
            return Err(libc::EOPNOTSUPP);
        }
        if sqe.personality != 0 || (sqe.buf_index != 0 && !selects) {
            return Err(libc::EINVAL);
        }
        // Of a READ, a READV and so on: flags, priorities, attributes.
        let is_plain = sqe.op_flags == 0 && sqe.ioprio == 0 && sqe.pad2 == 0;
        let offset = (sqe.off != u64::MAX).then_some(sqe.off);
        let job = match sqe.opcode {
            Opcode::NOP if is_plain => Self::Nop,
            Opcode::READ if is_plain => return Ok((Self::Read { offset }, buffer(Use::Writes))),
            Opcode::WRITE if is_plain => return Ok((Self::Write { offset }, buffer(Use::Reads))),
            Opcode::READV if is_plain => {
                return Ok((Self::Read { offset }, vectors(sqe, Use::Writes)?));
            }
            Opcode::WRITEV if is_plain => {
                return Ok((Self::Write { offset }, vectors(sqe, Use::Reads)?));
            }
            Opcode::RECV => return Ok((receive(sqe)?, buffer(Use::Writes))),
            Opcode::SEND | Opcode::SEND_ZC => return Ok((send(sqe)?, buffer(Use::Reads))),
            Opcode::ACCEPT => return accept(sqe),
            Opcode::CONNECT => Self::Connect(address(sqe)?),
            Opcode::SHUTDOWN if is_plain && sqe.addr == 0 => Self::Shutdown(sqe.len.cast_signed()),
            Opcode::CLOSE if is_plain && sqe.file_index == 0 => Self::Close,
            Opcode::FSYNC if (FsyncFlags::DATASYNC.bits() | sqe.op_flags) == 1 => Self::Fsync,
            Opcode::POLL_ADD => poll(sqe)?,
            // Flags would change the poll, instead of removing it.
            Opcode::POLL_REMOVE if is_plain && sqe.len == 0 => Self::PollRemove(sqe.addr),
            Opcode::TIMEOUT | Opcode::LINK_TIMEOUT => timeout(sqe)?,
            Opcode::TIMEOUT_REMOVE if is_plain && sqe.len == 0 => Self::TimeoutRemove(sqe.addr),
            Opcode::ASYNC_CANCEL => cancel(sqe)?,
            _ => return Err(libc::EINVAL),
        };
        Ok((job, vec![]))
    }

    /// Whether it uses the file that its entry names.
    pub(super) fn has_file(&self) -> bool {
        !matches!(
            self,
            Self::Nop
                | Self::PollRemove(_)
                | Self::Timeout { .. }
                | Self::TimeoutRemove(_)
                | Self::LinkTimeout { .. }
                | Self::Cancel(_)
        )
    }

    /// Whether it goes on after a completion.
    pub(super) fn repeats(&self) -> bool {
        matches!(
            self,
            Self::Recv { repeats: true, .. }
                | Self::Accept { repeats: true, .. }
                | Self::Poll { repeats: true, .. }
                | Self::Timeout { repeats: true, .. }
        )
    }
}

impl Request {
    /// Whether it ended otherwise than it was asked to, which breaks a chain.
    pub(super) fn has_failed(&self, res: i32) -> bool {
        let is_short = usize::try_from(res).is_ok_and(|count| count < self.whole);
        match self.job {
            Job::Read { .. } | Job::Write { .. } => res < 0 || is_short,
            Job::Recv { whole: true, .. } | Job::Send { whole: true, .. } => res < 0 || is_short,
            Job::Timeout { is_success: true, .. } => res < 0 && res != -libc::ETIME,
            // What the file says does not count (`io_fsync`, `io_shutdown`, v6.18).
            Job::Fsync | Job::Shutdown(_) => matches!(-res, libc::EBADF | libc::ENOTSOCK),
            _ => res < 0,
        }
    }

    /// The request of an entry, and whether it was refused.
    pub(super) fn of(sqe: &Sqe, ring: usize) -> Self {
        let selects = sqe.flags.contains(SqeFlags::BUFFER_SELECT);
        let (job, spans, refused) = match Job::of(sqe) {
            Ok((job, spans)) => (job, spans, None),
            Err(errno) => (Job::Nop, vec![], Some(-errno)),
        };
        let limit = sqe.len.min(MAX_TRANSFER) as usize;
        let whole = if selects { limit } else { spans.iter().map(|span| span.len).sum() };
        Self {
            ring,
            user_data: sqe.user_data,
            opcode: sqe.opcode,
            flags: sqe.flags,
            fd: sqe.fd,
            job,
            end: None,
            spans,
            regions: vec![],
            whole,
            group: selects.then_some(sqe.buf_index),
            got: vec![],
            sent: 0,
            stage: Stage::Queued,
            next: None,
            clock: None,
            refused,
            posts: 0,
        }
    }

    /// What a person wants to know of it.
    pub(super) fn describe(&self, id: RequestId) -> String {
        format!("#{id} {:?} of {} bytes, {:?}", self.opcode, self.whole, self.stage)
    }
}

fn vectors(sqe: &Sqe, use_: Use) -> Result<Vec<Span>, i32> {
    if sqe.len > MAX_VECTORS {
        return Err(libc::EINVAL);
    }
    let at = |index: u64| sqe.addr + index * size_of::<[u64; 2]>() as u64;
    let vector = |index| {
        // SAFETY: `len` live `struct iovec` of two words, for which the program vouched as it
        // pushed the entry (OP1).
        let [address, len] = unsafe { read_value::<[u64; 2]>(at(index)) };
        let len = usize::try_from(len).expect("64 bits");
        Span { address, len, use_ }
    };
    Ok((0..u64::from(sqe.len)).map(vector).collect())
}

fn receive(sqe: &Sqe) -> Result<Job, i32> {
    let flags = sqe.op_flags.cast_signed();
    let how = RecvSendFlags::from_bits_retain(sqe.ioprio);
    let known = RecvSendFlags::RECV_MULTISHOT | RecvSendFlags::POLL_FIRST;
    let allowed = libc::MSG_WAITALL | libc::MSG_DONTWAIT;
    let repeats = how.contains(RecvSendFlags::RECV_MULTISHOT);
    let selects = sqe.flags.contains(SqeFlags::BUFFER_SELECT);
    let (whole, waits) = (flags & libc::MSG_WAITALL != 0, flags & libc::MSG_DONTWAIT == 0);
    let mixed = if selects { whole } else { repeats };
    if flags & !allowed != 0 || !known.contains(how) || mixed || sqe.off != 0 {
        return Err(libc::EINVAL);
    }
    Ok(Job::Recv { whole, waits, repeats })
}

fn send(sqe: &Sqe) -> Result<Job, i32> {
    let flags = sqe.op_flags.cast_signed();
    let how = RecvSendFlags::from_bits_retain(sqe.ioprio);
    let allowed = libc::MSG_WAITALL | libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL | libc::MSG_MORE;
    let plain = RecvSendFlags::POLL_FIRST.contains(how) && sqe.off == 0 && sqe.file_index == 0;
    if flags & !allowed != 0 || !plain {
        return Err(libc::EINVAL);
    }
    let (whole, waits) = (flags & libc::MSG_WAITALL != 0, flags & libc::MSG_DONTWAIT == 0);
    let notifies = sqe.opcode == Opcode::SEND_ZC;
    if notifies && sqe.flags.contains(SqeFlags::CQE_SKIP_SUCCESS) {
        return Err(libc::EINVAL);
    }
    Ok(Job::Send { whole, waits, notifies })
}

fn accept(sqe: &Sqe) -> Result<(Job, Vec<Span>), i32> {
    let how = AcceptFlags::from_bits_retain(sqe.ioprio);
    let repeats = how.contains(AcceptFlags::MULTISHOT);
    let flags = sqe.op_flags.cast_signed();
    let known = AcceptFlags::MULTISHOT | AcceptFlags::POLL_FIRST;
    // There is one place for the addresses of all that a multishot accepts.
    let mixed = (repeats && sqe.addr != 0) || (sqe.addr != 0) != (sqe.off != 0);
    if sqe.len != 0 || sqe.file_index != 0 || mixed || !known.contains(how) {
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
    Ok((Job::Accept { repeats }, spans))
}

/// The address to which a `CONNECT` goes.
fn address(sqe: &Sqe) -> Result<SocketAddr, i32> {
    if sqe.len != 0 || sqe.ioprio != 0 || sqe.op_flags != 0 || sqe.file_index != 0 {
        return Err(libc::EINVAL);
    }
    let len = usize::try_from(sqe.off).map_err(|_| libc::EINVAL)?;
    if !(2..=128).contains(&len) {
        return Err(libc::EINVAL);
    }
    let span = Span { address: sqe.addr, len, use_: Use::Reads };
    // SAFETY: an address of so many bytes, for which the program vouched (OP1).
    let bytes = unsafe { Region::new(span) }.read(0);
    let family = i32::from(u16::from_ne_bytes([bytes[0], bytes[1]]));
    let port = bytes.get(2..4).map_or(0, |port| u16::from_be_bytes([port[0], port[1]]));
    let part = |from: usize, to: usize| bytes.get(from..to).ok_or(libc::EINVAL);
    let ip = match family {
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
pub(super) fn encode(address: SocketAddr) -> Vec<u8> {
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

fn poll(sqe: &Sqe) -> Result<Job, i32> {
    let how = PollFlags::from_bits_retain(sqe.len);
    if !PollFlags::ADD_MULTI.contains(how) || sqe.ioprio != 0 || sqe.addr != 0 || sqe.off != 0 {
        return Err(libc::EINVAL);
    }
    let always = libc::POLLERR | libc::POLLHUP | libc::POLLRDHUP;
    let always = u32::from(always.cast_unsigned());
    let repeats = how.contains(PollFlags::ADD_MULTI);
    Ok(Job::Poll { events: sqe.op_flags | always, repeats })
}

fn timeout(sqe: &Sqe) -> Result<Job, i32> {
    let how = TimeoutFlags::from_bits_retain(sqe.op_flags);
    let clocks = TimeoutFlags::BOOTTIME | TimeoutFlags::REALTIME;
    let both = TimeoutFlags::ABS | clocks | TimeoutFlags::ETIME_SUCCESS | TimeoutFlags::MULTISHOT;
    let is_linked = sqe.opcode == Opcode::LINK_TIMEOUT;
    let (repeats, is_absolute) =
        (how.contains(TimeoutFlags::MULTISHOT), how.contains(TimeoutFlags::ABS));
    if !both.contains(how) || how.contains(clocks) || (repeats && (is_absolute || is_linked)) {
        return Err(libc::EINVAL);
    }
    if sqe.len != 1 || sqe.ioprio != 0 || (is_linked && sqe.off != 0) {
        return Err(libc::EINVAL);
    }
    // SAFETY: a live `struct __kernel_timespec`, for which the program vouched (OP1).
    let time = unsafe { read_value::<Timespec>(sqe.addr) };
    let span = nanoseconds(time).ok_or(libc::EINVAL)?;
    if is_linked {
        return Ok(Job::LinkTimeout { span, is_absolute });
    }
    let is_success = how.contains(TimeoutFlags::ETIME_SUCCESS);
    let count = u32::try_from(sqe.off).map_err(|_| libc::EINVAL)?;
    Ok(Job::Timeout { span, is_absolute, count, repeats, is_success })
}

/// A time in nanoseconds, at most the largest number; `None` if it is negative.
pub(super) fn nanoseconds(time: Timespec) -> Option<u64> {
    let (seconds, nanos) = (u64::try_from(time.tv_sec).ok()?, u64::try_from(time.tv_nsec).ok()?);
    Some(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

fn cancel(sqe: &Sqe) -> Result<Job, i32> {
    let how = CancelFlags::from_bits_retain(sqe.op_flags);
    let known = CancelFlags::ALL | CancelFlags::FD | CancelFlags::ANY | CancelFlags::USERDATA;
    let any = how.contains(CancelFlags::ANY);
    let by_key = CancelFlags::FD | CancelFlags::USERDATA | CancelFlags::OP;
    let unknown = !(known | CancelFlags::OP).contains(how) || sqe.ioprio != 0 || sqe.off != 0;
    if unknown || (any && how.intersects(by_key)) || sqe.file_index != 0 {
        return Err(libc::EINVAL);
    }
    if sqe.len != 0 && !how.contains(CancelFlags::OP) {
        return Err(libc::EINVAL);
    }
    let by_opcode = how.contains(CancelFlags::OP);
    let opcode = by_opcode.then_some(u8::try_from(sqe.len).map_err(|_| libc::EINVAL)?);
    // Without a key that says otherwise, the key is the `user_data`.
    let by_user_data = !how.intersects(CancelFlags::ANY | CancelFlags::FD | CancelFlags::OP)
        || how.contains(CancelFlags::USERDATA);
    Ok(Job::Cancel(Key {
        user_data: by_user_data.then_some(sqe.addr),
        fd: how.contains(CancelFlags::FD).then_some(sqe.fd),
        opcode: opcode.map(Opcode),
        all: how.intersects(CancelFlags::ALL | CancelFlags::ANY),
    }))
}
