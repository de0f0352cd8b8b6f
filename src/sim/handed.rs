//! A descriptor that the simulation did not make: what is known of it. Leaves to others: what is
//! done with it (`real`).

use std::fs::File;

/// What is known of a real descriptor.
#[derive(Debug)]
pub(super) struct Real {
    /// A duplicate, while something uses it.
    pub(super) file: Option<File>,
    pub(super) kind: libc::mode_t,
    /// Whether it takes whole blocks only (`O_DIRECT`).
    pub(super) is_direct: bool,
    /// The events that requests wait for.
    pub(super) wanted: i16,
}

impl Real {
    /// Whether it never waits.
    pub(super) fn is_file(&self) -> bool {
        matches!(self.kind, libc::S_IFREG | libc::S_IFBLK | libc::S_IFDIR)
    }

    /// Whether somebody outside of the program may be at its other end. Not so of what has no type:
    /// an eventfd, a timerfd and their like.
    pub(super) fn has_other_end(&self) -> bool {
        self.kind != 0
    }
}
