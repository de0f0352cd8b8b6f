//! Registrations: each register call for its effect, and for what it says to a wrong argument.
//!
//! The calls of a ring's own life are tested where that life is: `threads` (enable), `notify`
//! (eventfd, ring descriptors), `capabilities` (probe), `buffer_rings`, `safe_sender` (messages),
//! `resize`. Which test is whose stands at the head of `src/register.rs`.

use libtest_mimic::Trial;

#[path = "registrations/buffers.rs"]
mod buffers;
#[path = "registrations/busy.rs"]
mod busy;
#[path = "registrations/cancel.rs"]
mod cancel;
#[path = "registrations/files.rs"]
mod files;
#[path = "registrations/people.rs"]
mod people;
#[path = "registrations/region.rs"]
mod region;
#[path = "registrations/workers.rs"]
mod workers;

/// The tests.
pub fn tests() -> Vec<Trial> {
    let topics = [
        buffers::tests(),
        busy::tests(),
        cancel::tests(),
        files::tests(),
        people::tests(),
        region::tests(),
        workers::tests(),
    ];
    topics.into_iter().flatten().collect()
}
