//! The network beyond one buffer, and commands: each operation for what it does, and for what comes
//! back when it fails.
//!
//! ```text
//!   commands.rs     sockets: how much waits, options, addresses
//!   drivers.rs      raw: commands to drivers, discard, times of sending, zero-copy receive
//!   sends.rs        several buffers, registered buffers
//! ```
//!
//! What a kernel cannot do is found by trying once, as the crate does it.

use libtest_mimic::Trial;

#[path = "safe_network/commands.rs"]
mod commands;
#[path = "safe_network/drivers.rs"]
mod drivers;
#[path = "safe_network/sends.rs"]
mod sends;

/// The tests.
pub fn tests() -> Vec<Trial> {
    let modules = [commands::tests(), drivers::tests(), sends::tests()];
    modules.into_iter().flatten().collect()
}
