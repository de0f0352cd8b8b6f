//! A single-issuer ring takes register calls only from its own thread.
#![allow(unsafe_code, reason = "makes a register call by hand")]

use std::ptr;
use std::sync::Arc;
use std::thread;

use annulus::Setup;
use annulus::sys::flags::SetupFlags;
use annulus::sys::opcode::RegisterOp;
use libtest_mimic::{Failed, Trial};

use crate::harness::{Need, ring, test};

pub fn tests() -> Vec<Trial> {
    let single = [Need::Setup(SetupFlags::SINGLE_ISSUER)];
    vec![test("another_thread_registers_nothing_with_a_ring_of_one_issuer", &single, another)]
}

/// By hand, since a `RawRing` is not `Send`. `src/raw/register/call.rs` tests the message for this
/// errno.
fn another() -> Result<(), Failed> {
    let ring = ring(Setup::plain(4).with(SetupFlags::SINGLE_ISSUER));
    let base = Arc::clone(ring.base());
    let there = thread::spawn(move || {
        // SAFETY: takes no argument, because `io_uring_register(2)` says so.
        unsafe { base.register(RegisterOp::PERSONALITY, ptr::null_mut(), 0) }
    });
    let refused = there.join().expect("no panic");
    assert!(refused.is_err_and(|errno| errno.is(libc::EEXIST)), "{refused:?}");
    ring.register_personality()?;
    Ok(())
}
