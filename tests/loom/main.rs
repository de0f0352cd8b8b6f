//! The rings under every interleaving that loom can think of: our halves in one thread, the
//! kernel's in another.
//!
//! ```text
//!   loom/model.rs       runs a model, and prints how many executions it took
//!   loom/submission.rs  SQ3, SQ4            loom/completion.rs  CQ3, CQ4, and both rings at once
//!   loom/buffers.rs     BR1, BR2            loom/wakeup.rs      SQ5
//!   loom/classics.rs    published listings of the ring protocol, which must fail
//! ```
//!
//! ```sh
//! RUSTFLAGS="--cfg loom" cargo test --release --test loom
//! ```
//!
//! Under `--cfg loom` the atomics of `sys::orderings` are loom's and the slots loom's cells,
//! so a load may return any value that the memory model allows, and two unordered accesses to a
//! slot are a failure. Loom has limits: it never lets a load see a store that comes later (load
//! buffering), and it treats SeqCst loads and stores as Acquire and Release; SeqCst fences, of
//! which SQ5 is one, it models.
#![cfg(loom)]
#![allow(unsafe_code, reason = "pushes entries that point to nothing")]

#[path = "../support/mod.rs"]
mod support;

mod buffers;
mod classics;
mod completion;
mod model;
mod submission;
mod wakeup;
