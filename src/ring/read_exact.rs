//! Whole transfers: reads and writes that go on until every byte is moved.
//!
//! ```text
//!   write_all(fd, buf)     │ done │      rest      │      Write { fd, buf.slice(done..) }
//!                                  ▲                          │
//!            submit, wait ─────────┤ a short count            │
//!                                  ├ EINTR: once more ◄───────┤
//!                                  └ EAGAIN: poll, then ◄─────┘
//!                                            on a worker thread
//! ```
//!
//! | a turn ends with | then |
//! |---|---|
//! | some bytes | the rest, at a higher offset |
//! | none | the end: `UnexpectedEof` for a read, `WriteZero` for a write |
//! | `EINTR` | once more: a signal interrupted a file system |
//! | `EAGAIN` | once the file is ready, once more, on a thread that may block (`IOSQE_ASYNC`) |
//! | any other error | the end |
//!
//! A buffer may be larger than one operation moves ([`MAX_TRANSFER`](crate::buf::MAX_TRANSFER)).
//! Each turn is an operation of its own, submitted and waited for in the call. So these calls are
//! for code that has nothing else to do until then. Other completions that come meanwhile are kept,
//! as in [`Ring::wait`].
//!
//! Leaves to others: keeping OP1 (`ring`, `scope`), lists of buffers (`vectored`).

mod vectored;

use std::io;
use std::ops::Range;

use crate::buf::{Slice, SliceExt};
use crate::lease::ticket::{Rejected, Rejection, Unfinished};
use crate::op::{Offset, Op, Outcome, Poll, PollEvents, Read, Target, Write};
use crate::ring::Ring;
use crate::ring::scope::Scope;
use crate::setup::enter_error::EnterError;

/// # Moving every byte
impl<U: Default> Ring<U> {
    /// Reads until `buf` is full, and waits for that. It reads as many bytes as `buf` shows, so a
    /// vector must have that length (`vec![0; 4096]`), not only that capacity.
    ///
    /// The outcome's result is an error of kind [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) if
    /// the file ends earlier. After any error, the bytes that were read are in the buffer.
    ///
    /// # Errors
    ///
    /// [`EnterError`] when the ring cannot go on. Then the ring keeps the file and the buffer, and
    /// drops them when the kernel is done with them.
    ///
    /// # Panics
    ///
    /// If `buf` shows fewer bytes from one turn to the next.
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
        let len = buf.as_ref().len();
        let whole = Whole { len, offset, way: Way::In };
        move_all(self, fd, buf, whole, read, Slice::into_inner)
    }

    /// Writes all bytes that `buf` shows, and waits for that.
    ///
    /// The outcome's result is an error of kind [`WriteZero`](io::ErrorKind::WriteZero) if the file
    /// takes no more bytes. After any error, some bytes may have been written.
    ///
    /// # Errors
    ///
    /// [`EnterError`] when the ring cannot go on. Then the ring keeps the file and the buffer, and
    /// drops them when the kernel is done with them.
    ///
    /// # Panics
    ///
    /// If `buf` shows fewer bytes from one turn to the next.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::Setup;
    /// use annulus::op::Offset;
    ///
    /// let mut ring = Setup::new(4).build()?;
    /// let (reader, writer) = std::io::pipe()?;
    /// let thread = std::thread::spawn(move || std::io::copy(&mut &reader, &mut std::io::sink()));
    /// let big = vec![7; 1 << 20]; // More than a pipe holds.
    /// ring.write_all(writer, big, Offset::Current)?.result?;
    /// assert_eq!(thread.join().expect("no panic")?, 1 << 20);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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
        let len = buf.as_ref().len();
        let whole = Whole { len, offset, way: Way::Out };
        move_all(self, fd, buf, whole, write, Slice::into_inner)
    }
}

impl<'scope, U: Default> Scope<'scope, '_, U> {
    /// As [`Ring::read_exact`], with a buffer that may be borrowed.
    ///
    /// # Errors
    ///
    /// As [`Ring::read_exact`]. After an error, the borrows last until the end of the scope.
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
        let len = buf.as_ref().len();
        let whole = Whole { len, offset, way: Way::In };
        move_all(self, fd, buf, whole, read, Slice::into_inner)
    }

    /// As [`Ring::write_all`], with a buffer that may be borrowed.
    ///
    /// # Errors
    ///
    /// As [`Ring::write_all`]. After an error, the borrows last until the end of the scope.
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
        let len = buf.as_ref().len();
        let whole = Whole { len, offset, way: Way::Out };
        move_all(self, fd, buf, whole, write, Slice::into_inner)
    }
}

fn read<F, B: AsRef<[u8]>>(
    fd: F,
    buf: B,
    range: Range<usize>,
    offset: Offset,
) -> Read<F, Slice<B>> {
    Read::new(fd, buf.slice(range)).offset(offset)
}

fn write<F, B: AsRef<[u8]>>(
    fd: F,
    buf: B,
    range: Range<usize>,
    offset: Offset,
) -> Write<F, Slice<B>> {
    Write::new(fd, buf.slice(range)).offset(offset)
}

/// What a whole transfer moves.
#[derive(Debug, Clone, Copy)]
struct Whole {
    /// How many bytes.
    len: usize,
    offset: Offset,
    way: Way,
}

/// The direction of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    In,
    Out,
}

impl Way {
    /// The poll events that say that the file is ready.
    fn events(self) -> PollEvents {
        match self {
            Self::In => PollEvents::IN,
            Self::Out => PollEvents::OUT,
        }
    }

    /// The error when no more bytes can be moved.
    fn cut_short(self, done: usize, len: usize) -> io::Error {
        let (kind, what) = match self {
            Self::In => (io::ErrorKind::UnexpectedEof, "the file ended"),
            Self::Out => (io::ErrorKind::WriteZero, "the file took no more"),
        };
        io::Error::new(kind, format!("{what} after {done} of {len} bytes"))
    }

    /// What to do after a turn that ended with `result`, when `done` bytes were moved before it.
    fn after(self, result: io::Result<usize>, done: usize, len: usize) -> After {
        let error = match result {
            Ok(0) => return After::End(self.cut_short(done, len)),
            Ok(count) => return After::Moved(count),
            Err(error) => error,
        };
        match error.raw_os_error() {
            // A signal interrupted a file system: FUSE and others check for signals.
            Some(libc::EINTR) => After::Moved(0),
            // The file is `O_NONBLOCK`, so the kernel does not wait for us.
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

/// Runs operations that `make` makes of a range, one after the other, until all of `buf` is moved.
fn move_all<'a, R, F, B, P, O>(
    runner: &mut R,
    fd: F,
    buf: B,
    whole: Whole,
    make: fn(F, B, Range<usize>, Offset) -> O,
    back: fn(P) -> B,
) -> Result<Outcome<(), F, B>, EnterError>
where
    R: Runner<'a>,
    F: Target + 'a,
    O: Op<Output = Outcome<usize, F, P>> + 'a,
{
    let Whole { len, offset, way } = whole;
    let (mut fd, mut buf, mut done, mut blocks) = (fd, buf, 0, false);
    while done < len {
        let op = make(fd, buf, done..len, offset.after(done));
        let turn = if blocks { runner.run(op.forced())? } else { runner.run(op)? };
        blocks = false;
        (fd, buf) = (turn.fd, back(turn.buf));
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

/// Something that runs one operation to its end: a ring or a scope.
trait Runner<'a> {
    /// Returns the output. The output of an operation that was not submitted holds the reason.
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

/// The output of an operation that was never submitted.
fn refused<T, F, B, O>(op: O, why: Rejection) -> Outcome<T, F, B>
where
    O: Op<Output = Outcome<T, F, B>>,
{
    let result = Err(io::Error::new(io::ErrorKind::ResourceBusy, why));
    Outcome { result, ..op.into_output() }
}
