//! Messages: from threads and from other rings, by each way that they take.
//!
//! | ring | its messages come |
//! |---|---|
//! | `recommended`, `polling` | as completions, since Linux 6.13; before, through a queue |
//! | `nameless`, `nameless_polling` | through a queue: the ring has no descriptor (Linux 6.5) |
//!
//! Tests that fork run in a process of their own, since fork copies only one thread.
#![allow(unsafe_code, reason = "forks")]

use std::collections::BTreeSet;
use std::io::{PipeWriter, pipe};
use std::sync::mpsc::{self, TryRecvError};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use annulus::MAX_MESSAGE;
use annulus::op::{Cancel, CancelOutcome, Message, Nop, Read, Timeout};
use annulus::sys::flags::SetupFlags;
use annulus::sys::map::Pages;
use annulus::sys::opcode::{Opcode, RegisterOp};
use annulus::{Event, Ring, RingSender, SendError, Setup};
use libtest_mimic::{Failed, Trial};

use crate::harness::{Need, Part, child_succeeds, here, safe_ring, test};
use crate::watched::{quietly, unwind};

#[path = "safe_sender/drains.rs"]
mod drains;
#[path = "safe_sender/entries.rs"]
mod entries;
#[path = "safe_sender/gone.rs"]
mod gone;

/// The parts that play in a child process.
pub const PARTS: &[Part] = &[("a forked child sends", forked_child_sends)];

/// Since Linux 5.18.
const MESSAGES: Need = Need::Op(Opcode::MSG_RING);
/// Since Linux 5.19, as cancels by something else than a ticket.
const FLAGS: Need = Need::Op(Opcode::SOCKET);

type Body = fn(Ring) -> Result<(), Failed>;

/// Facts that hold whichever way messages take.
const EACH_WAY: [(&str, &[Need], Body); 10] = [
    ("messages_of_four_threads_all_arrive", &[], four_threads),
    ("messages_arrive_among_completions", &[], among_completions),
    ("a_message_wakes_a_ring_that_waits", &[], wakes),
    ("messages_count_as_events_that_are_waited_for", &[], counted),
    ("a_message_during_a_wait_is_shown_later", &[], kept),
    ("a_ring_that_only_reaps_sees_messages", &[], only_reaps),
    ("messages_arrive_although_the_ring_was_full", &[], was_full),
    ("messages_arrive_after_everything_was_cancelled", &[FLAGS], after_cancel),
    ("a_panic_over_a_message_loses_no_other", &[], panics),
    ("a_sender_outlives_its_ring", &[], outlives),
];

/// The tests.
pub fn tests() -> Vec<Trial> {
    let mut tests = vec![
        test("a_message_has_62_bits", &[], widest),
        test("a_ring_has_one_mailbox", &[], one_mailbox),
        test("a_message_goes_from_ring_to_ring", &[MESSAGES], ring_to_ring),
        test("a_message_goes_to_the_ring_that_sends_it", &[MESSAGES], to_itself),
        test("a_message_keeps_the_descriptor_that_it_names", &[MESSAGES], keeps_descriptor),
        test("a_message_to_a_ring_that_is_gone_is_not_made", &[], to_nobody),
        test("a_ring_without_descriptor_cannot_be_named", &[Need::Setup(NAMELESS)], nameless),
        test("a_ring_that_polls_devices_takes_messages_or_says_why_not", &[], devices),
        test("a_forked_child_cannot_send", &[], || child_succeeds("a forked child sends")),
        test("the_last_message_of_the_last_sender_ends_a_wait", &[], || in_each_way(last)),
        test("a_wait_ends_when_the_last_sender_goes", &[], || in_each_way(gone::last)),
        test("a_wait_ends_whichever_sender_goes_last", &[], || in_each_way(gone::at_once)),
        test("a_wait_for_something_else_outlives_the_senders", &[], || in_each_way(gone::beside)),
        test("what_is_drained_begins_or_is_refused_while_there_is_a_sender", &[], || {
            in_each_way(drains::begins_or_is_refused)
        }),
        test("messages_that_came_hide_no_entry_of_the_callers_own", &[], || {
            in_each_way(entries::own)
        }),
        test("a_sender_is_made_only_where_its_messages_wake_the_ring", &[], || {
            in_each_way(drains::wakes_or_is_refused)
        }),
    ];
    for (name, needs, body) in EACH_WAY {
        for (way, flags, setup) in ways() {
            let needs = [needs, &[Need::Setup(flags)]].concat();
            let body = move || body(safe_ring(setup));
            tests.push(test(&format!("{name}_{way}"), &needs, body));
        }
    }
    tests
}

const NAMELESS: SetupFlags = SetupFlags::REGISTERED_FD_ONLY;

/// A ring for each way, with the flags that it needs.
fn ways() -> [(&'static str, SetupFlags, Setup<'static>); 4] {
    let nameless = || Setup::new(4).own_memory(Pages::Ordinary).with(NAMELESS);
    let idle = Duration::from_millis(1);
    [
        ("recommended", SetupFlags::empty(), Setup::new(4)),
        ("polling", SetupFlags::SQPOLL, Setup::new(4).sqpoll(idle)),
        ("nameless", NAMELESS, nameless()),
        ("nameless_polling", NAMELESS | SetupFlags::SQPOLL, nameless().sqpoll(idle)),
    ]
}

/// `body` with a ring for each way that there is here.
fn in_each_way(body: Body) -> Result<(), Failed> {
    let here = ways().into_iter().filter(|(_, flags, _)| here().setup_flags().contains(*flags));
    here.map(|(_, _, setup)| safe_ring(setup)).try_for_each(body)
}

/// The messages among the events that there are.
fn reap(ring: &mut Ring) -> Vec<u64> {
    let mut messages = Vec::new();
    let each = |event: Event<'_, ()>| {
        if let Event::Message(message) = event {
            messages.push(message);
        }
    };
    ring.reap(each).expect("reap");
    messages
}

/// Waits for `count` messages.
fn await_messages(ring: &mut Ring, count: usize) -> Vec<u64> {
    let mut messages = Vec::new();
    while messages.len() < count {
        ring.submit_and_wait(1).expect("wait");
        messages.extend(reap(ring));
    }
    messages
}

fn four_threads(mut ring: Ring) -> Result<(), Failed> {
    const EACH: u64 = 250;
    let sender = ring.sender()?;
    let threads = (0..4).map(|thread| {
        let sender = sender.clone();
        thread::spawn(move || {
            for message in thread * EACH..(thread + 1) * EACH {
                sender.send(message).expect("the ring is there");
            }
        })
    });
    let threads: Vec<_> = threads.collect();
    let messages = await_messages(&mut ring, 1000);
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    assert_eq!(messages.len(), 1000);
    assert_eq!(messages.into_iter().collect::<BTreeSet<_>>(), (0..1000).collect());
    assert_eq!((reap(&mut ring).len(), ring.stale()), (0, 0));
    Ok(())
}

fn among_completions(mut ring: Ring) -> Result<(), Failed> {
    let sender = ring.sender()?;
    let thread = thread::spawn(move || (0..100).try_for_each(|message| sender.send(message)));
    let mut messages = Vec::new();
    for _ in 0..100 {
        let ticket = ring.submit(Nop)?;
        ring.wait(ticket)??;
        messages.extend(reap(&mut ring));
    }
    thread.join().expect("no panic")?;
    let left = 100 - messages.len();
    messages.extend(await_messages(&mut ring, left));
    messages.sort_unstable();
    assert!(messages.into_iter().eq(0..100));
    Ok(())
}

/// Each message is sent after the one before has come, so most waits begin with no message there.
fn wakes(mut ring: Ring) -> Result<(), Failed> {
    let sender = ring.sender()?;
    let barrier = Arc::new(Barrier::new(2));
    let there = Arc::clone(&barrier);
    let thread = thread::spawn(move || {
        for message in 0..50 {
            there.wait();
            sender.send(message).expect("the ring is there");
        }
    });
    for message in 0..50 {
        barrier.wait();
        assert_eq!(await_messages(&mut ring, 1), [message]);
    }
    thread.join().expect("no panic");
    Ok(())
}

/// Even when several of them come with one completion, or with none.
fn counted(mut ring: Ring) -> Result<(), Failed> {
    let sender = ring.sender()?;
    for _ in 0..2 {
        for message in [1, 2, 3] {
            sender.send(message)?;
        }
        let ticket = ring.submit(Nop)?;
        ring.submit_and_wait(4)?;
        let mut messages = reap(&mut ring);
        messages.sort_unstable();
        assert_eq!(messages, [1, 2, 3]);
        ring.try_take(ticket).expect("it was waited for")?;
    }
    Ok(())
}

fn kept(mut ring: Ring) -> Result<(), Failed> {
    let sender = ring.sender()?;
    sender.send(7)?;
    let ticket = ring.submit(Timeout::new(Duration::from_millis(1)))?;
    ring.wait(ticket)??;
    sender.send(8)?;
    let mut messages = await_messages(&mut ring, 2);
    messages.sort_unstable();
    assert_eq!(messages, [7, 8]);
    Ok(())
}

fn only_reaps(mut ring: Ring) -> Result<(), Failed> {
    let sender = ring.sender()?;
    for message in 0..5 {
        sender.send(message)?;
        let mut messages = reap(&mut ring);
        while messages.is_empty() {
            messages = reap(&mut ring);
        }
        assert_eq!(messages, [message]);
    }
    Ok(())
}

/// A ring of 4 that 4 reads have filled, none of which ends.
fn fill(ring: &mut Ring) -> Result<PipeWriter, Failed> {
    let (reader, writer) = pipe()?;
    for _ in 0..4 {
        let read = Read::new(reader.try_clone()?, Vec::with_capacity(8));
        let ticket = ring.submit(read)?;
        ring.detach(ticket);
    }
    Ok(writer)
}

fn was_full(mut ring: Ring) -> Result<(), Failed> {
    let _writer = fill(&mut ring)?;
    let sender = ring.sender()?;
    let thread = thread::spawn(move || sender.send(7));
    assert_eq!(await_messages(&mut ring, 1), [7]);
    thread.join().expect("no panic")?;
    assert_eq!(ring.in_flight(), 4);
    Ok(())
}

/// Internal requests are cancelled too, and made again.
fn after_cancel(mut ring: Ring) -> Result<(), Failed> {
    let sender = ring.sender()?;
    let timeout = ring.submit(Timeout::new(Duration::from_secs(3600)))?;
    ring.submit_all()?;
    for message in 0..3 {
        for cancel in [Cancel::any(), Cancel::opcode(Opcode::POLL_ADD)] {
            let cancel = ring.submit(cancel)?;
            let outcome = ring.wait(cancel)?;
            assert!(!matches!(outcome, CancelOutcome::TooLate), "{outcome:?}");
        }
        let sender = sender.clone();
        let thread = thread::spawn(move || sender.send(message));
        assert_eq!(await_messages(&mut ring, 1), [message]);
        thread.join().expect("no panic")?;
    }
    let error = ring.wait(timeout)?.expect_err("it was cancelled");
    assert_eq!(error.raw_os_error(), Some(libc::ECANCELED));
    assert_eq!(ring.stale(), 0);
    Ok(())
}

fn panics(mut ring: Ring) -> Result<(), Failed> {
    let sender = ring.sender()?;
    for message in [1, 2, 3] {
        sender.send(message)?;
    }
    let mut seen = None;
    ring.submit_and_wait(1)?;
    let panicked = quietly(|| {
        ring.reap(|event| {
            if let Event::Message(message) = event {
                seen = Some(message);
                unwind();
            }
        })
    });
    assert!(panicked.is_err());
    // Submitting arms the internal requests, and must not hide messages that are there already.
    ring.submit_all()?;
    let mut messages = await_messages(&mut ring, 2);
    messages.extend(seen);
    messages.sort_unstable();
    assert_eq!(messages, [1, 2, 3]);
    Ok(())
}

/// Threads send while the ring is dropped: each message is taken or refused, and no thread hangs.
fn outlives(mut ring: Ring) -> Result<(), Failed> {
    fn send_on(sender: &RingSender) -> SendError {
        loop {
            if let Err(error) = sender.send(1) {
                return error;
            }
        }
    }
    let sender = ring.sender()?;
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let sender = sender.clone();
            thread::spawn(move || send_on(&sender))
        })
        .collect();
    ring.submit_and_wait(1)?;
    drop(ring);
    for thread in threads {
        assert_eq!(thread.join().expect("no panic"), SendError::Closed);
    }
    assert_eq!(sender.clone().send(1), Err(SendError::Closed));
    Ok(())
}

/// The sender is dropped right after it sends, perhaps while the ring checks whether one is left.
fn last(mut ring: Ring) -> Result<(), Failed> {
    let (to, senders) = mpsc::channel::<(u32, RingSender)>();
    let thread = thread::spawn(move || {
        loop {
            match senders.try_recv() {
                Ok((pause, sender)) => {
                    (0..pause).for_each(|_| std::hint::spin_loop());
                    sender.send(7).expect("the ring is there");
                }
                Err(TryRecvError::Empty) => thread::yield_now(),
                Err(TryRecvError::Disconnected) => return,
            }
        }
    });
    for round in 0..3000 {
        to.send((round % 128, ring.sender()?))?;
        assert_eq!(await_messages(&mut ring, 1), [7]);
    }
    drop(to);
    thread.join().expect("no panic");
    Ok(())
}

fn widest() -> Result<(), Failed> {
    let mut ring = safe_ring(Setup::new(4));
    let sender = ring.sender()?;
    for message in [0, MAX_MESSAGE] {
        sender.send(message)?;
        assert_eq!(await_messages(&mut ring, 1), [message]);
    }
    for message in [MAX_MESSAGE + 1, u64::MAX] {
        assert_eq!(sender.send(message), Err(SendError::TooWide(message)));
        assert!(matches!(Message::new(&sender, message), Err(SendError::TooWide(_))));
    }
    assert_eq!((reap(&mut ring).len(), ring.stale()), (0, 0));
    Ok(())
}

fn one_mailbox() -> Result<(), Failed> {
    let mut ring = safe_ring(Setup::new(4));
    let (first, second) = (ring.sender()?, ring.sender()?);
    first.send(1)?;
    second.send(2)?;
    drop(first);
    let mut messages = await_messages(&mut ring, 2);
    messages.sort_unstable();
    assert_eq!(messages, [1, 2]);
    Ok(())
}

fn ring_to_ring() -> Result<(), Failed> {
    let (mut here, mut there) = (safe_ring(Setup::new(4)), safe_ring(Setup::new(4)));
    let sender = there.sender()?;
    let tickets = [1, 2, 3].map(|message| {
        let message = Message::new(&sender, message).expect("the ring is there");
        here.submit(message).expect("room")
    });
    for ticket in tickets {
        here.wait(ticket)??;
    }
    let mut messages = await_messages(&mut there, 3);
    messages.sort_unstable();
    assert_eq!(messages, [1, 2, 3]);
    assert_eq!((reap(&mut here).len(), here.stale(), there.stale()), (0, 0, 0));
    Ok(())
}

fn to_itself() -> Result<(), Failed> {
    let mut ring = safe_ring(Setup::new(4));
    let message = Message::new(&ring.sender()?, 7)?;
    let ticket = ring.submit(message)?;
    ring.wait(ticket)??;
    assert_eq!(await_messages(&mut ring, 1), [7]);
    Ok(())
}

/// A ring that is made after that one was dropped may get its number, but not its messages.
fn keeps_descriptor() -> Result<(), Failed> {
    let mut here = safe_ring(Setup::new(4));
    let mut gone = safe_ring(Setup::new(4));
    let message = Message::new(&gone.sender()?, 7)?;
    drop(gone);
    let mut heirs = [safe_ring(Setup::new(4)), safe_ring(Setup::new(4))];
    let ticket = here.submit(message)?;
    let _ = here.wait(ticket)?;
    for heir in &mut heirs {
        let message = Message::new(&heir.sender()?, 8)?;
        let ticket = here.submit(message)?;
        here.wait(ticket)??;
        assert_eq!(await_messages(heir, 1), [8]);
        assert_eq!((reap(heir).len(), heir.stale()), (0, 0));
    }
    Ok(())
}

fn to_nobody() -> Result<(), Failed> {
    let mut ring = safe_ring(Setup::new(4));
    let sender = ring.sender()?;
    drop(ring);
    assert!(matches!(Message::new(&sender, 7), Err(SendError::Closed)));
    Ok(())
}

fn nameless() -> Result<(), Failed> {
    let [.., (_, _, setup), _] = ways();
    let mut ring = safe_ring(setup);
    assert!(ring.raw().fd().is_none());
    let sender = ring.sender()?;
    assert!(matches!(Message::new(&sender, 7), Err(SendError::NoDescriptor)));
    sender.send(7)?;
    assert_eq!(await_messages(&mut ring, 1), [7]);
    Ok(())
}

fn devices() -> Result<(), Failed> {
    let mut ring = safe_ring(Setup::plain(4).with(SetupFlags::IOPOLL));
    let sender = ring.sender();
    if !here().has_register(RegisterOp::SEND_MSG_RING) {
        let error = sender.expect_err("nothing would wake the ring");
        assert_eq!(error.kind(), std::io::ErrorKind::Unsupported);
        return Ok(());
    }
    sender?.send(7)?;
    let mut messages = reap(&mut ring);
    while messages.is_empty() {
        messages = reap(&mut ring);
    }
    assert_eq!(messages, [7]);
    Ok(())
}

fn forked_child_sends() {
    for (way, flags, setup) in ways() {
        if !here().setup_flags().contains(flags) {
            continue;
        }
        let mut ring = safe_ring(setup);
        let sender = ring.sender().expect("a sender");
        // SAFETY: this process has one thread, because it plays a part of a test.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let refused = sender.send(7) == Err(SendError::Closed);
            // SAFETY: ends the process and nothing else, because the parent owns what it shares.
            unsafe { libc::_exit(i32::from(!refused)) }
        }
        let mut status = 0;
        // SAFETY: one live integer, because `status` is a local.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0, "{way}: a child sent");
        sender.send(8).expect("the parent can");
        assert_eq!(await_messages(&mut ring, 1), [8], "{way}");
    }
}
