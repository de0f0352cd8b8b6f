//! What a client asks for: the head of a request, read and checked, without a socket.
//!
//! ```text
//!   bytes ─► httparse ─► method, target, headers ─► Request { path, range, .. }
//!     ├─ too few: more are to come                      │
//!     └─ wrong: a Status, and the connection ends       └─ below the root, whatever it says
//! ```
//!
//! The path stays a path: `..` is not taken out here, since only the kernel knows where links lead.

use std::ffi::CString;

use httparse::{EMPTY_HEADER, Error, Header};

/// The longest head, in bytes.
pub const LONGEST: usize = 8 << 10;

/// The status of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status(pub u16);

impl Status {
    /// What the number means.
    pub fn reason(self) -> &'static str {
        match self.0 {
            200 => "OK",
            206 => "Partial Content",
            301 => "Moved Permanently",
            400 => "Bad Request",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            413 => "Content Too Large",
            416 => "Range Not Satisfiable",
            431 => "Request Header Fields Too Large",
            503 => "Service Unavailable",
            505 => "HTTP Version Not Supported",
            _ => "Internal Server Error",
        }
    }
}

/// A request for a file.
#[derive(Debug)]
pub struct Request {
    /// Relative to the root, and not empty.
    pub path: CString,
    /// Whether only the head of the answer is wanted.
    pub is_head: bool,
    /// Whether the client will ask for more.
    pub keep: bool,
    /// Whether it is of HTTP/1.0, which ends connections unless told otherwise.
    pub is_old: bool,
    pub range: Option<Range>,
}

/// Which bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// From the first to the second, which is one of them.
    From(u64, u64),
    /// So many at the end.
    Last(u64),
}

impl Range {
    /// Where the range begins in a file, and how many bytes it has there.
    pub fn of(self, size: u64) -> Option<(u64, u64)> {
        let (first, last) = match self {
            Self::From(first, last) => (first, last.min(size.checked_sub(1)?)),
            Self::Last(count) => (size.saturating_sub(count), size.checked_sub(1)?),
        };
        (first <= last).then(|| (first, last - first + 1))
    }
}

/// What the first bytes are.
#[derive(Debug)]
pub enum Parsed {
    /// No whole head yet.
    Partial,
    /// A request, and the bytes of its head.
    Whole(Request, usize),
    /// Nothing that can be answered, so nothing behind it can be read.
    Wrong(Status),
}

// ANCHOR: parse
/// Reads the head at the front of `bytes`.
pub fn parse(bytes: &[u8]) -> Parsed {
    let mut headers = [EMPTY_HEADER; 64];
    let mut head = httparse::Request::new(&mut headers);
    let len = match head.parse(bytes) {
        Ok(httparse::Status::Complete(len)) if len <= LONGEST => len,
        Ok(httparse::Status::Partial) if bytes.len() < LONGEST => return Parsed::Partial,
        Ok(_) | Err(Error::TooManyHeaders) => return Parsed::Wrong(Status(431)),
        Err(Error::Version) => return Parsed::Wrong(Status(505)),
        Err(_) => return Parsed::Wrong(Status(400)),
    };
    match understand(&head) {
        Ok(request) => Parsed::Whole(request, len),
        Err(status) => Parsed::Wrong(status),
    }
}
// ANCHOR_END: parse

fn understand(head: &httparse::Request<'_, '_>) -> Result<Request, Status> {
    let is_head = match head.method {
        Some("GET") => false,
        Some("HEAD") => true,
        _ => return Err(Status(405)),
    };
    let is_old = head.version == Some(0);
    let values = |name: &'static str| {
        let named = |header: &&Header<'_>| header.name.eq_ignore_ascii_case(name);
        head.headers.iter().filter(named).map(|header| header.value)
    };
    if !is_old && values("host").count() != 1 {
        return Err(Status(400));
    }
    // What a body says must not be read as the next request.
    let is_empty = values("content-length").all(|length| length == b"0");
    if !is_empty || values("transfer-encoding").next().is_some() {
        return Err(Status(413));
    }
    let wants = |word: &str| {
        let words = values("connection").flat_map(|value| value.split(|&byte| byte == b','));
        words.into_iter().any(|it| it.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
    };
    let keep = !wants("close") && (!is_old || wants("keep-alive"));
    // A condition that cannot be checked does not hold: the whole file is right in any case.
    let range = match values("if-range").next() {
        Some(_) => None,
        None => values("range").next().and_then(range),
    };
    let path = path(head.path.unwrap_or_default()).ok_or(Status(400))?;
    Ok(Request { path, is_head, keep, is_old, range })
}

/// A single range. One that is wrong, or of several parts, is as if it were not there.
fn range(value: &[u8]) -> Option<Range> {
    let value = str::from_utf8(value).ok()?.trim();
    let (first, last) = value.strip_prefix("bytes=")?.split_once('-')?;
    // `parse` would take a sign.
    let number = |text: &str| {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<u64>().ok()).flatten()
    };
    match (first, last) {
        ("", last) => Some(Range::Last(number(last)?)),
        (first, "") => Some(Range::From(number(first)?, u64::MAX)),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(Range::From(first, last))
        }
    }
}

/// The path of a target: `/a%20b?query`, or with `http://host` before it. It has no `/` in front,
/// so that it is looked up from the root of the server.
fn path(target: &str) -> Option<CString> {
    let path = match target.strip_prefix("http://") {
        Some(rest) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => target,
    };
    let path = path.split(['?', '#']).next()?.strip_prefix('/')?;
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            byte => byte,
        });
    }
    let start = bytes.iter().position(|&byte| byte != b'/').unwrap_or(bytes.len());
    match &bytes[start..] {
        [] => Some(c".".into()),
        path => CString::new(path).ok(),
    }
}
