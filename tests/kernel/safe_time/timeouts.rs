//! Timeouts: their results, and what changes those.

use std::io::pipe;
use std::time::{Duration, SystemTime};

use annulus::op::{
    Cancel, CancelOutcome, Clock, Nop, Op, Poll, PollEvents, PollMulti, PollRemove, PollUpdate,
    RepeatEnd, Timeout, TimeoutEnd, TimeoutMulti, TimeoutRemove, TimeoutUpdate, UpdateOutcome,
};
use annulus::sys::flags::Features;
use annulus::sys::opcode::Opcode;
use annulus::{ChainEnd, Event, Next, Rejection, Ring, Setup, Ticket};
use libtest_mimic::{Failed, Trial};

use super::{HOUR, REPEATED_POLL, SOON, begin, errno, goes_on, is_one, run, small};
use crate::harness::{Need, safe_ring, test};

/// Since Linux 5.11, as this.
const UPDATE: Need = Need::Feature(Features::EXT_ARG);
/// Since Linux 5.15, as this.
const CLOCKS: Need = Need::Op(Opcode::LINKAT);
/// Since Linux 5.16: this came a release later.
const UNBROKEN: Need = Need::Feature(Features::CQE_SKIP);
pub const REPEATED: Need = Need::Other(no_repeated_timeout);

/// The tests.
pub fn tests() -> Vec<Trial> {
    vec![
        test("a_timeout_expires", &[], expires),
        test("a_timeout_expires_by_each_clock", &[CLOCKS], each_clock),
        test("a_timeout_on_a_polling_ring_expires", &[], expires_on_a_polling_ring),
        test("a_point_in_time_that_is_past_has_come", &[CLOCKS], past),
        test("a_point_in_time_that_is_to_come_has_not", &[], to_come),
        test("a_timeout_ends_when_enough_others_have", &[], counted),
        test("a_timeout_that_is_removed_says_so", &[], removed),
        test("a_timeout_that_ran_out_is_not_found", &[UPDATE], not_found),
        test("a_timeout_that_is_updated_runs_out_then", &[UPDATE], updated),
        test("a_timeout_that_is_updated_counts_no_more", &[UPDATE], counts_no_more),
        test("a_chain_goes_on_after_an_unbroken_timeout", &[UNBROKEN], unbroken),
        test("a_repeated_timeout_ends_after_so_many_times", &[REPEATED], repeats),
        test("an_end_that_comes_with_the_last_item_is_shown", &[REPEATED], end_is_shown),
        test("a_repeated_timeout_goes_on_until_it_is_removed", &[REPEATED], endless),
        test("a_repeated_timeout_that_the_kernel_stopped_says_so", &[REPEATED], stopped),
        test("a_repeated_timeout_that_is_updated_repeats_so", &[REPEATED], repeats_again),
        test("op2_what_names_a_ticket_of_another_ring_is_refused", &[REPEATED_POLL], foreign),
    ]
}

fn no_repeated_timeout() -> Option<String> {
    let once = TimeoutMulti::new(Duration::ZERO).times(1);
    run(&mut small(), once).is_err().then(|| "needs Linux 6.4: TIMEOUT_MULTISHOT".to_owned())
}

fn expires() -> Result<(), Failed> {
    let mut ring = small();
    assert_eq!(run(&mut ring, Timeout::new(SOON))?, TimeoutEnd::Expired);
    assert_eq!(run(&mut ring, Timeout::new(SOON).drained())?, TimeoutEnd::Expired);
    let ticket = ring.submit(Timeout::new(SOON))?;
    let mut seen = None;
    while seen.is_none() {
        ring.submit_and_wait(1)?;
        ring.reap(|event| {
            if let Event::Ended { slot, result, .. } = event {
                seen = Some((slot, result.map_err(|errno| errno.raw())));
            }
        })?;
    }
    assert_eq!(seen, Some((ticket.slot(), Err(libc::ETIME))));
    assert_eq!(ring.wait(ticket)??, TimeoutEnd::Expired);
    Ok(())
}

fn each_clock() -> Result<(), Failed> {
    let mut ring = small();
    for clock in [Clock::Monotonic, Clock::Boottime, Clock::Realtime] {
        assert_eq!(run(&mut ring, Timeout::new(SOON).by(clock))?, TimeoutEnd::Expired);
    }
    Ok(())
}

/// The kernel may read the timespec long after it was submitted.
fn expires_on_a_polling_ring() -> Result<(), Failed> {
    let mut ring = safe_ring(Setup::new(4).sqpoll(SOON));
    let tickets: Vec<_> =
        (0..4).map(|_| ring.submit(Timeout::new(SOON))).collect::<Result<_, _>>()?;
    for ticket in tickets {
        assert_eq!(ring.wait(ticket)??, TimeoutEnd::Expired);
    }
    Ok(())
}

fn past() -> Result<(), Failed> {
    let mut ring = small();
    for clock in [Clock::Monotonic, Clock::Boottime, Clock::Realtime] {
        let now = clock.now();
        assert!(now > Duration::ZERO && clock.now() >= now, "{clock:?}");
        assert_eq!(run(&mut ring, Timeout::until(clock, now))?, TimeoutEnd::Expired);
    }
    assert_eq!(run(&mut ring, Timeout::at(SystemTime::now()))?, TimeoutEnd::Expired);
    Ok(())
}

fn to_come() -> Result<(), Failed> {
    let mut ring = small();
    let timeout = Timeout::until(Clock::Monotonic, Clock::Monotonic.now() + HOUR);
    let ticket = begin(&mut ring, timeout);
    let ticket = goes_on(&mut ring, ticket);
    assert!(is_one(&run(&mut ring, TimeoutRemove::new(&ticket))));
    assert_eq!(errno(ring.wait(ticket)?), Some(libc::ECANCELED));
    Ok(())
}

fn counted() -> Result<(), Failed> {
    let mut ring = small();
    let ticket = begin(&mut ring, Timeout::new(HOUR).or_after(3));
    let ticket = goes_on(&mut ring, ticket);
    let ticket = goes_on(&mut ring, ticket);
    run(&mut ring, Nop)?;
    assert_eq!(ring.wait(ticket)??, TimeoutEnd::Counted);
    assert_eq!(run(&mut ring, Timeout::new(SOON).or_after(1))?, TimeoutEnd::Expired);
    Ok(())
}

fn removed() -> Result<(), Failed> {
    let mut ring = small();
    let ticket = begin(&mut ring, Timeout::new(HOUR));
    assert!(is_one(&run(&mut ring, TimeoutRemove::new(&ticket))));
    assert_eq!(errno(ring.wait(ticket)?), Some(libc::ECANCELED));
    let ticket = begin(&mut ring, Timeout::new(Duration::MAX).forced());
    // A worker thread arms it, sooner or later.
    while !is_one(&run(&mut ring, TimeoutRemove::new(&ticket))) {}
    assert_eq!(errno(ring.wait(ticket)?), Some(libc::ECANCELED));
    Ok(())
}

fn not_found() -> Result<(), Failed> {
    let mut ring = small();
    let ticket = begin(&mut ring, Timeout::new(SOON));
    ring.submit_and_wait(1)?;
    assert_eq!(ring.reap(|_| ())?, 1);
    let outcome = run(&mut ring, TimeoutRemove::new(&ticket));
    assert!(matches!(outcome, CancelOutcome::NotFound), "{outcome:?}");
    let outcome = run(&mut ring, TimeoutUpdate::new(&ticket, HOUR));
    assert!(matches!(outcome, UpdateOutcome::NotFound), "{outcome:?}");
    assert_eq!(ring.wait(ticket)??, TimeoutEnd::Expired);
    Ok(())
}

fn updated() -> Result<(), Failed> {
    let mut ring = small();
    let ticket = begin(&mut ring, Timeout::new(HOUR));
    let outcome = run(&mut ring, TimeoutUpdate::new(&ticket, HOUR + HOUR));
    assert!(matches!(outcome, UpdateOutcome::Updated), "{outcome:?}");
    let ticket = goes_on(&mut ring, ticket);
    let outcome = run(&mut ring, TimeoutUpdate::new(&ticket, SOON));
    assert!(matches!(outcome, UpdateOutcome::Updated), "{outcome:?}");
    assert_eq!(ring.wait(ticket)??, TimeoutEnd::Expired);
    let ticket = begin(&mut ring, Timeout::new(HOUR));
    let outcome = run(&mut ring, TimeoutUpdate::until(&ticket, Clock::Monotonic.now()));
    assert!(matches!(outcome, UpdateOutcome::Updated), "{outcome:?}");
    assert_eq!(ring.wait(ticket)??, TimeoutEnd::Expired);
    Ok(())
}

fn counts_no_more() -> Result<(), Failed> {
    let mut ring = small();
    let ticket = begin(&mut ring, Timeout::new(HOUR).or_after(2));
    let outcome = run(&mut ring, TimeoutUpdate::new(&ticket, HOUR));
    assert!(matches!(outcome, UpdateOutcome::Updated), "{outcome:?}");
    let ticket = goes_on(&mut ring, ticket);
    let ticket = goes_on(&mut ring, ticket);
    ring.cancel(&ticket)?;
    assert_eq!(errno(ring.wait(ticket)?), Some(libc::ECANCELED));
    Ok(())
}

fn unbroken() -> Result<(), Failed> {
    let mut ring = small();
    let chain = ring.submit_chain((Timeout::new(SOON), Nop))?;
    let chain = ring.wait_chain(chain)?;
    assert_eq!(chain.end, ChainEnd::Broken { at: 0 });
    assert_eq!(chain.outputs.0?, TimeoutEnd::Expired);
    assert_eq!(errno(chain.outputs.1), Some(libc::ECANCELED));
    let chain = ring.submit_chain((Timeout::new(SOON).unbroken(), Nop))?;
    let chain = ring.wait_chain(chain)?;
    assert_eq!(chain.end, ChainEnd::Complete);
    assert_eq!(chain.outputs.0?, TimeoutEnd::Expired);
    chain.outputs.1?;
    Ok(())
}

fn repeats() -> Result<(), Failed> {
    let mut ring = small();
    let ticket = begin(&mut ring, TimeoutMulti::new(SOON).times(3));
    let mut count = 0;
    while ring.next(&ticket)?.is_some() {
        count += 1;
    }
    assert_eq!(count, 3);
    assert_eq!(ring.wait(ticket)??, RepeatEnd::Complete);
    Ok(())
}

/// Completions are not taken, so the ring is full before the timeout has expired so often; or ever.
fn stopped() -> Result<(), Failed> {
    for times in [0, 1000] {
        let mut ring = safe_ring(Setup::plain(2));
        let interval = Duration::from_micros(100);
        let ticket = begin(&mut ring, TimeoutMulti::new(interval).times(times));
        let mut next = Next::Pending;
        while !matches!(next, Next::Ended) {
            if matches!(next, Next::Pending) {
                std::thread::sleep(2 * SOON);
            }
            next = ring.try_next(&ticket)?;
        }
        assert_eq!(ring.wait(ticket)??, RepeatEnd::Stopped);
    }
    Ok(())
}

/// The end comes with the last item, which is taken first.
fn end_is_shown() -> Result<(), Failed> {
    let mut ring = small();
    let ticket = begin(&mut ring, TimeoutMulti::new(SOON).times(1));
    assert!(ring.next(&ticket)?.is_some());
    let mut ends = 0;
    ring.reap(|event| ends += u32::from(matches!(event, Event::Ended { .. })))?;
    assert_eq!(ends, 1);
    assert!(ring.next(&ticket)?.is_none());
    let _ = ring.wait(ticket)??;
    Ok(())
}

/// Removes a repeated timeout: after it has expired and before it is armed again, it is not found.
fn stop(ring: &mut Ring, ticket: &Ticket<TimeoutMulti>) {
    while !is_one(&run(ring, TimeoutRemove::new(ticket))) {}
}

fn endless() -> Result<(), Failed> {
    let mut ring = small();
    let ticket = begin(&mut ring, TimeoutMulti::new(SOON).by(Clock::Boottime));
    for _ in 0..5 {
        assert!(ring.next(&ticket)?.is_some());
    }
    stop(&mut ring, &ticket);
    while ring.next(&ticket)?.is_some() {}
    assert_eq!(errno(ring.wait(ticket)?), Some(libc::ECANCELED));
    Ok(())
}

fn repeats_again() -> Result<(), Failed> {
    let mut ring = small();
    let ticket = begin(&mut ring, TimeoutMulti::new(HOUR));
    let outcome = run(&mut ring, TimeoutUpdate::new(&ticket, SOON));
    assert!(matches!(outcome, UpdateOutcome::Updated), "{outcome:?}");
    assert!(ring.next(&ticket)?.is_some() && ring.next(&ticket)?.is_some());
    stop(&mut ring, &ticket);
    assert_eq!(errno(ring.wait(ticket)?), Some(libc::ECANCELED));
    Ok(())
}

fn foreign() -> Result<(), Failed> {
    fn is_refused<O: Op + 'static>(ring: &mut Ring, op: O) -> bool {
        let refused = ring.submit(op).map_err(|rejected| rejected.why);
        matches!(refused, Err(Rejection::OtherRing))
    }
    let (mut home, mut abroad) = (small(), small());
    let (reader, _writer) = pipe()?;
    let timeout = begin(&mut home, Timeout::new(HOUR));
    let poll = begin(&mut home, Poll::new(reader.try_clone()?, PollEvents::IN));
    let polls = begin(&mut home, PollMulti::new(reader, PollEvents::PRI));
    assert!(is_refused(&mut abroad, TimeoutRemove::new(&timeout)));
    assert!(is_refused(&mut abroad, TimeoutUpdate::new(&timeout, SOON)));
    assert!(is_refused(&mut abroad, PollRemove::new(&poll)));
    assert!(is_refused(&mut abroad, PollUpdate::new(&polls, PollEvents::IN)));
    assert!(is_refused(&mut abroad, Cancel::ticket(&poll)));
    assert!(is_refused(&mut abroad, Cancel::ticket(&poll).drained()));
    drop(goes_on(&mut home, timeout));
    drop(goes_on(&mut home, poll));
    drop(goes_on(&mut home, polls));
    Ok(())
}
