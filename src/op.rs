//! Operations: values that own what the kernel is to use, and become entries.
//!
//! ```text
//!   Read { fd, buf, .. } ─► submit ─► slot: Read ── prep ──► entry ─► the kernel
//!                                      │                                  │
//!                                      │◄──────── last completion ────────┘
//!                                      └─ finish ─► Outcome { result, fd, buf }
//! ```
//!
//! An operation is moved into its slot first; only then is it asked for its entry, so that every
//! pointer is taken where the memory stays. It comes out of the slot after the last completion, and
//! [`Op::finish`] turns it into its output, which gives back all that it owned.
//!
//! | family | operations |
//! |---|---|
//! | [`nop`] | [`Nop`], [`NopAnswer`], [`NopFile`], [`NopBuf`] |
//! | [`file`](mod@file) | [`Read`], [`Write`] |
//! | [`vectored`] | [`ReadV`], [`WriteV`] |
//! | [`splice`] | [`Splice`], [`Tee`] |
//! | [`advice`], [`memory`] | [`Fadvise`], [`SyncFileRange`], [`Madvise`] |
//! | [`durable`] | [`Fsync`], [`Fallocate`], [`Ftruncate`] |
//! | [`fs`], [`close`] | [`OpenAt`], [`OpenAt2`], [`Close`] |
//! | [`path`] | [`RenameAt`], [`UnlinkAt`], [`MkdirAt`], [`SymlinkAt`], [`LinkAt`] |
//! | [`stat`] | [`Statx`] |
//! | [`xattr`] | [`Getxattr`], [`Fgetxattr`], [`Setxattr`], [`Fsetxattr`] |
//! | [`fixed`], [`parts`] | [`ReadFixed`], [`WriteFixed`], [`ReadVFixed`], [`WriteVFixed`] |
//! | [`picked`] | [`ReadMulti`] |
//! | [`direct`], [`install`] | [`Direct`], [`InsertFile`], [`InstallFd`] |
//! | [`pipe`] | [`Pipe`], [`PipeDirect`] |
//! | [`net`] | [`Socket`], [`Bind`], [`Listen`], [`Accept`], [`Connect`], [`Shutdown`] |
//! | [`stream`], [`gather`] | [`Send`], [`SendTo`], [`SendV`], [`Recv`], [`RecvPicked`] |
//! | [`message`] | [`SendMsg`], [`RecvMsg`] |
//! | [`multi`], [`messages`] | [`AcceptMulti`], [`RecvMulti`], [`RecvMsgMulti`] |
//! | [`mod@bundle`], [`send_bundle`] | [`RecvBundle`], [`RecvBundleMulti`], [`SendBundle`] |
//! | [`zerocopy`], [`zc_fixed`] | [`SendZc`], [`SendMsgZc`], [`SendZcFixed`], [`SendMsgZcFixed`] |
//! | [`hint`] | [`Hinted`] |
//! | [`command`] | [`Unread`], [`Unsent`], [`GetOption`], [`SetOption`], [`GetName`] |
//! | [`time`] | [`Timeout`], [`TimeoutMulti`], [`TimeoutRemove`], [`TimeoutUpdate`] |
//! | [`poll`] | [`Poll`], [`PollMulti`], [`PollRemove`], [`PollUpdate`] |
//! | [`cancel`] | [`Cancel`], [`CancelFd`] |
//! | [`msg`], [`pass`] | [`Message`], [`PassFile`] |
//! | [`priority`], around others | [`Prioritized`] |
//! | [`epoll`] | [`EpollCtl`], [`EpollWait`] |
//! | [`waitid`] | [`WaitId`] |
//! | [`futex`] | [`FutexWait`], [`FutexWake`], [`FutexWaitV`] |
//!
//! Keeps OP1 on the operation's side. Leaves to others: the slot, the entry's `user_data`, and when
//! the last completion has come.
#![allow(unsafe_code, reason = "defines the contract of those who write entries")]

pub mod addr;
pub mod advice;
pub mod bundle;
pub mod cancel;
pub mod close;
pub mod command;
pub mod direct;
mod done;
pub mod durable;
pub mod ending;
pub mod epoll;
mod exact;
pub mod file;
pub mod fixed;
pub mod fs;
pub mod futex;
pub mod gather;
pub mod hint;
pub mod install;
pub mod memory;
pub mod message;
pub mod messages;
pub mod msg;
pub mod multi;
pub mod net;
pub mod nop;
pub mod option;
pub mod parts;
pub mod pass;
pub mod path;
pub mod picked;
pub mod pipe;
pub mod poll;
pub mod priority;
pub mod send_bundle;
pub mod splice;
pub mod stat;
pub mod stream;
mod target;
pub mod time;
pub mod vectored;
pub mod waitid;
pub mod xattr;
pub mod zc_fixed;
pub mod zerocopy;

use std::fmt;
use std::io;
use std::num::NonZero;

use annulus_sys::abi::Sqe;
use annulus_sys::flags::{Features, SqeFlags};

use crate::lease::Source;
use crate::register::Personality;

pub use addr::{Address, Destination};
pub use advice::{Fadvise, FileAdvice, SyncFileRange, WriteBack};
pub use bundle::{RecvBundle, RecvBundleMulti};
pub use cancel::{Cancel, CancelFd, CancelOutcome, UpdateOutcome};
pub use close::Close;
pub use command::{GetName, GetOption, SetOption, Unread, Unsent};
pub use direct::{Direct, InsertFile};
pub(crate) use done::Fate;
pub use done::{Done, Shot};
pub use durable::{Fallocate, Fsync, Ftruncate, Room};
pub use ending::{Ended, Ending};
pub use epoll::{EpollCtl, EpollEvent, EpollWait};
pub use file::{Offset, Read, RwFlags, Write};
pub use fixed::{ReadFixed, WriteFixed};
pub use fs::{Cwd, Dir, How, Mode, OpenAt, OpenAt2};
pub use futex::{FutexSet, FutexWait, FutexWaitV, FutexWake, FutexWord};
pub use gather::SendV;
pub use hint::{Hinted, Waiting};
pub use install::InstallFd;
pub use memory::{Madvise, MapChange, MemoryAdvice, Pages, PagesMut};
pub use message::{Control, Envelope, Received, RecvMsg, SendMsg};
pub use messages::RecvMsgMulti;
pub use msg::Message;
pub use multi::{AcceptMulti, RecvMulti};
pub use net::{Accept, AcceptFrom, Bind, Connect, Domain, Listen, Shutdown, Socket, SocketKind};
pub use nop::{Nop, NopAnswer, NopBuf, NopFile};
pub use option::{Linger, OptionValue, Peer, SocketOption, Switch};
pub use parts::{ReadVFixed, WriteVFixed};
pub use pass::PassFile;
pub use path::{LinkAt, MkdirAt, RenameAt, SymlinkAt, UnlinkAt};
pub use picked::ReadMulti;
pub use pipe::{Pipe, PipeDirect};
pub use poll::{Poll, PollEvents, PollMulti, PollRemove, PollUpdate};
pub use priority::{ActingAs, IoPriority, Prioritized, Transfer};
pub use send_bundle::SendBundle;
pub use splice::{Splice, Tee};
pub use stat::{DioAlign, FileKind, Freshness, Stat, StatMask, Statx, Timestamp};
pub use stream::{PickedFlags, Recv, RecvFlags, RecvPicked, Send, SendFlags, SendTo};
pub use target::Target;
pub use time::{Clock, RepeatEnd, Timeout, TimeoutEnd, TimeoutMulti, TimeoutRemove, TimeoutUpdate};
pub use vectored::{Gather, ReadV, Scatter, WriteV};
pub use waitid::{AnyChild, ChildChange, ChildEvents, ChildStatus, Group, Process, WaitId, Whose};
pub use xattr::{Fgetxattr, Fsetxattr, Getxattr, Presence, Setxattr};
pub use zc_fixed::{SendMsgZcFixed, SendZcFixed};
pub use zerocopy::{SendMsgZc, SendZc, Sent};

/// Names a ring, within this process and for ever: numbers are not used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RingId(pub(crate) NonZero<u32>);

/// An operation: what the kernel is to do, and everything that it is to use.
///
/// # Safety
///
/// Those who implement it vouch that
///
/// 1. every address and descriptor in the entry that [`prep`](Self::prep) returns comes from `self`
///    (lies in it, or is borrowed from a field), and stays valid while `self` is neither moved nor
///    touched (OP1);
/// 2. the entry posts exactly one completion without `F_MORE`, and none with it unless
///    [`SHOTS`](Self::SHOTS) says so: no `CQE_SKIP_SUCCESS`;
/// 3. the entry carries no link, no `IO_DRAIN` unless [`DRAINS`](Self::DRAINS) says so, and nothing
///    that would post a completion with a word of the
///    caller's (OP2); numbers of registered files and buffers are told by
///    [`belongs_to`](Self::belongs_to);
/// 4. what a result names is told by [`BRINGS`](Self::BRINGS), and belongs to nobody else (OP3);
/// 5. [`finish`](Self::finish) takes no more for written than was offered, whatever the result
///    says.
pub unsafe trait Op: Sized {
    /// What it ends with: the result, and everything that it owned.
    type Output;

    /// How often it completes.
    const SHOTS: Shots = Shots::One;

    /// What a result that is not an error names.
    const BRINGS: Brings = Brings::Number;

    /// What the kernel must have said of itself at set-up. Only for what an older kernel would not
    /// refuse, but do otherwise than was meant: without it the operation is
    /// [rejected](crate::Rejection::Unsupported). An operation around another passes it on.
    const NEEDS: Features = Features::empty();

    /// Whether it begins only after all before it, and holds up those after it (`IO_DRAIN`): see
    /// [`drained`](Self::drained). An operation around another passes it on.
    const DRAINS: bool = false;

    /// Whether everything that it names by number (files and buffers registered with a ring) is of
    /// `ring`. Asked for once, before [`prep`](Self::prep).
    fn belongs_to(&self, ring: RingId) -> bool {
        let _ = ring;
        true
    }

    /// The entry, without its `user_data`. Called when `self` is where it stays; and again, if it
    /// was moved after all, because the ring was full.
    fn prep(&mut self) -> Sqe;

    /// Makes the output. The kernel is done with `self`.
    fn finish(self, done: Done) -> Self::Output;

    /// Whether completions name buffers or files of a [`Source`].
    const HAS_SOURCE: bool = !matches!(Self::BRINGS, Brings::Number | Brings::Fd);

    /// Where the buffers or files that completions name come from. Asked for before
    /// [`prep`](Self::prep), if there is such a thing.
    fn source(&self) -> Option<Source> {
        None
    }

    /// Whether the last completion of a [`Shots::Many`] brings something too, beside the end.
    fn last_is_shot(result: i32) -> bool {
        result > 0
    }

    /// The same, begun only when every request before it has completed, and holding up those after
    /// it (`IOSQE_IO_DRAIN`). It stalls the ring: a chain is nearly always better.
    ///
    /// Nothing cancels it before it begins, nor what waits behind it: no entry, which would wait
    /// there too, and no [`cancel_now`](crate::Ring::cancel_now), which does not find it. Cancel
    /// what it waits for. So there is none in a scope, nor in a chain but as its first step. Later
    /// kernels let what is submitted afterwards wait too, until nothing is in flight once (seen in
    /// 6.18): until then no operation is accepted [in a scope](crate::Rejection::Drained).
    ///
    /// Where messages come through a poll, which is always in flight (before Linux 6.13, and on a
    /// ring without a descriptor), a ring that has had a [sender](crate::Ring::sender) accepts
    /// nothing drained: it would not begin.
    ///
    /// A zero-copy send waits for its own notification when it is to wait for all, and never
    /// begins: it is not drained, nor in a chain that is, nor accepted until nothing is in flight.
    /// All this does not compile where types tell.
    fn drained(self) -> Drained<Self> {
        const {
            assert!(
                !matches!(Self::SHOTS, Shots::Notified),
                "a zero-copy send cannot be drained: it would wait for its own notification"
            );
        }
        Drained(self)
    }

    /// The same, with the credentials that `who` names, not with those of the thread that submits.
    /// Since Linux 5.6. Messages to other rings have no use for that, and end with `EINVAL`.
    fn acting_as(self, who: Personality) -> ActingAs<Self> {
        ActingAs::new(self, who)
    }

    /// The same, handed to a worker thread of the kernel at once (`IOSQE_ASYNC`): for work that is
    /// known to block. It costs a switch of threads.
    ///
    /// Receives of [bundles](RecvBundle), receives into buffers that are used in parts, and sends
    /// [from a ring of buffers](SendBundle) are rejected: there the kernel must do it in its turn.
    ///
    /// Those threads are few for files, and before Linux 6.16 two operations that wait for each
    /// other (both ends of a FIFO being opened) were seen to wait for ever while threads were idle.
    /// A cancel may miss an operation that such a thread is just beginning: cancel it again. And a
    /// receive that completes many times may not hear of its peer's end when it is forced (seen on
    /// Linux 6.18): force only what completes once.
    fn forced(self) -> Forced<Self> {
        Forced(self)
    }
}

/// How often an operation completes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shots {
    /// Once.
    One,
    /// Any number of times, until one without `F_MORE`.
    Many,
    /// With its result, and later with the notification that its memory is free (zero-copy send).
    Notified,
}

/// What the result of an operation names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Brings {
    /// Nothing: it is a number.
    Number,
    /// A descriptor of this process.
    Fd,
    /// A buffer, by its id in the completion's flags, of the group that is its [`Source`].
    /// Whatever names one must have given it up, also when it failed: a `READ` with `BUFFER_SELECT`
    /// need not have (Linux 6.16, 6.17).
    Buffer,
    /// Buffers of the group that is its [`Source`], each full but the last: the first by its id,
    /// and those that were offered after it, as many as hold the result's bytes.
    Bundle,
    /// A place in the table of files that is its [`Source`].
    File,
    /// Nothing: but it picks the buffers that it sends from the group that is its [`Source`].
    Sends,
}

/// An operation whose completions before the last mean something.
pub trait Multishot: Op {
    /// What each brings.
    type Item;

    /// Makes an item of a completion.
    fn item(shot: Shot) -> Self::Item;
}

/// What an operation ended with, and what it was given.
#[derive(Debug)]
#[must_use = "the result may be an error"]
pub struct Outcome<T, F, B = ()> {
    /// What the kernel said.
    pub result: io::Result<T>,
    /// The file that it was about.
    pub fd: F,
    /// The buffer, or whatever else it was given.
    pub buf: B,
}

impl<T, F, B> Outcome<T, F, B> {
    /// The result beside the buffer; the file is let go of.
    pub fn into_parts(self) -> (io::Result<T>, B) {
        (self.result, self.buf)
    }

    /// The result beside the buffer, if it is not an error.
    ///
    /// # Errors
    ///
    /// The kernel's. File and buffer are dropped then.
    pub fn ok(self) -> io::Result<(T, B)> {
        self.result.map(|value| (value, self.buf))
    }
}

/// An operation that waits for all before it: made by [`Op::drained`].
#[derive(Debug)]
pub struct Drained<O>(O);

/// An operation for a worker thread: made by [`Op::forced`].
#[derive(Debug)]
pub struct Forced<O>(O);

// SAFETY: OP1 to OP3 as the operation inside keeps them; the flag only says when it begins.
unsafe impl<O: Op> Op for Drained<O> {
    type Output = O::Output;
    const SHOTS: Shots = O::SHOTS;
    const BRINGS: Brings = O::BRINGS;
    const NEEDS: Features = O::NEEDS;
    const DRAINS: bool = true;

    fn prep(&mut self) -> Sqe {
        let sqe = self.0.prep();
        Sqe { flags: sqe.flags | SqeFlags::IO_DRAIN, ..sqe }
    }

    fn finish(self, done: Done) -> Self::Output {
        self.0.finish(done)
    }

    fn source(&self) -> Option<Source> {
        self.0.source().map(Source::behind)
    }

    fn belongs_to(&self, ring: RingId) -> bool {
        self.0.belongs_to(ring)
    }

    fn last_is_shot(result: i32) -> bool {
        O::last_is_shot(result)
    }
}

// SAFETY: OP1 to OP3 as the operation inside keeps them; the flag only says who runs it.
unsafe impl<O: Op> Op for Forced<O> {
    type Output = O::Output;
    const SHOTS: Shots = O::SHOTS;
    const BRINGS: Brings = O::BRINGS;
    const NEEDS: Features = O::NEEDS;
    const DRAINS: bool = O::DRAINS;

    fn prep(&mut self) -> Sqe {
        let sqe = self.0.prep();
        Sqe { flags: sqe.flags | SqeFlags::ASYNC, ..sqe }
    }

    fn finish(self, done: Done) -> Self::Output {
        self.0.finish(done)
    }

    fn source(&self) -> Option<Source> {
        self.0.source().map(Source::forced)
    }

    fn belongs_to(&self, ring: RingId) -> bool {
        self.0.belongs_to(ring)
    }

    fn last_is_shot(result: i32) -> bool {
        O::last_is_shot(result)
    }
}

impl<O: Multishot> Multishot for Drained<O> {
    type Item = O::Item;

    fn item(shot: Shot) -> Self::Item {
        O::item(shot)
    }
}

impl<O: Multishot> Multishot for Forced<O> {
    type Item = O::Item;

    fn item(shot: Shot) -> Self::Item {
        O::item(shot)
    }
}

impl fmt::Display for RingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ring {}", self.0)
    }
}
