//! What newer kernels tell of a file: attributes, its mount, limits of direct transfers.

use std::ffi::CStr;

use annulus::op::{AtomicWrite, Cwd, Stat, StatAttributes, StatMask, Statx};
use annulus::sys::opcode::Opcode;
use libtest_mimic::{Failed, Trial};

use super::{Folder, c, run, small};
use crate::harness::{Need, test};

const STATX: Need = Need::Op(Opcode::STATX);

/// Everything that is not part of `BASIC`.
const MORE: StatMask = StatMask::from_bits_retain(0x3_f800);

pub fn tests() -> Vec<Trial> {
    vec![
        test("the_root_of_a_mount_has_that_attribute", &[STATX], mount_root),
        test("what_newer_kernels_tell_is_what_the_call_tells", &[STATX], agrees),
    ]
}

/// The answer of `statx(2)`.
fn asked(path: &CStr, mask: StatMask) -> Box<Stat> {
    let mut stat = Stat::boxed();
    let out = (&raw mut *stat).cast();
    // SAFETY: a live string that ends with a zero, and memory that is as large as the kernel's
    // struct, because `Stat` has its layout.
    let done = unsafe { libc::statx(libc::AT_FDCWD, path.as_ptr(), 0, mask.bits(), out) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    stat
}

fn mount_root() -> Result<(), Failed> {
    let mut ring = small();
    let root = run(&mut ring, Statx::at(Cwd, c"/proc", Stat::boxed()));
    root.result?;
    let below = run(&mut ring, Statx::at(Cwd, c"/proc/sys", Stat::boxed()));
    below.result?;
    let attribute = StatAttributes::MOUNT_ROOT;
    let (root, below) = (root.buf.0, below.buf.0);
    let known = root.attributes_mask().contains(attribute);
    assert_eq!(root.has(attribute), known.then_some(true), "Linux 5.8 tells");
    assert_eq!(below.attributes_mask().contains(attribute), known);
    if known {
        assert_eq!(below.has(attribute), asked(c"/proc/sys", StatMask::KIND).has(attribute));
    }
    Ok(())
}

fn agrees() -> Result<(), Failed> {
    let mut ring = small();
    let folder = Folder::new();
    drop(folder.file("told", &[5; 8192]));
    let path = c(&folder.path("told"));
    let statx = Statx::at(Cwd, path, Stat::boxed()).want(StatMask::BASIC | MORE);
    let statx = run(&mut ring, statx);
    statx.result?;
    let (stat, path) = statx.buf;
    let wanted = asked(&path, StatMask::BASIC | MORE);
    assert_eq!((stat.mask(), stat.mount()), (wanted.mask(), wanted.mount()));
    assert_eq!(stat.attributes(), wanted.attributes());
    assert_eq!(stat.attributes_mask(), wanted.attributes_mask());
    assert_eq!((stat.subvolume(), stat.dio()), (wanted.subvolume(), wanted.dio()));
    assert_eq!(stat.dio_read_offset_align(), wanted.dio_read_offset_align());
    assert_eq!(stat.atomic_write(), wanted.atomic_write());
    if let Some(AtomicWrite { unit_min, unit_max, unit_max_opt, segments_max }) =
        stat.atomic_write()
    {
        assert!(unit_min <= unit_max_opt && unit_max_opt <= unit_max);
        assert!(unit_min.is_power_of_two() && unit_max.is_power_of_two());
        assert!(segments_max > 0);
    }
    Ok(())
}
