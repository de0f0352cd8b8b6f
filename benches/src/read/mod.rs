//! Reads of 4 KiB at random from a file, with so many in flight: from the page cache, or past it.
//!
//! | module | contenders |
//! |---|---|
//! | `ours` | the ways of annulus |
//! | `peers` | `pread`, threads, libaio, `io-uring`, tokio |
//! | `fio` | the program `fio`, with three of its engines, where it is installed |
//!
//! Each contender but `fio` reads the same blocks, and adds up a number that stands in each block:
//! the block's own, so a wrong or missing block shows.

mod fio;
mod ours;
mod peers;

use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::measure::race;
use crate::table::Report;

const BLOCK: usize = 4096;
const BLOCKS: u64 = 16384; // 64 MiB

/// Where a block is read into: aligned, as reads past the page cache want it.
#[repr(align(4096))]
struct Block([u8; BLOCK]);

impl Block {
    fn zeroed(count: u32) -> Vec<Box<Self>> {
        (0..count).map(|_| Box::new(Self([0; BLOCK]))).collect()
    }
}

/// Which block is read as the `index`th: they are far apart, and each comes as often as the others.
fn place(index: u64) -> u64 {
    let mixed = (index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 33 & (BLOCKS - 1)
}

/// The offset of that block.
fn offset(index: u64) -> u64 {
    place(index) * BLOCK as u64
}

/// The number that stands in a block.
fn number(block: &[u8]) -> u64 {
    u64::from_ne_bytes(block[..8].try_into().expect("a block is longer"))
}

/// The sum of the numbers of the first `count` blocks.
fn expected(count: u64) -> u64 {
    (0..count).map(place).sum()
}

/// A file whose blocks begin with their number. It is removed at the end.
struct Blocks {
    path: PathBuf,
    file: Rc<File>,
}

impl Blocks {
    /// Fills a file in the folder `dir`, and opens it as asked.
    fn new(dir: &Path, direct: bool) -> Result<Self, String> {
        let path = dir.join(format!("annulus-bench-{}", std::process::id()));
        let failed = |error| format!("{}: {error}", path.display());
        let mut block = vec![0; BLOCK];
        let filled = File::create(&path).map_err(failed)?;
        for number in 0..BLOCKS {
            block[..8].copy_from_slice(&number.to_ne_bytes());
            filled.write_all_at(&block, number * BLOCK as u64).map_err(failed)?;
        }
        filled.sync_all().map_err(failed)?;
        let flags = if direct { rustix::fs::OFlags::DIRECT.bits().cast_signed() } else { 0 };
        let opened = File::options().read(true).custom_flags(flags).open(&path);
        let opened = opened.inspect_err(|_| drop(std::fs::remove_file(&path)));
        let file = Rc::new(opened.map_err(failed)?);
        Ok(Self { path, file })
    }
}

impl Drop for Blocks {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Reads from a file in `dir`; past the page cache, if `direct`.
pub fn run(dir: &Path, direct: bool, depths: &[u32], samples: u32) -> Result<Report, String> {
    let blocks = Blocks::new(dir, direct)?;
    let file = &blocks.file;
    let fio = fio::Fio::find(&blocks.path, direct);
    let section = |&depth: &u32| {
        let mut contenders = peers::all(file, depth);
        contenders.extend(ours::all(file, depth));
        contenders.extend(fio.iter().flat_map(|fio| fio.contenders(depth)));
        (format!("depth {depth}"), race(contenders, 30, samples))
    };
    let mut notes = vec![
        "pread reads one block after the other, whatever the depth; so does fio's psync".to_owned(),
        "fio checks no block, and measures itself".to_owned(),
    ];
    notes.extend(fio.is_none().then(|| "fio is not installed, and left out".to_owned()));
    let title = if direct {
        "Reads of 4 KiB at random, past the page cache (O_DIRECT)"
    } else {
        "Reads of 4 KiB at random, from the page cache"
    };
    Ok(Report { title, unit: "read", sections: depths.iter().map(section).collect(), notes })
}
