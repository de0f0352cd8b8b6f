//! A logger: programs write records to memory that they share with it, without a system call for a
//! record; and what a program had written survives its death.
//!
//! ```text
//!   writer 1: records in its own memory ─── descriptor, by a unix socket ──► mapped by the logger
//!   writer 2: likewise
//!                                                 one ring of the logger
//!   the bell of a writer (half of it is full) ──► FutexWait ──┐
//!   its socket closes: it has ended, or died ───► Recv ───────┼─► takes what is committed ─► Write
//!   a tick, for those that write little ────────► Timeout ────┘            └─► FutexWake: room
//! ```
//!
//! | what happens | what the logger does |
//! |---|---|
//! | a writer is killed between two records | all of them are in the log |
//! | … in the middle of one | all before it are in the log, and a line says that one was torn |
//! | a writer is faster than the disk | its memory is full, and it waits; no record is lost |
//! | a writer fills its memory with nonsense | its connection is closed, and the others go on |
//!
//! Try it: `logd /tmp/log.socket --output /tmp/log`, and elsewhere `ls | logd /tmp/log.socket
//! --write`. SIGINT or SIGTERM ends the logger.
//!
//! Look at: `strace -c -f` of a writer with `--flood 100000`: far fewer calls than records. And at
//! the logger, which waits for futexes in memory of other processes, for their sockets, for a clock
//! and for its disk in one wait. Linux 6.7.

use std::cell::{Cell, RefCell};
use std::fs::{self, File};
use std::io::{self, BufRead as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use annulus::buf::SliceExt as _;
use annulus::op::{
    self, AcceptMulti, FutexWait, FutexWake, MsgHeader, RecvMsg, SendMsg, Timeout, Write,
};
use annulus::sys::opcode::Opcode;
use annulus::{Arrival, Capabilities, EventLoop, Io, OpId, Setup};
use clap::Parser;
use memory::{Memory, Word};
use records::{BELL, HEAD, Reader, Writer};
use support::serving::asked_to_stop;
use support::{Failure, Page, failed, up_to};

#[path = "logd/memory.rs"]
mod memory;
#[path = "logd/records.rs"]
mod records;
mod support;

/// Writes the records of many programs to a file; with --write, is such a program.
#[derive(Debug, Parser)]
#[command(verbatim_doc_comment)]
struct Arguments {
    /// The socket where the logger listens
    #[arg(default_value = "logd.socket")]
    socket: PathBuf,
    /// The file to write to, at its end
    #[arg(long, value_name = "FILE", default_value = "logd.log")]
    output: PathBuf,
    /// Write the lines of stdin as records, instead of logging
    #[arg(long)]
    write: bool,
    /// Words of memory, a power of two
    #[arg(long, value_name = "N", default_value_t = 16384, value_parser = up_to(1 << 20))]
    words: u32,
    /// Write so many records, instead of the lines of stdin
    #[arg(long, value_name = "N", requires = "write")]
    flood: Option<u64>,
    /// Then write half of a record, and wait to be killed
    #[arg(long, requires = "flood")]
    tear: bool,
    /// Print what the ring did in all
    #[arg(long)]
    stats: bool,
}

/// How often the logger comes without having been called.
const TICK: Duration = Duration::from_millis(50);

/// A writer, as the logger knows it.
#[derive(Debug)]
struct Client {
    pid: u32,
    memory: Arc<Memory>,
    reader: RefCell<Reader>,
    /// The wait at its bell.
    waiting: Cell<Option<OpId>>,
    /// The receive that ends when it does.
    living: Cell<Option<OpId>>,
    is_gone: Cell<bool>,
}

/// The state of the logger's loop.
#[derive(Debug)]
struct Logger {
    clients: Vec<Rc<Client>>,
    file: Rc<File>,
    /// Where the next byte goes.
    at: u64,
    /// What is not handed to the kernel yet.
    pending: Vec<u8>,
    is_writing: bool,
    accepting: Option<OpId>,
    ticking: Option<OpId>,
    is_stopping: bool,
    records: u64,
    torn: u64,
    calls: u64,
    writes: u64,
}

fn main() -> ExitCode {
    support::main(|arguments: Arguments, page| match arguments.write {
        true => write(&arguments),
        false => log(&arguments, page),
    })
}

// The writer -----------------------------------------------------------------------------------

fn write(arguments: &Arguments) -> Result<(), Failure> {
    let Arguments { socket, words, flood, tear, .. } = arguments;
    let cannot = format!("cannot reach {}", socket.display());
    let stream = UnixStream::connect(socket).map_err(failed(cannot))?;
    let memory = Writer::new(*words as usize);
    let mut writer = memory.map_err(failed(format_args!("cannot share {words} words")))?;
    let hello = failed("cannot say hello");
    let _stream = greet(stream, writer.memory()).map_err(hello)?;
    let unwritten = || failed::<io::Error>("cannot write a record");
    if let Some(count) = flood {
        for number in 0..*count {
            writer.write(format!("record {number}").as_bytes()).map_err(unwritten())?;
        }
        if *tear {
            let long = format!("record {count}, which is not whole").repeat(10);
            writer.tear(long.as_bytes()).map_err(unwritten())?;
            println!("torn");
            thread::sleep(Duration::from_secs(3600));
        }
        return Ok(());
    }
    for line in io::stdin().lock().lines() {
        let line = line.map_err(failed("cannot read"))?;
        writer.write(line.as_bytes()).map_err(unwritten())?;
    }
    Ok(())
}

/// Sends the memory to the logger, which knows by the end of the stream when we are gone.
fn greet(stream: UnixStream, memory: &Arc<Memory>) -> io::Result<UnixStream> {
    let mut ring = Setup::new(2).build()?;
    let mut header = MsgHeader::new();
    let pid = std::process::id().to_ne_bytes();
    if header.attach(Arc::clone(memory)).is_err() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let send = ring.submit(SendMsg::new(stream, [pid]).with(header))?;
    let sent = ring.wait(send)?;
    sent.result?;
    Ok(sent.fd)
}

// The logger -----------------------------------------------------------------------------------

fn log(arguments: &Arguments, page: &mut Page) -> Result<(), Failure> {
    let here = Capabilities::detect()?;
    if !here.has_op(Opcode::FUTEX_WAIT) {
        return Err(Failure::Failed("to wait for a futex on a ring needs Linux 6.7".into()));
    }
    let Arguments { socket, output, stats, .. } = arguments;
    let cannot = format!("cannot open {}", output.display());
    let file = File::options().create(true).append(true).open(output).map_err(failed(&cannot))?;
    let at = file.metadata().map_err(failed(&cannot))?.len();
    let cannot = format!("cannot listen on {}", socket.display());
    let listener = UnixListener::bind(socket).map_err(failed(cannot))?;
    let _unlink = Unlink(socket);
    let logger = Logger {
        clients: Vec::new(),
        file: Rc::new(file),
        at,
        pending: Vec::new(),
        is_writing: false,
        accepting: None,
        ticking: None,
        is_stopping: false,
        records: 0,
        torn: 0,
        calls: 0,
        writes: 0,
    };
    let mut events = EventLoop::new(Setup::new(256).build_for()?, logger);
    let begin = failed("cannot begin");
    let io = &mut events.io();
    accept(io, listener)
        .and_then(|()| tick(io))
        .and_then(|()| stop_when_asked(io, asked_to_stop().map_err(|_| io::ErrorKind::Other)?))
        .map_err(begin)?;
    let before = support::cpu_time();
    writeln!(page, "listening on {}", socket.display())?;
    events.run(|_, error| support::tell(error))?;
    let Logger { records, torn, calls, writes, .. } = events.state;
    writeln!(page, "{records} records in {writes} writes, {torn} torn; called {calls} times")?;
    if *stats {
        let (cpu, total) = (support::cpu_time() - before, events.ring().raw().stats());
        writeln!(page, "{}", support::stats_line(total, records, cpu))?;
    }
    Ok(())
}

/// Removes the socket's name in the end.
struct Unlink<'a>(&'a Path);

impl Drop for Unlink<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.0);
    }
}

fn accept(io: &mut Io<'_, Logger>, listener: UnixListener) -> io::Result<()> {
    let accepting =
        io.submit_multishot(AcceptMulti::new(listener), |io, arrival| match arrival {
            Arrival::Item(stream) => welcome(io, UnixStream::from(stream?)),
            Arrival::End(_) if io.state.is_stopping => Ok(()),
            Arrival::End(ended) => {
                // No descriptor is left, for example: in a moment there may be one.
                io.submit(Timeout::new(TICK), |io, _| match io.state.is_stopping {
                    true => Ok(()),
                    false => accept(io, ended.fd),
                })?;
                ended.how.ok().map(drop)
            }
        })?;
    io.state.accepting = Some(accepting);
    Ok(())
}

/// Receives the memory of a new writer.
fn welcome(io: &mut Io<'_, Logger>, stream: UnixStream) -> io::Result<()> {
    let hello = RecvMsg::new(stream, [[0; 4]]).with(MsgHeader::new());
    io.submit(hello, |io, received| {
        received.result?;
        let ([pid], mut header) = received.buf;
        let Some(fd) = header.take_descriptors().pop() else {
            return Err(io::Error::other("a writer without memory"));
        };
        let memory = Arc::new(Memory::adopt(fd)?);
        let client = Rc::new(Client {
            pid: u32::from_ne_bytes(pid),
            reader: Reader::of(Arc::clone(&memory))?.into(),
            memory,
            waiting: Cell::new(None),
            living: Cell::new(None),
            is_gone: Cell::new(false),
        });
        io.state.clients.push(Rc::clone(&client));
        watch(io, Rc::clone(&client), received.fd)?;
        listen(io, client)
    })?;
    Ok(())
}

// ANCHOR: listen
/// Takes what is there, and comes again when the writer calls.
fn listen(io: &mut Io<'_, Logger>, client: Rc<Client>) -> io::Result<()> {
    // Loaded first: a call that comes meanwhile changes it, and then the wait ends at once.
    let bell = client.reader.borrow().bell();
    collect(io, &client)?;
    let wait = FutexWait::new(Word(Arc::clone(&client.memory), BELL), bell);
    let for_wait = Rc::clone(&client);
    let waiting = io.submit(wait, move |io, woken| {
        if for_wait.is_gone.get() {
            return Ok(());
        }
        io.state.calls += 1;
        match woken.result {
            Err(error) if error.raw_os_error() != Some(libc::EAGAIN) => Err(error),
            _ => listen(io, for_wait),
        }
    })?;
    client.waiting.set(Some(waiting));
    Ok(())
}
// ANCHOR_END: listen

// ANCHOR: watch
/// When the stream ends, so has its writer: what it had committed is still taken.
fn watch(io: &mut Io<'_, Logger>, client: Rc<Client>, stream: UnixStream) -> io::Result<()> {
    let for_end = Rc::clone(&client);
    let living = io.submit(op::Recv::new(stream, [0; 1]), move |io, received| {
        if for_end.is_gone.get() {
            return Ok(()); // It wrote nonsense, and its stream is closed here.
        }
        // A writer sends nothing more. If the receive was cancelled, it is we who end.
        let is_dead = !io.state.is_stopping;
        drop(received);
        let taken = collect(io, &for_end);
        let torn = for_end.reader.borrow().torn().filter(|_| is_dead && taken.is_ok());
        if let Some(bytes) = torn {
            io.state.torn += 1;
            let text = format!("{}: torn: a record of up to {bytes} bytes\n", for_end.pid);
            io.state.pending.extend(text.as_bytes());
            flush(io)?;
        }
        let_go(io, &for_end)?;
        taken
    })?;
    client.living.set(Some(living));
    Ok(())
}
// ANCHOR_END: watch

/// Forgets a writer.
fn let_go(io: &mut Io<'_, Logger>, client: &Rc<Client>) -> io::Result<()> {
    client.is_gone.set(true);
    io.state.clients.retain(|other| !Rc::ptr_eq(other, client));
    for op in [client.waiting.take(), client.living.take()].into_iter().flatten() {
        io.cancel(op)?;
    }
    Ok(())
}

/// Takes all records that a writer has committed, and lets it go on if it waits for room.
fn collect(io: &mut Io<'_, Logger>, client: &Rc<Client>) -> io::Result<()> {
    let state = &mut *io.state;
    let taken = client.reader.borrow_mut().take_all(|text| {
        state.records += 1;
        state.pending.extend(format!("{}: ", client.pid).as_bytes());
        state.pending.extend(text);
        state.pending.push(b'\n');
    });
    flush(io)?;
    match taken {
        Ok(false) => Ok(()),
        Ok(true) => {
            let wake = FutexWake::new(Word(Arc::clone(client.reader.borrow().memory()), HEAD), 1);
            io.submit(wake, |_, woken| woken.result)?;
            Ok(())
        }
        Err(error) => {
            if !client.is_gone.get() {
                let_go(io, client)?;
            }
            Err(io::Error::other(format!("writer {}: {error}", client.pid)))
        }
    }
}

/// Writes what is pending, unless a write is in flight: its end will.
fn flush(io: &mut Io<'_, Logger>) -> io::Result<()> {
    if io.state.is_writing || io.state.pending.is_empty() {
        return Ok(());
    }
    io.state.is_writing = true;
    let bytes = std::mem::take(&mut io.state.pending);
    write_from(io, bytes, 0)
}

fn write_from(io: &mut Io<'_, Logger>, bytes: Vec<u8>, from: usize) -> io::Result<()> {
    let write = Write::new(Rc::clone(&io.state.file), bytes.slice(from..)).at(io.state.at);
    io.state.writes += 1;
    io.submit(write, move |io, written| {
        let bytes = written.buf.into_inner();
        let count = written.result.inspect_err(|_| io.state.is_writing = false)?;
        io.state.at += count as u64;
        if from + count < bytes.len() {
            return write_from(io, bytes, from + count);
        }
        io.state.is_writing = false;
        flush(io)
    })?;
    Ok(())
}

/// Comes to all writers now and then, for those that write little.
fn tick(io: &mut Io<'_, Logger>) -> io::Result<()> {
    let ticking = io.submit(Timeout::new(TICK), |io, _| {
        if io.state.is_stopping {
            return Ok(());
        }
        tick(io)?;
        let clients = io.state.clients.clone();
        clients.iter().try_for_each(|client| collect(io, client))
    })?;
    io.state.ticking = Some(ticking);
    Ok(())
}

/// Takes all that is committed, and ends, when a byte comes.
fn stop_when_asked(io: &mut Io<'_, Logger>, asked: UnixStream) -> io::Result<()> {
    io.submit(op::Recv::new(asked, [0; 1]), |io, _| {
        io.state.is_stopping = true;
        let living: Vec<_> = io.state.clients.iter().filter_map(|it| it.living.get()).collect();
        let ops = [io.state.accepting.take(), io.state.ticking.take()];
        for op in ops.into_iter().flatten().chain(living) {
            io.cancel(op)?;
        }
        Ok(())
    })?;
    Ok(())
}
