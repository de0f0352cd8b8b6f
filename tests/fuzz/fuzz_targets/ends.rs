//! Runs the body `ends` over the inputs of libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| annulus_fuzz::bodies::ends::run(data));
