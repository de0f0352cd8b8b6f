//! Registrations: each register call for its effect, and for what it says to a wrong argument.
//!
//! The calls of a ring's own life are tested where that life is: `threads` (enable), `notify`
//! (eventfd, ring descriptors), `capabilities` (probe), `buffer_rings`, `safe_sender` (messages),
//! `resize`. Which test is whose stands at the head of `src/register.rs`.

use libtest_mimic::Trial;

#[path = "registrations/region.rs"]
mod region;

/// The tests.
pub fn tests() -> Vec<Trial> {
    [region::tests()].into_iter().flatten().collect()
}
