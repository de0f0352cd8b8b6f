//! Operations: each owns everything that the kernel uses for it, and writes its own entry (SQE).
//!
//! ```text
//!   Read { fd, buf, .. } ─► submit ─► slot: Read ── prep ──► entry ─► the kernel
//!                                      │                                  │
//!                                      │◄──────── last completion ────────┘
//!                                      └─ finish ─► Outcome { result, fd, buf }
//! ```
//!
//! An operation is first moved into its slot. Only then is it asked for its entry, so that every
//! pointer refers to memory at its final place. After the last completion the operation leaves the
//! slot, and [`Op::finish`] turns it into its output, which returns everything that the operation
//! owned.
//!
//! | family | operations |
//! |---|---|
//! | [`bytes`] of files | [`Read`], [`Write`], [`ReadV`], [`WriteV`], [`ReadFixed`], [`WriteFixed`], [`ReadVFixed`], [`WriteVFixed`], [`ReadMulti`], [`Splice`], [`Tee`], [`Fsync`], [`Fallocate`], [`Ftruncate`], [`Fadvise`], [`SyncFileRange`] |
//! | [`names`] of files | [`OpenAt`], [`OpenAt2`], [`Close`], [`Direct`], [`InsertFile`], [`InstallFd`], [`Pipe`], [`PipeDirect`], [`RenameAt`], [`UnlinkAt`], [`MkdirAt`], [`SymlinkAt`], [`LinkAt`], [`Statx`], [`Getxattr`], [`Fgetxattr`], [`Setxattr`], [`Fsetxattr`] |
//! | [`sockets`] | [`Socket`], [`Bind`], [`Listen`], [`Accept`], [`AcceptMulti`], [`Connect`], [`Shutdown`], [`Send`], [`SendTo`], [`SendV`], [`Recv`], [`RecvProvided`], [`RecvMulti`], [`RecvBundle`], [`RecvBundleMulti`], [`SendBundle`], [`SendZc`], [`SendZcFixed`], [`Unread`], [`Unsent`], [`GetOption`], [`SetOption`], [`GetName`] |
//! | [`messages`] | [`SendMsg`], [`RecvMsg`], [`RecvMsgMulti`], [`SendMsgZc`], [`SendMsgZcFixed`] |
//! | [`events`] and time | [`Timeout`], [`TimeoutMulti`], [`TimeoutRemove`], [`TimeoutUpdate`], [`Poll`], [`PollMulti`], [`PollRemove`], [`PollUpdate`], [`EpollCtl`], [`EpollWait`] |
//! | [`processes`] | [`WaitId`], [`FutexWait`], [`FutexWake`], [`FutexWaitV`], [`Madvise`] |
//! | the [`ring`] itself | [`Nop`], [`NopAnswer`], [`NopFile`], [`NopBuf`], [`Cancel`], [`CancelFd`], [`Message`], [`PassFile`] |
//! | wrappers of other operations | [`Prioritized`], [`ActingAs`], [`Hinted`], [`Drained`], [`Forced`], [`Direct`] |
//!
//! Every page states the first kernel version, the errors, what a completion carries, and what a
//! cancel does. The opcodes (`IORING_OP_*`) and liburing's names (`io_uring_prep_*`) are search
//! aliases.
//!
//! Keeps OP1 on the operation's side. Leaves to others: the slot, the entry's `user_data`, and when
//! the last completion has arrived.
#![allow(unsafe_code, reason = "defines the contract for types that write entries")]

pub mod bytes;
mod done;
pub mod ending;
pub mod events;
mod flagged;
pub mod messages;
pub mod names;
pub mod processes;
mod rejected;
pub mod ring;
pub mod sockets;
mod target;

use std::io;

use annulus_sys::abi::Sqe;
use annulus_sys::errno::Errno;
use annulus_sys::flags::Features;

use crate::lease::Source;
use crate::raw::register::Personality;

pub use crate::buf::address::{Address, Destination};
pub use crate::buf::control::Control;
pub use crate::buf::control::received::PacketInfo;
pub use crate::buf::control::send::{ControlError, SendControl};
pub use crate::lease::completion::{Completion, Completions, ResultKind};
pub use crate::raw::{Clock, RingId};
pub use bytes::advice::{Fadvise, FileAdvice, SyncFileRange, WriteBack};
pub use bytes::durable::{Fallocate, FallocateMode, Fsync, Ftruncate};
pub use bytes::file::{Offset, Read, RwFlags, Write};
pub use bytes::fixed::{ReadFixed, WriteFixed};
pub use bytes::parts::{ReadVFixed, WriteVFixed};
pub use bytes::provided::ReadMulti;
pub use bytes::splice::{Splice, Tee};
pub use bytes::vectored::{Gather, ReadV, Scatter, WriteV};
pub use done::Done;
pub(crate) use done::Fate;
pub use ending::{Ended, Ending};
pub use events::epoll::{EpollCtl, EpollEvent, EpollWait};
pub use events::poll::{Poll, PollMulti, PollRemove, PollUpdate};
pub use events::poll_events::PollEvents;
pub use events::time::{
    RepeatEnd, Timeout, TimeoutEnd, TimeoutMulti, TimeoutRemove, TimeoutUpdate,
};
pub use flagged::{Drained, Forced};
pub use messages::message::{MsgHeader, Received, RecvMsg, SendMsg};
pub use messages::recv_multi::RecvMsgMulti;
pub use names::close::Close;
pub use names::closing::{ChainFd, Closing};
pub use names::direct::{Direct, InsertFile};
pub use names::fs::{Cwd, Dir, How, Mode, OpenAt, OpenAt2};
pub use names::install::InstallFd;
pub use names::path::{LinkAt, MkdirAt, RenameAt, SymlinkAt, UnlinkAt};
pub use names::pipe::{Pipe, PipeDirect};
pub use names::replace::{ClearFile, DirectTo};
pub use names::stat::{
    AtomicWrite, DioAlign, FileKind, Freshness, Stat, StatAttributes, StatMask, Statx, Timestamp,
};
pub use names::xattr::{Fgetxattr, Fsetxattr, Getxattr, Presence, Setxattr};
pub use processes::futex::{FutexSet, FutexWait, FutexWaitV, FutexWake, FutexWord};
pub use processes::memory::{Madvise, MapChange, MemoryAdvice, Pages, PagesMut};
pub use processes::waitid::{
    AnyChild, ChildChange, ChildEvents, ChildStatus, Group, Process, WaitId, WaitTarget,
};
pub use ring::cancel::{Cancel, CancelFd, CancelOutcome, UpdateOutcome};
pub use ring::msg::Message;
pub use ring::nop::{Nop, NopAnswer, NopBuf, NopFile};
pub use ring::pass::PassFile;
pub use ring::priority::{ActingAs, IoPriority, Prioritized, Transfer};
pub use sockets::accept::{Accept, AcceptFrom};
pub use sockets::bundle::{RecvBundle, RecvBundleMulti};
pub use sockets::command::{GetName, GetOption, SetOption, Unread, Unsent};
pub use sockets::flags::{ProvidedFlags, RecvFlags, SendFlags};
pub use sockets::gather::SendV;
pub use sockets::hint::{Hinted, Waiting};
pub use sockets::kind::{Domain, SocketKind};
pub use sockets::multishot::{AcceptMulti, RecvMulti};
pub use sockets::net::{Bind, Connect, Listen, Shutdown, Socket};
pub use sockets::option::{Linger, Name, OptionError, OptionValue, Peer, SendClock, SocketOption};
pub use sockets::send_bundle::SendBundle;
pub use sockets::stream::{Recv, RecvProvided, Send, SendTo};
pub use sockets::zc_fixed::{SendMsgZcFixed, SendZcFixed};
pub use sockets::zerocopy::{SendMsgZc, SendZc, Sent};
pub use target::Target;

/// The refusal of a read that could only return 0, which would look like the end of the file.
pub(crate) const NO_ROOM: &str = "the buffer has no room, so nothing could be read into it: give a \
                                  `Vec` capacity, or a slice some bytes";

/// The largest operation that fits in a slot, in bytes. Everything that the crate itself makes
/// fits: the largest is a datagram that is sent on to an address of any family. So do a `msghdr`
/// with an internet address, and five `Vec`s with their table; anything larger goes into a `Box`.
/// It is a power of two, so that a slot's address takes a shift.
pub(crate) const PAYLOAD: usize = 256;

/// An operation: what the kernel is asked to do, and every resource that it uses for that.
///
/// A caller needs [`Output`](Self::Output), which [`Ring::wait`](crate::Ring::wait) returns, and
/// the methods that change how an operation runs:
///
/// | method | the operation |
/// |---|---|
/// | [`forced`](Self::forced) | runs on a worker thread at once |
/// | [`drained`](Self::drained) | begins after all earlier ones |
/// | [`acting_as`](Self::acting_as) | runs with other credentials |
/// | [`into_output`](Self::into_output) | does not run, and gives back what it owns |
/// | [`StepExt::within`](crate::StepExt::within), [`Step::hard`](crate::Step::hard) | is a step of a chain, with a time limit or a hard link |
///
/// The other items are for code that implements an operation; the ring alone calls them.
///
/// # Safety
///
/// The implementer guarantees that
///
/// 1. every address and descriptor in the entry that [`prep`](Self::prep) returns comes from `self`
///    (it lies in `self`, or is borrowed from a field), and stays valid as long as `self` is
///    neither moved nor touched (OP1);
/// 2. the entry posts exactly one completion without `F_MORE`, and posts completions with `F_MORE`
///    only if [`COMPLETIONS`](Self::COMPLETIONS) says so; `CQE_SKIP_SUCCESS` is not set;
/// 3. the entry carries no link, carries `IO_DRAIN` only if [`DRAINS`](Self::DRAINS) says so, and
///    does nothing that would post a completion with a `user_data` of the caller's choice (OP2);
///    [`belongs_to`](Self::belongs_to) checks the indices of registered files and buffers;
/// 4. [`RESULT_KIND`](Self::RESULT_KIND) says which resource a result names, and nothing else owns
///    that resource (OP3);
/// 5. [`finish`](Self::finish) never treats more bytes as written than were offered, whatever the
///    result says; and it is sound with an error as result where [`prep`](Self::prep) was never
///    called, because safe code may take an operation [apart](Self::into_output).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no operation",
    note = "operations stand in `annulus::op`; a chain of several goes to `Ring::submit_chain`"
)]
pub unsafe trait Op: Sized {
    /// The output: the result, and everything that the operation owned.
    type Output;

    /// How many completions the operation has.
    const COMPLETIONS: Completions = Completions::Single;

    /// What a result that is not an error names.
    const RESULT_KIND: ResultKind = ResultKind::Number;

    /// Features that the kernel must have reported at setup.
    ///
    /// Only for operations that an older kernel would not refuse but would misinterpret: without
    /// the feature the operation is [rejected](crate::Rejection::Unsupported). A wrapper passes on
    /// the value of the operation inside.
    const NEEDS: Features = Features::empty();

    /// Whether the operation is [drained](Self::drained) (`IO_DRAIN`).
    ///
    /// Then it begins only after all earlier operations, and holds back later ones. A wrapper
    /// passes on the value of the operation inside.
    const DRAINS: bool = false;

    /// Whether all files and buffers that the operation names by index are registered with `ring`.
    ///
    /// Called once, before [`prep`](Self::prep).
    fn belongs_to(&self, ring: RingId) -> bool {
        let _ = ring;
        true
    }

    /// The reason if the operation can never do anything as it is.
    ///
    /// An example is a read into a buffer without space. Called before [`prep`](Self::prep).
    #[inline]
    fn refusal(&mut self) -> Option<&'static str> {
        None
    }

    /// Whether one entry offers the kernel everything that was given. If not, it may do all that
    /// its entry says, and still less than was asked: a chain would go on.
    #[doc(hidden)]
    #[inline]
    fn is_offered_whole(&mut self) -> bool {
        true
    }

    /// Writes the entry, without its `user_data`.
    ///
    /// Called once `self` is at its final place; called again if `self` was moved after all because
    /// the submission queue was full.
    #[doc(alias = "io_uring_prep_rw")]
    fn prep(&mut self) -> Sqe;

    /// Makes the output. The kernel no longer uses `self`, or never did.
    fn finish(self, done: Done) -> Self::Output;

    /// Whether completions name buffers or files of a [`Source`].
    const HAS_SOURCE: bool = !matches!(Self::RESULT_KIND, ResultKind::Number | ResultKind::Fd);

    /// The buffer ring or file table that completions refer to, if there is one.
    ///
    /// Called before [`prep`](Self::prep).
    fn source(&self) -> Option<Source> {
        None
    }

    /// Whether the last completion of a [`Completions::Multishot`] operation carries an item too.
    fn last_is_item(result: i32) -> bool {
        result > 0
    }

    /// Returns the operation with `IOSQE_IO_DRAIN` set: it begins only when every earlier request
    /// has completed.
    ///
    /// It also holds back every later request. This stalls the ring; a chain is nearly always
    /// better.
    ///
    /// Nothing can cancel a drained operation before it begins, nor the operations that wait behind
    /// it: an entry that cancels would wait there too, and [`cancel_now`](crate::Ring::cancel_now)
    /// does not find it. Cancel the operations that it waits for instead. For this reason a scope
    /// accepts no drained operation, and a chain accepts one only as its first step. Later kernels
    /// (seen on 6.18) also hold back everything submitted afterwards, until at some moment nothing
    /// is in flight; until then no operation is accepted [in a scope](crate::Rejection::Drained).
    /// They may hold an entry back even when nothing is in flight, until another one comes. Waits
    /// of the ring then submit a NOP after 100 ms; a program that waits elsewhere must submit
    /// something.
    ///
    /// Before Linux 6.13, and on a ring without a descriptor, messages arrive through a poll that
    /// is always in flight. Such a ring accepts no drained operation once it has had a
    /// [sender](crate::Ring::sender), because the operation would never begin.
    ///
    /// Before Linux 6.16 the kernel counts completions to know when a drained operation may begin,
    /// and counts some wrongly: the notifications of zero-copy sends, and a completion for which
    /// there was no room and that ended a multishot. Then a drained operation never begins, and
    /// everything after it waits with it. So on such a kernel the ring accepts no drained operation
    /// while a multishot or a zero-copy send is in flight, nor ever after one of the latter, or
    /// after a multishot that may have ended for lack of room: any that was cancelled, or whose
    /// last completion carried something. On such kernels an entry that the kernel refuses before
    /// it runs may also spoil the count, if it is submitted after the drained one and fails before
    /// that has begun: wait for a drained operation before you submit more.
    ///
    /// A drained zero-copy send would wait for its own notification and never begin. So a zero-copy
    /// send cannot be drained, cannot be part of a drained chain, and is not accepted after a
    /// drained operation until nothing is in flight. Where the types show the mistake, it does not
    /// compile.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::Setup;
    /// use annulus::op::{Nop, Op as _};
    ///
    /// let mut ring = Setup::new(8).build()?;
    /// let earlier = ring.submit(Nop)?;
    /// let last = ring.submit(Nop.drained())?;
    /// ring.wait(last)??;
    /// assert!(ring.try_take(earlier).is_ok()); // Every earlier operation has ended.
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "IOSQE_IO_DRAIN")]
    fn drained(self) -> Drained<Self> {
        const {
            assert!(
                !matches!(Self::COMPLETIONS, Completions::WithNotification),
                "a zero-copy send cannot be drained: it would wait for its own notification"
            );
        }
        Drained::new(self)
    }

    /// Returns the operation with the credentials that `who` names instead of those of the
    /// submitting thread.
    ///
    /// Since Linux 5.6. Messages to other rings do not support this, and end with `EINVAL`.
    fn acting_as(self, who: Personality) -> ActingAs<Self> {
        ActingAs::new(self, who)
    }

    /// Returns the operation with `IOSQE_ASYNC` set: a worker thread of the kernel (io-wq) runs it
    /// at once.
    ///
    /// Use it for work that is known to block. It costs a thread switch.
    ///
    /// Receives of [bundles](RecvBundle), receives into buffers with incremental consumption, and
    /// sends [from a buffer ring](SendBundle) are rejected, because a worker thread would run them
    /// out of turn.
    ///
    /// For files there are few worker threads. Before Linux 6.16, two operations that wait for each
    /// other (such as opening both ends of a FIFO) were seen to wait forever although worker
    /// threads were idle. A cancel may miss an operation that a worker thread is just beginning:
    /// cancel it again. And a forced multishot receive may not notice that its peer has closed
    /// (seen on Linux 6.18): force only operations that complete once.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::Setup;
    /// use annulus::op::{Op as _, Read};
    /// use std::fs::File;
    ///
    /// let mut ring = Setup::new(8).build()?;
    /// let program = File::open("/proc/self/exe")?; // Reading a file may have to wait for a disk.
    /// let read = ring.submit(Read::new(program, vec![0; 4096]).forced())?;
    /// let outcome = ring.wait(read)?;
    /// assert_eq!((outcome.result?, &outcome.buf[1..4]), (4096, &b"ELF"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "IOSQE_ASYNC")]
    fn forced(self) -> Forced<Self> {
        Forced::new(self)
    }

    /// Takes an operation apart that is not submitted: returns its output, with everything that it
    /// owns, as if it had been cancelled before it began.
    ///
    /// The result is `ECANCELED`, and nothing that the operation was to do has happened. For one
    /// that a ring rejected, [`Rejected::into_output`](crate::Rejected::into_output) puts the
    /// reason there.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::op::{Op as _, Read};
    /// use std::fs::File;
    ///
    /// let read = Read::new(File::open("/proc/self/exe")?, vec![7; 3]);
    /// let outcome = read.into_output(); // Nobody wants it any more.
    /// assert_eq!(outcome.buf, [7; 3]);
    /// assert!(outcome.result.is_err());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    fn into_output(self) -> Self::Output {
        self.finish(Done::never_submitted(Errno::new(libc::ECANCELED)))
    }
}

/// An operation whose completions before the last one carry items.
pub trait Multishot: Op {
    /// The item that each completion carries.
    type Item;

    /// Makes an item from a completion.
    fn item(completion: Completion) -> Self::Item;
}

/// The result of an operation, together with the file and the buffer that it was given.
#[derive(Debug)]
#[must_use = "the result may be an error"]
pub struct Outcome<T, F, B = ()> {
    /// The kernel's result.
    pub result: io::Result<T>,
    /// The file that the operation used.
    pub fd: F,
    /// The buffer, or whatever else the operation was given.
    pub buf: B,
}

impl<T, F, B> Outcome<T, F, B> {
    /// Returns the result and the buffer, and drops the file.
    pub fn into_parts(self) -> (io::Result<T>, B) {
        (self.result, self.buf)
    }

    /// Returns the value of a successful result together with the buffer, and drops the file.
    ///
    /// # Errors
    ///
    /// The kernel's error. The file and the buffer are dropped then.
    pub fn ok(self) -> io::Result<(T, B)> {
        self.result.map(|value| (value, self.buf))
    }
}
