//! Memory pages: their sizes, and the advice that gives a forked child zeroes in place of our data.
//!
//! Leaves to others: whole mappings (`map`).
#![allow(unsafe_code, reason = "asks the system for the page size, and advises it on memory")]

use std::{fs, io};

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

/// The size of a huge page of the default size, in bytes: that of the pool that `vm.nr_hugepages`
/// fills. 2 MiB on x86_64 and aarch64, but 32 MiB where an ordinary page has 16 KiB, and whatever
/// `default_hugepagesz` names on the kernel's command line.
pub fn huge_page_size() -> usize {
    // Where nothing says it, the most common size. If that were wrong, the kernel would round up
    // what we map, and refuse to unmap it.
    fs::read_to_string("/proc/meminfo").ok().and_then(|info| default_size(&info)).unwrap_or(2 << 20)
}

/// The default size of a huge page in what `/proc/meminfo` says.
fn default_size(meminfo: &str) -> Option<usize> {
    let size = meminfo.lines().find_map(|line| line.strip_prefix("Hugepagesize:"))?;
    let kib: usize = size.trim().strip_suffix(" kB")?.parse().ok()?;
    kib.checked_mul(1 << 10).filter(|size| size.is_power_of_two())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_size_of_huge_pages_is_what_the_kernel_says() {
        let size = |kib: &str| {
            default_size(&format!(
                "HugePages_Surp:        0\nHugepagesize:{kib} kB\nHugetlb: 0 kB\n"
            ))
        };
        assert_eq!(size("       2048"), Some(2 << 20));
        assert_eq!(size("      32768"), Some(32 << 20));
        assert_eq!(size("    1048576"), Some(1 << 30));
        assert_eq!(size("         64"), Some(64 << 10));
        for nonsense in ["", "      2000", "          0", "  -1", "18446744073709551615"] {
            assert_eq!(size(nonsense), None, "{nonsense:?}");
        }
        // As where huge pages are not built in.
        assert_eq!(default_size("MemTotal:        1 kB\n"), None);
        assert!(huge_page_size().is_power_of_two());
    }
}
