//! Operations as futures, on any executor of one thread.
//!
//! ```text
//!   reactor.run(op) ── first poll ──► ring ──► kernel
//!        ▲                                        │
//!        └── wake ◄── turn: submit, wait, take ◄──┘
//!                      ▲
//!                      └── block_on, or drive: a task of tokio, smol or your own executor
//! ```
//!
//! Not an executor: a [`Reactor`] shares a safe ring among the tasks of one thread.
//!
//! | to | call | it gives |
//! |---|---|---|
//! | run one operation | [`run`](Reactor::run)`(op).await` | the output: the result, and all that the operation owned |
//! | run one that completes many times | [`items`](Reactor::items)`(op)` | a stream of items, then its end |
//! | wait | [`sleep`](Reactor::sleep), [`timeout`](Reactor::timeout) | |
//! | run a future to its end, with nothing but this | [`block_on`](Reactor::block_on) | its output |
//! | … with an executor of your own | [`turn`](Reactor::turn) when no task is ready | |
//! | run inside tokio | `drive_in_tokio` in a task of it, with the feature `tokio` | an error of the ring, if there ever is one |
//! | run on another executor | [`drive`](Reactor::drive) in a task of it | an error of the ring, if there ever is one |
//! | reach the ring | [`with_ring`](Reactor::with_ring) | what you return |
//!
//! # Cancellation
//!
//! A future that is dropped cancels its operation. The ring keeps what the operation owns until
//! the kernel is done with it, and drops it then; so a `select!` that drops a read in the middle
//! frees no memory that the kernel writes to. The data that the read may have got is lost with it.
//! To keep it, ask for a [cancel](Run::cancel), and await the future: it then ends soon, with
//! everything given back.
//!
//! A future that is forgotten keeps its slot of the ring taken.
//!
//! # Room
//!
//! A ring has a slot for each entry of its completion queue. A future that finds none waits for
//! one, and those that wait are served in the order in which they came. A slot is kept for whose
//! turn it is: so do not let a future lie that was polled, and await another one in the same task.
//! Poll both, or drop one.
//!
//! # Example
//!
//! ```
//! use annulus::future::Reactor;
//! use annulus::{Setup, op};
//!
//! let reactor = Reactor::new(Setup::new(8).build_for()?);
//! let (reader, writer) = std::io::pipe()?;
//! let text = reactor.block_on(async {
//!     reactor.run(op::Write::new(writer, "hello")).await?.result?;
//!     let read = reactor.run(op::Read::new(reader, Vec::with_capacity(16))).await?;
//!     read.result?;
//!     Ok::<_, std::io::Error>(read.buf)
//! })??;
//! assert_eq!(text, b"hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod block_on;
mod drive;
#[cfg(feature = "tokio")]
mod inside_tokio;
mod items;
mod reactor;
mod room;
mod run;
mod time;

pub use drive::Drive;
pub use items::Items;
pub use reactor::Reactor;
pub use run::Run;
