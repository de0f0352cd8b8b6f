//! Buffers on loan to the kernel: just enough ownership to keep OP1 and OP2 on every path.
//!
//! ```text
//!   push ─► the kernel has the buffer ─► next ─► we have it again
//!                  └── dropped ─► cancel, wait ─► freed, or leaked if the kernel will not let go
//! ```
//!
//! The raw face of the ring leaves OP1 to whoever pushes. This is one way to keep it: the buffers
//! belong to a value that outlives every request in it, early returns and panics included. A file
//! is borrowed as long as that value lives.
#![allow(unsafe_code, reason = "pushes entries that point to its buffers")]

use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use annulus::sys::abi::{Cqe, Sqe};
use annulus::sys::errno::Errno;
use annulus::sys::opcode::Opcode;
use annulus::{EnterError, RawRing};

use crate::support::{self, Failure};

/// How long a drop waits for the kernel to let go.
const PATIENCE: Duration = Duration::from_secs(5);
/// Where the words of cancellations begin; those of requests are below.
const CANCELLATIONS: u64 = 1 << 63;

/// A request, and which buffer it uses, from where on.
#[derive(Debug, Clone, Copy)]
pub enum Request<'f> {
    /// Reads from `file` at `offset` into the buffer.
    Read { file: BorrowedFd<'f>, offset: u64, buffer: usize, from: usize },
    /// Sends the buffer.
    Send { socket: BorrowedFd<'f>, buffer: usize, from: usize },
    /// Receives into the buffer.
    Recv { socket: BorrowedFd<'f>, buffer: usize, from: usize },
    /// Makes a TCP socket.
    Socket,
    /// Connects to the address in the buffer.
    Connect { socket: BorrowedFd<'f>, buffer: usize },
    /// Accepts a connection.
    Accept { listener: BorrowedFd<'f> },
}

/// A request that has ended.
#[derive(Debug)]
pub struct Done {
    /// The word that it was pushed with.
    pub id: u64,
    /// What it returned.
    pub result: Result<u32, Errno>,
    /// The descriptor that it made (OP3).
    pub made: Option<OwnedFd>,
}

/// A ring, and the buffers that its requests use.
#[derive(Debug)]
pub struct Loans<'r, 'f> {
    ring: &'r mut RawRing,
    buffers: Vec<Vec<u8>>,
    in_flight: Vec<(u64, Request<'f>)>,
}

impl<'r, 'f> Loans<'r, 'f> {
    /// `count` buffers of `bytes` each.
    pub fn new(ring: &'r mut RawRing, count: usize, bytes: usize) -> Self {
        Self { ring, buffers: vec![vec![0; bytes]; count], in_flight: Vec::new() }
    }

    /// A buffer that is not on loan.
    ///
    /// # Panics
    ///
    /// When it is.
    pub fn buffer(&mut self, index: usize) -> &mut [u8] {
        assert!(self.is_here(index), "OP1: buffer {index} is on loan");
        &mut self.buffers[index]
    }

    /// Pushes a request. The kernel sees it when [`next`](Self::next) has nothing else to give.
    ///
    /// # Panics
    ///
    /// When its buffer is on loan (OP1) or its word in flight (OP2).
    pub fn push(&mut self, id: u64, request: Request<'f>) -> Result<(), Failure> {
        assert!(id < CANCELLATIONS && !self.in_flight.iter().any(|loan| loan.0 == id), "OP2: {id}");
        if let Some(index) = request.buffer() {
            assert!(self.is_here(index), "OP1: buffer {index} is on loan");
        }
        let sqe = Sqe { user_data: id, ..self.entry(request) };
        if self.ring.room() == 0 {
            self.ring.submit()?;
        }
        // SAFETY: the entry points into a buffer of ours, which nobody touches while it is in
        // `in_flight` and which `drop` does not free before (OP1); its file is borrowed for as
        // long.
        unsafe { self.ring.push(sqe) }?;
        self.in_flight.push((id, request));
        Ok(())
    }

    /// The next request that ends. Submits what was pushed only when it must wait.
    pub fn next(&mut self) -> Result<Done, Failure> {
        loop {
            if let Some(cqe) = self.ring.pop() {
                return Ok(self.take(cqe));
            }
            support::submit_and_wait(self.ring, 1)?;
        }
    }

    fn is_here(&self, index: usize) -> bool {
        !self.in_flight.iter().any(|(_, request)| request.buffer() == Some(index))
    }

    /// The entry of a request, but for its word.
    fn entry(&mut self, request: Request<'f>) -> Sqe {
        let mut part = |index: usize, from: usize| {
            let bytes = &mut self.buffers[index][from..];
            let addr = bytes.as_mut_ptr().expose_provenance() as u64;
            (addr, u32::try_from(bytes.len()).unwrap_or(u32::MAX))
        };
        match request {
            Request::Read { file, offset, buffer, from } => {
                let (fd, (addr, len)) = (file.as_raw_fd(), part(buffer, from));
                Sqe { opcode: Opcode::READ, fd, off: offset, addr, len, ..Sqe::ZERO }
            }
            Request::Send { socket, buffer, from } => {
                let (fd, (addr, len)) = (socket.as_raw_fd(), part(buffer, from));
                // An error, and not a signal, when the peer is gone.
                let op_flags = libc::MSG_NOSIGNAL.cast_unsigned();
                Sqe { opcode: Opcode::SEND, fd, addr, len, op_flags, ..Sqe::ZERO }
            }
            Request::Recv { socket, buffer, from } => {
                let (fd, (addr, len)) = (socket.as_raw_fd(), part(buffer, from));
                Sqe { opcode: Opcode::RECV, fd, addr, len, ..Sqe::ZERO }
            }
            Request::Socket => {
                let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
                let off = u64::from(kind.cast_unsigned());
                Sqe { opcode: Opcode::SOCKET, fd: libc::AF_INET, off, ..Sqe::ZERO }
            }
            Request::Connect { socket, buffer } => {
                let (fd, (addr, len)) = (socket.as_raw_fd(), part(buffer, 0));
                Sqe { opcode: Opcode::CONNECT, fd, addr, off: u64::from(len), ..Sqe::ZERO }
            }
            Request::Accept { listener } => {
                let op_flags = libc::SOCK_CLOEXEC.cast_unsigned();
                Sqe { opcode: Opcode::ACCEPT, fd: listener.as_raw_fd(), op_flags, ..Sqe::ZERO }
            }
        }
    }

    /// Takes note of a completion, which is its request's only one.
    fn take(&mut self, cqe: Cqe) -> Done {
        let (id, result) = (cqe.user_data, cqe.result());
        let at = self.in_flight.iter().position(|loan| loan.0 == id);
        let request = at.map(|at| self.in_flight.swap_remove(at).1);
        let made = match (request, result) {
            (Some(Request::Socket | Request::Accept { .. }), Ok(number)) => {
                // SAFETY: a new descriptor that nobody else owns, since this is the one completion
                // that carries it (OP3).
                Some(unsafe { OwnedFd::from_raw_fd(number.cast_signed()) })
            }
            _ => None,
        };
        Done { id, result, made }
    }

    /// Cancels what is in flight, and waits for its end.
    fn settle(&mut self) -> Result<(), EnterError> {
        let (start, words) = (Instant::now(), self.in_flight.iter().map(|loan| loan.0));
        for (addr, user_data) in words.zip(CANCELLATIONS..) {
            if self.ring.room() == 0 {
                self.ring.submit()?;
            }
            let cancel = Sqe { opcode: Opcode::ASYNC_CANCEL, addr, user_data, ..Sqe::ZERO };
            // SAFETY: `addr` is a word and no address, so it points to nothing (OP1). Without room,
            // there is one cancellation less, and the wait below is as long as it takes.
            let _ = unsafe { self.ring.push(cancel) };
        }
        self.ring.submit()?;
        while !self.in_flight.is_empty() && start.elapsed() < PATIENCE {
            let _ = support::wait_at_most(self.ring, 1, PATIENCE)?;
            while let Some(cqe) = self.ring.pop() {
                drop(self.take(cqe));
            }
        }
        Ok(())
    }
}

impl Drop for Loans<'_, '_> {
    fn drop(&mut self) {
        if !self.in_flight.is_empty() {
            // Whether it went well shows in what is still in flight.
            let _ = self.settle();
        }
        if !self.in_flight.is_empty() {
            // OP1: the kernel may still write there, so these bytes can never be anyone else's.
            mem::forget(mem::take(&mut self.buffers));
        }
    }
}

impl Request<'_> {
    fn buffer(&self) -> Option<usize> {
        match *self {
            Self::Read { buffer, .. }
            | Self::Send { buffer, .. }
            | Self::Recv { buffer, .. }
            | Self::Connect { buffer, .. } => Some(buffer),
            Self::Socket | Self::Accept { .. } => None,
        }
    }
}
