//! Solutions of chapter 0: how often the kernel is entered, and who has the buffer.

use std::fs::{self, File};
use std::rc::Rc;

use annulus::Setup;
use annulus::op::{Read, Write};

use crate::ring;

/// A file of so many bytes, which is removed when it is closed.
fn file(bytes: usize) -> File {
    let path = std::env::temp_dir().join(format!("annulus-book-{}-{bytes}", std::process::id()));
    fs::write(&path, vec![b'x'; bytes]).expect("it can be written");
    let file = File::open(&path).expect("it is there");
    fs::remove_file(path).expect("it is there");
    file
}

// ANCHOR: enters
#[test]
fn ten_thousand_bytes_by_4096_are_four_enters() {
    let Some(mut ring) = ring(Setup::new(8)) else { return };
    let (mut file, mut buf, mut counts) = (file(10_000), Vec::with_capacity(4096), vec![]);
    loop {
        let read = ring.submit(Read::new(file, buf)).expect("room");
        let outcome = ring.wait(read).expect("it goes on");
        counts.push(outcome.result.expect("it can be read"));
        if counts.ends_with(&[0]) {
            break;
        }
        (file, buf) = (outcome.fd, outcome.buf);
    }
    assert_eq!(counts, [4096, 4096, 1808, 0]);
    assert_eq!(ring.stats().enters, 4);
}
// ANCHOR_END: enters

// ANCHOR: depth
#[test]
fn four_reads_in_flight_are_one_enter() {
    let Some(mut ring) = ring(Setup::new(8)) else { return };
    let file = Rc::new(file(16_384));
    let mut reads = Vec::new();
    for part in 0..4 {
        let read = Read::new(Rc::clone(&file), Vec::with_capacity(4096)).at(part * 4096);
        reads.push(ring.submit(read).expect("room"));
    }
    ring.submit_and_wait(4).expect("all four complete");
    assert_eq!(ring.stats().enters, 1);
    for read in reads {
        assert_eq!(ring.wait(read).expect("it is there").result.expect("bytes"), 4096);
    }
    assert_eq!(ring.stats().enters, 1, "they were there already");
}
// ANCHOR_END: depth

// ANCHOR: pipe
#[test]
fn a_write_and_its_read_are_one_enter_in_either_order() {
    for read_first in [false, true] {
        let Some(mut ring) = ring(Setup::new(8)) else { return };
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let (read, write) = (Read::new(reader, [0; 5]), Write::new(writer, "hello"));
        let (read, write) = if read_first {
            let read = ring.submit(read).expect("room");
            (read, ring.submit(write).expect("room"))
        } else {
            let write = ring.submit(write).expect("room");
            (ring.submit(read).expect("room"), write)
        };
        ring.submit_and_wait(2).expect("both complete");
        assert_eq!(ring.stats().enters, 1);
        assert_eq!(ring.wait(write).expect("it is there").result.expect("room in the pipe"), 5);
        assert_eq!(ring.wait(read).expect("it is there").buf, *b"hello");
    }
}
// ANCHOR_END: pipe

// ANCHOR: failed
#[test]
fn a_read_that_fails_gives_everything_back() {
    let Some(mut ring) = ring(Setup::new(8)) else { return };
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let buf = Vec::with_capacity(100);
    let address = buf.as_ptr();
    // The end for writing cannot be read.
    let read = ring.submit(Read::new(writer, buf)).expect("room");
    let outcome = ring.wait(read).expect("it goes on");
    assert!(outcome.result.is_err());
    assert_eq!((outcome.buf.len(), outcome.buf.as_ptr()), (0, address), "the very same buffer");
    drop((reader, outcome.fd));
}
// ANCHOR_END: failed
