//! `get`, from `httpd`, and from servers that do not do what they should.

use std::net::{SocketAddr, TcpListener};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};

use super::*;

/// Runs it; `None`, with the reason on stderr, where the kernel is too old for it.
fn fetch(arguments: &[&str], stdin: &str) -> Option<Output> {
    let mut command = Command::new(program("get"));
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let mut pipe = child.stdin.take().expect("a pipe");
    let _ = pipe.write_all(stdin.as_bytes()); // It may have ended.
    drop(pipe);
    let output = child.wait_with_output().expect("it ends");
    let stderr = text(&output.stderr);
    if stderr.contains("need Linux 5.19") || stderr.contains("there is no ring") {
        eprintln!("skipped: {stderr}");
        return None;
    }
    Some(output)
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).expect("text")
}

/// The lines of `bytes`, in order, with single spaces.
fn lines(bytes: &[u8]) -> Vec<String> {
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut lines: Vec<_> = text(bytes).lines().map(words).collect();
    lines.sort();
    lines
}

/// A server that does this with each client that has asked.
fn stub(each: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (address, each) = (listener.local_addr().expect("it has one"), Arc::new(each));
    thread::spawn(move || {
        for client in listener.incoming() {
            let (client, each) = (client.expect("a client"), Arc::clone(&each));
            thread::spawn(move || {
                let mut lines = BufReader::new(&client).lines();
                lines.find(|line| line.as_ref().is_ok_and(String::is_empty));
                each(client);
            });
        }
    });
    address
}

/// A server that answers with these bytes, and hangs up.
fn answering(answer: &'static str) -> SocketAddr {
    stub(move |mut client| client.write_all(answer.as_bytes()).expect("room"))
}

#[test]
fn files_of_httpd_arrive_as_they_are_and_as_by_curl() {
    let Some(server) = Server::start("get", &[]) else { return };
    let lens = [0, 1, 1000, 65_536, 100_000, 3_000_000];
    for len in lens {
        server.folder.file(&format!("{len}"), &noise(len));
    }
    let out = server.folder.0.join("out");
    let base = format!("http://{}", server.served.address);
    let urls: Vec<String> = (0..60).map(|at| format!("{base}/{}", lens[at % 6])).collect();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let options = ["--out", out.to_str().expect("text"), "--stats"];
    let Some(output) = fetch(&[&urls[..], &options].concat(), "") else { return };
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
    let printed = lines(&output.stdout);
    for (at, url) in urls.iter().enumerate() {
        let (len, file) = (lens[at % 6], fs::read(out.join((at + 1).to_string())));
        assert!(file.expect("it is there") == noise(len), "{url}");
        assert_eq!(printed.iter().filter(|line| **line == format!("200 {len} {url}")).count(), 10);
    }
    let total = lens.iter().sum::<usize>() * 10;
    assert!(printed.contains(&format!("fetched 60 of 60 URLs, {total} bytes")), "{printed:?}");
    assert!(text(&output.stdout).contains(" CPU ns per operation"));
    if has_curl() {
        for (at, url) in urls.iter().enumerate().take(6) {
            let curl = Command::new("curl").args(["-s", url]).output().expect("it starts");
            assert!(curl.stdout == fs::read(out.join((at + 1).to_string())).expect("a file"));
        }
    }
    // From stdin, by name, a directory, and what is not there. There is no file for the last two.
    let port = server.served.address.port();
    let stdin = format!("http://localhost:{port}/1\n{base}/sub?a#b\n{base}/none\n");
    let output = fetch(&[], &stdin).expect("it ran before");
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
    let expected = [
        format!("200 1 http://localhost:{port}/1"),
        format!("301 22 {base}/sub?a#b"),
        format!("404 14 {base}/none"),
    ];
    assert_eq!(lines(&output.stdout), expected);
}

#[test]
fn who_never_answers_costs_the_limit_and_holds_up_nobody() {
    let silent = stub(|client| {
        thread::sleep(LIMIT);
        drop(client);
    });
    let half = stub(|mut client| {
        client.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345").expect("room");
        thread::sleep(LIMIT);
    });
    // Each byte comes in time, and all of them do not.
    let slow = stub(|mut client| {
        let _ = client.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while client.write_all(b"x").is_ok() {
            thread::sleep(Duration::from_millis(20));
        }
    });
    let good = answering("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok");
    // Its backlog is full: a connection is not even made.
    let full = TcpListener::bind("127.0.0.1:0").expect("a port");
    rustix::net::listen(&full, 0).expect("it is ours");
    let full_address = full.local_addr().expect("it has one");
    let _waiting = TcpStream::connect(full_address).expect("the one for which there is room");
    let url = |address| format!("http://{address}/");
    let mut urls = vec![url(silent), url(half), url(slow), url(full_address)];
    urls.extend((0..50).map(|_| url(good)));
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let start = Instant::now();
    let options = ["--limit", "1", "--at-once", "5"];
    let Some(output) = fetch(&[&options, &urls[..]].concat(), "") else { return };
    assert!((1..20).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    assert_eq!(lines(&output.stdout), vec![format!("200 2 http://{good}/"); 50]);
    let mut expected: Vec<_> =
        urls[..4].iter().map(|url| format!("get: {url}: not done after 1 s")).collect();
    expected.push("get: 4 of 54 URLs were not fetched".into());
    expected.sort();
    assert_eq!((output.status.code(), lines(&output.stderr)), (Some(1), expected));
}

#[test]
fn what_goes_wrong_is_told_and_the_rest_is_fetched() {
    // A port that is taken, and at which nobody listens.
    let taken = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    bind(&taken, &SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
    let refused = getsockname(&taken).expect("it has one").try_into().expect("an address");
    let cases = [
        (refused, "Connection refused"),
        (answering("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345"), "5 bytes are missing"),
        (answering("HTTP/1.1 200 OK\r\nContent-L"), "it hung up before it had answered"),
        (answering(""), "it hung up before it had answered"),
        (answering("nonsense\r\n\r\n"), "invalid HTTP version"),
        (answering("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"), "its length is no number"),
        (
            answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            "it is in pieces",
        ),
        (
            stub(|mut client| {
                let _ = client.write_all(b"HTTP/1.1 200 OK\r\n");
                while client.write_all(b"A: b\r\n").is_ok() {}
            }),
            "too many headers",
        ),
    ];
    let good = [
        (answering("HTTP/1.0 200 OK\r\n\r\nto the end"), "200 10"),
        // No more than it says, and nothing where nothing can be.
        (answering("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nmore"), "200 2"),
        (answering("HTTP/1.1 204 No Content\r\n\r\n"), "204 0"),
        (answering("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"), "500 0"),
    ];
    let addresses = cases.iter().chain(&good).map(|(address, _)| address);
    let urls: Vec<_> = addresses.map(|address| format!("http://{address}/")).collect();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let Some(output) = fetch(&urls, "") else { return };
    let told = text(&output.stderr);
    for (address, why) in cases {
        let label = format!("get: http://{address}/: ");
        let line = told.lines().find_map(|line| line.strip_prefix(&*label));
        assert!(line.is_some_and(|line| line.starts_with(why)), "{why}: {told}");
    }
    assert!(told.ends_with("get: 8 of 12 URLs were not fetched\n"), "{told}");
    let mut expected: Vec<_> =
        good.iter().map(|(address, what)| format!("{what} http://{address}/")).collect();
    expected.sort();
    assert_eq!((output.status.code(), lines(&output.stdout)), (Some(1), expected));
}

#[test]
fn no_more_are_under_way_than_it_is_told() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counters = (Arc::clone(&now), Arc::clone(&most));
    let server = stub(move |mut client| {
        let (now, most) = &counters;
        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        thread::sleep(Duration::from_millis(30));
        now.fetch_sub(1, Ordering::SeqCst);
        client.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok").expect("room");
    });
    let url = format!("http://{server}/");
    let Some(output) = fetch(&["--at-once", "4"], &format!("{url}\n").repeat(40)) else { return };
    assert_eq!(lines(&output.stdout), vec![format!("200 2 {url}"); 40]);
    // It waits, and several do; as a rule four.
    assert!((2..=4).contains(&most.load(Ordering::SeqCst)), "{most:?}");
}

#[test]
fn what_is_no_url_is_a_wrong_call() {
    for url in ["https://x/", "x", "http:///", "http://user@x/", "http://x/a b", "http://x/\u{e9}"]
    {
        let Some(output) = fetch(&[url], "") else { return };
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains("Usage: get [OPTIONS] [URL]..."), "{stderr}");
    }
    let Some(output) = fetch(&["http://[::1/"], "") else { return };
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
}
