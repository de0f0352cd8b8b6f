//! How a ring is named when it is entered: by its descriptor, or by an index of this thread.
//!
//! | the ring is | its name | on another thread |
//! |---|---|---|
//! | ordinary | its descriptor | the same |
//! | registered (`register_ring_fd`) | an index of this thread, saves a look-up | its descriptor: see `Driver::arrive` |
//! | without descriptor (`REGISTERED_FD_ONLY`) | an index of this thread | none: `EBADF`, until it is back |
//!
//! Leaves to others: which rings go to another thread (`moving`).
#![allow(unsafe_code, reason = "names a ring by a descriptor that it keeps open")]

use std::os::fd::{AsRawFd, BorrowedFd};

use annulus_sys::rings::Base;
use annulus_sys::syscall::{RingFd, RingRef, this_thread};

use super::Driver;

/// Whether the ring may go to another thread, so that no index may be its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::raw) enum Moves {
    Yes,
    No,
}

impl Driver {
    pub(crate) fn registered(&self) -> Option<u32> {
        self.registered.map(|(index, _)| index)
    }

    pub(crate) fn set_registered(&mut self, index: Option<u32>) {
        self.registered = index.map(|index| (index, this_thread()));
        self.ring = index.map_or_else(|| name(&self.base), RingRef::registered);
    }

    pub(in crate::raw) fn moves(&self) -> bool {
        self.moves == Moves::Yes
    }

    pub(in crate::raw) fn set_moves(&mut self, moves: Moves) {
        self.moves = moves;
    }

    /// Comes to this thread with its ring: an index of another thread is a name no more.
    #[inline]
    pub(in crate::raw) fn arrive(&mut self) {
        if self.ring.is_registered() | (self.ring.number() == RingRef::NONE.number()) {
            self.rename();
        }
    }

    /// Names the ring as it can be named here: an index that names nothing on this thread, or
    /// another ring, is forgotten.
    #[cold]
    fn rename(&mut self) {
        if self.registered.is_some_and(|(_, thread)| thread != this_thread()) {
            // The kernel keeps the place until that thread ends.
            self.registered = None;
            self.ring = name(&self.base);
        }
        if let RingFd::Registered(_) = self.base.fd() {
            self.ring = if self.base.is_here() { name(&self.base) } else { RingRef::NONE };
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // In a forked child, the index names nothing, or one of the child's own rings.
        if let Some((index, thread)) = self.registered
            && thread == this_thread()
        {
            let _ = crate::raw::register::forget_ring(&self.base, index);
        }
    }
}

/// The name of a ring by its descriptor.
pub(super) fn name(base: &Base) -> RingRef<'static> {
    match base.fd() {
        RingFd::Registered(index) => RingRef::registered(*index),
        // SAFETY: open as long as the driver holds its base, because the base owns it.
        RingFd::Owned(fd) => RingRef::fd(unsafe { BorrowedFd::borrow_raw(fd.as_raw_fd()) }),
    }
}
