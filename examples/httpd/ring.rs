//! The server on one ring: a connection has one operation in flight at a time, which owns it.
//!
//! ```text
//!   RecvProvided ─► a head? ─► OpenAt2 ─► Statx ─► Read ─► Send ─┬─ more of the file: Read
//!        ▲            └── no: receives again         ▲──────────┤
//!        └───────────────── the next request ───────────────────┴─ done: Close
//! ```
//!
//! That is the back-pressure: while an answer is on its way nothing is received, so a client that
//! asks and does not read fills its own socket, and no memory of ours. And it is the end: who owns
//! a connection drops it, by `?` or by a return, and [`tidy_up`] finds its seat free.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ffi::CString;
use std::io::{self, ErrorKind};
use std::mem;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::{Duration, Instant};

use annulus::buf::{Slice, SliceExt as _};
use annulus::lease::BufRing;
use annulus::op::{
    AcceptMulti, Close, Ending, FileKind, How, OpenAt2, Read, Recv, RecvProvided, Send, Stat,
    StatMask, Statx, Timeout,
};
use annulus::{Arrival, EventLoop, Io, OpId, Setup};
use rustix::fs::{OFlags, fcntl_setfl};

use super::answer::{self, Answer, Found, Next};
use super::request::{self, Parsed, Request};
use super::support::{self, serving::Table};
use super::{CHUNK, Counts, Failure, Patience, TICK, failed, tell_unusual};

/// The state of the loop.
pub struct Server {
    root: Rc<OwnedFd>,
    buffers: BufRing,
    /// For files on their way out. There are as many as there were answers at once.
    spare: Vec<Vec<u8>>,
    seats: Table<Rc<Seat>>,
    /// The numbers of connections that are gone.
    left: Rc<RefCell<Vec<u32>>>,
    room: usize,
    accepting: Accepting,
    /// Accepted while there was no room.
    waiting: VecDeque<TcpStream>,
    patience: Patience,
    is_stopping: bool,
    pub counts: Counts,
}

enum Accepting {
    Armed(OpId),
    /// Until there is room.
    Paused(TcpListener),
    /// For a moment, or for good.
    Not,
}

/// What the server knows of a connection while an operation owns it.
struct Seat {
    stream: TcpStream,
    /// When it must have got further.
    until: Cell<Instant>,
}

// ANCHOR: client
/// A connection. When nobody owns it any more, its seat is given up.
struct Client {
    seat: Rc<Seat>,
    number: u32,
    /// Received, and not read as a request.
    input: Vec<u8>,
    left: Rc<RefCell<Vec<u32>>>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.left.borrow_mut().push(self.number);
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.seat.stream.as_fd()
    }
}
// ANCHOR_END: client

/// An answer that is on its way.
struct Sending {
    client: Box<Client>,
    file: Option<OwnedFd>,
    answer: Answer,
}

impl AsFd for Sending {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.client.as_fd()
    }
}

impl Client {
    fn give(&self, time: Duration) {
        self.seat.until.set(Instant::now() + time);
    }
}

/// A server of what is below `root`, for so many clients at once.
pub fn start(root: OwnedFd, room: u32, patience: Patience) -> Result<EventLoop<Server>, Failure> {
    // An operation for each client; the listener, the clock, signals, and files that are closed.
    let mut ring = Setup::new(1024).cq_entries((2 * room + 16).max(1024)).build_for()?;
    let server = Server {
        root: Rc::new(root),
        buffers: ring.buf_ring(256, 4096).map_err(failed("cannot make buffers"))?,
        spare: Vec::new(),
        seats: Table::new(),
        left: Rc::default(),
        room: room as usize,
        accepting: Accepting::Not,
        waiting: VecDeque::new(),
        patience,
        is_stopping: false,
        counts: Counts::default(),
    };
    Ok(EventLoop::new(ring, server))
}

/// Serves until a byte comes through `signals`.
pub fn serve(
    events: &mut EventLoop<Server>,
    listener: TcpListener,
    signals: UnixStream,
) -> Result<(), Failure> {
    accept(&mut events.io(), listener).map_err(failed("cannot accept"))?;
    listen_to_signals(&mut events.io(), signals).map_err(failed("cannot listen to signals"))?;
    tick(&mut events.io()).map_err(failed("cannot look at the clock"))?;
    events.run(|io, error| {
        tell_unusual(&error);
        // Its connection was dropped before.
        if let Err(error) = tidy_up(io) {
            tell_unusual(&error);
        }
    })?;
    Ok(())
}

// Connections come and go ------------------------------------------------------------------------

fn accept(io: &mut Io<'_, Server>, listener: TcpListener) -> io::Result<()> {
    let id = io.submit_multishot(AcceptMulti::new(listener), |io, arrival| match arrival {
        Arrival::Item(stream) => join(io, stream?.into()),
        Arrival::End(ended) => {
            io.state.accepting = Accepting::Not;
            if let Ending::Failed(error) = ended.how {
                // No descriptor is left, for example: in a moment there may be one.
                if io.state.counts.paused == 0 {
                    support::tell(format_args!("cannot accept for now: {error}"));
                }
                io.state.counts.paused += 1;
                io.submit(Timeout::new(Duration::from_millis(100)), |io, _| {
                    io.state.accepting = Accepting::Paused(ended.fd);
                    tidy_up(io)
                })?;
                return Ok(());
            }
            io.state.accepting = Accepting::Paused(ended.fd);
            tidy_up(io)
        }
    })?;
    io.state.accepting = Accepting::Armed(id);
    Ok(())
}

/// A client has come. If it is the last one for which there is room, no more are accepted.
fn join(io: &mut Io<'_, Server>, stream: TcpStream) -> io::Result<()> {
    let server = &mut *io.state;
    if server.is_stopping {
        return Ok(());
    }
    if server.seats.len() >= server.room {
        server.waiting.push_back(stream);
        return Ok(());
    }
    stream.set_nodelay(true)?;
    let seat = Rc::new(Seat { stream, until: Cell::new(Instant::now() + server.patience.timeout) });
    let number = server.seats.insert(Rc::clone(&seat));
    server.counts.clients += 1;
    server.counts.most = server.counts.most.max(server.seats.len());
    let left = Rc::clone(&server.left);
    if server.seats.len() >= server.room
        && let Accepting::Armed(id) = server.accepting
    {
        io.cancel(id)?;
    }
    receive(io, Box::new(Client { seat, number, input: Vec::new(), left }))
}

/// Gives the seats of clients that have left to those who wait.
fn tidy_up(io: &mut Io<'_, Server>) -> io::Result<()> {
    let server = &mut *io.state;
    for number in server.left.take() {
        server.seats.remove(number);
    }
    if server.is_stopping {
        server.accepting = Accepting::Not;
        if server.seats.len() == 0 {
            io.stop();
        }
        return Ok(());
    }
    while io.state.seats.len() < io.state.room
        && let Some(stream) = io.state.waiting.pop_front()
    {
        join(io, stream)?;
    }
    if io.state.seats.len() < io.state.room {
        match mem::replace(&mut io.state.accepting, Accepting::Not) {
            Accepting::Paused(listener) => accept(io, listener)?,
            other => io.state.accepting = other,
        }
    }
    Ok(())
}

/// Every second, hangs up on clients whose time is over. What is in flight for them then ends.
fn tick(io: &mut Io<'_, Server>) -> io::Result<()> {
    io.submit(Timeout::new(TICK), |io, _| {
        let now = Instant::now();
        let server = &mut *io.state;
        for seat in server.seats.iter().filter(|seat| seat.until.get() <= now) {
            let _ = seat.stream.shutdown(Shutdown::Both);
            server.counts.cut_off += 1;
            seat.until.set(now + server.patience.timeout);
        }
        tick(io)
    })?;
    Ok(())
}

/// Told to stop: answers what is being answered; told again, ends at once.
fn listen_to_signals(io: &mut Io<'_, Server>, stream: UnixStream) -> io::Result<()> {
    io.submit(Recv::new(stream, [0; 8]), |io, signal| {
        if mem::replace(&mut io.state.is_stopping, true) {
            io.stop();
            return Ok(());
        }
        if let Accepting::Armed(id) = io.state.accepting {
            io.cancel(id)?;
        }
        io.state.waiting.clear();
        for seat in io.state.seats.iter() {
            // What it has sent is still received; then its stream ends as if by itself.
            let _ = seat.stream.shutdown(Shutdown::Read);
        }
        io.submit(Timeout::new(io.state.patience.grace), |io, _| {
            io.stop();
            Ok(())
        })?;
        listen_to_signals(io, signal.fd)?;
        tidy_up(io)
    })?;
    Ok(())
}

// A request ------------------------------------------------------------------------------------

// ANCHOR: receive
/// Receives more of a head. Until something comes, the connection holds no buffer.
fn receive(io: &mut Io<'_, Server>, client: Box<Client>) -> io::Result<()> {
    let receive = RecvProvided::new(client, &io.state.buffers);
    io.submit(receive, |io, received| {
        let mut client = received.fd;
        match received.result {
            Ok(Some(lease)) => client.input.extend_from_slice(&lease),
            Ok(None) => {
                drop(client);
                return tidy_up(io);
            }
            // All buffers were in completions of this turn: they are taken by the next.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
            Err(error) => return Err(error),
        }
        listen(io, client)
    })?;
    Ok(())
}
// ANCHOR_END: receive

/// Looks at what has been received.
fn listen(io: &mut Io<'_, Server>, mut client: Box<Client>) -> io::Result<()> {
    match request::parse(&client.input) {
        Parsed::Partial => receive(io, client),
        Parsed::Whole(request, len) => {
            client.input.drain(..len);
            io.state.counts.requests += 1;
            client.give(io.state.patience.timeout);
            let path = request.path.clone();
            open(io, client, Box::new(request), path)
        }
        Parsed::Wrong(status) => {
            io.state.counts.requests += 1;
            refuse(io, client, Answer::short(status, None))
        }
    }
}

// ANCHOR: open
/// Opens what is asked for. Wherever `..` and links lead, it is below the root; and a FIFO is not
/// waited for.
fn open(
    io: &mut Io<'_, Server>,
    client: Box<Client>,
    request: Box<Request>,
    path: CString,
) -> io::Result<()> {
    let how = How::read().non_block().custom_flags(libc::O_NOCTTY);
    let open = OpenAt2::new(Rc::clone(&io.state.root), path, how).beneath().no_magic_links();
    io.submit(open, |io, opened| match opened.result {
        Ok(file) => look(io, client, request, opened.buf, file),
        Err(error) => refuse(io, client, Answer::failed(&error, &request)),
    })?;
    Ok(())
}

/// Asks what has been opened, and how long it is.
fn look(
    io: &mut Io<'_, Server>,
    client: Box<Client>,
    request: Box<Request>,
    path: CString,
    file: OwnedFd,
) -> io::Result<()> {
    let statx = Statx::of(file, Stat::boxed()).want(StatMask::KIND | StatMask::SIZE);
    io.submit(statx, move |io, looked| {
        looked.result?;
        let found = match looked.buf.0.kind() {
            FileKind::Regular => {
                // From here on it may wait. With this flag the kernel would not give a read to a
                // worker thread, even where the file system cannot read without waiting.
                fcntl_setfl(&looked.fd, OFlags::empty())?;
                Found::File(looked.buf.0.size())
            }
            FileKind::Directory => Found::Directory,
            _ => Found::Else,
        };
        match answer::decide(&request, &path, found) {
            Next::Answer(answer) => begin(io, client, Some(looked.fd), answer),
            Next::Open(index) => open(io, client, request, index),
        }
    })?;
    Ok(())
}
// ANCHOR_END: open

// An answer --------------------------------------------------------------------------------------

fn refuse(io: &mut Io<'_, Server>, client: Box<Client>, answer: Answer) -> io::Result<()> {
    begin(io, client, None, answer)
}

/// Begins an answer: its head, and as much of the file as fits behind it.
fn begin(
    io: &mut Io<'_, Server>,
    client: Box<Client>,
    file: Option<OwnedFd>,
    mut answer: Answer,
) -> io::Result<()> {
    let head = mem::take(&mut answer.head);
    let mut buf = io.state.spare.pop().unwrap_or_else(|| vec![0; CHUNK]);
    buf[..head.len()].copy_from_slice(&head);
    let sending = Box::new(Sending { client, file, answer });
    send_more(io, sending, buf, head.len())
}

// ANCHOR: send
/// Reads on where `filled` bytes are in the buffer, and sends them all.
fn send_more(
    io: &mut Io<'_, Server>,
    mut sending: Box<Sending>,
    buf: Vec<u8>,
    filled: usize,
) -> io::Result<()> {
    let left = usize::try_from(sending.answer.left).unwrap_or(usize::MAX);
    let want = left.min(buf.len() - filled);
    let file = match sending.file.take() {
        Some(file) if want > 0 => file,
        nothing_to_read => {
            sending.file = nothing_to_read;
            return send(io, sending, buf.slice(..filled));
        }
    };
    let read = Read::new(file, buf.slice(filled..filled + want)).at(sending.answer.at);
    io.submit(read, move |io, read| {
        let filled = read.buf.start();
        let buf = read.buf.into_inner();
        sending.file = Some(read.fd);
        match read.result {
            Ok(0) => shrank(io, sending),
            Ok(count) => {
                sending.answer.at += count as u64;
                sending.answer.left -= count as u64;
                send(io, sending, buf.slice(..filled + count))
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                send_more(io, sending, buf, filled)
            }
            Err(error) => Err(error),
        }
    })?;
    Ok(())
}

/// The file is shorter than what was announced. Only the end of the connection can say so.
fn shrank(io: &mut Io<'_, Server>, sending: Box<Sending>) -> io::Result<()> {
    io.state.counts.shrank += 1;
    drop(sending);
    tidy_up(io)
}

/// Sends `rest`, however many sends that takes. As long as the client takes some, it has time.
fn send(io: &mut Io<'_, Server>, sending: Box<Sending>, rest: Slice<Vec<u8>>) -> io::Result<()> {
    sending.client.give(io.state.patience.timeout);
    io.submit(Send::new(sending, rest), |io, sent| {
        let count = sent.result?;
        io.state.counts.bytes += count as u64;
        let (start, end) = (sent.buf.start() + count, sent.buf.end());
        let buf = sent.buf.into_inner();
        match sent.fd {
            sending if start < end => send(io, sending, buf.slice(start..end)),
            sending if sending.answer.left > 0 => send_more(io, sending, buf, 0),
            sending => {
                io.state.spare.push(buf);
                end_answer(io, *sending)
            }
        }
    })?;
    Ok(())
}
// ANCHOR_END: send

/// All is sent: closes the file, and goes on to the next request, or to the end.
fn end_answer(io: &mut Io<'_, Server>, sending: Sending) -> io::Result<()> {
    if let Some(file) = sending.file {
        io.submit(Close::new(file), |_, closed| closed.result)?;
    }
    let client = sending.client;
    if sending.answer.keep {
        client.give(io.state.patience.timeout);
        return listen(io, client);
    }
    client.give(io.state.patience.grace);
    client.seat.stream.shutdown(Shutdown::Write)?;
    linger(io, client)
}

/// Nothing follows; waits until the client has nothing to say either. If bytes of it were left
/// unread, the kernel would tell it so by a reset, which can overtake the answer.
fn linger(io: &mut Io<'_, Server>, client: Box<Client>) -> io::Result<()> {
    let receive = RecvProvided::new(client, &io.state.buffers);
    io.submit(receive, |io, received| match received.result {
        Ok(None) => {
            drop(received.fd);
            tidy_up(io)
        }
        Err(error) if error.raw_os_error() != Some(libc::ENOBUFS) => Err(error),
        _ => linger(io, received.fd),
    })?;
    Ok(())
}
