//! The small programs: they are as short as they say, and do what they say.
//!
//! ```text
//!   clients here  ◄── TCP ──► proxy_small ◄── TCP ──► echo_small ◄── SIGINT
//!   a socket here ◄── UDP ──► udp_echo_small          and .._future in place of .._small
//!   simulate_small, simulate_runtime, on a kernel of their own
//! ```

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

use annulus::Capabilities;
use annulus::sys::opcode::Opcode;

mod cat;
#[path = "../support/programs.rs"]
mod programs;
mod simulated;
mod wal;
#[path = "../support/whereabouts.rs"]
mod whereabouts;

use programs::program;

/// Each program, and how many lines of code it may have.
const LINES: [(&str, usize); 13] = [
    ("honest_small", 60),
    ("read_small", 25),
    ("cat_small", 110),
    ("echo_small", 60),
    ("multishot_small", 105),
    ("fixed_small", 40),
    ("udp_echo_small", 25),
    ("proxy_small", 70),
    ("simulate_small", 95),
    ("wal_small", 120),
    ("echo_future", 30),
    ("udp_echo_future", 15),
    ("proxy_future", 40),
];

/// Far longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(60);

/// A program that serves, which is killed at the end.
struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Server {
    /// Starts `name`; `None`, with the reason on stderr, where the kernel is too old for it.
    fn start(name: &str, arguments: &[&str]) -> Option<Self> {
        // Multishot accepts came with the first; multishot receives, and sends to an address, with
        // the second.
        let (needs, since) = match name {
            "udp_echo_small" | "udp_echo_future" | "multishot_small" => (Opcode::SEND_ZC, "6.0"),
            _ => (Opcode::SOCKET, "5.19"),
        };
        match Capabilities::detect() {
            Ok(here) if here.has_op(needs) => {}
            Ok(_) => {
                eprintln!("skipped: {name} needs Linux {since}");
                return None;
            }
            Err(error) => {
                eprintln!("skipped: {name}: {error}");
                return None;
            }
        }
        let mut command = Command::new(program(name));
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let stdout = BufReader::new(child.stdout.take().expect("it is a pipe"));
        let mut server = Self { child, stdout, address: SocketAddr::from(([0; 4], 0)) };
        let mut line = String::new();
        server.stdout.read_line(&mut line).expect("it speaks");
        let mut words = line.split([' ', ';']).map(str::trim);
        server.address =
            words.find_map(|word| word.parse().ok()).expect("it says where it listens");
        Some(server)
    }

    /// Sends SIGINT, and returns what the program prints before it ends.
    fn interrupt(&mut self) -> String {
        let pid = self.child.id().to_string();
        let killed = Command::new("kill").args(["-INT", &pid]).status().expect("kill starts");
        assert!(killed.success());
        assert!(self.child.wait().expect("it ends").success());
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).expect("it ended");
        rest
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = (self.child.kill(), self.child.wait());
    }
}

/// Sends `bytes` in pieces, tells the other side that this is all, and returns what came back.
fn exchange(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(LIMIT)).expect("a limit");
    let mut sending = stream.try_clone().expect("a descriptor");
    thread::scope(|scope| {
        scope.spawn(move || {
            bytes.chunks(7_001).for_each(|part| sending.write_all(part).expect("it reads"));
            sending.shutdown(Shutdown::Write).expect("half of it closes");
        });
        let mut echoed = Vec::new();
        // Closed only after the look, since a client that is gone lets the server go on.
        if let Err(error) = stream.read_to_end(&mut echoed) {
            panic!("{error}, {} bytes came\n{}", echoed.len(), whereabouts::whereabouts());
        }
        echoed
    })
}

/// `count` clients at once, each with bytes of its own.
fn all_come_back(address: SocketAddr, count: u8) {
    thread::scope(|scope| {
        for client in 0..count {
            scope.spawn(move || {
                let byte = |at: usize| at.to_le_bytes()[at % 3] ^ client;
                let bytes: Vec<u8> = (0..100_000).map(byte).collect();
                assert!(exchange(address, &bytes) == bytes, "client {client}");
            });
        }
    });
}

#[test]
fn the_small_programs_are_as_small_as_they_say() {
    for (name, most) in LINES {
        let path = Path::new("examples").join(name).with_extension("rs");
        let text = fs::read_to_string(&path).expect("it is there");
        let is_code = |line: &&str| !line.is_empty() && !line.starts_with("//");
        let lines = text.lines().map(str::trim).filter(is_code).count();
        assert!(lines <= most, "{}: {lines} lines of code, at most {most}", path.display());
        assert!(!text.contains("mod ") && !text.contains("unsafe"), "{}", path.display());
    }
}

#[test]
fn read_small_prints_a_file_of_any_length() {
    if let Err(error) = Capabilities::detect() {
        return eprintln!("skipped: read_small: {error}");
    }
    for path in ["Cargo.toml", "/dev/null", "docs/KERNELS.md"] {
        let output = Command::new(program("read_small")).arg(path).output().expect("it starts");
        assert!(output.status.success(), "{output:?}");
        assert!(output.stdout == fs::read(path).expect("it is there"), "{path}");
    }
    let missing = Command::new(program("read_small")).arg("no-such-file").output();
    assert_eq!(missing.expect("it starts").status.code(), Some(1));
}

#[test]
fn honest_small_finds_the_server_that_lies() {
    let output = Command::new(program("honest_small")).output().expect("it starts");
    assert!(output.status.success(), "{output:?}");
    let page = String::from_utf8(output.stdout).expect("text");
    let rows: Vec<Vec<&str>> =
        page.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["honest", "1000", "1000", "none"], "{page}");
    // Half the answers, and the same count.
    assert_eq!(rows[1], ["lying", "1000", "500", "2"], "{page}");
}

#[test]
fn echo_small_serves_many_and_ends_cleanly() {
    let Some(mut server) = Server::start("echo_small", &["127.0.0.1:0"]) else { return };
    all_come_back(server.address, 20);
    let silent = TcpStream::connect(server.address).expect("it listens");
    all_come_back(server.address, 1);
    assert_eq!(server.interrupt(), "22 clients came\n");
    drop(silent);
}

#[test]
fn multishot_small_serves_many_beside_those_who_never_read() {
    let Some(server) = Server::start("multishot_small", &["127.0.0.1:0"]) else { return };
    all_come_back(server.address, 20);
    // They send until nobody takes it any more.
    let greedy: Vec<TcpStream> = (0..4)
        .map(|_| {
            let mut stream = TcpStream::connect(server.address).expect("it listens");
            stream.set_write_timeout(Some(Duration::from_millis(200))).expect("a limit");
            while stream.write(&[7; 64 << 10]).is_ok() {}
            stream
        })
        .collect();
    all_come_back(server.address, 20);
    // Whoever reads in the end gets all that it was sent until then.
    let mut count = 0;
    for mut stream in greedy {
        stream.set_read_timeout(Some(LIMIT)).expect("a limit");
        stream.shutdown(Shutdown::Write).expect("half of it closes");
        let mut echoed = Vec::new();
        stream.read_to_end(&mut echoed).expect("it answers, and closes");
        assert!(echoed.iter().all(|&byte| byte == 7));
        count += echoed.len();
    }
    assert!(count > 4 << 10, "{count} bytes");
}

/// How many descriptors the program has.
fn descriptors(server: &Server) -> usize {
    fs::read_dir(format!("/proc/{}/fd", server.child.id())).expect("it runs").count()
}

#[test]
fn fixed_small_answers_clients_without_a_descriptor_for_any() {
    let Some(server) = Server::start("fixed_small", &["127.0.0.1:0"]) else { return };
    let ask = |text: &[u8]| {
        let mut stream = TcpStream::connect(server.address).expect("it listens");
        stream.set_read_timeout(Some(LIMIT)).expect("a limit");
        stream.write_all(text).expect("room");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("it answers, and closes");
        answer
    };
    assert_eq!(ask(b"first"), b"FIRST");
    let before = descriptors(&server);
    let mut silent = TcpStream::connect(server.address).expect("it listens");
    thread::sleep(Duration::from_millis(100));
    assert_eq!(descriptors(&server), before, "it is accepted");
    // The others wait for a second at most, and nobody hears what another has said.
    assert_eq!(ask(b"second"), b"SECOND");
    let mut heard = Vec::new();
    silent.read_to_end(&mut heard).expect("it is closed");
    assert_eq!(heard, b"");
    for number in 0..50 {
        assert_eq!(
            ask(format!("client {number}").as_bytes()),
            format!("CLIENT {number}").as_bytes()
        );
    }
    assert_eq!(descriptors(&server), before);
}

#[test]
fn echo_future_serves_many() {
    let Some(server) = Server::start("echo_future", &["127.0.0.1:0"]) else { return };
    all_come_back(server.address, 20);
    let _silent = TcpStream::connect(server.address).expect("it listens");
    all_come_back(server.address, 1);
}

#[test]
fn the_proxies_relay_both_ways_until_both_are_over() {
    for proxy in ["proxy_small", "proxy_future"] {
        let Some(mut server) = Server::start("echo_small", &["127.0.0.1:0"]) else { return };
        let to = server.address.to_string();
        let proxy = Server::start(proxy, &["127.0.0.1:0", &to]).expect("echo_small started");
        all_come_back(proxy.address, 20);
        // A client that vanishes takes nothing with it.
        let vanishing = TcpStream::connect(proxy.address).expect("it listens");
        drop(vanishing);
        all_come_back(proxy.address, 1);
        assert!(server.interrupt().ends_with(" clients came\n"));
    }
}

#[test]
fn the_udp_servers_send_each_datagram_back() {
    for name in ["udp_echo_small", "udp_echo_future"] {
        let Some(server) = Server::start(name, &["127.0.0.1:0"]) else { return };
        datagrams_come_back(&server);
    }
}

fn datagrams_come_back(server: &Server) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.set_read_timeout(Some(LIMIT)).expect("a limit");
    socket.connect(server.address).expect("an address");
    let mut buf = [0; 2048];
    // More than there are buffers, one at a time, so that none is dropped on the way.
    for number in 0..300_u32 {
        let text = format!("datagram {number}");
        socket.send(text.as_bytes()).expect("it is sent");
        let count = received(&socket, &mut buf);
        assert_eq!(&buf[..count], text.as_bytes());
    }
    // An empty one has a sender too.
    socket.send(&[]).expect("it is sent");
    assert_eq!(received(&socket, &mut buf), 0);
    socket.send(b"after it").expect("it is sent");
    assert_eq!(received(&socket, &mut buf), 8);
}

/// The length of the next datagram. A receive with a limit ends with any signal (`signal(7)`).
fn received(socket: &UdpSocket, buf: &mut [u8]) -> usize {
    loop {
        match socket.recv(buf) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            came => return came.expect("it comes back"),
        }
    }
}

#[test]
fn simulate_small_finds_the_bug_and_shows_a_seed() {
    let run = |arguments: &[&str]| {
        let output = Command::new(program("simulate_small")).args(arguments).output();
        let output = output.expect("it starts");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    let page = run(&["--seeds", "50"]);
    assert!(page.starts_with("50 runs: every client got back what it had sent\n"), "{page}");
    assert!(page.contains("without WAIT_ALL: seed "), "{page}");
    let trace = run(&["--seed", "3"]);
    assert!(trace.contains("ring 0: #1 ACCEPT of 0 bytes"), "{trace}");
    assert_eq!(trace, run(&["--seed", "3"]), "a seed is a run");
}

#[test]
fn the_small_programs_say_how_they_are_used() {
    for (name, _) in LINES {
        let run = |arguments: &[&str]| {
            let output = Command::new(program(name)).args(arguments).output().expect("it starts");
            let text = String::from_utf8([output.stdout, output.stderr].concat()).expect("text");
            (output.status.code(), text)
        };
        let (help, bad) = (run(&["--help"]), run(&["--no-such", "argument"]));
        assert!(help.0 == Some(0) && help.1.contains(&format!("Usage: {name}")), "{help:?}");
        assert!(bad.0 == Some(2) && bad.1.contains("--no-such"), "{bad:?}");
        assert!(!bad.1.contains("panicked"), "{bad:?}");
    }
}
