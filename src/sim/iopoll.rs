//! Rings whose devices are polled (`IOPOLL`). The simulation has no device that can be polled, so
//! what is left is what Linux does without one.
//!
//! | on such a ring | |
//! |---|---|
//! | operations that are not polled for | `EINVAL`, without having begun |
//! | reads and writes | `EOPNOTSUPP`: no file here has `O_DIRECT` and a queue to poll |
//! | `NOP`, `FILES_UPDATE`, `MSG_RING` | as on other rings |
//! | an enter that waits | returns at once, with what is there (`io_iopoll_check`, v6.18) |

use annulus_sys::flags::SetupFlags;
use annulus_sys::opcode::Opcode;

use super::release::Release;
use super::run::Try;
use super::state::State;
use super::trace::EndId;
use super::world::{Kind, World};

/// The operations that a ring with `IOPOLL` takes.
const POLLED: [Opcode; 11] = [
    Opcode::NOP,
    Opcode::NOP128,
    Opcode::READV,
    Opcode::WRITEV,
    Opcode::READ_FIXED,
    Opcode::WRITE_FIXED,
    Opcode::READV_FIXED,
    Opcode::WRITEV_FIXED,
    Opcode::READ,
    Opcode::WRITE,
    Opcode::FILES_UPDATE,
];

/// Whether a ring with `IOPOLL` takes an operation.
pub(super) fn is_polled(release: Release, opcode: Opcode) -> bool {
    let is_old = opcode == Opcode::NOP && release.is_before(5, 11);
    (POLLED.contains(&opcode) || opcode == Opcode::MSG_RING) && !is_old
}

impl State {
    /// Whether an enter takes completions from the devices, instead of waiting.
    pub(super) fn reaps(&self, ring: usize) -> bool {
        let flags = self.rings[ring].flags;
        flags.contains(SetupFlags::IOPOLL) && !flags.contains(SetupFlags::SQPOLL)
    }

    /// What becomes of a read or a write, if its ring polls.
    pub(super) fn unpolled(&self, ring: usize, end: EndId, reads: bool) -> Option<Try> {
        if !self.rings[ring].flags.contains(SetupFlags::IOPOLL) {
            return None;
        }
        let errno = if self.world.may(end, reads) { libc::EOPNOTSUPP } else { libc::EBADF };
        Some(Try::Ends(-errno))
    }
}

impl World {
    /// Whether an end is open for reads, or for writes.
    fn may(&self, at: EndId, reads: bool) -> bool {
        let access = self.ends[at].opened.map(|opened| opened.access);
        match self.ends[at].kind {
            Kind::Reader => reads,
            Kind::Writer => !reads,
            _ => access.is_none_or(|access| if reads { access.reads } else { access.writes }),
        }
    }
}
