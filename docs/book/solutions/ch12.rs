//! Solutions of chapter 12: what a batch needs, who accepts, and a clean end.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use annulus::op::{Accept, AcceptMulti, Multishot as _, Recv, Send, SendFlags};
use annulus::raw::wait_options::WaitOptions;
use annulus::{Arrival, Event, EventLoop, Io, Setup};

use crate::ring;

// ANCHOR: alone
#[test]
fn one_client_alone_costs_two_enters_a_request_at_every_step() {
    let Some(mut ring) = ring(Setup::new(64)) else { return };
    let (mut client, mut server) = UnixStream::pair().expect("two sockets");
    let mut buf = Vec::with_capacity(64);
    for _ in 0..100 {
        client.write_all(b"request").expect("room in the socket");
        let receive = ring.submit(Recv::new(server, buf)).expect("room");
        let received = ring.wait(receive).expect("it ends");
        let send = ring.submit(Send::new(received.fd, received.buf)).expect("room");
        let sent = ring.wait(send).expect("it ends");
        assert_eq!(sent.result.expect("it is connected"), 7);
        (server, buf) = (sent.fd, sent.buf);
        buf.clear();
        client.read_exact(&mut [0; 7]).expect("an answer");
    }
    // The send cannot be known before the receive is over, and nobody else has anything to do.
    assert_eq!(ring.stats().enters, 200);
}
// ANCHOR_END: alone

/// A listener, at which ten clients wait.
fn ten() -> (TcpListener, Vec<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let clients = (0..10).map(|_| TcpStream::connect(address).expect("it listens")).collect();
    (listener, clients)
}

// ANCHOR: accept
#[test]
fn ten_clients_are_ten_enters_or_one() {
    let Some(mut ring) = ring(Setup::new(64)) else { return };
    let (mut listener, _clients) = ten();
    for _ in 0..10 {
        let accept = ring.submit(Accept::new(listener)).expect("room");
        let accepted = ring.wait(accept).expect("it ends");
        accepted.result.expect("somebody waits");
        listener = accepted.fd;
    }
    assert_eq!(ring.stats().enters, 10);

    let (listener, _clients) = ten();
    let accept = match ring.submit(AcceptMulti::new(listener)) {
        Ok(accept) => accept,
        Err(old) => return eprintln!("skipped: {old}"),
    };
    let mut streams = Vec::new();
    ring.submit_and_wait(10).expect("ten wait");
    let enters = ring.stats().enters;
    ring.reap(|event| {
        let Event::Multishot { completion, .. } = event else { return };
        streams.extend(AcceptMulti::<TcpListener>::item(completion));
    })
    .expect("a look");
    assert_eq!((streams.len(), enters), (10, 11));
    ring.detach(accept);
}
// ANCHOR_END: accept

// ANCHOR: stop
/// Sends back what comes. The state of the loop is how many clients came.
fn echo(io: &mut Io<'_, u32>, client: Rc<TcpStream>, buf: Vec<u8>) -> io::Result<()> {
    io.submit(Recv::new(client, buf), |io, received| {
        if received.result? == 0 {
            return Ok(());
        }
        let send = Send::new(received.fd, received.buf).flags(SendFlags::WAIT_ALL);
        io.submit(send, |io, mut sent| {
            sent.result?;
            sent.buf.clear();
            echo(io, sent.fd, sent.buf)
        })?;
        Ok(())
    })?;
    Ok(())
}

#[test]
fn a_server_that_is_told_to_stop_finishes_what_it_began() {
    let Ok(ring) = Setup::new(64).build_for() else { return eprintln!("skipped: no ring") };
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let mut events = EventLoop::new(ring, 0);
    let accept = AcceptMulti::new(listener);
    let accept = events.io().submit_multishot(accept, |io, arrival| match arrival {
        Arrival::Item(stream) => {
            *io.state += 1;
            echo(io, Rc::new(TcpStream::from(stream?)), Vec::with_capacity(64))
        }
        Arrival::End(_) => Ok(()), // The listener closes here.
    });
    let accept = accept.expect("Linux 5.19");
    let mut client = TcpStream::connect(address).expect("it listens");
    client.write_all(b"before").expect("room in the socket");
    while events.state == 0 {
        events.turn(&WaitOptions::FOREVER, |_, error| panic!("{error}")).expect("it runs");
    }
    // The stop: nobody new, and whoever is here may finish.
    events.io().cancel(accept).expect("room");
    client.write_all(b" and after").expect("room in the socket");
    client.shutdown(Shutdown::Write).expect("half of it closes");
    events.run(|_, error| panic!("{error}")).expect("it runs");
    let mut echoed = String::new();
    client.read_to_string(&mut echoed).expect("it answers, and closes");
    assert_eq!(echoed, "before and after");
    assert!(TcpStream::connect(address).is_err(), "nobody listens");
}
// ANCHOR_END: stop
