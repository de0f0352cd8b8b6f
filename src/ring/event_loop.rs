//! An event loop: each operation is submitted with a closure, which is called with its output.
//!
//! ```text
//!   io.submit(op, then) ──► slot │ op │ then │ ──► kernel ──► completion ──► then(io, output)
//!         ▲                                                                    │
//!         └────────────────────────── submits what comes next ─────────────────┘
//! ```
//!
//! | to do this | call |
//! |---|---|
//! | begin | [`EventLoop::new`], over a ring and a state of your own |
//! | submit an operation, and say what follows | [`Io::submit`] |
//! | … one that completes many times | [`Io::submit_multishot`] |
//! | … with a time limit; several, one after the other | [`Io::submit_within`], [`Io::submit_chain`] |
//! | run until nothing is left to do | [`EventLoop::run`] |
//! | run for one turn, in a loop of your own | [`EventLoop::turn`] |
//! | cancel one operation, or all | [`Io::cancel`], [`Io::stop`] |
//! | hear from other threads | [`EventLoop::sender`], [`EventLoop::on_message`] |
//!
//! The closure lies in the slot of its operation, so no operation in flight costs an allocation.
//! There are no tickets, no tables and no user values: what a connection needs, its closures own,
//! and when none of them is left, the connection is dropped.
//!
//! A closure returns an `io::Result`, so `?` ends what it was doing: what it owned is dropped, and
//! [`run`](EventLoop::run) reports the error and goes on with the other operations. A multishot
//! operation goes on too, and its closure is called with the next item. What another operation of
//! the same connection owns stays until that has ended: to end it, [cancel](Io::cancel) it. No
//! closure is called before `submit` has returned.
//!
//! If every slot is taken, an operation waits in a box until one is free, so a burst makes a server
//! slower and no client fails. But an operation that waits for its client keeps its slot: with more
//! idle clients than slots, the others wait for one of them to move. [Choose the
//! sizes](crate::Setup#choosing-sizes) for all that may be in flight, and look at
//! [`Io::waiting`].
//!
//! Leaves to others: the closure beside its operation (`with`), submitting both (`submission`),
//! chains (`chain`), what waits for a slot (`waiting_room`), calling the closures (`delivery`).
//!
//! # Example
//!
//! A server that sends back what it receives, from one client:
//!
//! ```
//! use annulus::op::{self, SendFlags};
//! use annulus::{EventLoop, Io, Setup};
//! use std::io::{self, Read as _, Write as _};
//! use std::net::{TcpListener, TcpStream};
//! use std::rc::Rc;
//!
//! fn echo(io: &mut Io<'_>, stream: Rc<TcpStream>, buf: Vec<u8>) -> io::Result<()> {
//!     io.submit(op::Recv::new(stream, buf), |io, received| {
//!         if received.result? == 0 {
//!             return Ok(()); // The client has sent everything: the stream is dropped.
//!         }
//!         let send = op::Send::new(received.fd, received.buf).flags(SendFlags::WAIT_ALL);
//!         io.submit(send, |io, sent| {
//!             sent.result?;
//!             echo(io, sent.fd, sent.buf)
//!         })?;
//!         Ok(())
//!     })?;
//!     Ok(())
//! }
//!
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! let address = listener.local_addr()?;
//! let mut events = EventLoop::new(Setup::new(8).build_for()?, ());
//! events.io().submit(op::Accept::new(listener), |io, accepted| {
//!     let stream = TcpStream::from(accepted.result?);
//!     echo(io, Rc::new(stream), Vec::with_capacity(4096))
//! })?;
//! let client = std::thread::spawn(move || {
//!     let mut stream = TcpStream::connect(address)?;
//!     stream.write_all(b"hello")?;
//!     stream.shutdown(std::net::Shutdown::Write)?;
//!     let mut echoed = String::new();
//!     stream.read_to_string(&mut echoed)?;
//!     Ok::<_, io::Error>(echoed)
//! });
//! events.run(|_, error| panic!("{error}"))?;
//! assert_eq!(client.join().expect("no panic")?, "hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod chain;
mod delivery;
mod submission;
mod waiting_room;
mod with;

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

pub use self::chain::LoopChain;
use self::delivery::Core;
pub use self::delivery::{Handler, Io};
pub use self::submission::{Arrival, OpId};
use crate::lease::mailbox::RingSender;
use crate::raw::wait_options::WaitOptions;
use crate::ring::Ring;
use crate::ring::end::ShutdownTimedOut;
use crate::setup::enter_error::{EnterCause, EnterError};

/// A ring whose completions are delivered to closures, and a state that all of them can reach.
#[derive(Debug)]
pub struct EventLoop<S = ()> {
    /// The state: [`Io::state`] is a reference to it.
    pub state: S,
    core: Core<S>,
}

impl<S: 'static> EventLoop<S> {
    /// An event loop over `ring`, with a state. Make [buffers and tables](Ring#method.buf_ring)
    /// from the ring first.
    ///
    /// The ring's own type follows from this call: `Setup::new(256).build_for()?`. Operations that
    /// were submitted to the ring before are [detached](Ring::detach).
    pub fn new(ring: Ring<Handler<S>>, state: S) -> Self {
        Self { state, core: Core::new(ring) }
    }

    /// The handle that closures get, for the first operations.
    pub fn io(&mut self) -> Io<'_, S> {
        self.core.io(&mut self.state)
    }

    /// Calls closures until no operation is in flight or waits for a slot, and no
    /// [sender](Self::sender) is left; after [`Io::stop`], senders do not count. Each error of a
    /// closure goes to `on_error`, except after a stop, when most of them come from the cancels. So
    /// does the rejection of an operation that waited for a slot and then turned out to be a
    /// mistake: its closure is dropped.
    ///
    /// A signal does not end it. To hear of signals, let their handler write to a pipe, and submit
    /// a [`Read`](crate::op::Read) of the other end whose closure calls [`Io::stop`], as the
    /// examples do; or use [`turn`](Self::turn).
    ///
    /// # Errors
    ///
    /// [`EnterError`] from entering the kernel; nothing is lost.
    ///
    /// # Panics
    ///
    /// If a closure does. Then it can be called again: the other operations are unharmed.
    pub fn run(
        &mut self,
        mut on_error: impl FnMut(&mut Io<'_, S>, io::Error),
    ) -> Result<(), EnterError> {
        loop {
            match self.step(None, &mut on_error) {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(error) if error.cause == EnterCause::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// One turn of [`run`](Self::run), for a loop of your own: submits what is queued, waits as
    /// `options` say until a completion is ready, and calls the closures of all that are, but of
    /// no more than the completion queue has room for. Returns whether anything is left to do, also
    /// when the limit of the wait has passed.
    ///
    /// To wait elsewhere, in `epoll(7)` for example, watch the descriptor of the
    /// [ring](Self::ring). Call this with a wait of [zero](WaitOptions::at_most) once before, and
    /// whenever it is readable: what the closures submitted is handed to the kernel at the end.
    ///
    /// While the loop is being stopped, a turn waits for 10 ms at most, and reports no signals.
    ///
    /// # Errors
    ///
    /// [`EnterCause::Interrupted`] when a signal with a handler came; what had completed is
    /// delivered first. Otherwise as [`run`](Self::run).
    pub fn turn(
        &mut self,
        options: &WaitOptions,
        mut on_error: impl FnMut(&mut Io<'_, S>, io::Error),
    ) -> Result<bool, EnterError> {
        self.step(Some(options), &mut on_error)
    }

    /// A handle with which other threads send numbers to this loop. [`run`](Self::run) goes on as
    /// long as one exists; when nothing else is left, it looks every 100 ms whether one does (on
    /// Linux 5.10, every millisecond).
    ///
    /// # Errors
    ///
    /// As [`Ring::sender`].
    pub fn sender(&mut self) -> io::Result<RingSender> {
        self.core.ring.sender()
    }

    /// Sets what is called with each message of a [sender](Self::sender). Without it, messages wait
    /// here, and are delivered once it is set.
    pub fn on_message(
        &mut self,
        each: impl FnMut(&mut Io<'_, S>, u64) -> io::Result<()> + 'static,
    ) {
        self.core.on_message = Some(Rc::new(RefCell::new(each)));
    }

    /// The ring, for reading: counters, descriptor, sizes.
    pub fn ring(&self) -> &Ring<Handler<S>> {
        &self.core.ring
    }

    /// Cancels everything, waits for it, and returns the state. No closure is called any more.
    ///
    /// # Errors
    ///
    /// As [`Ring::shutdown`]; the state is dropped then.
    pub fn shutdown(self, timeout: Duration) -> Result<S, ShutdownTimedOut> {
        self.core.ring.shutdown(timeout)?;
        Ok(self.state)
    }

    /// One turn; without options, it waits until a completion is ready.
    fn step(
        &mut self,
        options: Option<&WaitOptions>,
        on_error: &mut impl FnMut(&mut Io<'_, S>, io::Error),
    ) -> Result<bool, EnterError> {
        self.core.start_waiting(&mut self.state, on_error);
        // Asked first: senders that are gone by now have sent everything, and it is delivered.
        let awaits_messages = self.core.has_senders();
        let waited = match awaits_messages || self.core.has_work() {
            true => self.core.wait(options),
            false => Ok(()),
        };
        self.core.deliver_ready(&mut self.state, options.is_some(), on_error)?;
        if options.is_some() {
            // The caller may wait elsewhere.
            self.core.start_waiting(&mut self.state, on_error);
            self.core.wake_for_rest()?;
            self.core.submit_queued()?;
        }
        match waited {
            // Completions had to be taken first, and now they are.
            Err(error) if error.cause == EnterCause::CompletionsPending => Ok(true),
            waited => waited.map(|()| awaits_messages || self.core.has_work()),
        }
    }
}
