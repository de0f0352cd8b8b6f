//! Operations on paths and bytes, safe face: what each does, how each fails, and that all comes
//! back.
//!
//! | module | operations |
//! |---|---|
//! | `names` | `RenameAt`, `UnlinkAt`, `MkdirAt`, `SymlinkAt`, `LinkAt` |

#[path = "safe_paths/names.rs"]
mod names;

use libtest_mimic::Trial;

/// The tests.
pub fn tests() -> Vec<Trial> {
    [names::tests()].into_iter().flatten().collect()
}
