//! Bytes through a socket, and datagrams to an address.
#![allow(unsafe_code, reason = "asks which signals wait")]

use std::fs;
use std::io::{Read as _, Write as _, pipe};
use std::mem::MaybeUninit;
use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram, UnixStream};
use std::ptr;
use std::rc::Rc;

use annulus::buf::{Append, SliceExt};
use annulus::op::{Address, ProvidedFlags, Recv, RecvFlags, RecvProvided, Send, SendFlags, SendTo};
use annulus::sys::opcode::{Opcode, RegisterOp};
use libtest_mimic::{Failed, Trial};

use super::{V6, begin, cancelled, code, path, pattern, run, small, tcp};
use crate::harness::{Need, test};

const SEND: [Need; 1] = [Need::Op(Opcode::SEND)];
/// Sends and receives with `MSG_WAITALL` came with this.
const ALL: [Need; 1] = [Need::Op(Opcode::SOCKET)];
/// Addresses of plain sends came with this.
const TO: [Need; 1] = [Need::Op(Opcode::SEND_ZC)];
const PROVIDED: [Need; 1] = [Need::Register(RegisterOp::PBUF_RING)];

/// The tests.
pub fn tests() -> Vec<Trial> {
    vec![
        test("bytes_go_through_and_everything_comes_back", &SEND, there_and_back),
        test("a_send_moves_no_more_than_is_in_the_buffer", &SEND, slices),
        test("a_send_to_who_is_gone_is_an_error_and_no_signal", &SEND, no_signal),
        test("a_receive_at_the_end_carries_no_data", &SEND, at_the_end),
        test("a_receive_that_is_cancelled_loses_nothing", &SEND, receive_cancelled),
        test("a_send_that_waits_for_room_is_cancelled", &SEND, send_cancelled),
        test("a_receive_that_is_given_up_drops_what_it_owned", &SEND, given_up),
        test("peeking_leaves_the_bytes_there", &SEND, peeks),
        test("a_receive_waits_for_all_of_its_bytes_if_told", &ALL, receives_all),
        test("a_send_waits_for_all_of_its_bytes_if_told", &ALL, sends_all),
        test("a_receive_does_not_wait_if_told", &SEND, no_wait),
        test("polling_first_changes_no_byte", &ALL, polls_first),
        test("what_is_no_socket_comes_back", &SEND, no_socket),
        test("datagrams_go_to_an_address_of_v4", &TO, || to_inet("127.0.0.1:0".parse()?)),
        test("datagrams_go_to_an_address_of_v6", &[TO[0], V6], || {
            to_inet((Ipv6Addr::LOCALHOST, 0).into())
        }),
        test("datagrams_go_to_a_path", &TO, to_path),
        test("a_datagram_that_is_too_long_is_refused_whole", &TO, too_long),
        test("a_provided_buffer_carries_the_bytes", &PROVIDED, selected),
        test("br1_provided_buffers_come_back_from_failures", &PROVIDED, selected_and_failed),
        test(
            "a_receive_without_a_provided_buffer_says_enobufs_and_loses_nothing",
            &PROVIDED,
            no_buffer,
        ),
    ]
}

fn there_and_back() -> Result<(), Failed> {
    let mut ring = small();
    let (ours, theirs) = tcp()?;
    let (ours, text) = (Rc::new(ours), Rc::<[u8]>::from(b"there and back".as_slice()));
    let sent = run(&mut ring, Send::new(Rc::clone(&ours), Rc::clone(&text)));
    assert_eq!(sent.result?, 14);
    assert!(Rc::ptr_eq(&sent.fd, &ours) && Rc::ptr_eq(&sent.buf, &text));
    let mut buf = b"> ".to_vec();
    buf.reserve(64);
    let received = run(&mut ring, Recv::new(theirs, Append::new(buf)));
    let (count, buf) = (received.result?, received.buf.into_inner());
    assert_eq!((count, &buf[..]), (14, b"> there and back".as_slice()));
    assert_eq!(received.fd.peer_addr()?, ours.local_addr()?);
    Ok(())
}

fn slices() -> Result<(), Failed> {
    let mut ring = small();
    let (ours, theirs) = UnixStream::pair()?;
    let sent = run(&mut ring, Send::new(ours, b"0123456789".to_vec().slice(3..7)));
    assert_eq!(sent.result?, 4);
    let received = run(&mut ring, Recv::new(theirs, b"..........".to_vec().slice(1..4)));
    assert_eq!((received.result?, &received.buf.into_inner()[..]), (3, b".345......".as_slice()));
    Ok(())
}

/// Runs `body` with `SIGPIPE` held back, and returns whether it came.
fn signalled(body: impl FnOnce()) -> bool {
    let change = |how| {
        let mut set = MaybeUninit::uninit();
        // SAFETY: the call fills a live set, and nothing else.
        unsafe { libc::sigemptyset(set.as_mut_ptr()) };
        // SAFETY: it was just filled, because `sigemptyset` cannot fail.
        let mut set = unsafe { set.assume_init() };
        // SAFETY: a live set that was filled, and the number of a signal, so it stays one.
        unsafe { libc::sigaddset(&raw mut set, libc::SIGPIPE) };
        // SAFETY: a live set, of which the call takes a copy, so it is not kept.
        assert_eq!(unsafe { libc::pthread_sigmask(how, &raw const set, ptr::null_mut()) }, 0);
    };
    change(libc::SIG_BLOCK);
    body();
    let mut waiting = MaybeUninit::uninit();
    // SAFETY: the call fills a live set, and nothing else.
    assert_eq!(unsafe { libc::sigpending(waiting.as_mut_ptr()) }, 0);
    // SAFETY: it was just filled, since the call succeeded.
    let waiting = unsafe { waiting.assume_init() };
    // SAFETY: a live set that was filled, so there is something to look at.
    let came = unsafe { libc::sigismember(&raw const waiting, libc::SIGPIPE) } == 1;
    // It is ignored, so that it is removed now.
    change(libc::SIG_UNBLOCK);
    came
}

fn no_signal() -> Result<(), Failed> {
    let mut ring = small();
    let (mut ours, theirs) = UnixStream::pair()?;
    drop(theirs);
    // A plain write sends it; the standard library's own sends suppress it.
    assert!(signalled(|| {
        let fd = std::os::fd::AsRawFd::as_raw_fd(&ours);
        // SAFETY: one live byte, and a call that keeps nothing.
        assert_eq!(unsafe { libc::write(fd, b"x".as_ptr().cast(), 1) }, -1);
    }));
    let mut sent = None;
    let came = signalled(|| {
        sent = Some(run(&mut ring, Send::new(ours.try_clone().expect("a copy"), "nobody reads")));
    });
    let sent = sent.expect("it was sent");
    assert_eq!((code(sent.result), sent.buf), (Some(libc::EPIPE), "nobody reads"));
    assert!(!came, "a signal came");
    assert_eq!(ours.read(&mut [0])?, 0);
    Ok(())
}

fn at_the_end() -> Result<(), Failed> {
    let mut ring = small();
    let (ours, mut theirs) = UnixStream::pair()?;
    theirs.write_all(b"last")?;
    drop(theirs);
    let received = run(&mut ring, Recv::new(ours, Vec::with_capacity(64)));
    assert_eq!((received.result?, received.buf.as_slice()), (4, b"last".as_slice()));
    let received = run(&mut ring, Recv::new(received.fd, received.buf));
    assert_eq!((received.result?, received.buf.as_slice()), (0, b"".as_slice()));
    Ok(())
}

fn receive_cancelled() -> Result<(), Failed> {
    let mut ring = small();
    let (ours, mut theirs) = UnixStream::pair()?;
    let received = cancelled(&mut ring, Recv::new(ours, [7_u8; 8]));
    assert!(matches!(code(received.result), Some(libc::ECANCELED | libc::EINTR)));
    assert_eq!(received.buf, [7; 8]);
    theirs.write_all(b"still")?;
    let received = run(&mut ring, Recv::new(received.fd, received.buf));
    assert_eq!((received.result?, &received.buf), (5, b"still\x07\x07\x07"));
    Ok(())
}

fn send_cancelled() -> Result<(), Failed> {
    let mut ring = small();
    let (ours, _theirs) = UnixStream::pair()?;
    // Until there is no room: a send that does not wait tells.
    let mut socket = ours;
    loop {
        let full = Send::new(socket, vec![0; 1 << 16]).flags(SendFlags::DONT_WAIT);
        let sent = run(&mut ring, full);
        socket = sent.fd;
        match code(sent.result) {
            None => {}
            Some(error) => break assert_eq!(error, libc::EAGAIN),
        }
    }
    let sent = cancelled(&mut ring, Send::new(socket, vec![1; 1 << 16]));
    assert!(matches!(code(sent.result), Some(libc::ECANCELED | libc::EINTR)));
    assert_eq!(sent.buf, [1; 1 << 16]);
    Ok(())
}

fn given_up() -> Result<(), Failed> {
    let mut ring = small();
    let (ours, mut theirs) = UnixStream::pair()?;
    let buf = Rc::new(());
    let receive = begin(&mut ring, Recv::new(ours, Tied([0; 8], Rc::clone(&buf))));
    ring.detach(receive);
    assert_eq!(Rc::strong_count(&buf), 2, "the kernel may still write there");
    theirs.write_all(b"x")?;
    super::record(&mut ring);
    assert_eq!(Rc::strong_count(&buf), 1);
    assert!(super::ends(&theirs)?, "the socket was closed");
    Ok(())
}

/// A buffer that shows whether it is still owned.
struct Tied([u8; 8], #[allow(dead_code, reason = "it is counted")] Rc<()>);

impl annulus::buf::IoBufMut for Tied {
    fn region_mut(&mut self) -> annulus::buf::RegionMut<'_> {
        self.0.as_mut_slice().into()
    }

    unsafe fn set_filled(&mut self, _: usize) {}
}

fn peeks() -> Result<(), Failed> {
    let mut ring = small();
    let (ours, mut theirs) = UnixStream::pair()?;
    theirs.write_all(b"twice")?;
    let peeked = run(&mut ring, Recv::new(ours, [0; 5]).flags(RecvFlags::PEEK));
    assert_eq!((peeked.result?, &peeked.buf), (5, b"twice"));
    let received = run(&mut ring, Recv::new(peeked.fd, [0; 8]));
    assert_eq!((received.result?, &received.buf[..5]), (5, b"twice".as_slice()));
    Ok(())
}

fn receives_all() -> Result<(), Failed> {
    let mut ring = small();
    let (ours, mut theirs) = UnixStream::pair()?;
    theirs.write_all(b"half")?;
    let all = Recv::new(ours, [0; 8]).flags(RecvFlags::WAIT_ALL);
    let receive = begin(&mut ring, all);
    let receive = ring.try_take(receive).expect_err("it waits for the rest");
    theirs.write_all(b"half")?;
    let received = ring.wait(receive)?;
    assert_eq!((received.result?, &received.buf), (8, b"halfhalf"));
    Ok(())
}

fn sends_all() -> Result<(), Failed> {
    let mut ring = small();
    let (ours, mut theirs) = UnixStream::pair()?;
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        theirs.read_to_end(&mut bytes).map(|_| bytes)
    });
    let bytes = pattern(1 << 20);
    let flags = SendFlags::WAIT_ALL | SendFlags::MORE;
    let sent = run(&mut ring, Send::new(ours, bytes).flags(flags));
    assert_eq!(sent.result?, 1 << 20);
    drop(sent.fd);
    let received = reader.join().expect("no panic")?;
    assert!(received == sent.buf, "the bytes arrived in order");
    Ok(())
}

fn no_wait() -> Result<(), Failed> {
    let mut ring = small();
    let (ours, mut theirs) = UnixStream::pair()?;
    let flags = RecvFlags::DONT_WAIT | RecvFlags::PEEK;
    let received = run(&mut ring, Recv::new(ours, [0; 8]).flags(flags));
    assert_eq!(code(received.result), Some(libc::EAGAIN));
    theirs.write_all(b"now")?;
    let received = run(&mut ring, Recv::new(received.fd, received.buf).flags(flags));
    assert_eq!(received.result?, 3);
    Ok(())
}

fn polls_first() -> Result<(), Failed> {
    let mut ring = small();
    let (ours, theirs) = UnixStream::pair()?;
    let receive = begin(&mut ring, Recv::new(theirs, [0; 8]).poll_first());
    assert_eq!(run(&mut ring, Send::new(ours, "first").poll_first()).result?, 5);
    let received = ring.wait(receive)?;
    assert_eq!((received.result?, &received.buf[..5]), (5, b"first".as_slice()));
    Ok(())
}

fn no_socket() -> Result<(), Failed> {
    let mut ring = small();
    let (reader, writer) = pipe()?;
    let (reader, writer) = (Rc::new(reader), Rc::new(writer));
    let received = run(&mut ring, Recv::new(Rc::clone(&reader), vec![1, 2, 3]));
    assert_eq!((code(received.result), received.buf), (Some(libc::ENOTSOCK), vec![1, 2, 3]));
    let sent = run(&mut ring, Send::new(Rc::clone(&writer), vec![1, 2, 3]));
    assert_eq!((code(sent.result), sent.buf), (Some(libc::ENOTSOCK), vec![1, 2, 3]));
    assert!(Rc::ptr_eq(&received.fd, &reader) && Rc::ptr_eq(&sent.fd, &writer));
    Ok(())
}

fn to_inet(any: SocketAddr) -> Result<(), Failed> {
    let mut ring = small();
    let (ours, theirs) = (UdpSocket::bind(any)?, UdpSocket::bind(any)?);
    let from = ours.local_addr()?;
    let sent = run(&mut ring, SendTo::new(ours, "to an address", theirs.local_addr()?));
    assert_eq!((sent.result?, sent.buf), (13, "to an address"));
    let mut buf = [0; 32];
    assert_eq!(theirs.recv_from(&mut buf)?, (13, from));
    assert_eq!(&buf[..13], b"to an address");
    // The family's own type, and the one for any address, have the same bytes.
    let sent = match theirs.local_addr()? {
        SocketAddr::V4(v4) => run(&mut ring, SendTo::new(sent.fd, "again", v4)).result?,
        SocketAddr::V6(v6) => run(&mut ring, SendTo::new(sent.fd, "again", v6)).result?,
    };
    assert_eq!((sent, theirs.recv_from(&mut buf)?), (5, (5, from)));
    let ours = UdpSocket::bind(any)?;
    let to = Address::from(theirs.local_addr()?);
    let once = SendTo::new(ours, "any", to).flags(SendFlags::CONFIRM);
    assert_eq!(run(&mut ring, once).result?, 3);
    assert_eq!(theirs.recv(&mut buf)?, 3);
    Ok(())
}

fn to_path() -> Result<(), Failed> {
    let mut ring = small();
    let place = path();
    let theirs = UnixDatagram::bind(&place)?;
    let to = UnixAddr::from_pathname(&place)?;
    let sent = run(&mut ring, SendTo::new(UnixDatagram::unbound()?, "to a path", to.clone()));
    assert_eq!(sent.result?, 9);
    let mut buf = [0; 32];
    assert_eq!(theirs.recv(&mut buf)?, 9);
    assert_eq!(&buf[..9], b"to a path");
    fs::remove_file(&place)?;
    let sent = run(&mut ring, SendTo::new(sent.fd, "gone", to));
    assert_eq!((code(sent.result), sent.buf), (Some(libc::ENOENT), "gone"));
    Ok(())
}

fn too_long() -> Result<(), Failed> {
    let mut ring = small();
    let (ours, theirs) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    let sent = run(&mut ring, SendTo::new(ours, vec![1; 70_000], theirs.local_addr()?));
    assert_eq!((code(sent.result), sent.buf.len()), (Some(libc::EMSGSIZE), 70_000));
    let sent = run(&mut ring, SendTo::new(sent.fd, "short", theirs.local_addr()?));
    assert_eq!(sent.result?, 5);
    assert_eq!(theirs.recv(&mut [0; 32])?, 5, "nothing came before");
    Ok(())
}

fn selected() -> Result<(), Failed> {
    let mut ring = small();
    let buffers = ring.buf_ring(4, 8)?;
    let (ours, mut theirs) = UnixStream::pair()?;
    theirs.write_all(b"more than eight")?;
    let received = run(&mut ring, RecvProvided::new(ours, &buffers));
    let first = received.result?.expect("a buffer");
    let received = run(&mut ring, RecvProvided::new(received.fd, &buffers));
    let second = received.result?.expect("a buffer");
    assert_eq!((&first[..], &second[..]), (b"more tha".as_slice(), b"n eight".as_slice()));
    assert_eq!(buffers.leased(), 2);
    drop((first, second, theirs));
    let received = run(&mut ring, RecvProvided::new(received.fd, &buffers));
    assert!(received.result?.is_none(), "the end");
    assert_eq!(buffers.leased(), 0);
    Ok(())
}

fn selected_and_failed() -> Result<(), Failed> {
    let mut ring = small();
    let buffers = ring.buf_ring(2, 8)?;
    let (ours, mut theirs) = UnixStream::pair()?;
    let mut socket = Rc::new(ours);
    for _ in 0..4 {
        let received = cancelled(&mut ring, RecvProvided::new(socket, &buffers));
        assert_eq!(code(received.result), Some(libc::ECANCELED));
        let (reader, _writer) = pipe()?;
        let refused = run(&mut ring, RecvProvided::new(reader, &buffers));
        assert_eq!(code(refused.result), Some(libc::ENOTSOCK));
        let receive = begin(&mut ring, RecvProvided::new(Rc::clone(&received.fd), &buffers));
        ring.detach(receive);
        theirs.write_all(b"x")?;
        super::record(&mut ring);
        socket = received.fd;
    }
    assert_eq!(buffers.leased(), 0);
    let flags = ProvidedFlags::DONT_WAIT;
    let empty = run(&mut ring, RecvProvided::new(socket, &buffers).flags(flags));
    assert_eq!(code(empty.result), Some(libc::EAGAIN));
    theirs.write_all(b"both")?;
    let full = run(&mut ring, RecvProvided::new(empty.fd, &buffers).flags(flags));
    assert_eq!(&full.result?.expect("a buffer")[..], b"both");
    Ok(())
}

fn no_buffer() -> Result<(), Failed> {
    let mut ring = small();
    let buffers = ring.buf_ring(1, 8)?;
    let (ours, mut theirs) = UnixStream::pair()?;
    theirs.write_all(b"firstly.second")?;
    let received = run(&mut ring, RecvProvided::new(ours, &buffers));
    let first = received.result?.expect("a buffer");
    let received = run(&mut ring, RecvProvided::new(received.fd, &buffers));
    assert_eq!(code(received.result), Some(libc::ENOBUFS));
    assert_eq!(&first[..], b"firstly.");
    drop(first);
    let received = run(&mut ring, RecvProvided::new(received.fd, &buffers));
    assert_eq!(&received.result?.expect("a buffer")[..], b"second");
    Ok(())
}
