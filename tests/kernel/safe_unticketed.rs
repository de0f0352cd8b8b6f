//! Operations without tickets: what becomes of their outputs, on a real ring.
//!
//! | the output | tests |
//! |---|---|
//! | comes as an event, and is taken by type | `an_output_*` |
//! | comes by type alone, the rest as events | `outputs_by_type_*` |
//! | waits while a ticket is waited for | `what_ends_while_*` |
//! | is that of a cancelled operation | `a_key_*` |

use std::cell::Cell;
use std::io::{Read as _, Write as _, pipe};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::time::Duration;

use annulus::lease::BufLease;
use annulus::op::{
    Accept, Ending, Nop, PollEvents, PollMulti, Read, RecvMulti, RecvProvided, TimeoutMulti,
};
use annulus::sys::opcode::Opcode;
use annulus::{EnterCause, Event, Ring, Setup};
use libtest_mimic::{Failed, Trial};

use crate::harness::{Need, patient, safe_ring, test};
use crate::watched::{Panics, Watched, quietly, unwind};

/// Receives without end came with this.
const RECEIVE: [Need; 1] = [Need::Op(Opcode::SEND_ZC)];
/// Polls without end came with this, or shortly before.
const POLL: [Need; 1] = [Need::Feature(annulus::sys::flags::Features::NATIVE_WORKERS)];

/// A wait with a limit, as an argument, came with this.
const BOUNDED: [Need; 1] = [Need::Feature(annulus::sys::flags::Features::EXT_ARG)];
/// Timers without end came with this, or shortly before.
const TIMERS: [Need; 1] = [Need::Op(Opcode::READ_MULTISHOT)];

/// The tests.
pub fn tests() -> Vec<Trial> {
    vec![
        test("an_output_without_a_ticket_comes_as_an_event", &[], as_an_event),
        test("an_output_that_nobody_takes_is_dropped_and_its_slot_free", &[], dropped),
        test("an_output_carries_its_descriptor_and_its_lease", &RECEIVE, resources),
        test("outputs_by_type_leave_the_rest_for_events", &[], by_type),
        test("outputs_by_type_carry_items_that_nobody_took", &RECEIVE, left_items),
        test("what_ends_while_a_ticket_is_waited_for_is_shown_later", &[], kept),
        test("a_key_cancels_once_and_names_nothing_later", &POLL, cancelled),
        test("a_turn_of_outputs_is_one_call_of_the_kernel", &[], one_call),
        test(
            "outputs_by_type_are_all_there_are_whatever_was_known_before",
            &BOUNDED,
            all_there_are,
        ),
        test("an_output_at_which_two_panics_meet_aborts_nothing", &[], two_panics),
        test("a_turn_that_a_signal_ends_shows_the_end_with_the_item", &TIMERS, item_and_end),
    ]
}

type Reads = Read<Rc<OwnedFd>, Vec<u8>>;

fn ring(entries: u32) -> Ring<u32> {
    patient(|| Setup::new(entries).build_for()).expect("a ring")
}

fn as_an_event() -> Result<(), Failed> {
    let mut ring = ring(8);
    let (reader, mut writer) = pipe()?;
    let reader = Rc::new(OwnedFd::from(reader));
    writer.write_all(b"bytes")?;
    ring.submit_unticketed(Reads::new(Rc::clone(&reader), Vec::with_capacity(8)), 1)?;
    let nop = ring.submit_unticketed(Nop, 2)?;
    let mut seen = Vec::new();
    let count = ring.turn(2, |event| {
        let Event::Output(mut output) = event else { panic!("{event:?}") };
        let user = *output.user();
        let output = match output.take::<Nop>() {
            Ok((user, result)) => {
                result.expect("it does nothing");
                return seen.push((user, Vec::new()));
            }
            Err(output) => output,
        };
        assert_eq!((user, output.result()), (1, Ok(5)));
        let (user, outcome) = output.take::<Reads>().expect("it is a read");
        seen.push((user, outcome.buf));
    })?;
    seen.sort();
    assert_eq!((count, seen), (2, vec![(1, b"bytes".to_vec()), (2, Vec::new())]));
    assert_eq!((ring.in_flight(), ring.vacant()), (0, ring.raw().cq_entries()));
    assert_eq!(Rc::strong_count(&reader), 1);
    assert!(nop.slot() < ring.raw().cq_entries());
    Ok(())
}

fn dropped() -> Result<(), Failed> {
    let mut ring = ring(8);
    let (reader, mut writer) = pipe()?;
    let reader = Rc::new(OwnedFd::from(reader));
    writer.write_all(b"bytes")?;
    ring.submit_unticketed(Reads::new(Rc::clone(&reader), Vec::with_capacity(8)), 1)?;
    assert_eq!(ring.turn(1, |event| drop(event))?, 1);
    assert_eq!((Rc::strong_count(&reader), ring.vacant()), (1, ring.raw().cq_entries()));
    // So is one that is forgotten, and one at which the caller's code panics.
    writer.write_all(b"more")?;
    ring.submit_unticketed(Reads::new(Rc::clone(&reader), Vec::with_capacity(8)), 1)?;
    ring.turn(1, |event| std::mem::forget(event))?;
    assert_eq!((Rc::strong_count(&reader), ring.vacant()), (1, ring.raw().cq_entries()));
    writer.write_all(b"again")?;
    ring.submit_unticketed(Reads::new(Rc::clone(&reader), Vec::with_capacity(8)), 1)?;
    let shown = AssertUnwindSafe(|| ring.turn(1, |_| resume_unwind(Box::new("shown"))));
    assert!(catch_unwind(shown).is_err());
    assert_eq!((Rc::strong_count(&reader), ring.vacant()), (1, ring.raw().cq_entries()));
    Ok(())
}

fn resources() -> Result<(), Failed> {
    let mut ring = ring(8);
    let buffers = ring.buf_ring(4, 16)?;
    let (ours, mut theirs) = UnixStream::pair()?;
    theirs.write_all(b"hello")?;
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let client = std::net::TcpStream::connect(listener.local_addr()?)?;
    ring.submit_unticketed(RecvProvided::new(ours, &buffers), 1)?;
    ring.submit_unticketed(Accept::new(listener), 2)?;
    let (mut lease, mut stream) = (None::<BufLease>, None);
    while lease.is_none() || stream.is_none() {
        ring.turn(1, |event| {
            let Event::Output(output) = event else { panic!("{event:?}") };
            match output.take::<RecvProvided<UnixStream>>() {
                Ok((user, outcome)) => {
                    assert_eq!(user, 1);
                    lease = outcome.result.expect("it receives");
                }
                Err(output) => {
                    let accept = output.take::<Accept<std::net::TcpListener>>();
                    let (user, outcome) = accept.expect("there is no third");
                    assert_eq!(user, 2);
                    stream = Some(outcome.result.expect("it accepts"));
                }
            }
        })?;
    }
    assert_eq!(lease.as_deref(), Some(&b"hello"[..]));
    let mut stream = std::net::TcpStream::from(stream.expect("it came"));
    stream.write_all(b"!")?;
    let mut answer = [0];
    (&client).read_exact(&mut answer)?;
    assert_eq!(answer, *b"!");
    Ok(())
}

fn by_type() -> Result<(), Failed> {
    let mut ring = ring(8);
    let (reader, mut writer) = pipe()?;
    writer.write_all(b"bytes")?;
    let reader = Rc::new(OwnedFd::from(reader));
    ring.submit_unticketed(Reads::new(reader, Vec::with_capacity(8)), 7)?;
    let ticket = ring.submit_for(Nop, 8)?;
    ring.submit_unticketed(Nop, 9)?;
    let mut nops = Vec::new();
    while nops.is_empty() {
        ring.turn_outputs::<Nop>(1, |user, result| nops.push((user, result.ok())))?;
    }
    assert_eq!(nops, [(9, Some(0))], "a NOP with a ticket is no output");
    ring.submit_and_wait(0)?;
    // Wherever the read has got to, its output is to be had by its type.
    let mut reads = Vec::new();
    while reads.is_empty() {
        ring.reap_outputs::<Reads>(|user, outcome| reads.push((user, outcome.buf)))?;
    }
    assert_eq!(reads, [(7, b"bytes".to_vec())]);
    let mut shown = Vec::new();
    ring.reap(|event| match event {
        Event::Ended { user, slot, .. } => shown.push((*user, slot)),
        other => panic!("{other:?}"),
    })?;
    assert_eq!(shown, [(8, ticket.slot())]);
    ring.try_take(ticket).expect("it has ended")?;
    assert_eq!(ring.vacant(), ring.raw().cq_entries());
    Ok(())
}

fn left_items() -> Result<(), Failed> {
    let mut ring = ring(8);
    let buffers = ring.buf_ring(4, 16)?;
    let (ours, mut theirs) = UnixStream::pair()?;
    theirs.write_all(b"hello")?;
    ring.submit_unticketed(RecvMulti::new(ours, &buffers), 3)?;
    ring.submit_and_wait(1)?;
    assert_eq!(ring.reap_outputs::<Nop>(|_, _| ())?, 0, "the item is kept");
    drop(theirs);
    let mut ended = Vec::new();
    while ended.is_empty() {
        ring.submit_and_wait(0)?;
        ring.reap_outputs::<RecvMulti<UnixStream>>(|user, output| ended.push((user, output)))?;
    }
    let (user, output) = ended.remove(0);
    let items: Result<Vec<_>, _> = output.remaining.into_iter().collect();
    let items: Vec<Vec<u8>> = items?.iter().map(|lease| lease.to_vec()).collect();
    assert_eq!((user, items), (3, vec![b"hello".to_vec()]));
    assert!(matches!(output.how, Ending::Eof), "{:?}", output.how);
    assert_eq!(ring.reap(|event| panic!("{event:?}"))?, 0);
    Ok(())
}

fn kept() -> Result<(), Failed> {
    let mut ring = ring(8);
    ring.submit_unticketed(Nop, 1)?;
    ring.submit_unticketed(Nop, 2)?;
    let ticket = ring.submit_for(Nop, 3)?;
    ring.wait(ticket)??;
    let mut shown = Vec::new();
    while shown.len() < 2 {
        ring.submit_and_wait(0)?;
        ring.reap(|event| match event {
            Event::Output(output) => match output.take::<Nop>() {
                Ok((user, result)) => shown.push((user, result.ok())),
                Err(output) => panic!("{output:?}"),
            },
            other => panic!("{other:?}"),
        })?;
    }
    shown.sort();
    assert_eq!(shown, [(1, Some(0)), (2, Some(0))]);
    assert_eq!(ring.vacant(), ring.raw().cq_entries());
    Ok(())
}

fn cancelled() -> Result<(), Failed> {
    let mut ring = ring(8);
    let (reader, _writer) = pipe()?;
    let reader = Rc::new(OwnedFd::from(reader));
    let key = ring.submit_unticketed(Reads::new(reader, Vec::with_capacity(8)), 1)?;
    ring.submit_all()?;
    let before = ring.stats().sqes;
    for _ in 0..3 {
        ring.cancel(&key)?;
    }
    ring.submit_all()?;
    assert!(ring.stats().sqes <= before + 3);
    let mut results = Vec::new();
    while results.is_empty() {
        ring.turn(1, |event| {
            let Event::Output(output) = event else { return };
            let (_, outcome) = output.take::<Reads>().expect("it is the read");
            results.push(outcome.result.map_err(|error| error.raw_os_error()));
        })?;
    }
    assert_eq!(results, [Err(Some(libc::ECANCELED))]);
    // The next operation in that slot is not the one that the key names.
    let (silent, _open) = pipe()?;
    let next = ring.submit_unticketed(PollMulti::new(silent, PollEvents::IN), 2)?;
    assert_eq!(next.slot(), key.slot());
    ring.cancel(&key)?;
    ring.submit_and_wait(0)?;
    assert_eq!((ring.reap(|event| panic!("{event:?}"))?, ring.in_flight()), (0, 1));
    ring.cancel(&next)?;
    let mut ended = 0;
    while ended == 0 {
        ended = ring.turn(1, |event| assert!(matches!(event, Event::Output(_)), "{event:?}"))?;
    }
    Ok(())
}

fn one_call() -> Result<(), Failed> {
    let mut ring = safe_ring(Setup::new(8));
    for _ in 0..100 {
        for _ in 0..8 {
            ring.submit_unticketed(Nop, ())?;
        }
        let mut count = 0;
        ring.turn_outputs::<Nop>(8, |(), result| count += 1 + result.expect("it does nothing"))?;
        assert_eq!(count, 8);
    }
    assert_eq!(ring.stats().enters, 100);
    Ok(())
}

fn all_there_are() -> Result<(), Failed> {
    let mut ring = ring(8);
    ring.submit_unticketed(Nop, 1)?;
    ring.submit_all()?;
    // A wait looks at the queue, and takes nothing.
    let _ = ring.submit_and_wait_timeout(1, Duration::from_millis(1))?;
    ring.submit_unticketed(Nop, 2)?;
    ring.submit_unticketed(Nop, 3)?;
    ring.submit_all()?;
    let mut users = Vec::new();
    assert_eq!(ring.reap_outputs::<Nop>(|user, _| users.push(user))?, 3);
    assert_eq!(users, [1, 2, 3]);
    // The same after the caller's code has panicked.
    for user in 0..5 {
        ring.submit_unticketed(Nop, user)?;
    }
    ring.submit_all()?;
    let reaping =
        AssertUnwindSafe(|| ring.reap_outputs::<Nop>(|_, _| resume_unwind(Box::new("taken"))));
    assert!(catch_unwind(reaping).is_err());
    ring.submit_unticketed(Nop, 5)?;
    ring.submit_all()?;
    assert_eq!(ring.reap_outputs::<Nop>(|_, _| ())?, 5, "one was taken when it panicked");
    assert_eq!((ring.in_flight(), ring.vacant()), (0, ring.raw().cq_entries()));
    Ok(())
}

fn two_panics() -> Result<(), Failed> {
    let mut ring = ring(8);
    let (reader, writer) = pipe()?;
    drop(writer);
    let drops = Rc::new(Cell::new(0));
    ring.submit_unticketed(Read::new(reader, Watched::new(&drops, Panics::InDrop)), 1)?;
    assert!(quietly(|| ring.turn(1, |_| unwind())).is_err());
    assert_eq!((drops.get(), ring.vacant()), (1, ring.raw().cq_entries()));
    Ok(())
}

fn item_and_end() -> Result<(), Failed> {
    let mut ring = ring(8);
    let (silent, _open) = pipe()?;
    ring.submit_unticketed(Read::new(silent, [0_u8; 4]), 9)?;
    ring.submit_unticketed(TimeoutMulti::new(Duration::from_millis(5)).times(1), 1)?;
    let (mut items, mut ends) = (0, 0);
    let turned = ring.turn(2, |event| match event {
        Event::Multishot { .. } => items += 1,
        Event::Output(_) => ends += 1,
        other => panic!("{other:?}"),
    });
    // The timer ends the kernel's wait as a signal does.
    if let Err(error) = turned {
        assert_eq!(error.cause, EnterCause::Interrupted);
    }
    assert_eq!((items, ends), (1, 1));
    Ok(())
}
