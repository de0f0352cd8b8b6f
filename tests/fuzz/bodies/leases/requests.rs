//! The requests of the kernel that selects, and how they end.
//!
//! | request | may |
//! |---|---|
//! | a receive | fill one buffer, end at the end of its stream, fail, find no buffer |
//! | … forced | select its buffer early, and fail without a word about it |
//! | … that fails | name a buffer that it has not selected |
//! | … of a part | use up more than it fills, and call a buffer done that it goes on with |
//! | … alone on its pool | select buffers that no completion names |
//! | … multishot | do so again and again |
//! | … of a bundle | fill several buffers, and fail after it has selected some |
//! | … of messages | put a header before the bytes |
//! | a send of a bundle | send all that is queued, or a part |
//! | with memory of its own | use it until it ends |
//! | an open | fill a free place of the table |
#![allow(unsafe_code, reason = "plays the kernel")]

use annulus_sys::abi::{Cqe, RecvmsgOut, Sqe};
use annulus_sys::flags::{CqeFlags, RecvSendFlags, SqeFlags};
use annulus_sys::opcode::Opcode;

use super::group::{Part, read, write};
use super::kernel::State;
use crate::bodies::owned::request::{Region, Use};

/// A request that the kernel has.
#[derive(Debug)]
pub struct Request {
    pub user_data: u64,
    kind: Kind,
    fd: i32,
    group: u16,
    many: bool,
    bundle: bool,
    is_doomed: bool,
    early: Option<Part>,
    /// The memory of an entry that names some; or the buffer that it has selected early.
    pub region: Region,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Receives,
    /// With so much room before the bytes.
    Messages(u32),
    Sends,
    Opens,
    /// Uses so many bytes of its own.
    Plain(u32),
}

impl Request {
    fn selects(&self) -> bool {
        matches!(self.kind, Kind::Receives | Kind::Messages(_))
    }
}

/// The most completions of a kind that a request has without its last.
const RARELY: u32 = 6;

impl State {
    /// Begins the request of an entry.
    pub fn start(&mut self, sqe: &Sqe) {
        let order = RecvSendFlags::from_bits_retain(sqe.ioprio);
        let selects = sqe.flags.contains(SqeFlags::BUFFER_SELECT);
        let opens = matches!(sqe.opcode, Opcode::OPENAT | Opcode::OPENAT2);
        let (kind, use_) = match sqe.opcode {
            Opcode::ASYNC_CANCEL => return self.cancel(sqe),
            Opcode::RECVMSG if selects => (Kind::Messages(head_of(sqe.addr)), Use::Nothing),
            Opcode::RECV | Opcode::READ_MULTISHOT if selects => (Kind::Receives, Use::Nothing),
            Opcode::SEND if selects => (Kind::Sends, Use::Nothing),
            Opcode::SEND | Opcode::WRITE_FIXED | Opcode::WRITE => {
                (Kind::Plain(sqe.len), Use::Reads)
            }
            Opcode::READ | Opcode::READ_FIXED => (Kind::Plain(sqe.len), Use::Writes),
            Opcode::NOP => (Kind::Plain(0), Use::Nothing),
            _ if opens => (Kind::Opens, Use::Nothing),
            other => return self.fault(format!("an entry with {other:?}")),
        };
        let shoots = order.contains(RecvSendFlags::RECV_MULTISHOT);
        let mut request = Request {
            user_data: sqe.user_data,
            kind,
            fd: sqe.fd,
            group: sqe.buf_index,
            many: sqe.opcode == Opcode::READ_MULTISHOT || (shoots && selects),
            bundle: order.contains(RecvSendFlags::BUNDLE),
            is_doomed: false,
            early: None,
            region: Region::new(sqe.addr, sqe.len, use_),
        };
        if let Some(rule) = self.broken_by(&request, sqe) {
            self.fault(rule);
        }
        self.is_linked = sqe.flags.intersects(SqeFlags::IO_LINK | SqeFlags::IO_HARDLINK);
        // The number may have been that of another receive, which was given up.
        self.chunks.remove(&sqe.fd);
        let is_forced = sqe.flags.contains(SqeFlags::ASYNC);
        if is_forced && kind == Kind::Receives && !request.many && self.chance.one_in(2) {
            request.early = self.group(request.group).and_then(super::group::Group::skip);
            if let Some(part) = request.early {
                request.region = Region::new(part.addr, part.len, Use::Writes);
            }
        }
        self.requests.push(request);
    }

    /// What Linux must not be asked for, because its completions do not say enough: what it then
    /// selects may come twice, or never come back.
    fn broken_by(&self, request: &Request, sqe: &Sqe) -> Option<String> {
        let receives = matches!(request.kind, Kind::Receives | Kind::Messages(_));
        let group = self.groups.iter().find(|group| receives && group.id == request.group)?;
        let flags = sqe.op_flags.cast_signed();
        let is_read = sqe.opcode == Opcode::READ_MULTISHOT;
        if !is_read && flags & (libc::MSG_WAITALL | libc::MSG_PEEK) != 0 {
            return Some(format!("BR1: {request:?} waits for all, or peeks"));
        }
        if group.in_parts && matches!(request.kind, Kind::Messages(_)) {
            return Some(format!("BR1: {request:?} puts a message in a part of a buffer"));
        }
        if request.bundle && (self.is_linked || sqe.flags.contains(SqeFlags::ASYNC)) {
            return Some(format!("BR1: others may overtake the bundle of {request:?}"));
        }
        let is_other = |it: &&Request| it.group == request.group && it.selects();
        let other = self.requests.iter().find(is_other)?;
        // Multishots that pick parts complete in the order in which they select.
        let in_turn = request.many && other.many;
        if (group.in_parts && !in_turn) || request.bundle || other.bundle {
            return Some(format!("BR1: {request:?} selects beside {other:?}"));
        }
        None
    }

    fn cancel(&mut self, sqe: &Sqe) {
        let target = self.requests.iter_mut().find(|it| it.user_data == sqe.addr);
        let res = if let Some(target) = target {
            target.is_doomed = true;
            0
        } else {
            -libc::ENOENT
        };
        self.post(Cqe { user_data: sqe.user_data, res, ..Cqe::ZERO });
    }

    /// Lets some request go on; false if there is none.
    pub fn complete_one(&mut self) -> bool {
        let Some(at) = self.chance.place(self.requests.len()) else { return false };
        let request = self.requests.remove(at);
        match request.kind {
            Kind::Receives | Kind::Messages(_) => self.receive(request, at),
            Kind::Sends => self.send(request, at),
            Kind::Opens => {
                let free = self.files.iter().position(|filled| !filled);
                let fails = self.chance.one_in(RARELY);
                let res = match free.filter(|_| !fails) {
                    Some(place) => {
                        self.files[place] = true;
                        i32::try_from(place).expect("few")
                    }
                    None => -libc::ENFILE,
                };
                self.end(&request, res, CqeFlags::empty());
            }
            Kind::Plain(len) => {
                let part = self.chance.below(len + 1).cast_signed();
                let whole = len.cast_signed();
                let res = self.chance.among(&[whole, whole, part, -libc::EIO]);
                self.end(&request, if request.is_doomed { -libc::ECANCELED } else { res }, NONE);
            }
        }
        true
    }

    fn end(&mut self, request: &Request, res: i32, flags: CqeFlags) {
        let is_other = |other: &Request| other.group == request.group && other.selects();
        let was_last = !self.requests.iter().any(is_other);
        if !flags.contains(CqeFlags::MORE)
            && request.selects()
            && let Some(group) = self.group(request.group)
        {
            group.ended(res, was_last);
        }
        self.post(Cqe { user_data: request.user_data, res, flags });
    }

    /// A completion that is the last one, or not.
    fn maybe_end(&mut self, request: Request, at: usize, res: i32, flags: CqeFlags) {
        if request.many && !self.chance.one_in(RARELY) {
            self.end(&request, res, flags | CqeFlags::MORE);
            self.requests.insert(at, request);
        } else {
            self.end(&request, res, flags);
        }
    }

    fn receive(&mut self, mut request: Request, at: usize) {
        let early = request.early.take();
        request.region = Region::default();
        let none = self.group(request.group).is_none_or(|group| group.ready() == 0);
        let fails = request.is_doomed || self.chance.one_in(RARELY);
        if fails || (none && early.is_none()) {
            return self.fail(&request, early, none);
        }
        let wanted = if request.bundle { self.chance.below(3) + 1 } else { 1 };
        if self.is_alone(&request) && self.chance.one_in(RARELY) {
            // It had tried before.
            self.lose(&request, false);
        }
        let is_alone = self.is_alone(&request);
        let Some(group) = self.groups.iter_mut().find(|group| group.id == request.group) else {
            return self.fail(&request, early, none);
        };
        let before = if let Kind::Messages(head) = request.kind { head } else { 0 };
        let wanted = u16::try_from(wanted).expect("few");
        let room = early.map_or_else(|| group.room(wanted), |part| part.len);
        if room <= before {
            return self.fail(&request, early, true);
        }
        if is_alone {
            group.pass_over();
        }
        let bytes = before + 1 + self.chance.below(room - before);
        let parts = match early {
            Some(part) => vec![Part { len: bytes, ..part }],
            None => group.take(bytes),
        };
        let mut chunk = self.chance.bytes(bytes as usize);
        if before > 0 {
            let header = [0, 0, bytes - before, 0].map(u32::to_ne_bytes);
            chunk[..16].copy_from_slice(header.as_flattened());
        }
        let mut left = &chunk[..];
        for part in &parts {
            let (here, rest) = left.split_at(part.len as usize);
            write(part.addr, here);
            left = rest;
        }
        let chunk = chunk.split_off(before as usize);
        self.chunks.entry(request.fd).or_default().push_back(chunk);
        let mut flags = named(parts[0].bid);
        let more = parts.last().is_some_and(|part| part.more);
        flags.set(CqeFlags::BUF_MORE, more && !(is_alone && self.is_quiet_about_more(&request)));
        self.maybe_end(request, at, bytes.cast_signed(), flags);
    }

    /// Whether nothing else may select from the pool of this request.
    fn is_alone(&mut self, request: &Request) -> bool {
        let in_parts = self.group(request.group).is_some_and(|group| group.in_parts);
        request.bundle || (in_parts && !request.many)
    }

    /// A worker thread uses up more of a buffer than it fills; and some Linux reports a buffer as
    /// done that it goes on filling. Whether the completion does not say that there is room left.
    fn is_quiet_about_more(&mut self, request: &Request) -> bool {
        let is_worker = !request.many && self.chance.one_in(2);
        let (used, is_quiet) = (self.chance.one_in(2), self.chance.one_in(2));
        let room = self.group(request.group).map_or(0, |group| group.front());
        if is_worker && used {
            let bytes = self.chance.below(room + 1);
            let left = self.group(request.group).is_none_or(|group| group.waste(bytes));
            return !left || is_quiet;
        }
        is_worker && is_quiet
    }

    /// A receive ends without data. What it had selected early is named, or not.
    fn fail(&mut self, request: &Request, early: Option<Part>, none: bool) {
        let mut flags = NONE;
        if let Some(part) = early {
            let is_named = self.chance.one_in(2);
            flags = if is_named { named(part.bid) } else { NONE };
            self.note_lost(request, part, is_named);
        } else if let Some(bid) = self.group(request.group).and_then(|group| group.next_whole())
            && self.chance.one_in(2)
        {
            // Linux 6.16 and 6.17 name a buffer that they have not selected.
            flags = named(bid);
        }
        let errors = [0, -libc::EIO, -libc::EINTR];
        let res = match none && early.is_none() {
            _ if request.is_doomed => -libc::ECANCELED,
            true => -libc::ENOBUFS,
            false if flags.is_empty() => self.chance.among(&errors),
            false => self.chance.among(&errors[1..]),
        };
        if res < 0 && !(none && early.is_none()) || request.is_doomed {
            self.lose(request, true);
        }
        self.end(request, res, flags);
    }

    fn note_lost(&mut self, request: &Request, part: Part, is_named: bool) {
        if let Some(group) = self.group(request.group) {
            group.note_lost(part.bid, is_named);
        }
    }

    /// What is alone on its pool may have selected buffers that its completion does not name; or
    /// parts of one, if it brings nothing.
    fn lose(&mut self, request: &Request, fails: bool) {
        let is_alone = self.is_alone(request);
        let count = if is_alone { self.chance.below(3) } else { 0 };
        let Some(at) = self.groups.iter().position(|group| group.id == request.group) else {
            return;
        };
        for _ in 0..count {
            let group = &mut self.groups[at];
            if fails && group.in_parts && group.front() > 1 && self.chance.one_in(2) {
                group.waste(1 + self.chance.below(group.front() - 1));
            } else {
                group.lose();
            }
        }
    }

    fn send(&mut self, request: Request, at: usize) {
        let fails = request.is_doomed || self.chance.one_in(RARELY);
        let Some(group) = self.groups.iter_mut().find(|group| group.id == request.group) else {
            return self.end(&request, -libc::ENOBUFS, NONE);
        };
        let room = group.room(u16::MAX);
        if room == 0 || fails {
            let res = if fails { -libc::ECANCELED } else { -libc::ENOBUFS };
            return self.end(&request, res, NONE);
        }
        let is_short = self.chance.one_in(2);
        let bytes = if is_short { 1 + self.chance.below(room) } else { room };
        let group = self.groups.iter_mut().find(|it| it.id == request.group).expect("found above");
        let parts = group.take(bytes);
        for part in &parts {
            self.sent.extend(read(part.addr, part.len));
        }
        let (res, flags) = (bytes.cast_signed(), named(parts[0].bid));
        // After a short send, the next bytes would not be the next ones.
        if bytes < room {
            return self.end(&request, res, flags);
        }
        self.end(&request, res, flags | CqeFlags::MORE);
        self.requests.insert(at, request);
    }
}

const NONE: CqeFlags = CqeFlags::empty();

/// The flags that name a buffer.
fn named(bid: u16) -> CqeFlags {
    CqeFlags::BUFFER | CqeFlags::from_bits_retain(u32::from(bid) << 16)
}

/// The room before the bytes of a message, by the header that the entry points to.
fn head_of(address: u64) -> u32 {
    let header = std::ptr::with_exposed_provenance::<libc::msghdr>(
        usize::try_from(address).expect("64 bits"),
    );
    // SAFETY: the header of an operation that the kernel has (OP1).
    let header = unsafe { header.read() };
    let room = header.msg_namelen as usize + header.msg_controllen + size_of::<RecvmsgOut>();
    u32::try_from(room).expect("short")
}
