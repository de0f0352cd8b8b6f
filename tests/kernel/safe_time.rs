//! Timeouts, polls, cancels and messages, safe face.

use libtest_mimic::Trial;

/// The tests.
pub fn tests() -> Vec<Trial> {
    vec![]
}
