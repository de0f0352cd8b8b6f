//! Operations that open files in the ring's table.

use libtest_mimic::Trial;

pub fn tests() -> Vec<Trial> {
    vec![]
}
