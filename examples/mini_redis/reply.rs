//! Replies, as RESP2 writes them, one behind the other; none is longer than the limit.

use std::fmt;
use std::io::Write as _;

/// What is said in the place of a reply that is too long.
pub const TOO_LONG: &str = "ERR the reply would be too long for this server";

/// Replies of one client.
#[derive(Debug, Default)]
pub struct Replies {
    bytes: Vec<u8>,
    /// Where the latest reply begins.
    start: usize,
    /// The longest reply.
    most: usize,
    is_too_long: bool,
}

impl Replies {
    /// None yet; none is to be longer than `most` bytes.
    pub fn new(most: usize) -> Self {
        Self { most, ..Self::default() }
    }

    /// How many bytes they are.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether this reply has room for so many bytes more.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.bytes.len() - self.start + bytes <= self.most
    }

    /// All of them.
    pub fn take(&mut self) -> Vec<u8> {
        self.start = 0;
        std::mem::take(&mut self.bytes)
    }

    /// What follows is the next reply.
    pub fn begin(&mut self) {
        (self.start, self.is_too_long) = (self.bytes.len(), false);
    }

    /// The reply is complete; if it is too long, an error takes its place.
    pub fn end(&mut self) {
        if self.is_too_long {
            self.error(TOO_LONG);
        }
    }

    /// An error in the place of whatever was written of this reply.
    pub fn error(&mut self, what: impl fmt::Display) {
        self.bytes.truncate(self.start);
        self.is_too_long = false;
        // One line, whatever the client has put into it.
        let what = what.to_string().replace(['\r', '\n'], " ");
        self.write(format_args!("-{what}\r\n"));
    }

    pub fn simple(&mut self, word: &str) {
        self.write(format_args!("+{word}\r\n"));
    }

    pub fn integer(&mut self, number: i64) {
        self.write(format_args!(":{number}\r\n"));
    }

    pub fn count(&mut self, count: usize) {
        self.write(format_args!(":{count}\r\n"));
    }

    /// As many values follow.
    pub fn array(&mut self, count: usize) {
        self.write(format_args!("*{count}\r\n"));
    }

    pub fn bulk(&mut self, bytes: &[u8]) {
        self.is_too_long |= !self.has_room(bytes.len());
        if !self.is_too_long {
            self.write(format_args!("${}\r\n", bytes.len()));
            self.bytes.extend_from_slice(bytes);
            self.bytes.extend_from_slice(b"\r\n");
        }
    }

    pub fn no_bulk(&mut self) {
        self.write(format_args!("$-1\r\n"));
    }

    pub fn no_array(&mut self) {
        self.write(format_args!("*-1\r\n"));
    }

    fn write(&mut self, text: fmt::Arguments<'_>) {
        self.is_too_long |= !self.has_room(0);
        if !self.is_too_long {
            self.bytes.write_fmt(text).expect("a Vec takes everything");
        }
    }
}
