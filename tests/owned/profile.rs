//! The kind of a history: who misbehaves.

/// The kind of a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// The kernel behaves as some Linux could.
    Honest,
    /// The kernel posts false completions.
    Lying,
    /// The kernel is honest, and the caller's values panic: when asked for their bytes, when told
    /// how many bytes came, or when dropped.
    Panicking,
}
