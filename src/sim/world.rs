//! The simulated world: the ends that descriptors lead to, and what flows between them.
//!
//! ```text
//!   Writer ──► inbox of Reader             Stream ◄──► Stream     an inbox at each end
//!   Fresh ── connect ──► queue of Listener ── accept ──► Stream
//!   Datagram, Udp: whole messages, also to an address
//!   File: a node of the tree, a position   Counter: a number, as an eventfd is
//!   Real: a descriptor of the machine
//! ```
//!
//! What an end does not do now answers [`Io::Wait`]; whoever asked is noted, and called when the
//! end changes. Leaves to others: descriptors (`placeholder`), connections (`sockets`), contents of
//! files (`tree`, `opened`), and who asks (`run`).

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::os::fd::{OwnedFd, RawFd};

use annulus_sys::errno::Errno;

use super::handed::Real;
use super::pipe::Inbox;
use super::placeholder::{Inode, Placeholder, find_closed, inode};
use super::trace::{EndId, RequestId};
use super::tree::{Opened, Tree};

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
    /// One of a pair of connected Unix sockets for datagrams.
    Datagram,
    Udp,
    /// A socket for a stream that was not connected yet.
    Fresh,
    Listener,
    File,
    /// A folder, opened to find files from it.
    Folder,
    /// A place of the tree, opened with `O_PATH`.
    Path,
    Counter,
    /// A descriptor that the simulation did not make.
    Real,
}

/// One end.
#[derive(Debug)]
pub(super) struct End {
    pub(super) kind: Kind,
    /// The other end; `None` once that one is gone.
    pub(super) peer: Option<EndId>,
    pub(super) inbox: Inbox,
    /// Nothing more comes; nothing more can be sent.
    pub(super) no_more: Shut,
    /// The other end was closed before it had read everything.
    pub(super) is_reset: bool,
    /// What a file or a folder is open on, and for what.
    pub(super) opened: Option<Opened>,
    pub(super) real: Option<Box<Real>>,
    /// The position in a file, or the number of a counter.
    pub(super) position: u64,
    /// A listener's connections that were not accepted.
    pub(super) queue: VecDeque<EndId>,
    pub(super) address: Option<SocketAddr>,
    /// Where a UDP socket is connected to.
    pub(super) remote: Option<SocketAddr>,
    /// Messages that were sent and not received.
    pub(super) mail: VecDeque<Mail>,
    /// The requests that wait for a change.
    waiters: Vec<RequestId>,
    /// How many requests use it.
    pub(super) users: u32,
    pub(super) life: Life,
    /// How many placeholders lead to it.
    names: usize,
}

/// A message, and the address from which it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mail {
    pub(super) bytes: Vec<u8>,
    pub(super) from: Option<SocketAddr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Shut {
    pub(super) reads: bool,
    pub(super) writes: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
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
    by_inode: HashMap<Inode, EndId>,
    /// The real descriptors that were used, by what names them; those that are kept open; those
    /// that requests wait for.
    pub(super) reals: HashMap<(RawFd, u64, u64), EndId>,
    pub(super) held: Vec<EndId>,
    pub(super) awaited: Vec<EndId>,
    /// Below which folders paths are those of the machine.
    pub(super) roots: Vec<Vec<u8>>,
    /// The placeholders, what is polled of each, and where each leads.
    watched: Vec<libc::pollfd>,
    names: Vec<(EndId, Placeholder)>,
    /// The ends that are closed, and may still be used.
    closing: Vec<EndId>,
    /// Requests that are to try again.
    pub(super) woken: Vec<RequestId>,
    pub(super) ports: u16,
    pub(super) tree: Tree,
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
            opened: None,
            real: None,
            position: 0,
            queue: VecDeque::new(),
            address: None,
            remote: None,
            mail: VecDeque::new(),
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

    pub(super) fn join(&mut self, one: EndId, other: EndId) {
        self.ends[one].peer = Some(other);
        self.ends[other].peer = Some(one);
    }

    /// A descriptor for an end.
    pub(super) fn descriptor(&mut self, end: EndId) -> Result<OwnedFd, Errno> {
        if self.ends[end].kind == Kind::Real {
            return self.duplicate(end);
        }
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
    pub(super) fn find_any(&self, fd: RawFd) -> Option<EndId> {
        self.by_inode.get(&inode(fd)?).copied()
    }

    /// The end that a descriptor leads to, unless it is one for `O_PATH`.
    pub(super) fn find(&self, fd: RawFd) -> Option<EndId> {
        self.find_any(fd).filter(|&end| self.ends[end].kind != Kind::Path)
    }

    /// Notes which ends have lost their last descriptor, and lets those go that no request uses.
    /// Returns the ends that are gone now.
    pub(super) fn sweep(&mut self) -> Vec<EndId> {
        self.let_go_of_real();
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
        let opened = end.opened.take();
        let queue = std::mem::take(&mut end.queue);
        self.wake(at);
        if let Some(opened) = opened {
            self.tree.close(opened.node);
        }
        if let Some(peer) = peer {
            let is_stream = matches!(self.ends[peer].kind, Kind::Pair | Kind::Connection);
            let other = &mut self.ends[peer];
            other.peer = None;
            let has_messages = other.kind == Kind::Datagram;
            if !has_messages {
                other.no_more = Shut { reads: true, writes: true };
            }
            other.is_reset |= (is_stream && unread) || has_messages;
            self.wake(peer);
        }
        for waiting in queue {
            self.ends[waiting].is_reset = true;
            self.end(waiting);
        }
    }

    /// Lets whoever waits for the end try again: the last one first, and accepts in order, as on
    /// Linux. Those that wait again do so in that order.
    pub(super) fn wake(&mut self, at: EndId) {
        let end = &mut self.ends[at];
        if end.kind != Kind::Listener {
            end.waiters.reverse();
        }
        self.woken.append(&mut end.waiters);
    }

    /// Notes that a request waits for a change of the end.
    pub(super) fn await_change(&mut self, at: EndId, request: RequestId) {
        self.ends[at].waiters.push(request);
    }

    /// Whether a request waits for a change of the end.
    pub(super) fn is_awaited(&self, at: EndId) -> bool {
        !self.ends[at].waiters.is_empty()
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
            Kind::File => self.read_file(at, most, offset),
            Kind::Folder | Kind::Datagram | Kind::Udp if most == 0 => Io::Done(Vec::new()),
            Kind::Datagram | Kind::Udp => match self.take_message(at, most) {
                Io::Done((mail, _)) => Io::Done(mail.bytes),
                Io::Wait => Io::Wait,
                Io::Fails(errno) => Io::Fails(errno),
            },
            Kind::Folder => Io::Fails(libc::EISDIR),
            Kind::Path => Io::Fails(libc::EBADF),
            Kind::Counter if most < 8 => Io::Fails(libc::EINVAL),
            Kind::Counter if end.position == 0 => Io::Wait,
            Kind::Counter => {
                let count = std::mem::take(&mut end.position);
                self.wake(at);
                Io::Done(count.to_ne_bytes().to_vec())
            }
            Kind::Writer => Io::Fails(libc::EBADF),
            Kind::Fresh | Kind::Listener => Io::Fails(libc::EINVAL),
            Kind::Real => self.read_real(at, most, offset),
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
            Kind::Datagram | Kind::Udp => self.send_message(at, bytes, None),
            Kind::File => self.write_file(at, bytes, offset),
            Kind::Folder | Kind::Path => Io::Fails(libc::EBADF),
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
            Kind::Real => self.write_real(at, bytes, offset),
        }
    }
}
