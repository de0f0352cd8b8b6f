//! What one call counts, and what it refuses: facts that a history of many calls blurs.
//!
//! | a call | must count | must refuse |
//! |---|---|---|
//! | `reap`, `turn`, `reap_outputs` | each event once, whatever way it came | to show a part |
//! | `submit_and_wait` | entries that it submits late, too | to wait for what cannot come |
//! | `cancel_now` | what has ended | to find what was never submitted |
//! | `shutdown` | what is left | to go on where no enter succeeds |
#![allow(unsafe_code, reason = "pushes an entry of the caller's own")]

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use annulus::op::{Nop, Op as _, PollEvents, PollMulti, Read, SendZc};
use annulus::register::{EndedNow, RegisterError};
use annulus::sim::Sim;
use annulus::sys::abi::{Cqe, Sqe};
use annulus::sys::errno::Errno;
use annulus::sys::flags::{CqeFlags, SetupFlags};
use annulus::sys::opcode::RegisterOp;
use annulus::{EnterCause, Ring, Setup, ShutdownTimedOut, Ticket, WaitOptions, Woken, prep};

use crate::support::backend::{Bound, Call, Enter, Script, ScriptedKernel};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// A ring on a simulated kernel, and that kernel.
fn simulated() -> (Ring, Sim) {
    let sim = Sim::new(1);
    let ring = Setup::plain(8).kernel(sim.kernel()).build().expect("a ring");
    (ring, sim)
}

/// A ring whose kernel follows a script, and that script.
fn scripted() -> (Ring, Arc<Script>) {
    let (kernel, script) = ScriptedKernel::new();
    let ring = Setup::plain(8).kernel(kernel).build().expect("a ring");
    (ring, script)
}

fn null() -> std::fs::File {
    std::fs::File::open("/dev/null").expect("there is one")
}

fn write(sim: &Sim, writer: &OwnedFd) {
    assert_eq!(sim.write(writer, b"x").expect("room"), 1);
}

/// Writes a byte after one millisecond, and another after two.
fn write_twice(sim: &Sim, writer: OwnedFd) {
    let writer = Arc::new(writer);
    for at in 1..=2 {
        let writer = Arc::clone(&writer);
        sim.after(at * MS, move |sim| write(sim, &writer));
    }
}

/// The first of two operations has ended, and a wait for the second kept that.
fn keep_first(ring: &mut Ring) -> Ticket<Nop> {
    let first = ring.submit(Nop).expect("room");
    let second = ring.submit(Nop).expect("room");
    ring.wait(second).expect("it ends").expect("a NOP succeeds");
    first
}

#[test]
fn messages_by_an_eventfd_count_as_events() {
    let (mut ring, _sim) = simulated();
    let sender = ring.sender().expect("an eventfd");
    (0..3).for_each(|message| sender.send(message).expect("it is open"));
    let mut shown = 0;
    assert_eq!(ring.reap(|_| shown += 1).expect("no fault"), 3);
    assert_eq!(shown, 3);
}

#[test]
fn entries_that_later_turns_of_one_wait_submit_are_counted() {
    let (mut ring, sim) = simulated();
    let sender = Arc::new(ring.sender().expect("an eventfd")); // Its poll is queued.
    for at in 1..=2 {
        let sender = Arc::clone(&sender);
        sim.after(at * MS, move |_| sender.send(at.into()).expect("it is open"));
    }
    let submitted = ring.submit_and_wait(2).expect("both come");
    assert_eq!(submitted, 2, "the poll, and the poll again");
}

/// Without `TASKRUN_FLAG` the ring cannot see that there is something to ask for.
#[test]
fn a_first_look_that_finds_nothing_counts_as_nothing() {
    let sim = Sim::new(1);
    let flags = SetupFlags::SINGLE_ISSUER | SetupFlags::DEFER_TASKRUN;
    let built = Setup::plain(8).with(flags).kernel(sim.kernel()).build();
    let mut ring: Ring = built.expect("a ring");
    let (reader, writer) = sim.pipe().expect("descriptors");
    let read = Read::new(reader, [0_u8; 8]);
    ring.submit_unticketed(read, ()).map_err(|rejected| rejected.why).expect("room");
    ring.submit_all().expect("no fault");
    sim.write(&writer, b"x").expect("room");
    let taken = ring.reap_outputs::<Read<OwnedFd, [u8; 8]>>(|(), _| ());
    assert_eq!(taken.expect("no fault"), 1);
}

#[test]
fn outputs_in_large_completions_are_counted_without_those_of_other_types() {
    let sim = Sim::new(1);
    let setup = Setup::plain(8).with(SetupFlags::CQE32).kernel(sim.kernel());
    let mut ring: Ring<u32> = setup.build_for().expect("a ring");
    ring.submit_unticketed(Nop, 1).map_err(|rejected| rejected.why).expect("room");
    let ticket = ring.submit_for(Nop, 2).map_err(|rejected| rejected.why).expect("room");
    ring.submit_unticketed(Nop, 3).map_err(|rejected| rejected.why).expect("room");
    ring.submit_and_wait(3).expect("they end");
    let mut users = Vec::new();
    let taken = ring.reap_outputs::<Nop>(|user, _| users.push(user)).expect("no fault");
    assert_eq!((taken, users), (2, vec![1, 3]));
    assert_eq!(ring.reap(|_| ()).expect("no fault"), 1, "the one with a ticket");
    ring.wait(ticket).expect("it has ended").expect("a NOP succeeds");
}

#[test]
fn a_zero_copy_send_that_ends_at_once_leaves_no_event_to_come() {
    let (mut ring, _script) = scripted();
    let send = ring.submit(SendZc::new(null(), [0; 8])).map_err(|rejected| rejected.why);
    let _sent = ring.wait(send.expect("room")).expect("one completion, without MORE");
    let why = ring.submit_and_wait(1).expect_err("nothing is in flight").cause;
    assert_eq!(why, EnterCause::NothingComing { want: 1, coming: 0 });
}

/// On a kernel that miscounts what a drained operation waits for, until Linux 6.16.
#[test]
fn a_detached_multishot_that_has_failed_is_in_nobodys_way() {
    let (mut ring, script) = scripted();
    let poll = ring.submit(PollMulti::new(null(), PollEvents::IN)).expect("room");
    ring.detach(poll);
    let in_the_way = ring.submit(Nop.drained()).map(drop);
    assert!(in_the_way.is_err(), "it is in flight");
    script.enters(Enter::Run(Box::new(|kernel, to_submit| {
        let sqe = kernel.consume().expect("the poll");
        let cqe = Cqe { user_data: sqe.user_data, res: -libc::EBADF, flags: CqeFlags::empty() };
        assert!(kernel.post(cqe));
        Ok(to_submit)
    })));
    ring.submit_and_wait(1).expect("its end counts");
    ring.reap(|_| ()).expect("no event");
    let drained = ring.submit(Nop.drained()).map_err(|rejected| rejected.why).expect("it begins");
    ring.wait(drained).expect("it ends").expect("a NOP succeeds");
}

#[test]
fn a_turn_that_could_never_end_is_refused() {
    let (mut ring, _sim) = simulated();
    let never = EnterCause::NothingComing { want: 1, coming: 0 };
    assert_eq!(ring.turn(1, |_| ()).expect_err("nothing comes").cause, never);
    let outputs = ring.turn_outputs::<Nop>(1, |(), _| ());
    assert_eq!(outputs.expect_err("nothing comes").cause, never);
}

#[test]
fn an_event_that_was_kept_ends_the_next_turn_at_once() {
    let (mut ring, sim) = simulated();
    let (reader, _writer) = sim.pipe().expect("descriptors");
    let _read = ring.submit(Read::new(reader, [0; 8])).expect("room");
    let first = keep_first(&mut ring);
    assert_eq!(ring.turn(1, |_| ()).expect("no wait"), 1);
    ring.wait(first).expect("it ended").expect("a NOP succeeds");
}

#[test]
fn an_output_that_was_kept_ends_the_next_turn_at_once() {
    let (mut ring, sim) = simulated();
    let (reader, _writer) = sim.pipe().expect("descriptors");
    let _read = ring.submit(Read::new(reader, [0; 8])).expect("room");
    ring.submit_unticketed(Nop, ()).map_err(|rejected| rejected.why).expect("room");
    let second = ring.submit(Nop).expect("room");
    ring.wait(second).expect("it ends").expect("a NOP succeeds");
    assert_eq!(ring.turn_outputs::<Nop>(1, |(), _| ()).expect("no wait"), 1);
}

#[test]
fn two_that_end_one_after_the_other_cost_one_enter() {
    let (mut ring, sim) = simulated();
    let (reader, writer) = sim.pipe().expect("descriptors");
    let reader = Rc::new(reader);
    let _reads = [0; 2].map(|_| ring.submit(Read::new(Rc::clone(&reader), [0; 1])).expect("room"));
    write_twice(&sim, writer);
    ring.submit_and_wait(2).expect("both end");
    assert_eq!(ring.raw().stats().enters, 1);
}

#[test]
fn a_wait_that_is_refused_submits_nothing() {
    let (mut ring, _sim) = simulated();
    let nop = ring.submit(Nop).expect("room");
    let error = ring.submit_and_wait(2).expect_err("one only");
    assert_eq!((error.submitted, ring.in_flight()), (0, 1));
    assert_eq!(ring.submit_all().expect("no fault"), 1, "it was queued still");
    ring.wait(nop).expect("it ends").expect("a NOP succeeds");
}

#[test]
fn a_wait_with_options_but_no_limit_is_refused_too() {
    let (mut ring, _sim) = simulated();
    let why = ring.submit_and_wait_with(1, &WaitOptions::FOREVER.without_iowait());
    let never = EnterCause::NothingComing { want: 1, coming: 0 };
    assert_eq!(why.expect_err("nothing comes").cause, never);
}

#[test]
fn a_poll_of_the_callers_own_may_complete_any_number_of_times() {
    let (mut ring, sim) = simulated();
    let (ours, theirs) = sim.socket_pair().expect("descriptors");
    let poll = prep::poll_multishot(ours.as_raw_fd(), libc::POLLIN.cast_unsigned().into());
    // SAFETY: only an entry is pushed, which has both upper bits in its `user_data` (OP2).
    let raw = unsafe { ring.raw_mut() };
    // SAFETY: a poll points to nothing (OP1).
    unsafe { raw.push(Sqe { user_data: 3 << 62 | 7, ..poll }) }.expect("room");
    write_twice(&sim, theirs);
    ring.submit_and_wait(2).expect("both come");
}

#[test]
fn a_turn_that_is_refused_shows_nothing() {
    let (mut ring, _sim) = simulated();
    let first = keep_first(&mut ring);
    let refused = ring.turn(3, |event| panic!("{event:?}")).expect_err("one at most");
    assert_eq!(refused.cause, EnterCause::NothingComing { want: 3, coming: 1 });
    assert_eq!(ring.reap(|_| ()).expect("no fault"), 1);
    ring.wait(first).expect("it ended").expect("a NOP succeeds");
}

#[test]
fn a_minimum_wait_does_not_end_the_wait_for_one_operation() {
    let (mut ring, sim) = simulated();
    let (reader, writer) = sim.pipe().expect("descriptors");
    let read = ring.submit(Read::new(reader, [0; 8])).expect("room");
    sim.after(5 * MS, move |sim| write(sim, &writer));
    let read = ring.wait_with(read, &WaitOptions::FOREVER.min_wait(MS)).expect("it ends");
    assert_eq!(read.result.expect("a byte"), 1);
}

#[test]
fn a_minimum_wait_as_long_as_the_limit_is_none() {
    let (mut ring, sim) = simulated();
    let _sender = ring.sender().expect("an eventfd"); // So that it waits for one at a time.
    let (reader, writer) = sim.pipe().expect("descriptors");
    let _read = ring.submit(Read::new(reader, [0; 8])).expect("room");
    sim.after(MS, move |sim| write(sim, &writer));
    let options = WaitOptions::at_most(10 * MS).min_wait(10 * MS);
    let (_, woken) = ring.submit_and_wait_with(2, &options).expect("no fault");
    assert_eq!(woken, Woken::TimedOut, "one of two came");
}

#[test]
fn cancel_now_finds_only_what_is_with_the_kernel() {
    let (mut ring, sim) = simulated();
    let (reader, _writer) = sim.pipe().expect("descriptors");
    let read = ring.submit(Read::new(reader, [0; 8])).expect("room");
    let queued = ring.cancel_now(&read, SECOND).expect("no fault");
    assert_eq!(queued, EndedNow::NotFound, "it is queued still");
    let nop = ring.submit(Nop).expect("room");
    ring.submit_and_wait(1).expect("it ends");
    let ended = ring.cancel_now(&nop, SECOND).expect("no fault");
    assert_eq!(ended, EndedNow::NotFound, "it has ended");
    assert_eq!(ring.cancel_now(&read, SECOND).expect("no fault"), EndedNow::Ended(1));
}

/// A NOP that the kernel has, on a ring whose synchronous cancels take too long.
fn slow_to_cancel() -> (Ring, Arc<Script>, Ticket<Nop>) {
    let (mut ring, script) = scripted();
    script.on_register(|op, _, _| {
        (op == RegisterOp::SYNC_CANCEL).then(|| Err(Errno::new(libc::ETIME)))
    });
    script.enters(Enter::Consume(1));
    let nop = ring.submit(Nop).expect("room");
    ring.submit_all().expect("submit");
    (ring, script, nop)
}

fn post_end(script: &Script) {
    assert!(script.post(script.consumed().first().expect("the NOP").user_data, 0));
}

#[test]
fn cancel_now_sees_an_end_after_the_kernels_time_is_up() {
    let (mut ring, script, nop) = slow_to_cancel();
    post_end(&script);
    let said = ring.cancel_now(&nop, 5 * MS).expect("no fault");
    assert_eq!(said, EndedNow::Ended(1));
    ring.wait(nop).expect("it has ended").expect("a NOP succeeds");
}

#[test]
fn the_errors_of_entering_the_kernel_come_out_of_cancel_now_with_their_number() {
    let (mut ring, script, nop) = slow_to_cancel();
    for errno in [libc::EAGAIN, libc::EBADR, libc::EOWNERDEAD, libc::ENXIO] {
        script.enters(Enter::Fail(errno)); // The look after the call.
        let failed = ring.cancel_now(&nop, Duration::ZERO).expect_err("the enter fails");
        assert!(matches!(failed, RegisterError::Other(e) if e.is(errno)), "{errno}: {failed}");
    }
    post_end(&script);
    ring.wait(nop).expect("it has ended").expect("a NOP succeeds");
}

/// Both ends lie in the queue, and nobody has reaped.
#[test]
fn an_end_that_lies_in_the_queue_beside_that_of_its_cancel_stops_no_send() {
    let (mut ring, script) = scripted();
    script.keep_time();
    let drained = ring.submit(Nop.drained()).expect("room");
    ring.wait(drained).expect("it completes").expect("a NOP succeeds");
    let nop = ring.submit(Nop).expect("room");
    script.enters(Enter::Consume(1));
    ring.submit_all().expect("submit");
    let user_data = script.consumed().last().expect("the NOP").user_data;
    ring.cancel(&nop).expect("room");
    ring.submit_all().expect("submit"); // Completes the cancel.
    assert!(script.post(user_data, 0));
    let sent = ring.submit(SendZc::new(null(), [0; 8])).map_err(|rejected| rejected.why);
    ring.detach(sent.expect("nothing is in flight"));
    ring.wait(nop).expect("it has ended").expect("a NOP succeeds");
}

/// From now on nothing ends, and each wait with a limit lasts that long. With `items`, the first
/// entry completes once in each such wait, and goes on.
fn nothing_ends(script: &Script, items: bool) {
    script.keep_time();
    let first = Arc::new(Mutex::new(None));
    for _ in 0..400 {
        let first = Arc::clone(&first);
        script.enters(Enter::Wait(Box::new(move |kernel, to_submit, bound| {
            let mut first = first.lock().expect("no panic");
            while let Some(sqe) = kernel.consume() {
                first.get_or_insert(sqe.user_data);
            }
            if !matches!(bound, Bound::Ext { timeout: Some(_), .. }) || to_submit > 0 {
                return Ok(to_submit);
            }
            if let Some(user_data) = first.filter(|_| items && kernel.cq_room() > 0) {
                let (res, flags) = (libc::POLLIN.into(), CqeFlags::MORE);
                assert!(kernel.post(Cqe { user_data, res, flags }));
            }
            Err(Errno::new(libc::ETIME))
        })));
    }
}

/// How often it waits for a full queue in a row, each time that it does, while a ring ends with an
/// operation that does not.
fn waits_for_a_full_queue(repeats: bool, items: bool) -> Vec<usize> {
    let (mut ring, script) = scripted();
    nothing_ends(&script, items);
    let entries = ring.raw().cq_entries();
    if repeats {
        drop(ring.submit(PollMulti::new(null(), PollEvents::IN)).expect("room"));
    } else {
        drop(ring.submit(Nop).expect("room"));
    }
    assert!(ring.shutdown(200 * MS).is_err());
    let is_full =
        |call: &Call| matches!(call, Call::Enter { min_complete, .. } if *min_complete == entries);
    let calls = script.take_calls();
    let rows = calls.chunk_by(|one, next| is_full(one) == is_full(next));
    rows.filter(|row| is_full(&row[0])).map(|row| row.len()).collect()
}

#[test]
fn the_end_waits_for_a_full_queue_only_for_multishots_and_while_items_come() {
    assert_eq!(waits_for_a_full_queue(false, false), [0; 0]);
    let in_vain = waits_for_a_full_queue(true, false);
    assert!(!in_vain.is_empty() && in_vain.iter().all(|&turns| turns == 1), "{in_vain:?}");
    let items = waits_for_a_full_queue(true, true);
    assert_eq!(items.first(), Some(&2), "20 ms, in turns of 10 ms: {items:?}");
}

#[test]
fn an_end_whose_enters_cannot_succeed_does_not_last_until_its_time_is_up() {
    let (mut ring, script) = scripted();
    script.keep_time();
    script.enters(Enter::Consume(1));
    let _nop = ring.submit(Nop).expect("room");
    ring.submit_all().expect("submit");
    (0..50).for_each(|_| script.enters(Enter::Fail(libc::ENXIO)));
    let before = script.entered();
    assert_eq!(ring.shutdown(SECOND), Err(ShutdownTimedOut { in_flight: 1 }));
    let enters = script.entered() - before;
    assert!(enters < 10, "shutdown ends once, and the drop after it once: {enters}");
}

#[test]
fn a_full_queue_makes_room_for_the_poll_of_a_sender() {
    let sim = Sim::new(1);
    let mut ring: Ring = Setup::plain(4).kernel(sim.kernel()).build().expect("a ring");
    let nops = [0; 4].map(|_| ring.submit(Nop).expect("room"));
    let _sender = ring.sender().expect("an eventfd");
    assert_eq!(ring.raw().stats().enters, 1, "it submitted what filled the queue");
    assert_eq!(ring.submit_all().expect("no fault"), 1, "the poll");
    for nop in nops {
        ring.wait(nop).expect("it ends").expect("a NOP succeeds");
    }
}

#[test]
fn an_end_that_timed_out_says_why_and_what_now_also_in_its_debug() {
    let error = ShutdownTimedOut { in_flight: 2 };
    let shown = format!("{error:?}");
    assert!(shown.contains(&error.to_string()), "{shown}");
    assert!(shown.contains("2 operations did not complete in time"), "{shown}");
}

#[test]
fn a_scope_shows_the_items_of_a_multishot_before_its_end() {
    let (mut ring, sim) = simulated();
    let (ours, theirs) = sim.socket_pair().expect("descriptors");
    write(&sim, &theirs);
    ring.scope(|scope| {
        let poll = scope.submit(PollMulti::new(&ours, PollEvents::IN)).expect("room");
        assert!(scope.next(&poll).expect("no fault").is_some());
        scope.cancel(&poll).expect("room");
        drop(scope.wait(poll).expect("it ends"));
    });
}
