//! `CLONE_BUFFERS`: registered buffers that another ring gets, too.
//!
//! ```text
//!   other ring │ a │ ─ │ b │ c │        entries of their own, which hold the same memory
//!                    └─────┴─────► this ring │ x │ ─ │ b │
//! ```
#![allow(unsafe_code, reason = "reads the argument of a call")]

use std::sync::Arc;

use annulus_sys::abi_register::CloneBuffers;
use annulus_sys::errno::Errno;
use annulus_sys::flags_register::CloneBuffersFlags;

use super::real::is_open;
use super::region::copy_in;
use super::register::MOST_BUFFERS;
use super::registered::{Entry, Table};
use super::state::State;

fn refused<T>(errno: i32) -> Result<T, Errno> {
    Err(Errno::new(errno))
}

impl State {
    /// Clones buffers of another ring into the table of this one.
    ///
    /// # Safety
    ///
    /// `address` must be 0, or point to a `struct io_uring_clone_buffers`.
    pub(super) unsafe fn clone_buffers(
        &mut self,
        ring: usize,
        address: u64,
        count: u32,
    ) -> Result<u32, Errno> {
        if address == 0 || count != 1 {
            return refused(libc::EINVAL);
        }
        // SAFETY: as promised to `clone_buffers`.
        let asked = unsafe { copy_in::<CloneBuffers>(address) }?;
        let has_parts = !self.release.is_before(6, 13);
        let all = CloneBuffersFlags::SRC_REGISTERED | CloneBuffersFlags::DST_REPLACE;
        let known = if has_parts { all } else { CloneBuffersFlags::SRC_REGISTERED };
        if !known.contains(asked.flags) {
            return refused(libc::EINVAL);
        }
        let replaces = asked.flags.contains(CloneBuffersFlags::DST_REPLACE);
        if self.rings[ring].buffers.len() > 0 && !replaces {
            return refused(libc::EBUSY);
        }
        let is_part = asked.src_off != 0 || asked.dst_off != 0 || asked.nr != 0;
        if asked.pad != [0; 3] || (is_part && !has_parts) {
            return refused(libc::EINVAL);
        }
        let source = self.source(asked)?;
        self.clone_part(source, ring, asked)
    }

    /// The ring from which buffers are cloned.
    fn source(&self, asked: CloneBuffers) -> Result<usize, Errno> {
        let fd = asked.src_fd.cast_signed();
        if asked.flags.contains(CloneBuffersFlags::SRC_REGISTERED) {
            return self.registered(asked.src_fd).ok_or(Errno::new(libc::EBADF));
        }
        let is_other = is_open(fd);
        let errno = if is_other { libc::EOPNOTSUPP } else { libc::EBADF };
        self.ring_at(fd).ok_or(Errno::new(errno))
    }

    fn clone_part(&mut self, from: usize, to: usize, asked: CloneBuffers) -> Result<u32, Errno> {
        let CloneBuffers { src_off, dst_off, nr, .. } = asked;
        let there = u32::try_from(self.rings[from].buffers.len()).expect("a table is short");
        let old = self.rings[to].buffers.len();
        if nr == 0 && (src_off != 0 || dst_off != 0) {
            return refused(libc::EINVAL);
        }
        let count = if nr == 0 { there } else { nr };
        if count > there {
            return refused(libc::EINVAL);
        }
        let end = count.checked_add(dst_off).ok_or(Errno::new(libc::EOVERFLOW))?;
        if end > MOST_BUFFERS {
            return refused(libc::EINVAL);
        }
        if there == 0 {
            return refused(libc::ENXIO);
        }
        if count.checked_add(src_off).is_none_or(|end| end > there) {
            return refused(libc::EOVERFLOW);
        }
        let (first, source) = (dst_off as usize, src_off as usize);
        let len = old.max(end as usize);
        let places = (0..len).map(|at| {
            if at < first || at >= end as usize {
                return self.rings[to].buffers.get(at).map(Arc::clone);
            }
            let entry = self.rings[from].buffers.get(source + at - first)?;
            Some(Arc::new(Entry { thing: entry.thing, tag: 0 }))
        });
        let table = Table::new(places.collect());
        let mut old = std::mem::replace(&mut self.rings[to].buffers, table);
        for entry in old.clear() {
            self.let_go(to, entry);
        }
        Ok(0)
    }
}
