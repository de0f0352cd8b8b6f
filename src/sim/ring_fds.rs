//! Registered rings: the table of a thread, by which a call names a ring without a descriptor.
//!
//! | refused | with |
//! |---|---|
//! | no argument, or more than there are places; a place that does not exist | `EINVAL` |
//! | a descriptor that is none, or that of another file | `EBADF`, `EOPNOTSUPP` |
//! | a place that is taken; a full table | `EBUSY` |
#![allow(unsafe_code, reason = "reads and writes the argument of a call, duplicates descriptors")]

use std::os::fd::{BorrowedFd, OwnedFd};

use annulus_sys::abi_register::RsrcUpdate;
use annulus_sys::errno::Errno;

use super::real::is_open;
use super::region::{read_value, write_value};
use super::state::State;

/// How many rings a thread can register.
const PLACES: u32 = 16;

impl State {
    /// The ring at a place.
    pub(super) fn registered(&self, at: u32) -> Option<usize> {
        self.ring_fds.get(&at).map(|(ring, _)| *ring)
    }

    /// Registers a ring whose descriptor nobody else has, or has any more. Returns the place.
    pub(super) fn add_ring_fd(
        &mut self,
        ring: usize,
        fd: OwnedFd,
        asked: Option<u32>,
    ) -> Result<u32, Errno> {
        let mut places = asked.map_or(0..PLACES, |at| at..at + 1);
        let place = places.find(|at| !self.ring_fds.contains_key(at));
        let place = place.ok_or(Errno::new(libc::EBUSY))?;
        self.ring_fds.insert(place, (ring, fd));
        Ok(place)
    }

    /// Registers rings (`RING_FDS`), or lets go of them. Returns how many.
    ///
    /// # Safety
    ///
    /// `arg` must point to `count` times a `struct io_uring_rsrc_update`.
    pub(super) unsafe fn change_ring_fds(
        &mut self,
        arg: *mut libc::c_void,
        count: u32,
        adds: bool,
    ) -> Result<u32, Errno> {
        if count == 0 || count > PLACES {
            return Err(Errno::new(libc::EINVAL));
        }
        for done in 0..count {
            let at = arg.wrapping_byte_add(done as usize * size_of::<RsrcUpdate>());
            // SAFETY: one of `count`, as promised to `change_ring_fds`.
            let update = unsafe { read_value::<RsrcUpdate>(at.expose_provenance() as u64) };
            let changed = if adds { self.add_one(update) } else { self.drop_one(update) };
            match changed {
                // SAFETY: one of `count`, as promised to `change_ring_fds`.
                Ok(offset) => unsafe { write_value(at, RsrcUpdate { offset, ..update }) },
                Err(errno) => return if done > 0 { Ok(done) } else { Err(errno) },
            }
        }
        Ok(count)
    }

    fn add_one(&mut self, update: RsrcUpdate) -> Result<u32, Errno> {
        let refused = |errno| Err(Errno::new(errno));
        let RsrcUpdate { offset, resv, data } = update;
        let asked = (offset != u32::MAX).then_some(offset);
        if resv != 0 || asked.is_some_and(|at| at >= PLACES) {
            return refused(libc::EINVAL);
        }
        let fd = i32::try_from(data & u64::from(u32::MAX)).unwrap_or(-1);
        let Some(ring) = self.ring_at(fd) else {
            let is_other = is_open(fd);
            return refused(if is_other { libc::EOPNOTSUPP } else { libc::EBADF });
        };
        // SAFETY: open during the call, since it is that of a ring which is open.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        let fd = fd.try_clone_to_owned().map_err(|error| Errno::of(&error))?;
        self.add_ring_fd(ring, fd, asked)
    }

    fn drop_one(&mut self, update: RsrcUpdate) -> Result<u32, Errno> {
        let RsrcUpdate { offset, resv, data } = update;
        if resv != 0 || data != 0 || offset >= PLACES {
            return Err(Errno::new(libc::EINVAL));
        }
        if self.ring_fds.remove(&offset).is_some() {
            self.find_closed_rings();
        }
        Ok(offset)
    }
}
