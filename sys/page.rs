//! Memory pages: their size, and the advice that gives a forked child zeroes in place of our data.
//!
//! Leaves to others: whole mappings (`map`).
#![allow(unsafe_code, reason = "asks the system for the page size, and advises it on memory")]

use std::io;

use memmap2::MmapRaw;

/// Makes the kernel give a forked child zeroes in `map`, and no copy of our data.
pub(crate) fn wipe_on_fork(map: &MmapRaw) -> io::Result<()> {
    let (start, len) = (map.as_mut_ptr().cast(), map.len());
    // SAFETY: a whole mapping, and advice that changes nothing in this process, because it concerns
    // only what a child sees.
    let advised = unsafe { libc::madvise(start, len, libc::MADV_WIPEONFORK) };
    if advised < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The size of an ordinary page, in bytes.
pub fn page_size() -> usize {
    // SAFETY: `sysconf` has no preconditions, because it only looks a number up.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).expect("the page size is known and positive")
}
