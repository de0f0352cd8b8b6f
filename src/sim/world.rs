//! The simulated world: the ends that descriptors lead to, and what flows between them.
//!
//! ```text
//!   Writer ──► inbox of Reader             Stream ◄──► Stream     an inbox at each end
//!   Fresh ── connect ──► queue of Listener ── accept ──► Stream
//!   File: bytes and a position             Counter: a number, as an eventfd is
//! ```
//!
//! What an end does not do now answers [`Io::Wait`]; whoever asked is noted, and called when the
//! end changes. Leaves to others: descriptors (`placeholder`), and who asks (`run`).

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::os::fd::{OwnedFd, RawFd};

use annulus_sys::errno::Errno;

use super::pipe::Inbox;
use super::placeholder::{Placeholder, find_closed, inode};
use super::trace::{EndId, RequestId};

/// How many connections a listener queues.
const BACKLOG: usize = 128;

/// What an end did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Io<T> {
    Done(T),
    /// Nothing: it would have to wait.
    Wait,
    /// This error number.
    Fails(i32),
}

/// What a descriptor leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Reader,
    Writer,
    /// One of a pair of connected Unix sockets.
    Pair,
    /// A connection that was made by `CONNECT` or by `Sim::connect`.
    Connection,
    /// A socket that was not connected yet.
    Fresh,
    Listener,
    File,
    Counter,
}

/// One end.
#[derive(Debug)]
pub(super) struct End {
    pub(super) kind: Kind,
    /// The other end; `None` once that one is gone.
    pub(super) peer: Option<EndId>,
    pub(super) inbox: Inbox,
    /// Nothing more comes; nothing more can be sent.
    no_more: Shut,
    /// The other end was closed before it had read everything.
    is_reset: bool,
    /// The contents of a file, its position, or the number of a counter.
    pub(super) bytes: Vec<u8>,
    pub(super) position: u64,
    /// A listener's connections that were not accepted.
    queue: VecDeque<EndId>,
    pub(super) address: Option<SocketAddr>,
    /// The requests that wait for a change.
    waiters: Vec<RequestId>,
    /// How many requests use it.
    pub(super) users: u32,
    life: Life,
    /// How many placeholders lead to it.
    names: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Shut {
    reads: bool,
    writes: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    /// It has descriptors, or waits to be accepted.
    Open,
    /// It has no descriptor any more; requests may still use it.
    Closed,
    Gone,
}

/// All ends.
#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) ends: Vec<End>,
    by_inode: HashMap<u64, EndId>,
    /// The placeholders, what is polled of each, and where each leads.
    watched: Vec<libc::pollfd>,
    names: Vec<(EndId, Placeholder)>,
    /// The ends that are closed, and may still be used.
    closing: Vec<EndId>,
    /// Requests that are to try again.
    pub(super) woken: Vec<RequestId>,
    ports: u16,
}

impl World {
    /// A new end, without a descriptor.
    pub(super) fn make(&mut self, kind: Kind) -> EndId {
        let inbox = if kind == Kind::Reader { Inbox::pipe() } else { Inbox::default() };
        self.ends.push(End {
            kind,
            peer: None,
            inbox,
            no_more: Shut::default(),
            is_reset: false,
            bytes: Vec::new(),
            position: 0,
            queue: VecDeque::new(),
            address: None,
            waiters: Vec::new(),
            users: 0,
            life: Life::Open,
            names: 0,
        });
        self.ends.len() - 1
    }

    /// Two ends of a pipe or of a stream.
    pub(super) fn make_pair(&mut self, first: Kind, second: Kind) -> (EndId, EndId) {
        let (one, other) = (self.make(first), self.make(second));
        self.join(one, other);
        (one, other)
    }

    fn join(&mut self, one: EndId, other: EndId) {
        self.ends[one].peer = Some(other);
        self.ends[other].peer = Some(one);
    }

    /// A descriptor for an end.
    pub(super) fn descriptor(&mut self, end: EndId) -> Result<OwnedFd, Errno> {
        let (fd, placeholder) = Placeholder::new()?;
        self.by_inode.insert(placeholder.inode(), end);
        self.watched.push(placeholder.watched());
        self.names.push((end, placeholder));
        let named = &mut self.ends[end];
        named.names += 1;
        named.life = Life::Open;
        self.closing.retain(|&closing| closing != end);
        Ok(fd)
    }

    /// The end has no descriptor: it lives as long as it is used.
    pub(super) fn adopt(&mut self, end: EndId) {
        self.ends[end].life = Life::Closed;
        self.closing.push(end);
    }

    /// The end that a descriptor leads to.
    pub(super) fn find(&self, fd: RawFd) -> Option<EndId> {
        self.by_inode.get(&inode(fd)?).copied()
    }

    /// Notes which ends have lost their last descriptor, and lets those go that no request uses.
    /// Returns the ends that are gone now.
    pub(super) fn sweep(&mut self) -> Vec<EndId> {
        if find_closed(&mut self.watched) {
            let mut at = 0;
            while at < self.watched.len() {
                if self.watched[at].revents == 0 {
                    at += 1;
                    continue;
                }
                self.watched.swap_remove(at);
                let (closed, placeholder) = self.names.swap_remove(at);
                self.by_inode.remove(&placeholder.inode());
                self.ends[closed].names -= 1;
                if self.ends[closed].names == 0 {
                    self.adopt(closed);
                }
            }
        }
        let ends = &self.ends;
        let gone: Vec<EndId> = self.closing.extract_if(.., |end| ends[*end].users == 0).collect();
        gone.iter().for_each(|&end| self.end(end));
        gone
    }

    /// The end is gone.
    fn end(&mut self, at: EndId) {
        let end = &mut self.ends[at];
        end.life = Life::Gone;
        let (peer, unread) = (end.peer.take(), end.inbox.len() > 0);
        let queue = std::mem::take(&mut end.queue);
        self.wake(at);
        if let Some(peer) = peer {
            let is_stream = matches!(self.ends[peer].kind, Kind::Pair | Kind::Connection);
            let other = &mut self.ends[peer];
            other.peer = None;
            other.no_more = Shut { reads: true, writes: true };
            other.is_reset |= is_stream && unread;
            self.wake(peer);
        }
        for waiting in queue {
            self.ends[waiting].is_reset = true;
            self.end(waiting);
        }
    }

    /// Lets whoever waits for the end try again.
    fn wake(&mut self, at: EndId) {
        self.woken.append(&mut self.ends[at].waiters);
    }

    /// Notes that a request waits for a change of the end.
    pub(super) fn await_change(&mut self, at: EndId, request: RequestId) {
        self.ends[at].waiters.push(request);
    }

    /// The request waits no more.
    pub(super) fn forget(&mut self, at: EndId, request: RequestId) {
        self.ends[at].waiters.retain(|&waiter| waiter != request);
    }

    /// Receives up to `most` bytes. Even one that wants none waits for some (v6.18).
    pub(super) fn receive(&mut self, at: EndId, most: usize) -> Io<Vec<u8>> {
        match &self.ends[at] {
            end if most > 0 || end.is_reset => self.read(at, most.max(1), None),
            end if end.inbox.len() > 0 || end.no_more.reads => Io::Done(Vec::new()),
            _ => Io::Wait,
        }
    }

    /// Reads up to `most` bytes; none at the end. `offset` counts only for files, where `None` is
    /// the position.
    pub(super) fn read(&mut self, at: EndId, most: usize, offset: Option<u64>) -> Io<Vec<u8>> {
        let end = &mut self.ends[at];
        match end.kind {
            Kind::Reader | Kind::Pair | Kind::Connection => {
                let (was_full, is_reset) = (end.inbox.is_full(), end.is_reset);
                if most == 0 {
                    return Io::Done(Vec::new());
                }
                if end.inbox.len() == 0 {
                    if is_reset {
                        end.is_reset = false;
                        return Io::Fails(libc::ECONNRESET);
                    }
                    return if end.no_more.reads { Io::Done(Vec::new()) } else { Io::Wait };
                }
                let bytes = end.inbox.take(most);
                let peer = end.peer;
                if was_full && let Some(peer) = peer {
                    self.wake(peer);
                }
                Io::Done(bytes)
            }
            Kind::File => {
                let from = offset.unwrap_or(end.position);
                let start = usize::try_from(from).unwrap_or(usize::MAX).min(end.bytes.len());
                let bytes = end.bytes[start..][..most.min(end.bytes.len() - start)].to_vec();
                if offset.is_none() {
                    end.position += bytes.len() as u64;
                }
                Io::Done(bytes)
            }
            Kind::Counter if most < 8 => Io::Fails(libc::EINVAL),
            Kind::Counter if end.position == 0 => Io::Wait,
            Kind::Counter => {
                let count = std::mem::take(&mut end.position);
                self.wake(at);
                Io::Done(count.to_ne_bytes().to_vec())
            }
            Kind::Writer => Io::Fails(libc::EBADF),
            Kind::Fresh | Kind::Listener => Io::Fails(libc::EINVAL),
        }
    }

    /// Writes some of these bytes; returns how many.
    pub(super) fn write(&mut self, at: EndId, bytes: &[u8], offset: Option<u64>) -> Io<usize> {
        let end = &mut self.ends[at];
        match end.kind {
            Kind::Writer | Kind::Pair | Kind::Connection => {
                let Some(peer) = end.peer.filter(|_| !end.no_more.writes) else {
                    return Io::Fails(libc::EPIPE);
                };
                let inbox = &mut self.ends[peer].inbox;
                let count = inbox.put(bytes);
                if count == 0 && !bytes.is_empty() {
                    return Io::Wait;
                }
                self.wake(peer);
                Io::Done(count)
            }
            Kind::File => {
                let from = usize::try_from(offset.unwrap_or(end.position)).unwrap_or(usize::MAX);
                let Some(to) = from.checked_add(bytes.len()).filter(|&to| to <= 1 << 30) else {
                    return Io::Fails(libc::EFBIG);
                };
                if to > end.bytes.len() && !bytes.is_empty() {
                    end.bytes.resize(to, 0);
                }
                end.bytes[from..to].copy_from_slice(bytes);
                if offset.is_none() {
                    end.position += bytes.len() as u64;
                }
                Io::Done(bytes.len())
            }
            Kind::Counter => {
                // Exactly eight bytes (Linux 6.8).
                let Ok(more) = bytes.try_into().map(u64::from_ne_bytes) else {
                    return Io::Fails(libc::EINVAL);
                };
                if more == u64::MAX {
                    return Io::Fails(libc::EINVAL);
                }
                let Some(sum) = end.position.checked_add(more).filter(|&sum| sum < u64::MAX) else {
                    return Io::Wait;
                };
                end.position = sum;
                self.wake(at);
                Io::Done(8)
            }
            Kind::Reader => Io::Fails(libc::EBADF),
            Kind::Fresh => Io::Fails(libc::EPIPE),
            Kind::Listener => Io::Fails(libc::EINVAL),
        }
    }

    /// Ends one direction, or both.
    pub(super) fn shut_down(&mut self, at: EndId, how: i32) -> Io<()> {
        let (reads, writes) = match how {
            libc::SHUT_RD => (true, false),
            libc::SHUT_WR => (false, true),
            libc::SHUT_RDWR => (true, true),
            _ => return Io::Fails(libc::EINVAL),
        };
        let end = &mut self.ends[at];
        match end.kind {
            Kind::Pair | Kind::Connection => {}
            Kind::Fresh => return Io::Fails(libc::ENOTCONN),
            Kind::Listener => {
                end.no_more.reads |= reads;
                self.wake(at);
                return Io::Done(());
            }
            _ => return Io::Fails(libc::ENOTSOCK),
        }
        end.no_more =
            Shut { reads: end.no_more.reads | reads, writes: end.no_more.writes | writes };
        if let Some(peer) = end.peer {
            let other = &mut self.ends[peer].no_more;
            *other = Shut { reads: other.reads | writes, writes: other.writes | reads };
            self.wake(peer);
        }
        self.wake(at);
        Io::Done(())
    }

    /// Takes a connection off a listener's queue.
    pub(super) fn accept(&mut self, at: EndId) -> Io<EndId> {
        let end = &mut self.ends[at];
        match end.kind {
            Kind::Listener if end.no_more.reads => Io::Fails(libc::EINVAL),
            Kind::Listener => match end.queue.pop_front() {
                Some(connection) => {
                    self.wake(at);
                    Io::Done(connection)
                }
                None => Io::Wait,
            },
            Kind::Fresh | Kind::Pair | Kind::Connection => Io::Fails(libc::EINVAL),
            _ => Io::Fails(libc::ENOTSOCK),
        }
    }

    /// The listener at an address.
    pub(super) fn listener(&self, address: SocketAddr) -> Option<EndId> {
        let is_it = |end: &End| {
            end.kind == Kind::Listener && end.address == Some(address) && end.life == Life::Open
        };
        self.ends.iter().position(is_it)
    }

    /// Connects a fresh socket to the listener at an address.
    pub(super) fn connect(&mut self, at: EndId, address: SocketAddr) -> Io<()> {
        match self.ends[at].kind {
            Kind::Fresh => {}
            Kind::Pair | Kind::Connection => return Io::Fails(libc::EISCONN),
            Kind::Listener => return Io::Fails(libc::EINVAL),
            _ => return Io::Fails(libc::ENOTSOCK),
        }
        let Some(listener) = self.listener(address) else { return Io::Fails(libc::ECONNREFUSED) };
        if self.ends[listener].no_more.reads {
            return Io::Fails(libc::ECONNREFUSED);
        }
        if self.ends[listener].queue.len() >= BACKLOG {
            return Io::Wait;
        }
        let served = self.make(Kind::Connection);
        self.ends[served].address = Some(address);
        self.ports = self.ports.wrapping_add(1);
        let port = 49_152 + self.ports % 16_384;
        self.ends[at].address = Some(SocketAddr::new(address.ip(), port));
        self.ends[at].kind = Kind::Connection;
        self.join(at, served);
        self.ends[listener].queue.push_back(served);
        self.wake(listener);
        Io::Done(())
    }

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
            Kind::Fresh => note(true, libc::POLLOUT | libc::POLLHUP),
            Kind::Listener => note(!end.queue.is_empty() || reads, libc::POLLIN),
            Kind::File => note(true, libc::POLLIN | libc::POLLOUT),
            Kind::Counter => {
                note(end.position > 0, libc::POLLIN);
                note(end.position < u64::MAX - 1, libc::POLLOUT);
            }
        }
        mask
    }
}
