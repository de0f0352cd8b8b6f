//! The network beyond one buffer, and commands: each operation for what it does, and for what comes
//! back when it fails.
//!
//! ```text
//!   bundles.rs      many buffers from one completion
//!   commands.rs     sockets: how much waits, options, addresses
//!   datagrams.rs    messages without end
//!   drivers.rs      raw: commands to drivers, discard, times of sending, zero-copy receive
//!   hints.rs        whether more waits, files of the table
//!   send_bundles.rs what is queued, in order
//!   sends.rs        several buffers, registered buffers
//! ```
//!
//! What a kernel cannot do is found by trying once, as the crate does it.

use libtest_mimic::Trial;

#[path = "safe_network/bundles.rs"]
mod bundles;
#[path = "safe_network/commands.rs"]
mod commands;
#[path = "safe_network/datagrams.rs"]
mod datagrams;
#[path = "safe_network/drivers.rs"]
mod drivers;
#[path = "safe_network/hints.rs"]
mod hints;
#[path = "safe_network/send_bundles.rs"]
mod send_bundles;
#[path = "safe_network/sends.rs"]
mod sends;

/// The tests.
pub fn tests() -> Vec<Trial> {
    let modules = [
        bundles::tests(),
        commands::tests(),
        datagrams::tests(),
        drivers::tests(),
        hints::tests(),
        send_bundles::tests(),
        sends::tests(),
    ];
    modules.into_iter().flatten().collect()
}
