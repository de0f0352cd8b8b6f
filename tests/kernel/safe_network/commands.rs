//! Commands to sockets.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use annulus::op::{
    Bind, Domain, GetName, GetOption, Linger, Op, SetOption, Socket, SocketKind, SocketOption,
    Switch, Unread, Unsent,
};
use annulus::sys::opcode::{Opcode, RegisterOp};
use libtest_mimic::{Failed, Trial};

use crate::harness::{Need, test};
use crate::safe_sockets::{begin, code, run, settle, small, tcp};

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
        test("an_option_that_cannot_be_set_is_refused", &OPTIONS, refused),
        test("a_value_stays_where_it_is_while_a_worker_reads_it", &OPTIONS, forced),
        test("a_file_of_the_table_takes_commands", &TABLE, of_the_table),
        test("commands_that_nobody_waits_for_give_the_socket_back", &OPTIONS, given_up),
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
        // What was sent on this machine is there when the call returns.
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
    // Until nothing goes any more: then much of it cannot be with the peer.
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
    assert_eq!(asked.result?, Switch::On);
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
    let set = run(&mut ring, SetOption::new(ours, SocketOption::NO_DELAY, Switch::On));
    set.result?;
    assert!(set.fd.nodelay()?);
    let set = run(&mut ring, SetOption::new(set.fd, SocketOption::NO_DELAY, Switch::Off));
    set.result?;
    assert!(!set.fd.nodelay()?);
    let set = run(&mut ring, SetOption::new(set.fd, SocketOption::TIME_TO_LIVE, 33));
    set.result?;
    assert_eq!(set.fd.ttl()?, 33);
    // Those of a protocol are told by no kernel so far.
    let asked = run(&mut ring, GetOption::new(set.fd, SocketOption::NO_DELAY));
    assert!(matches!(code(asked.result), None | Some(libc::EOPNOTSUPP)));
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
    let set = run(&mut ring, SetOption::new(asked.fd, SocketOption::KEEP_ALIVE, Switch::On));
    set.result?;
    let asked = run(&mut ring, GetOption::new(set.fd, SocketOption::KEEP_ALIVE));
    assert_eq!(asked.result?, Switch::On);
    Ok(())
}

fn given_up() -> Result<(), Failed> {
    let mut ring = small();
    let (ours, mut theirs) = tcp()?;
    let ours = Rc::new(ours);
    for _ in 0..10 {
        let set = SetOption::new(Rc::clone(&ours), SocketOption::KEEP_ALIVE, Switch::On);
        let ticket = begin(&mut ring, set.forced());
        ring.detach(ticket);
        let get = begin(&mut ring, GetOption::new(Rc::clone(&ours), SocketOption::KIND));
        ring.detach(get);
        settle(&mut ring);
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

/// To all of them `/dev/null` says 0, from the kernel on that hands it commands.
fn no_socket() -> Result<(), Failed> {
    let mut ring = small();
    for path in ["/dev/null", "/dev/zero", "/proc/self/exe"] {
        let file = Rc::new(std::fs::File::open(path)?);
        let file = || Rc::clone(&file);
        let (option, on) = (SocketOption::NO_DELAY, Switch::On);
        let codes = [
            code(run(&mut ring, Unread::new(file())).result),
            code(run(&mut ring, Unsent::new(file())).result),
            code(run(&mut ring, SetOption::new(file(), option, on)).result),
            code(run(&mut ring, GetOption::new(file(), option)).result),
            code(run(&mut ring, GetName::of(file())).result),
            code(run(&mut ring, GetName::of_peer(file())).result),
        ];
        // Which of them a kernel says that knows no command, is its own affair.
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
    let outcome = run(&mut ring, SetOption::new(ours, SocketOption::KEEP_ALIVE, Switch::On));
    assert!(code(outcome.result).is_some());
    Ok(())
}
