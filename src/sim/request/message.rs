//! Entries that name no file of the world: what each asks for.
#![allow(unsafe_code, reason = "reads what entries point to")]

use annulus_sys::abi::{Sqe, Timespec};
use annulus_sys::flags::{
    CqeFlags, MsgRingCmd, MsgRingFlags, NopFlags, PollFlags, SqeFlags, TimeoutFlags,
};

use super::super::region::read_value;
use super::nanoseconds;
use super::net::place;
use super::{Job, Message};

pub(super) fn nop(sqe: &Sqe) -> Result<Job, i32> {
    let flags = NopFlags::from_bits_retain(sqe.op_flags);
    let known = NopFlags::INJECT_RESULT
        | NopFlags::FILE
        | NopFlags::FIXED_FILE
        | NopFlags::FIXED_BUFFER
        | NopFlags::TW
        | NopFlags::CQE32;
    if sqe.ioprio != 0 || !known.contains(flags) {
        return Err(libc::EINVAL);
    }
    let injects = flags.contains(NopFlags::INJECT_RESULT);
    let big = flags.contains(NopFlags::CQE32).then_some([sqe.off, sqe.addr]);
    Ok(Job::Nop { flags, result: if injects { sqe.len.cast_signed() } else { 0 }, big })
}

pub(super) fn message(sqe: &Sqe) -> Result<Job, i32> {
    let how = MsgRingFlags::from_bits_retain(sqe.op_flags);
    let passes = how.contains(MsgRingFlags::FLAGS_PASS);
    let known = MsgRingFlags::CQE_SKIP | MsgRingFlags::FLAGS_PASS;
    if sqe.ioprio != 0 || sqe.buf_index != 0 || !known.contains(how) {
        return Err(libc::EINVAL);
    }
    let (user_data, source, index) = (sqe.off, sqe.addr3, sqe.file_index);
    let skips = how.contains(MsgRingFlags::CQE_SKIP);
    let flags = if passes { CqeFlags::from_bits_retain(index) } else { CqeFlags::empty() };
    let message = |file: Option<_>| {
        let flags = if file.is_none() { flags } else { CqeFlags::empty() };
        let result = sqe.len.cast_signed();
        let is_odd = match MsgRingCmd(sqe.addr) {
            MsgRingCmd::DATA => source != 0 || skips || (!passes && index != 0),
            MsgRingCmd::SEND_FD => sqe.len != 0,
            _ => true,
        };
        Job::Message(Message { user_data, result, flags, file, skips, is_odd })
    };
    Ok(match MsgRingCmd(sqe.addr) {
        MsgRingCmd::SEND_FD => {
            let source = u32::try_from(source).unwrap_or(u32::MAX);
            message(Some((source, place(sqe))))
        }
        _ => message(None),
    })
}

pub(super) fn poll_remove(sqe: &Sqe) -> Result<Job, i32> {
    let how = PollFlags::from_bits_retain(sqe.len);
    let known = PollFlags::UPDATE_EVENTS | PollFlags::UPDATE_USER_DATA | PollFlags::ADD_MULTI;
    let (by_events, by_name) =
        (how.contains(PollFlags::UPDATE_EVENTS), how.contains(PollFlags::UPDATE_USER_DATA));
    let is_odd = sqe.ioprio != 0 || sqe.file_index != 0 || !known.contains(how);
    if is_odd || how == PollFlags::ADD_MULTI {
        return Err(libc::EINVAL);
    }
    if (!by_name && sqe.off != 0) || (!by_events && sqe.op_flags != 0) {
        return Err(libc::EINVAL);
    }
    if !by_name && !by_events {
        return Ok(Job::PollRemove(sqe.addr));
    }
    let always = libc::POLLERR | libc::POLLHUP | libc::POLLRDHUP;
    let events = sqe.op_flags | u32::from(always.cast_unsigned());
    Ok(Job::PollUpdate {
        key: sqe.addr,
        events: by_events.then_some(events),
        user_data: by_name.then_some(sqe.off),
    })
}

pub(super) fn timeout_remove(sqe: &Sqe) -> Result<Job, i32> {
    let how = TimeoutFlags::from_bits_retain(sqe.op_flags);
    let known = TimeoutFlags::UPDATE_MASK | TimeoutFlags::ABS;
    let is_fixed = sqe.flags.contains(SqeFlags::FIXED_FILE);
    if sqe.ioprio != 0 || sqe.len != 0 || sqe.file_index != 0 || is_fixed {
        return Err(libc::EINVAL);
    }
    if how.is_empty() {
        return Ok(Job::TimeoutRemove(sqe.addr));
    }
    if !how.intersects(TimeoutFlags::UPDATE_MASK) || !known.contains(how) {
        return Err(libc::EINVAL);
    }
    // SAFETY: a live `struct __kernel_timespec`, for which the program vouched (OP1).
    let time = unsafe { read_value::<Timespec>(sqe.off) };
    Ok(Job::TimeoutUpdate {
        key: sqe.addr,
        span: nanoseconds(time).ok_or(libc::EINVAL)?,
        is_absolute: how.contains(TimeoutFlags::ABS),
        is_linked: how.contains(TimeoutFlags::LINK_UPDATE),
    })
}
