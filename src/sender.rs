//! Messages to a ring from other threads: how they wake it.
//!
//! ```text
//!   another thread: RingSender::send(7) ──► MSG_RING, no ring needed (Linux 6.13)  ─┐
//!                                       └─► before: a queue, and an eventfd that    ─┤
//!                                           is readable while there is anything in it│
//!   another ring:   submit(Message)     ──► MSG_RING (Linux 5.18)                   ─┤
//!                                                                                    ▼
//!   the ring's thread:                            reap ─► Event::Message(7)
//! ```
//!
//! A completion that another ring sends may carry any word, and a forged one would end an operation
//! that the kernel still has. So only a [`RingSender`] sends, and its messages are of a kind of
//! their own (OP2), which leaves them 62 bits.
//!
//! The ring alone keeps its mailbox alive; a sender looks it up each time, and so cannot send to a
//! ring that is gone. Which way messages take is decided once, when the first sender is made.
//!
//! Leaves to others: the poll on the eventfd (`own`), and the operation (`op::msg`).
//!
//! # Example
//!
//! ```
//! use annulus::{Event, Setup};
//!
//! let mut ring = Setup::new(4).build()?;
//! let sender = ring.sender()?;
//! let thread = std::thread::spawn(move || sender.send(7));
//! let mut message = None;
//! while message.is_none() {
//!     ring.submit_and_wait(1)?;
//!     ring.reap(|event| {
//!         if let Event::Message(number) = event {
//!             message = Some(number);
//!         }
//!     })?;
//! }
//! assert_eq!(message, Some(7));
//! thread.join().expect("no panic")?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![allow(unsafe_code, reason = "makes an eventfd, and sends through the kernel")]

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use annulus_sys::errno::Errno;
use annulus_sys::flags::SetupFlags;
use annulus_sys::opcode::RegisterOp;
use annulus_sys::process::Process;
use annulus_sys::rings::Base;
use annulus_sys::syscall::{RingFd, RingRef};

use crate::inflight::kind;
use crate::prep;
use crate::register::{self, Asked};
use crate::ring::Ring;

/// The largest message.
pub const MAX_MESSAGE: u64 = !kind::MASK;

/// Sends messages to a ring, from any thread. Cheap to clone; outlives the ring, and does not keep
/// it open.
#[derive(Debug, Clone)]
pub struct RingSender(Weak<Mailbox>);

/// Why a message was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The ring is gone; or this is a forked child, and the ring its parent's.
    #[error("the ring is gone")]
    Closed,
    /// A message has 62 bits.
    #[error("a message has 62 bits, and {0:#x} has more")]
    TooWide(u64),
    /// Another ring can name this one by its descriptor only, and it has none
    /// (`REGISTERED_FD_ONLY`).
    #[error("the ring has no descriptor that another could send to: use `RingSender::send`")]
    Nameless,
    /// The kernel refused.
    #[error("the kernel did not take the message: {0}")]
    Other(Errno),
}

impl From<SendError> for io::Error {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Other(errno) => errno.into(),
            error => Self::other(error),
        }
    }
}

/// What a ring shares with those who send to it, and keeps alive.
#[derive(Debug)]
pub(crate) struct Mailbox {
    way: Way,
    process: Process,
}

/// How messages get to the ring.
#[derive(Debug)]
enum Way {
    /// The kernel takes them from those who have no ring.
    Direct(Arc<Base>),
    /// It does not, or the ring has no descriptor to name it by.
    Queue(Queue, Option<Arc<Base>>),
}

/// Messages that wait for the ring's thread. Whenever the lock is free, the eventfd is readable if
/// and only if there are any: so a poll on it completes neither too late nor in vain, whenever it
/// is armed.
#[derive(Debug)]
struct Queue {
    messages: Mutex<VecDeque<u64>>,
    eventfd: Arc<OwnedFd>,
}

impl Queue {
    fn new() -> io::Result<Self> {
        // SAFETY: takes no memory, because both arguments are numbers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: open, and ours alone, because it was just made.
        let eventfd = Arc::new(unsafe { OwnedFd::from_raw_fd(fd) });
        Ok(Self { messages: Mutex::default(), eventfd })
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<u64>> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, message: u64) -> Result<(), Errno> {
        let mut messages = self.lock();
        if messages.is_empty() {
            let one = 1_u64.to_ne_bytes();
            // SAFETY: 8 bytes of ours, because an eventfd is written so.
            if unsafe { libc::write(self.eventfd.as_raw_fd(), one.as_ptr().cast(), 8) } < 0 {
                return Err(Errno::last());
            }
        }
        messages.push_back(message);
        Ok(())
    }

    /// Moves all messages to `inbox`, which is empty.
    fn empty_into(&self, inbox: &mut VecDeque<u64>) {
        let mut messages = self.lock();
        if messages.is_empty() {
            return;
        }
        let mut count = [0_u8; 8];
        // Does not wait: it was written when the first message came.
        // SAFETY: 8 bytes of ours, because an eventfd is read so.
        unsafe { libc::read(self.eventfd.as_raw_fd(), count.as_mut_ptr().cast(), 8) };
        std::mem::swap(&mut *messages, inbox);
    }
}

impl Mailbox {
    fn new(base: &Arc<Base>) -> io::Result<Self> {
        let named = matches!(base.fd(), RingFd::Owned(_)).then(|| Arc::clone(base));
        let way = match named {
            Some(base) if register::knows(&base, Asked::Task, RegisterOp::SEND_MSG_RING, 1) => {
                Way::Direct(base)
            }
            _ if base.params().flags.contains(SetupFlags::IOPOLL) => {
                let text = "a ring with IOPOLL polls no eventfd, and this kernel takes no messages \
                            for it from those who have no ring: that needs Linux 6.13";
                return Err(io::Error::new(io::ErrorKind::Unsupported, text));
            }
            named => Way::Queue(Queue::new()?, named),
        };
        Ok(Self { way, process: Process::this() })
    }

    /// One whose messages do not come as completions.
    #[cfg(test)]
    pub(crate) fn queued() -> Self {
        let queue = Queue::new().expect("an eventfd");
        Self { way: Way::Queue(queue, None), process: Process::this() }
    }

    /// The eventfd that is readable while there are messages to be [moved](Self::empty_into);
    /// `None` when each comes as a completion.
    pub(crate) fn eventfd(&self) -> Option<&Arc<OwnedFd>> {
        match &self.way {
            Way::Queue(queue, _) => Some(&queue.eventfd),
            Way::Direct(_) => None,
        }
    }

    /// Moves all messages that wait here to `inbox`, which is empty.
    pub(crate) fn empty_into(&self, inbox: &mut VecDeque<u64>) {
        if !self.process.is_this() {
            return; // The eventfd is the parent's too, and who held the lock is gone.
        }
        match &self.way {
            Way::Queue(queue, _) => queue.empty_into(inbox),
            Way::Direct(_) => {}
        }
    }

    fn send(&self, message: u64) -> Result<(), SendError> {
        let sent = match &self.way {
            Way::Direct(base) => send_directly(base, message),
            Way::Queue(queue, _) => queue.push(message),
        };
        sent.map_err(SendError::Other)
    }
}

/// Sends through the kernel, without a ring.
fn send_directly(base: &Base, message: u64) -> Result<(), Errno> {
    let RingFd::Owned(fd) = base.fd() else { return Err(Errno::new(libc::EBADF)) };
    let mut sqe = prep::msg_ring(fd.as_raw_fd(), 0, word(message));
    let (kernel, arg) = (base.kernel(), (&raw mut sqe).cast());
    // SAFETY: one live entry, which the kernel copies; it points to nothing, and its word is of the
    // kind that ends no operation (OP2).
    unsafe { kernel.register(RingRef::NONE, RegisterOp::SEND_MSG_RING, arg, 1) }.map(drop)
}

/// The number by which another ring of this process names that of `base`. None (-1, `EBADF`) for a
/// ring without a descriptor, and in a forked child, whose descriptor leads to its parent's ring.
pub(crate) fn named(base: &Base) -> i32 {
    match base.fd() {
        RingFd::Owned(fd) if base.is_of_this_process() => fd.as_raw_fd(),
        RingFd::Owned(_) | RingFd::Registered(_) => -1,
    }
}

/// The word of the completion that brings `message`.
pub(crate) fn word(message: u64) -> u64 {
    kind::MESSAGE | message & MAX_MESSAGE
}

impl RingSender {
    /// Sends `message`, of at most [`MAX_MESSAGE`], and wakes the ring if it waits. Does not wait
    /// itself. The ring's [`reap`](Ring::reap) shows it as
    /// [`Event::Message`](crate::Event::Message); in which order, among many, is not promised.
    ///
    /// # Errors
    ///
    /// [`SendError`]. A message that is sent shortly before the ring ends may be lost with it.
    pub fn send(&self, message: u64) -> Result<(), SendError> {
        self.mailbox(message)?.send(message)
    }

    /// The mailbox for `message`.
    fn mailbox(&self, message: u64) -> Result<Arc<Mailbox>, SendError> {
        if message > MAX_MESSAGE {
            return Err(SendError::TooWide(message));
        }
        let mailbox = self.0.upgrade().filter(|mailbox| mailbox.process.is_this());
        mailbox.ok_or(SendError::Closed)
    }

    /// The ring, for another that is to send `message` to it.
    pub(crate) fn ring(&self, message: u64) -> Result<Arc<Base>, SendError> {
        match &self.mailbox(message)?.way {
            Way::Direct(base) | Way::Queue(_, Some(base)) => Ok(Arc::clone(base)),
            Way::Queue(_, None) => Err(SendError::Nameless),
        }
    }
}

impl<U: Default> Ring<U> {
    /// What other threads send to this ring with. As long as there is one, no wait is refused as
    /// hopeless. Where messages come through a poll (before Linux 6.13, or without a descriptor),
    /// nothing [drained](crate::op::Op::drained) is accepted from now on: it would not begin.
    ///
    /// # Errors
    ///
    /// When no eventfd can be made, before Linux 6.13; and there, `Unsupported` for a ring with
    /// `IOPOLL`, and `ResourceBusy` while an operation that was [drained](crate::op::Op::drained)
    /// may hold up others. [`SendError::Closed`] in a forked child.
    pub fn sender(&mut self) -> io::Result<RingSender> {
        if !self.process.is_this() {
            return Err(io::Error::other(SendError::Closed));
        }
        if self.own.mailbox().is_none() {
            let mailbox = Arc::new(Mailbox::new(self.raw.base())?);
            // Its poll would wait behind what is drained, and messages wake nobody.
            if mailbox.eventfd().is_some() && self.slab.may_wait() {
                let past = self.go_past_drained();
                past.map_err(|why| io::Error::new(io::ErrorKind::ResourceBusy, why))?;
            }
            self.own.open(mailbox);
            self.raw.expect_messages();
            self.serve_sender();
        }
        let mailbox = self.own.mailbox().expect("it was just opened");
        Ok(RingSender(Arc::downgrade(mailbox)))
    }

    /// Watches the mailbox, if it is to be watched, making room for that if it must. When that
    /// fails, the next time.
    #[cold]
    pub(crate) fn serve_sender(&mut self) {
        let Some(sqe) = self.own.watch() else { return };
        if self.raw.room() == 0 && self.raw.wait_for_room().is_err() {
            return;
        }
        // SAFETY: it points to nothing (OP1); the eventfd stays open as long as the ring.
        if unsafe { self.raw.push_known(sqe) }.is_ok() {
            self.own.watching();
        }
    }
}
