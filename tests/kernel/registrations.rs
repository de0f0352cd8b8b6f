//! Registrations: each register call for its effect, and for its error when an argument is wrong.
//!
//! Calls that other modules need are tested there: `threads` (enable), `notify` (eventfd, ring
//! descriptors), `capabilities` (probe), `buffer_rings`, `safe_sender` (messages), `resize`. The
//! head of `src/raw/register.rs` lists the test of each call.

use libtest_mimic::Trial;

use crate::harness::Part;

#[path = "registrations/buffers.rs"]
mod buffers;
#[path = "registrations/busy.rs"]
mod busy;
#[path = "registrations/cancel.rs"]
mod cancel;
#[path = "registrations/files.rs"]
mod files;
#[path = "registrations/filter.rs"]
mod filter;
#[path = "registrations/groups.rs"]
mod groups;
#[path = "registrations/message.rs"]
mod message;
#[path = "registrations/owner.rs"]
mod owner;
#[path = "registrations/people.rs"]
mod people;
#[path = "registrations/query.rs"]
mod query;
#[path = "registrations/region.rs"]
mod region;
#[path = "registrations/restrict.rs"]
mod restrict;
#[path = "registrations/workers.rs"]
mod workers;
#[path = "registrations/zcrx.rs"]
mod zcrx;

/// Parts that play in a child process.
pub const PARTS: &[Part] = workers::PARTS;

/// The tests.
pub fn tests() -> Vec<Trial> {
    let topics = [
        buffers::tests(),
        busy::tests(),
        cancel::tests(),
        files::tests(),
        filter::tests(),
        groups::tests(),
        message::tests(),
        owner::tests(),
        people::tests(),
        query::tests(),
        region::tests(),
        restrict::tests(),
        workers::tests(),
        zcrx::tests(),
    ];
    topics.into_iter().flatten().collect()
}
