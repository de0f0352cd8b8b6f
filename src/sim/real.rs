//! Real descriptors: files, pipes and others that the simulation did not make. Requests on them do
//! what the calls of the machine do, at their simulated time.
//!
//! ```text
//!   request ── fd ──► nothing of this world ──► a duplicate, while requests or a table use it
//!                                                └─ read, write, fsync, ftruncate, fallocate, poll
//! ```
//!
//! | | |
//! |---|---|
//! | a regular file | is always ready; faults and delays apply to it as to a simulated one |
//! | a pipe, socket or terminal | is asked with `poll(2)`, which never waits, at each enter and whenever time moves |
//! | nothing else can happen | the enter waits for it, at most [`PATIENCE`] of the machine's time; not for an eventfd, which only the program itself writes to |
//! | receives, sends, accepts, connects, splices | are refused: `EOPNOTSUPP`, `ENOTSOCK`, `EINVAL` |
//! | a poll that repeats | ends with its first completion |
//! | once a rule was broken | `EIO`: nothing of the machine is touched |
//!
//! Two numbers for one file are two files to a cancel.
#![allow(unsafe_code, reason = "makes calls of the machine")]

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use annulus_sys::errno::Errno;

use super::handed::Real;
use super::placeholder::stat;
use super::request::Job;
use super::run::Try;
use super::state::State;
use super::trace::EndId;
use super::world::{Io, Kind, World};

/// How long an enter waits for real descriptors when nothing else can happen.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many bytes one call moves.
const CHUNK: usize = 1 << 16;

/// Every event that a request may wait for.
const ALL: i16 = libc::POLLIN | libc::POLLOUT | libc::POLLPRI | libc::POLLRDHUP;

/// Whether a number is that of an open descriptor.
pub(super) fn is_open(fd: RawFd) -> bool {
    stat(fd).is_some()
}

fn failed<T>(error: &io::Error) -> Io<T> {
    Io::Fails(error.raw_os_error().unwrap_or(libc::EIO))
}

fn result(done: io::Result<()>) -> Io<()> {
    done.map_or_else(|error| failed(&error), Io::Done)
}

/// What `poll(2)` says, within `millis` milliseconds.
fn poll(polled: &mut [libc::pollfd], millis: i32) -> bool {
    let count = libc::nfds_t::try_from(polled.len()).expect("64 bits");
    if count == 0 {
        return false;
    }
    loop {
        // SAFETY: so many live `struct pollfd`, as the count says.
        let ready = unsafe { libc::poll(polled.as_mut_ptr(), count, millis) };
        if ready >= 0 || io::Error::last_os_error().kind() != ErrorKind::Interrupted {
            return ready > 0;
        }
    }
}

/// What is there for one descriptor.
fn ready(file: &File, events: i16) -> i16 {
    let mut polled = [libc::pollfd { fd: file.as_raw_fd(), events, revents: 0 }];
    if poll(&mut polled, 0) { polled[0].revents } else { 0 }
}

/// A buffer that begins at a block, as `O_DIRECT` asks for; where it begins.
fn aligned(len: usize) -> (Vec<u8>, usize) {
    let buffer = vec![0; len + 4096];
    let at = buffer.as_ptr().align_offset(4096);
    (buffer, at)
}

impl World {
    /// The end that a descriptor leads to: one of this world, or a real one, which is kept open
    /// while it is used.
    pub(super) fn named(&mut self, fd: RawFd) -> Option<EndId> {
        match self.find_any(fd) {
            Some(end) => Some(end).filter(|&end| self.ends[end].kind != Kind::Path),
            None => self.real(fd),
        }
    }

    /// The end of a real descriptor.
    pub(super) fn real(&mut self, fd: RawFd) -> Option<EndId> {
        let stat = stat(fd)?;
        let key = (fd, stat.st_dev, stat.st_ino);
        let at = match self.reals.get(&key) {
            Some(&at) => at,
            None => {
                let at = self.make(Kind::Real);
                let kind = stat.st_mode & libc::S_IFMT;
                let real = Real { file: None, kind, is_direct: false, wanted: 0 };
                self.ends[at].real = Some(Box::new(real));
                self.reals.insert(key, at);
                at
            }
        };
        let real = self.ends[at].real.as_mut().expect("a real one");
        if real.file.is_none() {
            // SAFETY: open during the call, as `stat` has found.
            let fd = unsafe { BorrowedFd::borrow_raw(fd) };
            let file = File::from(fd.try_clone_to_owned().ok()?);
            // SAFETY: asks for the flags of an open descriptor, and takes no memory.
            let flags = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) };
            real.is_direct = flags & libc::O_DIRECT != 0;
            real.file = Some(file);
            if !self.held.contains(&at) {
                self.held.push(at);
            }
        }
        Some(at)
    }

    /// Something uses an end no more.
    pub(super) fn leave(&mut self, at: EndId) {
        let end = &mut self.ends[at];
        end.users -= 1;
        if let (0, Some(real)) = (end.users, &mut end.real) {
            real.file = None;
        }
    }

    /// Lets go of the real descriptors that nothing uses.
    pub(super) fn let_go_of_real(&mut self) {
        let ends = &mut self.ends;
        self.held.retain(|&at| {
            let is_used = ends[at].users > 0;
            if let Some(real) = ends[at].real.as_mut().filter(|_| !is_used) {
                real.file = None;
            }
            is_used
        });
    }

    /// What is known of a real end, and its file.
    fn open_real(&self, at: EndId) -> (&Real, &File) {
        let real = self.ends[at].real.as_ref().expect("a real one");
        (real, real.file.as_ref().expect("it is used"))
    }

    /// Whether an end is a real file that never waits.
    pub(super) fn is_real_file(&self, at: EndId) -> bool {
        self.ends[at].real.as_ref().is_some_and(|real| real.is_file())
    }

    /// Whether transfers of an end are never cut by chance.
    pub(super) fn is_direct(&self, at: EndId) -> bool {
        self.ends[at].real.as_ref().is_some_and(|real| real.is_direct)
    }

    /// Whether it is an eventfd.
    pub(super) fn is_real_eventfd(&self, at: EndId) -> bool {
        let (_, file) = self.open_real(at);
        let link = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
        link.is_ok_and(|link| link.as_os_str() == "anon_inode:[eventfd]")
    }

    /// A duplicate for the program.
    pub(super) fn duplicate(&self, at: EndId) -> Result<OwnedFd, Errno> {
        let (_, file) = self.open_real(at);
        file.try_clone().map(OwnedFd::from).map_err(|error| Errno::of(&error))
    }

    /// As `read`, of a real descriptor.
    pub(super) fn read_real(&self, at: EndId, most: usize, offset: Option<u64>) -> Io<Vec<u8>> {
        let (real, file) = self.open_real(at);
        if !real.is_file() && ready(file, libc::POLLIN) == 0 {
            return Io::Wait;
        }
        let (mut got, mut from) = (Vec::new(), offset);
        loop {
            let (mut buffer, at) = aligned(CHUNK.min(most - got.len()));
            let end = buffer.len() - 4096 + at;
            let room = &mut buffer[at..end];
            let read = match from {
                // A stream has no offsets.
                Some(from) if real.is_file() || real.kind == libc::S_IFCHR => {
                    file.read_at(room, from)
                }
                _ => (&mut &*file).read(room),
            };
            let count = match read {
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) if !got.is_empty() => return Io::Done(got),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Io::Wait,
                Err(error) => return failed(&error),
            };
            let is_cut = count < room.len();
            got.extend_from_slice(&room[..count]);
            from = from.map(|from| from + count as u64);
            if is_cut || got.len() >= most || !real.is_file() {
                return Io::Done(got);
            }
        }
    }

    /// As `write`, to a real descriptor.
    pub(super) fn write_real(&self, at: EndId, bytes: &[u8], offset: Option<u64>) -> Io<usize> {
        let (real, file) = self.open_real(at);
        if !real.is_file() && ready(file, libc::POLLOUT) == 0 {
            return Io::Wait;
        }
        // So many bytes a pipe takes at once, if it takes any.
        let most = if real.kind == libc::S_IFIFO { libc::PIPE_BUF } else { usize::MAX };
        let bytes = &bytes[..bytes.len().min(most)];
        let (mut buffer, start) = aligned(bytes.len());
        buffer[start..start + bytes.len()].copy_from_slice(bytes);
        let bytes = &buffer[start..start + bytes.len()];
        loop {
            let written = match offset {
                Some(at) if real.is_file() || real.kind == libc::S_IFCHR => {
                    file.write_at(bytes, at)
                }
                _ if real.kind == libc::S_IFSOCK => send(file, bytes),
                _ => (&mut &*file).write(bytes),
            };
            return match written {
                Ok(count) => Io::Done(count),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => Io::Wait,
                Err(error) => failed(&error),
            };
        }
    }

    /// `fsync(2)` of a real descriptor.
    pub(super) fn sync_real(&self, at: EndId) -> Io<()> {
        result(self.open_real(at).1.sync_all())
    }

    /// `ftruncate(2)` of a real descriptor.
    pub(super) fn truncate_real(&self, at: EndId, len: u64) -> Io<()> {
        if len > i64::MAX.cast_unsigned() {
            return Io::Fails(libc::EINVAL);
        }
        result(self.open_real(at).1.set_len(len))
    }

    /// `fallocate(2)` of a real descriptor.
    pub(super) fn allocate_real(&self, at: EndId, mode: i32, offset: u64, len: u64) -> Io<()> {
        let fd = self.open_real(at).1.as_raw_fd();
        // SAFETY: takes four numbers, and no memory.
        let done = unsafe { libc::fallocate(fd, mode, offset.cast_signed(), len.cast_signed()) };
        if done == 0 { Io::Done(()) } else { failed(&io::Error::last_os_error()) }
    }

    /// `shutdown(2)` of a real descriptor.
    pub(super) fn shut_down_real(&self, at: EndId, how: i32) -> Io<()> {
        let fd = self.open_real(at).1.as_raw_fd();
        // SAFETY: takes two numbers, and no memory.
        let done = unsafe { libc::shutdown(fd, how) };
        if done == 0 { Io::Done(()) } else { failed(&io::Error::last_os_error()) }
    }

    /// What `poll(2)` says of a real descriptor.
    pub(super) fn real_events(&self, at: EndId) -> u32 {
        u32::from(ready(self.open_real(at).1, ALL).cast_unsigned())
    }

    /// Notes what a request waits for, if its end is real.
    pub(super) fn want(&mut self, at: EndId, job: &Job) {
        let Some(real) = &mut self.ends[at].real else { return };
        let events = match job {
            Job::Write { .. } => libc::POLLOUT,
            Job::Poll { events, .. } => i16::try_from(*events & 0x7fff).expect("15 bits") & ALL,
            _ => libc::POLLIN,
        };
        real.wanted |= events;
        if !self.awaited.contains(&at) {
            self.awaited.push(at);
        }
    }

    /// Looks at the real descriptors that requests wait for, and lets those go on that may. Waits
    /// for as long. Returns whether there is one.
    fn poll_real(&mut self, millis: i32) -> bool {
        let mut awaited = std::mem::take(&mut self.awaited);
        awaited.retain(|&at| self.is_awaited(at) && self.ends[at].users > 0);
        let polled = |&at: &EndId| {
            let (real, file) = self.open_real(at);
            libc::pollfd { fd: file.as_raw_fd(), events: real.wanted, revents: 0 }
        };
        let mut polled: Vec<libc::pollfd> = awaited.iter().map(polled).collect();
        let is_there = poll(&mut polled, millis);
        for (at, polled) in awaited.into_iter().zip(polled) {
            if polled.revents == 0 {
                self.awaited.push(at);
                continue;
            }
            self.ends[at].real.as_mut().expect("a real one").wanted = 0;
            self.wake(at);
        }
        is_there
    }

    /// Looks at the real descriptors that requests wait for.
    pub(super) fn look_at_real(&mut self) {
        if !self.awaited.is_empty() {
            self.poll_real(0);
        }
    }

    /// Waits for the real descriptors that requests wait for, since nothing else can happen.
    pub(super) fn wait_for_real(&mut self) -> bool {
        let millis = i32::try_from(PATIENCE.as_millis()).expect("seconds");
        let has_other_end =
            |&at: &EndId| self.ends[at].real.as_ref().is_some_and(|real| real.has_other_end());
        self.awaited.iter().any(has_other_end) && self.poll_real(millis)
    }
}

/// Sends without waiting, and without a signal.
fn send(file: &File, bytes: &[u8]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    let (at, len) = (bytes.as_ptr().cast(), bytes.len());
    // SAFETY: so many live bytes, which the call only reads.
    let sent = unsafe { libc::send(file.as_raw_fd(), at, len, flags) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

impl State {
    /// The end that a descriptor of the program leads to: not that of a ring.
    pub(super) fn end_at(&mut self, fd: RawFd) -> Option<EndId> {
        if self.ring_at(fd).is_some() {
            return None;
        }
        self.world.named(fd)
    }

    /// What becomes of a request on a real descriptor that is not passed on, if it is not.
    pub(super) fn refused_by_real(&self, end: EndId, job: &Job) -> Option<Try> {
        let real = self.world.ends[end].real.as_ref()?;
        let is_socket = real.kind == libc::S_IFSOCK;
        let errno = match job {
            _ if !self.is_sound() => libc::EIO,
            Job::Recv(_)
            | Job::RecvMessage(..)
            | Job::Send(_)
            | Job::Accept { .. }
            | Job::Connect(_)
            | Job::Bind(_)
            | Job::Listen => {
                if is_socket {
                    libc::EOPNOTSUPP
                } else {
                    libc::ENOTSOCK
                }
            }
            Job::Splice(_) => libc::EINVAL,
            Job::ReadMany if real.is_file() => libc::EBADFD,
            Job::ReadMany => libc::EOPNOTSUPP,
            _ => return None,
        };
        Some(Try::Ends(-errno))
    }
}
