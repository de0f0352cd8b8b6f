//! Claims: no output that came is lost, whatever else happens during a wait.
//!
//! | an output is not lost to | tests |
//! |---|---|
//! | a wait for the end, with earlier completions not taken | `what_came_*` |
//! | code of the caller that panics when it is dropped | `a_panic_*` |

use std::cell::Cell;
use std::fs::File;
use std::io::{Read as _, Write as _, pipe};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::panic::resume_unwind;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use annulus::op::{
    AcceptMulti, Ending, Nop, Poll, PollEvents, PollMulti, Read, ReadMulti, Recv, RecvMsgMulti,
    RecvMulti, Target, Write,
};
use annulus::sys::opcode::Opcode;
use annulus::{Event, Ring, Setup, Ticket};
use libtest_mimic::{Failed, Trial};

use crate::harness::{Need, patient, safe_ring, test};
use crate::watched::{Panics, Watched, quietly, unwind};

/// Accepts without end came with this.
const ACCEPT: [Need; 1] = [Need::Op(Opcode::SOCKET)];
/// Receives without end came with this.
const RECEIVE: [Need; 1] = [Need::Op(Opcode::SEND_ZC)];
const READ: [Need; 1] = [Need::Op(Opcode::READ_MULTISHOT)];
/// Polls without end came with this, or shortly before.
const POLL: [Need; 1] = [Need::Feature(annulus::sys::flags::Features::NATIVE_WORKERS)];
const BOUNDED: [Need; 1] = [Need::Feature(annulus::sys::flags::Features::EXT_ARG)];

/// The tests.
pub fn tests() -> Vec<Trial> {
    vec![
        test("what_came_before_a_cancel_is_received_with_the_end", &RECEIVE, received),
        test("what_came_and_was_not_taken_comes_in_order", &RECEIVE, in_order),
        test("what_came_before_a_cancel_is_accepted_with_the_end", &ACCEPT, accepted),
        test("what_came_at_places_of_the_table_is_accepted_with_the_end", &ACCEPT, accepted_direct),
        test("what_came_in_messages_comes_with_the_end", &RECEIVE, messages),
        test("what_came_from_a_pipe_comes_with_the_end", &READ, read),
        test("what_came_to_a_poll_comes_with_the_end", &POLL, polled),
        test("what_came_in_a_chain_comes_with_its_end", &RECEIVE, in_a_chain),
        test("what_came_in_a_scope_comes_with_the_end", &RECEIVE, in_a_scope),
        test("what_came_and_is_given_up_is_offered_again", &RECEIVE, given_up),
        test("a_panic_of_what_was_given_up_ends_no_wait", &[], in_waits),
        test("a_panic_of_what_was_given_up_ends_no_bounded_wait", &BOUNDED, in_bounded_waits),
        test("a_panic_of_what_was_given_up_ends_no_scope", &[], in_scopes),
        test("a_panic_of_what_a_scope_leaves_does_not_keep_it_from_ending", &[], left_in_scopes),
        test("a_panic_of_a_panic_ends_no_wait", &[], twice),
        test("a_panic_of_a_user_value_loses_no_output", &[], of_user_values),
    ]
}

fn small() -> Ring {
    safe_ring(Setup::new(4))
}

/// The kinds that complete at different times.
fn rings() -> [Ring; 2] {
    [small(), safe_ring(Setup::plain(4))]
}

/// Text that was received.
fn text(lease: std::io::Result<annulus::lease::BufLease>) -> Result<String, Failed> {
    Ok(String::from_utf8(lease?.to_vec())?)
}

fn received() -> Result<(), Failed> {
    for mut ring in rings() {
        let buffers = ring.buf_ring(4, 16)?;
        let (ours, mut theirs) = UnixStream::pair()?;
        theirs.write_all(b"first")?;
        let receive = ring.submit(RecvMulti::new(ours, &buffers))?;
        ring.cancel(&receive)?;
        let ended = ring.wait(receive)?;
        assert!(matches!(ended.how, Ending::Cancelled), "{:?}", ended.how);
        let left = ended.remaining.into_iter().map(text).collect::<Result<Vec<_>, _>>()?;
        assert_eq!(left, ["first"]);
        theirs.write_all(b"second")?;
        let receive = ring.submit(Recv::new(ended.fd, Vec::with_capacity(16)))?;
        assert_eq!(ring.wait(receive)?.ok()?.1, b"second");
    }
    Ok(())
}

fn in_order() -> Result<(), Failed> {
    let mut ring = small();
    let buffers = ring.buf_ring(4, 2)?;
    let (ours, mut theirs) = UnixStream::pair()?;
    theirs.write_all(b"aabbcc")?;
    let receive = ring.submit(RecvMulti::new(ours, &buffers))?;
    let first = ring.next(&receive)?.expect("it goes on");
    assert_eq!(text(first)?, "aa");
    // Another's completions lie between them.
    let nops = [(); 3].map(|()| ring.submit(Nop));
    ring.cancel(&receive)?;
    let mut receive = Err(receive);
    while let Err(ticket) = receive {
        let nop = ring.submit(Nop)?;
        ring.wait(nop)??;
        receive = ring.try_take(ticket);
    }
    let left = receive.into_iter().flat_map(|ended| ended.remaining).map(text);
    assert_eq!(left.collect::<Result<Vec<_>, _>>()?, ["bb", "cc"]);
    let (mut ends, mut others) = (0, 0);
    ring.reap(|event| match event {
        Event::Ended { .. } => ends += 1,
        _ => others += 1,
    })?;
    assert_eq!((ends, others), (3, 0), "the others' are kept, and nothing comes twice");
    for nop in nops {
        ring.wait(nop?)??;
    }
    Ok(())
}

/// Waits until there is an output to take: data over the loopback may come late.
fn arrived<U: Default>(ring: &mut Ring<U>, fd: impl Target + 'static) -> Result<(), Failed> {
    let poll = ring.submit(Poll::new(fd, PollEvents::IN)).map_err(|rejected| rejected.why)?;
    ring.wait(poll)?.result?;
    Ok(())
}

fn accepted() -> Result<(), Failed> {
    for mut ring in rings() {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let mut client = TcpStream::connect(listener.local_addr()?)?;
        arrived(&mut ring, listener.try_clone()?)?;
        let accept = ring.submit(AcceptMulti::new(listener))?;
        ring.cancel(&accept)?;
        let ended = ring.wait(accept)?;
        let [connection] = <[_; 1]>::try_from(ended.remaining)
            .map_err(|left| format!("{left:?}, {:?}", ended.how))?;
        TcpStream::from(connection?).write_all(b"here")?;
        let mut answer = [0; 4];
        client.read_exact(&mut answer)?;
        assert_eq!(&answer, b"here");
    }
    Ok(())
}

fn accepted_direct() -> Result<(), Failed> {
    let mut ring = small();
    let table = ring.file_table(2)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    arrived(&mut ring, listener.try_clone()?)?;
    let accept = ring.submit(AcceptMulti::new(listener).direct(&table))?;
    ring.cancel(&accept)?;
    let ended = ring.wait(accept)?;
    let [connection] = <[_; 1]>::try_from(ended.remaining).map_err(|_| "one had come")?;
    let write = ring.submit(Write::new(connection?, "here"))?;
    assert_eq!(ring.wait(write)?.result?, 4);
    let mut answer = [0; 4];
    client.read_exact(&mut answer)?;
    assert_eq!(&answer, b"here");
    Ok(())
}

fn messages() -> Result<(), Failed> {
    let mut ring = small();
    let buffers = ring.buf_ring(4, 64)?;
    let theirs = UdpSocket::bind("127.0.0.1:0")?;
    let ours = UdpSocket::bind("127.0.0.1:0")?;
    ours.send_to(b"datagram", theirs.local_addr()?)?;
    arrived(&mut ring, theirs.try_clone()?)?;
    let receive = ring.submit(RecvMsgMulti::new(theirs, &buffers))?;
    ring.cancel(&receive)?;
    let ended = ring.wait(receive)?;
    let [message] = <[_; 1]>::try_from(ended.remaining).map_err(|_| "one had come")?;
    assert_eq!(message?.payload(), b"datagram");
    Ok(())
}

fn read() -> Result<(), Failed> {
    let mut ring = small();
    let buffers = ring.buf_ring(4, 16)?;
    let (reader, mut writer) = pipe()?;
    writer.write_all(b"bytes")?;
    let read = ring.submit(ReadMulti::new(reader, &buffers))?;
    ring.cancel(&read)?;
    let left = ring.wait(read)?.remaining.into_iter().map(text);
    assert_eq!(left.collect::<Result<Vec<_>, _>>()?, ["bytes"]);
    Ok(())
}

fn polled() -> Result<(), Failed> {
    let mut ring = small();
    let (reader, mut writer) = pipe()?;
    writer.write_all(b"bytes")?;
    let poll = ring.submit(PollMulti::new(reader, PollEvents::IN))?;
    let nop = ring.submit(Nop)?;
    ring.wait(nop)??;
    ring.cancel(&poll)?;
    assert_eq!(ring.wait(poll)?.remaining, [PollEvents::IN]);
    Ok(())
}

fn in_a_chain() -> Result<(), Failed> {
    let mut ring = small();
    let buffers = ring.buf_ring(4, 16)?;
    let (ours, mut theirs) = UnixStream::pair()?;
    theirs.write_all(b"first")?;
    drop(theirs);
    let chain = ring.submit_chain((RecvMulti::new(ours, &buffers),)).map_err(|r| r.why)?;
    let (ended,) = ring.wait_chain(chain)?.outputs;
    assert!(matches!(ended.how, Ending::Eof), "{:?}", ended.how);
    let left = ended.remaining.into_iter().map(text).collect::<Result<Vec<_>, _>>()?;
    assert_eq!(left, ["first"]);
    Ok(())
}

fn in_a_scope() -> Result<(), Failed> {
    let mut ring = small();
    let buffers = ring.buf_ring(4, 16)?;
    let (ours, mut theirs) = UnixStream::pair()?;
    theirs.write_all(b"first")?;
    let left = ring.scope(|s| {
        let receive = s.submit(RecvMulti::new(&ours, &buffers)).map_err(|r| r.why)?;
        s.cancel(&receive)?;
        Ok::<_, Failed>(s.wait(receive)?.remaining)
    })?;
    let left = left.into_iter().map(text).collect::<Result<Vec<_>, _>>()?;
    assert_eq!(left, ["first"]);
    Ok(())
}

/// A pool of one buffer, which comes back from an end that was not looked at, and from a detached
/// operation.
fn given_up() -> Result<(), Failed> {
    let mut ring = small();
    let buffers = ring.buf_ring(1, 16)?;
    let (mut ours, mut theirs) = UnixStream::pair()?;
    for round in 0..4 {
        theirs.write_all(b"first")?;
        let receive = ring.submit(RecvMulti::new(ours.try_clone()?, &buffers))?;
        ring.cancel(&receive)?;
        if round % 2 == 0 {
            let left = ring.wait(receive)?.remaining;
            assert_eq!(left.len(), 1, "the buffer was on offer in round {round}");
        } else {
            let nop = ring.submit(Nop)?;
            ring.wait(nop)??;
            ring.detach(receive);
            while ring.in_flight() > 0 {
                ring.submit_and_wait(1)?;
                ring.reap(|_| ())?;
            }
        }
    }
    ours.set_nonblocking(true)?;
    assert!(ours.read(&mut [0]).is_err(), "nothing is left in the socket");
    Ok(())
}

/// A detached write, whose drop panics when it has ended.
fn bomb<U: Default>(ring: &mut Ring<U>, drops: &Rc<Cell<u32>>) -> Result<(), Failed> {
    // It fails where it is submitted, on each kernel: a worker thread would take its time.
    let (nobody, _) = UnixStream::pair()?;
    let write = ring.submit(Write::new(nobody, Watched::new(drops, Panics::InDrop)));
    ring.detach(write.map_err(|r| r.why)?);
    Ok(())
}

fn reading(ring: &mut Ring) -> Result<Ticket<Read<std::io::PipeReader, Vec<u8>>>, Failed> {
    let (reader, mut writer) = pipe()?;
    writer.write_all(b"precious")?;
    Ok(ring.submit(Read::new(reader, Vec::with_capacity(8))).map_err(|r| r.why)?)
}

fn in_waits() -> Result<(), Failed> {
    for mut ring in rings() {
        let (drops, all) = (Rc::new(Cell::new(0)), ring.vacant());
        bomb(&mut ring, &drops)?;
        let read = reading(&mut ring)?;
        let waited = quietly(|| ring.wait(read)).map_err(|_| "the wait unwound")?;
        assert_eq!((waited?.buf, drops.get()), (b"precious".to_vec(), 1));
        bomb(&mut ring, &drops)?;
        let chain = ring.submit_chain((Nop, Nop)).map_err(|r| r.why)?;
        let waited = quietly(|| ring.wait_chain(chain)).map_err(|_| "the wait unwound")?;
        let (first, second) = waited?.outputs;
        assert!(first.is_ok() && second.is_ok());
        bomb(&mut ring, &drops)?;
        let poll = ring.submit(PollMulti::new(pipe()?.1, PollEvents::OUT)).map_err(|r| r.why)?;
        let next = quietly(|| ring.next(&poll)).map_err(|_| "the wait unwound")?;
        ring.cancel(&poll)?;
        let _ = (next?, ring.wait(poll)?);
        assert_eq!((drops.get(), ring.in_flight(), ring.vacant()), (3, 0, all));
    }
    Ok(())
}

fn in_bounded_waits() -> Result<(), Failed> {
    let (mut ring, drops) = (small(), Rc::new(Cell::new(0)));
    bomb(&mut ring, &drops)?;
    let read = reading(&mut ring)?;
    let waited = quietly(|| ring.wait_timeout(read, Duration::from_secs(600)));
    let read = waited.map_err(|_| "the wait unwound")??;
    assert_eq!((read.buf, drops.get()), (b"precious".to_vec(), 1));
    Ok(())
}

fn in_scopes() -> Result<(), Failed> {
    let (mut ring, drops) = (small(), Rc::new(Cell::new(0)));
    bomb(&mut ring, &drops)?;
    let (reader, _writer) = pipe()?;
    let mut buf = [0; 8];
    ring.scope(|s| s.submit(Read::new(&reader, &mut buf[..])).map(drop).map_err(|r| r.why))?;
    while ring.in_flight() > 0 {
        ring.submit_and_wait(1)?; // A worker thread may still have the write.
        ring.reap(|_| ())?;
    }
    assert_eq!((drops.get(), ring.in_flight(), ring.vacant()), (1, 0, 8));
    Ok(())
}

fn left_in_scopes() -> Result<(), Failed> {
    let (mut ring, drops) = (small(), Rc::new(Cell::new(0)));
    let null = File::options().write(true).open("/dev/null")?;
    ring.scope(|s| {
        // It has ended by then, and is not redeemed.
        let watched = Watched::new(&drops, Panics::InDrop);
        let _left = s.submit(Write::new(&null, watched)).map_err(|r| r.why)?;
        let nop = s.submit(Nop).map_err(|r| r.why)?;
        Ok::<_, Failed>(s.wait(nop)??)
    })?;
    assert_eq!((drops.get(), ring.in_flight(), ring.vacant()), (1, 0, 8));
    Ok(())
}

/// A buffer that panics when it is dropped, with something that panics when it is dropped.
struct Twice;

/// Panics when it is dropped, and then again.
struct Again(u32);

impl Drop for Again {
    fn drop(&mut self) {
        if self.0 > 0 {
            resume_unwind(Box::new(Self(self.0 - 1))); // Without printing, like all on purpose.
        }
    }
}

impl Drop for Twice {
    fn drop(&mut self) {
        resume_unwind(Box::new(Again(1)));
    }
}

impl annulus::buf::IoBuf for Twice {
    fn region(&self) -> annulus::buf::Region<'_> {
        b"twice".as_slice().into()
    }
}

fn twice() -> Result<(), Failed> {
    let mut ring = small();
    let null = File::options().write(true).open("/dev/null")?;
    let write = ring.submit(Write::new(null, Twice)).map_err(|r| r.why)?;
    ring.detach(write);
    let read = reading(&mut ring)?;
    let waited = quietly(|| ring.wait(read)).map_err(|_| "the wait unwound")?;
    assert_eq!(waited?.buf, b"precious");
    while ring.in_flight() > 0 {
        // A worker thread may still have the write.
        quietly(|| ring.submit_and_wait(1)).map_err(|_| "the wait unwound")??;
        quietly(|| ring.reap(|_| ())).map_err(|_| "the reaping unwound")??;
    }
    assert_eq!(ring.vacant(), 8);
    Ok(())
}

/// A user value that panics when it is dropped.
#[derive(Default)]
struct UserValue(bool);

impl Drop for UserValue {
    fn drop(&mut self) {
        if self.0 && !thread::panicking() {
            unwind();
        }
    }
}

fn of_user_values() -> Result<(), Failed> {
    let mut ring = patient(|| Setup::new(4).build_for::<UserValue>())?;
    let (reader, mut writer) = pipe()?;
    writer.write_all(b"precious")?;
    let read = Read::new(reader, Vec::with_capacity(8));
    let read = ring.submit_for(read, UserValue(true)).map_err(|r| r.why)?;
    // A detached operation has a user value too.
    let nop = ring.submit_for(Nop, UserValue(true)).map_err(|r| r.why)?;
    ring.detach(nop);
    let waited = quietly(|| ring.wait(read)).map_err(|_| "the wait unwound")?;
    assert_eq!(waited?.buf, b"precious");
    while ring.in_flight() > 0 {
        ring.submit_and_wait(1)?;
        ring.reap(|_| ())?;
    }
    assert_eq!(ring.vacant(), 8);
    Ok(())
}
