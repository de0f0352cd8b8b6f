//! A server with many rings: one accepts, and hands each client to the ring of a worker thread. It
//! answers what `cksum` would print of the bytes that the client sends.
//!
//! ```text
//!   acceptor: AcceptMulti ─► client ─► queue of worker 2 ─► Message ═╗ MSG_RING, if the queue
//!                                                                   ║ was empty
//!   worker 0 ─ ring   worker 1 ─ ring   worker 2 ─ ring ◄═══════════╝
//!                                        └─ on message: takes the whole queue, serves
//! ```
//!
//! | what goes where | how |
//! |---|---|
//! | the client | by a queue, as a `TcpStream` that somebody owns |
//! | the news that it is there | as a completion on the worker's ring |
//! | "there will be no more" | the acceptor drops its senders: the worker's loop ends |
//!
//! Try it: `workers --threads 4`, then `nc -N 127.0.0.1 7777 < FILE`, and `cksum < FILE`. SIGINT or
//! SIGTERM ends it once the clients that were accepted are served.
//!
//! Look at: the messages (`--stats`). When many clients come at once, there are fewer messages than
//! clients, since a queue that was not empty has been announced already; and messages of a turn are
//! entries like others, so that one enter sends them all. And at what no thread waits for but its
//! ring. Linux 5.19.

use std::collections::VecDeque;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use annulus::op::{self, AcceptMulti, Message, SendFlags, Timeout};
use annulus::sys::opcode::Opcode;
use annulus::{Arrival, Capabilities, EventLoop, Io, OpId, RingSender, Setup, Stats};
use clap::Parser;
use support::cksum::Cksum;
use support::serving::asked_to_stop;
use support::{Failure, Page, failed, up_to};

mod support;

/// Serves checksums: one ring accepts, and a ring for each thread works.
#[derive(Debug, Parser)]
#[command(verbatim_doc_comment)]
struct Arguments {
    /// Where to listen; port 0 is any
    #[arg(default_value = "127.0.0.1:7777")]
    address: String,
    /// So many worker threads, each with a ring
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = up_to(256))]
    threads: u32,
    /// Print what each ring did in all
    #[arg(long)]
    stats: bool,
}

// ANCHOR: desk
/// What the acceptor and a worker share: the clients that the worker has not taken yet.
#[derive(Debug, Default)]
struct Desk {
    queue: Mutex<VecDeque<TcpStream>>,
    /// How many clients the worker has, in the queue and on its ring.
    clients: AtomicU64,
}

impl Desk {
    /// Adds a client; returns whether the worker must be told.
    fn put(&self, client: TcpStream) -> bool {
        self.clients.fetch_add(1, Ordering::Relaxed);
        let mut queue = self.queue();
        queue.push_back(client);
        queue.len() == 1
    }

    /// Takes all that are there: so the next one is announced again.
    fn take_all(&self) -> VecDeque<TcpStream> {
        std::mem::take(&mut self.queue())
    }

    fn queue(&self) -> MutexGuard<'_, VecDeque<TcpStream>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
// ANCHOR_END: desk

/// A worker, as the acceptor knows it.
#[derive(Debug)]
struct Worker {
    desk: Arc<Desk>,
    sender: RingSender,
}

/// The state of the acceptor's loop.
#[derive(Debug, Default)]
struct Office {
    workers: Vec<Worker>,
    accepting: Option<OpId>,
    accepted: u64,
    messages: u64,
}

/// The state of a worker's loop.
#[derive(Debug)]
struct Work {
    desk: Arc<Desk>,
    served: u64,
    bytes: u64,
}

/// What a worker tells in the end: clients, bytes, what its ring did, and its processor time.
type Told = Result<(u64, u64, Stats, Duration), Failure>;

fn main() -> ExitCode {
    support::main(run)
}

fn run(arguments: Arguments, page: &mut Page) -> Result<(), Failure> {
    let Arguments { address, threads, stats } = arguments;
    if !Capabilities::detect()?.has_op(Opcode::SOCKET) {
        return Err(Failure::Failed("accepts that complete many times need Linux 5.19".into()));
    }
    let listening = format!("cannot listen on {address}");
    let listener = TcpListener::bind(&address).map_err(failed(&listening))?;
    let address = listener.local_addr().map_err(failed(&listening))?;
    let mut events = EventLoop::new(Setup::new(64).build_for()?, Office::default());
    let mut joins = Vec::new();
    for _ in 0..threads {
        let (worker, join) = start()?;
        events.state.workers.push(worker);
        joins.push(join);
    }
    accept(&mut events.io(), listener).map_err(failed("cannot accept"))?;
    stop_when_asked(&mut events.io(), asked_to_stop()?).map_err(failed("cannot wait"))?;
    writeln!(page, "listening on {address}")?;

    events.run(|_, error| support::tell(error))?;
    let acceptor = events.ring().raw().stats();
    let Office { workers, accepted, messages, .. } = std::mem::take(&mut events.state);
    drop(workers); // Their senders: each worker ends when its clients are served.
    let (mut total, mut cpu) = (acceptor, support::thread_cpu_time());
    let mut rows = Vec::new();
    for join in joins {
        let (served, bytes, stats, its_cpu) =
            join.join().unwrap_or_else(|_| Err(Failure::Failed("a worker has panicked".into())))?;
        rows.push((served, bytes, stats.enters));
        cpu += its_cpu;
        total.enters += stats.enters;
        total.sqes += stats.sqes;
        total.cqes += stats.cqes;
    }
    writeln!(page, "accepted {accepted} clients, told workers {messages} times")?;
    for (number, (served, bytes, enters)) in rows.iter().enumerate() {
        writeln!(page, "worker {number}: {served} clients, {bytes} bytes, {enters} enters")?;
    }
    if stats {
        writeln!(page, "acceptor: {} enters", acceptor.enters)?;
        writeln!(page, "{}", support::stats_line(total, accepted, cpu))?;
    }
    Ok(())
}

// The acceptor ---------------------------------------------------------------------------------

/// Accepts clients, and gives each to a worker.
fn accept(io: &mut Io<'_, Office>, listener: TcpListener) -> io::Result<()> {
    let accepting =
        io.submit_multishot(AcceptMulti::new(listener), |io, arrival| match arrival {
            Arrival::Item(client) => hand_over(io, TcpStream::from(client?)),
            // It was told to stop: clients in the backlog are refused.
            Arrival::End(_) if io.state.accepting.is_none() => Ok(()),
            // No descriptor is left, for example: in a moment there may be one.
            Arrival::End(ended) => {
                let pause = Timeout::new(Duration::from_millis(100));
                io.submit(pause, |io, _| match io.state.accepting {
                    Some(_) => accept(io, ended.fd),
                    None => Ok(()),
                })?;
                ended.how.ok().map(drop)
            }
        })?;
    io.state.accepting = Some(accepting);
    Ok(())
}

// ANCHOR: hand_over
/// Gives `client` to the worker that has the fewest, and tells it.
fn hand_over(io: &mut Io<'_, Office>, client: TcpStream) -> io::Result<()> {
    io.state.accepted += 1;
    let load = |worker: &&Worker| worker.desk.clients.load(Ordering::Relaxed);
    let worker = io.state.workers.iter().min_by_key(load).expect("there is at least one");
    if worker.desk.put(client) {
        let message = Message::new(&worker.sender, 1)?;
        let desk = Arc::clone(&worker.desk);
        io.submit(message, move |io, sent| {
            io.state.messages += 1;
            if sent.is_err() {
                drop(desk.take_all()); // The worker is gone: better closed than kept waiting.
            }
            sent
        })?;
    }
    Ok(())
}
// ANCHOR_END: hand_over

/// Ends the accepting when a byte comes.
fn stop_when_asked(io: &mut Io<'_, Office>, asked: UnixStream) -> io::Result<()> {
    io.submit(op::Recv::new(asked, [0; 1]), |io, _| match io.state.accepting.take() {
        Some(accepting) => io.cancel(accepting).map_err(io::Error::from),
        None => Ok(()),
    })?;
    Ok(())
}

// A worker -------------------------------------------------------------------------------------

/// Starts a thread with a ring, and waits until that can be sent to.
fn start() -> Result<(Worker, thread::JoinHandle<Told>), Failure> {
    let desk = Arc::new(Desk::default());
    let (give, take) = mpsc::channel();
    let theirs = Arc::clone(&desk);
    let join = thread::Builder::new().spawn(move || work(theirs, &give));
    let join = join.map_err(failed("cannot start a thread"))?;
    match take.recv() {
        Ok(sender) => Ok((Worker { desk, sender }, join)),
        Err(_) => Err(match join.join() {
            Ok(Err(failure)) => failure,
            _ => Failure::Failed("a worker has ended at once".into()),
        }),
    }
}

// ANCHOR: work
/// The life of a worker: it ends when the acceptor is gone, and all clients are served.
fn work(desk: Arc<Desk>, give: &mpsc::Sender<RingSender>) -> Told {
    let work = Work { desk, served: 0, bytes: 0 };
    let mut events = EventLoop::new(Setup::new(256).build_for()?, work);
    events.on_message(|io, _| {
        for client in io.state.desk.take_all() {
            serve(io, Rc::new(client), Vec::with_capacity(64 << 10), Cksum::default())?;
        }
        Ok(())
    });
    let sender = events.sender().map_err(failed("a ring takes no messages"))?;
    // Only the acceptor keeps it, so that the loop ends with it.
    let _ = give.send(sender);
    events.run(|_, error| support::tell(error))?;
    let Work { served, bytes, .. } = events.state;
    Ok((served, bytes, events.ring().raw().stats(), support::thread_cpu_time()))
}
// ANCHOR_END: work

/// Adds what `client` sends to its sum, and answers when it has sent everything.
fn serve(
    io: &mut Io<'_, Work>,
    client: Rc<TcpStream>,
    buf: Vec<u8>,
    mut sum: Cksum,
) -> io::Result<()> {
    io.submit(op::Recv::new(client, buf), move |io, received| {
        match received.result {
            Ok(0) => {}
            Ok(_) => {
                sum.add(&received.buf);
                return serve(io, received.fd, received.buf, sum);
            }
            Err(error) => {
                over(io, 0);
                return Err(error);
            }
        }
        let send = op::Send::new(received.fd, format!("{sum}\n")).flags(SendFlags::WAIT_ALL);
        io.submit(send, move |io, sent| {
            over(io, sum.bytes());
            sent.result
        })?;
        Ok(())
    })?;
    Ok(())
}

/// A client was served, or is gone.
fn over(io: &mut Io<'_, Work>, bytes: u64) {
    io.state.desk.clients.fetch_sub(1, Ordering::Relaxed);
    io.state.served += 1;
    io.state.bytes += bytes;
}
