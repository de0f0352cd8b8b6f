//! A chain that closes a descriptor at its end, and the descriptor as its steps see it.
//!
//! ```text
//!   Close::after(file, |file| (write, fsync))
//!        │            └ ChainFd: the number, usable only while this chain is submitted
//!        └─► write ──► fsync ──► close        OwnedFd: owned by the close, and by nothing else
//!                 └─ cancelled with the chain: the close gives the OwnedFd back
//! ```
//!
//! A number may belong to another file as soon as it is closed, and only one owner may close it. So
//! [`ChainFd`] is not the descriptor but its number: the only owner is the close, which begins
//! after all steps have ended. A ring accepts the number for the steps of this chain, while it
//! submits them, and never again.
//!
//! The kernel may cut a chain. Where that can be seen, the close is aimed at no descriptor before
//! the kernel gets it; where it cannot, no such chain is accepted.
//!
//! Leaves to others: what a link means (`ring::link`), what a close returns (`close`).

use std::cell::Cell;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;

use annulus_sys::abi::Sqe;

use super::close::Close;
use crate::op::target::{Target, sealed};
use crate::raw::RingId;

/// The descriptor of a chain that [closes it](Close::after), for the steps of this chain.
///
/// It is not an owner. Wherever else it is submitted it is [rejected](crate::Rejection::OtherRing),
/// so it is of no use after the chain has been submitted.
#[derive(Debug, Clone)]
pub struct ChainFd {
    fd: RawFd,
    /// The ring that its chain is being submitted to.
    ring: Rc<Cell<Option<RingId>>>,
}

impl sealed::Sealed for ChainFd {}

impl Target for ChainFd {
    fn belongs_to(&self, ring: RingId) -> bool {
        self.ring.get() == Some(ring)
    }

    fn outlives(&self) -> bool {
        false
    }

    fn aim(&self, sqe: Sqe) -> Sqe {
        // Outside its chain the number may be of any file.
        let fd = if self.ring.get().is_some() { self.fd } else { -1 };
        Sqe { fd, ..sqe }
    }
}

/// A chain of steps, and a close after them. Made by [`Close::after`], for
/// [`submit_chain`](crate::Ring::submit_chain).
#[derive(Debug)]
pub struct Closing<L> {
    steps: L,
    close: Close,
    ring: Rc<Cell<Option<RingId>>>,
}

impl Close {
    /// A chain that closes `fd` when all its steps have ended: those that `steps` makes, which is
    /// given the descriptor for them. Since Linux 5.6.
    ///
    /// The outputs are a pair: those of the steps, and that of the close. When a step breaks the
    /// [chain](crate::ring::link), the close never begins: it ends with `ECANCELED`, and gives the
    /// descriptor back. A step that breaks no chain when it fails, such as an
    /// [`Fsync`](crate::op::Fsync), lets the close begin; so check its result.
    ///
    /// For a file that may itself answer a close (a device, or a file on a FUSE or network file
    /// system) the descriptor comes back if the close was held up by a step that moves bytes and
    /// moved fewer than were asked. Otherwise, and if the tickets were taken apart or given up, it
    /// is unknown whether the number is free, and it is given up, as by [`Close::new`].
    ///
    /// A step cannot be an operation that looks at its file again when it has ended: `PollMulti`,
    /// and those that get or set options and names of sockets. An event loop
    /// ([`EventLoop`](crate::EventLoop)) has no such chain: submit a [`Close`] when the last step
    /// has ended.
    ///
    /// # Errors
    ///
    /// [`Rejected`](crate::Rejected) gives the whole chain back;
    /// [`into_parts`](Closing::into_parts) takes it apart. [`Rejection::Invalid`] for a step as
    /// above, and on a ring with a polling thread or with `SQE_MIXED`, where the chain may be cut.
    /// `EBADF` for the close if the kernel cut the chain for lack of memory: the descriptor comes
    /// back then, too, unless the file may itself answer a close.
    ///
    /// [`Rejection::Invalid`]: crate::Rejection::Invalid
    ///
    /// # Example
    ///
    /// Write a file, make it durable and close it, with one enter:
    ///
    /// ```
    /// use annulus::op::{Close, Fsync, Write};
    /// use annulus::{ChainEnd, Setup};
    /// use std::fs::File;
    ///
    /// let mut ring = Setup::new(8).build()?;
    /// # let path = std::env::temp_dir().join(format!("annulus-closing-{}", std::process::id()));
    /// let file = File::create(&path)?;
    /// # std::fs::remove_file(path)?;
    /// let chain = Close::after(file, |file| {
    ///     let write = Write::new(file.clone(), "a record\n");
    ///     (write, Fsync::new(file))
    /// });
    /// let chain = ring.submit_chain(chain)?;
    /// let chain = ring.wait_chain(chain)?;
    /// assert_eq!(chain.end, ChainEnd::Complete);
    /// let ((write, sync), close) = chain.outputs;
    /// assert_eq!(write.result?, 9);
    /// sync.result?;
    /// close.result?;
    /// assert!(close.fd.is_none()); // It is closed.
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn after<L>(fd: impl Into<OwnedFd>, steps: impl FnOnce(ChainFd) -> L) -> Closing<L> {
        let fd = fd.into();
        let ring = Rc::default();
        let of_steps = ChainFd { fd: fd.as_raw_fd(), ring: Rc::clone(&ring) };
        Closing { steps: steps(of_steps), close: Self::new(fd), ring }
    }
}

impl<L> Closing<L> {
    /// The steps, whose [`ChainFd`] is of no use any more, and the close with its descriptor.
    pub fn into_parts(self) -> (L, Close) {
        (self.steps, self.close)
    }

    pub(crate) fn steps(&self) -> &L {
        &self.steps
    }

    /// The steps and the close, while a ring may look at them.
    pub(crate) fn parts_mut(&mut self, ring: RingId) -> (&mut L, &mut Close, Usable) {
        let Self { steps, close, ring: usable } = self;
        (steps, close, Usable::on(ring, usable))
    }

    /// The steps and the close, while a ring makes their entries. Once [`Usable`] is dropped, no
    /// other entry is made with the number.
    pub(crate) fn into_usable(self, ring: RingId) -> (L, Close, Usable) {
        let usable = Usable::on(ring, &self.ring);
        (self.steps, self.close, usable)
    }
}

/// While it lives, the steps of one chain belong to one ring.
pub(crate) struct Usable(Rc<Cell<Option<RingId>>>);

impl Usable {
    fn on(ring: RingId, usable: &Rc<Cell<Option<RingId>>>) -> Self {
        usable.set(Some(ring));
        Self(Rc::clone(usable))
    }
}

impl Drop for Usable {
    fn drop(&mut self) {
        self.0.set(None);
    }
}
