//! Leases: registered buffers, buffer rings and registered files.
//!
//! ```text
//!   leased ──┬── dropped ─────────────────────────────► back, once
//!            ├── its operation fails, is cancelled ───► back, once
//!            ├── its operation is detached ───────────► back when it completes
//!            └── the ring goes first ─────────────────► memory, and nothing else
//! ```
//!
//! Tests that fork run in a process of their own, since fork copies only one thread.
#![allow(unsafe_code, reason = "forks")]

use std::io::{PipeReader, PipeWriter};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use annulus::lease::RegisterError;
use annulus::{Rejected, Rejection, Ring, Setup};
use libtest_mimic::{Failed, Trial};

use crate::harness::{Part, safe_ring};

#[path = "safe_leases/alone.rs"]
mod alone;
#[path = "safe_leases/buf_ring.rs"]
pub mod buf_ring;
#[path = "safe_leases/direct.rs"]
mod direct;
#[path = "safe_leases/failing.rs"]
mod failing;
#[path = "safe_leases/fixed_buf.rs"]
mod fixed_buf;
#[path = "safe_leases/fixed_file.rs"]
mod fixed_file;
#[path = "safe_leases/order.rs"]
mod order;
#[path = "safe_leases/read_multi.rs"]
mod read_multi;

/// The parts that play in a child process. Where addresses are looked at, no other thread may map
/// anything meanwhile.
pub const PARTS: &[Part] = &[
    ("a forked child drops registered buffers", fixed_buf::forked_child_drops),
    ("a forked child drops provided buffers", buf_ring::forked_child_drops),
    ("a forked child drops registered files", fixed_file::forked_child_drops),
    ("registered files take no descriptors", direct::no_descriptors),
    ("fixed buffers outlive their ring", || succeed(fixed_buf::outlive_their_ring)),
    ("fixed buffers are leaked", || succeed(fixed_buf::leaked)),
    ("provided buffers are leaked", || succeed(buf_ring::leaked)),
];

/// The tests.
pub fn tests() -> Vec<Trial> {
    let modules = [
        fixed_buf::tests(),
        buf_ring::tests(),
        alone::tests(),
        failing::tests(),
        order::tests(),
        read_multi::tests(),
        fixed_file::tests(),
        direct::tests(),
    ];
    modules.into_iter().flatten().collect()
}

fn succeed(test: fn() -> Result<(), Failed>) {
    test().unwrap_or_else(|failed| panic!("{:?}", failed.message()));
}

/// A ring of 8 entries.
fn ring() -> Ring {
    safe_ring(Setup::new(8))
}

fn pipe() -> (PipeReader, PipeWriter) {
    std::io::pipe().expect("a pipe")
}

/// Runs `make` until there is enough locked memory: dropped rings give theirs back a little late.
pub fn patient<T>(mut make: impl FnMut() -> Result<T, RegisterError>) -> T {
    for _ in 0..200 {
        match make() {
            Err(RegisterError::LockedMemory { .. } | RegisterError::OutOfMemory { .. }) => {
                std::thread::sleep(Duration::from_millis(10));
            }
            result => return result.expect("it can be registered"),
        }
    }
    make().expect("there is memory for it")
}

/// The operation that `submitted` gives back, since it is for another ring.
fn of_another_ring<T, O>(submitted: Result<T, Rejected<O>>) -> O {
    let Err(rejected) = submitted else { panic!("it was submitted") };
    assert_eq!(rejected.why, Rejection::OtherRing);
    rejected.op
}

/// Whether this process has something at `place`.
fn is_mapped(place: usize) -> Result<bool, Failed> {
    for line in std::fs::read_to_string("/proc/self/maps")?.lines() {
        let (start, rest) = line.split_once('-').ok_or("a range")?;
        let (end, _) = rest.split_once(' ').ok_or("a range")?;
        let range = usize::from_str_radix(start, 16)?..usize::from_str_radix(end, 16)?;
        if range.contains(&place) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Runs `body` in a forked child, which must succeed.
fn in_a_forked_child(body: impl FnOnce()) {
    // SAFETY: this process has one thread, because it plays a part of a test.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let status = if catch_unwind(AssertUnwindSafe(body)).is_ok() { 0 } else { 101 };
        // SAFETY: ends the process and nothing else, because the parent owns what it shares.
        unsafe { libc::_exit(status) }
    }
    assert!(child > 0, "fork: {}", std::io::Error::last_os_error());
    let mut status = 0;
    // SAFETY: one live integer, because `status` is a local.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!((waited, status), (child, 0), "the child failed, or was killed");
}

/// A generator of numbers that look random: splitmix64.
struct Random(u64);

impl Random {
    /// A number below `limit`.
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let limit = u64::try_from(limit).expect("64 bits");
        usize::try_from((word ^ (word >> 31)) % limit).expect("64 bits")
    }
}
