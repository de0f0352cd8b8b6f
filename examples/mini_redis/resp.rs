//! RESP2 without a socket: bytes go in, in pieces of any size, and commands come out.
//!
//! ```text
//!   Between ── "*3\r\n" ──► Count ── "$5\r\n" ──► Bulk ── 5 bytes, "\r\n" ──► Count … ─► a command
//!      └───── a line that begins otherwise: words, as somebody types them ───────────► a command
//! ```
//!
//! Errors have the texts of Redis. After one, nothing that follows can be understood.
//!
//! | limit | so that |
//! |---|---|
//! | a string: `longest` bytes | nobody announces a string of a gigabyte |
//! | a command: twice that, each argument with [`ARGUMENT`] bytes more | nobody sends a million empty ones |
//! | a line: [`LINE`] bytes | nobody sends one without an end |
//!
//! No memory is set aside for what is only announced.

use std::mem;

/// The longest line, with a count or with words.
pub const LINE: usize = 64 << 10;
/// What an argument costs beside its bytes.
pub const ARGUMENT: usize = size_of::<Vec<u8>>();
/// A buffer that is larger is given up once it is empty.
const KEPT: usize = 64 << 10;

/// A command: its name, and its arguments.
pub type Command = Vec<Vec<u8>>;

/// Reads commands out of bytes.
#[derive(Debug)]
pub struct Parser {
    bytes: Vec<u8>,
    /// How many of them are read.
    at: usize,
    state: State,
    /// The command so far.
    command: Command,
    /// What it costs so far.
    size: usize,
    longest: usize,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A command.
    Between,
    /// The length of an argument; so many are missing.
    Count(usize),
    /// An argument of `len` bytes; with it, so many are missing.
    Bulk { missing: usize, len: usize },
    /// Nothing that can be understood.
    Lost,
}

/// Why a client cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken(pub String);

impl Parser {
    /// For strings of `longest` bytes at most.
    pub fn new(longest: usize) -> Self {
        let (bytes, command) = (Vec::new(), Vec::new());
        Self { bytes, at: 0, state: State::Between, command, size: 0, longest }
    }

    /// Adds what has come.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.at);
        self.at = 0;
        if self.bytes.is_empty() && self.bytes.capacity() > KEPT {
            self.bytes = Vec::new();
        }
        self.bytes.extend_from_slice(bytes);
    }

    // ANCHOR: next
    /// The next command, or `None` when more bytes are needed.
    pub fn next(&mut self) -> Result<Option<Command>, Broken> {
        loop {
            let went_on = match self.state {
                State::Between => self.begin(),
                State::Count(missing) => self.count(missing),
                State::Bulk { missing, len } => Ok(self.bulk(missing, len)),
                State::Lost => Ok(false),
            };
            match went_on {
                Ok(true) if self.state == State::Between && !self.command.is_empty() => {
                    self.size = 0;
                    return Ok(Some(mem::take(&mut self.command)));
                }
                Ok(true) => {}
                Ok(false) => return Ok(None),
                Err(why) => {
                    (self.bytes, self.at, self.command) = (Vec::new(), 0, Vec::new());
                    self.state = State::Lost;
                    return Err(Broken(format!("Protocol error: {why}")));
                }
            }
        }
    }
    // ANCHOR_END: next

    /// Reads the count of arguments, or a line of words.
    fn begin(&mut self) -> Result<bool, String> {
        match self.bytes.get(self.at) {
            None => Ok(false),
            Some(b'*') => {
                let Some(line) = self.line("too big mbulk count string")? else {
                    return Ok(false);
                };
                // As Redis has it, no count and a negative one are no command.
                let count = integer(&line[1..]).ok_or("invalid multibulk length")?;
                let count = usize::try_from(count).unwrap_or(0);
                if count.saturating_mul(ARGUMENT) > 2 * self.longest {
                    return Err("invalid multibulk length".into());
                }
                if count > 0 {
                    self.state = State::Count(count);
                }
                Ok(true)
            }
            Some(_) => self.words(),
        }
    }

    /// Reads the length of an argument.
    fn count(&mut self, missing: usize) -> Result<bool, String> {
        let Some(line) = self.line("too big bulk count string")? else { return Ok(false) };
        if line.first() != Some(&b'$') {
            let got = char::from(line.first().copied().unwrap_or(b'\r'));
            return Err(format!("expected '$', got '{got}'"));
        }
        let len = integer(&line[1..]).and_then(|len| usize::try_from(len).ok());
        let len = len.filter(|&len| len <= self.longest).ok_or("invalid bulk length")?;
        self.size += len + ARGUMENT;
        if self.size > 2 * self.longest {
            return Err("too big command".into());
        }
        self.state = State::Bulk { missing, len };
        Ok(true)
    }

    /// Reads an argument, and steps over the two bytes behind it, which Redis does not look at.
    fn bulk(&mut self, missing: usize, len: usize) -> bool {
        let Some(bytes) = self.bytes.get(self.at..self.at + len + 2) else { return false };
        self.command.push(bytes[..len].to_vec());
        self.at += len + 2;
        self.state = if missing == 1 { State::Between } else { State::Count(missing - 1) };
        true
    }

    /// Reads a line of words.
    fn words(&mut self) -> Result<bool, String> {
        let rest = &self.bytes[self.at..];
        let Some(end) = rest.iter().position(|&byte| byte == b'\n') else {
            let is_long = rest.len() > LINE;
            return if is_long { Err("too big inline request".into()) } else { Ok(false) };
        };
        let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
        self.command = split(line).ok_or("unbalanced quotes in request")?;
        self.at += end + 1;
        Ok(true)
    }

    /// Takes a line that ends with `\r\n`, without that.
    fn line(&mut self, too_long: &str) -> Result<Option<Vec<u8>>, String> {
        let rest = &self.bytes[self.at..];
        match rest.iter().position(|&byte| byte == b'\r') {
            Some(end) if end + 1 < rest.len() => {
                let line = rest[..end].to_vec();
                self.at += end + 2;
                Ok(Some(line))
            }
            None if rest.len() > LINE => Err(too_long.into()),
            _ => Ok(None),
        }
    }
}

/// A number as Redis writes it, and in no other way.
pub fn integer(text: &[u8]) -> Option<i64> {
    let number: i64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (number.to_string().as_bytes() == text).then_some(number)
}

/// The words of a line; `None` if a quote has no end, or something sticks to it.
fn split(line: &[u8]) -> Option<Command> {
    let is_space = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, 0 | 11);
    let (mut words, mut rest) = (Vec::new(), line);
    loop {
        let start = rest.iter().position(|byte| !is_space(byte));
        let Some(start) = start else { return Some(words) };
        rest = &rest[start..];
        let mut word = Vec::new();
        while let Some((&byte, after)) = rest.split_first() {
            rest = match byte {
                b'"' | b'\'' => {
                    let after = quoted(byte, after, &mut word)?;
                    if after.first().is_some_and(|byte| !is_space(byte)) {
                        return None;
                    }
                    after
                }
                _ if is_space(&byte) => break,
                _ => {
                    word.push(byte);
                    after
                }
            };
        }
        words.push(word);
    }
}

/// Reads up to the closing quote, and returns what is behind it.
fn quoted<'a>(quote: u8, mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    loop {
        rest = match rest {
            [b'\\', b'x', high, low, after @ ..]
                if quote == b'"' && digit(*high).is_some() && digit(*low).is_some() =>
            {
                let value = digit(*high)? * 16 + digit(*low)?;
                word.push(u8::try_from(value).ok()?);
                after
            }
            [b'\\', byte, after @ ..] if quote == b'"' => {
                word.push(match byte {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                });
                after
            }
            [b'\\', b'\'', after @ ..] if quote == b'\'' => {
                word.push(b'\'');
                after
            }
            [byte, after @ ..] if *byte == quote => return Some(after),
            [byte, after @ ..] => {
                word.push(*byte);
                after
            }
            [] => return None,
        };
    }
}
