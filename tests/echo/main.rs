//! The echo server under load: every byte comes back, nothing leaks, and the kernel is entered
//! rarely.
//!
//! ```text
//!   this process                          a child
//!   clients, 125 to a thread  ◄── TCP ──► 07_echo_server
//!   kill -INT, kill -TERM     ──────────► ends with 0, and prints its figures
//!   /proc/PID/fd              ◄────────── how many descriptors it has
//! ```
//!
//! The bytes of a client differ at each position and from those of all others, so a byte that is
//! lost, doubled, swapped or another client's is noticed. Nothing here depends on the speed of the
//! machine; waits have a limit that only a server that hangs reaches.
#![allow(unsafe_code, reason = "raises the limit of open descriptors")]

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

#[path = "../support/programs.rs"]
mod programs;

use programs::{complains, program, skip};

/// Far longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(60);
/// Usually long enough for all data that can be sent to be sent.
const WHILE: Duration = Duration::from_secs(1);
/// How many clients there are at once, at most.
const CLIENTS: usize = 1000;
/// The number of threads that do their work.
const THREADS: usize = 8;

/// A server, which is killed when a test fails.
struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
    address: SocketAddr,
}

/// The output of a server before it ended.
struct Report(String);

impl Server {
    /// Starts a server with `arguments`, on any port; `None`, with the reason on stderr, where the
    /// kernel is too old for it.
    fn start(arguments: &[&str]) -> Option<Self> {
        Self::start_as(&mut Command::new(program("07_echo_server")), arguments)
    }

    fn start_as(command: &mut Command, arguments: &[&str]) -> Option<Self> {
        raise_the_limit();
        let command = command.arg("127.0.0.1:0").arg("--stats").args(arguments);
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the server starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("it is a pipe"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("the server speaks");
        let Some(address) = line.trim_end().strip_prefix("listening on ") else {
            let output = child.wait_with_output().expect("the server ends");
            let stderr = String::from_utf8_lossy(&output.stderr);
            let is_known = ["need Linux 6.0", "there is no ring"];
            assert!(is_known.iter().any(|reason| stderr.contains(reason)), "{line}{stderr}");
            skip(&stderr);
            return None;
        };
        let address = address.parse().expect("an address");
        Some(Self { child, stdout, address })
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("the server listens");
        stream.set_read_timeout(Some(LIMIT)).expect("it is not zero");
        stream.set_write_timeout(Some(LIMIT)).expect("it is not zero");
        stream
    }

    /// How many descriptors it has.
    fn descriptors(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.child.id());
        fs::read_dir(folder).expect("the server runs").count()
    }

    /// Waits until the server has so many descriptors as at the start.
    fn await_descriptors(&self, wanted: usize) {
        let start = Instant::now();
        while self.descriptors() != wanted {
            let left = self.descriptors();
            assert!(start.elapsed() < LIMIT, "{left} descriptors, and {wanted} at the start");
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let killed = Command::new("kill").args([name, &pid]).status().expect("there is a kill");
        assert!(killed.success());
    }

    /// Stops the process with `SIGSTOP`, until it gets `-CONT`.
    fn pause(&self) {
        self.signal("-STOP");
        let stat = format!("/proc/{}/stat", self.child.id());
        let stopped = |stat: String| stat.rsplit(") ").next().is_some_and(|it| it.starts_with('T'));
        while !stopped(fs::read_to_string(&stat).expect("the server runs")) {
            thread::yield_now();
        }
    }

    /// Stops it, and returns its output.
    fn stop(self, name: &str) -> Report {
        self.signal(name);
        self.ended()
    }

    /// Waits for its end.
    fn ended(mut self) -> Report {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                break status;
            }
            assert!(start.elapsed() < LIMIT, "the server does not end");
            thread::sleep(Duration::from_millis(5));
        };
        let mut page = String::new();
        self.stdout.read_to_string(&mut page).expect("the server speaks");
        let mut stderr = String::new();
        let pipe = self.child.stderr.take();
        pipe.expect("it is a pipe").read_to_string(&mut stderr).expect("the server speaks");
        assert_eq!(status.code(), Some(0), "{page}{stderr}");
        Report(format!("{page}{stderr}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing, if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Report {
    /// The number before `words`.
    #[track_caller]
    fn number(&self, words: &str) -> u64 {
        programs::number(&self.0, words)
    }
}

/// Raises this process's limit of descriptors, and that of its children, as far as possible.
fn raise_the_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: one live `struct rlimit`, which is not kept, because the call is synchronous.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    limit.rlim_cur = limit.rlim_max.min(8192).max(limit.rlim_cur);
    // SAFETY: one live `struct rlimit`, which is not kept, because the call is synchronous.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
}

/// The byte that client `who` sends at position `place`.
fn byte(who: usize, place: usize) -> u8 {
    let mixed = (place ^ who << 20).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed.to_le_bytes()[5]
}

/// A client in the middle of a message.
struct Client {
    who: usize,
    stream: TcpStream,
    /// How many bytes it has sent, has got back, and is to send in all.
    sent: usize,
    back: usize,
    goal: usize,
}

impl Client {
    fn new(who: usize, server: &Server) -> Self {
        let stream = server.connect();
        stream.set_nonblocking(true).expect("a socket can be that");
        Self { who, stream, sent: 0, back: 0, goal: 0 }
    }

    /// Sends `size` bytes, for which there is room.
    fn send(&mut self, size: usize) {
        let places = self.sent..self.sent + size;
        let bytes: Vec<u8> = places.map(|place| byte(self.who, place)).collect();
        self.stream.write_all(&bytes).expect("a socket takes a little");
        self.sent += size;
        self.goal += size;
    }

    /// Sends and receives as much as possible without waiting; returns how many bytes that was.
    fn turn(&mut self, buf: &mut [u8]) -> usize {
        let mut moved = 0;
        while self.sent < self.goal {
            let count = buf.len().min(self.goal - self.sent);
            let places = self.sent..;
            buf[..count].iter_mut().zip(places).for_each(|(at, place)| *at = byte(self.who, place));
            let Some(count) = ready(self.stream.write(&buf[..count])) else { break };
            self.sent += count;
            moved += count;
        }
        while self.back < self.sent {
            let Some(count) = ready(self.stream.read(buf)) else { break };
            assert_ne!(count, 0, "the server hung up on client {}", self.who);
            for (&at, place) in buf[..count].iter().zip(self.back..) {
                assert_eq!(at, byte(self.who, place), "client {}, byte {place}", self.who);
            }
            self.back += count;
            moved += count;
        }
        moved
    }
}

/// The result of a call that does not wait.
fn ready(result: std::io::Result<usize>) -> Option<usize> {
    match result {
        Ok(count) => Some(count),
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(error) => panic!("a client failed: {error}"),
    }
}

/// Lets each of `clients` send `size` more bytes, and get them back.
fn exchange(clients: &mut [Client], size: usize) {
    let mut buf = vec![0; 64 << 10];
    clients.iter_mut().for_each(|client| client.goal += size);
    let mut moved = Instant::now();
    while clients.iter().any(|client| client.back < client.goal) {
        if clients.iter_mut().map(|client| client.turn(&mut buf)).sum::<usize>() > 0 {
            moved = Instant::now();
            continue;
        }
        assert!(moved.elapsed() < LIMIT, "the server has nothing more to say");
        thread::yield_now();
    }
}

/// Lets `CLIENTS` clients at once send messages of these sizes, one after the other.
fn load(server: &Server, sizes: &[usize]) {
    let everybody = Barrier::new(THREADS);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let everybody = &everybody;
            scope.spawn(move || {
                let numbers = (thread..CLIENTS).step_by(THREADS);
                let mut clients: Vec<_> = numbers.map(|who| Client::new(who, server)).collect();
                everybody.wait();
                sizes.iter().for_each(|&size| exchange(&mut clients, size));
                everybody.wait(); // So that all clients stay until the end.
            });
        }
    });
}

/// Sends `count` bytes, and receives them back.
fn echo(stream: &mut TcpStream, count: usize) {
    let sent: Vec<u8> = (0..count).map(|place| byte(7, place)).collect();
    stream.write_all(&sent).expect("the server takes it");
    let mut back = vec![0; count];
    stream.read_exact(&mut back).expect("the server gives it back");
    assert_eq!(back, sent);
}

#[test]
fn a_thousand_clients_get_every_byte_back_and_leave_nothing_behind() {
    let Some(server) = Server::start(&[]) else { return };
    let before = server.descriptors();
    let sizes = [1, 64, 4096, 4097, 10_000, 1, 100];
    load(&server, &sizes);
    server.await_descriptors(before);
    let report = server.stop("-INT");
    let bytes = sizes.iter().sum::<usize>() * CLIENTS;
    assert_eq!(report.number("bytes in"), bytes as u64);
    assert_eq!(report.number("connections, at most"), CLIENTS as u64);
    assert_eq!(report.number("at once"), CLIENTS as u64);
    assert_eq!(report.number("clients that took nothing"), 0);
}

#[test]
fn under_load_the_kernel_is_entered_rarely() {
    let Some(server) = Server::start(&[]) else { return };
    let mut clients: Vec<_> = (0..CLIENTS).map(|who| Client::new(who, &server)).collect();
    let (rounds, size) = (200, 64);
    for _ in 0..rounds {
        // The server finds a request of every client at each turn: full load, on any machine.
        server.pause();
        clients.iter_mut().for_each(|client| client.send(size));
        server.signal("-CONT");
        exchange(&mut clients, 0);
    }
    let report = server.stop("-INT");
    let (enters, requests) = (report.number("enters, "), (rounds * CLIENTS) as u64);
    assert_eq!(report.number("receives"), requests);
    assert!(enters * 100 <= requests * 8, "{enters} enters for {requests} requests");
}

#[test]
fn clients_that_vanish_leave_nothing_behind_and_disturb_nobody() {
    let Some(server) = Server::start(&[]) else { return };
    let before = server.descriptors();
    let mut steady = server.connect();
    for round in 0..100 {
        // At once, and after it was served.
        drop(server.connect());
        let mut served = server.connect();
        echo(&mut served, 100);
        drop(served);
        // With bytes on the way to the client: its kernel answers them with a reset.
        let mut rude = server.connect();
        rude.write_all(&[7; 50_000]).expect("the server takes it");
        rude.read_exact(&mut [0]).expect("the first byte comes back");
        drop(rude);
        // With bytes on the way, and none read.
        let mut ruder = server.connect();
        ruder.write_all(&[7; 100]).expect("the server takes it");
        drop(ruder);
        echo(&mut steady, 1000 + round);
    }
    drop(steady);
    server.await_descriptors(before);
    let report = server.stop("-TERM");
    assert_eq!(report.number("connections, at most"), 401);
    assert_eq!(report.number("clients that took nothing"), 0);
}

#[test]
fn what_was_sent_before_the_half_close_comes_back_before_the_end() {
    let Some(server) = Server::start(&[]) else { return };
    let before = server.descriptors();
    for count in [0, 1, 100, 50_000] {
        let mut stream = server.connect();
        stream.write_all(&vec![7; count]).expect("the server takes it");
        stream.shutdown(Shutdown::Write).expect("it is connected");
        let mut back = Vec::new();
        stream.read_to_end(&mut back).expect("the server ends it in order");
        assert_eq!(back, vec![7; count]);
    }
    server.await_descriptors(before);
    server.stop("-INT");
}

#[test]
fn when_buffers_run_out_everybody_is_served_all_the_same() {
    let Some(server) = Server::start(&["--buffers", "2", "--bytes", "64"]) else { return };
    let mut clients: Vec<_> = (0..50).map(|who| Client::new(who, &server)).collect();
    for size in [1, 64, 65, 3000] {
        exchange(&mut clients, size);
    }
    drop(clients);
    let report = server.stop("-INT");
    assert_eq!(report.number("bytes in"), 50 * (1 + 64 + 65 + 3000));
    assert!(report.number("times, held") > 0, "{}", report.0);
}

/// A client that does not read, and sends until it is cut off, or no byte has moved for a while.
fn hog(server: &Server, timeout: Duration) -> TcpStream {
    let mut hog = server.connect();
    hog.set_write_timeout(Some(timeout)).expect("it is not zero");
    while hog.write(&[7; 65536]).is_ok() {}
    hog
}

#[test]
fn a_client_that_takes_nothing_is_held_back_and_others_are_served() {
    // One reap shows no more than four times the size of the ring, here 4096; so there are always
    // buffers for other clients.
    let arguments = ["--timeout", "3600", "--connections", "4", "--buffers", "32768"];
    let Some(server) = Server::start(&arguments) else { return };
    let hog = hog(&server, WHILE);
    let mut other = server.connect();
    (0..5).for_each(|_| echo(&mut other, 20_000));
    drop((hog, other));
    let report = server.stop("-INT");
    assert!(report.number("times\ncould") > 0, "{}", report.0);
    assert_eq!(report.number("clients that took nothing"), 0);
}

#[test]
fn a_client_that_takes_nothing_for_too_long_is_cut_off() {
    // With so few buffers the client holds all of them: no other is served before it is cut off.
    let Some(server) = Server::start(&["--timeout", "1", "--buffers", "2"]) else { return };
    let before = server.descriptors();
    let hog = hog(&server, LIMIT);
    echo(&mut server.connect(), 100);
    server.await_descriptors(before);
    drop(hog);
    assert_eq!(server.stop("-INT").number("clients that took nothing"), 1);
}

#[test]
fn clients_beyond_the_room_are_served_when_others_leave() {
    let Some(server) = Server::start(&["--connections", "2"]) else { return };
    let before = server.descriptors();
    let mut clients: Vec<_> = (0..20).map(|_| server.connect()).collect();
    clients.iter_mut().for_each(|client| client.write_all(b"?").expect("it is connected"));
    for mut client in clients {
        client.read_exact(&mut [0]).expect("it is served in its turn");
    }
    server.await_descriptors(before);
    let report = server.stop("-INT");
    assert_eq!((report.number("connections, at most"), report.number("at once")), (20, 2));
}

#[test]
fn a_server_without_descriptors_accepts_again_when_it_has_some() {
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -n 20; exec \"$0\" \"$@\""]).arg(program("07_echo_server"));
    let Some(server) = Server::start_as(&mut shell, &[]) else { return };
    let mut clients: Vec<_> = (0..40).map(|_| server.connect()).collect();
    clients.iter_mut().for_each(|client| client.write_all(b"?").expect("it is connected"));
    for mut client in clients {
        client.read_exact(&mut [0]).expect("it is served in its turn");
    }
    let report = server.stop("-INT");
    assert_eq!(report.number("connections, at most"), 40);
    assert!(report.0.contains("cannot accept for now: Too many open files"), "{}", report.0);
}

#[test]
fn told_to_stop_it_gives_back_what_it_was_sent_and_hangs_up() {
    for signal in ["-INT", "-TERM"] {
        let Some(server) = Server::start(&[]) else { return };
        let mut clients: Vec<_> = (0..10).map(|_| server.connect()).collect();
        clients.iter_mut().for_each(|client| echo(client, 10));
        clients.iter_mut().for_each(|client| client.write_all(&[7; 1000]).expect("it is taken"));
        server.signal(signal);
        for client in &mut clients {
            let mut back = Vec::new();
            client.read_to_end(&mut back).expect("the server ends it in order");
            assert_eq!(back, [7; 1000]);
        }
        let address = server.address;
        let report = server.ended();
        assert_eq!(report.number("at the end"), 0);
        assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
    }
}

#[test]
fn told_to_stop_it_does_not_wait_for_those_who_take_nothing() {
    for told in [1, 2] {
        let Some(server) = Server::start(&["--timeout", "3600"]) else { return };
        let hog = hog(&server, WHILE);
        for _ in 1..told {
            server.signal("-INT");
        }
        // None, if it had not sent enough to fill all buffers on the way.
        assert!(server.stop("-INT").number("at the end") <= 1);
        drop(hog);
    }
}

#[test]
fn what_it_cannot_do_it_says_in_one_line() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("there is a port");
    let taken = taken.local_addr().expect("it has an address").to_string();
    let cases: [(&[&str], i32, &str); 5] = [
        (&[&taken], 1, "07_echo_server: cannot listen on "),
        (&["nonsense"], 1, "07_echo_server: cannot listen on nonsense: "),
        (&["127.0.0.1:0", "--buffers", "3"], 1, "07_echo_server: cannot make buffers: "),
        (
            &["--connections", "99999"],
            2,
            "error: invalid value '99999' for '--connections <N>': 99999 is not in 1..=30000",
        ),
        (&["--buffers", "x"], 2, "error: invalid value 'x' for '--buffers <N>': "),
    ];
    complains("07_echo_server", &cases);
}
