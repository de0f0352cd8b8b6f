//! The same server without a ring: a pool of threads, each of which waits for one client at a time.
//!
//! ```text
//!   thread 1: accept ─► read ─► openat2 ─► fstat ─► pread ─► write ─► read ─► .. ─► accept
//!   thread 2: accept ─► ..                                each waits here, and nobody else can
//! ```
//!
//! It answers with the same bytes. Look at what a client that is silent costs: here a thread, so
//! with `--threads 4` the fifth waits until one of four has gone.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::retry_on_intr;

use super::answer::{self, Answer, Found, Next};
use super::request::{self, Parsed, Request};
use super::support::{self, thread_cpu_time};
use super::{CHUNK, Counts, Patience};

/// What all threads share.
struct Pool {
    root: OwnedFd,
    listener: TcpListener,
    patience: Patience,
    is_stopping: AtomicBool,
    /// Whether it was told that no client could be accepted.
    has_told: AtomicBool,
    /// How many threads have a client.
    busy: AtomicUsize,
    /// The client of each thread.
    clients: Vec<Mutex<Option<Arc<TcpStream>>>>,
}

/// A connection, and what has been received and not read as a request.
struct Client {
    stream: Arc<TcpStream>,
    input: Vec<u8>,
}

/// Serves by so many threads, until a byte comes through `signals`. Returns the processor time of
/// the threads, too.
pub fn serve(
    root: OwnedFd,
    listener: TcpListener,
    mut signals: UnixStream,
    patience: Patience,
    threads: u32,
) -> io::Result<(Counts, Duration)> {
    let clients = (0..threads).map(|_| Mutex::default()).collect();
    let (is_stopping, has_told) = (AtomicBool::new(false), AtomicBool::new(false));
    let busy = AtomicUsize::new(0);
    let pool = Pool { root, listener, patience, is_stopping, has_told, busy, clients };
    thread::scope(|scope| {
        let slots = pool.clients.iter().map(|client| Slot { pool: &pool, client });
        let threads: Vec<_> =
            slots.map(|it| scope.spawn(move || (it.serve(), thread_cpu_time()))).collect();
        signals.read_exact(&mut [0])?;
        pool.stop(Shutdown::Read)?;
        let told = Instant::now();
        signals.set_read_timeout(Some(Duration::from_millis(10)))?;
        while !threads.iter().all(|thread| thread.is_finished()) {
            if told.elapsed() > patience.grace || signals.read(&mut [0]).is_ok() {
                pool.stop(Shutdown::Both)?;
                break;
            }
        }
        let mut total = (Counts::default(), Duration::ZERO);
        for thread in threads {
            let (counts, cpu) = thread.join().map_err(|_| io::Error::other("a thread panicked"))?;
            total.0.add(&counts);
            total.1 += cpu;
        }
        Ok(total)
    })
}

/// A thread of the pool.
struct Slot<'a> {
    pool: &'a Pool,
    client: &'a Mutex<Option<Arc<TcpStream>>>,
}

impl Pool {
    /// Ends the accepts, and one direction of all connections, or both.
    fn stop(&self, how: Shutdown) -> io::Result<()> {
        if !self.is_stopping.swap(true, Ordering::SeqCst) {
            rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both)?;
        }
        for client in &self.clients {
            if let Some(stream) = &*client.lock().unwrap_or_else(PoisonError::into_inner) {
                let _ = stream.shutdown(how);
            }
        }
        Ok(())
    }

    fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::SeqCst)
    }
}

impl Slot<'_> {
    /// Serves one client after the other.
    fn serve(&self) -> Counts {
        let mut counts = Counts::default();
        let mut buf = vec![0; CHUNK];
        while !self.pool.is_stopping() {
            let stream = match self.pool.listener.accept() {
                Ok((stream, _)) => Arc::new(stream),
                Err(_) if self.pool.is_stopping() => break,
                Err(error) => {
                    if !self.pool.has_told.swap(true, Ordering::SeqCst) {
                        support::tell(format_args!("cannot accept for now: {error}"));
                    }
                    counts.paused += 1;
                    thread::sleep(Duration::from_millis(100));
                    continue;
                }
            };
            self.set(Some(Arc::clone(&stream)));
            counts.clients += 1;
            let busy = self.pool.busy.fetch_add(1, Ordering::SeqCst) + 1;
            counts.most = counts.most.max(busy);
            // Told to stop before it was in the table: nobody would end it.
            if !self.pool.is_stopping()
                && let Err(error) = self.talk(stream, &mut counts, &mut buf)
            {
                counts.cut_off += u64::from(is_timeout(&error));
                super::tell_unusual(&error);
            }
            self.set(None);
            self.pool.busy.fetch_sub(1, Ordering::SeqCst);
        }
        counts
    }

    fn set(&self, client: Option<Arc<TcpStream>>) {
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = client;
    }

    /// Answers the requests of a client, until it has no more.
    fn talk(&self, stream: Arc<TcpStream>, counts: &mut Counts, buf: &mut [u8]) -> io::Result<()> {
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(self.pool.patience.timeout))?;
        let mut client = Client { stream, input: Vec::new() };
        loop {
            let until = Instant::now() + self.pool.patience.timeout;
            let (answer, file) = loop {
                match request::parse(&client.input) {
                    Parsed::Partial if client.receive(until, buf)? => {}
                    Parsed::Partial => return Ok(()),
                    Parsed::Whole(request, len) => {
                        client.input.drain(..len);
                        break self.find(&request)?;
                    }
                    Parsed::Wrong(status) => break (Answer::short(status, None), None),
                }
            };
            counts.requests += 1;
            let keep = answer.keep;
            if !client.answer(answer, file.as_ref(), counts, buf)? {
                return Ok(());
            }
            if !keep {
                return client.hang_up(self.pool.patience.grace, buf);
            }
        }
    }

    /// Opens what is asked for.
    fn find(&self, request: &Request) -> io::Result<(Answer, Option<File>)> {
        let mut path = request.path.clone();
        loop {
            let file = match self.open(&path) {
                Ok(file) => file,
                Err(error) => return Ok((Answer::failed(&error, request), None)),
            };
            let stat = file.metadata()?;
            let found = match stat.file_type() {
                kind if kind.is_file() => Found::File(stat.len()),
                kind if kind.is_dir() => Found::Directory,
                _ => Found::Else,
            };
            match answer::decide(request, &path, found) {
                Next::Answer(answer) => return Ok((answer, Some(file))),
                Next::Open(index) => path = index,
            }
        }
    }

    fn open(&self, path: &CString) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let bounds = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let open = || openat2(&self.pool.root, path, flags, Mode::empty(), bounds);
        Ok(retry_on_intr(open)?.into())
    }
}

impl Client {
    /// Receives something; `false` if nothing more comes.
    fn receive(&mut self, until: Instant, buf: &mut [u8]) -> io::Result<bool> {
        let left = until.saturating_duration_since(Instant::now());
        self.stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        let count = loop {
            match (&*self.stream).read(buf) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        self.input.extend_from_slice(&buf[..count]);
        Ok(count > 0)
    }

    /// Sends an answer; `false` if the file is shorter than what was announced.
    fn answer(
        &self,
        mut answer: Answer,
        file: Option<&File>,
        counts: &mut Counts,
        buf: &mut [u8],
    ) -> io::Result<bool> {
        let mut filled = answer.head.len();
        buf[..filled].copy_from_slice(&answer.head);
        loop {
            let left = usize::try_from(answer.left).unwrap_or(usize::MAX);
            let want = left.min(buf.len() - filled);
            if want > 0
                && let Some(file) = file
            {
                let count = file.read_at(&mut buf[filled..filled + want], answer.at)?;
                if count == 0 {
                    counts.shrank += 1;
                    return Ok(false);
                }
                (answer.at, answer.left) = (answer.at + count as u64, answer.left - count as u64);
                filled += count;
            }
            (&*self.stream).write_all(&buf[..filled])?;
            counts.bytes += filled as u64;
            if answer.left == 0 {
                return Ok(true);
            }
            filled = 0;
        }
    }

    /// Says that nothing follows, and waits until the client has nothing to say either.
    fn hang_up(&mut self, grace: Duration, buf: &mut [u8]) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)?;
        let until = Instant::now() + grace;
        while Instant::now() < until && self.receive(until, buf)? {
            self.input.clear();
        }
        Ok(())
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
