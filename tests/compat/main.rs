//! `annulus::compat`: its entries are those of the stock crate `io-uring`, byte for byte, and its
//! rings do what programs expect of that crate, without its mistakes.
//!
//! | module | shows |
//! |---|---|
//! | `encoding` | every operation against `tests/data/compat_entries.tsv`, which the stock crate wrote |
//! | `queues` | pushing, iterating, splitting, sharing; queues that are forgotten; a forked child |
//! | `rings` | reads, sockets, times, wide entries, polling threads, deferred completions |
//! | `registers` | files, buffers, probes, restrictions, indices of the ring |
//! | `values` | types that no kernel is needed for |
//!
//! The suites of programs that use `io-uring` are run on it by `tests/peers/run`. What a kernel
//! lacks is reported on stderr and passes.
#![allow(unsafe_code, reason = "pushes entries, and reads their bytes")]

mod encoding;
mod entries;
mod queues;
mod registers;
mod rings;
mod values;

use annulus::compat as io_uring;

use io_uring::{IoUring, cqueue, opcode, squeue};
use std::io;

/// A ring of 8 entries.
fn ring() -> IoUring {
    IoUring::new(8).expect("a ring")
}

/// A NOP that carries `user_data`.
fn nop(user_data: u64) -> squeue::Entry {
    opcode::Nop::new().build().user_data(user_data)
}

/// Pushes, submits, and waits for the completion, which is returned.
///
/// What the entry points to must be valid until then, which every caller here sees to.
fn run(ring: &mut IoUring, entry: &squeue::Entry) -> cqueue::Entry {
    // SAFETY: valid until the completion has come, as every caller sees to it (OP1).
    unsafe { ring.submission().push(entry) }.expect("room");
    ring.submit_and_wait(1).expect("submit");
    ring.completion().next().expect("a completion")
}

/// The `user_data` of all completions that are ready.
fn taken(ring: &mut IoUring) -> Vec<u64> {
    ring.completion().map(|cqe| cqe.user_data()).collect()
}

/// What came out, unless this kernel lacks it: then the test reports that, and passes.
fn or_skip<T>(result: io::Result<T>, what: &str) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            let lacks = [libc::EINVAL, libc::ENOSYS, libc::EOPNOTSUPP, libc::EPERM];
            assert!(error.raw_os_error().is_some_and(|errno| lacks.contains(&errno)), "{error}");
            eprintln!("skipped: this kernel has no {what}: {error}");
            None
        }
    }
}
