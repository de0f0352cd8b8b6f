//! All of it: transfers that go on until every byte is moved.
//!
//! ```text
//!   write_all(fd, buf)     │ done │      rest      │      Write { fd, buf.slice(done..) }
//!                                  ▲                          │
//!            submit, wait ─────────┤ a short count            │
//!                                  ├ EINTR: the same again ◄──┤
//!                                  └ EAGAIN: poll, then ◄─────┘
//!                                            on a worker thread
//! ```
//!
//! | a turn ends with | then |
//! |---|---|
//! | some bytes | the rest, further on |
//! | none | the end: `UnexpectedEof` for a read, `WriteZero` for a write |
//! | `EINTR` | once more: a file system was interrupted |
//! | `EAGAIN` | when the file is ready, once more, where the kernel may wait (`IOSQE_ASYNC`) |
//! | any other error | the end |
//!
//! A buffer may be larger than what one operation moves
//! ([`MAX_TRANSFER`](crate::buf::MAX_TRANSFER)). Each turn is an operation of its own, submitted
//! and waited for in here: for code that has nothing else to do until then. What else completes in
//! the meantime is kept, as in [`Ring::wait`].
//!
//! Leaves to others: OP1 (`file`, `ring`, `scope`).

use std::io;

use annulus_sys::flags::CqeFlags;

use super::{Done, Offset, Op, Outcome, Poll, PollEvents, Read, Target, Write};
use crate::buf::{Slice, SliceExt};
use crate::error::EnterError;
use crate::lease::Brought;
use crate::ring::Ring;
use crate::scope::Scope;
use crate::ticket::{Rejected, Rejection, Unfinished};

impl<U: Default> Ring<U> {
    /// Reads until `buf` is full: as many bytes as it shows, which a vector must have (`vec![0;
    /// 4096]`), and not only room for. Waits for that, however long.
    ///
    /// The outcome's result is an error of kind [`UnexpectedEof`](io::ErrorKind::UnexpectedEof)
    /// when the file ends before. With any error, what was read until then is in the buffer.
    ///
    /// # Errors
    ///
    /// [`EnterError`] when the ring cannot go on. It has file and buffer then, and drops them when
    /// the kernel is done with them.
    ///
    /// # Panics
    ///
    /// If `buf` shows ever fewer bytes.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::Setup;
    /// use annulus::op::Offset;
    /// use std::fs::File;
    ///
    /// let mut ring = Setup::new(4).build()?;
    /// let zeroes = File::open("/dev/zero")?;
    /// let outcome = ring.read_exact(zeroes, vec![1; 3], Offset::Current)?;
    /// outcome.result?;
    /// assert_eq!(outcome.buf, [0, 0, 0]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn read_exact<F, B>(
        &mut self,
        fd: F,
        buf: B,
        offset: Offset,
    ) -> Result<Outcome<(), F, B>, EnterError>
    where
        F: Target + 'static,
        B: AsRef<[u8]> + AsMut<[u8]> + 'static,
    {
        move_all(self, fd, buf, offset, Way::In, read)
    }

    /// Writes all that `buf` shows. Waits for that, however long.
    ///
    /// The outcome's result is an error of kind [`WriteZero`](io::ErrorKind::WriteZero) when the
    /// file takes no more bytes. With any error, some may have been written.
    ///
    /// # Errors
    ///
    /// [`EnterError`] when the ring cannot go on. It has file and buffer then, and drops them when
    /// the kernel is done with them.
    ///
    /// # Panics
    ///
    /// If `buf` shows ever fewer bytes.
    pub fn write_all<F, B>(
        &mut self,
        fd: F,
        buf: B,
        offset: Offset,
    ) -> Result<Outcome<(), F, B>, EnterError>
    where
        F: Target + 'static,
        B: AsRef<[u8]> + 'static,
    {
        move_all(self, fd, buf, offset, Way::Out, write)
    }
}

impl<'scope, U: Default> Scope<'scope, '_, U> {
    /// As [`Ring::read_exact`], with a buffer that may be borrowed.
    ///
    /// # Errors
    ///
    /// As [`Ring::read_exact`]. The borrows last until the scope's end then.
    ///
    /// # Panics
    ///
    /// As [`Ring::read_exact`].
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::Setup;
    /// use annulus::op::Offset;
    ///
    /// let mut ring = Setup::new(4).build()?;
    /// let (reader, writer) = std::io::pipe()?;
    /// let mut word = [0; 5];
    /// ring.scope(|s| {
    ///     s.write_all(&writer, b"hello", Offset::Current)?.result?;
    ///     s.read_exact(&reader, &mut word[..], Offset::Current)?.result
    /// })?;
    /// assert_eq!(&word, b"hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn read_exact<F, B>(
        &mut self,
        fd: F,
        buf: B,
        offset: Offset,
    ) -> Result<Outcome<(), F, B>, EnterError>
    where
        F: Target + 'scope,
        B: AsRef<[u8]> + AsMut<[u8]> + 'scope,
    {
        move_all(self, fd, buf, offset, Way::In, read)
    }

    /// As [`Ring::write_all`], with a buffer that may be borrowed.
    ///
    /// # Errors
    ///
    /// As [`Ring::write_all`]. The borrows last until the scope's end then.
    ///
    /// # Panics
    ///
    /// As [`Ring::write_all`].
    pub fn write_all<F, B>(
        &mut self,
        fd: F,
        buf: B,
        offset: Offset,
    ) -> Result<Outcome<(), F, B>, EnterError>
    where
        F: Target + 'scope,
        B: AsRef<[u8]> + 'scope,
    {
        move_all(self, fd, buf, offset, Way::Out, write)
    }
}

fn read<F, B>(fd: F, buf: Slice<B>, offset: Offset) -> Read<F, Slice<B>> {
    Read::new(fd, buf).offset(offset)
}

fn write<F, B>(fd: F, buf: Slice<B>, offset: Offset) -> Write<F, Slice<B>> {
    Write::new(fd, buf).offset(offset)
}

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    In,
    Out,
}

impl Way {
    /// When a file is ready to go on.
    fn events(self) -> PollEvents {
        match self {
            Self::In => PollEvents::IN,
            Self::Out => PollEvents::OUT,
        }
    }

    /// No more bytes go this way.
    fn cut_short(self, done: usize, len: usize) -> io::Error {
        let (kind, what) = match self {
            Self::In => (io::ErrorKind::UnexpectedEof, "the file ended"),
            Self::Out => (io::ErrorKind::WriteZero, "the file took no more"),
        };
        io::Error::new(kind, format!("{what} after {done} of {len} bytes"))
    }

    /// What to do after a turn that ended with `result`; `done` bytes were moved before.
    fn after(self, result: io::Result<usize>, done: usize, len: usize) -> After {
        let error = match result {
            Ok(0) => return After::End(self.cut_short(done, len)),
            Ok(count) => return After::Moved(count),
            Err(error) => error,
        };
        match error.raw_os_error() {
            // A file system was interrupted: FUSE and others look for signals.
            Some(libc::EINTR) => After::Moved(0),
            // `O_NONBLOCK`, and the kernel does not wait in our stead.
            Some(libc::EAGAIN) => After::NotReady(error),
            _ => After::End(error),
        }
    }
}

/// What to do after a turn.
#[derive(Debug)]
enum After {
    Moved(usize),
    NotReady(io::Error),
    End(io::Error),
}

/// Takes turns of the operations that `make` makes until all of `buf` is moved.
fn move_all<'a, R, F, B, O>(
    runner: &mut R,
    fd: F,
    buf: B,
    offset: Offset,
    way: Way,
    make: fn(F, Slice<B>, Offset) -> O,
) -> Result<Outcome<(), F, B>, EnterError>
where
    R: Runner<'a>,
    F: Target + 'a,
    B: AsRef<[u8]>,
    O: Op<Output = Outcome<usize, F, Slice<B>>> + 'a,
{
    let len = buf.as_ref().len();
    let (mut fd, mut buf, mut done, mut blocks) = (fd, buf, 0, false);
    while done < len {
        let op = make(fd, buf.slice(done..len), offset.after(done));
        let turn = if blocks { runner.run(op.forced())? } else { runner.run(op)? };
        blocks = false;
        (fd, buf) = (turn.fd, turn.buf.into_inner());
        match way.after(turn.result, done, len) {
            After::Moved(count) => done += count,
            After::End(error) => return Ok(Outcome { result: Err(error), fd, buf }),
            After::NotReady(error) => {
                let poll = runner.run(Poll::new(fd, way.events()))?;
                fd = poll.fd;
                if poll.result.is_err() {
                    return Ok(Outcome { result: Err(error), fd, buf });
                }
                blocks = true;
            }
        }
    }
    Ok(Outcome { result: Ok(()), fd, buf })
}

/// What runs one operation to its end.
trait Runner<'a> {
    /// The output. An operation that was not submitted ends with the reason.
    fn run<T, F, B, O>(&mut self, op: O) -> Result<Outcome<T, F, B>, EnterError>
    where
        O: Op<Output = Outcome<T, F, B>> + 'a;
}

impl<U: Default> Runner<'static> for Ring<U> {
    fn run<T, F, B, O>(&mut self, op: O) -> Result<Outcome<T, F, B>, EnterError>
    where
        O: Op<Output = Outcome<T, F, B>> + 'static,
    {
        match self.submit(op) {
            Ok(ticket) => self.wait(ticket).map_err(|Unfinished { ticket, why }| {
                self.detach(ticket);
                why
            }),
            Err(Rejected { op, why, .. }) => Ok(refused(op, why)),
        }
    }
}

impl<'scope, U: Default> Runner<'scope> for Scope<'scope, '_, U> {
    fn run<T, F, B, O>(&mut self, op: O) -> Result<Outcome<T, F, B>, EnterError>
    where
        O: Op<Output = Outcome<T, F, B>> + 'scope,
    {
        match self.submit(op) {
            Ok(ticket) => self.wait(ticket).map_err(|unfinished| unfinished.why),
            Err(Rejected { op, why, .. }) => Ok(refused(op, why)),
        }
    }
}

/// The end of an operation that the kernel never had.
fn refused<T, F, B, O>(op: O, why: Rejection) -> Outcome<T, F, B>
where
    O: Op<Output = Outcome<T, F, B>>,
{
    let (flags, brought) = (CqeFlags::empty(), Brought::Nothing);
    let done = Done::new(-libc::EBUSY, flags, None, brought);
    let result = Err(io::Error::new(io::ErrorKind::ResourceBusy, why));
    Outcome { result, ..op.finish(done) }
}
