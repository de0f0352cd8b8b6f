//! A runtime for `async` code, and an echo server on it: what `10_mini_runtime` runs on Linux, and
//! `simulate_runtime`, unchanged, on a simulated kernel.
//!
//! ```text
//!   ready      the queue of ready tasks, and the wakers that put them there
//!   runtime    tasks: spawned, polled in rounds, joined, dropped
//!   echo       a server and its clients
//! ```

pub mod echo;
mod ready;
mod runtime;

pub use runtime::Runtime;
