//! Registered buffers.

/// A pool.
#[derive(Debug)]
pub struct FixedPool;
/// A buffer.
#[derive(Debug)]
pub struct FixedBuf;
