//! Inside tokio: its `AsyncFd` says when the ring's descriptor is readable.
//!
//! Needs the feature `tokio`.

use std::future::Future;
use std::io;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::reactor::Reactor;

impl Reactor {
    /// [`drive`](Self::drive) in tokio: a future for `spawn_local`, in a `LocalSet`, on the thread
    /// of the ring. Beside it, tokio's own sockets and timers go on.
    ///
    /// # Errors
    ///
    /// As [`fd`](Self::fd), and when tokio cannot poll the descriptor.
    ///
    /// # Panics
    ///
    /// Outside of a runtime of tokio with `enable_io`.
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::future::Reactor;
    /// use annulus::{Setup, op};
    /// use std::fs::File;
    /// use tokio::task::{LocalSet, spawn_local};
    ///
    /// let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    /// let text = LocalSet::new().block_on(&runtime, async {
    ///     let reactor = Reactor::new(Setup::plain(8).build_for()?);
    ///     spawn_local(reactor.drive_in_tokio()?);
    ///     let file = File::open("/proc/version")?;
    ///     let read = reactor.run(op::Read::new(file, Vec::with_capacity(4096))).await?;
    ///     read.result?;
    ///     Ok::<_, Box<dyn std::error::Error>>(read.buf)
    /// })?;
    /// assert!(text.starts_with(b"Linux"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[expect(deprecated, reason = "what the note warns of cannot happen to an `OwnedFd`")]
    pub fn drive_in_tokio(&self) -> io::Result<impl Future<Output = io::Error> + use<>> {
        let fd = AsyncFd::with_interest(self.fd()?, Interest::READABLE)?;
        Ok(self.drive(move |context| {
            fd.poll_read_ready(context).map_ok(|mut guard| guard.clear_ready())
        }))
    }
}
