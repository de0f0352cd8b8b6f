//! The operations, each as what becomes its entry.
//!
//! ```text
//!   Read::new(fd, buf, len).offset(8).build()   ─►   Entry
//!         what it needs      what it may have        the 64 bytes that the kernel reads
//! ```
//!
//! Each type is the entry in the making: a field is set where it lies. Where that depends on
//! several arguments, `build` sets it.

mod attributes;
mod bytes;
mod command;
mod events;
mod names;
mod sockets;
mod storage;
mod transfer;
mod zerocopy;

use annulus_sys::abi::Sqe;
use annulus_sys::flags::{RecvSendFlags, SqeFlags};
use annulus_sys::opcode::Opcode;

use super::address;
use super::squeue::{Entry, Entry128};
use super::types::{Target, UseFixed};

pub use attributes::{FGetXattr, FSetXattr, GetXattr, SetXattr, Statx};
pub use bytes::{
    Nop, Read, ReadFixed, ReadMulti, Readv, ReadvFixed, Write, WriteFixed, Writev, WritevFixed,
};
pub use command::{MsgRingData, MsgRingSendFd, UringCmd16, UringCmd80};
pub use events::{
    AsyncCancel, AsyncCancel2, EpollCtl, EpollWait, FutexWait, FutexWaitV, FutexWake, LinkTimeout,
    PollAdd, PollRemove, Timeout, TimeoutRemove, TimeoutUpdate, WaitId,
};
pub use names::{
    Close, FilesUpdate, FixedFdInstall, LinkAt, MkDirAt, OpenAt, OpenAt2, Pipe, RenameAt,
    SymlinkAt, UnlinkAt,
};
pub use sockets::{
    Accept, AcceptMulti, Bind, Connect, GetSockOpt, Listen, SetSockOpt, Shutdown, Socket,
};
pub use storage::{
    Fadvise, Fallocate, Fsync, Ftruncate, Madvise, ProvideBuffers, RemoveBuffers, Splice,
    SyncFileRange, Tee,
};
pub use transfer::{
    Recv, RecvBundle, RecvMsg, RecvMsgMulti, RecvMulti, RecvMultiBundle, Send, SendBundle, SendMsg,
};
pub use zerocopy::{RecvZc, SendMsgZc, SendZc};

/// In `ioprio`: goes on after the first completion.
const MULTISHOT: u16 = RecvSendFlags::RECV_MULTISHOT.bits();
/// In `ioprio`: takes as many buffers as it can.
const BUNDLE: u16 = RecvSendFlags::BUNDLE.bits();

/// An entry whose field `fd` has this number.
#[inline]
const fn at(opcode: Opcode, fd: i32) -> Sqe {
    Sqe { opcode, fd, ..Sqe::ZERO }
}

/// An entry for a descriptor or a registered file.
#[inline]
fn on(opcode: Opcode, fd: impl UseFixed) -> Sqe {
    match fd.target() {
        Target::Fd(fd) => at(opcode, fd),
        Target::Fixed(index) => {
            Sqe { flags: SqeFlags::FIXED_FILE, ..at(opcode, index.cast_signed()) }
        }
    }
}

/// The entry, for a buffer that the kernel selects from a group.
#[inline]
fn selecting(sqe: Sqe, buf_group: u16) -> Sqe {
    Sqe { buf_index: buf_group, flags: sqe.flags.union(SqeFlags::BUFFER_SELECT), ..sqe }
}

/// The length of an address, in the 16 bits that the kernel has for it. It refuses what is longer
/// than any address, and what does not fit stays longer than that.
const fn address_len(len: libc::socklen_t) -> u32 {
    const LONGEST: u32 = u16::MAX as u32;
    if len > LONGEST { LONGEST } else { len }
}
