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
    /// The pages of a pipe; `None` for a stream.
    pages: Option<VecDeque<Page>>,
}

/// A page of a pipe.
#[derive(Debug, Clone, Copy)]
struct Page {
    /// Where its bytes begin and end.
    from: usize,
    to: usize,
    /// Whether a write may append to it: not if it was spliced in part, or from a file.
    merges: bool,
}

/// Bytes of one page, on their way to another pipe.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub(super) bytes: Vec<u8>,
    page: Page,
}

impl Piece {
    /// Bytes that lie in a page of a file or of a socket.
    pub(super) fn new(bytes: &[u8]) -> Self {
        let page = Page { from: 0, to: bytes.len(), merges: false };
        Self { bytes: bytes.to_vec(), page }
    }
}

impl Inbox {
    /// An empty pipe.
    pub(super) fn pipe() -> Self {
        Self { bytes: VecDeque::new(), pages: Some(VecDeque::new()) }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// How many bytes a stream has room for.
    pub(super) fn room(&self) -> usize {
        STREAM_ROOM.saturating_sub(self.len())
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
            let part = left.min(page.to - page.from);
            (page.from, left) = (page.from + part, left - part);
            if page.from == page.to {
                self.pages.as_mut().and_then(VecDeque::pop_front);
            }
        }
        taken
    }

    /// How many pages of a pipe are free.
    pub(super) fn free_pages(&self) -> usize {
        self.pages.as_ref().map_or(0, |pages| PAGES - pages.len())
    }

    /// The bytes at the front of a pipe, by pages: up to `most` bytes, and up to `count` pages.
    pub(super) fn pieces(&self, most: usize, count: usize) -> Vec<Piece> {
        let (mut at, mut pieces) = (0, Vec::new());
        for page in self.pages.iter().flatten().take(count) {
            let part = (page.to - page.from).min(most - at);
            if part == 0 {
                break;
            }
            let is_whole = part == page.to - page.from;
            let bytes = self.bytes.range(at..at + part).copied().collect();
            let (from, to) = (page.from, page.from + part);
            let page = Page { from, to, merges: page.merges && is_whole };
            pieces.push(Piece { bytes, page });
            at += part;
        }
        pieces
    }

    /// Appends a piece of a page to a pipe, as a page of its own.
    pub(super) fn put_piece(&mut self, piece: &Piece, merges: bool) {
        let page = Page { merges: piece.page.merges && merges, ..piece.page };
        self.pages.as_mut().expect("a pipe").push_back(page);
        self.bytes.extend(&piece.bytes);
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
fn fill(pages: &mut VecDeque<Page>, count: usize) -> usize {
    let odd = count % PAGE;
    let merged = match pages.back_mut() {
        Some(last) if odd > 0 && last.merges && last.to + odd <= PAGE => {
            last.to += odd;
            odd
        }
        _ => 0,
    };
    let mut put = merged;
    while put < count && pages.len() < PAGES {
        let part = (count - put).min(PAGE);
        pages.push_back(Page { from: 0, to: part, merges: true });
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
