//! Sockets made, named, connected, accepted and shut down.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{self, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener, UnixStream};
use std::rc::Rc;

use annulus::op::{
    Accept, Bind, Connect, Domain, Listen, Recv, Send, Shutdown, Socket, SocketKind,
};
use annulus::sys::opcode::Opcode;
use libtest_mimic::{Failed, Trial};

use super::{V6, begin, cancelled, code, nobody, path, record, run, small, socket};
use crate::harness::{Need, test};

const SOCKET: [Need; 1] = [Need::Op(Opcode::SOCKET)];
const BIND: [Need; 2] = [Need::Op(Opcode::BIND), Need::Op(Opcode::LISTEN)];
const ACCEPT: [Need; 1] = [Need::Op(Opcode::ACCEPT)];
const SHUTDOWN: [Need; 1] = [Need::Op(Opcode::SHUTDOWN)];

/// The tests.
pub fn tests() -> Vec<Trial> {
    vec![
        test("a_socket_is_made_and_closed_on_exec", &SOCKET, made),
        test("a_socket_of_no_family_is_not_made", &SOCKET, not_made),
        test("a_server_is_made_by_the_ring_alone", &BIND, server),
        test("a_name_in_use_is_refused_and_the_socket_comes_back", &BIND, in_use),
        test("a_datagram_socket_cannot_listen", &BIND, cannot_listen),
        test("accept_returns_the_connection_and_its_address", &ACCEPT, accept_v4),
        test("accept_tells_an_address_of_v6", &[ACCEPT[0], V6], accept_v6),
        test("accept_tells_no_path_of_a_client_without_one", &ACCEPT, accept_nameless),
        test("accept_tells_the_path_of_a_client_that_has_one", &BIND, accept_path),
        test("accept_of_a_socket_that_does_not_listen_gives_it_back", &ACCEPT, not_listening),
        test("op3_accept_given_up_closes_the_connection", &ACCEPT, accept_given_up),
        test(
            "op3_an_accepted_connection_that_is_not_taken_is_closed_with_the_ring",
            &ACCEPT,
            accept_not_taken,
        ),
        test("accept_cancelled_gives_the_listener_back", &ACCEPT, accept_cancelled),
        test("connect_refused_gives_the_socket_back", &ACCEPT, refused),
        test("connect_of_a_socket_that_does_not_block_waits_too", &ACCEPT, connect_no_block),
        test("connect_reaches_a_path_and_misses_another", &ACCEPT, connect_path),
        test("connect_to_a_full_queue_waits_if_the_socket_does", &ACCEPT, connect_full),
        test("a_dropped_listener_goes_on_accepting_until_it_is_cancelled", &ACCEPT, dropped),
        test("shutdown_ends_a_receive_that_waits", &SHUTDOWN, shutdown_receive),
        test("shutdown_lets_the_peer_read_to_the_end", &SHUTDOWN, shutdown_write),
        test("shutdown_ends_an_accept_that_waits", &SHUTDOWN, shutdown_accept),
        test("shutdown_of_what_is_not_connected_gives_it_back", &SHUTDOWN, not_connected),
    ]
}

/// Whether a descriptor is closed on `exec`, as the kernel reports it.
fn closed_on_exec(fd: &impl AsFd) -> Result<bool, Failed> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd()))?;
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).expect("a flags line");
    Ok(i32::from_str_radix(flags.trim(), 8)? & libc::O_CLOEXEC != 0)
}

fn made() -> Result<(), Failed> {
    let mut ring = small();
    let socket = run(&mut ring, Socket::new(Domain::V4, SocketKind::DATAGRAM))?;
    assert!(closed_on_exec(&socket)?);
    // It is the socket that was asked for: a datagram goes through it.
    let (socket, peer) = (UdpSocket::from(socket), UdpSocket::bind("127.0.0.1:0")?);
    socket.send_to(b"made", peer.local_addr()?)?;
    let mut buf = [0; 8];
    assert_eq!(peer.recv(&mut buf)?, 4);
    let udp = libc::IPPROTO_UDP.cast_unsigned();
    run(&mut ring, Socket::new(Domain::V4, SocketKind::DATAGRAM).protocol(udp))?;
    let refused = run(&mut ring, Socket::new(Domain::V4, SocketKind::STREAM).protocol(udp));
    assert_eq!(code(refused), Some(libc::EPROTONOSUPPORT));
    Ok(())
}

fn not_made() -> Result<(), Failed> {
    let made = run(&mut small(), Socket::new(Domain(9999), SocketKind::STREAM));
    assert_eq!(code(made), Some(libc::EAFNOSUPPORT));
    Ok(())
}

fn server() -> Result<(), Failed> {
    let mut ring = small();
    let any: SocketAddr = "127.0.0.1:0".parse()?;
    let socket = run(&mut ring, Socket::new(Domain::of(&any), SocketKind::STREAM))?;
    let bound = run(&mut ring, Bind::new(socket, any));
    bound.result?;
    let listening = run(&mut ring, Listen::new(bound.fd).backlog(4));
    listening.result?;
    let listener = TcpListener::from(listening.fd);
    let address = listener.local_addr()?;

    let accept = begin(&mut ring, Accept::new(listener));
    let socket = run(&mut ring, Socket::new(Domain::V4, SocketKind::STREAM))?;
    let connected = run(&mut ring, Connect::new(socket, address));
    connected.result?;
    let accepted = ring.wait(accept)?;
    let theirs = accepted.result?;
    let sent = run(&mut ring, Send::new(connected.fd, "by the ring alone"));
    assert_eq!(sent.result?, 17);
    let received = run(&mut ring, Recv::new(theirs, [0; 32]));
    assert_eq!((received.result?, &received.buf[..17]), (17, b"by the ring alone".as_slice()));
    assert_eq!(accepted.fd.local_addr()?, address);
    Ok(())
}

fn in_use() -> Result<(), Failed> {
    let mut ring = small();
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let socket = Rc::new(run(&mut ring, Socket::new(Domain::V4, SocketKind::STREAM))?);
    let bound = run(&mut ring, Bind::new(Rc::clone(&socket), taken.local_addr()?));
    assert_eq!(code(bound.result), Some(libc::EADDRINUSE));
    assert!(Rc::ptr_eq(&bound.fd, &socket));
    Ok(())
}

fn cannot_listen() -> Result<(), Failed> {
    let mut ring = small();
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let address = socket.local_addr()?;
    let listening = run(&mut ring, Listen::new(socket));
    assert_eq!(code(listening.result), Some(libc::EOPNOTSUPP));
    assert_eq!(listening.fd.local_addr()?, address);
    Ok(())
}

/// Accepts at `listener`, and checks the address of the connection.
fn accept_tells(listener: TcpListener) -> Result<(), Failed> {
    let mut ring = small();
    let accept = begin(&mut ring, Accept::new(listener.try_clone()?).with_address());
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    let accepted = ring.wait(accept)?;
    let (connection, from) = accepted.result?;
    assert_eq!(from.and_then(|from| from.as_inet()), Some(client.local_addr()?));
    assert!(closed_on_exec(&connection)?);
    client.write_all(b"through")?;
    let mut buf = [0; 7];
    TcpStream::from(connection).read_exact(&mut buf)?;
    assert_eq!(&buf, b"through");
    assert_eq!(accepted.fd.local_addr()?, listener.local_addr()?);
    Ok(())
}

fn accept_v4() -> Result<(), Failed> {
    accept_tells(TcpListener::bind("127.0.0.1:0")?)
}

fn accept_v6() -> Result<(), Failed> {
    accept_tells(TcpListener::bind((Ipv6Addr::LOCALHOST, 0))?)
}

fn accept_nameless() -> Result<(), Failed> {
    let mut ring = small();
    let place = path();
    let listener = UnixListener::bind(&place)?;
    let _nameless = UnixStream::connect(&place)?;
    let accepted = run(&mut ring, Accept::new(listener).with_address());
    let (_, from) = accepted.result?;
    let from = from.and_then(|from| from.as_unix());
    assert!(from.is_none_or(|from| from.is_unnamed()));

    fs::remove_file(&place)?;
    Ok(())
}

fn accept_path() -> Result<(), Failed> {
    let mut ring = small();
    let (place, name) = (path(), path());
    let listener = UnixListener::bind(&place)?;
    let client = socket(libc::AF_UNIX, libc::SOCK_STREAM)?;
    let bound = run(&mut ring, Bind::new(client, UnixAddr::from_pathname(&name)?));
    bound.result?;
    run(&mut ring, Connect::new(bound.fd, UnixAddr::from_pathname(&place)?)).result?;
    let accepted = run(&mut ring, Accept::new(listener).with_address());
    let from = accepted.result?.1.and_then(|from| from.as_unix());
    assert_eq!(from.as_ref().and_then(|from| from.as_pathname()), Some(name.as_path()));
    fs::remove_file(&name)?;
    fs::remove_file(&place)?;
    Ok(())
}

fn not_listening() -> Result<(), Failed> {
    let mut ring = small();
    let (ours, _theirs) = UnixStream::pair()?;
    let ours = Rc::new(ours);
    let accepted = run(&mut ring, Accept::new(Rc::clone(&ours)));
    assert_eq!(code(accepted.result), Some(libc::EINVAL));
    let accepted = run(&mut ring, Accept::new(accepted.fd).with_address());
    assert_eq!(code(accepted.result), Some(libc::EINVAL));
    assert!(Rc::ptr_eq(&accepted.fd, &ours));
    Ok(())
}

fn accept_given_up() -> Result<(), Failed> {
    let mut ring = small();
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let accept = begin(&mut ring, Accept::new(listener));
    ring.detach(accept);
    let mut client = TcpStream::connect(address)?;
    record(&mut ring);
    assert_eq!(client.read(&mut [0; 8])?, 0, "the connection was closed");
    Ok(())
}

fn accept_not_taken() -> Result<(), Failed> {
    let mut ring = small();
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    let accept = ring.submit(Accept::new(listener).with_address()).map_err(|r| r.why)?;
    ring.submit_and_wait(1)?;
    drop((accept, ring));
    assert_eq!(client.read(&mut [0; 8])?, 0, "the connection was closed");
    Ok(())
}

fn accept_cancelled() -> Result<(), Failed> {
    let mut ring = small();
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let accepted = cancelled(&mut ring, Accept::new(listener).with_address());
    assert!(matches!(code(accepted.result), Some(libc::ECANCELED | libc::EINTR)));
    let _client = TcpStream::connect(accepted.fd.local_addr()?)?;
    run(&mut ring, Accept::new(accepted.fd)).result?;
    Ok(())
}

fn refused() -> Result<(), Failed> {
    let mut ring = small();
    let socket = Rc::new(socket(libc::AF_INET, libc::SOCK_STREAM)?);
    let connected = run(&mut ring, Connect::new(Rc::clone(&socket), nobody()?));
    assert_eq!(code(connected.result), Some(libc::ECONNREFUSED));
    assert!(Rc::ptr_eq(&connected.fd, &socket));
    let listener = TcpListener::bind("127.0.0.1:0")?;
    run(&mut ring, Connect::new(connected.fd, listener.local_addr()?)).result?;
    Ok(())
}

fn connect_no_block() -> Result<(), Failed> {
    let mut ring = small();
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let socket = socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_NONBLOCK)?;
    let connected = run(&mut ring, Connect::new(socket, listener.local_addr()?));
    connected.result?;
    let client = TcpStream::from(connected.fd);
    assert_eq!(listener.accept()?.1, client.local_addr()?);
    assert_eq!(client.peer_addr()?, listener.local_addr()?);
    Ok(())
}

fn connect_full() -> Result<(), Failed> {
    let mut ring = small();
    let name = UnixAddr::from_abstract_name(format!("annulus-full-{}", std::process::id()))?;
    let listener = UnixListener::bind_addr(&name)?;
    // SAFETY: numbers only, because that is what `listen(2)` takes.
    assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
    let _first = UnixStream::connect_addr(&name)?; // The queue is full now.
    let of = |flags| socket(libc::AF_UNIX, libc::SOCK_STREAM | flags);
    let refused = run(&mut ring, Connect::new(of(libc::SOCK_NONBLOCK)?, &name));
    assert_eq!(code(refused.result), Some(libc::EAGAIN));
    let waits = begin(&mut ring, Connect::new(of(0)?, &name));
    listener.accept()?;
    ring.wait(waits)?.result?;
    Ok(())
}

fn connect_path() -> Result<(), Failed> {
    let mut ring = small();
    let place = path();
    let listener = UnixListener::bind(&place)?;
    let socket = || socket(libc::AF_UNIX, libc::SOCK_STREAM);
    let to = UnixAddr::from_pathname(&place)?;
    let connected = run(&mut ring, Connect::new(socket()?, &to));
    connected.result?;
    let (mut theirs, _) = listener.accept()?;
    UnixStream::from(connected.fd).write_all(b"found")?;
    let mut buf = [0; 5];
    theirs.read_exact(&mut buf)?;
    assert_eq!(&buf, b"found");
    fs::remove_file(&place)?;
    let connected = run(&mut ring, Connect::new(socket()?, &to));
    assert_eq!(code(connected.result), Some(libc::ENOENT));
    Ok(())
}

fn dropped() -> Result<(), Failed> {
    let mut ring = small();
    let listener = Rc::new(TcpListener::bind("127.0.0.1:0")?);
    let address = listener.local_addr()?;
    let accept = begin(&mut ring, Accept::new(Rc::clone(&listener)));
    drop(listener);
    let _client = TcpStream::connect(address)?;
    let accepted = ring.wait(accept)?;
    accepted.result?;
    // Ended, and its last owner with it: the listener is closed.
    let cancelled = cancelled(&mut ring, Accept::new(accepted.fd));
    assert!(matches!(code(cancelled.result), Some(libc::ECANCELED | libc::EINTR)));
    drop(cancelled.fd);
    record(&mut ring);
    let refused = TcpStream::connect(address);
    assert_eq!(code(refused), Some(libc::ECONNREFUSED));
    Ok(())
}

fn shutdown_receive() -> Result<(), Failed> {
    let mut ring = small();
    let (ours, _theirs) = UnixStream::pair()?;
    let ours = Rc::new(ours);
    let receive = begin(&mut ring, Recv::new(Rc::clone(&ours), vec![0_u8; 8].into_boxed_slice()));
    run(&mut ring, Shutdown::new(ours, net::Shutdown::Read)).result?;
    let received = ring.wait(receive)?;
    assert_eq!((received.result?, &received.buf[..]), (0, [0; 8].as_slice()));
    Ok(())
}

fn shutdown_write() -> Result<(), Failed> {
    let mut ring = small();
    let (ours, mut theirs) = UnixStream::pair()?;
    let sent = run(&mut ring, Send::new(ours, "last words"));
    let down = run(&mut ring, Shutdown::new(sent.fd, net::Shutdown::Write));
    down.result?;
    let mut text = String::new();
    theirs.read_to_string(&mut text)?;
    assert_eq!(text, "last words");
    let sent = run(&mut ring, Send::new(down.fd, "and another"));
    assert_eq!(code(sent.result), Some(libc::EPIPE));
    theirs.write_all(b"heard")?;
    assert_eq!(run(&mut ring, Recv::new(sent.fd, [0; 8])).result?, 5);
    Ok(())
}

fn shutdown_accept() -> Result<(), Failed> {
    let mut ring = small();
    let listener = Rc::new(TcpListener::bind("127.0.0.1:0")?);
    let accept = begin(&mut ring, Accept::new(Rc::clone(&listener)));
    run(&mut ring, Shutdown::new(listener, net::Shutdown::Both)).result?;
    assert_eq!(code(ring.wait(accept)?.result), Some(libc::EINVAL));
    Ok(())
}

fn not_connected() -> Result<(), Failed> {
    let mut ring = small();
    let socket = Rc::new(socket(libc::AF_INET, libc::SOCK_STREAM)?);
    let down = run(&mut ring, Shutdown::new(Rc::clone(&socket), net::Shutdown::Both));
    assert_eq!(code(down.result), Some(libc::ENOTCONN));
    assert!(Rc::ptr_eq(&down.fd, &socket));
    Ok(())
}
