//! Events: what [`Ring::reap`](crate::Ring::reap) reports, one completion at a time.
//!
//! | event | comes from | then |
//! |---|---|---|
//! | [`Event::Ended`] | an operation's last completion | redeem its ticket |
//! | [`Event::Output`] | the last completion of an operation without a ticket | take its output |
//! | [`Event::Multishot`] | one of many completions | take its resource, or it is recycled |
//! | [`Event::Message`] | a [`RingSender`](crate::RingSender), from any thread | |
//! | [`Event::Raw`] | an entry that was pushed raw | |
//!
//! Events of one operation come in order. The order between different operations means nothing.
//! Each event owns the resource that its completion carries.
//!
//! Leaves to others: which operation a completion belongs to (`slab`).
//!
//! # Example
//!
//! A loop over events. The user value says what an operation is for. No operation has a ticket, so
//! there is no table to keep: an ended one gives its file back by its type. This server prints how
//! much its clients send. It needs Linux 6.0. With an [`EventLoop`](crate::EventLoop), each
//! operation has a closure in place of the `match`.
//!
//! ```no_run
//! use annulus::op::{AcceptMulti, Ending, Multishot as _, RecvMulti};
//! use annulus::{Event, Ring, Setup};
//! use std::net::{TcpListener, TcpStream};
//!
//! type Accepting = AcceptMulti<TcpListener>;
//! type Receiving = RecvMulti<TcpStream>;
//!
//! /// The user value: what an operation is for.
//! #[derive(Clone, Copy, Default)]
//! enum Purpose {
//!     #[default]
//!     Accept,
//!     Receive,
//! }
//!
//! // The completion queue has an entry for each operation that can be in flight at once.
//! let mut ring: Ring<Purpose> = Setup::new(256).cq_entries(4096).build_for()?;
//! let buffers = ring.buf_ring(1024, 4096)?; // 1024 buffers of 4 KiB, for all clients
//! let mut listeners = vec![TcpListener::bind("127.0.0.1:7777")?]; // To accept on.
//! let mut streams: Vec<TcpStream> = Vec::new(); // To receive from.
//!
//! loop {
//!     for listener in listeners.drain(..) {
//!         ring.submit_unticketed(Accepting::new(listener), Purpose::Accept)?;
//!     }
//!     for stream in streams.drain(..) {
//!         ring.submit_unticketed(Receiving::new(stream, &buffers), Purpose::Receive)?;
//!     }
//!     let mut failed = None;
//!     ring.turn(1, |event| match event {
//!         Event::Multishot { user: Purpose::Accept, completion, .. } => {
//!             streams.extend(Accepting::item(completion).map(TcpStream::from));
//!         }
//!         Event::Multishot { user: Purpose::Receive, slot, completion } => {
//!             let Ok(lease) = Receiving::item(completion) else { return };
//!             println!("client {slot} sent {} bytes", lease.len());
//!         } // Dropping the lease gives the buffer back to the kernel.
//!         Event::Output(output) => {
//!             let output = match output.take::<Receiving>() {
//!                 Ok((_, ended)) if matches!(ended.how, Ending::NoBuffers | Ending::Stopped) => {
//!                     return streams.push(ended.fd); // Go on.
//!                 }
//!                 Ok(_) => return, // The client is gone, and its stream is closed here.
//!                 Err(output) => output,
//!             };
//!             match output.take::<Accepting>() {
//!                 Ok((_, ended)) if !matches!(ended.how, Ending::Failed(_)) => {
//!                     listeners.push(ended.fd);
//!                 }
//!                 Ok((_, ended)) => failed = Some(ended.how),
//!                 Err(_) => unreachable!("there is no third type"),
//!             }
//!         }
//!         _ => {}
//!     })?;
//!     if let Some(Ending::Failed(error)) = failed {
//!         return Err(error.into());
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use annulus_sys::abi::Cqe;
use annulus_sys::errno::Errno;

use crate::op::Completion;
use crate::ring::output::Output;

/// One completion, as [`Ring::reap`](crate::Ring::reap) shows it. That method has an example.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a, U> {
    /// An operation has ended. Its ticket can be redeemed.
    Ended {
        /// The user value that was submitted with it.
        user: &'a mut U,
        /// Its slot: [`Ticket::slot`](crate::Ticket::slot).
        slot: u32,
        /// The kernel's result. Redeem the ticket for the whole output.
        result: Result<u32, Errno>,
    },
    /// An operation [without a ticket](crate::Ring::submit_unticketed) has ended. Take its output
    /// here.
    Output(Output<'a, U>),
    /// A multishot operation has completed once more; it may complete again.
    Multishot {
        /// The user value that was submitted with it.
        user: &'a mut U,
        /// Its slot: [`Ticket::slot`](crate::Ticket::slot).
        slot: u32,
        /// The completion, with the resource that it carries.
        completion: Completion,
    },
    /// Another thread, or another ring, has sent a message.
    Message(u64),
    /// An entry that was pushed through the raw API has completed.
    Raw(Cqe),
}
