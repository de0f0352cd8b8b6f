//! Bytes from file to file: `SPLICE`, and `TEE`, which leaves them where they were.
//!
//! | from | to | moves |
//! |---|---|---|
//! | pipe | pipe | pages, whole or in part; nothing is appended to a part |
//! | file, stream | pipe | as many pages as are free |
//! | pipe | file, stream | what is in the pipe, but waits for nothing more |
//!
//! On Linux, a splice that waits for a stream locks its pipe: every other use of that pipe hangs
//! until it ends (v6.18). And a pipe gets the pages of a file, so it shows what is written to the
//! file later. Here it does neither.

use super::pipe::Piece;
use super::request::Splice;
use super::run::{Try, count};
use super::state::State;
use super::trace::{EndId, RequestId};
use super::world::{Io, Kind, World};

/// The size of a page.
const PAGE: usize = 4096;

impl State {
    /// Moves bytes from one end to another one.
    pub(super) fn try_splice(&mut self, id: RequestId, to: EndId, splice: Splice) -> Try {
        if self.requests[&id].source.is_none() {
            let ring = self.requests[&id].ring;
            let found = match splice.is_fixed {
                true => self.fixed_file(ring, splice.from),
                false => (self.end_at(splice.from), None),
            };
            let (Some(from), entry) = found else { return Try::Ends(-libc::EBADF) };
            self.world.ends[from].users += 1;
            let request = self.requests.get_mut(&id).expect("in flight");
            request.source = Some(from);
            request.held.extend(entry);
        }
        let from = self.requests[&id].source.expect("found now or before");
        if splice.len == 0 {
            return Try::Ends(0);
        }
        let len = self.part(splice.len);
        match self.world.splice(from, to, Splice { len, ..splice }) {
            Io::Done(moved) => Try::Ends(count(moved)),
            Io::Wait if !splice.waits => Try::Ends(-libc::EAGAIN),
            Io::Wait => {
                for end in [from, to] {
                    self.world.forget(end, id);
                    self.world.await_change(end, id);
                }
                Try::Sleeps
            }
            Io::Fails(errno) => Try::Ends(-errno),
        }
    }
}

impl World {
    /// Whether bytes can be read from an end, and whether they can be written to it.
    fn access(&self, at: EndId) -> (bool, bool) {
        let end = &self.ends[at];
        match (end.kind, end.opened) {
            (Kind::Reader | Kind::Folder, _) => (true, false),
            (Kind::Writer, _) => (false, true),
            (_, Some(opened)) => (opened.access.reads, opened.access.writes),
            _ => (true, true),
        }
    }

    fn splice(&mut self, from: EndId, to: EndId, splice: Splice) -> Io<usize> {
        if !self.access(from).0 || !self.access(to).1 {
            return Io::Fails(libc::EBADF);
        }
        let (source, target) = (self.ends[from].kind, self.ends[to].kind);
        let (leaves, enters) = (source == Kind::Reader, target == Kind::Writer);
        if splice.copies && !(leaves && enters) {
            return Io::Fails(libc::EINVAL);
        }
        if (leaves && splice.from_offset.is_some()) || (enters && splice.to_offset.is_some()) {
            return Io::Fails(libc::ESPIPE);
        }
        match (leaves, enters) {
            (true, true) if self.ends[from].peer == Some(to) => Io::Fails(libc::EINVAL),
            (true, true) => self.splice_pipes(from, to, splice),
            (true, false) => self.splice_out(from, to, splice),
            (false, true) => self.splice_in(from, to, splice),
            (false, false) => Io::Fails(libc::EINVAL),
        }
    }

    /// Whether a pipe has bytes: no if it waits for them, or zero at its end.
    fn has_bytes(&self, from: EndId) -> Option<Io<usize>> {
        let end = &self.ends[from];
        match end.inbox.len() {
            0 if end.no_more.reads => Some(Io::Done(0)),
            0 => Some(Io::Wait),
            _ => None,
        }
    }

    /// The reading end of a pipe that has a free page; or what a splice to it does.
    fn with_room(&self, to: EndId) -> Result<EndId, Io<usize>> {
        let reader = self.ends[to].peer.ok_or(Io::Fails(libc::EPIPE))?;
        if self.ends[reader].inbox.free_pages() == 0 { Err(Io::Wait) } else { Ok(reader) }
    }

    fn splice_pipes(&mut self, from: EndId, to: EndId, splice: Splice) -> Io<usize> {
        // At the end of one pipe, the other one is looked at, too.
        let has_ended = match self.has_bytes(from) {
            Some(Io::Wait) => return Io::Wait,
            other => other.is_some(),
        };
        let reader = match self.with_room(to) {
            Ok(reader) => reader,
            Err(other) => return other,
        };
        if has_ended {
            return Io::Done(0);
        }
        let room = self.ends[reader].inbox.free_pages();
        let pieces = self.ends[from].inbox.pieces(splice.len, room);
        let moved = pieces.iter().map(|piece| piece.bytes.len()).sum();
        for piece in &pieces {
            self.ends[reader].inbox.put_piece(piece, !splice.copies);
        }
        if !splice.copies {
            self.drain(from, moved);
        }
        self.wake(reader);
        Io::Done(moved)
    }

    /// Takes bytes off a pipe, which makes room.
    fn drain(&mut self, from: EndId, count: usize) {
        let was_full = self.ends[from].inbox.is_full();
        self.ends[from].inbox.take(count);
        if was_full && let Some(writer) = self.ends[from].peer {
            self.wake(writer);
        }
    }

    /// From a file or a stream to a pipe.
    fn splice_in(&mut self, from: EndId, to: EndId, splice: Splice) -> Io<usize> {
        match self.ends[from].kind {
            Kind::File => {}
            Kind::Pair | Kind::Connection | Kind::Fresh | Kind::Listener
                if splice.from_offset.is_some() =>
            {
                return Io::Fails(libc::EINVAL);
            }
            Kind::Pair | Kind::Connection | Kind::Fresh | Kind::Listener => {}
            _ => return Io::Fails(libc::EINVAL),
        }
        let offset = splice.from_offset;
        if offset.is_some_and(|offset| offset > i64::MAX.cast_unsigned()) {
            return Io::Fails(libc::EINVAL);
        }
        let reader = match self.with_room(to) {
            Ok(reader) => reader,
            Err(other) => return other,
        };
        if matches!(self.ends[from].kind, Kind::Fresh | Kind::Listener) {
            return Io::Fails(libc::ENOTCONN);
        }
        let room = self.ends[reader].inbox.free_pages();
        let is_file = self.ends[from].kind == Kind::File;
        let start = if is_file { offset.unwrap_or(self.ends[from].position) } else { 0 };
        let start = usize::try_from(start % PAGE as u64).expect("less than a page");
        // The first page is one in part, if it begins within a page of the file.
        let most = splice.len.min(room * PAGE - start);
        let bytes = match self.read(from, most, offset) {
            Io::Done(bytes) => bytes,
            Io::Wait => return Io::Wait,
            Io::Fails(errno) => return Io::Fails(errno),
        };
        let (first, rest) = bytes.split_at(bytes.len().min(PAGE - start));
        for part in std::iter::once(first).chain(rest.chunks(PAGE)) {
            if !part.is_empty() {
                self.ends[reader].inbox.put_piece(&Piece::new(part), false);
            }
        }
        if !bytes.is_empty() {
            self.wake(reader);
        }
        Io::Done(bytes.len())
    }

    /// From a pipe to a file or a stream.
    fn splice_out(&mut self, from: EndId, to: EndId, splice: Splice) -> Io<usize> {
        let offset = splice.to_offset;
        match self.ends[to].kind {
            Kind::File if self.opened(to).access.appends => return Io::Fails(libc::EINVAL),
            Kind::File => {}
            Kind::Pair | Kind::Connection | Kind::Fresh if offset.is_none() => {}
            _ => return Io::Fails(libc::EINVAL),
        }
        if offset.is_some_and(|offset| offset > i64::MAX.cast_unsigned()) {
            return Io::Fails(libc::EINVAL);
        }
        if let Some(other) = self.has_bytes(from) {
            return other;
        }
        let pieces = self.ends[from].inbox.pieces(splice.len, usize::MAX);
        let bytes: Vec<u8> = pieces.into_iter().flat_map(|piece| piece.bytes).collect();
        let moved = match self.write(to, &bytes, offset) {
            Io::Done(moved) => moved,
            Io::Wait => return Io::Wait,
            Io::Fails(errno) => return Io::Fails(errno),
        };
        self.drain(from, moved);
        Io::Done(moved)
    }
}
