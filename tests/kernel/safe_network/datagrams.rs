//! Multishot messages, each in a buffer that the kernel selects.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::rc::Rc;

use annulus::lease::{BufRing, Datagram};
use annulus::op::{
    Cancel, Ended, Ending, MsgHeader, Nop, ProvidedFlags, RecvMsgMulti, RecvProvided, SendMsg,
    Target,
};
use annulus::sys::opcode::{Opcode, RegisterOp};
use annulus::{Rejection, Ring};
use libtest_mimic::{Failed, Trial};

use crate::harness::{Need, here, test};
use crate::safe_leases::buf_ring::{all_are_back, buffers};
use crate::safe_sockets::{begin, code, pattern, record, run, set_option, small};

/// Messages without end came with this.
const MESSAGES: [Need; 1] = [Need::Op(Opcode::SEND_ZC)];
const NO_MESSAGES: [Need; 2] = [Need::Register(RegisterOp::PBUF_RING), Need::Other(receives_them)];

/// The tests.
pub fn tests() -> Vec<Trial> {
    vec![
        test("messages_come_each_with_its_sender", &MESSAGES, senders),
        test("messages_come_without_what_was_not_asked_for", &MESSAGES, plain),
        test("a_message_longer_than_its_buffer_is_cut_and_says_so", &MESSAGES, truncated),
        test("buffers_without_room_for_a_head_are_refused_with_a_message", &MESSAGES, no_room),
        test("op3_descriptors_come_with_messages_and_are_owned", &MESSAGES, descriptors),
        test("op3_descriptors_of_messages_that_are_not_taken_are_closed", &MESSAGES, not_taken),
        test("op3_what_a_buffer_held_before_is_no_descriptor", &MESSAGES, left_over),
        test("descriptors_without_room_are_dropped_by_the_kernel", &MESSAGES, no_control),
        test("control_data_of_messages_is_told", &MESSAGES, control),
        test("a_message_without_bytes_ends_messages", &MESSAGES, empty),
        test("messages_end_with_the_stream", &MESSAGES, eof),
        test("messages_are_cancelled_and_none_is_lost", &MESSAGES, cancelled),
        test("messages_without_a_buffer_say_so", &MESSAGES, dry),
        test("messages_into_buffers_of_another_ring_are_refused", &MESSAGES, other_ring),
        test("before_a_kernel_receives_messages_it_refuses_them", &NO_MESSAGES, refused),
    ]
}

fn receives_them() -> Option<String> {
    let does = here().has_op(Opcode::SEND_ZC);
    does.then(|| "needs a kernel before Linux 6.0".to_owned())
}

fn take(
    ring: &mut Ring,
    messages: &annulus::Ticket<RecvMsgMulti<impl Target>>,
) -> Result<Datagram, Failed> {
    Ok(ring.next(messages)?.ok_or("a message")??)
}

fn senders() -> Result<(), Failed> {
    let mut ring = small();
    let buffers = buffers(&mut ring, 4, 256);
    let theirs = UdpSocket::bind("127.0.0.1:0")?;
    let to = theirs.local_addr()?;
    let senders = [UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?];
    let mut fd = theirs;
    let mut lap = 0_u8;
    while lap < 50 {
        let messages = begin(&mut ring, RecvMsgMulti::new(fd, &buffers).with_address());
        // Until the completion queue is full, and the operation ends.
        for _ in 0..10 {
            let sender = &senders[usize::from(lap) % 2];
            sender.send_to(&vec![lap; usize::from(lap) + 1], to)?;
            let message = take(&mut ring, &messages)?;
            assert_eq!(message.payload(), vec![lap; usize::from(lap) + 1]);
            let from = message.from().and_then(|from| from.as_inet());
            assert_eq!(from, Some(sender.local_addr()?));
            assert!(!message.is_truncated() && !message.is_control_truncated());
            assert_eq!(buffers.leased(), 1);
            lap += 1;
        }
        ring.cancel(&messages)?;
        let ended = ring.wait(messages)?;
        assert!(matches!(ended.how, Ending::Cancelled), "{:?}", ended.how);
        fd = ended.fd;
    }
    all_are_back(&mut ring, &buffers);
    Ok(())
}

fn plain() -> Result<(), Failed> {
    let mut ring = small();
    let buffers = buffers(&mut ring, 2, 32);
    let theirs = UdpSocket::bind("127.0.0.1:0")?;
    let to = theirs.local_addr()?;
    let messages = begin(&mut ring, RecvMsgMulti::new(theirs, &buffers));
    for text in [&b"first"[..], b"sixteen bytes.."] {
        UdpSocket::bind("127.0.0.1:0")?.send_to(text, to)?;
        let message = take(&mut ring, &messages)?;
        assert_eq!((message.payload(), message.from()), (text, None));
        assert_eq!(message.control().count(), 0);
        assert_eq!(message.as_ref().len(), text.len());
    }
    ring.detach(messages);
    Ok(())
}

fn truncated() -> Result<(), Failed> {
    let mut ring = small();
    let buffers = buffers(&mut ring, 2, 128 + 16 + 10);
    let theirs = UdpSocket::bind("127.0.0.1:0")?;
    let to = theirs.local_addr()?;
    let messages = begin(&mut ring, RecvMsgMulti::new(theirs, &buffers).with_address());
    let ours = UdpSocket::bind("127.0.0.1:0")?;
    for (count, cut) in [(10, false), (11, true), (1000, true), (1, false)] {
        ours.send_to(&pattern(count), to)?;
        let message = take(&mut ring, &messages)?;
        assert_eq!(message.is_truncated(), cut, "{count}");
        assert!(message.payload() == &pattern(count)[..count.min(10)]);
    }
    ring.detach(messages);
    Ok(())
}

fn no_room() -> Result<(), Failed> {
    let mut ring = small();
    let buffers = buffers(&mut ring, 2, 143);
    let theirs = Rc::new(UdpSocket::bind("127.0.0.1:0")?);
    theirs.send_to(b"waits", theirs.local_addr()?)?;
    let many = RecvMsgMulti::new(Rc::clone(&theirs), &buffers).with_address();
    let messages = begin(&mut ring, many);
    assert!(ring.next(&messages)?.is_none());
    let ended = ring.wait(messages)?;
    let Ending::Failed(error) = ended.how else { return Err("it has no room".into()) };
    assert!(error.to_string().contains("144 bytes in front"), "{error}");
    assert!(Rc::ptr_eq(&ended.fd, &theirs));
    let messages = begin(&mut ring, RecvMsgMulti::new(ended.fd, &buffers));
    assert_eq!(take(&mut ring, &messages)?.payload(), b"waits");
    ring.detach(messages);
    settle_cancelled(&mut ring, &buffers)
}

/// Ends the operations in flight, and checks that every buffer is back.
fn settle_cancelled(ring: &mut Ring, buffers: &BufRing) -> Result<(), Failed> {
    let cancel = begin(ring, Cancel::any());
    ring.detach(cancel);
    record(ring);
    all_are_back(ring, buffers);
    Ok(())
}

/// Sends `text` with a descriptor of the write end of a pipe, whose read end shows when no copy of
/// it is open any more.
fn send_pipe(
    ring: &mut Ring,
    ours: &UnixDatagram,
    text: &'static str,
) -> Result<std::io::PipeReader, Failed> {
    let (reader, writer) = std::io::pipe()?;
    let mut header = MsgHeader::new();
    header.attach(writer).map_err(|_| "one fits")?;
    let sent = run(ring, SendMsg::new(ours.try_clone()?, [text]).with(header));
    assert_eq!(sent.result?, text.len());
    Ok(reader)
}

fn descriptors() -> Result<(), Failed> {
    let mut ring = small();
    let buffers = buffers(&mut ring, 2, 256);
    let (ours, theirs) = UnixDatagram::pair()?;
    let messages = begin(&mut ring, RecvMsgMulti::new(theirs, &buffers).with_control(60));
    for _ in 0..5 {
        let mut reader = send_pipe(&mut ring, &ours, "one descriptor")?;
        let mut message = take(&mut ring, &messages)?;
        assert_eq!((message.payload(), message.control().count()), (&b"one descriptor"[..], 0));
        let mut descriptors = message.take_descriptors();
        assert_eq!((descriptors.len(), message.take_descriptors().len()), (1, 0));
        assert!(message.take_pidfd().is_none());
        let writer = descriptors.pop().ok_or("one")?;
        assert!(is_closed_on_exec(&writer)?);
        let mut writer = File::from(writer);
        writer.write_all(b"through")?;
        drop(writer);
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes)?;
        assert_eq!(bytes, b"through");
        // Next to a message without any, in the same buffer.
        drop(message);
        ours.send(b"none")?;
        let mut message = take(&mut ring, &messages)?;
        assert!(message.take_descriptors().is_empty());
        assert_eq!(message.payload(), b"none");
    }
    ring.detach(messages);
    Ok(())
}

fn is_closed_on_exec(fd: &OwnedFd) -> Result<bool, Failed> {
    use std::os::fd::AsRawFd as _;
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))?;
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:")).ok_or("flags")?;
    let flags = i32::from_str_radix(flags.trim(), 8)?;
    Ok(flags & libc::O_CLOEXEC != 0)
}

fn not_taken() -> Result<(), Failed> {
    let mut ring = small();
    let buffers = buffers(&mut ring, 4, 256);
    let (ours, theirs) = UnixDatagram::pair()?;
    let many = |fd: &UnixDatagram| -> Result<_, Failed> {
        Ok(RecvMsgMulti::new(fd.try_clone()?, &buffers).with_control(64))
    };
    // Dropped unread; shown and not taken; detached before and after it came.
    let messages = begin(&mut ring, many(&theirs)?);
    let mut reader = send_pipe(&mut ring, &ours, "dropped")?;
    drop(take(&mut ring, &messages)?);
    assert_eq!(reader.read(&mut [0])?, 0, "OP3: closed");
    let mut reader = send_pipe(&mut ring, &ours, "kept for later")?;
    run(&mut ring, Nop)?;
    ring.detach(messages);
    assert_eq!(reader.read(&mut [0])?, 0, "OP3: closed");
    let mut reader = send_pipe(&mut ring, &ours, "nobody waits")?;
    settle_cancelled(&mut ring, &buffers)?;
    let messages = begin(&mut ring, many(&theirs)?);
    let mut other = send_pipe(&mut ring, &ours, "the ring goes")?;
    drop((messages, ring, theirs));
    assert_eq!(reader.read(&mut [0])?, 0, "OP3: closed");
    assert_eq!(other.read(&mut [0])?, 0, "OP3: closed");
    Ok(())
}

fn left_over() -> Result<(), Failed> {
    let mut ring = small();
    let buffers = buffers(&mut ring, 1, 256);
    // We put bytes that look like a descriptor in the place of control data.
    let rights = [&20_u64.to_ne_bytes()[..], &1_i32.to_ne_bytes(), &1_i32.to_ne_bytes()];
    let (reader, _writer) = std::io::pipe()?;
    let reader = OwnedFd::from(reader);
    let number = {
        use std::os::fd::AsRawFd as _;
        reader.as_raw_fd().to_ne_bytes()
    };
    let forged = [&[24_u8, 0, 0, 0].repeat(4)[..], &rights.concat(), &number, &[0; 4]].concat();
    let (mut from, theirs) = UnixStream::pair()?;
    from.write_all(&forged)?;
    let lease = run(&mut ring, RecvProvided::new(theirs, &buffers)).result?.ok_or("data")?;
    assert_eq!(*lease, *forged);
    drop(lease);
    let (ours, theirs) = UnixDatagram::pair()?;
    let messages = begin(&mut ring, RecvMsgMulti::new(theirs, &buffers).with_control(64));
    ours.send(b"nothing beside")?;
    let mut message = take(&mut ring, &messages)?;
    assert!(message.take_descriptors().is_empty());
    assert_eq!((message.payload(), message.control().count()), (&b"nothing beside"[..], 0));
    drop(message);
    // It is still open.
    assert!(reader.try_clone().is_ok());
    ring.detach(messages);
    Ok(())
}

fn no_control() -> Result<(), Failed> {
    let mut ring = small();
    let buffers = buffers(&mut ring, 2, 256);
    let (ours, theirs) = UnixDatagram::pair()?;
    let messages = begin(&mut ring, RecvMsgMulti::new(theirs, &buffers));
    let mut reader = send_pipe(&mut ring, &ours, "no room")?;
    let mut message = take(&mut ring, &messages)?;
    assert!(message.is_control_truncated() && message.take_descriptors().is_empty());
    assert_eq!(reader.read(&mut [0])?, 0, "the kernel has closed it");
    ring.detach(messages);
    Ok(())
}

fn control() -> Result<(), Failed> {
    let mut ring = small();
    let buffers = buffers(&mut ring, 2, 256);
    let theirs = UdpSocket::bind("127.0.0.1:0")?;
    set_option(&theirs, libc::SO_TIMESTAMP, 1)?;
    let to = theirs.local_addr()?;
    let many = RecvMsgMulti::new(theirs, &buffers).with_control(64).with_address();
    let messages = begin(&mut ring, many);
    UdpSocket::bind("127.0.0.1:0")?.send_to(b"when?", to)?;
    let message = take(&mut ring, &messages)?;
    assert_eq!(message.payload(), b"when?");
    let control: Vec<_> = message.control().collect();
    assert_eq!(control.len(), 1);
    assert_eq!((control[0].level, control[0].kind), (libc::SOL_SOCKET, libc::SO_TIMESTAMP));
    assert_eq!(control[0].data.len(), size_of::<libc::timeval>());
    assert!(message.from().is_some());
    drop(message);
    ring.detach(messages);
    Ok(())
}

fn empty() -> Result<(), Failed> {
    let mut ring = small();
    let buffers = buffers(&mut ring, 2, 256);
    let mut theirs = UdpSocket::bind("127.0.0.1:0")?;
    let (to, ours) = (theirs.local_addr()?, UdpSocket::bind("127.0.0.1:0")?);
    for _ in 0..3 {
        let messages = begin(&mut ring, RecvMsgMulti::new(theirs, &buffers).with_address());
        ours.send_to(b"", to)?;
        ours.send_to(b"behind", to)?;
        let message = take(&mut ring, &messages)?;
        assert_eq!(message.payload(), b"");
        assert_eq!(message.from().and_then(|from| from.as_inet()), Some(ours.local_addr()?));
        drop(message);
        assert!(ring.next(&messages)?.is_none());
        let Ended { how, fd, remaining: left } = ring.wait(messages)?;
        assert!(left.is_empty());
        assert!(matches!(how, Ending::Eof), "{how:?}");
        let messages = begin(&mut ring, RecvMsgMulti::new(fd, &buffers));
        assert_eq!(take(&mut ring, &messages)?.payload(), b"behind", "nothing was lost");
        ring.cancel(&messages)?;
        theirs = ring.wait(messages)?.fd;
    }
    all_are_back(&mut ring, &buffers);
    Ok(())
}

fn eof() -> Result<(), Failed> {
    let mut ring = small();
    let buffers = buffers(&mut ring, 2, 256);
    let (mut ours, theirs) = UnixStream::pair()?;
    let messages = begin(&mut ring, RecvMsgMulti::new(theirs, &buffers));
    ours.write_all(b"bytes")?;
    assert_eq!(take(&mut ring, &messages)?.payload(), b"bytes");
    drop(ours);
    let last = take(&mut ring, &messages)?;
    assert!(last.payload().is_empty());
    drop(last);
    assert!(ring.next(&messages)?.is_none());
    let ended = ring.wait(messages)?;
    assert!(matches!(ended.how, Ending::Eof), "{:?}", ended.how);
    all_are_back(&mut ring, &buffers);
    Ok(())
}

fn cancelled() -> Result<(), Failed> {
    let mut ring = small();
    let buffers = buffers(&mut ring, 2, 64);
    let (ours, mut fd) = UnixDatagram::pair()?;
    for round in [b"a", b"b", b"c"] {
        let many = RecvMsgMulti::new(fd, &buffers).flags(ProvidedFlags::default());
        let ended = crate::safe_sockets::cancelled(&mut ring, many);
        assert!(matches!(ended.how, Ending::Cancelled), "{:?}", ended.how);
        ours.send(round)?;
        let messages = begin(&mut ring, RecvMsgMulti::new(ended.fd, &buffers));
        assert_eq!(take(&mut ring, &messages)?.payload(), round);
        ring.cancel(&messages)?;
        fd = ring.wait(messages)?.fd;
    }
    let (reader, _writer) = std::io::pipe()?;
    let messages = begin(&mut ring, RecvMsgMulti::new(reader, &buffers));
    assert!(ring.next(&messages)?.is_none());
    let Ending::Failed(error) = ring.wait(messages)?.how else { return Err("a pipe".into()) };
    assert_eq!(error.raw_os_error(), Some(libc::ENOTSOCK));
    all_are_back(&mut ring, &buffers);
    Ok(())
}

fn dry() -> Result<(), Failed> {
    let mut ring = small();
    let buffers = buffers(&mut ring, 1, 64);
    let (ours, theirs) = UnixDatagram::pair()?;
    let messages = begin(&mut ring, RecvMsgMulti::new(theirs, &buffers));
    ours.send(b"first")?;
    ours.send(b"second")?;
    let first = take(&mut ring, &messages)?;
    assert!(ring.next(&messages)?.is_none());
    let ended = ring.wait(messages)?;
    assert!(matches!(ended.how, Ending::NoBuffers), "{:?}", ended.how);
    assert_eq!(first.payload(), b"first");
    drop(first);
    let messages = begin(&mut ring, RecvMsgMulti::new(ended.fd, &buffers));
    assert_eq!(take(&mut ring, &messages)?.payload(), b"second");
    ring.detach(messages);
    Ok(())
}

fn other_ring() -> Result<(), Failed> {
    let (mut ring, mut other) = (small(), small());
    let buffers = buffers(&mut ring, 2, 64);
    let (ours, _theirs) = UnixDatagram::pair()?;
    let rejected = other.submit(RecvMsgMulti::new(ours, &buffers)).expect_err("of another ring");
    assert_eq!(rejected.why, Rejection::OtherRing);
    all_are_back(&mut ring, &buffers);
    Ok(())
}

fn refused() -> Result<(), Failed> {
    let mut ring = small();
    let buffers = buffers(&mut ring, 2, 256);
    let (ours, theirs) = UnixDatagram::pair()?;
    ours.send(b"stays")?;
    let messages = begin(&mut ring, RecvMsgMulti::new(theirs, &buffers).with_address());
    assert!(ring.next(&messages)?.is_none());
    let ended = ring.wait(messages)?;
    let Ending::Failed(error) = ended.how else { return Err("it is unknown".into()) };
    assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    let selected = run(&mut ring, RecvProvided::new(ended.fd, &buffers)).result;
    assert_eq!(code(selected), None);
    all_are_back(&mut ring, &buffers);
    Ok(())
}
