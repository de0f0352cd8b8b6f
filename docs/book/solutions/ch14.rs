//! Solutions of chapter 14: places, buffers, and when they are free.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};

use annulus::lease::{FileTable, FixedFile};
use annulus::op::{Accept, Read, ReadFixed};
use annulus::{ChainEnd, Ring, Setup};

use crate::ring;

/// A table, or a reason on stderr.
fn table(ring: &mut Ring, places: u32) -> Option<FileTable> {
    let made = ring.file_table(places);
    made.map_err(|error| eprintln!("skipped: needs Linux 5.19: {error}")).ok()
}

// ANCHOR: chain
#[test]
fn an_accept_and_the_read_of_its_connection_are_one_enter() {
    let Some(mut ring) = ring(Setup::new(8)) else { return };
    let Some(table) = table(&mut ring, 1) else { return };
    let place = table.reserve(&mut ring).expect("it is free");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    // The client is there, and has said all that it will.
    let mut client = TcpStream::connect(address).expect("it listens");
    client.write_all(b"hello").expect("room in the socket");
    client.shutdown(Shutdown::Write).expect("half of it closes");
    let accept = Accept::new(listener).direct_to(&place);
    let read = Read::new(place.clone(), Vec::with_capacity(5));
    let tickets = ring.submit_chain((accept, read)).expect("room");
    let before = ring.stats().enters;
    ring.submit_and_wait(2).expect("both complete");
    assert_eq!(ring.stats().enters - before, 1);
    let chain = ring.wait_chain(tickets).expect("both are there");
    assert_eq!(chain.end, ChainEnd::Complete);
    let (accepted, read) = chain.outputs;
    assert_eq!(read.buf, b"hello");
    // Three names of one place: ours, the accept's, the read's. The last one closes the connection.
    drop((accepted.result, read.fd));
    client.set_nonblocking(true).expect("a flag");
    assert!(client.read(&mut [0; 1]).is_err(), "it is open still");
    client.set_nonblocking(false).expect("a flag");
    drop(place);
    assert_eq!(client.read(&mut [0; 1]).expect("it is closed"), 0);
}
// ANCHOR_END: chain

// ANCHOR: full
#[test]
fn a_table_of_two_has_no_third_place_until_one_is_dropped() {
    let Some(mut ring) = ring(Setup::new(8)) else { return };
    let Some(table) = table(&mut ring, 2) else { return };
    let (reader, _writer) = std::io::pipe().expect("a pipe");
    let insert = |ring: &mut Ring| table.insert(ring, &reader);
    let first: FixedFile = insert(&mut ring).expect("two places are free");
    let _second = insert(&mut ring).expect("one place is free");
    let full = insert(&mut ring).expect_err("no place is free");
    // Its text speaks of the whole system, but it is this table.
    assert_eq!(full.raw_os_error(), Some(libc::ENFILE));
    // A place is held by all that name it.
    let clone = first.clone();
    drop(first);
    assert!(insert(&mut ring).is_err());
    drop(clone);
    insert(&mut ring).expect("a place is free");
}
// ANCHOR_END: full

// ANCHOR: buffer
#[test]
fn a_buffer_whose_read_is_given_up_is_free_when_the_read_has_ended() {
    let Some(mut ring) = ring(Setup::new(8)) else { return };
    let Ok(pool) = ring.fixed_pool(1, 16) else { return eprintln!("skipped: no memory to lock") };
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    let read = ReadFixed::new(reader, pool.get().expect("it is free"));
    let ticket = ring.submit(read).expect("room");
    ring.submit_all().expect("it is taken");
    ring.detach(ticket);
    // Nobody waits for the read any more, but the kernel may still write into its buffer.
    assert!(pool.get().is_none());
    writer.write_all(b"late").expect("the read has the pipe open");
    while pool.get().is_none() {
        ring.reap(|_| ()).expect("a look");
    }
}
// ANCHOR_END: buffer
