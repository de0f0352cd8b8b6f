//! A raw ring over a descriptor that somebody else set up.
//!
//! ```text
//!   whoever called io_uring_setup(2)              RawRing::adopt
//!     descriptor, struct io_uring_params  ──────►   map, check, own
//!     its queues: used no more
//! ```
//!
//! | the descriptor comes | by |
//! |---|---|
//! | from another library in this process | its owned descriptor, or a duplicate of it |
//! | from a parent | inheritance: the child adopts, and the parent stops using its ring |
//! | from another process | `pidfd_getfd(2)`; a socket passes no ring (`SCM_RIGHTS` fails with `EINVAL`, seen on 6.18) |
//!
//! A forked child that calls the ring that it *inherited* is refused (see [fork](crate#fork)):
//! parent and child would both move the same index. What the child adopts is a ring of its own, and
//! then it is the parent who must not touch the queues any more.
//!
//! There is no counterpart that takes a ring apart, since its parts can be had: a duplicate of
//! [`RawRing::fd`], and [`Base::params`](annulus_sys::rings::Base::params). The example of
//! [`RawRing::adopt`] does that. If the ring was [resized](RawRing::resize), write its present
//! sizes into these parameters: [`RawRing::sq_entries`] and [`RawRing::cq_entries`]. That is enough
//! only without an index array (`NO_SQARRAY`), whose place changes with them.
//!
//! Leaves to others: where in the memory each index and slot lies (`annulus_sys::layout`).
#![allow(unsafe_code, reason = "maps a ring of somebody else's")]

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;

use annulus_sys::abi::Params;
use annulus_sys::errno::Errno;
use annulus_sys::flags::SetupFlags;
use annulus_sys::kernel::Kernel;
use annulus_sys::rings::Rings;
use annulus_sys::syscall::RingFd;
use thiserror::Error;

use crate::raw::RawRing;
use crate::setup::setup_error::FlagName;

/// Why a ring was not adopted. Its descriptor is closed.
#[derive(Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AdoptError {
    /// The ring lies in memory of whoever made it (`NO_MMAP`), and cannot be mapped again.
    #[error("the ring lies in its maker's memory (NO_MMAP): make it without NO_MMAP")]
    MakersMemory,
    /// A flag that this crate does not know may change what a slot means.
    #[error("the ring was set up with {0}, which this crate does not know: use a newer one")]
    Unknown(FlagName),
    /// Entries are published that the kernel has not consumed.
    #[error("entries were published and not consumed: submit them before the ring is adopted")]
    Busy,
    /// A resize returned these parameters. They lack the features of the ring and some of its
    /// flags, and before Linux 6.19 they do not say where its index array lies.
    #[error(
        "these are the parameters of a resize: write its sizes and offsets into those that \
         io_uring_setup returned; with an index array (without NO_SQARRAY), adopt the ring before \
         it is resized"
    )]
    Resized,
    /// The ring could not be mapped.
    #[error(
        "the ring could not be mapped ({0}): is the descriptor that of a ring, are the parameters \
         those of that ring, and is there memory (RLIMIT_AS)?"
    )]
    Map(Errno),
}

/// Contains the text, so that a `?` in `main` prints cause and cure.
impl fmt::Debug for AdoptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AdoptError({self})")
    }
}

impl AdoptError {
    /// The error number: `EINVAL` for what the parameters do not allow, `EBUSY` for a ring with
    /// published entries, and else that of `mmap(2)`.
    pub fn errno(&self) -> Errno {
        match *self {
            Self::MakersMemory | Self::Unknown(_) | Self::Resized => Errno::new(libc::EINVAL),
            Self::Busy => Errno::new(libc::EBUSY),
            Self::Map(errno) => errno,
        }
    }
}

/// Keeps [the error number](AdoptError::errno).
impl From<AdoptError> for io::Error {
    fn from(error: AdoptError) -> Self {
        error.errno().into()
    }
}

/// # Taking over a ring that exists
impl RawRing {
    /// Takes over a ring that other code has set up: maps its queues, and checks what lies in them
    /// as for a ring that is made here. `io_uring_setup(2)`, `IORING_OFF_SQ_RING` and others.
    ///
    /// Requests may be in flight: their completions come here. So the ring
    /// [expects others](Self::expect_others) from the start, and no wait is refused. What is
    /// registered stays registered. With `SINGLE_ISSUER`, the kernel accepts only the thread that
    /// made the ring, or enabled it.
    ///
    /// # Errors
    ///
    /// [`AdoptError`]: a ring in its maker's memory, a flag that this crate does not know, entries
    /// that are published and not consumed, parameters of a resize, or a mapping that failed. The
    /// descriptor is closed then: pass a duplicate if you need it.
    ///
    /// # Panics
    ///
    /// When the sizes and offsets in `params` cannot be those of a ring, or the indices in its
    /// memory not those of a queue (SQ2, CQ2).
    ///
    /// # Safety
    ///
    /// `params` must be what `io_uring_setup(2)` returned for this ring; if it was resized since,
    /// with the sizes and offsets that the last resize returned, and before Linux 6.19 it must then
    /// have no index array (`NO_SQARRAY`), since no resize says where that lies. From now on nobody
    /// else may use its queues: push, take completions, enter the kernel for it, or resize it. For
    /// everything that is in flight, OP1 must hold, as if it was [pushed](Self::push) here. If a
    /// region of wait arguments is registered, a signal mask that it names must be valid whenever a
    /// wait may name its slot, as for
    /// [`set_raw`](crate::raw::register::WaitRegion::set_raw).
    ///
    /// # Example
    ///
    /// ```
    /// use annulus::{RawRing, Setup, prep};
    ///
    /// // Take a ring apart ..
    /// let ring = Setup::plain(8).build_raw()?;
    /// let fd = ring.fd().expect("it has a descriptor").try_clone_to_owned()?;
    /// let params = *ring.base().params();
    /// drop(ring);
    /// // .. and put it together again.
    /// // SAFETY: the parameters are the ring's own, and its other owner is gone; nothing is in
    /// // flight (OP1).
    /// let mut ring = unsafe { RawRing::adopt(fd, params) }?;
    /// // SAFETY: a NOP points to nothing (OP1).
    /// unsafe { ring.push(prep::nop())? };
    /// assert_eq!(ring.submit_and_wait(1)?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias("io_uring_queue_mmap", "from_fd"))]
    pub unsafe fn adopt(fd: OwnedFd, params: Params) -> Result<Self, AdoptError> {
        let known: SetupFlags = params.flags.iter_names().map(|(_, flag)| flag).collect();
        if params.flags != known {
            return Err(AdoptError::Unknown(FlagName(params.flags - known)));
        }
        if params.flags.contains(SetupFlags::NO_MMAP) {
            return Err(AdoptError::MakersMemory);
        }
        // A set-up tells features (Linux 5.4), and a resize tells none; and what lies at 0 is an
        // index, not the array, of which a resize says nothing before Linux 6.19.
        let has_array = !params.flags.contains(SetupFlags::NO_SQARRAY);
        if params.features.is_empty() || (has_array && params.sq_off.array == 0) {
            return Err(AdoptError::Resized);
        }
        // SAFETY: as promised to `RawRing::adopt`.
        let rings = unsafe { Rings::adopt(&Kernel::LINUX, RingFd::Owned(fd), params) };
        let rings = rings.map_err(|errno| match errno.raw() {
            libc::EBUSY => AdoptError::Busy,
            _ => AdoptError::Map(errno),
        })?;
        let mut ring = Self::over(rings);
        ring.expect_others();
        Ok(ring)
    }
}
