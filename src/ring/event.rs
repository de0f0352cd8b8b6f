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
//! A loop over events. The user value says what an operation is for. An event says which operation
//! it is about; the output comes with the ticket, so keep the tickets, by slot. This server prints
//! how much its clients send. It needs Linux 6.0. With an [`EventLoop`](crate::EventLoop), there
//! are no tickets to keep.
//!
//! ```no_run
//! use annulus::op::{AcceptMulti, Ending, Multishot as _, RecvMulti};
//! use annulus::{Event, Ring, Setup, Ticket};
//! use std::collections::HashMap;
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
//! let listener = TcpListener::bind("127.0.0.1:7777")?;
//! let mut accept = ring.submit_for(Accepting::new(listener), Purpose::Accept)?;
//! let mut clients: HashMap<u32, Ticket<Receiving>> = HashMap::new();
//!
//! loop {
//!     ring.submit_and_wait(1)?;
//!     let mut events = Vec::new();
//!     ring.reap(|event| match event {
//!         Event::Multishot { user, slot, completion } => {
//!             events.push((*user, slot, Some(completion)));
//!         }
//!         Event::Ended { user, slot, .. } => events.push((*user, slot, None)),
//!         _ => {}
//!     })?;
//!     for (purpose, slot, completion) in events {
//!         match (purpose, completion) {
//!             (Purpose::Accept, Some(completion)) => {
//!                 let Ok(fd) = Accepting::item(completion) else { continue };
//!                 let receive = Receiving::new(TcpStream::from(fd), &buffers);
//!                 let ticket = ring.submit_for(receive, Purpose::Receive)?;
//!                 clients.insert(ticket.slot(), ticket);
//!             }
//!             (Purpose::Receive, Some(completion)) => {
//!                 let Ok(lease) = Receiving::item(completion) else { continue };
//!                 println!("client {slot} sent {} bytes", lease.len());
//!             } // Dropping the lease gives the buffer back to the kernel.
//!             (Purpose::Receive, None) => {
//!                 let ticket = clients.remove(&slot).expect("a client's ticket");
//!                 let ended = ring.wait(ticket)?; // It has ended, so this does not wait.
//!                 if matches!(ended.how, Ending::NoBuffers | Ending::Stopped) {
//!                     let receive = Receiving::new(ended.fd, &buffers); // Go on.
//!                     let ticket = ring.submit_for(receive, Purpose::Receive)?;
//!                     clients.insert(ticket.slot(), ticket);
//!                 } // Otherwise the client is gone, and its stream is closed here.
//!             }
//!             (Purpose::Accept, None) => {
//!                 let ended = ring.wait(accept)?;
//!                 if let Ending::Failed(error) = ended.how {
//!                     return Err(error.into());
//!                 }
//!                 accept = ring.submit_for(Accepting::new(ended.fd), Purpose::Accept)?;
//!             }
//!         }
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
