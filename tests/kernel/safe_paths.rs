//! Operations on paths and bytes, safe API: what each does, how each fails, and that all resources
//! come back.
//!
//! | module | operations |
//! |---|---|
//! | `advice` | `Fadvise`, `SyncFileRange` |
//! | `attributes` | `Getxattr`, `Fgetxattr`, `Setxattr`, `Fsetxattr` |
//! | `chains` | which of them break a chain when they fail |
//! | `direct` | entries of the raw API: files in the ring's table, by slot |
//! | `memory` | `Madvise` |
//! | `names` | `RenameAt`, `UnlinkAt`, `MkdirAt`, `SymlinkAt`, `LinkAt` |
//! | `parts` | `ReadVFixed`, `WriteVFixed`; attributes, raw API |
//! | `pipes` | `Pipe`, `PipeDirect`, `InstallFd`, `OpenAt2` in the table |
//! | `splices` | `Splice`, `Tee` |

#[path = "safe_paths/advice.rs"]
mod advice;
#[path = "safe_paths/attributes.rs"]
mod attributes;
#[path = "safe_paths/chains.rs"]
mod chains;
#[path = "safe_paths/direct.rs"]
mod direct;
#[path = "safe_paths/memory.rs"]
mod memory;
#[path = "safe_paths/names.rs"]
mod names;
#[path = "safe_paths/parts.rs"]
mod parts;
#[path = "safe_paths/pipes.rs"]
mod pipes;
#[path = "safe_paths/splices.rs"]
mod splices;

use libtest_mimic::Trial;

use crate::harness::Part;

/// The parts that run in a child process, in which no other thread opens files.
pub const PARTS: &[Part] = &[
    ("pipes that are not taken leave nothing", pipes::for_nobody),
    ("no more descriptors", pipes::no_more_descriptors),
];

/// The tests.
pub fn tests() -> Vec<Trial> {
    let modules = [
        advice::tests(),
        attributes::tests(),
        chains::tests(),
        direct::tests(),
        memory::tests(),
        names::tests(),
        parts::tests(),
        pipes::tests(),
        splices::tests(),
    ];
    modules.into_iter().flatten().collect()
}
