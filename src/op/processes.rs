//! Processes, threads and memory: children, futexes, advice.
//!
//! | module | |
//! |---|---|
//! | [`waitid`] | wait for a child |
//! | [`futex`] | wait for another thread |
//! | [`memory`] | advice about memory |
//!
//! Leaves to others: signals (read a `signalfd` like any file).

pub mod futex;
pub mod memory;
pub mod waitid;
