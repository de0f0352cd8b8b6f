//! The file that an operation uses: a descriptor, or a file that is registered with the ring.
//!
//! | target | kept open by | looked up |
//! |---|---|---|
//! | anything that is `AsFd`: `OwnedFd`, `Rc<File>`, `&TcpStream` in a scope | its owner, in the slot | in the process's table |
//! | [`FixedFile`] | the ring's table | in the ring's table |
//! | [`ChainFd`](super::ChainFd) | the close at the end of the chain | in the process's table |
//!
//! The operation holds the owner, so the descriptor stays open until the last completion: no
//! descriptor number is reused while an entry names it.

use std::os::fd::{AsFd, AsRawFd};

use annulus_sys::abi::Sqe;
use annulus_sys::flags::SqeFlags;

use super::RingId;
use crate::lease::FixedFile;

pub(super) mod sealed {
    pub trait Sealed {}
}

/// The owner of a descriptor (anything that is [`AsFd`]), a [`FixedFile`], or the
/// [`ChainFd`](super::ChainFd) of a chain that closes its descriptor. Sealed: only this crate
/// implements it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no file that an operation can own",
    note = "give it something that owns a descriptor (`File`, `TcpStream`, `OwnedFd`, `Rc<..>` or \
            `Arc<..>` of one) or a `FixedFile`; a borrowed one goes through `Ring::scope`"
)]
pub trait Target: sealed::Sealed {
    /// Whether the file can be used on `ring`.
    #[doc(hidden)]
    fn belongs_to(&self, ring: RingId) -> bool;

    /// Whether the descriptor is still this file's when the operation has ended.
    #[doc(hidden)]
    #[inline]
    fn outlives(&self) -> bool {
        true
    }

    /// Returns `sqe` with this file filled in.
    #[doc(hidden)]
    fn aim(&self, sqe: Sqe) -> Sqe;
}

/// The refusal of an operation that looks at its file again when it has ended, if the file may be
/// closed by then.
pub(super) fn looks_again(file: &impl Target) -> Option<&'static str> {
    (!file.outlives()).then_some(
        "this operation looks at its file again when it has ended, and the chain may have closed \
         it by then: submit it before the chain",
    )
}

impl<F: AsFd> sealed::Sealed for F {}

#[doc(hidden)] // Otherwise rustdoc repeats its hidden items on the page of every such type.
impl<F: AsFd> Target for F {
    #[inline]
    fn belongs_to(&self, _: RingId) -> bool {
        true
    }

    #[inline]
    fn aim(&self, sqe: Sqe) -> Sqe {
        Sqe { fd: self.as_fd().as_raw_fd(), ..sqe }
    }
}

impl sealed::Sealed for FixedFile {}

impl Target for FixedFile {
    #[inline]
    fn belongs_to(&self, ring: RingId) -> bool {
        self.ring() == ring
    }

    #[inline]
    fn aim(&self, sqe: Sqe) -> Sqe {
        Sqe { fd: self.index(), flags: sqe.flags | SqeFlags::FIXED_FILE, ..sqe }
    }
}
