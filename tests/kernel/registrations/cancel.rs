//! Cancelling at once, by each property that a request can be found by.

use std::io::{PipeReader, PipeWriter, Write as _, pipe};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use annulus::lease::RegisterError;
use annulus::op::{Nop, Op, Read, Splice};
use annulus::raw::register::{CancelNow, EndedNow};
use annulus::sys::abi::Sqe;
use annulus::sys::flags::SqeFlags;
use annulus::sys::opcode::{Opcode, RegisterOp};
use annulus::{RawRing, Setup};
use libtest_mimic::{Failed, Trial};

use crate::harness::{Need, drain, here, push, read_byte, ring, safe_ring, test};

const NOW: [Need; 1] = [Need::Register(RegisterOp::SYNC_CANCEL)];
const BY_OP: [Need; 2] = [NOW[0], Need::Other(finds_no_opcode)];

pub fn tests() -> Vec<Trial> {
    vec![
        test("one_is_cancelled_at_once_by_its_user_data", &NOW, by_user_data),
        test("all_of_a_user_data_are_cancelled_at_once", &NOW, all_of_a_user_data),
        test("all_of_a_file_are_cancelled_at_once", &NOW, by_file),
        test("one_of_a_registered_file_is_cancelled_at_once", &NOW, by_place),
        test("all_of_an_operation_are_cancelled_at_once", &BY_OP, by_opcode),
        test("everything_is_cancelled_at_once", &NOW, everything),
        test("one_that_runs_in_a_worker_is_waited_for", &NOW, in_a_worker),
        test("what_a_worker_runs_is_ended_at_once", &NOW, || worker(Setup::plain(8), false)),
        test("what_a_worker_runs_is_ended_at_once_deferring", &NOW, || {
            worker(Setup::new(8), false)
        }),
        test("what_a_worker_runs_is_ended_at_once_polling", &NOW, || {
            worker(Setup::plain(8).sqpoll(Duration::from_millis(1)), true)
        }),
        test("an_operation_behind_a_drained_one_is_cancelled_at_once", &NOW, by_ticket),
        test("a_cancel_does_not_wait_for_what_a_drained_operation_waits_for", &NOW, past_drained),
        test("what_began_behind_a_drained_operation_is_cancelled", &NOW, begun_meanwhile),
        test("a_place_without_a_file_is_found_by_nothing", &NOW, no_file),
        test("cancelling_at_once_before_6_0_says_so", &[Need::Other(lacks_it)], says_so),
    ]
}

fn lacks_it() -> Option<String> {
    let has = here().has_register(RegisterOp::SYNC_CANCEL);
    has.then(|| "needs a kernel without SYNC_CANCEL".to_owned())
}

/// A way of finding can only be tried.
fn finds_no_opcode() -> Option<String> {
    let found = ring(Setup::plain(1)).cancel_now(&CancelNow::opcode(Opcode::READ));
    matches!(found, Err(RegisterError::Invalid { .. }))
        .then(|| "needs Linux 6.6: IORING_ASYNC_CANCEL_OP".to_owned())
}

/// A ring with reads in flight, of these `user_data`, from a pipe in which no data comes.
fn reading(words: &[u64]) -> (RawRing, PipeReader, PipeWriter) {
    let mut ring = ring(Setup::plain(8));
    let (reader, writer) = pipe().expect("a pipe");
    for &word in words {
        push(&mut ring, read_byte(&reader, word));
    }
    ring.submit().expect("submit");
    (ring, reader, writer)
}

/// The `user_data` of the cancelled requests, sorted, once `count` have completed.
fn cancelled(ring: &mut RawRing, count: u32) -> Vec<u64> {
    ring.wait(count).expect("a wait");
    let cqes = drain(ring);
    assert!(cqes.iter().all(|cqe| cqe.res == -libc::ECANCELED), "{cqes:?}");
    let mut words: Vec<_> = cqes.iter().map(|cqe| cqe.user_data).collect();
    words.sort_unstable();
    words
}

fn by_user_data() -> Result<(), Failed> {
    let (mut ring, _reader, _writer) = reading(&[1, 2]);
    assert_eq!(ring.cancel_now(&CancelNow::user_data(2))?, EndedNow::Ended(1));
    assert_eq!(cancelled(&mut ring, 1), [2]);
    assert_eq!(ring.cancel_now(&CancelNow::user_data(2))?, EndedNow::NotFound);
    assert_eq!(ring.in_flight(), 1);
    Ok(())
}

fn all_of_a_user_data() -> Result<(), Failed> {
    let (mut ring, _reader, _writer) = reading(&[1, 7, 7]);
    assert_eq!(ring.cancel_now(&CancelNow::user_data(7).all())?, EndedNow::Ended(2));
    assert_eq!(cancelled(&mut ring, 2), [7, 7]);
    assert_eq!(ring.cancel_now(&CancelNow::user_data(7).all())?, EndedNow::Ended(0));
    Ok(())
}

fn by_file() -> Result<(), Failed> {
    let (mut ring, reader, _writer) = reading(&[1, 2, 3]);
    let (other, _other_writer) = pipe()?;
    assert_eq!(ring.cancel_now(&CancelNow::fd(other.as_fd()))?, EndedNow::NotFound);
    assert_eq!(ring.cancel_now(&CancelNow::fd(reader.as_fd()))?, EndedNow::Ended(1));
    assert_eq!(ring.cancel_now(&CancelNow::fd(reader.as_fd()).all())?, EndedNow::Ended(2));
    assert_eq!(cancelled(&mut ring, 3), [1, 2, 3]);
    Ok(())
}

fn by_place() -> Result<(), Failed> {
    let (mut ring, reader, _writer) = reading(&[]);
    ring.register_files(&[None, Some(reader.as_fd())])?;
    push(&mut ring, Sqe { fd: 1, flags: SqeFlags::FIXED_FILE, ..read_byte(&reader, 4) });
    ring.submit()?;
    assert_eq!(ring.cancel_now(&CancelNow::fixed(1))?, EndedNow::Ended(1));
    assert_eq!(cancelled(&mut ring, 1), [4]);
    Ok(())
}

fn by_opcode() -> Result<(), Failed> {
    let (mut ring, _reader, _writer) = reading(&[1, 2]);
    let other = ring.cancel_now(&CancelNow::opcode(Opcode::ACCEPT).all())?;
    assert_eq!(other, EndedNow::Ended(0));
    assert_eq!(ring.cancel_now(&CancelNow::opcode(Opcode::READ).all())?, EndedNow::Ended(2));
    assert_eq!(cancelled(&mut ring, 2), [1, 2]);
    Ok(())
}

fn everything() -> Result<(), Failed> {
    let (mut ring, _reader, _writer) = reading(&[1, 2, 3]);
    assert_eq!(ring.cancel_now(&CancelNow::any())?, EndedNow::Ended(3));
    assert_eq!(ring.cancel_now(&CancelNow::any())?, EndedNow::Ended(0));
    assert_eq!(cancelled(&mut ring, 3), [1, 2, 3]);
    Ok(())
}

/// A worker thread that reads is interrupted; the call returns when the read has ended, or after
/// the timeout.
fn in_a_worker() -> Result<(), Failed> {
    let (mut ring, reader, _writer) = reading(&[]);
    push(&mut ring, Sqe { flags: SqeFlags::ASYNC, ..read_byte(&reader, 9) });
    ring.submit()?;
    loop {
        match ring.cancel_now(&CancelNow::user_data(9).within(Duration::from_millis(1)))? {
            EndedNow::Ended(count) => assert_eq!(count, 1),
            EndedNow::TimedOut => {}
            // The request is between its queue and its worker thread, or has ended.
            EndedNow::NotFound => {}
        }
        if ring.wait_timeout(1, Duration::from_millis(1)).is_ok() && ring.ready() > 0 {
            break;
        }
    }
    let cqe = ring.pop().expect("it has ended");
    assert!([-libc::ECANCELED, -libc::EINTR].contains(&cqe.res), "{cqe:?}");
    Ok(())
}

/// Its end does not come by itself on a ring that defers; and a polling thread has workers of its
/// own, whose work the kernel does not look through.
fn worker(setup: Setup<'_>, polls: bool) -> Result<(), Failed> {
    let mut ring = safe_ring(setup);
    let ((reader, _writer), (socket, _peer)) = (pipe()?, UnixStream::pair()?);
    let splice = ring.submit(Splice::new(reader, socket, 8)).map_err(|r| r.why)?;
    ring.submit_all()?;
    // The request may still be on its way to a worker thread.
    let mut tries = 0;
    let said = loop {
        let said = ring.cancel_now(&splice, Duration::from_secs(20))?;
        if said != EndedNow::NotFound || polls || tries == 60_000 {
            break said;
        }
        tries += 1;
        std::thread::sleep(Duration::from_millis(1));
    };
    assert_eq!(said, EndedNow::Ended(1), "after {tries} tries");
    let error = ring.wait(splice)?.result.expect_err("nobody writes");
    assert!(matches!(error.raw_os_error(), Some(libc::ECANCELED | libc::EINTR)), "{error}");
    Ok(())
}

/// A cancel that is an entry would wait behind the drained one; this call does not.
fn by_ticket() -> Result<(), Failed> {
    let mut ring = safe_ring(Setup::new(8));
    let (reader, _writer) = pipe()?;
    let read = ring.submit(Read::new(reader, [0; 4]))?;
    let drained = ring.submit(Nop.drained())?;
    ring.submit_all()?;
    assert_eq!(ring.cancel_now(&read, Duration::from_secs(3600))?, EndedNow::Ended(1));
    let result = ring.wait(read)?.result;
    assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::ECANCELED));
    assert_eq!(ring.wait(drained)?.ok(), Some(0));
    Ok(())
}

/// The cancel that is an entry waits. So `Ring::cancel` also asks past the queue.
fn past_drained() -> Result<(), Failed> {
    let mut ring = safe_ring(Setup::plain(8));
    let (reader, _writer) = pipe()?;
    let read = ring.submit(Read::new(reader, [0; 4]))?;
    let drained = ring.submit(Nop.drained())?;
    ring.submit_all()?;
    ring.cancel(&read)?;
    let result = ring.wait(read)?.result;
    assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::ECANCELED));
    assert_eq!(ring.wait(drained)?.ok(), Some(0));
    Ok(())
}

/// It is asked for while it waits itself, and begins before the cancel comes: later kernels make
/// that wait for it. So a wait asks past the queue, again.
fn begun_meanwhile() -> Result<(), Failed> {
    let mut ring = safe_ring(Setup::plain(8));
    let ((reader, mut writer), (silent, _writer)) = (pipe()?, pipe()?);
    let first = ring.submit(Read::new(reader, [0; 1]))?;
    let drained = ring.submit(Nop.drained())?;
    let last = ring.submit(Read::new(silent, [0; 1]))?;
    ring.submit_all()?;
    ring.cancel(&last)?;
    writer.write_all(b"x")?;
    // Its work runs when this thread enters the kernel for whatever reason, as it does by sleeping.
    (0..20).for_each(|_| std::thread::sleep(Duration::from_millis(1)));
    let result = ring.wait(last)?.result;
    assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::ECANCELED));
    assert_eq!((ring.wait(first)?.result?, ring.wait(drained)?.ok()), (1, Some(0)));
    Ok(())
}

fn no_file() -> Result<(), Failed> {
    let (ring, _reader, _writer) = reading(&[1]);
    let refused = ring.cancel_now(&CancelNow::fixed(0));
    assert!(matches!(refused, Err(RegisterError::Other(errno)) if errno.is(libc::EBADF)));
    Ok(())
}

fn says_so() -> Result<(), Failed> {
    let error = ring(Setup::plain(1)).cancel_now(&CancelNow::any()).unwrap_err();
    assert_eq!(error.to_string(), "SYNC_CANCEL needs Linux 6.0");
    Ok(())
}
