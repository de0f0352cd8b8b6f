//! A request: what an entry asks for, checked as the kernel checks it before anything runs.
//!
//! ```text
//!   entry ──► Job::of ──► a job, or the error with which the request completes
//! ```
//!
//! Fields and flags that the simulated kernel does not know are refused with `EINVAL`, as by a
//! kernel that is too old for them.

mod futex;
mod letter;
mod message;
mod net;
mod parse;
mod path;
mod splice;
mod vectors;

use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::sync::Arc;

use annulus_sys::abi::Sqe;
use annulus_sys::flags::{CqeFlags, NopFlags, RecvSendFlags, SqeFlags};
use annulus_sys::opcode::Opcode;

use super::pool::Work;
use super::region::{Region, Span};
use super::registered::Entry;
use super::trace::{EndId, RequestId};

pub(super) use futex::{Futex, FutexJob};
pub(super) use letter::{Envelope, Letter};
pub(super) use net::encode;
pub(super) use parse::{nanoseconds, selects_buffers};
pub(super) use path::{Path, PathJob, VALID, WITH_PATH};

pub(super) use splice::Splice;

/// The most bytes that one request transfers.
const MAX_TRANSFER: u32 = 0x7fff_f000;

/// The operations that the simulated kernel has.
pub(super) const KNOWN: &[Opcode] = &[
    Opcode::NOP,
    Opcode::READV,
    Opcode::WRITEV,
    Opcode::FSYNC,
    Opcode::READ_FIXED,
    Opcode::WRITE_FIXED,
    Opcode::POLL_ADD,
    Opcode::POLL_REMOVE,
    Opcode::SENDMSG,
    Opcode::RECVMSG,
    Opcode::TIMEOUT,
    Opcode::TIMEOUT_REMOVE,
    Opcode::ACCEPT,
    Opcode::ASYNC_CANCEL,
    Opcode::LINK_TIMEOUT,
    Opcode::CONNECT,
    Opcode::FALLOCATE,
    Opcode::OPENAT,
    Opcode::CLOSE,
    Opcode::FILES_UPDATE,
    Opcode::SPLICE,
    Opcode::TEE,
    Opcode::STATX,
    Opcode::READ,
    Opcode::WRITE,
    Opcode::SEND,
    Opcode::RECV,
    Opcode::OPENAT2,
    Opcode::SHUTDOWN,
    Opcode::RENAMEAT,
    Opcode::UNLINKAT,
    Opcode::MKDIRAT,
    Opcode::SYMLINKAT,
    Opcode::LINKAT,
    Opcode::MSG_RING,
    Opcode::SOCKET,
    Opcode::SEND_ZC,
    Opcode::READ_MULTISHOT,
    Opcode::FUTEX_WAIT,
    Opcode::FUTEX_WAKE,
    Opcode::FUTEX_WAITV,
    Opcode::FIXED_FD_INSTALL,
    Opcode::FTRUNCATE,
    Opcode::SENDMSG_ZC,
    Opcode::BIND,
    Opcode::LISTEN,
    Opcode::READV_FIXED,
    Opcode::WRITEV_FIXED,
    Opcode::NOP128,
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
    /// The registered buffer in which its memory must lie.
    pub(super) fixed: Option<u16>,
    /// The buffer or group that its entry names.
    pub(super) buffer: u16,
    /// The error that its memory gives, once it is used.
    pub(super) wrong: Option<i32>,
    /// What it uses of the ring's tables.
    pub(super) held: Vec<Arc<Entry>>,
    /// The length or the count of its entry.
    pub(super) count: u32,
    /// The end that it uses, once it has begun.
    pub(super) end: Option<EndId>,
    /// The end from which it moves bytes to that one.
    pub(super) source: Option<EndId>,
    pub(super) spans: Vec<Span>,
    /// The memory of it, while it runs.
    pub(super) regions: Vec<Region>,
    /// How many bytes it is to transfer.
    pub(super) whole: usize,
    /// The group from which it selects a buffer for each transfer.
    pub(super) group: Option<u16>,
    /// What it has received for its own buffers; they are written as it ends.
    pub(super) got: Vec<u8>,
    /// What is known of the message that it has received.
    pub(super) letter: Option<Letter>,
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
    /// Whether it waited for its end since then.
    pub(super) has_waited: bool,
    /// The second half of its completion.
    pub(super) big: Option<[u64; 2]>,
    /// Where it is in a pool of workers.
    pub(super) work: Option<Work>,
    /// The kind of the worker that has done the step before it.
    pub(super) worker: Option<usize>,
}

/// How far a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// It waits for those before it, in its chain or before a drained one.
    Queued,
    /// It runs, or waits for an end or for a time.
    Begun,
    /// A poll that an old kernel has forgotten.
    Forgotten,
    /// A zero-copy send whose notification is to come.
    Notifying,
}

/// What a request does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Job {
    Nop {
        flags: NopFlags,
        result: i32,
        /// The second half of its completion.
        big: Option<[u64; 2]>,
    },
    Message(Message),
    PollUpdate {
        key: u64,
        events: Option<u32>,
        user_data: Option<u64>,
    },
    TimeoutUpdate {
        key: u64,
        span: u64,
        is_absolute: bool,
        is_linked: bool,
    },
    Read {
        offset: Option<u64>,
    },
    Write {
        offset: Option<u64>,
    },
    /// Reads again and again, into selected buffers.
    ReadMany,
    Recv(How),
    RecvMessage(How, Envelope),
    Send(How),
    Accept {
        repeats: bool,
        into: Option<Place>,
    },
    Socket {
        into: Option<Place>,
        has_messages: bool,
    },
    Bind(SocketAddr),
    Listen,
    Connect(SocketAddr),
    Shutdown(i32),
    Close,
    ClosePlace(u32),
    FilesUpdate {
        offset: Option<u32>,
    },
    Install,
    Fsync,
    Truncate(u64),
    Allocate {
        mode: i32,
        offset: u64,
        len: u64,
    },
    Path(Box<PathJob>),
    Splice(Splice),
    Futex(FutexJob),
    Poll {
        events: u32,
        repeats: bool,
    },
    PollRemove(u64),
    Timeout {
        span: u64,
        is_absolute: bool,
        count: u32,
        repeats: bool,
        is_success: bool,
    },
    TimeoutRemove(u64),
    LinkTimeout {
        span: u64,
        is_absolute: bool,
    },
    Cancel(Key),
}

/// How a socket is received from, or sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct How {
    /// Everything, or it has failed (`MSG_WAITALL`).
    pub(super) whole: bool,
    /// Whether a message that was cut has failed (`MSG_WAITALL`, too).
    pub(super) uncut: bool,
    pub(super) waits: bool,
    pub(super) repeats: bool,
    /// Whether it has a notification (`SEND_ZC`).
    pub(super) notifies: bool,
    /// Whether one completion may be for several selected buffers.
    pub(super) bundles: bool,
    /// Whether it says how long a message was, and not how much of it fits (`MSG_TRUNC`).
    pub(super) takes_len: bool,
    /// The address to which it goes.
    pub(super) to: Option<SocketAddr>,
}

/// What a ring sends to another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) user_data: u64,
    pub(super) result: i32,
    pub(super) flags: CqeFlags,
    /// A place of the sender's table of files, and one of the other's.
    pub(super) file: Option<(u32, Option<Place>)>,
    /// Whether the other ring is not told of the file.
    pub(super) skips: bool,
    /// Whether the other ring's kernel would refuse it.
    pub(super) is_odd: bool,
}

/// Where a new file goes, instead of a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    At(u32),
    /// Wherever the table has room.
    Any,
}

/// What a cancel looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) user_data: Option<u64>,
    pub(super) fd: Option<RawFd>,
    /// Whether that is a place of the table.
    pub(super) is_fixed: bool,
    pub(super) opcode: Option<Opcode>,
    /// Every request that matches, and not only the first.
    pub(super) all: bool,
}

impl Job {
    /// An entry that was refused.
    const NOTHING: Self = Self::Nop { flags: NopFlags::empty(), result: 0, big: None };

    /// Whether it uses the file that its entry names.
    pub(super) fn has_file(&self) -> bool {
        !matches!(
            self,
            Self::Nop { .. }
                | Self::Message(_)
                | Self::PollUpdate { .. }
                | Self::TimeoutUpdate { .. }
                | Self::ClosePlace(_)
                | Self::FilesUpdate { .. }
                | Self::Socket { .. }
                | Self::Path(_)
                | Self::Futex(_)
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
            Self::ReadMany
                | Self::Recv(How { repeats: true, .. })
                | Self::Send(How { bundles: true, .. })
                | Self::RecvMessage(How { repeats: true, .. }, _)
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
        let was_stopped = matches!(-res, libc::ECANCELED | libc::EINTR);
        match self.job {
            Job::Read { .. } | Job::Write { .. } => res < 0 || is_short,
            Job::Recv(how) | Job::RecvMessage(how, _) | Job::Send(how) => {
                let is_cut = self.letter.as_ref().is_some_and(|letter| letter.flags != 0);
                res < 0 || (how.whole && is_short) || (how.uncut && is_cut)
            }
            Job::Timeout { is_success: true, .. } => res < 0 && res != -libc::ETIME,
            Job::Shutdown(_) if res == -libc::ENOTSOCK => true,
            Job::Path(ref job) if matches!(**job, PathJob::Open { .. }) => res < 0,
            Job::Path(_) => was_stopped,
            Job::Splice(_) => u32::try_from(res) != Ok(self.count),
            // A cancel does not count (`__io_futex_cancel`, v6.18).
            Job::Futex(_) => res < 0 && res != -libc::ECANCELED,
            // What the file says does not count (`io_fsync`, `io_shutdown`, v6.18).
            Job::Fsync | Job::Shutdown(_) | Job::Truncate(_) | Job::Allocate { .. } => {
                was_stopped || self.end.is_none()
            }
            _ => res < 0,
        }
    }

    /// The request of an entry, and whether it was refused.
    pub(super) fn of(sqe: &Sqe, ring: usize) -> Self {
        let selects = sqe.flags.contains(SqeFlags::BUFFER_SELECT);
        let (job, spans, refused) = match Job::of(sqe) {
            Ok((job, spans)) => (job, spans, None),
            Err(errno) => (Job::NOTHING, vec![], Some(-errno)),
        };
        let limit = sqe.len.min(MAX_TRANSFER) as usize;
        let (others, limit) = match job {
            Job::RecvMessage(_, envelope) => (envelope.others, envelope.limit),
            _ => (0, limit),
        };
        let buffers = spans.iter().skip(others);
        let whole = if selects { limit } else { buffers.map(|span| span.len).sum() };
        Self {
            ring,
            user_data: sqe.user_data,
            opcode: sqe.opcode,
            flags: sqe.flags,
            fd: sqe.fd,
            job,
            fixed: uses_fixed(sqe).then_some(sqe.buf_index),
            buffer: sqe.buf_index,
            wrong: None,
            held: vec![],
            count: sqe.len,
            end: None,
            source: None,
            spans,
            regions: vec![],
            whole,
            group: selects.then_some(sqe.buf_index),
            got: vec![],
            letter: None,
            sent: 0,
            stage: Stage::Queued,
            next: None,
            clock: None,
            refused,
            posts: 0,
            has_waited: false,
            big: None,
            work: None,
            worker: None,
        }
    }

    /// Whether it names a registered file.
    pub(super) fn is_fixed(&self) -> bool {
        self.flags.contains(SqeFlags::FIXED_FILE)
    }

    /// What a person wants to know of it.
    pub(super) fn describe(&self, id: RequestId) -> String {
        format!("#{id} {:?} of {} bytes, {:?}", self.opcode, self.whole, self.stage)
    }
}

/// Whether the memory of an entry must lie in a registered buffer.
fn uses_fixed(sqe: &Sqe) -> bool {
    let how = RecvSendFlags::from_bits_retain(sqe.ioprio);
    match sqe.opcode {
        Opcode::READ_FIXED | Opcode::WRITE_FIXED => true,
        Opcode::READV_FIXED | Opcode::WRITEV_FIXED => true,
        Opcode::SEND_ZC | Opcode::SENDMSG_ZC => how.contains(RecvSendFlags::FIXED_BUF),
        _ => false,
    }
}
