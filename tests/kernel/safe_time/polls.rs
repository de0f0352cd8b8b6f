//! Polls: when they complete, and what they leave unchanged.

use std::fs::File;
use std::io::{Read as _, Write as _, pipe};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::{Duration, Instant};

use annulus::op::{
    CancelOutcome, Ending, Nop, Poll, PollEvents, PollMulti, PollRemove, PollUpdate, UpdateOutcome,
};
use annulus::sys::flags::{Features, SetupFlags};
use annulus::{EnterCause, Event, Next, Rejection, Setup};
use libtest_mimic::{Failed, Trial};

use super::{BY_FLAGS, REPEATED_POLL, begin, errno, goes_on, is_one, run, small};
use crate::harness::{Need, safe_ring, test};

/// Since Linux 5.9, as this.
const EXCLUSIVE: Need = Need::Feature(Features::POLL_32BITS);

/// The tests.
pub fn tests() -> Vec<Trial> {
    vec![
        test("a_poll_completes_when_the_file_is_ready", &[], polled),
        test("a_poll_of_what_is_ready_completes_at_once", &[], polled_at_once),
        test("a_poll_reports_the_end_unasked", &[], polled_end),
        test("a_poll_that_is_removed_says_so", &[], poll_removed),
        test("a_poll_names_a_registered_file", &[BY_FLAGS], polled_by_index),
        test("a_polling_ring_of_devices_refuses_polls", &[], poll_refused),
        test("a_repeated_poll_completes_each_time", &[REPEATED_POLL], polled_again),
        test("the_next_completion_is_awaited_with_a_limit", &[REPEATED_POLL], next_in_time),
        test("what_completes_again_is_still_in_flight", &[REPEATED_POLL], still_in_flight),
        test(
            "a_repeated_poll_of_what_cannot_wait_fails_with_a_message",
            &[REPEATED_POLL],
            poll_unwaitable,
        ),
        test("a_repeated_poll_that_overflows_is_stopped", &[REPEATED_POLL], poll_overflown),
        test("a_repeated_poll_is_given_other_events", &[REPEATED_POLL], poll_updated),
        test("a_poll_is_given_other_events", &[REPEATED_POLL], single_updated),
        test("of_exclusive_polls_one_is_woken", &[EXCLUSIVE], exclusive),
    ]
}

fn polled() -> Result<(), Failed> {
    let mut ring = small();
    let (reader, mut writer) = pipe()?;
    let ticket = begin(&mut ring, Poll::new(reader, PollEvents::IN));
    let ticket = goes_on(&mut ring, ticket);
    writer.write_all(b"x")?;
    let mut polled = ring.wait(ticket)?;
    assert!(polled.result?.contains(PollEvents::IN));
    let mut byte = [0];
    polled.fd.read_exact(&mut byte)?;
    assert_eq!(&byte, b"x", "a poll takes nothing");
    Ok(())
}

fn polled_at_once() -> Result<(), Failed> {
    let mut ring = small();
    let (_reader, writer) = pipe()?;
    let polled = run(&mut ring, Poll::new(writer, PollEvents::OUT | PollEvents::IN));
    assert!(polled.result?.contains(PollEvents::OUT));
    let regular = File::open("/proc/self/exe")?;
    let polled = run(&mut ring, Poll::new(regular, PollEvents::IN));
    assert!(polled.result?.contains(PollEvents::IN));
    Ok(())
}

fn polled_end() -> Result<(), Failed> {
    let mut ring = small();
    let (reader, writer) = pipe()?;
    let ticket = begin(&mut ring, Poll::new(reader, PollEvents::default()));
    let ticket = goes_on(&mut ring, ticket);
    drop(writer);
    assert_eq!(ring.wait(ticket)?.result?, PollEvents::HUP);
    Ok(())
}

fn poll_removed() -> Result<(), Failed> {
    let mut ring = small();
    let (reader, mut writer) = pipe()?;
    let ticket = begin(&mut ring, Poll::new(reader, PollEvents::IN));
    assert!(is_one(&run(&mut ring, PollRemove::new(&ticket))));
    let polled = ring.wait(ticket)?;
    assert_eq!(errno(polled.result), Some(libc::ECANCELED));
    writer.write_all(b"x")?;
    let ticket = begin(&mut ring, Poll::new(polled.fd, PollEvents::IN));
    ring.submit_and_wait(1)?;
    let outcome = run(&mut ring, PollRemove::new(&ticket));
    assert!(matches!(outcome, CancelOutcome::NotFound), "{outcome:?}");
    assert!(ring.wait(ticket)?.result.is_ok());
    Ok(())
}

fn polled_by_index() -> Result<(), Failed> {
    let mut ring = small();
    let (reader, mut writer) = pipe()?;
    let table = ring.file_table(2)?;
    let file = table.insert(&mut ring, reader)?;
    let ticket = begin(&mut ring, Poll::new(file, PollEvents::IN));
    let ticket = goes_on(&mut ring, ticket);
    writer.write_all(b"x")?;
    assert!(ring.wait(ticket)?.result?.contains(PollEvents::IN));
    Ok(())
}

fn poll_refused() -> Result<(), Failed> {
    let mut ring = safe_ring(Setup::plain(4).with(SetupFlags::IOPOLL));
    let (reader, _writer) = pipe()?;
    let polled = run(&mut ring, Poll::new(reader, PollEvents::IN));
    assert_eq!(errno(polled.result), Some(libc::EINVAL));
    Ok(())
}

fn polled_again() -> Result<(), Failed> {
    let mut ring = small();
    let (mut reader, mut writer) = pipe()?;
    let ticket = begin(&mut ring, PollMulti::new(reader.try_clone()?, PollEvents::IN));
    for _ in 0..3 {
        let ticket_again = ring.try_next(&ticket)?;
        assert!(matches!(ticket_again, Next::Pending), "{ticket_again:?}");
        writer.write_all(b"x")?;
        let events = ring.next(&ticket)?.expect("it goes on");
        assert!(events.contains(PollEvents::IN), "{events:?}");
        reader.read_exact(&mut [0])?;
    }
    assert!(is_one(&run(&mut ring, PollRemove::new(&ticket))));
    assert!(ring.next(&ticket)?.is_none());
    let ended = ring.wait(ticket)?;
    assert!(matches!(ended.how, Ending::Cancelled), "{:?}", ended.how);
    writer.write_all(b"y")?;
    let mut byte = [0];
    { ended.fd }.read_exact(&mut byte)?;
    assert_eq!(&byte, b"y");
    Ok(())
}

fn next_in_time() -> Result<(), Failed> {
    let mut ring = small();
    let (reader, mut writer) = pipe()?;
    let ticket = begin(&mut ring, PollMulti::new(reader, PollEvents::IN));
    let started = Instant::now();
    let error = ring.next_timeout(&ticket, Duration::from_millis(5)).expect_err("nothing is there");
    assert_eq!(error.cause, EnterCause::TimedOut);
    assert!(started.elapsed() >= Duration::from_millis(5));
    writer.write_all(b"x")?;
    assert!(ring.next_timeout(&ticket, Duration::MAX)?.is_some());
    ring.cancel(&ticket)?;
    assert!(ring.next_timeout(&ticket, Duration::MAX)?.is_none(), "it has ended");
    assert!(matches!(ring.wait(ticket)?.how, Ending::Cancelled));
    Ok(())
}

fn still_in_flight() -> Result<(), Failed> {
    let mut ring = small();
    let (mut reader, mut writer) = pipe()?;
    let ticket = begin(&mut ring, PollMulti::new(reader.try_clone()?, PollEvents::IN));
    for _ in 0..3 {
        writer.write_all(b"x")?;
        ring.submit_and_wait(1)?;
        let mut completions = 0;
        ring.reap(|event| completions += u32::from(matches!(event, Event::Multishot { .. })))?;
        assert_eq!((completions, ring.in_flight(), ring.raw().in_flight()), (1, 1, 1));
        reader.read_exact(&mut [0])?;
    }
    ring.cancel(&ticket)?;
    assert!(matches!(ring.wait(ticket)?.how, Ending::Cancelled));
    assert_eq!(ring.in_flight(), 0);
    Ok(())
}

fn poll_unwaitable() -> Result<(), Failed> {
    for path in ["/proc/self/exe", "/dev/null"] {
        let mut ring = small();
        let ticket = begin(&mut ring, PollMulti::new(File::open(path)?, PollEvents::IN));
        let events = ring.next(&ticket)?.expect("it is ready");
        assert!(events.contains(PollEvents::IN), "{path}: {events:?}");
        assert!(ring.next(&ticket)?.is_none());
        let ended = ring.wait(ticket)?;
        assert!(!ended.how.wants_more(), "{path}: a loop would never end");
        let Ending::Failed(error) = ended.how else { panic!("{path}: {:?}", ended.how) };
        assert!(error.to_string().contains("always ready and cannot be waited for"), "{error}");
        assert!(ended.fd.metadata().is_ok());
    }
    Ok(())
}

fn poll_overflown() -> Result<(), Failed> {
    // Plain ring: the poll completes at the next system call of this thread, whichever that is.
    let mut ring = safe_ring(Setup::plain(2));
    let room = ring.raw().cq_entries();
    let (mut reader, mut writer) = pipe()?;
    let ticket = begin(&mut ring, PollMulti::new(reader.try_clone()?, PollEvents::IN));
    // More than fit, and none is taken.
    for _ in 0..room + 2 {
        writer.write_all(b"x")?;
        reader.read_exact(&mut [0])?;
    }
    // The poll completes here at the latest, however many completions fit.
    let _ = ring.submit_and_wait_timeout(room, Duration::from_millis(50));
    loop {
        match ring.try_next(&ticket)? {
            Next::Item(_) => {}
            Next::Ended => break,
            Next::Pending => {
                println!("this kernel keeps completions of a poll beyond a full ring");
                ring.cancel(&ticket)?;
                ring.detach(ticket);
                return Ok(());
            }
        }
    }
    let ended = ring.wait(ticket)?;
    assert!(matches!(ended.how, Ending::Stopped), "{:?}", ended.how);
    assert!(ended.how.wants_more());
    Ok(())
}

fn poll_updated() -> Result<(), Failed> {
    let mut ring = small();
    let (reader, mut writer) = pipe()?;
    writer.write_all(b"x")?;
    let ticket = begin(&mut ring, PollMulti::new(reader, PollEvents::PRI));
    let ticket = goes_on(&mut ring, ticket);
    let outcome = run(&mut ring, PollUpdate::new(&ticket, PollEvents::IN));
    assert!(matches!(outcome, UpdateOutcome::Updated), "{outcome:?}");
    // Readiness that is there already counts, and the poll still completes each time, with its old
    // `user_data`.
    for _ in 0..2 {
        let events = ring.next(&ticket)?.expect("it goes on");
        assert!(events.contains(PollEvents::IN), "{events:?}");
        writer.write_all(b"y")?;
    }
    ring.cancel(&ticket)?;
    while ring.next(&ticket)?.is_some() {}
    let outcome = run(&mut ring, PollUpdate::new(&ticket, PollEvents::PRI));
    assert!(matches!(outcome, UpdateOutcome::NotFound), "{outcome:?}");
    let ended = ring.wait(ticket)?;
    assert!(matches!(ended.how, Ending::Cancelled), "{:?}", ended.how);
    assert_eq!(ring.stale(), 0);
    Ok(())
}

/// Where the kernel would forget the poll, the update is refused, and the poll is there as before.
fn single_updated() -> Result<(), Failed> {
    let mut ring = small();
    let (ours, mut theirs) = UnixStream::pair()?;
    let poll = begin(&mut ring, Poll::new(ours, PollEvents::PRI));
    match ring.poll_update(&poll, PollEvents::IN) {
        Ok(update) => {
            let outcome = run(&mut ring, update);
            assert!(matches!(outcome, UpdateOutcome::Updated), "{outcome:?}");
            assert_eq!(ring.in_flight(), 1, "nothing is there to read");
            let update = ring.poll_update(&poll, PollEvents::OUT)?;
            let outcome = run(&mut ring, update);
            assert!(matches!(outcome, UpdateOutcome::Updated), "{outcome:?}");
            let polled = ring.wait_timeout(poll, Duration::from_secs(60))?;
            assert!(polled.result?.contains(PollEvents::OUT));
        }
        Err(why) => {
            println!("this kernel may forget a poll: {why}");
            assert!(matches!(why, Rejection::Invalid { .. }), "{why:?}");
            theirs.write_all(b"x")?;
            let remove = run(&mut ring, PollRemove::new(&poll));
            assert!(matches!(remove, CancelOutcome::Cancelled(1)), "{remove:?}");
            assert_eq!(errno(ring.wait(poll)?.result), Some(libc::ECANCELED));
        }
    }
    assert_eq!(ring.stale(), 0);
    Ok(())
}

fn exclusive() -> Result<(), Failed> {
    let mut ring = small();
    let (reader, mut writer) = pipe()?;
    let reader = Rc::new(reader);
    let wait = || Poll::new(Rc::clone(&reader), PollEvents::IN).exclusive();
    let (first, second) = (ring.submit(wait())?, ring.submit(wait())?);
    ring.submit_all()?;
    writer.write_all(b"x")?;
    ring.submit_and_wait(1)?;
    // Both were in the queue when the byte came; without the flag, both were woken then.
    run(&mut ring, Nop)?;
    let woken = [ring.try_take(first), ring.try_take(second)];
    assert_eq!(woken.iter().filter(|taken| taken.is_ok()).count(), 1);
    Ok(())
}
