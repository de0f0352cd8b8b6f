//! Files and registered resources of requests: what an entry names, what it makes, and what it
//! lets go of.
//!
//! ```text
//!   entry ── fd ──────────► descriptor ──► end      a new end ──┬── a new descriptor
//!         ── FIXED_FILE ──► table ───────► end                  └── a place of the table
//! ```
#![allow(unsafe_code, reason = "closes descriptors, and takes the memory of requests")]

use std::os::fd::IntoRawFd;
use std::sync::Arc;

use annulus_sys::abi::Cqe;
use annulus_sys::flags::{CqeFlags, SqeFlags};

use super::block::is_mapped;
use super::placeholder;
use super::region::Region;
use super::register::{Arrays, What};
use super::registered::{Buffer, Entry, Thing};
use super::request::{Job, Place, encode};
use super::run::Try;
use super::state::State;
use super::trace::{EndId, RequestId};
use super::world::{Io, Kind};

/// The end that a request names, and the entry of a table by which it does.
type Named = (Option<EndId>, Option<Arc<Entry>>);

impl State {
    /// The file that a request names.
    pub(super) fn file_of(&mut self, id: RequestId) -> Named {
        let request = &self.requests[&id];
        if !request.job.has_file() {
            return (None, None);
        }
        let (ring, fd) = (request.ring, request.fd);
        if request.flags.contains(SqeFlags::FIXED_FILE) {
            return self.fixed_file(ring, fd);
        }
        // Only a `CLOSE` takes one that was opened with `O_PATH`.
        let closes = matches!(request.job, Job::Close);
        let path = if closes { self.world.find_any(fd) } else { None };
        (path.or_else(|| self.end_at(fd)), None)
    }

    /// The file at a place of a ring's table.
    pub(super) fn fixed_file(&self, ring: usize, at: i32) -> Named {
        let at = usize::try_from(at.cast_unsigned()).expect("64 bits");
        match self.rings[ring].files.get(at) {
            Some(entry) => match entry.thing {
                Thing::File(end) => (Some(end), Some(Arc::clone(entry))),
                Thing::Buffer(_) => unreachable!("a table of files"),
            },
            None => (None, None),
        }
    }

    /// The request begins to use its file, and its memory.
    pub(super) fn take_hold(&mut self, id: RequestId, (end, file): Named) {
        let is_sound = self.is_sound();
        let request = self.requests.get_mut(&id).expect("in flight");
        request.end = end;
        request.held.extend(file);
        if let Some(end) = end {
            self.world.ends[end].users += 1;
        }
        let (ring, fixed) = (request.ring, request.fixed);
        if let Some(index) = fixed {
            let entry = self.rings[ring].buffers.get(index.into()).cloned();
            let Some((entry, buffer)) = entry.and_then(|entry| holds_all(entry, id, self)) else {
                let request = self.requests.get_mut(&id).expect("in flight");
                return request.wrong = Some(-libc::EFAULT);
            };
            self.requests.get_mut(&id).expect("in flight").held.push(entry);
            if !self.is_there(ring, buffer) {
                return;
            }
        }
        if is_sound {
            let request = self.requests.get_mut(&id).expect("in flight");
            // SAFETY: the program vouched for the memory as it pushed the entry (OP1).
            let region = |span| unsafe { Region::new(span) };
            request.regions = request.spans.iter().copied().map(region).collect();
        }
    }

    /// Whether the memory of a registered buffer is still the program's (RG1).
    pub(super) fn is_there(&mut self, ring: usize, buffer: Buffer) -> bool {
        let is_there = is_mapped(buffer.address, buffer.len);
        if !is_there && self.is_sound() {
            self.fault(ring, "RG1: memory is registered, and not mapped any more".into());
        }
        is_there
    }

    /// Looks whether the memory of every registered buffer is there (RG1).
    pub(super) fn look_at_buffers(&mut self) {
        for ring in 0..self.rings.len() {
            for at in 0..self.rings[ring].buffers.len() {
                if let Some(entry) = self.rings[ring].buffers.get(at)
                    && let Thing::Buffer(buffer) = entry.thing
                {
                    self.is_there(ring, buffer);
                }
            }
        }
    }

    /// Somebody has used an entry of a table for the last time: a place, or a request.
    pub(super) fn let_go(&mut self, ring: usize, entry: Arc<Entry>) {
        let Some(Entry { thing, tag }) = Arc::into_inner(entry) else { return };
        match thing {
            Thing::File(end) => {
                self.world.leave(end);
                self.sweep();
            }
            Thing::Buffer(buffer) => drop(self.is_there(ring, buffer)),
        }
        if tag != 0 {
            self.tell(ring, Cqe { user_data: tag, ..Cqe::ZERO });
        }
    }

    /// Puts a new end where the entry asks for it: its descriptor, its place, 0, or an error.
    pub(super) fn give(&mut self, ring: usize, end: EndId, into: Option<Place>) -> i32 {
        let result = match into {
            None => match self.world.descriptor(end) {
                Ok(fd) => return fd.into_raw_fd(),
                Err(errno) => Err(errno.raw()),
            },
            Some(place) => self.put(ring, end, place),
        };
        // Without a descriptor, it lives as long as the table or a request uses it.
        self.world.adopt(end);
        self.sweep();
        result.unwrap_or_else(|errno| -errno)
    }

    /// Puts an end into the ring's table: 0, or the place that was found for it.
    pub(super) fn put(&mut self, ring: usize, end: EndId, place: Place) -> Result<i32, i32> {
        let table = &mut self.rings[ring].files;
        let at = match place {
            Place::At(at) => at as usize,
            Place::Any => table.free().ok_or(libc::ENFILE)?,
        };
        if table.len() == 0 {
            return Err(libc::ENXIO);
        }
        if at >= table.len() {
            return Err(libc::EINVAL);
        }
        self.world.ends[end].users += 1;
        let old = table.fill(at, Entry { thing: Thing::File(end), tag: 0 });
        if let Some(old) = old {
            self.let_go(ring, old);
        }
        Ok(match place {
            Place::At(_) => 0,
            Place::Any => i32::try_from(at).expect("a table has at most 2^20 places"),
        })
    }

    /// Takes a connection off the queue of a listener.
    pub(super) fn try_accept(&mut self, id: RequestId, end: EndId) -> Try {
        let request = &self.requests[&id];
        let Job::Accept { repeats, into } = request.job else { unreachable!("an ACCEPT") };
        let ring = request.ring;
        let connection = match self.world.accept(end) {
            Io::Done(connection) => connection,
            Io::Wait => return Try::Waits,
            Io::Fails(errno) => return Try::Ends(-errno),
        };
        let peer = self.world.ends[connection].peer;
        let address = peer.and_then(|peer| self.world.ends[peer].address);
        let res = self.give(ring, connection, into);
        let request = self.requests.get_mut(&id).expect("in flight");
        request.got = address.map(encode).unwrap_or_default();
        if repeats && res >= 0 { Try::More(res, CqeFlags::empty()) } else { Try::Ends(res) }
    }

    /// Makes a socket.
    pub(super) fn socket(&mut self, id: RequestId, into: Option<Place>, has_messages: bool) -> Try {
        let end = self.world.make(if has_messages { Kind::Udp } else { Kind::Fresh });
        Try::Ends(self.give(self.requests[&id].ring, end, into))
    }

    /// Closes the descriptor that a `CLOSE` names.
    pub(super) fn close(&mut self, id: RequestId) -> Try {
        let request = self.requests.get_mut(&id).expect("in flight");
        let Some(end) = request.end.take() else { return Try::Ends(-libc::EBADF) };
        let fd = request.fd;
        let is_real = self.world.ends[end].kind == Kind::Real;
        if is_real && !self.is_sound() {
            self.world.leave(end);
            return Try::Ends(-libc::EIO);
        }
        if !self.has_lied {
            // SAFETY: the program has given it up with the entry, so nothing else owns it.
            unsafe { placeholder::close(fd) };
        }
        self.world.leave(end);
        self.sweep();
        Try::Ends(0)
    }

    /// Empties the place that a `CLOSE` names.
    pub(super) fn close_place(&mut self, ring: usize, at: u32) -> Try {
        let table = &mut self.rings[ring].files;
        if table.len() == 0 {
            return Try::Ends(-libc::ENXIO);
        }
        if at as usize >= table.len() {
            return Try::Ends(-libc::EINVAL);
        }
        let Some(entry) = table.empty(at as usize) else { return Try::Ends(-libc::EBADF) };
        self.let_go(ring, entry);
        Try::Ends(0)
    }

    /// Makes a descriptor for a file of the table.
    pub(super) fn install(&mut self, end: EndId) -> Try {
        match self.world.descriptor(end) {
            Ok(fd) => Try::Ends(fd.into_raw_fd()),
            Err(errno) => Try::Ends(-errno.raw()),
        }
    }

    /// Puts descriptors into the table: from a place on, or wherever one is free.
    pub(super) fn update_by_entry(&mut self, id: RequestId, offset: Option<u32>) -> Try {
        let request = &self.requests[&id];
        let (ring, count) = (request.ring, request.count);
        let [numbers] = &request.regions[..] else { return Try::Ends(-libc::EFAULT) };
        let bytes = numbers.read(0);
        let Some(offset) = offset else {
            return self.put_anywhere(id, ring, &bytes);
        };
        // A copy, since the call reads what it is given.
        let things = bytes.as_ptr().expose_provenance() as u64;
        let from = Arrays { things, tags: 0, count };
        // SAFETY: `count` numbers, since the copy has the bytes of so many.
        match unsafe { self.update(ring, What::Files, offset, from) } {
            Ok(done) => Try::Ends(done.cast_signed()),
            Err(errno) => Try::Ends(-errno.raw()),
        }
    }

    /// Puts each descriptor in a free place, and its place instead of it.
    fn put_anywhere(&mut self, id: RequestId, ring: usize, bytes: &[u8]) -> Try {
        if self.rings[ring].files.len() == 0 {
            return Try::Ends(-libc::ENXIO);
        }
        let mut places = Vec::new();
        let mut result = Ok(0);
        for number in bytes.chunks_exact(size_of::<i32>()) {
            let fd = i32::from_ne_bytes(number.try_into().expect("four bytes"));
            result = match self.end_at(fd) {
                Some(end) => self.put(ring, end, Place::Any),
                None => Err(libc::EBADF),
            };
            match result {
                Ok(place) => places.push(place),
                Err(_) => break,
            }
        }
        let done = i32::try_from(places.len()).expect("few");
        let got = places.into_iter().flat_map(i32::to_ne_bytes).collect();
        self.requests.get_mut(&id).expect("in flight").got = got;
        match result {
            Err(errno) if done == 0 => Try::Ends(-errno),
            _ => Try::Ends(done),
        }
    }
}

/// The entry, if all memory of a request lies in its buffer.
fn holds_all(entry: Arc<Entry>, id: RequestId, state: &State) -> Option<(Arc<Entry>, Buffer)> {
    let Thing::Buffer(buffer) = entry.thing else { unreachable!("a table of buffers") };
    let mut spans = state.requests[&id].spans.iter();
    spans.all(|span| buffer.holds(span.address, span.len as u64)).then_some((entry, buffer))
}
