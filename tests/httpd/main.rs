//! `httpd`, by clients of the standard library and by curl: on a ring, and with a pool of threads;
//! and `get`.
//!
//! ```text
//!   clients here ◄── HTTP over TCP ──► httpd, of a folder with files ◄── SIGINT
//! ```
//!
//! Every test runs against both, since both are to say the same. What only one of them does says so
//! in its name.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

mod answers;
mod get;
mod lives;
#[path = "../support/programs.rs"]
mod programs;
#[path = "../support/served.rs"]
mod served;

use programs::program;
use served::Served;

/// Far longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(60);
const ENGINES: [&[&str]; 2] = [&[], &["--threads", "8"]];

/// A server, and the folder whose files it has.
struct Server {
    served: Served,
    folder: Folder,
}

/// A folder of a test: what is in `root` is served, and the rest is not.
struct Folder(PathBuf);

/// An answer, with the names of its headers in small letters.
#[derive(Debug, PartialEq)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// The output of a server before it ended.
struct Report(String);

impl Folder {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("annulus-httpd-{}-{name}", std::process::id()));
        fs::create_dir_all(path.join("root/sub")).expect("a folder for the test");
        Self(path)
    }

    /// The path of a file that is served.
    fn root(&self, name: &str) -> PathBuf {
        self.0.join("root").join(name)
    }

    fn file(&self, name: &str, bytes: &[u8]) {
        fs::write(self.root(name), bytes).expect("a file for the test");
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Server {
    /// Runs `test` with a server of each kind; with the reason on stderr, not with a ring where the
    /// kernel is too old for it.
    fn each(name: &str, arguments: &[&str], test: impl Fn(Self)) {
        for engine in ENGINES {
            if let Some(server) = Self::start(name, &[engine, arguments].concat()) {
                test(server);
            }
        }
    }

    fn start(name: &str, arguments: &[&str]) -> Option<Self> {
        Self::start_by(&mut Command::new(program("httpd")), name, arguments)
    }

    /// Starts it by a command to which its arguments are added.
    fn start_by(command: &mut Command, name: &str, arguments: &[&str]) -> Option<Self> {
        let folder = Folder::new(name);
        command.arg(folder.root("")).args(["--listen", "127.0.0.1:0", "--stats"]).args(arguments);
        let served = Served::start(command, &["need Linux 5.19", "there is no ring"])?;
        Some(Self { served, folder })
    }

    fn connect(&self) -> BufReader<TcpStream> {
        BufReader::new(self.served.connect(LIMIT))
    }

    /// Asks by a connection of its own, which ends with the answer.
    #[track_caller]
    fn ask(&self, request: &str) -> Answer {
        let mut client = self.connect();
        client.get_mut().write_all(request.as_bytes()).expect("room");
        let answer = read(&mut client, request.starts_with("HEAD"));
        client.get_ref().shutdown(Shutdown::Write).expect("it is there");
        assert_eq!(client.read_to_end(&mut Vec::new()).expect("it ends"), 0);
        answer
    }

    /// How many descriptors it has.
    fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.served.child.id())).expect("it runs").count()
    }

    #[track_caller]
    fn await_descriptors(&self, wanted: usize) {
        wait_until(|| self.descriptors() == wanted);
    }

    /// Stops it, and returns its output.
    fn stop(mut self) -> Report {
        self.served.interrupt();
        self.end()
    }

    /// Its output, when it ends. On stderr there is nothing.
    #[track_caller]
    fn end(&mut self) -> Report {
        let (report, stderr) = self.end_with_stderr();
        assert_eq!(stderr, "", "{}", report.0);
        report
    }

    #[track_caller]
    fn end_with_stderr(&mut self) -> (Report, String) {
        let child = &mut self.served.child;
        wait_until(|| child.try_wait().expect("it is our child").is_some());
        let status = child.wait().expect("it has ended");
        let (mut page, mut stderr) = (String::new(), String::new());
        self.served.stdout.read_to_string(&mut page).expect("it speaks");
        let pipe = self.served.child.stderr.take().expect("it is a pipe");
        BufReader::new(pipe).read_to_string(&mut stderr).expect("it speaks");
        assert_eq!(status.code(), Some(0), "{page}{stderr}");
        (Report(page), stderr)
    }
}

impl Report {
    /// The number before `words`.
    #[track_caller]
    fn number(&self, words: &str) -> u64 {
        programs::number(&self.0, words)
    }
}

impl Answer {
    #[track_caller]
    fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(it, _)| it == name);
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} twice: {self:?}");
        value
    }
}

#[track_caller]
fn wait_until(mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < LIMIT, "it does not come about");
        thread::sleep(Duration::from_millis(5));
    }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: here\r\n\r\n")
}

/// The head of an answer.
#[track_caller]
fn read_head(client: &mut impl BufRead) -> Answer {
    let mut lines = client.lines().map(|line| line.expect("a line"));
    let status = lines.next().expect("a status");
    let number = status.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
    let status = number.and_then(|number| number.parse().ok());
    let status = status.unwrap_or_else(|| panic!("no status: {number:?}"));
    let mut headers = Vec::new();
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ").expect("a header");
        headers.push((name.to_lowercase(), value.to_owned()));
    }
    Answer { status, headers, body: Vec::new() }
}

/// An answer, of as many bytes as it says.
#[track_caller]
fn read(client: &mut impl BufRead, is_head: bool) -> Answer {
    let mut answer = read_head(client);
    let length = answer.header("content-length").and_then(|length| length.parse().ok());
    let length: usize = length.expect("a length");
    answer.body = vec![0; if is_head { 0 } else { length }];
    client.read_exact(&mut answer.body).expect("so many");
    answer
}

/// Bytes that are nowhere the same for long.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..len).map(|_| next()).collect()
}

/// Whether curl is there; the reason why not is on stderr.
fn has_curl() -> bool {
    let is_there = Command::new("curl").arg("--version").output().is_ok();
    if !is_there {
        eprintln!("skipped: curl is not installed");
    }
    is_there
}
