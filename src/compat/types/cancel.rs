//! Which requests a cancel matches.

use annulus_sys::flags::CancelFlags;

use super::fd::{Target, UseFixed};

/// Which requests a cancel matches: [`AsyncCancel2`](super::super::opcode::AsyncCancel2) and
/// [`register_sync_cancel`](super::super::Submitter::register_sync_cancel).
#[derive(Debug)]
pub struct CancelBuilder {
    pub(in super::super) flags: CancelFlags,
    pub(in super::super) user_data: Option<u64>,
    target: Option<Target>,
}

impl CancelBuilder {
    /// All requests. Since Linux 5.19.
    pub const fn any() -> Self {
        Self { flags: CancelFlags::ANY, user_data: None, target: None }
    }

    /// The first request that carries this value.
    pub const fn user_data(user_data: u64) -> Self {
        Self { flags: CancelFlags::empty(), user_data: Some(user_data), target: None }
    }

    /// The first request on this file. Since Linux 5.19.
    pub fn fd(fd: impl UseFixed) -> Self {
        let target = fd.target();
        let flags = match target {
            Target::Fd(_) => CancelFlags::FD,
            Target::Fixed(_) => CancelFlags::FD | CancelFlags::FD_FIXED,
        };
        Self { flags, user_data: None, target: Some(target) }
    }

    /// Not only the first one. Since Linux 5.19.
    pub fn all(mut self) -> Self {
        self.flags |= CancelFlags::ALL;
        self
    }

    /// The file, as `fd` of an entry.
    pub(in super::super) fn number(&self) -> i32 {
        match self.target {
            Some(Target::Fd(fd)) => fd,
            Some(Target::Fixed(index)) => index.cast_signed(),
            None => -1,
        }
    }
}
