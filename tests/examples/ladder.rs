//! `ladder`: each of its servers answers with what was sent, and how often each calls the kernel.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

use annulus::Capabilities;
use annulus::sys::flags::SetupFlags;
use annulus::sys::opcode::RegisterOp;

use super::programs::skip;
use super::{fails, prints, program, run};

/// Far longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(60);
/// How many clients there are at once, and what each sends.
const CLIENTS: u8 = 10;
const BYTES: usize = 100_000;

/// Whether this kernel can do all steps; else says so.
fn has_all_steps() -> bool {
    let here = Capabilities::detect();
    let can = here.as_ref().is_ok_and(|it| it.setup_flags().contains(SetupFlags::DEFER_TASKRUN));
    if !can {
        skip(&format!("the last step needs Linux 6.1: {:?}", here.err()));
    }
    can
}

/// Whether a connection in the table of files stays open for as long as somebody is silent.
fn closes_late() -> bool {
    let here = Capabilities::detect().expect("a ring can be made");
    let late = !here.has_register(RegisterOp::RESIZE_RINGS);
    if late {
        skip("a connection without a descriptor closes at once since Linux 6.13");
    }
    late
}

/// A row of the table: the step and its name, the five numbers, and the answers.
fn rows(page: &str) -> Vec<(String, [u64; 5], String)> {
    let row = |line: &str| {
        let (name, rest) = line.split_at(22);
        let mut words = rest.split_whitespace();
        let numbers = [(); 5].map(|()| words.next().and_then(|word| word.parse().ok()));
        let numbers = numbers.map(|number| number.unwrap_or_else(|| panic!("{line}")));
        (name.trim().to_owned(), numbers, words.collect::<Vec<_>>().join(" "))
    };
    page.lines().skip(1).map(row).collect()
}

#[test]
fn the_ladder_takes_as_many_calls_as_the_book_says() {
    if !has_all_steps() {
        return;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/book/src/ladder.txt");
    let page = prints("ladder", &[]);
    if std::env::var_os("ANNULUS_WRITE").is_some() {
        fs::write(&path, &page).expect("it can be written");
    }
    let shown = fs::read_to_string(path).expect("the book has it");
    let (here, shown) = (rows(&page), rows(&shown));
    assert_eq!(here.len(), shown.len(), "{page}");
    for ((name, here, answers), (shown_name, shown, shown_answers)) in here.iter().zip(&shown) {
        assert_eq!((name, answers), (shown_name, shown_answers), "{page}");
        // Threads come and go by their own clocks. What is early depends on when the kernel finds
        // time, so only whether there is any is compared, below.
        let slack = if name.starts_with('0') { 60 } else { 2 };
        for (here, shown) in here.iter().zip(shown).take(4) {
            assert!(here.abs_diff(*shown) <= slack, "with ANNULUS_WRITE=1 it is written:\n{page}");
        }
    }
}

#[test]
fn no_step_of_the_ladder_takes_more_enters_than_the_one_before() {
    if !has_all_steps() {
        return;
    }
    let page = prints("ladder", &[]);
    let rows = rows(&page);
    for pair in rows[3..10].windows(2) {
        let ([_, before, entries, ..], [_, after, fewer, ..]) = (pair[0].1, pair[1].1);
        assert!(after <= before, "{page}");
        // All that is ready at once includes what the last clients of a run still say.
        assert!(fewer <= entries + 20, "{page}");
    }
    let enters = |step: usize| rows[step].1[1];
    assert!(enters(3) > 3000 && enters(4) < 2500 && enters(5) < 150, "{page}");
    // Each connection is closed by a call, with a descriptor or without one.
    assert!(rows[5].1[0] - enters(5) >= 80 && rows[6].1[0] - enters(6) >= 80, "{page}");
    // One entry for each client, and no second one: the sends are what is left.
    assert!(rows[8].1[2] < 1200 && rows[7].1[2] > 2000, "{page}");
}

#[test]
fn completions_of_the_last_step_are_made_when_it_enters_and_not_before() {
    if !has_all_steps() {
        return;
    }
    let page = prints("ladder", &[]);
    let rows = rows(&page);
    let early = |step: usize| rows[step].1[4];
    assert!(early(8) > 500 && early(9) == 0, "{page}");
}

#[test]
fn the_server_of_the_ladder_that_lies_is_found() {
    let page = prints("ladder", &["--step", "lied"]);
    let rows = rows(&page);
    // Each of twenty clients has one right answer before the rest of it is taken for the next.
    assert_eq!((rows.len(), &*rows[0].2), (1, "wrong, first to request 21"), "{page}");
    let honest = prints("ladder", &["--step", "1"]);
    let calls = |page: &str| self::rows(page)[0].1[0];
    assert!(calls(&page) < calls(&honest) * 2 / 3, "it does less:\n{page}{honest}");
}

/// A step as a server, which is killed when a test fails.
struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Server {
    fn start(step: &str) -> Self {
        let mut command = Command::new(program("ladder"));
        command.args(["--step", step, "--port", "0", "--bytes", "1000", "--stats"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("it is a pipe"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("it speaks");
        let address = line.trim_end().strip_prefix("listening on ").expect("it says where");
        Self { child, stdout, address: address.parse().expect("an address") }
    }

    /// Sends SIGINT, and returns what it prints before it ends.
    fn interrupt(&mut self) -> String {
        let pid = self.child.id().to_string();
        let killed = Command::new("kill").args(["-INT", &pid]).status().expect("kill starts");
        assert!(killed.success() && self.child.wait().expect("it ends").success());
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

/// Sends bytes that no other client sends, in pieces that fit no buffer, and compares what comes
/// back.
#[track_caller]
fn exchange(address: SocketAddr, client: u8, step: i32) {
    let byte = |at: usize| at.to_le_bytes()[at % 3] ^ client;
    let bytes: Vec<u8> = (0..BYTES).map(byte).collect();
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(LIMIT)).expect("a limit");
    let mut sending = stream.try_clone().expect("a descriptor");
    let echoed = thread::scope(|scope| {
        scope.spawn(|| {
            bytes.chunks(7_001).for_each(|part| sending.write_all(part).expect("it reads"));
            sending.shutdown(Shutdown::Write).expect("half of it closes");
        });
        let mut echoed = Vec::new();
        let read = stream.read_to_end(&mut echoed);
        read.unwrap_or_else(|why| panic!("step {step}: after {} bytes: {why}", echoed.len()));
        echoed
    });
    assert!(echoed == bytes, "step {step}, client {client}: {} bytes", echoed.len());
}

#[test]
fn every_step_of_the_ladder_answers_with_what_was_sent() {
    if !has_all_steps() {
        return;
    }
    for step in 0..10 {
        let mut server = Server::start(&step.to_string());
        let address = server.address;
        // Somebody who says nothing holds nobody up, nor somebody who goes without a word.
        let held_up = step >= 6 && closes_late();
        let _silent = (!held_up).then(|| TcpStream::connect(address).expect("it listens"));
        drop(TcpStream::connect(address).expect("it listens"));
        thread::scope(|scope| {
            (0..CLIENTS)
                .for_each(|client| drop(scope.spawn(move || exchange(address, client, step))));
        });
        let page = server.interrupt();
        let echoed = BYTES * usize::from(CLIENTS);
        assert!(page.contains(&format!("echoed {echoed} bytes: 1000 requests")), "{step}: {page}");
        assert!(page.contains(" CPU ns per operation"), "{step}: {page}");
        // Whoever has a ring needs it.
        assert_eq!(page.contains(", 0 enters"), step < 3, "{step}: {page}");
    }
}

#[test]
fn the_ladder_says_how_to_climb_it() {
    let help = prints("ladder", &["--help"]);
    assert!(help.contains("\nUsage: ladder [OPTIONS]") && help.contains("--stats"), "{help}");
    assert!(help.lines().all(|line| line.chars().count() <= 80), "{help}");
    for (arguments, what) in [
        (&["--step", "10"][..], "invalid value '10' for '--step <N>'"),
        (&["--port", "0"], "not provided:\n  --step <N>"),
        (&["--bytes", "4097"], "4097 is not in 1..=4096"),
    ] {
        let stderr = fails(&run("ladder", arguments), 2);
        assert!(stderr.contains(what) && stderr.contains("\nUsage: ladder "), "{stderr}");
    }
}
