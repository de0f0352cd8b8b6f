//! From a set-up to a ring, on this thread or on another.
//!
//! ```text
//!   Setup::build ──────────────────────────────────────────────► Ring       (this thread's)
//!   Setup::build_disabled ─► DisabledRing ─── Send ──► enable ──► Ring      (that thread's)
//! ```
//!
//! | to have | make it by | enable it by |
//! |---|---|---|
//! | a [`Ring`], which owns what the kernel has | [`Setup::build`] | [`DisabledRing::enable`] |
//! | one that keeps a word with each operation | [`Setup::build_for`] | [`DisabledRing::enable_for`] |
//! | a [`RawRing`], whose entries are the caller's | [`Setup::build_raw`] | [`DisabledRing::enable_raw`] |
//!
//! A ring of one issuer belongs to the thread that makes it, or, when it was made disabled, to the
//! thread that enables it.

use annulus_sys::errno::Errno;
use annulus_sys::flags::{SetupFlags, SqeFlags};
use annulus_sys::rings::Rings;

use crate::denied::SetupError;
use crate::raw::RawRing;
use crate::register;
use crate::ring::Ring;
use crate::setup::Setup;

impl Setup<'_> {
    /// Makes the raw ring, for this thread: its entries, and what they point to, are the caller's.
    ///
    /// # Errors
    ///
    /// [`SetupError`] names the cause and the cure.
    pub fn build_raw(&self) -> Result<RawRing, SetupError> {
        self.rings(SetupFlags::empty()).map(RawRing::over)
    }

    /// Makes the ring, for this thread.
    ///
    /// # Errors
    ///
    /// [`SetupError`] names the cause and the cure.
    pub fn build(&self) -> Result<Ring, SetupError> {
        self.build_for()
    }

    /// Makes a ring that keeps a word of type `U` with each operation, for this thread.
    ///
    /// # Errors
    ///
    /// [`SetupError`] names the cause and the cure.
    pub fn build_for<U: Default>(&self) -> Result<Ring<U>, SetupError> {
        self.build_raw().map(Ring::over)
    }

    /// Makes the ring disabled (`R_DISABLED`): nothing can be submitted until it is enabled, on the
    /// thread that will use it. Since Linux 5.10.
    ///
    /// # Errors
    ///
    /// [`SetupError`] names the cause and the cure.
    #[doc(alias = "IORING_SETUP_R_DISABLED")]
    pub fn build_disabled(&self) -> Result<DisabledRing, SetupError> {
        if self.flags().contains(SetupFlags::REGISTERED_FD_ONLY) {
            // On another thread its index would name another ring.
            let reason = "a ring with REGISTERED_FD_ONLY belongs to the thread that makes it: call \
                          `build` there";
            return Err(SetupError::Invalid { reason });
        }
        self.rings(SetupFlags::R_DISABLED).map(DisabledRing::over)
    }
}

/// A ring that is not enabled yet, and may go to another thread.
///
/// ```
/// let disabled = annulus::Setup::new(4).build_disabled()?;
/// let sizes = std::thread::spawn(move || {
///     let ring = disabled.enable().expect("the ring is new");
///     (ring.raw().sq_entries(), ring.raw().cq_entries())
/// });
/// assert_eq!(sizes.join().expect("no panic"), (4, 8));
/// # Ok::<(), annulus::SetupError>(())
/// ```
#[derive(Debug)]
pub struct DisabledRing {
    rings: Rings,
    /// What every entry must carry, once it is enabled.
    demanded: SqeFlags,
    /// The region of waits that the kernel made and that could not be mapped: where, how long.
    pub(crate) unmapped: Option<(u64, usize)>,
}

impl DisabledRing {
    fn over(rings: Rings) -> Self {
        Self { rings, demanded: SqeFlags::empty(), unmapped: None }
    }

    /// Enables the ring, which from now on belongs to this thread.
    ///
    /// # Errors
    ///
    /// The kernel's, with the ring.
    #[doc(alias = "IORING_REGISTER_ENABLE_RINGS")]
    #[expect(clippy::result_large_err, reason = "the error is the ring, given back")]
    pub fn enable(self) -> Result<Ring, (Self, Errno)> {
        self.enable_for()
    }

    /// As [`enable`](Self::enable), for a ring that keeps a word of type `U` with each operation.
    ///
    /// # Errors
    ///
    /// The kernel's, with the ring.
    #[expect(clippy::result_large_err, reason = "the error is the ring, given back")]
    pub fn enable_for<U: Default>(self) -> Result<Ring<U>, (Self, Errno)> {
        let demanded = self.demanded;
        let mut ring = self.enable_raw().map(Ring::over)?;
        ring.own.demand(demanded);
        Ok(ring)
    }

    /// Enables the ring, raw face.
    ///
    /// # Errors
    ///
    /// The kernel's, with the ring.
    #[expect(clippy::result_large_err, reason = "the error is the ring, given back")]
    pub fn enable_raw(self) -> Result<RawRing, (Self, Errno)> {
        match register::enable(self.rings.base()) {
            Ok(()) => Ok(RawRing::over(self.rings)),
            Err(errno) => Err((self, errno)),
        }
    }

    /// Takes note that the ring was restricted so.
    pub(crate) fn demand(&mut self, flags: SqeFlags) {
        self.demanded = flags;
    }

    /// The ring underneath, for calls to `io_uring_register(2)` that only a disabled ring takes.
    pub fn rings(&self) -> &Rings {
        &self.rings
    }
}
