//! Running requests: each attempt ends a request, gives one of its completions, or has to wait.
//!
//! ```text
//!   begin ──► attempt ──┬── has a result ──► finish
//!               ▲       ├── one of many ───► post, and attempt again
//!               │       └── must wait ─────► noted at its end, or in the list of times
//!               └──────── the end changed, or the time has come
//! ```
//!
//! Leaves to others: what ends do (`world`), completions and chains (`finish`), cancels (`cancel`).
#![allow(unsafe_code, reason = "takes the memory of requests, and closes descriptors")]

use std::os::fd::IntoRawFd;

use annulus_sys::flags::{CQE_BUFFER_SHIFT, CqeFlags, SqeFlags};

use super::placeholder;
use super::region::Region;
use super::request::{Job, Stage, encode};
use super::state::{Due, Mode, State};
use super::trace::{EndId, RequestId, What};
use super::world::{Io, Kind};

/// How many completions a multishot gives in one go.
const IN_ONE_GO: u32 = 32;

/// What came of an attempt.
#[derive(Debug)]
pub(super) enum Try {
    /// The request ends, with this result.
    Ends(i32),
    /// It ends, and has selected a buffer.
    EndsWith(i32, CqeFlags),
    /// It goes on after a completion.
    More(i32, CqeFlags),
    /// It waits for its end to change.
    Waits,
    /// It waits for its time, or for other requests.
    Sleeps,
}

impl State {
    /// A request begins: its memory is the kernel's from now on.
    pub(super) fn begin(&mut self, id: RequestId) {
        let is_sound = self.is_sound();
        let Some(request) = self.requests.get_mut(&id) else { return };
        let end = if request.job.has_file() { self.world.find(request.fd) } else { None };
        let bytes = u32::try_from(request.whole).unwrap_or(u32::MAX);
        let (ring, what) = (request.ring, What::Began(id, request.opcode, bytes, end));
        if let Some(res) = request.refused {
            self.note(Some(ring), what);
            return self.finish(id, res, CqeFlags::empty());
        }
        request.stage = Stage::Begun;
        if is_sound {
            // SAFETY: the program vouched for the memory as it pushed the entry (OP1).
            let region = |span| unsafe { Region::new(span) };
            request.regions = request.spans.iter().copied().map(region).collect();
        }
        let is_forced = request.flags.contains(SqeFlags::ASYNC);
        let clock = request.clock;
        request.end = end;
        if let Some(end) = end {
            self.world.ends[end].users += 1;
        }
        self.note(Some(ring), what);
        let delay = self.delay();
        if delay > 0 || is_forced {
            self.schedule(delay, Due::Run(id));
        } else {
            self.attempt(id);
        }
        if let Some(clock) = clock.filter(|_| self.requests.contains_key(&id)) {
            self.begin(clock);
        }
        self.wake_up();
    }

    /// Tries a request, again and again if it goes on.
    pub(super) fn attempt(&mut self, id: RequestId) {
        for _ in 0..IN_ONE_GO {
            let Some(request) = self.requests.get(&id) else { return };
            let end = request.end;
            match self.try_once(id) {
                Try::Ends(res) => return self.end(id, res),
                Try::EndsWith(res, flags) => return self.finish(id, res, flags),
                Try::More(res, flags) => {
                    let ends_early = self.luck.hits(self.faults.early_end);
                    if ends_early || !self.post_more(id, res, flags) {
                        return self.finish(id, res, flags);
                    }
                }
                Try::Waits => {
                    let end = end.expect("only an end lets it wait");
                    return self.world.await_change(end, id);
                }
                Try::Sleeps => return,
            }
        }
        self.schedule(0, Due::Run(id));
    }

    /// A request has its result.
    pub(super) fn end(&mut self, id: RequestId, res: i32) {
        match self.requests.get(&id).map(|request| &request.job) {
            Some(Job::Send { notifies: true, .. }) => self.send_result(id, res),
            _ => self.finish(id, res, CqeFlags::empty()),
        }
    }

    fn try_once(&mut self, id: RequestId) -> Try {
        let request = &self.requests[&id];
        if request.stage != Stage::Begun {
            return Try::Sleeps;
        }
        let (job, ring, end) = (request.job.clone(), request.ring, request.end);
        match job {
            Job::Nop => return Try::Ends(0),
            Job::Close => return self.close(id),
            Job::Timeout { span, is_absolute, count, repeats, .. } => {
                return self.try_timeout(id, span, is_absolute, count, repeats);
            }
            Job::LinkTimeout { span, is_absolute } => {
                return self.try_link_timeout(id, span, is_absolute);
            }
            Job::Cancel(key) => return Try::Ends(self.cancel(ring, key, id)),
            Job::PollRemove(key) => return Try::Ends(self.remove_poll(ring, key)),
            Job::TimeoutRemove(key) => return Try::Ends(self.remove_timeout(ring, key)),
            _ => {}
        }
        let Some(end) = end else { return Try::Ends(-libc::EBADF) };
        match job {
            Job::Read { offset } => self.try_read(id, end, offset),
            Job::Recv { whole, waits, repeats } => self.try_receive(id, end, whole, waits, repeats),
            Job::Write { offset } => self.try_write(id, end, offset),
            Job::Send { whole, waits, notifies } => self.try_send(id, end, whole, waits, notifies),
            Job::Accept { repeats } => self.try_accept(id, end, repeats),
            Job::Connect(address) => match self.world.connect(end, address) {
                Io::Wait => {
                    // The listener's queue is full: what it accepts makes room.
                    let listener = self.world.listener(address).expect("it has a queue");
                    self.world.await_change(listener, id);
                    Try::Sleeps
                }
                connected => ended(connected),
            },
            Job::Shutdown(how) => ended(self.world.shut_down(end, how)),
            Job::Fsync if self.world.ends[end].kind == Kind::File => Try::Ends(0),
            Job::Fsync => Try::Ends(-libc::EINVAL),
            Job::Poll { events, repeats } => {
                let found = self.world.events(end) & events;
                match i32::try_from(found).expect("few bits") {
                    // Nobody tells of a change.
                    0 if self.world.ends[end].kind == Kind::File => Try::Ends(-libc::EINVAL),
                    0 => Try::Waits,
                    found if repeats => self.once_more(id, end, found),
                    found => Try::Ends(found),
                }
            }
            _ => unreachable!("handled above"),
        }
    }

    /// A poll that repeats says what is there, and then waits for a change.
    fn once_more(&mut self, id: RequestId, end: EndId, found: i32) -> Try {
        if self.luck.hits(self.faults.early_end) {
            return Try::Ends(found);
        }
        if !self.post_more(id, found, CqeFlags::empty()) {
            return Try::Ends(found);
        }
        self.world.await_change(end, id);
        Try::Sleeps
    }

    /// How many of `most` bytes a transfer moves.
    pub(super) fn part(&mut self, most: usize) -> usize {
        let is_short = most > 1 && self.luck.hits(self.faults.short);
        if is_short { 1 + self.luck.index(most - 1) } else { most }
    }

    fn try_read(&mut self, id: RequestId, end: EndId, offset: Option<u64>) -> Try {
        let request = &self.requests[&id];
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

    fn try_receive(
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
        match self.world.read(end, most, None) {
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

    fn try_write(&mut self, id: RequestId, end: EndId, offset: Option<u64>) -> Try {
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

    fn try_send(
        &mut self,
        id: RequestId,
        end: EndId,
        whole: bool,
        waits: bool,
        notifies: bool,
    ) -> Try {
        match self.world.ends[end].kind {
            Kind::Pair if notifies => return Try::Ends(-libc::EOPNOTSUPP),
            Kind::Pair | Kind::Connection => {}
            Kind::Fresh | Kind::Listener => return Try::Ends(-libc::EPIPE),
            _ => return Try::Ends(-libc::ENOTSOCK),
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

    fn try_accept(&mut self, id: RequestId, end: EndId, repeats: bool) -> Try {
        let connection = match self.world.accept(end) {
            Io::Done(connection) => connection,
            Io::Wait => return Try::Waits,
            Io::Fails(errno) => return Try::Ends(-errno),
        };
        let fd = match self.world.descriptor(connection) {
            Ok(fd) => fd.into_raw_fd(),
            Err(errno) => return Try::Ends(-errno.raw()),
        };
        let peer = self.world.ends[connection].peer;
        let address = peer.and_then(|peer| self.world.ends[peer].address);
        let request = self.requests.get_mut(&id).expect("in flight");
        request.got = address.map(encode).unwrap_or_default();
        if repeats { Try::More(fd, CqeFlags::empty()) } else { Try::Ends(fd) }
    }

    /// Closes the descriptor that a `CLOSE` names.
    fn close(&mut self, id: RequestId) -> Try {
        let request = self.requests.get_mut(&id).expect("in flight");
        let Some(end) = request.end.take() else { return Try::Ends(-libc::EBADF) };
        // SAFETY: the program has given it up with the entry, so nothing else owns it.
        unsafe { placeholder::close(request.fd) };
        self.world.ends[end].users -= 1;
        self.world.sweep();
        Try::Ends(0)
    }

    /// Runs what is due, by the mode of its ring. Returns the test's act that is due, if any.
    pub(super) fn run_due(&mut self) -> Option<usize> {
        while let Some(due) = self.next_due() {
            self.idle = 0;
            match due {
                Due::Act(act) => return Some(act),
                Due::Begin(id) | Due::Run(id) | Due::Notify(id) | Due::Interrupt(id) => {
                    let ring = self.requests[&id].ring;
                    if self.rings[ring].mode == Mode::Plain || !self.rings[ring].is_open {
                        self.run(due);
                    } else {
                        self.rings[ring].work.push_back(due);
                        self.raise(ring);
                    }
                }
            }
        }
        None
    }

    fn run(&mut self, due: Due) {
        match due {
            Due::Begin(id) => self.begin(id),
            Due::Run(id) => self.attempt(id),
            Due::Notify(id) => self.notify(id),
            Due::Interrupt(id) => self.give_up(id),
            Due::Act(_) => unreachable!("acts run outside"),
        }
        self.wake_up();
    }

    /// Runs the work that a ring has put off.
    pub(super) fn run_work(&mut self, ring: usize) {
        while let Some(due) = self.rings[ring].work.pop_front() {
            self.run(due);
        }
        self.raise(ring);
    }

    /// Lets the requests whose end has changed try again.
    pub(super) fn wake_up(&mut self) {
        for id in std::mem::take(&mut self.world.woken) {
            let delay = self.delay();
            self.schedule(delay, Due::Run(id));
        }
    }
}

/// A number of bytes as a result.
fn count(bytes: usize) -> i32 {
    i32::try_from(bytes).expect("at most MAX_TRANSFER")
}

fn ended(io: Io<()>) -> Try {
    match io {
        Io::Done(()) => Try::Ends(0),
        Io::Wait => Try::Waits,
        Io::Fails(errno) => Try::Ends(-errno),
    }
}
