//! `workers`: every client gets what `cksum` prints, the work is shared out, and it ends cleanly.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use super::served::Served;
use super::{fails, program, run, text};

/// Far longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(60);

/// Starts it; `None`, with the reason on stderr, where the kernel is too old for it.
fn start(threads: &str) -> Option<Served> {
    let mut command = Command::new(program("workers"));
    command.args(["127.0.0.1:0", "--stats", "--threads", threads]);
    Served::start(&mut command, &["need Linux 5.19", "there is no ring"])
}

/// Sends SIGINT, and returns what it prints before it ends.
fn interrupt(mut server: Served) -> String {
    server.interrupt();
    let mut page = String::new();
    server.stdout.read_to_string(&mut page).expect("it ends");
    assert_eq!(server.child.wait().expect("it ends").code(), Some(0), "{page}");
    page
}

/// Sends `bytes` in pieces, and returns the answer.
fn ask(mut stream: TcpStream, bytes: &[u8]) -> String {
    bytes.chunks(10_007).for_each(|part| stream.write_all(part).expect("it reads"));
    stream.shutdown(Shutdown::Write).expect("half of it closes");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers, and closes");
    answer
}

/// What the command `cksum` prints of `bytes`, or would where there is none.
fn cksum(bytes: &[u8]) -> String {
    let computed = format!("{} {}\n", crc(bytes), bytes.len());
    let mut command = Command::new("cksum");
    let Ok(mut child) = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn() else {
        return computed;
    };
    child.stdin.take().expect("a pipe").write_all(bytes).expect("it reads");
    let printed = text(&child.wait_with_output().expect("it ends").stdout);
    assert_eq!(printed, computed);
    printed
}

/// The checksum of POSIX, bit by bit: of the bytes, and of their count from its lowest byte on.
fn crc(bytes: &[u8]) -> u32 {
    let count = bytes.len().to_le_bytes();
    let used = count.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let crc = bytes.iter().chain(&count[..used]).fold(0_u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte) << 24, |crc, _| {
            (crc << 1) ^ if crc >> 31 == 1 { 0x04C1_1DB7 } else { 0 }
        })
    });
    !crc
}

/// The number before `word` in the line of `page` that begins with `label`.
fn number(page: &str, label: &str, word: &str) -> u64 {
    let line =
        page.lines().find(|line| line.starts_with(label)).unwrap_or_else(|| panic!("{page}"));
    let before = line.split(word).next().expect("it is there");
    before.rsplit(' ').find_map(|word| word.parse().ok()).unwrap_or_else(|| panic!("{page}"))
}

#[test]
fn every_client_of_many_gets_what_cksum_prints() {
    let Some(server) = start("3") else { return };
    let contents = |client: usize| -> Vec<u8> {
        (0..client * 9973).map(|at| at.to_le_bytes()[at % 3] ^ client.to_le_bytes()[0]).collect()
    };
    thread::scope(|scope| {
        for client in 0..24 {
            let server = &server;
            scope.spawn(move || {
                let bytes = contents(client);
                assert_eq!(ask(server.connect(LIMIT), &bytes), cksum(&bytes), "client {client}");
            });
        }
    });
    let page = interrupt(server);
    let total: usize = (0..24).map(|client| client * 9973).sum();
    let of_workers = |word| (0..3).map(|n| number(&page, &format!("worker {n}:"), word)).sum();
    assert_eq!((of_workers(" clients"), of_workers(" bytes")), (24_u64, total as u64), "{page}");
    assert_eq!(number(&page, "accepted", " clients"), 24, "{page}");
    let told = number(&page, "accepted", " times");
    assert!((1..=24).contains(&told), "{page}");
    assert!(page.contains(" CPU ns per operation"), "{page}");
    assert!(page.lines().all(|line| line.len() <= 80), "{page}");
}

#[test]
fn clients_that_stay_are_shared_out_evenly_and_served_before_the_end() {
    let Some(server) = start("4") else { return };
    // Each has a worker, and waits for its client.
    let staying: Vec<TcpStream> = (0..12).map(|_| server.connect(LIMIT)).collect();
    thread::sleep(Duration::from_millis(200));
    // A client that vanishes takes nothing with it.
    drop(server.connect(LIMIT));
    let address = server.address;
    let page = thread::spawn(move || interrupt(server));
    // It does not accept any more, but goes on with those that it has.
    let mut refused = false;
    while !refused {
        refused = TcpStream::connect(address).is_err();
        thread::sleep(Duration::from_millis(5));
    }
    for stream in staying {
        assert_eq!(ask(stream, b"hello\n"), cksum(b"hello\n"));
    }
    let page = page.join().expect("it ended");
    // Three each, and those that vanished at once.
    let of = |worker| number(&page, &format!("worker {worker}:"), " clients");
    assert!((0..4).all(|worker| of(worker) >= 3), "{page}");
    assert_eq!((0..4).map(of).sum::<u64>(), number(&page, "accepted", " clients"), "{page}");
}

#[test]
fn a_server_of_workers_says_what_is_wrong_in_one_line() {
    let Some(server) = start("1") else { return };
    let address = server.address.to_string();
    let stderr = fails(&run("workers", &[&address]), 1);
    assert!(stderr.starts_with("workers: cannot listen on "), "{stderr}");
    let stderr = fails(&run("workers", &["--threads", "0"]), 2);
    assert!(stderr.contains("0 is not in 1..=256"), "{stderr}");
    assert!(stderr.contains("Usage: workers [OPTIONS]"), "{stderr}");
}
