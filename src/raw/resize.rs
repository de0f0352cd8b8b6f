//! Resizing a raw ring.
//!
//! Leaves to others: what is refused, and how the queues move (`annulus_sys::rings`).

use annulus_sys::errno::Errno;
use annulus_sys::rings::ResizeFailure;

use super::{Mapped, RawRing};

/// # Resizing
impl RawRing {
    /// Changes the sizes of the ring while it is in use; entries and completions move to the new
    /// memory. Without `cq_entries`, the completion queue gets twice as many entries as the
    /// submission queue. Needs `DEFER_TASKRUN`, `NO_SQARRAY` and Linux 6.13.
    ///
    /// # Errors
    ///
    /// [`ResizeFailure::Refused`] leaves the ring as it was:
    ///
    /// - `EINVAL` if the kernel or the ring's setup does not allow it.
    /// - `EBUSY` if the ring has large entries or completions, or rewinds, and is not empty:
    ///   resizing would tear its contents. Empty it first.
    /// - `EOVERFLOW` if the contents would not fit. Since Linux 7.3, also if a large completion of
    ///   a mixed ring would lie across the wrap.
    ///
    /// After [`ResizeFailure::Map`], the ring is unusable: every call that enters the kernel fails
    /// with [`EnterCause::Unmapped`](crate::EnterCause::Unmapped).
    pub fn resize(&mut self, entries: u32, cq_entries: Option<u32>) -> Result<(), ResizeFailure> {
        let resized = match self.mapped {
            Mapped::Yes => self.rings.resize(entries, cq_entries),
            Mapped::No => Err(ResizeFailure::Refused(Errno::new(libc::EBADFD))),
        };
        if let Err(ResizeFailure::Map(_)) = resized {
            self.mapped = Mapped::No;
            self.driver_mut().set_unmapped();
        }
        resized
    }
}
