//! Bundles: receives that fill several buffers with one completion.
//!
//! ```text
//!   40 bytes queued    RecvProvided    16 ─► completion   16 ─► completion   8 ─► completion
//!   buffers of 16      RecvBundle    16 │ 16 │ 8 ─────────────────────────────► completion
//! ```
//!
//! | receive | use | since |
//! |---|---|---|
//! | once, everything that is queued | [`RecvBundle`] | Linux 6.10 |
//! | again and again | [`RecvBundleMulti`] | Linux 6.10 |
//!
//! Buffers can be small without one completion for each. Bundles are for streams only: a datagram
//! ends with its buffer.
//!
//! When bytes arrive in the middle of a receive, Linux 6.10 to 6.14 may begin a buffer before the
//! previous one is full, without saying so. Use these operations on kernels with the fix (6.15, and
//! stable kernels since the summer of 2025).
//!
//! A completion names only the first buffer. So while a bundle is in flight no other operation may
//! select from its buffer ring, and the kernel must run the bundle in its turn: see [`Rejection`].
//! Connections that receive bundles at the same time need one buffer ring each.
//!
//! Buffers with [incremental consumption](crate::raw::register::Consumption::Incremental) are
//! delivered one by one even here: Linux 6.16 to 6.19 count them wrongly in a bundle.
//!
//! [`Rejection`]: crate::Rejection
//!
//! Keeps OP3 and BR1: every buffer of a bundle is owned as soon as its completion is consumed, and
//! goes back to the buffer ring if it is not taken. Leaves to others: which buffers those are
//! (`lease`).
#![allow(unsafe_code, reason = "writes entries that name a buffer ring")]

use std::io;

use annulus_sys::abi::Sqe;
use annulus_sys::flags::RecvSendFlags;

use super::flags::ProvidedFlags;
use crate::lease::{BufRing, Bundle, Resource, Source};
use crate::op::ending::{Ended, Ending};
use crate::op::target::Target;
use crate::op::{Completion, Completions, Done, Multishot, Op, Outcome, ResultKind, RingId};
use crate::prep;

/// Receives the data that is queued, into as many buffers as it needs. Since Linux 6.10.
///
/// Never have [two of them in flight](super::stream#one-at-a-time) on one stream.
///
/// It may leave bytes that wait: it takes whole buffers, and not a last single byte (since 6.10).
/// Receive again, or ask with [`Hinted`](crate::op::Hinted). It must be alone on its buffer ring
/// while it is in flight ([`Rejection::BufRingBusy`](crate::Rejection::BufRingBusy)).
///
/// # Completion
///
/// Once, with the buffers and their data: at most as much as the buffers on offer hold, and at most
/// 256 buffers. With `None` when the peer will send no more.
///
/// # Cancellation
///
/// A receive that waits for data is cancelled, and no data is lost; no buffer was selected.
///
/// # Errors
///
/// `ENOBUFS` when every buffer is leased. `EINVAL` before Linux 6.10.
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
#[doc(alias("IORING_OP_RECV", "io_uring_prep_recv", "IORING_RECVSEND_BUNDLE"))]
#[derive(Debug)]
pub struct RecvBundle<F> {
    fd: F,
    buffers: BufRing,
    flags: ProvidedFlags,
    order: RecvSendFlags,
}

/// Receives all data as it arrives, each time into as many buffers as it needs. Since Linux 6.10.
///
/// It must be alone on its buffer ring while it is in flight: another operation that selects from
/// there is rejected ([`Rejection::BufRingBusy`](crate::Rejection::BufRingBusy)), and so is this
/// one while another does. So it is for one busy connection with buffers of its own, and
/// [`RecvMulti`](crate::op::RecvMulti) for many that share.
///
/// # Completion
///
/// Once each time that there is data, with the buffers that hold it, in the order of the bytes;
/// then once more, with [`Ending`]: [`Eof`](Ending::Eof) when the peer will send no more,
/// [`NoBuffers`](Ending::NoBuffers) when every buffer is leased, and [`Stopped`](Ending::Stopped)
/// when it has just used the last buffer on offer. In the last two cases drop leases, then submit
/// it again.
///
/// # Cancellation
///
/// It ends with [`Ending::Cancelled`]. Data that arrived before is in items, or in
/// [`Ended::remaining`]; the rest stays in the socket.
///
/// # Errors
///
/// [`Ending::Failed`] with `EINVAL` before Linux 6.10.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::{Ending, RecvBundleMulti};
/// use std::io::Write;
/// use std::os::unix::net::UnixStream;
///
/// let mut ring = Setup::new(8).build()?;
/// let Ok(buffers) = ring.buf_ring(8, 16) else { return Ok(()) }; // Linux 5.19
/// let (mut ours, theirs) = UnixStream::pair()?;
/// ours.write_all(&[7; 40])?;
/// drop(ours);
/// let stream = ring.submit(RecvBundleMulti::new(theirs, &buffers))?;
/// let mut count = 0;
/// while let Some(bundle) = ring.next(&stream)? {
///     count += bundle?.bytes();
/// }
/// match ring.wait(stream)?.how {
///     Ending::Eof => assert_eq!(count, 40),
///     other => println!("{other:?}"), // Before Linux 6.10.
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias("IORING_OP_RECV", "IORING_RECVSEND_BUNDLE"))]
#[doc(alias("IORING_RECV_MULTISHOT", "io_uring_prep_recv_multishot"))]
#[derive(Debug)]
pub struct RecvBundleMulti<F> {
    fd: F,
    buffers: BufRing,
}

impl<F> RecvBundle<F> {
    /// Receives from `fd` into `buffers`.
    pub fn new(fd: F, buffers: &BufRing) -> Self {
        let (flags, order) = (ProvidedFlags::default(), RecvSendFlags::BUNDLE);
        Self { fd, buffers: buffers.clone(), flags, order }
    }

    /// Sets the flags of this receive.
    pub fn flags(self, flags: ProvidedFlags) -> Self {
        Self { flags, ..self }
    }

    /// Waits for data before it tries to receive: for a socket that is known to be empty.
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

/// The flags that are left out with these buffers.
fn without(buffers: &BufRing) -> RecvSendFlags {
    if buffers.0.is_used_in_parts() { RecvSendFlags::BUNDLE } else { RecvSendFlags::empty() }
}

// SAFETY: OP1: the entry points to nothing, and the descriptor is of `fd`; the kernel writes to
// buffers of the source, which the bundle owns (OP3). It completes once.
unsafe impl<F: Target> Op for RecvBundle<F> {
    type Output = Outcome<Option<Bundle>, F>;
    const RESULT_KIND: ResultKind = ResultKind::Bundle;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    fn prep(&mut self) -> Sqe {
        let (group, flags) = (self.buffers.0.id(), self.flags.bits());
        let order = self.order - without(&self.buffers);
        self.fd.aim(prep::recv_provided(-1, 0, group, flags, order))
    }

    fn source(&self) -> Option<Source> {
        Some(Source::buffers(self.buffers.0.clone()))
    }

    fn finish(self, mut done: Done) -> Self::Output {
        let result = done.provided(|done| done.bundle(), |bundle| bundle.bytes());
        Outcome { result, fd: self.fd, buf: () }
    }
}

// SAFETY: OP1: the entry points to nothing, and the descriptor is of `fd`; the kernel writes to
// buffers of the source, which bundles own (OP3). `COMPLETIONS` says that it completes many times.
unsafe impl<F: Target> Op for RecvBundleMulti<F> {
    type Output = Ended<F, io::Result<Bundle>>;
    const COMPLETIONS: Completions = Completions::Multishot;
    const RESULT_KIND: ResultKind = ResultKind::Bundle;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.fd.belongs_to(ring)
    }

    fn prep(&mut self) -> Sqe {
        let order = RecvSendFlags::BUNDLE | RecvSendFlags::RECV_MULTISHOT;
        let order = order - without(&self.buffers);
        self.fd.aim(prep::recv_provided(-1, 0, self.buffers.0.id(), 0, order))
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

    fn item(completion: Completion) -> Self::Item {
        match completion.resource {
            Resource::Bundle(bundle) => Ok(bundle),
            _ => Err(completion.refusal()),
        }
    }
}
