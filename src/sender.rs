//! Messages to a ring from other threads: how they wake it.
//!
//! ```text
//!   another thread: RingSender::send(7) ──► MSG_RING, no ring needed (Linux 6.13)  ─┐
//!                                       └─► a queue and an eventfd, before          ─┤
//!   another ring:   submit(Message)     ──► MSG_RING (Linux 5.18)                   ─┤
//!                                                                                    ▼
//!   the ring's thread:                            reap ─► Event::Message(7)
//! ```
//!
//! A completion that another ring sends may carry any word, and a forged one would end an operation
//! that the kernel still has. So only a [`RingSender`] sends, and its messages are of a kind of
//! their own (OP2), which leaves them 62 bits.
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
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use annulus_sys::abi::Sqe;
use annulus_sys::errno::Errno;
use annulus_sys::opcode::RegisterOp;
use annulus_sys::rings::Base;
use annulus_sys::syscall::{RingFd, RingRef};

use crate::inflight::kind;
use crate::prep;
use crate::ring::Ring;

/// The largest message.
pub const MAX_MESSAGE: u64 = !kind::MASK;

/// Sends messages to a ring, from any thread. Cheap to clone; outlives the ring.
#[derive(Debug, Clone)]
pub struct RingSender(pub(crate) Arc<Mailbox>);

/// Why a message was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The ring is gone.
    #[error("the ring is gone")]
    Closed,
    /// A message has 62 bits.
    #[error("a message has 62 bits, and {0:#x} has more")]
    TooWide(u64),
    /// The kernel refused.
    #[error("the eventfd that wakes the ring cannot be written: {0}")]
    Other(Errno),
}

impl From<SendError> for io::Error {
    fn from(error: SendError) -> Self {
        Self::other(error)
    }
}

/// What a ring shares with those who send to it.
#[derive(Debug)]
pub(crate) struct Mailbox {
    /// The ring, while it lives.
    ring: Weak<Base>,
    eventfd: OwnedFd,
    queue: Mutex<VecDeque<u64>>,
    closed: AtomicBool,
    /// Whether the kernel takes messages from those who have no ring.
    direct: AtomicBool,
}

impl Mailbox {
    fn new(ring: &Arc<Base>) -> io::Result<Self> {
        // SAFETY: takes no memory, because both arguments are numbers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: open, and ours alone, because it was just made.
        let eventfd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self {
            ring: Arc::downgrade(ring),
            eventfd,
            queue: Mutex::default(),
            closed: AtomicBool::new(false),
            direct: AtomicBool::new(matches!(ring.fd(), RingFd::Owned(_))),
        })
    }

    /// The entry that completes when there is something in the queue.
    pub(crate) fn poll(&self) -> Sqe {
        prep::poll_add(self.eventfd.as_raw_fd(), libc::POLLIN.cast_unsigned().into())
    }

    /// The oldest message; with the last one, the eventfd is set back.
    pub(crate) fn take(&self) -> Option<u64> {
        let mut queue = self.queue();
        if queue.is_empty() {
            let mut count = [0_u8; 8];
            // Under the lock, so that no signal for a message that was not seen is swallowed.
            // SAFETY: 8 bytes of ours, because an eventfd is read so.
            unsafe { libc::read(self.eventfd.as_raw_fd(), count.as_mut_ptr().cast(), 8) };
            return None;
        }
        queue.pop_front()
    }

    fn queue(&self) -> MutexGuard<'_, VecDeque<u64>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    pub(crate) fn ring(&self) -> Option<Arc<Base>> {
        if self.closed.load(Ordering::Acquire) {
            return None;
        }
        self.ring.upgrade()
    }

    /// Sends through the kernel, if it takes messages from those who have no ring.
    fn send_directly(&self, message: u64) -> bool {
        if !self.direct.load(Ordering::Relaxed) {
            return false;
        }
        let Some(base) = self.ring() else { return false };
        let RingFd::Owned(fd) = base.fd() else { return false };
        let mut sqe = prep::msg_ring(fd.as_raw_fd(), 0, kind::MESSAGE | message);
        let arg = (&raw mut sqe).cast();
        let kernel = base.kernel();
        // SAFETY: one live entry, which the kernel copies; it points to nothing, and its word is of
        // the kind that ends no operation (OP2).
        match unsafe { kernel.register(RingRef::NONE, RegisterOp::SEND_MSG_RING, arg, 1) } {
            Ok(_) => true,
            Err(errno) => {
                if errno.is(libc::EINVAL) {
                    self.direct.store(false, Ordering::Relaxed); // Before Linux 6.13.
                }
                false
            }
        }
    }
}

impl RingSender {
    /// Sends `message`, and wakes the ring if it waits. Never blocks. The ring's
    /// [`reap`](Ring::reap) shows it as [`Event::Message`](crate::Event::Message).
    ///
    /// # Errors
    ///
    /// [`SendError::Closed`] when the ring is gone; a message that is sent shortly before may be
    /// lost with it.
    pub fn send(&self, message: u64) -> Result<(), SendError> {
        if message > MAX_MESSAGE {
            return Err(SendError::TooWide(message));
        }
        if self.0.closed.load(Ordering::Acquire) {
            return Err(SendError::Closed);
        }
        if self.0.send_directly(message) {
            return Ok(());
        }
        self.0.queue().push_back(message);
        let one = 1_u64.to_ne_bytes();
        // SAFETY: 8 bytes of ours, because an eventfd is written so.
        let sent = unsafe { libc::write(self.0.eventfd.as_raw_fd(), one.as_ptr().cast(), 8) };
        let errno = Errno::last();
        // Full, it is readable all the same.
        if sent < 0 && !errno.is(libc::EAGAIN) { Err(SendError::Other(errno)) } else { Ok(()) }
    }
}

impl<U: Default> Ring<U> {
    /// What other threads send to this ring with. From now on, no wait is refused as hopeless.
    ///
    /// # Errors
    ///
    /// When no eventfd can be made.
    pub fn sender(&mut self) -> io::Result<RingSender> {
        if self.own.mailbox().is_none() {
            let mailbox = Arc::new(Mailbox::new(self.raw.base())?);
            self.own.open(mailbox);
            self.raw.expect_others();
            self.serve_sender();
        }
        let mailbox = self.own.mailbox().expect("it was just opened");
        Ok(RingSender(Arc::clone(mailbox)))
    }

    /// Watches the mailbox, if it is to be watched. When there is no room, the next time.
    #[cold]
    pub(crate) fn serve_sender(&mut self) {
        if let Some(sqe) = self.own.watch()
            // SAFETY: it points to nothing (OP1); the eventfd stays open until the poll has ended.
            && unsafe { self.raw.push_known(sqe) }.is_ok()
        {
            self.own.watching();
        }
    }
}
