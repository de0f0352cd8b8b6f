//! `12_inside_smol`: it serves the files of its folder, whole, to many at once, and no others.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::fs::symlink;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

use super::{Folder, program};

/// Far longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(60);

/// A server, which is killed when a test fails.
struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Server {
    fn start(folder: &Folder) -> Self {
        let mut command = Command::new(program("12_inside_smol"));
        command.arg(&folder.0).args(["--address", "127.0.0.1:0", "--stats"]);
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("it starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("it is a pipe"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("it speaks");
        let address = line.trim_end().strip_prefix("serving http://");
        let address = address.and_then(|rest| rest.strip_suffix('/')).expect("it says where");
        Self { child, stdout, address: address.parse().expect("an address") }
    }

    /// Sends `request`, and returns the first line of the answer, and what follows its head.
    fn ask(&self, request: &str) -> (String, Vec<u8>) {
        let mut stream = TcpStream::connect(self.address).expect("it listens");
        stream.set_read_timeout(Some(LIMIT)).expect("a limit");
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("it answers, and closes");
        let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head");
        let head = String::from_utf8(answer[..end].to_vec()).expect("text");
        let first = head.lines().next().expect("a line").to_owned();
        let body = answer.split_off(end + 4);
        if let Some(len) = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")) {
            assert_eq!(len, body.len().to_string(), "{head}");
        }
        (first, body)
    }

    fn get(&self, path: &str) -> (String, Vec<u8>) {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: here\r\n\r\n"))
    }

    /// Sends SIGINT, and returns what it prints before it ends.
    fn interrupt(mut self) -> String {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().expect("kill starts").success());
        assert!(self.child.wait().expect("it ends").success());
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

const OK: &str = "HTTP/1.1 200 OK";
const NOT_FOUND: &str = "HTTP/1.1 404 Not Found";

#[test]
fn a_server_inside_smol_serves_its_folder_to_many_at_once_and_ends_when_told() {
    let folder = Folder::new("smol");
    let bytes = |number: usize| -> Vec<u8> {
        (0..200_000 + number).map(|at| at.to_le_bytes()[at % 3] ^ number.to_le_bytes()[0]).collect()
    };
    for number in 0..20 {
        folder.file(&format!("{number}.bin"), &bytes(number));
    }
    folder.file("index.html", b"<p>hello</p>");
    let server = Server::start(&folder);
    // One that says nothing holds nobody up, nor one that goes in the middle.
    let silent = TcpStream::connect(server.address).expect("it listens");
    let mut vanishing = TcpStream::connect(server.address).expect("it listens");
    vanishing.write_all(b"GET /0.bin HTTP/1.1\r\n\r\n").expect("it reads");
    vanishing.shutdown(Shutdown::Both).expect("it is open");
    thread::scope(|scope| {
        for number in 0..20 {
            let server = &server;
            scope.spawn(move || {
                let (first, body) = server.get(&format!("/{number}.bin"));
                assert_eq!(first, OK);
                assert!(body == bytes(number), "file {number}");
            });
        }
    });
    assert_eq!(server.get("/"), (OK.into(), b"<p>hello</p>".to_vec()));
    let page = server.interrupt();
    let served = page.lines().next().and_then(|line| line.strip_prefix("served "));
    let files = served.and_then(|rest| rest.split(' ').next()?.parse::<u32>().ok());
    assert!(files.is_some_and(|files| (21..=22).contains(&files)), "{page}");
    assert!(page.contains("stats: ") && page.contains(" CPU ns per operation"), "{page}");
    drop(silent);
}

#[test]
fn a_server_inside_smol_gives_nothing_that_is_not_in_its_folder() {
    let (folder, other) = (Folder::new("smol-inside"), Folder::new("smol-outside"));
    let secret = other.file("secret", b"not for you");
    fs::create_dir(folder.0.join("sub dir")).expect("a folder");
    folder.file("sub dir/index.html", b"of the folder");
    folder.file("empty", b"");
    symlink(&secret, folder.0.join("link")).expect("a link");
    let server = Server::start(&folder);
    let name = other.0.file_name().expect("a name").to_str().expect("text");
    for path in [
        format!("/../{name}/secret"),
        format!("/%2e%2e/{name}/secret"),
        secret.clone(),
        "/link".into(),
        "/none".into(),
        "/".into(),
        "/empty%00".into(),
    ] {
        assert_eq!(server.get(&path), (NOT_FOUND.into(), vec![]), "{path}");
    }
    assert_eq!(server.get("/sub%20dir"), (OK.into(), b"of the folder".to_vec()));
    assert_eq!(server.get("/sub%20dir/?query"), (OK.into(), b"of the folder".to_vec()));
    assert_eq!(server.get("/empty"), (OK.into(), vec![]));
    for request in ["POST / HTTP/1.1\r\n\r\n", "GET /%zz HTTP/1.1\r\n\r\n", "\r\n\r\n"] {
        assert_eq!(server.ask(request).0, "HTTP/1.1 400 Bad Request", "{request:.40}");
    }
    // Who asks without end is hung up on; what was not read then may make that a reset.
    let mut endless = TcpStream::connect(server.address).expect("it listens");
    endless.set_read_timeout(Some(LIMIT)).expect("a limit");
    let head = format!("GET /empty HTTP/1.1\r\n{}", "X: y\r\n".repeat(2000));
    endless.write_all(head.as_bytes()).expect("there is room");
    let end = endless.read_to_end(&mut Vec::new()).map_err(|error| error.kind());
    assert!(matches!(end, Ok(_) | Err(ErrorKind::ConnectionReset)), "{end:?}");
    assert!(server.interrupt().starts_with("served 3 files, 26 bytes\n"));
}
