//! Solutions of chapter 13: what ends a multishot receive, and a server that goes on.

use std::io::{self, ErrorKind, Write as _};
use std::net::{Shutdown, SocketAddr};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use annulus::lease::{BufLease, BufRing};
use annulus::op::{self, Ending, RecvMulti, SendFlags};
use annulus::sim::{Faults, Sim};
use annulus::{Arrival, EnterCause, EventLoop, Io, Ring, Setup};

use crate::ring;

#[path = "../../../examples/multishot_small.rs"]
#[allow(dead_code, reason = "its main is not run here")]
mod multishot_small;

// ANCHOR: enobufs
#[test]
fn a_receive_without_a_buffer_ends_and_the_rest_waits_in_the_socket() {
    let Some(mut ring) = ring(Setup::new(8)) else { return };
    let Some(buffers) = buffers(&mut ring, 2, 4) else { return };
    let (mut ours, theirs) = UnixStream::pair().expect("two sockets");
    ours.write_all(b"0123456789").expect("room in the socket");
    let receive = ring.submit(RecvMulti::new(theirs, &buffers)).expect("room");
    let mut leases = Vec::new();
    while let Some(lease) = ring.next(&receive).expect("it goes on") {
        leases.push(lease.expect("bytes"));
    }
    let ended = ring.wait(receive).expect("it goes on");
    if let Ending::Failed(error) = ended.how {
        return eprintln!("skipped: needs Linux 6.0: {error}");
    }
    assert!(matches!(ended.how, Ending::NoBuffers), "{:?}", ended.how);
    assert_eq!(leases.iter().map(|lease| &lease[..]).collect::<Vec<_>>(), [b"0123", b"4567"]);
    // Dropped, they are the kernel's to select from, and the receive can go on.
    leases.clear();
    let receive = ring.submit(RecvMulti::new(ended.fd, &buffers)).expect("room");
    let rest = ring.next(&receive).expect("it goes on").expect("an item").expect("bytes");
    assert_eq!(rest[..], *b"89");
}

/// A buffer ring, or a reason on stderr.
fn buffers<U: Default>(ring: &mut Ring<U>, count: u32, each: u32) -> Option<BufRing> {
    let made = ring.buf_ring(count, each);
    made.map_err(|error| eprintln!("skipped: needs Linux 5.19: {error}")).ok()
}
// ANCHOR_END: enobufs

// ANCHOR: one_buffer
/// Three clients and one buffer of 16 bytes; whether each has got back what it sent.
fn with_one_buffer(sim: &Sim) -> bool {
    let text = b"more than fits into one buffer";
    let mut ring = Setup::new(16).kernel(sim.kernel()).build_for().expect("a simulated ring");
    let buffers = ring.buf_ring(1, 16).expect("one buffer");
    let mut events = EventLoop::new(ring, buffers);
    let address = SocketAddr::from(([10, 0, 0, 1], 80));
    let listener = sim.listener(address).expect("a listener").into();
    multishot_small::accept(&mut events.io(), listener).expect("room");
    let mut clients = Vec::new();
    for number in 1..=3 {
        let client = sim.connect(address).expect("somebody listens");
        clients.push(client.try_clone().expect("a descriptor"));
        sim.after(Duration::from_millis(number), move |sim| {
            sim.write(&client, text).expect("room in the socket");
        });
    }
    // Without more clients nothing can happen in the end, and the simulation says so.
    let idle = events.run(|_, error| panic!("{error}")).expect_err("it serves for ever").cause;
    assert!(matches!(idle, EnterCause::Other(errno) if errno.raw() == libc::EDEADLK), "{idle:?}");
    assert_eq!(events.state.leased(), 0);
    clients.iter().all(|client| sim.read(client, 100).is_ok_and(|echo| echo == text))
}

#[test]
fn a_server_with_one_buffer_serves_three_clients() {
    for seed in 0..50 {
        let sim = Sim::with_faults(seed, Faults::SOME);
        assert!(with_one_buffer(&sim), "seed {seed}");
        assert!(sim.report().is_clean(), "seed {seed}: {}", sim.report());
    }
}
// ANCHOR_END: one_buffer

/// Of 64 buffers, one client that sends all it can and reads nothing has 16, and one on its way.
#[test]
fn one_client_that_never_reads_leaves_buffers_for_the_others() {
    let sim = Sim::new(1);
    let mut ring = Setup::new(16).kernel(sim.kernel()).build_for().expect("a simulated ring");
    let buffers = ring.buf_ring(64, 64).expect("64 buffers");
    let mut events = EventLoop::new(ring, buffers);
    let address = SocketAddr::from(([10, 0, 0, 1], 80));
    let listener = sim.listener(address).expect("a listener").into();
    multishot_small::accept(&mut events.io(), listener).expect("room");
    let greedy = sim.connect(address).expect("somebody listens");
    let late = sim.connect(address).expect("somebody listens");
    let client = late.try_clone().expect("a descriptor");
    // Until nothing fits any more, neither into the socket nor into the one for the answers.
    for number in 1..200 {
        let greedy = greedy.try_clone().expect("a descriptor");
        sim.after(
            Duration::from_millis(number),
            move |sim| {
                while sim.write(&greedy, &[7; 1024]).is_ok() {}
            },
        );
    }
    sim.after(Duration::from_secs(1), move |sim| {
        sim.write(&client, b"me too").expect("room in the socket");
    });
    let idle = events.run(|_, error| panic!("{error}")).expect_err("it serves for ever").cause;
    assert!(matches!(idle, EnterCause::Other(errno) if errno.raw() == libc::EDEADLK), "{idle:?}");
    assert_eq!(sim.read(&late, 100).expect("it is open"), b"me too");
    assert_eq!(events.state.leased(), 17);
    assert!(sim.report().is_clean(), "{}", sim.report());
}

// ANCHOR: limit
/// Sends a lease within `time`, or cuts the peer off.
fn send_within(
    io: &mut Io<'_, BufRing>,
    stream: Rc<UnixStream>,
    lease: BufLease,
    time: Duration,
) -> io::Result<()> {
    let send = op::Send::new(stream, lease).flags(SendFlags::WAIT_ALL);
    io.submit_within(send, time, |_, sent| {
        // Cancelled; or short, if some of it went out before.
        if sent.result.is_ok_and(|count| count == sent.buf.len()) {
            return Ok(());
        }
        sent.fd.shutdown(Shutdown::Both)?;
        Err(ErrorKind::TimedOut.into())
    })?;
    Ok(())
}

#[test]
fn who_does_not_read_is_cut_off_and_its_buffer_is_free() {
    let Ok(mut ring) = Setup::new(16).build_for() else { return eprintln!("skipped: no ring") };
    let Some(buffers) = buffers(&mut ring, 4, 64) else { return };
    let (mut client, stream) = UnixStream::pair().expect("two sockets");
    // There is no room for an answer, and the client makes none.
    stream.set_nonblocking(true).expect("a flag");
    while (&stream).write(&[0; 4096]).is_ok() {}
    stream.set_nonblocking(false).expect("a flag");
    client.write_all(b"answer me").expect("room this way");
    let stream = Rc::new(stream);
    let mut events = EventLoop::new(ring, buffers);
    let receive = RecvMulti::new(Rc::clone(&stream), &events.state);
    let each = move |io: &mut Io<'_, BufRing>, arrival: Arrival<RecvMulti<_>>| match arrival {
        Arrival::Item(lease) => {
            send_within(io, Rc::clone(&stream), lease?, Duration::from_millis(20))
        }
        // The shutdown ended it.
        Arrival::End(ended) => ended.how.ok().map(drop),
    };
    events.io().submit_multishot(receive, each).expect("room");
    let mut errors = Vec::new();
    events.run(|_, error| errors.push(error.kind())).expect("it ends");
    assert_eq!(events.state.leased(), 0);
    if errors != [ErrorKind::InvalidInput] {
        assert_eq!(errors, [ErrorKind::TimedOut]);
    }
}
// ANCHOR_END: limit
