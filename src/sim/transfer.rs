//! Bytes: reads, writes, receives and sends, into a request's memory or a selected buffer.

use super::datagrams::has_messages;
use super::provided::Filling;
use super::request::{How, Job};
use super::run::{Try, count};
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
        if let Some(refused) = self.unpolled(request.ring, end, true) {
            return refused;
        }
        if let Some(group) = request.group {
            let how = Filling { offset, waits: true, repeats: false };
            return self.read_into_group(id, end, group, how);
        }
        let whole = request.whole;
        let kind = self.world.ends[end].kind;
        let is_direct = self.world.is_direct(end);
        let is_whole = is_direct || kind == Kind::Counter || has_messages(kind);
        let most = if is_whole { whole } else { self.part(whole) };
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
        if matches!(request.job, Job::RecvMessage(..)) {
            request.letter.get_or_insert_default();
        }
        Try::Ends(count(request.got.len()))
    }

    pub(super) fn try_receive(&mut self, id: RequestId, end: EndId, how: How) -> Try {
        let How { whole, waits, repeats, .. } = how;
        match self.world.ends[end].kind {
            // A stream would throw bytes away, or not (`MSG_TRUNC`).
            Kind::Pair | Kind::Connection if how.takes_len => return Try::Ends(-libc::EINVAL),
            Kind::Pair | Kind::Connection | Kind::Datagram | Kind::Udp => {}
            Kind::Fresh | Kind::Listener => return Try::Ends(-libc::ENOTCONN),
            _ => return Try::Ends(-libc::ENOTSOCK),
        }
        let request = &self.requests[&id];
        if let Some(group) = request.group {
            if self.waits_for_more(id, end) {
                return if waits { Try::Waits } else { Try::Ends(-libc::EAGAIN) };
            }
            if how.bundles {
                return self.receive_bundle(id, end, group, how);
            }
            let filling = Filling { offset: None, waits, repeats };
            return self.read_into_group(id, end, group, filling);
        }
        if has_messages(self.world.ends[end].kind) {
            return self.receive_datagram(id, end, how);
        }
        let (left, had) = (request.whole - request.got.len(), request.got.len());
        let most = if whole { left } else { self.part(left) };
        match self.world.receive(end, most) {
            Io::Done(bytes) if whole && !bytes.is_empty() && bytes.len() < left => {
                let _ = self.got(id, bytes);
                self.try_receive(id, end, how)
            }
            Io::Done(bytes) => self.got(id, bytes),
            Io::Wait if waits => Try::Waits,
            Io::Wait if had > 0 => Try::Ends(count(had)),
            Io::Wait => Try::Ends(-libc::EAGAIN),
            Io::Fails(_) if had > 0 => Try::Ends(count(had)),
            Io::Fails(errno) => Try::Ends(-errno),
        }
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
        if let Some(refused) = self.unpolled(self.requests[&id].ring, end, false) {
            return refused;
        }
        let mut bytes = self.outgoing(id, 0);
        let kind = self.world.ends[end].kind;
        if kind == Kind::Real && !self.is_sound() {
            return Try::Ends(-libc::EIO); // Not even found out just now.
        }
        // A pipe takes a page whole, or not at all.
        if kind != Kind::Counter
            && !has_messages(kind)
            && !self.world.is_direct(end)
            && (kind != Kind::Writer || bytes.len() > libc::PIPE_BUF)
        {
            let part = self.part(bytes.len());
            bytes.truncate(part);
        }
        match self.world.write(end, &bytes, offset) {
            Io::Done(written) => Try::Ends(count(written)),
            Io::Wait => Try::Waits,
            Io::Fails(errno) => Try::Ends(-errno),
        }
    }

    pub(super) fn try_send(&mut self, id: RequestId, end: EndId, how: How) -> Try {
        let How { whole, waits, notifies, .. } = how;
        match self.world.ends[end].kind {
            Kind::Pair | Kind::Datagram if notifies => return Try::Ends(-libc::EOPNOTSUPP),
            Kind::Pair if how.to.is_some() => return Try::Ends(-libc::EISCONN),
            Kind::Datagram | Kind::Udp => {}
            Kind::Pair | Kind::Connection | Kind::Fresh | Kind::Listener => {}
            _ => return Try::Ends(-libc::ENOTSOCK),
        }
        if let Some(res) = self.requests[&id].wrong {
            return Try::Ends(res);
        }
        if matches!(self.world.ends[end].kind, Kind::Fresh | Kind::Listener) {
            return Try::Ends(-libc::EPIPE);
        }
        if let Some(group) = self.requests[&id].group {
            return match how.bundles {
                true => self.send_bundle(id, end, group, how),
                false => self.send_from_group(id, end, group, how),
            };
        }
        let had = self.requests[&id].sent;
        let mut bytes = self.outgoing(id, had);
        let left = bytes.len();
        let is_message = has_messages(self.world.ends[end].kind);
        if !whole && !is_message {
            let part = self.part(left);
            bytes.truncate(part);
        }
        let sent = match is_message {
            true => self.world.send_message(end, &bytes, how.to),
            false => self.world.write(end, &bytes, None),
        };
        let res = match sent {
            Io::Done(sent) => {
                let sent_so_far = had + sent;
                self.requests.get_mut(&id).expect("in flight").sent = sent_so_far;
                if whole && waits && sent < left {
                    return self.try_send(id, end, how);
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
