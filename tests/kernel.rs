//! Tests that need a real kernel: each on the oldest kernel that can run it, and on all newer ones.
//!
//! | | |
//! |---|---|
//! | `cargo test --test kernel` | on this kernel |
//! | `tests/kernels/run 5.10 7.3` | on others, in QEMU |
//!
//! A test says what it needs ([`Need`]). Where the kernel lacks that, the test is not run and
//! counts as ignored, with the reason in its line: `test [needs Linux 6.18: CQE_MIXED] … ignored`.
//! Some run in a child process of this program, which finds its part in `ANNULUS_CHILD`.

use libtest_mimic::{Arguments, Conclusion};

#[path = "kernel/harness.rs"]
mod harness;

#[path = "kernel/buffer_rings.rs"]
mod buffer_rings;
#[path = "kernel/capabilities.rs"]
mod capabilities;
#[path = "kernel/completions.rs"]
mod completions;
#[path = "kernel/denied.rs"]
mod denied;
#[path = "kernel/devices.rs"]
mod devices;
#[path = "kernel/forks.rs"]
mod forks;
#[path = "kernel/layouts.rs"]
mod layouts;
#[path = "kernel/notify.rs"]
mod notify;
#[path = "kernel/wait_options.rs"]
mod options;
#[path = "kernel/peer_bugs.rs"]
mod peer_bugs;
#[path = "kernel/processes.rs"]
mod processes;
#[path = "kernel/registrations.rs"]
mod registrations;
#[path = "kernel/resize.rs"]
mod resize;
#[path = "kernel/safe_claims.rs"]
mod safe_claims;
#[path = "kernel/safe_core.rs"]
mod safe_core;
#[path = "kernel/safe_end.rs"]
mod safe_end;
#[path = "kernel/safe_event_loop.rs"]
mod safe_event_loop;
#[path = "kernel/safe_files.rs"]
mod safe_files;
#[path = "kernel/safe_leases.rs"]
mod safe_leases;
#[path = "kernel/safe_network.rs"]
mod safe_network;
#[path = "kernel/safe_paths.rs"]
mod safe_paths;
#[path = "kernel/safe_processes.rs"]
mod safe_processes;
#[path = "kernel/safe_scope.rs"]
mod safe_scope;
#[path = "kernel/safe_sender.rs"]
mod safe_sender;
#[path = "kernel/safe_sockets.rs"]
mod safe_sockets;
#[path = "kernel/safe_time.rs"]
mod safe_time;
#[path = "kernel/sqpoll.rs"]
mod sqpoll;
#[path = "kernel/submission.rs"]
mod submission;
#[path = "kernel/tally.rs"]
mod tally;
#[path = "kernel/threads.rs"]
mod threads;
#[path = "kernel/waiting.rs"]
mod waiting;
#[path = "kernel/watched.rs"]
mod watched;

fn main() {
    if let Ok(part) = std::env::var("ANNULUS_CHILD") {
        let parts = [
            capabilities::PARTS,
            denied::PARTS,
            forks::PARTS,
            notify::PARTS,
            processes::PARTS,
            registrations::PARTS,
            safe_end::PARTS,
            safe_leases::PARTS,
            safe_processes::PARTS,
            safe_processes::FUTEXES,
            safe_paths::PARTS,
            safe_scope::PARTS,
            safe_sender::PARTS,
            threads::PARTS,
        ];
        harness::play(&part, &parts.concat());
    }
    conclude().exit();
}

fn conclude() -> Conclusion {
    let arguments = Arguments::from_args();
    let modules = [
        buffer_rings::tests(),
        capabilities::tests(),
        completions::tests(),
        denied::tests(),
        devices::tests(),
        forks::tests(),
        layouts::tests(),
        notify::tests(),
        options::tests(),
        peer_bugs::tests(),
        processes::tests(),
        registrations::tests(),
        resize::tests(),
        safe_claims::tests(),
        safe_core::tests(),
        safe_end::tests(),
        safe_event_loop::tests(),
        safe_files::tests(),
        safe_leases::tests(),
        safe_paths::tests(),
        safe_network::tests(),
        safe_processes::tests(),
        safe_scope::tests(),
        safe_sender::tests(),
        safe_sockets::tests(),
        safe_time::tests(),
        sqpoll::tests(),
        submission::tests(),
        threads::tests(),
        waiting::tests(),
    ];
    // Of all the others, and where no ring can be made, of none.
    let last = if harness::has_rings() { tally::tests() } else { Vec::new() };
    let conclusion =
        libtest_mimic::run(&arguments, modules.into_iter().flatten().chain(last).collect());
    tally::print();
    conclusion
}
