//! Many connections, and much data, from one operation each.

use std::io::{Read as _, Write as _};
use std::net::{self, TcpListener, TcpStream};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::rc::Rc;

use annulus::op::{AcceptMulti, Ended, Ending, Nop, RecvMulti, Shutdown};
use annulus::sys::opcode::Opcode;
use annulus::{Event, Rejection};
use libtest_mimic::{Failed, Trial};

use super::{begin, ends, pattern, record, run, small};
use crate::harness::{Need, test};

/// Accepts without end came with this.
const ACCEPT: [Need; 1] = [Need::Op(Opcode::SOCKET)];
/// Receives without end came with this.
const RECEIVE: [Need; 1] = [Need::Op(Opcode::SEND_ZC)];

/// The tests.
pub fn tests() -> Vec<Trial> {
    vec![
        test("one_accept_takes_twenty_connections_through_a_small_ring", &ACCEPT, twenty),
        test("op3_connections_that_are_not_taken_are_closed", &ACCEPT, not_taken),
        test("an_accept_that_goes_on_is_cancelled_and_submitted_again", &ACCEPT, accept_cancelled),
        test("an_accept_that_goes_on_ends_with_the_listener", &ACCEPT, accept_ends),
        test("all_bytes_come_in_order_through_four_small_buffers", &RECEIVE, four_buffers),
        test("without_a_buffer_it_ends_at_once_and_goes_on_with_one", &RECEIVE, dry),
        test("a_receive_that_goes_on_ends_with_the_stream", &RECEIVE, eof),
        test("a_receive_that_goes_on_is_cancelled_and_loses_nothing", &RECEIVE, receive_cancelled),
        test("br1_buffers_that_are_not_taken_are_offered_again", &RECEIVE, buffers_not_taken),
        test("a_full_ring_stops_it_and_nothing_is_lost", &RECEIVE, stopped),
        test("a_receive_into_buffers_of_another_ring_is_refused", &RECEIVE, other_ring),
    ]
}

fn twenty() -> Result<(), Failed> {
    let mut ring = small();
    let mut listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let mut clients = Vec::new();
    for number in 0..20 {
        let mut client = TcpStream::connect(address)?;
        client.write_all(&[number])?;
        clients.push(client);
    }
    let mut connections = Vec::new();
    while connections.len() < 20 {
        let accept = begin(&mut ring, AcceptMulti::new(listener));
        while connections.len() < 20
            && let Some(connection) = ring.next(&accept)?
        {
            connections.push(TcpStream::from(connection?));
        }
        ring.cancel(&accept)?;
        let Ended { how, fd, remaining: left } = ring.wait(accept)?;
        for connection in left {
            connections.push(TcpStream::from(connection?));
        }
        assert!(matches!(how, Ending::Stopped | Ending::Cancelled), "{how:?}");
        listener = fd;
    }
    let mut numbers = Vec::new();
    for connection in &mut connections {
        let mut number = [0];
        connection.read_exact(&mut number)?;
        connection.write_all(&number)?;
        numbers.extend(number);
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (0..20).collect::<Vec<u8>>());
    for (number, client) in (0_u8..).zip(&mut clients) {
        let mut answer = [0];
        client.read_exact(&mut answer)?;
        assert_eq!(answer, [number], "each client has a connection of its own");
    }
    Ok(())
}

fn not_taken() -> Result<(), Failed> {
    let mut ring = small();
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let accept = begin(&mut ring, AcceptMulti::new(listener));
    // Kept for `next`, and never taken; then dropped in an event; then detached.
    let mut kept = TcpStream::connect(address)?;
    run(&mut ring, Nop)?;
    let mut seen = 0;
    ring.reap(|event| seen += u32::from(matches!(event, Event::Multishot { .. })))?;
    let mut in_event = TcpStream::connect(address)?;
    while seen < 2 {
        run(&mut ring, Nop)?;
        ring.reap(|event| seen += u32::from(matches!(event, Event::Multishot { .. })))?;
    }
    assert_eq!(kept.read(&mut [0])?, 0);
    assert_eq!(in_event.read(&mut [0])?, 0);
    let mut wanted = TcpStream::connect(address)?;
    run(&mut ring, Nop)?;
    ring.cancel(&accept)?;
    ring.detach(accept);
    record(&mut ring);
    assert_eq!(wanted.read(&mut [0])?, 0);
    assert!(TcpStream::connect(address).is_err(), "the listener was dropped");
    Ok(())
}

fn accept_cancelled() -> Result<(), Failed> {
    let mut ring = small();
    let listener = Rc::new(TcpListener::bind("127.0.0.1:0")?);
    let mut accept = begin(&mut ring, AcceptMulti::new(Rc::clone(&listener)));
    for _ in 0..3 {
        ring.cancel(&accept)?;
        let ended = ring.wait(accept)?;
        assert!(matches!(ended.how, Ending::Cancelled), "{:?}", ended.how);
        assert!(Rc::ptr_eq(&ended.fd, &listener));
        accept = begin(&mut ring, AcceptMulti::new(ended.fd));
        let _client = TcpStream::connect(listener.local_addr()?)?;
        ring.next(&accept)?.expect("it goes on")?;
    }
    ring.detach(accept);
    Ok(())
}

fn accept_ends() -> Result<(), Failed> {
    let mut ring = small();
    let listener = Rc::new(TcpListener::bind("127.0.0.1:0")?);
    let accept = begin(&mut ring, AcceptMulti::new(Rc::clone(&listener)));
    run(&mut ring, Shutdown::new(listener, net::Shutdown::Both)).result?;
    assert!(ring.next(&accept)?.is_none(), "an error is no connection");
    let Ending::Failed(error) = ring.wait(accept)?.how else { return Err("not failed".into()) };
    assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    Ok(())
}

fn four_buffers() -> Result<(), Failed> {
    let mut ring = small();
    let buffers = ring.buf_ring(4, 16)?;
    let (mut ours, theirs) = UnixStream::pair()?;
    let bytes = pattern(5000);
    ours.write_all(&bytes)?;
    drop(ours);
    let (mut received, mut dry, mut fd) = (Vec::new(), 0, theirs);
    loop {
        let receive = begin(&mut ring, RecvMulti::new(fd, &buffers));
        // All four are held, so that the kernel runs out of them.
        let mut leases = Vec::new();
        while let Some(lease) = ring.next(&receive)? {
            leases.push(lease?);
        }
        assert!(leases.len() <= 4, "{} leases of 4 buffers", leases.len());
        leases.iter().for_each(|lease| received.extend_from_slice(lease));
        let ended = ring.wait(receive)?;
        fd = ended.fd;
        match ended.how {
            Ending::Eof => break,
            Ending::NoBuffers => dry += 1,
            Ending::Stopped => {}
            how => return Err(format!("{how:?}").into()),
        }
    }
    assert!(received == bytes, "in order, and all");
    assert!(dry >= 5000 / 64, "it ran dry {dry} times");
    assert_eq!(buffers.leased(), 0);
    Ok(())
}

fn dry() -> Result<(), Failed> {
    let mut ring = small();
    let buffers = ring.buf_ring(1, 16)?;
    let (mut ours, theirs) = UnixStream::pair()?;
    ours.write_all(b"first")?;
    let receive = begin(&mut ring, RecvMulti::new(theirs, &buffers));
    let first = ring.next(&receive)?.expect("a buffer")?;
    // No data has come that would need a buffer; but the kernel wants one before it waits.
    ring.cancel(&receive)?;
    let ended = ring.wait(receive)?;
    assert!(matches!(ended.how, Ending::NoBuffers | Ending::Cancelled), "{:?}", ended.how);
    let receive = begin(&mut ring, RecvMulti::new(ended.fd, &buffers));
    assert!(ring.next(&receive)?.is_none());
    let ended = ring.wait(receive)?;
    assert!(matches!(ended.how, Ending::NoBuffers), "{:?}", ended.how);
    assert_eq!(&first[..], b"first");
    drop(first);
    let receive = begin(&mut ring, RecvMulti::new(ended.fd, &buffers));
    ours.write_all(b"second")?;
    assert_eq!(&ring.next(&receive)?.expect("a buffer")?[..], b"second");
    ring.detach(receive);
    Ok(())
}

fn eof() -> Result<(), Failed> {
    let mut ring = small();
    let buffers = ring.buf_ring(4, 16)?;
    let (mut ours, theirs) = UnixStream::pair()?;
    let theirs = Rc::new(theirs);
    let receive = begin(&mut ring, RecvMulti::new(Rc::clone(&theirs), &buffers));
    ours.write_all(b"one")?;
    let one = ring.next(&receive)?.expect("it goes on")?;
    ours.write_all(b"two")?;
    let two = ring.next(&receive)?.expect("it goes on")?;
    drop(ours);
    assert!(ring.next(&receive)?.is_none());
    let ended = ring.wait(receive)?;
    assert!(matches!(ended.how, Ending::Eof), "{:?}", ended.how);
    assert!(!ended.how.wants_more() && Rc::ptr_eq(&ended.fd, &theirs));
    drop((ring, buffers));
    assert_eq!((&one[..], &two[..]), (b"one".as_slice(), b"two".as_slice()));
    Ok(())
}

fn receive_cancelled() -> Result<(), Failed> {
    let mut ring = small();
    let buffers = ring.buf_ring(4, 16)?;
    let (mut ours, mut fd) = UnixStream::pair()?;
    for round in [b"a", b"b", b"c"] {
        let receive = begin(&mut ring, RecvMulti::new(fd, &buffers));
        ring.cancel(&receive)?;
        let ended = ring.wait(receive)?;
        assert!(matches!(ended.how, Ending::Cancelled), "{:?}", ended.how);
        ours.write_all(round)?;
        let receive = begin(&mut ring, RecvMulti::new(ended.fd, &buffers));
        assert_eq!(&ring.next(&receive)?.expect("it goes on")?[..], round);
        ring.cancel(&receive)?;
        fd = ring.wait(receive)?.fd;
    }
    assert_eq!(buffers.leased(), 0);
    Ok(())
}

fn buffers_not_taken() -> Result<(), Failed> {
    let mut ring = small();
    let buffers = ring.buf_ring(2, 16)?;
    let (mut ours, theirs) = UnixStream::pair()?;
    for _ in 0..4 {
        let receive = begin(&mut ring, RecvMulti::new(theirs.try_clone()?, &buffers));
        ours.write_all(b"not taken")?;
        run(&mut ring, Nop)?;
        ring.cancel(&receive)?;
        ring.detach(receive);
        record(&mut ring);
        assert_eq!(buffers.leased(), 0);
    }
    // The socket was dropped with the operation each time, and our copy last.
    drop(theirs);
    ours.shutdown(net::Shutdown::Write)?;
    assert!(ends(&ours)?);
    Ok(())
}

fn stopped() -> Result<(), Failed> {
    let mut ring = small();
    let buffers = ring.buf_ring(32, 16)?;
    let (ours, mut theirs) = UnixDatagram::pair()?;
    // One per buffer, and more than the ring holds completions.
    let (mut sent, mut received, mut stops) = (0_u8, Vec::new(), 0);
    while received.len() < 60 {
        while sent < 60 && usize::from(sent) < received.len() + 10 {
            ours.send(&[sent])?;
            sent += 1;
        }
        let receive = begin(&mut ring, RecvMulti::new(theirs, &buffers));
        while received.len() < usize::from(sent)
            && let Some(lease) = ring.next(&receive)?
        {
            received.extend_from_slice(&lease?);
        }
        ring.cancel(&receive)?;
        let ended = ring.wait(receive)?;
        match ended.how {
            Ending::Stopped => stops += 1,
            how => assert!(matches!(how, Ending::Cancelled), "{how:?}"),
        }
        theirs = ended.fd;
    }
    assert_eq!(received, (0..60).collect::<Vec<u8>>());
    assert!(stops > 0, "the ring was never full");
    assert_eq!(buffers.leased(), 0);
    Ok(())
}

fn other_ring() -> Result<(), Failed> {
    let (mut ring, mut other) = (small(), small());
    let buffers = other.buf_ring(2, 16)?;
    let (ours, _theirs) = UnixStream::pair()?;
    let rejected = ring.submit(RecvMulti::new(ours, &buffers)).expect_err("of another ring");
    assert_eq!(rejected.why, Rejection::OtherRing);
    let receive = other.submit(rejected.op).map_err(|rejected| rejected.why)?;
    other.cancel(&receive)?;
    assert!(matches!(other.wait(receive)?.how, Ending::Cancelled));
    Ok(())
}
