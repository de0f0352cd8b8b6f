//! Network operations beyond one buffer, and commands: what each does, and which resources come
//! back when it fails.
//!
//! ```text
//!   accepts.rs      accepts that wait first, or never
//!   bundles.rs      many buffers from one completion
//!   commands.rs     sockets: how much data waits, options, addresses
//!   control.rs      control messages, sent and received
//!   datagrams.rs    multishot messages
//!   drivers.rs      raw: commands to drivers, discard, send times, zero-copy receive
//!   hints.rs        whether more data waits, files of the table
//!   lengths.rs      how long a datagram was that did not fit
//!   send_bundles.rs queued buffers, in order
//!   sends.rs        several buffers, registered buffers
//! ```
//!
//! Whether a kernel can do something is found out by trying once, like the crate does it.

use libtest_mimic::Trial;

#[path = "safe_network/accepts.rs"]
mod accepts;
#[path = "safe_network/bundles.rs"]
mod bundles;
#[path = "safe_network/commands.rs"]
mod commands;
#[path = "safe_network/control.rs"]
mod control;
#[path = "safe_network/datagrams.rs"]
mod datagrams;
#[path = "safe_network/drivers.rs"]
mod drivers;
#[path = "safe_network/hints.rs"]
mod hints;
#[path = "safe_network/lengths.rs"]
mod lengths;
#[path = "safe_network/send_bundles.rs"]
mod send_bundles;
#[path = "safe_network/sends.rs"]
mod sends;

/// The tests.
pub fn tests() -> Vec<Trial> {
    let modules = [
        accepts::tests(),
        bundles::tests(),
        commands::tests(),
        control::tests(),
        datagrams::tests(),
        drivers::tests(),
        hints::tests(),
        lengths::tests(),
        send_bundles::tests(),
        sends::tests(),
    ];
    modules.into_iter().flatten().collect()
}
