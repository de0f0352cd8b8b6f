//! After set-up, no operation allocates, and memory that the kernel uses is not freed: both are
//! counted.
//!
//! | counted | over |
//! |---|---|
//! | allocations of this thread | a thousand rounds of each way to use a ring |
//! | slots that are allocated | the life of a ring, whose operations end or do not |
#![allow(unsafe_code, reason = "stands in for the allocator")]

#[path = "../support/mod.rs"]
mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::pipe;
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use annulus::op::{Nop, Read, Write};
use annulus::{Event, EventLoop, Lane, Ring, Setup, SetupError, StepExt};

use support::backend::{Enter, ScriptedKernel};

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static SLOTS: Cell<usize> = const { Cell::new(0) };
}

/// An alignment that only operations have.
fn bytes_of_slots(layout: Layout) -> usize {
    if layout.align() == 64 { layout.size() } else { 0 }
}

/// The system's allocator, counting.
struct Counting;

// SAFETY: everything is left to the system's allocator, because each method passes on what it got.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        SLOTS.with(|slots| slots.set(slots.get().wrapping_add(bytes_of_slots(layout))));
        // SAFETY: as promised to `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        SLOTS.with(|slots| slots.set(slots.get().wrapping_sub(bytes_of_slots(layout))));
        // SAFETY: as promised to `dealloc`.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        // SAFETY: as promised to `realloc`.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How many allocations a thousand rounds of `round` make, after one to warm up.
fn allocations(mut round: impl FnMut()) -> u64 {
    round();
    let before = COUNT.with(Cell::get);
    for _ in 0..1000 {
        round();
    }
    COUNT.with(Cell::get) - before
}

fn ring<U: Default>() -> Option<Ring<U>> {
    match Setup::new(8).build_for() {
        Ok(ring) => Some(ring),
        Err(SetupError::LockedMemory { .. } | SetupError::OutOfMemory { .. }) => {
            panic!("no memory for a ring of 8 entries")
        }
        Err(error) => {
            println!("skipped: {error}");
            None
        }
    }
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(1_u8)))), 1000);
}

#[test]
fn submitting_and_waiting_allocates_nothing() {
    let Some(mut ring) = ring::<()>() else { return };
    let count = allocations(|| {
        let tickets = [ring.submit(Nop), ring.submit(Nop)].map(|ticket| ticket.expect("room"));
        for ticket in tickets {
            ring.wait(ticket).expect("wait").expect("a NOP succeeds");
        }
    });
    assert_eq!(count, 0);
}

#[test]
fn reaping_and_waking_allocates_nothing() {
    let Some(mut ring) = ring::<Option<Waker>>() else { return };
    let mut tickets = Vec::with_capacity(8);
    let count = allocations(|| {
        for _ in 0..8 {
            let waker = Some(Waker::noop().clone());
            tickets.push(ring.submit_for(Nop, waker).expect("room"));
        }
        ring.submit_and_wait(8).expect("wait");
        ring.reap(|event| {
            if let Event::Ended { user, .. } = event {
                user.take().expect("a waker").wake();
            }
        })
        .expect("reap");
        for ticket in tickets.drain(..) {
            assert!(ring.try_take(ticket).is_ok());
        }
    });
    assert_eq!(count, 0);
}

#[test]
fn an_event_loop_allocates_nothing_for_what_is_in_flight() {
    let Some(ring) = ring() else { return };
    let mut events = EventLoop::new(ring, 0_u64);
    let (reader, writer) = pipe().expect("a pipe");
    let (reader, writer) = (Rc::new(reader), Rc::new(writer));
    let mut kept = Rc::new(Cell::new(Vec::with_capacity(64)));
    let count = allocations(|| {
        let (buf, back) = (kept.take(), Rc::clone(&kept));
        let mut io = events.io();
        let write = io.submit(Write::new(Rc::clone(&writer), "hello"), |_, sent| sent.result);
        write.expect("room");
        let read = io.submit(Read::new(Rc::clone(&reader), buf), move |io, read| {
            *io.state += read.result? as u64;
            back.set(read.buf);
            Ok(())
        });
        read.expect("room");
        events.run(|_, error| panic!("{error}")).expect("it runs");
    });
    assert_eq!((count, events.state > 0, Rc::get_mut(&mut kept).is_some()), (0, true, true));
}

#[test]
fn reading_and_writing_allocates_nothing() {
    let Some(mut ring) = ring::<()>() else { return };
    let (reader, writer) = pipe().expect("a pipe");
    let (reader, writer) = (Rc::new(reader), Rc::new(writer));
    let mut kept = Some(Vec::with_capacity(64));
    let count = allocations(|| {
        let mut buf = kept.take().expect("it came back");
        buf.clear();
        let write = ring.submit(Write::new(Rc::clone(&writer), "hello")).expect("room");
        let read = ring.submit(Read::new(Rc::clone(&reader), buf)).expect("room");
        assert_eq!(ring.wait(write).expect("wait").result.expect("write"), 5);
        kept = Some(ring.wait(read).expect("wait").buf);
    });
    assert_eq!((count, kept.as_deref()), (0, Some(&b"hello"[..])));
}

#[test]
fn a_scope_and_a_chain_allocate_nothing() {
    let Some(mut ring) = ring::<()>() else { return };
    let (reader, writer) = pipe().expect("a pipe");
    let mut buf = [0; 5];
    let count = allocations(|| {
        ring.scope(|s| {
            let write = Write::new(&writer, "hello");
            let read = Read::new(&reader, &mut buf[..]).within(Duration::from_secs(60));
            let chain = s.submit_chain((write, read)).expect("room");
            s.wait_chain(chain).expect("wait");
        });
    });
    assert_eq!((count, &buf), (0, b"hello"));
}

#[test]
fn a_chain_of_run_time_length_allocates_for_its_lists_only() {
    let Some(mut ring) = ring::<()>() else { return };
    let count = allocations(|| {
        let chain = ring.submit_chain(vec![Nop; 8]).expect("room");
        let outputs = ring.wait_chain(chain).expect("wait").outputs;
        assert_eq!(outputs.len(), 8);
    });
    // The tickets (a NOP has no size, so its list has no memory), and the outputs, which are no
    // larger than the tickets.
    assert!(count <= 2_000, "{count}");
}

#[test]
fn completions_that_a_wait_keeps_allocate_nothing() {
    let Some(mut ring) = ring::<()>() else { return };
    let count = allocations(|| {
        let tickets = [(); 8].map(|()| ring.submit(Nop).expect("room"));
        for ticket in tickets.into_iter().rev() {
            ring.wait(ticket).expect("wait").expect("a NOP succeeds");
        }
    });
    assert_eq!(count, 0);
}

#[test]
fn a_lane_allocates_nothing_for_an_operation() {
    let Ok(mut lane) = Setup::new(8).build_lane::<Nop, Option<Waker>>() else { return };
    let count = allocations(|| {
        let waker = || Some(Waker::noop().clone());
        lane.submit(Nop, waker()).expect("room");
        lane.submit_each((0..7).map(|_| (Nop, waker()))).expect("room");
        let taken = lane.turn(8, |waker, _| waker.expect("a waker").wake());
        assert_eq!(taken, Ok(8));
    });
    assert_eq!(count, 0);
}

#[test]
fn rg1_operations_in_flight_outlive_their_lane() {
    let memory_after = |is_in_flight: bool| {
        let before = SLOTS.with(Cell::get);
        let (kernel, script) = ScriptedKernel::new();
        let setup = Setup::plain(8).kernel(kernel);
        let mut lane: Lane<Read<_, [u8; 64]>> = setup.build_lane().expect("a lane");
        let made = SLOTS.with(Cell::get) - before;
        assert!(made >= 8 * 64, "{made} bytes hold 8 operations");
        lane.set_drop_timeout(Duration::ZERO);
        if is_in_flight {
            let (reader, _writer) = pipe().expect("a pipe");
            script.enters(Enter::Consume(1)); // The kernel does nothing more with it.
            lane.submit(Read::new(reader, [0_u8; 64]), ()).expect("room");
            assert_eq!(lane.submit_all(), Ok(1));
        }
        drop(lane);
        (made, SLOTS.with(Cell::get) - before)
    };
    let (_, left) = memory_after(false);
    assert_eq!(left, 0, "nothing was in flight");
    let (made, left) = memory_after(true);
    assert_eq!(left, made, "the kernel may still write to the buffer in its slot");
}

#[test]
fn rg1_slots_of_operations_in_flight_outlive_their_ring() {
    let slots_after = |is_in_flight: bool| {
        let before = SLOTS.with(Cell::get);
        let (kernel, script) = ScriptedKernel::new();
        let mut ring: Ring = Setup::plain(8).kernel(kernel).build().expect("a ring");
        let made = SLOTS.with(Cell::get) - before;
        assert!(made >= 8 * 64, "{made} bytes hold 8 operations");
        ring.set_drop_timeout(Duration::ZERO);
        if is_in_flight {
            let (reader, _writer) = pipe().expect("a pipe");
            script.enters(Enter::Consume(1)); // The kernel does nothing more with it.
            let ticket = ring.submit(Read::new(reader, [0_u8; 64])).expect("room");
            assert_eq!(ring.submit_all(), Ok(1));
            ring.detach(ticket);
        }
        drop(ring);
        (made, SLOTS.with(Cell::get) - before)
    };
    let (_, left) = slots_after(false);
    assert_eq!(left, 0, "nothing was in flight");
    let (made, left) = slots_after(true);
    assert_eq!(left, made, "the kernel may still write to the buffer in its slot");
}
