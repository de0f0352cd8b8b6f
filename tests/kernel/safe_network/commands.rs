//! Commands to sockets.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use annulus::op::{
    Bind, Domain, GetName, GetOption, Linger, Name, Op, OptionValue, SendClock, SetOption, Socket,
    SocketKind, SocketOption, Target, Unread, Unsent,
};
use annulus::sys::opcode::{Opcode, RegisterOp};
use libtest_mimic::{Failed, Trial};

use crate::harness::{Need, test};
use crate::safe_sockets::{begin, code, option_of, record, run, small, tcp};

const COUNTS: [Need; 1] = [Need::Other(counts_nothing)];
const OPTIONS: [Need; 1] = [Need::Other(has_no_options)];
const NAMES: [Need; 1] = [Need::Op(Opcode::NOP128)];
/// Files that are inserted into the ring's table.
const TABLE: [Need; 2] = [OPTIONS[0], Need::Register(RegisterOp::FILE_ALLOC_RANGE)];

/// The tests.
pub fn tests() -> Vec<Trial> {
    vec![
        test("bytes_that_wait_to_be_received_are_counted", &COUNTS, unread),
        test("bytes_that_are_not_acknowledged_are_counted", &COUNTS, unsent),
        test("what_counts_nothing_says_so_and_comes_back", &COUNTS, uncountable),
        test("an_option_is_set_and_asked_for", &OPTIONS, options),
        test("options_of_protocols_are_set", &OPTIONS, protocols),
        test("every_listed_option_of_a_protocol_is_set", &OPTIONS, listed),
        test("an_option_that_is_not_listed_is_set_if_it_is_a_number", &OPTIONS, unlisted),
        test("an_option_that_cannot_be_set_is_refused", &OPTIONS, refused),
        test("a_value_stays_where_it_is_while_a_worker_reads_it", &OPTIONS, forced),
        test("a_file_of_the_table_takes_commands", &TABLE, of_the_table),
        test("commands_that_are_not_waited_for_give_the_socket_back", &OPTIONS, given_up),
        test("our_end_and_the_peers_are_told", &NAMES, names),
        test("a_command_to_what_is_no_socket_says_so", &[], no_socket),
        test("before_a_kernel_knows_commands_it_refuses_them", &[Need::Other(counts)], before),
    ]
}

fn count_once() -> Option<i32> {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    code(run(&mut small(), Unread::new(socket)).result)
}

fn counts_nothing() -> Option<String> {
    count_once().map(|_| "needs Linux 6.5: SOCKET_URING_OP_SIOCINQ".to_owned())
}

fn counts() -> Option<String> {
    count_once().is_none().then(|| "needs a kernel without SOCKET_URING_OP_SIOCINQ".to_owned())
}

fn has_no_options() -> Option<String> {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let refused = run(&mut small(), GetOption::new(socket, SocketOption::KIND)).result.is_err();
    refused.then(|| "needs Linux 6.7: SOCKET_URING_OP_GETSOCKOPT".to_owned())
}

fn unread() -> Result<(), Failed> {
    let mut ring = small();
    let (ours, mut theirs) = tcp()?;
    let mut ours = Rc::new(ours);
    for (written, waiting) in [(0, 0), (5, 5), (700, 705)] {
        theirs.write_all(&vec![7; written])?;
        // Bytes sent on this machine are there when the call returns.
        let outcome = run(&mut ring, Unread::new(ours));
        assert_eq!(outcome.result?, waiting);
        ours = outcome.fd;
    }
    (&*ours).read_exact(&mut [0; 700])?;
    assert_eq!(run(&mut ring, Unread::new(ours)).result?, 5);
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    for datagram in [&b"first"[..], b"the second"] {
        socket.send_to(datagram, socket.local_addr()?)?;
    }
    assert_eq!(run(&mut ring, Unread::new(socket)).result?, 5, "of the first");
    Ok(())
}

fn unsent() -> Result<(), Failed> {
    let mut ring = small();
    let (mut ours, theirs) = tcp()?;
    assert_eq!(run(&mut ring, Unsent::new(ours.try_clone()?)).result?, 0);
    ours.set_nonblocking(true)?;
    // Until no more can be sent: then much of it cannot have reached the peer.
    let block = vec![0; 1 << 16];
    let mut written = 0;
    while let Ok(count) = ours.write(&block) {
        written += count;
    }
    let waiting = run(&mut ring, Unsent::new(ours)).result?;
    assert!(waiting > 0 && waiting <= written, "{waiting} of {written}");
    drop(theirs);
    Ok(())
}

fn uncountable() -> Result<(), Failed> {
    let mut ring = small();
    let listener = Rc::new(TcpListener::bind("127.0.0.1:0")?);
    let outcome = run(&mut ring, Unread::new(Rc::clone(&listener)));
    assert_eq!(code(outcome.result), Some(libc::EINVAL));
    assert!(Rc::ptr_eq(&outcome.fd, &listener));
    let outcome = run(&mut ring, Unsent::new(listener));
    assert_eq!(code(outcome.result), Some(libc::EINVAL));
    let (reader, writer) = std::io::pipe()?;
    assert_eq!(code(run(&mut ring, Unread::new(reader)).result), Some(libc::EOPNOTSUPP));
    assert_eq!(code(run(&mut ring, Unsent::new(writer)).result), Some(libc::EOPNOTSUPP));
    Ok(())
}

fn options() -> Result<(), Failed> {
    let mut ring = small();
    let socket = OwnedFd::from(TcpListener::bind("127.0.0.1:0")?);
    let asked = run(&mut ring, GetOption::new(socket, SocketOption::IS_LISTENER));
    assert!(asked.result?);
    let asked = run(&mut ring, GetOption::new(asked.fd, SocketOption::DOMAIN));
    assert_eq!(asked.result?, libc::AF_INET);
    let asked = run(&mut ring, GetOption::new(asked.fd, SocketOption::PROTOCOL));
    assert_eq!(asked.result?, libc::IPPROTO_TCP);
    let mut fd = asked.fd;
    for linger in [Linger::Seconds(7), Linger::Seconds(0), Linger::Off] {
        let set = run(&mut ring, SetOption::new(fd, SocketOption::LINGER, linger));
        set.result?;
        let asked = run(&mut ring, GetOption::new(set.fd, SocketOption::LINGER));
        assert_eq!(asked.result?, linger);
        fd = asked.fd;
    }
    let time = Duration::new(7, 120_000_000);
    let set = run(&mut ring, SetOption::new(fd, SocketOption::RECEIVE_TIMEOUT, time));
    set.result?;
    let asked = run(&mut ring, GetOption::new(set.fd, SocketOption::RECEIVE_TIMEOUT));
    assert_eq!(asked.result?, time);
    let set = run(&mut ring, SetOption::new(asked.fd, SocketOption::SEND_BUFFER, 1 << 14));
    set.result?;
    let asked = run(&mut ring, GetOption::new(set.fd, SocketOption::SEND_BUFFER));
    assert_eq!(asked.result?, 1 << 15, "the kernel doubles it");
    Ok(())
}

fn protocols() -> Result<(), Failed> {
    let mut ring = small();
    let (ours, _theirs) = tcp()?;
    assert!(!ours.nodelay()?);
    let set = run(&mut ring, SetOption::new(ours, SocketOption::NO_DELAY, true));
    set.result?;
    assert!(set.fd.nodelay()?);
    let set = run(&mut ring, SetOption::new(set.fd, SocketOption::NO_DELAY, false));
    set.result?;
    assert!(!set.fd.nodelay()?);
    let set = run(&mut ring, SetOption::new(set.fd, SocketOption::TIME_TO_LIVE, 33));
    set.result?;
    assert_eq!(set.fd.ttl()?, 33);
    // No kernel so far reports the options of a protocol.
    let asked = run(&mut ring, GetOption::new(set.fd, SocketOption::NO_DELAY));
    assert!(matches!(code(asked.result), None | Some(libc::EOPNOTSUPP)));
    Ok(())
}

/// Sets `option` and checks that the system call tells the same number.
fn sets<F: Target + AsFd + 'static, V: OptionValue + 'static>(
    (level, name): (i32, i32),
    option: SocketOption<V>,
    socket: F,
    value: V,
    number: i32,
) -> Result<F, Failed> {
    let set = run(&mut small(), SetOption::new(socket, option, value));
    set.result.map_err(|error| format!("{level}, {name}: {error}"))?;
    assert_eq!(option_of(&set.fd, level, name)?, number, "{level}, {name}");
    Ok(set.fd)
}

fn listed() -> Result<(), Failed> {
    type Flag = SocketOption<bool>;
    type Int = SocketOption<i32>;
    let socket = |domain, kind| crate::safe_sockets::socket(domain, kind);
    let mut udp = socket(libc::AF_INET, libc::SOCK_DGRAM)?;
    for (name, option) in [
        ((1, 35), Flag::TIMESTAMP_NS),
        ((1, 40), Flag::COUNT_DROPPED),
        ((0, 8), Flag::PACKET_INFO),
        ((0, 13), Flag::RECEIVE_TYPE_OF_SERVICE),
        ((0, 12), Flag::RECEIVE_TIME_TO_LIVE),
        ((0, 15), Flag::FREE_BIND),
        ((0, 24), Flag::BIND_ADDRESS_NO_PORT),
        ((17, 104), Flag::RECEIVE_OFFLOAD),
    ] {
        udp = sets(name, option, udp, true, 1)?;
    }
    udp = sets((17, 103), Int::SEGMENT_SIZE, udp, 1200, 1200)?;
    udp = sets((0, 10), Int::MTU_DISCOVER, udp, 2, 2)?;
    udp = sets((0, 1), Int::TYPE_OF_SERVICE, udp, 0xb8, 0xb8)?;
    sets((1, 61), SocketOption::SEND_TIME, udp, SendClock::MONOTONIC, libc::CLOCK_MONOTONIC)?;
    let mut tcp = socket(libc::AF_INET, libc::SOCK_STREAM)?;
    for (name, option, value) in [
        (7, Int::CONNECT_ATTEMPTS, 3),
        (4, Int::KEEP_ALIVE_IDLE, 70),
        (5, Int::KEEP_ALIVE_INTERVAL, 7),
        (6, Int::KEEP_ALIVE_COUNT, 4),
        (18, Int::USER_TIMEOUT, 9000),
        (25, Int::NOT_SENT_LOW_WATER, 4096),
    ] {
        tcp = sets((6, name), option, tcp, value, value)?;
    }
    let set = run(&mut small(), SetOption::new(tcp, Int::MAX_SEGMENT, 500));
    set.result?;
    let reno = Name::new("reno").ok_or("it is short")?;
    let letters = i32::from_ne_bytes(*b"reno");
    sets((6, 13), SocketOption::CONGESTION_CONTROL, set.fd, reno, letters)?;
    let Ok(mut v6) = socket(libc::AF_INET6, libc::SOCK_DGRAM) else { return Ok(()) };
    for (name, option) in [
        (26, Flag::ONLY_V6),
        (49, Flag::PACKET_INFO_V6),
        (66, Flag::RECEIVE_TRAFFIC_CLASS),
        (51, Flag::RECEIVE_HOP_LIMIT),
    ] {
        v6 = sets((41, name), option, v6, true, 1)?;
    }
    v6 = sets((41, 67), Int::TRAFFIC_CLASS, v6, 3, 3)?;
    v6 = sets((41, 16), Int::HOP_LIMIT, v6, 9, 9)?;
    sets((41, 23), Int::MTU_DISCOVER_V6, v6, 2, 2)?;
    Ok(())
}

fn unlisted() -> Result<(), Failed> {
    const UDP_CORK: u32 = 1;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let cork = SocketOption::<bool>::new(17, UDP_CORK)?;
    let socket = sets((17, 1), cork, socket, true, 1)?;
    // One that the socket does not have.
    let none = SocketOption::<i32>::new(0, 60)?;
    let set = run(&mut small(), SetOption::new(socket, none, 1));
    assert_eq!(code(set.result), Some(libc::ENOPROTOOPT));
    let words = SocketOption::<i32>::new(1, 50).map(drop).expect_err("SO_ATTACH_BPF").to_string();
    assert!(words.contains("a descriptor") && words.contains("from_raw"), "{words}");
    Ok(())
}

fn refused() -> Result<(), Failed> {
    let mut ring = small();
    let socket = Rc::new(UdpSocket::bind("127.0.0.1:0")?);
    let set = SetOption::new(Rc::clone(&socket), SocketOption::KIND, libc::SOCK_STREAM);
    let outcome = run(&mut ring, set);
    assert_eq!(code(outcome.result), Some(libc::ENOPROTOOPT), "it can be asked for only");
    assert!(Rc::ptr_eq(&outcome.fd, &socket));
    let set = SetOption::new(Rc::clone(&socket), SocketOption::TIME_TO_LIVE, 1000);
    assert_eq!(code(run(&mut ring, set).result), Some(libc::EINVAL), "a byte");
    let (reader, _writer) = std::io::pipe()?;
    let get = GetOption::new(reader, SocketOption::KIND);
    assert_eq!(code(run(&mut ring, get).result), Some(libc::EOPNOTSUPP));
    Ok(())
}

fn forced() -> Result<(), Failed> {
    let mut ring = small();
    let mut socket = UdpSocket::bind("127.0.0.1:0")?;
    for size in [1 << 13, 1 << 14, 1 << 15] {
        let set = SetOption::new(socket, SocketOption::RECEIVE_BUFFER, size).forced();
        let set = run(&mut ring, set);
        set.result?;
        let get = GetOption::new(set.fd, SocketOption::RECEIVE_BUFFER).forced();
        let get = run(&mut ring, get);
        assert_eq!(get.result?, 2 * size);
        socket = get.fd;
    }
    Ok(())
}

fn of_the_table() -> Result<(), Failed> {
    let mut ring = small();
    let table = ring.file_table(2)?;
    let (ours, mut theirs) = tcp()?;
    let _other = table.insert(&mut ring, UdpSocket::bind("127.0.0.1:0")?)?;
    let file = table.insert(&mut ring, ours)?;
    theirs.write_all(b"seven..")?;
    let counted = run(&mut ring, Unread::new(file));
    assert_eq!(counted.result?, 7);
    let asked = run(&mut ring, GetOption::new(counted.fd, SocketOption::KIND));
    assert_eq!(asked.result?, libc::SOCK_STREAM);
    let set = run(&mut ring, SetOption::new(asked.fd, SocketOption::KEEP_ALIVE, true));
    set.result?;
    let asked = run(&mut ring, GetOption::new(set.fd, SocketOption::KEEP_ALIVE));
    assert!(asked.result?);
    Ok(())
}

fn given_up() -> Result<(), Failed> {
    let mut ring = small();
    let (ours, mut theirs) = tcp()?;
    let ours = Rc::new(ours);
    for _ in 0..10 {
        let set = SetOption::new(Rc::clone(&ours), SocketOption::KEEP_ALIVE, true);
        let ticket = begin(&mut ring, set.forced());
        ring.detach(ticket);
        let get = begin(&mut ring, GetOption::new(Rc::clone(&ours), SocketOption::KIND));
        ring.detach(get);
        record(&mut ring);
        assert_eq!(Rc::strong_count(&ours), 1);
    }
    drop(ours);
    assert_eq!(theirs.read(&mut [0])?, 0, "it was closed");
    Ok(())
}

fn names() -> Result<(), Failed> {
    let mut ring = small();
    let (ours, theirs) = tcp()?;
    let (here, there) = (ours.local_addr()?, ours.peer_addr()?);
    let outcome = run(&mut ring, GetName::of(ours));
    assert_eq!(outcome.result?.as_inet(), Some(here));
    let outcome = run(&mut ring, GetName::of_peer(outcome.fd));
    assert_eq!(outcome.result?.as_inet(), Some(there));
    let outcome = run(&mut ring, GetName::of_peer(theirs).forced());
    assert_eq!(outcome.result?.as_inet(), Some(here));
    // Which port did the kernel choose?
    let socket = run(&mut ring, Socket::new(Domain::V4, SocketKind::DATAGRAM))?;
    let any: SocketAddr = "127.0.0.1:0".parse()?;
    let bound = run(&mut ring, Bind::new(socket, any));
    bound.result?;
    let outcome = run(&mut ring, GetName::of(bound.fd));
    let chosen = outcome.result?.as_inet().expect("an address of the internet");
    assert!(chosen.port() != 0 && chosen.ip() == any.ip(), "{chosen}");
    let socket = outcome.fd;
    let nobody = run(&mut ring, GetName::of_peer(socket));
    assert_eq!(code(nobody.result), Some(libc::ENOTCONN));
    let (reader, _writer) = std::io::pipe()?;
    assert_eq!(code(run(&mut ring, GetName::of(reader)).result), Some(libc::EOPNOTSUPP));
    Ok(())
}

/// `/dev/null` answers 0 to all of them, on kernels that pass commands to it.
fn no_socket() -> Result<(), Failed> {
    let mut ring = small();
    for path in ["/dev/null", "/dev/zero", "/proc/self/exe"] {
        let file = Rc::new(std::fs::File::open(path)?);
        let file = || Rc::clone(&file);
        let (option, on) = (SocketOption::NO_DELAY, true);
        let codes = [
            code(run(&mut ring, Unread::new(file())).result),
            code(run(&mut ring, Unsent::new(file())).result),
            code(run(&mut ring, SetOption::new(file(), option, on)).result),
            code(run(&mut ring, GetOption::new(file(), option)).result),
            code(run(&mut ring, GetName::of(file())).result),
            code(run(&mut ring, GetName::of_peer(file())).result),
        ];
        // Kernels that know no commands differ in which error they return.
        let refused = [libc::ENOTSOCK, libc::EOPNOTSUPP, libc::EINVAL].map(Some);
        assert!(codes.iter().all(|code| refused.contains(code)), "{path}: {codes:?}");
    }
    Ok(())
}

fn before() -> Result<(), Failed> {
    let mut ring = small();
    let socket = Rc::new(UdpSocket::bind("127.0.0.1:0")?);
    let outcome = run(&mut ring, Unread::new(Rc::clone(&socket)));
    let error = code(outcome.result);
    // Before 5.19 there are no commands at all.
    assert!(matches!(error, Some(libc::EOPNOTSUPP | libc::EINVAL)), "{error:?}");
    assert!(Rc::ptr_eq(&outcome.fd, &socket));
    let (ours, _theirs) = UnixStream::pair()?;
    let outcome = run(&mut ring, SetOption::new(ours, SocketOption::KEEP_ALIVE, true));
    assert!(code(outcome.result).is_some());
    Ok(())
}
