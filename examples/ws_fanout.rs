//! A WebSocket server on one core that gives each message to everybody: one in, N out.
//!
//! ```text
//!   AcceptMulti ─► RecvMulti ─► lease ─► session ─► frame ─┬─► queue ─► send ─► client 1
//!                                  │                       ├─► queue ─► send ─► client 2
//!                       goes back at once          one Rc  └─► queue ─► send ─► client N
//! ```
//!
//! | what happens | what the server does |
//! |---|---|
//! | a message comes | it is framed once; each queue gets a reference to the same bytes |
//! | several wait for a client | they go as one send |
//! | a client does not read, or not fast enough | its queue fills: then it misses messages, or is cut off (`--slow`) |
//! | a ping, a close, a mistake | it is answered; the answer goes through the same queue |
//! | a client leaves | its place and its frames are free once its operations have ended |
//! | more clients than there is room for | they are hung up on |
//! | SIGINT, SIGTERM | everybody is told (1001), then the server ends |
//!
//! All see the same messages in the same order, the sender too. Look at: `spread`, where one
//! message gets into N queues, and the enters per delivery (`--stats`), far below one. What is not
//! there: TLS, and a limit for a client that says nothing. Linux 6.0.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::mem;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;
use std::{fmt, io};

use annulus::lease::BufRing;
use annulus::op::{self, AcceptMulti, Ending, Recv, RecvMulti, SendFlags, SendMsg, Timeout};
use annulus::sys::opcode::Opcode;
use annulus::{Arrival, Capabilities, EventLoop, Io, Setup};
use clap::{Parser, ValueEnum};
use session::{Heard, Session, Shared};
use support::serving::{self, Table};
use support::{Failure, Page, failed, up_to};

#[path = "ws_fanout/session.rs"]
mod session;
mod support;

/// Sends each WebSocket message to all clients, until it is told to stop (Ctrl-C).
#[derive(Debug, Parser)]
#[command(verbatim_doc_comment)]
struct Arguments {
    /// Where to listen; port 0 is any
    #[arg(default_value = "127.0.0.1:7777")]
    address: String,
    /// Serve so many at once, 1 to 30000
    #[arg(long, value_name = "N", default_value_t = 4000, value_parser = up_to(30_000))]
    clients: u32,
    /// Frames that may wait for one client
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = up_to(65_536))]
    queue: u32,
    /// What a client with a full queue loses
    #[arg(long, value_enum, default_value_t = Slow::Skip, hide_possible_values = true,
        value_name = "skip|drop")]
    slow: Slow,
    /// Bytes of the longest message
    #[arg(long, value_name = "N", default_value_t = 65_536, value_parser = up_to(16 << 20))]
    longest: u32,
    /// Print what the ring did in all
    #[arg(long)]
    stats: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Slow {
    // The frames that do not fit.
    Skip,
    // Its connection.
    Drop,
}

/// So many buffers fit into one call (`UIO_MAXIOV`).
const BUFFERS: usize = 1024;

/// How long clients may take to read the last frame after the server is told to stop.
const GRACE: Duration = Duration::from_secs(1);

// ANCHOR: client
/// A client. It closes when neither the table nor one of its operations is left to own it.
struct Client {
    stream: TcpStream,
    session: RefCell<Session>,
    /// Frames that wait; what is being sent is not among them.
    queue: RefCell<VecDeque<Shared>>,
    is_sending: Cell<bool>,
    /// When the queue is empty, it is hung up on.
    is_last: Cell<bool>,
}
// ANCHOR_END: client

/// The state of the loop.
struct Hub {
    buffers: BufRing,
    clients: Table<Rc<Client>>,
    room: usize,
    most_queued: usize,
    slow: Slow,
    longest: usize,
    is_stopping: bool,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    came: u64,
    most: usize,
    refused: u64,
    messages: u64,
    deliveries: u64,
    bytes: u64,
    skipped: u64,
    cut_off: u64,
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn main() -> ExitCode {
    support::main(run)
}

fn run(arguments: Arguments, page: &mut Page) -> Result<(), Failure> {
    let Arguments { address, clients, queue, slow, longest, stats } = arguments;
    // It came with multishot receives, which themselves cannot be asked for.
    if !Capabilities::detect()?.has_op(Opcode::SEND_ZC) {
        return Err(Failure::Failed("receives that complete many times need Linux 6.0".into()));
    }
    let listening = format!("cannot listen on {address}");
    let listener = TcpListener::bind(&address).map_err(failed(&listening))?;
    let address = listener.local_addr().map_err(failed(&listening))?;
    // A receive and a send for each client, and the listener, signals and a pause.
    let mut ring = Setup::new(1024).cq_entries((2 * clients + 16).max(1024)).build_for()?;
    let hub = Hub {
        buffers: ring.buf_ring(256, 4096).map_err(failed("cannot make buffers"))?,
        clients: Table::new(),
        room: clients as usize,
        most_queued: queue as usize,
        slow,
        longest: longest as usize,
        is_stopping: false,
        counts: Counts::default(),
    };
    let mut events = EventLoop::new(ring, hub);
    accept(&mut events.io(), listener).map_err(failed("cannot accept"))?;
    listen_to_signals(&mut events.io(), serving::asked_to_stop()?).map_err(failed("signals"))?;
    let before = support::cpu_time();
    writeln!(page, "listening on {address}")?;
    events.run(|_, error| {
        if !is_usual(&error) {
            support::tell(error);
        }
    })?;
    let cpu = support::cpu_time() - before;
    let (counts, total) = (&events.state.counts, events.ring().raw().stats());
    writeln!(page, "{counts}")?;
    if stats {
        writeln!(page, "{}", support::stats_line(total, counts.deliveries, cpu))?;
        let thousandths = total.enters * 1000 / counts.deliveries.max(1);
        writeln!(page, "{}.{:03} enters per delivery", thousandths / 1000, thousandths % 1000)?;
    }
    Ok(())
}

/// A client that has gone is no trouble.
fn is_usual(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset};
    matches!(error.kind(), BrokenPipe | ConnectionReset)
}

/// Accepts clients, without end.
fn accept(io: &mut Io<'_, Hub>, listener: TcpListener) -> io::Result<()> {
    io.submit_multishot(AcceptMulti::new(listener), |io, arrival| match arrival {
        Arrival::Item(stream) => join(io, stream?.into()),
        // No descriptor is left, for example: in a moment there may be one.
        Arrival::End(ended) => {
            io.submit(Timeout::new(Duration::from_millis(100)), |io, _| accept(io, ended.fd))?;
            ended.how.ok().map(drop)
        }
    })?;
    Ok(())
}

/// A client has come.
fn join(io: &mut Io<'_, Hub>, stream: TcpStream) -> io::Result<()> {
    let hub = &mut *io.state;
    if hub.is_stopping || hub.clients.len() >= hub.room {
        hub.counts.refused += 1;
        return Ok(());
    }
    stream.set_nodelay(true)?;
    let client = Rc::new(Client {
        stream,
        session: RefCell::new(Session::new(hub.longest)),
        queue: RefCell::default(),
        is_sending: Cell::new(false),
        is_last: Cell::new(false),
    });
    let number = hub.clients.insert(Rc::clone(&client));
    hub.counts.came += 1;
    hub.counts.most = hub.counts.most.max(hub.clients.len());
    receive(io, client, number)
}

// ANCHOR: receive
/// Receives from a client, until it sends no more. A lease goes back as soon as it is read.
fn receive(io: &mut Io<'_, Hub>, client: Rc<Client>, number: u32) -> io::Result<()> {
    let receive = RecvMulti::new(Rc::clone(&client), &io.state.buffers);
    io.submit_multishot(receive, move |io, arrival| match arrival {
        Arrival::Item(lease) => hear(io, &client, &lease?),
        Arrival::End(ended) => match ended.how {
            // The queue was full, or all buffers were in completions that are taken by now.
            Ending::Stopped | Ending::NoBuffers => self::receive(io, ended.fd, number),
            how => {
                ended.fd.hang_up();
                io.state.clients.remove(number);
                if io.state.is_stopping && io.state.clients.len() == 0 {
                    io.stop();
                }
                how.ok().map(drop)
            }
        },
    })?;
    Ok(())
}
// ANCHOR_END: receive

/// Bytes of a client have come: answers it, and gives its messages to everybody.
fn hear(io: &mut Io<'_, Hub>, client: &Rc<Client>, bytes: &[u8]) -> io::Result<()> {
    if client.is_last.get() {
        return Ok(()); // Whatever it says now, it is too late.
    }
    let heard = client.session.borrow_mut().hear(bytes);
    let before = io.state.counts.messages;
    for what in heard {
        match what {
            Heard::Message(frame) => spread(io.state, &frame),
            Heard::Answer(frame) => {
                if !client.enqueue(frame, io.state.most_queued) {
                    client.cut_off(&mut io.state.counts); // An answer is not skipped.
                    break;
                }
            }
        }
    }
    client.is_last.set(client.is_last.get() || client.session.borrow().is_over());
    if io.state.counts.messages != before {
        send_to_all(io)?;
    }
    send(io, client)
}

// ANCHOR: spread
/// Puts one frame into the queue of each client.
fn spread(hub: &mut Hub, frame: &Shared) {
    hub.counts.messages += 1;
    for client in hub.clients.iter().filter(|client| client.is_listening()) {
        if client.enqueue(Rc::clone(frame), hub.most_queued) {
            continue;
        }
        match hub.slow {
            Slow::Skip => hub.counts.skipped += 1,
            Slow::Drop => client.cut_off(&mut hub.counts),
        }
    }
}
// ANCHOR_END: spread

fn send_to_all(io: &mut Io<'_, Hub>) -> io::Result<()> {
    // No closure is called meanwhile, so nobody misses the table.
    let mut clients = mem::replace(&mut io.state.clients, Table::new());
    let done = clients.iter().try_for_each(|client| send(io, client));
    io.state.clients = clients;
    done
}

// ANCHOR: send
/// Sends what waits for a client, unless something is on its way to it.
fn send(io: &mut Io<'_, Hub>, client: &Rc<Client>) -> io::Result<()> {
    if client.is_sending.get() {
        return Ok(());
    }
    let mut frames = client.waiting();
    client.is_sending.set(!frames.is_empty());
    if frames.len() > 1 {
        let send = SendMsg::new(Rc::clone(client), frames).flags(SendFlags::WAIT_ALL);
        io.submit(send, |io, sent| go_on(io, &sent.fd, &sent.buf, sent.result))?;
    } else if let Some(frame) = frames.pop() {
        let send = op::Send::new(Rc::clone(client), frame).flags(SendFlags::WAIT_ALL);
        io.submit(send, |io, sent| go_on(io, &sent.fd, &[sent.buf], sent.result))?;
    } else if client.is_last.get() {
        client.hang_up();
    }
    Ok(())
}

/// These frames were sent, or not: then the client is of no use any more.
fn go_on(
    io: &mut Io<'_, Hub>,
    client: &Rc<Client>,
    frames: &[Shared],
    sent: io::Result<usize>,
) -> io::Result<()> {
    client.is_sending.set(false);
    let wanted: usize = frames.iter().map(|frame| frame.len()).sum();
    match sent {
        Ok(count) if count == wanted => {
            let messages = frames.iter().filter(|frame| session::is_message(frame));
            io.state.counts.deliveries += messages.count() as u64;
            io.state.counts.bytes += count as u64;
            send(io, client)
        }
        // Half a frame: nothing that follows could be read.
        failed => {
            client.hang_up();
            failed.map(drop)
        }
    }
}
// ANCHOR_END: send

impl Client {
    /// Whether it gets messages: it has said hello, and not goodbye.
    fn is_listening(&self) -> bool {
        !self.is_last.get() && self.session.borrow().is_talking()
    }

    /// Puts a frame into the queue, if there is room. Who waits for no send is not slow: what has
    /// come in one piece is not too much for it.
    fn enqueue(&self, frame: Shared, most: usize) -> bool {
        let mut queue = self.queue.borrow_mut();
        let has_room = !self.is_sending.get() || queue.len() < most;
        if has_room {
            queue.push_back(frame);
        }
        has_room
    }

    /// Takes what waits out of the queue, as much of it as one send may have.
    fn waiting(&self) -> Vec<Shared> {
        let mut queue = self.queue.borrow_mut();
        let count = queue.len().min(BUFFERS);
        queue.drain(..count).collect()
    }

    // ANCHOR: cut_off
    /// Ends what is in flight; the end of its receive removes it.
    fn hang_up(&self) {
        self.is_last.set(true);
        self.queue.borrow_mut().clear();
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// It is too slow.
    fn cut_off(&self, counts: &mut Counts) {
        counts.cut_off += 1;
        self.hang_up();
    }
    // ANCHOR_END: cut_off
}

fn listen_to_signals(io: &mut Io<'_, Hub>, stream: UnixStream) -> io::Result<()> {
    io.submit(Recv::new(stream, [0; 8]), |io, signal| {
        if mem::replace(&mut io.state.is_stopping, true) || io.state.clients.len() == 0 {
            io.stop(); // Nobody is there, or it was told twice.
            return Ok(());
        }
        let (farewell, clients) = (session::going_away(), io.state.clients.iter());
        for client in clients.map(|client| Rc::clone(client)).collect::<Vec<Rc<Client>>>() {
            let is_told =
                client.is_listening() && client.enqueue(farewell.clone(), io.state.most_queued);
            client.is_last.set(true);
            match is_told {
                true => send(io, &client)?,
                false => client.hang_up(),
            }
        }
        io.submit(Timeout::new(GRACE), |io, _| {
            io.stop();
            Ok(())
        })?;
        listen_to_signals(io, signal.fd)
    })?;
    Ok(())
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { came, most, refused, messages, deliveries, bytes, skipped, cut_off } = self;
        writeln!(f, "{came} clients came, at most {most} at once, {refused} were refused")?;
        writeln!(f, "{messages} messages in, {deliveries} deliveries out, {bytes} bytes")?;
        write!(f, "skipped {skipped} deliveries to slow clients, cut off {cut_off} clients")
    }
}
