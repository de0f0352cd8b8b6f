//! Messages of several buffers, with addresses, and with descriptors.

use std::cell::Cell;
use std::fs;
use std::io::{PipeReader, PipeWriter, Read as _, Write as _, pipe};
use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram, UnixStream};
use std::rc::Rc;

use annulus::Ring;
use annulus::op::{MsgHeader, Received, RecvFlags, RecvMsg, SendFlags, SendMsg};
use annulus::sys::opcode::Opcode;
use libtest_mimic::{Failed, Trial};

use super::{V6, begin, cancelled, code, path, pattern, record, run, set_option, small, tcp};
use crate::harness::{Need, test};
use crate::watched::{Panics, Watched, quietly};

/// Receives with `MSG_WAITALL` came with this.
const ALL: [Need; 1] = [Need::Op(Opcode::SOCKET)];
const PIDFD: [Need; 1] = [Need::Other(passes_no_pidfd)];

/// `SO_PASSPIDFD`, since Linux 6.5.
const SO_PASSPIDFD: i32 = 76;

/// The tests.
pub fn tests() -> Vec<Trial> {
    vec![
        test("several_buffers_go_out_and_come_in_as_one_message", &[], several),
        test("datagrams_know_their_sender_of_v4", &[], || inet("127.0.0.1:0".parse()?)),
        test("datagrams_know_their_sender_of_v6", &[V6], || inet((Ipv6Addr::LOCALHOST, 0).into())),
        test("an_envelope_that_came_in_is_addressed_to_the_sender", &[], answers),
        test("an_address_without_a_place_is_none", &[], no_place),
        test("a_datagram_longer_than_its_buffers_says_so", &[], truncated),
        test("a_message_that_nobody_can_take_gives_everything_back", &[], refused),
        test("a_message_that_is_cancelled_gives_everything_back", &[], message_cancelled),
        test("descriptors_go_there_and_back", &[], there_and_back),
        test("what_was_attached_goes_when_it_was_sent_and_not_before", &[], attached),
        test("no_more_descriptors_are_attached_than_go", &[], too_many),
        test("op3_descriptors_of_a_message_given_up_are_closed", &[], given_up),
        test("op3_descriptors_that_are_not_taken_are_closed", &[], not_taken),
        test("op3_descriptors_are_closed_when_a_buffer_panics", &[], buffer_panics),
        test("op3_descriptors_of_a_receive_in_parts_all_come", &ALL, in_parts),
        test("descriptors_without_a_control_buffer_are_refused_and_told", &[], no_control_buffer),
        test("descriptors_that_were_peeked_at_are_copies", &[], peeked),
        test("time_stamps_come_and_numbers_of_descriptors_do_not", &[], stamps),
        test("the_senders_process_comes_as_a_descriptor", &PIDFD, process),
    ]
}

fn passes_no_pidfd() -> Option<String> {
    let (ours, _theirs) = UnixStream::pair().ok()?;
    let refused = set_option(&ours, SO_PASSPIDFD, 1).is_err();
    refused.then(|| "needs Linux 6.5: SO_PASSPIDFD".to_owned())
}

fn buffer_panics() -> Result<(), Failed> {
    let mut ring = small();
    let (ours, theirs) = UnixStream::pair()?;
    let (mut reader, writer) = pipe()?;
    let mut header = MsgHeader::new();
    assert!(header.attach(writer).is_ok());
    let sent = run(&mut ring, SendMsg::new(ours, ["a writer"]).with(header));
    assert_eq!(sent.result?, 8); // Ours is dropped: the message has the last copy.
    drop(sent.buf);
    let drops = Rc::new(Cell::new(0));
    let recv = RecvMsg::new(theirs, [Watched::new(&drops, Panics::InFilled)]);
    let ticket = ring.submit(recv.with(MsgHeader::new())).map_err(|r| r.why)?;
    assert!(quietly(|| ring.wait(ticket).is_ok()).is_err());
    assert_eq!(drops.get(), 1);
    // Every write end is closed, or this would wait forever.
    assert_eq!(reader.read(&mut [0; 1])?, 0);
    Ok(())
}

fn several() -> Result<(), Failed> {
    let mut ring = small();
    let (ours, theirs) = tcp()?;
    let list = ("head".to_owned(), Rc::<[u8]>::from(pattern(100)), *b"tail");
    let sent = run(&mut ring, SendMsg::new(ours, list).flags(SendFlags::WAIT_ALL));
    assert_eq!(sent.result?, 108);
    assert_eq!((sent.buf.0.as_str(), &sent.buf.2), ("head", b"tail"));
    let list = ([0_u8; 4], vec![0_u8; 50].into_boxed_slice(), Vec::with_capacity(200));
    let received = run(&mut ring, RecvMsg::new(theirs, list));
    let told = received.result?;
    assert_eq!((told.bytes, told.from), (108, None));
    assert!(!told.is_truncated() && !told.is_control_truncated());
    let (head, body, rest) = received.buf;
    assert_eq!((&head, &body[..]), (b"head", &pattern(100)[..50]));
    assert_eq!(rest, [&pattern(100)[50..], b"tail"].concat());
    Ok(())
}

fn inet(any: SocketAddr) -> Result<(), Failed> {
    let mut ring = small();
    let (ours, theirs) = (UdpSocket::bind(any)?, UdpSocket::bind(any)?);
    let (from, to) = (ours.local_addr()?, theirs.local_addr()?);
    let receive =
        begin(&mut ring, RecvMsg::new(theirs, [vec![0; 32].into_boxed_slice()]).with_address());
    let sent = run(&mut ring, SendMsg::new(ours, ["in ", "parts"]).to(to));
    assert_eq!(sent.result?, 8);
    let received = ring.wait(receive)?;
    let told = received.result?;
    assert_eq!(told.from.and_then(|from| from.as_inet()), Some(from));
    assert_eq!((told.bytes, &received.buf[0][..8]), (8, b"in parts".as_slice()));
    // With an header, from the other side.
    let mut header = MsgHeader::new();
    header.set_address(from);
    let sent = run(&mut ring, SendMsg::new(received.fd, ["back"]).with(header));
    assert_eq!(sent.result?, 4);
    let receive = RecvMsg::new(sent.fd, [[0; 8]]).flags(RecvFlags::DONT_WAIT);
    assert_eq!(code(run(&mut ring, receive).result), Some(libc::EAGAIN), "not to itself");
    Ok(())
}

fn answers() -> Result<(), Failed> {
    let mut ring = small();
    let (here, there) = (path(), path());
    let (ours, theirs) = (UnixDatagram::bind(&here)?, UnixDatagram::bind(&there)?);
    let mut header = MsgHeader::new();
    header.set_address(UnixAddr::from_pathname(&there)?);
    let sent = run(&mut ring, SendMsg::new(ours, ["who is there"]).with(header));
    assert_eq!(sent.result?, 12);
    let (_, header) = sent.buf;

    let received = run(&mut ring, RecvMsg::new(theirs, [[0; 32]]).with(header));
    let told = received.result?;
    let from = told.from.and_then(|from| from.as_unix());
    assert_eq!(from.as_ref().and_then(|from| from.as_pathname()), Some(here.as_path()));
    let (_, header) = received.buf;
    assert_eq!(header.address(), told.from);
    let answered = run(&mut ring, SendMsg::new(received.fd, ["me"]).with(header));
    assert_eq!(answered.result?, 2);
    let mut buf = [0; 8];
    let (count, from) = sent.fd.recv_from(&mut buf)?;
    assert_eq!((&buf[..count], from.as_pathname()), (b"me".as_slice(), Some(there.as_path())));

    // A socket without a name gives no address to answer to.
    UnixDatagram::unbound()?.send_to(b"?", &here)?;
    let received = run(&mut ring, RecvMsg::new(sent.fd, [[0; 8]]).with(answered.buf.1));
    let from = received.result?.from.and_then(|from| from.as_unix());
    assert!(from.is_none_or(|from| from.is_unnamed()));
    fs::remove_file(&here)?;
    fs::remove_file(&there)?;
    Ok(())
}

fn no_place() -> Result<(), Failed> {
    let mut ring = small();
    let (here, there) = (path().with_extension("a-longer-name"), path());
    let (ours, theirs) = (UnixDatagram::bind(&here)?, UnixDatagram::bind(&there)?);
    ours.send_to(b"long path", &there)?;
    let received = run(&mut ring, RecvMsg::new(theirs, [[0; 16]]).with_address());
    let told = received.result?;
    assert!(here.as_os_str().len() > 26, "the path has no place in 28 bytes");
    assert_eq!((told.bytes, told.from), (9, None));
    fs::remove_file(&here)?;
    fs::remove_file(&there)?;
    Ok(())
}

fn truncated() -> Result<(), Failed> {
    let mut ring = small();
    let (ours, theirs) = UnixDatagram::pair()?;
    ours.send(&pattern(100))?;
    ours.send(&pattern(20))?;
    let received = run(&mut ring, RecvMsg::new(theirs, [[0; 10], [0; 10]]));
    let told = received.result?;
    assert!(told.is_truncated());
    assert_eq!((told.bytes, received.buf.concat()), (20, pattern(20)));
    let received = run(&mut ring, RecvMsg::new(received.fd, [[0; 10], [0; 10]]));
    assert!(!received.result?.is_truncated());
    Ok(())
}

fn refused() -> Result<(), Failed> {
    let mut ring = small();
    let (reader, writer) = pipe()?;
    let lists = ([vec![1, 2]], [vec![3, 4]]);
    let received = run(&mut ring, RecvMsg::new(reader, lists.0).with(MsgHeader::new()));
    assert_eq!(code(received.result), Some(libc::ENOTSOCK));
    let (bufs, mut header) = received.buf;
    assert_eq!((bufs, header.take_descriptors().len()), ([vec![1, 2]], 0));
    header.set_address("127.0.0.1:7".parse::<SocketAddr>()?);
    let sent = run(&mut ring, SendMsg::new(writer, lists.1).with(header));
    assert_eq!(code(sent.result), Some(libc::ENOTSOCK));
    let (bufs, header) = sent.buf;
    assert_eq!(bufs, [vec![3, 4]]);
    assert_eq!(header.address().map(|to| to.to_string()), Some("127.0.0.1:7".to_owned()));
    Ok(())
}

fn message_cancelled() -> Result<(), Failed> {
    let mut ring = small();
    let (ours, theirs) = UnixStream::pair()?;
    let ours = Rc::new(ours);
    let list = (vec![0; 4].into_boxed_slice(), [1_u8; 4]);
    let receive = RecvMsg::new(Rc::clone(&ours), list).with(MsgHeader::new());
    let received = cancelled(&mut ring, receive);
    assert!(matches!(code(received.result), Some(libc::ECANCELED | libc::EINTR)));
    let (list, header) = received.buf;
    assert_eq!((&list.0[..], list.1), ([0; 4].as_slice(), [1; 4]));
    (&theirs).write_all(b"not lost")?;
    let received = run(&mut ring, RecvMsg::new(ours, list).with(header));
    assert_eq!(received.result?.bytes, 8);
    let ((one, two), _) = received.buf;
    assert_eq!((&one[..], &two), (b"not ".as_slice(), b"lost"));
    Ok(())
}

/// A message header with the descriptors of `owner`.
fn with<D: AsFd + 'static>(owner: D) -> Box<MsgHeader> {
    let mut header = MsgHeader::new();
    assert!(header.attach(owner).is_ok(), "there is room for one");
    header
}

/// Sends a message of one byte with the contents of `header`.
fn send(ring: &mut Ring, through: &UnixStream, header: Box<MsgHeader>) -> Box<MsgHeader> {
    let through = through.try_clone().expect("a copy");
    let sent = run(ring, SendMsg::new(through, ["x"]).with(header));
    assert_eq!(sent.result.expect("it was sent"), 1);
    sent.buf.1
}

/// Receives a message of up to `N` bytes.
fn receive<const N: usize>(
    ring: &mut Ring,
    from: &UnixStream,
    flags: RecvFlags,
) -> (Received, Box<MsgHeader>) {
    let from = from.try_clone().expect("a copy");
    let receive = RecvMsg::new(from, [[0; N]]).flags(flags).with(MsgHeader::new());
    let received = run(ring, receive);
    (received.result.expect("it came"), received.buf.1)
}

/// Whether every write end of a pipe is closed, and nothing is in it.
fn closed(mut reader: PipeReader) -> Result<bool, Failed> {
    Ok(reader.read(&mut [0])? == 0)
}

/// The only descriptor of an header.
fn only(header: &mut MsgHeader) -> OwnedFd {
    let mut descriptors = header.take_descriptors();
    assert_eq!(descriptors.len(), 1);
    descriptors.remove(0)
}

fn there_and_back() -> Result<(), Failed> {
    let mut ring = small();
    let (ours, theirs) = UnixStream::pair()?;
    let (mut reader, writer) = pipe()?;
    let mut header = send(&mut ring, &ours, with(writer));
    assert_eq!(header.attached(), 0);
    assert!(header.take_descriptors().is_empty(), "what was sent is not what came");

    let (told, mut header) = receive::<8>(&mut ring, &theirs, RecvFlags::default());
    assert_eq!(told.bytes, 1);
    let writer = only(&mut header);
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", writer.as_raw_fd()))?;
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).expect("a flags line");
    assert_ne!(i32::from_str_radix(flags.trim(), 8)? & libc::O_CLOEXEC, 0, "closed on exec");

    // And back, with another.
    assert!(header.attach(writer).is_ok());
    assert!(header.attach(Rc::new(ours.try_clone()?)).is_ok());
    send(&mut ring, &theirs, header);
    let (_, mut header) = receive::<8>(&mut ring, &ours, RecvFlags::default());
    let mut descriptors = header.take_descriptors().into_iter();
    let (writer, socket) = (descriptors.next().expect("one"), descriptors.next().expect("two"));
    PipeWriter::from(writer).write_all(b"through three processes, if it were")?;
    UnixStream::from(socket).write_all(b"through its copy")?;
    let (mut text, mut buf) = (String::new(), [0; 16]);
    reader.read_to_string(&mut text)?;
    (&theirs).read_exact(&mut buf)?;
    assert_eq!((text.len(), &buf), (35, b"through its copy"));
    assert!(header.take_descriptors().is_empty(), "they are taken once");
    Ok(())
}

/// An owner that shows whether it lives.
struct Tied(PipeWriter, #[allow(dead_code, reason = "it is counted")] Rc<()>);

impl AsFd for Tied {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn attached() -> Result<(), Failed> {
    let mut ring = small();
    let (reader, writer) = pipe()?;
    let owned = Rc::new(());
    let header = with(Tied(writer, Rc::clone(&owned)));
    let (ours, theirs) = UnixStream::pair()?;
    ours.shutdown(std::net::Shutdown::Write)?;
    let sent = run(&mut ring, SendMsg::new(ours, ["x"]).with(header));
    assert_eq!(code(sent.result), Some(libc::EPIPE));
    let (_, header) = sent.buf;
    assert_eq!((header.attached(), Rc::strong_count(&owned)), (1, 2));
    send(&mut ring, &theirs, header);
    assert_eq!(Rc::strong_count(&owned), 1, "its owner is gone");
    drop((sent.fd, theirs));
    assert!(closed(reader)?, "it was closed with the message that nobody received");
    Ok(())
}

fn too_many() -> Result<(), Failed> {
    let mut ring = small();
    let (ours, theirs) = UnixStream::pair()?;
    let shared = Rc::new(ours.try_clone()?);
    let mut header = MsgHeader::new();
    for _ in 0..253 {
        assert!(header.attach(Rc::clone(&shared)).is_ok());
    }
    let back = header.attach(Rc::clone(&shared)).expect_err("no room");
    assert!(Rc::ptr_eq(&back, &shared));
    drop((back, shared));
    drop(send(&mut ring, &ours, header));
    let (told, mut header) = receive::<1>(&mut ring, &theirs, RecvFlags::default());
    // All of them, unless the process may not have so many open.
    let count = header.take_descriptors().len();
    assert!(count == 253 || told.is_control_truncated(), "{count} came, and nobody was told");
    Ok(())
}

fn given_up() -> Result<(), Failed> {
    let mut ring = small();
    let (ours, theirs) = UnixStream::pair()?;
    let (reader, writer) = pipe()?;
    let receive = RecvMsg::new(theirs, [[0; 8]]).with(MsgHeader::new());
    let receive = begin(&mut ring, receive);
    ring.detach(receive);
    drop(send(&mut ring, &ours, with(writer)));
    record(&mut ring);
    assert!(closed(reader)?);
    Ok(())
}

fn not_taken() -> Result<(), Failed> {
    let mut ring = small();
    let (ours, theirs) = UnixStream::pair()?;
    let ((one, a), (two, b), (three, c)) = (pipe()?, pipe()?, pipe()?);
    drop(send(&mut ring, &ours, with(a)));
    drop(send(&mut ring, &ours, with(b)));
    let (_, header) = receive::<1>(&mut ring, &theirs, RecvFlags::default());
    let theirs = Rc::new(theirs);
    let second = RecvMsg::new(Rc::clone(&theirs), [[0; 1]]).with(header);
    let received = run(&mut ring, second);
    assert!(closed(one)?, "the next message closes it");
    drop(received);
    assert!(closed(two)?, "the header closes it");
    drop(send(&mut ring, &ours, with(c)));
    let third = RecvMsg::new(theirs, [[0; 1]]).with(MsgHeader::new());
    let third = ring.submit(third).map_err(|rejected| rejected.why)?;
    ring.submit_and_wait(1)?;
    drop((third, ring));
    assert!(closed(three)?, "the ring closes it");
    Ok(())
}

fn in_parts() -> Result<(), Failed> {
    let mut ring = small();
    let (ours, theirs) = UnixStream::pair()?;
    let ((one, a), (two, b)) = (pipe()?, pipe()?);
    drop(send(&mut ring, &ours, with(a)));
    drop(send(&mut ring, &ours, with(b)));
    // Some kernels go on where others complete with a part; none may lose a descriptor.
    let (mut bytes, mut descriptors) = (0, Vec::new());
    while bytes < 2 {
        let (told, mut header) = receive::<2>(&mut ring, &theirs, RecvFlags::WAIT_ALL);
        bytes += told.bytes;
        descriptors.extend(header.take_descriptors());
        assert!(told.bytes > 0 && !told.is_control_truncated());
    }
    assert_eq!((bytes, descriptors.len()), (2, 2));
    drop(descriptors);
    assert!(closed(one)? && closed(two)?, "no copy is left");
    Ok(())
}

fn no_control_buffer() -> Result<(), Failed> {
    let mut ring = small();
    let (ours, theirs) = UnixStream::pair()?;
    let (reader, writer) = pipe()?;
    drop(send(&mut ring, &ours, with(writer)));
    let told = run(&mut ring, RecvMsg::new(theirs, [[0; 8]])).result?;
    assert_eq!((told.bytes, told.is_control_truncated()), (1, true));
    assert!(closed(reader)?);
    Ok(())
}

fn peeked() -> Result<(), Failed> {
    let mut ring = small();
    let (ours, theirs) = UnixStream::pair()?;
    let (reader, writer) = pipe()?;
    drop(send(&mut ring, &ours, with(writer)));
    let (_, mut first) = receive::<1>(&mut ring, &theirs, RecvFlags::PEEK);
    let (_, mut second) = receive::<1>(&mut ring, &theirs, RecvFlags::default());
    let (first, second) = (only(&mut first), only(&mut second));
    assert_ne!(first.as_raw_fd(), second.as_raw_fd());
    drop((first, second));
    assert!(closed(reader)?);
    Ok(())
}

fn stamps() -> Result<(), Failed> {
    let mut ring = small();
    let (ours, theirs) = UnixDatagram::pair()?;
    set_option(&theirs, libc::SO_TIMESTAMP, 1)?;
    let (_reader, writer) = pipe()?;
    let sent = run(&mut ring, SendMsg::new(ours, ["stamped"]).with(with(writer)));
    sent.result?;
    let received = run(&mut ring, RecvMsg::new(theirs, [[0; 8]]).with(sent.buf.1));
    assert!(!received.result?.is_control_truncated());
    let (_, mut header) = received.buf;
    let found: Vec<_> = header.control().map(|c| (c.level, c.kind, c.data.len())).collect();
    assert_eq!(found, [(libc::SOL_SOCKET, libc::SCM_TIMESTAMP, 16)]);
    assert_eq!(header.take_descriptors().len(), 1);
    header.clear();
    assert_eq!(header.control().count(), 0);
    Ok(())
}

fn process() -> Result<(), Failed> {
    let mut ring = small();
    let (ours, theirs) = UnixStream::pair()?;
    set_option(&theirs, SO_PASSPIDFD, 1)?;
    let (reader, writer) = pipe()?;
    drop(send(&mut ring, &ours, with(writer)));
    let (_, mut header) = receive::<1>(&mut ring, &theirs, RecvFlags::default());
    let process = header.take_pidfd().expect("the sender's process");
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", process.as_raw_fd()))?;
    assert!(info.lines().any(|line| line == format!("Pid:\t{}", std::process::id())), "{info}");
    assert!(header.take_pidfd().is_none());
    let kinds: Vec<i32> = header.control().map(|control| control.kind).collect();
    // Linux 6.17 reports how much more there is (`SCM_INQ`), though the test did not ask.
    assert!(kinds.iter().all(|&kind| kind == 84), "{kinds:?}: a number is no data");
    drop(only(&mut header));
    assert!(closed(reader)?);
    Ok(())
}
