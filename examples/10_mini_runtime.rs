//! A runtime for `async` code, in one file: tasks, timers, sockets, and cancellation by drop.
//!
//! ```text
//!   spawn ─► tasks ◄── wake ── ready queue ◄── wakers ◄── reap ◄── completions ◄─┐
//!              │ poll                                                            │
//!              └─► Op (first poll: submit) ─► ring ─► submit_and_wait ─► kernel ─┘
//! ```
//!
//! | in the runtime | in the ring |
//! |---|---|
//! | the waker of an operation | its user value: `Ring<Option<Waker>>` |
//! | a future of an operation | its ticket; dropping it cancels and detaches |
//! | a stream | the ticket of a multishot operation |
//! | waking from another thread | a `RingSender` |
//! | no room | a list of wakers, woken when an operation has completed |
//!
//! Look at what is not here: no unsafe, no buffer that is kept alive by hand; and a future that is
//! dropped in the middle of a read costs one cancel, because the ring owns the buffer.
//!
//! The demonstration: an echo server and its clients on one thread, a timer that wins against a
//! read, and a wake-up from another thread. Linux 5.19.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::pin::{Pin, pin};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, ThreadId};
use std::time::Duration;

use annulus::buf::SliceExt;
use annulus::op::{
    AcceptMulti, Completion, Connect, Domain, Ending, Multishot, Op, Recv, Send, Socket,
    SocketKind, Timeout,
};
use annulus::{Event, Rejection, Ring, RingSender, Setup, Ticket};
use clap::Parser;
use support::{Failure, Page, failed, up_to};

mod support;

/// Runs an echo server and its clients as tasks of one thread, on one ring.
#[derive(Debug, Parser)]
#[command(verbatim_doc_comment)]
struct Arguments {
    /// How many clients, 1 to 32760
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = up_to(32760))]
    clients: u32,
    /// How often each sends and gets back
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = up_to(u32::MAX))]
    rounds: u32,
    /// Print what the ring did in all
    #[arg(long)]
    stats: bool,
}

// The runtime ------------------------------------------------------------------------------------

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// A runtime of one thread. Cheap to clone.
#[derive(Clone)]
struct Runtime(Rc<Inner>);

struct Inner {
    ring: RefCell<Ring<Option<Waker>>>,
    tasks: RefCell<Vec<Option<Task>>>,
    /// Free slots of finished tasks.
    vacated: RefCell<Vec<usize>>,
    ready: Arc<Ready>,
    /// Items of streams that were not taken yet, by slot.
    completions: RefCell<Vec<VecDeque<Completion>>>,
    /// Tasks that found no room in the ring.
    crowded: RefCell<Vec<Waker>>,
}

/// Tasks to be polled, and how to tell the thread that there are some.
struct Ready {
    queue: Mutex<VecDeque<usize>>,
    sender: RingSender,
    thread: ThreadId,
}

impl Ready {
    fn push(&self, task: usize) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).push_back(task);
    }

    fn pop(&self) -> Option<usize> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

struct TaskWaker {
    task: usize,
    ready: Arc<Ready>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.ready.push(self.task);
        if thread::current().id() != self.ready.thread {
            // Without a ring there is no thread to wake.
            let _ = self.ready.sender.send(0);
        }
    }
}

impl Runtime {
    /// Has room for `waiting` operations at once: in a full ring, none could begin that they await.
    fn new(waiting: u32) -> Result<Self, Failure> {
        let setup = Setup::new(waiting.clamp(1, 256)).cq_entries(waiting.max(512));
        let mut ring: Ring<Option<Waker>> = setup.build_for()?;
        let sender = ring.sender().map_err(|error| Failure::of("no eventfd", error))?;
        let completions = (0..ring.vacant()).map(|_| VecDeque::new()).collect();
        let ready = Ready { queue: Mutex::default(), sender, thread: thread::current().id() };
        Ok(Self(Rc::new(Inner {
            ring: RefCell::new(ring),
            tasks: RefCell::default(),
            vacated: RefCell::default(),
            ready: Arc::new(ready),
            completions: RefCell::new(completions),
            crowded: RefCell::default(),
        })))
    }

    /// Runs `task` alongside the others.
    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let mut tasks = self.0.tasks.borrow_mut();
        let place = self.0.vacated.borrow_mut().pop().unwrap_or(tasks.len());
        if place == tasks.len() {
            tasks.push(None);
        }
        tasks[place] = Some(Box::pin(task));
        self.0.ready.push(place);
    }

    /// Runs until `main` is done, and returns its output.
    fn block_on<T: 'static>(&self, main: impl Future<Output = T> + 'static) -> Result<T, Failure> {
        let result = Rc::new(RefCell::new(None));
        let place = Rc::clone(&result);
        self.spawn(async move {
            let value = main.await;
            *place.borrow_mut() = Some(value);
        });
        loop {
            while let Some(task) = self.0.ready.pop() {
                self.poll(task);
            }
            if let Some(value) = result.borrow_mut().take() {
                return Ok(value);
            }
            self.turn()?;
        }
    }

    /// Drops all tasks, which cancels their operations and releases the runtime that they hold.
    fn end(self) {
        let tasks = self.0.tasks.take();
        drop(tasks);
    }

    /// Polls one task, which may spawn others, or drop anything.
    fn poll(&self, number: usize) {
        // Taken out meanwhile, so that the task may spawn; waking a finished task does nothing.
        let Some(mut task) = self.0.tasks.borrow_mut()[number].take() else { return };
        let waker = TaskWaker { task: number, ready: Arc::clone(&self.0.ready) };
        let waker = Waker::from(Arc::new(waker));
        match task.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Pending => self.0.tasks.borrow_mut()[number] = Some(task),
            Poll::Ready(()) => self.0.vacated.borrow_mut().push(number),
        }
    }

    /// Submits the operations of all tasks, waits for completions, and wakes their tasks.
    fn turn(&self) -> Result<(), Failure> {
        let mut woken = self.0.crowded.take();
        {
            let mut ring = self.0.ring.borrow_mut();
            let mut completions = self.0.completions.borrow_mut();
            match ring.submit_and_wait(1) {
                Err(error) if error.cause != annulus::EnterCause::Interrupted => {
                    return Err(error.into());
                }
                _ => {}
            }
            ring.reap(|event| match event {
                Event::Ended { user, .. } => woken.extend(user.take()),
                Event::Multishot { user, slot, completion } => {
                    completions[slot as usize].push_back(completion);
                    woken.extend(user.take());
                }
                // Another thread woke a task, which is in the ready queue already.
                _ => {}
            })?;
        }
        // With nothing borrowed: a waker may do anything.
        woken.into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// A future of `op`.
    fn op<O: Op + 'static>(&self, op: O) -> OpFuture<O> {
        OpFuture { runtime: self.clone(), state: State::Idle(op) }
    }

    /// A stream of the items of `op`.
    async fn stream<O: Multishot + 'static>(&self, op: O) -> Stream<O> {
        let mut op = Some(op);
        let ticket = poll_fn(|context| {
            let Some(idle) = op.take() else { unreachable!("polled after it was ready") };
            match self.submit(idle, context) {
                Ok(ticket) => Poll::Ready(ticket),
                Err(idle) => {
                    op = Some(idle);
                    Poll::Pending
                }
            }
        });
        Stream { ticket: Some(ticket.await), runtime: self.clone() }
    }

    /// Submits `op`, or gives it back and arranges for the task to be woken when there is room.
    fn submit<O: Op + 'static>(&self, op: O, context: &Context<'_>) -> Result<Ticket<O>, O> {
        let waker = Some(context.waker().clone());
        self.0.ring.borrow_mut().submit_for(op, waker).map_err(|rejected| {
            assert_ne!(rejected.why, Rejection::OtherRing, "there is one ring");
            self.0.crowded.borrow_mut().push(context.waker().clone());
            rejected.op
        })
    }

    /// Detaches an operation: the ring keeps what it owns until the kernel is done.
    fn abandon<O: Op>(&self, ticket: Ticket<O>) {
        let mut ring = self.0.ring.borrow_mut();
        // When the cancel finds no room, the operation ends later.
        let _ = ring.cancel(&ticket);
        ring.detach(ticket);
    }
}

/// An operation as a future. The first poll submits; dropping it cancels.
struct OpFuture<O: Op + 'static> {
    runtime: Runtime,
    state: State<O>,
}

enum State<O> {
    Idle(O),
    Out(Ticket<O>),
    Gone,
}

impl<O: Op + 'static> Unpin for OpFuture<O> {}

impl<O: Op + 'static> Future for OpFuture<O> {
    type Output = O::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<O::Output> {
        let this = &mut *self;
        this.state = match std::mem::replace(&mut this.state, State::Gone) {
            State::Idle(op) => match this.runtime.submit(op, context) {
                Ok(ticket) => State::Out(ticket),
                Err(op) => State::Idle(op),
            },
            State::Out(ticket) => {
                let mut ring = this.runtime.0.ring.borrow_mut();
                match ring.try_take(ticket) {
                    Ok(output) => return Poll::Ready(output),
                    Err(ticket) => {
                        *ring.user(&ticket) = Some(context.waker().clone());
                        State::Out(ticket)
                    }
                }
            }
            State::Gone => panic!("polled after it was ready"),
        };
        Poll::Pending
    }
}

impl<O: Op + 'static> Drop for OpFuture<O> {
    fn drop(&mut self) {
        if let State::Out(ticket) = std::mem::replace(&mut self.state, State::Gone) {
            self.runtime.abandon(ticket);
        }
    }
}

/// The items of an operation, one after the other.
struct Stream<O: Multishot + 'static> {
    runtime: Runtime,
    ticket: Option<Ticket<O>>,
}

impl<O: Multishot + 'static> Stream<O> {
    /// The next item; or, once, how the operation ended.
    async fn next(&mut self) -> Result<O::Item, O::Output> {
        poll_fn(|context| {
            let Some(ticket) = self.ticket.take() else { panic!("asked after its end") };
            let inner = &self.runtime.0;
            if let Some(completion) =
                inner.completions.borrow_mut()[ticket.slot() as usize].pop_front()
            {
                self.ticket = Some(ticket);
                return Poll::Ready(Ok(O::item(completion)));
            }
            let mut ring = inner.ring.borrow_mut();
            match ring.try_take(ticket) {
                Ok(end) => Poll::Ready(Err(end)),
                Err(ticket) => {
                    *ring.user(&ticket) = Some(context.waker().clone());
                    self.ticket = Some(ticket);
                    Poll::Pending
                }
            }
        })
        .await
    }
}

impl<O: Multishot + 'static> Drop for Stream<O> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.runtime.0.completions.borrow_mut()[ticket.slot() as usize].clear();
            self.runtime.abandon(ticket);
        }
    }
}

/// The output of `future`, or `None` when `time` is over first, which cancels the future.
async fn within<F: Future>(runtime: &Runtime, time: Duration, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut timer = pin!(runtime.op(Timeout::new(time)));
    poll_fn(|context| {
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready(Some(output));
        }
        timer.as_mut().poll(context).map(|_| None)
    })
    .await
}

// The demonstration ------------------------------------------------------------------------------

fn main() -> ExitCode {
    support::main(run)
}

fn run(arguments: Arguments, page: &mut Page) -> Result<(), Failure> {
    let Arguments { clients, rounds, stats } = arguments;
    let listener = TcpListener::bind("127.0.0.1:0").map_err(failed("cannot listen"))?;
    let address = listener.local_addr().map_err(failed("cannot listen"))?;
    let before = support::cpu_time();
    // Each connection waits at both of its ends.
    let runtime = Runtime::new(2 * clients + 16)?;
    let stopped = Stopped::default();
    let (server, sees) = (serve(runtime.clone(), listener), Rc::clone(&stopped));
    runtime.spawn(async move { *sees.borrow_mut() = Some(server.await) });
    let main = demonstrate(runtime.clone(), address, stopped, clients, rounds);
    let (bytes, wakes) = runtime.block_on(main)?.map_err(failed("the echo failed"))?;
    writeln!(page, "{clients} clients, {rounds} rounds each: {bytes} bytes there and back")?;
    writeln!(page, "a read of a silent peer lost against a timer, and was cancelled by its drop")?;
    writeln!(page, "another thread woke a task {wakes} times")?;
    if stats {
        let (total, cpu) = (runtime.0.ring.borrow().stats(), support::cpu_time() - before);
        writeln!(page, "{}", support::stats_line(total, total.sqes, cpu))?;
    }
    runtime.end();
    Ok(())
}

/// Why the server has stopped, once it has.
type Stopped = Rc<RefCell<Option<io::Error>>>;

async fn demonstrate(
    runtime: Runtime,
    server: SocketAddr,
    stopped: Stopped,
    clients: u32,
    rounds: u32,
) -> io::Result<(u64, u32)> {
    let results = Rc::new(RefCell::new(Vec::new()));
    for number in 0..clients {
        let (runtime, results) = (runtime.clone(), Rc::clone(&results));
        runtime.clone().spawn(async move {
            let result = talk(&runtime, server, number, rounds).await;
            results.borrow_mut().push(result);
        });
    }
    while results.borrow().len() < clients as usize {
        // Clients wake no task when they are done, so the demonstration checks now and then.
        runtime.op(Timeout::new(Duration::from_millis(1))).await?;
        stopped.borrow_mut().take().map_or(Ok(()), Err)?; // Or they would wait forever.
    }
    let bytes = results.take().into_iter().sum::<io::Result<u64>>()?;

    let silent = Rc::new(TcpStream::connect(server)?);
    let read = runtime.op(Recv::new(silent, vec![0; 64].into_boxed_slice()));
    if within(&runtime, Duration::from_millis(5), read).await.is_some() {
        return Err(io::Error::other("the server spoke first"));
    }
    Ok((bytes, woken_from_afar().await))
}

/// A client: sends, and reads until its whole message came back.
async fn talk(runtime: &Runtime, server: SocketAddr, number: u32, rounds: u32) -> io::Result<u64> {
    let socket = runtime.op(Socket::new(Domain::V4, SocketKind::STREAM)).await?;
    let socket = Rc::new(socket);
    runtime.op(Connect::new(Rc::clone(&socket), server)).await.result?;
    let mut bytes = 0;
    for round in 0..rounds {
        let text = format!("client {number}, round {round}").into_bytes();
        let sent = send_all(runtime, &socket, text).await?;
        let mut back = Vec::with_capacity(sent.len());
        while back.len() < sent.len() {
            let received = runtime.op(Recv::new(Rc::clone(&socket), back)).await;
            match received.result? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                _ => back = received.buf,
            }
        }
        if back != sent {
            return Err(io::Error::other("the echo is not what was said"));
        }
        bytes += back.len() as u64;
    }
    Ok(bytes)
}

/// Sends all of `buf`, however short the sends are, and gives it back.
async fn send_all(runtime: &Runtime, to: &Rc<OwnedFd>, mut buf: Vec<u8>) -> io::Result<Vec<u8>> {
    let mut sent = 0;
    while sent < buf.len() {
        let send = runtime.op(Send::new(Rc::clone(to), buf.slice(sent..))).await;
        sent += send.result?;
        buf = send.buf.into_inner();
    }
    Ok(buf)
}

/// The server: a task for each connection. Returns why it has stopped.
async fn serve(runtime: Runtime, listener: TcpListener) -> io::Error {
    let listener = Rc::new(listener);
    loop {
        let mut connections = runtime.stream(AcceptMulti::new(Rc::clone(&listener))).await;
        let end = loop {
            match connections.next().await {
                Ok(Ok(connection)) => runtime.spawn(echo(runtime.clone(), Rc::new(connection))),
                Ok(Err(error)) => support::tell(format_args!("cannot accept: {error}")),
                Err(end) => break end,
            }
        };
        match end.how {
            how if how.wants_more() => {}
            Ending::Failed(error) => return error,
            how => return io::Error::other(format!("no more connections: {how:?}")),
        }
    }
}

/// Sends back all data, until no more comes.
async fn echo(runtime: Runtime, connection: Rc<OwnedFd>) {
    let mut buf = Vec::with_capacity(4096);
    loop {
        let received = runtime.op(Recv::new(Rc::clone(&connection), buf)).await;
        if !matches!(received.result, Ok(1..)) {
            return; // The end of the stream, or the peer has vanished.
        }
        match send_all(&runtime, &connection, received.buf).await {
            Ok(sent) => buf = sent,
            Err(_) => return,
        }
        buf.clear();
    }
}

/// A task that another thread wakes, three times.
async fn woken_from_afar() -> u32 {
    for _ in 0..3 {
        let mut asked = false;
        poll_fn(|context| {
            if std::mem::replace(&mut asked, true) {
                return Poll::Ready(());
            }
            let waker = context.waker().clone();
            thread::spawn(move || waker.wake());
            Poll::Pending
        })
        .await;
    }
    3
}
