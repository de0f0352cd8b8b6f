//! Operations as futures: on this kernel, inside other executors, and on the simulated kernel.
//!
//! | held against | in |
//! |---|---|
//! | this kernel, with an executor of a few lines | `linux` |
//! | tokio and async-io, which poll the ring's descriptor | `inside` |
//! | this kernel, as a hostile reader would | `reviewed` |
//! | 10,000 seeds: tasks that are dropped, forgotten, or panic at any await | `seeds` |
//!
//! What it cannot show: that an executor polls a task that was woken.

mod inside;
mod linux;
mod reviewed;
mod seeds;
mod tasks;
