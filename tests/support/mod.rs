//! What several test binaries share.
#[cfg(not(loom))]
pub mod backend;
pub mod fake_buffers;
pub mod fake_kernel;
#[cfg(not(loom))]
pub mod memory;
pub mod panics;
