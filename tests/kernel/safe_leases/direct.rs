//! Operations that open files in the ring's table.

use std::io::Read as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::rc::Rc;

use annulus::lease::FixedFile;
use annulus::op::{
    Accept, AcceptMulti, Connect, Cwd, Domain, Ending, How, OpenAt, Read, Socket, SocketKind, Write,
};
use annulus::{Ring, Setup};
use libtest_mimic::{Failed, Trial};

use super::fixed_file::{FILES, all_are_back, table};
use super::{of_another_ring, ring, succeed};
use crate::capabilities::descriptors;
use crate::harness::{child_succeeds, safe_ring, test};

pub fn tests() -> Vec<Trial> {
    vec![
        test("a_path_is_opened_in_the_table_of_files", &FILES, path),
        test("a_socket_is_made_in_the_table_of_files", &FILES, socket),
        test("a_connection_is_accepted_into_the_table_of_files", &FILES, connection),
        test("connections_are_accepted_into_the_table_of_files", &FILES, connections),
        test("connections_beyond_the_completion_ring_are_accepted_later", &FILES, overflow),
        test("connections_that_are_not_taken_leave_the_table_of_files", &FILES, for_nobody),
        test("a_full_table_of_files_ends_what_would_fill_it", &FILES, full),
        test("a_table_of_files_is_filled_by_its_own_ring_only", &FILES, another_ring),
        test("registered_files_take_no_descriptors", &FILES, || {
            child_succeeds("registered files take no descriptors")
        }),
    ]
}

fn listener() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener")
}

fn client(listener: &TcpListener) -> TcpStream {
    TcpStream::connect(listener.local_addr().expect("a name")).expect("a connection")
}

/// Sends some text over `file`, closes it, and reads the text at `peer`. The end of the stream
/// would come a second later before Linux 6.13.
fn hello(ring: &mut Ring, file: FixedFile, mut peer: TcpStream) {
    let write = ring.submit(Write::new(file, "hello")).expect("submit");
    assert_eq!(ring.wait(write).expect("wait").result.expect("write"), 5);
    let mut text = [0; 5];
    peer.read_exact(&mut text).expect("read");
    assert_eq!(&text, b"hello");
}

fn path() -> Result<(), Failed> {
    let mut ring = ring();
    let table = table(&mut ring, 2);
    let open = ring.submit(OpenAt::new(Cwd, c"/proc/self/stat", How::read()).direct(&table))?;
    let outcome = ring.wait(open)?;
    assert_eq!((outcome.fd, outcome.buf), (Cwd, c"/proc/self/stat"));
    let file = outcome.result?;
    assert_eq!(table.held(), 1);
    let read = ring.submit(Read::new(file, Vec::with_capacity(64)))?;
    let (_, text) = ring.wait(read)?.ok()?;
    assert!(text.starts_with(std::process::id().to_string().as_bytes()));

    let dir = std::fs::File::open("/proc/self")?;
    let open = ring.submit(OpenAt::new(dir, c"no such file", How::read()).direct(&table))?;
    let outcome = ring.wait(open)?;
    let failed = outcome.result.expect_err("there is none");
    assert_eq!(failed.raw_os_error(), Some(libc::ENOENT));
    let open = ring.submit(OpenAt::new(outcome.fd, c"stat", How::read()).direct(&table))?;
    drop(ring.wait(open)?.result?);
    all_are_back(&mut ring, &table);
    Ok(())
}

fn socket() -> Result<(), Failed> {
    let mut ring = ring();
    let table = table(&mut ring, 2);
    let listener = listener();
    let socket = ring.submit(Socket::new(Domain::V4, SocketKind::STREAM).direct(&table))?;
    let socket = ring.wait(socket)??;
    let connect = ring.submit(Connect::new(socket, listener.local_addr()?))?;
    let connected = ring.wait(connect)?;
    connected.result?;
    let (peer, _) = listener.accept()?;
    hello(&mut ring, connected.fd, peer);
    let wrong = ring.submit(Socket::new(Domain(-1), SocketKind::STREAM).direct(&table))?;
    let failed = ring.wait(wrong)?.expect_err("there is no such family");
    assert_eq!(failed.raw_os_error(), Some(libc::EAFNOSUPPORT));
    all_are_back(&mut ring, &table);
    Ok(())
}

fn connection() -> Result<(), Failed> {
    let mut ring = ring();
    let table = table(&mut ring, 2);
    let listener = Rc::new(listener());
    // The listener may be in the table as well.
    let registered = table.insert(&mut ring, &*listener)?;
    for _ in 0..3 {
        let peer = client(&listener);
        let accept = ring.submit(Accept::new(registered.clone()).direct(&table))?;
        let accepted = ring.wait(accept)?.result?;
        hello(&mut ring, accepted, peer);
        let peer = client(&listener);
        let accept = ring.submit(Accept::new(Rc::clone(&listener)).direct(&table))?;
        let accepted = ring.wait(accept)?.result?;
        hello(&mut ring, accepted, peer);
    }
    drop(registered);
    all_are_back(&mut ring, &table);
    Ok(())
}

fn connections() -> Result<(), Failed> {
    let mut ring = ring();
    let table = table(&mut ring, 3);
    let listener = Rc::new(listener());
    let accept = ring.submit(AcceptMulti::new(Rc::clone(&listener)).direct(&table))?;
    let mut held = Vec::new();
    for _ in 0..3 {
        let peer = client(&listener);
        held.push((ring.next(&accept)?.ok_or("a connection")??, peer));
    }
    assert_eq!(table.held(), 3);
    for (file, peer) in held {
        hello(&mut ring, file, peer);
    }
    // Places that were given back are filled again.
    for _ in 0..5 {
        let peer = client(&listener);
        let file = ring.next(&accept)?.ok_or("a connection")??;
        hello(&mut ring, file, peer);
    }
    ring.cancel(&accept)?;
    assert!(ring.next(&accept)?.is_none());
    assert!(matches!(ring.wait(accept)?.how, Ending::Cancelled));
    all_are_back(&mut ring, &table);
    Ok(())
}

/// More connections than the ring holds completions, while none is taken. On a ring that does not
/// defer them, they come with any system call.
fn overflow() -> Result<(), Failed> {
    let mut ring = safe_ring(Setup::plain(2));
    let table = table(&mut ring, 16);
    let listener = Rc::new(listener());
    let (mut peers, mut files) = (Vec::new(), Vec::new());
    let mut stops = 0;
    while files.len() < 16 {
        let many = AcceptMulti::new(Rc::clone(&listener)).direct(&table);
        let many = ring.submit(many)?;
        ring.submit_all()?;
        while peers.len() < 16 {
            peers.push(client(&listener));
        }
        while let Some(file) = ring.next(&many)? {
            files.push(file?);
            if files.len() == 16 {
                ring.cancel(&many)?;
            }
        }
        match ring.wait(many)?.how {
            Ending::Stopped => stops += 1,
            Ending::Cancelled => {}
            other => return Err(format!("{other:?}").into()),
        }
    }
    assert!(stops > 0, "the ring of 4 completions never overflowed");
    for (file, peer) in files.into_iter().zip(peers) {
        hello(&mut ring, file, peer);
    }
    all_are_back(&mut ring, &table);
    Ok(())
}

fn for_nobody() -> Result<(), Failed> {
    let mut ring = ring();
    let table = table(&mut ring, 8);
    let listener = Rc::new(listener());
    let mut peers = Vec::new();
    // Detached before a client connects; shown and not taken; kept and not taken.
    let early = ring.submit(Accept::new(Rc::clone(&listener)).direct(&table))?;
    ring.submit_all()?;
    ring.detach(early);
    peers.push(client(&listener));
    while ring.in_flight() > 0 {
        ring.submit_and_wait(0)?;
        ring.reap(|event| panic!("no ticket is for {event:?}"))?;
    }
    let many = ring.submit(AcceptMulti::new(Rc::clone(&listener)).direct(&table))?;
    ring.submit_all()?;
    peers.push(client(&listener));
    ring.submit_and_wait(1)?;
    ring.reap(|_| ())?;
    peers.push(client(&listener));
    peers.push(client(&listener));
    let kept = ring.next(&many)?.ok_or("a connection")??;
    ring.cancel(&many)?;
    ring.detach(many);
    while ring.in_flight() > 0 {
        ring.submit_and_wait(0)?;
        ring.reap(|event| panic!("no ticket is for {event:?}"))?;
    }
    assert_eq!(table.held(), 1);
    drop(kept);
    // In an output that was not taken when the ring was dropped.
    let never = ring.submit(Accept::new(Rc::clone(&listener)).direct(&table))?;
    peers.push(client(&listener));
    ring.submit_and_wait(1)?;
    assert_eq!(table.held(), 0, "it was not taken");
    drop((never, ring));
    for mut peer in peers {
        assert_eq!(peer.read(&mut [0])?, 0, "the connection is closed");
    }
    assert_eq!(table.held(), 0);
    Ok(())
}

fn full() -> Result<(), Failed> {
    let mut ring = ring();
    let table = table(&mut ring, 1);
    let listener = Rc::new(listener());
    let many = ring.submit(AcceptMulti::new(Rc::clone(&listener)).direct(&table))?;
    let (first, mut second) = (client(&listener), client(&listener));
    let file = ring.next(&many)?.ok_or("a connection")??;
    assert!(ring.next(&many)?.is_none());
    let Ending::Failed(error) = ring.wait(many)?.how else { panic!("the table is full") };
    assert_eq!(error.raw_os_error(), Some(libc::ENFILE));
    assert_eq!(second.read(&mut [0])?, 0, "there is no place for it, so it is closed");
    let accept = ring.submit(Accept::new(Rc::clone(&listener)).direct(&table))?;
    let mut third = client(&listener);
    let failed = ring.wait(accept)?.result.expect_err("the table is full");
    assert_eq!(failed.raw_os_error(), Some(libc::ENFILE));
    assert_eq!(third.read(&mut [0])?, 0);
    hello(&mut ring, file, first);
    all_are_back(&mut ring, &table);
    Ok(())
}

fn another_ring() -> Result<(), Failed> {
    let (mut ring, mut other) = (ring(), safe_ring(Setup::new(4)));
    let table = table(&mut ring, 2);
    let listener = Rc::new(listener());
    let peer = client(&listener);
    let accept = Accept::new(Rc::clone(&listener)).direct(&table);
    let accept = of_another_ring(other.submit(accept));
    let accept = ring.submit(accept)?;
    let file = ring.wait(accept)?.result?;
    hello(&mut ring, file, peer);
    // A listener of one ring, for a table of another.
    let registered = table.insert(&mut ring, &*listener)?;
    let others = self::table(&mut other, 2);
    let accept = of_another_ring(other.submit(Accept::new(registered).direct(&others)));
    of_another_ring(ring.submit(accept));
    let many = AcceptMulti::new(listener).direct(&others);
    of_another_ring(ring.submit(many));
    all_are_back(&mut ring, &table);
    all_are_back(&mut other, &others);
    Ok(())
}

/// Alone in its process, because it counts descriptors.
pub fn no_descriptors() {
    let mut ring = ring();
    let table = table(&mut ring, 4);
    let listener = Rc::new(listener());
    let before = descriptors();
    let mut held = Vec::new();
    let open = OpenAt::new(Cwd, c"/proc/self/stat", How::read()).direct(&table);
    let open = ring.submit(open).expect("submit");
    held.push(ring.wait(open).expect("wait").result.expect("a file"));
    let make = Socket::new(Domain::V4, SocketKind::STREAM).direct(&table);
    let make = ring.submit(make).expect("submit");
    held.push(ring.wait(make).expect("wait").expect("a socket"));
    assert_eq!(descriptors(), before);
    let peer = client(&listener);
    let accept = Accept::new(Rc::clone(&listener)).direct(&table);
    let accept = ring.submit(accept).expect("submit");
    held.push(ring.wait(accept).expect("wait").result.expect("a connection"));
    assert_eq!(descriptors(), before + 1, "its peer's");
    let inserted = table.insert(&mut ring, peer).expect("a free place");
    assert_eq!(descriptors(), before);
    drop((inserted, held));
    for test in [path, socket, connection, connections, overflow, for_nobody, full, another_ring] {
        succeed(test);
    }
    all_are_back(&mut ring, &table);
    assert_eq!(descriptors(), before);
}
