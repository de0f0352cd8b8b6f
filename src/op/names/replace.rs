//! Files in a place of the table that is known beforehand: one chain opens, uses and closes them.
//!
//! ```text
//!   reserve ─► place │ placeholder │        a FixedFile that can be neither read nor written
//!   open.direct_to(place)  │ file │         from now on it names the file that was opened
//!   ClearFile              │ placeholder │  closed, and the place is still ours
//! ```
//!
//! A step of a chain cannot use the output of the step before it, and a file that a
//! [direct](super::direct) operation opens has no place before it completes. So the place is taken
//! first. Nobody else can get it: for the kernel it is never empty.
//!
//! Keeps OP3: the place is held by its [`FixedFile`] all the time, whatever file lies in it.
//! Leaves to others: the table, and the placeholder (`lease`).
#![allow(unsafe_code, reason = "writes entries that point to numbers")]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

use annulus_sys::abi::Sqe;
use annulus_sys::flags::Features;

use super::direct::Opens;
use super::fs::{Dir, OpenAt, OpenAt2};
use crate::lease::{FixedFile, Resource};
use crate::op::sockets::accept::Accept;
use crate::op::sockets::net::Socket;
use crate::op::target::Target;
use crate::op::{Completions, Done, Op, Outcome, RingId};
use crate::prep;

/// An operation that opens a file in a place that is already ours: see [`OpenAt::direct_to`] and
/// its siblings. Since Linux 5.19.
///
/// The file that lay there is closed, unless an operation in flight still uses it. Operations that
/// begin later use the new one, also those that were submitted earlier, as in a chain.
///
/// # Completion
///
/// As the operation inside, with a clone of the [`FixedFile`] instead of a descriptor.
///
/// # Cancellation
///
/// As the operation inside.
///
/// # Errors
///
/// As the operation inside. Then the old file stays in the place.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::{Cwd, How, OpenAt, Read};
///
/// let mut ring = Setup::new(8).build()?;
/// let Ok(table) = ring.file_table(1) else { return Ok(()) }; // Linux 5.19
/// let place = table.reserve(&mut ring)?;
/// for path in [c"/dev/null", c"/proc/self/comm"] {
///     let open = OpenAt::new(Cwd, path, How::read()).direct_to(&place);
///     let open = ring.submit(open)?;
///     ring.wait(open)?.result?; // Instead of the file that was opened before.
/// }
/// let read = ring.submit(Read::new(place, [0; 16]))?;
/// assert!(ring.wait(read)?.result? > 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias("file_index", "io_uring_prep_openat_direct"))]
#[derive(Debug)]
pub struct DirectTo<O> {
    op: O,
    place: FixedFile,
}

// SAFETY: OP1, OP2 as the operation inside keeps them; OP3: the place is held by `place`, which is
// of the ring that `belongs_to` compares, and the result names nothing.
unsafe impl<O: Opens> Op for DirectTo<O> {
    type Output = O::Direct;
    const COMPLETIONS: Completions = O::COMPLETIONS;
    const NEEDS: Features = O::NEEDS;
    const DRAINS: bool = O::DRAINS;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.op.belongs_to(ring) && self.place.ring() == ring
    }

    fn refusal(&mut self) -> Option<&'static str> {
        self.op.refusal()
    }

    fn prep(&mut self) -> Sqe {
        let sqe = O::lasting(self.op.prep());
        prep::direct(sqe, self.place.index().cast_unsigned())
    }

    fn finish(self, done: Done) -> Self::Output {
        let Self { op, place } = self;
        let opened = done.raw() >= 0;
        let resource = if opened { Resource::File(place) } else { Resource::Nothing };
        op.land(Done::new(done.raw(), done.flags(), None, resource))
    }
}

impl<D: Dir, P: AsRef<CStr>> OpenAt<D, P> {
    /// Opens the file in this place of the ring's file table. Since Linux 5.19.
    ///
    /// # Example
    ///
    /// Open, read and close, in one chain:
    ///
    /// ```
    /// use annulus::op::{ClearFile, Cwd, How, OpenAt, Read};
    /// use annulus::{Setup, Step as _};
    ///
    /// let mut ring = Setup::new(8).build()?;
    /// let Ok(table) = ring.file_table(4) else { return Ok(()) }; // Linux 5.19
    /// let place = table.reserve(&mut ring)?;
    /// let open = OpenAt::new(Cwd, c"/proc/self/comm", How::read()).direct_to(&place);
    /// let read = Read::new(place.clone(), Vec::with_capacity(64)).hard(); // It may be short.
    /// let chain = ring.submit_chain((open, read, ClearFile::new(place)))?;
    /// let (open, read, clear) = ring.wait_chain(chain)?.outputs;
    /// open.result?;
    /// assert!(read.result? > 0);
    /// clear.result?;
    /// let _place = clear.fd; // For the next file.
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn direct_to(self, place: &FixedFile) -> DirectTo<Self> {
        DirectTo { op: self, place: place.clone() }
    }
}

impl<D: Dir, P: AsRef<CStr>> OpenAt2<D, P> {
    /// Opens the file in this place of the ring's file table: see [`OpenAt::direct_to`]. Since
    /// Linux 5.19.
    #[doc(alias = "io_uring_prep_openat2_direct")]
    pub fn direct_to(self, place: &FixedFile) -> DirectTo<Self> {
        DirectTo { op: self.lasting(), place: place.clone() }
    }
}

impl Socket {
    /// Creates the socket in this place of the ring's file table: see [`OpenAt::direct_to`]. Since
    /// Linux 5.19.
    #[doc(alias = "io_uring_prep_socket_direct")]
    pub fn direct_to(self, place: &FixedFile) -> DirectTo<Self> {
        DirectTo { op: self, place: place.clone() }
    }
}

impl<F: Target> Accept<F> {
    /// Puts the connection into this place of the ring's file table: see [`OpenAt::direct_to`].
    /// Since Linux 5.19.
    #[doc(alias = "io_uring_prep_accept_direct")]
    pub fn direct_to(self, place: &FixedFile) -> DirectTo<Self> {
        DirectTo { op: self, place: place.clone() }
    }
}

/// Instead of a descriptor: changes nothing (`IORING_REGISTER_FILES_SKIP`).
const SKIP: i32 = -2;

/// Closes the file in a place, and keeps the place: from now on it has the placeholder of
/// [`FileTable::reserve`](crate::lease::FileTable::reserve). Since Linux 5.19.
///
/// Another clone of the [`FixedFile`] still names the place, so an operation with it ends with
/// `EBADF` from now on: that of the placeholder, which can be neither read nor written.
///
/// # Completion
///
/// Once, with the place. Operations on the file that are in flight keep it open until they end.
///
/// # Cancellation
///
/// Not possible: it does not wait.
///
/// # Errors
///
/// None is known but `ENOMEM`. After it the place may be empty, and the kernel may put another file
/// there: drop the place.
///
/// # Example
///
/// ```
/// use annulus::Setup;
/// use annulus::op::{ClearFile, Cwd, How, OpenAt, Read};
///
/// let mut ring = Setup::new(8).build()?;
/// let Ok(table) = ring.file_table(1) else { return Ok(()) }; // Linux 5.19
/// let place = table.reserve(&mut ring)?;
/// for _ in 0..2 {
///     let open = OpenAt::new(Cwd, c"/proc/self/comm", How::read()).direct_to(&place);
///     let open = ring.submit(open)?;
///     ring.wait(open)?.result?;
///     let clear = ring.submit(ClearFile::new(place.clone()))?;
///     ring.wait(clear)?.result?; // Closed; the place is ours for the next file.
/// }
/// let read = ring.submit(Read::new(place, [0; 8]))?;
/// assert!(ring.wait(read)?.result.is_err()); // EBADF
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias("IORING_OP_FILES_UPDATE", "io_uring_prep_close_direct"))]
#[derive(Debug)]
pub struct ClearFile {
    place: FixedFile,
    placeholder: io::Result<Rc<OwnedFd>>,
    number: i32,
}

impl ClearFile {
    /// Closes the file in `place`.
    pub fn new(place: FixedFile) -> Self {
        let placeholder = place.placeholder();
        Self { place, placeholder, number: -1 }
    }
}

// SAFETY: OP1: the address is of `number`, and the descriptor is of `placeholder`. OP3: the place
// is held by `place`, which is of the ring that `belongs_to` compares. It completes once.
unsafe impl Op for ClearFile {
    type Output = Outcome<(), FixedFile>;

    fn belongs_to(&self, ring: RingId) -> bool {
        self.place.ring() == ring
    }

    fn refusal(&mut self) -> Option<&'static str> {
        let lacks = self.placeholder.is_err();
        lacks.then_some(
            "there is no descriptor left for a placeholder: close one, or raise the limit",
        )
    }

    fn prep(&mut self) -> Sqe {
        // Without a placeholder it was refused. An empty place would be the kernel's to fill.
        self.number = self.placeholder.as_ref().map_or(SKIP, |fd| fd.as_raw_fd());
        let address = (&raw mut self.number).expose_provenance() as u64;
        prep::files_update(address, 1, self.place.index().cast_unsigned())
    }

    fn finish(self, done: Done) -> Self::Output {
        Outcome { result: done.result().map(drop), fd: self.place, buf: () }
    }
}
