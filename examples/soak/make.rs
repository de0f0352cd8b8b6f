//! A random ring, and what is registered with it.
//!
//! | kind | is |
//! |---|---|
//! | plain, recommended | of 2 to 256 entries |
//! | cooperating, deferring | work of completions is run when the thread enters, or only if it asks |
//! | small | a completion queue that is as short as the submission queue, and overflows |
//! | polled | the kernel takes entries by a thread of its own |
//! | large | entries of 128 bytes, completions of 32 |

use std::thread;
use std::time::Duration;

use annulus::raw::register::{Consumption, RingMemory};
use annulus::sys::flags::SetupFlags;
use annulus::{Ring, Setup, SetupError};

use super::chance::Chance;
use super::desk::Desk;
use super::trouble::{Trouble, lease};

/// How long a ring that goes waits for its operations; they all end long before.
pub const LONG: Duration = Duration::from_secs(100);

/// A desk with a random ring, and perhaps pools and a table.
pub fn desk(chance: &mut Chance) -> Result<Desk, Trouble> {
    let mut ring: Ring<u64> =
        patient(|| setup(&mut chance.clone()).build_for()).or_else(|error| match error {
            // This kernel is older.
            SetupError::Unsupported { .. } => patient(|| Setup::plain(8).build_for()),
            error => Err(error),
        })?;
    chance.next();
    ring.set_drop_timeout(LONG);
    let mut desk = Desk::new(ring, Chance::new(chance.next()));
    for _ in 0..chance.below(3) {
        let (count, size) = (chance.among(&[1, 2, 8, 32]), chance.among(&[16, 100, 4096]));
        let memory = chance.among(&[RingMemory::User, RingMemory::User, RingMemory::Kernel]);
        let used = match chance.below(2) {
            0 => Consumption::Whole,
            _ => Consumption::Incremental { min_left: 0 },
        };
        let made = desk.ring.buf_ring_with(count, size, memory, used);
        desk.pools.extend(lease(made)?);
    }
    if chance.one_in(2) {
        let size = chance.among(&[64, 4096]);
        desk.fixed = lease(desk.ring.fixed_pool(4, size))?;
    }
    if chance.one_in(2) {
        desk.table = lease(desk.ring.file_table(8))?;
    }
    Ok(desk)
}

/// A random choice of sizes and flags.
pub fn setup(chance: &mut Chance) -> Setup<'static> {
    let entries = chance.among(&[2, 4, 8, 16, 64, 256]);
    let setup = Setup::plain(entries);
    match chance.below(16) {
        0..=2 => setup,
        3..=5 => Setup::new(entries),
        6..=7 => setup.with(SetupFlags::COOP_TASKRUN | SetupFlags::TASKRUN_FLAG),
        8..=10 => setup.with(SetupFlags::SINGLE_ISSUER | SetupFlags::DEFER_TASKRUN),
        11..=12 => setup.cq_entries(entries),
        13 => Setup::new(4).cq_entries(4),
        14 => setup.with(SetupFlags::SQE128 | SetupFlags::CQE32),
        _ => setup.sqpoll(Duration::from_millis(1)),
    }
}

/// Tries again for a while when memory is lacking: rings that went give theirs back a little late.
pub fn patient<T>(mut make: impl FnMut() -> Result<T, SetupError>) -> Result<T, SetupError> {
    for _ in 0..40 {
        match make() {
            Err(SetupError::LockedMemory { .. } | SetupError::OutOfMemory { .. }) => {
                thread::sleep(Duration::from_millis(5));
            }
            result => return result,
        }
    }
    make()
}
