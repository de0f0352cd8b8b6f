//! Runs the body `linux` over the inputs of libFuzzer.
#![no_main]
#![allow(unsafe_code, reason = "sets what a signal does")]

libfuzzer_sys::fuzz_target!(
    init: {
        // A write to what nobody reads is to fail, as in every Rust program; without a Rust `main`
        // it would end the process.
        // SAFETY: SIGPIPE has no handler of ours, and to ignore it needs none.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    },
    |data: &[u8]| annulus_fuzz::bodies::linux::run(data)
);
