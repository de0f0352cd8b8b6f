//! What a poll finds.

use super::trace::EndId;
use super::world::{Kind, World};

impl World {
    /// What `poll(2)` would say of the end.
    pub(super) fn events(&self, at: EndId) -> u32 {
        let end = &self.ends[at];
        let writable = |peer: Option<EndId>| peer.is_none_or(|it| !self.ends[it].inbox.is_full());
        let (reads, writes) = (end.no_more.reads, end.no_more.writes);
        let mut mask = 0;
        let mut note = |is_set: bool, bit: i16| {
            mask |= if is_set { u32::from(bit.cast_unsigned()) } else { 0 };
        };
        match end.kind {
            Kind::Reader => {
                note(end.inbox.len() > 0, libc::POLLIN);
                note(end.peer.is_none(), libc::POLLHUP);
            }
            Kind::Writer => {
                note(writable(end.peer), libc::POLLOUT);
                note(end.peer.is_none(), libc::POLLERR);
            }
            Kind::Pair | Kind::Connection => {
                note(end.inbox.len() > 0 || reads, libc::POLLIN);
                note(writable(end.peer), libc::POLLOUT);
                note(reads, libc::POLLRDHUP);
                note(reads && writes, libc::POLLHUP);
                note(end.is_reset, libc::POLLERR);
            }
            Kind::Datagram => {
                note(!end.mail.is_empty(), libc::POLLIN);
                note(end.peer.is_none_or(|peer| !self.is_full(peer)), libc::POLLOUT);
            }
            Kind::Udp => {
                note(!end.mail.is_empty() || end.is_reset, libc::POLLIN);
                note(end.is_reset, libc::POLLERR);
                note(true, libc::POLLOUT);
            }
            Kind::Fresh => note(true, libc::POLLOUT | libc::POLLHUP),
            Kind::Listener => note(!end.queue.is_empty() || reads, libc::POLLIN),
            Kind::File | Kind::Folder | Kind::Path => note(true, libc::POLLIN | libc::POLLOUT),
            Kind::Real => return self.real_events(at),
            Kind::Counter => {
                note(end.position > 0, libc::POLLIN);
                note(end.position < u64::MAX - 1, libc::POLLOUT);
            }
        }
        mask
    }
}
