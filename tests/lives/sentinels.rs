//! Descriptors that the test holds and no operation may close: each is checked again and again.

use std::io::{PipeReader, PipeWriter};
use std::os::fd::{AsFd, OwnedFd};

use crate::files::identity;

/// Ends of pipes, each of a different file.
#[derive(Debug)]
pub struct Sentinels {
    pipes: Vec<(PipeReader, PipeWriter, (u64, u64))>,
    at: usize,
}

impl Sentinels {
    pub fn new() -> Self {
        let pipe = || {
            let (reader, writer) = std::io::pipe().expect("a pipe");
            let identity = identity(&reader);
            (reader, writer, identity)
        };
        Self { pipes: std::iter::repeat_with(pipe).take(3).collect(), at: 0 }
    }

    /// Another descriptor of one of these files.
    pub fn copy(&self) -> OwnedFd {
        self.pipes[0].0.as_fd().try_clone_to_owned().expect("a descriptor")
    }

    /// Fails unless it is a descriptor of the file of [`copy`](Self::copy).
    pub fn check_other(&self, fd: OwnedFd) {
        assert!(identity(fd) == self.pipes[0].2, "OP3: a descriptor of another file came");
    }

    /// Fails if one of them is not its old file. Each call checks the next one.
    pub fn check_one(&mut self) {
        self.at = (self.at + 1) % (16 * self.pipes.len());
        if let Some((reader, writer, was)) = self.pipes.get(self.at) {
            let still = identity(reader) == *was && identity(writer) == *was;
            assert!(still, "OP3: a descriptor of the test's is of another file now");
        }
    }
}
