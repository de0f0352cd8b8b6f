//! What a client is told: the head of an answer, and which bytes of a file follow it.
//!
//! ```text
//!   Found::File(size) ─┬─ the whole file ─► 200, Content-Length
//!                      ├─ a range of it ──► 206, Content-Range
//!                      └─ past its end ───► 416
//!   Found::Directory ──┬─ with a `/` ─────► its index.html is looked for
//!                      └─ without one ────► 301, with a `/`
//!   Found::Else ───────────────────────────► 403: a FIFO, a socket, a device
//! ```

use std::ffi::CString;
use std::fmt::Write as _;
use std::io;

use rustix::io::Errno;

use super::request::{Request, Status};

/// What the root has under a path.
#[derive(Debug, Clone, Copy)]
pub enum Found {
    File(u64),
    Directory,
    Else,
}

/// What to do next.
#[derive(Debug)]
pub enum Next {
    Answer(Answer),
    /// To open this in its place.
    Open(CString),
}

/// An answer: its head, or all of it, and what follows of the file.
#[derive(Debug)]
pub struct Answer {
    pub head: Vec<u8>,
    /// Where in the file it begins.
    pub at: u64,
    /// How many bytes of the file follow.
    pub left: u64,
    /// Whether the connection goes on.
    pub keep: bool,
}

impl Answer {
    /// A status and nothing else. Without a request, what follows cannot be read.
    pub fn short(status: Status, request: Option<&Request>) -> Self {
        Self::with(status, request, "")
    }

    fn with(status: Status, request: Option<&Request>, header: &str) -> Self {
        let body = format!("{} {}\n", status.0, status.reason());
        let allow = if status.0 == 405 { "Allow: GET, HEAD\r\n" } else { "" };
        let more = format!("Content-Type: text/plain\r\n{allow}{header}");
        let mut head = head(status, request, body.len() as u64, &more);
        if !request.is_some_and(|request| request.is_head) {
            head.push_str(&body);
        }
        let keep = request.is_some_and(|request| request.keep);
        Self { head: head.into_bytes(), at: 0, left: 0, keep }
    }

    /// The answer of a failed open.
    pub fn failed(error: &io::Error, request: &Request) -> Self {
        let status = match Errno::from_io_error(error) {
            Some(Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG) => 404,
            // `XDEV`: the path leads out of the root. `NXIO`: a socket.
            Some(Errno::XDEV | Errno::ACCESS | Errno::PERM | Errno::LOOP | Errno::NXIO) => 403,
            Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::AGAIN) => 503,
            _ => 500,
        };
        Self::short(Status(status), Some(request))
    }
}

/// Decides about what was opened.
pub fn decide(request: &Request, path: &CString, found: Found) -> Next {
    match found {
        Found::File(size) => Next::Answer(file(request, path, size)),
        Found::Directory => {
            let asked = request.path.as_bytes();
            if path != &request.path {
                // `index.html` is a directory.
                Next::Answer(Answer::short(Status(403), Some(request)))
            } else if asked == b"." || asked.ends_with(b"/") {
                let index = [asked, b"/index.html"].concat();
                Next::Open(CString::new(index).unwrap_or_default())
            } else {
                let header = format!("Location: {}\r\n", location(asked));
                Next::Answer(Answer::with(Status(301), Some(request), &header))
            }
        }
        Found::Else => Next::Answer(Answer::short(Status(403), Some(request))),
    }
}

fn file(request: &Request, path: &CString, size: u64) -> Answer {
    let (at, left) = match request.range.map(|range| range.of(size)) {
        None => (0, size),
        Some(Some(part)) => part,
        Some(None) => {
            let header = format!("Content-Range: bytes */{size}\r\n");
            return Answer::with(Status(416), Some(request), &header);
        }
    };
    let kind = kind(path.as_bytes());
    let mut more = format!("Content-Type: {kind}\r\nAccept-Ranges: bytes\r\n");
    let status = if request.range.is_some() { Status(206) } else { Status(200) };
    if request.range.is_some() {
        let _ = write!(more, "Content-Range: bytes {at}-{}/{size}\r\n", at + left - 1);
    }
    let head = head(status, Some(request), left, &more).into_bytes();
    let left = if request.is_head { 0 } else { left };
    Answer { head, at, left, keep: request.keep }
}

fn head(status: Status, request: Option<&Request>, length: u64, more: &str) -> String {
    let connection = match request {
        Some(Request { keep: true, is_old: false, .. }) => "",
        Some(Request { keep: true, .. }) => "Connection: keep-alive\r\n",
        _ => "Connection: close\r\n",
    };
    let (number, reason) = (status.0, status.reason());
    format!("HTTP/1.1 {number} {reason}\r\nContent-Length: {length}\r\n{more}{connection}\r\n")
}

/// The path of a directory with a `/` behind it. It has one `/` in front, so that it names no
/// other host.
fn location(path: &[u8]) -> String {
    let mut text = String::from("/");
    for &byte in path {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' | b'~' => {
                text.push(char::from(byte));
            }
            byte => {
                let _ = write!(text, "%{byte:02X}");
            }
        }
    }
    text.push('/');
    text
}

/// The type of a file, by its name.
fn kind(path: &[u8]) -> &'static str {
    let end = path.iter().rposition(|&byte| byte == b'.' || byte == b'/').unwrap_or_default();
    match &path[end..] {
        b".html" | b".htm" => "text/html",
        b".css" => "text/css",
        b".js" => "text/javascript",
        b".json" => "application/json",
        b".txt" | b".md" => "text/plain",
        b".svg" => "image/svg+xml",
        b".png" => "image/png",
        b".jpg" | b".jpeg" => "image/jpeg",
        _ => "application/octet-stream",
    }
}
