//! Bundles: as many buffers as there are bytes for, from one completion.
//!
//! ```text
//!   40 bytes wait      RecvPicked    16 ─► completion   16 ─► completion   8 ─► completion
//!   buffers of 16      RecvBundle    16 │ 16 │ 8 ─────────────────────────────► completion
//! ```
//!
//! | receive | use | since |
//! |---|---|---|
//! | once, all that waits | [`RecvBundle`] | Linux 6.10 |
//! | again and again | [`RecvBundleMulti`] | Linux 6.10 |
//!
//! So buffers may be small without a completion for each. Of streams only: a datagram ends with its
//! buffer.
//!
//! Linux 6.10 to 6.14 may begin a buffer before the last one is full, when bytes come in the middle
//! of a receive, and do not say so: use these where that was mended (6.15, and stable kernels of
//! the summer of 2025 and later).
//!
//! A completion names the first buffer alone, so while a bundle is in flight nothing else may pick
//! from its ring of buffers, and the kernel must run it in its turn: see [`Rejection`]. Connections
//! that receive bundles beside each other have a ring of buffers each.
//!
//! Buffers that are [used in parts](crate::register::Used::InParts) come one by one also here: what
//! Linux 6.16 to 6.19 count of those in a bundle is not what they fill.
//!
//! [`Rejection`]: crate::Rejection
//!
//! Keeps OP3 and BR1: every buffer of a bundle is owned as soon as its completion is consumed, and
//! offered again if nobody takes it. Leaves to others: which buffers those are (`lease`).
#![allow(unsafe_code, reason = "writes entries that name a ring of buffers")]

use std::io;

use annulus_sys::abi::Sqe;
use annulus_sys::flags::RecvSendFlags;

use super::ending::{Ended, Ending};
use super::stream::PickedFlags;
use super::target::Target;
use super::{Brings, Done, Multishot, Op, Outcome, RingId, Shot, Shots};
use crate::lease::{Brought, BufRing, Bundle, Source};
use crate::prep;

/// Receives what waits, into as many buffers as that takes. Since Linux 6.10.
///
/// Never have [two of them in flight](super::stream#one-at-a-time) on one stream.
///
/// # Completion
///
/// Once, with the buffers and what came, at most as much as all that are on offer hold (and 256 of
/// them); with `None` when the peer will send no more.
///
/// # Cancellation
///
/// A receive that waits for data is cancelled, and no data is lost; no buffer was picked.
///
/// # Errors
///
/// `ENOBUFS` when every buffer is in a lease. `EINVAL` before Linux 6.10.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::RecvBundle;
/// use std::io::Write;
/// use std::os::unix::net::UnixStream;
///
/// let mut ring = Setup::new(8).build()?;
/// let Ok(buffers) = ring.buf_ring(8, 16) else { return Ok(()) }; // Linux 5.19
/// let (mut ours, theirs) = UnixStream::pair()?;
/// ours.write_all(&[7; 40])?;
/// let receive = ring.submit(RecvBundle::new(theirs, &buffers))?;
/// match ring.wait(receive)?.result {
///     Ok(bundle) => {
///         let bundle = bundle.expect("data");
///         println!("{} bytes in {} buffers", bundle.bytes(), bundle.buffers());
///         assert!(bundle.flat_map(|lease| lease.to_vec()).all(|byte| byte == 7));
///     }
///     Err(error) => println!("needs Linux 6.10: {error}"),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "IORING_RECVSEND_BUNDLE")]
#[derive(Debug)]
pub struct RecvBundle<F> {
    fd: F,
    buffers: BufRing,
    flags: PickedFlags,
    order: RecvSendFlags,
}

/// Receives all that comes, each time into as many buffers as that takes. Since Linux 6.10.
///
/// # Completion
///
/// Each time that there is data, with the buffers that hold it, in the order of the bytes; then
/// once more, with [`Ending`]: [`Eof`](Ending::Eof) when the peer will send no more,
/// [`NoBuffers`](Ending::NoBuffers) when every buffer is in a lease, and
/// [`Stopped`](Ending::Stopped) when it has just used the last one on offer. In both cases submit
/// it anew when leases were dropped.
///
/// # Cancellation
///
/// It ends with [`Ending::Cancelled`]. What came before came as shots, or comes with the end, in
/// [`Ended::left`]; the rest waits in the socket.
///
/// # Errors
///
/// [`Ending::Failed`] with `EINVAL` before Linux 6.10.
#[doc(alias = "IORING_RECVSEND_BUNDLE")]
#[doc(alias = "IORING_RECV_MULTISHOT")]
#[derive(Debug)]
pub struct RecvBundleMulti<F> {
    fd: F,
    buffers: BufRing,
}

impl<F> RecvBundle<F> {
    /// Receives from `fd` into `buffers`.
    pub fn new(fd: F, buffers: &BufRing) -> Self {
        let (flags, order) = (PickedFlags::default(), RecvSendFlags::BUNDLE);
        Self { fd, buffers: buffers.clone(), flags, order }
    }

    /// Receives as `flags` say.
    pub fn flags(self, flags: PickedFlags) -> Self {
        Self { flags, ..self }
    }

    /// Waits for data first, and does not try at once: for a socket that is known to be empty.
    pub fn poll_first(self) -> Self {
        Self { order: self.order | RecvSendFlags::POLL_FIRST, ..self }
    }
}

impl<F> RecvBundleMulti<F> {
    /// Receives from `fd` into `buffers`.
    pub fn new(fd: F, buffers: &BufRing) -> Self {
        Self { fd, buffers: buffers.clone() }
    }
}

/// What is not asked for, with these buffers.
fn without(buffers: &BufRing) -> RecvSendFlags {
    if buffers.0.is_used_in_parts() { RecvSendFlags::BUNDLE } else { RecvSendFlags::empty() }
}

// SAFETY: OP1: it points to nothing, and the descriptor is of `fd`; the kernel writes to buffers of
// the source, which the bundle owns (OP3). It completes once.
unsafe impl<F: Target> Op for RecvBundle<F> {
    type Output = Outcome<Option<Bundle>, F>;
    const BRINGS: Brings = Brings::Bundle;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    fn prep(&mut self) -> Sqe {
        let (group, flags) = (self.buffers.0.id(), self.flags.bits());
        let order = self.order - without(&self.buffers);
        self.fd.aim(prep::recv_picked(-1, 0, group, flags, order))
    }

    fn source(&self) -> Option<Source> {
        Some(Source::buffers(self.buffers.0.clone()))
    }

    fn finish(self, mut done: Done) -> Self::Output {
        let result = done.picked(|done| done.bundle(), |bundle| bundle.bytes());
        Outcome { result, fd: self.fd, buf: () }
    }
}

// SAFETY: OP1: it points to nothing, and the descriptor is of `fd`; the kernel writes to buffers of
// the source, which bundles own (OP3). `SHOTS` says that it completes many times.
unsafe impl<F: Target> Op for RecvBundleMulti<F> {
    type Output = Ended<F, io::Result<Bundle>>;
    const SHOTS: Shots = Shots::Many;
    const BRINGS: Brings = Brings::Bundle;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    fn prep(&mut self) -> Sqe {
        let order = RecvSendFlags::BUNDLE | RecvSendFlags::RECV_MULTISHOT;
        let order = order - without(&self.buffers);
        self.fd.aim(prep::recv_picked(-1, 0, self.buffers.0.id(), 0, order))
    }

    fn source(&self) -> Option<Source> {
        Some(Source::buffers(self.buffers.0.clone()))
    }

    fn finish(self, done: Done) -> Self::Output {
        Ended::new(Ending::of(&done), self.fd, done, Self::item)
    }
}

impl<F: Target> Multishot for RecvBundleMulti<F> {
    type Item = io::Result<Bundle>;

    fn item(shot: Shot) -> Self::Item {
        match shot.brought {
            Brought::Bundle(bundle) => Ok(bundle),
            _ => Err(shot.refusal()),
        }
    }
}
