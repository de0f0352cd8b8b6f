//! `ws_fanout`, with clients of the crate `tungstenite`: one message in, N out, in one order.
//!
//! ```text
//!   clients here ◄── WebSocket over TCP ──► ws_fanout ◄── SIGINT
//! ```
//!
//! Nothing here depends on the speed of the machine: where a queue must not fill, nobody is given
//! the next message before all have the last one.

use std::fs;
use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Bytes, Error, Message, WebSocket};

/// Far longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(60);

#[path = "../support/programs.rs"]
mod programs;
#[path = "../support/served.rs"]
mod served;

use programs::{complains, program};
use served::Served;

type Client = WebSocket<TcpStream>;

struct Server(Served);

impl Server {
    /// Starts it; `None`, with the reason on stderr, where the kernel is too old for it.
    fn start(arguments: &[&str]) -> Option<Self> {
        let mut command = Command::new(program("ws_fanout"));
        command.args(["127.0.0.1:0", "--stats"]).args(arguments);
        Served::start(&mut command, &["need Linux 6.0", "there is no ring"]).map(Self)
    }

    fn connect(&self) -> TcpStream {
        self.0.connect(LIMIT)
    }

    /// A client that has been greeted, and so gets every message from now on.
    fn join(&self) -> Client {
        let uri = format!("ws://{}/", self.0.address);
        let (client, response) = tungstenite::client(uri, self.connect()).expect("a handshake");
        assert_eq!(response.status(), 101);
        client
    }

    /// How many descriptors it has.
    fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.0.child.id())).expect("it runs").count()
    }

    /// Waits until it has so many descriptors.
    fn await_descriptors(&self, wanted: usize) {
        let start = Instant::now();
        while self.descriptors() != wanted {
            assert!(start.elapsed() < LIMIT, "{} descriptors, not {wanted}", self.descriptors());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Stops it, and returns its output.
    fn stop(mut self) -> Report {
        self.0.interrupt();
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.0.child.try_wait().expect("it is our child") {
                break status;
            }
            assert!(start.elapsed() < LIMIT, "it does not end");
            thread::sleep(Duration::from_millis(5));
        };
        let (mut page, mut stderr) = (String::new(), String::new());
        self.0.stdout.read_to_string(&mut page).expect("it speaks");
        let pipe = self.0.child.stderr.take().expect("it is a pipe");
        BufReader::new(pipe).read_to_string(&mut stderr).expect("it speaks");
        assert_eq!((status.code(), &*stderr), (Some(0), ""), "{page}");
        Report(page)
    }
}

/// The output of a server before it ended.
struct Report(String);

impl Report {
    /// The number before `words`.
    #[track_caller]
    fn number(&self, words: &str) -> u64 {
        programs::number(&self.0, words)
    }
}

#[track_caller]
fn text(client: &mut Client) -> String {
    client.read().expect("a message").into_text().expect("text").to_string()
}

/// The code of the close that comes next, and that nothing follows.
#[track_caller]
fn close_code(client: &mut Client) -> CloseCode {
    let code = match client.read().expect("a close") {
        Message::Close(Some(close)) => close.code,
        other => panic!("{other:?}"),
    };
    match client.read() {
        Err(Error::ConnectionClosed | Error::Io(_)) => code,
        more => panic!("{more:?}"),
    }
}

#[test]
fn fifty_clients_get_every_message_in_one_order() {
    let Some(server) = Server::start(&["--queue", "65536"]) else { return };
    let before = server.descriptors();
    let (clients, speakers, each) = (50, 5, 100);
    let everybody = Barrier::new(clients);
    let heard: Vec<Vec<String>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..clients)
            .map(|number| {
                let (server, everybody) = (&server, &everybody);
                scope.spawn(move || {
                    let mut client = server.join();
                    everybody.wait();
                    for at in (0..each).filter(|_| number < speakers) {
                        // Of all three forms that a length has.
                        let fill = "x".repeat([0, 200, 65_500][at % 3]);
                        client.send(Message::text(format!("{number} {at} {fill}"))).expect("room");
                    }
                    let heard = (0..speakers * each).map(|_| text(&mut client)).collect();
                    everybody.wait();
                    heard
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    for number in 0..speakers {
        let prefix = format!("{number} ");
        let of_one = heard[0].iter().filter_map(|text| text.strip_prefix(&prefix));
        let order: Vec<&str> = of_one.filter_map(|rest| rest.split(' ').next()).collect();
        let sent: Vec<String> = (0..each).map(|at| at.to_string()).collect();
        assert_eq!(order, sent);
    }
    for other in &heard[1..] {
        assert!(*other == heard[0], "two clients heard it differently");
    }
    server.await_descriptors(before);
    let report = server.stop();
    assert_eq!(report.number("clients came"), 50);
    assert_eq!(report.number("messages in"), 500);
    assert_eq!(report.number("deliveries out"), 25_000);
    assert_eq!(report.number("deliveries to slow clients"), 0);
}

/// Sends `count` large messages, and lets all of `clients` but not `slow` read each; returns how
/// many messages that was.
fn publish(clients: &mut [Client], count: usize) {
    for at in 0..count {
        let message = format!("{at} {}", "y".repeat(60_000));
        clients[0].send(Message::text(message.clone())).expect("room");
        for client in &mut *clients {
            assert!(text(client) == message, "message {at}");
        }
    }
}

/// More than the sockets of both sides hold, at 60,000 bytes each, with a queue of 8.
const FLOOD: usize = 400;

#[test]
fn a_slow_client_misses_messages_and_the_others_miss_none() {
    let Some(server) = Server::start(&["--queue", "8"]) else { return };
    let mut slow = server.join();
    let mut others: Vec<Client> = (0..5).map(|_| server.join()).collect();
    publish(&mut others, FLOOD);
    // Now it reads. What it has is in order, with gaps, and it is a client like any other again.
    let reader = thread::spawn(move || {
        let mut numbers: Vec<usize> = Vec::new();
        loop {
            let text = text(&mut slow);
            let number = text.split(' ').next().expect("a word");
            match number.parse() {
                Ok(number) => numbers.push(number),
                Err(_) => return numbers,
            }
        }
    });
    while !reader.is_finished() {
        others[0].send(Message::text("end")).expect("room");
        others.iter_mut().for_each(|client| assert_eq!(text(client), "end"));
        thread::sleep(Duration::from_millis(10));
    }
    let numbers = reader.join().expect("no panic");
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    let report = server.stop();
    let skipped = report.number("deliveries to slow clients");
    assert!(numbers.len() < FLOOD && numbers.len() > 8, "{} of {FLOOD}", numbers.len());
    assert!(skipped >= (FLOOD - numbers.len()) as u64, "{skipped}, {numbers:?}");
    assert_eq!(report.number("clients\nstats"), 0);
}

#[test]
fn a_slow_client_is_cut_off_where_that_is_wanted() {
    let Some(server) = Server::start(&["--queue", "8", "--slow", "drop"]) else { return };
    let mut others: Vec<Client> = (0..5).map(|_| server.join()).collect();
    let before = server.descriptors();
    let mut slow = server.join();
    publish(&mut others, FLOOD);
    server.await_descriptors(before);
    let mut count = 0;
    while slow.read().is_ok() {
        count += 1;
    }
    assert!(count < FLOOD, "{count}");
    let report = server.stop();
    assert_eq!(report.number("deliveries to slow clients"), 0);
    assert_eq!(report.number("clients\nstats"), 1);
}

#[test]
fn one_that_pings_and_never_reads_is_cut_off_where_messages_are_skipped() {
    let Some(server) = Server::start(&["--queue", "8", "--slow", "skip"]) else { return };
    let mut other = server.join();
    let before = server.descriptors();
    let mut rude = server.join();
    let start = Instant::now();
    while rude.get_mut().write_all(&[0x89, 0x80, 0, 0, 0, 0]).is_ok() {
        assert!(start.elapsed() < LIMIT, "it may ping for ever");
    }
    server.await_descriptors(before);
    other.send(Message::text("anybody?")).expect("room");
    assert_eq!(text(&mut other), "anybody?");
    let report = server.stop();
    assert_eq!(report.number("clients\nstats"), 1);
}

#[test]
fn what_is_said_in_one_breath_is_one_send_to_each_client() {
    let Some(server) = Server::start(&[]) else { return };
    let mut clients: Vec<Client> = (0..10).map(|_| server.join()).collect();
    // More than wait for a slow client, by one write: they come in one piece.
    let breath: Vec<u8> = (0..100).flat_map(|at| [0x82, 0x81, 0, 0, 0, 0, at]).collect();
    clients[0].get_mut().write_all(&breath).expect("room");
    for client in &mut clients {
        for at in 0..100 {
            assert_eq!(client.read().expect("a message"), Message::binary(vec![at]));
        }
    }
    let report = server.stop();
    assert_eq!(report.number("deliveries out"), 1000);
    // Ten answers to greetings, ten sends of a hundred frames, ten farewells; and what receives.
    let sends = report.number("SQEs");
    assert!(sends < 60, "{sends} SQEs for 1,000 deliveries");
}

#[test]
fn it_keeps_the_rules_of_the_protocol() {
    let Some(server) = Server::start(&["--longest", "1000"]) else { return };
    let mut client = server.join();
    client.send(Message::Ping(Bytes::from_static(b"are you there"))).expect("room");
    assert_eq!(client.read().expect("an answer"), Message::Pong("are you there".into()));
    client.send(Message::binary(vec![0, 255])).expect("room");
    assert_eq!(client.read().expect("it comes back"), Message::binary(vec![0, 255]));
    client.send(Message::text("")).expect("room");
    assert_eq!(text(&mut client), "");
    // Two fragments with a ping between them are one message, and a pong before it.
    let raw = client.get_mut();
    raw.write_all(&[0x01, 0x82, 0, 0, 0, 0, b'h', b'e']).expect("room");
    raw.write_all(&[0x89, 0x80, 0, 0, 0, 0]).expect("room");
    raw.write_all(&[0x80, 0x83, 0, 0, 0, 0, b'l', b'l', b'o']).expect("room");
    assert_eq!(client.read().expect("an answer"), Message::Pong(Bytes::new()));
    assert_eq!(text(&mut client), "hello");
    client.close(None).expect("room");
    assert!(matches!(client.read(), Ok(Message::Close(_))));
    assert!(matches!(client.read(), Err(Error::ConnectionClosed)));
    let mistakes: [(&[u8], CloseCode); 4] = [
        (&[0x81, 0x05, b'h', b'e', b'l', b'l', b'o'], CloseCode::Protocol), // Not masked.
        (&[0x81, 0x81, 0, 0, 0, 0, 0xff], CloseCode::Invalid),              // No UTF-8.
        (&[0x82, 0xfe, 0x03, 0xe9, 0, 0, 0, 0], CloseCode::Size),           // 1,001 bytes.
        (&[0x83, 0x80, 0, 0, 0, 0], CloseCode::Protocol),                   // No such frame.
    ];
    for (bytes, code) in mistakes {
        let mut client = server.join();
        client.get_mut().write_all(bytes).expect("room");
        assert_eq!(close_code(&mut client), code, "{bytes:?}");
    }
    for head in ["GET / HTTP/1.1\r\nHost: here\r\n\r\n", "nonsense\r\n\r\n", &"x".repeat(8192)] {
        let (mut stream, mut answer) = (server.connect(), String::new());
        stream.write_all(head.as_bytes()).expect("room");
        stream.read_to_string(&mut answer).expect("it answers, and closes");
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    server.stop();
}

#[test]
fn bytes_that_come_one_by_one_or_all_at_once_are_a_greeting_and_a_message() {
    let Some(server) = Server::start(&[]) else { return };
    let head = "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let frame = [0x81, 0x82, 1, 2, 3, 4, b'h' ^ 1, b'i' ^ 2];
    let bytes = [head.as_bytes(), &frame].concat();
    for part in [1, 7, bytes.len()] {
        let mut stream = server.connect();
        stream.set_nodelay(true).expect("a flag");
        for part in bytes.chunks(part) {
            stream.write_all(part).expect("room");
            thread::sleep(Duration::from_micros(200));
        }
        let mut answer = Vec::new();
        while !answer.ends_with(&[0x81, 2, b'h', b'i']) {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("it answers");
            answer.push(byte[0]);
        }
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        // The key of RFC 6455, section 1.3, and its answer there.
        assert!(answer.to_lowercase().contains("s3pplmbitxaq9kygzzhzrbk+xoo="), "{answer}");
    }
    server.stop();
}

#[test]
fn told_to_stop_it_says_so_and_those_who_vanished_leave_nothing_behind() {
    let Some(server) = Server::start(&["--clients", "20"]) else { return };
    let before = server.descriptors();
    let mut client = server.join();
    for _ in 0..50 {
        drop(server.connect()); // At once, ...
        let mut vanishing = server.join();
        vanishing.send(Message::text("hello")).expect("room");
        drop(vanishing); // ... and with bytes on the way to it.
        assert_eq!(text(&mut client), "hello");
        server.await_descriptors(before + 1);
    }
    let mut many: Vec<Client> = (1..20).map(|_| server.join()).collect();
    let mut answer = Vec::new();
    assert_eq!(server.connect().read_to_end(&mut answer).expect("it is hung up on"), 0);
    let silent = server.connect();
    server.0.interrupt();
    assert_eq!(close_code(&mut client), CloseCode::Away);
    many.iter_mut().for_each(|client| assert_eq!(close_code(client), CloseCode::Away));
    let mut server = server;
    assert!(server.0.child.wait().expect("it ends").success());
    drop(silent);
}

#[test]
fn what_it_cannot_do_it_says_in_one_line() {
    let cases: [(&[&str], i32, &str); 3] = [
        (&["nonsense"], 1, "ws_fanout: cannot listen on nonsense: "),
        (&["--clients", "99999"], 2, "error: invalid value '99999' for '--clients <N>': "),
        (&["--slow", "never"], 2, "error: invalid value 'never' for '--slow <skip|drop>'"),
    ];
    complains("ws_fanout", &cases);
}
