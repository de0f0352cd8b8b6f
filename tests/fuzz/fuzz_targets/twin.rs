//! Runs the body `twin` over the inputs of libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| annulus_fuzz::bodies::twin::run(data));
