//! What a library for io_uring is for, in numbers that do not depend on the machine's speed: how
//! often the kernel is called, and how often the words are touched that are shared with it.
//!
//! | counted | for | in |
//! |---|---|---|
//! | system calls | 1,000 echoes, at each step of the echo ladder | `ladder`, `bursts` |
//! | system calls | a copy of 2,048 blocks, 32 at a time | `copies` |
//! | system calls | nothing to do, and connections to accept | `calls` |
//! | Release stores and Acquire loads | a flush, a drain, a turn | `accesses` |
//! | allocations | operations of every kind: none | `tests/allocations` |
//!
//! All on real rings. The calls are counted where they are made (`linux`); with strace at hand,
//! `calls` counts them from outside as well. Needs Linux 6.1, whose rings defer their completions.

#[cfg(target_arch = "x86_64")]
mod accesses;
mod bursts;
mod calls;
mod copies;
mod ladder;
mod linux;
mod sockets;
#[cfg(target_arch = "x86_64")]
mod trap;

use annulus::sys::abi::Sqe;
use annulus::{RawRing, prep};

/// What is in `Ok`; else says why nothing is counted, and returns.
macro_rules! or_skip {
    ($wanted:expr) => {
        match $wanted {
            Ok(wanted) => wanted,
            Err(why) => {
                // Where the test's runner does not hide it.
                let said = std::io::Write::write_all(
                    &mut std::io::stderr(),
                    format!("not counted: {why}\n").as_bytes(),
                );
                return said.expect("stderr");
            }
        }
    };
}
pub(crate) use or_skip;

/// Pushes so many NOPs.
#[allow(unsafe_code, reason = "vouches for NOPs")]
fn nops(ring: &mut RawRing, count: u64) {
    for user_data in 0..count {
        // SAFETY: points to nothing (OP1).
        unsafe { ring.push(Sqe { user_data, ..prep::nop() }) }.expect("room");
    }
}
