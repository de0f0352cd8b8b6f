//! `wait_any`: whatever comes first ends the wait, and is named.

use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use super::{fails, run, text};

/// What it prints, or `None`, with the reason on stderr, where the kernel is too old for it.
fn waits(arguments: &[&str]) -> Option<String> {
    let output = run("wait_any", arguments);
    let stderr = text(&output.stderr);
    if stderr.contains("needs Linux 6.7") || stderr.contains("there is no ring") {
        eprintln!("skipped: {stderr}");
        return None;
    }
    assert_eq!((output.status.code(), &*stderr), (Some(0), ""), "{arguments:?}");
    Some(text(&output.stdout))
}

#[test]
fn each_of_five_things_ends_the_wait_for_all() {
    let Some(page) = waits(&["--stats"]) else { return };
    let lines: Vec<&str> = page.lines().collect();
    let (stats, rounds) = lines.split_last().expect("lines");
    let first: Vec<_> = rounds.iter().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(first, ["futex", "eventfd", "socket", "child", "clock"], "{page}");
    for line in rounds {
        assert!(line.contains(" came first, after "), "{page}");
        assert!(line.ends_with(" ms; 4 others are in flight") && line.len() <= 80, "{page}");
    }
    // Each round submits five entries, and waits, with one call.
    assert!(stats.starts_with("stats: 5 enters, 25 SQEs, 5 CQEs, "), "{page}");
    assert!(stats.ends_with(" CPU ns per operation"), "{page}");
}

#[test]
fn the_earliest_of_several_things_is_the_first() {
    let cases: [(&[&str], &str); 3] = [
        (&["--futex", "60000", "--clock", "20"], "clock "),
        (&["--eventfd", "20", "--clock", "60000", "--child", "60000"], "eventfd "),
        (&["--socket", "60000", "--futex", "20"], "futex "),
    ];
    for (arguments, first) in cases {
        let Some(page) = waits(arguments) else { return };
        assert!(page.starts_with(first) && page.lines().count() == 1, "{page}");
    }
}

#[test]
fn a_command_and_a_client_are_waited_for() {
    let Some(page) = waits(&["--clock", "60000", "--", "sh", "-c", "exit 3"]) else { return };
    assert!(page.starts_with("child "), "{page}");
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = free.local_addr().expect("an address");
    drop(free);
    let client = thread::spawn(move || {
        let start = Instant::now();
        while TcpStream::connect(address).is_err() && start.elapsed() < Duration::from_secs(60) {
            thread::sleep(Duration::from_millis(5));
        }
    });
    let page = waits(&["--listen", &address.to_string(), "--", "sleep", "3600"]);
    assert!(page.expect("it ran before").starts_with("socket "));
    client.join().expect("no panic");
}

#[test]
fn what_cannot_be_waited_for_is_one_line() {
    if waits(&["--clock", "1"]).is_none() {
        return;
    }
    let stderr = fails(&run("wait_any", &["--", "no-such-program"]), 1);
    assert!(stderr.starts_with("wait_any: cannot start no-such-program: "), "{stderr}");
    let stderr = fails(&run("wait_any", &["--listen", "nowhere"]), 1);
    assert!(stderr.starts_with("wait_any: cannot listen on nowhere: "), "{stderr}");
    let stderr = fails(&run("wait_any", &["--clock", "soon"]), 2);
    assert!(stderr.contains("Usage: wait_any "), "{stderr}");
}
