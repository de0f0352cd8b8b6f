//! What several test binaries share.
#[cfg(not(loom))]
pub mod backend;
#[cfg(not(loom))]
pub mod bound;
pub mod fake_buffers;
pub mod fake_kernel;
#[cfg(not(loom))]
pub mod memory;
pub mod panics;
