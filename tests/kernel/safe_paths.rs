//! Operations on paths and bytes, safe face: what each does, how each fails, and that all comes
//! back.
//!
//! | module | operations |
//! |---|---|
//! | `attributes` | `Getxattr`, `Fgetxattr`, `Setxattr`, `Fsetxattr` |
//! | `names` | `RenameAt`, `UnlinkAt`, `MkdirAt`, `SymlinkAt`, `LinkAt` |
//! | `splices` | `Splice`, `Tee` |

#[path = "safe_paths/attributes.rs"]
mod attributes;
#[path = "safe_paths/names.rs"]
mod names;
#[path = "safe_paths/splices.rs"]
mod splices;

use libtest_mimic::Trial;

/// The tests.
pub fn tests() -> Vec<Trial> {
    [attributes::tests(), names::tests(), splices::tests()].into_iter().flatten().collect()
}
