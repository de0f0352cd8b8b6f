//! Bundles: one completion for several buffers of a group, one after the other.
//!
//! ```text
//!   received  ──► │ full │ full │ part │      the completion names the first; those that follow on
//!   sent      ◄── │ all of each buffer │      the ring belong to it, as many as its bytes fill
//! ```
//!
//! Where Linux splits what has come depends on what its requests have received before. Here, a
//! bundle takes all there is, or less with a fault (`short`); both may happen on Linux (v6.18).

use annulus_sys::flags::CqeFlags;

use super::datagrams::has_messages;
use super::request::How;
use super::run::{Try, count};
use super::state::State;
use super::trace::{EndId, RequestId};
use super::world::Io;

impl State {
    /// Receives into as many buffers as it takes.
    pub(super) fn receive_bundle(
        &mut self,
        id: RequestId,
        end: EndId,
        group: u16,
        how: How,
    ) -> Try {
        if has_messages(self.world.ends[end].kind) {
            return Try::Ends(-libc::EINVAL);
        }
        let (ring, limit) = (self.requests[&id].ring, self.requests[&id].whole);
        let is_unlucky = self.luck.hits(self.faults.no_buffer);
        let at = self.rings[ring].groups.iter().position(|it| it.id == group);
        // Other than for one buffer.
        let Some(at) = at else { return Try::Ends(-libc::ENOENT) };
        let rooms = self.rings[ring].groups[at].rooms();
        if rooms.is_empty() || is_unlucky {
            return Try::Ends(-libc::ENOBUFS);
        }
        let is_incremental = self.rings[ring].groups[at].is_incremental();
        let most = self.part(bounded(&rooms, limit, is_incremental));
        let bytes = match self.world.read(end, most, None) {
            Io::Done(bytes) if bytes.is_empty() => return Try::Ends(0),
            Io::Done(bytes) => bytes,
            Io::Wait if how.waits => return Try::Waits,
            Io::Wait => return Try::Ends(-libc::EAGAIN),
            Io::Fails(errno) => return Try::Ends(-errno),
        };
        let flags = self.take_bundle(ring, at, bytes.len(), &bytes);
        let is_empty = self.rings[ring].groups[at].room().is_none();
        match how.repeats && !is_empty {
            true => Try::More(count(bytes.len()), flags),
            false => Try::EndsWith(count(bytes.len()), flags),
        }
    }

    /// Sends all buffers for which there is room, each as a whole.
    pub(super) fn send_bundle(&mut self, id: RequestId, end: EndId, group: u16, how: How) -> Try {
        if has_messages(self.world.ends[end].kind) {
            return Try::Ends(-libc::EINVAL);
        }
        let ring = self.requests[&id].ring;
        let at = self.rings[ring].groups.iter().position(|it| it.id == group);
        let Some(at) = at else { return Try::Ends(-libc::ENOENT) };
        let offered = self.rings[ring].groups[at].rooms();
        if offered.is_empty() {
            return Try::Ends(-libc::ENOBUFS);
        }
        let room = self.world.room(end);
        let mut most = 0;
        for len in offered {
            if most + len > room {
                break;
            }
            most += len;
        }
        let bytes = match self.is_sound() {
            true => self.rings[ring].groups[at].outgoing_bundle(most),
            false => vec![0; most],
        };
        let sent = match self.world.write(end, &bytes, None) {
            Io::Done(0) | Io::Wait if how.waits => return Try::Waits,
            Io::Done(0) | Io::Wait => return Try::Ends(-libc::EAGAIN),
            Io::Done(sent) => sent,
            Io::Fails(errno) => return Try::Ends(-errno),
        };
        let flags = self.take_bundle(ring, at, sent, &[]);
        match self.rings[ring].groups[at].room() {
            Some(_) => Try::More(count(sent), flags),
            None => Try::EndsWith(count(sent), flags),
        }
    }

    /// Takes the buffers that `used` bytes fill off a ring, and writes `bytes` to them.
    fn take_bundle(&mut self, ring: usize, at: usize, used: usize, bytes: &[u8]) -> CqeFlags {
        let (mut done, mut first) = (0, None);
        loop {
            let room = self.rings[ring].groups[at].room().expect("it was counted");
            let part = room.min(used - done);
            let of_it = bytes.get(done..done + part).unwrap_or_default();
            let flags = self.take_buffers(ring, at, part, &[(0, of_it)]);
            let named: CqeFlags = *first.get_or_insert(flags);
            done += part;
            if done == used {
                // Whether the last one stays on offer.
                return (named - CqeFlags::BUF_MORE) | (flags & CqeFlags::BUF_MORE);
            }
        }
    }
}

/// How many bytes of buffers a bundle has room for, if it is to have at most `limit`; 0 is no
/// limit. Only the first buffer is cut, unless the ring gives away parts.
fn bounded(rooms: &[usize], limit: usize, is_incremental: bool) -> usize {
    let all: usize = rooms.iter().sum();
    if limit == 0 || all <= limit {
        return all;
    }
    let mut total = rooms[0].min(limit);
    for len in &rooms[1..] {
        match total + len <= limit {
            true => total += len,
            false if is_incremental => return limit,
            false => break,
        }
    }
    total
}
