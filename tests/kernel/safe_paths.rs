//! Operations on paths and bytes, safe face: what each does, how each fails, and that all comes
//! back.
//!
//! | module | operations |
//! |---|---|
//! | `advice` | `Fadvise`, `SyncFileRange` |
//! | `attributes` | `Getxattr`, `Fgetxattr`, `Setxattr`, `Fsetxattr` |
//! | `memory` | `Madvise` |
//! | `names` | `RenameAt`, `UnlinkAt`, `MkdirAt`, `SymlinkAt`, `LinkAt` |
//! | `splices` | `Splice`, `Tee` |

#[path = "safe_paths/advice.rs"]
mod advice;
#[path = "safe_paths/attributes.rs"]
mod attributes;
#[path = "safe_paths/memory.rs"]
mod memory;
#[path = "safe_paths/names.rs"]
mod names;
#[path = "safe_paths/splices.rs"]
mod splices;

use libtest_mimic::Trial;

/// The tests.
pub fn tests() -> Vec<Trial> {
    [advice::tests(), attributes::tests(), memory::tests(), names::tests(), splices::tests()]
        .into_iter()
        .flatten()
        .collect()
}
