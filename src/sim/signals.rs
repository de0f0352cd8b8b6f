//! The eventfd of a ring: which completions signal it.
//!
//! | | signalled |
//! |---|---|
//! | `EVENTFD` | when a completion is posted; when there is work for a ring that defers its own |
//! | `EVENTFD_ASYNC` | when a worker does one of the two |
//! | with `EVENTFD_DISABLED` in the flags of the completion queue | never |
//!
//! Linux signals once for several completions of one submission; how often is not promised.
#![allow(unsafe_code, reason = "reads the argument of a call")]

use annulus_sys::errno::Errno;
use annulus_sys::flags::CqRingFlags;

use super::eventfd::Signal;
use super::region::copy_in;
use super::state::{Due, Mode, State};
use super::world::Kind;

/// What signals an eventfd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    Worker,
    Other,
}

impl State {
    /// Registers an eventfd.
    ///
    /// # Safety
    ///
    /// `address` must point to a number.
    pub(super) unsafe fn register_signal(
        &mut self,
        ring: usize,
        address: u64,
        is_async: bool,
    ) -> Result<u32, Errno> {
        if self.rings[ring].signal.is_some() {
            return Err(Errno::new(libc::EBUSY));
        }
        // SAFETY: a live number, as promised to `register_signal`.
        let fd = unsafe { copy_in::<i32>(address) }?;
        let end = self.end_at(fd).ok_or(Errno::new(libc::EBADF))?;
        let is_eventfd = match self.world.ends[end].kind {
            Kind::Counter => true,
            Kind::Real => self.world.is_real_eventfd(end),
            _ => false,
        };
        if !is_eventfd {
            return Err(Errno::new(libc::EINVAL));
        }
        self.world.ends[end].users += 1;
        self.rings[ring].signal = Some(Signal { end, is_async });
        Ok(0)
    }

    /// Lets go of the eventfd.
    pub(super) fn unregister_signal(&mut self, ring: usize) -> Result<u32, Errno> {
        let signal = self.rings[ring].signal.take().ok_or(Errno::new(libc::ENXIO))?;
        self.world.leave(signal.end);
        self.sweep();
        Ok(0)
    }

    /// A completion was posted.
    pub(super) fn signal(&mut self, ring: usize, by: By) {
        let of_ring = &self.rings[ring];
        let Some(signal) = of_ring.signal else { return };
        let flags = CqRingFlags::from_bits_retain(of_ring.half.cq_flags());
        let is_meant = by == By::Worker || !signal.is_async;
        if is_meant && !flags.contains(CqRingFlags::EVENTFD_DISABLED) {
            // One that is full stays so.
            let _ = self.world.write(signal.end, &1_u64.to_ne_bytes(), None);
        }
    }

    /// There is work for a ring that defers its own, where there was none.
    pub(super) fn signal_work(&mut self, ring: usize, due: Due) {
        if self.rings[ring].mode != Mode::Defer || self.rings[ring].work.len() > 1 {
            return;
        }
        let work = match due {
            Due::Run(id) => self.requests.get(&id).and_then(|request| request.work),
            _ => None,
        };
        self.signal(ring, if work.is_some() { By::Worker } else { By::Other });
    }
}
