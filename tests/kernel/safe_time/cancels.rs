//! Cancels: what they find, and how the cancelled operations end.

use std::io::{PipeReader, PipeWriter, Write as _, pipe};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;

use annulus::op::{
    Cancel, CancelOutcome, Nop, Op, Poll, PollEvents, Read, Timeout, TimeoutEnd, TimeoutMulti,
};
use annulus::sys::opcode::{Opcode, RegisterOp};
use annulus::{Rejection, Ring, Setup, Ticket};
use libtest_mimic::{Failed, Trial};

use super::{BY_FLAGS, HOUR, SOON, begin, errno, goes_on, is_one, run, small};
use crate::harness::{Need, here, patient, safe_ring, test};

const BY_OPCODE: Need = Need::Other(no_cancel_by_opcode);
const POLLS: Need = Need::Other(polls_not);

/// The tests.
pub fn tests() -> Vec<Trial> {
    vec![
        test("an_operation_is_cancelled_by_its_ticket", &[], by_ticket),
        test("what_has_completed_is_not_found", &[], completed),
        test("everything_is_cancelled_at_once", &[BY_FLAGS], everything),
        test("all_operations_on_a_file_are_cancelled", &[BY_FLAGS], by_file),
        test("the_first_operation_on_a_file_is_cancelled", &[BY_FLAGS], first_by_file),
        test("operations_on_a_registered_file_are_cancelled", &[BY_FLAGS], by_registered_file),
        test("all_operations_of_a_kind_are_cancelled", &[BY_OPCODE], by_opcode),
        test("there_is_one_cancel_of_each_operation", &[], one_cancel_each),
        test("what_a_cancel_missed_is_cancelled_again", &[], cancelled_again),
        test("a_cancel_waits_for_room_in_a_polled_queue", &[POLLS], full_queue),
        test("op2_a_cancel_by_kind_hits_no_other_on_any_kernel", &[], by_opcode_misses),
    ]
}

fn no_cancel_by_opcode() -> Option<String> {
    let mut ring = small();
    let timeout = begin(&mut ring, Timeout::new(HOUR));
    let outcome = run(&mut ring, Cancel::opcode(Opcode::TIMEOUT));
    ring.detach(timeout);
    (!is_one(&outcome)).then(|| "needs Linux 6.6: ASYNC_CANCEL_OP".to_owned())
}

fn polled() -> Setup<'static> {
    Setup::plain(2).cq_entries(256).sqpoll(Duration::from_millis(1))
}

fn polls_not() -> Option<String> {
    let refused = patient(|| polled().build_raw()).err()?;
    Some(format!("needs Linux 5.11 or root: {refused}"))
}

type Reading<F> = Ticket<Read<F, Vec<u8>>>;

/// A read that waits for a byte.
fn read<F: AsFd + 'static>(ring: &mut Ring, from: F) -> Reading<F> {
    begin(ring, Read::new(from, Vec::with_capacity(8)))
}

/// That the read was cancelled, and gave everything back.
fn is_cancelled<F: AsFd>(ring: &mut Ring, ticket: Reading<F>) -> bool {
    let read = ring.wait(ticket).expect("it completes");
    assert_eq!((read.buf.len(), read.buf.capacity()), (0, 8));
    // Linux 5.8 to 5.13 interrupt it.
    matches!(errno(read.result), Some(libc::ECANCELED | libc::EINTR))
}

fn ends() -> std::io::Result<(Rc<PipeReader>, PipeWriter)> {
    pipe().map(|(reader, writer)| (Rc::new(reader), writer))
}

fn by_ticket() -> Result<(), Failed> {
    let mut ring = small();
    let (reader, _writer) = ends()?;
    let spared = read(&mut ring, Rc::clone(&reader));
    let ticket = read(&mut ring, reader);
    let outcome = run(&mut ring, Cancel::ticket(&ticket));
    assert!(is_one(&outcome), "{outcome:?}");
    assert!(is_cancelled(&mut ring, ticket));
    drop(goes_on(&mut ring, spared));
    Ok(())
}

fn completed() -> Result<(), Failed> {
    let mut ring = small();
    let ticket = begin(&mut ring, Nop);
    let outcome = run(&mut ring, Cancel::ticket(&ticket));
    assert!(matches!(outcome, CancelOutcome::NotFound), "{outcome:?}");
    ring.wait(ticket)??;
    // The slot has another operation now, and that one must not be cancelled.
    let ticket = begin(&mut ring, Timeout::new(SOON));
    let stale = Cancel::ticket(&ticket);
    assert_eq!(ring.wait(ticket)??, TimeoutEnd::Expired);
    let next = begin(&mut ring, Timeout::new(HOUR));
    let outcome = run(&mut ring, stale);
    assert!(matches!(outcome, CancelOutcome::NotFound), "{outcome:?}");
    drop(goes_on(&mut ring, next));
    Ok(())
}

fn everything() -> Result<(), Failed> {
    let mut ring = small();
    let outcome = run(&mut ring, Cancel::any());
    assert!(matches!(outcome, CancelOutcome::NotFound), "{outcome:?}");
    let (reader, _writer) = ends()?;
    let read = read(&mut ring, Rc::clone(&reader));
    let poll = begin(&mut ring, Poll::new(reader, PollEvents::IN));
    let timeout = begin(&mut ring, Timeout::new(HOUR));
    let outcome = run(&mut ring, Cancel::any());
    assert!(matches!(outcome, CancelOutcome::Cancelled(3)), "{outcome:?}");
    assert_eq!(outcome.count(), 3);
    assert!(is_cancelled(&mut ring, read));
    assert_eq!(errno(ring.wait(poll)?.result), Some(libc::ECANCELED));
    assert_eq!(errno(ring.wait(timeout)?), Some(libc::ECANCELED));
    assert_eq!(ring.in_flight(), 0);
    Ok(())
}

fn by_file() -> Result<(), Failed> {
    let mut ring = small();
    let ((reader, _writer), (other, _other_writer)) = (ends()?, ends()?);
    let first = read(&mut ring, Rc::clone(&reader));
    // Another descriptor of the same file.
    let second = read(&mut ring, Rc::new(reader.try_clone()?));
    let spared = read(&mut ring, Rc::clone(&other));
    let (outcome, reader) = run(&mut ring, Cancel::fd(reader));
    assert!(matches!(outcome, CancelOutcome::Cancelled(2)), "{outcome:?}");
    assert!(is_cancelled(&mut ring, first) && is_cancelled(&mut ring, second));
    let spared = goes_on(&mut ring, spared);
    let (outcome, reader) = run(&mut ring, Cancel::fd(reader));
    assert!(matches!(outcome, CancelOutcome::NotFound), "{outcome:?}");
    assert_eq!(Rc::strong_count(&reader), 1, "everything was given back");
    let (outcome, _) = run(&mut ring, Cancel::fd(other));
    assert!(is_one(&outcome), "{outcome:?}");
    assert!(is_cancelled(&mut ring, spared));
    Ok(())
}

fn first_by_file() -> Result<(), Failed> {
    let mut ring = small();
    let (reader, _writer) = ends()?;
    let tickets = [read(&mut ring, Rc::clone(&reader)), read(&mut ring, Rc::clone(&reader))];
    let (outcome, reader) = run(&mut ring, Cancel::fd(reader).first());
    assert!(is_one(&outcome), "{outcome:?}");
    ring.submit_and_wait(1)?;
    ring.reap(|_| ())?;
    let mut taken = tickets.map(|ticket| ring.try_take(ticket));
    assert_eq!(taken.iter().filter(|taken| taken.is_ok()).count(), 1);
    let (outcome, _) = run(&mut ring, Cancel::fd(reader).first());
    assert!(is_one(&outcome), "{outcome:?}");
    taken.sort_by_key(Result::is_ok);
    let [Err(left), Ok(_)] = taken else { return Err("both ended".into()) };
    assert!(is_cancelled(&mut ring, left));
    Ok(())
}

fn by_registered_file() -> Result<(), Failed> {
    let mut ring = small();
    let (reader, _writer) = ends()?;
    let table = ring.file_table(2)?;
    let file = table.insert(&mut ring, reader.try_clone()?)?;
    let poll = begin(&mut ring, Poll::new(file.clone(), PollEvents::IN));
    let read = read(&mut ring, Rc::clone(&reader));
    let (outcome, _) = run(&mut ring, Cancel::fd(file));
    assert!(matches!(outcome, CancelOutcome::Cancelled(2)), "{outcome:?}");
    assert_eq!(errno(ring.wait(poll)?.result), Some(libc::ECANCELED));
    assert!(is_cancelled(&mut ring, read));
    Ok(())
}

fn by_opcode() -> Result<(), Failed> {
    let mut ring = small();
    let (reader, _writer) = ends()?;
    let spared = read(&mut ring, Rc::clone(&reader));
    let first = begin(&mut ring, Poll::new(Rc::clone(&reader), PollEvents::IN));
    let second = begin(&mut ring, Poll::new(reader, PollEvents::IN));
    let repeated = begin(&mut ring, TimeoutMulti::new(HOUR));
    let outcome = run(&mut ring, Cancel::opcode(Opcode::POLL_ADD));
    assert!(matches!(outcome, CancelOutcome::Cancelled(2)), "{outcome:?}");
    assert_eq!(errno(ring.wait(first)?.result), Some(libc::ECANCELED));
    assert_eq!(errno(ring.wait(second)?.result), Some(libc::ECANCELED));
    let outcome = run(&mut ring, Cancel::opcode(Opcode::TIMEOUT));
    assert!(is_one(&outcome), "{outcome:?}");
    assert_eq!(errno(ring.wait(repeated)?), Some(libc::ECANCELED));
    let outcome = run(&mut ring, Cancel::opcode(Opcode::ACCEPT));
    assert!(matches!(outcome, CancelOutcome::NotFound), "{outcome:?}");
    drop(goes_on(&mut ring, spared));
    Ok(())
}

/// Linux 6.0 to 6.5 ignore the opcode, and look for a `user_data` of 0: that of the first operation
/// of a ring.
fn by_opcode_misses() -> Result<(), Failed> {
    let mut ring = small();
    let first = begin(&mut ring, Timeout::new(HOUR));
    let outcome = run(&mut ring, Cancel::opcode(Opcode::ACCEPT));
    assert_eq!(outcome.count(), 0, "{outcome:?}");
    drop(goes_on(&mut ring, first));
    Ok(())
}

/// Behind a drained operation cancels wait too: a second one would only be another that waits. What
/// is cancelled past the queue (6.0) ends at once; else the byte ends it.
fn one_cancel_each() -> Result<(), Failed> {
    let mut ring = small();
    let (reader, mut writer) = pipe()?;
    let read = ring.submit(Read::new(reader, [0; 4])).map_err(|r| r.why)?;
    let drained = ring.submit(Nop.drained()).map_err(|r| r.why)?;
    ring.submit_all()?;
    let before = ring.raw().stats().sqes;
    for _ in 0..10 {
        ring.cancel(&read)?;
        ring.cancel(&drained)?;
        ring.submit_all()?;
    }
    assert_eq!(ring.raw().stats().sqes - before, 2);
    writer.write_all(b"x")?;
    let result = ring.wait(read)?.result.map_err(|error| error.raw_os_error());
    let is_new = here().has_register(RegisterOp::SYNC_CANCEL);
    assert_eq!(result, if is_new { Err(Some(libc::ECANCELED)) } else { Ok(1) });
    drop(ring.wait(drained)?); // It may have begun, or not.
    Ok(())
}

/// The cancel before has completed, and found nothing: operations still in flight are cancelled
/// again.
fn cancelled_again() -> Result<(), Failed> {
    let mut ring = small();
    let (reader, _writer) = pipe()?;
    let read = ring.submit(Read::new(reader, [0; 4])).map_err(|r| r.why)?;
    let nop = ring.submit(Nop).map_err(|r| r.why)?;
    ring.cancel(&nop)?;
    ring.submit_and_wait(1)?; // The cancel shows no event.
    ring.reap(|_| ())?;
    let before = ring.raw().stats().sqes;
    ring.cancel(&nop)?; // It has ended.
    ring.cancel(&read)?;
    ring.submit_all()?;
    assert_eq!(ring.raw().stats().sqes - before, 1);
    let result = ring.wait(read)?.result;
    assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::ECANCELED));
    assert_eq!(ring.wait(nop)?.ok(), Some(0));
    Ok(())
}

/// The polling thread makes room by and by.
fn full_queue() -> Result<(), Failed> {
    let mut ring = safe_ring(polled());
    let (reader, _writer) = ends()?;
    let mut tickets = Vec::new();
    let next = || Read::new(Rc::clone(&reader), Vec::with_capacity(8));
    let mut read = next();
    while tickets.len() < 200 {
        read = match ring.submit(read) {
            Ok(ticket) => {
                tickets.push(ticket);
                next()
            }
            Err(rejected) if rejected.why == Rejection::QueueFull => rejected.op,
            Err(rejected) => return Err(rejected.why.into()),
        };
    }
    for ticket in &tickets {
        ring.cancel(ticket)?;
    }
    for ticket in tickets {
        assert!(is_cancelled(&mut ring, ticket));
    }
    Ok(())
}
