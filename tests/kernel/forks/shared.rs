//! A child that shares its parent's memory (`vfork(2)`, `CLONE_VM`): to a ring it is one more
//! thread of the same process.

use annulus::sys::flags::SetupFlags;
use annulus::{EnterCause, EnterError, RawRing, Setup};

use crate::harness::{drain_user_data, here, nop, patient, push};
use crate::processes::{outcome, works};

/// A ring, and the result of submitting to it.
struct Submission {
    ring: RawRing,
    said: Option<Result<u32, EnterError>>,
}

extern "C" fn submit(submission: *mut libc::c_void) -> libc::c_int {
    // SAFETY: a live `Submission`, whose owner waits for this child, because of `CLONE_VFORK`.
    let submission = unsafe { &mut *submission.cast::<Submission>() };
    submission.said = Some(submission.ring.submit());
    0
}

/// Submits in a child that shares memory, and returns the result.
fn submit_in_a_child(submission: &mut Submission) -> Option<Result<u32, EnterError>> {
    let mut stack = vec![0_u128; 1 << 14];
    let top = stack.as_mut_ptr_range().end;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    let argument = std::ptr::from_mut(submission).cast();
    // SAFETY: a stack that nothing else uses, and that is there until the child has ended, because
    // this thread waits for that.
    let child = unsafe { libc::clone(submit, top.cast(), flags, argument) };
    assert!(child > 0, "clone: {}", std::io::Error::last_os_error());
    assert_eq!(outcome(child), 0);
    submission.said.take()
}

/// Its entries complete in the one ring that there is.
pub fn submits() {
    let ring = patient(|| Setup::plain(4).build_raw()).expect("a ring");
    let mut submission = Submission { ring, said: None };
    push(&mut submission.ring, nop(1));
    assert_eq!(submit_in_a_child(&mut submission), Some(Ok(1)));
    assert_eq!(submission.ring.wait(1), Ok(()));
    assert_eq!(drain_user_data(&mut submission.ring), [1]);
    works(&mut submission.ring);

    if here().setup_flags().contains(SetupFlags::SINGLE_ISSUER) {
        let setup = Setup::plain(4).with(SetupFlags::SINGLE_ISSUER);
        submission.ring = patient(|| setup.build_raw()).expect("a ring");
        push(&mut submission.ring, nop(2));
        let said = submit_in_a_child(&mut submission).and_then(Result::err);
        assert_eq!(said.map(|error| error.cause), Some(EnterCause::WrongThread));
        assert_eq!(submission.ring.submit_and_wait(1), Ok(1));
        assert_eq!(drain_user_data(&mut submission.ring), [2]);
    }
}
