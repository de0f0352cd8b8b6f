//! Solutions of chapter 10: what ends an operation, and what does not.
#![allow(unsafe_code, reason = "pushes a read into memory that lives forever")]

use std::io::Write as _;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::Duration;

use annulus::op::{Cancel, CancelOutcome, Nop, Op as _, Read};
use annulus::sim::{Faults, Sim};
use annulus::{Setup, prep};

use crate::{raw, ring};

// ANCHOR: close
#[test]
fn a_read_goes_on_when_its_descriptor_is_closed() {
    let Some(mut ring) = raw(Setup::new(8)) else { return };
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    let bytes: &'static mut [u8; 8] = Box::leak(Box::new([0; 8]));
    let addr = bytes.as_mut_ptr().expose_provenance() as u64;
    // SAFETY: the bytes live forever, and nothing else uses them (OP1).
    unsafe { ring.push(prep::read(reader.as_raw_fd(), addr, 8, u64::MAX)) }.expect("room");
    ring.submit().expect("it is taken");
    drop(reader);
    // The request has the file, so the pipe still has a reader.
    assert_eq!(writer.write(b"still").expect("no EPIPE"), 5);
    ring.wait(1).expect("it completes");
    assert_eq!(ring.pop().map(|cqe| cqe.res), Some(5));
    // It was the last one.
    assert!(writer.write(b"now").is_err());
}
// ANCHOR_END: close

// ANCHOR: leak
/// How many owners a pipe has after the ring with a read of it was dropped. The kernel takes a
/// moment for each operation, also for a cancel; the ring waits so long.
fn owners(patience: Duration) -> usize {
    let slow = Faults { delay: 1_000, longest: Duration::from_millis(2), ..Faults::NONE };
    let sim = Sim::with_faults(1, slow);
    let mut ring = Setup::new(8).kernel(sim.kernel()).build().expect("a simulated ring");
    ring.set_drop_timeout(patience);
    let (silent, _writer) = sim.pipe().expect("a pipe");
    let silent = Rc::new(silent);
    let read = ring.submit(Read::new(Rc::clone(&silent), [0; 8])).expect("room");
    ring.submit_all().expect("it is taken");
    ring.detach(read);
    drop(ring);
    Rc::strong_count(&silent)
}

#[test]
fn a_ring_leaks_what_it_may_not_wait_for_and_nothing_else() {
    assert_eq!(owners(Duration::from_secs(1)), 1, "the read has ended, and let go of the pipe");
    assert_eq!(owners(Duration::ZERO), 2, "the kernel may still use the buffer: nobody else may");
}
// ANCHOR_END: leak

// ANCHOR: worker
#[test]
fn what_a_worker_runs_is_interrupted() {
    let Some(mut ring) = ring(Setup::new(8)) else { return };
    let (silent, _writer) = std::io::pipe().expect("a pipe");
    let read = ring.submit(Read::new(silent, [0; 8]).forced()).expect("room");
    ring.submit_all().expect("it is taken");
    let cancel = ring.submit(Cancel::ticket(&read)).expect("room");
    let said = ring.wait(cancel).expect("it goes on");
    // Cancelled: the worker had not begun. Too late: it had.
    let known = matches!(said, CancelOutcome::Cancelled(1) | CancelOutcome::TooLate);
    assert!(known || matches!(said, CancelOutcome::NotFound), "{said:?}");
    if !known {
        // Some kernels miss one in the moment in which its worker begins: once more.
        ring.cancel(&read).expect("it goes on");
    }
    let error = ring.wait(read).expect("it goes on").result.expect_err("nothing was written");
    assert!(matches!(error.raw_os_error(), Some(libc::ECANCELED | libc::EINTR)), "{error}");
    let nop = ring.submit(Nop).expect("the ring goes on");
    assert!(ring.wait(nop).expect("it goes on").is_ok());
}
// ANCHOR_END: worker
