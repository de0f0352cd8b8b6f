//! The safe face: who owns what, and when.

use libtest_mimic::Trial;

/// The tests.
pub fn tests() -> Vec<Trial> {
    vec![]
}
