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

mod harness;

mod adopt;
mod buffer_rings;
mod capabilities;
mod completions;
mod denied;
mod devices;
mod disabled;
mod forks;
mod handle;
mod layouts;
mod moving;
mod notify;
#[path = "wait_options.rs"]
mod options;
mod peer_bugs;
mod processes;
mod registrations;
mod resize;
mod safe_claims;
mod safe_core;
mod safe_end;
mod safe_event_loop;
mod safe_files;
mod safe_lane;
mod safe_leases;
mod safe_network;
mod safe_paths;
mod safe_processes;
mod safe_scope;
mod safe_sender;
mod safe_sockets;
mod safe_time;
mod safe_unticketed;
mod sqpoll;
mod submission;
mod tally;
mod threads;
mod waiting;
mod watched;

fn main() {
    if let Ok(part) = std::env::var("ANNULUS_CHILD") {
        let parts = [
            adopt::PARTS,
            capabilities::PARTS,
            denied::PARTS,
            disabled::PARTS,
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
        adopt::tests(),
        buffer_rings::tests(),
        capabilities::tests(),
        completions::tests(),
        denied::tests(),
        devices::tests(),
        disabled::tests(),
        forks::tests(),
        handle::tests(),
        layouts::tests(),
        moving::tests(),
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
        safe_lane::tests(),
        safe_leases::tests(),
        safe_paths::tests(),
        safe_network::tests(),
        safe_processes::tests(),
        safe_scope::tests(),
        safe_sender::tests(),
        safe_sockets::tests(),
        safe_time::tests(),
        safe_unticketed::tests(),
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
