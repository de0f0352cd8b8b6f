//! `wal_small`: what it has told is in its log, whole and in order; and what is torn is told.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread;

use annulus::Capabilities;

use super::program;

/// The path of a log, which is gone when dropped.
struct Log(PathBuf);

impl Log {
    /// `None` where there is no io_uring, with the reason on stderr.
    fn new(name: &str) -> Option<Self> {
        if let Err(error) = Capabilities::detect() {
            eprintln!("skipped: wal_small: {error}");
            return None;
        }
        let name = format!("annulus-wal-{}-{name}", std::process::id());
        let log = Self(std::env::temp_dir().join(name));
        let _ = fs::remove_file(&log.0);
        Some(log)
    }

    fn start(&self) -> Child {
        let mut command = Command::new(program("wal_small"));
        command.arg("--stats").arg(&self.0).stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts")
    }

    /// Appends `text`, all of it in one write to a pipe.
    fn append(&self, text: &[u8]) -> Output {
        let mut child = self.start();
        child.stdin.take().expect("a pipe").write_all(text).expect("it reads");
        child.wait_with_output().expect("it ends")
    }

    /// The records, and what is said about the rest.
    fn records(&self) -> (Vec<String>, String) {
        let output = Command::new(program("wal_small")).arg("--read").arg(&self.0).output();
        let output = output.expect("it starts");
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).expect("text");
        (text.lines().map(str::to_owned).collect(), told(&output.stderr))
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn told(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The three numbers of `--stats`: records, commits, enters.
fn stats(output: &Output) -> [u64; 3] {
    assert!(output.status.success(), "{output:?}");
    let stderr = told(&output.stderr);
    let line = stderr.lines().find_map(|line| line.strip_prefix("stats: ")).expect("its line");
    let numbers: Vec<u64> = line.split([' ', ',']).filter_map(|word| word.parse().ok()).collect();
    numbers.try_into().expect("three numbers")
}

#[test]
fn records_that_wait_together_are_one_commit() {
    let Some(log) = Log::new("group") else { return };
    let lines: Vec<String> = (1..=1000).map(|number| format!("record {number}")).collect();
    let output = log.append((lines.join("\n") + "\nwithout an end").as_bytes());
    let [records, commits, _] = stats(&output);
    assert_eq!(records, 1000);
    assert!(commits <= 10, "{commits} commits");
    assert!(told(&output.stdout).ends_with("1000\n"), "{output:?}");
    assert_eq!(log.records(), (lines, String::new()));
}

#[test]
fn who_waits_for_each_record_gets_a_commit_for_each() {
    let Some(log) = Log::new("each") else { return };
    for from in [1, 51] {
        let mut child = log.start();
        let mut stdin = child.stdin.take().expect("a pipe");
        let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        for number in from..from + 50 {
            writeln!(stdin, "record {number}").expect("it reads");
            let mut line = String::new();
            stdout.read_line(&mut line).expect("it answers");
            assert_eq!(line, format!("{number}\n"));
        }
        drop(stdin);
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(stats(&output)[..2], [50, 50]);
    }
    assert_eq!(log.records().0.len(), 100);
}

/// SIGKILL, while it writes. The page cache stays, so this shows that nothing is told before it is
/// written; that nothing is told before it is on the disk takes a power failure.
#[test]
fn what_was_told_before_a_kill_is_in_the_log() {
    let Some(log) = Log::new("killed") else { return };
    let text =
        |number: u64| format!("{number} {}", "x".repeat(usize::try_from(number % 700).unwrap()));
    let (mut told, mut first) = (0, 1);
    for round in 1..=5 {
        let mut child = log.start();
        let mut stdin = child.stdin.take().expect("a pipe");
        let writer = thread::spawn(move || {
            for number in first.. {
                if writeln!(stdin, "{}", text(number)).is_err() {
                    return; // It is killed.
                }
            }
        });
        let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut line = String::new();
        while told < first + round * 300 {
            line.clear();
            stdout.read_line(&mut line).expect("it answers");
            told = line.trim().parse().expect("a number");
        }
        child.kill().expect("it runs");
        child.wait().expect("it ends");
        writer.join().expect("no panic");
        // What it told and nobody read yet.
        told = stdout.lines().filter_map(|line| line.ok()?.parse().ok()).last().unwrap_or(told);
        let (records, _) = log.records();
        assert!(records.len() as u64 >= told, "{} of {told} records", records.len());
        first = records.len() as u64 + 1;
        for (number, record) in (1..).zip(&records) {
            assert_eq!(*record, text(number), "record {number}");
        }
    }
}

#[test]
fn a_torn_record_is_told_wherever_it_is_torn_and_makes_room() {
    let Some(log) = Log::new("torn") else { return };
    stats(&log.append(b"first\n\nthird record\n"));
    let whole = fs::read(&log.0).expect("it is there");
    let expected = ["first", "", "third record"].map(str::to_owned);
    assert_eq!(log.records(), (expected.to_vec(), String::new()));
    let end = whole.len() - 8 - "third record".len();
    for len in end + 1..whole.len() {
        fs::write(&log.0, &whole[..len]).expect("a file");
        let (records, said) = log.records();
        assert_eq!(records, expected[..2], "{len} bytes");
        let torn = format!("2 records are whole; what is behind byte {end} is torn\n");
        assert_eq!(said, torn, "{len} bytes");
    }
    // A byte that is another one, anywhere in it.
    for at in end..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        fs::write(&log.0, bytes).expect("a file");
        assert_eq!(log.records().0, expected[..2], "byte {at}");
    }
    let output = log.append(b"3rd\n");
    assert_eq!(told(&output.stdout), "3\n", "{output:?}");
    assert_eq!(log.records(), (vec!["first".into(), String::new(), "3rd".into()], String::new()));
}

#[test]
fn a_log_that_cannot_be_read_is_left_as_it_is() {
    let Some(log) = Log::new("folder") else { return };
    let missing = Command::new(program("wal_small")).arg("--read").arg(&log.0).output();
    assert_eq!(missing.expect("it starts").status.code(), Some(1));
    assert!(!log.0.exists(), "a log that is only read is not made");
}
