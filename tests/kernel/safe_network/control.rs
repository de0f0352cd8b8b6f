//! Control messages that are sent, and what received ones say.

use std::io::{self, Read as _, pipe};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::unix::net::UnixStream;
use std::time::{Duration, SystemTime};

use annulus::Ring;
use annulus::op::{
    Control, ControlError, MsgHeader, PacketInfo, RecvMsg, SendControl, SendMsg, SendMsgZc,
};
use annulus::sys::opcode::Opcode;
use libtest_mimic::{Failed, Trial};

use crate::harness::{Need, test};
use crate::safe_sockets::{V6, code, pattern, run, set_option, set_option_of, small};

const ZERO_COPY: [Need; 1] = [Need::Op(Opcode::SENDMSG_ZC)];

const UDP_GRO: i32 = 104;

/// The tests.
pub fn tests() -> Vec<Trial> {
    vec![
        test("a_message_is_cut_into_datagrams", &[], || segments(with_copy)),
        test("a_message_is_cut_into_datagrams_without_a_copy", &ZERO_COPY, || segments(zero_copy)),
        test("datagrams_that_were_put_together_tell_their_size", &[], put_together),
        test("an_answer_comes_from_the_address_that_was_asked", &[], answers),
        test("an_answer_of_v6_comes_from_the_address_that_was_asked", &[V6], answers_v6),
        test("congestion_bits_and_hops_are_sent_and_told", &[], congestion),
        test("congestion_bits_and_hops_of_v6_are_sent_and_told", &[V6], congestion_v6),
        test("a_time_to_send_needs_its_option", &[], send_time),
        test("a_mark_is_set_or_not_permitted", &[], mark),
        test("control_messages_travel_beside_descriptors", &[], beside_descriptors),
        test("the_time_of_arrival_is_told", &[], arrival),
        test("an_added_control_message_goes_once_and_has_its_room", &[], added),
    ]
}

/// Sends `bytes` with `header`, and returns the result and the header.
type Sends =
    fn(&mut Ring, &UdpSocket, Vec<u8>, Box<MsgHeader>) -> (io::Result<usize>, Box<MsgHeader>);

fn with_copy(
    ring: &mut Ring,
    fd: &UdpSocket,
    bytes: Vec<u8>,
    header: Box<MsgHeader>,
) -> (io::Result<usize>, Box<MsgHeader>) {
    let fd = fd.try_clone().expect("a copy");
    let sent = run(ring, SendMsg::new(fd, [bytes]).with(header));
    (sent.result, sent.buf.1)
}

fn zero_copy(
    ring: &mut Ring,
    fd: &UdpSocket,
    bytes: Vec<u8>,
    header: Box<MsgHeader>,
) -> (io::Result<usize>, Box<MsgHeader>) {
    let fd = fd.try_clone().expect("a copy");
    let sent = run(ring, SendMsgZc::new(fd, [bytes]).with(header));
    (sent.result.map(|sent| sent.bytes), sent.buf.1)
}

/// A header for `to` with these control messages.
fn header<const N: usize>(to: SocketAddr, messages: [SendControl; N]) -> Box<MsgHeader> {
    let mut header = MsgHeader::new();
    header.set_address(to);
    messages.into_iter().for_each(|message| header.add_control(message).expect("room"));
    header
}

/// Receives one datagram, and returns its size, its header, and whatever `ask` finds in it.
fn receive<T>(
    ring: &mut Ring,
    fd: &UdpSocket,
    ask: impl Fn(Control<'_>) -> Option<T>,
) -> Result<(usize, Box<MsgHeader>, Option<T>), Failed> {
    let recv = RecvMsg::new(fd.try_clone()?, [vec![0; 8192]]).with(MsgHeader::new());
    let received = run(ring, recv);
    let (_, header) = received.buf;
    let found = header.control().find_map(ask);
    Ok((received.result?.bytes, header, found))
}

fn v4() -> Result<(UdpSocket, SocketAddr), Failed> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let address = socket.local_addr()?;
    Ok((socket, address))
}

fn v6() -> Result<(UdpSocket, SocketAddr), Failed> {
    let socket = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0))?;
    let address = socket.local_addr()?;
    Ok((socket, address))
}

fn segments(sends: Sends) -> Result<(), Failed> {
    let mut ring = small();
    let ((ours, _), (theirs, to)) = (v4()?, v4()?);
    let header = header(to, [SendControl::segment_size(1200)]);
    let (sent, header) = sends(&mut ring, &ours, pattern(3000), header);
    assert_eq!(sent?, 3000);
    let mut buf = [0; 4000];
    for (from, len) in [(0, 1200), (1200, 1200), (2400, 600)] {
        assert_eq!(theirs.recv(&mut buf)?, len);
        assert_eq!(buf[..len], pattern(3000)[from..from + len]);
    }
    // It went with that message only.
    assert_eq!(header.address().and_then(|to| to.as_inet()), Some(to));
    let (sent, _) = sends(&mut ring, &ours, pattern(3000), header);
    assert_eq!((sent?, theirs.recv(&mut buf)?), (3000, 3000));
    Ok(())
}

fn put_together() -> Result<(), Failed> {
    let mut ring = small();
    let ((ours, _), (theirs, to)) = (v4()?, v4()?);
    set_option_of(&theirs, libc::IPPROTO_UDP, UDP_GRO, 1)?;
    let header = header(to, [SendControl::segment_size(1000)]);
    assert_eq!(with_copy(&mut ring, &ours, pattern(2500), header).0?, 2500);
    let mut whole = 0;
    while whole < 2500 {
        let (count, _, size) = receive(&mut ring, &theirs, |c| c.segment_size())?;
        assert!(count <= 1000 || size == Some(1000), "{count}, {size:?}");
        whole += count;
    }
    assert_eq!(whole, 2500);
    Ok(())
}

fn answers() -> Result<(), Failed> {
    let mut ring = small();
    let (client, client_at) = v4()?;
    let server = UdpSocket::bind("0.0.0.0:0")?;
    set_option_of(&server, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)?;
    let port = server.local_addr()?.port();
    for last in [1, 2, 77] {
        let to = Ipv4Addr::new(127, 0, 0, last);
        client.send_to(b"question", (to, port))?;
        let (_, mut header, info) = receive(&mut ring, &server, |c| c.packet_info())?;
        let PacketInfo { interface, local, destination } = info.ok_or("it was asked for")?;
        assert_eq!((local, destination), (IpAddr::V4(to), IpAddr::V4(to)));
        assert!(interface > 0);
        assert_eq!(header.address().and_then(|from| from.as_inet()), Some(client_at));
        // First from another address, then from this one through the same device.
        header.add_control(SendControl::source(Ipv4Addr::new(127, 9, 9, 9)))?;
        header.add_control(SendControl::source_through(local, interface))?;
        with_copy(&mut ring, &server, b"answer".to_vec(), header).0?;
        let (count, from) = client.recv_from(&mut [0; 16])?;
        assert_eq!((count, from), (6, (to, port).into()));
    }
    // An address of another machine: which error that is depends on the routes.
    let header = header(client_at, [SendControl::source(Ipv4Addr::new(192, 0, 2, 1))]);
    let (sent, header) = with_copy(&mut ring, &server, b"forged".to_vec(), header);
    assert!(sent.is_err());
    assert!(with_copy(&mut ring, &server, b"again".to_vec(), header).0.is_err());
    Ok(())
}

fn answers_v6() -> Result<(), Failed> {
    let mut ring = small();
    let (client, client_at) = v6()?;
    let server = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?;
    set_option_of(&server, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
    let port = server.local_addr()?.port();
    client.send_to(b"question", (Ipv6Addr::LOCALHOST, port))?;
    let (_, mut header, info) = receive(&mut ring, &server, |c| c.packet_info())?;
    let PacketInfo { interface, local, destination } = info.ok_or("it was asked for")?;
    assert_eq!((local, destination), (Ipv6Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()));
    header.add_control(SendControl::source_through(local, interface))?;
    with_copy(&mut ring, &server, b"answer".to_vec(), header).0?;
    assert_eq!(client.recv_from(&mut [0; 16])?, (6, (Ipv6Addr::LOCALHOST, port).into()));
    let elsewhere: Ipv6Addr = "2001:db8::1".parse()?;
    let header = self::header(client_at, [SendControl::source(elsewhere)]);
    assert!(with_copy(&mut ring, &server, vec![0], header).0.is_err());
    Ok(())
}

fn congestion() -> Result<(), Failed> {
    let mut ring = small();
    let ((ours, _), (theirs, to)) = (v4()?, v4()?);
    set_option_of(&theirs, libc::IPPROTO_IP, libc::IP_RECVTOS, 1)?;
    set_option_of(&theirs, libc::IPPROTO_IP, libc::IP_RECVTTL, 1)?;
    for (tos, hops) in [(2, 7), (0xb8 | 1, 255), (0, 1)] {
        let header =
            header(to, [SendControl::type_of_service(tos), SendControl::time_to_live(hops)]);
        with_copy(&mut ring, &ours, vec![0], header).0?;
        let both = |header: &MsgHeader| header.control().find_map(|c| c.hops_left());
        let (_, header, told) = receive(&mut ring, &theirs, |c| c.type_of_service())?;
        assert_eq!((told, both(&header)), (Some(tos), Some(hops)));
    }
    let header = header(to, [SendControl::time_to_live(0)]);
    assert_eq!(code(with_copy(&mut ring, &ours, vec![0], header).0), Some(libc::EINVAL));
    Ok(())
}

fn congestion_v6() -> Result<(), Failed> {
    let mut ring = small();
    let ((ours, _), (theirs, to)) = (v6()?, v6()?);
    set_option_of(&theirs, libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, 1)?;
    set_option_of(&theirs, libc::IPPROTO_IPV6, libc::IPV6_RECVHOPLIMIT, 1)?;
    let header = header(to, [SendControl::traffic_class(3), SendControl::hop_limit(9)]);
    with_copy(&mut ring, &ours, vec![0], header).0?;
    let (_, header, told) = receive(&mut ring, &theirs, |c| c.type_of_service())?;
    let hops = header.control().find_map(|control| control.hops_left());
    assert_eq!((told, hops), (Some(3), Some(9)));
    Ok(())
}

fn send_time() -> Result<(), Failed> {
    let mut ring = small();
    let ((ours, _), (theirs, to)) = (v4()?, v4()?);
    let header = header(to, [SendControl::send_time(1)]);
    let (sent, header) = with_copy(&mut ring, &ours, vec![1], header);
    assert_eq!(code(sent), Some(libc::EINVAL));
    // The clock `CLOCK_MONOTONIC`, and no flags.
    set_option_of(&ours, libc::SOL_SOCKET, libc::SO_TXTIME, [libc::CLOCK_MONOTONIC, 0])?;
    // It stays added until a message was sent.
    assert_eq!(with_copy(&mut ring, &ours, vec![2], header).0?, 1);
    let mut buf = [0; 8];
    assert_eq!((theirs.recv(&mut buf)?, buf[0]), (1, 2));
    Ok(())
}

fn mark() -> Result<(), Failed> {
    let mut ring = small();
    let ((ours, _), (theirs, to)) = (v4()?, v4()?);
    let permitted = set_option(&ours, libc::SO_MARK, 0).is_ok();
    let header = header(to, [SendControl::mark(7)]);
    match with_copy(&mut ring, &ours, vec![1, 2], header).0 {
        Ok(count) => assert_eq!((permitted, count, theirs.recv(&mut [0; 8])?), (true, 2, 2)),
        Err(error) => assert_eq!((permitted, error.raw_os_error()), (false, Some(libc::EPERM))),
    }
    Ok(())
}

fn beside_descriptors() -> Result<(), Failed> {
    let mut ring = small();
    for count in [1, 2, 253] {
        let (ours, theirs) = UnixStream::pair()?;
        let (mut reader, writer) = pipe()?;
        let mut header = MsgHeader::new();
        header.attach(writer).map_err(|_| "one fits")?;
        for _ in 1..count {
            header.attach(io::stdout()).map_err(|_| "253 fit")?;
        }
        // A unix socket passes over those of other levels.
        header.add_control(SendControl::new(libc::IPPROTO_IP, 1, &[7; 128])?)?;
        header.add_control(SendControl::type_of_service(1))?;
        let sent = run(&mut ring, SendMsg::new(ours, ["x"]).with(header));
        assert_eq!(sent.result?, 1);
        let received = run(&mut ring, RecvMsg::new(theirs, [[0; 8]]).with(sent.buf.1));
        let told = received.result?;
        let (_, mut header) = received.buf;
        let came = header.take_descriptors();
        assert!(came.len() == count || told.is_control_truncated(), "{}", came.len());
        // Linux 6.17 tells how many bytes wait (SCM_INQ), though nobody asked.
        let others: Vec<_> = header.control().filter(|came| came.kind != 84).collect();
        assert!(others.is_empty(), "what was sent is not what came: {others:?}");
        drop(came);
        assert_eq!(reader.read(&mut [0])?, 0, "every write end is closed");
    }
    // A unix socket refuses a value that it does not know.
    let (ours, _theirs) = UnixStream::pair()?;
    let mut header = MsgHeader::new();
    header.add_control(SendControl::mark(1))?;
    let sent = run(&mut ring, SendMsg::new(ours, ["x"]).with(header));
    assert_eq!(code(sent.result), Some(libc::EINVAL));
    Ok(())
}

fn arrival() -> Result<(), Failed> {
    const SOFTWARE: i32 = (1 << 3) | (1 << 4);
    let mut ring = small();
    for (option, value) in
        [(libc::SO_TIMESTAMP, 1), (libc::SO_TIMESTAMPNS, 1), (libc::SO_TIMESTAMPING, SOFTWARE)]
    {
        let ((ours, _), (theirs, to)) = (v4()?, v4()?);
        set_option(&theirs, option, value)?;
        let before = SystemTime::now();
        let mut told = None;
        // The kernel begins to stamp packets some time after the first socket asked for it.
        for _ in 0..400 {
            ours.send_to(b"when?", to)?;
            told = receive(&mut ring, &theirs, |c| c.time())?.2;
            if told.is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let time = told.ok_or("it was asked for")?;
        let slack = Duration::from_secs(1);
        assert!(time + slack > before && time < SystemTime::now() + slack, "{option}: {time:?}");
    }
    Ok(())
}

fn added() -> Result<(), Failed> {
    let mut ring = small();
    let ((ours, _), (theirs, to)) = (v4()?, v4()?);
    let unknown = SendControl::new(libc::IPPROTO_IP, 9999, &[1; 128])?;
    let mut header = header(to, [unknown, unknown, unknown]);
    // 144 bytes are taken, and 96 by four small ones; 8 are left.
    for kind in 1..=4 {
        header.add_control(SendControl::new(libc::IPPROTO_UDP, kind, &[1])?)?;
    }
    let more = SendControl::segment_size(500);
    assert_eq!(header.add_control(more), Err(ControlError::NoRoom));
    // Replacing takes no more room.
    header.add_control(SendControl::new(libc::IPPROTO_UDP, 4, &[1; 16])?)?;
    let (sent, mut header) = with_copy(&mut ring, &ours, vec![7; 900], header);
    assert_eq!(code(sent), Some(libc::EINVAL), "there is no such type");
    header.clear();
    header.set_address(to);
    header.add_control(more)?;
    assert_eq!(with_copy(&mut ring, &ours, vec![7; 900], header).0?, 900);
    assert_eq!((theirs.recv(&mut [0; 999])?, theirs.recv(&mut [0; 999])?), (500, 400));
    Ok(())
}
