//! Registered buffers, buffer rings and registered files.

use libtest_mimic::Trial;

/// The tests.
pub fn tests() -> Vec<Trial> {
    vec![]
}
