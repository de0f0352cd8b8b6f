//! Being written.

use libtest_mimic::Trial;

/// The tests.
pub fn tests() -> Vec<Trial> {
    Vec::new()
}
