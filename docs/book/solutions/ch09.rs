//! Solutions of chapter 9: chains that break, and who is served first.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use annulus::op::{Accept, Nop, Offset, Read, Write};
use annulus::{ChainEnd, Event, Ring, Setup, StepExt as _};

use crate::ring;

/// Whether an error says that its operation never began, or was cancelled.
fn is_cancelled<T>(result: &std::io::Result<T>) -> bool {
    let number = result.as_ref().err().and_then(std::io::Error::raw_os_error);
    number == Some(libc::ECANCELED)
}

// ANCHOR: copy
#[test]
fn a_short_read_breaks_a_linked_copy() {
    let Some(mut ring) = ring(Setup::new(8)) else { return };
    let path = std::env::temp_dir().join(format!("annulus-book-copy-{}", std::process::id()));
    fs::write(&path, "twelve bytes").expect("it can be written");
    let file = OpenOptions::new().read(true).write(true).open(&path).expect("it is there");
    let file = Rc::new(file);
    let read = Read::new(Rc::clone(&file), vec![0; 100].into_boxed_slice()).at(0);
    let write = Write::new(file, vec![0; 100].into_boxed_slice()).offset(Offset::At(200));
    let chain = ring.submit_chain((read, write)).expect("room");
    let chain = ring.wait_chain(chain).expect("it goes on");
    let (read, write) = chain.outputs;
    assert_eq!(read.result.expect("a success, for whoever asked"), 12);
    assert!(is_cancelled(&write.result), "and a failure for the chain");
    assert_eq!(chain.end, ChainEnd::Broken { at: 0 });
    assert_eq!(fs::metadata(&path).expect("it is there").len(), 12, "nothing was written");
    fs::remove_file(path).expect("it is there");
}
// ANCHOR_END: copy

// ANCHOR: clocks
#[test]
fn clocks_of_steps_limit_a_chain() {
    let Some(mut ring) = ring(Setup::new(8)) else { return };
    let (silent, _writer) = std::io::pipe().expect("a pipe");
    let ten = Duration::from_millis(10);
    let steps = (Nop.within(ten), Read::new(silent, [0; 1]).within(ten), Nop);
    let chain = ring.submit_chain(steps).expect("room");
    let chain = ring.wait_chain(chain).expect("it goes on");
    assert_eq!(chain.end, ChainEnd::Broken { at: 1 });
    let (first, read, last) = chain.outputs;
    assert!(!first.expired && first.output.is_ok());
    assert!(read.expired && is_cancelled(&read.output.result));
    assert!(is_cancelled(&last), "it never began");
}
// ANCHOR_END: clocks

// ANCHOR: serve
/// Lets `step` happen `count` times, and notes which operation ends each time.
fn order(ring: &mut Ring<usize>, count: usize, mut step: impl FnMut()) -> Vec<usize> {
    let mut order = Vec::new();
    for _ in 0..count {
        step();
        ring.submit_and_wait(1).expect("one completes");
        let shown = ring.reap(|event| {
            if let Event::Ended { user, .. } = event {
                order.push(*user);
            }
        });
        assert_eq!(shown.expect("a look"), 1);
    }
    order
}
// ANCHOR_END: serve

/// A ring whose operations have numbers.
fn numbered() -> Option<Ring<usize>> {
    Setup::new(8).build_for().map_err(|error| eprintln!("skipped: {error}")).ok()
}

// ANCHOR: waiters
#[test]
fn five_reads_of_one_pipe_are_served_in_an_order_that_nobody_promised() {
    let Some(mut ring) = numbered() else { return };
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    let reader = Rc::new(reader);
    let read = |_| Read::new(Rc::clone(&reader), [0; 1]);
    let reads = [0, 1, 2, 3, 4].map(|at| ring.submit_for(read(at), at).expect("room"));
    ring.submit_all().expect("all are taken");
    let served = order(&mut ring, 5, || writer.write_all(b"x").expect("room in the pipe"));
    assert_eq!(served, [4, 0, 3, 1, 2]);
    assert!(reads.into_iter().all(|read| ring.try_take(read).is_ok()));
}
// ANCHOR_END: waiters

// ANCHOR: accepts
#[test]
fn three_accepts_of_one_listener_are_served_as_they_came() {
    let Some(mut ring) = numbered() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it is bound");
    let listener = Rc::new(listener);
    let accept = |_| Accept::new(Rc::clone(&listener));
    let accepts = [0, 1, 2].map(|at| ring.submit_for(accept(at), at).expect("room"));
    ring.submit_all().expect("all are taken");
    let mut clients = Vec::new();
    let connect = || clients.push(TcpStream::connect(address).expect("it listens"));
    assert_eq!(order(&mut ring, 3, connect), [0, 1, 2]);
    assert!(accepts.into_iter().all(|accept| ring.try_take(accept).is_ok()));
}
// ANCHOR_END: accepts
