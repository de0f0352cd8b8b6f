//! Polls, times, cancels, futexes, children.

use annulus_sys::abi::Sqe;
use annulus_sys::flags::{self, PollFlags};
use annulus_sys::opcode::Opcode;

use super::super::types::{
    self, CancelBuilder, Target, TimeoutFlags, Timespec, UseFd, epoll_event,
};
use super::{Entry, UseFixed, address, at, on};

/// Waits until a file is ready, as `poll(2)`.
#[derive(Debug)]
pub struct PollAdd(Sqe);

impl PollAdd {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::POLL_ADD.0;

    /// `flags` are `POLL*`.
    #[inline]
    pub fn new(fd: impl UseFixed, flags: u32) -> Self {
        Self(Sqe { op_flags: flags, ..on(Opcode::POLL_ADD, fd) })
    }

    /// Goes on after the first event. Since Linux 5.13.
    #[inline]
    pub const fn multi(mut self, multi: bool) -> Self {
        self.0.len = if multi { PollFlags::ADD_MULTI.bits() } else { 0 };
        self
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

/// Ends a poll.
#[derive(Debug)]
pub struct PollRemove(Sqe);

impl PollRemove {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::POLL_REMOVE.0;

    /// The one that carries `user_data`.
    #[inline]
    pub fn new(user_data: u64) -> Self {
        Self(Sqe { addr: user_data, ..at(Opcode::POLL_REMOVE, -1) })
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

/// Completes after a time, or after some completions. Since Linux 5.4.
#[derive(Debug)]
pub struct Timeout(Sqe);

impl Timeout {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::TIMEOUT.0;

    /// After the time at `timespec`: with `ETIME`.
    #[inline]
    pub fn new(timespec: *const Timespec) -> Self {
        Self(Sqe { addr: address(timespec), len: 1, ..at(Opcode::TIMEOUT, -1) })
    }

    /// After so many completions: with 0. 0 asks for none. If it is a multishot, how often it
    /// repeats; 0 means without an end.
    #[inline]
    pub const fn count(mut self, count: u32) -> Self {
        self.0.off = count as u64;
        self
    }

    /// Flags.
    #[inline]
    pub const fn flags(mut self, flags: TimeoutFlags) -> Self {
        self.0.op_flags = flags.bits();
        self
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

/// Ends a timeout. Since Linux 5.5.
#[derive(Debug)]
pub struct TimeoutRemove(Sqe);

impl TimeoutRemove {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::TIMEOUT_REMOVE.0;

    /// The one that carries `user_data`.
    #[inline]
    pub fn new(user_data: u64) -> Self {
        Self(Sqe { addr: user_data, ..at(Opcode::TIMEOUT_REMOVE, -1) })
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

/// Gives a timeout a new time. Since Linux 5.11.
#[derive(Debug)]
pub struct TimeoutUpdate(Sqe);

impl TimeoutUpdate {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::TIMEOUT_REMOVE.0;

    /// The one that carries `user_data` ends after the time at `timespec`.
    #[inline]
    pub fn new(user_data: u64, timespec: *const Timespec) -> Self {
        Self(Sqe {
            addr: user_data,
            off: address(timespec),
            op_flags: UPDATE,
            ..at(Opcode::TIMEOUT_REMOVE, -1)
        })
    }

    /// Flags.
    #[inline]
    pub const fn flags(mut self, flags: TimeoutFlags) -> Self {
        self.0.op_flags = flags.bits() | UPDATE;
        self
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

const UPDATE: u32 = flags::TimeoutFlags::UPDATE.bits();

/// Ends the entry before it, which must have
/// [`Flags::IO_LINK`](super::super::squeue::Flags::IO_LINK), after a time. Since Linux 5.5.
#[derive(Debug)]
pub struct LinkTimeout(Sqe);

impl LinkTimeout {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::LINK_TIMEOUT.0;

    /// After the time at `timespec`.
    #[inline]
    pub fn new(timespec: *const Timespec) -> Self {
        Self(Sqe { addr: address(timespec), len: 1, ..at(Opcode::LINK_TIMEOUT, -1) })
    }

    /// Flags.
    #[inline]
    pub const fn flags(mut self, flags: TimeoutFlags) -> Self {
        self.0.op_flags = flags.bits();
        self
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

/// Cancels a request. Since Linux 5.5.
#[derive(Debug)]
pub struct AsyncCancel(Sqe);

impl AsyncCancel {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::ASYNC_CANCEL.0;

    /// The first that carries `user_data`.
    #[inline]
    pub fn new(user_data: u64) -> Self {
        Self(Sqe { addr: user_data, ..at(Opcode::ASYNC_CANCEL, -1) })
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

/// Cancels requests. Since Linux 5.19.
#[derive(Debug)]
pub struct AsyncCancel2(Sqe);

impl AsyncCancel2 {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::ASYNC_CANCEL.0;

    /// Those that `builder` matches.
    #[inline]
    pub fn new(builder: CancelBuilder) -> Self {
        Self(Sqe {
            addr: builder.user_data.unwrap_or(0),
            op_flags: builder.flags.bits(),
            ..at(Opcode::ASYNC_CANCEL, builder.number())
        })
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

/// Changes what an epoll waits for, as `epoll_ctl(2)`. Since Linux 5.6.
#[derive(Debug)]
pub struct EpollCtl(Sqe);

impl EpollCtl {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::EPOLL_CTL.0;

    /// `op` is `EPOLL_CTL_*`; `ev` is cast from `*const libc::epoll_event`. The kernel takes no
    /// registered file here: it would take the index for a descriptor. So such an entry fails with
    /// `EBADF`.
    #[inline]
    pub fn new(epfd: impl UseFixed, fd: impl UseFd, op: i32, ev: *const epoll_event) -> Self {
        let epoll = match epfd.target() {
            Target::Fd(fd) => fd,
            Target::Fixed(_) => -1,
        };
        Self(Sqe {
            addr: address(ev),
            len: op.cast_unsigned(),
            off: i64::from(fd.number()).cast_unsigned(),
            ..at(Opcode::EPOLL_CTL, epoll)
        })
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

/// Waits for events of an epoll, as `epoll_wait(2)`. Since Linux 6.15.
#[derive(Debug)]
pub struct EpollWait(Sqe);

impl EpollWait {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::EPOLL_WAIT.0;

    /// Up to `max_events` events go to `events`, cast from `*mut libc::epoll_event`.
    #[inline]
    pub fn new(fd: impl UseFixed, events: *mut epoll_event, max_events: u32) -> Self {
        Self(Sqe { addr: address(events), len: max_events, ..on(Opcode::EPOLL_WAIT, fd) })
    }

    /// None exist: must be 0.
    #[inline]
    pub const fn flags(mut self, flags: u32) -> Self {
        self.0.op_flags = flags;
        self
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

/// Waits on a futex, as `futex_wait(2)`. Since Linux 6.7.
#[derive(Debug)]
pub struct FutexWait(Sqe);

impl FutexWait {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::FUTEX_WAIT.0;

    /// While the word at `futex` is `val`, for who wakes with a bit of `mask`. `futex_flags` are
    /// `FUTEX2_*`.
    #[inline]
    pub fn new(futex: *const u32, val: u64, mask: u64, futex_flags: u32) -> Self {
        Self(Sqe {
            addr: address(futex),
            off: val,
            addr3: mask,
            ..at(Opcode::FUTEX_WAIT, futex_flags.cast_signed())
        })
    }

    /// None exist: must be 0.
    #[inline]
    pub const fn flags(mut self, flags: u32) -> Self {
        self.0.op_flags = flags;
        self
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

/// Wakes who waits on a futex, as `futex_wake(2)`. Since Linux 6.7.
#[derive(Debug)]
pub struct FutexWake(Sqe);

impl FutexWake {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::FUTEX_WAKE.0;

    /// At most `val` that wait with a bit of `mask`. `futex_flags` are `FUTEX2_*`.
    #[inline]
    pub fn new(futex: *const u32, val: u64, mask: u64, futex_flags: u32) -> Self {
        Self(Sqe {
            addr: address(futex),
            off: val,
            addr3: mask,
            ..at(Opcode::FUTEX_WAKE, futex_flags.cast_signed())
        })
    }

    /// None exist: must be 0.
    #[inline]
    pub const fn flags(mut self, flags: u32) -> Self {
        self.0.op_flags = flags;
        self
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

/// Waits on several futexes, as `futex_waitv(2)`. Since Linux 6.7.
#[derive(Debug)]
pub struct FutexWaitV(Sqe);

impl FutexWaitV {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::FUTEX_WAITV.0;

    /// On the `nr_futex` of the array at `futexv`.
    #[inline]
    pub fn new(futexv: *const types::FutexWaitV, nr_futex: u32) -> Self {
        Self(Sqe { addr: address(futexv), len: nr_futex, ..at(Opcode::FUTEX_WAITV, 0) })
    }

    /// None exist: must be 0.
    #[inline]
    pub const fn flags(mut self, flags: u32) -> Self {
        self.0.op_flags = flags;
        self
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}

/// Waits for a child, as `waitid(2)`. Since Linux 6.7.
#[derive(Debug)]
pub struct WaitId(Sqe);

impl WaitId {
    /// The number of the operation.
    pub const CODE: u8 = Opcode::WAITID.0;

    /// `P_*`, which of them, and `W*`.
    #[inline]
    pub fn new(idtype: libc::idtype_t, id: libc::id_t, options: libc::c_int) -> Self {
        Self(Sqe {
            len: idtype,
            file_index: options.cast_unsigned(),
            ..at(Opcode::WAITID, id.cast_signed())
        })
    }

    /// Where the kernel writes what happened; null means nowhere.
    #[inline]
    pub fn infop(mut self, infop: *const libc::siginfo_t) -> Self {
        self.0.off = address(infop);
        self
    }

    /// None exist: must be 0.
    #[inline]
    pub const fn flags(mut self, flags: libc::c_uint) -> Self {
        self.0.op_flags = flags;
        self
    }

    /// The entry.
    #[inline]
    pub fn build(self) -> Entry {
        Entry(self.0)
    }
}
