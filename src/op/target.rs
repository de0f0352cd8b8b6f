//! What an operation is about: a descriptor, or a file that is registered with the ring.
//!
//! | | kept open by | looked up |
//! |---|---|---|
//! | anything that is `AsFd`: `OwnedFd`, `Rc<File>`, `&TcpStream` in a scope | its owner, in the slot | in the process's table |
//! | [`FixedFile`] | the ring's table | in the ring's table |
//!
//! The owner lies in the operation, so the descriptor stays open until the last completion: no
//! number is reused while an entry names it.

use std::os::fd::{AsFd, AsRawFd};

use annulus_sys::abi::Sqe;
use annulus_sys::flags::SqeFlags;

use super::RingId;
use crate::lease::FixedFile;

mod sealed {
    pub trait Sealed {}
}

/// A descriptor's owner, or a [`FixedFile`]. Implemented here only.
pub trait Target: sealed::Sealed {
    /// Whether it means anything on `ring`.
    #[doc(hidden)]
    fn belongs_to(&self, ring: RingId) -> bool;

    /// `sqe`, about this file.
    #[doc(hidden)]
    fn aim(&self, sqe: Sqe) -> Sqe;
}

impl<F: AsFd> sealed::Sealed for F {}

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
