//! Bytes of files: read, write, move, and make them durable.
//!
//! | module | |
//! |---|---|
//! | [`file`](mod@file) | [`Read`](crate::op::Read), [`Write`](crate::op::Write): one buffer |
//! | [`vectored`] | several buffers |
//! | [`fixed`], [`parts`] | registered buffers |
//! | [`provided`] | a buffer that the kernel selects |
//! | [`splice`] | from file to file through a pipe |
//! | [`durable`] | sync, reserve space, truncate |
//! | [`advice`] | how a file will be used |
//!
//! Leaves to others: what is sent and received on sockets (`sockets`).

pub mod advice;
pub mod durable;
pub mod file;
pub mod fixed;
pub mod parts;
pub mod provided;
pub mod splice;
pub mod vectored;
