//! `logd`: what a writer had committed is in the log, whole and in order, however the writer ends.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use annulus::Setup;
use annulus::op::{MsgHeader, SendMsg};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

use super::{Folder, fails, program, run, text};

/// Far longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(60);

/// A logger in a folder of its own, which is killed when a test fails.
struct Logger {
    child: Child,
    stdout: BufReader<ChildStdout>,
    folder: Folder,
}

impl Logger {
    /// Starts it; `None`, with the reason on stderr, where the kernel is too old for it.
    fn start(name: &str) -> Option<Self> {
        let folder = Folder::new(name);
        let mut command = Command::new(program("logd"));
        command.args([folder.0.join("socket"), "--output".into(), folder.0.join("log")]);
        command.arg("--stats").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("it is a pipe"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("it speaks");
        if !line.starts_with("listening on ") {
            let output = child.wait_with_output().expect("it ends");
            let stderr = text(&output.stderr);
            let is_known = ["needs Linux 6.7", "there is no ring"];
            assert!(is_known.iter().any(|reason| stderr.contains(reason)), "{line}{stderr}");
            eprintln!("skipped: {stderr}");
            return None;
        }
        Some(Self { child, stdout, folder })
    }

    fn socket(&self) -> PathBuf {
        self.folder.0.join("socket")
    }

    /// A writer with these arguments.
    fn writer(&self, arguments: &[&str]) -> Child {
        let mut command = Command::new(program("logd"));
        command.arg(self.socket()).arg("--write").args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts")
    }

    /// The records of a writer in the log so far.
    fn records(&self, pid: u32) -> Vec<String> {
        let log = fs::read_to_string(self.folder.0.join("log")).expect("it is there");
        // The last line may be half written.
        let whole = log.rfind('\n').map_or("", |end| &log[..end]);
        let label = format!("{pid}: ");
        whole.lines().filter_map(|line| line.strip_prefix(&label)).map(str::to_owned).collect()
    }

    /// Waits until `is_there` likes the records of a writer, and returns them.
    fn wait(&self, pid: u32, is_there: impl Fn(&[String]) -> bool) -> Vec<String> {
        let start = Instant::now();
        loop {
            let records = self.records(pid);
            if is_there(&records) {
                return records;
            }
            assert!(start.elapsed() < LIMIT, "{} records: {:?}", records.len(), records.last());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends SIGINT, and returns what it prints on stdout and stderr before it ends.
    fn interrupt(mut self) -> (String, String) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().expect("kill starts").success());
        let (mut page, mut stderr) = (String::new(), String::new());
        self.stdout.read_to_string(&mut page).expect("it ends");
        let mut theirs = self.child.stderr.take().expect("a pipe");
        theirs.read_to_string(&mut stderr).expect("it ends");
        assert_eq!(self.child.wait().expect("it ends").code(), Some(0), "{page}{stderr}");
        assert!(!self.socket().exists(), "the socket is removed");
        (page, stderr)
    }
}

impl Drop for Logger {
    fn drop(&mut self) {
        let _ = (self.child.kill(), self.child.wait());
    }
}

/// Whether these are records from 0 on, without a gap.
fn are_in_order(records: &[String]) -> bool {
    records.iter().enumerate().all(|(number, record)| *record == format!("record {number}"))
}

#[test]
fn a_writer_that_is_killed_within_a_record_loses_no_other() {
    let Some(logger) = Logger::start("torn") else { return };
    let mut writer = logger.writer(&["--flood", "5000", "--tear"]);
    let mut line = String::new();
    let stdout = writer.stdout.as_mut().expect("a pipe");
    BufReader::new(stdout).read_line(&mut line).expect("it speaks");
    assert_eq!(line, "torn\n");
    // It is in the middle of record 5000, and stays there.
    let records = logger.wait(writer.id(), |records| records.len() >= 5000);
    assert!(records.len() == 5000 && are_in_order(&records), "nothing of the torn one");
    writer.kill().expect("it is ours");
    assert_eq!(writer.wait().expect("it ends").signal(), Some(libc::SIGKILL));
    let records = logger.wait(writer.id(), |records| records.len() > 5000);
    let (told, whole) = records.split_last().expect("it is told");
    assert!(whole.len() == 5000 && are_in_order(whole));
    // `record 5000, which is not whole`, ten times.
    assert_eq!(told, "torn: a record of up to 312 bytes");
    let (page, stderr) = logger.interrupt();
    assert!(page.starts_with("5000 records in ") && page.contains(", 1 torn; "), "{page}");
    assert_eq!(stderr, "");
}

#[test]
fn what_is_committed_survives_a_kill_at_any_time() {
    let Some(logger) = Logger::start("killed") else { return };
    for round in 0..20 {
        // Small memory: it waits for room again and again. It never ends by itself.
        let mut writer = logger.writer(&["--flood", "1000000000", "--words", "1024"]);
        logger.wait(writer.id(), |records| records.len() > 100 * round);
        writer.kill().expect("it is ours");
        writer.wait().expect("it ends");
        // Another one is served meanwhile, so all of the dead one's is read when this is there.
        let mut next = logger.writer(&[]);
        next.stdin.take().expect("a pipe").write_all(b"after it\n").expect("it reads");
        assert!(next.wait().expect("it ends").success());
        logger.wait(next.id(), |records| records == ["after it"]);
        let mut records = logger.records(writer.id());
        records.pop_if(|last| last.starts_with("torn: "));
        assert!(are_in_order(&records), "{:?}", records.last());
    }
    let (page, stderr) = logger.interrupt();
    assert_eq!(stderr, "", "{page}");
}

#[test]
fn records_of_many_writers_all_arrive_in_their_order() {
    let Some(logger) = Logger::start("many") else { return };
    let flood = |words| logger.writer(&["--flood", "20000", "--words", words]);
    let mut writers: Vec<Child> = ["64", "1024", "16384"].map(flood).into();
    let mut lines = logger.writer(&[]);
    let text: String = (0..300).map(|number| format!("{}\n", "é".repeat(number))).collect();
    lines.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("it reads");
    assert!(lines.wait().expect("it ends").success());
    for writer in &mut writers {
        assert!(writer.wait().expect("it ends").success());
    }
    for writer in &writers {
        let records = logger.wait(writer.id(), |records| records.len() >= 20_000);
        assert!(records.len() == 20_000 && are_in_order(&records));
    }
    let records = logger.wait(lines.id(), |records| records.len() >= 300);
    assert!(records.iter().map(String::as_str).eq(text.lines()));
    let (page, stderr) = logger.interrupt();
    assert!(page.starts_with("60300 records in ") && page.contains(", 0 torn; "), "{page}");
    // The memory is collected, not the record: a call and a write is for many of them.
    let calls = page.split("called ").nth(1).and_then(|rest| rest.split(' ').next());
    let calls: u64 = calls.and_then(|word| word.parse().ok()).expect("a number");
    assert!(calls < 60_300 / 3, "{page}");
    assert!(page.contains(" CPU ns per operation") && page.lines().all(|line| line.len() <= 80));
    assert_eq!(stderr, "");
}

/// A file of `words` in memory, as a writer shares it, but with any contents.
fn memory(words: &[u32], is_sealed: bool) -> OwnedFd {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = fs::File::from(memfd_create("nonsense", flags).expect("a file"));
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    file.write_all(&bytes).expect("room");
    if is_sealed {
        fcntl_add_seals(&file, SealFlags::SHRINK).expect("it is allowed");
    }
    file.into()
}

#[test]
fn memory_full_of_nonsense_is_told_once_and_closes_its_connection() {
    let Some(logger) = Logger::start("memory") else { return };
    // MAGIC, HEAD, TAIL, and a record that begins at word 16 of 80.
    let with = |magic: u32, tail: u32, first: u32| {
        let mut words = [0; 80];
        (words[0], words[2], words[16]) = (magic, tail, first);
        words
    };
    let logd = 0x6C6F_6764;
    let cases = [
        (memory(&with(logd, 65, 0), true), "more is committed than there is room for"),
        (memory(&with(logd, 3, 9), true), "a record is longer than what is committed"),
        (memory(&with(logd, 3, u32::MAX), true), "a record is longer than what is committed"),
        (memory(&with(1, 3, 8), true), "this memory has no records"),
        (memory(&with(logd, 3, 8)[..79], true), "the data is no power of two of words"),
        (memory(&with(logd, 3, 8), false), "memory that may shrink is not mapped"),
        (memory(&[], true), "a file without bytes is no memory to share"),
    ];
    let mut ring = Setup::new(4).build().expect("the logger has one");
    let mut expected = Vec::new();
    for (memory, what) in cases {
        let stream = UnixStream::connect(logger.socket()).expect("it listens");
        stream.set_read_timeout(Some(LIMIT)).expect("a limit");
        let mut header = MsgHeader::new();
        header.attach(memory).expect("one fits");
        let send = ring.submit(SendMsg::new(stream, [7_u32.to_ne_bytes()]).with(header));
        let sent = ring.wait(send.expect("room")).expect("it is sent");
        assert_eq!(sent.result.expect("it is sent"), 4);
        let mut stream = sent.fd;
        assert_eq!(stream.read(&mut [0]).expect("it closes"), 0, "{what}");
        expected.push(what);
    }
    let mut writer = logger.writer(&["--flood", "10"]);
    assert!(writer.wait().expect("it ends").success());
    logger.wait(writer.id(), |records| records.len() == 10);
    let (_, stderr) = logger.interrupt();
    let lines: Vec<&str> = stderr.lines().collect();
    assert_eq!(lines.len(), expected.len(), "{stderr}");
    for (line, what) in lines.iter().zip(expected) {
        assert!(line.contains(what), "{line}: {what}");
    }
}

#[test]
fn what_is_no_writer_is_told_and_harms_nobody() {
    let Some(logger) = Logger::start("nonsense") else { return };
    let mut stranger = UnixStream::connect(logger.socket()).expect("it listens");
    stranger.write_all(b"1234").expect("room");
    let silent = UnixStream::connect(logger.socket()).expect("it listens");
    let mut writer = logger.writer(&["--flood", "10"]);
    assert!(writer.wait().expect("it ends").success());
    logger.wait(writer.id(), |records| records.len() == 10);
    drop(silent);
    let stderr = fails(&run("logd", &["no-such-socket", "--write"]), 1);
    assert!(stderr.starts_with("logd: cannot reach no-such-socket: "), "{stderr}");
    let stderr = fails(&run("logd", &["--tear"]), 2);
    assert!(stderr.contains("Usage: logd "), "{stderr}");
    let socket = logger.socket().to_string_lossy().into_owned();
    let stderr = fails(&run("logd", &[&socket, "--write", "--words", "1000"]), 1);
    assert!(stderr.contains("the data is no power of two of words"), "{stderr}");
    let (_, stderr) = logger.interrupt();
    assert!(stderr.contains("logd: a writer without memory\n"), "{stderr}");
}
