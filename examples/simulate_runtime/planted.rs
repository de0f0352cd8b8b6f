//! The mini runtime with a planted bug: all of its files, but another queue of ready tasks.

#[path = "../mini_runtime/echo.rs"]
pub mod echo;
#[path = "planted_ready.rs"]
mod ready;
#[path = "../mini_runtime/runtime.rs"]
mod runtime;

pub use runtime::Runtime;
