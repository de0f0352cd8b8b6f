//! `mini_redis` beside Redis: what that answers, and what its benchmark says. Where it is not
//! installed, a test says so on stderr, and passes.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::client::{Client, LIMIT, Server};

/// Redis itself, killed in the end.
struct Redis(Child);

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = (self.0.kill(), self.0.wait());
    }
}

/// Starts it at a port that is free, with what this server has too.
fn redis() -> Option<(Redis, Client)> {
    let address = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).ok()?;
    let mut command = Command::new("redis-server");
    command.args(["--port", &address.port().to_string(), "--save", "", "--appendonly", "no"]);
    command.args(["--bind", "127.0.0.1", "--proto-max-bulk-len", "1048576"]);
    let Ok(child) = command.stdout(Stdio::null()).spawn() else {
        eprintln!("skipped: redis-server is not installed");
        return None;
    };
    let redis = Redis(child);
    let start = Instant::now();
    let stream = loop {
        match TcpStream::connect(address) {
            Ok(stream) => break stream,
            Err(error) => assert!(start.elapsed() < LIMIT, "it does not listen: {error}"),
        }
        thread::sleep(Duration::from_millis(10));
    };
    stream.set_read_timeout(Some(LIMIT)).expect("it is not zero");
    Some((redis, Client::over(stream)))
}

/// Numbers that are alike in every run.
struct Dice(u64);

impl Dice {
    /// One of so many.
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(self.0 >> 33).expect("31 bits") % sides
    }

    fn pick<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.roll(words.len())]
    }
}

const NAMES: [&str; 30] = [
    "APPEND", "DECR", "DECRBY", "DEL", "ECHO", "EXISTS", "EXPIRE", "GET", "INCR", "INCRBY", "LPOP",
    "LPUSH", "LRANGE", "MGET", "MSET", "PING", "PUBLISH", "RPUSH", "SET", "STRLEN", "TTL", "TYPE",
    "get", "NONSENSE", "SET", "SET", "LPUSH", "RPUSH", "INCR", "PEXPIRE",
];
const WORDS: [&str; 22] = [
    "a",
    "b",
    "c",
    "a",
    "b",
    "c",
    "0",
    "1",
    "-1",
    "2",
    "100",
    "-100",
    "nx",
    "XX",
    "EX",
    "px",
    "01",
    "9223372036854775807",
    "-9223372036854775808",
    "",
    "x y",
    "two\r\nlines",
];

#[test]
fn twenty_thousand_commands_of_chance_have_the_replies_of_redis() {
    let Some((_redis, mut theirs)) = redis() else { return };
    let Some(server) = Server::start(&[]) else { return };
    let mut ours = server.client();
    let mut dice = Dice(1);
    let mut errors = 0;
    for _ in 0..20_000 {
        let count = dice.pick(&["0", "1", "2", "2", "3", "3", "4", "5"]);
        let count: usize = count.parse().expect("a number");
        let mut words = vec![dice.pick(&NAMES)];
        words.extend((0..count).map(|_| dice.pick(&WORDS)));
        if words.iter().any(|word| ["EX", "px", "EXPIRE", "PEXPIRE"].contains(word)) {
            // Nothing is to expire between the one server and the other.
            let is_short = |word: &&mut &str| ["1", "2", "100"].contains(*word);
            words.iter_mut().filter(is_short).for_each(|word| *word = "100000");
        }
        if words[0].ends_with("EXPIRE") {
            words.truncate(3); // This server has none of the options.
        }
        let bytes: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        theirs.send(&bytes);
        ours.send(&bytes);
        let (theirs, ours) = (theirs.reply(), ours.reply());
        // The one thing that a clock may do between the two.
        let is_clock = words[0] == "TTL" && ours.len() == theirs.len();
        assert!(ours == theirs || is_clock, "{words:?}\n{ours}\nredis: {theirs}");
        errors += usize::from(ours.starts_with('-'));
    }
    assert!((2_000..18_000).contains(&errors), "{errors} errors");
}

#[test]
fn the_benchmark_of_redis_runs() {
    let Some(server) = Server::start(&[]) else { return };
    let port = server.0.address.port().to_string();
    for pipelined in ["1", "16"] {
        let mut command = Command::new("redis-benchmark");
        command.args(["-p", &port, "-t", "ping,set,get,incr,lpush", "-q", "-n", "10000"]);
        let Ok(output) = command.args(["-P", pipelined]).output() else {
            return eprintln!("skipped: redis-benchmark is not installed");
        };
        let page = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{page}");
        for name in ["PING_INLINE", "PING_MBULK", "SET", "GET", "INCR", "LPUSH"] {
            let mut lines = page.split(['\r', '\n']).filter(|line| line.starts_with(name));
            assert!(lines.any(|line| line.contains("requests per second")), "{name}: {page}");
        }
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains("Error") && !page.contains("Error"), "{page}{said}");
    }
    // Nothing of it got lost on the way: each INCR was done, and each LPUSH.
    let mut client = server.client();
    assert_eq!(client.ask("GET counter:__rand_int__"), "20000");
    assert_eq!(client.ask("LRANGE mylist 0 -1").split(", ").count(), 20_000);
}

#[test]
fn the_client_of_redis_talks_to_it() {
    let Some(server) = Server::start(&[]) else { return };
    let port = server.0.address.port().to_string();
    for (words, said) in [
        (&["SET", "a", "1"][..], "OK\n"),
        (&["INCR", "a"], "2\n"),
        (&["MGET", "a", "b"], "2\n\n"),
        (&["COMMAND", "COUNT"], "33\n"),
    ] {
        let Ok(output) = Command::new("redis-cli").args(["-p", &port]).args(words).output() else {
            return eprintln!("skipped: redis-cli is not installed");
        };
        assert_eq!(String::from_utf8_lossy(&output.stdout), said, "{words:?}");
    }
}
