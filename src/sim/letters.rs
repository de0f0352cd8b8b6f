//! Messages: receives that tell from where, how long and whether cut; and receives of datagrams.
//!
//! ```text
//!   RECVMSG                 the msghdr is updated · the address · the buffers
//!   RECVMSG, multishot      a selected buffer: header · address · room for control data · bytes
//! ```

use annulus_sys::flags::CqeFlags;

use super::datagrams::has_messages;
use super::request::{Envelope, How, Letter, encode};
use super::run::{Try, count};
use super::state::State;
use super::trace::{EndId, RequestId};
use super::world::{Io, Kind, Mail};

/// The size of the header in a selected buffer (`struct io_uring_recvmsg_out`).
const HEAD: usize = 16;

impl State {
    /// Receives a message.
    pub(super) fn try_receive_message(
        &mut self,
        id: RequestId,
        end: EndId,
        how: How,
        envelope: Envelope,
    ) -> Try {
        let kind = self.world.ends[end].kind;
        let is_socket = has_messages(kind) || matches!(kind, Kind::Pair | Kind::Connection);
        if let Some(group) = self.requests[&id].group.filter(|_| is_socket) {
            return self.message_into_group(id, end, group, (how, envelope));
        }
        self.try_receive(id, end, how)
    }

    /// Receives a datagram, of which as much is kept as fits.
    pub(super) fn receive_datagram(&mut self, id: RequestId, end: EndId, how: How) -> Try {
        let most = self.requests[&id].whole;
        match self.world.take_message(end, most) {
            Io::Done((mail, len)) => {
                let request = self.requests.get_mut(&id).expect("in flight");
                let kept = mail.bytes.len();
                request.letter = Some(letter(&mail, len));
                request.got = mail.bytes;
                Try::Ends(count(if how.takes_len { len } else { kept }))
            }
            Io::Wait if how.waits => Try::Waits,
            Io::Wait => Try::Ends(-libc::EAGAIN),
            Io::Fails(errno) => Try::Ends(-errno),
        }
    }

    /// Receives a message into a buffer that is selected now.
    fn message_into_group(
        &mut self,
        id: RequestId,
        end: EndId,
        group: u16,
        (how, envelope): (How, Envelope),
    ) -> Try {
        let ring = self.requests[&id].ring;
        if self.waits_for_more(id, end) {
            return Try::Waits;
        }
        let is_unlucky = self.luck.hits(self.faults.no_buffer);
        let at = self.rings[ring].groups.iter().position(|it| it.id == group);
        let room = at.and_then(|at| self.rings[ring].groups[at].room());
        let (Some(at), Some(room), false) = (at, room, is_unlucky) else {
            return Try::Ends(-libc::ENOBUFS);
        };
        let limit = self.requests[&id].whole;
        let room = if limit == 0 { room } else { room.min(limit) };
        let head = if how.repeats { HEAD + envelope.name + envelope.control } else { 0 };
        let Some(most) = room.checked_sub(head) else { return Try::Ends(-libc::EFAULT) };
        let (mail, len) = match self.next_message(end, most) {
            Io::Done(message) => message,
            Io::Wait if how.waits => return Try::Waits,
            Io::Wait => return Try::Ends(-libc::EAGAIN),
            Io::Fails(errno) => return Try::Ends(-errno),
        };
        let mut letter = letter(&mail, len);
        if how.repeats && envelope.name == 0 {
            letter.from.clear();
        }
        let told = if how.takes_len { len } else { mail.bytes.len() };
        let flags = letter.flags;
        let header = [count(letter.from.len()), 0, count(told), flags].map(i32::to_ne_bytes);
        let front = [&header.concat()[..], &letter.from].concat();
        let front = &front[..front.len().min(HEAD + envelope.name)];
        if !how.repeats {
            self.requests.get_mut(&id).expect("in flight").letter = Some(letter);
            if mail.bytes.is_empty() {
                return Try::Ends(0);
            }
            let flags = self.take_buffers(ring, at, mail.bytes.len(), &[(0, &mail.bytes)]);
            return Try::EndsWith(count(told), flags);
        }
        let used = head + mail.bytes.len();
        let parts: [(usize, &[u8]); 2] = [(0, front), (head, &mail.bytes)];
        let flags: CqeFlags = self.take_buffers(ring, at, used, &parts);
        // An empty message ends it, as the end of a stream does (v6.18).
        match told {
            0 => Try::EndsWith(count(used), flags),
            _ => Try::More(count(used), flags),
        }
    }

    /// Whether a receive waits before it selects a buffer: it has waited already, and nothing has
    /// come; or it has taken all there was of a stream. Of messages nobody knows whether more are
    /// there, so a buffer is selected to find out (v6.18).
    pub(super) fn waits_for_more(&self, id: RequestId, end: EndId) -> bool {
        let request = &self.requests[&id];
        let takes_all = request.posts > 0 && !has_messages(self.world.ends[end].kind);
        let pollin = u32::from(libc::POLLIN.cast_unsigned());
        (takes_all || request.has_waited) && self.world.events(end) & pollin == 0
    }

    /// The next message of a socket, or the next bytes of a stream.
    fn next_message(&mut self, end: EndId, most: usize) -> Io<(Mail, usize)> {
        if has_messages(self.world.ends[end].kind) {
            return self.world.take_message(end, most);
        }
        let most = self.part(most);
        match self.world.receive(end, most) {
            Io::Done(bytes) => {
                let len = bytes.len();
                Io::Done((Mail { bytes, from: None }, len))
            }
            Io::Wait => Io::Wait,
            Io::Fails(errno) => Io::Fails(errno),
        }
    }
}

/// What is told of a message that was `len` bytes long.
fn letter(mail: &Mail, len: usize) -> Letter {
    let flags = if mail.bytes.len() < len { libc::MSG_TRUNC } else { 0 };
    Letter { from: mail.from.map(encode).unwrap_or_default(), flags }
}
