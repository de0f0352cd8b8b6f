//! A safe binding to Linux io_uring by raw system calls, without liburing.
//!
//! ```text
//!   you ──►  Ring: submit, wait, reap                 owns what the kernel has: no unsafe
//!            ──────────────────────────────────
//!            RawRing: push, submit, wait, pop         when to enter the kernel, and why
//!            ──────────────────────────────────
//!            annulus-sys: SubmissionQueue,             the protocol and the ABI
//!            CompletionQueue, three syscalls
//!   ───────────────────────────────────────────
//!            the kernel
//! ```
//!
//! An operation is a value that owns its buffer and its file. You submit it to a [`Ring`] and get a
//! [`Ticket`]. The ring keeps the operation at a fixed address until the kernel is done with it.
//! Then the ticket gives you the result, and the buffer and the file are yours again. Nothing that
//! safe code does in between (drop, forget, panic, cancel, end the thread) lets the kernel touch
//! memory that something else uses. Neither does a [forked child](#fork), whatever it does with the
//! rings that it inherited.
//!
//! It needs Linux 5.10 or later. An item that needs a newer kernel says so. Where io_uring is
//! switched off, as in many containers, [`Setup::build`] fails, and its error names the cause and
//! the cure.
//!
//! # A first program
//!
//! Write to a pipe and read from it, both in flight at once:
//!
//! ```
//! use annulus::Setup;
//! use annulus::op::{Read, Write};
//!
//! let mut ring = Setup::new(8).build()?;
//! let (reader, writer) = std::io::pipe()?;
//!
//! let write = ring.submit(Write::new(writer, b"hello"))?; // Takes the file and the buffer.
//! let read = ring.submit(Read::new(reader, Vec::with_capacity(16)))?;
//!
//! assert_eq!(ring.wait(write)?.result?, 5);
//! let outcome = ring.wait(read)?; // The result, the file (`fd`), and the buffer (`buf`).
//! assert_eq!(outcome.result?, 5);
//! assert_eq!(outcome.buf, b"hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Ring::submit`] only writes an entry into the submission queue. The kernel sees it at the next
//! wait, or at [`Ring::submit_all`]; so a single system call submits any number of operations.
//!
//! Operations have the names of their system calls, and some of these names are in use already. So
//! code that also imports [`std::io::Read`] or relies on the trait [`Send`] says
//! [`op::Read`] and [`op::Send`].
//!
//! # How to read a file
//!
//! A read takes the file and the buffer, and gives both back. It may be short, as `pread(2)` may:
//!
//! ```
//! use annulus::{Setup, op};
//! use std::fs::File;
//!
//! let mut ring = Setup::new(8).build()?;
//! let mut file = File::open("/proc/self/exe")?;
//! let mut buf = Vec::with_capacity(64 * 1024); // A read fills the capacity of a vector.
//! let mut size = 0;
//! loop {
//!     let read = ring.submit(op::Read::new(file, buf).at(size))?;
//!     let outcome = ring.wait(read)?;
//!     if outcome.result? == 0 {
//!         break; // The end of the file.
//!     }
//!     (file, buf) = (outcome.fd, outcome.buf); // The bytes are all of `buf`.
//!     size += buf.len() as u64;
//! }
//! # assert_eq!(size, std::fs::metadata("/proc/self/exe")?.len());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! That waits for one read after the other, as plain system calls do. A ring pays off when several
//! are in flight at once. Then let them share the file in an `Rc` or an `Arc`:
//!
//! ```
//! use annulus::{Setup, op};
//! use std::fs::File;
//! use std::rc::Rc;
//!
//! let mut ring = Setup::new(8).build()?;
//! let file = Rc::new(File::open("/proc/self/exe")?);
//! let mut reads = Vec::new();
//! for part in 0..4 {
//!     let read = op::Read::new(Rc::clone(&file), vec![0; 4096]).at(part * 4096);
//!     reads.push(ring.submit(read)?);
//! }
//! for read in reads { // The first wait submits all four, in one system call.
//!     let (count, buf) = ring.wait(read)?.ok()?;
//!     assert_eq!(count, buf.len());
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Ring::read_exact`] and [`Ring::write_all`] go on after a short transfer. To open a file
//! through the ring, see [`op::OpenAt`]; to write it durably, [`op::Fsync`].
//!
//! # How to wait
//!
//! | to wait for | call | to look without waiting |
//! |---|---|---|
//! | one operation | [`Ring::wait`], [`Ring::wait_timeout`] | [`Ring::try_take`] |
//! | the next item of a multishot operation | [`Ring::next`] | [`Ring::try_next`] |
//! | any operation | [`Ring::submit_and_wait`], then [`Ring::reap`] and [`Ring::try_take`] | [`Ring::reap`] |
//! | all steps of a chain | [`Ring::wait_chain`] | [`Ring::try_take_chain`] |
//!
//! [`WaitOptions`] bound a wait by a clock, set a minimum wait, or choose the signals that may end
//! it. When a wait times out, the operation is still in flight and you get the ticket back: wait
//! again, or cancel the operation. A cancelled operation still completes, so wait for its end, too:
//!
//! ```
//! use annulus::Setup;
//! use annulus::op::Read;
//! use std::time::Duration;
//!
//! let mut ring = Setup::new(8).build()?;
//! let (reader, _writer) = std::io::pipe()?; // Nothing is ever written.
//! let read = ring.submit(Read::new(reader, Vec::with_capacity(16)))?;
//!
//! let Err(unfinished) = ring.wait_timeout(read, Duration::from_millis(1)) else {
//!     panic!("there was nothing to read");
//! };
//! ring.cancel(&unfinished.ticket)?;
//! let outcome = ring.wait(unfinished.ticket)?; // The pipe and the buffer are back.
//! assert!(outcome.result.is_err()); // ECANCELED
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How to own buffers
//!
//! The kernel uses a buffer until the operation's last completion, so an operation takes its buffer
//! by value. A read fills a `Vec` from the front, over its whole capacity, and sets its length; a
//! vector without capacity is refused. Use whichever fits:
//!
//! | buffer | use it for |
//! |---|---|
//! | `Vec<u8>`, `Box<[u8]>`, `[u8; N]`, `String`, `Arc<[u8]>` and [others](buf) | most operations: the ring gives the buffer back |
//! | `&[u8]`, `&mut [u8]` in a [`Ring::scope`] | borrowed memory: the scope ends when the kernel is done |
//! | [`BufRing`](lease::BufRing) | many connections: the kernel selects a buffer when data arrives |
//! | [`FixedPool`](lease::FixedPool) | registered buffers: the kernel looks their pages up only once |
//! | your own type | implement [`IoBuf`](buf::IoBuf) or [`IoBufMut`](buf::IoBufMut) |
//!
//! In a scope, operations can borrow:
//!
//! ```
//! use annulus::Setup;
//! use annulus::op::Write;
//! use std::io::Read;
//!
//! let mut ring = Setup::new(4).build()?;
//! let (mut reader, writer) = std::io::pipe()?;
//! let text = String::from("borrowed");
//! let count = ring.scope(|s| {
//!     let write = s.submit(Write::new(&writer, text.as_str()))?;
//!     s.wait(write)?.result
//! })?;
//! let mut buf = [0; 8];
//! reader.read_exact(&mut buf)?;
//! assert_eq!((count, &buf), (8, b"borrowed"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How to serve one client
//!
//! This echoes what a client sends, and is as simple as with `std::net`:
//!
//! ```
//! use annulus::op::{Accept, Recv, SendFlags};
//! use annulus::{Setup, op};
//! use std::net::{TcpListener, TcpStream};
//!
//! let mut ring = Setup::new(8).build()?;
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! # let mut client = TcpStream::connect(listener.local_addr()?)?;
//! # std::io::Write::write_all(&mut client, b"hello")?;
//! # client.shutdown(std::net::Shutdown::Write)?;
//! let accept = ring.submit(Accept::new(listener))?;
//! let mut stream = TcpStream::from(ring.wait(accept)?.result?);
//! let mut buf = Vec::with_capacity(4096);
//! loop {
//!     let recv = ring.submit(Recv::new(stream, buf))?;
//!     let received = ring.wait(recv)?;
//!     if received.result? == 0 {
//!         break; // The client will send no more.
//!     }
//!     let send = op::Send::new(received.fd, received.buf).flags(SendFlags::WAIT_ALL);
//!     let send = ring.submit(send)?;
//!     let sent = ring.wait(send)?;
//!     sent.result?;
//!     (stream, buf) = (sent.fd, sent.buf);
//! }
//! # let mut echo = String::new();
//! # std::io::Read::read_to_string(&mut client, &mut echo)?;
//! # assert_eq!(echo, "hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How to serve many clients
//!
//! Waiting for one operation after the other serves one client only. An [`EventLoop`] serves any
//! number: submit each operation with a closure, and the loop calls it with the output. The
//! closures own what a client needs. When the last of them is done, or fails, the client's stream
//! is closed. [`AcceptMulti`](op::AcceptMulti) stays in flight and accepts any number of
//! connections. This server echoes what its clients send. It needs Linux 5.19.
//!
//! ```no_run
//! use annulus::op::{self, AcceptMulti, SendFlags};
//! use annulus::{Arrival, EventLoop, Io, Setup};
//! use std::io;
//! use std::net::{TcpListener, TcpStream};
//! use std::rc::Rc;
//! use std::time::Duration;
//!
//! fn accept(io: &mut Io<'_>, listener: TcpListener) -> io::Result<()> {
//!     io.submit_multishot(AcceptMulti::new(listener), |io, arrival| match arrival {
//!         Arrival::Item(stream) => {
//!             echo(io, Rc::new(TcpStream::from(stream?)), Vec::with_capacity(4096))
//!         }
//!         Arrival::End(ended) => {
//!             // Out of descriptors, perhaps: the next client may come when one has left.
//!             let pause = op::Timeout::new(Duration::from_millis(100));
//!             io.submit(pause, |io, _| accept(io, ended.fd))?;
//!             ended.how.ok().map(drop)
//!         }
//!     })?;
//!     Ok(())
//! }
//!
//! fn echo(io: &mut Io<'_>, stream: Rc<TcpStream>, buf: Vec<u8>) -> io::Result<()> {
//!     io.submit(op::Recv::new(stream, buf), |io, received| {
//!         if received.result? == 0 {
//!             return Ok(()); // The client will send no more.
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
//! let mut events = EventLoop::new(Setup::new(256).build_for()?, ());
//! accept(&mut events.io(), TcpListener::bind("127.0.0.1:7777")?)?;
//! events.run(|_, error| eprintln!("a client: {error}"))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Io::submit_within`] limits the time of an operation, [`Io::submit_chain`] submits several that
//! run one after the other, and [`Io::stop`] ends the loop. A listener of the standard library
//! queues 128 connections: where more clients come at once, [`Listen`](op::Listen) on it again with
//! a larger number.
//!
//! # How to serve datagrams
//!
//! [`RecvMsgMulti`](op::RecvMsgMulti) receives datagrams with their senders, each in a
//! buffer that the kernel selects. A datagram is a buffer too: this server sends each one back, and
//! the buffer is free when it is sent. It needs Linux 6.0.
//!
//! ```no_run
//! use annulus::lease::BufRing;
//! use annulus::op::{self, Ending};
//! use annulus::{Arrival, EventLoop, Io, Setup};
//! use std::io;
//! use std::net::UdpSocket;
//! use std::rc::Rc;
//!
//! fn echo(io: &mut Io<'_, BufRing>, socket: Rc<UdpSocket>) -> io::Result<()> {
//!     let receive = op::RecvMsgMulti::new(Rc::clone(&socket), io.state).with_address();
//!     io.submit_multishot(receive, move |io, arrival| match arrival {
//!         Arrival::Item(datagram) => {
//!             let datagram = datagram?;
//!             let from = datagram.from().ok_or(io::ErrorKind::AddrNotAvailable)?;
//!             let send = op::SendTo::new(Rc::clone(&socket), datagram, from);
//!             io.submit(send, |_, sent| sent.result)?;
//!             Ok(())
//!         }
//!         Arrival::End(ended) => match ended.how {
//!             Ending::Cancelled => Ok(()),
//!             Ending::Failed(error) => Err(error),
//!             // All buffers were being sent, or an empty datagram came.
//!             _ => echo(io, ended.fd),
//!         },
//!     })?;
//!     Ok(())
//! }
//!
//! let mut ring = Setup::new(256).build_for()?;
//! let buffers = ring.buf_ring(128, 2048)?; // Each has room for 1904 bytes and an address.
//! let mut events = EventLoop::new(ring, buffers);
//! echo(&mut events.io(), Rc::new(UdpSocket::bind("127.0.0.1:7777")?))?;
//! events.run(|_, error| eprintln!("{error}"))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! To answer from the address that a datagram was sent to, set the option
//! [`PACKET_INFO`](op::SocketOption::PACKET_INFO), receive
//! [with room for it](op::RecvMsgMulti::with_control), and send with
//! [`SendControl::source`](op::SendControl::source).
//!
//! The examples `echo_small`, `udp_echo_small` and `proxy_small` of the repository are such
//! programs.
//!
//! For a loop of your own, give each operation a user value (the `U` of [`Ring<U>`](Ring)), wait
//! for any of them, and act on each [event](mod@ring::event); its page has a server.
//! [`RecvMulti`](op::RecvMulti) receives until the peer is done, into buffers that the kernel
//! selects. Send one thing at a time: two sends in flight on a
//! stream have [no order](op::sockets::stream#one-at-a-time). The example `07_echo_server` does all
//! of that, limits what a slow client holds, and ends when it is told to.
//!
//! A ring belongs to one thread, so run one ring per thread. Other threads wake a ring with a
//! [`RingSender`]. An executor keeps its wakers as user values.
//!
//! # How to end
//!
//! [`Ring::shutdown`] cancels everything that is in flight and waits for it. Dropping the ring does
//! so too, for up to one second ([`Ring::set_drop_timeout`] changes that). If an operation does not
//! end in time, the ring leaks its buffer and its file, since the kernel may still use them.
//!
//! ```
//! use annulus::Setup;
//! use annulus::op::Read;
//! use std::time::Duration;
//!
//! let mut ring = Setup::new(8).build()?;
//! let (reader, _writer) = std::io::pipe()?;
//! let _read = ring.submit(Read::new(reader, Vec::with_capacity(16)))?;
//! ring.shutdown(Duration::from_secs(1))?; // Cancels the read.
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! To stop a single operation, [`cancel`](Ring::cancel) it and wait. If you do not want its output,
//! [`detach`](Ring::detach) it: the ring drops the output when it arrives. A ticket that is dropped
//! or forgotten keeps its slot taken.
//!
//! # What errors look like
//!
//! | from | error | it has |
//! |---|---|---|
//! | making a ring | [`SetupError`] | the cause, looked up where the errno alone does not say, and the cure |
//! | submitting | [`Rejected`] | the operation, the user value, and why: a [`Rejection`] |
//! | waiting for one operation | [`Unfinished`] | the ticket, and why: an [`EnterError`] |
//! | any other wait | [`EnterError`] | its [`EnterCause`], and how many entries went in before |
//! | the operation itself | `std::io::Error`, in its output | the kernel's errno |
//! | registering | [`RegisterError`](lease::RegisterError) | the cause and the cure |
//! | [`Ring::shutdown`] | [`ShutdownTimedOut`] | how many operations were leaked |
//!
//! [`SetupError`], [`Rejection`], [`EnterError`] and [`RegisterError`](lease::RegisterError) have
//! an `errno()`, and an `std::io::Error` made from one has it as its `raw_os_error()`. A runtime
//! decides by that, and prints the error itself: an `std::io::Error` keeps either a number or a
//! text.
//!
//! [`Rejected`] and [`Unfinished`] give back what you passed in. Converting one into an
//! `std::io::Error` drops that. [`Rejected::into_output`] takes the operation apart, so that its
//! file and its buffer come back as from one that failed. A full ring, for example, gives the
//! operation back:
//!
//! ```
//! use annulus::op::Nop;
//! use annulus::{Rejection, Setup};
//!
//! let mut ring = Setup::new(1).cq_entries(2).build()?; // At most two operations at once.
//! let first = ring.submit(Nop)?;
//! let _second = ring.submit(Nop)?;
//! let rejected = ring.submit(Nop).expect_err("every slot is taken");
//! assert_eq!(rejected.why, Rejection::NoSlot);
//!
//! ring.wait(first)??; // That frees a slot.
//! let third = ring.submit(rejected.op)?;
//! ring.wait(third)??;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Where to look
//!
//! | to | see |
//! |---|---|
//! | make a ring | [`Setup`] |
//! | use it | [`Ring`] |
//! | do one thing very often, at the least cost | [`Lane`] |
//! | choose what to do | [`op`]: the operations |
//! | give the kernel a buffer | [`buf`]: which types, and your own |
//! | lend it a buffer | [`Ring::scope`] |
//! | do things in order, or within a time | [`ring::link`] |
//! | register buffers and files, let the kernel select buffers | [`lease`] |
//! | wake a ring from another thread | [`RingSender`] |
//! | await operations, in your executor or in tokio | the module `future`, with that feature |
//! | move a program here that uses the crate `io-uring` | the module `compat`, with that feature |
//! | test a program on a kernel of its own | the module `sim`, with that feature |
//! | know what this kernel can do | [`Capabilities`] |
//! | own the memory yourself, at the price of `unsafe` | [`RawRing`], [`prep`] |
//! | read the ring code | [`sys`], from its top |
//!
//! # Fork
//!
//! A ring, and everything registered with it, belongs to the process that made it. A forked child
//! can make rings of its own, as any process can. It can also call any safe function on the rings
//! that it inherited, but these calls have no effect:
//!
//! | in a forked child | result |
//! |---|---|
//! | submit, wait, reap, cancel | fails: [`Rejection::OtherProcess`], [`EnterCause::OtherProcess`] |
//! | register anything | fails: [`OtherProcess`](lease::RegisterError::OtherProcess), or `ECHILD` |
//! | send to a ring, pass a file | fails: [`SendError::Closed`] |
//! | look at a ring (`pop`, `ready`, `room`) | it has no room, and no completion is ready |
//! | redeem an operation that had completed before | returns the child's copy, as fork copies everything |
//! | read or write the bytes of a lease ([`lease`]) | uses the child's own memory, which is all zeroes |
//! | return from a `reap` in which it was forked | events that were not shown yet belong to the parent |
//! | return from a [`scope`](Ring::scope) | it ends at once; what is in flight belongs to the parent |
//! | drop any of these | gives nothing back, waits for nothing, and leaks |
//!
//! The parent does not notice. The raw API's safe calls behave in this way too; pushing, which is
//! `unsafe`, is not allowed in a forked child. The check costs a load and a compare for each
//! operation, and for each call.
//!
//! A child that shares its parent's memory (`vfork(2)`, `clone(2)` with `CLONE_VM`) does not count
//! as a forked child. To a ring, it is one more thread of the same process, and must not use
//! anything that is not `Send`. What it submits ends when it ends, as with any thread.
#![warn(unreachable_pub)]
#[doc(no_inline)]
pub use annulus_sys as sys;

// The page of `Setup` shows its impl blocks in this order: what to make, then how to build it.
pub mod setup;

pub mod ring;

pub mod raw;

pub mod buf;
#[cfg(feature = "compat")]
pub mod compat;
#[cfg(feature = "future")]
pub mod future;
pub mod lease;
pub mod op;
pub mod prep;
#[cfg(feature = "sim")]
pub mod sim;

pub use lease::mailbox::{MAX_MESSAGE, RingSender, SendError};
pub use lease::ticket::{Rejected, Rejection, Ticket, Unfinished};
pub use raw::RawRing;
pub use raw::capabilities::Capabilities;
pub use raw::disabled::DisabledRing;
pub use raw::inspect::Stats;
pub use raw::moving::SendRawRing;
#[doc(no_inline)]
pub use raw::register;
pub use raw::wait_options::{SignalMask, WaitOptions};
pub use ring::end::ShutdownTimedOut;
pub use ring::event::Event;
pub use ring::event_loop::{Arrival, EventLoop, Io, LoopChain, OpId};
pub use ring::lane::{Lane, LaneKey};
pub use ring::link::{ChainEnd, ChainOutcome, ChainTicket, Step, StepExt, Timed, TimedTicket};
pub use ring::output::Output;
pub use ring::scope::{Scope, ScopedChain, ScopedTicket};
pub use ring::unticketed::OpKey;
pub use ring::{Next, Redeem, Ring, Submitted};
pub use setup::Setup;
pub use setup::enter_error::{EnterCause, EnterError, Woken};
pub use setup::setup_error::SetupError;

/// The README's example, so that it is compiled and run with the others.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
#[derive(Debug)]
pub struct Readme;
