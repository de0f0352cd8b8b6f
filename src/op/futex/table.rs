//! The process's own table of who waits at futexes: made before the first wait, so that none is
//! overlooked when the kernel makes it.
//!
//! ```text
//!   wait ─► a table of its own? ─┬─ not on this kernel, or it is there ─► nothing
//!                                └─ not yet ─► it is made
//! ```
//!
//! Asked once in each process: a forked child begins without.
#![allow(unsafe_code, reason = "makes calls that std has not")]

use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use annulus_sys::flags_futex::FutexFlags;

/// `PR_FUTEX_HASH`, since Linux 6.16; and what can be done about it.
const PR_FUTEX_HASH: i32 = 78;
const SET_SLOTS: u64 = 1;
const GET_SLOTS: u64 = 2;

/// The process that has been seen to.
static SETTLED: AtomicU32 = AtomicU32::new(0);

/// Sees to it that a wait with these flags is found by those who wake.
pub(super) fn settle(flags: FutexFlags) {
    if !flags.contains(FutexFlags::PRIVATE) {
        return;
    }
    // Two threads may both ask: then the process has its table, or it is made once.
    let this = process::id();
    if SETTLED.load(Ordering::Relaxed) != this {
        make();
        SETTLED.store(this, Ordering::Relaxed);
    }
}

fn make() {
    // An error: the kernel has no such thing.
    if call(GET_SLOTS, 0) == 0 {
        call(SET_SLOTS, slots());
    }
}

/// How many the kernel would make for a process with as many threads as there are processors: it
/// takes no more, however many there are.
fn slots() -> u64 {
    let processors = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (4 * processors as u64).next_power_of_two().max(16)
}

fn call(what: u64, slots: u64) -> i32 {
    // SAFETY: numbers only, because neither call is given an address; no other waits are disturbed,
    // because `prctl(2)` moves them.
    unsafe { libc::prctl(PR_FUTEX_HASH, what, slots, 0_u64, 0_u64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_wait_of_this_process_wants_a_table() {
        SETTLED.store(0, Ordering::Relaxed);
        settle(FutexFlags::SIZE_U32);
        assert_eq!(SETTLED.load(Ordering::Relaxed), 0);
        settle(FutexFlags::SIZE_U32.union(FutexFlags::PRIVATE));
        assert_eq!(SETTLED.load(Ordering::Relaxed), process::id());
        assert_ne!(call(GET_SLOTS, 0), 0, "there is a table, or no such thing");
    }
}
