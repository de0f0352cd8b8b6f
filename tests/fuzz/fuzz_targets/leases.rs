//! Runs the body `leases` over the inputs of libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| annulus_fuzz::bodies::leases::run(data));
