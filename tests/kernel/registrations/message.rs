//! A message without a ring becomes a completion of another.
#![allow(unsafe_code, reason = "writes another ring's completions")]

use std::io::pipe;
use std::os::fd::{AsFd, BorrowedFd};
use std::thread;

use annulus::Setup;
use annulus::lease::RegisterError;
use annulus::raw::register::send_message;
use annulus::sys::opcode::RegisterOp;
use annulus::sys::syscall::RingFd;
use libtest_mimic::{Failed, Trial};

use crate::harness::{Need, drain, here, patient, ring, test};

const SENDS: [Need; 1] = [Need::Register(RegisterOp::SEND_MSG_RING)];

pub fn tests() -> Vec<Trial> {
    vec![
        test("a_message_without_a_ring_is_a_completion", &SENDS, arrives),
        test("what_is_no_ring_gets_no_message", &SENDS, no_ring),
        test("a_message_without_a_ring_before_6_13_says_so", &[Need::Other(sends)], says_so),
    ]
}

fn sends() -> Option<String> {
    let has = here().has_register(RegisterOp::SEND_MSG_RING);
    has.then(|| "needs a kernel without SEND_MSG_RING".to_owned())
}

fn send(to: BorrowedFd<'_>, word: u64, result: u32) -> Result<(), RegisterError> {
    // SAFETY: the rings of these tests have no request that the `user_data` could name (OP2).
    unsafe { send_message(to, word, result) }
}

fn arrives() -> Result<(), Failed> {
    let mut ring = ring(Setup::plain(4));
    ring.expect_others();
    let fd = ring.as_fd().try_clone_to_owned()?;
    let sender = thread::spawn(move || send(fd.as_fd(), u64::MAX, 42));
    ring.wait(1)?;
    sender.join().expect("no panic")?;
    let came: Vec<_> = drain(&mut ring).iter().map(|cqe| (cqe.user_data, cqe.res)).collect();
    assert_eq!(came, [(u64::MAX, 42)]);
    Ok(())
}

fn no_ring() -> Result<(), Failed> {
    let missing = Err(RegisterError::Missing { what: "enabled ring to send to" });
    let (reader, _writer) = pipe()?;
    assert_eq!(send(reader.as_fd(), 1, 1), missing);
    let disabled = patient(|| Setup::plain(4).build_disabled())?;
    let RingFd::Owned(fd) = disabled.rings().base().fd() else { panic!("it has one") };
    assert_eq!(send(fd.as_fd(), 1, 1), missing);
    Ok(())
}

fn says_so() -> Result<(), Failed> {
    let error = send(ring(Setup::plain(4)).as_fd(), 1, 1).unwrap_err();
    assert_eq!(error.to_string(), "SEND_MSG_RING needs Linux 6.13");
    Ok(())
}
