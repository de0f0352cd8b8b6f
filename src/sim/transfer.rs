//! Bytes: reads, writes, receives and sends, into a request's memory or a selected buffer.

use annulus_sys::flags::{CQE_BUFFER_SHIFT, CqeFlags};

use super::run::Try;
use super::state::State;
use super::trace::{EndId, RequestId};
use super::world::{Io, Kind};

impl State {
    /// How many of `most` bytes a transfer moves.
    pub(super) fn part(&mut self, most: usize) -> usize {
        let is_short = most > 1 && self.luck.hits(self.faults.short);
        if is_short { 1 + self.luck.index(most - 1) } else { most }
    }

    pub(super) fn try_read(&mut self, id: RequestId, end: EndId, offset: Option<u64>) -> Try {
        let request = &self.requests[&id];
        if let Some(res) = request.wrong {
            return Try::Ends(res);
        }
        if let Some(group) = request.group {
            return self.read_into_group(id, end, group, offset, true);
        }
        let whole = request.whole;
        let is_counter = self.world.ends[end].kind == Kind::Counter;
        let most = if is_counter { whole } else { self.part(whole) };
        match self.world.read(end, most, offset) {
            Io::Done(bytes) => self.got(id, bytes),
            Io::Wait => Try::Waits,
            Io::Fails(errno) => Try::Ends(-errno),
        }
    }

    /// Bytes have come: they are written to the request's memory when it ends.
    fn got(&mut self, id: RequestId, mut bytes: Vec<u8>) -> Try {
        let request = self.requests.get_mut(&id).expect("in flight");
        request.got.append(&mut bytes);
        Try::Ends(count(request.got.len()))
    }

    pub(super) fn try_receive(
        &mut self,
        id: RequestId,
        end: EndId,
        whole: bool,
        waits: bool,
        repeats: bool,
    ) -> Try {
        match self.world.ends[end].kind {
            Kind::Pair | Kind::Connection => {}
            Kind::Fresh | Kind::Listener => return Try::Ends(-libc::ENOTCONN),
            _ => return Try::Ends(-libc::ENOTSOCK),
        }
        let request = &self.requests[&id];
        if let Some(group) = request.group {
            // It has taken all there was, and selects no buffer before more comes.
            let pollin = u32::from(libc::POLLIN.cast_unsigned());
            if request.posts > 0 && self.world.events(end) & pollin == 0 {
                return Try::Waits;
            }
            let received = self.read_into_group(id, end, group, None, waits);
            return match received {
                Try::EndsWith(res, flags) if repeats => Try::More(res, flags),
                other => other,
            };
        }
        let (left, had) = (request.whole - request.got.len(), request.got.len());
        let most = if whole { left } else { self.part(left) };
        match self.world.receive(end, most) {
            Io::Done(bytes) if whole && !bytes.is_empty() && bytes.len() < left => {
                let _ = self.got(id, bytes);
                self.try_receive(id, end, whole, waits, repeats)
            }
            Io::Done(bytes) => self.got(id, bytes),
            Io::Wait if waits => Try::Waits,
            Io::Wait if had > 0 => Try::Ends(count(had)),
            Io::Wait => Try::Ends(-libc::EAGAIN),
            Io::Fails(_) if had > 0 => Try::Ends(count(had)),
            Io::Fails(errno) => Try::Ends(-errno),
        }
    }

    /// Reads into a buffer that is selected now.
    fn read_into_group(
        &mut self,
        id: RequestId,
        end: EndId,
        group: u16,
        offset: Option<u64>,
        waits: bool,
    ) -> Try {
        let (ring, limit) = (self.requests[&id].ring, self.requests[&id].whole);
        let is_unlucky = self.luck.hits(self.faults.no_buffer);
        let Some(at) = self.rings[ring].groups.iter().position(|it| it.id == group) else {
            return Try::Ends(-libc::ENOBUFS);
        };
        let Some(len) = self.rings[ring].groups[at].next_len().filter(|_| !is_unlucky) else {
            return Try::Ends(-libc::ENOBUFS);
        };
        // Zero means: as much as the buffer holds.
        let most = if limit == 0 { len } else { len.min(limit) };
        let most = self.part(most);
        let bytes = match self.world.read(end, most, offset) {
            Io::Done(bytes) if bytes.is_empty() => return Try::Ends(0),
            Io::Done(bytes) => bytes,
            Io::Wait if waits => return Try::Waits,
            Io::Wait => return Try::Ends(-libc::EAGAIN),
            Io::Fails(errno) => return Try::Ends(-errno),
        };
        let selected = self.rings[ring].groups[at].select();
        let (bid, region, is_untouched) = selected.expect("it has a next one");
        if !is_untouched {
            self.fault(ring, format!("BR1: buffer {bid} of group {group} changed, and is offered"));
        }
        if self.is_sound() {
            region.end(&bytes);
        }
        let flags = CqeFlags::from_bits_retain(u32::from(bid) << CQE_BUFFER_SHIFT);
        Try::EndsWith(count(bytes.len()), flags | CqeFlags::BUFFER)
    }

    /// The bytes that a request sends, from `from` on.
    fn outgoing(&mut self, id: RequestId, from: usize) -> Vec<u8> {
        self.check_memory(id);
        if !self.is_sound() {
            return vec![0; self.requests[&id].whole - from];
        }
        let regions = &self.requests[&id].regions;
        let mut bytes: Vec<u8> = regions.iter().flat_map(|region| region.read(0)).collect();
        bytes.drain(..from);
        bytes
    }

    pub(super) fn try_write(&mut self, id: RequestId, end: EndId, offset: Option<u64>) -> Try {
        if let Some(res) = self.requests[&id].wrong {
            return Try::Ends(res);
        }
        let mut bytes = self.outgoing(id, 0);
        let kind = self.world.ends[end].kind;
        // A pipe takes a page whole, or not at all.
        if kind != Kind::Counter && (kind != Kind::Writer || bytes.len() > libc::PIPE_BUF) {
            let part = self.part(bytes.len());
            bytes.truncate(part);
        }
        match self.world.write(end, &bytes, offset) {
            Io::Done(written) => Try::Ends(count(written)),
            Io::Wait => Try::Waits,
            Io::Fails(errno) => Try::Ends(-errno),
        }
    }

    pub(super) fn try_send(
        &mut self,
        id: RequestId,
        end: EndId,
        whole: bool,
        waits: bool,
        notifies: bool,
    ) -> Try {
        match self.world.ends[end].kind {
            Kind::Pair if notifies => return Try::Ends(-libc::EOPNOTSUPP),
            Kind::Pair | Kind::Connection | Kind::Fresh | Kind::Listener => {}
            _ => return Try::Ends(-libc::ENOTSOCK),
        }
        if let Some(res) = self.requests[&id].wrong {
            return Try::Ends(res);
        }
        if matches!(self.world.ends[end].kind, Kind::Fresh | Kind::Listener) {
            return Try::Ends(-libc::EPIPE);
        }
        let had = self.requests[&id].sent;
        let mut bytes = self.outgoing(id, had);
        let left = bytes.len();
        if !whole {
            let part = self.part(left);
            bytes.truncate(part);
        }
        let res = match self.world.write(end, &bytes, None) {
            Io::Done(sent) => {
                let sent_so_far = had + sent;
                self.requests.get_mut(&id).expect("in flight").sent = sent_so_far;
                if whole && waits && sent < left {
                    return self.try_send(id, end, whole, waits, notifies);
                }
                count(sent_so_far)
            }
            Io::Wait if waits => return Try::Waits,
            Io::Wait if had > 0 => count(had),
            Io::Wait => -libc::EAGAIN,
            Io::Fails(_) if had > 0 => count(had),
            Io::Fails(errno) => -errno,
        };
        Try::Ends(res)
    }
}

/// A number of bytes as a result.
fn count(bytes: usize) -> i32 {
    i32::try_from(bytes).expect("at most MAX_TRANSFER")
}
