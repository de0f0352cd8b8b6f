//! Solutions of chapter 19: one read on three paths, workers counted, and what is there at once.

use std::fs;
use std::io::{PipeReader, PipeWriter, Write as _};
use std::thread;
use std::time::{Duration, Instant};

use annulus::op::{Nop, Op as _, Read, Splice};
use annulus::sys::flags::Features;
use annulus::sys::opcode::Opcode;
use annulus::{Capabilities, Ring, Setup};

use crate::ring;

// ANCHOR: workers
/// How many workers this thread has. They bear its number.
pub fn workers() -> usize {
    let link = fs::read_link("/proc/thread-self").expect("/proc is mounted");
    let thread = link.file_name().expect("a number").to_string_lossy().into_owned();
    let tasks = fs::read_dir("/proc/self/task").expect("/proc is mounted");
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.trim() == format!("iou-wrk-{thread}")).count()
}
// ANCHOR_END: workers

/// A ring whose workers are threads of this process, or a reason on stderr.
fn with_workers() -> Option<Ring> {
    let ring = ring(Setup::plain(16))?;
    if !ring.features().contains(Features::NATIVE_WORKERS) {
        eprintln!("skipped: needs Linux 5.12");
        return None;
    }
    Some(ring)
}

/// How many completions are there, which asks nobody.
fn there(ring: &Ring) -> u32 {
    let at = ring.raw().positions();
    at.cq_tail.distance_from(at.cq_head)
}

// ANCHOR: three
#[test]
fn one_read_takes_each_of_three_paths() {
    let Some(mut ring) = with_workers() else { return };
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    // Inline: the byte is there before the read.
    writer.write_all(b"1").expect("room in the pipe");
    let read = ring.submit(Read::new(reader, [0; 1])).expect("room");
    ring.submit_all().expect("it is taken");
    assert_eq!((there(&ring), workers()), (1, 0));
    let reader = ring.wait(read).expect("it ends").fd;
    // Armed: the byte is not there, and a pipe can say when it is.
    let read = ring.submit(Read::new(reader, [0; 1])).expect("room");
    ring.submit_all().expect("it is taken");
    assert_eq!((there(&ring), workers()), (0, 0));
    writer.write_all(b"2").expect("room in the pipe");
    let reader = ring.wait(read).expect("it ends").fd;
    assert_eq!(workers(), 0);
    // On a worker: the byte is there, and we ask for one anyway.
    writer.write_all(b"3").expect("room in the pipe");
    let read = ring.submit(Read::new(reader, [0; 1]).forced()).expect("room");
    assert_eq!(ring.wait(read).expect("it ends").buf, *b"3");
    assert_eq!(workers(), 1);
}
// ANCHOR_END: three

// ANCHOR: threads
/// Eight pipes that nobody has written to.
fn silent() -> (Vec<PipeReader>, Vec<PipeWriter>) {
    (0..8).map(|_| std::io::pipe().expect("a pipe")).unzip()
}

#[test]
fn eight_reads_that_wait_are_no_thread_and_eight_splices_are_eight() {
    let Some(mut ring) = with_workers() else { return };
    let (readers, _writers) = silent();
    for reader in readers {
        let read = ring.submit(Read::new(reader, [0; 1])).expect("room");
        ring.detach(read);
    }
    ring.submit_all().expect("they are taken");
    assert_eq!((ring.in_flight(), workers()), (8, 0));

    let ((readers, writers), (_others, tos)) = (silent(), silent());
    for (from, to) in readers.into_iter().zip(tos) {
        let splice = ring.submit(Splice::new(from, to, 1)).expect("room");
        ring.detach(splice);
    }
    ring.submit_all().expect("they are taken");
    // Nobody tries a splice, and none leaves a note. Each waits as a thread of ours would.
    let start = Instant::now();
    while workers() < 8 {
        assert!(start.elapsed() < Duration::from_secs(20), "{} workers", workers());
        thread::yield_now();
    }
    drop(writers);
}
// ANCHOR_END: threads

#[test]
fn a_forced_read_that_finds_nothing_holds_no_worker() {
    // The first with MSG_RING is one that arms it.
    if !Capabilities::detect().is_ok_and(|here| here.has_op(Opcode::MSG_RING)) {
        return eprintln!("skipped: needs Linux 5.18");
    }
    let Some(mut ring) = with_workers() else { return };
    let (readers, _writers) = silent();
    for reader in readers {
        let read = ring.submit(Read::new(reader, [0; 1]).forced()).expect("room");
        ring.detach(read);
    }
    ring.submit_all().expect("they are taken");
    // Were they eight that block, they would be there by then.
    thread::sleep(Duration::from_millis(300));
    assert!((1..8).contains(&workers()), "{} workers", workers());
    assert_eq!(ring.in_flight(), 8);
}

// ANCHOR: at_once
#[test]
fn what_is_there_after_a_submit_is_what_ran_inline() {
    let Some(mut ring) = with_workers() else { return };
    let ((full, mut to_full), (empty, mut to_empty)) =
        (std::io::pipe().expect("a pipe"), std::io::pipe().expect("a pipe"));
    to_full.write_all(b"x").expect("room in the pipe");
    let first = ring.submit(Nop).expect("room");
    let waits = ring.submit(Read::new(empty, [0; 1])).expect("room");
    let reads = ring.submit(Read::new(full, [0; 1])).expect("room");
    let last = ring.submit(Nop).expect("room");
    assert_eq!(ring.submit_all().expect("they are taken"), 4);
    // The one that waits holds up none of those behind it.
    assert_eq!(there(&ring), 3);
    to_empty.write_all(b"x").expect("room in the pipe");
    for nop in [first, last] {
        ring.wait(nop).expect("it ends").expect("a NOP does not fail");
    }
    for read in [waits, reads] {
        assert_eq!(ring.wait(read).expect("it ends").buf, *b"x");
    }
}
// ANCHOR_END: at_once
