//! From an entry to a job: the checks that Linux makes before anything runs.
#![allow(unsafe_code, reason = "reads what entries point to")]

use annulus_sys::abi::{Sqe, Timespec};
use annulus_sys::flags::{
    CancelFlags, FILE_INDEX_ALLOC, FixedFdFlags, FsyncFlags, PollFlags, SqeFlags, TimeoutFlags,
};
use annulus_sys::opcode::Opcode;

use super::super::region::{Span, Use, read_value};
use super::futex::futex_entry;
use super::letter::{receive_message, send_message};
use super::message::{message, nop, poll_remove, timeout_remove};
use super::net::{accept, address, bind, place, receive, send, socket};
use super::path::path_entry;
use super::splice::splice;
use super::vectors::{MAX_VECTORS, vectors_at};
use super::{Job, Key, MAX_TRANSFER, Place, uses_fixed};

impl Job {
    /// What `sqe` asks for, and the memory that it points to; or the error number.
    pub(in crate::sim) fn of(sqe: &Sqe) -> Result<(Self, Vec<Span>), i32> {
        let selects = sqe.flags.contains(SqeFlags::BUFFER_SELECT);
        let len = sqe.len.min(MAX_TRANSFER) as usize;
        let buffer =
            |use_| if selects { vec![] } else { vec![Span { address: sqe.addr, len, use_ }] };
        if selects && !selects_buffers(sqe.opcode) {
            return Err(libc::EOPNOTSUPP);
        }
        if sqe.personality != 0
            || (sqe.buf_index != 0 && !selects && !uses_fixed(sqe) && !is_nop(sqe.opcode))
        {
            return Err(libc::EINVAL);
        }
        // Of a READ, a READV and so on: flags, priorities, attributes.
        let is_plain = sqe.op_flags == 0 && sqe.ioprio == 0 && sqe.pad2 == 0;
        let offset = (sqe.off != u64::MAX).then_some(sqe.off);
        let job = match sqe.opcode {
            Opcode::NOP | Opcode::NOP128 => nop(sqe)?,
            Opcode::MSG_RING => message(sqe)?,
            Opcode::READ_MULTISHOT if is_plain && selects && sqe.addr == 0 && sqe.len == 0 => {
                Self::ReadMany
            }
            Opcode::READ | Opcode::READ_FIXED if is_plain => {
                return Ok((Self::Read { offset }, buffer(Use::Writes)));
            }
            Opcode::WRITE | Opcode::WRITE_FIXED if is_plain => {
                return Ok((Self::Write { offset }, buffer(Use::Reads)));
            }
            Opcode::READV | Opcode::READV_FIXED if is_plain => {
                return Ok((Self::Read { offset }, vectors(sqe, Use::Writes)?));
            }
            Opcode::WRITEV | Opcode::WRITEV_FIXED if is_plain => {
                return Ok((Self::Write { offset }, vectors(sqe, Use::Reads)?));
            }
            Opcode::RECV => return Ok((receive(sqe)?, buffer(Use::Writes))),
            Opcode::SEND | Opcode::SEND_ZC => return Ok((send(sqe)?, buffer(Use::Reads))),
            Opcode::RECVMSG => return receive_message(sqe),
            Opcode::SENDMSG | Opcode::SENDMSG_ZC => return send_message(sqe),
            Opcode::BIND => bind(sqe)?,
            Opcode::LISTEN if is_plain && sqe.off == 0 && sqe.addr == 0 => Self::Listen,
            Opcode::ACCEPT => return accept(sqe),
            Opcode::CONNECT => Self::Connect(address(sqe)?),
            Opcode::SHUTDOWN if is_plain && sqe.addr == 0 => Self::Shutdown(sqe.len.cast_signed()),
            Opcode::SOCKET => socket(sqe)?,
            Opcode::CLOSE if is_plain => close(sqe)?,
            Opcode::FILES_UPDATE if is_plain => return files_update(sqe),
            Opcode::FIXED_FD_INSTALL => install(sqe)?,
            Opcode::FSYNC if (FsyncFlags::DATASYNC.bits() | sqe.op_flags) == 1 => Self::Fsync,
            Opcode::OPENAT | Opcode::OPENAT2 | Opcode::STATX | Opcode::RENAMEAT => {
                return path_entry(sqe);
            }
            Opcode::UNLINKAT | Opcode::MKDIRAT | Opcode::SYMLINKAT | Opcode::LINKAT => {
                return path_entry(sqe);
            }
            Opcode::FUTEX_WAIT | Opcode::FUTEX_WAKE | Opcode::FUTEX_WAITV => futex_entry(sqe)?,
            Opcode::SPLICE | Opcode::TEE => splice(sqe)?,
            Opcode::FTRUNCATE if is_plain && sqe.addr == 0 && sqe.len == 0 && sqe.addr3 == 0 => {
                Self::Truncate(sqe.off)
            }
            Opcode::FALLOCATE if is_plain => {
                Self::Allocate { mode: sqe.len.cast_signed(), offset: sqe.off, len: sqe.addr }
            }
            Opcode::POLL_ADD => poll(sqe)?,
            Opcode::POLL_REMOVE => poll_remove(sqe)?,
            Opcode::TIMEOUT | Opcode::LINK_TIMEOUT => timeout(sqe)?,
            Opcode::TIMEOUT_REMOVE => timeout_remove(sqe)?,
            Opcode::ASYNC_CANCEL => cancel(sqe)?,
            _ => return Err(libc::EINVAL),
        };
        Ok((job, vec![]))
    }
}

fn is_nop(opcode: Opcode) -> bool {
    opcode == Opcode::NOP || opcode == Opcode::NOP128
}

/// Whether an operation may select its buffer when it needs one.
pub(in crate::sim) fn selects_buffers(opcode: Opcode) -> bool {
    [Opcode::READ, Opcode::RECV, Opcode::SEND, Opcode::READ_MULTISHOT, Opcode::RECVMSG]
        .contains(&opcode)
}

fn vectors(sqe: &Sqe, use_: Use) -> Result<Vec<Span>, i32> {
    if sqe.len > MAX_VECTORS {
        return Err(libc::EINVAL);
    }
    Ok(vectors_at(sqe.addr, sqe.len, use_))
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
pub(in crate::sim) fn nanoseconds(time: Timespec) -> Option<u64> {
    let (seconds, nanos) = (u64::try_from(time.tv_sec).ok()?, u64::try_from(time.tv_nsec).ok()?);
    Some(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

fn cancel(sqe: &Sqe) -> Result<Job, i32> {
    let how = CancelFlags::from_bits_retain(sqe.op_flags);
    let known = CancelFlags::ALL
        | CancelFlags::FD
        | CancelFlags::ANY
        | CancelFlags::USERDATA
        | CancelFlags::FD_FIXED;
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
        is_fixed: how.contains(CancelFlags::FD_FIXED) || sqe.flags.contains(SqeFlags::FIXED_FILE),
        opcode: opcode.map(Opcode),
        all: how.intersects(CancelFlags::ALL | CancelFlags::ANY),
    }))
}

fn close(sqe: &Sqe) -> Result<Job, i32> {
    let is_odd = sqe.off != 0 || sqe.addr != 0 || sqe.len != 0;
    if sqe.flags.contains(SqeFlags::FIXED_FILE) && !is_odd {
        return Err(libc::EBADF);
    }
    match place(sqe) {
        _ if is_odd => Err(libc::EINVAL),
        None => Ok(Job::Close),
        Some(_) if sqe.fd != 0 => Err(libc::EINVAL),
        // No table is as long.
        Some(Place::Any) => Ok(Job::ClosePlace(u32::MAX - 1)),
        Some(Place::At(at)) => Ok(Job::ClosePlace(at)),
    }
}

fn files_update(sqe: &Sqe) -> Result<(Job, Vec<Span>), i32> {
    if sqe.flags.contains(SqeFlags::FIXED_FILE) || sqe.file_index != 0 || sqe.len == 0 {
        return Err(libc::EINVAL);
    }
    let Ok(offset) = u32::try_from(sqe.off) else { return Err(libc::EINVAL) };
    let offset = (offset != FILE_INDEX_ALLOC).then_some(offset);
    let use_ = if offset.is_some() { Use::Reads } else { Use::Both };
    let span = Span { address: sqe.addr, len: size_of::<i32>() * sqe.len as usize, use_ };
    Ok((Job::FilesUpdate { offset }, vec![span]))
}

fn install(sqe: &Sqe) -> Result<Job, i32> {
    let is_odd = sqe.off != 0 || sqe.addr != 0 || sqe.len != 0 || sqe.file_index != 0;
    let how = FixedFdFlags::from_bits_retain(sqe.op_flags);
    match sqe.flags.contains(SqeFlags::FIXED_FILE) {
        _ if is_odd || sqe.addr3 != 0 => Err(libc::EINVAL),
        false => Err(libc::EBADF),
        true if !FixedFdFlags::NO_CLOEXEC.contains(how) => Err(libc::EINVAL),
        true => Ok(Job::Install),
    }
}
