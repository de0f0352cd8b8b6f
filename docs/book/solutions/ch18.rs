//! Solutions of chapter 18: messages, workers, and a file that changes its ring.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{PipeReader, Write as _};
use std::num::NonZeroU32;
use std::os::unix::ffi::OsStrExt as _;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use annulus::lease::FixedFile;
use annulus::op::{Cwd, Forced, How, Message, Nop, Op as _, OpenAt, PassFile, Read};
use annulus::raw::register::WorkerLimits;
use annulus::sys::flags::SetupFlags;
use annulus::sys::opcode::{Opcode, RegisterOp};
use annulus::{Capabilities, Event, Ring, Setup, Ticket};

use crate::ring;

/// Whether this kernel has what a test needs; otherwise it says so.
fn has(what: &str, is_there: impl Fn(&Capabilities) -> bool) -> bool {
    let it_is = Capabilities::detect().is_ok_and(|here| is_there(&here));
    if !it_is {
        eprintln!("skipped: needs {what}");
    }
    it_is
}

// ANCHOR: messages
#[test]
fn messages_of_one_turn_are_one_enter() {
    if !has("Linux 5.18: MSG_RING", |here| here.has_op(Opcode::MSG_RING)) {
        return;
    }
    let Some(mut here) = ring(Setup::new(64)) else { return };
    let Some(mut there) = ring(Setup::new(64)) else { return };
    let sender = there.sender().expect("a sender");
    for number in 0..64 {
        let ticket = here.submit(Message::new(&sender, number).expect("it is there"));
        here.detach(ticket.expect("room"));
    }
    here.submit_and_wait(64).expect("all are sent");
    assert_eq!(here.stats().enters, 1);
    let mut numbers = Vec::new();
    while numbers.len() < 64 {
        there.submit_and_wait(1).expect("a message comes");
        let each = |event: Event<'_, ()>| {
            if let Event::Message(number) = event {
                numbers.push(number);
            }
        };
        there.reap(each).expect("a look");
    }
    // In the order in which one ring sent them.
    assert_eq!(numbers, (0..64).collect::<Vec<u64>>());
}
// ANCHOR_END: messages

// ANCHOR: shared
/// Whether an operation that needs a worker gets one within a while; its ticket if not.
fn gets_a_worker(ring: &mut Ring, limit: Duration) -> Result<(), Ticket<Forced<Nop>>> {
    let nop = ring.submit(Nop.forced()).expect("room");
    ring.wait_timeout(nop, limit).map(drop).map_err(|unfinished| unfinished.ticket)
}

#[test]
fn rings_of_one_thread_share_its_workers_and_rings_of_two_threads_do_not() {
    let limits = RegisterOp::IOWQ_MAX_WORKERS;
    if !has("Linux 5.15: IOWQ_MAX_WORKERS", |here| here.has_register(limits)) {
        return;
    }
    let path = std::env::temp_dir().join(format!("annulus-{}-fifo", std::process::id()));
    assert!(Command::new("mkfifo").arg(&path).status().expect("it starts").success());
    let fifo = path.clone();
    let name = CString::new(path.as_os_str().as_bytes()).expect("a name without a 0");
    // On a thread of its own, since the limit stays with the thread.
    let thread = thread::spawn(move || {
        let mut first = ring(Setup::new(8)).expect("the kernel has rings");
        let mut second = ring(Setup::new(8)).expect("the kernel has rings");
        let one = WorkerLimits { bounded: NonZeroU32::new(1), ..WorkerLimits::default() };
        first.raw().set_max_workers(one).expect("a limit");
        // To open a FIFO waits for its other side, and holds the worker until then.
        let open = first.submit(OpenAt::new(Cwd, name, How::read()).forced()).expect("room");
        first.submit_all().expect("it is taken");
        let waits = gets_a_worker(&mut second, Duration::from_millis(50));
        let nop = waits.expect_err("the worker of this thread is busy, for the other ring");
        let elsewhere = thread::spawn(|| {
            let mut third = ring(Setup::new(8)).expect("as before");
            gets_a_worker(&mut third, Duration::from_secs(60)).is_ok()
        });
        assert!(elsewhere.join().expect("no panic"), "another thread has workers of its own");
        let _writer = File::options().write(true).open(fifo).expect("both sides are here");
        first.wait(open).expect("it goes on").result.expect("it is open");
        second.wait(nop).expect("now it is its turn").expect("a NOP does not fail");
    });
    let ended = thread.join();
    fs::remove_file(path).expect("it is ours");
    ended.expect("no panic");
}
// ANCHOR_END: shared

// ANCHOR: pass
#[test]
fn a_file_without_a_descriptor_goes_to_the_ring_of_another_thread() {
    // It came with telling the place (6.3), of which no flag speaks; this one came next.
    if !has("Linux 6.5", |here| here.setup_flags().contains(SetupFlags::NO_MMAP)) {
        return;
    }
    let (give, take) = mpsc::channel();
    let (pass_on, receive) = mpsc::channel();
    let thread = thread::spawn(move || {
        let mut ring = ring(Setup::new(8)).expect("the kernel has rings");
        let table = ring.file_table(1).expect("a table");
        let senders = (table.sender().expect("a way in"), ring.sender().expect("a sender"));
        give.send(senders).expect("it listens");
        // The first wake-ups may be for the kernel's own work: it puts the file into our table.
        let mut came = false;
        while !came {
            ring.submit_and_wait(1).expect("a message comes");
            ring.reap(|event| came |= matches!(event, Event::Message(_))).expect("a look");
        }
        let passed = receive.recv().expect("it was sent before the message");
        let file: FixedFile = table.receive(passed).expect("it lies in this table");
        let read = ring.submit(Read::new(file, Vec::with_capacity(8))).expect("room");
        ring.wait(read).expect("it is there").ok().expect("bytes").1
    });
    let (files, messages) = take.recv().expect("it has a ring");
    let mut ring = ring(Setup::new(8)).expect("the kernel has rings");
    let table = ring.file_table(1).expect("a table");
    let (reader, mut writer): (PipeReader, _) = std::io::pipe().expect("a pipe");
    let file = table.insert(&mut ring, &reader).expect("it is empty");
    drop(reader); // From here on the pipe has no descriptor for its reading end.
    writer.write_all(b"moved").expect("room in the pipe");
    let pass = ring.submit(PassFile::new(file, &files).expect("it is there")).expect("room");
    let passed = ring.wait(pass).expect("it is done").result.expect("there is a free place");
    pass_on.send(passed).expect("it listens");
    messages.send(1).expect("its ring is there");
    assert_eq!(thread.join().expect("no panic"), b"moved");
}
// ANCHOR_END: pass
