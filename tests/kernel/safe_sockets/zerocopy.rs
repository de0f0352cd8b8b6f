//! Zero-copy sends: when the buffer comes back, and with which contents.

use std::io::{self, Read as _};
use std::net::{TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use annulus::buf::{IoBuf, Region};
use annulus::op::{MsgHeader, Nop, SendFlags, SendMsgZc, SendZc};
use annulus::sys::opcode::Opcode;
use annulus::{Next, Ring};
use libtest_mimic::{Failed, Trial};

use super::{begin, code, narrow, pattern, run, small, tcp, unacknowledged};
use crate::harness::{Need, safe_ring, test};

const SEND: [Need; 1] = [Need::Op(Opcode::SEND_ZC)];
const MESSAGE: [Need; 1] = [Need::Op(Opcode::SENDMSG_ZC)];
const REPORT: [Need; 2] = [SEND[0], Need::Other(reports_nothing)];

/// The tests.
pub fn tests() -> Vec<Trial> {
    vec![
        test("sent_without_a_copy_the_bytes_arrive_and_the_buffer_comes_back", &SEND, arrives),
        test("op1_the_buffer_comes_back_after_the_notification_only", &SEND, after_notification),
        test("op1_given_up_the_buffer_is_dropped_after_the_notification", &SEND, given_up),
        test("what_was_copied_after_all_is_reported_if_asked", &REPORT, reported),
        test("a_socket_that_cannot_gives_the_buffer_back", &SEND, unsupported),
        test("a_message_goes_without_a_copy_to_an_address", &MESSAGE, message),
        test("a_message_that_is_refused_gives_everything_back", &MESSAGE, message_refused),
    ]
}

fn reports_nothing() -> Option<String> {
    let report = || -> Result<bool, Failed> {
        let mut ring = safe_ring(annulus::Setup::plain(1));
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.connect(socket.local_addr()?)?;
        Ok(code(run(&mut ring, SendZc::new(socket, "?").report()).result) == Some(libc::EINVAL))
    };
    let refused = report().unwrap_or(true);
    refused.then(|| "needs Linux 6.2: IORING_SEND_ZC_REPORT_USAGE".to_owned())
}

fn arrives() -> Result<(), Failed> {
    let mut ring = small();
    let (ours, mut theirs) = tcp()?;
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        theirs.read_to_end(&mut bytes).map(|_| bytes)
    });
    let bytes: Rc<[u8]> = pattern(1 << 18).into();
    let all = SendZc::new(ours, Rc::clone(&bytes)).flags(SendFlags::WAIT_ALL);
    let send = begin(&mut ring, all);
    let taken = ring.next(&send)?.expect("the result comes first")?;
    assert!(ring.next(&send)?.is_none(), "then only the notification");
    let sent = ring.wait(send)?;
    let result = sent.result?;
    assert_eq!((taken, result.bytes, result.copied), (1 << 18, 1 << 18, None));
    assert!(Rc::ptr_eq(&sent.buf, &bytes));
    drop(sent.fd);
    assert!(reader.join().expect("no panic")? == *bytes, "the bytes arrived in order");
    Ok(())
}

/// Sends more than goes through at once, and takes the result: the kernel still has the buffer.
fn send_much<B: IoBuf + 'static>(
    ring: &mut Ring,
    ours: TcpStream,
    buf: B,
) -> Result<(annulus::Ticket<SendZc<TcpStream, B>>, usize), Failed> {
    let socket = ours.try_clone()?;
    let send = begin(ring, SendZc::new(ours, buf));
    let taken = ring.next(&send)?.expect("the result comes first")?;
    for _ in 0..3 {
        run(ring, Nop)?;
        assert!(matches!(ring.try_next(&send)?, Next::Pending), "nobody has read yet");
    }
    assert!(unacknowledged(&socket) > 0, "{taken} bytes are all at the other end");
    Ok((send, taken))
}

fn after_notification() -> Result<(), Failed> {
    let mut ring = small();
    let (ours, mut theirs) = narrow()?;
    let (send, taken) = send_much(&mut ring, ours, pattern(1 << 20))?;
    let send = ring.try_take(send).expect_err("the buffer is still the kernel's");
    let mut received = vec![0; taken];
    theirs.read_exact(&mut received)?;
    let sent = ring.wait(send)?;
    assert_eq!(sent.result?.bytes, taken);
    assert!(sent.buf == pattern(1 << 20));
    assert!(received == sent.buf[..taken], "the bytes arrived in order");
    Ok(())
}

/// A buffer that shows whether it is still owned.
struct Tied(Vec<u8>, #[allow(dead_code, reason = "it is counted")] Rc<()>);

impl IoBuf for Tied {
    fn region(&self) -> Region<'_> {
        self.0.as_slice().into()
    }
}

fn given_up() -> Result<(), Failed> {
    let mut ring = small();
    let (ours, mut theirs) = narrow()?;
    let owned = Rc::new(());
    let buf = Tied(pattern(1 << 20), Rc::clone(&owned));
    let (send, taken) = send_much(&mut ring, ours, buf)?;
    ring.cancel(&send)?;
    ring.detach(send);
    run(&mut ring, Nop)?;
    assert_eq!(Rc::strong_count(&owned), 2, "the network has not done with it");
    let mut received = vec![0; taken];
    theirs.read_exact(&mut received)?;
    super::record(&mut ring);
    assert_eq!(Rc::strong_count(&owned), 1);
    assert!(received == pattern(taken), "nobody wrote to the buffer");
    assert_eq!(theirs.read(&mut [0])?, 0, "the socket was closed");
    Ok(())
}

fn reported() -> Result<(), Failed> {
    let mut ring = small();
    let (ours, mut theirs) = tcp()?;
    let sent = run(&mut ring, SendZc::new(ours, pattern(10_000)).report());
    let result = sent.result?;
    let mut received = vec![0; result.bytes];
    theirs.read_exact(&mut received)?;
    // Whatever stays on this machine is copied.
    assert_eq!(result.copied, Some(true));
    let sent = run(&mut ring, SendZc::new(sent.fd, sent.buf));
    assert_eq!(sent.result?.copied, None, "nobody asked");
    Ok(())
}

fn unsupported() -> Result<(), Failed> {
    let mut ring = small();
    let (ours, _theirs) = UnixStream::pair()?;
    let send = begin(&mut ring, SendZc::new(ours, vec![1, 2, 3]));
    let mut errors: Vec<io::Error> = Vec::new();
    while let Some(completion) = ring.next(&send)? {
        errors.extend(completion.err());
    }
    assert!(errors.iter().all(|error| error.raw_os_error() == Some(libc::EOPNOTSUPP)));
    let sent = ring.wait(send)?;
    assert_eq!((code(sent.result), sent.buf), (Some(libc::EOPNOTSUPP), vec![1, 2, 3]));
    let (reader, _writer) = io::pipe()?;
    let sent = run(&mut ring, SendZc::new(reader, vec![4]));
    assert_eq!((code(sent.result), sent.buf), (Some(libc::ENOTSOCK), vec![4]));
    Ok(())
}

fn message() -> Result<(), Failed> {
    let mut ring = small();
    let (ours, theirs) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    let from = ours.local_addr()?;
    let mut header = MsgHeader::new();
    header.set_address(theirs.local_addr()?);
    let send = SendMsgZc::new(ours, ("head, ", pattern(100))).with(header);
    let sent = run(&mut ring, send);
    assert_eq!(sent.result?.bytes, 106);
    let ((head, body), header) = sent.buf;
    assert_eq!((head, &body), ("head, ", &pattern(100)));
    assert_eq!(header.address().and_then(|to| to.as_inet()), Some(theirs.local_addr()?));
    let mut buf = [0; 128];
    assert_eq!(theirs.recv_from(&mut buf)?, (106, from));
    assert!(buf[..106] == [b"head, ".as_slice(), &body].concat());
    Ok(())
}

fn message_refused() -> Result<(), Failed> {
    let mut ring = small();
    let socket = Rc::new(UdpSocket::bind("127.0.0.1:0")?);
    // The socket has no destination.
    let send = SendMsgZc::new(Rc::clone(&socket), [vec![1; 10], vec![2; 10]]);
    let sent = run(&mut ring, send.flags(SendFlags::DONT_WAIT));
    assert_eq!(code(sent.result), Some(libc::EDESTADDRREQ));
    assert_eq!(sent.buf, [vec![1; 10], vec![2; 10]]);
    assert!(Rc::ptr_eq(&sent.fd, &socket));
    Ok(())
}
