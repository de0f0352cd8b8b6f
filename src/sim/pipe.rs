//! The bytes on their way to one reader: those of a pipe, or of one direction of a stream.
//!
//! | | room | a write that does not fit |
//! |---|---|---|
//! | pipe | 16 pages, which are filled as Linux fills them | at most `PIPE_BUF` bytes: nothing is written; more: as much as fits |
//! | stream | 208 KiB of bytes; Linux counts memory | as much as fits |

use std::collections::VecDeque;

const PAGE: usize = 4096;
const PAGES: usize = 16;
/// How many bytes a stream holds.
pub(super) const STREAM_ROOM: usize = 212_992;

/// Bytes that were written and not read.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    bytes: VecDeque<u8>,
    /// For each page of a pipe, where its bytes begin and end; `None` for a stream.
    pages: Option<VecDeque<(usize, usize)>>,
}

impl Inbox {
    /// An empty pipe.
    pub(super) fn pipe() -> Self {
        Self { bytes: VecDeque::new(), pages: Some(VecDeque::new()) }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether a write of one byte would wait.
    pub(super) fn is_full(&self) -> bool {
        self.pages.as_ref().map_or(self.len() >= STREAM_ROOM, |pages| pages.len() >= PAGES)
    }

    /// Takes up to `most` bytes.
    pub(super) fn take(&mut self, most: usize) -> Vec<u8> {
        let count = most.min(self.bytes.len());
        let taken: Vec<u8> = self.bytes.drain(..count).collect();
        let mut left = count;
        while let Some(page) = self.pages.as_mut().and_then(|pages| pages.front_mut())
            && left > 0
        {
            let part = left.min(page.1 - page.0);
            (page.0, left) = (page.0 + part, left - part);
            if page.0 == page.1 {
                self.pages.as_mut().and_then(VecDeque::pop_front);
            }
        }
        taken
    }

    /// Appends as many bytes as there is room for; returns how many.
    pub(super) fn put(&mut self, bytes: &[u8]) -> usize {
        let count = match &mut self.pages {
            None => bytes.len().min(STREAM_ROOM.saturating_sub(self.bytes.len())),
            Some(pages) => fill(pages, bytes.len()),
        };
        self.bytes.extend(&bytes[..count]);
        count
    }
}

/// Puts `count` bytes into the pages of a pipe, as `pipe_write` does. Returns how many fit.
fn fill(pages: &mut VecDeque<(usize, usize)>, count: usize) -> usize {
    let odd = count % PAGE;
    let merged = match pages.back_mut() {
        Some(last) if odd > 0 && last.1 + odd <= PAGE => {
            last.1 += odd;
            odd
        }
        _ => 0,
    };
    let mut put = merged;
    while put < count && pages.len() < PAGES {
        let part = (count - put).min(PAGE);
        pages.push_back((0, part));
        put += part;
    }
    put
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_is_full_when_its_pages_are() {
        let mut pipe = Inbox::pipe();
        assert_eq!(pipe.put(&[1; 3000]), 3000);
        assert_eq!(pipe.put(&[2; 3000]), 3000, "does not fit into the first page");
        assert_eq!(pipe.put(&[3; 1000]), 1000, "fits into the second one");
        assert_eq!(pipe.put(&[4; 70_000]), 14 * 4096);
        assert!(pipe.is_full());
        assert_eq!(pipe.take(2999).len(), 2999);
        assert!(pipe.is_full());
        assert_eq!(pipe.take(1), [1]);
        assert!(!pipe.is_full());
    }
}
