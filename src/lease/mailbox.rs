//! The mailbox of a ring: how messages from other threads reach it.
//!
//! ```text
//!   RingSender ──► Mailbox ─┬─ Direct ─► MSG_RING, no ring needed (Linux 6.13)
//!                           └─ Queue ──► a queue, and an eventfd that is readable
//!                                        while there is anything in it
//! ```
//!
//! A completion that another ring sends may carry any `user_data`, and a forged one would end an
//! operation that the kernel still has. So only a [`RingSender`] sends, and its messages have a
//! kind of their own in the upper two bits (OP2), which leaves them 62 bits.
//!
//! Only the ring keeps its mailbox alive. A sender looks it up for each message, and so cannot send
//! to a ring that is gone. The way that messages take is decided once, when the first sender is
//! made. When the last clone of a sender is dropped by another thread, it wakes the ring, which may
//! wait for nothing else.
//!
//! Leaves to others: making a sender, and the poll on the eventfd (`ring`).
#![allow(unsafe_code, reason = "makes an eventfd, and sends through the kernel")]

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, ThreadId};

use annulus_sys::errno::Errno;
use annulus_sys::flags::SetupFlags;
use annulus_sys::opcode::RegisterOp;
use annulus_sys::process::Process;
use annulus_sys::rings::Base;
use annulus_sys::syscall::{RingFd, RingRef};

use super::user_data::kind;
use crate::prep;
use crate::raw::register;
use crate::raw::register::Asked;

/// The largest message.
pub const MAX_MESSAGE: u64 = !kind::MASK;

/// The `user_data` of the poll on the mailbox, and of what wakes a ring without a message. It is
/// beyond the number of any slot.
pub(crate) const MAIL: u64 = 1 << 30;

/// Sends messages to a ring, from any thread. Cheap to clone; outlives the ring, and does not keep
/// it open.
///
/// Made by [`Ring::sender`](crate::Ring::sender), which has an example.
#[derive(Debug, Clone)]
pub struct RingSender(Arc<Clones>);

/// What the clones of a sender share.
#[derive(Debug)]
struct Clones(Weak<Mailbox>);

impl Drop for Clones {
    fn drop(&mut self) {
        let mailbox = self.0.upgrade();
        // First, so that the ring counts one sender less when it is awake.
        self.0 = Weak::new();
        if let Some(mailbox) = mailbox {
            mailbox.wake();
        }
    }
}

/// Why a message was not sent.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The ring is gone, or this is a forked child and the ring belongs to its parent.
    #[error("the ring is gone, or is of the parent process: make a sender from an open ring")]
    Closed,
    /// A message has 62 bits.
    #[error("a message has 62 bits, and {0:#x} has more: send a smaller number")]
    TooWide(u64),
    /// Another ring can name this one only by its descriptor, and it has none
    /// (`REGISTERED_FD_ONLY`).
    #[error("the ring has no descriptor for another ring to send to: use `RingSender::send`")]
    NoDescriptor,
    /// The kernel refused the message.
    #[error("the kernel did not take the message: {0}")]
    Other(Errno),
}

/// Contains the text, so that a `?` in `main` prints cause and cure.
impl fmt::Debug for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SendError({self})")
    }
}

impl From<SendError> for io::Error {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Other(errno) => errno.into(),
            error => Self::other(error),
        }
    }
}

/// The part of a ring that its senders share. The ring keeps it alive.
#[derive(Debug)]
pub(crate) struct Mailbox {
    way: Way,
    process: Process,
    /// The ring's thread, which does not wait while it drops a sender.
    thread: ThreadId,
}

/// How messages get to the ring.
#[derive(Debug)]
enum Way {
    /// Through the kernel, which takes messages from a thread without a ring (`SEND_MSG_RING`).
    Direct(Arc<Base>),
    /// Through a queue: the kernel cannot do that, or the ring has no descriptor to name it by.
    Queue(Queue, Option<Arc<Base>>),
}

/// Messages that wait for the ring's thread. Whenever the lock is free, the eventfd is readable if
/// and only if there are messages, or the ring was to wake for another reason. So a poll on it
/// completes neither too late nor without cause, whenever it is armed.
#[derive(Debug)]
struct Queue {
    mail: Mutex<Mail>,
    eventfd: Arc<OwnedFd>,
}

#[derive(Debug, Default)]
struct Mail {
    messages: VecDeque<u64>,
    /// Whether the eventfd is readable.
    noticed: bool,
}

impl Queue {
    fn new() -> io::Result<Self> {
        // SAFETY: accesses no memory, because both arguments are numbers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: open, and ours alone, because it was just made.
        let eventfd = Arc::new(unsafe { OwnedFd::from_raw_fd(fd) });
        Ok(Self { mail: Mutex::default(), eventfd })
    }

    fn lock(&self) -> MutexGuard<'_, Mail> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the eventfd readable, and adds a message if there is one.
    fn push(&self, message: Option<u64>) -> Result<(), Errno> {
        let mut mail = self.lock();
        if !mail.noticed {
            let one = 1_u64.to_ne_bytes();
            // SAFETY: 8 live bytes, as `eventfd(2)` requires for a write.
            if unsafe { libc::write(self.eventfd.as_raw_fd(), one.as_ptr().cast(), 8) } < 0 {
                return Err(Errno::last());
            }
            mail.noticed = true;
        }
        mail.messages.extend(message);
        Ok(())
    }

    /// Moves all messages to `inbox`, which is empty.
    fn empty_into(&self, inbox: &mut VecDeque<u64>) {
        let mut mail = self.lock();
        if !mail.noticed {
            return;
        }
        mail.noticed = false;
        let mut count = [0_u8; 8];
        // Does not block: the eventfd was written when this was noted.
        // SAFETY: 8 live bytes, as `eventfd(2)` requires for a read.
        unsafe { libc::read(self.eventfd.as_raw_fd(), count.as_mut_ptr().cast(), 8) };
        std::mem::swap(&mut mail.messages, inbox);
    }
}

impl Mailbox {
    pub(crate) fn new(base: &Arc<Base>) -> io::Result<Self> {
        let named = matches!(base.fd(), RingFd::Owned(_)).then(|| Arc::clone(base));
        let way = match named {
            Some(base) if register::knows(&base, Asked::Task, RegisterOp::SEND_MSG_RING, 1) => {
                Way::Direct(base)
            }
            _ if base.params().flags.contains(SetupFlags::IOPOLL) => {
                let text = "a ring with IOPOLL cannot poll an eventfd, and this kernel takes no \
                            messages from a thread without a ring: use Linux 6.13, or no IOPOLL";
                return Err(io::Error::new(io::ErrorKind::Unsupported, text));
            }
            named => Way::Queue(Queue::new()?, named),
        };
        Ok(Self { way, process: Process::this(), thread: thread::current().id() })
    }

    /// A mailbox whose messages do not come as completions.
    #[cfg(test)]
    pub(crate) fn queued() -> Self {
        let queue = Queue::new().expect("an eventfd");
        let (process, thread) = (Process::this(), thread::current().id());
        Self { way: Way::Queue(queue, None), process, thread }
    }

    /// The eventfd that is readable while there are messages to [move](Self::empty_into). `None`
    /// when each message comes as a completion.
    pub(crate) fn eventfd(&self) -> Option<&Arc<OwnedFd>> {
        match &self.way {
            Way::Queue(queue, _) => Some(&queue.eventfd),
            Way::Direct(_) => None,
        }
    }

    /// Moves all waiting messages to `inbox`, which is empty.
    pub(crate) fn empty_into(&self, inbox: &mut VecDeque<u64>) {
        if !self.process.is_this() {
            return; // The parent shares the eventfd, and the thread that held the lock is gone.
        }
        match &self.way {
            Way::Queue(queue, _) => queue.empty_into(inbox),
            Way::Direct(_) => {}
        }
    }

    fn send(&self, message: u64) -> Result<(), SendError> {
        let sent = match &self.way {
            Way::Direct(base) => send_directly(base, message),
            Way::Queue(queue, _) => queue.push(Some(message)),
        };
        sent.map_err(SendError::Other)
    }

    /// A sender is gone: if the ring waits, it looks whether it still waits for anything. What
    /// fails here, would have failed for a message.
    fn wake(&self) {
        if !self.process.is_this() || thread::current().id() == self.thread {
            return;
        }
        let _ = match &self.way {
            Way::Direct(base) => post(base, kind::INTERNAL | MAIL),
            Way::Queue(queue, _) => queue.push(None),
        };
    }
}

/// Sends through the kernel, without a ring.
fn send_directly(base: &Base, message: u64) -> Result<(), Errno> {
    post(base, user_data(message))
}

/// Posts a completion with this `user_data`, which ends no operation.
fn post(base: &Base, user_data: u64) -> Result<(), Errno> {
    let RingFd::Owned(fd) = base.fd() else { return Err(Errno::new(libc::EBADF)) };
    let mut sqe = prep::msg_ring(fd.as_raw_fd(), 0, user_data);
    let (kernel, arg) = (base.kernel(), (&raw mut sqe).cast());
    // SAFETY: one live entry, which the kernel copies. It points to nothing, and the kind in its
    // `user_data` ends no operation (OP2).
    unsafe { kernel.register(RingRef::NONE, RegisterOp::SEND_MSG_RING, arg, 1) }.map(drop)
}

/// The descriptor by which another ring of this process names the ring of `base`. -1 (`EBADF`) for
/// a ring without a descriptor, and in a forked child, where the descriptor leads to the parent's
/// ring.
pub(crate) fn named(base: &Base) -> i32 {
    match base.fd() {
        RingFd::Owned(fd) if base.is_of_this_process() => fd.as_raw_fd(),
        RingFd::Owned(_) | RingFd::Registered(_) => -1,
    }
}

/// The `user_data` of the completion that carries `message`.
pub(crate) fn user_data(message: u64) -> u64 {
    kind::MESSAGE | message & MAX_MESSAGE
}

impl RingSender {
    /// A sender to this mailbox.
    pub(crate) fn to(mailbox: &Arc<Mailbox>) -> Self {
        Self(Arc::new(Clones(Arc::downgrade(mailbox))))
    }

    /// Sends `message`, at most [`MAX_MESSAGE`], and wakes the ring if it waits. Does not block.
    /// The ring's [`reap`](crate::Ring::reap) shows it as
    /// [`Event::Message`](crate::Event::Message). The order of messages is not guaranteed.
    ///
    /// # Errors
    ///
    /// [`SendError`]. A message that is sent shortly before the ring ends may be lost. There is no
    /// limit to the messages that wait.
    pub fn send(&self, message: u64) -> Result<(), SendError> {
        self.mailbox(message)?.send(message)
    }

    /// The mailbox, once `message` is checked.
    fn mailbox(&self, message: u64) -> Result<Arc<Mailbox>, SendError> {
        if message > MAX_MESSAGE {
            return Err(SendError::TooWide(message));
        }
        let mailbox = self.0.0.upgrade().filter(|mailbox| mailbox.process.is_this());
        mailbox.ok_or(SendError::Closed)
    }

    /// The ring that another ring is to send `message` to.
    pub(crate) fn ring(&self, message: u64) -> Result<Arc<Base>, SendError> {
        match &self.mailbox(message)?.way {
            Way::Direct(base) | Way::Queue(_, Some(base)) => Ok(Arc::clone(base)),
            Way::Queue(_, None) => Err(SendError::NoDescriptor),
        }
    }
}
