//! The event loop: which closure is called, when, and who owns what meanwhile.

use std::cell::Cell;
use std::io::{self, PipeReader, PipeWriter, Write as _, pipe};
use std::net::{TcpListener, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use annulus::op::{self, Ending, Nop, Read, SendZc, Timeout};
use annulus::sys::opcode::Opcode;
use annulus::{Arrival, EventLoop, Io, Rejection, Setup, WaitOptions};
use libtest_mimic::{Failed, Trial};

use crate::harness::{Need, patient, test};
use crate::watched::{quietly, unwind};

#[path = "safe_event_loop/chains.rs"]
mod chains;
#[path = "safe_event_loop/floods.rs"]
mod floods;
#[path = "safe_event_loop/messages.rs"]
mod messages;

const ZERO_COPY: [Need; 1] = [Need::Op(Opcode::SEND_ZC)];
const MULTISHOT: [Need; 1] = [Need::Op(Opcode::SOCKET)];
const BOUNDED: [Need; 1] = [Need::Feature(annulus::sys::flags::Features::EXT_ARG)];

/// The tests.
pub fn tests() -> Vec<Trial> {
    let mut tests = vec![
        test("each_output_goes_to_its_closure", &[], outputs),
        test("more_operations_than_slots_wait_their_turn", &[], back_pressure),
        test("an_error_of_a_closure_ends_nothing_else", &[], errors),
        test("op1_a_closure_is_dropped_once_whether_called_or_not", &[], drops),
        test("stopping_cancels_what_is_in_flight_and_rejects_the_rest", &[], stops),
        test("one_operation_of_a_loop_is_cancelled", &[], cancels),
        test("one_that_waits_for_a_slot_is_cancelled_when_it_has_one", &[], cancels_waiting),
        test("op1_a_multishots_closure_keeps_its_state_between_items", &MULTISHOT, items),
        test("op2_a_closure_may_cancel_its_own_multishot", &MULTISHOT, cancels_itself),
        test("a_panic_in_a_closure_harms_no_other", &[], panics),
        test("a_panic_at_an_item_does_not_lose_the_end", &MULTISHOT, panics_at_item),
        test("a_turn_hands_over_what_closures_submitted", &BOUNDED, hands_over),
        test("closures_that_submit_again_and_again_end_a_turn", &[], again_and_again),
        test("a_zero_copy_send_calls_its_closure_once", &ZERO_COPY, zero_copy),
        test("a_turn_ends_when_its_time_is_up", &BOUNDED, turns),
        test("what_was_submitted_before_the_loop_calls_nothing", &[], before),
        test("a_mistake_gives_operation_and_closure_back", &[], mistakes),
    ];
    tests.extend(chains::tests());
    tests.extend(messages::tests());
    tests.extend(floods::tests());
    tests
}

fn events<S: 'static>(entries: u32, state: S) -> EventLoop<S> {
    EventLoop::new(patient(|| Setup::plain(entries).build_for()).expect("a ring"), state)
}

/// Runs to the end; no closure may fail.
fn run<S: 'static>(events: &mut EventLoop<S>) {
    events.run(|_, error| panic!("{error}")).expect("it runs");
}

/// A read that waits, and the write end that would let it complete.
fn waiting() -> (Read<PipeReader, Vec<u8>>, PipeWriter) {
    let (reader, writer) = pipe().expect("a pipe");
    (Read::new(reader, Vec::with_capacity(8)), writer)
}

fn is_cancelled<T>(result: &io::Result<T>) -> bool {
    result.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::ECANCELED))
}

fn outputs() -> Result<(), Failed> {
    fn again(io: &mut Io<'_, Vec<u32>>, left: u32) -> io::Result<()> {
        io.state.push(left);
        if left > 0 {
            io.submit(Nop, move |io, done| {
                done?;
                again(io, left - 1)
            })?;
        }
        Ok(())
    }
    let mut events = events(4, Vec::new());
    again(&mut events.io(), 20)?;
    let (read, mut writer) = waiting();
    writer.write_all(b"hello")?;
    events.io().submit(read, |io, read| {
        assert_eq!(read.ok()?.1, b"hello");
        io.state.push(100);
        Ok(())
    })?;
    run(&mut events);
    events.state.sort_unstable();
    assert_eq!(events.state, (0..=20).chain([100]).collect::<Vec<_>>());
    assert_eq!(events.io().unfinished(), 0);
    Ok(())
}

fn back_pressure() -> Result<(), Failed> {
    let mut events = events(2, Vec::new());
    let slots = events.ring().raw().cq_entries() as usize;
    for number in 0..10 * slots {
        events.io().submit(Nop, move |io, done| {
            done?;
            io.state.push(number);
            Ok(())
        })?;
    }
    assert_eq!(events.io().unfinished(), 10 * slots);
    assert_eq!((events.io().waiting(), events.io().vacant()), (9 * slots, 0));
    assert_eq!(events.ring().in_flight() as usize, slots);
    run(&mut events);
    assert_eq!(events.state, (0..10 * slots).collect::<Vec<_>>());
    Ok(())
}

fn errors() -> Result<(), Failed> {
    let mut events = events(4, 0);
    for number in 0..3 {
        events.io().submit(Nop, move |io, _| {
            *io.state += 1;
            if number == 1 { Err(io::Error::other("on purpose")) } else { Ok(()) }
        })?;
    }
    let mut seen = Vec::new();
    events.run(|io, error| seen.push((*io.state, error.to_string())))?;
    assert_eq!(seen, [(2, "on purpose".to_owned())]);
    assert_eq!(events.state, 3);
    Ok(())
}

fn drops() -> Result<(), Failed> {
    let token = Rc::new(());
    let mut events = events(2, ());
    let slots = events.ring().raw().cq_entries() as usize;
    let mut writers = Vec::new();
    for _ in 0..slots + 2 {
        let (read, writer) = waiting();
        writers.push(writer);
        let held = Rc::clone(&token);
        events.io().submit(read, move |_, _| {
            assert!(Rc::strong_count(&held) > 1);
            Ok(())
        })?;
    }
    assert_eq!(Rc::strong_count(&token), slots + 3);
    writers[0].write_all(b"one")?;
    assert!(events.turn(&WaitOptions::FOREVER, |_, error| panic!("{error}"))?);
    assert_eq!(Rc::strong_count(&token), slots + 2);
    // One that waited is in flight by now, and one still waits.
    drop(events);
    assert_eq!(Rc::strong_count(&token), 1);
    Ok(())
}

fn stops() -> Result<(), Failed> {
    let mut events = events(4, (0, 0));
    let (mut writers, slots) = (Vec::new(), events.ring().raw().cq_entries());
    for _ in 0..slots {
        let (read, writer) = waiting();
        writers.push(writer);
        events.io().submit(read, |io, read| {
            assert!(is_cancelled(&read.result) && io.is_stopping());
            io.state.0 += 1;
            let rejected = io
                .submit(Nop, |_, _| -> io::Result<()> { panic!("it was rejected") })
                .expect_err("no more");
            assert_eq!(rejected.why, Rejection::Stopping);
            Err::<(), io::Error>(rejected.into())
        })?;
    }
    events.io().submit(Nop, |_, _| -> io::Result<()> { panic!("it waits for a slot") })?;
    events.io().stop();
    events.run(|_, error| panic!("errors after a stop are nobody's: {error}"))?;
    assert_eq!(events.state, (slots, 0));
    Ok(())
}

fn cancels() -> Result<(), Failed> {
    let mut events = events(4, 0);
    let ((first, _open), (second, mut writer)) = (waiting(), waiting());
    let id = events.io().submit(first, |io, read| {
        assert!(is_cancelled(&read.result));
        *io.state += 1;
        Ok(())
    })?;
    events.io().submit(second, move |io, read| {
        read.result?;
        *io.state += 10;
        io.cancel(id)?; // It has ended.
        Ok(())
    })?;
    events.io().cancel(id)?;
    events.io().cancel(id)?;
    writer.write_all(b"x")?;
    run(&mut events);
    assert_eq!(events.state, 11);
    let other = self::events(4, ()).io().submit(Nop, |_, _| Ok(()))?;
    assert!(quietly(|| events.io().cancel(other)).is_err(), "of another loop");
    Ok(())
}

fn cancels_waiting() -> Result<(), Failed> {
    let mut events = events(1, 0);
    let slots = events.ring().raw().cq_entries();
    let mut writers = Vec::new();
    for _ in 0..slots {
        let (read, writer) = waiting();
        writers.push(writer);
        events.io().submit(read, |_, read| read.result.map(drop))?;
    }
    let (read, _open) = waiting();
    let id = events.io().submit(read, |io, read| {
        assert!(is_cancelled(&read.result));
        *io.state += 1;
        Ok(())
    })?;
    events.io().cancel(id)?;
    for mut writer in writers {
        writer.write_all(b"x")?;
    }
    run(&mut events);
    assert_eq!(events.state, 1);
    Ok(())
}

/// A listener to which `count` clients are connected.
fn listener(count: usize) -> (TcpListener, Vec<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it has one");
    let client = |_| TcpStream::connect(address).expect("it listens");
    let clients = (0..count).map(client).collect();
    (listener, clients)
}

fn items() -> Result<(), Failed> {
    let (listener, _clients) = listener(3);
    let token = Rc::new(());
    let (held, mut count) = (Rc::clone(&token), 0);
    let id = Rc::new(Cell::new(None));
    let own_id = Rc::clone(&id);
    let mut events = events(4, Vec::new());
    let accept = op::AcceptMulti::new(listener);
    id.set(Some(events.io().submit_multishot(accept, move |io, arrival| {
        let _held = &held;
        match arrival {
            Arrival::Item(stream) => {
                stream?;
                count += 1;
                io.state.push(count);
                if count == 3 {
                    io.cancel(own_id.get().expect("set below"))?;
                }
            }
            Arrival::End(ended) => {
                assert!(matches!(ended.how, Ending::Cancelled), "{:?}", ended.how);
                assert!(ended.remaining.is_empty());
                io.state.push(100 + count);
            }
        }
        Ok(())
    })?));
    run(&mut events);
    assert_eq!(events.state, [1, 2, 3, 103]);
    assert_eq!(Rc::strong_count(&token), 1);
    Ok(())
}

/// A closure cancels its own operation again and again, and submits so much that the queue is
/// emptied while it runs.
fn cancels_itself() -> Result<(), Failed> {
    let (listener, _clients) = listener(4);
    let id = Rc::new(Cell::new(None));
    let own_id = Rc::clone(&id);
    let mut events = events(2, 0);
    let mut text = String::from("kept");
    let accept = op::AcceptMulti::new(listener);
    id.set(Some(events.io().submit_multishot(accept, move |io, arrival| {
        for _ in 0..8 {
            io.submit(Nop, |io, done| {
                *io.state += 1;
                done.map(drop)
            })?;
            io.cancel(own_id.get().expect("set below"))?;
        }
        text.push('!');
        assert!(text.starts_with("kept!"), "{text}");
        match arrival {
            Arrival::Item(stream) => stream.map(drop),
            Arrival::End(ended) => ended.how.ok().map(drop),
        }
    })?));
    run(&mut events);
    assert!(events.state >= 16 && events.state % 8 == 0, "{}", events.state);
    Ok(())
}

fn panics() -> Result<(), Failed> {
    let mut events = events(4, 0);
    for number in 0..3 {
        events.io().submit(Nop, move |io, _| {
            if number == 1 {
                unwind();
            }
            *io.state += 1;
            Ok(())
        })?;
    }
    assert!(quietly(|| run(&mut events)).is_err());
    assert_eq!(events.state, 1);
    run(&mut events);
    assert_eq!(events.state, 2);
    Ok(())
}

fn panics_at_item() -> Result<(), Failed> {
    let (listener, _clients) = listener(2);
    let mut events = events(4, Vec::new());
    let accept = op::AcceptMulti::new(listener);
    events.io().submit_multishot(accept, |io, arrival| {
        match arrival {
            Arrival::Item(_) if io.state.is_empty() => {
                io.state.push("first");
                unwind();
            }
            Arrival::Item(_) => {
                io.state.push("second");
                io.stop();
            }
            Arrival::End(_) => io.state.push("end"),
        }
        Ok(())
    })?;
    assert!(quietly(|| run(&mut events)).is_err());
    run(&mut events);
    assert_eq!(events.state, ["first", "second", "end"]);
    Ok(())
}

fn hands_over() -> Result<(), Failed> {
    let mut events = events(4, 0);
    events.io().submit(Nop, |io, _| {
        *io.state += 1;
        io.submit(Nop, |io, _| {
            *io.state += 1;
            Ok(())
        })?;
        Ok(())
    })?;
    let moment = WaitOptions::at_most(Duration::from_millis(1));
    assert!(events.turn(&moment, |_, error| panic!("{error}"))?);
    let stats = events.ring().stats();
    assert_eq!((events.state, stats.sqes), (1, 2), "the kernel has the second");
    assert!(!events.turn(&moment, |_, error| panic!("{error}"))?);
    assert_eq!(events.state, 2);
    Ok(())
}

fn again_and_again() -> Result<(), Failed> {
    fn again(io: &mut Io<'_, u32>) -> io::Result<()> {
        *io.state += 1;
        if !io.is_stopping() {
            io.submit(Nop, |io, _| again(io))?;
        }
        Ok(())
    }
    let mut events = events(2, 0);
    // More than fit the queue: whenever it is full, all in it completes.
    for _ in 0..events.ring().raw().cq_entries() {
        again(&mut events.io())?;
    }
    for _ in 0..3 {
        assert!(events.turn(&WaitOptions::FOREVER, |_, error| panic!("{error}"))?);
    }
    assert!(events.state > 4);
    events.io().stop();
    run(&mut events);
    Ok(())
}

fn zero_copy() -> Result<(), Failed> {
    let (listener, clients) = listener(1);
    let (peer, _) = listener.accept()?;
    let mut events = events(4, 0);
    let mut clients = clients;
    let client = clients.pop().expect("there is one");
    events.io().submit(SendZc::new(client, b"hello".to_vec()), |io, sent| {
        assert_eq!((sent.result?.bytes, &sent.buf[..]), (5, &b"hello"[..]));
        *io.state += 1;
        Ok(())
    })?;
    run(&mut events);
    assert_eq!(events.state, 1);
    drop(peer);
    Ok(())
}

fn turns() -> Result<(), Failed> {
    let mut events = events(4, 0);
    let (read, mut writer) = waiting();
    events.io().submit(read, |io, read| {
        read.result?;
        *io.state += 1;
        Ok(())
    })?;
    let moment = WaitOptions::at_most(Duration::from_millis(1));
    assert!(events.turn(&moment, |_, error| panic!("{error}"))?, "it is still in flight");
    assert_eq!(events.state, 0);
    writer.write_all(b"x")?;
    assert!(!events.turn(&WaitOptions::FOREVER, |_, error| panic!("{error}"))?);
    assert!(!events.turn(&WaitOptions::FOREVER, |_, error| panic!("{error}"))?, "it is idle");
    events.io().submit(Timeout::new(Duration::from_secs(600)), |_, _| Ok(()))?;
    assert_eq!(events.shutdown(Duration::from_secs(60))?, 1);
    Ok(())
}

fn before() -> Result<(), Failed> {
    let mut ring = patient(|| Setup::plain(2).build_for()).expect("a ring");
    let token = Rc::new(());
    let ((read, _open), (other, mut writer)) = (waiting(), waiting());
    let _ = ring.submit(read)?;
    // All slots are taken, most of them by what has ended.
    while ring.vacant() > 0 {
        let _ = ring.submit(Nop)?;
        ring.submit_all()?;
    }
    let mut events = EventLoop::new(ring, 0);
    let id = events.io().submit(other, |io, read| {
        assert!(is_cancelled(&read.result));
        *io.state += 1;
        io.stop();
        Ok(())
    })?;
    let held = Rc::clone(&token);
    events.io().submit(Nop, move |io, _| {
        *io.state += Rc::strong_count(&held);
        io.cancel(id)?;
        Ok(())
    })?;
    run(&mut events);
    assert_eq!((events.state, Rc::strong_count(&token)), (3, 1));
    assert!(writer.write_all(b"x").is_err(), "nobody reads");
    Ok(())
}

fn mistakes() -> Result<(), Failed> {
    let mut events = events(1, ());
    let full = events.ring().raw().cq_entries();
    for round in 0..=full {
        let token = Rc::new(());
        let held = Rc::clone(&token);
        let read = Read::new(pipe()?.0, Vec::new());
        let rejected = events.io().submit(read, move |_, _| {
            drop(held);
            Ok(())
        });
        let rejected = rejected.expect_err("no room for what it reads");
        assert!(matches!(rejected.why, Rejection::Invalid { .. }), "{round}: {rejected}");
        assert_eq!(Rc::strong_count(&token), 2, "the closure came back");
        drop(rejected);
        assert_eq!(Rc::strong_count(&token), 1);
        events.io().submit(Nop, |_, _| Ok(()))?; // In the end, no slot is free.
    }
    run(&mut events);
    Ok(())
}
