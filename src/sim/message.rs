//! Messages from one simulated ring to another, and entries that do nothing.
//!
//! ```text
//!   MSG_RING of ring 0 ── data ──► a completion of ring 1; if that one defers its work, later
//!                      ── file ──► a place of ring 1's table, and a completion that tells of it
//! ```

use annulus_sys::abi::Cqe;
use annulus_sys::flags::{CqeFlags, NopFlags};

use super::real::is_open;
use super::request::{Job, Message, Stage};
use super::run::Try;
use super::state::{Due, Mode, State};
use super::trace::RequestId;

impl State {
    /// Does nothing, and says what it was told to say.
    pub(super) fn nop(&mut self, id: RequestId) -> Try {
        let request = &self.requests[&id];
        let Job::Nop { flags, result, big } = request.job else { unreachable!("a NOP") };
        let (ring, fd) = (request.ring, request.fd);
        let is_there = match (flags.contains(NopFlags::FILE), flags.contains(NopFlags::FIXED_FILE))
        {
            (false, _) => true,
            (true, true) => self.fixed_file(ring, fd).0.is_some(),
            (true, false) => is_open(fd),
        };
        if !is_there {
            return Try::Ends(-libc::EBADF);
        }
        let index = request.buffer.into();
        let lacks =
            flags.contains(NopFlags::FIXED_BUFFER) && self.rings[ring].buffers.get(index).is_none();
        if lacks {
            return Try::Ends(-libc::EFAULT);
        }
        self.requests.get_mut(&id).expect("in flight").big = big;
        Try::Ends(result)
    }

    /// The open ring that a descriptor names.
    pub(super) fn ring_at(&self, fd: i32) -> Option<usize> {
        let ring = self.numbers.get(&fd).copied();
        ring.filter(|&ring| self.rings[ring].is_open)
    }

    /// Sends a message to the ring that the entry names.
    pub(super) fn send_message(&mut self, id: RequestId, message: Message) -> Try {
        let request = &self.requests[&id];
        let source = request.ring;
        let Some(target) = self.ring_at(request.fd).filter(|_| !request.is_fixed()) else {
            let (is_fixed, fd) = (request.is_fixed(), request.fd);
            let is_other = match is_fixed {
                true => self.fixed_file(source, fd).0.is_some(),
                false => is_open(fd),
            };
            return Try::Ends(if is_other { -libc::EBADFD } else { -libc::EBADF });
        };
        let cqe = Cqe { user_data: message.user_data, res: message.result, flags: message.flags };
        if message.is_odd {
            return Try::Ends(-libc::EINVAL);
        }
        let is_disabled = self.rings[target].gate.is_disabled;
        let Some((from, into)) = message.file else {
            if is_disabled {
                return Try::Ends(-libc::EBADFD);
            }
            self.deliver(target, cqe);
            return Try::Ends(0);
        };
        if target == source {
            return Try::Ends(-libc::EINVAL);
        }
        if is_disabled {
            return Try::Ends(-libc::EBADFD);
        }
        let (Some(end), _) = self.fixed_file(source, from.cast_signed()) else {
            return Try::Ends(-libc::EBADF);
        };
        match into.map_or(Err(libc::EINVAL), |into| self.put(target, end, into)) {
            Ok(place) => {
                if !message.skips {
                    self.deliver(target, Cqe { res: place, ..cqe });
                }
                Try::Ends(place)
            }
            Err(errno) => Try::Ends(-errno),
        }
    }

    /// Posts a completion to another ring: as work of it, if it defers its work.
    fn deliver(&mut self, ring: usize, cqe: Cqe) {
        if self.rings[ring].mode == Mode::Defer {
            let Cqe { user_data, res, flags } = cqe;
            let due = Due::Tell { ring, user_data, res, flags: flags.bits() };
            self.rings[ring].work.push_back(due);
            self.signal_work(ring, due);
            self.raise(ring);
        } else {
            self.tell(ring, cqe);
        }
    }

    /// Posts what was sent to a ring that defers its work.
    pub(super) fn tell_later(&mut self, due: Due) {
        let Due::Tell { ring, user_data, res, flags } = due else { unreachable!("a message") };
        self.tell(ring, Cqe { user_data, res, flags: CqeFlags::from_bits_retain(flags) });
    }

    /// Changes the first poll with that `user_data`, and lets it look again.
    pub(super) fn update_poll(
        &mut self,
        ring: usize,
        key: u64,
        events: Option<u32>,
        user_data: Option<u64>,
    ) -> i32 {
        let Some(id) = self.poll(ring, key) else { return -libc::ENOENT };
        let request = self.requests.get_mut(&id).expect("in flight");
        if let (Some(new), Job::Poll { events, .. }) = (events, &mut request.job) {
            *events = new;
        }
        request.user_data = user_data.unwrap_or(request.user_data);
        let (end, repeats) = (request.end, request.job.repeats());
        let old = !self.release.is_before(6, 0) && self.release.is_before(6, 18);
        if let Some(end) = end {
            self.world.forget(end, id);
            let is_there = self.world.events(end) & events.unwrap_or(0) != 0;
            if old && is_there && !repeats {
                // It is never found again.
                self.requests.get_mut(&id).expect("in flight").stage = Stage::Forgotten;
                return 0;
            }
        }
        self.schedule(0, Due::Run(id));
        0
    }
}
