//! Step 0: a thread for each client, which waits in `read(2)`. There is no ring in here.

use std::io::{ErrorKind, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::{io, net};

use crate::support::{Failure, failed, tell};
use crate::{Done, Server};

/// The acceptor and its clients are threads of their own.
pub struct Threads {
    stop: UnixStream,
    stopped: bool,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    calls: AtomicU64,
    bytes: AtomicU64,
}

impl Counts {
    fn count(&self) {
        self.calls.fetch_add(1, Relaxed);
    }
}

impl Threads {
    /// Starts to accept.
    pub fn new(listener: OwnedFd, stop: UnixStream) -> Result<Self, Failure> {
        // There is nothing to do here but to look now and then whether it is time to stop.
        stop.set_read_timeout(Some(Duration::from_millis(1))).map_err(failed("not here"))?;
        let counts = Arc::<Counts>::default();
        let theirs = Arc::clone(&counts);
        thread::spawn(move || accept(&listener, &theirs));
        Ok(Self { stop, stopped: false, counts })
    }
}

/// Accepts, until that fails.
fn accept(listener: &OwnedFd, counts: &Arc<Counts>) {
    loop {
        counts.count();
        let stream = match net::accept(listener) {
            Ok(stream) => stream,
            Err(Errno::CONNABORTED | Errno::INTR) => continue,
            Err(error) => return tell(format_args!("cannot accept: {error}")),
        };
        let counts = Arc::clone(counts);
        thread::spawn(move || {
            // Whoever vanishes gets no more answers.
            let _ = echo(&stream, &counts);
            counts.count();
        });
    }
}

// ANCHOR: echo
/// Sends back what comes.
fn echo(stream: &OwnedFd, counts: &Counts) -> io::Result<()> {
    let mut buf = [0; 4096];
    loop {
        counts.count();
        let count = io::read(stream, &mut buf)?;
        if count == 0 {
            return Ok(());
        }
        let mut rest = &buf[..count];
        while !rest.is_empty() {
            counts.count();
            let sent = io::write(stream, rest)?;
            counts.bytes.fetch_add(sent as u64, Relaxed);
            rest = &rest[sent..];
        }
    }
}
// ANCHOR_END: echo

impl Server for Threads {
    fn turn(&mut self) -> Result<(), Failure> {
        match self.stop.read(&mut [0; 1]) {
            Ok(_) => self.stopped = true,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(Failure::of("cannot hear signals", error)),
        }
        Ok(())
    }

    fn done(&self) -> Done {
        let (calls, bytes) = (self.counts.calls.load(Relaxed), self.counts.bytes.load(Relaxed));
        Done { calls, bytes, stopped: self.stopped, ..Done::default() }
    }
}
