//! [`annulus::compat`] under the name of its peer.
pub use annulus::compat::*;
