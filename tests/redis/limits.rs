//! What clients cannot do to `mini_redis`, and to each other.

use std::thread;
use std::time::{Duration, Instant};

use super::client::{Client, LIMIT, Server};
use super::programs::{complains, number};

#[test]
fn a_subscriber_that_does_not_read_is_cut_off_and_nobody_else() {
    for threads in ["1", "3"] {
        let arguments = ["--threads", threads, "--output", "2000000"];
        let Some(server) = Server::start(&arguments) else { return };
        let (mut slow, mut quick) = (server.client(), server.client());
        for client in [&mut slow, &mut quick] {
            assert_eq!(client.ask("SUBSCRIBE news"), "[subscribe, news, :1]");
        }
        let (mut publisher, message) = (server.client(), "y".repeat(100_000));
        let mut heard = Vec::new();
        for _ in 0..400 {
            heard.push(publisher.ask(&format!("PUBLISH news {message}")));
            // Before the next, so that its outbox does not fill on a machine that is busy.
            assert!(quick.reply() == format!("[message, news, {message}]"));
        }
        assert_eq!((&*heard[0], &*heard[399]), (":2", ":1"), "{threads} threads");
        // It may read what was on its way. Then it is over.
        let got = std::iter::from_fn(|| slow.try_reply()).count();
        assert!(got < 400, "{got}");
        let page = server.stop();
        assert_eq!(number(&page, " were cut off"), 1, "{page}");
    }
}

#[test]
fn a_client_that_does_not_read_its_replies_costs_no_more_than_its_limit() {
    let Some(server) = Server::start(&["--output", "2000000"]) else { return };
    let mut other = server.client();
    assert_eq!(other.ask(&format!("SET big {}", "z".repeat(1_000_000))), "+OK");
    let before = server.resident();
    // Replies of a gigabyte.
    let greedy: Vec<Client> = (0..5)
        .map(|_| {
            let mut client = server.client();
            client.write(b"GET big\r\n".repeat(200).as_slice());
            client
        })
        .collect();
    thread::sleep(Duration::from_millis(300));
    assert_eq!(other.ask("PING"), "+PONG");
    let grown = server.resident().saturating_sub(before);
    // For each: what is being sent, what waits, and what was allocated on the way.
    assert!(grown < 5 * 10_000, "{grown} KiB");
    // Whoever reads at last gets everything.
    for mut client in greedy {
        (0..200).for_each(|n| assert_eq!(client.reply().len(), 1_000_000, "reply {n}"));
        assert_eq!(client.ask("STRLEN big"), ":1000000");
    }
}

#[test]
fn a_reply_that_is_too_long_is_an_error_and_takes_nothing_away() {
    let Some(server) = Server::start(&["--output", "1100000"]) else { return };
    let mut client = server.client();
    let item = "i".repeat(400_000);
    (1..5).for_each(|n| assert_eq!(client.ask(&format!("RPUSH l {item}")), format!(":{n}")));
    let why = "-ERR the reply would be too long for this server";
    assert_eq!(client.ask("LRANGE l 0 -1"), why);
    assert_eq!(client.ask("LPOP l 4"), why);
    assert_eq!(client.ask("LPOP l 2").len(), 800_004);
    assert_eq!(client.ask("LRANGE l 0 -1").len(), 800_004);
}

#[test]
fn memory_and_strings_and_clients_have_limits() {
    let arguments = ["--memory", "1", "--longest", "300000", "--clients", "2"];
    let Some(server) = Server::start(&arguments) else { return };
    let mut client = server.client();
    let value = "v".repeat(300_000);
    for n in 0..4 {
        assert_eq!(client.ask(&format!("SET key:{n} {value}")), "+OK");
    }
    let full = "-OOM command not allowed when used memory > 'maxmemory'.";
    assert_eq!(client.ask("SET a b"), full);
    assert_eq!(client.ask("SUBSCRIBE a"), full);
    assert_eq!(client.ask("LPUSH a b"), full);
    assert_eq!(client.ask("GET key:0").len(), 300_000);
    assert_eq!(client.ask("DEL key:0"), ":1");
    let long = "-ERR string exceeds maximum allowed size (proto-max-bulk-len)";
    assert_eq!(client.ask("APPEND key:1 x"), long);
    // What was deleted is not counted any more, and neither are channels.
    assert_eq!(client.ask("SET a b"), "+OK");
    assert_eq!(client.ask("SUBSCRIBE a"), "[subscribe, a, :1]");
    assert_eq!(client.ask("UNSUBSCRIBE a"), "[unsubscribe, a, :0]");
    assert_eq!(client.ask("FLUSHALL"), "+OK");
    assert!(client.ask("INFO").contains("used_memory:0\r\n"));

    let second = server.client();
    let mut third = server.client();
    assert_eq!(third.reply(), "-ERR max number of clients reached");
    third.ends();
    drop(second);
    let start = Instant::now();
    while server.client().try_ask("PING").as_deref() != Some("+PONG") {
        assert!(start.elapsed() < LIMIT, "there is room again");
    }
    let page = server.stop();
    assert!(number(&page, " were refused") >= 1, "{page}");
}

#[test]
fn a_pattern_with_many_stars_takes_no_time() {
    let Some(server) = Server::start(&[]) else { return };
    let mut client = server.client();
    assert_eq!(client.ask(&format!("SET {} x", "a".repeat(5000))), "+OK");
    let start = Instant::now();
    assert_eq!(client.ask(&format!("KEYS {}b", "a*".repeat(2000))), "[]");
    // By trying all ways it would take longer than the world lasts.
    assert!(start.elapsed() < LIMIT);
    for (pattern, keys) in [
        ("h?llo", "[hallo, hello]"),
        ("h[^e]llo", "[hallo]"),
        ("h[a-b]llo", "[hallo]"),
        ("h*o", "[hallo, hello, heo]"),
        ("h\\*o", "[]"),
    ] {
        client.ask("FLUSHALL");
        client.ask("MSET hello 1 hallo 1 heo 1");
        assert_eq!(client.ask_sorted(&format!("KEYS {pattern}")), keys, "{pattern}");
    }
}

#[test]
fn what_it_cannot_do_it_says_in_one_line() {
    let cases: [(&[&str], i32, &str); 3] = [
        (&["nonsense"], 1, "mini_redis: cannot listen on nonsense: "),
        (&["--threads", "0"], 2, "error: invalid value '0' for '--threads <N>': "),
        (&["--longest", "x"], 2, "error: invalid value 'x' for '--longest <N>'"),
    ];
    complains("mini_redis", &cases);
}
