//! The safe API: which side owns what, and when.
#![allow(unsafe_code, reason = "forges completions through the raw API")]

use std::cell::Cell;
use std::io::{PipeReader, PipeWriter, Write as _, pipe};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use annulus::op::{Nop, Op, Read, ReadV, Recv, Write};
use annulus::sys::abi::Sqe;
use annulus::sys::opcode::Opcode;
use annulus::{EnterCause, Event, Rejection, Ring, Setup, Ticket};
use libtest_mimic::{Failed, Trial};

use crate::harness::{Need, patient, safe_ring, test};
use crate::watched::{Panics, Watched, quietly, unwind};

const MESSAGES: [Need; 1] = [Need::Op(Opcode::MSG_RING)];
const BOUNDED: [Need; 1] = [Need::Feature(annulus::sys::flags::Features::EXT_ARG)];

/// The tests.
pub fn tests() -> Vec<Trial> {
    vec![
        test("what_could_read_nothing_is_rejected", &[], no_room),
        test("an_operation_gives_back_what_it_was_given", &[], gives_back),
        test("a_full_queue_is_emptied_on_the_way", &[], full_queue),
        test("full_slots_give_the_operation_back", &[], full_slots),
        test("op2_a_ticket_of_another_ring_is_refused", &[], foreign_ticket),
        test("op2_a_completion_that_names_nothing_in_flight_is_counted", &[], forged),
        test("op2_forged_completions_end_no_wait_early", &MESSAGES, forged_wait),
        test("op2_a_completion_is_not_taken_twice", &[], replayed),
        test("a_panic_while_reaping_loses_and_repeats_nothing", &[], panic_in_reap),
        test("a_panicking_waker_loses_and_repeats_nothing", &[], panic_in_wake),
        test("a_panic_in_a_buffers_region_submits_nothing", &[], panic_in_region),
        test("a_panic_in_set_filled_leaves_the_ring_in_order", &[], panic_in_filled),
        test("a_panic_in_a_buffers_drop_leaves_the_ring_in_order", &[], panic_in_drop),
        test("op1_a_detached_operation_keeps_its_buffer_until_it_ends", &[], detached),
        test("op1_a_forgotten_ticket_keeps_its_slot_and_nothing_dangles", &[], forgotten),
        test("a_cancelled_operation_still_gives_its_buffer_back", &[], cancelled),
        test("a_bounded_wait_gives_the_ticket_back", &BOUNDED, bounded),
        test("user_values_come_with_the_events_of_their_operations", &[], user_values),
        test("completions_taken_by_a_wait_are_shown_later", &[], kept),
        test("ends_that_were_redeemed_are_not_shown", &[], redeemed),
        test("nothing_in_flight_is_told_instead_of_waited_for", &[], could_never_end),
        test("raw_entries_share_the_ring", &[], raw_entries),
        test("a_slot_is_used_again_and_again", &[], reuse),
    ]
}

fn small() -> Ring {
    safe_ring(Setup::new(4))
}

fn works<U: Default>(ring: &mut Ring<U>) {
    let ticket = ring.submit(Nop).expect("room");
    ring.wait(ticket).expect("it completes").expect("a NOP succeeds");
}

/// A read that waits, and the write end that would let it complete.
fn waiting<U: Default>(ring: &mut Ring<U>) -> (Ticket<Read<PipeReader, Vec<u8>>>, PipeWriter) {
    let (reader, writer) = pipe().expect("a pipe");
    let ticket = ring.submit(Read::new(reader, Vec::with_capacity(8))).expect("room");
    ring.submit_all().expect("submit");
    (ticket, writer)
}

/// A read of no bytes returns 0, which looks like the end of the file.
fn no_room() -> Result<(), Failed> {
    let mut ring = small();
    let file = Rc::new(pipe()?.0);
    let read = |buf: Vec<u8>| Read::new(Rc::clone(&file), buf);
    let is_refused = |why: Rejection| match why {
        Rejection::Invalid { reason } => reason.contains("has no room"),
        _ => false,
    };
    let rejected = ring.submit(read(Vec::new())).expect_err("no room");
    assert!(is_refused(rejected.why));
    let rejected = ring.submit(Read::new(Rc::clone(&file), [0; 0])).expect_err("no room");
    assert!(is_refused(rejected.why));
    let rejected = ring.submit(ReadV::new(Rc::clone(&file), [Vec::new(), Vec::new()]));
    assert!(is_refused(rejected.expect_err("no room").why));
    let socket = UnixStream::pair()?.0;
    let rejected = ring.submit(Recv::new(socket, Vec::new())).expect_err("no room");
    assert!(is_refused(rejected.why));
    let rejected = ring.submit_chain((Nop, read(Vec::new()).forced())).expect_err("no room");
    assert!(is_refused(rejected.why));
    assert_eq!((ring.in_flight(), ring.vacant()), (0, 8));
    Ok(())
}

fn gives_back() -> Result<(), Failed> {
    let mut ring = small();
    let (reader, mut writer) = pipe()?;
    let reader = Rc::new(reader);
    writer.write_all(b"abc")?;
    let ticket = ring.submit(Read::new(Rc::clone(&reader), vec![b'>'; 1])).map_err(|r| r.why)?;
    let read = ring.wait(ticket)?;
    // As many bytes as it has capacity for, from the front.
    assert!(Rc::ptr_eq(&read.fd, &reader));
    assert_eq!((read.buf[0], read.buf.len()), (b'a', read.result?));
    let ticket = ring.submit(Write::new(writer, "static")).map_err(|r| r.why)?;
    let write = ring.wait(ticket)?;
    assert_eq!(write.result?, 6);
    assert_eq!(write.buf, "static");
    Ok(())
}

fn full_queue() -> Result<(), Failed> {
    let mut ring = small();
    let tickets: Vec<_> = (0..8).map(|_| ring.submit(Nop)).collect::<Result<_, _>>()?;
    assert_eq!(ring.in_flight(), 8);
    for ticket in tickets {
        ring.wait(ticket)??;
    }
    assert_eq!((ring.in_flight(), ring.vacant()), (0, 8));
    Ok(())
}

fn full_slots() -> Result<(), Failed> {
    let mut ring = small();
    let tickets: Vec<_> = (0..8).map(|_| ring.submit(Nop)).collect::<Result<_, _>>()?;
    let (_reader, writer) = pipe()?;
    let rejected = ring.submit(Write::new(writer, vec![7; 3])).expect_err("no slot is free");
    assert_eq!(rejected.why, Rejection::NoSlot);
    assert!(rejected.to_string().contains("redeem"));
    for ticket in tickets {
        ring.wait(ticket)??;
    }
    let ticket = ring.submit(rejected.op).map_err(|rejected| rejected.why)?;
    assert_eq!(ring.wait(ticket)?.buf, [7; 3]);
    Ok(())
}

fn foreign_ticket() -> Result<(), Failed> {
    let (mut one, mut other) = (small(), small());
    let ticket = one.submit(Nop)?;
    let message = quietly(|| other.try_take(ticket)).expect_err("refused");
    let message = message.downcast_ref::<String>().expect("a text");
    assert!(message.contains("OP2: a ticket of ring"), "{message}");
    works(&mut other);
    Ok(())
}

/// Pushes a NOP that completes with any `user_data`.
fn forge(ring: &mut Ring, user_data: u64) {
    let nop = Sqe { opcode: Opcode::NOP, fd: -1, user_data, ..Sqe::ZERO };
    // SAFETY: a NOP points to nothing (OP1); its `user_data` is a forgery, which this
    // test is about, and names no operation in flight.
    let raw = unsafe { ring.raw_mut() };
    // SAFETY: a NOP points to nothing (OP1).
    let pushed = unsafe { raw.push(nop) };
    pushed.expect("room");
}

fn forged() -> Result<(), Failed> {
    let mut ring = small();
    let (ticket, mut writer) = waiting(&mut ring);
    let slot = u64::from(ticket.slot());
    let forgeries = [
        slot | 2 << 32,       // Another generation.
        slot,                 // The one before the first.
        0,                    // As blank memory has it.
        slot | 1 << 29,       // The word of a slot that is done.
        slot | 1 << 30,       // That of a free one.
        slot | 1 << 28,       // That of one that needs a closer look.
        (slot + 1) | 1 << 30, // A slot that is free.
        (slot + 1) | 1 << 32, // The same, as if it were in flight.
        1 << 20,              // Beyond the last slot.
        u64::from(u32::MAX),
        (1 << 62) - 1,
    ];
    for word in forgeries {
        forge(&mut ring, word);
        ring.submit_and_wait(1)?;
        let mut events = 0;
        ring.reap(|_| events += 1)?;
        assert_eq!(events, 0, "{word:#x}");
    }
    // The `user_data` of a free slot that was never used is that of its first operation, which is
    // not in flight.
    assert_eq!(ring.stale(), forgeries.len() as u64);
    assert_eq!(ring.in_flight(), 1);
    writer.write_all(b"late")?;
    assert_eq!(ring.wait(ticket)?.buf, b"late");
    Ok(())
}

fn forged_wait() -> Result<(), Failed> {
    use std::os::fd::AsRawFd as _;
    let mut ring = small();
    let (ticket, mut writer) = waiting(&mut ring);
    // Another ring posts `user_data` that were never pushed here, more than there are requests.
    let mut other = patient(|| Setup::new(4).build_raw())?;
    for _ in 0..3 {
        let fd = ring.raw().fd().expect("a descriptor").as_raw_fd();
        let sqe = Sqe { opcode: Opcode::MSG_RING, fd, off: 1 << 40 | 1, ..Sqe::ZERO };
        // SAFETY: it points to nothing (OP1), and its `user_data` names nothing in flight (OP2).
        unsafe { other.push(sqe) }.expect("room");
        other.submit_and_wait(1)?;
        assert_eq!(other.pop().map(|cqe| cqe.res), Some(0));
    }
    ring.reap(|event| panic!("nobody asked: {event:?}"))?;
    assert_eq!((ring.stale(), ring.in_flight()), (3, 1));
    let writes = std::thread::spawn(move || writer.write_all(b"late"));
    assert_eq!(ring.wait(ticket)?.buf, b"late");
    writes.join().expect("no panic")?;
    let (mut scoped, (reader, _writer)) = ([0; 4], pipe()?);
    ring.scope(|s| {
        let _ = s.submit(Read::new(&reader, &mut scoped[..]));
    });
    assert_eq!(ring.in_flight(), 0);
    Ok(())
}

fn replayed() -> Result<(), Failed> {
    let mut ring = small();
    let ticket = ring.submit(Nop)?;
    let word = u64::from(ticket.slot());
    ring.submit_and_wait(1)?;
    ring.reap(|_| ())?;
    // Done, and not redeemed yet.
    forge(&mut ring, word);
    ring.submit_and_wait(1)?;
    ring.reap(|event| panic!("shown again: {event:?}"))?;
    let Ok(output) = ring.try_take(ticket) else { panic!("it has completed") };
    output?;
    // Free again.
    forge(&mut ring, word);
    ring.submit_and_wait(1)?;
    ring.reap(|event| panic!("shown again: {event:?}"))?;
    assert_eq!((ring.stale(), ring.vacant()), (2, 8));
    Ok(())
}

fn panic_in_reap() -> Result<(), Failed> {
    let mut ring = small();
    let tickets: Vec<_> = (0..4).map(|_| ring.submit(Nop)).collect::<Result<_, _>>()?;
    ring.submit_and_wait(4)?;
    let mut seen = Vec::new();
    for panics in [true, true, false] {
        let _ = quietly(|| {
            ring.reap(|event| {
                if let Event::Ended { slot, .. } = event {
                    seen.push(slot);
                    if panics {
                        unwind();
                    }
                }
            })
        });
    }
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2, 3]);
    for ticket in tickets {
        let Ok(output) = ring.try_take(ticket) else { panic!("it has completed") };
        output?;
    }
    assert_eq!(ring.stale(), 0);
    Ok(())
}

#[derive(Default)]
struct Bomb(bool);

impl Drop for Bomb {
    fn drop(&mut self) {
        if self.0 && !std::thread::panicking() {
            unwind();
        }
    }
}

fn panic_in_wake() -> Result<(), Failed> {
    let mut ring: Ring<Bomb> = patient(|| Setup::new(4).build_for())?;
    let tickets: Vec<_> = (0..4)
        .map(|_| ring.submit_for(Nop, Bomb(true)).map_err(|r| r.why))
        .collect::<Result<_, _>>()?;
    ring.submit_and_wait(4)?;
    let mut woken = 0;
    while woken < 4 {
        let _ = quietly(|| {
            ring.reap(|event| {
                if let Event::Ended { user, .. } = event {
                    woken += 1;
                    drop(std::mem::take(user)); // Panics.
                }
            })
        });
    }
    assert_eq!(woken, 4);
    for ticket in tickets {
        assert!(ring.try_take(ticket).is_ok());
    }
    // Here the user value panics while its slot is given back: neither slot nor output is lost.
    let ticket = ring.submit_for(Nop, Bomb(true)).map_err(|r| r.why)?;
    assert!(quietly(|| ring.wait(ticket).is_ok()).is_ok_and(|waited| waited));
    assert_eq!((ring.vacant(), ring.in_flight()), (8, 0));
    works(&mut ring);
    Ok(())
}

fn panic_in_region() -> Result<(), Failed> {
    let mut ring = small();
    let drops = Rc::new(Cell::new(0));
    let (reader, _writer) = pipe()?;
    let read = Read::new(reader, Watched::new(&drops, Panics::InRegion));
    assert!(quietly(|| ring.submit(read)).is_err());
    assert_eq!((drops.get(), ring.in_flight(), ring.vacant()), (1, 0, 8));
    assert_eq!(ring.submit_all()?, 0);
    works(&mut ring);
    Ok(())
}

fn panic_in_filled() -> Result<(), Failed> {
    let mut ring = small();
    let drops = Rc::new(Cell::new(0));
    let (reader, mut writer) = pipe()?;
    writer.write_all(b"x")?;
    let read = Read::new(reader, Watched::new(&drops, Panics::InFilled));
    let ticket = ring.submit(read).map_err(|r| r.why)?;
    assert!(quietly(|| ring.wait(ticket)).is_err());
    assert_eq!((drops.get(), ring.in_flight(), ring.vacant()), (1, 0, 8));
    works(&mut ring);
    Ok(())
}

fn panic_in_drop() -> Result<(), Failed> {
    let mut ring = small();
    let drops = Rc::new(Cell::new(0));
    let (reader, mut writer) = pipe()?;
    let ticket = ring.submit(Read::new(reader, Watched::new(&drops, Panics::InDrop)));
    ring.detach(ticket.map_err(|r| r.why)?);
    let nop = ring.submit(Nop)?;
    writer.write_all(b"x")?;
    while drops.get() == 0 {
        ring.submit_and_wait(1)?;
        let reaped = quietly(|| ring.reap(|_| ()));
        assert!(reaped.is_ok(), "who reaps has not given it up, and loses nothing by it");
    }
    assert_eq!(drops.get(), 1);
    ring.wait(nop)??;
    assert_eq!((ring.in_flight(), ring.vacant()), (0, 8));
    Ok(())
}

fn detached() -> Result<(), Failed> {
    let mut ring = small();
    let drops = Rc::new(Cell::new(0));
    let (reader, mut writer) = pipe()?;
    let ticket = ring.submit(Read::new(reader, Watched::new(&drops, Panics::Never)));
    ring.detach(ticket.map_err(|r| r.why)?);
    works(&mut ring);
    assert_eq!((drops.get(), ring.in_flight()), (0, 1));
    writer.write_all(b"x")?;
    while ring.in_flight() > 0 {
        ring.submit_and_wait(1)?;
        ring.reap(|event| panic!("it shows no event: {event:?}"))?;
    }
    assert_eq!((drops.get(), ring.vacant()), (1, 8));
    Ok(())
}

fn forgotten() -> Result<(), Failed> {
    let drops = Rc::new(Cell::new(0));
    let mut ring = small();
    let (reader, mut writer) = pipe()?;
    let ticket = ring.submit(Read::new(reader, Watched::new(&drops, Panics::Never)));
    let _ = ticket.map_err(|r| r.why)?;
    writer.write_all(b"x")?;
    ring.submit_and_wait(1)?;
    ring.reap(|_| ())?;
    assert_eq!((drops.get(), ring.vacant()), (0, 7));
    drop(ring);
    assert_eq!(drops.get(), 1);
    Ok(())
}

fn cancelled() -> Result<(), Failed> {
    let mut ring = small();
    let (ticket, _writer) = waiting(&mut ring);
    ring.cancel(&ticket)?;
    let read = ring.wait(ticket)?;
    let errno = read.result.expect_err("it was cancelled").raw_os_error();
    assert!(matches!(errno, Some(libc::ECANCELED | libc::EINTR)), "{errno:?}");
    assert!(read.buf.is_empty() && read.buf.capacity() >= 8);
    Ok(())
}

fn bounded() -> Result<(), Failed> {
    let mut ring = small();
    let (ticket, mut writer) = waiting(&mut ring);
    let unfinished = ring.wait_timeout(ticket, Duration::from_millis(5)).expect_err("no data");
    assert_eq!(unfinished.why.cause, EnterCause::TimedOut);
    writer.write_all(b"x")?;
    assert_eq!(ring.wait(unfinished.ticket)?.buf, b"x");
    Ok(())
}

fn user_values() -> Result<(), Failed> {
    let mut ring: Ring<u32> = patient(|| Setup::new(4).build_for())?;
    for word in [10, 20, 30] {
        let ticket = ring.submit_for(Nop, word).map_err(|r| r.why)?;
        assert_eq!(*ring.user(&ticket), word);
        ring.wait(ticket)??; // Drops its user value.
    }
    let mut tickets = Vec::new();
    for word in [1, 2, 3] {
        tickets.push(ring.submit_for(Nop, word).map_err(|r| r.why)?);
    }
    *ring.user(&tickets[0]) = 7;
    ring.submit_and_wait(3)?;
    let mut seen = Vec::new();
    ring.reap(|event| match event {
        Event::Ended { user, result: Ok(0), .. } => seen.push(*user),
        other => panic!("{other:?}"),
    })?;
    seen.sort_unstable();
    assert_eq!(seen, [2, 3, 7]);
    tickets.into_iter().for_each(|ticket| ring.detach(ticket));
    assert_eq!(ring.vacant(), 8);
    Ok(())
}

fn kept() -> Result<(), Failed> {
    let mut ring: Ring<u32> = patient(|| Setup::new(4).build_for())?;
    let first = ring.submit_for(Nop, 1).map_err(|r| r.why)?;
    let second = ring.submit_for(Nop, 2).map_err(|r| r.why)?;
    ring.wait(second)??;
    let mut seen = Vec::new();
    ring.submit_and_wait(1)?; // The event is kept, so no wait is needed.
    ring.reap(|event| match event {
        Event::Ended { user, .. } => seen.push(*user),
        other => panic!("{other:?}"),
    })?;
    assert_eq!(seen, [1]);
    ring.wait(first)??;
    Ok(())
}

fn redeemed() -> Result<(), Failed> {
    let mut ring = small();
    for _ in 0..100 {
        let first = ring.submit(Nop)?;
        let second = ring.submit(Nop)?;
        ring.wait(second)??;
        ring.wait(first)??;
    }
    ring.reap(|event| panic!("it was redeemed: {event:?}"))?;
    Ok(())
}

fn could_never_end() -> Result<(), Failed> {
    let mut ring = small();
    let error = ring.submit_and_wait(1).expect_err("nothing is in flight");
    assert_eq!(error.cause, EnterCause::NothingComing { want: 1, coming: 0 });
    works(&mut ring);
    Ok(())
}

fn raw_entries() -> Result<(), Failed> {
    let mut ring = small();
    let ticket = ring.submit(Nop)?;
    forge(&mut ring, 3 << 62 | 5);
    ring.submit_and_wait(2)?;
    let mut raw = Vec::new();
    ring.reap(|event| {
        if let Event::Raw(cqe) = event {
            raw.push(cqe.user_data);
        }
    })?;
    assert_eq!(raw, [3 << 62 | 5]);
    ring.wait(ticket)??;
    Ok(())
}

fn reuse() -> Result<(), Failed> {
    let mut ring = small();
    let drops = Rc::new(Cell::new(0));
    for _ in 0..1000 {
        let (reader, mut writer) = pipe()?;
        writer.write_all(b"12345678")?;
        let ticket = ring.submit(Read::new(reader, Watched::new(&drops, Panics::Never)));
        let read = ring.wait(ticket.map_err(|r| r.why)?)?;
        assert_eq!(read.buf.bytes(), b"12345678");
    }
    assert_eq!((drops.get(), ring.vacant(), ring.stale()), (1000, 8, 0));
    Ok(())
}

/// Compiles only for operations.
const fn is_op<O: Op>() {}
const _: () = is_op::<Read<PipeReader, Watched>>();
