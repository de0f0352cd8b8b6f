//! Several buffers in one send, and registered buffers without a copy.

use std::io::{self, Read as _};
use std::net::{TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use annulus::lease::{FixedBuf, FixedPool};
use annulus::op::{Address, Gather, MsgHeader, Nop, SendFlags, SendMsgZcFixed, SendV, SendZcFixed};
use annulus::sys::flags::{CqeFlags, Features, RecvSendFlags};
use annulus::sys::opcode::Opcode;
use annulus::{Rejection, Ring, Setup, Ticket, prep};
use libtest_mimic::{Failed, Trial};

use crate::harness::{Need, drain, hangs_up, push, ring, test};
use crate::safe_sockets::{begin, code, narrow, pattern, record, run, small, tcp, unacknowledged};

const FIXED: [Need; 1] = [Need::Op(Opcode::SEND_ZC)];
const MESSAGE: [Need; 1] = [Need::Op(Opcode::RECV_ZC)];
const VECTORED: [Need; 1] = [Need::Other(takes_no_vectors)];

/// The tests.
pub fn tests() -> Vec<Trial> {
    vec![
        test("several_buffers_are_sent_in_order", &VECTORED, several),
        test("a_thousand_buffers_are_sent_from_a_box", &VECTORED, boxed),
        test("several_buffers_that_cannot_be_sent_come_back", &VECTORED, several_refused),
        test("several_buffers_are_sent_without_a_copy", &VECTORED, several_zc),
        test("before_a_kernel_sends_vectors_it_refuses_them", &[Need::Other(vectors)], no_vectors),
        test("a_registered_buffer_is_sent_without_a_copy", &FIXED, fixed),
        test("op1_a_registered_buffer_is_leased_until_the_notification", &FIXED, held),
        test("op1_given_up_a_registered_buffer_is_free_after_the_notification", &FIXED, given_up),
        test("a_registered_buffer_that_cannot_be_sent_comes_back", &FIXED, fixed_refused),
        test("a_registered_buffer_is_sent_by_its_own_ring_only", &FIXED, other_ring),
        test("a_registered_buffer_goes_to_an_address", &MESSAGE, message),
        test("a_registered_message_that_is_refused_comes_back", &MESSAGE, message_refused),
    ]
}

fn sends_vectors() -> bool {
    let (ours, _theirs) = UnixStream::pair().expect("two sockets");
    let mut ring = small();
    let Ok(ticket) = ring.submit(SendV::new(ours, ("a", "b"))) else { return false };
    ring.wait(ticket).expect("it completes").result.is_ok()
}

fn takes_no_vectors() -> Option<String> {
    (!sends_vectors()).then(|| "needs Linux 6.17: IORING_SEND_VECTORIZED".to_owned())
}

fn vectors() -> Option<String> {
    sends_vectors().then(|| "needs a kernel without IORING_SEND_VECTORIZED".to_owned())
}

fn no_vectors() -> Result<(), Failed> {
    let mut ring = small();
    let (ours, mut theirs) = UnixStream::pair()?;
    // Until Linux 5.18 the kernel ignored these flags: the table itself would be sent.
    let needs = Features::RECVSEND_BUNDLE;
    match ring.submit(SendV::new(ours, (vec![1, 2], "three"))) {
        Ok(ticket) => {
            assert!(ring.raw().features().contains(needs));
            let outcome = ring.wait(ticket)?;
            assert_eq!(code(outcome.result), Some(libc::EINVAL));
            assert_eq!(outcome.buf, (vec![1, 2], "three"));
        }
        Err(rejected) => {
            assert!(!ring.raw().features().contains(needs));
            assert_eq!(rejected.why, Rejection::Unsupported { needs });
        }
    }
    let mut bytes = Vec::new();
    theirs.read_to_end(&mut bytes)?;
    assert_eq!(bytes, b"", "neither the buffers nor where they lie");
    Ok(())
}

fn several() -> Result<(), Failed> {
    let mut ring = small();
    let (ours, mut theirs) = UnixStream::pair()?;
    let outcome = run(&mut ring, SendV::new(ours, ("head, ", vec![b'b'; 4], [0_u8; 0], "!")));
    assert_eq!(outcome.result?, 11);
    assert_eq!(outcome.buf, ("head, ", vec![b'b'; 4], [], "!"));
    drop(outcome.fd);
    let mut bytes = Vec::new();
    theirs.read_to_end(&mut bytes)?;
    assert_eq!(bytes, b"head, bbbb!");
    // As one datagram.
    let (ours, theirs) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    ours.connect(theirs.local_addr()?)?;
    let send = SendV::new(ours, [pattern(100), pattern(50)]).flags(SendFlags::DONT_WAIT);
    assert_eq!(run(&mut ring, send).result?, 150);
    let mut buf = [0; 200];
    assert_eq!(theirs.recv(&mut buf)?, 150);
    assert!(buf[..100] == pattern(100) && buf[100..150] == pattern(50));
    Ok(())
}

fn boxed() -> Result<(), Failed> {
    let mut ring = small();
    let (ours, mut theirs) = tcp()?;
    let bufs = Gather::boxed([0_u8; 1024].map(|_| vec![7_u8; 3]));
    let send = SendV::boxed(ours, bufs).flags(SendFlags::WAIT_ALL);
    let outcome = run(&mut ring, send);
    assert_eq!(outcome.result?, 3072);
    let mut bytes = vec![0; 3072];
    theirs.read_exact(&mut bytes)?;
    assert_eq!(bytes, vec![7; 3072]);
    assert_eq!(outcome.buf.into_inner().len(), 1024);
    Ok(())
}

fn several_refused() -> Result<(), Failed> {
    let mut ring = small();
    let (reader, _writer) = io::pipe()?;
    let outcome = run(&mut ring, SendV::new(reader, (vec![1], vec![2])));
    assert_eq!(code(outcome.result), Some(libc::ENOTSOCK));
    assert_eq!(outcome.buf, (vec![1], vec![2]));
    let (ours, theirs) = UnixStream::pair()?;
    drop(theirs);
    assert!(hangs_up(&ours));
    let outcome = run(&mut ring, SendV::new(ours, (vec![1], vec![2])));
    assert_eq!(code(outcome.result), Some(libc::EPIPE), "and no signal");
    assert_eq!(outcome.buf, (vec![1], vec![2]));
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(socket.local_addr()?)?;
    let outcome = run(&mut ring, SendV::new(socket, [vec![0; 40_000], vec![0; 40_000]]));
    assert_eq!(code(outcome.result), Some(libc::EMSGSIZE));
    Ok(())
}

fn several_zc() -> Result<(), Failed> {
    let mut ring = ring(Setup::new(4));
    let (ours, mut theirs) = tcp()?;
    let parts: &'static [&'static [u8]] = &[b"without ", b"a ", b"copy"];
    let table = parts.iter().map(|part| {
        let iov_base = part.as_ptr().cast_mut().cast();
        libc::iovec { iov_base, iov_len: part.len() }
    });
    let table = table.collect::<Vec<_>>().leak().as_mut_ptr().expose_provenance() as u64;
    let vectored = RecvSendFlags::SEND_VECTORIZED;
    push(&mut ring, prep::send_zc(ours.as_raw_fd(), table, 3, 0, vectored));
    ring.submit_and_wait(2)?;
    let flags: Vec<(i32, CqeFlags)> =
        drain(&mut ring).iter().map(|cqe| (cqe.res, cqe.flags)).collect();
    assert_eq!(flags, [(14, CqeFlags::MORE), (0, CqeFlags::NOTIF)]);
    let mut bytes = [0; 14];
    theirs.read_exact(&mut bytes)?;
    assert_eq!(&bytes, b"without a copy");
    Ok(())
}

/// A pool, of which one buffer holds `bytes`.
fn filled(ring: &mut Ring, bytes: &[u8]) -> Result<(FixedPool, FixedBuf), Failed> {
    let pool = crate::safe_leases::patient(|| ring.fixed_pool(2, 1 << 20));
    let mut buf = pool.get().ok_or("free")?;
    buf.set_len(bytes.len());
    buf.copy_from_slice(bytes);
    Ok((pool, buf))
}

fn fixed() -> Result<(), Failed> {
    let mut ring = small();
    let (ours, mut theirs) = tcp()?;
    let (pool, buf) = filled(&mut ring, &pattern(5000))?;
    let send = begin(&mut ring, SendZcFixed::new(ours, buf));
    assert_eq!(ring.next(&send)?.ok_or("the result comes first")??, 5000);
    let mut bytes = vec![0; 5000];
    theirs.read_exact(&mut bytes)?;
    assert!(bytes == pattern(5000));
    assert!(ring.next(&send)?.is_none(), "then only the notification");
    let sent = ring.wait(send)?;
    assert_eq!(sent.result?.bytes, 5000);
    assert!(*sent.buf == *pattern(5000), "and is what it was");
    // Only what is filled.
    let mut buf = sent.buf;
    buf.truncate(3);
    let sent = run(&mut ring, SendZcFixed::new(sent.fd, buf));
    assert_eq!(sent.result?.bytes, 3);
    sent.fd.shutdown(std::net::Shutdown::Write)?;
    let mut bytes = Vec::new();
    theirs.read_to_end(&mut bytes)?;
    assert!(bytes == pattern(5000)[..3]);
    drop(sent.buf);
    assert_eq!(pool.available(), 2);
    Ok(())
}

/// A buffer on its way through a connection on which little goes before it is read.
struct Underway {
    send: Ticket<SendZcFixed<TcpStream>>,
    /// How many bytes of it the socket took.
    taken: usize,
    ours: TcpStream,
    theirs: TcpStream,
}

impl Underway {
    fn begin(ring: &mut Ring, buf: FixedBuf) -> Result<Self, Failed> {
        let (ours, theirs) = narrow()?;
        let send = begin(ring, SendZcFixed::new(ours.try_clone()?, buf));
        let taken = ring.next(&send)?.ok_or("the result comes first")??;
        Ok(Self { send, taken, ours, theirs })
    }

    /// Checks that a part of it is not at the other end yet.
    fn is_not_over(&self) {
        assert!(unacknowledged(&self.ours) > 0, "{} bytes are all at the other end", self.taken);
    }
}

fn held() -> Result<(), Failed> {
    let mut ring = small();
    let (pool, buf) = filled(&mut ring, &pattern(1 << 20))?;
    let mut underway = Underway::begin(&mut ring, buf)?;
    for _ in 0..3 {
        run(&mut ring, Nop)?;
        assert_eq!(pool.available(), 1, "nobody has read yet");
        underway.is_not_over();
    }
    let mut bytes = vec![0; underway.taken];
    underway.theirs.read_exact(&mut bytes)?;
    let sent = ring.wait(underway.send)?;
    assert_eq!(sent.result?.bytes, bytes.len());
    assert!(bytes == sent.buf[..bytes.len()]);
    drop(sent.buf);
    assert_eq!(pool.available(), 2);
    Ok(())
}

fn given_up() -> Result<(), Failed> {
    let mut ring = small();
    let (pool, buf) = filled(&mut ring, &pattern(1 << 20))?;
    let mut underway = Underway::begin(&mut ring, buf)?;
    ring.cancel(&underway.send)?;
    run(&mut ring, Nop)?;
    assert_eq!(pool.available(), 1, "the network has not done with it");
    underway.is_not_over();
    ring.detach(underway.send);
    run(&mut ring, Nop)?;
    assert_eq!(pool.available(), 1, "the network has not done with it");
    let mut bytes = vec![0; underway.taken];
    underway.theirs.read_exact(&mut bytes)?;
    assert!(bytes == pattern(1 << 20)[..bytes.len()], "nobody wrote to the buffer");
    record(&mut ring);
    assert_eq!(pool.available(), 2);
    Ok(())
}

fn fixed_refused() -> Result<(), Failed> {
    let mut ring = small();
    let (pool, buf) = filled(&mut ring, b"not sent")?;
    let (ours, _theirs) = UnixStream::pair()?;
    let sent = run(&mut ring, SendZcFixed::new(ours, buf));
    assert_eq!(code(sent.result), Some(libc::EOPNOTSUPP));
    assert_eq!(*sent.buf, *b"not sent");
    let (reader, _writer) = io::pipe()?;
    let sent = run(&mut ring, SendZcFixed::new(reader, sent.buf).flags(SendFlags::DONT_WAIT));
    assert_eq!(code(sent.result), Some(libc::ENOTSOCK));
    drop(sent.buf);
    assert_eq!(pool.available(), 2);
    Ok(())
}

fn other_ring() -> Result<(), Failed> {
    let (mut ring, mut other) = (small(), small());
    let (pool, buf) = filled(&mut ring, b"mine")?;
    let (ours, mut theirs) = tcp()?;
    let rejected = other.submit(SendZcFixed::new(ours, buf)).expect_err("of another ring");
    assert_eq!(rejected.why, Rejection::OtherRing);
    let sent = run(&mut ring, rejected.op);
    assert_eq!(sent.result?.bytes, 4);
    let rejected = other.submit(SendMsgZcFixed::new(sent.fd, sent.buf)).expect_err("of another");
    assert_eq!(rejected.why, Rejection::OtherRing);
    drop(rejected.op);
    assert_eq!(pool.available(), 2);
    let mut bytes = Vec::new();
    theirs.read_to_end(&mut bytes)?;
    assert_eq!(bytes, b"mine");
    Ok(())
}

fn message() -> Result<(), Failed> {
    let mut ring = small();
    let (pool, buf) = filled(&mut ring, b"to an address")?;
    let (ours, theirs) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    let (from, to) = (ours.local_addr()?, theirs.local_addr()?);
    let sent = run(&mut ring, SendMsgZcFixed::new(ours, buf).to(to).report());
    let result = sent.result?;
    assert_eq!((result.bytes, result.copied.is_some()), (13, true));
    let mut bytes = [0; 64];
    assert_eq!(theirs.recv_from(&mut bytes)?, (13, from));
    assert_eq!(&bytes[..13], b"to an address");
    let mut header = MsgHeader::new();
    header.set_address(to);
    let [mut buf] = sent.buf;
    buf.truncate(2);
    let sent = run(&mut ring, SendMsgZcFixed::new(sent.fd, buf).with(header));
    assert_eq!(sent.result?.bytes, 2);
    assert_eq!(theirs.recv_from(&mut bytes)?, (2, from));
    let ([buf], header) = sent.buf;
    assert_eq!((header.address(), &buf[..]), (Some(Address::from(to)), &b"to"[..]));
    drop(buf);
    assert_eq!(pool.available(), 2);
    Ok(())
}

fn message_refused() -> Result<(), Failed> {
    let mut ring = small();
    let (pool, buf) = filled(&mut ring, b"to nobody")?;
    let socket = Rc::new(UdpSocket::bind("127.0.0.1:0")?);
    let send = SendMsgZcFixed::new(Rc::clone(&socket), buf).flags(SendFlags::DONT_WAIT);
    let sent = run(&mut ring, send);
    assert_eq!(code(sent.result), Some(libc::EDESTADDRREQ));
    let [buf] = sent.buf;
    assert_eq!(*buf, *b"to nobody");
    assert!(Rc::ptr_eq(&sent.fd, &socket));
    drop(buf);
    assert_eq!(pool.available(), 2);
    Ok(())
}
