//! `mini_redis`, with clients of `std`, and beside Redis itself where that is installed.
//!
//! ```text
//!   parser.rs   commands are what they are, wherever the bytes are split
//!   client.rs   a client that writes RESP, and shows replies as text
//!   beside.rs   Redis and its benchmark, where they are installed
//!   limits.rs   nobody makes it grow without bound, or holds up others
//!   here        the commands, channels, the clock, threads
//! ```

use std::thread;
use std::time::{Duration, Instant};

mod beside;
mod client;
mod limits;
mod parser;
#[path = "../support/programs.rs"]
mod programs;
#[path = "../../examples/mini_redis/resp.rs"]
#[allow(dead_code, reason = "of the example, which uses all of it")]
mod resp;
#[path = "../support/served.rs"]
mod served;

use client::{Client, LIMIT, Server};
use programs::number;

const WRONG: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";
/// Commands, and their replies, if they come in this order.
const REPLIES: [(&str, &str); 60] = [
    ("PING", "+PONG"),
    ("ping hello", "hello"),
    ("ECHO hello", "hello"),
    ("GET a", "nil"),
    ("SET a 1", "+OK"),
    ("GET a", "1"),
    ("SET a 2 NX", "nil"),
    ("SET b 2 XX", "nil"),
    ("SET b 2 NX", "+OK"),
    ("SET b 3 XX", "+OK"),
    ("SET a 1 NX XX", "-ERR syntax error"),
    ("SET a 1 EX 0", "-ERR invalid expire time in 'set' command"),
    ("SET a 1 PX x", "-ERR value is not an integer or out of range"),
    ("EXISTS a b c a", ":3"),
    ("INCR a", ":2"),
    ("DECR a", ":1"),
    ("INCRBY a -10", ":-9"),
    ("DECRBY a 1", ":-10"),
    ("SET a 9223372036854775807", "+OK"),
    ("INCR a", "-ERR increment or decrement would overflow"),
    ("APPEND c xyz", ":3"),
    ("APPEND c xyz", ":6"),
    ("STRLEN c", ":6"),
    ("STRLEN d", ":0"),
    ("INCR c", "-ERR value is not an integer or out of range"),
    ("MSET d 1 e 2", "+OK"),
    ("MSET d 1 e", "-ERR wrong number of arguments for 'mset' command"),
    ("MGET d e f", "[1, 2, nil]"),
    ("DEL d e f", ":2"),
    ("TTL a", ":-1"),
    ("TTL f", ":-2"),
    ("EXPIRE a 100", ":1"),
    ("TTL a", ":100"),
    ("EXPIRE f 100", ":0"),
    ("EXPIRE a 0", ":1"),
    ("EXISTS a", ":0"),
    ("SET a x EX 100", "+OK"),
    ("SET a x", "+OK"),
    ("TTL a", ":-1"),
    ("RPUSH l b c", ":2"),
    ("LPUSH l a", ":3"),
    ("LRANGE l 0 -1", "[a, b, c]"),
    ("LRANGE l -2 9", "[b, c]"),
    ("LRANGE l 3 9", "[]"),
    ("GET l", WRONG),
    ("LPUSH a x", WRONG),
    ("LPOP l", "a"),
    ("LPOP l 9", "[b, c]"),
    ("LPOP l", "nil"),
    ("EXISTS l", ":0"),
    ("TYPE a", "+string"),
    ("KEYS [a]", "[a]"),
    ("DBSIZE", ":3"),
    ("CONFIG GET save", "[save, ]"),
    ("CONFIG GET maxcl*", "[maxclients, 4000]"),
    ("COMMAND DOCS", "[]"),
    ("SET a", "-ERR wrong number of arguments for 'set' command"),
    ("HGET a b", "-ERR unknown command 'HGET', with args beginning with: 'a' 'b' "),
    ("FLUSHALL", "+OK"),
    ("DBSIZE", ":0"),
];

#[test]
fn every_command_answers_as_redis_does() {
    let Some(server) = Server::start(&[]) else { return };
    let mut client = server.client();
    for (command, reply) in REPLIES {
        assert_eq!(client.ask(command), reply, "{command}");
    }
    assert!(client.ask("INFO").contains("connected_clients:1\r\n"));
    assert!(client.ask("COMMAND").contains("[get, :2, [+readonly], :1, :1, :1]"));
    assert_eq!(client.ask("QUIT"), "+OK");
    client.ends();
}

#[test]
fn bytes_that_come_one_by_one_are_commands_and_so_are_a_thousand_at_once() {
    let Some(server) = Server::start(&["--stats"]) else { return };
    let mut client = server.client();
    for byte in b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$4\r\n\r\n\0x\r\nGET a\r\n" {
        client.write(&[*byte]);
        thread::sleep(Duration::from_micros(200));
    }
    assert_eq!((client.reply(), client.reply()), ("+OK".into(), "\r\n\0x".into()));
    // More than a buffer of the server.
    let many: String = (0..1000).map(|n| format!("SET key:{n} {n}\r\nGET key:{n}\r\n")).collect();
    client.write(many.as_bytes());
    for n in 0..1000 {
        assert_eq!(client.reply(), "+OK");
        assert_eq!(client.reply(), n.to_string());
    }
    drop(client);
    let page = server.stop();
    let sends = number(&page, " sends");
    // The 2,002 replies and those to single bytes went together.
    assert!(sends < 200, "{page}");
}

#[test]
fn a_mistake_of_the_protocol_is_answered_as_redis_does_and_the_client_is_hung_up_on() {
    let Some(server) = Server::start(&[]) else { return };
    for (bytes, what) in [
        (&b"*1\r\nGET\r\n"[..], "expected '$', got 'G'"),
        (b"*x\r\n", "invalid multibulk length"),
        (b"*9999999\r\n", "invalid multibulk length"),
        (b"*1\r\n$-1\r\n", "invalid bulk length"),
        (b"*1\r\n$99999999\r\n", "invalid bulk length"),
        (b"GET \"a\r\n", "unbalanced quotes in request"),
        (&[b'x'; 70_000], "too big inline request"),
        (&[b'*'; 70_000], "too big mbulk count string"),
    ] {
        let mut client = server.client();
        // The reply to what came before is not lost.
        client.write(b"PING\r\n");
        client.write(bytes);
        assert_eq!(client.reply(), "+PONG");
        assert_eq!(client.reply(), format!("-ERR Protocol error: {what}"));
        client.ends();
    }
    // Nothing at all, and less than nothing, are no commands.
    let mut client = server.client();
    client.write(b"\r\n*0\r\n*-1\r\n  \r\nECHO \"a\\x41\\n\"\r\nECHO 'it\\'s'\r\n");
    assert_eq!((client.reply(), client.reply()), ("aA\n".into(), "it's".into()));
}

#[test]
fn messages_go_to_who_is_subscribed_of_all_threads() {
    let Some(server) = Server::start(&["--threads", "4"]) else { return };
    let mut subscribers: Vec<Client> = (0..16).map(|_| server.client()).collect();
    for client in &mut subscribers {
        assert_eq!(client.ask("SUBSCRIBE a b"), "[subscribe, a, :1]");
        assert_eq!(client.reply(), "[subscribe, b, :2]");
    }
    let why = "-ERR Can't execute 'get': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / \
        RESET are allowed in this context";
    assert_eq!(subscribers[0].ask("GET a"), why);
    assert_eq!(subscribers[0].ask("PING"), "[pong, ]");
    let mut publisher = server.client();
    for n in 0..1000 {
        publisher.write(format!("PUBLISH a {n}\r\n").as_bytes());
    }
    (0..1000).for_each(|_| assert_eq!(publisher.reply(), ":16"));
    for client in &mut subscribers {
        (0..1000).for_each(|n| assert_eq!(client.reply(), format!("[message, a, {n}]")));
        assert_eq!(client.ask("UNSUBSCRIBE a"), "[unsubscribe, a, :1]");
    }
    assert_eq!(publisher.ask("PUBLISH a x"), ":0");
    assert_eq!(publisher.ask("PUBLISH b x"), ":16");
    assert_eq!(subscribers[0].reply(), "[message, b, x]");
    assert_eq!(subscribers[0].ask("UNSUBSCRIBE"), "[unsubscribe, b, :0]");
    assert_eq!(subscribers[0].ask("UNSUBSCRIBE"), "[unsubscribe, nil, :0]");
    assert_eq!(subscribers[0].ask("GET a"), "nil");
    drop(subscribers);
    let start = Instant::now();
    while publisher.ask("PUBLISH b x") != ":0" {
        assert!(start.elapsed() < LIMIT, "they have left");
    }
}

#[test]
fn threads_have_one_store() {
    let Some(server) = Server::start(&["--threads", "3"]) else { return };
    thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| {
                let mut client = server.client();
                (0..500).for_each(|_| client.write(b"INCR n\r\n"));
                (0..500).for_each(|_| assert!(client.reply().starts_with(':')));
            });
        }
    });
    assert_eq!(server.client().ask("GET n"), "6000");
    let page = server.stop();
    assert_eq!(number(&page, " clients came"), 13, "{page}");
    assert_eq!(number(&page, " commands"), 6001, "{page}");
}

#[test]
fn keys_expire_when_nobody_looks() {
    let Some(server) = Server::start(&[]) else { return };
    let mut client = server.client();
    // A later one first: the clock is set again for each that is earlier.
    for n in (1..100).rev() {
        assert_eq!(client.ask(&format!("SET key:{n} x PX {}", n * 2 + 300_000)), "+OK");
    }
    assert_eq!(client.ask("SET soon x PX 50"), "+OK");
    assert_eq!(client.ask("SET later x PX 120"), "+OK");
    assert_eq!(client.ask("SET never x"), "+OK");
    let start = Instant::now();
    // INFO looks at no key.
    while !client.ask("INFO").contains("expired_keys:2\r\n") {
        assert!(start.elapsed() < LIMIT, "they do not expire");
        thread::sleep(Duration::from_millis(5));
    }
    assert!(start.elapsed() >= Duration::from_millis(100));
    assert_eq!(client.ask("DBSIZE"), ":100");
    assert_eq!(client.ask("KEYS [snl]*"), "[never]");
    // Thousands at once are removed in several goes.
    for n in 0..5000 {
        client.write(format!("SET many:{n} x PX 30\r\n").as_bytes());
    }
    (0..5000).for_each(|_| assert_eq!(client.reply(), "+OK"));
    while client.ask("DBSIZE") != ":100" {
        assert!(start.elapsed() < LIMIT, "they do not expire");
    }
}
