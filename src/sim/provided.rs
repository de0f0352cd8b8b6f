//! Transfers to and from buffers that are selected from a group.
//!
//! | ring | what is left of a buffer |
//! |---|---|
//! | plain | is given away with it |
//! | with `INC` | stays on offer |

use annulus_sys::flags::{CQE_BUFFER_SHIFT, CqeFlags};

use super::datagrams::has_messages;
use super::request::{How, Job};
use super::run::{Try, count};
use super::state::State;
use super::trace::{EndId, RequestId};
use super::world::{Io, Kind};

/// How a buffer is to be filled.
#[derive(Debug, Clone, Copy)]
pub(super) struct Filling {
    pub(super) offset: Option<u64>,
    pub(super) waits: bool,
    /// Whether it goes on after a completion.
    pub(super) repeats: bool,
}

impl State {
    /// Reads into a buffer that is selected now.
    pub(super) fn read_into_group(
        &mut self,
        id: RequestId,
        end: EndId,
        group: u16,
        how: Filling,
    ) -> Try {
        let (ring, limit) = (self.requests[&id].ring, self.requests[&id].whole);
        let is_unlucky = self.luck.hits(self.faults.no_buffer);
        let Some(at) = self.rings[ring].groups.iter().position(|it| it.id == group) else {
            return Try::Ends(-libc::ENOBUFS);
        };
        let room = self.rings[ring].groups[at].room();
        let Some(room) = room.filter(|_| !is_unlucky) else { return Try::Ends(-libc::ENOBUFS) };
        // Zero means: as much as the buffers hold.
        let asked = if limit == 0 { room } else { room.min(limit) };
        let is_counter = self.world.ends[end].kind == Kind::Counter;
        let is_whole = is_counter || has_messages(self.world.ends[end].kind);
        let most = if is_whole { asked } else { self.part(asked) };
        let is_read = matches!(self.requests[&id].job, Job::Read { .. });
        if is_read {
            // A read that fills less than it selected is short, and breaks a chain.
            self.requests.get_mut(&id).expect("in flight").whole = asked;
        }
        let bytes = match self.world.read(end, most, how.offset) {
            Io::Done(bytes) if bytes.is_empty() && !is_read => return Try::Ends(0),
            Io::Done(bytes) => bytes,
            Io::Wait if how.waits => {
                // A receive keeps the length of the buffer that it would have filled (v6.18).
                let request = self.requests.get_mut(&id).expect("in flight");
                if matches!(request.job, Job::Recv(_)) {
                    request.whole = asked;
                }
                return Try::Waits;
            }
            Io::Wait => return Try::Ends(-libc::EAGAIN),
            Io::Fails(errno) => return Try::Ends(-errno),
        };
        if how.repeats {
            let request = self.requests.get_mut(&id).expect("in flight");
            request.whole = request.count as usize;
        }
        // Of a file, what was selected is given away before it is read.
        let is_file = self.world.ends[end].kind == Kind::File;
        let used = if is_file { asked } else { bytes.len() };
        let flags = self.take_buffers(ring, at, used, &[(0, &bytes)]);
        let res = count(bytes.len());
        if how.repeats { Try::More(res, flags) } else { Try::EndsWith(res, flags) }
    }

    /// Takes `used` bytes of a buffer off a ring, and writes these parts to it. Returns the flags
    /// that say so.
    pub(super) fn take_buffers(
        &mut self,
        ring: usize,
        at: usize,
        used: usize,
        parts: &[(usize, &[u8])],
    ) -> CqeFlags {
        let is_sound = self.is_sound();
        let group = &mut self.rings[ring].groups[at];
        let (id, taken) = (group.id, group.take(used, parts, is_sound));
        if !taken.is_untouched {
            let bid = taken.bid;
            self.fault(ring, format!("BR1: buffer {bid} of group {id} changed, and is offered"));
        }
        let mut flags = CqeFlags::from_bits_retain(u32::from(taken.bid) << CQE_BUFFER_SHIFT);
        flags |= CqeFlags::BUFFER;
        flags.set(CqeFlags::BUF_MORE, taken.goes_on);
        flags
    }

    /// Reads again and again.
    pub(super) fn try_read_many(&mut self, id: RequestId, end: EndId) -> Try {
        if self.world.ends[end].opened.is_some() {
            return Try::Ends(-libc::EBADFD);
        }
        let request = &self.requests[&id];
        let group = request.group.expect("it selects its buffers");
        // It has taken all there was, and selects no buffer before more comes.
        let wanted = libc::POLLIN | libc::POLLHUP | libc::POLLERR | libc::POLLRDHUP;
        let wanted = u32::from(wanted.cast_unsigned());
        if request.posts > 0 && self.world.events(end) & wanted == 0 {
            return Try::Waits;
        }
        let how = Filling { offset: None, waits: true, repeats: true };
        self.read_into_group(id, end, group, how)
    }

    /// Sends what is in a buffer that is selected now.
    pub(super) fn send_from_group(
        &mut self,
        id: RequestId,
        end: EndId,
        group: u16,
        how: How,
    ) -> Try {
        let (ring, limit) = (self.requests[&id].ring, self.requests[&id].whole);
        let Some(at) = self.rings[ring].groups.iter().position(|it| it.id == group) else {
            return Try::Ends(-libc::ENOBUFS);
        };
        let Some(room) = self.rings[ring].groups[at].room() else {
            return Try::Ends(-libc::ENOBUFS);
        };
        let asked = if limit == 0 { room } else { room.min(limit) };
        let is_whole = how.whole || has_messages(self.world.ends[end].kind);
        let most = if is_whole { asked } else { self.part(asked) };
        let bytes = match self.is_sound() {
            true => self.rings[ring].groups[at].outgoing(most),
            false => vec![0; most],
        };
        let sent = match self.world.write(end, &bytes, None) {
            Io::Done(sent) => sent,
            Io::Wait if how.waits => return Try::Waits,
            Io::Wait => return Try::Ends(-libc::EAGAIN),
            Io::Fails(errno) => return Try::Ends(-errno),
        };
        let flags = self.take_buffers(ring, at, sent, &[]);
        Try::EndsWith(count(sent), flags)
    }
}
